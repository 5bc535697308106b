//! One deadline covers a whole call: the wait for room, the sending, and the wait for the
//! answer.

use std::time::{Duration, Instant};

use capnp_threads_core::{Concurrency, Error, ErrorKind, FromClient, Timeout};
use rpc_schema::test_capnp::{test_interface, test_streaming};

use rpc_tests::support::objects::{FooPromise, answer_foo, call_foo, foo_request, foo_with};
use rpc_tests::support::{Event, Pair, Watchdog, until};

/// As many calls as a connection allows by default.
const QUESTIONS: usize = 128;

/// A server whose `foo` waits, and what happens there.
struct Slow {
    pair: Pair,
    client: test_interface::Client,
    /// Lets the methods go on.
    go: Event,
    /// A call was cancelled.
    cancelled: Event,
}

impl Slow {
    fn new() -> Self {
        let (go, cancelled) = (Event::new(), Event::new());
        let (hold, tell) = (go.clone(), cancelled.clone());
        let pair = Pair::new(move |vat| {
            let method = move |params: test_interface::FooParams, results| {
                let tell = tell.clone();
                params.on_cancel(move || tell.set());
                hold.wait();
                answer_foo(params, results)
            };
            foo_with(vat, Concurrency::Concurrent, (), method).into_client()
        });
        let client: test_interface::Client = pair.bootstrap();
        // From here on the bootstrap question is no longer one of them.
        client.as_client().resolve().unwrap();
        until("the bootstrap question to end", || pair.client.snapshot().questions == 0);
        Slow { pair, client, go, cancelled }
    }

    /// Makes calls until there is no room for another one.
    fn fill(&self) -> Vec<FooPromise> {
        let calls: Vec<_> = (0..QUESTIONS).map(|_| foo_request(&self.client).send()).collect();
        assert_eq!(self.pair.client.snapshot().questions, QUESTIONS);
        calls
    }

    /// Lets the methods go on, and checks that there is room for as many calls as ever.
    fn finish(self, calls: Vec<FooPromise>) {
        self.go.set();
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        drop(calls);
        until("questions to end", || self.pair.client.snapshot().questions == 0);
        let calls: Vec<_> = (0..QUESTIONS).map(|_| foo_request(&self.client).send()).collect();
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        drop(calls);
        drop(self.client);
        self.pair.finish();
    }
}

fn assert_unsent(error: &Error) {
    assert!(error.is_timeout(), "{error}");
    assert_eq!((error.timeout(), error.kind()), (Some(Timeout::NeverSent), ErrorKind::Overloaded));
}

/// The errors of ever longer tries, up to the first try whose call was sent.
fn until_sent(mut attempt: impl FnMut(Duration) -> Error) -> Error {
    (0..32)
        .map(|doublings| attempt(Duration::from_millis(1 << doublings)))
        .find(|error| error.timeout() != Some(Timeout::NeverSent))
        .unwrap()
}

#[test]
fn a_deadline_bounds_the_wait_for_room() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let calls = slow.fill();
    for timeout in [Duration::ZERO, Duration::from_millis(1)] {
        assert_unsent(&foo_request(&slow.client).call_timeout(timeout).unwrap_err());
    }
    let error = foo_request(&slow.client).call_deadline(Instant::now()).unwrap_err();
    assert_unsent(&error);
    assert!(error.reason().contains("128 calls are under way"), "{error}");
    assert!(!slow.go.is_set());
    assert_eq!(slow.pair.client.snapshot().questions, QUESTIONS);
    slow.finish(calls);
}

#[test]
fn a_deadline_bounds_the_wait_for_an_answer_and_ends_the_call() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let error = until_sent(|timeout| foo_request(&slow.client).call_timeout(timeout).unwrap_err());
    assert_eq!((error.timeout(), error.kind()), (Some(Timeout::MayHaveRun), ErrorKind::Overloaded));
    // The callee learns of it, though its method still runs.
    slow.cancelled.wait();
    assert!(!slow.go.is_set());
    slow.finish(Vec::new());
}

#[test]
fn a_call_whose_time_is_over_is_not_sent() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    assert_unsent(&foo_request(&slow.client).call_timeout(Duration::ZERO).unwrap_err());
    assert_eq!(slow.pair.client.snapshot().questions, 0);
    slow.go.set();
    foo_request(&slow.client).call_timeout(Duration::MAX).unwrap();
    slow.finish(Vec::new());
}

#[test]
fn a_request_for_which_there_is_no_room_comes_back_whole() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let mut calls = slow.fill();
    let mut request = slow.client.foo_request();
    request.get().set_i(123);
    let Err(mut request) = request.try_send() else { panic!("there is no room") };
    request.get().set_j(true);
    let Err(request) = request.try_send() else { panic!("there is no room") };
    assert!(!slow.go.is_set());
    // Giving up a call makes room.
    drop(calls.pop());
    let mut again = Some(request);
    let mut sent = None;
    until("room for a call", || {
        match again.take().map(capnp_threads_core::Request::try_send) {
            Some(Ok(promise)) => sent = Some(promise),
            Some(Err(request)) => again = Some(request),
            None => {}
        }
        sent.is_some()
    });
    calls.extend(sent);
    slow.finish(calls);
}

#[test]
fn an_ended_connection_refuses_rather_than_gives_back() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let calls = slow.fill();
    slow.pair.client.close();
    let Ok(promise) = foo_request(&slow.client).try_send() else { panic!("it is not full") };
    assert_eq!(promise.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    let error = foo_request(&slow.client).call_timeout(Duration::MAX).unwrap_err();
    assert_eq!((error.kind(), error.timeout()), (ErrorKind::Disconnected, None));
    let error = slow.pair.client.bootstrap_client_timeout(Duration::MAX).unwrap_err();
    assert_eq!((error.kind(), error.timeout()), (ErrorKind::Disconnected, None));
    slow.go.set();
    drop((calls, slow.client));
    slow.pair.end();
}

#[test]
fn a_deadline_bounds_bootstrapping() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let calls = slow.fill();
    let connection = &slow.pair.client;
    let error = connection.bootstrap_timeout::<test_interface::Client>(Duration::ZERO).unwrap_err();
    assert_unsent(&error);
    let restored = connection.restore_timeout::<test_interface::Client>("x", Duration::ZERO);
    assert_unsent(&restored.unwrap_err());
    assert!(!slow.go.is_set());
    slow.go.set();
    calls.iter().for_each(|call| drop(call.wait().unwrap()));
    let client: test_interface::Client = connection.bootstrap_timeout(Duration::MAX).unwrap();
    call_foo(&client).unwrap();
    drop(client);
    slow.finish(calls);
}

#[test]
fn a_stream_without_room_gives_the_request_back_and_its_end_can_be_bounded() {
    let _watchdog = Watchdog::start();
    struct Held(Event);
    impl test_streaming::Server for Held {
        fn do_stream_i(
            &self,
            _: test_streaming::DoStreamIParams,
        ) -> capnp_threads_core::Result<()> {
            self.0.wait();
            Ok(())
        }
    }
    let go = Event::new();
    let held = go.clone();
    let pair =
        Pair::new(move |vat| vat.export::<test_streaming::Client, _>(Held(held)).into_client());
    let client: test_streaming::Client = pair.bootstrap();
    client.as_client().resolve_timeout(Duration::MAX).unwrap();
    let mut sent = 0;
    let mut back = loop {
        let mut request = client.do_stream_i_request();
        request.get().set_i(7);
        match request.try_send().unwrap() {
            None => sent += 1,
            Some(request) => break request,
        }
    };
    assert!(sent > 0);
    back.get().set_i(8);
    let late = client.as_client().finish_stream_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(late.timeout(), Some(Timeout::MayHaveRun));
    assert!(!go.is_set());
    go.set();
    client.as_client().finish_stream_timeout(Duration::MAX).unwrap();
    assert!(back.try_send().unwrap().is_none());
    client.as_client().finish_stream().unwrap();
    drop(client);
    pair.finish();
}

#[test]
fn a_timeout_is_told_from_an_overloaded_callee() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| {
        let method = |_: test_interface::FooParams, _| {
            Err(Error::timed_out(Timeout::MayHaveRun, "what the callee needs is late"))
        };
        foo_with(vat, Concurrency::Serial, (), method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let error = call_foo(&client).unwrap_err();
    assert_eq!((error.kind(), error.timeout()), (ErrorKind::Overloaded, None));
    drop(client);
    pair.finish();
    // A promise that nobody resolves.
    let (promise, _fulfiller) = capnp_threads_core::promise();
    let late = promise.resolve_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(late.timeout(), Some(Timeout::NeverSent));
    let client = test_interface::Client::from_client(promise);
    let late = foo_request(&client).send().wait_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(late.timeout(), Some(Timeout::MayHaveRun));
}
