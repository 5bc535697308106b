//! Bytes that are no messages.

use std::io::Write;
use std::thread;
use std::time::Duration;

use capnp_threads_core::{ConnConfig, Limits};

use super::victim::Victim;
use rpc_tests::support::raw::{self, Cap, RawPeer, Said, Target};
use rpc_tests::support::{Random, Watchdog, stress_time, until};

/// A valid session, message by message.
fn session() -> Vec<Vec<u8>> {
    vec![
        raw::frame(|message| message.init_bootstrap().set_question_id(0)),
        raw::call(
            1,
            &Target::Answer(0, vec![]),
            raw::MORE_STUFF,
            raw::ECHO,
            &[Cap::SenderHosted(3)],
        ),
        raw::call(
            2,
            &Target::Answer(1, vec![0]),
            raw::MORE_STUFF,
            raw::ECHO,
            &[Cap::ReceiverAnswer(0, vec![])],
        ),
        raw::finish(1, true),
        raw::finish(0, true),
    ]
}

#[test]
fn a_stream_that_ends_anywhere_ends_the_connection() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let bytes = session().concat();
    // Each byte of the first messages, and then some.
    for end in (0..200).chain((200..bytes.len()).step_by(7)) {
        let (mut peer, connection) = victim.attack();
        peer.bytes(&bytes[..end]);
        peer.end();
        victim.survive(&connection);
        let last = peer.drain();
        assert!(!last.iter().any(|said| matches!(said, Said::Abort(_))), "{end}: {last:?}");
    }
    victim.finish();
}

/// The framing as its reader would not believe it.
fn table(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn sizes_beyond_the_limits_are_refused_before_anything_is_read() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let attacks: [(Vec<u8>, &str); 6] = [
        (table(&[0, u32::MAX]), "words"),
        (table(&[0, 8 << 20 | 1]), "words"),
        (table(&[1, 4 << 20, 4 << 20 | 1, 0]), "words"),
        (table(&[u32::MAX, 0]), "segments"),
        (table(&[512, 0]), "segments"),
        (table(&[u32::MAX - 1]), "segments"),
    ];
    for (attack, reason) in attacks {
        let (mut peer, connection) = victim.attack();
        peer.bytes(&attack);
        let told = peer.aborted();
        assert!(told.contains(reason), "{told}");
        victim.survive(&connection);
    }
    victim.finish();
}

#[test]
fn a_large_message_that_never_comes_costs_little_and_ends() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let peers: Vec<_> = (0..50)
        .map(|_| {
            let (mut peer, connection) = victim.attack();
            peer.bytes(&table(&[0, 8 << 20]));
            peer.bytes(&[1; 1000]);
            (peer, connection)
        })
        .collect();
    for (mut peer, connection) in peers {
        assert_eq!(connection.failure(), None);
        peer.end();
        victim.survive(&connection);
    }
    victim.finish();
}

#[test]
fn frames_that_hold_no_message_are_refused() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    // Pointers: offset, data words and pointers of a struct.
    let structure = |offset: i32, data: u64, pointers: u64| {
        u64::from(offset.cast_unsigned() << 2) | data << 32 | pointers << 48
    };
    let far = |segment: u64, offset: u64| 2 | offset << 3 | segment << 32;
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("no words", raw::words(&[])),
        ("no words in many segments", table(&[2, 0, 0, 0])),
        ("a root out of bounds", raw::words(&[structure(0, 1, 1)])),
        ("a root far out of bounds", raw::words(&[structure(1 << 28, 9, 9)])),
        ("a root before the message", raw::words(&[structure(-1000, 1, 1)])),
        ("a root that is a list", raw::words(&[1 | 2 << 32 | 8 << 35, 0])),
        ("a root that is a capability", raw::words(&[3])),
        ("a root of an unknown kind", raw::words(&[3 | 1 << 2])),
        ("a root in a segment that is not there", raw::words(&[far(7, 0)])),
        ("a root that is far and itself", raw::words(&[far(0, 0)])),
        ("a root that is doubly far and itself", raw::words(&[far(0, 0) | 4, 0])),
        ("a root that contains itself", raw::words(&[structure(-1, 0, 1)])),
    ];
    for (what, attack) in attacks {
        let (mut peer, connection) = victim.attack();
        peer.bytes(&attack);
        peer.end();
        // What it says depends on what it makes of it.
        peer.drain();
        victim.survive(&connection);
        assert!(connection.failure().is_some(), "{what}");
    }
    victim.finish();
}

#[test]
fn garbage_ends_the_connection() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let end = std::time::Instant::now() + stress_time();
    let mut seed = 0;
    while std::time::Instant::now() < end || seed < 50 {
        seed += 1;
        let mut random = Random::new(seed);
        let (mut peer, connection) = victim.attack();
        let mut garbage: Vec<u8> = (0..random.below(4000)).map(|_| random.draw() as u8).collect();
        match seed % 3 {
            // With a framing that lets it through.
            0 => {
                let words: Vec<u64> = (0..random.below(200)).map(|_| random.draw()).collect();
                garbage = raw::words(&words);
            }
            1 => {
                let words: Vec<u64> =
                    (0..random.below(50)).map(|_| random.draw() & 0x0001_0003_0000_001f).collect();
                garbage = raw::words(&words);
            }
            _ => {}
        }
        peer.bytes(&garbage);
        peer.end();
        peer.drain();
        victim.survive(&connection);
    }
    victim.finish();
}

/// One byte at a time, with somebody else served in between.
#[test]
fn a_slow_peer_holds_up_nobody() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let mut slow: Vec<(RawPeer, _)> = (0..20).map(|_| victim.attack()).collect();
    let bytes = session().concat();
    for byte in bytes.chunks(1) {
        for (peer, _) in &mut slow {
            peer.bytes(byte);
        }
    }
    let (mut quick, connection) = victim.attack();
    quick.sync(0);
    quick.end();
    victim.survive(&connection);
    for (mut peer, connection) in slow {
        // Its messages were understood all the same.
        peer.outcome(1);
        peer.end();
        victim.survive(&connection);
    }
    victim.finish();
}

#[test]
fn the_limits_of_a_connection_are_its_own() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let mut limits = Limits::default();
    limits.message_words = 20;
    limits.message_segments = 1;
    let (mut peer, connection) = victim.attack_with(limits);
    peer.bytes(&table(&[1, 0, 0, 0]));
    assert!(peer.aborted().contains("segments"));
    victim.survive(&connection);
    // Others may send more.
    let (mut peer, connection, keeper) = victim.attack_bootstrapped();
    peer.call(1, &Target::Import(keeper), raw::ECHO, &vec![Cap::SenderHosted(1); 1000]);
    peer.outcome(1);
    peer.end();
    victim.survive(&connection);
    victim.finish();
}

/// While one connection is full of half a message, closing it takes no time.
#[test]
fn a_peer_that_stops_may_be_cut_off_at_any_byte() {
    let _watchdog = Watchdog::start();
    let victim = Victim::new();
    let bytes = session().concat();
    for end in (0..bytes.len()).step_by(157) {
        // The peer will not end its side.
        let briefly = |config: ConnConfig| config.close_timeout(Duration::from_millis(1));
        let (peer, connection) = victim.attack_configured(briefly);
        let mut writer = peer.writer();
        writer.write_all(&bytes[..end]).unwrap();
        let closing = thread::spawn(move || {
            connection.close();
            connection
        });
        victim.survive(&closing.join().unwrap());
    }
    until("every attacker to be forgotten", || victim.vat.connection_count() == 1);
    victim.finish();
}
