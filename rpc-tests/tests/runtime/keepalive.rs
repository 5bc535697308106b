//! Peers that vanish without a word.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use capnp_threads_core::reconnect::CarriedOut;
use capnp_threads_core::{Concurrency, ConnConfig, ErrorKind, FromClient, Vat};
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{answer_foo, foo_request, foo_with};
use rpc_tests::support::raw::{RawPeer, Said};
use rpc_tests::support::{LONG, Watchdog, until, vat, vat_that_shares_threads};

fn config() -> ConnConfig {
    ConnConfig::new().keepalive(Duration::from_millis(2))
}

/// A connection to a peer that says nothing, from its beginning to its end. Returns what
/// the peer was told.
fn silent(vat: &Vat) -> Vec<Said> {
    let (mut peer, connection) = RawPeer::connect(vat, config());
    let waiting = foo_request(&connection.bootstrap::<test_interface::Client>()).send();
    let told = std::thread::spawn(move || {
        let told = peer.drain();
        peer.end();
        told
    });
    let error = waiting.wait().map(drop).unwrap_err();
    assert_eq!((error.kind(), error.carried_out()), (ErrorKind::Disconnected, CarriedOut::Maybe));
    assert!(error.reason().contains("no sign of life"), "{error}");
    assert!(connection.join_timeout(LONG).unwrap());
    told.join().unwrap()
}

#[test]
fn a_peer_that_says_nothing_is_asked_and_given_up() {
    let _watchdog = Watchdog::start();
    let told = silent(&Vat::new());
    let asked = told.iter().filter(|said| matches!(said, Said::Bootstrap(_))).count();
    assert_eq!(asked, 2, "what was wanted, and the question: {told:?}");
}

/// The thread that keeps time is there for all connections of the process.
#[test]
fn a_peer_that_answers_whenever_it_is_asked_is_kept() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    // Long enough for an answer on a machine that has much else to do.
    let config = ConnConfig::new().keepalive(Duration::from_secs(2));
    let (mut peer, connection) = RawPeer::connect(&vat, config);
    let waiting = foo_request(&connection.bootstrap::<test_interface::Client>()).send();
    let mut asked = Vec::new();
    while asked.len() < 3 {
        let question = peer.receive_until("a question", |said| match said {
            Said::Bootstrap(question) => Some(*question),
            _ => None,
        });
        // The first is for what is wanted, and waits for its answer.
        if !asked.is_empty() {
            peer.exception(question, "there is nothing here");
        }
        asked.push(question);
    }
    assert_eq!(connection.failure(), None);
    drop(waiting);
    connection.close();
    peer.drain();
    peer.end();
}

#[test]
fn what_goes_with_a_connection_is_not_dropped_on_the_thread_that_keeps_time() {
    struct Told(mpsc::Sender<String>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(thread::current().name().unwrap_or_default().to_owned()).unwrap();
        }
    }
    let _watchdog = Watchdog::start();
    for vat in [vat("kea"), vat_that_shares_threads("keb")] {
        let (told, tells) = mpsc::channel();
        let object = foo_with(&vat, Concurrency::Serial, Told(told), answer_foo);
        let (mut peer, transport) = RawPeer::alone();
        peer.bootstrap(0);
        let config = config().bootstrap(object.into_client());
        let connection = vat.connect(transport, config).unwrap();
        let thread = tells.recv().unwrap();
        assert!(
            ["-coordinator", "-attendant-"].iter().any(|part| thread.contains(part)),
            "{thread}"
        );
        assert!(connection.failure().unwrap().reason().contains("no sign of life"));
        peer.end();
        assert!(vat.shutdown(LONG).unwrap());
    }
}

#[test]
fn a_connection_on_which_nothing_is_held_is_left_alone() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let (mut unused, connection) = RawPeer::connect(&vat, config());
    // In the meantime others are given up.
    for _ in 0..3 {
        silent(&vat);
    }
    assert_eq!(connection.failure(), None);
    connection.close();
    assert_eq!(unused.receive(), None, "nothing was sent");
    unused.end();
    until("all to end", || vat.connection_count() == 0);
}
