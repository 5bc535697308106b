//! Peers that behave, and peers that do not.
#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use capnp_threads_core::transport::{PeerDescription, Received, Transport, TransportError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustls::client::{ClientConfig, ClientConnection};
use rustls::pki_types::ServerName;
use rustls::{Connection, StreamOwned};

use super::handshake::Step;
use super::testing::{Authority, both, pair};
use super::{Authorities, Certificate, Listener, TlsClient, TlsServer, provider, waiting};
use crate::polling::poll;
use crate::testing::{self, TemporaryDirectory};
use rpc_testing::{content, message};

fn listen(server: &TlsServer) -> Listener {
    server.listen(("127.0.0.1", 0)).unwrap()
}

fn dial(listener: &Listener) -> TcpStream {
    TcpStream::connect(listener.local_addr()).unwrap()
}

/// Why a client cannot connect: the error of its handshake, or of its first read.
fn refusal(client: &TlsClient, listener: &Listener, name: &str) -> String {
    match client.transport(dial(listener), name) {
        Err(error) => error.to_string(),
        Ok(mut transport) => transport.reader.read().unwrap_err().to_string(),
    }
}

/// Waits until the peer has closed its socket.
fn wait_for_the_end(mut stream: &TcpStream) {
    let mut piece = [0; 4096];
    while stream.read(&mut piece).is_ok_and(|count| count > 0) {}
}

#[test]
fn messages_go_both_ways_and_each_way_ends_by_itself() {
    let (here, there) = pair();
    testing::check_connected(here, there);
    let (here, there) = pair();
    testing::check_connected(there, here);
}

#[test]
fn shutting_down_wakes_everybody_and_the_peer_learns_of_it() {
    let (here, there) = pair();
    testing::check_shutdown_wakes_the_reader(here, there);
    let (here, there) = pair();
    testing::check_shutdown_wakes_the_writer(here, there);
    let (here, there) = pair();
    testing::check_a_lost_peer_is_noticed(here, there);
}

#[test]
fn both_directions_are_used_at_once() {
    fn all(mut transport: Transport) -> [thread::JoinHandle<()>; 2] {
        let numbered = |number: usize| message(number, &[[3, 700, 20_000][number % 3], 1]);
        let mut writer = transport.writer;
        let writing = thread::spawn(move || {
            for number in (0..150).step_by(3) {
                let mut batch: Vec<_> = (number..number + 3).map(numbered).collect();
                writer.write(&mut batch).unwrap();
            }
            writer.finish().unwrap();
        });
        let reading = thread::spawn(move || {
            for number in 0..150 {
                let received = transport.reader.read().unwrap().unwrap();
                assert_eq!(content(&received), content(&numbered(number)));
            }
            assert!(transport.reader.read().unwrap().is_none());
        });
        [writing, reading]
    }
    let (here, there) = pair();
    for thread in all(here).into_iter().chain(all(there)) {
        thread.join().unwrap();
    }
}

#[test]
fn each_side_knows_who_the_other_is() {
    let (server, client) = both();
    let listener = listen(&server.protocols(["other", "capnp"]));
    let client = client.protocols(["capnp"]);
    let here = client.connect("localhost", listener.local_addr().port()).unwrap();
    let there = listener.accept().unwrap();
    for (transport, name) in [(&here, "localhost"), (&there, "alice")] {
        let peer = transport.control.peer();
        assert!(peer.socket.is_some_and(|socket| socket.ip().is_loopback()));
        assert_eq!(peer.protocol.as_deref(), Some(&b"capnp"[..]));
        let identity = peer.identity.unwrap();
        assert_eq!(identity.dns_names, [name]);
        assert_eq!(identity.uris, ["spiffe://ours/test"]);
        assert_eq!(identity.common_name, Some(format!("{name} of ours")));
        assert_eq!((identity.certificates.len(), identity.vat), (1, None));
    }
    testing::check_connected(here, there);
}

#[test]
fn clients_that_show_nothing_are_nobody() {
    let ours = Authority::new();
    let listener = listen(&TlsServer::new(&ours.issue("127.0.0.1")).unwrap());
    let client = TlsClient::new(&ours.believed()).unwrap();
    let here = client.connect("127.0.0.1", listener.local_addr().port()).unwrap();
    let there = listener.accept().unwrap();
    let peer = there.control.peer();
    assert_eq!((peer.identity, peer.protocol), (None, None));
    testing::check_connected(here, there);
}

#[test]
fn servers_that_are_not_whom_they_have_to_be_are_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let expired = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    };
    let future = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2900, 1, 1);
    };
    let client = TlsClient::new(&ours.believed()).unwrap();
    for (certificate, reason) in [
        (ours.issue("elsewhere"), "not valid for name"),
        (theirs.issue("localhost"), "UnknownIssuer"),
        (ours.issue_with("localhost", expired), "expired"),
        (ours.issue_with("localhost", future), "not valid yet"),
    ] {
        let listener = listen(&TlsServer::new(&certificate).unwrap());
        let error = client.transport(dial(&listener), "localhost").err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let text = error.to_string();
        assert!(text.contains(reason) && text.starts_with("cannot connect to 127.0.0.1"), "{text}");
    }
}

#[test]
fn clients_that_are_not_whom_they_have_to_be_are_refused_and_others_served() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = TlsServer::mutual(&ours.issue("localhost"), &ours.believed()).unwrap();
    let listener = listen(&server.protocols(["capnp"]));
    let stranger = theirs.issue("alice");
    let expired = ours.issue_with("alice", |params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let believed = ours.believed();
    let alice = TlsClient::mutual(&believed, &ours.issue("alice")).unwrap();
    for (number, (client, alert)) in [
        (TlsClient::new(&believed).unwrap(), "CertificateRequired"),
        (TlsClient::mutual(&believed, &stranger).unwrap(), "UnknownCA"),
        (TlsClient::mutual(&believed, &expired).unwrap(), "CertificateExpired"),
        (alice.clone().protocols(["http/1.1"]), "NoApplicationProtocol"),
    ]
    .into_iter()
    .enumerate()
    {
        let error = refusal(&client, &listener, "localhost");
        assert!(error.contains(alert), "{error}");
        let here = alice.transport(dial(&listener), "localhost").unwrap();
        testing::check_connected(here, listener.accept().unwrap());
        assert_eq!(listener.failed_handshakes(), number as u64 + 1);
    }
}

#[test]
fn a_stream_that_is_cut_off_has_not_ended() {
    // The same with a message before it, and with half of one.
    for (lengths, cut) in [(None, 0), (Some(&[100][..]), 0), (Some(&[100][..]), 1)] {
        let ours = Authority::new();
        let listener = listen(&TlsServer::new(&ours.issue("localhost")).unwrap());
        let mut raw = raw_client(&ours, &listener);
        if let Some(lengths) = lengths {
            let bytes = framed(lengths);
            raw.write_all(&bytes[..bytes.len() - cut]).unwrap();
        }
        raw.flush().unwrap();
        let mut there = listener.accept().unwrap();
        // The end of TCP's stream, which anybody can make.
        raw.sock.shutdown(Shutdown::Write).unwrap();
        if lengths.is_some() && cut == 0 {
            assert!(there.reader.read().unwrap().is_some());
        }
        let error = there.reader.read().unwrap_err();
        assert!(matches!(error, TransportError::Io(_)), "{error}");
        assert!(error.to_string().contains("cut off"), "{error}");
        assert!(there.reader.read().is_err());
    }
}

#[test]
fn an_end_that_is_announced_within_a_message_is_one_as_well() {
    let ours = Authority::new();
    let listener = listen(&TlsServer::new(&ours.issue("localhost")).unwrap());
    let mut raw = raw_client(&ours, &listener);
    raw.write_all(&framed(&[100])[..50]).unwrap();
    raw.conn.send_close_notify();
    raw.flush().unwrap();
    let mut there = listener.accept().unwrap();
    assert!(matches!(there.reader.read(), Err(TransportError::Truncated)));
}

#[test]
fn a_record_that_somebody_has_changed_ends_the_stream() {
    let ours = Authority::new();
    let listener = listen(&TlsServer::new(&ours.issue("localhost")).unwrap());
    let mut raw = raw_client(&ours, &listener);
    raw.conn.writer().write_all(&framed(&[1])).unwrap();
    let mut bytes = Vec::new();
    raw.conn.write_tls(&mut bytes).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    raw.sock.write_all(&bytes).unwrap();
    let mut there = listener.accept().unwrap();
    let error = there.reader.read().unwrap_err().to_string();
    assert!(error.contains("decrypt"), "{error}");
    // The peer is told.
    let error = raw.read(&mut [0; 8]).unwrap_err().to_string();
    assert!(error.contains("BadRecordMac"), "{error}");
}

#[test]
fn keys_are_renewed_while_messages_go_both_ways() {
    let ours = Authority::new();
    let listener = listen(&TlsServer::new(&ours.issue("localhost")).unwrap());
    let mut raw = raw_client(&ours, &listener);
    let mut there = None;
    let bytes = framed(&[100]);
    for _ in 0..3 {
        // The peer has to answer this with new keys of its own.
        raw.conn.refresh_traffic_keys().unwrap();
        raw.write_all(&bytes).unwrap();
        raw.flush().unwrap();
        let there = there.get_or_insert_with(|| listener.accept().unwrap());
        let received = there.reader.read().unwrap().unwrap();
        assert!(there.writer.try_write(&mut vec![received]).unwrap());
        let mut echo = vec![0; bytes.len()];
        raw.read_exact(&mut echo).unwrap();
        assert_eq!(echo, bytes);
    }
}

#[test]
fn sessions_are_resumed_unless_that_is_off() {
    let (server, client) = both();
    let kinds = |server: &TlsServer, client: &TlsClient| {
        let listener = listen(server);
        let mut client = client.clone();
        client.describe = |tls: &Connection, peer| {
            let peer = super::describe(tls, peer)?;
            let kind = format!("{:?}", tls.handshake_kind());
            Ok(peer.with_protocol(Some(kind.into_bytes())))
        };
        [(); 2].map(|()| {
            let here = client.transport(dial(&listener), "localhost").unwrap();
            let there = listener.accept().unwrap();
            // Also those who resume know each other.
            let names = |transport: &Transport| transport.control.peer().identity.unwrap();
            assert_eq!(names(&here).dns_names, ["localhost"]);
            assert_eq!(names(&there).dns_names, ["alice"]);
            let kind = here.control.peer().protocol.unwrap();
            testing::check_connected(here, there);
            String::from_utf8(kind).unwrap()
        })
    };
    assert_eq!(kinds(&server, &client), ["Some(Full)", "Some(Resumed)"]);
    assert_eq!(kinds(&server, &client.clone().resumption(0)), ["Some(Full)", "Some(Full)"]);
    let server = server.resumption(0);
    assert_eq!(kinds(&server, &client.resumption(9)), ["Some(Full)", "Some(Full)"]);
}

#[test]
fn what_is_not_tls_is_let_go_and_others_are_served() {
    let (server, client) = both();
    let listener = listen(&server);
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &framed(&[3]), &[0x16, 3, 1]] {
        let mut stream = dial(&listener);
        stream.write_all(nonsense).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        wait_for_the_end(&stream);
    }
    let here = client.transport(dial(&listener), "localhost").unwrap();
    testing::check_connected(here, listener.accept().unwrap());
    assert_eq!(listener.failed_handshakes(), 4);
}

#[test]
fn whoever_stalls_is_let_go_when_its_time_is_over() {
    let (server, _) = both();
    let listener = listen(&server.handshake_timeout(Duration::from_millis(20)));
    let silent = dial(&listener);
    wait_for_the_end(&silent);
    // A byte now and then gains no time: it is never done.
    let mut slow = dial(&listener);
    while slow.write_all(&[0x16]).is_ok() && slow.take_error().unwrap().is_none() {
        thread::yield_now();
    }
    // A server that stalls is given up by its client as well.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (_, client) = both();
    let port = silent.local_addr().unwrap().port();
    let error = client.connect_timeout("127.0.0.1", port, Duration::from_millis(20));
    assert_eq!(error.err().unwrap().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn a_thousand_who_stall_keep_nobody_out() {
    let (server, client) = both();
    let never = Duration::MAX;
    let listener = listen(&server.handshake_timeout(never).handshakes(16));
    let mut stalled: std::collections::VecDeque<TcpStream> = std::collections::VecDeque::new();
    for number in 0..1000 {
        let mut stream = dial(&listener);
        if number % 2 == 0 {
            // The beginning of a handshake.
            stream.write_all(&[0x16, 3, 1, 0, 200]).unwrap();
        }
        stalled.push_back(stream);
        // More need not be open at once: the oldest have been let go.
        if stalled.len() > 100 {
            wait_for_the_end(&stalled.pop_front().unwrap());
        }
        if number % 100 == 0 {
            let here = client.transport(dial(&listener), "localhost").unwrap();
            testing::check_connected(here, listener.accept().unwrap());
        }
    }
    let here = client.transport(dial(&listener), "localhost").unwrap();
    testing::check_connected(here, listener.accept().unwrap());
    assert!(listener.failed_handshakes() >= 1000 - 16);
}

#[test]
fn many_clients_shake_hands_at_once() {
    let (server, client) = both();
    let listener = Arc::new(listen(&server.handshakes(2)));
    // Nobody accepts yet, and there is room for few. Others wait for their turn, and those
    // that are let go because of that come again.
    let dialling: Vec<_> = (0..40)
        .map(|_| {
            let (client, listener) = (client.clone(), Arc::clone(&listener));
            thread::spawn(move || {
                loop {
                    let Ok(mut here) = client.transport(dial(&listener), "localhost") else {
                        continue;
                    };
                    let mut batch = vec![message(0, &[1])];
                    if here.writer.write(&mut batch).is_ok()
                        && here.reader.read().is_ok_and(|echo| echo.is_some())
                    {
                        return;
                    }
                }
            })
        })
        .collect();
    let accepting = Arc::clone(&listener);
    let accepting = thread::spawn(move || {
        while let Ok(mut there) = accepting.accept() {
            if let Ok(Some(message)) = there.reader.read() {
                let _ = there.writer.write(&mut vec![message]);
            }
        }
    });
    for thread in dialling {
        thread.join().unwrap();
    }
    listener.closer().close();
    accepting.join().unwrap();
}

#[test]
fn closing_ends_accepting_and_frees_the_address() {
    let (server, _) = both();
    let listener = listen(&server);
    let address = listener.local_addr();
    let stalled = dial(&listener);
    let closer = listener.closer();
    let blocked = rpc_testing::Blocked::spawn(move || (listener.accept().err().unwrap(), listener));
    closer.close();
    let (error, listener) = blocked.join();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert_eq!(listener.accept().err().unwrap().kind(), io::ErrorKind::NotConnected);
    drop(listener);
    wait_for_the_end(&stalled);
    let _again = server.listen(address).unwrap();
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let directory = TemporaryDirectory::new("pem");
    let ours = Authority::new();
    let (chain, key) = ours.issue_pem("localhost", |_| ());
    let (_, other) = ours.issue_pem("localhost", |_| ());
    let file = |name: &str, text: &str| {
        let path = directory.file(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (chain, key) = (file("chain", &chain), file("key", &key));
    Certificate::from_pem_files(&chain, &key).unwrap();
    let empty = file("empty", "");
    let broken = file("broken", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let other = file("other", &other);
    let missing = directory.file("missing");
    for (chain, key, reason) in [
        (&empty, &key, "there is no certificate"),
        (&broken, &key, "no certificate can be read"),
        (&chain, &empty, "no private key can be read"),
        (&chain, &other, "the private key cannot be used"),
        (&missing, &key, "No such file"),
    ] {
        let error = Certificate::from_pem_files(chain, key).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("rpc-transport"), "{error}");
    }
    let error = Authorities::from_pem_file(&empty).unwrap_err().to_string();
    assert!(error.contains("there is no certificate") && error.contains("empty"), "{error}");
}

#[test]
fn a_name_that_no_certificate_can_have_is_refused_before_dialling() {
    let (_, client) = both();
    let error = client.connect("not a name", 1).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// The bytes of a message.
pub(super) fn framed(lengths: &[u32]) -> Vec<u8> {
    let mut bytes = u32::try_from(lengths.len() - 1).unwrap().to_le_bytes().to_vec();
    lengths.iter().for_each(|length| bytes.extend_from_slice(&length.to_le_bytes()));
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    content(&message(0, lengths)).iter().for_each(|segment| bytes.extend_from_slice(segment));
    bytes
}

/// A client that is not made by this crate, with the handshake behind it.
fn raw_client(ours: &Authority, listener: &Listener) -> StreamOwned<ClientConnection, TcpStream> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(Arc::clone(&ours.believed().0))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut raw = StreamOwned::new(tls, dial(listener));
    while raw.conn.is_handshaking() {
        raw.conn.complete_io(&mut raw.sock).unwrap();
    }
    raw
}

/// A thread that stops reading where nothing is buffered relies on the socket.
#[test]
fn whoever_stops_reading_is_told_of_the_rest_by_the_socket_or_the_reader() {
    const COUNT: usize = 4000;
    let (mut here, mut there) = pair();
    let writing = thread::spawn(move || {
        let messages =
            (0..COUNT).zip((5..95).cycle()).map(|(number, length)| message(number, &[length]));
        here.writer.write(&mut messages.collect()).unwrap();
        here
    });
    let descriptor = there.reader.descriptor().unwrap();
    let mut came = 0;
    while came < COUNT {
        if !there.reader.has_buffered() {
            let mut fds = [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)];
            let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
            assert!(poll(&mut fds, Some(&patience)).unwrap(), "{came} came, and then nothing");
        }
        // One at a time, which is as early as anybody stops.
        if there.reader.try_read_next().unwrap().is_some() {
            came += 1;
        }
    }
    drop(writing.join().unwrap());
}

/// Of what came with the last flight of the handshake, the socket does not tell any more.
#[test]
fn a_message_that_comes_with_the_end_of_the_handshake_is_there_at_once() {
    let (server, client) = both();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // What is written is there at once.
    stream.set_nodelay(true).unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut dialling =
        client.begin(stream.into(), PeerDescription::from_socket(peer), name).unwrap();
    let mut answering = server.begin(accepted.into(), peer).unwrap();
    assert_eq!(dialling.step().unwrap(), Step::Wants(PollFlags::IN));
    waiting::wait(&answering, PollFlags::IN, None).unwrap();
    assert_eq!(answering.step().unwrap(), Step::Wants(PollFlags::IN));
    while dialling.step().unwrap() != Step::Done {
        waiting::wait(&dialling, PollFlags::IN, None).unwrap();
    }
    let mut other = dialling.open().unwrap().into_transport();
    other.writer.write(&mut vec![message(7, &[3])]).unwrap();
    assert_eq!(answering.step().unwrap(), Step::Done);
    let mut reader = answering.open().unwrap().into_transport().reader;
    assert!(reader.descriptor().is_some() && reader.has_buffered());
    let Some(Received::Message(came)) = reader.try_read_next().unwrap() else { panic!("nothing") };
    assert_eq!(content(&came), content(&message(7, &[3])));
    assert!(reader.try_read_next().unwrap().is_none());
    drop(other);
}
