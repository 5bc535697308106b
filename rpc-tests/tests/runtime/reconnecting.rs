//! Capabilities that are connected anew when they were disconnected.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capnp_threads_core::reconnect::{
    Backoff, ReconnectControl, auto_reconnect, lazy_auto_reconnect, lazy_auto_reconnect_after,
};
use capnp_threads_core::{Client, Error, ErrorKind, FromClient, Result, Vat, promise_client};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};

use rpc_tests::support::objects::{
    Keeper, Order, OrderedReference, Sequence, answer_foo, call_foo, foo, foo_request,
};
use rpc_tests::support::{Census, Event, LONG, Pair, Watchdog, until};

type Foo = test_interface::Client;

/// Objects of successive generations, and how often one was asked for.
#[derive(Clone, Default)]
struct Source {
    connects: Arc<AtomicU64>,
}

impl Source {
    fn connects(&self) -> u64 {
        self.connects.load(Ordering::SeqCst)
    }

    /// Connects to an object that answers with the number of its generation, or
    /// fails as disconnected when `i` is zero.
    fn connect(&self, vat: &Vat) -> impl Fn() -> Result<Foo> + Send + Sync + use<> {
        let (source, vat) = (self.clone(), vat.clone());
        move || {
            let number = source.connects.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(foo(&vat, move |params, mut results| {
                if params.get()?.get_i() == 0 {
                    return Err(Error::disconnected("on purpose"));
                }
                results.get().set_x(format!("{number}"));
                Ok(())
            }))
        }
    }
}

fn ask(client: &Foo) -> Result<String> {
    Ok(foo_request(client).call()?.get()?.get_x()?.to_string()?)
}

fn disconnect(client: &Foo) {
    let error = client.foo_request().call().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
}

/// The object itself, or as a peer sees it.
fn each(test: impl Fn(&Foo, &Source, &ReconnectControl), lazy: bool) {
    let _watchdog = Watchdog::start();
    let make = |vat: &Vat| {
        let source = Source::default();
        let connect = source.connect(vat);
        let (client, control) =
            if lazy { lazy_auto_reconnect(connect) } else { auto_reconnect(connect) };
        (client, source, control)
    };
    let vat = Vat::new();
    let (client, source, control) = make(&vat);
    test(&client, &source, &control);

    let mut made = None;
    let pair = Pair::new(|vat| {
        let (client, source, control) = make(vat);
        made = Some((source, control));
        client.into_client()
    });
    let (source, control) = made.unwrap();
    test(&pair.bootstrap(), &source, &control);
    pair.finish();
}

#[test]
fn automatic_directly_and_through_rpc() {
    each(
        |client, source, _| {
            until("the first connecting", || source.connects() == 1);
            assert_eq!(ask(client).unwrap(), "1");
            disconnect(client);
            assert_eq!(source.connects(), 1, "it waits for the next call");
            assert_eq!(ask(client).unwrap(), "2");
            assert_eq!(ask(client).unwrap(), "2");
            disconnect(client);
            disconnect(client);
            assert_eq!(ask(client).unwrap(), "4");
        },
        false,
    );
}

#[test]
fn lazy_directly_and_through_rpc() {
    each(
        |client, source, control| {
            assert_eq!(source.connects(), 0);
            assert_eq!(control.generation(), 0);
            assert_eq!(ask(client).unwrap(), "1");
            disconnect(client);
            assert_eq!(source.connects(), 1);
            assert_eq!(ask(client).unwrap(), "2");
        },
        true,
    );
}

#[test]
fn with_a_reset_control_directly_and_through_rpc() {
    each(
        |client, source, control| {
            control.reset();
            assert_eq!(source.connects(), 0);
            assert_eq!(ask(client).unwrap(), "1");
            control.reset();
            control.reset();
            assert_eq!(source.connects(), 1);
            assert_eq!(ask(client).unwrap(), "2");
            assert_eq!(control.generation(), 2);
        },
        true,
    );
}

/// However many calls fail together.
#[test]
fn one_reconnect_per_generation() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let open = Event::new();
    let (connects, gate) = (Arc::new(AtomicU64::new(0)), open.clone());
    let counter = Arc::clone(&connects);
    let (client, _control) = lazy_auto_reconnect(move || -> Result<Foo> {
        let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
        let gate = gate.clone();
        Ok(foo(&vat, move |params, results| {
            if first {
                gate.wait();
                return Err(Error::disconnected("all of them"));
            }
            answer_foo(params, results)
        }))
    });
    // These are in flight when the connection is lost, and fail.
    let calls: Vec<_> = (0..50).map(|_| foo_request(&client).send()).collect();
    std::thread::scope(|scope| {
        for call in &calls {
            scope.spawn(|| {
                let error = call.wait().map(drop).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Disconnected);
                // Some of these come before the other failures are seen.
                call_foo(&client).unwrap_or_else(|error| {
                    assert_eq!(error.reason(), "all of them");
                });
            });
        }
        open.set();
    });
    call_foo(&client).unwrap();
    assert_eq!(connects.load(Ordering::SeqCst), 2);
}

#[test]
fn calls_wait_for_the_connecting_in_order() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let (order, census, open) = (Order::new(), Census::new(), Event::new());
    let (sequence, gate) = (order.clone(), open.clone());
    let (client, _control) = lazy_auto_reconnect(move || -> Result<test_call_order::Client> {
        gate.wait();
        Ok(vat.export(Sequence::new(&sequence, &census)))
    });
    let mut reference = OrderedReference::new(client, 0);
    let mut calls: Vec<_> = (0..10).map(|_| reference.send()).collect();
    open.set();
    calls.extend((0..10).map(|_| reference.send()));
    for call in calls {
        call.wait().unwrap();
    }
    order.assert_right("while it is connected");
    assert_eq!(order.arrived(), 20);
}

/// Then the calls that wait for it fail, and the next one tries again.
#[test]
fn connecting_may_fail_and_panic() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let attempts = AtomicU64::new(0);
    let (client, control) = lazy_auto_reconnect(move || -> Result<Foo> {
        match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Error::failed("nobody is there")),
            1 => panic!("on purpose"),
            _ => Ok(foo(&vat, answer_foo)),
        }
    });
    assert_eq!(call_foo(&client).unwrap_err().reason(), "nobody is there");
    assert!(call_foo(&client).unwrap_err().reason().contains("panicked"));
    call_foo(&client).unwrap();
    assert_eq!(control.generation(), 3);
}

/// A real connection: what is under way fails, and the next call does not even
/// notice.
#[test]
fn a_call_after_the_connection_ended_takes_the_next_one() {
    let _watchdog = Watchdog::start();
    let pairs: Arc<Mutex<Vec<Pair>>> = Arc::default();
    let made = Arc::clone(&pairs);
    let (client, control) = lazy_auto_reconnect(move || -> Result<test_more_stuff::Client> {
        let pair = Pair::new(Keeper::client);
        let client = pair.bootstrap();
        made.lock().unwrap().push(pair);
        Ok(client)
    });
    for round in 1..=3 {
        // Something that does not come back by itself: a call of ours in a promise.
        let (promise, _fulfiller) = promise_client::<Foo>();
        let mut request = client.call_foo_request();
        request.get().set_cap(promise);
        let call = request.send();
        let pair = {
            until("the connection", || pairs.lock().unwrap().len() == 1);
            pairs.lock().unwrap().pop().unwrap()
        };
        assert_eq!(control.generation(), round);
        pair.server.close();
        assert_eq!(call.wait().map(drop).unwrap_err().kind(), ErrorKind::Disconnected);
        assert!(pair.client.join_timeout(LONG).unwrap());
        pair.end();
    }
    // Nobody was told yet that the last one has ended.
    let cap: Foo = foo(Vat::global(), answer_foo);
    let mut request = client.call_foo_request();
    request.get().set_cap(cap);
    assert_eq!(request.call().unwrap().get().unwrap().get_s().unwrap(), "bar");
    let pair = pairs.lock().unwrap().pop().unwrap();
    pair.server.close();
    assert!(pair.client.join_timeout(LONG).unwrap());
    // Not one call has failed.
    let mut request = client.call_foo_request();
    request.get().set_cap(foo(Vat::global(), answer_foo));
    assert_eq!(request.call().unwrap().get().unwrap().get_s().unwrap(), "bar");
    pair.end();
    let last = pairs.lock().unwrap().pop().unwrap();
    drop(client);
    drop(control);
    last.finish();
}

#[test]
fn connected_to_itself_it_fails() {
    let _watchdog = Watchdog::start();
    let own: Arc<Mutex<Option<Foo>>> = Arc::default();
    let found = Arc::clone(&own);
    let (client, _control) =
        lazy_auto_reconnect(move || -> Result<Foo> { Ok(found.lock().unwrap().clone().unwrap()) });
    *own.lock().unwrap() = Some(client.clone());
    assert_eq!(call_foo(&client).unwrap_err().reason(), "a promise was resolved to itself");
    *own.lock().unwrap() = None;
}

#[test]
fn it_is_one_capability_whatever_it_is_connected_to() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let source = Source::default();
    let (client, control) = lazy_auto_reconnect(source.connect(&vat));
    let same = client.clone();
    assert_eq!(ask(&client).unwrap(), "1");
    control.reset();
    assert_eq!(ask(&same).unwrap(), "2");
    assert_eq!(client.as_client(), same.as_client());
    assert!(!client.as_client().is_unresolved());
    assert_ne!(client.as_client(), &Client::null());
}

const AN_HOUR: Backoff = Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600));

/// Connects to a peer that hangs up at once, and counts.
fn hanging_up(connects: &Arc<AtomicU64>) -> impl Fn() -> Result<Foo> + Send + Sync + use<> {
    let connects = Arc::clone(connects);
    move || {
        connects.fetch_add(1, Ordering::SeqCst);
        Ok(Foo::from_client(Client::broken(Error::disconnected("hung up"))))
    }
}

#[test]
fn a_server_that_hangs_up_for_ever_is_not_besieged() {
    let _watchdog = Watchdog::start();
    let connects = Arc::new(AtomicU64::new(0));
    let (client, control) = lazy_auto_reconnect_after(AN_HOUR, hanging_up(&connects));
    assert_eq!(call_foo(&client).unwrap_err().reason(), "hung up");
    // From here on calls wait for the end of the pause.
    for _ in 0..20 {
        let error = foo_request(&client).call_timeout(Duration::from_millis(1)).map(drop);
        assert!(error.unwrap_err().is_timeout());
    }
    assert_eq!(connects.load(Ordering::SeqCst), 1);
    // Unless somebody knows better.
    let waiting = foo_request(&client).send();
    control.reset();
    assert_eq!(call_foo(&client).unwrap_err().reason(), "hung up");
    assert_eq!(connects.load(Ordering::SeqCst), 2);
    drop((waiting, client, control));
}

#[test]
fn after_a_pause_it_is_tried_again_for_those_who_wait() {
    let _watchdog = Watchdog::start();
    let connects = Arc::new(AtomicU64::new(0));
    let soon = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
    let (client, _control) = lazy_auto_reconnect_after(soon, hanging_up(&connects));
    for attempt in 1..=10 {
        assert_eq!(call_foo(&client).unwrap_err().reason(), "hung up");
        assert_eq!(connects.load(Ordering::SeqCst), attempt);
    }
}

#[test]
fn a_connection_that_was_good_is_replaced_at_once() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let source = Source::default();
    let (client, _control) = lazy_auto_reconnect_after(AN_HOUR, source.connect(&vat));
    for generation in 1..=3 {
        assert_eq!(ask(&client).unwrap(), generation.to_string());
        disconnect(&client);
    }
    assert_eq!(source.connects(), 3);
}

#[test]
fn a_pause_ends_when_nobody_waits_for_what_follows() {
    let _watchdog = Watchdog::start();
    let connects = Arc::new(AtomicU64::new(0));
    let census = Census::new();
    let (connect, counted) = (hanging_up(&connects), census.count());
    let (client, control) = lazy_auto_reconnect_after(AN_HOUR, move || {
        let _counted = &counted;
        connect()
    });
    assert!(call_foo(&client).is_err());
    let waiting = foo_request(&client).send();
    drop((client, control));
    assert!(waiting.try_response().is_none());
    drop(waiting);
    until("the attempt to be forgotten", || census.alive() == 0);
}
