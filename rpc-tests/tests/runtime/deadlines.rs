//! One deadline covers a whole call: the wait for room, the sending, and the wait for the
//! answer.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use capnp_threads_core::membrane::revocable;
use capnp_threads_core::reconnect::auto_reconnect;
use capnp_threads_core::vat::VatConfig;
use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, Error, ErrorKind, FromClient, Result, RpcSystem,
    Timeout, Vat, promise_client,
};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::{test_interface, test_streaming};

use rpc_tests::support::objects::{self, FooPromise, answer_foo, call_foo, foo_request, foo_with};
use rpc_tests::support::{Event, LONG, Pair, Watchdog, Wire, until};

/// As many calls as a connection allows by default.
const QUESTIONS: usize = 128;

/// A default deadline that comes soon. A call may not even be sent by then.
const SOON: Duration = Duration::from_millis(1);

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
        Self::configured(|config| config)
    }

    fn configured(of_client: impl FnOnce(ConnConfig) -> ConnConfig) -> Self {
        let (go, cancelled) = (Event::new(), Event::new());
        let (hold, tell) = (go.clone(), cancelled.clone());
        let object = |vat: &Vat| slow_foo(vat, hold, tell).into_client();
        let pair = Pair::configured(object, Wire::Memory, of_client, |config| config);
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
        let client = self.client.with_timeout(Duration::MAX);
        let calls: Vec<_> = (0..QUESTIONS).map(|_| foo_request(&client).send()).collect();
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        drop((calls, client));
        drop(self.client);
        self.pair.finish();
    }
}

/// An object whose `foo` waits.
fn slow_foo(vat: &Vat, go: Event, cancelled: Event) -> test_interface::Client {
    let method = move |params: test_interface::FooParams, results| {
        let cancelled = cancelled.clone();
        params.on_cancel(move || cancelled.set());
        go.wait();
        answer_foo(params, results)
    };
    foo_with(vat, Concurrency::Concurrent, (), method)
}

/// The outcome of a call for which no thread waits inside the library.
fn outcome<R: 'static>(promise: &capnp_threads_core::Promise<R>) -> Result<()> {
    let (tell, told) = mpsc::channel();
    promise.on_resolve(move |outcome| tell.send(outcome.map(drop)).unwrap());
    told.recv().unwrap()
}

/// Makes calls until one was sent and has ended without an answer.
fn end_one(client: &test_interface::Client) -> Error {
    until_sent(|_| outcome(&foo_request(client).send()).unwrap_err())
}

/// A call that goes on while a later one is ended by the default.
fn outlives_the_default(slow: Slow, call: FooPromise, client: test_interface::Client) {
    until("the call to be sent", || slow.pair.client.snapshot().questions == 1);
    assert_eq!(end_one(&client).timeout(), Some(Timeout::MayHaveRun));
    assert!(call.try_response().is_none());
    slow.go.set();
    call.wait().unwrap();
    drop((call, client));
    slow.finish(Vec::new());
}

fn assert_unsent(error: &Error) {
    assert!(error.is_timeout(), "{error}");
    assert_eq!((error.timeout(), error.kind()), (Some(Timeout::NeverSent), ErrorKind::Overloaded));
}

/// The errors of ever longer tries, up to the first try whose call was sent.
fn until_sent(mut attempt: impl FnMut(Duration) -> Error) -> Error {
    let mut timeout = Duration::from_millis(1);
    loop {
        let error = attempt(timeout);
        if error.timeout() != Some(Timeout::NeverSent) {
            return error;
        }
        timeout = timeout.saturating_mul(2);
    }
}

/// The error of the last of ever longer tries, up to the one after which a callee knows
/// that a call was cancelled. The callee does not learn of a call whose time is over before
/// its method begins, since that does not run.
fn until_noticed(cancelled: &Event, mut attempt: impl FnMut(Duration) -> Error) -> Error {
    let mut timeout = Duration::from_millis(1);
    loop {
        let error = attempt(timeout);
        assert!(error.is_timeout(), "{error}");
        if error.timeout() == Some(Timeout::MayHaveRun) && cancelled.is_set() {
            return error;
        }
        timeout = timeout.saturating_mul(2);
    }
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
    // The callee learns of it, though its method still runs.
    let error = until_noticed(&slow.cancelled, |timeout| {
        foo_request(&slow.client).call_timeout(timeout).unwrap_err()
    });
    assert_eq!((error.timeout(), error.kind()), (Some(Timeout::MayHaveRun), ErrorKind::Overloaded));
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

/// A server of which no streaming call returns before `go`.
struct SlowStream {
    pair: Pair,
    client: test_streaming::Client,
    go: Event,
}

struct Held(Event);

impl test_streaming::Server for Held {
    fn do_stream_i(&self, _: test_streaming::DoStreamIParams) -> Result<()> {
        self.0.wait();
        Ok(())
    }
}

impl SlowStream {
    fn new(of_client: impl FnOnce(ConnConfig) -> ConnConfig) -> Self {
        let go = Event::new();
        let held = Held(go.clone());
        let object = |vat: &Vat| vat.export::<test_streaming::Client, _>(held).into_client();
        let pair = Pair::configured(object, Wire::Memory, of_client, |config| config);
        let client: test_streaming::Client = pair.bootstrap();
        client.as_client().resolve_timeout(Duration::MAX).unwrap();
        SlowStream { pair, client, go }
    }

    fn finish(self) {
        self.go.set();
        drop(self.client);
        self.pair.finish();
    }
}

#[test]
fn a_stream_without_room_gives_the_request_back_and_its_end_can_be_bounded() {
    let _watchdog = Watchdog::start();
    let SlowStream { pair, client, go } = SlowStream::new(|config| config);
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
    let (promise, _fulfiller) = capnp_threads_core::untyped::promise();
    let late = promise.resolve_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(late.timeout(), Some(Timeout::NeverSent));
    let client = test_interface::Client::from_client(promise);
    let late = foo_request(&client).send().wait_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(late.timeout(), Some(Timeout::MayHaveRun));
}

#[test]
fn a_call_that_nobody_waits_for_ends_in_time() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let error = until_noticed(&slow.cancelled, |timeout| {
        outcome(&foo_request(&slow.client).send_timeout(timeout)).unwrap_err()
    });
    assert_eq!((error.timeout(), error.kind()), (Some(Timeout::MayHaveRun), ErrorKind::Overloaded));
    until("the question to end", || slow.pair.client.snapshot().questions == 0);
    assert!(!slow.go.is_set());
    // There was no time at all.
    let call = foo_request(&slow.client).send_timeout(Duration::ZERO);
    assert_unsent(&call.wait().unwrap_err());
    assert_unsent(&foo_request(&slow.client).send_deadline(Instant::now()).wait().unwrap_err());
    assert_eq!(slow.pair.client.snapshot().questions, 0);
    slow.finish(Vec::new());
}

/// `ping` and `next` wait.
struct SlowEcho(Event, Event);

impl echo::Server for SlowEcho {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        self.0.wait();
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        self.1.wait();
        results.get().set_echo(echo::Client::from_server(objects::Quick));
        Ok(())
    }
}

/// A server with a [`SlowEcho`]: `pinged` lets `ping` go on, and `next` the other.
fn slow_echo(
    of_client: impl FnOnce(ConnConfig) -> ConnConfig,
    pinged: &Event,
    next: &Event,
) -> (Pair, echo::Client) {
    let server = SlowEcho(pinged.clone(), next.clone());
    let object = |vat: &Vat| {
        vat.export_with::<echo::Client, _>(server, Concurrency::Concurrent).into_client()
    };
    let pair = Pair::configured(object, Wire::Memory, of_client, |config| config);
    let client: echo::Client = pair.bootstrap();
    client.as_client().resolve().unwrap();
    (pair, client)
}

#[test]
fn what_was_pipelined_on_a_call_ends_with_it() {
    let _watchdog = Watchdog::start();
    let go = Event::new();
    let (pair, client) = slow_echo(|config| config, &go, &go);
    let mut held = None;
    let error = until_sent(|timeout| {
        let call = client.next_request().send_timeout(timeout);
        held = Some(call.pipeline().get_echo());
        outcome(&call).unwrap_err()
    });
    let held = held.unwrap();
    assert_eq!(error.timeout(), Some(Timeout::MayHaveRun));
    // The capability is held, and yet the peer knows that nothing will be done with it.
    until("the Finish", || {
        pair.client.snapshot().questions == 0 && pair.server.snapshot().answers == 0
    });
    assert_eq!(held.ping_request().call().unwrap_err(), error);
    assert!(!go.is_set());
    go.set();
    client.next_request().call().unwrap();
    drop((client, held));
    pair.finish();
}

#[test]
fn a_call_for_its_pipeline_only_goes_on() {
    let _watchdog = Watchdog::start();
    let (pinged, next) = (Event::new(), Event::new());
    let (pair, client) = slow_echo(|config| config.call_timeout(SOON), &pinged, &next);
    let place = loop {
        let place = client.next_request().send_pipeline_only().get_echo();
        match place.as_client().failure() {
            None => break place,
            Some(error) => assert_unsent(&error),
        }
    };
    let error = until_sent(|_| outcome(&client.ping_request().send()).unwrap_err());
    assert_eq!(error.timeout(), Some(Timeout::MayHaveRun));
    next.set();
    place.with_timeout(Duration::MAX).ping_request().call().unwrap();
    pinged.set();
    drop((client, place));
    pair.finish();
}

#[test]
fn the_default_of_a_connection_ends_calls_and_gives_way_to_their_own_deadlines() {
    let _watchdog = Watchdog::start();
    let slow = Slow::configured(|config| config.call_timeout(SOON));
    until_noticed(&slow.cancelled, |_| foo_request(&slow.client).call().unwrap_err());
    until("the question to end", || slow.pair.client.snapshot().questions == 0);
    let client = slow.client.clone();
    let call = foo_request(&client).send_timeout(Duration::MAX);
    outlives_the_default(slow, call, client);
}

#[test]
fn a_client_has_a_time_of_its_own() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let short = slow.client.with_timeout(SOON);
    // It is the same capability.
    assert_eq!(short.as_client(), slow.client.as_client());
    assert_eq!(short.as_client().identity(), slow.client.as_client().identity());
    assert!(Client::null().with_timeout(SOON).is_null());
    // The last limit counts.
    let call = foo_request(&short.with_timeout(Duration::MAX)).send();
    outlives_the_default(slow, call, short);
}

/// A connection of a vat whose calls have this time by default, to the same server.
fn connected(slow: &Slow, timeout: Duration, of_client: ConnConfig) -> [Connection; 2] {
    let mut config = VatConfig::default();
    config.call_timeout = Some(timeout);
    let vat = Vat::with_config(config).unwrap();
    let (here, there) = Wire::Memory.pair();
    let object = slow_foo(&slow.pair.server_vat, slow.go.clone(), slow.cancelled.clone());
    let config = ConnConfig::new().bootstrap(object);
    let server = slow.pair.server_vat.connect(there, config).unwrap();
    [vat.connect(here, of_client).unwrap(), server]
}

#[test]
fn a_vat_has_a_default_for_its_connections() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let short = connected(&slow, SOON, ConnConfig::new());
    let error = end_one(&short[0].bootstrap());
    assert_eq!(error.timeout(), Some(Timeout::MayHaveRun));
    let long = connected(&slow, SOON, ConnConfig::new().call_timeout(Duration::MAX));
    let call = foo_request(&long[0].bootstrap()).send();
    assert_eq!(end_one(&short[0].bootstrap()).timeout(), Some(Timeout::MayHaveRun));
    assert!(call.try_response().is_none());
    slow.go.set();
    call.wait().unwrap();
    drop(call);
    for connection in short.iter().chain(&long) {
        connection.close();
        assert!(connection.join_timeout(LONG).unwrap());
    }
    slow.finish(Vec::new());
}

#[test]
fn a_system_has_a_default_for_its_connections() {
    let _watchdog = Watchdog::start();
    let (go, vat) = (Event::new(), Vat::new());
    let object = slow_foo(&vat, go.clone(), Event::new());
    let address: Address = "127.0.0.1:0".parse().unwrap();
    let network = SocketNetwork::listening(address.listen().unwrap()).unwrap();
    let server = RpcSystem::builder(&vat, network).bootstrap(object).start().unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client());
    let client = client.call_timeout(SOON).start().unwrap();
    let error = end_one(&client.bootstrap(&name));
    assert_eq!(error.timeout(), Some(Timeout::MayHaveRun));
    go.set();
}

/// The call waits in a promise when it is made: there is no connection yet.
#[test]
fn the_default_counts_for_a_call_that_finds_its_connection_later() {
    let _watchdog = Watchdog::start();
    let slow = Slow::configured(|config| config.call_timeout(SOON));
    let (promise, fulfiller) = promise_client::<test_interface::Client>();
    let call = foo_request(&promise).send();
    let own = foo_request(&promise).send_timeout(Duration::MAX);
    fulfiller.fulfill(slow.client.clone());
    assert_eq!(outcome(&call).unwrap_err().timeout(), Some(Timeout::MayHaveRun));
    drop((call, promise));
    let client = slow.client.clone();
    outlives_the_default(slow, own, client);
}

#[test]
fn a_call_that_waits_in_a_promise_ends_in_time() {
    let _watchdog = Watchdog::start();
    let slow = Slow::new();
    let (promise, fulfiller) = promise_client::<test_interface::Client>();
    let error =
        until_sent(|timeout| outcome(&foo_request(&promise).send_timeout(timeout)).unwrap_err());
    assert_eq!(error.timeout(), Some(Timeout::MayHaveRun));
    // It has left the queue: the one that is delivered is the other one.
    let call = foo_request(&promise).send();
    fulfiller.fulfill(slow.client.clone());
    until("a call to be sent", || slow.pair.client.snapshot().questions > 0);
    assert_eq!(slow.pair.client.snapshot().questions, 1);
    slow.go.set();
    call.wait().unwrap();
    assert!(!slow.cancelled.is_set());
    drop(promise);
    slow.finish(vec![call]);
}

#[test]
fn an_object_of_this_process_learns_that_the_time_is_over() {
    let _watchdog = Watchdog::start();
    let (go, cancelled) = (Event::new(), Event::new());
    let vat = rpc_tests::support::vat("deadline");
    let object = slow_foo(&vat, go.clone(), cancelled.clone()).with_timeout(SOON);
    until_noticed(&cancelled, |_| outcome(&foo_request(&object).send()).unwrap_err());
    assert!(!go.is_set());
    go.set();
    drop(object);
    assert!(vat.shutdown(LONG).unwrap());
}

/// The caller of a call that is passed on decides how long it waits.
#[test]
fn the_default_does_not_end_what_is_passed_on_for_a_peer() {
    let _watchdog = Watchdog::start();
    let back = Slow::configured(|config| config.call_timeout(SOON));
    let behind = back.client.clone().into_client();
    let (inside, revoker) = revocable(&back.client);
    let fronts = [behind, inside.into_client()].map(|behind| {
        Pair::new(|vat| {
            objects::any(vat, Concurrency::Concurrent, move |call| call.forward(&behind))
        })
    });
    let calls: Vec<_> = fronts
        .iter()
        .map(|front| {
            let client: test_interface::Client = front.bootstrap();
            foo_request(&client).send()
        })
        .collect();
    until("the calls to be passed on", || back.pair.client.snapshot().questions == 2);
    assert_eq!(end_one(&back.client).timeout(), Some(Timeout::MayHaveRun));
    assert!(calls.iter().all(|call| call.try_response().is_none()));
    back.go.set();
    calls.iter().for_each(|call| drop(call.wait().unwrap()));
    drop((calls, revoker));
    fronts.into_iter().for_each(Pair::end);
    back.finish(Vec::new());
}

#[test]
fn a_membrane_lets_deadlines_through() {
    let _watchdog = Watchdog::start();
    let slow = Slow::configured(|config| config.call_timeout(SOON));
    let (wrapped, revoker) = revocable(&slow.client);
    until_noticed(&slow.cancelled, |timeout| {
        outcome(&foo_request(&wrapped).send_timeout(timeout)).unwrap_err()
    });
    until("the question to end", || slow.pair.client.snapshot().questions == 0);
    let call = foo_request(&wrapped).send_timeout(Duration::MAX);
    drop(revoker);
    outlives_the_default(slow, call, wrapped);
}

#[test]
fn what_is_connected_anew_has_the_time_of_its_connection() {
    let _watchdog = Watchdog::start();
    let slow = Slow::configured(|config| config.call_timeout(SOON));
    let behind = slow.client.clone();
    let (client, control) = auto_reconnect(move || Ok(behind.clone()));
    until_noticed(&slow.cancelled, |_| outcome(&foo_request(&client).send()).unwrap_err());
    until("the question to end", || slow.pair.client.snapshot().questions == 0);
    let call = foo_request(&client.with_timeout(Duration::MAX)).send();
    drop(control);
    outlives_the_default(slow, call, client);
}

#[test]
fn a_stream_that_is_not_answered_in_time_fails() {
    let _watchdog = Watchdog::start();
    let slow = SlowStream::new(|config| config.call_timeout(SOON));
    let error = loop {
        match slow.client.do_stream_i_request().send() {
            Ok(()) => {}
            // The stream goes on.
            Err(error) if error.timeout() == Some(Timeout::NeverSent) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.timeout(), Some(Timeout::MayHaveRun));
    assert_eq!(slow.client.as_client().finish_stream().unwrap_err(), error);
    assert!(!slow.go.is_set());
    slow.finish();
}

#[test]
fn one_call_of_a_stream_can_have_a_time_of_its_own() {
    let _watchdog = Watchdog::start();
    let slow = SlowStream::new(|config| config);
    let late = slow.client.do_stream_i_request().send_timeout(Duration::ZERO).unwrap_err();
    assert_unsent(&late);
    // Nothing was sent, so the stream goes on.
    slow.client.do_stream_i_request().send_deadline(Instant::now() + LONG).unwrap();
    let error = until_sent(|timeout| {
        let sent = slow.client.do_stream_i_request().send_timeout(timeout);
        match sent.and_then(|()| slow.client.as_client().finish_stream()) {
            Ok(()) => panic!("nothing was answered"),
            Err(error) => error,
        }
    });
    assert_eq!(error.timeout(), Some(Timeout::MayHaveRun));
    assert!(!slow.go.is_set());
    slow.finish();
}
