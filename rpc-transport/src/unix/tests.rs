#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;

use super::*;
use crate::testing::{self, Blocked, TemporaryDirectory};

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
    assert_eq!(connect(&path).err().unwrap().kind(), io::ErrorKind::NotFound);
}

#[test]
fn dropping_a_listener_leaves_the_file_of_its_successor() {
    let directory = TemporaryDirectory::new("successor");
    let path = directory.file("socket");
    let first = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = Listener::bind(&path).unwrap();
    drop(first);
    let client = connect(&path).unwrap();
    testing::check_connected(client, second.accept().unwrap());
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
    // The attempt has left a client behind that is gone already.
    assert!(listener.accept().unwrap().reader.read().unwrap().is_none());
    let client = connect(&path).unwrap();
    testing::check_connected(client, listener.accept().unwrap());

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
