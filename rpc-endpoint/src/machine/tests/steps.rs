//! Single steps that scripts rarely take, and what they put out.

use std::sync::Arc;

use super::super::Piece;
use super::super::peer::{Connect, Dialled, HangUp, Inbound, Output, Peer, Refusal, Rules};
use crate::error::Unreached;
use crate::parameters::Dialect;
use crate::wire::{Control, DialectTerms, Stamp, Terms};

const RULES: Rules = Rules {
    max_message: 1 << 20,
    max_connections: 10,
    max_events: 10,
    receive_queue: 64 << 10,
    max_held: 4 << 20,
    heartbeat: 100,
    patience: 200,
    probes_older: false,
    linger: 50,
};

fn multiplexed(serial: u64) -> DialectTerms {
    DialectTerms::Multiplexed(Terms {
        stamp: Stamp { incarnation: 1, serial },
        window: 64 << 10,
        max_message: 1 << 20,
    })
}

fn accepted(terms: DialectTerms) -> Peer {
    let mut peer = Peer::accepting(RULES, terms, vec![9], 0);
    assert_eq!(take(&mut peer, 0), [Piece::Reply(vec![9])]);
    peer
}

fn take(peer: &mut Peer, now: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    peer.take(usize::MAX, now, &mut pieces);
    pieces
}

fn outputs<R>(peer: &mut Peer, step: impl FnOnce(&mut Peer, &mut Vec<Output>) -> R) -> Vec<Output> {
    let mut out = Vec::new();
    step(peer, &mut out);
    out
}

fn control(peer: &mut Peer, control: Control) -> Vec<Output> {
    outputs(peer, |peer, out| peer.control(control, out))
}

fn connected(peer: &mut Peer) -> u32 {
    let Connect::Connected(lcid) = peer.connect(&mut Vec::new()) else { panic!() };
    lcid
}

#[test]
fn a_close_of_the_socket_that_saw_too_little_is_refused() {
    let mut peer = accepted(DialectTerms::Versioned);
    control(&mut peer, Control::Created { lcid: 1024 });
    let lcid = connected(&mut peer);
    peer.close(lcid, &mut Vec::new());
    take(&mut peer, 0);
    // The peer had not seen the connection when it said so.
    let out = control(&mut peer, Control::CloseSocket { last_in: 0 });
    assert_eq!(out, [Output::Closed(1024), Output::Wake]);
    assert!(!peer.is_dead());
    // Now nobody has any, and that is said.
    let farewell = Piece::Control(Control::CloseSocket { last_in: 1024 });
    assert_eq!(take(&mut peer, 0), [farewell]);
    assert_eq!(control(&mut peer, Control::CloseSocket { last_in: 0 }), []);
    let out = control(&mut peer, Control::CloseSocket { last_in: 1024 });
    assert_eq!(out, [Output::Leave, Output::HangUp(HangUp::Written), Output::Wake]);
    assert!(peer.is_dead());
}

#[test]
fn a_close_of_the_socket_that_was_not_written_is_taken_back() {
    for terms in [DialectTerms::Original, DialectTerms::Versioned, multiplexed(1)] {
        let mut peer = accepted(terms);
        let lcid = connected(&mut peer);
        peer.close(lcid, &mut Vec::new());
        assert_eq!(connected(&mut peer), 1025);
        let written = take(&mut peer, 0);
        assert!(
            !written
                .iter()
                .any(|piece| { matches!(piece, Piece::Control(Control::CloseSocket { .. })) })
        );
        peer.close(1025, &mut Vec::new());
        assert!(take(&mut peer, 0).contains(&Piece::Control(Control::CloseSocket { last_in: 0 })));
        assert_eq!(peer.connect(&mut Vec::new()), Connect::Wait);
    }
}

#[test]
fn an_unanswered_close_of_the_socket_has_a_limit_from_when_it_was_written() {
    let mut peer = accepted(DialectTerms::Original);
    let lcid = connected(&mut peer);
    peer.close(lcid, &mut Vec::new());
    assert_eq!(outputs(&mut peer, |peer, out| peer.tick(1000, false, out)), []);
    take(&mut peer, 1000);
    assert_eq!(outputs(&mut peer, |peer, out| peer.tick(1049, false, out)), []);
    // Nothing is lost with it.
    let out = outputs(&mut peer, |peer, out| peer.tick(1050, false, out));
    assert_eq!(out, [Output::Leave, Output::HangUp(HangUp::Now), Output::Wake]);
}

#[test]
fn losses_are_reported_once() {
    let mut peer = accepted(DialectTerms::Versioned);
    let out = outputs(&mut peer, |peer, out| peer.broken("first".to_owned(), out));
    let lost = Output::Lost("first".to_owned());
    assert_eq!(out, [lost, Output::Leave, Output::HangUp(HangUp::Now), Output::Wake]);
    assert_eq!(outputs(&mut peer, |peer, out| peer.broken("second".to_owned(), out)), []);
    assert_eq!(outputs(&mut peer, Peer::shut_down), []);
    let refusal = peer.send(1024, &Arc::default(), 1);
    assert_eq!(refusal, Err(Refusal::Failed("first".to_owned())));
}

#[test]
fn the_newest_of_the_dials_that_wait_takes_over() {
    let mut peer = Peer::dialling(RULES);
    let arrive = |peer: &mut Peer, ticket, yields| {
        let mut out = Vec::new();
        peer.inbound(yields, ticket, DialectTerms::Original, &[9], 0, &mut out)
    };
    assert_eq!(arrive(&mut peer, 1, false), Inbound::Crossed);
    assert_eq!(arrive(&mut peer, 1, true), Inbound::Wait);
    assert_eq!(arrive(&mut peer, 2, true), Inbound::Wait);
    assert_eq!(arrive(&mut peer, 1, true), Inbound::Crossed);
    assert_eq!(peer.connect(&mut Vec::new()), Connect::Wait);
    let next = peer.dial_failed(Unreached::timeout(), &mut Vec::new());
    assert_eq!(next, Dialled::TheirTurn);
    assert_eq!(arrive(&mut peer, 2, true), Inbound::Accepted);
    assert_eq!(connected(&mut peer), 1024);
    // What comes too late changes nothing.
    assert!(!peer.dial_accepted(DialectTerms::Original, 0, &mut Vec::new()));
    assert_eq!(peer.dial_crossed(&mut Vec::new()), Dialled::Done);
    peer.dial_given_up(Unreached::timeout(), &mut Vec::new());
    assert!(!peer.is_dead());
}

#[test]
fn a_dial_that_fails_alone_is_invalid() {
    let mut peer = Peer::dialling(RULES);
    peer.inbound(true, 1, DialectTerms::Original, &[], 0, &mut Vec::new());
    peer.inbound_gave_up(1);
    let error = Unreached::timeout();
    let out = outputs(&mut peer, |peer, out| peer.dial_failed(error.clone(), out));
    assert_eq!(out, [Output::Leave, Output::Wake]);
    assert_eq!(peer.connect(&mut Vec::new()), Connect::Refused(error));
}

#[test]
fn stamps_tell_late_dials_from_new_ones() {
    let mut peer = accepted(multiplexed(5));
    for serial in [4, 5] {
        let mut out = Vec::new();
        let answer = peer.inbound(true, 1, multiplexed(serial), &[], 0, &mut out);
        assert_eq!((answer, &out[..]), (Inbound::Crossed, &[][..]));
    }
    // Another dialect has no stamp to tell.
    let answer = peer.inbound(true, 1, DialectTerms::Versioned, &[], 0, &mut Vec::new());
    assert_eq!(answer, Inbound::Crossed);
    let answer = peer.inbound(true, 1, multiplexed(6), &[], 0, &mut Vec::new());
    assert_eq!(answer, Inbound::Gone);
    assert!(peer.is_dead());
}

/// A dial with this incarnation arrives, with the first serial.
fn dialled_by(peer: &mut Peer, incarnation: u64) -> (Inbound, Vec<Output>) {
    let mut out = Vec::new();
    let terms = DialectTerms::Multiplexed(Terms {
        stamp: Stamp { incarnation, serial: 1 },
        window: 64 << 10,
        max_message: 1 << 20,
    });
    let answer = peer.inbound(true, 1, terms, &[], 0, &mut out);
    (answer, out)
}

#[test]
fn a_later_incarnation_takes_the_place_and_that_is_told() {
    let mut peer = accepted(multiplexed(5));
    let (answer, out) = dialled_by(&mut peer, 2);
    assert_eq!(answer, Inbound::Gone);
    let Output::Lost(reason) = &out[0] else { panic!("{out:?}") };
    assert!(reason.contains("it was restarted, or another network claims its address"), "{reason}");
}

#[test]
fn an_earlier_incarnation_is_told_once_and_waits_for_the_one_that_is_connected() {
    // As of a peer whose clock went back, or behind one that claims the latest there is.
    for connected in [1, u64::MAX] {
        let stamp = Stamp { incarnation: connected, serial: 5 };
        let terms = Terms { stamp, window: 64 << 10, max_message: 1 << 20 };
        let mut peer = accepted(DialectTerms::Multiplexed(terms));
        let (answer, out) = dialled_by(&mut peer, 0);
        assert_eq!(answer, Inbound::Crossed);
        let [Output::Contested(reason)] = out[..] else { panic!("{out:?}") };
        assert!(reason.contains("another network claims its address"), "{reason}");
        // It is asked for a sign of life at once, and given up if there is none.
        assert_eq!(take(&mut peer, 0), [Piece::Control(Control::Probe)]);
        let (answer, out) = dialled_by(&mut peer, 0);
        assert_eq!((answer, &out[..]), (Inbound::Crossed, &[][..]));
        assert_eq!(take(&mut peer, 0), []);
        outputs(&mut peer, |peer, out| peer.tick(100, false, out));
        let out = outputs(&mut peer, |peer, out| peer.tick(200, false, out));
        assert!(matches!(out[0], Output::Lost(_)), "{out:?}");
        assert!(peer.is_dead());
    }
}

#[test]
fn a_late_dial_is_no_reason_to_ask_for_a_sign_of_life() {
    let mut peer = accepted(multiplexed(5));
    let answer = peer.inbound(true, 1, multiplexed(4), &[], 0, &mut Vec::new());
    assert_eq!(answer, Inbound::Crossed);
    assert_eq!(take(&mut peer, 0), []);
}

#[test]
fn what_is_held_is_counted_until_it_is_received() {
    for terms in [DialectTerms::Original, DialectTerms::Versioned, multiplexed(1)] {
        let mut peer = accepted(terms);
        let held = |peer: &Peer| (peer.held().connections, peer.held().bytes);
        control(&mut peer, Control::Created { lcid: 1024 });
        control(&mut peer, Control::Created { lcid: 1025 });
        assert_eq!(held(&peer), (2, 0));
        if terms.dialect() == Dialect::Multiplexed {
            assert!(peer.data(1024, 500, true, &mut Vec::new()));
            assert_eq!(held(&peer), (2, 500));
        }
        assert!(peer.data(1024, 500, false, &mut Vec::new()));
        assert!(peer.message_arrived(1024, 1000));
        assert_eq!(held(&peer), (2, 1016));
        // Also beyond the end of its connection, and of the peer.
        control(&mut peer, Control::Close { lcid: 1024 });
        assert_eq!(held(&peer), (1, 1016));
        outputs(&mut peer, |peer, out| peer.broken("lost".to_owned(), out));
        assert_eq!(held(&peer), (0, 1016));
        peer.message_taken(1024, 1000);
        assert_eq!(held(&peer), (0, 0));
    }
}

#[test]
fn a_peer_waits_when_much_is_held_and_is_dropped_when_that_is_incomplete() {
    let mut peer = accepted(multiplexed(1));
    let lcids = 1024..1030;
    for lcid in lcids.clone() {
        control(&mut peer, Control::Created { lcid });
    }
    // Several long messages at once, of which one is complete.
    let mut sent = 0;
    let mut piece = |peer: &mut Peer, lcid, out: &mut Vec<Output>| {
        sent += 32 << 10;
        (peer.data(lcid, 32 << 10, true, out), sent)
    };
    assert!(peer.data(1029, 1000, false, &mut Vec::new()) && peer.message_arrived(1029, 1000));
    let mut out = Vec::new();
    for lcid in lcids.take(5).cycle() {
        if peer.must_pause() {
            break;
        }
        assert!(piece(&mut peer, lcid, &mut out).0);
    }
    assert!(peer.held().bytes >= RULES.max_held);
    // With nothing to be received, waiting would be of no use.
    peer.message_taken(1029, 1000);
    assert!(!peer.must_pause());
    let reason = loop {
        let (wanted, sent) = piece(&mut peer, 1024, &mut out);
        if !wanted {
            assert!(sent > RULES.max_held);
            let Output::Lost(reason) = &out[0] else { panic!("{out:?}") };
            break reason;
        }
    };
    assert!(reason.contains("incomplete"), "{reason}");
}

#[test]
fn credit_that_nobody_reads_does_not_pile_up() {
    let mut peer = accepted(multiplexed(1));
    control(&mut peer, Control::Created { lcid: 1024 });
    control(&mut peer, Control::Created { lcid: 1025 });
    for _ in 0..1000 {
        for lcid in [1024, 1025] {
            assert!(peer.data(lcid, 50_000, false, &mut Vec::new()));
            assert!(peer.message_arrived(lcid, 50_000));
            peer.message_taken(lcid, 50_000);
        }
    }
    let units = 1000 * 50_016;
    let credit = |lcid| Piece::Control(Control::Credit { lcid, units });
    assert_eq!(take(&mut peer, 0), [credit(1024), credit(1025)]);
}

#[test]
fn a_peer_is_dropped_in_every_state() {
    let dropped = |peer: &mut Peer| outputs(peer, |peer, out| peer.drop_by("why", out));
    let mut peer = accepted(multiplexed(1));
    let lost = Output::Lost("why".to_owned());
    let gone = [Output::Leave, Output::HangUp(HangUp::Now), Output::Wake];
    assert_eq!(dropped(&mut peer), [&[lost][..], &gone].concat());
    assert_eq!(dropped(&mut peer), []);
    // Nothing is lost of one that is being left.
    let mut peer = accepted(multiplexed(1));
    let lcid = connected(&mut peer);
    peer.close(lcid, &mut Vec::new());
    assert_eq!(dropped(&mut peer), gone);
    // And of one that is being dialled, whoever waits is told.
    let mut peer = Peer::dialling(RULES);
    assert_eq!(dropped(&mut peer), [Output::Leave, Output::Wake]);
    assert_eq!(peer.connect(&mut Vec::new()), Connect::Refused(Unreached::failed("why")));
}

#[test]
fn heartbeats() {
    let mut peer = accepted(multiplexed(1));
    let tick =
        |peer: &mut Peer, now, heard| outputs(peer, |peer, out| peer.tick(now, heard, out)).len();
    assert_eq!(tick(&mut peer, 99, false), 0);
    assert!(!peer.has_work());
    assert_eq!(tick(&mut peer, 100, false), 0);
    assert_eq!(take(&mut peer, 100), [Piece::Control(Control::Probe)]);
    assert_eq!(tick(&mut peer, 299, true), 0);
    assert_eq!(tick(&mut peer, 399, false), 0);
    assert_eq!(take(&mut peer, 399), [Piece::Control(Control::Probe)]);
    assert_eq!(tick(&mut peer, 598, false), 0);
    assert!(tick(&mut peer, 599, false) > 0);
    assert!(peer.is_dead());
}

#[test]
fn acks_do_not_pile_up() {
    let mut peer = accepted(DialectTerms::Versioned);
    for _ in 0..1000 {
        control(&mut peer, Control::Probe);
    }
    assert_eq!(take(&mut peer, 0), [Piece::Control(Control::ProbeAck)]);
}

#[test]
fn fragments_take_turns_within_their_credit() {
    let mut peer = accepted(multiplexed(1));
    let (one, other) = (connected(&mut peer), connected(&mut peer));
    take(&mut peer, 0);
    let message = Arc::new(vec![1; 150_000]);
    for lcid in [one, other] {
        assert_eq!(peer.send(lcid, &message, 1), Ok(()));
        assert_eq!(peer.send(lcid, &message, 1), Err(Refusal::Full));
        control(&mut peer, Control::Credit { lcid, units: 100_000 });
    }
    let lengths = |pieces: Vec<Piece>| -> Vec<(u32, usize, bool)> {
        let length = |piece| match piece {
            Piece::Data { lcid, range, more, .. } => (lcid, range.len(), more),
            piece => panic!("{piece:?}"),
        };
        pieces.into_iter().map(length).collect()
    };
    let rest = 150_000 - 2 * 65_536;
    assert_eq!(
        lengths(take(&mut peer, 0)),
        [
            (one, 65_536, true),
            (other, 65_536, true),
            (one, 65_536, true),
            (other, 65_536, true),
            (one, rest, false),
            (other, rest, false),
        ]
    );
    // What is left of the credit is too little for a beginning of the next.
    assert_eq!(peer.send(one, &message, 1), Ok(()));
    let left = 65_536 + 100_000 - 150_000 - 3 * 16;
    assert_eq!(lengths(take(&mut peer, 0)), [(one, left - 16, true)]);
    control(&mut peer, Control::Credit { lcid: one, units: 4096 + 15 });
    assert!(!peer.has_work());
    control(&mut peer, Control::Credit { lcid: one, units: 1 });
    assert_eq!(lengths(take(&mut peer, 0)), [(one, 4096, true)]);
}

#[test]
fn what_waits_to_be_received_pauses_reading() {
    let mut peer = accepted(DialectTerms::Original);
    control(&mut peer, Control::Created { lcid: 1024 });
    assert!(peer.data(1024, 70_000, false, &mut Vec::new()));
    assert!(peer.message_arrived(1024, 70_000));
    assert!(peer.must_pause());
    peer.message_taken(1024, 70_000);
    assert!(!peer.must_pause());
    for lcid in 1025..1030 {
        control(&mut peer, Control::Created { lcid });
        control(&mut peer, Control::Close { lcid });
    }
    assert!(peer.must_pause());
    for _ in 0..2 {
        peer.event_taken();
    }
    assert!(!peer.must_pause());
}
