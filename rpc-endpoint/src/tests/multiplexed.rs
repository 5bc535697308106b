//! The multiplexed dialect, by the byte and by what it is for.

use std::thread;

use super::raw::{Raw, RawListener, bytes, greater};
use super::*;
use rpc_testing::Blocked;

const VERSION: u32 = 0x4d55_0001;
const WINDOW: u32 = 64 << 10;

/// The 24 bytes of terms.
fn terms(incarnation: u32, serial: u32, window: u32) -> Vec<u8> {
    bytes(&[0, incarnation, 0, serial, window, 1 << 20])
}

fn hello(from: &EndpointAddress, serial: u32) -> Vec<u8> {
    let from = from.as_str().as_bytes();
    let length = u32::try_from(from.len()).unwrap();
    [bytes(&[VERSION, 8 + length + 24, 0, length]), from.to_vec(), terms(1, serial, WINDOW)]
        .concat()
}

fn small(change: impl FnOnce(&mut Parameters)) -> Network {
    let mut parameters = parameters(Dialect::Multiplexed);
    parameters.receive_queue = WINDOW;
    parameters.max_message = 1 << 20;
    change(&mut parameters);
    Network::bind("127.0.0.1", 0, parameters).unwrap()
}

/// Dials and is accepted; returns the serial number that it was told.
fn introduce(raw: &mut Raw, from: &EndpointAddress, serial: u32) {
    raw.send(&hello(from, serial));
    raw.expect_words(&[0, 24]);
    let terms = raw.read(24);
    assert_eq!(terms[16..], bytes(&[WINDOW, 1 << 20]));
}

#[test]
fn the_transcript_of_a_dial() {
    let network = small(|_| {});
    let here = endpoint(&network);
    let listener = RawListener::new();
    let (connection, mut raw) = thread::scope(|scope| {
        let connecting = scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()));
        let mut raw = listener.accept();
        let from = here.address().as_str().as_bytes();
        let length = u32::try_from(from.len()).unwrap();
        raw.expect_words(&[VERSION, 8 + length + 24, 0, length]);
        raw.expect(from);
        raw.read(8);
        raw.expect_words(&[0, 1, WINDOW, 1 << 20]);
        raw.send(&[bytes(&[0, 24]), terms(1, 1, WINDOW)].concat());
        (connecting.join().unwrap().unwrap(), raw)
    });
    raw.expect_words(&[0, 1024]);
    // Fragments, as far as the credit goes: 16 for each besides its length.
    connection.send(&[&[1; 100_000]]).unwrap();
    raw.expect_words(&[1024, 1 << 31 | (WINDOW - 16)]);
    raw.expect(&[1; WINDOW as usize - 16]);
    // What is urgent does not wait for the rest.
    let second = here.connect(&listener.address(), ConnectHints::new()).unwrap();
    second.send(&[b"2"]).unwrap();
    raw.expect_words(&[0, 1025, 1025, 1]);
    raw.expect(b"2");
    raw.words(&[4]);
    raw.expect_words(&[5]);
    let rest = 100_000 - (WINDOW - 16);
    connection.close();
    raw.words(&[6, 1024, rest + 16]);
    raw.expect_words(&[1024, rest]);
    raw.expect(&vec![1; rest as usize]);
    raw.expect_words(&[1, 1024]);
    second.close();
    raw.expect_words(&[1, 1025, 2, 0]);
    raw.words(&[2, 1025]);
    raw.expect_end();
    expect_end(&here);
}

#[test]
fn the_transcript_of_an_answer() {
    let network = small(|_| {});
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    introduce(&mut raw, &greater(), 1);
    raw.words(&[0, 1024]);
    let id = next_opened(&here, &greater());
    // Fragments of two connections may be mixed.
    raw.words(&[0, 1025, 1024, 1 << 31 | 2]);
    raw.send(b"ab");
    raw.words(&[1025, 1]);
    raw.send(b"x");
    raw.words(&[1024, 1]);
    raw.send(b"c");
    let other = next_opened(&here, &greater());
    expect_received(&here, other, b"x");
    expect_received(&here, id, b"abc");
    // Half of the window is handed out again when half of it is free.
    raw.words(&[1024, WINDOW / 2]);
    raw.send(&[7; WINDOW as usize / 2]);
    expect_received(&here, id, &[7; WINDOW as usize / 2]);
    raw.expect_words(&[6, 1024, WINDOW / 2 + 16 + 3 + 32]);
    // And at once for the parts of a message that is still incomplete.
    raw.words(&[1024, 1 << 31 | (WINDOW - 16)]);
    raw.send(&[8; WINDOW as usize - 16]);
    raw.expect_words(&[6, 1024, WINDOW]);
    raw.words(&[1024, 0]);
    expect_received(&here, id, &[8; WINDOW as usize - 16]);
    raw.words(&[1, 1024, 1, 1025, 2, 0]);
    expect_closed(&here, id);
    expect_closed(&here, other);
    raw.expect_words(&[2, 1025]);
    raw.expect_end();
    expect_end(&here);
}

#[test]
fn who_breaks_the_rules_is_dropped() {
    let more = 1 << 31;
    for (words, payload, expected) in [
        (&[1024, WINDOW - 15][..], WINDOW - 15, "credit"),
        (&[1024, more], 0, "credit"),
        (&[1024, (64 << 10) + 1], 0, "a fragment of"),
        (&[1024, more | 1], 1, "within a message"),
        (&[6, 1024, 1], 0, "credit for connection 1024"),
        (&[7], 0, "control word 7"),
    ] {
        let network = small(|_| {});
        let here = endpoint(&network);
        let mut raw = Raw::dial(here.address());
        introduce(&mut raw, &greater(), 1);
        raw.words(&[0, 1024]);
        next_opened(&here, &greater());
        raw.words(words);
        raw.send(&vec![0; payload as usize]);
        if expected == "within a message" {
            raw.words(&[1, 1024]);
        }
        let reason = expect_lost(&here, &greater());
        assert!(reason.contains(expected), "{reason}");
        raw.expect_cut();
    }
}

#[test]
fn a_slow_receiver_does_not_hold_up_its_sibling() {
    let network = small(|_| {});
    let here = endpoint(&network);
    let there = super::network(Dialect::Multiplexed);
    let sender = endpoint(&there);
    let (slow, quick) = (connect(&sender, &here), connect(&sender, &here));
    let slow_inbox = here.claim(next_opened(&here, sender.address())).unwrap();
    let quick_inbox = here.claim(next_opened(&here, sender.address())).unwrap();
    // Much more than fits anywhere on the way.
    let blocked = Blocked::spawn(move || {
        for round in 0..200_u32 {
            slow.send(&[&round.to_be_bytes(), &[0; 50_000]]).unwrap();
        }
        slow.send(&[b"the last"]).unwrap();
        slow
    });
    for round in 0..100_u8 {
        quick.send(&[&[round; 100_000]]).unwrap();
        assert_eq!(quick_inbox.receive(), Ok(Some(vec![round; 100_000])));
    }
    for round in 0..200_u32 {
        let message = slow_inbox.receive().unwrap().unwrap();
        assert_eq!(message[..4], round.to_be_bytes());
    }
    assert_eq!(slow_inbox.receive(), Ok(Some(b"the last".to_vec())));
    drop(blocked.join());
    assert_eq!(slow_inbox.receive(), Ok(None));
}

#[test]
fn a_short_message_overtakes_a_long_one() {
    let network = small(|_| {});
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    introduce(&mut raw, &greater(), 1);
    let long = here.connect(&greater(), ConnectHints::new()).unwrap();
    let short = here.connect(&greater(), ConnectHints::new()).unwrap();
    raw.expect_words(&[0, 1024, 0, 1025]);
    long.send(&[&[1; 1 << 20]]).unwrap();
    // All the credit there is.
    raw.words(&[6, 1024, 1 << 30]);
    short.send(&[b"short"]).unwrap();
    let mut before = 0;
    loop {
        let (lcid, length) = (raw.read_word(), raw.read_word() & !(1 << 31));
        raw.read(length as usize);
        if lcid == 1025 {
            break;
        }
        before += length;
    }
    while before < 1 << 20 {
        assert_eq!(raw.read_word(), 1024);
        let length = raw.read_word() & !(1 << 31);
        raw.read(length as usize);
        before += length;
    }
    assert_eq!(before, 1 << 20);
}

#[test]
fn silence_is_asked_about() {
    let network = small(|parameters| {
        parameters.heartbeat = Duration::from_millis(5);
        parameters.patience = AMPLE;
    });
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    introduce(&mut raw, &greater(), 1);
    for _ in 0..3 {
        raw.expect_words(&[4]);
        raw.words(&[5]);
    }
    raw.words(&[0, 1024]);
    next_opened(&here, &greater());
    expect_end(&here);
}

#[test]
fn unbroken_silence_is_a_loss() {
    let network = small(|parameters| {
        parameters.heartbeat = Duration::from_millis(5);
        parameters.patience = Duration::from_millis(5);
    });
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    introduce(&mut raw, &greater(), 1);
    let reason = expect_lost(&here, &greater());
    assert!(reason.contains("sign of life"), "{reason}");
    raw.expect_cut();
    expect_end(&here);
}

#[test]
fn two_idle_endpoints_keep_each_other_alive() {
    let hasty = || {
        small(|parameters| {
            parameters.heartbeat = Duration::from_millis(5);
            parameters.patience = AMPLE;
        })
    };
    let (one, other) = (hasty(), hasty());
    let (one, other) = (endpoint(&one), endpoint(&other));
    let connection = connect(&one, &other);
    let id = next_opened(&other, one.address());
    // A few heartbeats, told by bytes that come without anybody's sending any.
    let link = one.local().links().remove(0);
    for _ in 0..5 {
        until(|| link.heard.load(std::sync::atomic::Ordering::Relaxed));
        until(|| !link.heard.load(std::sync::atomic::Ordering::Relaxed));
    }
    connection.send(&[b"alive"]).unwrap();
    expect_received(&other, id, b"alive");
}

#[test]
fn a_newer_dial_replaces_the_connection() {
    let network = small(|_| {});
    let here = endpoint(&network);
    let mut stale = Raw::dial(here.address());
    introduce(&mut stale, &greater(), 5);
    stale.words(&[0, 1024]);
    let id = next_opened(&here, &greater());
    // One that was sent before, and the same once more, are only late.
    for serial in [4, 5] {
        let mut late = Raw::dial(here.address());
        late.send(&hello(&greater(), serial));
        late.expect_words(&[2]);
        late.expect_end();
    }
    stale.words(&[1024, 2]);
    stale.send(b"ok");
    expect_received(&here, id, b"ok");
    let mut newer = Raw::dial(here.address());
    introduce(&mut newer, &greater(), 6);
    newer.words(&[0, 1024]);
    let reason = expect_lost(&here, &greater());
    assert!(reason.contains("anew"), "{reason}");
    stale.expect_cut();
    assert_eq!(next_opened(&here, &greater()).heavyweight(), 2);
    expect_end(&here);
}

#[test]
fn what_was_sent_before_the_end_of_the_endpoint_arrives() {
    let (here, there) = (small(|_| {}), small(|_| {}));
    let (one, other) = (endpoint(&here), endpoint(&there));
    let connection = connect(&one, &other);
    connection.send(&[&[3; 1 << 20]]).unwrap();
    connection.send(&[b"end"]).unwrap();
    let id = next_opened(&other, one.address());
    one.close();
    expect_received(&other, id, &[3; 1 << 20]);
    expect_received(&other, id, b"end");
    expect_closed(&other, id);
    expect_end(&other);
}
