//! Who reads: Note [reading for oneself] in `link/reading.rs`.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::raw::{Raw, bytes, greater, smaller};
use super::writing::{dial_in, link};
use super::*;
use crate::link::Link;

/// A peer that has opened a connection, which is claimed, and whose socket guests may read.
fn peer(dialect: Dialect, here: &Endpoint) -> (Raw, Incoming, Arc<Link>) {
    let mut raw = dial_in(dialect, here, &greater());
    raw.words(&[0, 1024]);
    let incoming = here.claim(next_opened(here, &greater())).unwrap();
    let link = link(here);
    free_the_turn(&mut raw, &incoming, &link);
    (raw, incoming, link)
}

/// Makes the reading thread give the turn away, if it has it.
fn free_the_turn(raw: &mut Raw, incoming: &Incoming, link: &Link) {
    if link.is_turn_free() {
        return;
    }
    thread::scope(|scope| {
        let receiving = scope.spawn(|| incoming.receive());
        // That it has waited may have been seen already.
        until(|| link.is_wanted() || link.has_guest());
        send(raw, 1024, b"first");
        assert_eq!(receiving.join().unwrap(), Ok(Some(b"first".to_vec())));
    });
    until(|| link.is_turn_free());
}

/// Does something while a thread receives as a guest, and returns what that gets.
fn meanwhile<T: Send>(link: &Link, receive: impl FnOnce() -> T + Send, work: impl FnOnce()) -> T {
    thread::scope(|scope| {
        let receiving = scope.spawn(receive);
        until(|| link.has_guest());
        work();
        receiving.join().unwrap()
    })
}

fn send(raw: &mut Raw, lcid: u32, message: &[u8]) {
    raw.words(&[lcid, u32::try_from(message.len()).unwrap()]);
    raw.send(message);
}

#[test]
fn a_thread_that_waits_reads_what_it_waits_for() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, incoming, link) = peer(dialect, &here);
        for round in 0..20_u8 {
            let reads = link.guests_reads();
            let message = vec![round; 1000];
            let received =
                meanwhile(&link, || incoming.receive(), || send(&mut raw, 1024, &message));
            assert_eq!(received, Ok(Some(message)));
            assert!(link.guests_reads() > reads);
            until(|| link.is_turn_free());
        }
        // Events are waited for in the same way.
        let reads = link.guests_reads();
        let opened = meanwhile(&link, || next_opened(&here, &greater()), || raw.words(&[0, 1025]));
        assert_eq!(opened.lightweight(), 1025);
        assert!(link.guests_reads() > reads);
        expect_end(&here);
    }
}

#[test]
fn what_comes_when_nobody_waits_is_read() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, incoming, link) = peer(dialect, &here);
        for lcid in 1025..1035 {
            let got = meanwhile(&link, || incoming.receive(), || send(&mut raw, 1024, b"one"));
            assert_eq!(got, Ok(Some(b"one".to_vec())));
            raw.words(&[0, lcid]);
            until(|| here.local().events.len() == 1);
            next_opened(&here, &greater());
            free_the_turn(&mut raw, &incoming, &link);
        }
        expect_end(&here);
    }
}

/// A thread that does not read gets what comes though a guest has left without arming.
#[test]
fn a_thread_that_begins_to_wait_beside_guests_is_served() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, incoming, link) = peer(dialect, &here);
        // With another peer, nobody reads for events.
        let mut other = dial_in(dialect, &here, &smaller());
        for round in 0..20 {
            let got = meanwhile(&link, || incoming.receive(), || send(&mut raw, 1024, b"one"));
            assert_eq!(got, Ok(Some(b"one".to_vec())));
            let event = thread::scope(|scope| {
                let receiving = scope.spawn(|| next(&here));
                raw.words(&[0, 1025 + round]);
                receiving.join().unwrap()
            });
            assert!(matches!(event, Event::ConnectionOpened { .. }));
            free_the_turn(&mut raw, &incoming, &link);
        }
        other.finish();
        drop(other);
    }
}

#[test]
fn a_guest_gets_what_others_bring() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (raw, incoming, link) = peer(dialect, &here);
        // A message of this endpoint to itself.
        let own = connect(&here, &here);
        let own_id = next_opened(&here, here.address());
        let event = meanwhile(&link, || next(&here), || own.send(&[b"own"]).unwrap());
        assert_eq!(event, Event::Received { connection: own_id, message: b"own".to_vec() });
        // Another peer's.
        let event = meanwhile(
            &link,
            || next(&here),
            || {
                dial_in(dialect, &here, &smaller()).words(&[0, 1024]);
            },
        );
        assert!(matches!(event, Event::ConnectionOpened { .. }), "{event:?}");
        assert_eq!(expect_lost(&here, &smaller()), "the peer closed the socket");
        // Its time.
        until(|| link.is_turn_free());
        let short = Duration::from_millis(1);
        assert_eq!(incoming.receive_timeout(short), Err(IncomingError::TimedOut));
        assert_eq!(here.receive_timeout(short), Ok(None));
        // The loss of the peer, and the end of the endpoint.
        let lost = meanwhile(&link, || incoming.receive(), || assert!(here.drop_peer(&greater())));
        assert!(matches!(lost, Err(IncomingError::Lost(_))), "{lost:?}");
        expect_lost(&here, &greater());
        drop(raw);
        let (raw, incoming, link) = peer(dialect, &here);
        let end = meanwhile(&link, || incoming.receive(), || here.close());
        assert_eq!(end, Err(IncomingError::EndpointClosed));
        drop(raw);
        network.close();
    }
}

#[test]
fn the_end_of_the_stream_is_a_loss_whoever_reads_it() {
    for dialect in DIALECTS {
        for rest in [&[][..], &[0, 0], &bytes(&[1024, 10, 7])] {
            let network = network(dialect);
            let here = endpoint(&network);
            let (mut raw, incoming, link) = peer(dialect, &here);
            let end = meanwhile(
                &link,
                || incoming.receive(),
                move || {
                    raw.send(rest);
                    drop(raw);
                },
            );
            let Err(IncomingError::Lost(reason)) = end else { panic!("{end:?}") };
            let expected = if rest.is_empty() { "the peer closed the socket" } else { "middle" };
            assert!(reason.contains(expected), "{reason}");
            assert_eq!(expect_lost(&here, &greater()), reason);
            // The descriptors of guests are given back, though the link is kept.
            until(|| !link.has_standby());
            // The reading thread is not left behind.
            expect_end(&here);
            network.close();
        }
    }
}

/// Guests come and go within frames, and within messages.
#[test]
fn a_frame_may_be_read_by_several() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, incoming, link) = peer(dialect, &here);
        let frame = [bytes(&[1024, 6]), b"abcdef".to_vec()].concat();
        let short = Duration::from_millis(1);
        for split in 1..frame.len() {
            raw.send(&frame[..split]);
            assert_eq!(incoming.receive_timeout(short), Err(IncomingError::TimedOut));
            until(|| link.is_turn_free() || link.is_reading_within());
            raw.send(&frame[split..]);
            assert_eq!(incoming.receive(), Ok(Some(b"abcdef".to_vec())));
        }
        // Nor is anything lost with much at once, and a long message in the middle.
        let long = vec![9; 60_000];
        let mut all = Vec::new();
        for _ in 0..20 {
            all.extend(&frame);
        }
        all.extend(bytes(&[1024, 60_000]));
        all.extend(&long);
        all.extend(&frame);
        free_the_turn(&mut raw, &incoming, &link);
        let first = meanwhile(&link, || incoming.receive(), || raw.send(&all));
        assert_eq!(first, Ok(Some(b"abcdef".to_vec())));
        for _ in 1..20 {
            assert_eq!(incoming.receive(), Ok(Some(b"abcdef".to_vec())));
        }
        assert_eq!(incoming.receive(), Ok(Some(long)));
        assert_eq!(incoming.receive(), Ok(Some(b"abcdef".to_vec())));
        expect_end(&here);
    }
}

/// What a thread waits for that does not read must not wait until the reading thread looks.
#[test]
fn the_standby_is_armed_while_threads_wait_that_do_not_read() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        let (mut raw, incoming, link) = peer(dialect, &here);
        for _ in 0..50 {
            let mut receive = || {
                let received =
                    meanwhile(&link, || incoming.receive(), || send(&mut raw, 1024, b"1"));
                assert_eq!(received, Ok(Some(b"1".to_vec())));
            };
            receive();
            let waiting = here.local().begin_waiting();
            assert!(!link.is_watched());
            if link.is_turn_free() {
                receive();
                assert!(!link.is_watched());
            }
            drop(waiting);
            free_the_turn(&mut raw, &incoming, &link);
        }
        expect_end(&here);
    }
}

/// In the older dialects a peer is not read from until the application has received.
#[test]
fn a_guest_that_may_not_read_on_waits_for_others() {
    for dialect in [Dialect::Original, Dialect::Versioned] {
        let few = Parameters { max_events: 4, ..parameters(dialect) };
        let network = Network::bind("127.0.0.1", 0, few).unwrap();
        let here = endpoint(&network);
        let (mut raw, incoming, link) = peer(dialect, &here);
        let mut words = Vec::new();
        for lcid in 1025..1045 {
            words.extend([0, lcid]);
        }
        words.extend([1024, 0]);
        thread::scope(|scope| {
            let receiving = scope.spawn(|| incoming.receive());
            until(|| link.has_guest());
            raw.words(&words);
            until(|| here.local().events.len() == 4);
            until(|| link.is_paused());
            assert!(!receiving.is_finished());
            for lcid in 1025..1045 {
                assert_eq!(next_opened(&here, &greater()).lightweight(), lcid);
            }
            assert_eq!(receiving.join().unwrap(), Ok(Some(Vec::new())));
        });
        expect_end(&here);
    }
}

/// The reading thread looks only as long as guests come and go.
#[test]
fn the_standby_is_armed_when_guests_stay_away() {
    let network = network(Dialect::Versioned);
    let here = endpoint(&network);
    let (mut raw, incoming, link) = peer(Dialect::Versioned, &here);
    let got = meanwhile(&link, || incoming.receive(), || send(&mut raw, 1024, b"one"));
    assert_eq!(got, Ok(Some(b"one".to_vec())));
    until(|| link.is_turn_free() && !link.is_watched());
    raw.words(&[4]);
    raw.expect_words(&[5]);
    expect_end(&here);
}

/// A peer that sends without end keeps nobody who has what it waits for, or whose time is over.
#[test]
fn a_guest_comes_back_while_the_peer_goes_on_sending() {
    for dialect in DIALECTS {
        for has_message in [true, false] {
            let network = network(dialect);
            let here = endpoint(&network);
            let (mut raw, incoming, link) = peer(dialect, &here);
            // What nobody wants is not counted.
            raw.words(&[0, 1025]);
            drop(here.claim(next_opened(&here, &greater())).unwrap());
            free_the_turn(&mut raw, &incoming, &link);
            let block = bytes(&[1025, 0].repeat(64 << 10));
            let is_over = AtomicBool::new(false);
            let start = Instant::now();
            thread::scope(|scope| {
                let receiving = scope.spawn(|| {
                    let received = if has_message {
                        incoming.receive()
                    } else {
                        incoming.receive_timeout(Duration::from_millis(50))
                    };
                    is_over.store(true, Ordering::SeqCst);
                    received
                });
                until(|| link.has_guest() || receiving.is_finished());
                if has_message {
                    send(&mut raw, 1024, b"wanted");
                }
                loop {
                    raw.send(&block);
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    assert!(start.elapsed() < AMPLE, "it is not let go");
                }
                let expected = if has_message {
                    Ok(Some(b"wanted".to_vec()))
                } else {
                    Err(IncomingError::TimedOut)
                };
                assert_eq!(receiving.join().unwrap(), expected);
            });
            expect_end(&here);
        }
    }
}
