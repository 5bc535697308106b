#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::{Barrier, mpsc};
use std::thread;

use super::claim::Lock;
use super::*;
use crate::testing::{self, TemporaryDirectory};
use rpc_testing::Blocked;

#[test]
fn messages_pass_both_ways() {
    let directory = TemporaryDirectory::new("round-trip");
    let path = directory.file("socket");
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(listener.local_path().unwrap().unwrap(), path);
    let client = connect(&path).unwrap();
    assert_eq!(client.control.peer().address, format!("unix:{}", path.display()));
    let server = listener.accept().unwrap();
    assert_eq!(server.control.peer().address, "unix:unnamed");
    testing::check_connected(client, server);
    let (left, right) = pair().unwrap();
    testing::check_connected(left, right);
}

#[test]
fn shutdown_wakes_whoever_waits() {
    let (left, right) = pair().unwrap();
    testing::check_shutdown_wakes_the_reader(left, right);
    let (left, right) = pair().unwrap();
    testing::check_shutdown_wakes_the_writer(left, right);
}

#[test]
fn a_lost_peer_is_noticed() {
    let (left, right) = pair().unwrap();
    testing::check_a_lost_peer_is_noticed(left, right);
}

#[test]
fn dropping_a_listener_removes_its_file() {
    let directory = TemporaryDirectory::new("drop");
    let path = directory.file("socket");
    drop(Listener::bind(&path).unwrap());
    assert!(!path.exists());
    assert!(fs::read_dir(path.parent().unwrap()).unwrap().next().is_none(), "something is left");
}

#[test]
fn a_server_that_is_not_there_refuses_whether_its_file_is_there_or_not() {
    let directory = TemporaryDirectory::new("refused");
    let path = directory.file("socket");
    for is_there in [false, true] {
        assert_eq!(path.exists(), is_there);
        for outcome in [connect(&path), connect_timeout(&path, Duration::from_secs(60))] {
            let error = outcome.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            let expected = format!("cannot connect to unix:{}: ", path.display());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        if !is_there {
            drop(UnixListener::bind(&path).unwrap());
        }
    }
}

#[test]
fn dropping_a_listener_leaves_the_file_of_its_successor() {
    let directory = TemporaryDirectory::new("successor");
    let path = directory.file("socket");
    let first = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    // It does not know the lock.
    let second = UnixListener::bind(&path).unwrap();
    drop(first);
    let client = connect(&path).unwrap();
    testing::check_connected(client, from_stream(second.accept().unwrap().0).unwrap());
}

#[test]
fn of_servers_that_start_at_once_one_has_the_path_and_is_reached() {
    let directory = TemporaryDirectory::new("at-once");
    for round in 0..200 {
        let path = directory.file(&format!("socket-{round}"));
        if round % 2 == 0 {
            // What a server that was killed has left.
            drop(UnixListener::bind(&path).unwrap());
        }
        let start = Barrier::new(4);
        let outcomes: Vec<_> = thread::scope(|scope| {
            let bind = || {
                start.wait();
                Listener::bind(&path)
            };
            let servers = [(); 4].map(|()| scope.spawn(bind));
            servers.into_iter().map(|server| server.join().unwrap()).collect()
        });
        let (listeners, errors): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(listeners.len(), 1, "in round {round}");
        for error in errors {
            assert_eq!(error.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        }
        let client = connect(&path).unwrap();
        testing::check_connected(client, listeners[0].as_ref().unwrap().accept().unwrap());
    }
}

/// A server that looks for remains, or has bound its socket and does not listen yet.
#[test]
fn a_server_that_is_about_to_listen_is_not_taken_for_remains() {
    let directory = TemporaryDirectory::new("about-to");
    let path = directory.file("socket");
    drop(UnixListener::bind(&path).unwrap());
    let about_to = Lock::take(&path).unwrap();
    let error = Listener::bind(&path).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
    assert!(path.exists());
    drop(about_to);
    drop(Listener::bind(&path).unwrap());
}

#[test]
fn a_lock_is_that_of_the_file_that_others_find() {
    let directory = TemporaryDirectory::new("lock");
    let (path, lock) = (directory.file("socket"), directory.file("socket.lock"));
    // One that was killed leaves its file unlocked.
    fs::write(&lock, "").unwrap();
    let first = Lock::take(&path).unwrap();
    assert!(Lock::take(&path).is_err());
    fs::remove_file(&lock).unwrap();
    let second = Lock::take(&path).unwrap();
    // It leaves the file of the second.
    drop(first);
    assert!(Lock::take(&path).is_err());
    drop(second);
    assert!(!lock.exists());
    // What is no lock is left alone.
    fs::write(&lock, "precious").unwrap();
    let error = Listener::bind(&path).err().unwrap();
    assert!(error.to_string().contains("socket.lock is not the lock of a server"), "{error}");
    assert_eq!(fs::read(&lock).unwrap(), b"precious");
}

#[test]
fn remains_of_a_dead_server_are_replaced() {
    let directory = TemporaryDirectory::new("stale");
    let path = directory.file("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert_eq!(connect(&path).err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
    let listener = Listener::bind(&path).unwrap();
    let client = connect(&path).unwrap();
    testing::check_connected(client, listener.accept().unwrap());
}

#[test]
fn whatever_is_in_use_or_no_socket_is_left_alone() {
    let directory = TemporaryDirectory::new("in-use");
    let path = directory.file("socket");
    let listener = Listener::bind(&path).unwrap();
    let failure = Listener::bind(&path).err().unwrap();
    assert_eq!(failure.kind(), io::ErrorKind::AddrInUse);
    assert!(failure.to_string().contains("another server is listening"), "{failure}");
    let client = connect(&path).unwrap();
    testing::check_connected(client, listener.accept().unwrap());

    // A server that does not use the lock.
    let path = directory.file("other");
    let other = UnixListener::bind(&path).unwrap();
    let failure = Listener::bind(&path).err().unwrap();
    assert_eq!(failure.kind(), io::ErrorKind::AddrInUse);
    assert!(failure.to_string().contains("another server is listening"), "{failure}");
    // The attempt has left a client behind that is gone already.
    let gone = from_stream(other.accept().unwrap().0).unwrap();
    assert!({ gone }.reader.read().unwrap().is_none());
    let client = connect(&path).unwrap();
    testing::check_connected(client, from_stream(other.accept().unwrap().0).unwrap());

    let file = directory.file("file");
    fs::write(&file, "precious").unwrap();
    let failure = Listener::bind(&file).err().unwrap();
    assert!(failure.to_string().contains("no socket"), "{failure}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");

    let datagrams = directory.file("datagrams");
    let _other = UnixDatagram::bind(&datagrams).unwrap();
    assert_eq!(Listener::bind(&datagrams).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    assert!(datagrams.exists());
}

#[test]
fn a_server_with_a_full_backlog_is_in_use() {
    let directory = TemporaryDirectory::new("backlog");
    let path = directory.file("socket");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let mut clients = Vec::new();
    let limit = Duration::from_millis(1);
    let failure = loop {
        match connect_timeout(&path, limit) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
    assert!(!clients.is_empty());
    // Those that are too short for the system to count do not become endless.
    for limit in [Duration::ZERO, Duration::from_nanos(1)] {
        let (path, (send, receive)) = (path.clone(), mpsc::channel());
        thread::spawn(move || send.send(connect_timeout(path, limit).err().unwrap().kind()));
        let kind = receive.recv_timeout(Duration::from_secs(60));
        assert_eq!(kind, Ok(io::ErrorKind::TimedOut), "{limit:?}");
    }
    assert_eq!(Listener::bind(&path).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    // Once it accepts, there is room again, and no time limit is left over.
    let listener = Listener::from_std(OwnedFd::from(socket).into()).unwrap();
    let server = listener.accept().unwrap();
    testing::check_connected(clients.remove(0), server);
}

#[test]
fn a_stream_with_a_time_limit_becomes_one_without() {
    let (left, right) = UnixStream::pair().unwrap();
    left.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    left.set_nonblocking(true).unwrap();
    let (left, right) = (from_stream(left).unwrap(), from_stream(right).unwrap());
    testing::check_shutdown_wakes_the_reader(left, right);
}

#[test]
fn closing_wakes_a_thread_that_accepts() {
    let directory = TemporaryDirectory::new("close");
    let listener = Listener::bind(directory.file("socket")).unwrap();
    let closer = listener.closer();
    let accepting = Blocked::spawn(move || listener.accept().err().unwrap().kind());
    closer.close();
    assert_eq!(accepting.join(), io::ErrorKind::NotConnected);
}

#[test]
fn every_time_limit_is_accepted() {
    let directory = TemporaryDirectory::new("limits");
    let path = directory.file("socket");
    let listener = Listener::bind(&path).unwrap();
    for limit in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let client = connect_timeout(&path, limit).unwrap();
        testing::check_connected(client, listener.accept().unwrap());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_needs_no_file_and_has_one_server() {
    let name = format!("rpc-transport-{}-unix", std::process::id());
    let address = format!("unix-abstract:{name}");
    let error = connect_abstract(&name).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
    for _ in 0..2 {
        let listener = Listener::bind_abstract(&name).unwrap();
        assert_eq!(listener.local_path().unwrap(), None);
        assert_eq!(listener.local_abstract_name().unwrap().as_ref(), Some(&name));
        assert_eq!(Listener::bind_abstract(&name).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        let client = connect_abstract(&name).unwrap();
        assert_eq!(client.control.peer().address, address);
        testing::check_connected(client, listener.accept().unwrap());
        let client = connect_abstract_timeout(&name, Duration::MAX).unwrap();
        testing::check_connected(client, listener.accept().unwrap());
    }
    for name in ["", &"x".repeat(200)] {
        assert_eq!(connect_abstract(name).err().unwrap().kind(), io::ErrorKind::InvalidInput);
        assert!(Listener::bind_abstract(name).is_err());
    }
}
