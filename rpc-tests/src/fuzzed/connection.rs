//! Bytes into a live connection.

use std::sync::OnceLock;

use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, Error, FromClient, Limits, Vat,
};
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use crate::support::objects::{Keeper, call_foo, foo_request, plain};
use crate::support::raw::RawPeer;
use crate::support::{Census, LONG, Wire, until, vat, watchdog};

/// Whatever a peer writes to a socket: the connection ends when the peer is gone, every call
/// over it has an outcome, its tables are empty and its objects dropped, and somebody else is
/// served by the same vat.
///
/// With an odd first byte the vat calls the peer, so that there is something to answer.
pub fn connection(bytes: &[u8]) {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let stage = STAGE.get_or_init(Stage::new);
    let census = Census::new();
    let (mut peer, connection) = RawPeer::connect(&stage.vat, stage.config());
    let doing = watchdog::doing("an attacked connection to end");
    if kind % 2 == 1 {
        let session = begin(&connection, &stage.vat, &census);
        attack(&mut peer, bytes);
        session.end();
    } else {
        attack(&mut peer, bytes);
    }
    assert!(connection.join_timeout(LONG).unwrap(), "the connection does not end");
    drop(doing);
    assert!(connection.snapshot().is_empty(), "{:?}", connection.snapshot());
    connection.check().unwrap();
    until("the objects to go", || census.alive() == 0);
    stage.serve_the_bystander();
}

/// Says it all, and hears what there is to hear.
fn attack(peer: &mut RawPeer, bytes: &[u8]) {
    peer.bytes(bytes);
    peer.end();
    peer.drain();
}

/// A vat, and somebody who uses it properly.
struct Stage {
    vat: Vat,
    offered: Client,
    bystander: Vat,
    keeper: test_more_stuff::Client,
    // They live as long as their vats are used.
    _connections: [Connection; 2],
}

impl Stage {
    fn new() -> Self {
        let (own, bystander) = (vat("fuzz-a"), vat("fuzz-b"));
        let keeper = Keeper::with_handles(&Census::new());
        let offered: test_more_stuff::Client = own.export_with(keeper, Concurrency::Concurrent);
        let (here, there) = Wire::Memory.pair();
        let config = ConnConfig::new().bootstrap(Keeper::client(&own));
        let there = own.connect(there, config).unwrap();
        let here = bystander.connect(here, ConnConfig::new()).unwrap();
        let keeper = here.bootstrap();
        let offered = offered.into_client();
        Stage { vat: own, offered, bystander, keeper, _connections: [here, there] }
    }

    /// With limits that few bytes can reach.
    fn config(&self) -> ConnConfig {
        let mut limits = Limits::default();
        limits.message_words = 4096;
        limits.message_segments = 8;
        limits.answers = 64;
        limits.exports = 64;
        limits.budget_bytes = 1 << 20;
        limits.received_messages = 16;
        ConnConfig::new().bootstrap(self.offered.clone()).limits(limits).close_timeout(LONG)
    }

    fn serve_the_bystander(&self) {
        let census = Census::new();
        let mut request = self.keeper.call_foo_request();
        request.get().set_cap(plain(&self.bystander, &census));
        request.call().expect("the bystander was disturbed");
        until("the bystander's object to go", || census.alive() == 0);
    }
}

/// Calls that wait for what the peer says.
struct Session {
    outcomes: Vec<Box<dyn FnOnce() -> Result<(), Error>>>,
}

/// Uses what the protocol has, before anything of it is answered.
fn begin(connection: &Connection, vat: &Vat, census: &Census) -> Session {
    let theirs: test_more_stuff::Client = connection.bootstrap();
    let (promise, fulfiller) = capnp_threads_core::promise_client::<test_interface::Client>();
    let mut request = theirs.echo_request();
    request.get().set_cap(promise.cast_to());
    let echo = request.send();
    let field: test_interface::Client = echo.pipeline().get_cap().cast_to();
    let called = foo_request(&field).send();
    let mut request = theirs.hold_request();
    request.get().set_cap(plain(vat, census));
    let held = request.send();
    let got = theirs.get_held_request().send();
    let held_field = got.pipeline().get_cap();
    let held_called = foo_request(&held_field).send();
    drop(theirs.get_handle_request().send());
    fulfiller.fulfill(plain(vat, census));
    Session {
        outcomes: vec![
            Box::new(move || called.wait().map(drop)),
            Box::new(move || echo.wait().map(drop)),
            Box::new(move || held.wait().map(drop)),
            Box::new(move || held_called.wait().map(drop)),
            Box::new(move || got.wait().map(drop)),
            Box::new(move || call_foo(&field)),
            Box::new(move || call_foo(&held_field)),
        ],
    }
}

impl Session {
    /// The peer is gone: every call has an outcome, which may be anything.
    fn end(self) {
        for outcome in self.outcomes {
            let _ = outcome();
        }
    }
}
