//! Who learns that nobody wants an answer any more.

use std::sync::mpsc;
use std::thread;

use capnp_threads_core::typed::DeferredResults;
use capnp_threads_core::untyped::IncomingCall;
use capnp_threads_core::{Concurrency, FromClient};
use rpc_schema::test_capnp::{test_interface, test_more_stuff, test_pipeline};

use rpc_tests::support::objects::{self, Keeper, answer_foo, foo, foo_request, foo_with, plain};
use rpc_tests::support::raw::{self, Cap, Outcome, RawPeer, Target};
use rpc_tests::support::{Census, Event, LONG, Pair, Random, Watchdog, until, vat};

type Deferred = DeferredResults<test_interface::foo_results::Owned>;

/// A server whose `foo` puts its results into the other end of the channel.
fn deferring() -> (Pair, test_interface::Client, mpsc::Receiver<Deferred>) {
    let (give, take) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let method = move |_, results: test_interface::FooResults| {
            give.send(results.defer()).unwrap();
            Ok(())
        };
        foo(vat, method).into_client()
    });
    let client = pair.bootstrap();
    (pair, client, take)
}

#[test]
fn dropping_a_promise_cancels_the_call() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let (arrived, arrival) = (Event::new(), Event::new());
    let here = arrived.clone();
    let hold = arrival.clone();
    let pair = Pair::new(|vat| {
        let method = move |params: test_interface::FooParams,
                           results: test_interface::FooResults| {
            assert!(!params.is_cancelled());
            here.set();
            hold.wait();
            tell.send((params.is_cancelled(), results.is_cancelled())).unwrap();
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let call = foo_request(&client).send();
    arrived.wait();
    drop(call);
    // The peer has its id back before the method is over.
    until("the question to be forgotten", || pair.client.snapshot().questions == 0);
    arrival.set();
    assert_eq!(told.recv().unwrap(), (true, true));
    // A serial object goes on with the next call.
    let call = foo_request(&client).send();
    call.wait().unwrap();
    assert_eq!(told.recv().unwrap(), (false, false));
    drop((client, call));
    pair.finish();
}

#[test]
fn closures_for_the_cancelled_run_on_workers_or_are_dropped() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let (give, take) = mpsc::channel();
    let census = Census::new();
    let counted = census.clone();
    let pair = Pair::new(|vat| {
        objects::any(vat, Concurrency::Serial, move |call: IncomingCall| {
            let (tell, counted) = (tell.clone(), counted.count());
            call.on_cancel(move || {
                tell.send(thread::current().name().unwrap().to_owned()).unwrap();
                drop(counted);
            });
            give.send(call).unwrap();
        })
    });
    let client: test_interface::Client = pair.bootstrap();
    // Answered: the closure is dropped without having run.
    let answered = foo_request(&client).send();
    take.recv().unwrap().respond(Ok(capnp_threads_core::untyped::Payload::empty().clone()));
    answered.wait().unwrap();
    until("the closure to go", || census.alive() == 0);
    assert!(told.try_recv().is_err());
    // Cancelled: it runs.
    let cancelled = foo_request(&client).send();
    let call = take.recv().unwrap();
    drop(cancelled);
    assert!(told.recv().unwrap().starts_with(&(pair.server_threads() + "worker-")));
    assert!(call.is_cancelled());
    // Asked for when it is too late, it runs at once.
    let (tell, told) = mpsc::channel();
    call.on_cancel(move || tell.send(()).unwrap());
    told.recv().unwrap();
    drop(call);
    drop((client, answered));
    pair.finish();
    assert_eq!(census.alive(), 0);
}

#[test]
fn whoever_still_has_a_part_of_a_call_wants_it() {
    let _watchdog = Watchdog::start();
    let (give, take) = mpsc::channel();
    let pair = Pair::new(|vat| {
        objects::any(vat, Concurrency::Serial, move |call: IncomingCall| {
            give.send(call).unwrap();
        })
    });
    let client: test_pipeline::Client = pair.bootstrap();
    let call = client.get_cap_request().send();
    let copy = call.clone();
    let pipeline = call.pipeline();
    let cap = pipeline.get_out_box().get_cap();
    let incoming = take.recv().unwrap();
    // What is sent after each drop has arrived, and still the call is wanted.
    let ping = || {
        let marker = client.get_cap_request().send();
        take.recv().unwrap().respond(Ok(capnp_threads_core::untyped::Payload::empty().clone()));
        marker.wait().unwrap();
    };
    drop(call);
    ping();
    assert!(!incoming.is_cancelled());
    drop(copy);
    ping();
    assert!(!incoming.is_cancelled());
    drop(pipeline);
    ping();
    assert!(!incoming.is_cancelled());
    drop(cap);
    until("the call to be cancelled", || incoming.is_cancelled());
    drop((incoming, client));
    pair.finish();
}

#[test]
fn a_call_with_a_closure_goes_on_without_its_promise() {
    let _watchdog = Watchdog::start();
    let (pair, client, take) = deferring();
    let (tell, told) = mpsc::channel();
    foo_request(&client).send().on_resolve(move |outcome| tell.send(outcome.map(drop)).unwrap());
    let results = take.recv().unwrap();
    assert!(!results.is_cancelled());
    results.answer(|_| Ok(()));
    told.recv().unwrap().unwrap();
    drop(client);
    pair.finish();
}

#[test]
fn deferred_results_tell_that_the_call_was_cancelled() {
    let _watchdog = Watchdog::start();
    let (pair, client, take) = deferring();
    let call = foo_request(&client).send();
    let results = take.recv().unwrap();
    assert!(!results.is_cancelled());
    drop(call);
    until("the call to be cancelled", || results.is_cancelled());
    results.answer(|mut results| {
        results.get().set_x("in vain");
        Ok(())
    });
    drop(client);
    pair.finish();
}

/// Forwarding and tail calls, over two connections: whoever works at the end
/// learns of it.
#[test]
fn cancelling_goes_through_forwarded_calls() {
    type Forward = fn(IncomingCall, &capnp_threads_core::Client);
    let ways: [Forward; 3] = [
        |call, behind| call.forward(behind),
        |call, behind| {
            let (interface, method) = (call.interface_id(), call.method_id());
            let params = call.params().clone();
            call.tail_call(behind, interface, method, params);
        },
        |call, behind| {
            let (behind, kept) = (behind.clone(), call);
            thread::spawn(move || kept.forward(&behind));
        },
    ];
    let _watchdog = Watchdog::start();
    for way in ways {
        let (back, client, take) = deferring();
        let behind = client.into_client();
        let front =
            Pair::new(|vat| objects::any(vat, Concurrency::Serial, move |call| way(call, &behind)));
        let forwarding: test_interface::Client = front.bootstrap();
        let call = foo_request(&forwarding).send();
        let results = take.recv().unwrap();
        drop(call);
        until("the call to be cancelled", || results.is_cancelled());
        drop(results);
        // Not cancelled, it is answered.
        let call = foo_request(&forwarding).send();
        take.recv().unwrap().answer(|mut results| {
            results.get().set_x("through");
            Ok(())
        });
        assert_eq!(call.wait().unwrap().get().unwrap().get_x().unwrap(), "through");
        drop((call, forwarding));
        front.finish();
        back.finish();
    }
}

/// A tail call to the vat that called: the results stay there, and the cancellation finds
/// its way there all the same.
#[test]
fn cancelling_goes_through_tail_calls_to_the_callers_own_vat() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| vat.export::<test_more_stuff::Client, _>(TailCaller).into_client());
    let client: test_more_stuff::Client = pair.bootstrap();
    let (give, take) = mpsc::channel::<Deferred>();
    let own = foo(&pair.client_vat, move |_, results: test_interface::FooResults| {
        give.send(results.defer()).unwrap();
        Ok(())
    });
    let mut request = client.call_foo_request();
    request.get().set_cap(own);
    let call = request.send();
    let results = take.recv().unwrap();
    assert!(!results.is_cancelled());
    drop(call);
    until("the call to be cancelled", || results.is_cancelled());
    drop((results, client));
    pair.finish();
}

struct TailCaller;

impl rpc_schema::test_capnp::test_call_order::Server for TailCaller {}

impl test_more_stuff::Server for TailCaller {
    fn call_foo(
        &self,
        params: test_more_stuff::CallFooParams,
        results: test_more_stuff::CallFooResults,
    ) -> capnp_threads_core::Result<()> {
        let cap = params.get()?.get_cap()?;
        // The results have another shape, which nobody looks at.
        results.tail_call(capnp_threads_core::Request::<
            test_interface::foo_params::Owned,
            test_more_stuff::call_foo_results::Owned,
        >::new(cap.as_client(), 0x88eb_12a0_e0af_92b2, 0));
        Ok(())
    }
}

#[test]
fn a_call_that_waits_in_a_promise_is_taken_out_of_it() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let vat = vat("ca9");
    let (promise, fulfiller) = capnp_threads_core::promise_client::<test_more_stuff::Client>();
    let mut wanted = promise.hold_request();
    wanted.get().set_cap(plain(&vat, &census));
    let wanted = wanted.send();
    let mut unwanted = promise.hold_request();
    unwanted.get().set_cap(plain(&vat, &census));
    let unwanted = unwanted.send();
    assert_eq!(census.alive(), 2);
    drop(unwanted);
    assert_eq!(census.alive(), 1, "its parameters go with it");
    fulfiller.fulfill(vat.export(Keeper::new()));
    wanted.wait().unwrap();
    drop((promise, wanted));
    assert!(vat.shutdown(LONG).unwrap());
    assert_eq!(census.alive(), 0);
}

/// However many calls are cancelled while an object is busy, none of them is run, and
/// nothing of them is kept.
#[test]
fn calls_that_are_cancelled_while_their_object_is_busy_are_not_run() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let (arrived, go) = (Event::new(), Event::new());
    let (here, hold) = (arrived.clone(), go.clone());
    let (tell, ran) = mpsc::channel();
    let pair = Pair::new(|vat| {
        objects::any(vat, Concurrency::Serial, move |call: IncomingCall| {
            here.set();
            hold.wait();
            tell.send(call.params().caps().len()).unwrap();
            call.respond(Ok(capnp_threads_core::untyped::Payload::empty().clone()));
        })
    });
    let client: test_more_stuff::Client = pair.bootstrap();
    let busy = client.get_held_request().send();
    arrived.wait();
    for _ in 0..1000 {
        let mut request = client.hold_request();
        request.get().set_cap(plain(&pair.client_vat, &census));
        drop(request.send());
    }
    // Their parameters go while the object is still busy.
    until("the parameters to be released", || census.alive() == 0);
    let last = client.get_held_request().send();
    go.set();
    busy.wait().unwrap();
    last.wait().unwrap();
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [0, 0]);
    drop((client, busy, last));
    pair.finish();
}

#[test]
fn cancelling_a_pipelined_call_does_not_cancel_what_it_waits_for() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let (promise, fulfiller) = capnp_threads_core::promise_client::<test_interface::Client>();
    let mut request = keeper.call_foo_when_resolved_request();
    request.get().set_cap(promise);
    let waiting = request.send();
    let unwanted = keeper.get_held_request().send().pipeline().get_cap();
    drop(foo_request(&unwanted).send());
    fulfiller.fulfill(foo(&pair.client_vat, answer_foo));
    waiting.wait().unwrap();
    drop((keeper, waiting, unwanted));
    pair.finish();
}

/// What a cancelled call was given is dropped with it, and what it had exported
/// is released.
#[test]
fn a_cancelled_call_lets_go_of_its_parameters() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let (give, take) = mpsc::channel();
    let pair = Pair::new(|vat| {
        objects::any(vat, Concurrency::Serial, move |call: IncomingCall| {
            give.send(call).unwrap();
        })
    });
    let client: test_more_stuff::Client = pair.bootstrap();
    let mut request = client.expect_cancel_request();
    request.get().set_cap(plain(&pair.client_vat, &census));
    let call = request.send();
    let mut incoming = take.recv().unwrap();
    drop(call);
    until("the call to be cancelled", || incoming.is_cancelled());
    assert_eq!(census.alive(), 1, "the callee has it as long as it likes");
    incoming.release_params();
    until("the object to go", || census.alive() == 0);
    drop((incoming, client));
    pair.finish();
}

/// A Finish for a call that is forwarded over another connection, in every order
/// of what happens on the way.
#[test]
fn cancelling_races_with_answering() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let back = Pair::new(Keeper::client);
    let behind: capnp_threads_core::Client = back.bootstrap();
    let front = Pair::new(|vat| {
        objects::any(vat, Concurrency::Concurrent, move |call| call.forward(&behind))
    });
    thread::scope(|scope| {
        for seed in 0..4 {
            let (front, census) = (&front, &census);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let keeper: test_more_stuff::Client = front.bootstrap();
                let end = std::time::Instant::now() + rpc_tests::support::stress_time();
                while std::time::Instant::now() < end {
                    let mut request = keeper.call_foo_request();
                    request.get().set_cap(plain(&front.client_vat, census));
                    let call = request.send();
                    for _ in 0..random.below(40) {
                        thread::yield_now();
                    }
                    if random.one_in(4) {
                        call.wait().unwrap();
                    }
                }
            });
        }
    });
    front.settle();
    front.end();
    back.finish();
    assert_eq!(census.alive(), 0);
}

/// As above, seen by the peer: one Return for every question, whatever came
/// first.
#[test]
fn every_question_is_returned_once_though_it_was_finished() {
    let _watchdog = Watchdog::start();
    let vat = vat("cae");
    let go = Event::new();
    let hold = go.clone();
    let object = foo_with(&vat, Concurrency::Concurrent, (), move |_, _| {
        hold.wait();
        Ok(())
    });
    let (mut peer, connection) =
        RawPeer::connect(&vat, capnp_threads_core::ConnConfig::new().bootstrap(object));
    let object = peer.bootstrapped(0);
    for question in 1..=20 {
        peer.bytes(&raw::call(question, &Target::Import(object), 0x88eb_12a0_e0af_92b2, 0, &[]));
        peer.finish(question, true);
    }
    for question in 1..=20 {
        assert_eq!(peer.outcome(question), Outcome::Canceled);
    }
    go.set();
    // The same ids are free.
    for question in 1..=20 {
        peer.bytes(&raw::call(question, &Target::Import(object), 0x88eb_12a0_e0af_92b2, 0, &[]));
        assert_eq!(peer.outcome(question), Outcome::Results(Vec::<Cap>::new()));
    }
    peer.end();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}

// ---- Methods that allow it

/// What a method that was interrupted says of it.
type Told = mpsc::Receiver<capnp_threads_core::Error>;

/// A `foo` that waits as it is told, having allowed cancellation, and tells how the
/// wait ended. The census counts those that run.
fn waiting(
    vat: &capnp_threads_core::Vat,
    running: &Census,
    wait: impl Fn() -> capnp_threads_core::Result<()> + Send + Sync + 'static,
) -> (test_interface::Client, Told) {
    let (tell, told) = mpsc::channel();
    let running = running.clone();
    let object = foo_with(
        vat,
        Concurrency::Concurrent,
        (),
        move |params: test_interface::FooParams, results: test_interface::FooResults| {
            results.allow_cancellation();
            let _running = running.count();
            match wait() {
                Ok(()) => answer_foo(params, results),
                Err(error) => {
                    tell.send(error.clone()).unwrap();
                    Err(error)
                }
            }
        },
    );
    (object, told)
}

/// An object that answers nothing; the calls that it got.
fn silent(vat: &capnp_threads_core::Vat) -> (test_interface::Client, mpsc::Receiver<IncomingCall>) {
    let (give, take) = mpsc::channel();
    let give = std::sync::Mutex::new(give);
    let object = objects::any(vat, Concurrency::Concurrent, move |call: IncomingCall| {
        give.lock().unwrap().send(call).unwrap();
    });
    (test_interface::Client::from_client(object), take)
}

/// Behaviour: cancellation reaches the handler. Whatever it waits for, and whichever
/// way its caller loses interest.
#[test]
fn a_method_that_allows_it_is_interrupted_wherever_it_waits() {
    type Wait = Box<dyn Fn() -> capnp_threads_core::Result<()> + Send + Sync>;
    type End = fn(&Pair);
    let _watchdog = Watchdog::start();
    let ways: [(&str, End); 3] = [
        ("the promise is dropped", |_| ()),
        ("the caller's side is closed", |pair| pair.client.close()),
        ("the callee's side is closed", |pair| pair.server.close()),
    ];
    for (how, end) in ways {
        // What is waited for belongs to nobody of the two.
        let mut unanswered = None;
        let back = Pair::configured(
            |vat| {
                let (object, calls) = silent(vat);
                unanswered = Some(calls);
                object.into_client()
            },
            rpc_tests::support::Wire::Memory,
            |config| {
                let mut limits = capnp_threads_core::Limits::default();
                limits.questions = 1;
                config.limits(limits)
            },
            |config| config,
        );
        let never: test_interface::Client = back.bootstrap();
        never.as_client().resolve().unwrap();
        let (promise, fulfiller) = capnp_threads_core::promise_client::<test_interface::Client>();
        let stream: rpc_schema::test_capnp::test_streaming::Client = never.clone().cast_to();
        let waits: Vec<(&str, Wait)> = vec![
            ("a call", {
                let never = never.clone();
                Box::new(move || foo_request(&never).call().map(drop))
            }),
            ("a call, with time", {
                let never = never.clone();
                Box::new(move || foo_request(&never).send().wait_timeout(LONG).map(drop))
            }),
            ("a promise", {
                let promise = promise.clone();
                Box::new(move || promise.as_client().resolve().map(drop))
            }),
            ("room", {
                let never = never.clone();
                // One is within the limit, one more is a worker's.
                Box::new(move || {
                    let calls: Vec<_> = (0..3).map(|_| foo_request(&never).send()).collect();
                    calls
                        .iter()
                        .find_map(capnp_threads_core::Promise::try_response)
                        .map_or(Ok(()), |outcome| outcome.map(drop))
                })
            }),
            ("the end of a stream", {
                let stream = stream.clone();
                Box::new(move || {
                    stream.do_stream_i_request().send()?;
                    stream.as_client().finish_stream()
                })
            }),
        ];
        for (what, wait) in waits {
            let running = Census::new();
            let mut told = None;
            let pair = Pair::new(|vat| {
                let (object, receiver) = waiting(vat, &running, wait);
                told = Some(receiver);
                object.into_client()
            });
            let told = told.unwrap();
            let client: test_interface::Client = pair.bootstrap();
            let call = foo_request(&client).send();
            until("the method to run", || running.alive() == 1);
            end(&pair);
            drop(call);
            let error = told.recv().unwrap();
            assert!(error.is_cancellation(), "{what}, {how}: {error}");
            assert_eq!(error.kind(), capnp_threads_core::ErrorKind::Failed);
            until("the method to end", || running.alive() == 0);
            drop(client);
            pair.end();
        }
        drop((promise, fulfiller, never, stream, unanswered));
        back.end();
    }
}

#[test]
fn a_method_that_does_not_allow_it_waits_on() {
    let _watchdog = Watchdog::start();
    let (back, never, take) = deferring();
    let (tell, told) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let method = move |_, results: test_interface::FooResults| {
            foo_request(&never).call()?;
            tell.send(results.is_cancelled()).unwrap();
            Ok(())
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let call = foo_request(&client).send();
    let results = take.recv().unwrap();
    drop(call);
    until("the question to be forgotten", || pair.client.snapshot().questions == 0);
    assert!(!results.is_cancelled());
    results.answer(|_| Ok(()));
    assert!(told.recv().unwrap());
    drop(client);
    pair.finish();
    drop(take);
    back.end();
}

/// The permission is that of one call. It does not hold for what runs on the same thread
/// before, after or in the middle of that call.
#[test]
fn a_permission_ends_with_its_method() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let (tell, told) = mpsc::channel();
    let vat = vat("caj");
    let (never, calls) = silent(&vat);
    let inline = objects::any(&vat, Concurrency::Inline, |call| {
        // Not the method's, although on its stack; and it must not wait in any case.
        call.allow_cancellation();
        call.respond(Ok(capnp_threads_core::untyped::Payload::empty().clone()));
    });
    let inline = test_interface::Client::from_client(inline);
    let (wait, other) = (never.clone(), inline.clone());
    let serial = foo(&vat, move |params: test_interface::FooParams, results| {
        if params.get()?.get_j() {
            params.allow_cancellation();
            // A method that ran in between has taken nothing away.
            foo_request(&other).call()?;
        }
        let outcome = foo_request(&wait).call();
        tell.send(outcome.as_ref().err().is_some_and(capnp_threads_core::Error::is_cancellation))
            .unwrap();
        drop(results);
        outcome.map(drop)
    });
    let request = |allows: bool| {
        let mut request = serial.foo_request();
        request.get().set_i(123);
        request.get().set_j(allows);
        request.send()
    };
    let (first, second) = (request(true), request(false));
    let waited_for = calls.recv().unwrap();
    drop(first);
    assert!(told.recv().unwrap());
    until("its own call to be cancelled", || waited_for.is_cancelled());
    drop(waited_for);
    // The same worker goes on with the next call, which has allowed nothing.
    let waited_for = calls.recv().unwrap();
    drop(second);
    waited_for.respond(Ok(capnp_threads_core::untyped::Payload::empty().clone()));
    assert!(!told.recv().unwrap());
    drop((never, inline, serial, census));
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn a_permission_that_comes_too_late_counts_at_once() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let (arrived, go) = (Event::new(), Event::new());
    let (here, hold) = (arrived.clone(), go.clone());
    let pair = Pair::new(|vat| {
        let (never, calls) = silent(vat);
        let calls = std::sync::Mutex::new(calls);
        let method = move |_, results: test_interface::FooResults| {
            here.set();
            hold.wait();
            results.allow_cancellation();
            let outcome = foo_request(&never).call();
            tell.send(outcome.map(drop).unwrap_err()).unwrap();
            // It may have been cancelled before it got there.
            drop(calls.lock().unwrap().try_recv());
            Ok(())
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let call = foo_request(&client).send();
    arrived.wait();
    drop(call);
    until("the question to be forgotten", || pair.client.snapshot().questions == 0);
    go.set();
    assert!(told.recv().unwrap().is_cancellation());
    drop(client);
    pair.finish();
}

/// Behaviours: cancel through a tail call, cancelling releases the parameters. Three
/// vats: the first one calls, the second one passes the call on, the third one has a
/// method that waits for an object of the first one's, which is never answered. When
/// the first one gives up, that comes all the way around.
#[test]
fn a_cancellation_goes_through_three_vats_and_back() {
    type PassOn = fn(IncomingCall, &capnp_threads_core::Client);
    let _watchdog = Watchdog::start();
    let ways: [PassOn; 3] = [
        |call, behind| call.forward(behind),
        |call, behind| {
            let (interface, method) = (call.interface_id(), call.method_id());
            let params = call.params().clone();
            call.tail_call(behind, interface, method, params);
        },
        // As any method does it.
        |mut call, behind| {
            call.allow_cancellation();
            let params = call.params().clone();
            call.release_params();
            let made = behind.call(call.interface_id(), call.method_id(), params);
            let outcome = made.wait();
            call.respond(outcome);
        },
    ];
    for pass_on in ways {
        let census = Census::new();
        let (tell, told) = mpsc::channel();
        let third = Pair::new(|vat| {
            let tell = tell.clone();
            objects::any(vat, Concurrency::Concurrent, move |mut call: IncomingCall| {
                call.allow_cancellation();
                let given = test_interface::Client::from_client(call.params().caps()[0].clone());
                call.release_params();
                let outcome = foo_request(&given).call();
                drop(given);
                tell.send(outcome.as_ref().map(drop).map_err(Clone::clone)).unwrap();
                call.respond(
                    outcome.map(|_| capnp_threads_core::untyped::Payload::empty().clone()),
                );
            })
        });
        let behind: capnp_threads_core::Client = third.bootstrap();
        let front = Pair::new(|vat| {
            objects::any(vat, Concurrency::Concurrent, move |call| pass_on(call, &behind))
        });
        let client: test_more_stuff::Client = front.bootstrap();
        for cancels in [true, false] {
            let (give, calls) = mpsc::channel::<Deferred>();
            let give = std::sync::Mutex::new(give);
            let own = foo_with(
                &front.client_vat,
                Concurrency::Serial,
                census.count(),
                move |_, results: test_interface::FooResults| {
                    give.lock().unwrap().send(results.defer()).unwrap();
                    Ok(())
                },
            );
            let mut request = client.call_foo_request();
            request.get().set_cap(own);
            let call = request.send();
            let waited_for = calls.recv().unwrap();
            if cancels {
                drop(call);
                assert!(told.recv().unwrap().unwrap_err().is_cancellation());
                until("the last call to be cancelled", || waited_for.is_cancelled());
                drop(waited_for);
            } else {
                waited_for.answer(|_| Ok(()));
                told.recv().unwrap().unwrap();
                call.wait().unwrap();
            }
            until("the parameter to be released", || census.alive() == 0);
        }
        drop(client);
        front.finish();
        third.finish();
    }
}
