//! Networks of vats, with keys and without: who can take whose place.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use capnp_threads_core::network::{Admission, VatNetwork};
use capnp_threads_core::transport::VatId;
use capnp_threads_core::{Error, ErrorKind, Result, RpcSystem, Vat};
use capnp_threads_endpoint::{EndpointNetwork, Parameters};
use capnp_threads_transport::tls::{TlsNetwork, TlsVat, VatKey};
use capnp_threads_transport::{Address, Listener, SocketNetwork, SocketVat, tcp};
use parking_lot::Mutex;
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::objects::Quick;
use rpc_tests::support::{Blocked, Watchdog, until};

fn quick() -> echo::Client {
    echo::Client::from_server(Quick)
}

fn local() -> Address {
    "127.0.0.1:0".parse().unwrap()
}

fn listening(key: &VatKey) -> TlsNetwork {
    TlsNetwork::listening(key, &local()).unwrap()
}

fn system<N: VatNetwork>(network: N) -> RpcSystem<N> {
    RpcSystem::builder(&Vat::new(), network).bootstrap(quick()).start().unwrap()
}

fn ping<N: VatNetwork>(system: &RpcSystem<N>, peer: &N::VatId) -> Result<()> {
    let echo: echo::Client = system.bootstrap(peer);
    echo.ping_request().call().map(drop)
}

fn port_of(address: &Address) -> u16 {
    match address {
        Address::Tcp { port, .. } | Address::Tls { port, .. } => *port,
        _ => panic!("{address}"),
    }
}

/// About whom an authorizer was asked, and who that has proved to be.
type Asked = (TlsVat, Option<VatId>);

#[test]
fn vats_that_reach_for_each_other_at_once_have_one_connection() {
    let _watchdog = Watchdog::start();
    for _ in 0..8 {
        let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let [alice, bob] = [(); 2].map(|()| {
            let network = listening(&VatKey::generate().unwrap());
            let seen = Arc::clone(&seen);
            let builder = RpcSystem::builder(&Vat::new(), network).authorizer(move |peer| {
                seen.lock().push((peer.id.clone(), peer.description.vat()));
                Ok(Admission::new().bootstrap(quick()))
            });
            builder.start().unwrap()
        });
        let calls = [(&alice, &bob), (&bob, &alice)].map(|(from, to)| {
            let (from, name) = (from.clone(), to.network().this_vat());
            thread::spawn(move || (0..20).try_for_each(|_| ping(&from, &name)))
        });
        for call in calls {
            call.join().unwrap().unwrap();
        }
        // A connection that has lost may still be about to end.
        until("one connection", || (alice.connection_count(), bob.connection_count()) == (1, 1));
        assert_eq!((alice.network().peer_count(), bob.network().peer_count()), (1, 1));
        // Whoever is asked about has proved it.
        assert!(seen.lock().iter().all(|(peer, proved)| *proved == Some(peer.id())));
    }
}

/// Takes the port of a vat that has just ended.
fn take(port: u16) -> tcp::Listener {
    let mut taken = None;
    until("the port to be free", || {
        taken = tcp::Listener::bind(("127.0.0.1", port)).ok();
        taken.is_some()
    });
    taken.unwrap()
}

/// Without keys, a vat is whoever listens at its address. With keys it is not.
#[test]
fn steal_an_address() {
    let _watchdog = Watchdog::start();
    let victim = system(SocketNetwork::listening(local().listen().unwrap()).unwrap());
    let at = victim.network().local_address().unwrap().clone();
    let caller = system(SocketNetwork::client());
    ping(&caller, &SocketVat::At(at.clone())).unwrap();
    drop(victim);
    let stolen = Listener::Tcp(take(port_of(&at)));
    let _thief = system(SocketNetwork::listening(stolen).unwrap());
    until("the old connection to end", || caller.connection_count() == 0);
    ping(&caller, &SocketVat::At(at)).unwrap();

    let [victim, thief] = [(); 2].map(|()| VatKey::generate().unwrap());
    let victim = system(listening(&victim));
    let name = victim.network().this_vat();
    let caller = system(TlsNetwork::client(&VatKey::generate().unwrap()).unwrap());
    ping(&caller, &name).unwrap();
    drop(victim);
    let stolen = take(port_of(&name.hints()[0]));
    let thief = system(TlsNetwork::on(&thief, stolen).unwrap());
    until("the old connection to end", || caller.connection_count() == 0);
    let error = ping(&caller, &name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.reason().contains("somebody else may have taken its address"), "{error}");
    assert_eq!(thief.connection_count(), 0);
    // Under its own name the thief is a vat as others are.
    ping(&caller, &thief.network().this_vat()).unwrap();
}

/// Without keys, a vat that comes is nobody. With keys, nobody comes as somebody else.
#[test]
fn impostor() {
    let _watchdog = Watchdog::start();
    let server = system(SocketNetwork::listening(local().listen().unwrap()).unwrap());
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    // The same program twice: two vats, and what the first had stays.
    let clients = [(); 2].map(|()| system(SocketNetwork::client()));
    clients.iter().for_each(|client| ping(client, &name).unwrap());
    until("both clients to be entered", || server.connection_count() == 2);

    let [victim, eve] = [(); 2].map(|()| VatKey::generate().unwrap());
    let server = system(listening(&VatKey::generate().unwrap()));
    let name = server.network().this_vat();
    let honest = system(listening(&victim));
    ping(&honest, &name).unwrap();
    // Eve says that she is reached where the victim is, and is herself all the same.
    let port = port_of(&honest.network().this_vat().hints()[0]);
    let network = TlsNetwork::client(&eve).unwrap().advertise("127.0.0.1", port);
    let impostor = system(network);
    ping(&impostor, &name).unwrap();
    until("the connections to be entered", || server.connection_count() == 2);
    impostor.drain(std::time::Duration::MAX).unwrap();
    until("Eve to be gone", || server.connection_count() == 1);
    // Whoever answers there is not taken for her.
    let error = ping(&server, &TlsVat::new(eve.id())).unwrap_err();
    assert!(error.reason().contains(&victim.id().to_string()), "{error}");
    // And the victim is still there, over the connection that it made.
    ping(&server, &TlsVat::new(victim.id())).unwrap();
    until("the connections to be entered", || server.connection_count() == 1);
}

#[test]
fn a_vat_that_restarts_takes_the_place_of_what_it_was() {
    let _watchdog = Watchdog::start();
    let key = VatKey::generate().unwrap();
    let server = system(listening(&VatKey::generate().unwrap()));
    let name = server.network().this_vat();
    let mut before = system(TlsNetwork::client(&key).unwrap());
    for _ in 0..3 {
        ping(&before, &name).unwrap();
        // The old program still has its connection when the new one comes.
        let after = system(TlsNetwork::client(&key).unwrap());
        ping(&after, &name).unwrap();
        until("the old connection to end", || before.connection_count() == 0);
        until("the connections to be entered", || server.connection_count() == 1);
        // It began earlier, and is refused now.
        let error = ping(&before, &name).unwrap_err();
        assert!(error.reason().contains("began later"), "{error}");
        ping(&after, &name).unwrap();
        before = after;
    }
}

#[test]
fn vats_of_endpoints_prove_their_ids() {
    let _watchdog = Watchdog::start();
    let [alice, bob] = [(); 2].map(|()| {
        let key = VatKey::generate().unwrap();
        let id = key.id().to_string();
        let mut parameters = Parameters::default();
        parameters.key = Some(key);
        let network = EndpointNetwork::listening(&id, "127.0.0.1", 0, parameters).unwrap();
        let builder = RpcSystem::builder(&Vat::new(), network).authorizer(|peer| {
            let proved = peer.description.vat().map(|vat| vat.to_string());
            if proved.as_deref() == Some(peer.id.id()) {
                Ok(Admission::new().bootstrap(quick()))
            } else {
                Err(Error::failed("come with a key"))
            }
        });
        builder.start().unwrap()
    });
    let calls = [(&alice, &bob), (&bob, &alice)].map(|(from, to)| {
        let (from, name) = (from.clone(), to.network().this_vat());
        thread::spawn(move || (0..20).try_for_each(|_| ping(&from, &name)))
    });
    for call in calls {
        call.join().unwrap().unwrap();
    }
    until("one connection", || (alice.connection_count(), bob.connection_count()) == (1, 1));
}

#[test]
fn a_vat_that_is_refused_can_be_called_over_the_connection_that_it_makes() {
    let _watchdog = Watchdog::start();
    let alice = RpcSystem::builder(&Vat::new(), listening(&VatKey::generate().unwrap()))
        .authorizer(|_| Err(Error::failed("alice serves nobody")))
        .start()
        .unwrap();
    let key = VatKey::generate().unwrap();
    let bob = system(TlsNetwork::client(&key).unwrap());
    // Alice reaches for Bob where nobody answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let name = TlsVat::new(key.id()).at("127.0.0.1", silent.local_addr().unwrap().port());
    let reaching = {
        let alice = alice.clone();
        Blocked::spawn(move || ping(&alice, &name))
    };
    let (held, _) = silent.accept().unwrap();
    // Meanwhile Bob comes.
    let error = ping(&bob, &alice.network().this_vat()).unwrap_err();
    assert!(error.reason().contains("alice serves nobody"), "{error}");
    drop((held, silent));
    reaching.join().unwrap();
    assert_eq!((alice.connection_count(), bob.connection_count()), (1, 1));
    // One for which Alice does not reach is refused at once.
    let stranger = system(TlsNetwork::client(&VatKey::generate().unwrap()).unwrap());
    let error = ping(&stranger, &alice.network().this_vat()).unwrap_err();
    assert!(error.reason().contains("alice serves nobody"), "{error}");
    until("the stranger to be gone", || stranger.connection_count() == 0);
}
