//! This library as a client of each server that is there, over a socket whose
//! messages can be looked at.

use std::sync::{Arc, Mutex};

use capnp_threads_core::{ConnConfig, Connection, Vat};
use capnp_threads_transport::{Address, tap};
use rpc_tests::conformance::server::Server;
use rpc_tests::peers::{Peer, or_skip};

use rpc_tests::support::{LONG, Watchdog, until, vat};

/// A connection of this library's to a conformance server.
pub(crate) struct Session {
    /// Who serves.
    pub(crate) server: String,
    pub(crate) address: Address,
    pub(crate) vat: Vat,
    pub(crate) connection: Connection,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Session {
    fn open(server: String, address: Address, config: ConnConfig) -> Self {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&lines);
        let transport = tap::tap(address.connect_timeout(LONG).unwrap(), move |line| {
            sink.lock().unwrap().push(line.to_owned());
        });
        let vat = vat("beh");
        let connection = vat.connect(transport, config).unwrap();
        Session { server, address, vat, connection, lines }
    }

    /// The messages so far, in the order in which they were sent and received, as
    /// the wire tap describes them.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// How many calls there were, in either direction.
    pub(crate) fn calls(&self) -> usize {
        let is_call = |line: &&String| line[2..].starts_with(" call ");
        self.lines().iter().filter(is_call).count()
    }

    /// Nothing may be left on this side when everything was dropped.
    fn finish(self) {
        let server = &self.server;
        until("nothing to be left", || {
            let left = self.connection.snapshot();
            // capnp-rpc sends no Return for what was cancelled.
            left.is_empty() || server == "capnp-rpc peer" && left.exports + left.imports == 0
        });
        self.connection.check().unwrap();
        assert_eq!(self.connection.failure(), None, "{server}");
        self.connection.close();
        assert!(self.connection.join_timeout(LONG).unwrap(), "{server}");
        assert!(self.vat.shutdown(LONG).unwrap(), "{server}");
    }
}

/// Runs a test against our server and against that of every peer that is here, but
/// for those that cannot do it.
pub(crate) fn at_each_server(
    address: &str,
    without: &[Peer],
    config: fn(ConnConfig) -> ConnConfig,
    test: impl Fn(&Session),
) {
    let run = |server: String, address: &str| {
        // Only now, because it may take its time to build a peer.
        let _watchdog = Watchdog::start();
        let _doing = rpc_tests::support::watchdog::doing(&server);
        let session = Session::open(server, address.parse().unwrap(), config(ConnConfig::new()));
        test(&session);
        session.finish();
    };

    let ours = Server::bind(&address.parse().unwrap()).unwrap();
    let (own, closer) = (ours.address().to_string(), ours.closer());
    let serving = std::thread::spawn(move || ours.run());
    run("ours".to_owned(), &own);
    closer.close();
    assert_eq!(serving.join().unwrap(), [""; 0], "faults of our server");

    for peer in Peer::ALL.into_iter().filter(|peer| !without.contains(peer)) {
        let Some(program) = or_skip(peer.find()) else { continue };
        let mut serving = program.serve(address).unwrap();
        run(peer.to_string(), serving.address());
        assert!(serving.is_running().unwrap(), "{peer} crashed: {}", serving.stderr());
    }
}
