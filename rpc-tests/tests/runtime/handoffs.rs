//! Capabilities that are handed off from vat to vat, in each network that introduces its vats.

use std::sync::Arc;

use capnp_threads_core::network::{Admission, RpcSystemBuilder};
use capnp_threads_core::{
    Error, ErrorKind, FromClient, Limits, Result, RpcSystem, Vat, promise_client,
};
use parking_lot::Mutex;
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::{Watchdog, until};

mod networks;
#[cfg(target_os = "linux")]
mod strangers;

use self::networks::{Kind, in_each_network};

in_each_network! {
    what_was_given_outlives_the_giver
    calls_of_many_threads_arrive_in_order
    what_is_taken_at_once_outlives_the_giver
    what_is_not_known_yet_outlives_the_giver
    a_vat_that_does_not_hand_off_stays_in_the_path
    a_host_that_refuses_a_stranger_is_called_through_the_giver
    a_host_that_is_not_reached_is_called_through_the_giver
    many_capabilities_of_a_host_are_handed_off_at_once
}

type System<K> = RpcSystem<<K as Kind>::Network>;

fn builder<K: Kind>() -> RpcSystemBuilder<K::Network> {
    RpcSystem::builder(&Vat::new(), K::listening())
}

/// A vat that only calls.
fn caller<K: Kind>() -> RpcSystemBuilder<K::Network> {
    RpcSystem::builder(&Vat::new(), K::calling())
}

/// What a vat offers.
fn offered<K: Kind>(by: &System<K>, to: &System<K>) -> echo::Client {
    to.bootstrap(&K::name(by.network()))
}

/// Notes what it is sent.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<u32>>>);

impl echo::Server for Notes {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }

    fn echo(&self, params: echo::EchoParams, _: echo::EchoResults) -> Result<()> {
        let number =
            params.get()?.get_data()?.try_into().map_err(|_| Error::failed("no number"))?;
        self.0.lock().push(u32::from_be_bytes(number));
        Ok(())
    }
}

/// Makes objects.
struct Maker;

impl echo::Server for Maker {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        results.get().set_echo(echo::Client::from_server(Notes::default()));
        Ok(())
    }
}

fn host<K: Kind>() -> RpcSystemBuilder<K::Network> {
    builder::<K>().bootstrap(echo::Client::from_server(Notes::default()))
}

/// A vat that offers to everybody what another one offers to it.
fn giver<K: Kind>(host: &System<K>) -> System<K> {
    giver_of::<K>(builder::<K>(), host)
}

fn giver_of<K: Kind>(giver: RpcSystemBuilder<K::Network>, host: &System<K>) -> System<K> {
    let gift: Arc<Mutex<Option<echo::Client>>> = Arc::default();
    let offering = Arc::clone(&gift);
    let giver = giver
        .bootstrap_factory(move |_| offering.lock().clone().map(FromClient::into_client))
        .start()
        .unwrap();
    let hosts = offered::<K>(host, &giver);
    ping(&hosts).unwrap();
    *gift.lock() = Some(hosts);
    giver
}

fn ping(echo: &echo::Client) -> Result<()> {
    echo.ping_request().call().map(drop)
}

fn is_settled(echo: &echo::Client) -> bool {
    !echo.clone().into_client().is_unresolved()
}

fn what_was_given_outlives_the_giver<K: Kind>() {
    let _watchdog = Watchdog::start();
    let bob = host::<K>().start().unwrap();
    let alice = giver::<K>(&bob);
    let carol = caller::<K>().start().unwrap();
    let given = offered::<K>(&alice, &carol);
    // The first call may go through Alice, and what then comes from her is called next.
    ping(&given).unwrap();
    ping(&given).unwrap();
    until("the host's answer", || is_settled(&given));
    until("both connections", || (carol.connection_count(), bob.connection_count()) == (2, 2));
    drop(alice);
    until("the giver to be gone", || (carol.connection_count(), bob.connection_count()) == (1, 1));
    ping(&given).unwrap();
}

/// Without being used before.
fn what_is_taken_at_once_outlives_the_giver<K: Kind>() {
    let _watchdog = Watchdog::start();
    let bob = host::<K>().start().unwrap();
    let alice = giver::<K>(&bob);
    let carol = caller::<K>().accept_at_once(true).start().unwrap();
    let given = offered::<K>(&alice, &carol);
    until("the host's answer", || is_settled(&given) && bob.connection_count() == 2);
    drop(alice);
    until("the giver to be gone", || bob.connection_count() == 1);
    ping(&given).unwrap();
}

/// The host gives something away that it has only promised.
fn what_is_not_known_yet_outlives_the_giver<K: Kind>() {
    let _watchdog = Watchdog::start();
    let (promised, fulfiller) = promise_client::<echo::Client>();
    let bobs = Vat::new();
    let bob = RpcSystem::builder(&bobs, K::listening()).bootstrap(promised).start().unwrap();
    let gift: Arc<Mutex<Option<echo::Client>>> = Arc::default();
    let offering = Arc::clone(&gift);
    // What she could receive with a descriptor, she would keep in her hands.
    let mut without_descriptors = Limits::default();
    without_descriptors.message_fds_sent = 0;
    let alice = builder::<K>()
        .limits(without_descriptors)
        .bootstrap_factory(move |_| offering.lock().clone().map(FromClient::into_client))
        .start()
        .unwrap();
    *gift.lock() = Some(offered::<K>(&bob, &alice));
    let carol = caller::<K>().accept_at_once(true).start().unwrap();
    let given = offered::<K>(&alice, &carol);
    // Bob has promised it to both.
    let promised_to =
        || bobs.snapshot().connections.iter().filter(|to| to.tables.exports > 0).count();
    until("the host's promise", || promised_to() == 2);
    let called = given.ping_request().send();
    drop(alice);
    until("the giver to be gone", || (carol.connection_count(), bob.connection_count()) == (1, 1));
    assert!(!is_settled(&given));
    fulfiller.fulfill(echo::Client::from_server(Notes::default()));
    called.wait().unwrap();
}

/// While promises resolve, the host is dialled, and calls take one path and then another.
fn calls_of_many_threads_arrive_in_order<K: Kind>() {
    let _watchdog = Watchdog::start();
    let notes = Notes::default();
    let bob = builder::<K>().bootstrap(echo::Client::from_server(notes.clone())).start().unwrap();
    let alice = giver::<K>(&bob);
    for _ in 0..10 {
        // Each time a vat that nobody has seen before.
        let carol = caller::<K>().start().unwrap();
        let given = offered::<K>(&alice, &carol);
        let call_all = |numbers: std::ops::Range<u32>| {
            let calls = numbers.clone().map(|number| {
                let mut request = given.echo_request();
                request.get().set_data(&number.to_be_bytes());
                request.send()
            });
            let calls: Vec<_> = calls.collect();
            calls.iter().for_each(|call| drop(call.wait().unwrap()));
            let seen = std::mem::take(&mut *notes.0.lock());
            assert_eq!(seen, numbers.collect::<Vec<_>>());
        };
        call_all(0..40);
        until("a settled capability", || {
            ping(&given).unwrap();
            is_settled(&given)
        });
        call_all(40..80);
    }
}

/// Whichever of the three it is.
fn a_vat_that_does_not_hand_off_stays_in_the_path<K: Kind>() {
    let _watchdog = Watchdog::start();
    for vat in 0..3 {
        let hands_off = |other| vat != other;
        let bob = host::<K>().hand_off(hands_off(0)).start().unwrap();
        let alice = giver_of::<K>(builder::<K>().hand_off(hands_off(1)), &bob);
        let carol = caller::<K>().hand_off(hands_off(2)).start().unwrap();
        let given = offered::<K>(&alice, &carol);
        for _ in 0..3 {
            ping(&given).unwrap();
        }
        drop(alice);
        until("the giver to be gone", || ping(&given).is_err());
        assert_eq!(ping(&given).unwrap_err().kind(), ErrorKind::Disconnected);
    }
}

fn a_host_that_refuses_a_stranger_is_called_through_the_giver<K: Kind>() {
    let _watchdog = Watchdog::start();
    let friend: Arc<Mutex<Option<_>>> = Arc::default();
    let knows = Arc::clone(&friend);
    let notes = echo::Client::from_server(Notes::default());
    let bob = builder::<K>()
        .authorizer(move |peer| {
            let mut friend = knows.lock();
            if friend.get_or_insert_with(|| peer.id.clone()) == peer.id {
                Ok(Admission::new().bootstrap(notes.clone()))
            } else {
                Err(Error::failed("you are a stranger"))
            }
        })
        .start()
        .unwrap();
    let alice = giver::<K>(&bob);
    let carol = caller::<K>().start().unwrap();
    let given = offered::<K>(&alice, &carol);
    for _ in 0..3 {
        ping(&given).unwrap();
    }
    until("the stranger to be gone", || bob.connection_count() == 1);
}

/// It goes on with those whom it knows.
fn a_host_that_is_not_reached_is_called_through_the_giver<K: Kind>() {
    use capnp_threads_core::network::VatNetwork as _;

    let _watchdog = Watchdog::start();
    let bob = host::<K>().start().unwrap();
    let alice = giver::<K>(&bob);
    bob.network().shutdown();
    let carol = caller::<K>().start().unwrap();
    let given = offered::<K>(&alice, &carol);
    for _ in 0..3 {
        ping(&given).unwrap();
    }
    until("the attempt to be over", || carol.connection_count() == 1 && is_settled(&given));
    assert_eq!(bob.connection_count(), 1);
    drop(alice);
    until("the giver to be gone", || ping(&given).is_err());
    assert_eq!(ping(&given).unwrap_err().kind(), ErrorKind::Disconnected);
}

/// More than are looked for at a time, and none of them stays with the giver.
fn many_capabilities_of_a_host_are_handed_off_at_once<K: Kind>() {
    let _watchdog = Watchdog::start();
    for early in [false, true] {
        let bob = builder::<K>().bootstrap(echo::Client::from_server(Maker)).start().unwrap();
        let alice = giver::<K>(&bob);
        let carol = caller::<K>().call_before_accepted(early).start().unwrap();
        let maker = offered::<K>(&alice, &carol);
        let calls: Vec<_> = (0..40).map(|_| maker.next_request().send()).collect();
        let made: Vec<_> = calls.iter().map(|call| call.pipeline().get_echo()).collect();
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        let pings: Vec<_> = made.iter().map(|made| made.ping_request().send()).collect();
        pings.iter().for_each(|ping| drop(ping.wait().unwrap()));
        for made in &made {
            until("a settled capability", || is_settled(made));
        }
        drop(alice);
        until("the giver to be gone", || carol.connection_count() == 1);
        made.iter().for_each(|made| ping(made).unwrap());
    }
}
