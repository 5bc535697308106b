//! What somebody on the way can do with a connection that was recorded: cut it off, and play
//! it again.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rpc_testing::message;
use rustls::Connection;
use rustls::client::ClientConfig;

use super::testing::{Authority, both};
use super::{Listener, TlsClient, TlsServer, provider};
use crate::testing;

/// Every byte that each side has sent.
struct Recorded {
    by_client: Vec<u8>,
    by_server: Vec<u8>,
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) -> Vec<u8> {
    let mut recorded = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        recorded.extend_from_slice(&piece[..count]);
        to.write_all(&piece[..count]).unwrap();
    }
    // It may be shut already.
    let _ = to.shutdown(Shutdown::Write);
    recorded
}

/// Has a client send a message, through somebody who records everything.
fn record(client: &TlsClient, listener: &Listener) -> Recorded {
    let relay = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let near = TcpStream::connect(relay.local_addr().unwrap()).unwrap();
    let server = listener.local_addr();
    let relaying = thread::spawn(move || {
        let (near, far) = (relay.accept().unwrap().0, TcpStream::connect(server).unwrap());
        thread::scope(|scope| {
            let back = scope.spawn(|| copy(&far, &near));
            let by_client = copy(&near, &far);
            Recorded { by_client, by_server: back.join().unwrap() }
        })
    });
    let here = client.transport(near, "localhost").unwrap();
    testing::check_connected(here, listener.accept().unwrap());
    relaying.join().unwrap()
}

/// Says what was recorded, up to some byte, and waits until the listener has given it up.
fn play(bytes: &[u8], to: &Listener) {
    let failed = to.failed_handshakes();
    let mut stream = TcpStream::connect(to.local_addr()).unwrap();
    // The other side may have ended the connection before everything is said.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
    while to.failed_handshakes() == failed {
        thread::yield_now();
    }
}

#[test]
fn a_connection_that_was_recorded_cannot_be_played_again() {
    let (server, client) = both();
    let listener = server.listen(("127.0.0.1", 0)).unwrap();
    // A full one, and one that resumes its session.
    for number in 0..2 {
        let recorded = record(&client, &listener);
        play(&recorded.by_client, &listener);
        assert_eq!(listener.failed_handshakes(), number + 1);
    }
    // Nobody was let in: the next one is this client.
    let here = client.transport(TcpStream::connect(listener.local_addr()).unwrap(), "localhost");
    testing::check_connected(here.unwrap(), listener.accept().unwrap());
}

#[test]
fn a_handshake_that_is_cut_off_anywhere_is_over() {
    let (server, client) = both();
    let listener = server.listen(("127.0.0.1", 0)).unwrap();
    let Recorded { by_client, by_server } = record(&client, &listener);
    for end in (0..by_client.len()).step_by(97) {
        play(&by_client[..end], &listener);
    }
    // The client of a server that is cut off.
    let relay = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at: SocketAddr = relay.local_addr().unwrap();
    for end in (0..by_server.len()).step_by(97) {
        let stream = TcpStream::connect(at).unwrap();
        let mut there = relay.accept().unwrap().0;
        there.write_all(&by_server[..end]).unwrap();
        there.shutdown(Shutdown::Write).unwrap();
        assert!(client.transport(stream, "localhost").is_err());
    }
    let here = client.transport(TcpStream::connect(listener.local_addr()).unwrap(), "localhost");
    testing::check_connected(here.unwrap(), listener.accept().unwrap());
}

/// What is sent before the handshake is over could be sent again by others.
#[test]
fn no_server_takes_data_before_the_handshake_is_over() {
    let ours = Authority::new();
    let server = TlsServer::new(&ours.issue("localhost")).unwrap();
    let listener = server.listen(("127.0.0.1", 0)).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(Arc::clone(&ours.believed().0))
        .with_no_client_auth();
    config.enable_early_data = true;
    let config = Arc::new(config);
    let mut client = TlsClient::from_rustls(Arc::clone(&config));
    client.describe = |tls: &Connection, peer| {
        let Connection::Client(client) = tls else { panic!("it is a server") };
        assert!(!client.is_early_data_accepted());
        Ok(super::describe(tls, peer)?
            .with_protocol(Some(format!("{:?}", tls.handshake_kind()).into_bytes())))
    };
    let mut kind = None;
    for _ in 0..2 {
        let stream = TcpStream::connect(listener.local_addr()).unwrap();
        let mut here = client.transport(stream, "localhost").unwrap();
        kind = here.control.peer().protocol;
        let mut there = listener.accept().unwrap();
        // The ticket comes with the first message.
        there.writer.write(&mut vec![message(0, &[1])]).unwrap();
        assert!(here.reader.read().unwrap().is_some());
    }
    assert_eq!(kind.unwrap(), b"Some(Resumed)");
    // A client that has a ticket is not offered to send anything.
    let name = "localhost".try_into().unwrap();
    let mut third = rustls::ClientConnection::new(config, name).unwrap();
    assert!(third.early_data().is_none());
}
