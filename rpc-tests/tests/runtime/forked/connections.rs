//! Connections and listeners of the parent.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use std::{fs, io, thread};

use capnp::message::Builder;
use capnp_threads_core::message::Message;
use capnp_threads_core::untyped::{Dispatch, IncomingCall, Payload};
use capnp_threads_core::{Client, ConnConfig, Connection, Error, Vat};
use capnp_threads_transport::{Address, PeerDescription, Transport, halves, tcp, unix};
use rpc_tests::support::raw::RawPeer;
use rpc_tests::support::{LONG, alone, threads_named, until, vat_that_shares_threads};

use super::Child;

fn message() -> Message {
    let mut message = Builder::new_default();
    message.set_root::<capnp::text::Owned>("hello").unwrap();
    message.into()
}

fn tcp_pair() -> (Transport, Transport) {
    let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
    let client = tcp::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap())
}

/// Pipes, and a closure for the shutdown that reports that it was called.
fn halves_pair() -> (Transport, Transport) {
    let ((left_in, right_out), (right_in, left_out)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let join = |reader, writer| {
        halves::join(reader, writer, PeerDescription::default(), || panic!("it was called"))
    };
    (join(left_in, left_out), join(right_in, right_out))
}

fn one_way(from: &mut Transport, to: &mut Transport) {
    from.writer.write(&mut vec![message()]).unwrap();
    assert!(to.reader.read().unwrap().is_some());
}

/// A child that uses a connection gets errors, and ends nothing.
fn check_a_child_leaves(pair: (Transport, Transport)) {
    let mut pair = Some(pair);
    // There is something to read, for the parent.
    pair.as_mut().unwrap().0.writer.write(&mut vec![message()]).unwrap();
    let child = Child::start(|| {
        let (mut here, mut there) = pair.take().unwrap();
        let refused = here.writer.write(&mut vec![message()]).is_err()
            && here.writer.try_write(&mut vec![message()]).is_err()
            && here.writer.finish().is_err()
            && there.reader.read().is_err();
        here.control.shutdown();
        there.control.shutdown();
        refused
    });
    child.succeeds();
    let (mut here, mut there) = pair.take().unwrap();
    assert!(there.reader.read().unwrap().is_some());
    one_way(&mut here, &mut there);
    one_way(&mut there, &mut here);
}

fn a_child_can_neither_use_nor_end_a_connection() {
    for pair in [unix::pair().unwrap(), tcp_pair(), halves_pair()] {
        check_a_child_leaves(pair);
    }
}

fn a_child_that_ends_leaves_the_listener_to_its_parent() {
    let path = std::env::temp_dir().join(format!("rpc-transport-fork-{}", std::process::id()));
    let mut listener = Some(Address::Unix(path.clone()).listen().unwrap());
    let child = Child::start(|| {
        let listener = listener.take().unwrap();
        let closer = listener.closer();
        // It may serve clients as well.
        let client = unix::connect(&path).unwrap();
        let served = listener.accept().is_ok();
        closer.close();
        drop(client);
        served && listener.accept().is_err()
    });
    child.succeeds();
    assert!(path.exists());
    let listener = listener.take().unwrap();
    let client = unix::connect(&path).unwrap();
    listener.accept().unwrap();
    drop((client, listener));
    assert!(!path.exists());
}

fn a_child_that_stays_cannot_keep_its_parent_from_closing() {
    let listener = Arc::new(tcp::Listener::bind("127.0.0.1:0").unwrap());
    // It has copies of everything, and waits.
    let child = Child::start(|| {
        listener.accept().err().is_some_and(|error| error.kind() == io::ErrorKind::NotConnected)
    });
    let accepting = {
        let listener = Arc::clone(&listener);
        thread::spawn(move || listener.accept().err().unwrap().kind())
    };
    listener.closer().close();
    assert_eq!(accepting.join().unwrap(), io::ErrorKind::NotConnected);
    // The child learns of it, too.
    child.succeeds();
}

/// Answers every call at once.
struct Empty;

impl Dispatch for Empty {
    fn dispatch(&self, call: IncomingCall) {
        call.respond(Ok(Payload::empty().clone()));
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// Waits until all threads of this process but this one sleep: then none of them holds a
/// lock that a child would miss.
#[cfg(target_os = "linux")]
fn wait_until_the_others_sleep() {
    let sleeps = |task: &Path| {
        let Ok(stat) = fs::read_to_string(task.join("stat")) else { return true };
        // The name, in parentheses, may have any character.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state == Some('S')
    };
    let own = fs::read_link("/proc/thread-self").unwrap();
    loop {
        let mut tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap());
        if tasks.all(|task| Some(&*task.file_name()) == own.file_name() || sleeps(&task.path())) {
            return;
        }
        thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
fn a_child_is_told_that_a_vat_is_its_parents() {
    let (vat, peer) = (Vat::new(), Vat::new());
    let object = vat.export_dispatch(Arc::new(Empty));
    let (here, there) = unix::pair().unwrap();
    let served = peer.export_dispatch(Arc::new(Empty));
    let _served = peer.connect(there, ConnConfig::new().bootstrap(served)).unwrap();
    let connection = vat.connect(here, ConnConfig::new()).unwrap();
    let import = connection.bootstrap_client();
    let call = |client: &Client| client.call(1, 1, Payload::empty().clone()).wait().map(drop);
    call(&object).unwrap();
    call(&import).unwrap();
    wait_until_the_others_sleep();
    let is_told = |outcome: Result<(), Error>| {
        outcome.is_err_and(|error| error.reason().contains("was forked"))
    };
    let child = Child::start(|| {
        let (spare, _other) = unix::pair().unwrap();
        is_told(call(&object))
            && is_told(call(&import))
            && is_told(connection.bootstrap_client().resolve().map(drop))
            && is_told(connection.join())
            && is_told(vat.shutdown(Duration::MAX).map(drop))
            && is_told(vat.connect(spare, ConnConfig::new()).map(drop))
    });
    child.succeeds();
    call(&object).unwrap();
    call(&import).unwrap();
}

/// Never answers.
#[derive(Default)]
struct Silent(Mutex<Vec<IncomingCall>>);

impl Dispatch for Silent {
    fn dispatch(&self, call: IncomingCall) {
        self.0.lock().unwrap().push(call);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[cfg(target_os = "linux")]
fn a_childs_own_calls_end_in_time() {
    let ends_in_time = || {
        let vat = Vat::new();
        let silent = vat.export_dispatch(Arc::new(Silent::default()));
        let client = silent.with_timeout(Duration::from_millis(1));
        // Nobody waits for the call but a closure.
        let (tell, told) = mpsc::channel();
        let call = client.call(1, 1, Payload::empty().clone());
        call.on_resolve(move |outcome| tell.send(outcome.map(drop)).unwrap());
        told.recv_timeout(LONG).is_ok_and(|outcome| outcome.is_err_and(|error| error.is_timeout()))
    };
    // Not after the parent has had threads of its own: the system gives the stacks of the
    // parent's threads to those of the child, and locks know the parent's by them.
    Child::start(ends_in_time).succeeds();
    assert!(ends_in_time());
}

/// A child drops what it has of a vat whose connections share their threads.
#[cfg(target_os = "linux")]
fn a_child_ends_no_thread_of_its_parents() {
    let vat = vat_that_shares_threads("fks");
    let served = || ConnConfig::new().bootstrap(vat.export_dispatch(Arc::new(Empty)));
    let ask = |mut peer: RawPeer, connection: Connection| {
        peer.bootstrapped(0);
        drop(peer);
        assert!(connection.join_timeout(LONG).unwrap());
    };
    let (peer, connection) = RawPeer::connect(&vat, served());
    let mut own = Some((vat.clone(), connection.clone()));
    until("the attendants to go", || threads_named("fks-att") == 1);
    wait_until_the_others_sleep();
    let child = Child::start(|| {
        drop((own.take(), connection.close()));
        // It has no thread that could do anything about it.
        threads_named("fks") == 0
    });
    child.succeeds();
    drop(own);
    ask(peer, connection);
    until("the attendants to go", || threads_named("fks-att") == 1);
    wait_until_the_others_sleep();
    // Nothing is left but the vat itself.
    let mut last = Some(vat);
    let child = Child::start(|| {
        drop(last.take());
        true
    });
    child.succeeds();
    let vat = last.take().unwrap();
    let served = ConnConfig::new().bootstrap(vat.export_dispatch(Arc::new(Empty)));
    let (peer, connection) = RawPeer::connect(&vat, served);
    ask(peer, connection);
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn a_child_leaves_its_parent_alone() {
    if !alone("forked::connections::a_child_leaves_its_parent_alone") {
        return;
    }
    #[cfg(target_os = "linux")]
    a_childs_own_calls_end_in_time();
    a_child_can_neither_use_nor_end_a_connection();
    a_child_that_ends_leaves_the_listener_to_its_parent();
    a_child_that_stays_cannot_keep_its_parent_from_closing();
    #[cfg(target_os = "linux")]
    {
        a_child_is_told_that_a_vat_is_its_parents();
        a_child_ends_no_thread_of_its_parents();
    }
}
