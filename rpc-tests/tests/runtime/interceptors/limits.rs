//! The interceptors that come with the library.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capnp_threads_core::interceptors::{ConcurrencyLimit, Interceptor, RateLimit, intercept};
use capnp_threads_core::{ErrorKind, Vat};
use rpc_schema::test_capnp::{test_call_order, test_interface};

use super::Site;
use rpc_tests::support::objects::{
    Foo, FooPromise, Interface, Order, OrderedReference, Sequence, call_foo, foo, foo_request,
};
use rpc_tests::support::{Census, Watchdog, until};

#[test]
fn calls_beyond_a_concurrency_limit_are_refused() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (give, open) = channel();
        let method = move |_: test_interface::FooParams, results: test_interface::FooResults| {
            give.send(results.defer()).unwrap();
            Ok(())
        };
        let limit = ConcurrencyLimit::new(2);
        let (pair, client) =
            site.pair::<test_interface::Client, _>(limit.clone(), Foo::new(method));
        let calls = [foo_request(&client).send(), foo_request(&client).send()];
        let answers = [open.recv().unwrap(), open.recv().unwrap()];
        let error = call_foo(&client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{site:?}: {error}");
        answers.into_iter().for_each(|answer| answer.answer(|_| Ok(())));
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        until("the end of the calls", || format!("{limit:?}").contains("under_way: 0"));
        drop((client, calls));
        pair.finish();
    }
}

#[test]
fn calls_beyond_a_concurrency_limit_wait_in_order() {
    let _watchdog = Watchdog::start();
    for site in Site::DELAYING {
        let (order, census) = (Order::new(), Census::new());
        let limit = ConcurrencyLimit::new(1).queue(1_000);
        let (pair, client) =
            site.pair::<test_call_order::Client, _>(limit.clone(), Sequence::new(&order, &census));
        let mut reference = OrderedReference::new(client, 0);
        let mut calls: Vec<_> = (0..200).map(|_| reference.send()).collect();
        calls.drain(..).for_each(|call| drop(call.wait().unwrap()));
        // Some of those that wait are cancelled, and the others come all the same.
        let calls: Vec<_> = (0..200).map(|_| reference.send()).collect();
        let (kept, cancelled): (Vec<_>, Vec<_>) =
            calls.into_iter().enumerate().partition(|(index, _)| index % 3 == 0);
        drop(cancelled);
        kept.iter().for_each(|(_, call)| drop(call.wait().unwrap()));
        until("the end of the calls", || format!("{limit:?}").contains("under_way: 0, waiting: 0"));
        drop((reference, kept));
        pair.finish();
    }
}

/// A peer could otherwise make any number of methods run by cancelling them.
#[test]
fn a_cancelled_call_counts_until_its_method_has_ended() {
    let _watchdog = Watchdog::start();
    let (give, open) = channel();
    let method = move |_: test_interface::FooParams, results: test_interface::FooResults| {
        give.send(results.defer()).unwrap();
        Ok(())
    };
    let limit = ConcurrencyLimit::new(1);
    let (pair, client) =
        Site::Incoming.pair::<test_interface::Client, _>(limit.clone(), Foo::new(method));
    let call = foo_request(&client).send();
    let answer = open.recv().unwrap();
    drop(call);
    until("the cancellation", || answer.is_cancelled());
    let error = call_foo(&client).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    drop(answer);
    until("the end of the call", || format!("{limit:?}").contains("under_way: 0"));
    drop(client);
    pair.finish();
}

#[test]
fn calls_that_come_too_fast_are_refused() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        // No more than these come in the time of a test.
        let limit = RateLimit::per(1, Duration::from_secs(86_400)).burst(2);
        let (pair, client) = site.pair::<test_interface::Client, _>(limit, Interface);
        call_foo(&client).unwrap();
        call_foo(&client).unwrap();
        let error = call_foo(&client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{site:?}: {error}");
        drop(client);
        pair.finish();
    }
}

#[test]
fn calls_that_come_too_fast_wait_in_order() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (order, census) = (Order::new(), Census::new());
        let limit = RateLimit::per_second(2_000).burst(1).queue(1_000);
        let (pair, client) =
            site.pair::<test_call_order::Client, _>(limit.clone(), Sequence::new(&order, &census));
        let mut reference = OrderedReference::new(client, 0);
        let calls: Vec<_> = (0..40).map(|_| reference.send()).collect();
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        order.assert_right(&format!("{site:?}"));
        until("the queue to empty", || format!("{limit:?}").contains("waiting: 0"));
        drop((reference, calls));
        pair.finish();
    }
}

/// References to one object, with the same limit in front of each: at one reference no more
/// than one call is put to it at a time.
fn references(
    object: &test_interface::Client,
    limit: &(impl Interceptor + Clone),
) -> [test_interface::Client; 4] {
    std::array::from_fn(|_| intercept(object, limit.clone()))
}

/// Makes a call of this number through each of the references.
fn numbered(references: &[test_interface::Client]) -> Vec<FooPromise> {
    let numbered = (0..).zip(references);
    let calls = numbered.map(|(number, reference)| {
        let mut request = reference.foo_request();
        request.get().set_i(number);
        request.send()
    });
    calls.collect()
}

#[test]
fn calls_of_several_references_wait_for_one_concurrency_limit_in_order() {
    let _watchdog = Watchdog::start();
    let limit = ConcurrencyLimit::new(1).queue(3);
    let (give, open) = channel();
    let method = move |params: test_interface::FooParams, results: test_interface::FooResults| {
        give.send((params.get()?.get_i(), results.defer())).unwrap();
        Ok(())
    };
    let vat = Vat::new();
    let mut calls = numbered(&references(&foo(&vat, method), &limit));
    assert!(format!("{limit:?}").contains("under_way: 1, waiting: 3"), "{limit:?}");
    // One that has not begun does not make room by its end.
    drop(calls.remove(1));
    until("its place to be free", || format!("{limit:?}").contains("waiting: 2"));
    for expected in [0, 2, 3] {
        let (number, results) = open.recv().unwrap();
        assert_eq!(number, expected);
        assert!(format!("{limit:?}").contains("under_way: 1"), "{limit:?}");
        assert!(open.try_recv().is_err(), "one at a time");
        results.answer(|_| Ok(()));
    }
    calls.iter().for_each(|call| drop(call.wait().unwrap()));
    until("the end of the calls", || format!("{limit:?}").contains("under_way: 0, waiting: 0"));
}

#[test]
fn calls_of_several_references_wait_for_one_rate_limit_in_order() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let mut time = Duration::from_millis(2);
    loop {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = Arc::clone(&told);
        let object = foo(&vat, move |params, _| {
            tells.lock().unwrap().push(params.get()?.get_i());
            Ok(())
        });
        let limit = RateLimit::per(1, time).queue(3);
        let calls = numbered(&references(&object, &limit));
        let waited = format!("{limit:?}").contains("waiting: 3");
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        if waited {
            assert_eq!(*told.lock().unwrap(), [0, 1, 2, 3]);
            return;
        }
        // The first of them had its turn before the last one came.
        time *= 2;
    }
}

#[test]
fn a_call_that_is_cancelled_while_it_waits_for_a_rate_limit_gives_its_place_back() {
    let _watchdog = Watchdog::start();
    // No more than these come in the time of a test.
    let limit = RateLimit::per(1, Duration::from_secs(86_400)).queue(1);
    let [first, second, third, _] = references(&Vat::new().export(Interface), &limit);
    call_foo(&first).unwrap();
    let waits = foo_request(&second).send();
    assert_eq!(call_foo(&third).unwrap_err().kind(), ErrorKind::Overloaded);
    drop(waits);
    until("its place to be free", || format!("{limit:?}").contains("waiting: 0"));
}

/// One limit may stand at many sites, and calls of one wait for those of another.
#[test]
fn clones_share_a_limit() {
    let _watchdog = Watchdog::start();
    let limit = ConcurrencyLimit::new(1).queue(10);
    let running = Arc::new(Mutex::new(0));
    let method = move |_: test_interface::FooParams, _: test_interface::FooResults| {
        let mut running = running.try_lock().expect("one at a time");
        *running += 1;
        std::thread::yield_now();
        Ok(())
    };
    let worlds: Vec<_> = (0..4)
        .map(|_| {
            Site::Incoming
                .pair::<test_interface::Client, _>(limit.clone(), Foo::new(method.clone()))
        })
        .collect();
    std::thread::scope(|scope| {
        for (_, client) in &worlds {
            scope.spawn(|| (0..50).for_each(|_| drop(foo_request(client).call().unwrap())));
        }
    });
    for (pair, client) in worlds {
        drop(client);
        pair.finish();
    }
}
