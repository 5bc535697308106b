//! Who is let in, who is sent away, and that nothing ends a server that accepts.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use capnp_threads_core::describe::{DescribeOptions, Direction, describe};
use capnp_threads_core::network::{Accepted, Admission, Listen, Reached, VatNetwork};
use capnp_threads_core::vat::AcceptLimits;
use capnp_threads_core::{
    ConnConfig, Connection, Error, ErrorKind, Limits, Result, RpcSystem, ServeConfig, Vat,
};
use capnp_threads_transport::{Address, Transport, memory};
use parking_lot::Mutex;
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::objects::{Gate, Quick};
use rpc_tests::support::{LONG, Watchdog, until};

fn quick() -> echo::Client {
    echo::Client::from_server(Quick)
}

/// What comes to a [`Queue`]; `None` closes it.
type Next = Option<Result<Transport>>;

/// A listener, and a network, to which comes what the test says.
struct Queue {
    next: Mutex<mpsc::Receiver<Next>>,
    close: mpsc::Sender<Next>,
}

impl Queue {
    fn new() -> (mpsc::Sender<Next>, Self) {
        let (send, next) = mpsc::channel();
        (send.clone(), Queue { next: Mutex::new(next), close: send })
    }
}

impl Listen for Queue {
    fn next_peer(&self) -> Result<Option<Transport>> {
        self.next.lock().recv().unwrap().transpose()
    }

    fn closing(&self) -> Box<dyn Fn() + Send + Sync> {
        let close = Mutex::new(self.close.clone());
        Box::new(move || drop(close.lock().send(None)))
    }
}

impl VatNetwork for Queue {
    type VatId = u32;

    fn connect(&self, _: &u32) -> Result<Reached> {
        Err(Error::disconnected("nobody can be reached"))
    }

    fn accept(&self) -> Result<Option<Accepted<u32>>> {
        Ok(self.next_peer()?.map(|transport| Accepted { peer: 7, transport }))
    }

    fn shutdown(&self) {
        drop(self.close.send(None));
    }
}

/// A vat that serves in a thread of its own.
struct Server {
    vat: Vat,
    come: mpsc::Sender<Next>,
    serving: JoinHandle<Result<()>>,
}

impl Server {
    fn start(config: ServeConfig) -> Self {
        let vat = Vat::new();
        let (come, listener) = Queue::new();
        let own = vat.clone();
        let serving = thread::spawn(move || own.serve(&listener, config));
        Server { vat, come, serving }
    }

    /// The end of a connection in the hands of a peer that has come.
    fn peer(&self) -> Transport {
        let (near, far) = memory::pair();
        self.come.send(Some(Ok(far))).unwrap();
        near
    }

    fn client(&self) -> Connection {
        Vat::new().connect(self.peer(), ConnConfig::new()).unwrap()
    }

    fn fail(&self, error: Error) {
        self.come.send(Some(Err(error))).unwrap();
    }
}

fn ping(connection: &Connection) -> Result<()> {
    let echo: echo::Client = connection.bootstrap();
    echo.ping_request().call().map(drop)
}

/// Why the other side ended a connection.
fn told(connection: &Connection) -> String {
    assert!(connection.join_timeout(LONG).unwrap());
    let failure = connection.failure().unwrap();
    let reason = failure.reason().strip_prefix("the peer ended the connection: ");
    reason.unwrap_or_else(|| panic!("not told: {failure}")).to_owned()
}

#[test]
fn a_server_goes_on_after_everything_that_goes_wrong_with_peers() {
    let _watchdog = Watchdog::start();
    let asked = Mutex::new(0);
    let server = Server::start(ServeConfig::new(move |_| {
        *asked.lock() += 1;
        match *asked.lock() {
            1 => panic!("on purpose"),
            2 => Err(Error::failed("come again")),
            _ => Ok(ConnConfig::new().bootstrap(quick())),
        }
    }));
    server.fail(Error::overloaded("out of descriptors"));
    assert_eq!(told(&server.client()), "the server failed to decide what to offer");
    server.fail(Error::failed("for no reason"));
    assert_eq!(told(&server.client()), "come again");
    let served = server.client();
    ping(&served).unwrap();
    // The connection outlives the serving.
    server.come.send(None).unwrap();
    server.serving.join().unwrap().unwrap();
    ping(&served).unwrap();
    served.close();
    until("the connection to end", || server.vat.connection_count() == 0);
}

#[test]
fn a_shutdown_ends_the_serving_and_nobody_serves_afterwards() {
    let _watchdog = Watchdog::start();
    let server = Server::start(ServeConfig::bootstrap(quick()));
    let client = server.client();
    ping(&client).unwrap();
    assert!(server.vat.shutdown(LONG).unwrap());
    server.serving.join().unwrap().unwrap();
    assert!(client.join_timeout(LONG).unwrap());
    let (_come, listener) = Queue::new();
    let late = server.vat.serve(&listener, ServeConfig::bootstrap(quick())).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Disconnected);
}

#[test]
fn one_connection_too_many_is_told_so_until_another_has_ended() {
    let _watchdog = Watchdog::start();
    let mut limits = AcceptLimits::default();
    limits.connections = 2;
    let server = Server::start(ServeConfig::bootstrap(quick()).accept_limits(limits));
    let (first, second) = (server.client(), server.client());
    ping(&first).unwrap();
    ping(&second).unwrap();
    for _ in 0..100 {
        assert!(told(&server.client()).contains("2 connections, its limit"));
    }
    assert_eq!(server.vat.connection_count(), 2);
    first.close();
    until("a place to be free", || ping(&server.client()).is_ok());
    ping(&second).unwrap();
    assert!(server.vat.shutdown(LONG).unwrap());
}

#[test]
fn one_address_has_so_many_connections() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let address = listener.local_address().unwrap();
    let mut limits = AcceptLimits::default();
    limits.connections_per_peer = 1;
    let config = ServeConfig::bootstrap(quick()).accept_limits(limits);
    let own = vat.clone();
    let serving = thread::spawn(move || own.serve(&listener, config));
    let connect = || Vat::new().connect(address.connect().unwrap(), ConnConfig::new()).unwrap();
    let first = connect();
    ping(&first).unwrap();
    // It sends nothing itself, so that nothing can destroy what it is told.
    assert!(told(&connect()).contains("1 connections with you, its limit"));
    assert!(vat.shutdown(LONG).unwrap());
    serving.join().unwrap().unwrap();
}

/// Reads what a silent peer is told, and that its connection ends.
fn last_words(mut peer: Transport) -> String {
    let message = peer.reader.read().unwrap().expect("nothing was said");
    let words = describe(&message, Direction::Received, &DescribeOptions::default());
    assert!(peer.reader.read().unwrap().is_none());
    words
}

#[test]
fn a_peer_that_never_says_anything_has_to_leave() {
    let _watchdog = Watchdog::start();
    let mut limits = AcceptLimits::default();
    limits.first_message = Duration::ZERO;
    let server = Server::start(ServeConfig::bootstrap(quick()).accept_limits(limits));
    let peers = [(); 10].map(|()| server.peer());
    for peer in peers {
        let words = last_words(peer);
        assert!(words.contains("sent nothing within 0ns"), "{words}");
    }
    until("the connections to end", || server.vat.connection_count() == 0);
    assert!(server.vat.shutdown(LONG).unwrap());
}

#[test]
fn a_connection_that_nobody_uses_is_closed() {
    let _watchdog = Watchdog::start();
    let mut limits = AcceptLimits::default();
    limits.idle = Duration::ZERO;
    let server = Server::start(ServeConfig::bootstrap(quick()).accept_limits(limits));
    let unused = server.client();
    assert!(unused.join_timeout(LONG).unwrap());
    until("the connection to end", || server.vat.connection_count() == 0);
    assert!(server.vat.shutdown(LONG).unwrap());
}

#[test]
fn a_system_goes_on_accepting_after_failures() {
    let _watchdog = Watchdog::start();
    let (come, network) = Queue::new();
    let system = RpcSystem::builder(&Vat::new(), network).bootstrap(quick()).start().unwrap();
    for _ in 0..3 {
        come.send(Some(Err(Error::overloaded("out of descriptors")))).unwrap();
    }
    let (near, far) = memory::pair();
    come.send(Some(Ok(far))).unwrap();
    let client = Vat::new().connect(near, ConnConfig::new()).unwrap();
    ping(&client).unwrap();
    assert!(system.drain(LONG).unwrap());
}

#[test]
fn those_whom_the_factory_of_a_system_refuses_leave_nothing_behind() {
    let _watchdog = Watchdog::start();
    let (come, network) = Queue::new();
    let vat = Vat::new();
    let system = RpcSystem::builder(&vat, network).bootstrap_factory(|_| None).start().unwrap();
    for _ in 0..100 {
        let (near, far) = memory::pair();
        come.send(Some(Ok(far))).unwrap();
        let client = Vat::new().connect(near, ConnConfig::new()).unwrap();
        assert_eq!(told(&client), "this vat has nothing to offer to you");
    }
    assert_eq!((vat.connection_count(), system.connection_count()), (0, 0));
}

#[test]
fn a_system_without_a_factory_lets_peers_in_that_offer_something() {
    let _watchdog = Watchdog::start();
    let (come, network) = Queue::new();
    let system = RpcSystem::builder(&Vat::new(), network).start().unwrap();
    let (near, far) = memory::pair();
    come.send(Some(Ok(far))).unwrap();
    let offering = ConnConfig::new().bootstrap(quick());
    let client = Vat::new().connect(near, offering).unwrap();
    until("the system to know the peer", || system.connection_count() == 1);
    system.bootstrap::<echo::Client>(&7).ping_request().call().unwrap();
    assert_eq!(client.failure(), None);
    let error = ping(&client).unwrap_err();
    assert!(error.reason().contains("offers no bootstrap capability"), "{error}");
}

#[test]
fn limits_that_let_nobody_in_are_errors() {
    let mut limits = AcceptLimits::default();
    limits.connections = 0;
    let (_come, listener) = Queue::new();
    let config = ServeConfig::bootstrap(quick()).accept_limits(limits.clone());
    let error = Vat::new().serve(&listener, config).unwrap_err();
    assert!(error.reason().contains("AcceptLimits::connections is 0"), "{error}");
    let (_come, network) = Queue::new();
    let system = RpcSystem::builder(&Vat::new(), network).accept_limits(limits).start();
    assert!(system.unwrap_err().reason().contains("AcceptLimits::connections is 0"));
}

#[test]
fn a_vat_that_drains_answers_what_has_begun_and_closes_its_listeners() {
    let _watchdog = Watchdog::start();
    let (gate, has_begun, end) = Gate::new();
    let gate = echo::Client::from_server(gate);
    let server = Server::start(ServeConfig::bootstrap(gate));
    let client = server.client();
    let echo: echo::Client = client.bootstrap();
    let call = echo.ping_request().send();
    has_begun.recv().unwrap();
    let draining = {
        let vat = server.vat.clone();
        thread::spawn(move || vat.drain(LONG))
    };
    until("the vat to drain", || {
        client.bootstrap_client().resolve().is_err_and(|error| error.is_draining())
    });
    assert!(echo.ping_request().call().unwrap_err().is_draining());
    end.send(()).unwrap();
    call.wait().unwrap();
    assert!(draining.join().unwrap().unwrap());
    server.serving.join().unwrap().unwrap();
    assert!(told(&client).contains("try another server"));
    assert!(has_begun.try_recv().is_err());
}

#[test]
fn the_authorizer_of_a_system_refuses_with_its_reason_and_sets_limits() {
    let _watchdog = Watchdog::start();
    let (come, network) = Queue::new();
    let vat = Vat::new();
    let asked = Mutex::new(0);
    let system = RpcSystem::builder(&vat, network)
        .authorizer(move |peer| {
            assert_eq!(*peer.id, 7);
            *asked.lock() += 1;
            match *asked.lock() {
                1 => Err(Error::failed("you are not on the list")),
                2 => panic!("on purpose"),
                3 => Ok(Admission::new()),
                4 => {
                    let mut limits = Limits::default();
                    limits.message_words = 2;
                    Ok(Admission::new().bootstrap(quick()).limits(limits))
                }
                _ => Ok(Admission::new().bootstrap(quick())),
            }
        })
        .start()
        .unwrap();
    let client = || {
        let (near, far) = memory::pair();
        come.send(Some(Ok(far))).unwrap();
        Vat::new().connect(near, ConnConfig::new()).unwrap()
    };
    assert_eq!(told(&client()), "you are not on the list");
    assert_eq!(told(&client()), "the authorizer or bootstrap factory panicked");
    assert_eq!(told(&client()), "this vat has nothing to offer to you");
    let limited = client();
    // The reason may be lost: this side writes, and the other does not read any more.
    assert!(ping(&limited).is_err());
    assert!(limited.join_timeout(LONG).unwrap());
    ping(&client()).unwrap();
    // The other side of an ended connection may still be ending.
    until("the others to have ended", || vat.connection_count() == 1);
    drop(system);
}
