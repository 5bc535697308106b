//! Panics of what the application plugs in: transports, networks, factories, and what
//! objects say about themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capnp_threads_core::fd::SharedFd;
use capnp_threads_core::message::Message;
use capnp_threads_core::network::{Accepted, Reached, VatNetwork};
use capnp_threads_core::transport::{
    FrameLimits, MessageReader, MessageWriter, PeerDescription, Received, Transport,
    TransportControl, TransportError,
};
use capnp_threads_core::untyped::{Dispatch, IncomingCall, Payload};
use capnp_threads_core::{ConnConfig, Connection, ErrorKind, FromClient, RpcSystem, Vat};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{Quick, answer_foo, call_foo, foo, foo_request};
use rpc_tests::support::{Event, LONG, Watchdog, Wire, vat};

/// The method of a plug-in that panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Write,
    TryWrite,
    Finish,
    MaxFds,
    Read,
    HasBuffered,
    SetLimits,
    Shutdown,
    Peer,
    SendBuffer,
    DropOfReader,
}

/// Counts the calls of the method that panics, and lets some of them pass.
#[derive(Clone)]
struct Panics {
    method: In,
    passes: usize,
    calls: Arc<AtomicUsize>,
}

impl Panics {
    fn comes_to(&self, method: In) {
        let passes =
            method != self.method || self.calls.fetch_add(1, Ordering::SeqCst) < self.passes;
        assert!(passes, "on purpose");
    }
}

struct Wrapped<T: ?Sized>(Box<T>, Panics);

impl MessageReader for Wrapped<dyn MessageReader> {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        self.0.read()
    }

    fn read_next(&mut self) -> Result<Received, TransportError> {
        let read = self.0.read_next();
        self.1.comes_to(In::Read);
        read
    }

    fn has_buffered(&self) -> bool {
        self.1.comes_to(In::HasBuffered);
        self.0.has_buffered()
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.1.comes_to(In::SetLimits);
        self.0.set_limits(limits);
    }
}

impl MessageWriter for Wrapped<dyn MessageWriter> {
    fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
        self.1.comes_to(In::Write);
        self.0.write(batch)
    }

    fn try_write(&mut self, batch: &mut Vec<Message>) -> Result<bool, TransportError> {
        if self.1.method == In::Write {
            // Leaves everything to the send thread.
            return Ok(batch.is_empty());
        }
        self.1.comes_to(In::TryWrite);
        self.0.try_write(batch)
    }

    fn max_fds(&self) -> usize {
        self.1.comes_to(In::MaxFds);
        self.0.max_fds()
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        self.1.comes_to(In::Finish);
        self.0.finish()
    }
}

struct Control(Arc<dyn TransportControl>, Panics);

impl TransportControl for Control {
    fn shutdown(&self) {
        self.0.shutdown();
        self.1.comes_to(In::Shutdown);
    }

    fn peer(&self) -> PeerDescription {
        self.1.comes_to(In::Peer);
        self.0.peer()
    }

    fn send_buffer(&self) -> Option<u64> {
        self.1.comes_to(In::SendBuffer);
        self.0.send_buffer()
    }
}

struct DropsBadly(Box<dyn MessageReader>);

impl MessageReader for DropsBadly {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        self.0.read()
    }

    fn has_buffered(&self) -> bool {
        self.0.has_buffered()
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.0.set_limits(limits);
    }
}

impl Drop for DropsBadly {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

fn wrap(transport: Transport, method: In, passes: usize) -> (Transport, Arc<AtomicUsize>) {
    let panics = Panics { method, passes, calls: Arc::default() };
    let Transport { reader, writer, control } = transport;
    let mut reader: Box<dyn MessageReader> = Box::new(Wrapped(reader, panics.clone()));
    if method == In::DropOfReader {
        reader = Box::new(DropsBadly(reader));
    }
    let writer = Box::new(Wrapped(writer, panics.clone()));
    let control = Arc::new(Control(control, panics.clone()));
    (Transport { reader, writer, control }, panics.calls)
}

/// A client whose transport panics, and its server.
struct Link {
    client_vat: Vat,
    server_vat: Vat,
    client: Connection,
    server: Connection,
    calls: Arc<AtomicUsize>,
}

fn link(method: In, passes: usize) -> Link {
    let (client_vat, server_vat) = (vat("plc"), vat("pls"));
    let (here, there) = Wire::Memory.pair();
    let (here, calls) = wrap(here, method, passes);
    let bootstrap = foo(&server_vat, answer_foo);
    let server = server_vat.connect(there, ConnConfig::new().bootstrap(bootstrap)).unwrap();
    let client = client_vat.connect(here, ConnConfig::new()).unwrap();
    Link { client_vat, server_vat, client, server, calls }
}

impl Link {
    fn end(self) {
        assert!(self.client.join_timeout(LONG).unwrap());
        assert!(self.server.join_timeout(LONG).unwrap());
        assert!(self.client_vat.shutdown(LONG).unwrap());
        assert!(self.server_vat.shutdown(LONG).unwrap());
    }
}

#[test]
fn a_transport_that_panics_ends_its_connection_and_tells_why() {
    let _watchdog = Watchdog::start();
    for (method, reason) in [
        (In::Write, "the transport's writer panicked"),
        (In::TryWrite, "the transport's writer panicked"),
        (In::Read, "the transport's reader panicked"),
        (In::HasBuffered, "the receive thread of the connection panicked"),
    ] {
        for passes in [0, 2] {
            let link = link(method, passes);
            let client: test_interface::Client = link.client.bootstrap();
            let error = loop {
                if let Err(error) = call_foo(&client) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{method:?}");
            assert!(error.reason().contains(reason), "{method:?}: {error}");
            assert!(link.calls.load(Ordering::SeqCst) > passes);
            link.end();
        }
    }
}

#[test]
fn a_transport_that_panics_at_the_end_ends_all_the_same() {
    let _watchdog = Watchdog::start();
    for method in [In::Finish, In::Shutdown, In::DropOfReader] {
        let link = link(method, 0);
        call_foo(&link.client.bootstrap()).unwrap();
        link.client.close();
        link.end();
    }
}

#[test]
fn a_transport_that_panics_at_the_beginning_makes_no_connection() {
    let _watchdog = Watchdog::start();
    for method in [In::MaxFds, In::SetLimits, In::Peer] {
        let vat = vat("plb");
        let (here, _there) = Wire::Memory.pair();
        let error = vat.connect(wrap(here, method, 0).0, ConnConfig::new()).unwrap_err();
        assert_eq!(error.reason(), "the transport panicked", "{method:?}");
        assert_eq!(vat.connection_count(), 0);
        assert!(vat.shutdown(LONG).unwrap());
    }
}

struct Streams;

impl echo::Server for Streams {
    fn push(&self, _: echo::PushParams) -> capnp_threads_core::Result<()> {
        Ok(())
    }
}

#[test]
fn a_transport_that_does_not_say_what_it_buffers_has_streams() {
    let _watchdog = Watchdog::start();
    let (client_vat, server_vat) = (vat("plc"), vat("pls"));
    let (here, there) = Wire::Memory.pair();
    let (here, calls) = wrap(here, In::SendBuffer, 0);
    let streams: echo::Client = server_vat.export(Streams);
    let server = server_vat.connect(there, ConnConfig::new().bootstrap(streams)).unwrap();
    let client = client_vat.connect(here, ConnConfig::new()).unwrap();
    let stream: echo::Client = client.bootstrap();
    for _ in 0..3 {
        stream.push_request().send().unwrap();
    }
    stream.as_client().finish_stream().unwrap();
    assert!(calls.load(Ordering::SeqCst) > 0);
    drop(stream);
    client.close();
    assert!(client.join_timeout(LONG).unwrap() && server.join_timeout(LONG).unwrap());
    assert!(client_vat.shutdown(LONG).unwrap() && server_vat.shutdown(LONG).unwrap());
}

#[test]
fn a_bootstrap_factory_that_panics_makes_no_connection() {
    let _watchdog = Watchdog::start();
    let vat = vat("plf");
    let (here, _there) = Wire::Memory.pair();
    let config = ConnConfig::new().bootstrap_factory(|_: &PeerDescription| panic!("on purpose"));
    let error = vat.connect(here, config).unwrap_err();
    assert_eq!(error.reason(), "the bootstrap factory panicked");
    assert_eq!(error.internal(), "on purpose");
    let (here, _there) = Wire::Memory.pair();
    vat.connect(here, ConnConfig::new()).unwrap().close();
    assert!(vat.shutdown(LONG).unwrap());
}

fn listening() -> SocketNetwork {
    let address: Address = "127.0.0.1:0".parse().unwrap();
    SocketNetwork::listening(address.listen().unwrap()).unwrap()
}

#[test]
fn a_factory_that_panics_refuses_its_peer_and_the_next_one_is_let_in() {
    let _watchdog = Watchdog::start();
    let server = RpcSystem::builder(&Vat::new(), listening())
        .bootstrap_factory(|peer| match peer.id {
            SocketVat::Client(1) => panic!("on purpose"),
            _ => Some(echo::Client::from_server(Quick).into_client()),
        })
        .start()
        .unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let first = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let refused: echo::Client = first.bootstrap(&name);
    let error = refused.ping_request().call().unwrap_err();
    assert!(error.reason().contains("or bootstrap factory panicked"), "{error}");
    let second = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
    let served: echo::Client = second.bootstrap(&name);
    served.ping_request().call().unwrap();
}

/// A network that panics: when it connects, or when it has been told to shut down.
struct Faulty {
    connecting: Event,
    go_on: Event,
    closed: Event,
}

impl VatNetwork for Faulty {
    type VatId = u32;

    fn connect(&self, _: &u32) -> capnp_threads_core::Result<Reached> {
        self.connecting.set();
        self.go_on.wait();
        panic!("on purpose");
    }

    fn accept(&self) -> capnp_threads_core::Result<Option<Accepted<u32>>> {
        self.closed.wait();
        Ok(None)
    }

    fn shutdown(&self) {
        self.closed.set();
        panic!("on purpose");
    }
}

#[test]
fn whoever_waits_for_a_connection_learns_that_connecting_panicked() {
    let _watchdog = Watchdog::start();
    let (connecting, go_on) = (Event::new(), Event::new());
    let network =
        Faulty { connecting: connecting.clone(), go_on: go_on.clone(), closed: Event::new() };
    let system = RpcSystem::builder(&Vat::new(), network).start().unwrap();
    let ask = |system: &RpcSystem<Faulty>| {
        let echo: echo::Client = system.bootstrap(&7);
        echo.ping_request().call().unwrap_err()
    };
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let system = system.clone();
            std::thread::spawn(move || ask(&system))
        })
        .collect();
    connecting.wait();
    go_on.set();
    for thread in threads {
        let error = thread.join().unwrap();
        assert_eq!(error.reason(), "connecting to the peer panicked");
    }
    // Nothing is left of it in the table.
    assert_eq!(ask(&system).reason(), "connecting to the peer panicked");
    assert!(system.drain(Duration::ZERO).unwrap());
}

/// Says nothing about itself without a panic.
struct Shy;

impl Dispatch for Shy {
    fn dispatch(&self, call: IncomingCall) {
        match call.method_id() {
            0 => call.respond(Ok(Payload::empty().clone())),
            1 => drop(call),
            _ => panic!("on purpose"),
        }
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }

    fn name(&self) -> Option<&str> {
        panic!("on purpose");
    }

    fn fd(&self) -> Option<SharedFd> {
        panic!("on purpose");
    }
}

impl Drop for Shy {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn an_object_may_panic_when_it_is_asked_about_itself_or_dropped() {
    let _watchdog = Watchdog::start();
    let vat = vat("plo");
    let client = vat.export_dispatch(Arc::new(Shy));
    let call = |method| client.call(1, method, Payload::empty().clone()).wait();
    call(0).unwrap();
    let dropped = call(1).unwrap_err();
    assert_eq!(dropped.reason(), "the object dropped the call without answering it");
    assert_eq!(call(2).unwrap_err().reason(), "the method panicked");
    assert!(format!("{client:?}").contains("local object"));
    call(0).unwrap();
    drop(client);
    // The worker that dropped the object, or this thread, goes on.
    call_foo(&foo(&vat, answer_foo)).unwrap();
    foo_request(&foo(&vat, answer_foo)).send().wait().unwrap();
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn a_transport_is_asked_once_who_its_peer_is() {
    let _watchdog = Watchdog::start();
    let link = link(In::Peer, 1);
    let client: test_interface::Client = link.client.bootstrap();
    call_foo(&client).unwrap();
    assert_eq!(link.client.peer(), link.client.peer());
    assert_eq!(link.calls.load(Ordering::SeqCst), 1);
    drop(client);
    link.client.close();
    link.end();
}
