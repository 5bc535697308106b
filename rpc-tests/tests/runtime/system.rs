//! Vats that know each other by name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use capnp_threads_core::network::{Accepted, Reached, VatNetwork};
use capnp_threads_core::{ConnConfig, Connection, Error, ErrorKind, FromClient, RpcSystem, Vat};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat, Transport, memory};
use parking_lot::Mutex;
use rpc_schema::echo_capnp::echo;
use rpc_schema::greeter_capnp::{greeter, guest};
use rpc_tests::support::objects::{Gate, Quick};
use rpc_tests::support::{Event, LONG, Watchdog, until};

fn listening() -> SocketNetwork {
    let address: Address = "127.0.0.1:0".parse().unwrap();
    SocketNetwork::listening(address.listen().unwrap()).unwrap()
}

fn quick() -> echo::Client {
    echo::Client::from_server(Quick)
}

#[test]
fn a_vat_is_reached_by_name_over_one_connection() {
    let server = RpcSystem::builder(&Vat::new(), listening()).bootstrap(quick()).start().unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (client, name) = (client.clone(), name.clone());
            std::thread::spawn(move || {
                let echo: echo::Client = client.bootstrap(&name);
                echo.ping_request().call().map(drop)
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    assert_eq!(client.connection_count(), 1);
    assert_eq!(server.connection_count(), 1);
    assert!(server.drain(Duration::MAX).unwrap());
}

#[test]
fn a_vat_that_asks_for_itself_gets_its_own_object() {
    let system = RpcSystem::builder(&Vat::new(), listening()).bootstrap(quick()).start().unwrap();
    let own = SocketVat::At(system.network().local_address().unwrap().clone());
    let echo: echo::Client = system.bootstrap(&own);
    assert!(capnp_threads_core::typed::unwrap_server::<Quick>(&echo).is_some());
    assert_eq!(system.connection_count(), 0);
}

#[test]
fn a_peer_is_offered_what_the_factory_decides() {
    let server = RpcSystem::builder(&Vat::new(), listening())
        .bootstrap_factory(|peer| match peer.id {
            SocketVat::Client(1) => None,
            _ => Some(capnp_threads_core::FromClient::into_client(quick())),
        })
        .start()
        .unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let first = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let refused: echo::Client = first.bootstrap(&name);
    assert!(refused.ping_request().call().is_err());
    let second = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let served: echo::Client = second.bootstrap(&name);
    served.ping_request().call().unwrap();
}

#[test]
fn the_trace_encoder_of_a_system_is_for_connections_that_exist_too() {
    struct Failing;
    impl echo::Server for Failing {
        fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<(), Error> {
            Err(Error::failed("no").with_trace("as it was made"))
        }
    }
    let offered = echo::Client::from_server(Failing);
    let server = RpcSystem::builder(&Vat::new(), listening()).bootstrap(offered).start().unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let echo: echo::Client = client.bootstrap(&name);
    let trace = || echo.ping_request().call().map(|_| ()).unwrap_err().trace().to_owned();
    assert_eq!(trace(), "as it was made");
    server.set_trace_encoder(|error| error.trace().to_uppercase());
    assert_eq!(trace(), "AS IT WAS MADE");
}

/// A server that offers a gate: its calls say when they begin, and end when they may.
struct Guarded {
    server: RpcSystem<SocketNetwork>,
    client: RpcSystem<SocketNetwork>,
    name: SocketVat,
    has_begun: mpsc::Receiver<()>,
    end: mpsc::Sender<()>,
}

impl Guarded {
    fn start() -> Self {
        let (gate, has_begun, end) = Gate::new();
        let gate = echo::Client::from_server(gate);
        let server = RpcSystem::builder(&Vat::new(), listening()).bootstrap(gate).start().unwrap();
        let name = SocketVat::At(server.network().local_address().unwrap().clone());
        let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
        Guarded { server, client, name, has_begun, end }
    }

    fn echo(&self) -> echo::Client {
        self.client.bootstrap(&self.name)
    }

    fn drain(&self, timeout: Duration) -> JoinHandle<bool> {
        let server = self.server.clone();
        thread::spawn(move || server.drain(timeout).unwrap())
    }

    /// Waits until the server refuses the calls of a connection. It answers bootstraps
    /// at once.
    fn wait_until_refused(&self) {
        let connection = self.client.connection(&self.name).unwrap().unwrap();
        until("the server to drain", || {
            let asked = connection.bootstrap_client().resolve();
            asked.is_err_and(|error| error.is_draining())
        });
    }
}

/// The gate is serial: while one call is in it, further ones wait in its mailbox.
#[test]
fn draining_answers_what_has_begun_and_refuses_the_rest() {
    let _watchdog = Watchdog::start();
    let guarded = Guarded::start();
    let echo = guarded.echo();
    let (first, second) = (echo.ping_request().send(), echo.ping_request().send());
    guarded.has_begun.recv().unwrap();
    let connection = guarded.client.connection(&guarded.name).unwrap().unwrap();
    // What is answered now has arrived behind the second call.
    connection.bootstrap_client().resolve().unwrap();
    let draining = guarded.drain(LONG);
    guarded.wait_until_refused();
    let refused = echo.ping_request().call().unwrap_err();
    assert!(refused.is_draining() && refused.kind() == ErrorKind::Disconnected, "{refused}");
    guarded.end.send(()).unwrap();
    guarded.has_begun.recv().unwrap();
    guarded.end.send(()).unwrap();
    first.wait().unwrap();
    second.wait().unwrap();
    assert!(draining.join().unwrap());
    assert!(connection.join_timeout(LONG).unwrap());
    let failure = connection.failure().unwrap();
    assert!(failure.reason().contains("try another server"), "{failure}");
    assert!(guarded.has_begun.try_recv().is_err());
    assert!(guarded.echo().ping_request().call().is_err());
    // Again: nothing is left to be done.
    assert!(guarded.server.drain(LONG).unwrap());
}

#[test]
fn two_threads_that_drain_wait_for_the_same_calls() {
    let _watchdog = Watchdog::start();
    let guarded = Guarded::start();
    let echo = guarded.echo();
    let call = echo.ping_request().send();
    guarded.has_begun.recv().unwrap();
    let first = guarded.drain(LONG);
    guarded.wait_until_refused();
    assert!(!guarded.server.drain(Duration::ZERO).unwrap());
    // The one without patience has ended the connection.
    assert!(call.wait().is_err());
    first.join().unwrap();
}

/// Neither a method nor a thread of a supervisor that never ends holds it up.
#[test]
fn draining_ends_when_its_time_is_over() {
    let _watchdog = Watchdog::start();
    let (gate, has_begun, end) = Gate::new();
    let gate = echo::Client::from_server(gate);
    let vat = Vat::new();
    let server = RpcSystem::builder(&vat, listening())
        .bootstrap(gate)
        .close_timeout(Duration::from_millis(10))
        .start()
        .unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let echo: echo::Client = client.bootstrap(&name);
    let call = echo.ping_request().send();
    has_begun.recv().unwrap();
    // The call may have begun before the connection is entered.
    until("the connection to be known", || server.connection_count() == 1);
    let connection = server.connection(&SocketVat::Client(1)).unwrap().unwrap();
    let go = Event::new();
    let stubborn = go.clone();
    connection.supervisor().spawn("sys-stubborn", move |_| stubborn.wait()).unwrap();
    assert!(!server.drain(Duration::ZERO).unwrap());
    let error = call.wait().map(drop).unwrap_err();
    assert!(!error.is_draining(), "nobody knows whether it ran: {error}");
    assert_eq!(server.connection_count(), 0);
    // The threads go on, and a shutdown of the vat knows of them.
    assert!(!vat.shutdown(Duration::ZERO).unwrap());
    drop(end);
    go.set();
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn a_method_cannot_drain_its_own_server() {
    struct Ends(Mutex<Option<RpcSystem<SocketNetwork>>>);
    impl echo::Server for Ends {
        fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<(), Error> {
            let server = self.0.lock().take().expect("one call is made");
            server.drain(LONG).map(drop)
        }
    }
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let exported: echo::Client = vat.export(Ends(Mutex::new(None)));
    let server = RpcSystem::builder(&vat, listening()).bootstrap(exported.clone()).start().unwrap();
    let own = capnp_threads_core::typed::unwrap_server::<Ends>(&exported).unwrap();
    *own.0.lock() = Some(server.clone());
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let error = client.bootstrap::<echo::Client>(&name).ping_request().call().unwrap_err();
    assert!(error.reason().contains("would wait for itself"), "{error}");
    assert!(server.drain(LONG).unwrap());
}

#[test]
fn a_connection_that_was_idle_and_closed_is_made_again() {
    let server = RpcSystem::builder(&Vat::new(), listening()).bootstrap(quick()).start().unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    for _ in 0..3 {
        let echo: echo::Client = client.bootstrap(&name);
        echo.ping_request().call().unwrap();
        let connection = client.connection(&name).unwrap().unwrap();
        drop(echo);
        assert_eq!(client.close_idle(), 1);
        connection.join().unwrap();
        assert_eq!(client.connection_count(), 0);
    }
}

/// A network in which a vat is reached, in vain, when the test says so.
struct Slow {
    reaching: mpsc::Sender<()>,
    given_up: Mutex<mpsc::Receiver<()>>,
    closed: Mutex<mpsc::Receiver<()>>,
    close: Mutex<Option<mpsc::Sender<()>>>,
}

impl VatNetwork for Slow {
    type VatId = u32;

    fn connect(&self, _: &u32) -> Result<Reached, Error> {
        self.reaching.send(()).unwrap();
        self.given_up.lock().recv().unwrap();
        Err(Error::disconnected("nobody is there"))
    }

    fn accept(&self) -> Result<Option<Accepted<u32>>, Error> {
        // Ends when the sender is gone.
        let _ = self.closed.lock().recv();
        Ok(None)
    }

    fn shutdown(&self) {
        self.close.lock().take();
    }
}

/// A network whose first attempt to connect crosses with the peer's own, which the test lets
/// come and go meanwhile.
struct Crossing {
    crosses: AtomicBool,
    came_and_went: Event,
    accepted: Mutex<mpsc::Receiver<Transport>>,
    close: Mutex<Option<mpsc::Sender<Transport>>>,
    served: Mutex<Option<Connection>>,
}

impl VatNetwork for Crossing {
    type VatId = u32;

    fn connect(&self, _: &u32) -> Result<Reached, Error> {
        if self.crosses.swap(false, Ordering::SeqCst) {
            self.came_and_went.wait();
            return Ok(Reached::Crossed);
        }
        let (here, there) = memory::pair();
        let config = ConnConfig::new().bootstrap(quick().into_client());
        *self.served.lock() = Some(Vat::new().connect(there, config)?);
        Ok(Reached::Peer(here))
    }

    fn accept(&self) -> Result<Option<Accepted<u32>>, Error> {
        // Ends when the senders are gone.
        let transport = self.accepted.lock().recv().ok();
        Ok(transport.map(|transport| Accepted { peer: 7, transport }))
    }

    fn shutdown(&self) {
        self.close.lock().take();
    }
}

/// Whether its connection was idle or broke, that it has ended says nothing of whether the peer
/// is there.
#[test]
fn a_peer_whose_own_connection_came_and_went_is_reached_all_the_same() {
    let _watchdog = Watchdog::start();
    let (accept, accepted) = mpsc::channel();
    let came_and_went = Event::new();
    let network = Crossing {
        crosses: AtomicBool::new(true),
        came_and_went: came_and_went.clone(),
        accepted: Mutex::new(accepted),
        close: Mutex::new(Some(accept.clone())),
        served: Mutex::default(),
    };
    let system = RpcSystem::builder(&Vat::new(), network).start().unwrap();
    let asking = {
        let system = system.clone();
        thread::spawn(move || {
            let echo: echo::Client = system.bootstrap(&7);
            echo.ping_request().call().map(drop)
        })
    };
    until("the attempt", || !system.network().crosses.load(Ordering::SeqCst));
    let (here, there) = memory::pair();
    accept.send(here).unwrap();
    let theirs = Vat::new().connect(there, ConnConfig::new()).unwrap();
    until("it to come", || system.connection_count() == 1);
    theirs.close();
    until("it to go", || system.connection_count() == 0);
    came_and_went.set();
    asking.join().unwrap().unwrap();
    drop(accept);
    assert!(system.drain(LONG).unwrap());
}

/// Does something when it is dropped.
struct AtDrop<F: Fn() + Send + Sync + 'static>(F);

impl<F: Fn() + Send + Sync + 'static> guest::Server for AtDrop<F> {}
impl<F: Fn() + Send + Sync + 'static> Drop for AtDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// Keeps whoever comes.
#[derive(Default)]
struct Host(Mutex<Vec<guest::Client>>);

impl greeter::Server for Host {
    fn greet_guest(
        &self,
        params: greeter::GreetGuestParams,
        _: greeter::GreetGuestResults,
    ) -> Result<(), Error> {
        self.0.lock().push(params.get()?.get_guest()?);
        Ok(())
    }
}

#[test]
fn destructors_may_use_the_system_while_another_thread_reaches_for_a_peer() {
    let (reaching, reached) = mpsc::channel();
    let (give_up, given_up) = mpsc::channel();
    let (close, closed) = mpsc::channel();
    let network = Slow {
        reaching,
        given_up: Mutex::new(given_up),
        closed: Mutex::new(closed),
        close: Mutex::new(Some(close)),
    };
    let system = RpcSystem::builder(&Vat::new(), network).start().unwrap();

    // Two objects that only the peer of a connection holds: closing it drops the
    // one, which waits for a peer, and then the other, which has to be dropped
    // before that wait can end.
    let (near, far) = capnp_threads_transport::memory::pair();
    let far_vat = Vat::new();
    let host: greeter::Client = far_vat.export(Host::default());
    let far = far_vat.connect(far, ConnConfig::new().bootstrap(host)).unwrap();
    let near_vat = Vat::new();
    let near = near_vat.connect(near, ConnConfig::new()).unwrap();
    let host: greeter::Client = near.bootstrap();
    let bring = |guest: guest::Client| {
        let mut request = host.greet_guest_request();
        request.get().set_guest(guest);
        request.call().unwrap();
    };
    let (waiting, counting) = (system.clone(), system.clone());
    bring(near_vat.export(AtDrop(move || {
        let error = waiting.connection(&7).unwrap_err();
        assert_eq!(error.reason(), "nobody is there");
    })));
    bring(near_vat.export(AtDrop(move || {
        assert_eq!(counting.connection_count(), 0);
        // Once for whoever reaches now, once for the one who tries again.
        give_up.send(()).unwrap();
        give_up.send(()).unwrap();
    })));

    let reaching = {
        let system = system.clone();
        std::thread::spawn(move || system.connection(&7).unwrap_err())
    };
    reached.recv().unwrap();
    drop(host);
    let (done, closed) = mpsc::channel();
    std::thread::spawn(move || {
        near.close();
        done.send(()).unwrap();
    });
    closed.recv_timeout(Duration::from_secs(60)).expect("the destructors wait for each other");
    assert_eq!(reaching.join().unwrap().reason(), "nobody is there");
    far.join().unwrap();
}
