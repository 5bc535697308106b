//! What programs may rely on, whatever the dialect.

use std::collections::HashMap;
use std::thread;

use super::*;

fn each_dialect(test: impl Fn(Dialect)) {
    for dialect in DIALECTS {
        test(dialect);
    }
}

#[test]
fn ping_pong() {
    each_dialect(|dialect| {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let address = one.address().clone();
        let echo = thread::spawn(move || {
            let id = next_opened(&other, &address);
            let back = other.connect(&address, ConnectHints::new()).unwrap();
            loop {
                match next(&other) {
                    Event::Received { connection, message } => {
                        assert_eq!(connection, id);
                        back.send_vec(message).unwrap();
                    }
                    event => return assert_eq!(event, Event::ConnectionClosed { connection: id }),
                }
            }
        });
        let peer = EndpointAddress::new("127.0.0.1", there.port().unwrap(), 0);
        let connection = one.connect(&peer, ConnectHints::new()).unwrap();
        let id = next_opened(&one, &peer);
        for round in 0..10_000_u32 {
            connection.send(&[b"ping ", &round.to_be_bytes()]).unwrap();
            expect_received(&one, id, &[b"ping ", &round.to_be_bytes()[..]].concat());
        }
        connection.close();
        expect_closed(&one, id);
        echo.join().unwrap();
    });
}

#[test]
fn connections_of_two_clients_are_not_mixed() {
    each_dialect(|dialect| {
        let networks = [network(dialect), network(dialect), network(dialect)];
        let server = endpoint(&networks[0]);
        let clients = [endpoint(&networks[1]), endpoint(&networks[2])];
        let connections: Vec<_> = (0..4).map(|n| connect(&clients[n % 2], &server)).collect();
        for round in 0..50_u8 {
            for (n, connection) in (0_u8..).zip(&connections) {
                connection.send(&[&[n, round]]).unwrap();
            }
        }
        drop(connections);
        // By connection: who it is from, its number, and the next message.
        let mut seen: HashMap<ConnectionId, (EndpointAddress, Option<u8>, u8)> = HashMap::new();
        let mut closed = 0;
        while closed < 4 {
            match next(&server) {
                Event::ConnectionOpened { connection, from, .. } => {
                    assert!(seen.insert(connection, (from, None, 0)).is_none());
                }
                Event::Received { connection, message } => {
                    let (from, number, round) = seen.get_mut(&connection).unwrap();
                    assert_eq!(from, clients[usize::from(message[0]) % 2].address());
                    assert_eq!(*number.get_or_insert(message[0]), message[0]);
                    assert_eq!(message[1], *round);
                    *round += 1;
                }
                Event::ConnectionClosed { connection } => {
                    assert_eq!(seen[&connection].2, 50);
                    closed += 1;
                }
                event => panic!("{event:?}"),
            }
        }
        expect_end(&server);
    });
}

#[test]
fn closing_one_connection_leaves_its_sibling() {
    each_dialect(|dialect| {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let (first, second) = (connect(&one, &other), connect(&one, &other));
        first.send(&[b"first"]).unwrap();
        first.close();
        let first_id = next_opened(&other, one.address());
        let second_id = match next(&other) {
            Event::ConnectionOpened { connection, .. } => {
                expect_received(&other, first_id, b"first");
                connection
            }
            // In the order of the older dialects it may come first.
            event => panic!("{event:?}"),
        };
        expect_closed(&other, first_id);
        second.send(&[b"second"]).unwrap();
        expect_received(&other, second_id, b"second");
        assert_eq!(first.send(&[b"late"]), Err(SendError::Closed));
        assert_eq!(first.try_send(&[b"late"]), Err(SendError::Closed.into()));
        first.close();
        second.close();
        second.close();
        expect_closed(&other, second_id);
        expect_end(&other);
    });
}

#[test]
fn closing_one_direction_leaves_the_other() {
    each_dialect(|dialect| {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let forth = connect(&one, &other);
        let forth_id = next_opened(&other, one.address());
        let back = connect(&other, &one);
        let back_id = next_opened(&one, other.address());
        forth.close();
        expect_closed(&other, forth_id);
        back.send(&[b"still"]).unwrap();
        expect_received(&one, back_id, b"still");
        // It is opened anew on the same socket.
        let forth = connect(&one, &other);
        forth.send(&[b"again"]).unwrap();
        let again_id = next_opened(&other, one.address());
        assert_eq!(again_id.heavyweight(), forth_id.heavyweight());
        expect_received(&other, again_id, b"again");
        expect_end(&one);
        expect_closed(&other, again_id);
    });
}

#[test]
fn closing_and_reopening_keeps_order_within_each() {
    each_dialect(|dialect| {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        for round in 0..100_u8 {
            let connection = connect(&one, &other);
            connection.send(&[&[round, 0]]).unwrap();
            connection.send(&[&[round, 1]]).unwrap();
        }
        // Which connection comes first is not said if each had a socket of its own
        // to come on, but they come whole.
        let mut progress: HashMap<ConnectionId, Vec<Vec<u8>>> = HashMap::new();
        let mut rounds = Vec::new();
        while rounds.len() < 100 {
            match next(&other) {
                Event::ConnectionOpened { connection, .. } => {
                    assert!(progress.insert(connection, Vec::new()).is_none());
                }
                Event::Received { connection, message } => {
                    progress.get_mut(&connection).unwrap().push(message);
                }
                Event::ConnectionClosed { connection } => {
                    let messages = progress.remove(&connection).unwrap();
                    let round = messages[0][0];
                    assert_eq!(messages, [[round, 0], [round, 1]]);
                    rounds.push(round);
                }
                event => panic!("{event:?}"),
            }
        }
        rounds.sort_unstable();
        assert!(rounds.into_iter().eq(0..100));
    });
}

#[test]
fn ten_thousand_connections_at_once() {
    each_dialect(|dialect| {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let connections: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|_| {
                    scope.spawn(|| (0..1000).map(|_| connect(&one, &other)).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut ids = Vec::new();
        for _ in 0..10_000 {
            ids.push(next_opened(&other, one.address()));
        }
        assert!(ids.iter().all(|id| id.heavyweight() == ids[0].heavyweight()));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 10_000);
        drop(connections);
        for _ in 0..10_000 {
            let event = next(&other);
            let Event::ConnectionClosed { connection } = event else { panic!("{event:?}") };
            let index = ids.binary_search(&connection).unwrap();
            ids.remove(index);
        }
        expect_end(&other);
    });
}

#[test]
fn many_endpoints_of_many_networks() {
    each_dialect(|dialect| {
        let networks: Vec<_> = (0..3).map(|_| network(dialect)).collect();
        let endpoints: Vec<_> =
            networks.iter().flat_map(|network| (0..3).map(|_| endpoint(network))).collect();
        let connections: Vec<_> = endpoints
            .iter()
            .flat_map(|from| endpoints.iter().map(|to| connect(from, to)))
            .collect();
        for (n, connection) in connections.iter().enumerate() {
            connection.send(&[endpoints[n / 9].address().as_str().as_bytes()]).unwrap();
        }
        for endpoint in &endpoints {
            let mut from = HashMap::new();
            let mut received = 0;
            while received < 9 {
                match next(endpoint) {
                    Event::ConnectionOpened { connection, from: who, .. } => {
                        from.insert(connection, who);
                    }
                    Event::Received { connection, message } => {
                        assert_eq!(from[&connection].as_str().as_bytes(), message);
                        received += 1;
                    }
                    event => panic!("{event:?}"),
                }
            }
            assert_eq!(from.len(), 9);
        }
    });
}

#[test]
fn connections_to_itself() {
    each_dialect(|dialect| {
        let network = network(dialect);
        let here = endpoint(&network);
        for round in 0..2 {
            let first = connect(&here, &here);
            let second = connect(&here, &here);
            let ids = [(); 2].map(|()| next_opened(&here, here.address()));
            assert_eq!(ids[0], ConnectionId::new(0, 1024 + 2 * round));
            assert_eq!(ids[1], ConnectionId::new(0, 1025 + 2 * round));
            second.send(&[b"to ", b"me"]).unwrap();
            first.send(&[b"too"]).unwrap();
            expect_received(&here, ids[1], b"to me");
            expect_received(&here, ids[0], b"too");
            first.close();
            first.close();
            assert_eq!(first.send(&[b"late"]), Err(SendError::Closed));
            second.send(&[b"still"]).unwrap();
            expect_closed(&here, ids[0]);
            expect_received(&here, ids[1], b"still");
            drop(second);
            expect_closed(&here, ids[1]);
        }
        let connection = connect(&here, &here);
        next_opened(&here, here.address());
        assert!(here.local().links().is_empty());
        expect_end(&here);
        assert!(matches!(connection.send(&[b"late"]), Err(SendError::Failed(_))));
        let error = here.connect(here.address(), ConnectHints::new()).unwrap_err();
        assert_eq!(error.code, ConnectErrorCode::Failed);
    });
}

#[test]
fn a_claimed_connection_is_received_from_by_itself() {
    each_dialect(|dialect| {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let (first, second) = (connect(&one, &other), connect(&one, &other));
        first.send(&[b"1"]).unwrap();
        second.send(&[b"a"]).unwrap();
        let ids = [(); 2].map(|()| next_opened(&other, one.address()));
        expect_received(&other, ids[0], b"1");
        expect_received(&other, ids[1], b"a");
        first.send(&[b"2"]).unwrap();
        second.send(&[b"b"]).unwrap();
        // The message of the second tells that that of the first is there.
        let claimed = other.claim(ids[0]).unwrap();
        assert!(other.claim(ids[0]).is_none());
        assert_eq!((claimed.connection(), claimed.from()), (ids[0], one.address()));
        expect_received(&other, ids[1], b"b");
        first.send(&[b"3"]).unwrap();
        drop(first);
        assert_eq!(claimed.receive(), Ok(Some(b"2".to_vec())));
        assert_eq!(claimed.receive_timeout(AMPLE), Ok(Some(b"3".to_vec())));
        assert_eq!(claimed.receive(), Ok(None));
        assert_eq!(claimed.receive(), Ok(None));
        // One that is dropped is ignored, also if much comes.
        drop(other.claim(ids[1]).unwrap());
        for _ in 0..100 {
            second.send(&[&[0; 100_000]]).unwrap();
        }
        let third = connect(&one, &other);
        let id = next_opened(&other, one.address());
        let claimed = other.claim(id).unwrap();
        third.send(&[b"x"]).unwrap();
        assert_eq!(claimed.receive(), Ok(Some(b"x".to_vec())));
        one.close();
        // The peer's endpoint is gone; that is no loss for whom only received.
        assert_eq!(claimed.receive(), Ok(None));
        expect_end(&other);
    });
}

#[test]
fn a_claimed_connection_to_itself() {
    let network = network(Dialect::Multiplexed);
    let here = endpoint(&network);
    let connection = connect(&here, &here);
    let claimed = here.claim(next_opened(&here, here.address())).unwrap();
    connection.send(&[b"x"]).unwrap();
    assert_eq!(claimed.receive(), Ok(Some(b"x".to_vec())));
    expect_end(&here);
    assert_eq!(claimed.receive(), Err(IncomingError::EndpointClosed));
}

#[test]
fn claimed_connections_learn_of_loss_and_closing() {
    let (here, there) = (network(Dialect::Multiplexed), network(Dialect::Multiplexed));
    let (one, other) = (endpoint(&here), endpoint(&there));
    let connection = connect(&one, &other);
    let claimed = other.claim(next_opened(&other, one.address())).unwrap();
    let link = one.local().links().remove(0);
    link.socket().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
    assert!(matches!(claimed.receive(), Err(IncomingError::Lost(_))));
    expect_lost(&other, one.address());
    expect_lost(&one, other.address());
    drop(connection);
    let _connection = connect(&one, &other);
    let claimed = other.claim(next_opened(&other, one.address())).unwrap();
    expect_end(&other);
    assert_eq!(claimed.receive(), Err(IncomingError::EndpointClosed));
}

#[test]
fn messages_of_all_lengths() {
    each_dialect(|dialect| {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let connection = connect(&one, &other);
        let id = next_opened(&other, one.address());
        let lengths = [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 3_000_000];
        let message = |length: usize| -> Vec<u8> {
            (0..length).map(|n| u8::try_from((n * 7 + n / 253) % 256).unwrap()).collect()
        };
        let receiving = thread::spawn(move || {
            for length in lengths {
                expect_received(&other, id, &message(length));
            }
            expect_closed(&other, id);
        });
        for length in lengths {
            let message = message(length);
            let (head, tail) = message.split_at(length / 3);
            connection.send(&[head, tail]).unwrap();
        }
        drop(connection);
        receiving.join().unwrap();
    });
}

#[test]
fn dialects_meet() {
    for one in DIALECTS {
        for other in DIALECTS {
            // The newest that each side knows.
            let understanding = |dialect| {
                let parameters = Parameters {
                    newest_dialect: Dialect::max(dialect, Dialect::Versioned),
                    ..parameters(dialect)
                };
                Network::bind("127.0.0.1", 0, parameters).unwrap()
            };
            let (here, there) = (understanding(one), understanding(other));
            let (one, other) = (endpoint(&here), endpoint(&there));
            let (forth, back) = (connect(&one, &other), connect(&other, &one));
            let ids = [next_opened(&other, one.address()), next_opened(&one, other.address())];
            forth.send(&[b"forth"]).unwrap();
            back.send(&[b"back"]).unwrap();
            expect_received(&other, ids[0], b"forth");
            expect_received(&one, ids[1], b"back");
            drop(forth);
            drop(back);
            expect_closed(&other, ids[0]);
            expect_closed(&one, ids[1]);
        }
    }
}
