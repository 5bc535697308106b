//! Peers that break rules, or are slow, or too many.

use super::raw::{Raw, greater, hello, smaller};
use super::*;

const OLD: [Dialect; 2] = [Dialect::Original, Dialect::Versioned];

/// What a peer sends after it was accepted, and why it is dropped.
fn check_dropped(dialect: Dialect, words: &[u32], expected: &str) {
    let limits = Parameters { max_message: 1000, max_connections: 3, ..parameters(dialect) };
    let network = Network::bind("127.0.0.1", 0, limits).unwrap();
    let here = endpoint(&network);
    let mut innocent = Raw::dial(here.address());
    innocent.introduce(dialect, &smaller(), here.address());
    innocent.words(&[0, 1024]);
    let id = next_opened(&here, &smaller());
    let mut raw = Raw::dial(here.address());
    raw.introduce(dialect, &greater(), here.address());
    raw.words(words);
    loop {
        match next(&here) {
            Event::ConnectionOpened { .. } | Event::ConnectionClosed { .. } => {}
            Event::ConnectionLost { peer, reason } => {
                assert_eq!(peer, greater());
                assert!(reason.contains(expected), "{reason}");
                break;
            }
            event => panic!("{event:?}"),
        }
    }
    raw.expect_cut();
    // Nobody else is affected.
    innocent.words(&[1024, 2]);
    innocent.send(b"ok");
    expect_received(&here, id, b"ok");
    expect_end(&here);
}

#[test]
fn unknown_and_unopened_connection_ids_are_rejected() {
    for dialect in OLD {
        check_dropped(dialect, &[1, 1024], "not open");
        check_dropped(dialect, &[0, 1024, 0, 1026, 1, 1024, 1, 1025], "not open");
        check_dropped(dialect, &[1024, 0], "not open");
        check_dropped(dialect, &[0, 1024, 1025, 0], "not open");
        check_dropped(dialect, &[0, 1030, 1029, 0], "not open");
        check_dropped(dialect, &[0, 1030, 1, 1029], "not open");
        check_dropped(dialect, &[0, 7], "connection 7");
        check_dropped(dialect, &[0, 1, 0, 2], "connection 1");
        check_dropped(dialect, &[0, 1024, 0, 1024], "connection 1024");
        check_dropped(dialect, &[0, 1024, 1, 1024, 0, 1024], "connection 1024");
        check_dropped(dialect, &[0, 1030, 0, 1029, 0, 1029], "connection 1029");
    }
}

/// Haskell nodes number connections under a lock, and write outside of it.
#[test]
fn connections_may_be_created_in_any_order() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let mut raw = Raw::dial(here.address());
        raw.introduce(dialect, &greater(), here.address());
        raw.words(&[0, 1029, 0, 1026, 0, 1030, 1, 1029, 1, 1030, 0, 1024]);
        let opened = [(); 3].map(|()| next_opened(&here, &greater()));
        assert_eq!(opened.map(ConnectionId::lightweight), [1029, 1026, 1030]);
        expect_closed(&here, opened[0]);
        expect_closed(&here, opened[2]);
        let last = next_opened(&here, &greater());
        raw.words(&[1024, 2]);
        raw.send(b"ok");
        expect_received(&here, last, b"ok");
        // What was seen last is the highest one.
        raw.words(&[1, 1024, 1, 1026]);
        raw.expect_words(&[2, 1030]);
    }
}

#[test]
fn what_another_thread_wrote_behind_the_end_of_a_connection_is_dropped() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let mut raw = Raw::dial(here.address());
        raw.introduce(dialect, &greater(), here.address());
        raw.words(&[0, 1024, 0, 1025, 1, 1024]);
        let [first, second] = [(); 2].map(|()| next_opened(&here, &greater()));
        expect_closed(&here, first);
        raw.words(&[1024, 4]);
        raw.send(b"late");
        raw.words(&[1025, 2]);
        raw.send(b"ok");
        expect_received(&here, second, b"ok");
        // The end of a connection behind that of the socket, which is refused because this
        // side has one open.
        let _forth = here.connect(&greater(), ConnectHints::new()).unwrap();
        raw.expect_words(&[0, 1024]);
        raw.words(&[2, 0, 1, 1025, 1025, 4]);
        raw.send(b"late");
        expect_closed(&here, second);
        raw.words(&[0, 1026, 1026, 2]);
        raw.send(b"ok");
        let third = next_opened(&here, &greater());
        expect_received(&here, third, b"ok");
        expect_end(&here);
    }
}

#[test]
fn limits_on_messages_and_connections_hit_the_offender_alone() {
    for dialect in OLD {
        check_dropped(dialect, &[0, 1024, 1024, 1001], "limit is 1000");
        check_dropped(dialect, &[0, 1024, 1024, u32::MAX], "limit is 1000");
        check_dropped(dialect, &[0, 1024, 0, 1025, 0, 1026, 0, 1027], "more than 3");
    }
}

#[test]
fn unknown_control_words_drop_the_peer() {
    for dialect in OLD {
        check_dropped(dialect, &[6, 0, 0], "control word 6");
        check_dropped(dialect, &[1023], "control word 1023");
    }
    check_dropped(Dialect::Original, &[5], "control word 5");
}

/// The releases 0.5.0 and 0.5.1 have the handshake of the original dialect, and probes.
#[test]
fn peers_of_the_original_dialect_may_probe() {
    let network = Network::bind("127.0.0.1", 0, parameters(Dialect::Original)).unwrap();
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    raw.introduce(Dialect::Original, &greater(), here.address());
    raw.words(&[3]);
    raw.expect_words(&[4]);
    // One that probes can be probed.
    let mut again = Raw::dial(here.address());
    again.send(&hello(Dialect::Original, &greater(), here.address()));
    again.expect_words(&[2]);
    raw.expect_words(&[3]);
    raw.words(&[4, 0, 1024]);
    next_opened(&here, &greater());
    expect_end(&here);
}

#[test]
fn silent_peers_of_older_dialects_are_asked_for_a_sign_of_life_where_that_is_wanted() {
    for dialect in OLD {
        let parameters = Parameters {
            probe_older_dialects: true,
            heartbeat: Duration::from_millis(5),
            patience: Duration::from_millis(5),
            ..parameters(dialect)
        };
        let network = Network::bind("127.0.0.1", 0, parameters).unwrap();
        let here = endpoint(&network);
        let mut raw = Raw::dial(here.address());
        raw.introduce(dialect, &greater(), here.address());
        let probe = if dialect == Dialect::Original {
            // It is known to answer because it asks.
            raw.words(&[3]);
            raw.expect_words(&[4]);
            3
        } else {
            4
        };
        raw.expect_words(&[probe]);
        let reason = expect_lost(&here, &greater());
        assert!(reason.contains("sign of life"), "{reason}");
    }
}

#[test]
fn probes_are_answered() {
    let network = network(Dialect::Versioned);
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    raw.introduce(Dialect::Versioned, &greater(), here.address());
    for _ in 0..3 {
        raw.words(&[4]);
        raw.expect_words(&[5]);
    }
    raw.words(&[5, 4]);
    raw.expect_words(&[5]);
}

/// A connection, and another dial of the same peer, which is refused.
fn dialled_again(patience: Duration) -> (Network, Endpoint, Raw) {
    let parameters = Parameters { patience, ..parameters(Dialect::Versioned) };
    let network = Network::bind("127.0.0.1", 0, parameters).unwrap();
    let here = endpoint(&network);
    let mut stale = Raw::dial(here.address());
    stale.introduce(Dialect::Versioned, &greater(), here.address());
    stale.words(&[0, 1024]);
    next_opened(&here, &greater());
    let mut newer = Raw::dial(here.address());
    newer.send(&hello(Dialect::Versioned, &greater(), here.address()));
    newer.expect_words(&[2]);
    newer.expect_end();
    (network, here, stale)
}

#[test]
fn a_peer_that_dials_again_is_asked_whether_it_is_alive() {
    let (_network, here, mut stale) = dialled_again(AMPLE);
    stale.expect_words(&[4]);
    stale.words(&[5, 0, 1025]);
    next_opened(&here, &greater());
    expect_end(&here);
}

#[test]
fn a_peer_that_dials_again_and_does_not_answer_makes_room() {
    let (_network, here, mut stale) = dialled_again(Duration::from_millis(5));
    let reason = expect_lost(&here, &greater());
    assert!(reason.contains("sign of life"), "{reason}");
    stale.expect_cut();
    let mut newer = Raw::dial(here.address());
    newer.introduce(Dialect::Versioned, &greater(), here.address());
    newer.words(&[0, 1024]);
    next_opened(&here, &greater());
    expect_end(&here);
}

#[test]
fn a_stalled_handshake_holds_nobody_up() {
    let network = network(Dialect::Versioned);
    let here = endpoint(&network);
    let mut stalled: Vec<_> = (0..20).map(|_| Raw::dial(here.address())).collect();
    for raw in &mut stalled {
        raw.send(&[0]);
    }
    let mut raw = Raw::dial(here.address());
    raw.introduce(Dialect::Versioned, &greater(), here.address());
    raw.words(&[0, 1024]);
    next_opened(&here, &greater());
    drop(raw);
    // And the network closes nevertheless.
    network.close();
    for raw in &mut stalled {
        raw.expect_cut();
    }
}

#[test]
fn a_handshake_has_a_deadline() {
    let hasty =
        Parameters { connect_timeout: Duration::from_millis(20), ..parameters(Dialect::Versioned) };
    let network = Network::bind("127.0.0.1", 0, hasty).unwrap();
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    raw.send(&[0, 0, 0]);
    raw.expect_cut();
    // Ours has one, too.
    let listener = super::raw::RawListener::new();
    let error = here.connect(&listener.address(), ConnectHints::new()).unwrap_err();
    assert_eq!(error.code, ConnectErrorCode::Timeout);
    expect_end(&here);
}

#[test]
fn the_oldest_of_too_many_handshakes_is_given_up() {
    // Time alone gives up none of them.
    let connect_timeout = Duration::MAX;
    let few = Parameters { max_half_open: 2, connect_timeout, ..parameters(Dialect::Versioned) };
    let network = Network::bind("127.0.0.1", 0, few).unwrap();
    let here = endpoint(&network);
    let mut stalled: Vec<_> = (0..5).map(|_| Raw::dial(here.address())).collect();
    for raw in &mut stalled[..3] {
        raw.expect_cut();
    }
    let mut raw = Raw::dial(here.address());
    stalled[3].expect_cut();
    raw.introduce(Dialect::Versioned, &greater(), here.address());
    raw.words(&[0, 1024]);
    next_opened(&here, &greater());
    expect_end(&here);
}

#[test]
fn one_peer_too_many_is_not_welcome() {
    let few = Parameters { max_peers: 1, ..parameters(Dialect::Versioned) };
    let network = Network::bind("127.0.0.1", 0, few).unwrap();
    let here = endpoint(&network);
    let mut first = Raw::dial(here.address());
    first.introduce(Dialect::Versioned, &greater(), here.address());
    let mut second = Raw::dial(here.address());
    second.send(&hello(Dialect::Versioned, &smaller(), here.address()));
    second.expect_end();
    drop(first);
    expect_lost(&here, &greater());
    let mut second = Raw::dial(here.address());
    second.introduce(Dialect::Versioned, &smaller(), here.address());
    expect_end(&here);
}

#[test]
fn an_address_that_is_too_long_is_not_read() {
    let network = network(Dialect::Versioned);
    let here = endpoint(&network);
    for words in [&[0, 1025, 0, 0][..], &[0, u32::MAX, 0, 0], &[0, u32::MAX, 0, u32::MAX - 8]] {
        let mut raw = Raw::dial(here.address());
        raw.words(words);
        raw.expect_cut();
    }
    expect_end(&here);
}

#[test]
fn a_peer_that_is_not_received_from_is_made_to_wait() {
    for dialect in OLD {
        let small = Parameters { receive_queue: 64 << 10, ..parameters(dialect) };
        let network = Network::bind("127.0.0.1", 0, small).unwrap();
        let here = endpoint(&network);
        let there = super::network(dialect);
        let sender = endpoint(&there);
        let connection = connect(&sender, &here);
        let id = next_opened(&here, sender.address());
        // Until everything on the way is full.
        let mut sent = 0_u32;
        while connection.try_send(&[&sent.to_be_bytes(), &[0; 50_000]]).is_ok() {
            sent += 1;
        }
        // Somebody else's message comes nevertheless.
        let mut other = Raw::dial(here.address());
        other.introduce(dialect, &greater(), here.address());
        other.words(&[0, 1024]);
        let mut received = 0_u32;
        let mut seen_other = false;
        while received < sent || !seen_other {
            match next(&here) {
                Event::Received { connection, message } => {
                    assert_eq!(connection, id);
                    assert_eq!(message[..4], received.to_be_bytes());
                    received += 1;
                }
                Event::ConnectionOpened { from, .. } => {
                    assert_eq!(from, greater());
                    seen_other = true;
                }
                event => panic!("{event:?}"),
            }
        }
        drop(connection);
        expect_closed(&here, id);
    }
}

#[test]
fn events_that_are_not_received_make_a_peer_wait() {
    let few = Parameters { max_events: 10, ..parameters(Dialect::Versioned) };
    let network = Network::bind("127.0.0.1", 0, few).unwrap();
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    raw.introduce(Dialect::Versioned, &greater(), here.address());
    for lcid in 1024..2024 {
        raw.words(&[0, lcid, 1, lcid]);
    }
    for lcid in 1024..2024 {
        assert_eq!(next_opened(&here, &greater()).lightweight(), lcid);
        let Event::ConnectionClosed { connection } = next(&here) else { panic!() };
        assert_eq!(connection.lightweight(), lcid);
    }
    expect_end(&here);
}

#[test]
fn a_message_that_is_too_long_for_the_peer_fails_alone() {
    let small = Parameters { max_message: 1000, ..parameters(Dialect::Multiplexed) };
    let network = Network::bind("127.0.0.1", 0, small).unwrap();
    let here = endpoint(&network);
    let there = super::network(Dialect::Multiplexed);
    let sender = endpoint(&there);
    let connection = connect(&sender, &here);
    assert!(matches!(connection.send(&[&[0; 1001]]), Err(SendError::Failed(_))));
    connection.send(&[&[1; 1000]]).unwrap();
    let id = next_opened(&here, sender.address());
    expect_received(&here, id, &[1; 1000]);
}
