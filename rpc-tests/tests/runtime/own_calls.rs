//! Callers that run their own calls: which thread a method of this process runs on.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use capnp_threads_core::vat::PoolConfig;
use capnp_threads_core::{Concurrency, ConnConfig, ErrorKind, Limits, Result};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{Threads, answer_foo, call_foo, foo_request, foo_with};
use rpc_tests::support::raw::{self, Cap, Outcome, RawPeer, Said, Target};
use rpc_tests::support::{Event, LONG, Watchdog, vat, vat_with_pool};

#[test]
fn a_thread_that_waits_for_an_idle_object_runs_the_method_itself() {
    let _watchdog = Watchdog::start();
    let (vat, threads) = (vat("oc1"), Threads::default());
    for concurrency in [Concurrency::Serial, Concurrency::Concurrent] {
        let object = threads.object(&vat, concurrency);
        call_foo(&object).unwrap();
        assert_eq!(threads.taken(), [thread::current().id()], "{concurrency:?}");
        // One that does not wait at once leaves the method to a worker.
        let pending = foo_request(&object).send();
        pending.wait().unwrap();
        assert_ne!(threads.taken(), [thread::current().id()], "{concurrency:?}");
        // So does one that may have to give up before the method ends.
        foo_request(&object).call_timeout(LONG).unwrap();
        assert_ne!(threads.taken(), [thread::current().id()], "{concurrency:?}");
    }
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn a_vat_may_keep_its_methods_to_its_own_threads() {
    let _watchdog = Watchdog::start();
    let own_threads = {
        let mut pool = PoolConfig::default();
        pool.callers_run = false;
        pool
    };
    let (vat, threads) = (vat_with_pool("oc0", own_threads), Threads::default());
    let object = threads.object(&vat, Concurrency::Serial);
    call_foo(&object).unwrap();
    assert_ne!(threads.taken(), [thread::current().id()]);
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn a_busy_object_runs_a_call_on_the_thread_that_it_has() {
    let _watchdog = Watchdog::start();
    let (vat, threads) = (vat("oc2"), Threads::default());
    let (go, begun, own) = (Event::new(), Event::new(), threads.clone());
    let (hold, began) = (go.clone(), begun.clone());
    let object = foo_with(&vat, Concurrency::Serial, (), move |params, results| {
        own.note();
        began.set();
        hold.wait();
        answer_foo(params, results)
    });
    thread::scope(|scope| {
        let caller = scope.spawn(|| call_foo(&object).unwrap());
        let caller = caller.thread().id();
        begun.wait();
        // These wait behind it. A worker takes them when the caller has run its own call:
        // it runs no other one.
        let behind: Vec<_> = (0..3).map(|_| foo_request(&object).send()).collect();
        go.set();
        behind.iter().for_each(|pending| drop(pending.wait().unwrap()));
        let ran = threads.taken();
        assert_eq!((ran.len(), ran[0]), (4, caller));
        assert!(ran[1..].iter().all(|other| *other != caller && *other != thread::current().id()));
    });
    assert!(vat.shutdown(LONG).unwrap());
}

/// A method on its caller's thread is one of the vat's workers: it may wait, gives its place
/// up for that, makes objects of its vat, and must not shut the vat down.
#[test]
fn a_method_on_its_callers_thread_has_the_rights_of_a_worker() {
    let _watchdog = Watchdog::start();
    let one = {
        let mut pool = PoolConfig::default();
        pool.max_workers = 1;
        pool
    };
    let vat = vat_with_pool("oc3", one);
    let threads = Threads::default();
    let inner = threads.object(&vat, Concurrency::Serial);
    let (own_vat, own) = (vat.clone(), threads.clone());
    let outer = foo_with(&vat, Concurrency::Serial, (), move |params, results| {
        own.note();
        let error = own_vat.shutdown(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        // There is one place, and this method has it until it waits.
        call_foo(&inner)?;
        answer_foo(params, results)
    });
    call_foo(&outer).unwrap();
    let ran = threads.taken();
    assert_eq!(ran[0], thread::current().id());
    assert_ne!(ran[1], ran[0], "a worker got the place");
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn methods_that_call_one_another_nest_a_few_levels_deep() {
    let _watchdog = Watchdog::start();
    let (vat, threads) = (vat("oc4"), Threads::default());
    let object: Arc<OnceLock<test_interface::Client>> = Arc::default();
    let (own, me) = (threads.clone(), Arc::downgrade(&object));
    let made =
        foo_with(&vat, Concurrency::Concurrent, (), move |params: test_interface::FooParams, _| {
            own.note();
            let left = params.get()?.get_i();
            if left > 0 {
                let mut request = me.upgrade().unwrap().get().unwrap().foo_request();
                request.get().set_i(left - 1);
                request.call()?;
            }
            Ok(())
        });
    object.set(made).ok().unwrap();
    let mut request = object.get().unwrap().foo_request();
    request.get().set_i(200);
    request.call().unwrap();
    let ran = threads.taken();
    assert_eq!(ran.len(), 201);
    let here = thread::current().id();
    assert_eq!(ran.iter().take_while(|thread| **thread == here).count(), 4);
    assert!(ran[4..].iter().all(|thread| *thread != here));
}

#[test]
fn a_vat_is_shut_down_when_the_methods_on_its_callers_threads_have_ended() {
    let _watchdog = Watchdog::start();
    let vat = vat("oc5");
    let (go, begun) = (Event::new(), Event::new());
    let (hold, began) = (go.clone(), begun.clone());
    let object = foo_with(&vat, Concurrency::Serial, (), move |params, results| {
        began.set();
        hold.wait();
        answer_foo(params, results)
    });
    thread::scope(|scope| {
        let caller = scope.spawn(|| call_foo(&object));
        begun.wait();
        assert!(!vat.shutdown(Duration::ZERO).unwrap(), "a method runs");
        go.set();
        assert!(vat.shutdown(LONG).unwrap());
        caller.join().unwrap().unwrap();
    });
    let error = call_foo(&object).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
}

#[test]
fn a_panic_of_a_method_on_its_callers_thread_is_the_calls_error() {
    let _watchdog = Watchdog::start();
    let vat = vat("oc6");
    let object: test_interface::Client =
        foo_with(&vat, Concurrency::Serial, (), |_, _| panic!("on purpose"));
    for _ in 0..2 {
        let error = call_foo(&object).unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    assert!(vat.shutdown(LONG).unwrap());
}

/// A serial object has one call at a time, whoever runs it, and takes them in the order in
/// which they came.
#[test]
fn callers_and_workers_take_turns_with_an_object() {
    let _watchdog = Watchdog::start();
    let vat = vat("oc7");
    let inside = Arc::new(Mutex::new(0_u32));
    let own = Arc::clone(&inside);
    let object = foo_with(&vat, Concurrency::Serial, (), move |params, results| {
        *own.try_lock().expect("no other call runs") += 1;
        answer_foo(params, results)
    });
    thread::scope(|scope| {
        for number in 0..8 {
            let object = object.clone();
            scope.spawn(move || {
                for _ in 0..500 {
                    if number % 2 == 0 {
                        call_foo(&object).unwrap();
                    } else {
                        foo_request(&object).send().wait().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(*inside.lock().unwrap(), 4000);
    assert!(vat.shutdown(LONG).unwrap());
}

/// A caller that has to wait for room on a connection, and learns meanwhile that the object
/// is one of its own, keeps nobody from reading while it runs the method.
#[test]
fn a_caller_that_runs_what_it_took_for_a_call_of_the_peer_lets_others_read() {
    /// The type id of `Echo`, and the ordinals of two methods.
    const ECHO: u64 = 0xfe75_8b36_a0d3_1641;
    const PING: u16 = 0;
    const NEXT: u16 = 2;
    let _watchdog = Watchdog::start();
    let (vat, begun, came) = (vat("oc9"), Event::new(), Event::new());
    let (begins, waits, comes) = (begun.clone(), came.clone(), came);
    let ran = Threads::default();
    let notes = ran.clone();
    let other: echo::Client = vat.export(Pinged(move || comes.set(), None));
    let own: echo::Client = vat.export(Pinged(
        move || {
            notes.note();
            begins.set();
            waits.wait();
        },
        Some(other),
    ));
    let mut limits = Limits::default();
    limits.questions = 2;
    let config = ConnConfig::new().bootstrap(own).limits(limits);
    let (mut peer, connection) = RawPeer::connect(&vat, config);
    let own = peer.bootstrapped(0);
    peer.bytes(&raw::call(1, &Target::Import(own), ECHO, NEXT, &[]));
    let Outcome::Results(caps) = peer.outcome(1) else { panic!("no results") };
    let [Cap::SenderHosted(other)] = caps[..] else { panic!("{caps:?}") };
    let peer = thread::spawn(move || {
        let call = |peer: &mut RawPeer| {
            peer.receive_until("a call", |said| match said {
                Said::Call { question, .. } => Some(*question),
                _ => None,
            })
        };
        let question = call(&mut peer);
        peer.results(question, &[Cap::SenderPromise(2)]);
        let question = call(&mut peer);
        thread::sleep(Duration::from_millis(50));
        peer.resolve(2, &Cap::ReceiverHosted(own));
        peer.results(question, &[]);
        begun.wait();
        peer.bytes(&raw::call(2, &Target::Import(other), ECHO, PING, &[]));
        peer.outcome(2);
        peer
    });
    let theirs: echo::Client = connection.bootstrap();
    let promise = theirs.next_request().call().unwrap().get().unwrap().get_echo().unwrap();
    // The call of the bootstrap object, which is not answered, and this one are the limit.
    let fills = theirs.ping_request().send();
    promise.ping_request().call().unwrap();
    assert_eq!(ran.taken(), [thread::current().id()]);
    fills.wait().unwrap();
    drop(peer.join().unwrap());
    connection.join().unwrap();
    drop((theirs, promise));
    assert!(vat.shutdown(LONG).unwrap());
}

/// Calls this when it is pinged, and has another object.
struct Pinged<F>(F, Option<echo::Client>);

impl<F: Fn() + Send + Sync + 'static> echo::Server for Pinged<F> {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        self.0();
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        results.get().set_echo(self.1.clone().unwrap());
        Ok(())
    }
}
