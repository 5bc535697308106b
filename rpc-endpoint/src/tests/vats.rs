//! A network of vats and a peer that does what the test says, half by half.

use capnp_threads_core::message::Message;
use capnp_threads_core::network::{Accepted, Reached, VatNetwork};
use capnp_threads_core::transport::{Received, Transport, TransportError};

use super::*;
use crate::vats::hello::{self, Hello, Kind};
use rpc_testing::sessions::{both_mean_the_same, number_of, numbered};
use rpc_testing::{Blocked, content, message};

/// The scripted vat, Alice, and the one that is tested, Bob.
struct Pair {
    alice: Endpoint,
    bob: EndpointNetwork,
    network: Network,
}

impl Pair {
    fn new(change: impl FnOnce(&mut Parameters)) -> Self {
        let network = network(Dialect::default());
        let mut parameters = parameters(Dialect::default());
        change(&mut parameters);
        Pair {
            alice: endpoint(&network),
            network,
            bob: EndpointNetwork::listening("bob", "127.0.0.1", 0, parameters).unwrap(),
        }
    }

    /// Alice's name for Bob, and Bob's for Alice.
    fn alice(&self) -> EndpointVat {
        EndpointVat::new("alice").unwrap().at(self.alice.address().clone())
    }

    fn open(&self) -> Connection {
        let bob = self.bob.this_vat();
        self.alice.connect(&bob.hints()[0], ConnectHints::new()).unwrap()
    }

    /// Alice opens a half.
    fn half(&self, serial: u64, answers: u64, to: &str) -> Connection {
        let half = self.open();
        let (to, from) = (to.to_owned(), "alice".to_owned());
        let hello = Hello { kind: Kind::Half, serial, answers, to, from };
        half.send_vec(hello::encode(&hello)).unwrap();
        half
    }

    /// Bob opens a half.
    fn next_half(&self) -> (Incoming, Hello) {
        let id = next_opened(&self.alice, &self.bob.this_vat().hints()[0]);
        let half = self.alice.claim(id).unwrap();
        let hello = hello::decode(&half.receive().unwrap().unwrap()).unwrap();
        assert_eq!(hello.to, "alice");
        (half, hello)
    }

    fn accept(&self) -> Transport {
        let Accepted { peer, transport } = self.bob.accept().unwrap().unwrap();
        assert_eq!(peer, self.alice());
        assert_eq!(peer.hints(), self.alice().hints());
        transport
    }
}

/// A message as it is on a stream.
fn framed(message: &Message) -> Vec<u8> {
    let (mut reader, writer) = capnp_threads_transport::pipe::pipe(1 << 20);
    let mut writer = capnp_threads_transport::framing::FramedWriter::new(writer);
    let copy = Message::from_segments(words(message), &[1]).unwrap();
    capnp_threads_core::transport::MessageWriter::write(&mut writer, &mut vec![copy]).unwrap();
    drop(writer);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    bytes
}

fn words(message: &Message) -> Vec<capnp::Word> {
    let mut words = capnp::Word::allocate_zeroed_vec(1);
    capnp::Word::words_to_bytes_mut(&mut words).copy_from_slice(&content(message)[0]);
    words
}

#[test]
fn the_transcript_of_a_session_that_the_other_vat_begins() {
    let pair = Pair::new(|_| {});
    let ours = pair.half(7, 0, "bob");
    let Transport { mut reader, mut writer, .. } = pair.accept();
    let one = message(1, &[1]);
    let bytes = framed(&one);
    // Messages may be cut anywhere.
    ours.send(&[&bytes[..5]]).unwrap();
    ours.send(&[&bytes[5..], &bytes, &bytes[..9]]).unwrap();
    ours.send(&[&bytes[9..]]).unwrap();
    for _ in 0..3 {
        assert_eq!(content(&reader.read().unwrap().unwrap()), content(&one));
    }
    let (theirs, hello) = pair.next_half();
    assert_eq!((&*hello.from, hello.answers, &hello.kind), ("bob", 7, &Kind::Half));
    writer.write(&mut vec![message(1, &[1])]).unwrap();
    assert_eq!(theirs.receive().unwrap().unwrap(), bytes);

    // An empty one says that its sender is idle.
    assert!(writer.can_declare_idle());
    writer.declare_idle().unwrap();
    assert_eq!(theirs.receive().unwrap().unwrap(), b"");
    ours.send(&[]).unwrap();
    assert!(matches!(reader.read_next().unwrap(), Received::Idle));
    ours.send(&[]).unwrap();
    ours.send(&[&bytes]).unwrap();
    // Who does not ask for it does not see it.
    assert_eq!(content(&reader.read().unwrap().unwrap()), content(&one));

    writer.finish().unwrap();
    assert_eq!(theirs.receive().unwrap(), None);
    assert_eq!(pair.bob.peer_count(), 1);
    ours.close();
    assert!(matches!(reader.read_next().unwrap(), Received::End));
}

#[test]
fn a_session_is_over_when_both_halves_are_closed_and_not_before() {
    let pair = Pair::new(|_| {});
    let Reached::Peer(transport) = pair.bob.connect(&pair.alice()).unwrap() else { panic!() };
    assert!(matches!(pair.bob.connect(&pair.alice()).unwrap(), Reached::Crossed));
    let (_theirs, hello) = pair.next_half();
    assert_eq!(hello.answers, 0);
    // Its half is closed, ours is not, so that nobody knows whether it was seen.
    drop(transport);
    let bob = std::sync::Arc::new(pair.bob);
    let (again, name) = (bob.clone(), EndpointVat::new("alice").unwrap());
    let waiting = Blocked::spawn(move || again.connect(&name));
    let ours = pair.alice.connect(&bob.this_vat().hints()[0], ConnectHints::new()).unwrap();
    let (to, from) = ("bob".to_owned(), "alice".to_owned());
    let answer = Hello { kind: Kind::Half, serial: 1, answers: hello.serial, to, from };
    ours.send_vec(hello::encode(&answer)).unwrap();
    ours.close();
    assert!(matches!(waiting.join().unwrap(), Reached::Peer(_)));
}

#[test]
fn halves_that_cross_belong_together_whatever_came_first() {
    let pair = Pair::new(|_| {});
    let Reached::Peer(mut transport) = pair.bob.connect(&pair.alice()).unwrap() else { panic!() };
    let (theirs, _) = pair.next_half();
    let ours = pair.half(1, 0, "bob");
    let bytes = framed(&message(1, &[1]));
    ours.send(&[&bytes]).unwrap();
    assert_eq!(content(&transport.reader.read().unwrap().unwrap()), content(&message(1, &[1])));
    transport.writer.write(&mut vec![message(1, &[1])]).unwrap();
    assert_eq!(theirs.receive().unwrap().unwrap(), bytes);
}

#[test]
fn a_half_that_answers_what_was_given_up_is_ignored() {
    let pair = Pair::new(|_| {});
    let late = pair.half(1, 12345, "bob");
    let current = pair.half(2, 0, "bob");
    let mut transport = pair.accept();
    late.send(&[b"this is not read"]).unwrap();
    current.send(&[&framed(&message(1, &[1]))]).unwrap();
    assert!(transport.reader.read().unwrap().is_some());
    let (_theirs, hello) = pair.next_half();
    assert_eq!(hello.answers, 2);
}

#[test]
fn what_is_no_half_of_a_vat_is_ignored() {
    let pair = Pair::new(|_| {});
    let wrong = pair.open();
    wrong.send(&[b"hello"]).unwrap();
    wrong.send(&[b"hello?"]).unwrap();
    let silent = pair.open();
    let half = pair.half(1, 0, "bob");
    let mut transport = pair.accept();
    half.send(&[&framed(&message(1, &[1]))]).unwrap();
    assert!(transport.reader.read().unwrap().is_some());
    drop((wrong, silent));
}

#[test]
fn a_vat_that_was_taken_for_another_says_so() {
    let pair = Pair::new(|_| {});
    let _half = pair.half(9, 0, "carol");
    let (refusal, hello) = pair.next_half();
    assert_eq!((&*hello.from, hello.answers), ("carol", 9));
    assert_eq!(hello.kind, Kind::Refusal("this is the vat bob".to_owned()));
    assert_eq!(refusal.receive().unwrap(), None);
    assert_eq!(pair.bob.peer_count(), 0);
}

#[test]
fn who_comes_after_the_shutdown_is_refused_and_sessions_go_on() {
    let pair = Pair::new(|_| {});
    let ours = pair.half(1, 0, "bob");
    let mut transport = pair.accept();
    pair.bob.shutdown();
    assert!(pair.bob.accept().unwrap().is_none());
    let carol = endpoint(&pair.network);
    let half = carol.connect(&pair.bob.this_vat().hints()[0], ConnectHints::new()).unwrap();
    let (to, from) = ("bob".to_owned(), "carol".to_owned());
    let hello = Hello { kind: Kind::Half, serial: 1, answers: 0, to, from };
    half.send_vec(hello::encode(&hello)).unwrap();
    let id = next_opened(&carol, &pair.bob.this_vat().hints()[0]);
    let refusal = carol.claim(id).unwrap().receive().unwrap().unwrap();
    let Kind::Refusal(reason) = hello::decode(&refusal).unwrap().kind else { panic!() };
    assert!(reason.contains("shutting down"), "{reason}");
    ours.send(&[&framed(&message(1, &[1]))]).unwrap();
    assert!(transport.reader.read().unwrap().is_some());
}

#[test]
fn a_vat_that_begins_anew_takes_the_place_of_what_it_had() {
    let pair = Pair::new(|_| {});
    let _old = pair.half(1, 0, "bob");
    let mut first = pair.accept();
    assert_eq!(pair.next_half_of(&mut first).answers, 1);
    let new = pair.half(2, 0, "bob");
    let mut second = pair.accept();
    assert!(matches!(first.reader.read(), Err(TransportError::Io(_))));
    new.send(&[&framed(&message(1, &[1]))]).unwrap();
    assert!(second.reader.read().unwrap().is_some());
    assert_eq!(pair.bob.peer_count(), 1);
}

impl Pair {
    /// Bob's half, which is opened by writing something.
    fn next_half_of(&self, transport: &mut Transport) -> Hello {
        transport.writer.write(&mut vec![message(1, &[1])]).unwrap();
        self.next_half().1
    }

    /// A session of Bob with Alice. Where time is short, a slow machine may take longer than
    /// that to connect; then it is tried again.
    fn reached_in_time(&self) -> Transport {
        loop {
            match self.bob.connect(&self.alice()) {
                Ok(Reached::Peer(transport)) => return transport,
                Ok(_) => panic!("not another vat"),
                Err(error) => assert!(error.to_string().contains("the time ran out"), "{error}"),
            }
        }
    }
}

#[test]
fn a_vat_that_never_answers_is_given_up() {
    let pair = Pair::new(|parameters| parameters.connect_timeout = Duration::from_millis(20));
    let mut transport = pair.reached_in_time();
    let error = transport.reader.read().map(drop).unwrap_err();
    assert!(error.to_string().contains("did not answer in time"), "{error}");
}

#[test]
fn a_mute_vat_stalls_neither_a_shutdown_nor_the_next_session() {
    let pair = Pair::new(|parameters| parameters.connect_timeout = Duration::from_millis(20));
    let Transport { mut reader, writer, control } = pair.reached_in_time();
    let reading = Blocked::spawn(move || reader.read());
    control.shutdown();
    assert!(reading.join().is_ok_and(|message| message.is_none()));
    drop(writer);
    // Its half never came: after a while it is not waited for any more.
    pair.reached_in_time();
}

#[test]
fn the_loss_of_the_socket_ends_a_session_that_waits_for_its_other_half() {
    let pair = Pair::new(|_| {});
    let Reached::Peer(mut transport) = pair.bob.connect(&pair.alice()).unwrap() else { panic!() };
    pair.next_half();
    let reading = Blocked::spawn(move || transport.reader.read());
    pair.alice.close();
    assert!(matches!(reading.join(), Err(TransportError::Io(_))));
    // That was known before it was told.
    assert_eq!(pair.bob.peer_count(), 0);
}

/// Exchanges numbers over a session and ends it. Those with some odd numbers let the
/// other side speak first.
fn exchange(transport: Transport, number: u64) -> u64 {
    let Transport { mut reader, mut writer, .. } = transport;
    let mut theirs = None;
    if number % 6 == 3 {
        theirs = reader.read().unwrap().as_ref().map(number_of);
    }
    writer.write(&mut vec![numbered(number)]).unwrap();
    writer.finish().unwrap();
    while let Some(message) = reader.read().unwrap() {
        theirs = Some(number_of(&message));
    }
    theirs.unwrap()
}

#[test]
fn both_vats_mean_the_same_sessions_whoever_begins_and_ends_them() {
    for dialect in DIALECTS {
        let vats = ["alice", "bob"]
            .map(|id| EndpointNetwork::listening(id, "127.0.0.1", 0, parameters(dialect)).unwrap());
        both_mean_the_same(vats.each_ref().map(|vat| (vat, vat.this_vat())), 200, exchange);
    }
}
