//! Calls that are made again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use capnp_threads_core::reconnect::{Backoff, CarriedOut, Retry};
use capnp_threads_core::{Client, Error, ErrorKind, FromClient, Result, Vat};
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{answer_foo, call_foo, foo, foo_request};
use rpc_tests::support::{Event, Pair, Watchdog};

fn at_once() -> Retry {
    Retry::new().attempts(5).backoff(Backoff::NONE)
}

/// Calls an object that fails with each of these errors once. Returns how often it was
/// called.
fn attempts(retry: Retry, errors: &[Error]) -> (Result<()>, u32) {
    let (errors, count) = (errors.to_vec(), Arc::new(AtomicU32::new(0)));
    let counter = Arc::clone(&count);
    let vat = Vat::new();
    let client = foo(&vat, move |params, results| {
        let attempt = counter.fetch_add(1, Ordering::SeqCst) as usize;
        match errors.get(attempt) {
            Some(error) => Err(error.clone()),
            None => answer_foo(params, results),
        }
    });
    let outcome = retry.call(|| call_foo(&client));
    (outcome, count.load(Ordering::SeqCst))
}

#[test]
fn a_call_that_was_refused_is_made_again_and_others_only_if_they_may_be() {
    let _watchdog = Watchdog::start();
    let busy = Error::overloaded("busy");
    let gone = Error::disconnected("a peer of the callee is gone");
    let wrong = Error::failed("wrong");
    let cases = [
        (at_once(), vec![busy.clone(), busy.clone()], 3, None),
        (at_once(), vec![gone.clone()], 1, Some(ErrorKind::Disconnected)),
        (at_once().idempotent(), vec![gone.clone(), busy.clone()], 3, None),
        (at_once().idempotent(), vec![wrong.clone()], 1, Some(ErrorKind::Failed)),
        (at_once().idempotent(), vec![gone.clone(); 9], 5, Some(ErrorKind::Disconnected)),
        (at_once().attempts(0), vec![busy.clone()], 1, Some(ErrorKind::Overloaded)),
        (at_once().within(Duration::ZERO), vec![busy.clone()], 1, Some(ErrorKind::Overloaded)),
        // A pause that would end too late is not begun.
        (
            Retry::new()
                .backoff(Backoff::new(Duration::MAX, Duration::MAX))
                .within(Duration::from_secs(9)),
            vec![busy],
            1,
            Some(ErrorKind::Overloaded),
        ),
    ];
    for (retry, errors, expected, kind) in cases {
        let (outcome, made) = attempts(retry, &errors);
        assert_eq!(made, expected, "{retry:?} {errors:?}");
        assert_eq!(outcome.err().map(|error| error.kind()), kind, "{retry:?} {errors:?}");
    }
}

#[test]
fn a_call_that_was_cut_off_is_made_again_only_if_it_may_be() {
    let _watchdog = Watchdog::start();
    for (retry, expected) in [(at_once(), 1), (at_once().idempotent(), 2)] {
        let (begun, go_on) = (Event::new(), Event::new());
        let (tell, wait) = (begun.clone(), go_on.clone());
        let pair = Pair::new(|vat| {
            let method = move |params, results| {
                tell.set();
                wait.wait();
                answer_foo(params, results)
            };
            foo(vat, method).into_client()
        });
        let client: test_interface::Client = pair.bootstrap();
        let mut made = 0;
        let outcome = retry.call(|| {
            made += 1;
            if made == 2 {
                return Ok(());
            }
            let call = foo_request(&client).send();
            begun.wait();
            pair.client.close();
            call.wait().map(drop)
        });
        assert_eq!(made, expected);
        assert_eq!(outcome.is_ok(), expected == 2);
        go_on.set();
        pair.end();
    }
}

#[test]
fn a_call_that_has_not_begun_is_made_again() {
    let _watchdog = Watchdog::start();
    let broken = test_interface::Client::from_client(Client::broken(Error::disconnected("gone")));
    let mut made = 0;
    let error = at_once().call(|| {
        made += 1;
        call_foo(&broken)
    });
    assert_eq!(error.unwrap_err().carried_out(), CarriedOut::No);
    assert_eq!(made, 5);
}

#[test]
fn a_method_that_is_cancelled_does_not_wait_for_the_next_attempt() {
    let _watchdog = Watchdog::start();
    let (begun, ended) = (Event::new(), Event::new());
    let (tell, told) = (begun.clone(), ended.clone());
    let pair = Pair::new(|vat| {
        let method = move |params: test_interface::FooParams, _: test_interface::FooResults| {
            params.allow_cancellation();
            let pause = Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600));
            let outcome = Retry::new().backoff(pause).call(|| -> Result<()> {
                tell.set();
                Err(Error::overloaded("for ever"))
            });
            assert!(outcome.as_ref().is_err_and(Error::is_cancellation));
            told.set();
            outcome
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let call = foo_request(&client).send();
    begun.wait();
    drop(call);
    ended.wait();
    drop(client);
    pair.finish();
}
