//! Who writes: Note [writing in place] in `link/writing.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use super::keys::{key, keyed};
use super::raw::{Raw, bytes, greater};
use super::*;
use crate::link::Link;
use crate::pace::Pace;
use capnp_threads_transport::tls::VatKey;
use rpc_testing::Blocked;
use socket2::SockRef;

/// Credit, or a window, that nobody uses up.
const PLENTY: u32 = 1 << 30;

/// The only peer.
pub(super) fn link(endpoint: &Endpoint) -> Arc<Link> {
    let mut links = endpoint.local().links();
    assert_eq!(links.len(), 1);
    links.remove(0)
}

/// Waits until everything is written that can be.
fn wait_until_idle(link: &Link) {
    until(|| link.is_idle());
}

/// A peer without keys that dials.
pub(super) fn dial_in(dialect: Dialect, here: &Endpoint, from: &EndpointAddress) -> Raw {
    let mut raw = Raw::dial(here.address());
    if dialect == Dialect::Multiplexed {
        let from = from.as_str().as_bytes();
        let length = u32::try_from(from.len()).unwrap();
        raw.words(&[0x4d55_0001, 8 + length + 24, 0, length]);
        raw.send(from);
        raw.words(&[0, 1, 0, 1, PLENTY, PLENTY]);
        raw.expect_words(&[0, 24]);
        raw.read(24);
    } else {
        raw.introduce(dialect, from, here.address());
    }
    raw
}

/// One to which one connection is open.
fn peer(dialect: Dialect, here: &Endpoint) -> (Raw, Connection) {
    let mut raw = dial_in(dialect, here, &greater());
    let connection = here.connect(&greater(), ConnectHints::new()).unwrap();
    raw.expect_words(&[0, 1024]);
    wait_until_idle(&link(here));
    (raw, connection)
}

/// Reads one message of the only connection.
fn read_message(raw: &mut Raw) -> Vec<u8> {
    let mut message = Vec::new();
    loop {
        assert_eq!(raw.read_word(), 1024);
        let length = raw.read_word();
        message.extend(raw.read((length & !(1 << 31)) as usize));
        if length >> 31 == 0 {
            return message;
        }
    }
}

/// The last that is written when an endpoint is closed.
fn expect_farewell(dialect: Dialect, raw: &mut Raw) {
    match dialect {
        Dialect::Original => raw.expect_words(&[2, 0]),
        _ => raw.expect_words(&[3]),
    }
    raw.expect_end();
}

/// A message that tells its number, and is as long as it is.
fn numbered(number: u32, length: usize) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(length.max(4), number.to_be_bytes()[3]);
    message
}

/// Queues messages, each of which could be written in place, until no more are taken. Returns
/// how many those are. The socket is full then, within one of them.
fn fill(connection: &Connection) -> u32 {
    let mut count = 0;
    loop {
        match connection.try_send_at(numbered(count, 50_000), Pace::Last) {
            Ok(()) => count += 1,
            Err(error) => {
                assert_eq!(error, TrySendError::Full);
                return count;
            }
        }
    }
}

#[test]
fn a_thread_that_waits_for_answers_wakes_no_other_to_write() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, connection) = peer(dialect, &here);
        raw.words(&[0, 1024]);
        let id = next_opened(&here, &greater());
        let link = link(&here);
        let before = link.batches();
        for round in 0..100 {
            connection.send_vec(numbered(round, 100)).unwrap();
            assert_eq!(read_message(&mut raw), numbered(round, 100));
            wait_until_idle(&link);
            raw.words(&[1024, 2]);
            raw.send(b"ok");
            expect_received(&here, id, b"ok");
        }
        assert_eq!(link.batches() - before, 0);
        // What is long is worth a thread.
        connection.send_vec(numbered(0, 100_000)).unwrap();
        assert_eq!(read_message(&mut raw), numbered(0, 100_000));
        until(|| link.batches() > before);
        expect_end(&here);
    }
}

#[test]
fn what_a_thread_sends_that_sends_more_is_left_to_the_writing_thread() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, connection) = peer(dialect, &here);
        raw.words(&[0, 1024]);
        next_opened(&here, &greater());
        let link = link(&here);
        let send = |raw: &mut Raw, is_left: bool| {
            let before = link.batches();
            connection.send(&[b"message"]).unwrap();
            assert_eq!(read_message(raw), b"message");
            wait_until_idle(&link);
            assert_eq!(link.batches() - before, usize::from(is_left));
        };
        // Nothing waits to be received.
        send(&mut raw, false);
        send(&mut raw, true);
        raw.words(&[1024, 0, 1024, 0, 1024, 0]);
        until(|| here.local().events.len() == 3);
        for is_left in [true, true, false, true] {
            if here.local().events.len() > 0 {
                next(&here);
            }
            send(&mut raw, is_left);
        }
        expect_end(&here);
    }
}

#[test]
fn messages_of_many_senders_arrive_in_order() {
    const SENDERS: u32 = 6;
    const MESSAGES: u32 = 2_000;
    let run = |networks: [Network; 2]| {
        let [one, other] = networks.each_ref().map(endpoint);
        // Each has one for itself, and all have one together.
        let own: Vec<_> = (0..SENDERS).map(|_| connect(&one, &other)).collect();
        let shared = connect(&one, &other);
        thread::scope(|scope| {
            for (sender, own) in (0_u32..).zip(&own) {
                let shared = &shared;
                scope.spawn(move || {
                    for number in 0..MESSAGES {
                        let pace = match (number / 7 + sender) % 3 {
                            0 => Pace::Last,
                            1 => Pace::Unknown,
                            _ => Pace::Busy,
                        };
                        let length = if number.is_multiple_of(97) { 30_000 } else { 12 };
                        own.send_at(numbered(number, length), pace).unwrap();
                        let words = bytes(&[sender, number]);
                        shared.send_at(words, pace).unwrap();
                    }
                });
            }
            let mut own_seen = HashMap::new();
            let mut shared_seen = vec![0; SENDERS as usize];
            let mut received = 0;
            while received < 2 * SENDERS * MESSAGES {
                match next(&other) {
                    Event::ConnectionOpened { .. } => {}
                    Event::Received { connection, message } => {
                        received += 1;
                        let word =
                            |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
                        if message.len() == 8 {
                            let seen = &mut shared_seen[word(0) as usize];
                            assert_eq!(word(4), *seen);
                            *seen += 1;
                        } else {
                            let seen = own_seen.entry(connection).or_insert(0);
                            assert_eq!(word(0), *seen);
                            *seen += 1;
                        }
                    }
                    event => panic!("{event:?}"),
                }
            }
        });
        expect_end(&other);
    };
    for dialect in DIALECTS {
        run([network(dialect), network(dialect)]);
        run([keyed(dialect, &key()), keyed(dialect, &key())]);
    }
}

#[test]
fn a_peer_that_does_not_read_blocks_nobody_before_the_queue_is_full() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, connection) = peer(dialect, &here);
        let count = fill(&connection);
        assert!(count > 10);
        let blocked = Blocked::spawn(move || {
            connection.send_at(numbered(count, 50_000), Pace::Last).unwrap();
            connection
        });
        for number in 0..=count {
            assert_eq!(read_message(&mut raw), numbered(number, 50_000));
        }
        let connection = blocked.join();
        connection.send(&[b"the last"]).unwrap();
        assert_eq!(read_message(&mut raw), b"the last");
        expect_end(&here);
    }
}

/// With keys, what was encrypted and is not with the system yet is a rest, too.
#[test]
fn what_was_encrypted_in_place_is_sent_though_nothing_follows() {
    for dialect in [Dialect::Original, Dialect::Versioned] {
        let small = |key: &VatKey| {
            let parameters = Parameters {
                receive_queue: 64 << 10,
                key: Some(key.clone()),
                ..parameters(dialect)
            };
            Network::bind("127.0.0.1", 0, parameters).unwrap()
        };
        let networks = [small(&key()), small(&key())];
        let [one, other] = networks.each_ref().map(endpoint);
        let connection = connect(&one, &other);
        let id = next_opened(&other, one.address());
        let link = link(&one);
        SockRef::from(&*link.socket().unwrap()).set_send_buffer_size(32 << 10).unwrap();
        let their_socket = super::writing::link(&other).socket().unwrap();
        SockRef::from(&*their_socket).set_recv_buffer_size(32 << 10).unwrap();
        // With one of these numbers, the last one fills the socket.
        let mut rests = 0;
        for count in 3..14 {
            for number in 0..count {
                connection.send_at(numbered(number, 30_000), Pace::Last).unwrap();
            }
            rests += usize::from(!link.is_idle());
            for number in 0..count {
                expect_received(&other, id, &numbered(number, 30_000));
            }
            wait_until_idle(&link);
        }
        assert!(rests > 0);
        expect_end(&other);
    }
}

#[test]
fn what_is_sent_while_a_sender_writes_comes_behind_it() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, connection) = peer(dialect, &here);
        let link = link(&here);
        let first = link.begin_in_place(1024, numbered(0, 5_000)).unwrap();
        // Nobody else gets the pen, and nobody waits for it.
        assert!(link.begin_in_place(1024, numbered(1, 5_000)).is_none());
        connection.send_at(numbered(2, 10), Pace::Last).unwrap();
        connection.send_at(numbered(3, 10), Pace::Busy).unwrap();
        first.write();
        for (number, length) in [(0, 5_000), (1, 5_000), (2, 10), (3, 10)] {
            assert_eq!(read_message(&mut raw), numbered(number, length));
        }
        // The end waits, too: for the writer, not with a lock.
        wait_until_idle(&link);
        let last = link.begin_in_place(1024, numbered(4, 5_000)).unwrap();
        here.close();
        last.write();
        assert_eq!(read_message(&mut raw), numbered(4, 5_000));
        expect_farewell(dialect, &mut raw);
    }
}

/// The peer's endpoint was closed, so that nothing more is written but what was begun.
#[test]
fn a_socket_is_finished_behind_what_a_sender_writes() {
    for dialect in [Dialect::Versioned, Dialect::Multiplexed] {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, connection) = peer(dialect, &here);
        let link = link(&here);
        let first = link.begin_in_place(1024, numbered(0, 5_000)).unwrap();
        raw.words(&[3]);
        expect_lost(&here, &greater());
        first.write();
        assert_eq!(read_message(&mut raw), numbered(0, 5_000));
        raw.expect_end();
        drop(connection);
        expect_end(&here);
    }
}

/// A panic is not expected there; the pen must not be lost all the same.
#[test]
fn a_pen_that_is_dropped_is_the_writing_threads() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, connection) = peer(dialect, &here);
        let link = link(&here);
        drop(link.begin_in_place(1024, numbered(0, 5_000)).unwrap());
        connection.send_at(numbered(1, 10), Pace::Last).unwrap();
        assert_eq!(read_message(&mut raw), numbered(0, 5_000));
        assert_eq!(read_message(&mut raw), numbered(1, 10));
        expect_end(&here);
    }
}

#[test]
fn an_endpoint_that_is_closed_within_a_message_writes_the_rest() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, connection) = peer(dialect, &here);
        let count = fill(&connection);
        here.close();
        for number in 0..count {
            assert_eq!(read_message(&mut raw), numbered(number, 50_000));
        }
        expect_farewell(dialect, &mut raw);
    }
}

#[test]
fn a_write_that_fails_is_a_loss_whoever_writes() {
    for dialect in DIALECTS {
        let reasons = [Pace::Last, Pace::Busy].map(|pace| {
            let network = network(dialect);
            let here = endpoint(&network);
            let (mut raw, connection) = peer(dialect, &here);
            let link = link(&here);
            let batches = link.batches();
            // The reading thread does not notice that.
            link.socket().unwrap().shutdown(std::net::Shutdown::Write).unwrap();
            connection.send_at(b"lost".to_vec(), pace).unwrap();
            let reason = expect_lost(&here, &greater());
            assert_eq!(link.batches() - batches, usize::from(pace == Pace::Busy));
            let Err(SendError::Failed(told)) = connection.send_at(b"late".to_vec(), pace) else {
                panic!("the peer is lost");
            };
            assert_eq!(told, reason);
            raw.expect_cut();
            // And another socket serves.
            let (mut raw, connection) = peer(dialect, &here);
            connection.send_at(b"new".to_vec(), pace).unwrap();
            assert_eq!(read_message(&mut raw), b"new");
            expect_end(&here);
            reason
        });
        assert_eq!(reasons[0], reasons[1]);
    }
}

#[test]
fn a_peer_that_leaves_within_a_message_is_lost_once() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (raw, connection) = peer(dialect, &here);
        fill(&connection);
        drop(raw);
        expect_lost(&here, &greater());
        assert!(matches!(connection.send(&[b"late"]), Err(SendError::Failed(_))));
        // Neither of the socket's threads is left behind.
        expect_end(&here);
        network.close();
    }
}
