//! Promises of the application: what they may become, and what equals what.

use std::sync::{Arc, Barrier};
use std::thread;

use capnp_threads_core::typed::unwrap_server;
use capnp_threads_core::{Client, Concurrency, Error, FromClient, promise_client};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};

use rpc_tests::support::objects::{
    Foo, Keeper, Order, OrderedReference, Sequence, answer_foo, call_foo, foo, foo_request, plain,
};
use rpc_tests::support::{Census, Pair, Random, Watchdog, Wire, settle, until};

type Plain = test_interface::Client;

fn broken(reason: &str) -> Plain {
    Plain::from_client(Client::broken(Error::failed(reason)))
}

#[test]
fn a_promise_may_become_null_broken_or_be_given_up() {
    let _watchdog = Watchdog::start();
    let (promise, fulfiller) = promise_client::<Plain>();
    let waiting = foo_request(&promise).send();
    fulfiller.fulfill(Plain::from_client(Client::null()));
    assert_eq!(waiting.wait().unwrap_err().reason(), "called a null capability");
    assert!(promise.as_client().is_null());
    assert_eq!(call_foo(&promise).unwrap_err().reason(), "called a null capability");

    let (promise, fulfiller) = promise_client::<Plain>();
    let waiting = foo_request(&promise).send();
    fulfiller.fulfill(broken("on purpose"));
    assert_eq!(waiting.wait().unwrap_err().reason(), "on purpose");
    assert_eq!(promise.as_client().failure().unwrap().reason(), "on purpose");

    let (promise, fulfiller) = promise_client::<Plain>();
    let waiting = foo_request(&promise).send();
    drop(fulfiller);
    assert!(waiting.wait().unwrap_err().reason().contains("given up"));
    assert!(promise.as_client().resolve().is_err());
}

#[test]
fn a_promise_that_becomes_itself_fails() {
    let _watchdog = Watchdog::start();
    let (promise, fulfiller) = promise_client::<Plain>();
    let waiting = foo_request(&promise).send();
    fulfiller.fulfill(promise.clone());
    assert_eq!(waiting.wait().unwrap_err().reason(), "a promise was resolved to itself");
    // Over others.
    let promises: Vec<_> = (0..5).map(|_| promise_client::<Plain>()).collect();
    let (clients, fulfillers): (Vec<_>, Vec<_>) = promises.into_iter().unzip();
    for (index, fulfiller) in fulfillers.into_iter().enumerate() {
        fulfiller.fulfill(clients[(index + 1) % 5].clone());
    }
    for client in clients {
        assert_eq!(call_foo(&client).unwrap_err().reason(), "a promise was resolved to itself");
    }
}

/// Threads close a circle of promises together: none may be left waiting, and
/// none may go round in it for ever.
#[test]
fn a_circle_of_promises_that_many_threads_close_fails() {
    let _watchdog = Watchdog::start();
    for round in 0..200 {
        let size = 2 + round % 4;
        let (clients, fulfillers): (Vec<Plain>, Vec<_>) =
            (0..size).map(|_| promise_client::<Plain>()).unzip();
        let waiting: Vec<_> = clients.iter().map(|client| foo_request(client).send()).collect();
        let start = Arc::new(Barrier::new(size));
        thread::scope(|scope| {
            for (index, fulfiller) in fulfillers.into_iter().enumerate() {
                let (next, start) = (clients[(index + 1) % size].clone(), Arc::clone(&start));
                scope.spawn(move || {
                    start.wait();
                    fulfiller.fulfill(next);
                });
            }
        });
        for call in waiting {
            assert_eq!(call.wait().unwrap_err().reason(), "a promise was resolved to itself");
        }
    }
}

/// The target of a call turns out to be what the call is to return: it would wait
/// for itself, and nobody could wait for anything else.
#[test]
fn a_call_that_waits_for_its_own_results_fails() {
    let _watchdog = Watchdog::start();
    let own = "the call waits for its own results";
    let (promise, fulfiller) = promise_client::<test_more_stuff::Client>();
    let call = promise.get_held_request().send();
    let field = call.pipeline().get_cap();
    let on_field = foo_request(&field).send();
    fulfiller.fulfill(field.clone().cast_to());
    assert_eq!(call.wait().map(drop).unwrap_err().reason(), own);
    assert_eq!(on_field.wait().map(drop).unwrap_err().reason(), own);
    assert_eq!(call_foo(&field).unwrap_err().reason(), own);
    // Several that wait for one another, resolved by a thread each.
    for round in 0..100 {
        let size = 2 + round % 3;
        let (clients, fulfillers): (Vec<test_more_stuff::Client>, Vec<_>) =
            (0..size).map(|_| promise_client()).unzip();
        let calls: Vec<_> = clients.iter().map(|client| client.get_held_request().send()).collect();
        let start = Arc::new(Barrier::new(size));
        thread::scope(|scope| {
            for (index, fulfiller) in fulfillers.into_iter().enumerate() {
                let field = calls[(index + 1) % size].pipeline().get_cap();
                let start = Arc::clone(&start);
                scope.spawn(move || {
                    start.wait();
                    fulfiller.fulfill(field.cast_to());
                });
            }
        });
        for call in calls {
            assert_eq!(call.wait().map(drop).unwrap_err().reason(), own);
        }
    }
}

/// The promise has been sent to a peer, which has sent calls through it.
#[test]
fn an_exported_promise_may_become_anything() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let third = Pair::new(|vat| plain(vat, &census).into_client());
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let elsewhere: Plain = third.bootstrap();
    type Make<'a> = Box<dyn Fn() -> Result<Plain, Error> + 'a>;
    let targets: Vec<(&str, Make<'_>, Option<&str>)> = vec![
        ("an object", Box::new(|| Ok(plain(&pair.client_vat, &census))), None),
        ("null", Box::new(|| Ok(Plain::from_client(Client::null()))), Some("null")),
        ("broken", Box::new(|| Err(Error::failed("on purpose"))), Some("on purpose")),
        ("an object elsewhere", Box::new(|| Ok(elsewhere.clone())), None),
        (
            "an object of the peer's",
            Box::new(|| Ok(keeper.clone().cast_to())),
            Some("does not implement"),
        ),
        (
            "a promise of the peer's",
            Box::new(|| {
                let mut request = keeper.echo_request();
                request.get().set_cap(plain(&pair.client_vat, &census).cast_to());
                Ok(request.send().pipeline().get_cap().cast_to())
            }),
            None,
        ),
        (
            "another promise",
            Box::new(|| {
                let (promise, fulfiller) = promise_client::<Plain>();
                let object = plain(&pair.client_vat, &census);
                thread::spawn(move || fulfiller.fulfill(object));
                Ok(promise)
            }),
            None,
        ),
    ];
    for (what, target, failure) in &targets {
        let (promise, fulfiller) = promise_client::<Plain>();
        let (mut pushed, mut resolved) =
            (keeper.call_foo_request(), keeper.call_foo_when_resolved_request());
        pushed.get().set_cap(promise.clone());
        resolved.get().set_cap(promise.clone());
        let (pushed, resolved) = (pushed.send(), resolved.send());
        let mut hold = keeper.hold_request();
        hold.get().set_cap(promise);
        hold.call().unwrap();
        match target() {
            Ok(target) => fulfiller.fulfill(target),
            Err(error) => fulfiller.reject(error),
        }
        let held = keeper.call_held_request().send();
        let outcomes = [pushed.wait().map(drop), resolved.wait().map(drop), held.wait().map(drop)];
        for outcome in outcomes {
            match (outcome, failure) {
                (Ok(()), None) => {}
                (Err(error), Some(failure)) if error.reason().contains(failure) => {}
                (outcome, _) => panic!("{what}: {outcome:?}"),
            }
        }
    }
    let mut hold = keeper.hold_request();
    hold.get().set_cap(broken("the end"));
    hold.call().unwrap();
    drop(targets);
    drop((keeper, elsewhere));
    pair.finish();
    third.finish();
    assert_eq!(census.alive(), 0);
}

#[test]
fn equal_is_what_is_the_same() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let (one, other) = (plain(&pair.client_vat, &census), plain(&pair.client_vat, &census));
    let same = |a: &Plain, b: &Plain| a.as_client() == b.as_client();
    assert!(same(&one, &one.clone()));
    assert!(!same(&one, &other));
    assert_eq!(one.as_client().identity(), one.clone().as_client().identity());
    // Over the wire and back it is itself.
    let echoed = |client: &Plain| {
        let mut request = keeper.echo_request();
        request.get().set_cap(client.clone().cast_to());
        let response = request.call().unwrap();
        Plain::from_client(response.get().unwrap().get_cap().unwrap().into_client())
    };
    assert!(same(&echoed(&one), &one));
    // Two imports of one object.
    let object = keeper.as_client().resolve().unwrap();
    let again = pair.client.bootstrap_client().resolve().unwrap();
    assert_eq!(object, again);
    assert!(same(&echoed(&keeper.clone().cast_to()), &Plain::from_client(object.clone())));
    // A promise is itself until it is resolved, and then what it resolved to.
    let (promise, fulfiller) = promise_client::<Plain>();
    assert!(same(&promise, &promise.clone()));
    assert!(!same(&promise, &one));
    fulfiller.fulfill(one.clone());
    assert!(same(&promise, &one));
    // Null equals null, and errors their like.
    assert_eq!(Client::null(), Client::default());
    assert_ne!(Client::null(), Client::broken(Error::failed("a")));
    assert_eq!(Client::broken(Error::failed("a")), Client::broken(Error::failed("a")));
    assert_ne!(Client::broken(Error::failed("a")), Client::broken(Error::failed("b")));
    drop((keeper, object, again, one, other, promise));
    pair.finish();
}

#[test]
fn a_server_is_found_behind_its_clients() {
    struct Number(u32);
    impl test_interface::Server for Number {}
    let _watchdog = Watchdog::start();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let own: Plain = pair.client_vat.export(Number(7));
    assert_eq!(unwrap_server::<Number>(&own).unwrap().0, 7);
    assert!(unwrap_server::<Foo<fn(), ()>>(&own).is_none());
    let shared = Arc::new(Number(8));
    let own_shared: Plain = pair.client_vat.export(Arc::clone(&shared));
    assert!(Arc::ptr_eq(&unwrap_server::<Number>(&own_shared).unwrap(), &shared));
    // Behind a promise when it is resolved, and after a trip over the wire.
    let (promise, fulfiller) = promise_client::<Plain>();
    assert!(unwrap_server::<Number>(&promise).is_none());
    fulfiller.fulfill(own.clone());
    assert_eq!(unwrap_server::<Number>(&promise).unwrap().0, 7);
    let mut request = keeper.echo_request();
    request.get().set_cap(own.cast_to());
    let response = request.call().unwrap();
    let echoed = response.get().unwrap().get_cap().unwrap();
    assert_eq!(unwrap_server::<Number>(&echoed).unwrap().0, 7);
    // What is elsewhere is not here.
    assert!(unwrap_server::<Keeper>(&keeper).is_none());
    drop((keeper, response, echoed));
    pair.finish();
}

fn sequence(
    vat: &capnp_threads_core::Vat,
    order: &Order,
    census: &Census,
) -> test_call_order::Client {
    let object = Sequence::new(order, census);
    vat.export_with(object, Concurrency::Serial)
}

/// Threads call one promise while another thread resolves it, to something here
/// or behind a peer: the calls of each thread arrive in order.
#[test]
fn calls_keep_their_order_while_their_promise_resolves() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let end = std::time::Instant::now() + rpc_tests::support::stress_time();
    let mut random = Random::new(5);
    let mut round = 0;
    while std::time::Instant::now() < end || round < 8 {
        round += 1;
        let order = Order::new();
        let target = sequence(&pair.client_vat, &order, &census);
        let (promise, fulfiller) = promise_client::<test_call_order::Client>();
        // What is called: the promise, or what the peer makes of it.
        let (through_peer, by_peer) = (random.one_in(2), random.one_in(2));
        let called = if !through_peer {
            promise.clone()
        } else {
            let mut request = keeper.echo_request();
            request.get().set_cap(promise.clone());
            request.send().pipeline().get_cap()
        };
        // What it becomes: the object, or the object as the peer sends it back.
        let becomes = if !by_peer {
            target.clone()
        } else {
            let mut request = keeper.echo_request();
            request.get().set_cap(target.clone());
            request.send().pipeline().get_cap()
        };
        thread::scope(|scope| {
            for reference in 0..4 {
                let mut reference = OrderedReference::new(called.clone(), reference);
                scope.spawn(move || {
                    let calls: Vec<_> = (0..30).map(|_| reference.send()).collect();
                    calls.iter().for_each(|call| drop(call.wait().unwrap()));
                    // Straight to what it has become by now, if that is known.
                    let resolved = reference.client.as_client().resolve().unwrap();
                    let direct = test_call_order::Client::from_client(resolved);
                    reference.send_through(&direct).wait().unwrap();
                });
            }
            scope.spawn(move || fulfiller.fulfill(becomes));
        });
        order.assert_right(&format!("through the peer {through_peer}, by the peer {by_peer}"));
        assert_eq!(order.arrived(), 4 * 31);
    }
    drop(keeper);
    pair.finish();
    assert_eq!(census.alive(), 0);
}

/// Over three vats, with a promise that the middle one has passed on.
#[test]
fn calls_keep_their_order_over_a_vat_in_the_middle() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let back = Pair::new(Keeper::client);
    let behind: test_more_stuff::Client = back.bootstrap();
    let front = Pair::new(move |_| behind.into_client());
    let keeper: test_more_stuff::Client = front.bootstrap();
    let end = std::time::Instant::now() + rpc_tests::support::stress_time();
    let mut round = 0;
    while std::time::Instant::now() < end || round < 8 {
        round += 1;
        let order = Order::new();
        let target = sequence(&front.client_vat, &order, &census);
        let (promise, fulfiller) = promise_client::<test_call_order::Client>();
        let mut request = keeper.echo_request();
        request.get().set_cap(promise);
        let echo = request.send();
        let mut reference = OrderedReference::new(echo.pipeline().get_cap(), 0);
        let mut calls: Vec<_> = (0..20).map(|_| reference.send()).collect();
        let fulfilling = thread::spawn(move || fulfiller.fulfill(target));
        calls.extend((0..20).map(|_| reference.send()));
        let response = echo.wait().unwrap();
        let returned = response.get().unwrap().get_cap().unwrap();
        calls.extend((0..20).map(|_| reference.send_through(&returned)));
        let resolved = returned.as_client().resolve().unwrap();
        let direct = test_call_order::Client::from_client(resolved);
        calls.extend((0..20).map(|_| reference.send_through(&direct)));
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        fulfilling.join().unwrap();
        order.assert_right("");
        assert_eq!(order.arrived(), 80);
    }
    drop(keeper);
    front.finish();
    back.finish();
    assert_eq!(census.alive(), 0);
}

#[test]
fn a_promise_of_one_connection_may_be_sent_over_another_and_end_with_it() {
    let _watchdog = Watchdog::start();
    let back = Pair::new(Keeper::client);
    let front = Pair::new(Keeper::client);
    let (keeper, other): (test_more_stuff::Client, test_more_stuff::Client) =
        (front.bootstrap(), back.bootstrap());
    // A promise of the back connection that is never resolved.
    let (never, fulfiller) = promise_client::<Plain>();
    let mut request = other.hold_request();
    request.get().set_cap(never);
    request.call().unwrap();
    let held = other.get_held_request().send().pipeline().get_cap();
    let mut waiting = keeper.call_foo_when_resolved_request();
    waiting.get().set_cap(held);
    let waiting = waiting.send();
    until("the call to arrive", || front.server.snapshot().answers >= 1);
    back.client.close();
    // It has been resolved to the promise that we made, which lives.
    fulfiller.fulfill(foo(&front.client_vat, answer_foo));
    let outcome = waiting.wait().map(drop);
    if let Err(error) = outcome {
        assert_eq!(error.kind(), capnp_threads_core::ErrorKind::Disconnected, "{error}");
    }
    drop((keeper, other, waiting));
    settle(&front.client, &front.server);
    front.end();
    back.end();
}

/// Behaviour: pipeline-only call.
#[test]
fn a_pipeline_is_used_without_its_promise() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    for wire in Wire::ALL {
        let handles = census.clone();
        let keeper = |vat: &capnp_threads_core::Vat| {
            let keeper: test_more_stuff::Client = vat.export(Keeper::with_handles(&handles));
            keeper.into_client()
        };
        let pair = Pair::configured(keeper, wire, |config| config, |config| config);
        let keeper: test_more_stuff::Client = pair.bootstrap();
        let mut request = keeper.hold_request();
        request.get().set_cap(plain(&pair.client_vat, &census));
        request.call().unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let held = keeper.get_held_request().send_pipeline_only().get_cap();
                        call_foo(&held).unwrap();
                        call_foo(&held.clone()).unwrap();
                        // Nobody looks.
                        drop(keeper.get_handle_request().send_pipeline_only());
                        let nothing: test_interface::Client =
                            keeper.get_null_request().send_pipeline_only().get_null_cap().cast_to();
                        let error = call_foo(&nothing).unwrap_err();
                        assert!(error.reason().contains("null"), "{error}");
                    }
                });
            }
        });
        drop(keeper);
        // But for what is held, nothing is left of the calls.
        until("the calls to be over", || {
            pair.client.snapshot().questions + pair.server.snapshot().answers == 0
        });
        pair.end();
    }
    until("the objects to go", || census.alive() == 0);
}
