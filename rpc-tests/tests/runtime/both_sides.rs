//! Calls between vats of one process over `memory`: the thread that waits makes the steps of
//! both sides, and runs the method.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use capnp_threads_core::interceptors::{InterceptedCall, Interceptors, Verdict};
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{FrameLimits, MessageReader, Transport, TransportError};
use capnp_threads_core::untyped::{IncomingCall, Payload};
use capnp_threads_core::vat::PoolConfig;
use capnp_threads_core::{Concurrency, ConnConfig, Connection, ErrorKind, FromClient, Result, Vat};
use capnp_threads_transport::{memory, tap};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{Threads, answer_foo, any, call_foo, foo, foo_request, foo_with};
use rpc_tests::support::{
    Blocked, Event, LONG, Pair, Watchdog, Wire, threads_named, until, vat, vat_that_shares_threads,
    vat_with_pool,
};

/// Whether the method of this call ran on this thread.
fn runs_here(threads: &Threads, call: impl FnOnce()) -> bool {
    threads.taken();
    call();
    let ran = threads.taken();
    assert_eq!(ran.len(), 1, "one method ran, once");
    ran == [thread::current().id()]
}

/// Makes calls until one runs here: another thread may have a turn for a moment.
fn until_one_runs_here(threads: &Threads, mut call: impl FnMut()) {
    until("a call to run on its caller's thread", || runs_here(threads, &mut call));
}

#[test]
fn a_thread_that_waits_runs_the_method_of_the_other_vat_itself() {
    let _watchdog = Watchdog::start();
    for concurrency in [Concurrency::Serial, Concurrency::Concurrent] {
        let threads = Threads::default();
        let own = threads.clone();
        let pair = Pair::new(move |vat| own.object(vat, concurrency).into_client());
        let object: test_interface::Client = pair.bootstrap();
        until_one_runs_here(&threads, || call_foo(&object).unwrap());
        // One that does not wait at once leaves the method to a worker. So does one that may
        // have to give up before the method ends.
        assert!(!runs_here(&threads, || drop(foo_request(&object).send().wait().unwrap())));
        assert!(!runs_here(&threads, || drop(foo_request(&object).call_timeout(LONG).unwrap())));
        until_one_runs_here(&threads, || call_foo(&object).unwrap());
        drop(object);
        pair.finish();
    }
}

/// How often the threads with names that begin so have slept until somebody woke them.
#[cfg(target_os = "linux")]
fn sleeps(name: &str) -> u64 {
    let own = rpc_tests::support::watchdog::threads();
    let named = own.iter().filter(|thread| thread.name.starts_with(name));
    let sleeps = named.filter_map(|thread| {
        let path = format!("/proc/self/task/{}/status", thread.id);
        let status = std::fs::read_to_string(path).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.split_once(':')?.1.trim().parse::<u64>().ok()
    });
    sleeps.sum()
}

/// Each call would wake each of them at least once.
#[cfg(target_os = "linux")]
#[test]
fn calls_of_one_thread_wake_no_other() {
    const CALLS: u64 = 2_000;
    let _watchdog = Watchdog::start();
    let (near, far) = (vat("bsn"), vat("bsf"));
    let (here, there) = memory::pair();
    let config = ConnConfig::new().bootstrap(foo(&far, answer_foo));
    let server = far.connect(there, config).unwrap();
    let client = near.connect(here, ConnConfig::new()).unwrap();
    let object: test_interface::Client = client.bootstrap();
    call_foo(&object).unwrap();
    let before = sleeps("bsn") + sleeps("bsf");
    (0..CALLS).for_each(|_| call_foo(&object).unwrap());
    let woken = (sleeps("bsn") + sleeps("bsf")).saturating_sub(before);
    assert!(woken < CALLS / 4, "{woken} times were threads of the two vats woken");
    drop(object);
    end([(near, client), (far, server)]);
}

fn end(sides: [(Vat, Connection); 2]) {
    sides[0].1.close();
    for (vat, connection) in sides {
        assert!(connection.join_timeout(LONG).unwrap());
        assert!(vat.shutdown(LONG).unwrap());
    }
}

/// Two connected vats that offer something to each other.
fn mutual(
    names: [&str; 2],
    near: impl FnOnce(&Vat) -> test_interface::Client,
    far: impl FnOnce(&Vat) -> test_interface::Client,
) -> [(Vat, Connection); 2] {
    let vats = names.map(vat);
    let objects = [near(&vats[0]), far(&vats[1])];
    let ends: [Transport; 2] = memory::pair().into();
    let mut sides = vats.into_iter().zip(objects).zip(ends).map(|((vat, object), transport)| {
        let connection = vat.connect(transport, ConnConfig::new().bootstrap(object)).unwrap();
        (vat, connection)
    });
    [sides.next().unwrap(), sides.next().unwrap()]
}

#[test]
fn both_vats_call_each_other_at_once() {
    let _watchdog = Watchdog::start();
    let inside = [Arc::new(Mutex::new(0_u32)), Arc::new(Mutex::new(0_u32))];
    let counting = |inside: &Arc<Mutex<u32>>| {
        let own = Arc::clone(inside);
        move |vat: &Vat| {
            foo(vat, move |params, results| {
                *own.try_lock().expect("a serial object has one call at a time") += 1;
                answer_foo(params, results)
            })
        }
    };
    let sides = mutual(["bm0", "bm1"], counting(&inside[0]), counting(&inside[1]));
    thread::scope(|scope| {
        for number in 0..8 {
            let object: test_interface::Client = sides[number % 2].1.bootstrap();
            scope.spawn(move || {
                for call in 0..300 {
                    match (number + call) % 3 {
                        0 => drop(foo_request(&object).send().wait().unwrap()),
                        1 => drop(foo_request(&object).call_timeout(LONG).unwrap()),
                        _ => call_foo(&object).unwrap(),
                    }
                }
            });
        }
    });
    assert_eq!(inside.map(|inside| *inside.lock().unwrap()), [1200, 1200]);
    end(sides);
}

/// An object that calls another one as often as it is told.
fn calling(
    next: &Arc<OnceLock<test_interface::Client>>,
    threads: &Threads,
) -> impl FnOnce(&Vat) -> test_interface::Client {
    let (next, threads) = (Arc::clone(next), threads.clone());
    move |vat| {
        let method = move |params: test_interface::FooParams, _: test_interface::FooResults| {
            threads.note();
            let left = params.get()?.get_i();
            if left > 0 {
                let mut request = next.get().unwrap().foo_request();
                request.get().set_i(left - 1);
                request.call()?;
            }
            Ok(())
        };
        foo_with(vat, Concurrency::Concurrent, (), method)
    }
}

/// Methods that call back nest on their caller's stack to some depth.
#[test]
fn vats_that_call_each_other_back_nest_a_few_levels_deep() {
    let _watchdog = Watchdog::start();
    let (threads, to_near, to_far) = (Threads::default(), Arc::default(), Arc::default());
    let [near, far] =
        mutual(["bb0", "bb1"], calling(&to_far, &threads), calling(&to_near, &threads));
    to_far.set(near.1.bootstrap()).ok().unwrap();
    to_near.set(far.1.bootstrap()).ok().unwrap();
    let here = thread::current().id();
    until("the first levels to be on this stack", || {
        let mut request = to_far.get().unwrap().foo_request();
        request.get().set_i(200);
        request.call().unwrap();
        let ran = threads.taken();
        assert_eq!(ran.len(), 201);
        let own = ran.iter().take_while(|thread| **thread == here).count();
        assert!(ran[own..].iter().all(|thread| *thread != here), "{own} levels, and deeper ones");
        assert!(own <= 4, "{own} levels");
        own == 4
    });
    end([near, far]);
}

#[test]
fn calls_through_a_chain_of_vats_are_answered() {
    const VATS: usize = 8;
    let _watchdog = Watchdog::start();
    let threads = Threads::default();
    let (mut vats, mut connections) = (Vec::new(), Vec::new());
    let mut next: Arc<OnceLock<test_interface::Client>> = Arc::default();
    for number in 0..VATS {
        let (near, far) = (vat(&format!("bc{number}n")), vat(&format!("bc{number}f")));
        let (here, there) = memory::pair();
        let object = calling(&next, &threads)(&far);
        connections.push(far.connect(there, ConnConfig::new().bootstrap(object)).unwrap());
        let client = near.connect(here, ConnConfig::new()).unwrap();
        next = Arc::default();
        next.set(client.bootstrap()).ok().unwrap();
        connections.push(client);
        vats.extend([near, far]);
    }
    for _ in 0..100 {
        let mut request = next.get().unwrap().foo_request();
        request.get().set_i(u32::try_from(VATS - 1).unwrap());
        request.call().unwrap();
        assert_eq!(threads.taken().len(), VATS);
    }
    connections.iter().for_each(Connection::close);
    connections.iter().for_each(|connection| assert!(connection.join_timeout(LONG).unwrap()));
    vats.iter().for_each(|vat| assert!(vat.shutdown(LONG).unwrap()));
}

/// A method that blocks keeps nobody from anything: not others from calling the same vat over
/// the same connection, and not that vat from calling back.
#[test]
fn a_method_that_blocks_on_its_callers_thread_delays_nobody() {
    let _watchdog = Watchdog::start();
    until("a call to block its caller's thread", blocked_on_its_callers_thread);
}

/// Lets a method block while others call. Returns whether it ran on its caller's thread:
/// another one may have had a turn for a moment.
fn blocked_on_its_callers_thread() -> bool {
    let (begun, go, threads) = (Event::new(), Event::new(), Threads::default());
    let (begins, goes, notes) = (begun.clone(), go.clone(), threads.clone());
    let blocks = move |vat: &Vat| {
        foo_with(vat, Concurrency::Concurrent, (), move |params, results| {
            notes.note();
            if params.get()?.get_i() == 0 {
                begins.set();
                goes.wait();
                return Ok(());
            }
            answer_foo(params, results)
        })
    };
    let sides = mutual(["bd0", "bd1"], |vat| foo(vat, answer_foo), blocks);
    let object: test_interface::Client = sides[0].1.bootstrap();
    let back: test_interface::Client = sides[1].1.bootstrap();
    call_foo(&object).unwrap();
    call_foo(&back).unwrap();
    threads.taken();
    let own = thread::scope(|scope| {
        let blocked = scope.spawn(|| object.foo_request().call().map(drop));
        begun.wait();
        for _ in 0..50 {
            call_foo(&object).unwrap();
            call_foo(&back).unwrap();
            foo_request(&object).send().wait().unwrap();
        }
        assert!(!blocked.is_finished());
        let caller = blocked.thread().id();
        go.set();
        blocked.join().unwrap().unwrap();
        threads.taken()[0] == caller
    });
    drop((object, back));
    end(sides);
    own
}

/// Results that were deferred may be answered in the middle of a method.
#[test]
fn a_method_that_goes_on_after_it_has_answered_delays_nobody() {
    let _watchdog = Watchdog::start();
    let (answered, go) = (Event::new(), Event::new());
    let (answers, goes) = (answered.clone(), go.clone());
    let pair = Pair::new(move |vat| {
        let method = move |params: test_interface::FooParams,
                           results: test_interface::FooResults| {
            let first = params.get()?.get_i() == 0;
            results.defer().answer(|mut results| {
                results.get().set_x("foo");
                Ok(())
            });
            if first {
                answers.set();
                goes.wait();
            }
            Ok(())
        };
        foo_with(vat, Concurrency::Concurrent, (), method).into_client()
    });
    let object: test_interface::Client = pair.bootstrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| object.foo_request().call().map(drop));
        answered.wait();
        (0..50).for_each(|_| call_foo(&object).unwrap());
        go.set();
        first.join().unwrap().unwrap();
    });
    drop(object);
    pair.finish();
}

/// A method that blocks in its answer is one that does not end with it.
#[test]
fn a_method_without_a_schema_that_goes_on_after_its_answer_delays_nobody() {
    let _watchdog = Watchdog::start();
    let (answered, go) = (Event::new(), Event::new());
    let (answers, goes) = (answered.clone(), go.clone());
    let pair = Pair::new(move |vat| {
        any(vat, Concurrency::Concurrent, move |call: IncomingCall| {
            let first = !answers.is_set();
            call.respond(Ok(Payload::empty().clone()));
            if first {
                answers.set();
                goes.wait();
            }
        })
    });
    let object: test_interface::Client = pair.bootstrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| object.foo_request().call().map(drop));
        answered.wait();
        (0..50).for_each(|_| drop(object.foo_request().call().unwrap()));
        go.set();
        first.join().unwrap().unwrap();
    });
    drop(object);
    pair.finish();
}

#[test]
fn a_panic_of_the_method_is_the_calls_error_and_the_connection_goes_on() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| {
        let method = |params: test_interface::FooParams, results: test_interface::FooResults| {
            assert!(params.get()?.get_i() != 0, "on purpose");
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    });
    let object: test_interface::Client = pair.bootstrap();
    for _ in 0..3 {
        let error = object.foo_request().call().unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        call_foo(&object).unwrap();
    }
    drop(object);
    pair.finish();
}

#[test]
fn a_vat_may_keep_its_methods_to_its_own_threads() {
    let _watchdog = Watchdog::start();
    let mut pool = PoolConfig::default();
    pool.callers_run = false;
    let (near, far, threads) = (vat("bo0"), vat_with_pool("bo1", pool), Threads::default());
    let (here, there) = memory::pair();
    let object = threads.object(&far, Concurrency::Serial);
    let server = far.connect(there, ConnConfig::new().bootstrap(object)).unwrap();
    let client = near.connect(here, ConnConfig::new()).unwrap();
    let object: test_interface::Client = client.bootstrap();
    for _ in 0..20 {
        assert!(!runs_here(&threads, || call_foo(&object).unwrap()));
    }
    drop(object);
    end([(near, client), (far, server)]);
}

/// Tells on which thread it is dropped.
struct Dropped(mpsc::Sender<ThreadId>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

impl echo::Server for Dropped {}

/// Makes objects that tell on which thread they are dropped.
struct Maker(Vat, mpsc::Sender<ThreadId>);

impl echo::Server for Maker {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        results.get().set_echo(self.0.export::<echo::Client, _>(Dropped(self.1.clone())));
        Ok(())
    }
}

/// The method of an inline object, the drop of an object and an interceptor are code of the
/// other vat's application that is not the call's own method.
#[test]
fn nothing_but_the_method_of_the_call_runs_on_its_callers_thread() {
    let _watchdog = Watchdog::start();
    let here = thread::current().id();
    let threads = Threads::default();
    let own = threads.clone();
    let pair = Pair::new(move |vat| own.object(vat, Concurrency::Inline).into_client());
    let object: test_interface::Client = pair.bootstrap();
    for _ in 0..20 {
        assert!(!runs_here(&threads, || call_foo(&object).unwrap()));
    }
    drop(object);
    pair.finish();

    let (tell, told) = mpsc::channel();
    let pair =
        Pair::new(move |vat| vat.export::<echo::Client, _>(Maker(vat.clone(), tell)).into_client());
    let maker: echo::Client = pair.bootstrap();
    for _ in 0..20 {
        // The results are dropped, and the object in them. The next call follows behind that.
        drop(maker.next_request().call().unwrap());
        maker.ping_request().call().unwrap();
        assert_ne!(told.recv().unwrap(), here);
    }
    drop(maker);
    pair.finish();

    let (threads, asked) = (Threads::default(), Threads::default());
    let (own, noting) = (threads, asked.clone());
    let looks = move |_: &InterceptedCall<'_>| {
        noting.note();
        Ok(Verdict::Pass)
    };
    let pair = Pair::configured(
        move |vat| own.object(vat, Concurrency::Serial).into_client(),
        Wire::Memory,
        |config| config,
        |config| config.interceptors(Interceptors::new().incoming(looks)),
    );
    let object: test_interface::Client = pair.bootstrap();
    (0..20).for_each(|_| call_foo(&object).unwrap());
    let asked = asked.taken();
    assert!(asked.len() == 20 && asked.iter().all(|thread| *thread != here));
    drop(object);
    pair.finish();
}

/// Whichever vat ends, it waits for its methods, and nobody is left behind.
#[test]
fn a_vat_may_end_while_a_method_runs_on_its_callers_thread() {
    let _watchdog = Watchdog::start();
    for ends in 0..2 {
        let (begun, go) = (Event::new(), Event::new());
        let (begins, goes) = (begun.clone(), go.clone());
        let blocks = move |vat: &Vat| {
            foo(vat, move |params, results| {
                begins.set();
                goes.wait();
                answer_foo(params, results)
            })
        };
        let names = [["be0", "be1"], ["be2", "be3"]][ends];
        let sides = mutual(names, |vat| foo(vat, answer_foo), blocks);
        let object: test_interface::Client = sides[0].1.bootstrap();
        let caller = Blocked::spawn({
            let object = object.clone();
            move || call_foo(&object)
        });
        begun.wait();
        let ended = sides[ends].0.shutdown(Duration::ZERO).unwrap();
        assert!(ends == 0 || !ended, "a method of the vat runs");
        go.set();
        let error = caller.join().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        for (vat, connection) in &sides {
            connection.close();
            assert!(connection.join_timeout(LONG).unwrap());
            assert!(vat.shutdown(LONG).unwrap());
        }
        let error = call_foo(&object).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
    }
}

/// Closing the connection over and over while threads call.
#[test]
fn a_connection_that_ends_under_its_calls_leaves_nobody_waiting() {
    let _watchdog = Watchdog::start();
    for round in 0..20 {
        let sides = mutual(["bx0", "bx1"], |vat| foo(vat, answer_foo), |vat| foo(vat, answer_foo));
        let called = Event::new();
        thread::scope(|scope| {
            for number in 0..4 {
                let object: test_interface::Client = sides[number % 2].1.bootstrap();
                let called = called.clone();
                scope.spawn(move || {
                    while call_foo(&object).is_ok() {
                        called.set();
                    }
                });
            }
            called.wait();
            sides[round % 2].1.close();
        });
        end(sides);
    }
}

#[test]
fn calls_that_are_held_back_are_answered_all_the_same() {
    let _watchdog = Watchdog::start();
    let limited = |config: ConnConfig| config.flow_limit(0);
    let pair =
        Pair::configured(|vat| foo(vat, answer_foo).into_client(), Wire::Memory, limited, limited);
    let object: test_interface::Client = pair.bootstrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| call_foo(&object).unwrap()));
        }
    });
    drop(object);
    pair.finish();
}

#[test]
fn vats_whose_connections_share_their_threads_call_each_other_in_the_same_way() {
    let _watchdog = Watchdog::start();
    let (near, far) = (vat_that_shares_threads("bt0"), vat_that_shares_threads("bt1"));
    let (here, there) = memory::pair();
    let threads = Threads::default();
    let object = threads.object(&far, Concurrency::Serial);
    let server = far.connect(there, ConnConfig::new().bootstrap(object)).unwrap();
    let client = near.connect(here, ConnConfig::new()).unwrap();
    let object: test_interface::Client = client.bootstrap();
    until_one_runs_here(&threads, || call_foo(&object).unwrap());
    drop(object);
    end([(near, client), (far, server)]);
    until("threads to go", || threads_named("bt0-") + threads_named("bt1-") == 0);
}

/// Hides what the reader of a transport can do beyond reading.
struct Plain(Box<dyn MessageReader>);

impl MessageReader for Plain {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        self.0.read()
    }

    fn has_buffered(&self) -> bool {
        self.0.has_buffered()
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.0.set_limits(limits);
    }
}

/// A tap passes on what tells of arrivals. Of a reader that does not, only its own thread
/// knows when to read.
#[test]
fn a_transport_that_wraps_memory_works_with_and_without_what_tells_of_arrivals() {
    let _watchdog = Watchdog::start();
    let plain = |transport: Transport| {
        let Transport { reader, writer, control } = transport;
        Transport { reader: Box::new(Plain(reader)), writer, control }
    };
    let tapped = |transport| tap::tap(transport, |_| {});
    type Wrap<'a> = &'a dyn Fn(Transport) -> Transport;
    let same: Wrap<'_> = &|transport| transport;
    let cases: [(Wrap<'_>, Wrap<'_>, bool); 5] = [
        (&tapped, same, true),
        (same, &tapped, true),
        (&plain, same, false),
        (same, &plain, false),
        (&plain, &plain, false),
    ];
    for (near_side, far_side, is_driven) in cases {
        let (near, far, threads) = (vat("bw0"), vat("bw1"), Threads::default());
        let (here, there) = memory::pair();
        let object = threads.object(&far, Concurrency::Serial);
        let server = far.connect(far_side(there), ConnConfig::new().bootstrap(object)).unwrap();
        let client = near.connect(near_side(here), ConnConfig::new()).unwrap();
        let object: test_interface::Client = client.bootstrap();
        if is_driven {
            until_one_runs_here(&threads, || call_foo(&object).unwrap());
        } else {
            for _ in 0..20 {
                assert!(!runs_here(&threads, || call_foo(&object).unwrap()));
            }
        }
        drop(object);
        end([(near, client), (far, server)]);
    }
}

/// Numbers of questions are used again as soon as they are free.
#[test]
fn nobody_runs_the_method_of_another_threads_call() {
    const CALLERS: u32 = 6;
    let _watchdog = Watchdog::start();
    let callers: Arc<Mutex<HashMap<ThreadId, u32>>> = Arc::default();
    let known = Arc::clone(&callers);
    let pair = Pair::new(move |vat| {
        foo(vat, move |params, _| {
            let caller = params.get()?.get_i();
            let here = known.lock().unwrap().get(&thread::current().id()).copied();
            assert!(here.is_none_or(|here| here == caller), "{here:?} runs a call of {caller}");
            Ok(())
        })
        .into_client()
    });
    let object: test_interface::Client = pair.bootstrap();
    thread::scope(|scope| {
        for number in 0..CALLERS {
            let (object, callers) = (&object, &callers);
            scope.spawn(move || {
                callers.lock().unwrap().insert(thread::current().id(), number);
                for _ in 0..5_000 {
                    let mut request = object.foo_request();
                    request.get().set_i(number);
                    request.call().unwrap();
                }
            });
        }
    });
    drop(object);
    pair.finish();
}
