//! Vats that reach each other over endpoints.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use capnp_threads_core::network::{Accepted, Reached, VatNetwork};
use capnp_threads_core::{Concurrency, ErrorKind, FromClient, RpcSystem, Vat};
use capnp_threads_endpoint::{Dialect, EndpointNetwork, EndpointVat, Network, Parameters};
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::objects::{Gate, Quick};
use rpc_tests::support::{Watchdog, until};

const DIALECTS: [Dialect; 3] = [Dialect::Original, Dialect::Versioned, Dialect::Multiplexed];

/// Long enough for everything that is to happen.
const AMPLE: Duration = Duration::from_secs(60);

type System = RpcSystem<EndpointNetwork>;

fn parameters(dialect: Dialect) -> Parameters {
    let mut parameters = Parameters::default();
    parameters.dialect = dialect;
    parameters.connect_timeout = AMPLE;
    parameters
}

fn network(id: &str, dialect: Dialect) -> EndpointNetwork {
    EndpointNetwork::listening(id, "127.0.0.1", 0, parameters(dialect)).unwrap()
}

/// A vat with a system of its own.
struct Party {
    vat: Vat,
    system: System,
    /// Where the others find it.
    name: EndpointVat,
}

impl Party {
    fn new(id: &str, dialect: Dialect, server: impl echo::Server) -> Self {
        Self::on(network(id, dialect), server)
    }

    fn on(network: EndpointNetwork, server: impl echo::Server) -> Self {
        let vat = Vat::new();
        let name = network.this_vat();
        let offered: echo::Client = vat.export_with(server, Concurrency::Concurrent);
        let system = RpcSystem::builder(&vat, network)
            .bootstrap(offered)
            .close_timeout(AMPLE)
            .start()
            .unwrap();
        Party { vat, system, name }
    }

    fn echo_of(&self, other: &Party) -> echo::Client {
        self.system.bootstrap(&other.name)
    }

    fn call(&self, other: &Party) {
        self.echo_of(other).ping_request().call().unwrap();
    }

    /// Ends the system and then the vat; everything has to end.
    fn end(self) {
        let Party { vat, system, .. } = self;
        assert!(system.drain(AMPLE).unwrap());
        drop(system);
        assert!(vat.shutdown(AMPLE).unwrap());
        assert_eq!(vat.connection_count(), 0);
    }
}

#[test]
fn calls_go_both_ways_over_one_connection_in_every_dialect() {
    let _watchdog = Watchdog::start();
    for dialect in DIALECTS {
        let (alice, bob) = (Party::new("alice", dialect, Quick), Party::new("bob", dialect, Quick));
        alice.call(&bob);
        bob.call(&alice);
        let data: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
        let mut request = alice.echo_of(&bob).echo_request();
        request.get().set_data(&data);
        assert_eq!(request.call().unwrap().get().unwrap().get_data().unwrap(), data);
        for party in [&alice, &bob] {
            assert_eq!(party.system.connection_count(), 1);
            assert_eq!(party.system.network().peer_count(), 1);
        }
        alice.end();
        bob.end();
    }
}

#[test]
fn vats_of_one_network_share_its_port() {
    let _watchdog = Watchdog::start();
    let network = Network::bind("127.0.0.1", 0, parameters(Dialect::Multiplexed)).unwrap();
    let party = |id: &str| {
        Party::on(EndpointNetwork::on(id, network.new_endpoint().unwrap()).unwrap(), Quick)
    };
    let (alice, bob) = (party("alice"), party("bob"));
    alice.call(&bob);
    bob.call(&alice);
    assert_eq!(bob.system.connection_count(), 1);
    alice.end();
    bob.end();
}

#[test]
fn vats_that_reach_for_each_other_at_once_have_one_connection() {
    let _watchdog = Watchdog::start();
    for dialect in DIALECTS {
        for _ in 0..20 {
            let alice = Arc::new(Party::new("alice", dialect, Quick));
            let bob = Arc::new(Party::new("bob", dialect, Quick));
            let start = Arc::new(Barrier::new(2));
            let both = [(&alice, &bob), (&bob, &alice)].map(|(here, there)| {
                let (here, there) = (Arc::clone(here), Arc::clone(there));
                let start = Arc::clone(&start);
                std::thread::spawn(move || {
                    start.wait();
                    here.call(&there);
                    here.system.connection(&there.name).unwrap().unwrap()
                })
            });
            let [here, there] = both.map(|thread| thread.join().unwrap());
            for connection in [&here, &there] {
                assert!(connection.failure().is_none());
            }
            for party in [&alice, &bob] {
                assert_eq!(party.system.connection_count(), 1);
            }
            for party in [alice, bob] {
                Arc::into_inner(party).unwrap().end();
            }
        }
    }
}

#[test]
fn halves_that_are_opened_at_once_belong_together() {
    let _watchdog = Watchdog::start();
    // Without RPC above: both reach for the other before either is accepted.
    let (alice, bob) = (network("alice", Dialect::default()), network("bob", Dialect::default()));
    let Reached::Peer(mut here) = alice.connect(&bob.this_vat()).unwrap() else { panic!() };
    let there = match bob.connect(&alice.this_vat()).unwrap() {
        Reached::Peer(there) => there,
        // The other half was faster.
        Reached::Crossed => bob.accept().unwrap().unwrap().transport,
        _ => panic!("it is somebody else"),
    };
    let mut there = there;
    here.writer.finish().unwrap();
    assert!(there.reader.read().unwrap().is_none());
    there.writer.finish().unwrap();
    assert!(here.reader.read().unwrap().is_none());
    // Now they may have another one.
    let Reached::Peer(_next) = alice.connect(&bob.this_vat()).unwrap() else { panic!() };
    let Accepted { peer, .. } = bob.accept().unwrap().unwrap();
    assert_eq!(peer, alice.this_vat());
    assert_eq!(peer.hints(), alice.this_vat().hints());
}

#[test]
fn the_own_id_is_oneself() {
    let _watchdog = Watchdog::start();
    let alice = Party::new("alice", Dialect::default(), Quick);
    // Whatever the hints say.
    let own = EndpointVat::new("alice").unwrap().at("127.0.0.1:1:0");
    let echo: echo::Client = alice.system.bootstrap(&own);
    assert!(capnp_threads_core::typed::unwrap_server::<Quick>(&echo).is_some());
    assert_eq!(alice.system.connection_count(), 0);
    drop(echo);
    alice.end();
}

#[test]
fn a_vat_is_found_without_a_hint_once_it_was_in_touch() {
    let _watchdog = Watchdog::start();
    let alice = Party::new("alice", Dialect::default(), Quick);
    let bob = Party::new("bob", Dialect::default(), Quick);
    let nameless = EndpointVat::new("alice").unwrap();
    let error = bob.system.connection(&nameless).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    alice.call(&bob);
    bob.system.bootstrap::<echo::Client>(&nameless).ping_request().call().unwrap();
    let connection = alice.system.connection(&bob.name).unwrap().unwrap();
    connection.close();
    connection.join().unwrap();
    drop(connection);
    // Also when there is no connection any more.
    bob.system.bootstrap::<echo::Client>(&nameless).ping_request().call().unwrap();
    alice.end();
    bob.end();
}

#[test]
fn hints_that_lead_nowhere_or_to_others_are_passed_over() {
    let _watchdog = Watchdog::start();
    let alice = Party::new("alice", Dialect::default(), Quick);
    let bob = Party::new("bob", Dialect::default(), Quick);
    let carol = Party::new("carol", Dialect::default(), Quick);
    let closed = network("nobody", Dialect::default()).this_vat();
    let name = EndpointVat::new("bob")
        .unwrap()
        .at(closed.hints()[0].clone())
        .at(carol.name.hints()[0].clone())
        .at(bob.name.hints()[0].clone());
    // Carol is taken for Bob once, and says that she is not.
    let error = alice.system.bootstrap::<echo::Client>(&name).ping_request().call();
    let error = error.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.reason().contains("this is the vat carol"), "{error}");
    alice.system.bootstrap::<echo::Client>(&name).ping_request().call().unwrap();
    assert_eq!(carol.system.connection_count(), 0);
    for party in [alice, bob, carol] {
        party.end();
    }
}

#[test]
fn a_vat_that_cannot_be_dialled_is_answered() {
    let _watchdog = Watchdog::start();
    let bob = Party::new("bob", Dialect::default(), Quick);
    let hidden = EndpointNetwork::outbound_only("hidden", parameters(Dialect::default())).unwrap();
    assert!(hidden.this_vat().hints().is_empty());
    let hidden = Party::on(hidden, Quick);
    hidden.call(&bob);
    bob.call(&hidden);
    hidden.end();
    bob.end();
}

#[test]
fn an_idle_connection_is_closed_without_an_abort_and_made_again() {
    let _watchdog = Watchdog::start();
    for dialect in DIALECTS {
        let (alice, bob) = (Party::new("alice", dialect, Quick), Party::new("bob", dialect, Quick));
        for _ in 0..20 {
            alice.call(&bob);
            let here = alice.system.connection(&bob.name).unwrap().unwrap();
            let there = bob.system.connection(&alice.name).unwrap().unwrap();
            until("the tables are empty", || {
                here.snapshot().is_empty() && there.snapshot().is_empty()
            });
            assert_eq!(alice.system.close_idle(), 1);
            here.join().unwrap();
            there.join().unwrap();
            for error in [here.failure().unwrap(), there.failure().unwrap()] {
                assert_eq!(error.kind(), ErrorKind::Disconnected);
                assert!(!error.reason().contains("Abort"), "{error}");
            }
            assert_eq!(alice.system.connection_count(), 0);
        }
        alice.end();
        bob.end();
    }
}

#[test]
fn a_connection_over_which_a_capability_is_held_is_not_idle() {
    let _watchdog = Watchdog::start();
    let alice = Party::new("alice", Dialect::default(), Quick);
    let bob = Party::new("bob", Dialect::default(), Quick);
    let echo = alice.echo_of(&bob);
    echo.ping_request().call().unwrap();
    assert_eq!(alice.system.close_idle(), 0);
    assert_eq!(bob.system.close_idle(), 0);
    echo.ping_request().call().unwrap();
    drop(echo);
    alice.end();
    bob.end();
}

#[test]
fn no_call_is_lost_when_idle_connections_are_closed_all_the_time() {
    let _watchdog = Watchdog::start();
    for dialect in DIALECTS {
        let (alice, bob) = (Party::new("alice", dialect, Quick), Party::new("bob", dialect, Quick));
        let (alice, bob) = (Arc::new(alice), Arc::new(bob));
        let closed = Arc::new(AtomicUsize::new(0));
        let calling = [(&alice, &bob), (&bob, &alice)].map(|(here, there)| {
            let (here, there, closed) = (Arc::clone(here), Arc::clone(there), Arc::clone(&closed));
            std::thread::spawn(move || {
                while closed.load(Ordering::Relaxed) < 200 {
                    here.call(&there);
                    closed.fetch_add(here.system.close_idle(), Ordering::Relaxed);
                }
            })
        });
        for thread in calling {
            thread.join().unwrap();
        }
        for party in [alice, bob] {
            Arc::into_inner(party).unwrap().end();
        }
    }
}

#[test]
fn the_idle_timeout_closes_and_calls_go_on() {
    let _watchdog = Watchdog::start();
    let bob = Party::new("bob", Dialect::default(), Quick);
    let alice = RpcSystem::builder(&Vat::new(), network("alice", Dialect::default()))
        .idle_timeout(Duration::from_millis(1))
        .close_timeout(AMPLE)
        .start()
        .unwrap();
    for _ in 0..3 {
        alice.bootstrap::<echo::Client>(&bob.name).ping_request().call().unwrap();
        until("the connection is closed", || {
            alice.connection_count() + bob.system.connection_count() == 0
        });
    }
    drop(alice);
    bob.end();
}

#[test]
fn every_outstanding_question_is_rejected_once_when_a_vat_is_lost_and_it_is_reached_again() {
    let _watchdog = Watchdog::start();
    for dialect in DIALECTS {
        const CALLS: usize = 100;
        let alice = Party::new("alice", dialect, Quick);
        let (gate, begun, _end) = Gate::new();
        let bob = Party::new("bob", dialect, gate);
        let echo = alice.echo_of(&bob);
        let (told, outcomes) = mpsc::channel();
        for _ in 0..CALLS {
            let told = told.clone();
            echo.ping_request().send().on_resolve(move |outcome| {
                told.send(outcome.map(drop)).unwrap();
            });
        }
        drop(told);
        // One is under way, the others wait, and then Bob is gone without a word.
        begun.recv().unwrap();
        let hints = bob.name.clone();
        let connection = alice.system.connection(&bob.name).unwrap().unwrap();
        drop(bob);
        let errors: Vec<_> = outcomes.iter().map(Result::unwrap_err).collect();
        assert_eq!(errors.len(), CALLS);
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Disconnected);
        }
        connection.join().unwrap();
        assert!(connection.snapshot().is_empty());
        drop(connection);
        // Another one takes the name, at another address.
        let bob = Party::new("bob", dialect, Quick);
        assert_eq!(bob.name, hints);
        alice.call(&bob);
        drop(echo);
        alice.end();
        bob.end();
    }
}

#[test]
fn draining_refuses_newcomers_and_lets_calls_finish() {
    let _watchdog = Watchdog::start();
    let (gate, begun, end) = Gate::new();
    let server = Party::new("server", Dialect::default(), gate);
    let client = Party::new("client", Dialect::default(), Quick);
    let late = Party::new("late", Dialect::default(), Quick);
    let echo = client.echo_of(&server);
    let call = echo.ping_request().send();
    begun.recv().unwrap();
    echo.as_client().resolve().unwrap();
    let draining = {
        let system = server.system.clone();
        std::thread::spawn(move || system.drain(AMPLE).unwrap())
    };
    // It has begun when the server reaches for nobody any more.
    until("the server drains", || server.system.connection(&client.name).is_err());
    let refused = late.echo_of(&server).ping_request().call().map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Disconnected);
    end.send(()).unwrap();
    call.wait().unwrap();
    drop(call);
    drop(echo);
    assert!(draining.join().unwrap());
    let Party { vat, system, .. } = server;
    drop(system);
    assert!(vat.shutdown(AMPLE).unwrap());
    client.end();
    late.end();
}

#[test]
fn draining_disconnects_at_the_deadline() {
    let _watchdog = Watchdog::start();
    let (gate, begun, end) = Gate::new();
    let server = Party::new("server", Dialect::default(), gate);
    let client = Party::new("client", Dialect::default(), Quick);
    let call = client.echo_of(&server).ping_request().send();
    begun.recv().unwrap();
    assert!(!server.system.drain(Duration::from_millis(1)).unwrap());
    let error = call.wait().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    drop(end);
    let Party { vat, system, .. } = server;
    drop(system);
    assert!(vat.shutdown(AMPLE).unwrap());
    client.end();
}
