//! Two that dial each other at the same time.

use std::sync::Barrier;
use std::thread;

use super::raw::{Raw, RawListener, hello};
use super::*;

const OLD: [Dialect; 2] = [Dialect::Original, Dialect::Versioned];

/// An endpoint, and a raw peer whose address is greater, or smaller.
fn pair(dialect: Dialect, theirs_is_greater: bool) -> (Network, Endpoint, RawListener) {
    loop {
        let network = network(dialect);
        let here = endpoint(&network);
        let listener = RawListener::new();
        if (listener.address() > *here.address()) == theirs_is_greater {
            return (network, here, listener);
        }
    }
}

#[test]
fn the_dial_of_the_smaller_address_wins() {
    for dialect in OLD {
        let (_network, here, listener) = pair(dialect, true);
        let _socket = thread::scope(|scope| {
            let connecting = scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()));
            let mut ours = listener.accept();
            ours.expect_hello(dialect, here.address(), &listener.address());
            let mut theirs = Raw::dial(here.address());
            theirs.send(&hello(dialect, &listener.address(), here.address()));
            theirs.expect_words(&[2]);
            theirs.expect_end();
            ours.words(&[0]);
            let connection = connecting.join().unwrap().unwrap();
            ours.expect_words(&[0, 1024]);
            ours.words(&[0, 1024]);
            next_opened(&here, &listener.address());
            drop(connection);
            ours.expect_words(&[1, 1024]);
            ours
        });
        expect_end(&here);
    }
}

#[test]
fn the_greater_address_yields_when_it_is_told() {
    for dialect in OLD {
        let (_network, here, listener) = pair(dialect, false);
        let _socket = thread::scope(|scope| {
            let connecting = scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()));
            let mut ours = listener.accept();
            ours.expect_hello(dialect, here.address(), &listener.address());
            let mut theirs = Raw::dial(here.address());
            theirs.send(&hello(dialect, &listener.address(), here.address()));
            ours.words(&[2]);
            ours.expect_end();
            theirs.expect_words(&[0]);
            let connection = connecting.join().unwrap().unwrap();
            theirs.expect_words(&[0, 1024]);
            drop(connection);
            theirs.expect_words(&[1, 1024, 2, 0]);
            theirs
        });
        expect_end(&here);
    }
}

#[test]
fn a_dial_that_waits_takes_over_when_ours_fails() {
    for dialect in OLD {
        let (_network, here, listener) = pair(dialect, false);
        let _socket = thread::scope(|scope| {
            let connecting = scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()));
            let mut ours = listener.accept();
            ours.expect_hello(dialect, here.address(), &listener.address());
            let mut waiting = Raw::dial(here.address());
            waiting.send(&hello(dialect, &listener.address(), here.address()));
            until(|| here.local().links()[0].has_waiting_dial());
            drop(ours);
            waiting.expect_words(&[0]);
            connecting.join().unwrap().unwrap();
            waiting.expect_words(&[0, 1024]);
            waiting
        });
    }
}

#[test]
fn a_dial_that_was_promised_but_does_not_come_times_out() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let listener = RawListener::new();
        let address = listener.address();
        let hints = ConnectHints::new().timeout(Duration::from_millis(50));
        let mut raws = Vec::new();
        let error = thread::scope(|scope| {
            let connecting = scope.spawn(|| here.connect(&address, hints).unwrap_err());
            while !connecting.is_finished() {
                if let Some(mut raw) = listener.accept_now() {
                    raw.words_to_whom_it_may_concern(&[2]);
                    raws.push(raw);
                }
                thread::yield_now();
            }
            connecting.join().unwrap()
        });
        assert_eq!(error.code, ConnectErrorCode::Timeout);
        expect_end(&here);
    }
}

#[test]
fn a_dial_that_crosses_a_connection_that_is_no_more_is_repeated() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let listener = RawListener::new();
        thread::scope(|scope| {
            let connecting = scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()));
            // It takes the peer two attempts to notice.
            for _ in 0..2 {
                let mut raw = listener.accept();
                raw.expect_hello(dialect, here.address(), &listener.address());
                raw.words(&[2]);
                raw.expect_end();
            }
            let mut raw = listener.accept();
            raw.expect_hello(dialect, here.address(), &listener.address());
            raw.words(&[0]);
            let _connection = connecting.join().unwrap().unwrap();
            raw.expect_words(&[0, 1024]);
        });
    }
}

#[test]
fn ten_crossings() {
    for dialect in DIALECTS {
        for _ in 0..10 {
            let (here, there) = (network(dialect), network(dialect));
            let ends = [endpoint(&here), endpoint(&there)];
            let barrier = Barrier::new(2);
            let connections = thread::scope(|scope| {
                let threads = [0, 1].map(|side| {
                    let (ends, barrier) = (&ends, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        connect(&ends[side], &ends[1 - side])
                    })
                });
                threads.map(|thread| thread.join().unwrap())
            });
            for side in [0, 1] {
                let id = next_opened(&ends[1 - side], ends[side].address());
                connections[side].send(&[b"crossed"]).unwrap();
                expect_received(&ends[1 - side], id, b"crossed");
            }
            assert_eq!(ends[0].local().links().len(), 1);
            assert_eq!(ends[1].local().links().len(), 1);
            // Closing crosses, too.
            drop(connections);
            for end in &ends {
                assert!(matches!(next(end), Event::ConnectionClosed { .. }));
            }
            for end in &ends {
                expect_end(end);
            }
        }
    }
}
