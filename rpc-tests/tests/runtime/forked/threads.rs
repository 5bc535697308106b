//! Threads of the child, which the system gives the stacks of its parent's.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use capnp_threads::serving::{Running, Server};
use capnp_threads_core::ConnConfig;
use capnp_threads_core::vat::{PoolConfig, StopToken};
use capnp_threads_endpoint::{EndpointNetwork, Parameters};
use rpc_tests::support::raw::RawPeer;
use rpc_tests::support::{alone, threads_named, until, vat_with_pool};

use super::Child;

/// More than the parent has.
const THREADS: usize = 24;

/// A child's own threads stay its own while it drops what the parent had. A system gives the
/// names of threads that are not there to new ones.
fn a_child_drops<T>(what: T) {
    let mut what = Some(what);
    let child = Child::start(|| {
        let (ends, threads): (Vec<_>, Vec<_>) = (0..THREADS)
            .map(|_| {
                let (end, wait) = mpsc::channel::<()>();
                (end, thread::spawn(move || wait.recv().is_err()))
            })
            .unzip();
        drop(what.take());
        drop(ends);
        // A thread that was let go of cannot be waited for: this panics.
        threads.into_iter().all(|thread| thread.join().is_ok_and(|waited| waited))
    });
    child.succeeds();
    drop(what);
}

#[test]
fn a_child_keeps_its_own_threads_when_it_drops_an_endpoint() {
    if !alone("forked::threads::a_child_keeps_its_own_threads_when_it_drops_an_endpoint") {
        return;
    }
    let parameters = Parameters::default();
    a_child_drops(EndpointNetwork::listening("alice", "127.0.0.1", 0, parameters).unwrap());
}

#[test]
fn a_child_keeps_its_own_threads_when_it_drops_a_server() {
    if !alone("forked::threads::a_child_keeps_its_own_threads_when_it_drops_a_server") {
        return;
    }
    a_child_drops(running());
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_keeps_its_own_threads_when_it_drops_what_has_ended() {
    if !alone("forked::threads::a_child_keeps_its_own_threads_when_it_drops_what_has_ended") {
        return;
    }
    a_child_drops(with_ended_threads());
}

/// What has threads that have ended, and that nobody has waited for.
#[cfg(target_os = "linux")]
fn with_ended_threads() -> impl Sized {
    let mut pool = PoolConfig::default();
    pool.idle_time = Duration::from_millis(1);
    pool.patience = Duration::MAX;
    let vat = vat_with_pool("fkt", pool);
    let (peer, connection) = RawPeer::connect(&vat, ConnConfig::new());
    let [waited_for, left] = [vat.supervisor(), vat.supervisor()];
    waited_for.spawn("fkt-waited-for", StopToken::wait).unwrap();
    left.spawn("fkt-left", |_| ()).unwrap();
    // A worker waits for its thread.
    drop(waited_for);
    connection.close();
    drop(peer);
    until("the threads to go", || threads_named("fkt") == 0);
    (vat, left, connection)
}

#[test]
fn a_child_cannot_wait_for_its_parents_server() {
    if !alone("forked::threads::a_child_cannot_wait_for_its_parents_server") {
        return;
    }
    let server = running();
    let stopper = server.stopper();
    let mut server = Some(server);
    let child = Child::start(|| {
        let outcome = server.take().unwrap().join();
        outcome.is_err_and(|error| error.reason().contains("was forked"))
    });
    child.succeeds();
    stopper.stop();
    assert!(server.take().unwrap().join().unwrap());
}

fn running() -> Running {
    let server = Server::with_config(|_| Ok(ConnConfig::new()));
    server.listen("127.0.0.1:0").unwrap().start().unwrap()
}
