//! Interceptors that do what they should not, or more than is expected.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use capnp_threads_core::interceptors::{
    InterceptedCall, Interceptor, Release, Verdict, delay, intercept,
};
use capnp_threads_core::untyped::Ending;
use capnp_threads_core::{Error, ErrorKind, FromClient, Result, Vat};
use rpc_schema::test_capnp::test_interface;

use super::Site;
use rpc_tests::support::objects::{Interface, call_foo, foo_request};
use rpc_tests::support::{Event, Watchdog};

#[test]
fn a_panic_fails_the_call_and_nothing_else() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let panics = |call: &InterceptedCall<'_>| {
            assert_ne!(call.method().name(), Some("foo"), "on purpose");
            call.on_answer(|_| panic!("on purpose, too"));
            Ok(Verdict::Pass)
        };
        let (pair, client) = site.pair::<test_interface::Client, _>(panics, Interface);
        let error = call_foo(&client).unwrap_err();
        assert_eq!(error.reason(), "an interceptor panicked", "{site:?}");
        for _ in 0..3 {
            let error = client.bar_request().call().map(drop).unwrap_err();
            assert!(error.reason().contains("bar"), "{site:?}: {error}");
        }
        drop(client);
        pair.finish();
    }
}

/// What an interceptor does may come back to it: in the middle of its decision, when a call
/// ends, and when it is dropped.
#[test]
fn an_interceptor_may_call_through_itself() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let slot = Arc::new(Mutex::new(None::<test_interface::Client>));
        let (give, endings) = channel();
        let again = Arc::clone(&slot);
        let calls = move |call: &InterceptedCall<'_>| {
            // Once only, or there would be no end.
            let through = again.lock().unwrap().take();
            if let Some(client) = through {
                let (give, later) = (give.clone(), client.clone());
                let inner = foo_request(&client).send();
                inner.on_resolve(move |outcome| give.send(outcome.map(drop)).unwrap());
                let give = Mutex::new(Some(later));
                call.on_answer(move |_| {
                    let client = give.lock().unwrap().take().unwrap();
                    foo_request(&client).send().on_resolve(|_| ());
                });
            }
            Ok(Verdict::Pass)
        };
        let (pair, client) = site.pair::<test_interface::Client, _>(calls, Interface);
        *slot.lock().unwrap() = Some(client.clone());
        call_foo(&client).unwrap();
        endings.recv().unwrap().unwrap();
        call_foo(&client).unwrap();
        drop((client, slot));
        pair.settle();
        pair.end();
    }
}

/// A release that is used in the middle of a decision about the next call.
#[test]
fn a_call_may_release_the_one_before_it() {
    let _watchdog = Watchdog::start();
    for site in [Site::Object, Site::Reference] {
        let last = Mutex::new(None::<Release>);
        // It decides about the second call only once the first one is released.
        let chain = move |call: &InterceptedCall<'_>| {
            let before = last.lock().unwrap().take();
            if let Some(before) = before {
                before.pass();
            }
            if call.method().name() == Some("bar") {
                return Ok(Verdict::Pass);
            }
            let (delay, release) = delay();
            release.pass();
            let (other, later) = capnp_threads_core::interceptors::delay();
            drop(other);
            *last.lock().unwrap() = Some(later);
            Ok(Verdict::Delay(delay))
        };
        let (pair, client) = site.pair::<test_interface::Client, _>(chain, Interface);
        (0..10).for_each(|_| call_foo(&client).unwrap());
        client.bar_request().call().map(drop).unwrap_err();
        drop(client);
        pair.finish();
    }
}

/// A thread that releases calls may be the only one that does. What it lets go on must not
/// make it wait for itself.
#[test]
fn a_release_does_not_wait_behind_another_delay() {
    let _watchdog = Watchdog::start();
    let (behind, _never) = super::gate("foo");
    let (pair, client) = Site::Outgoing.pair::<test_interface::Client, _>(behind, Interface);
    let (gate, releases) = super::gate("foo");
    let outer = intercept(&client, gate);
    let call = foo_request(&outer).send();
    releases.recv().unwrap().pass();
    let error = call.wait().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    drop((client, outer, call));
    pair.finish();
}

/// What belongs to the application is dropped while no lock of the library is held: its
/// destructor may make calls.
#[test]
fn what_interceptors_own_may_make_calls_when_it_is_dropped() {
    let _watchdog = Watchdog::start();
    struct Calls(test_interface::Client, Event);
    impl Drop for Calls {
        fn drop(&mut self) {
            let dropped = self.1.clone();
            foo_request(&self.0).send().on_resolve(move |_| dropped.set());
        }
    }
    struct Owner(Calls);
    impl Interceptor for Owner {
        fn intercept(&self, call: &InterceptedCall<'_>) -> Result<Verdict> {
            let (delay, release) = delay();
            // The observer owns something as well, and is never needed.
            let owned = Calls(self.0.0.clone(), Event::new());
            call.on_answer(move |ending| {
                assert!(!matches!(ending, Ending::Returned(_)));
                drop(owned);
            });
            drop(release);
            Ok(Verdict::Delay(delay))
        }
    }
    for site in Site::ALL {
        let dropped = Event::new();
        let plain: test_interface::Client = Vat::new().export(Interface);
        let owner = Owner(Calls(plain.clone(), dropped.clone()));
        let (pair, client) = site.pair::<test_interface::Client, _>(owner, Interface);
        call_foo(&client).unwrap_err();
        drop(client);
        pair.end();
        dropped.wait();
    }
}

#[test]
fn interceptors_in_front_of_interceptors_are_all_asked_and_all_end() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let object: test_interface::Client = vat.export(Interface);
    let mut outermost = object.clone();
    for _ in 0..10_000 {
        outermost = intercept(&outermost, |_: &InterceptedCall<'_>| Ok(Verdict::Pass));
    }
    call_foo(&outermost).unwrap();
    // They are dropped one by one, and not on one stack.
    drop(outermost);
    let broken = capnp_threads_core::untyped::promise();
    broken.1.reject(Error::failed("broken"));
    let broken: test_interface::Client = FromClient::from_client(broken.0);
    let same = intercept(&broken, |_: &InterceptedCall<'_>| Ok(Verdict::Pass));
    assert_eq!(same.as_client(), broken.as_client());
}
