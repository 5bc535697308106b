//! Whether capabilities are the same object, whichever vat hosts it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use capnp_threads_core::membrane::{Membrane, MembranePolicy};
use capnp_threads_core::network::RpcSystemBuilder;
use capnp_threads_core::offer::NamedExports;
use capnp_threads_core::untyped::promise;
use capnp_threads_core::{
    Client, ConnConfig, Connection, ErrorKind, FromClient, Result, RpcSystem, Vat,
};
use capnp_threads_transport::tls::{TlsNetwork, VatKey};
use parking_lot::Mutex;
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::{Watchdog, Wire, until};

struct Echo;

impl echo::Server for Echo {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        Ok(())
    }
}

fn object(vat: &Vat) -> Client {
    vat.export::<echo::Client, _>(Echo).into_client()
}

/// Two connected vats, of which the second offers this.
struct Link {
    near: Connection,
    far: Connection,
}

impl Link {
    fn new(wire: Wire, offered: &Client) -> Self {
        let (here, there) = wire.pair();
        let config = ConnConfig::new().bootstrap(offered.clone());
        let vat = Vat::new();
        let far = thread::spawn(move || vat.connect(there, config).unwrap());
        let near = Vat::new().connect(here, ConnConfig::new()).unwrap();
        Link { near, far: far.join().unwrap() }
    }

    fn has(&self) -> Client {
        self.near.bootstrap::<Client>().resolve().unwrap()
    }

    fn end(self) {
        self.near.close();
        self.far.join().unwrap();
    }
}

/// The ends of a chain of two links, over which a vat has something of another one.
fn detour(wire: Wire, offered: &Client) -> (Client, [Link; 2]) {
    let host = Link::new(wire, offered);
    let between = Link::new(wire, &host.has());
    (between.has(), [host, between])
}

#[test]
fn one_object_by_two_ways_is_the_same_over_every_transport() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let vat = Vat::new();
        let [one, other] = [object(&vat), object(&vat)];
        let (first, links) = detour(wire, &one);
        let (second, more) = detour(wire, &one);
        let (third, others) = detour(wire, &other);
        assert_ne!(first, second);
        assert_eq!(first.same_object(&second), Ok(true), "{wire:?}");
        assert_eq!(second.same_object(&third), Ok(false), "{wire:?}");
        // The vat that hosts the object is here, too.
        assert_eq!(one.same_object(&first), Ok(true), "{wire:?}");
        assert_eq!(third.same_object_timeout(&one, Duration::MAX), Ok(false), "{wire:?}");
        drop((first, second, third));
        links.into_iter().chain(more).chain(others).for_each(Link::end);
    }
}

/// The peer that offers both has them of others in turn.
#[test]
fn two_capabilities_of_one_peer_are_compared_there() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let vat = Vat::new();
        let [one, other] = [object(&vat), object(&vat)];
        let ways = [&one, &one, &other].map(|offered| Link::new(wire, offered));
        let names = NamedExports::new();
        for (name, way) in ["first", "second", "third"].into_iter().zip(&ways) {
            names.export(name, way.has());
        }
        let (here, there) = wire.pair();
        let config = ConnConfig::new().restorer(names);
        let peer = thread::spawn(move || Vat::new().connect(there, config).unwrap());
        let connection = Vat::new().connect(here, ConnConfig::new()).unwrap();
        let peer = peer.join().unwrap();
        let [first, second, third] =
            ["first", "second", "third"].map(|name| connection.restore_client(name));
        assert_eq!(first.same_object(&second), Ok(true), "{wire:?}");
        assert_eq!(first.same_object(&third), Ok(false), "{wire:?}");
        until("nothing to be left", || peer.snapshot().joins == 0);
        drop((first, second, third));
        connection.close();
        peer.join().unwrap();
        ways.into_iter().for_each(Link::end);
    }
}

struct Open;

impl MembranePolicy for Open {}

#[test]
fn a_membrane_is_not_looked_through() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let inner = object(&vat);
    let membrane = Membrane::new(Open);
    let wrapped: Client = membrane.wrap(&inner);
    let (of_inner, links) = detour(Wire::Unix, &inner);
    let (of_wrapped, more) = detour(Wire::Unix, &wrapped);
    let (again, others) = detour(Wire::Unix, &membrane.wrap::<Client>(&inner));
    assert_eq!(of_inner.same_object(&of_wrapped), Ok(false));
    assert_eq!(of_wrapped.same_object(&again), Ok(true));
    membrane.revoke(capnp_threads_core::Error::failed("no more"));
    assert!(of_wrapped.same_object(&again).unwrap_err().reason().contains("no more"));
    drop((of_inner, of_wrapped, again));
    links.into_iter().chain(more).chain(others).for_each(Link::end);
}

#[test]
fn a_comparison_can_be_given_up_and_ends_with_the_connection() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let one = object(&vat);
    let (promised, fulfiller) = promise();
    // The peer has a promise that nobody keeps.
    let link = Link::new(Wire::Tcp, &promised);
    let far: Client = link.near.bootstrap();
    let late = far.same_object_timeout(&one, Duration::from_millis(1)).unwrap_err();
    assert!(late.is_timeout(), "{late}");
    let comparison = far.compare(&one);
    assert!(comparison.try_answer().is_none());
    link.far.close();
    assert_eq!(comparison.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    drop((comparison, far, fulfiller, link));
}

#[test]
fn an_answer_reaches_closures() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let one = object(&vat);
    let (first, links) = detour(Wire::Memory, &one);
    let (second, more) = detour(Wire::Memory, &one);
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    first.compare(&second).on_answer(move |answer| *tell.lock() = Some(answer));
    until("the answer", || told.lock().is_some());
    assert_eq!(told.lock().take(), Some(Ok(true)));
    drop((first, second));
    links.into_iter().chain(more).for_each(Link::end);
}

type Builder = RpcSystemBuilder<TlsNetwork>;

fn builder() -> Builder {
    let key = VatKey::generate().unwrap();
    let network = TlsNetwork::listening(&key, &"127.0.0.1:0".parse().unwrap()).unwrap();
    RpcSystem::builder(&Vat::new(), network)
}

/// Alice offers what she has of Bob, and Carol has it of both.
#[test]
fn three_vats_with_keys_agree_on_what_is_the_same() {
    let _watchdog = Watchdog::start();
    for hand_off in [true, false] {
        let bob_vat = Vat::new();
        let bobs = object(&bob_vat);
        let bob = builder().hand_off(hand_off).bootstrap(bobs.clone()).start().unwrap();
        let name = bob.network().this_vat();
        let offered: Arc<Mutex<Option<Client>>> = Arc::default();
        let offering = Arc::clone(&offered);
        let alice = builder()
            .hand_off(hand_off)
            .bootstrap_factory(move |_| offering.lock().clone())
            .start()
            .unwrap();
        *offered.lock() = Some(alice.bootstrap::<Client>(&name).resolve().unwrap());
        let carol = builder().hand_off(hand_off).start().unwrap();
        let by_alice: Client = carol.bootstrap(&alice.network().this_vat());
        let by_bob: Client = carol.bootstrap(&name);
        assert_eq!(by_alice.same_object(&by_bob), Ok(true), "{hand_off}");
        let other = object(&Vat::new());
        assert_eq!(by_alice.same_object(&other), Ok(false), "{hand_off}");
        // What was handed off needs nobody in between.
        drop(alice);
        if hand_off {
            assert_eq!(by_bob.same_object(&by_alice), Ok(true));
        } else {
            until("Alice to be gone", || carol.connection_count() == 1);
            let told = by_bob.same_object(&by_alice).unwrap_err();
            assert_eq!(told.kind(), ErrorKind::Disconnected);
        }
    }
}
