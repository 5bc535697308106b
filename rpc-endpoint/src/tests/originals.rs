//! What the tests of other implementations of the protocol check, as far as no
//! other module here does. `docs/correspondence-endpoints.md` lists all of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use super::raw::{Raw, RawListener, greater};
use super::*;

const OLD: [Dialect; 2] = [Dialect::Original, Dialect::Versioned];

#[test]
fn sending_after_close_fails_also_when_the_peer_is_gone() {
    for dialect in DIALECTS {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let (closed, open) = (connect(&one, &other), connect(&one, &other));
        closed.close();
        assert_eq!(closed.send(&[b"late"]), Err(SendError::Closed));
        other.close();
        expect_lost(&one, other.address());
        assert_eq!(closed.send(&[b"late"]), Err(SendError::Closed));
        assert!(matches!(open.send(&[b"late"]), Err(SendError::Failed(_))));
        open.close();
        assert_eq!(open.send(&[b"late"]), Err(SendError::Closed));
    }
}

#[test]
fn closing_twice_is_harmless_and_seen_once() {
    for dialect in DIALECTS {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let (twice, once) = (connect(&one, &other), connect(&one, &other));
        let ids = [(); 2].map(|()| next_opened(&other, one.address()));
        twice.close();
        twice.close();
        once.close();
        let mut closed = [next(&other), next(&other)];
        closed.sort_by_key(|event| match event {
            Event::ConnectionClosed { connection } => *connection,
            event => panic!("{event:?}"),
        });
        assert_eq!(closed, ids.map(|connection| Event::ConnectionClosed { connection }));
        other.close();
        expect_end(&other);
        there.close();
        there.close();
    }
}

#[test]
fn receiving_after_the_end_fails_every_time() {
    let network = network(Dialect::default());
    let here = endpoint(&network);
    network.close();
    assert_eq!(here.receive(), Ok(Event::EndpointClosed));
    for _ in 0..3 {
        assert_eq!(here.receive(), Err(ReceiveError::Closed));
        assert_eq!(here.receive_timeout(AMPLE), Err(ReceiveError::Closed));
    }
}

/// A peer that fails at some step of our dial, and is there again for the next one.
fn check_reconnecting(
    dialect: Dialect,
    fail: impl Fn(&RawListener, &Endpoint) -> Option<Connection>,
) {
    let network = network(dialect);
    let here = endpoint(&network);
    let listener = RawListener::new();
    for _ in 0..3 {
        let broken = fail(&listener, &here);
        if let Some(broken) = broken {
            expect_lost(&here, &listener.address());
            assert!(matches!(broken.send(&[b"x"]), Err(SendError::Failed(_))));
        }
        thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                let mut raw = listener.accept();
                raw.expect_hello(dialect, here.address(), &listener.address());
                raw.words(&[0]);
                raw.expect_words(&[0, 1024, 1024, 2]);
                raw.expect(b"ok");
                raw
            });
            let connection = here.connect(&listener.address(), ConnectHints::new()).unwrap();
            connection.send(&[b"ok"]).unwrap();
            drop(accepting.join().unwrap());
            expect_lost(&here, &listener.address());
        });
    }
    expect_end(&here);
}

#[test]
fn reconnecting_after_a_failure_before_the_dial_was_accepted() {
    for dialect in OLD {
        check_reconnecting(dialect, |listener, here| {
            thread::scope(|scope| {
                let dialled = scope.spawn(|| drop(listener.accept()));
                let outcome = here.connect(&listener.address(), ConnectHints::new());
                dialled.join().unwrap();
                assert!(outcome.is_err());
                None
            })
        });
    }
}

#[test]
fn reconnecting_after_a_failure_when_the_dial_was_accepted() {
    for dialect in OLD {
        check_reconnecting(dialect, |listener, here| {
            thread::scope(|scope| {
                let (connected, until_connected) = mpsc::channel();
                let dialled = scope.spawn(move || {
                    let mut raw = listener.accept();
                    raw.expect_hello(dialect, here.address(), &listener.address());
                    raw.words(&[0]);
                    // It has seen nothing of the connection when it ends.
                    until_connected.recv().unwrap();
                });
                let connection = here.connect(&listener.address(), ConnectHints::new()).unwrap();
                connected.send(()).unwrap();
                dialled.join().unwrap();
                Some(connection)
            })
        });
    }
}

#[test]
fn reconnecting_after_a_failure_when_a_connection_was_created() {
    for dialect in OLD {
        check_reconnecting(dialect, |listener, here| {
            thread::scope(|scope| {
                let dialled = scope.spawn(|| {
                    let mut raw = listener.accept();
                    raw.expect_hello(dialect, here.address(), &listener.address());
                    raw.words(&[0]);
                    raw.expect_words(&[0, 1024]);
                });
                let connection = here.connect(&listener.address(), ConnectHints::new()).unwrap();
                dialled.join().unwrap();
                Some(connection)
            })
        });
    }
}

#[test]
fn endpoints_and_networks_close_with_and_without_incoming_connections() {
    for dialect in DIALECTS {
        for close_network in [false, true] {
            for incoming in [false, true] {
                let (here, there) = (network(dialect), network(dialect));
                let (one, other) = (endpoint(&here), endpoint(&there));
                let _forth = connect(&one, &other);
                let id = next_opened(&other, one.address());
                let back = incoming.then(|| connect(&other, &one));
                if incoming {
                    next_opened(&one, other.address());
                }
                if close_network {
                    here.close();
                } else {
                    one.close();
                }
                expect_closed(&other, id);
                if let Some(back) = back {
                    expect_lost(&other, one.address());
                    assert!(matches!(back.send(&[b"x"]), Err(SendError::Failed(_))));
                }
                expect_end(&one);
                expect_end(&other);
            }
        }
    }
}

#[test]
fn a_bogus_close_of_a_connection_drops_the_peer() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let mut raw = Raw::dial(here.address());
        raw.introduce(dialect, &greater(), here.address());
        raw.words(&[1, 1024]);
        raw.expect_cut();
        expect_lost(&here, &greater());
        expect_end(&here);
    }
}

#[test]
fn endpoints_talk_over_ipv6() {
    for dialect in DIALECTS {
        let networks = [(); 2].map(|()| Network::bind("::1", 0, parameters(dialect)).unwrap());
        let [one, other] = networks.each_ref().map(endpoint);
        assert!(one.address().as_str().starts_with("::1:"));
        // In both directions, each time over a socket of its own.
        for (from, to) in [(&one, &other), (&other, &one)] {
            let connection = connect(from, to);
            connection.send(&[b"six"]).unwrap();
            let id = next_opened(to, from.address());
            expect_received(to, id, b"six");
            connection.close();
            expect_closed(to, id);
        }
    }
}

/// Clients end at random, some in the middle of a message of theirs being
/// answered; the others lose nothing, and nothing of those is kept.
#[test]
fn clients_that_vanish_at_random_lose_no_ping_of_others() {
    const CLIENTS: usize = 12;
    const PINGS: usize = 200;
    for dialect in DIALECTS {
        let server = network(dialect);
        let here = Arc::new(endpoint(&server));
        let echo = {
            let here = here.clone();
            thread::spawn(move || {
                let mut back = std::collections::HashMap::new();
                loop {
                    match next(&here) {
                        Event::ConnectionOpened { connection, from, .. } => {
                            back.insert(connection, here.connect(&from, ConnectHints::new()));
                        }
                        Event::Received { connection, message } => {
                            // Who does not wait for it may be gone.
                            if let Some(Ok(back)) = back.get(&connection) {
                                let _ = back.send_vec(message);
                            }
                        }
                        Event::ConnectionClosed { connection } => _ = back.remove(&connection),
                        Event::ConnectionLost { .. } => {}
                        Event::EndpointClosed => break,
                        event => panic!("{event:?}"),
                    }
                }
            })
        };
        let start = Arc::new(Barrier::new(CLIENTS));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (start, answered) = (start.clone(), answered.clone());
                let address = here.address().clone();
                thread::spawn(move || {
                    let network = network(dialect);
                    let own = endpoint(&network);
                    let connection = own.connect(&address, ConnectHints::new()).unwrap();
                    let id = next_opened(&own, &address);
                    start.wait();
                    // Every third one vanishes somewhere on the way.
                    let vanishes = number % 3 == 0;
                    let pings = if vanishes { 7 * number + 1 } else { PINGS };
                    for ping in 0..pings {
                        connection.send(&[&ping.to_be_bytes()]).unwrap();
                        if !vanishes || ping % 5 != 4 {
                            expect_received_or_older(&own, id, ping, vanishes);
                        }
                        answered.fetch_add(usize::from(!vanishes), Ordering::Relaxed);
                    }
                    if vanishes {
                        for link in own.local().links() {
                            link.socket().unwrap().shut();
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        assert_eq!(answered.load(Ordering::Relaxed), CLIENTS / 3 * 2 * PINGS);
        // All of them are gone; nothing of them stays.
        until(|| here.local().links().is_empty());
        here.close();
        echo.join().unwrap();
        assert!(here.local().claimable.is_empty());
    }
}

/// Who skips answers may get to see them later.
fn expect_received_or_older(own: &Endpoint, id: ConnectionId, ping: usize, skips: bool) {
    loop {
        let event = next(own);
        let Event::Received { connection, message } = event else { panic!("{event:?}") };
        assert_eq!(connection, id);
        let number = usize::from_be_bytes(message.try_into().unwrap());
        if number == ping {
            return;
        }
        assert!(skips && number < ping);
    }
}
