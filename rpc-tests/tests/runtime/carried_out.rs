//! Calls that fail say whether they may have been carried out, wherever their errors arise.

use std::sync::mpsc;
use std::time::Duration;

use capnp_threads_core::membrane::{Membrane, MembranePolicy, Passage, revocable};
use capnp_threads_core::reconnect::CarriedOut;
use capnp_threads_core::untyped::promise;
use capnp_threads_core::vat::PoolConfig;
use capnp_threads_core::{
    Client, ConnConfig, Error, FromClient, Limits, Result, Vat, promise_client,
};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{answer_foo, foo, foo_request};
use rpc_tests::support::{Event, LONG, Pair, Watchdog, Wire, until, vat_with_pool};

type Foo = test_interface::Client;

fn carried_out(client: &Foo) -> CarriedOut {
    foo_request(client).call().map(drop).unwrap_err().carried_out()
}

/// A server whose method tells that it has begun, and goes on when it is let.
fn held(change: impl FnOnce(ConnConfig) -> ConnConfig) -> (Pair, Foo, Event, Event) {
    let (begun, go_on) = (Event::new(), Event::new());
    let (tell, wait) = (begun.clone(), go_on.clone());
    let server = |vat: &Vat| {
        let method = move |params, results| {
            tell.set();
            wait.wait();
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    };
    let pair = Pair::configured(server, Wire::Memory, change, |config| config);
    let client = pair.bootstrap();
    (pair, client, begun, go_on)
}

#[test]
fn the_error_of_a_method_is_an_answer_whoever_made_it() {
    let _watchdog = Watchdog::start();
    // This one comes from a call of the method's own, which has not begun.
    let method = |_, _: test_interface::FooResults| {
        let broken = Foo::from_client(Client::broken(Error::disconnected("elsewhere")));
        let error = foo_request(&broken).call().map(drop).unwrap_err();
        assert_eq!(error.carried_out(), CarriedOut::No);
        Err(error)
    };
    let pair = Pair::new(|vat| foo(vat, method).into_client());
    assert_eq!(carried_out(&pair.bootstrap()), CarriedOut::Answered);
    // In one process, too, on another thread or on this one.
    let local = foo(&Vat::new(), method);
    assert_eq!(carried_out(&local), CarriedOut::Answered);
    let sent = foo_request(&local).send().wait().map(drop).unwrap_err();
    assert_eq!(sent.carried_out(), CarriedOut::Answered);
    pair.finish();
}

#[test]
fn a_call_that_is_under_way_when_the_connection_ends_may_have_been_carried_out() {
    let _watchdog = Watchdog::start();
    let (pair, client, begun, go_on) = held(|config| config);
    let call = foo_request(&client).send();
    begun.wait();
    pair.client.close();
    assert_eq!(call.wait().map(drop).unwrap_err().carried_out(), CarriedOut::Maybe);
    // For the same reason, but this one never leaves.
    assert_eq!(carried_out(&client), CarriedOut::No);
    assert_eq!(
        foo_request(&client).send().wait().map(drop).unwrap_err().carried_out(),
        CarriedOut::No
    );
    // Nor does a call on what the connection offers now.
    assert_eq!(carried_out(&pair.bootstrap()), CarriedOut::No);
    go_on.set();
    pair.end();
}

#[test]
fn a_call_on_a_promise_that_breaks_has_not_begun() {
    let _watchdog = Watchdog::start();
    let (client, fulfiller) = promise_client::<Foo>();
    let call = foo_request(&client).send();
    fulfiller.reject(Error::overloaded("not today"));
    assert_eq!(call.wait().map(drop).unwrap_err().carried_out(), CarriedOut::No);
    assert_eq!(carried_out(&Foo::from_client(Client::null())), CarriedOut::No);
    // A field of results that never come.
    let (first, first_fulfiller) = promise();
    let echo = echo::Client::from_client(first);
    let promise = echo.next_request().send();
    let pipelined = promise.pipeline().get_echo().ping_request().send();
    first_fulfiller.reject(Error::failed("no"));
    assert_eq!(pipelined.wait().map(drop).unwrap_err().carried_out(), CarriedOut::No);
}

#[test]
fn a_timeout_knows_whether_the_call_was_sent() {
    let _watchdog = Watchdog::start();
    let mut limits = Limits::default();
    limits.questions = 2;
    let (pair, client, begun, go_on) = held(|config| config.limits(limits));
    let soon = Duration::from_millis(1);
    let sent = foo_request(&client).send();
    begun.wait();
    assert_eq!(sent.wait_timeout(soon).map(drop).unwrap_err().carried_out(), CarriedOut::Maybe);
    let given_up = foo_request(&client).call_timeout(soon).map(drop).unwrap_err();
    assert_eq!(given_up.carried_out(), CarriedOut::Maybe);
    let given_up = foo_request(&client).send_timeout(soon).wait().map(drop).unwrap_err();
    assert_eq!(given_up.carried_out(), CarriedOut::Maybe);
    until("the ids of these to be free", || pair.client.snapshot().questions <= 2);
    let _second = foo_request(&client).send();
    let no_room = foo_request(&client).call_timeout(soon).map(drop).unwrap_err();
    assert!(no_room.is_timeout());
    assert_eq!(no_room.carried_out(), CarriedOut::No);
    // The wait for room ends with the connection.
    let waiting = std::thread::spawn({
        let client = client.clone();
        move || carried_out(&client)
    });
    pair.client.close();
    assert_eq!(waiting.join().unwrap(), CarriedOut::No);
    go_on.set();
    pair.end();
}

#[test]
fn what_the_workers_refuse_and_what_is_too_large_has_not_begun() {
    let _watchdog = Watchdog::start();
    let mut config = PoolConfig::default();
    config.max_workers = 1;
    let vat = vat_with_pool("refusing", config);
    let local = foo(&vat, answer_foo);
    assert!(vat.shutdown(LONG).unwrap());
    assert_eq!(
        foo_request(&local).send().wait().map(drop).unwrap_err().carried_out(),
        CarriedOut::No
    );

    let mut limits = Limits::default();
    limits.message_words = 1000;
    let (pair, client, _, go_on) = held(|config| config.limits(limits));
    go_on.set();
    let echo = echo::Client::from_client(client.clone().into_client());
    let mut request = echo.echo_request();
    request.get().set_data(&[0; 10_000]);
    let too_large = request.call().map(drop).unwrap_err();
    assert!(too_large.reason().contains("Limits::message_words"), "{too_large}");
    assert_eq!(too_large.carried_out(), CarriedOut::No);
    // The object has no such method.
    assert_eq!(
        echo.ping_request().call().map(drop).unwrap_err().carried_out(),
        CarriedOut::Answered
    );
    drop((client, echo));
    pair.finish();
}

#[test]
fn a_server_that_is_about_to_end_has_not_begun_what_it_refuses() {
    let _watchdog = Watchdog::start();
    let (pair, client, begun, go_on) = held(|config| config);
    let call = foo_request(&client).send();
    begun.wait();
    let server = pair.server_vat.clone();
    let draining = std::thread::spawn(move || server.drain(LONG).unwrap());
    // Those that came before wait for the first one.
    let mut taken = Vec::new();
    until("a call is refused", || {
        let next = foo_request(&client).send();
        match next.wait_timeout(Duration::from_millis(20)).map(drop) {
            Err(error) if error.is_draining() => {
                assert_eq!(error.carried_out(), CarriedOut::No);
                true
            }
            _ => {
                taken.push(next);
                false
            }
        }
    });
    go_on.set();
    assert!(draining.join().unwrap());
    call.wait().unwrap();
    pair.end();
}

/// Lets nothing of one method through.
struct Strict;

impl MembranePolicy for Strict {
    fn inbound_call(&self, _: u64, _: u16, _: &Client) -> Result<Passage> {
        Err(Error::failed("not this one"))
    }
}

#[test]
fn what_a_membrane_stops_has_not_begun_and_what_it_ends_may_have() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let strict = Membrane::new(Strict);
    let object = foo(&vat, answer_foo);
    let stopped = strict.wrap(&object);
    assert_eq!(carried_out(&stopped), CarriedOut::No);

    let (tell, begun) = mpsc::channel();
    let go_on = Event::new();
    let wait = go_on.clone();
    let object = foo(&vat, move |params, results| {
        tell.send(()).unwrap();
        wait.wait();
        answer_foo(params, results)
    });
    let (wrapped, revoker) = revocable(&object);
    let call = foo_request(&wrapped).send();
    begun.recv().unwrap();
    revoker.revoke(Error::failed("enough"));
    assert_eq!(call.wait().map(drop).unwrap_err().carried_out(), CarriedOut::Maybe);
    assert_eq!(carried_out(&wrapped), CarriedOut::No);
    go_on.set();
}
