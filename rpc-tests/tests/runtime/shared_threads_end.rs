//! How connections that share the threads of their vat end, also where the system has no
//! more threads to give.

use std::fs;
use std::thread;
use std::time::Duration;

use capnp_threads_core::{ConnConfig, Error, ErrorKind, Vat};
use capnp_threads_transport::unix;
use rpc_schema::test_capnp::test_more_stuff;

use rpc_tests::support::raw::RawPeer;
use rpc_tests::support::{LONG, Watchdog, alone, threads_named, until, vat_that_shares_threads};

/// The thread that stands by learns of such an end before the connection is complete.
#[test]
fn an_end_before_the_connection_is_noticed_by_whoever_stands_by() {
    let _watchdog = Watchdog::start();
    let hub = vat_that_shares_threads("sua");
    for _ in 0..3_000 {
        let (here, there) = unix::pair().unwrap();
        drop(there);
        let connection = hub.connect(here, ConnConfig::new()).unwrap();
        assert!(connection.join_timeout(LONG).unwrap());
    }
    assert!(hub.shutdown(LONG).unwrap());
}

/// Neither side waits for the close timeout, whichever end comes first.
#[test]
fn both_sides_end_at_once() {
    let _watchdog = Watchdog::start();
    let (hub, leaf) = (vat_that_shares_threads("sub"), vat_that_shares_threads("suc"));
    let config = || ConnConfig::new().close_timeout(Duration::MAX);
    for _ in 0..1_000 {
        let (here, there) = unix::pair().unwrap();
        let (here, there) =
            (hub.connect(here, config()).unwrap(), leaf.connect(there, config()).unwrap());
        let own = here.clone();
        let closing = thread::spawn(move || own.close());
        there.close();
        closing.join().unwrap();
        assert!(here.join_timeout(LONG).unwrap() && there.join_timeout(LONG).unwrap());
    }
    assert!(hub.shutdown(LONG).unwrap() && leaf.shutdown(LONG).unwrap());
}

#[test]
fn a_connection_that_outlives_a_shutdown_still_sees_its_peers_end() {
    let _watchdog = Watchdog::start();
    let hub = vat_that_shares_threads("sud");
    let (peer, connection) = RawPeer::connect(&hub, ConnConfig::new().close_timeout(Duration::MAX));
    assert!(!hub.shutdown(Duration::from_millis(1)).unwrap());
    drop(peer);
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(hub.shutdown(LONG).unwrap());
    until("threads to go", || threads_named("sud") == 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_that_was_waited_for_has_no_descriptor() {
    if !alone("shared_threads_end::a_connection_that_was_waited_for_has_no_descriptor") {
        return;
    }
    let hub = vat_that_shares_threads("sue");
    // A thread more may stand by, and each thread has a bell of its own: only sockets belong to
    // connections.
    let held = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        let links = all.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    let end_one = || {
        let (peer, connection) = RawPeer::connect(&hub, ConnConfig::new());
        drop(peer);
        assert!(connection.join_timeout(LONG).unwrap());
    };
    // What is made once is made.
    end_one();
    let before = held();
    for _ in 0..3_000 {
        end_one();
        assert_eq!(held(), before);
    }
}

/// Does something while the process gets no more threads.
#[cfg(target_os = "linux")]
fn without_threads<R>(work: impl FnOnce() -> R) -> R {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nproc);
    setrlimit(Resource::Nproc, Rlimit { current: Some(0), ..before }).unwrap();
    thread::Builder::new().spawn(|| ()).unwrap_err();
    let result = work();
    setrlimit(Resource::Nproc, before).unwrap();
    result
}

/// The limit on threads does not hold for the user who may do everything.
#[cfg(target_os = "linux")]
fn become_anybody() {
    // SAFETY: only the user changes, for all threads of this process.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setuid(65_534), 0);
        }
    }
}

#[cfg(target_os = "linux")]
fn ends_without_another_thread(hub: &Vat) {
    let (_peer, connection) =
        RawPeer::connect(hub, ConnConfig::new().close_timeout(Duration::from_millis(20)));
    until("the attendants to go", || threads_named("suf-att") == 1);
    without_threads(|| {
        connection.close();
        assert!(connection.join_timeout(LONG).unwrap());
    });
}

/// A peer that does not read has the only attendant.
#[cfg(target_os = "linux")]
fn goes_on_when_threads_can_be_had_again(hub: &Vat) {
    let config = ConnConfig::new().close_timeout(Duration::from_millis(20));
    let (_peer, connection) = RawPeer::connect(hub, config);
    let client: test_more_stuff::Client = connection.bootstrap();
    until("the attendants to go", || threads_named("suf-att") == 1);
    let call = without_threads(|| {
        let mut request = client.method_with_defaults_request();
        request.get().set_a("x".repeat(4 << 20));
        let call = request.send();
        connection.close();
        call
    });
    // Nothing else happens in this vat.
    assert!(connection.join_timeout(LONG).unwrap());
    call.wait().map(drop).unwrap_err();
}

#[test]
#[cfg(target_os = "linux")]
fn it_goes_on_without_more_threads() {
    if !alone("shared_threads_end::it_goes_on_without_more_threads") {
        return;
    }
    become_anybody();
    let _watchdog = Watchdog::start();
    let hub = vat_that_shares_threads("suf");
    ends_without_another_thread(&hub);
    goes_on_when_threads_can_be_had_again(&hub);
    // What cannot begin says so, and leaves nothing behind.
    let fresh = vat_that_shares_threads("sug");
    let (mut peer, transport) = RawPeer::alone();
    let refused = without_threads(|| fresh.connect(transport, ConnConfig::new())).map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Overloaded);
    assert!(peer.receive().is_none());
    let (_peer, connection) = RawPeer::connect(&fresh, ConnConfig::new());
    connection.abort(Error::failed("enough"));
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(hub.shutdown(LONG).unwrap() && fresh.shutdown(LONG).unwrap());
}
