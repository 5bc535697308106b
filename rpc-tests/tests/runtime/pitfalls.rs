//! What implementations with threads ran into before this one: a test for each,
//! named after it. (Those about workers are in `pool.rs`, those about releases in
//! `drops.rs`, those about waiting for questions in `limits.rs`.)

use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use capnp_threads_core::{Client, Concurrency, Connection, Error, ErrorKind, FromClient, Limits};
use capnp_threads_transport::memory;
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff, test_pipeline};

use rpc_tests::support::objects::{
    self, Keeper, Order, OrderedReference, Sequence, answer_foo, call_foo, foo, foo_request,
    foo_with, plain,
};
use rpc_tests::support::{
    Census, Counted, Event, LONG, Pair, Random, Watchdog, Wire, stress_time, until, vat,
};

/// Repeats for a while.
fn for_a_while(mut step: impl FnMut()) {
    let end = Instant::now() + stress_time();
    loop {
        step();
        if Instant::now() > end {
            return;
        }
    }
}

/// Bounded queues to objects deadlocked with more than two calls at once: here
/// every queue that has a bound has the smallest one.
#[test]
fn many_calls_both_ways_through_queues_of_one() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let one = || {
        let mut limits = Limits::default();
        limits.received_messages = 1;
        limits
    };
    let (left_vat, right_vat) = (vat("pi1l"), vat("pi1r"));
    let (here, there) = memory::pair_with_capacity(memory::Capacity { messages: 1, words: 1 });
    let config =
        |vat| capnp_threads_core::ConnConfig::new().bootstrap(Keeper::client(vat)).limits(one());
    let left = left_vat.connect(here, config(&left_vat)).unwrap();
    let right = right_vat.connect(there, config(&right_vat)).unwrap();
    thread::scope(|scope| {
        for index in 0..16 {
            let (connection, vat) =
                if index % 2 == 0 { (&left, &left_vat) } else { (&right, &right_vat) };
            let census = &census;
            scope.spawn(move || {
                let keeper: test_more_stuff::Client = connection.bootstrap();
                let calls: Vec<_> = (0..40)
                    .map(|_| {
                        let mut request = keeper.call_foo_request();
                        request.get().set_cap(plain(vat, census));
                        request.send()
                    })
                    .collect();
                calls.iter().for_each(|call| drop(call.wait().unwrap()));
            });
        }
    });
    rpc_tests::support::settle(&left, &right);
    left.close();
    assert!(left_vat.shutdown(LONG).unwrap());
    assert!(right_vat.shutdown(LONG).unwrap());
    assert_eq!(census.alive(), 0);
}

/// Two receive loops that both wrote to an unbuffered pipe waited for each other.
#[test]
fn both_sides_write_much_over_a_pipe_of_one_byte() {
    let _watchdog = Watchdog::start();
    let (left_vat, right_vat) = (vat("pi2l"), vat("pi2r"));
    let (here, there) = memory::byte_pair(1);
    let config = |vat: &capnp_threads_core::Vat| {
        capnp_threads_core::ConnConfig::new()
            .bootstrap(objects::Echo::client(vat, Concurrency::Serial))
    };
    let left = left_vat.connect(here, config(&left_vat)).unwrap();
    let right = right_vat.connect(there, config(&right_vat)).unwrap();
    thread::scope(|scope| {
        for connection in [&left, &right, &left, &right] {
            scope.spawn(move || {
                let echo: echo::Client = connection.bootstrap();
                let calls: Vec<_> = (0..4)
                    .map(|index| {
                        let mut request = echo.echo_request();
                        request.get().set_data(&vec![index; 4000]);
                        request.send()
                    })
                    .collect();
                for (index, call) in (0..).zip(&calls) {
                    let response = call.wait().unwrap();
                    assert_eq!(response.get().unwrap().get_data().unwrap(), vec![index; 4000]);
                }
            });
        }
    });
    rpc_tests::support::settle(&left, &right);
    left.close();
    assert!(left_vat.shutdown(LONG).unwrap());
    assert!(right_vat.shutdown(LONG).unwrap());
}

/// A thread picked a question as a target; its Return came in and its Finish went
/// out before the thread's call did.
#[test]
fn a_pipelined_call_races_with_the_return_and_the_finish_of_its_target() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let mut random = Random::new(3);
    for_a_while(|| {
        let mut request = keeper.echo_request();
        let object: test_interface::Client = plain(&pair.client_vat, &census);
        request.get().set_cap(object.cast_to());
        let call = request.send();
        let cap: test_interface::Client = call.pipeline().get_cap().cast_to();
        thread::scope(|scope| {
            let spins = random.below(60);
            let other = cap.clone();
            scope.spawn(move || {
                for _ in 0..spins {
                    thread::yield_now();
                }
                call_foo(&other).unwrap();
            });
            scope.spawn(move || {
                // The promise goes when it returned, and takes the Finish along.
                drop(call.wait().unwrap());
                drop(call);
            });
            for _ in 0..3 {
                call_foo(&cap).unwrap();
            }
        });
    });
    drop(keeper);
    pair.finish();
    assert_eq!(census.alive(), 0);
}

/// Arguments have to be held until their message is queued: whoever made the call
/// may drop them before.
#[test]
fn arguments_may_be_dropped_as_soon_as_the_call_was_made() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    for_a_while(|| {
        // Imports as arguments: the last other reference goes on another thread.
        let response = keeper.get_handle_request().call().unwrap();
        let handle = response.get().unwrap().get_handle().unwrap();
        drop(response);
        let mut request = keeper.hold_request();
        request.get().set_cap(handle.clone().cast_to());
        let call = thread::scope(|scope| {
            scope.spawn(move || drop(handle));
            request.send()
        });
        call.wait().unwrap();
        // Objects as arguments.
        let mut request = keeper.call_foo_request();
        request.get().set_cap(plain(&pair.client_vat, &census));
        request.call().unwrap();
    });
    let mut hold = keeper.hold_request();
    hold.get().set_cap(plain(&pair.client_vat, &census));
    hold.call().unwrap();
    drop(keeper);
    pair.end();
    assert_eq!(census.alive(), 0);
}

/// A failure of the connection behind is the exception of the forwarded call, not
/// the end of the one in front.
#[test]
fn forwarding_to_a_dead_connection_fails_the_call_only() {
    let _watchdog = Watchdog::start();
    for concurrency in [Concurrency::Inline, Concurrency::Serial] {
        let back = Pair::new(Keeper::client);
        let behind: Client = back.bootstrap();
        let front =
            Pair::new(|vat| objects::any(vat, concurrency, move |call| call.forward(&behind)));
        let keeper: test_more_stuff::Client = front.bootstrap();
        keeper.get_handle_request().call().unwrap();
        back.server.close();
        assert!(back.client.join_timeout(LONG).unwrap());
        for _ in 0..3 {
            let error = keeper.get_handle_request().call().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected);
            // Calls on what never came fail alike.
            let cap = keeper.get_handle_request().send().pipeline().get_handle();
            let error = call_foo(&cap.cast_to()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected);
        }
        assert_eq!(front.client.failure(), None);
        drop(keeper);
        front.finish();
        back.end();
    }
}

/// Drops re-enter: the object that a connection drops calls over it, passes
/// things over it, or ends it.
#[test]
fn a_drop_may_use_the_connection_that_drops_it() {
    type Farewell = fn(&Connection, &test_more_stuff::Client);
    struct Leaves {
        connection: Connection,
        keeper: test_more_stuff::Client,
        farewell: Farewell,
        _counted: Counted,
    }
    impl Drop for Leaves {
        fn drop(&mut self) {
            (self.farewell)(&self.connection, &self.keeper);
        }
    }
    let farewells: [Farewell; 6] = [
        |_, keeper| drop(keeper.get_handle_request().send()),
        |_, keeper| keeper.get_handle_request().send().on_resolve(drop),
        |_, keeper| {
            let mut request = keeper.call_foo_request();
            request.get().set_cap(foo(capnp_threads_core::Vat::global(), answer_foo));
            drop(request.send().pipeline());
        },
        |connection, _| drop(connection.bootstrap_client()),
        |connection, _| {
            connection.check().unwrap();
            assert!(connection.snapshot().queued_bytes < 1 << 20);
        },
        |connection, _| connection.close(),
    ];
    let _watchdog = Watchdog::start();
    for farewell in farewells {
        let census = Census::new();
        let pair = Pair::new(Keeper::client);
        let keeper: test_more_stuff::Client = pair.bootstrap();
        let connection = pair.client.clone();
        let held = Leaves { connection, keeper, farewell, _counted: census.count() };
        let keeper: test_more_stuff::Client = pair.bootstrap();
        let mut request = keeper.hold_request();
        let leaves = foo_with(&pair.client_vat, Concurrency::Serial, held, answer_foo);
        request.get().set_cap(leaves);
        request.call().unwrap();
        // Our coordinator drops it when the peer holds something else instead.
        let mut request = keeper.hold_request();
        request.get().set_cap(foo(&pair.client_vat, answer_foo));
        drop(request.call());
        until("the object to go", || census.alive() == 0);
        drop(keeper);
        pair.end();
    }
}

/// The last client of a connection goes in the middle of a method that came over
/// it.
#[test]
fn a_method_may_drop_the_last_handle_on_its_own_connection() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel::<(Connection, Client)>();
    let told = Mutex::new(told);
    let done = Event::new();
    let over = done.clone();
    let (client_vat, server_vat) = (vat("pi8c"), vat("pi8s"));
    let object = foo(&server_vat, move |params, results| {
        drop(told.lock().unwrap().recv().unwrap());
        over.set();
        answer_foo(params, results)
    });
    let (here, there) = Wire::Memory.pair();
    let server =
        server_vat.connect(there, capnp_threads_core::ConnConfig::new().bootstrap(object)).unwrap();
    let own = Keeper::client(&client_vat);
    let client =
        client_vat.connect(here, capnp_threads_core::ConnConfig::new().bootstrap(own)).unwrap();
    let foo: test_interface::Client = client.bootstrap();
    let call = foo_request(&foo).send();
    let last = server.bootstrap_client();
    tell.send((server, last)).unwrap();
    assert_eq!(call.wait().map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
    done.wait();
    drop((foo, call));
    assert!(client.join_timeout(LONG).unwrap());
    assert!(server_vat.shutdown(LONG).unwrap());
    assert!(client_vat.shutdown(LONG).unwrap());
}

/// Callbacks that went through a queue of their own let a later, direct call
/// overtake the pipelined ones before it.
#[test]
fn a_direct_call_does_not_overtake_pipelined_ones() {
    let _watchdog = Watchdog::start();
    let (order, census) = (Order::new(), Census::new());
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let mut reference = 0;
    for_a_while(|| {
        // Our own object, which the peer sends back to us.
        let object = Sequence::new(&order, &census);
        let object: test_call_order::Client = pair.client_vat.export(object);
        let mut request = keeper.echo_request();
        request.get().set_cap(object);
        let echo = request.send();
        let mut ordered = OrderedReference::new(echo.pipeline().get_cap(), reference);
        reference = reference.wrapping_add(1);
        let mut calls: Vec<_> = (0..4).map(|_| ordered.send()).collect();
        let response = echo.wait().unwrap();
        let direct = response.get().unwrap().get_cap().unwrap();
        calls.extend((0..4).map(|_| ordered.send_through(&direct)));
        calls.extend((0..4).map(|_| ordered.send()));
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        if reference == 0 {
            order.assert_right("");
        }
    });
    order.assert_right("");
    drop(keeper);
    pair.finish();
    assert_eq!(census.alive(), 0);
}

/// A handler whose results hold a capability of, or for, a peer that is gone by
/// then lost its thread.
#[test]
fn returning_a_capability_to_a_dead_peer_keeps_the_worker() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let (go, started) = (Event::new(), Event::new());
    let (hold, begun) = (go.clone(), started.clone());
    struct Late {
        hold: Event,
        begun: Event,
        census: Census,
    }
    impl test_pipeline::Server for Late {
        fn get_cap(
            &self,
            params: test_pipeline::GetCapParams,
            mut results: test_pipeline::GetCapResults,
        ) -> Result<(), Error> {
            let theirs = params.get()?.get_in_cap()?;
            self.begun.set();
            self.hold.wait();
            // The first of ours, and then one of theirs.
            let ours = capnp_threads_core::typed::new_client(Ours(self.census.count()));
            results.get().init_out_box().set_cap(ours);
            results.get().get_out_box()?.set_cap(theirs);
            Ok(())
        }
    }
    struct Ours(#[allow(dead_code)] Counted);
    impl test_interface::Server for Ours {}
    let late = Late { hold, begun, census: census.clone() };
    let mut pool = capnp_threads_core::vat::PoolConfig::default();
    pool.max_workers = 1;
    let server_vat = rpc_tests::support::vat_with_pool("pias", pool);
    let client_vat = vat("piac");
    let object: test_pipeline::Client = server_vat.export(late);
    let connect = || {
        let (here, there) = Wire::Memory.pair();
        let config = capnp_threads_core::ConnConfig::new().bootstrap(object.clone());
        (
            client_vat.connect(here, capnp_threads_core::ConnConfig::new()).unwrap(),
            server_vat.connect(there, config).unwrap(),
        )
    };
    let (client, server) = connect();
    let first: test_pipeline::Client = client.bootstrap();
    let mut request = first.get_cap_request();
    request.get().set_in_cap(plain(&client_vat, &census));
    let call = request.send();
    started.wait();
    client.close();
    assert!(server.join_timeout(LONG).unwrap());
    go.set();
    assert_eq!(call.wait().map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
    // The only worker serves the next connection.
    let (client, server) = connect();
    let second: test_pipeline::Client = client.bootstrap();
    let mut request = second.get_cap_request();
    request.get().set_in_cap(plain(&client_vat, &census));
    let call = request.send();
    call_foo(&call.pipeline().get_out_box().get_cap()).unwrap();
    drop((first, second, call));
    rpc_tests::support::settle(&client, &server);
    drop(object);
    assert!(client_vat.shutdown(LONG).unwrap());
    assert!(server_vat.shutdown(LONG).unwrap());
    assert_eq!(census.alive(), 0);
}

/// Imported promises were left pending when their connection stopped.
#[test]
fn the_end_rejects_imported_promises_and_pipelined_fields() {
    let _watchdog = Watchdog::start();
    let (never, fulfiller) = capnp_threads_core::promise_client::<test_interface::Client>();
    let pair = Pair::new(|vat| {
        let keeper: test_more_stuff::Client = vat.export(Keeper::new());
        let mut request = keeper.hold_request();
        request.get().set_cap(never);
        request.call().unwrap();
        keeper.into_client()
    });
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let response = keeper.get_held_request().call().unwrap();
    let promise = response.get().unwrap().get_cap().unwrap();
    let field = test_more_stuff::Client::from_client(promise.clone().into_client())
        .get_held_request()
        .send()
        .pipeline()
        .get_cap();
    assert!(promise.as_client().is_unresolved());
    let waiting: Vec<_> = [&promise, &field]
        .into_iter()
        .map(|client| {
            let client = client.clone();
            rpc_tests::support::Blocked::spawn(move || {
                client.as_client().resolve().map(drop).unwrap_err().kind()
            })
        })
        .collect();
    let call = foo_request(&field).send();
    pair.server.close();
    for thread in waiting {
        assert_eq!(thread.join(), ErrorKind::Disconnected);
    }
    assert_eq!(call.wait().map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(promise.as_client().failure().unwrap().kind(), ErrorKind::Disconnected);
    drop((keeper, response, promise, field, call, fulfiller));
    pair.end();
}

/// The count of an import reached zero while the peer was sending it again.
#[test]
fn an_import_comes_back_while_it_is_released() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(|vat| {
        let keeper: test_more_stuff::Client =
            vat.export_with(Keeper::new(), Concurrency::Concurrent);
        let mut request = keeper.hold_request();
        request.get().set_cap(plain(vat, &census));
        request.call().unwrap();
        keeper.into_client()
    });
    let keeper: test_more_stuff::Client = pair.bootstrap();
    thread::scope(|scope| {
        for seed in 0..8 {
            let keeper = keeper.clone();
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for_a_while(|| {
                    let response = keeper.get_held_request().call().unwrap();
                    let held = response.get().unwrap().get_cap().unwrap();
                    drop(response);
                    if random.one_in(2) {
                        call_foo(&held).unwrap();
                    }
                });
            });
        }
    });
    drop(keeper);
    pair.settle();
    assert_eq!(census.alive(), 1);
    pair.end();
    assert_eq!(census.alive(), 0);
}

/// At a shutdown the callback of a rejected call asks again, at once.
#[test]
fn a_callback_of_a_rejected_call_may_ask_again() {
    let _watchdog = Watchdog::start();
    let never = Event::new();
    let hold = never.clone();
    let pair = Pair::new(|vat| {
        let method = move |_, _| {
            hold.wait();
            Ok(())
        };
        foo_with(vat, Concurrency::Concurrent, (), method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let (tell, told) = mpsc::channel();
    for _ in 0..10 {
        let (client, connection, tell) = (client.clone(), pair.client.clone(), tell.clone());
        foo_request(&client.clone()).send().on_resolve(move |outcome| {
            let first = outcome.map(drop).unwrap_err().kind();
            let second = call_foo(&client).unwrap_err().kind();
            let third = call_foo(&connection.bootstrap()).unwrap_err().kind();
            tell.send([first, second, third]).unwrap();
        });
    }
    until("the calls to arrive", || pair.server.snapshot().answers >= 10);
    pair.client.close();
    for _ in 0..10 {
        assert_eq!(told.recv().unwrap(), [ErrorKind::Disconnected; 3]);
    }
    never.set();
    drop(client);
    pair.end();
}

/// References were counted down in tables that had been cleared.
#[test]
fn references_may_outlive_their_connection() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let mut request = keeper.hold_request();
    request.get().set_cap(plain(&pair.client_vat, &census));
    request.call().unwrap();
    let response = keeper.get_held_request().call().unwrap();
    let held = response.get().unwrap().get_cap().unwrap();
    let handle = keeper.get_handle_request().send();
    let cap = handle.pipeline().get_handle();
    let request = keeper.call_held_request();
    pair.client.close();
    assert!(pair.client.join_timeout(LONG).unwrap());
    assert!(pair.server.join_timeout(LONG).unwrap());
    // Our own object came back as itself, and goes on working.
    call_foo(&held).unwrap();
    assert_eq!(request.call().map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
    drop((keeper, response, held, handle, cap));
    for connection in [&pair.client, &pair.server] {
        assert!(connection.snapshot().is_empty());
        connection.check().unwrap();
    }
    pair.end();
    assert_eq!(census.alive(), 0);
}

/// A message that was prepared and never sent kept what it referred to.
#[test]
fn a_request_that_is_never_sent_leaves_nothing() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let mut request = keeper.hold_request();
    request.get().set_cap(plain(&pair.client_vat, &census));
    drop(request);
    assert_eq!(census.alive(), 0);
    assert_eq!(pair.client.snapshot().exports, 0);
    drop(keeper);
    pair.finish();
}

/// Overwriting a capability field leaves the old one in the message's table.
#[test]
fn a_capability_that_was_overwritten_is_not_sent() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let mut request = keeper.hold_request();
    for _ in 0..3 {
        request.get().set_cap(plain(&pair.client_vat, &census));
    }
    request.call().unwrap();
    assert_eq!(pair.client.snapshot().exports, 1);
    assert_eq!(census.alive(), 1);
    keeper.call_held_request().call().unwrap();
    drop(keeper);
    pair.end();
    assert_eq!(census.alive(), 0);
}

/// Results that hold capabilities cannot be cleared; a method that fails after it
/// has filled them in answers with a fresh message.
#[test]
fn an_error_after_capabilities_were_filled_in_is_an_error() {
    struct Fickle(Census);
    impl test_pipeline::Server for Fickle {
        fn get_cap(
            &self,
            _: test_pipeline::GetCapParams,
            mut results: test_pipeline::GetCapResults,
        ) -> Result<(), Error> {
            let object = || capnp_threads_core::typed::new_client(Object(self.0.count()));
            results.get().init_out_box().set_cap(object());
            results.get().get_out_box()?.set_cap(object());
            Err(Error::overloaded("on purpose"))
        }
    }
    struct Object(#[allow(dead_code)] Counted);
    impl test_interface::Server for Object {}
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(|vat| {
        vat.export::<test_pipeline::Client, _>(Fickle(census.clone())).into_client()
    });
    let client: test_pipeline::Client = pair.bootstrap();
    let call = client.get_cap_request().send();
    let cap = call.pipeline().get_out_box().get_cap();
    let error = call.wait().map(drop).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Overloaded, "on purpose"));
    assert_eq!(call_foo(&cap).unwrap_err(), error);
    until("the objects to go", || census.made() == 2 && census.alive() == 0);
    drop((client, call, cap));
    pair.finish();
}

/// A connection whose bootstrap was never asked for, or never made, ended badly.
#[test]
fn a_connection_on_which_nothing_happens_ends() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    for wire in Wire::ALL {
        let pair = Pair::configured(
            |vat| plain(vat, &census).into_client(),
            wire,
            |config| config,
            |config| config,
        );
        pair.finish();
        assert_eq!(census.alive(), 0);
    }
}

/// Ends at every moment of a session that uses everything.
#[test]
fn a_connection_that_ends_in_the_middle_loses_nobody() {
    let _watchdog = Watchdog::start();
    let mut random = Random::new(11);
    for_a_while(|| {
        let census = Census::new();
        let pair = Pair::new(Keeper::client);
        let start = Barrier::new(4);
        let spins = random.below(300);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let keeper: test_more_stuff::Client = pair.bootstrap();
                    start.wait();
                    loop {
                        let (promise, fulfiller) =
                            capnp_threads_core::promise_client::<test_interface::Client>();
                        let mut request = keeper.call_foo_when_resolved_request();
                        request.get().set_cap(promise.clone());
                        let waiting = request.send();
                        let mut request = keeper.echo_request();
                        request.get().set_cap(promise.cast_to());
                        let echo = request.send();
                        let back: test_interface::Client = echo.pipeline().get_cap().cast_to();
                        let called = foo_request(&back).send();
                        fulfiller.fulfill(plain(&pair.client_vat, &census));
                        let outcomes = [
                            waiting.wait().map(drop),
                            echo.wait().map(drop),
                            called.wait().map(drop),
                        ];
                        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
                            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                        }
                        if outcomes.iter().any(Result::is_err) {
                            return;
                        }
                    }
                });
            }
            start.wait();
            for _ in 0..spins {
                thread::yield_now();
            }
            match spins % 3 {
                0 => pair.client.close(),
                1 => pair.server.close(),
                _ => pair.server.abort(Error::failed("on purpose")),
            }
        });
        pair.end();
        assert_eq!(census.alive(), 0);
    });
}

/// Many threads make, answer and drop everything at the same moment.
#[test]
fn the_bootstrap_is_asked_for_and_dropped_by_many_threads() {
    let _watchdog = Watchdog::start();
    let pair = Arc::new(Pair::new(Keeper::client));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for_a_while(|| {
                    let one: test_more_stuff::Client = pair.bootstrap();
                    let other: test_more_stuff::Client = pair.bootstrap();
                    let handle = one.get_handle_request().send();
                    drop(one);
                    drop(other);
                    drop(handle.wait().unwrap());
                });
            });
        }
    });
    Arc::into_inner(pair).unwrap().finish();
}
