//! Callers that are not held up by slow callees.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capnp_threads_core::outbox::{Outbox, OutboxConfig, WhenFull};
use capnp_threads_core::reconnect::{
    Backoff, CarriedOut, lazy_auto_reconnect, lazy_auto_reconnect_after,
};
use capnp_threads_core::typed::DeferredResults;
use capnp_threads_core::{Client, Error, ErrorKind, FromClient, Result, Vat, promise_client};
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{answer_foo, foo, foo_request};
use rpc_tests::support::{LONG, Pair, Watchdog, threads_named, until, vat};

type Foo = test_interface::Client;
type Deferred = DeferredResults<test_interface::foo_results::Owned>;

fn config(when_full: WhenFull, waiting: usize, under_way: usize) -> OutboxConfig {
    let mut config = OutboxConfig::new(when_full);
    (config.waiting, config.under_way) = (waiting, under_way);
    config
}

/// A listener that answers when the test does. It gives the number it was told.
fn listener() -> (Pair, Foo, Receiver<(u32, Deferred)>) {
    let (give, take) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let method = move |params: test_interface::FooParams,
                           results: test_interface::FooResults| {
            // The receiver is gone when a test has ended.
            let _ = give.send((params.get()?.get_i(), results.defer()));
            Ok(())
        };
        foo(vat, method).into_client()
    });
    let client = pair.bootstrap();
    (pair, client, take)
}

fn post(client: &Foo, outbox: &Outbox, number: u32) -> Result<()> {
    let mut request = client.foo_request();
    request.get().set_i(number);
    request.post(outbox)
}

fn answer((number, results): (u32, Deferred)) -> u32 {
    results.answer(|_| Ok(()));
    number
}

#[test]
fn calls_wait_their_turn_and_arrive_in_order() {
    let _watchdog = Watchdog::start();
    let (pair, client, calls) = listener();
    let outbox = Outbox::new(&client, config(WhenFull::DropOldest, 100, 2));
    for number in 0..50 {
        post(&client, &outbox, number).unwrap();
    }
    assert_eq!(outbox.waiting(), 48);
    for number in 0..50 {
        assert_eq!(answer(calls.recv().unwrap()), number);
    }
    assert!(outbox.finish(LONG).unwrap());
    assert_eq!((outbox.dropped(), outbox.failed(), outbox.failure()), (0, 0, None));
    drop((client, outbox));
    pair.finish();
}

#[test]
fn a_listener_that_never_answers_costs_its_caller_nothing() {
    let _watchdog = Watchdog::start();
    let (pair, client, calls) = listener();
    let outbox = Outbox::new(&client, config(WhenFull::DropOldest, 3, 1));
    for number in 0..100 {
        post(&client, &outbox, number).unwrap();
    }
    assert_eq!((outbox.waiting(), outbox.dropped()), (3, 96));
    assert!(!outbox.finish(Duration::from_millis(1)).unwrap());
    // What is left are the latest.
    let arrived: Vec<_> = (0..3).map(|_| answer(calls.recv().unwrap())).collect();
    assert_eq!(arrived, [0, 97, 98]);
    // Then nothing waits, but one is under way.
    let last = calls.recv().unwrap();
    assert_eq!(outbox.waiting(), 0);
    assert!(!outbox.finish(Duration::from_millis(1)).unwrap());
    assert_eq!(answer(last), 99);
    assert!(outbox.finish(LONG).unwrap());
    drop((client, outbox));
    pair.finish();
}

#[test]
fn a_listener_that_is_too_slow_may_be_given_up() {
    let _watchdog = Watchdog::start();
    let (pair, client, calls) = listener();
    let outbox = Outbox::new(&client, config(WhenFull::DropCapability, 2, 1));
    for number in 0..3 {
        post(&client, &outbox, number).unwrap();
    }
    let error = post(&client, &outbox, 3).unwrap_err();
    assert_eq!((error.kind(), error.carried_out()), (ErrorKind::Overloaded, CarriedOut::No));
    assert_eq!(outbox.failure(), Some(error));
    assert!(post(&client, &outbox, 4).is_err());
    assert!(outbox.finish(LONG).is_err());
    // What was sent is answered, and nothing follows.
    assert_eq!(answer(calls.recv().unwrap()), 0);
    assert_eq!(outbox.waiting(), 0);
    // Others may go on with the capability.
    let call = foo_request(&client).send();
    assert_eq!(answer(calls.recv().unwrap()), 123);
    call.wait().unwrap();
    drop((client, outbox));
    pair.finish();
}

#[test]
fn a_caller_may_wait_for_room() {
    let _watchdog = Watchdog::start();
    let (pair, client, calls) = listener();
    let outbox = Outbox::new(&client, config(WhenFull::Wait, 1, 1));
    let posting = std::thread::spawn({
        let (client, outbox) = (client.clone(), outbox.clone());
        move || (0..20).try_for_each(|number| post(&client, &outbox, number))
    });
    for number in 0..20 {
        assert_eq!(answer(calls.recv().unwrap()), number);
    }
    posting.join().unwrap().unwrap();
    assert!(outbox.finish(LONG).unwrap());
    // Whoever waits when the listener is given up is told.
    for number in 0..2 {
        post(&client, &outbox, number).unwrap();
    }
    let posting = std::thread::spawn({
        let (client, outbox) = (client.clone(), outbox.clone());
        move || post(&client, &outbox, 2)
    });
    outbox.close(Error::failed("enough"));
    assert_eq!(posting.join().unwrap().unwrap_err().reason(), "enough");
    drop((client, outbox, calls));
    pair.end();
}

#[test]
fn a_listener_whose_connection_ends_is_given_up_at_once() {
    let _watchdog = Watchdog::start();
    // Whether or not anything is under way.
    for under_way in [0, 1] {
        let (pair, client, calls) = listener();
        let outbox = Outbox::new(&client, config(WhenFull::DropOldest, 10, 1));
        if under_way == 1 {
            for number in 0..5 {
                post(&client, &outbox, number).unwrap();
            }
            let (_, _never) = calls.recv().unwrap();
            pair.server.close();
        } else {
            pair.server.close();
        }
        until("it is given up", || outbox.failure().is_some());
        assert_eq!(outbox.failure().unwrap().kind(), ErrorKind::Disconnected);
        assert_eq!(outbox.waiting(), 0);
        assert_eq!(post(&client, &outbox, 9).unwrap_err().carried_out(), CarriedOut::No);
        pair.end();
    }
}

#[test]
fn promises_that_break_and_capabilities_that_come_back() {
    let _watchdog = Watchdog::start();
    let (promised, fulfiller) = promise_client::<Foo>();
    let outbox = Outbox::new(&promised, config(WhenFull::DropOldest, 10, 1));
    post(&promised, &outbox, 1).unwrap();
    fulfiller.reject(Error::failed("never mind"));
    until("it is given up", || outbox.failure().is_some());
    assert_eq!(outbox.failure().unwrap().reason(), "never mind");

    // One that is connected anew is not lost when a connection is.
    let vat = Vat::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let (tells, own) = (Arc::clone(&told), vat.clone());
    let (client, control) = lazy_auto_reconnect(move || -> Result<Foo> {
        let tells = Arc::clone(&tells);
        Ok(foo(&own, move |params, _| {
            let number = params.get()?.get_i();
            tells.lock().unwrap().push(number);
            if number == 1 { Err(Error::disconnected("on purpose")) } else { Ok(()) }
        }))
    });
    let outbox = Outbox::new(&client, config(WhenFull::DropOldest, 10, 1));
    for number in 0..3 {
        post(&client, &outbox, number).unwrap();
    }
    assert!(outbox.finish(LONG).unwrap());
    assert_eq!((outbox.failed(), control.generation()), (1, 2));
    assert_eq!(*told.lock().unwrap(), [0, 1, 2]);
}

#[test]
fn a_capability_that_is_connected_anew_keeps_its_outbox_when_a_connection_ends() {
    let _watchdog = Watchdog::start();
    let (first, client, calls) = listener();
    let (second, next, later_calls) = listener();
    let clients = Mutex::new(vec![next, client]);
    let (client, _control) = lazy_auto_reconnect_after(Backoff::NONE, move || {
        let next = clients.lock().unwrap().pop();
        next.ok_or_else(|| Error::failed("there is no third one"))
    });
    let call = foo_request(&client).send();
    answer(calls.recv().unwrap());
    call.wait().unwrap();
    // The outbox is told of the end by a worker of this vat.
    let vat = vat("outbox");
    let (give, made) = mpsc::channel();
    let own = client.clone();
    let maker = foo(&vat, move |_, _| {
        give.send(Outbox::new(&own, config(WhenFull::DropOldest, 10, 1))).unwrap();
        Ok(())
    });
    foo_request(&maker).call().unwrap();
    let outbox = made.recv().unwrap();
    first.end();
    post(&client, &outbox, 1).unwrap();
    assert_eq!(answer(later_calls.recv().unwrap()), 1);
    assert!(outbox.finish(LONG).unwrap());
    drop(maker);
    assert!(vat.shutdown(LONG).unwrap());
    assert_eq!((outbox.failed(), outbox.failure()), (0, None));
    drop((client, call, outbox));
    second.end();
}

#[test]
fn a_request_for_another_capability_is_refused() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let (one, other) = (foo(&vat, answer_foo), foo(&vat, answer_foo));
    let outbox = Outbox::new(&one, config(WhenFull::Wait, 1, 1));
    assert!(post(&other, &outbox, 1).unwrap_err().reason().contains("another capability"));
    let null = Outbox::new(&Client::null(), config(WhenFull::Wait, 1, 1));
    null.post(0, 0, capnp_threads_core::untyped::Payload::empty().clone()).unwrap();
    assert!(null.finish(LONG).unwrap());
    assert_eq!(null.failed(), 1);
}

#[test]
fn two_hundred_listeners_of_whom_none_answers_take_no_thread() {
    let _watchdog = Watchdog::start();
    let (pair, client, calls) = listener();
    let outboxes: Vec<_> =
        (0..200).map(|_| Outbox::new(&client, config(WhenFull::DropOldest, 2, 1))).collect();
    let before = threads_named("");
    for number in 0..10 {
        for outbox in &outboxes {
            post(&client, outbox, number).unwrap();
        }
    }
    // Beyond the limit of the connection, and with nobody who waits.
    let held: Vec<_> = (0..200).map(|_| calls.recv().unwrap()).collect();
    assert!(threads_named("") < before + 50, "{} threads", threads_named(""));
    drop(held);
    drop((outboxes, calls));
    pair.end();
}
