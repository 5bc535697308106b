//! How dials begin, by the byte.

use super::raw::{Raw, RawListener, bytes, greater, hello};
use super::*;

const OLD: [Dialect; 2] = [Dialect::Original, Dialect::Versioned];

#[test]
fn a_random_port_gives_a_dialable_address() {
    for dialect in DIALECTS {
        for host in ["127.0.0.1", "localhost", "::1"] {
            let here = Network::bind(host, 0, parameters(dialect)).unwrap();
            let there = Network::bind(host, 0, parameters(dialect)).unwrap();
            let (one, other) = (endpoint(&here), endpoint(&there));
            let port = here.port().unwrap();
            assert_ne!(port, 0);
            assert_eq!(*one.address(), EndpointAddress::new(host, port, 0));
            let connection = connect(&other, &one);
            connection.send(&[b"a", b"", b"bc"]).unwrap();
            let id = next_opened(&one, other.address());
            assert_eq!((id.heavyweight(), id.lightweight()), (1, 1024));
            expect_received(&one, id, b"abc");
            // And back on the same socket.
            let back = connect(&one, &other);
            back.send(&[b"d"]).unwrap();
            let id = next_opened(&other, one.address());
            expect_received(&other, id, b"d");
            assert_eq!(one.local().links().len(), 1);
        }
    }
}

#[test]
fn the_transcript_of_a_dial() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let listener = RawListener::new();
        let connecting = std::thread::scope(|scope| {
            let connecting =
                scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()).unwrap());
            let mut raw = listener.accept();
            raw.expect_hello(dialect, here.address(), &listener.address());
            raw.words(&[0]);
            let connection = connecting.join().unwrap();
            raw.expect_words(&[0, 1024]);
            connection.send(&[b"hel", b"lo"]).unwrap();
            raw.expect_words(&[1024, 5]);
            raw.expect(b"hello");
            connection.send(&[]).unwrap();
            raw.expect_words(&[1024, 0]);
            let second = here.connect(&listener.address(), ConnectHints::new()).unwrap();
            raw.expect_words(&[0, 1025]);
            drop(second);
            raw.expect_words(&[1, 1025]);
            connection.close();
            raw.expect_words(&[1, 1024, 2, 0]);
            raw.words(&[2, 1025]);
            raw.expect_end();
            raw
        });
        expect_end(&here);
        drop(connecting);
    }
}

#[test]
fn the_transcript_of_an_idle_close() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let mut raw = Raw::dial(here.address());
        raw.introduce(dialect, &greater(), here.address());
        raw.words(&[0, 1024, 1024, 2]);
        raw.send(b"hi");
        raw.words(&[1, 1024, 2, 0]);
        let id = next_opened(&here, &greater());
        expect_received(&here, id, b"hi");
        expect_closed(&here, id);
        raw.expect_words(&[2, 1024]);
        raw.expect_end();
        expect_end(&here);
    }
}

#[test]
fn an_unknown_endpoint_is_invalid() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let unknown = EndpointAddress::new("127.0.0.1", network.port().unwrap(), 7);
        let mut raw = Raw::dial(here.address());
        raw.send(&hello(dialect, &greater(), &unknown));
        raw.expect_words(&[1]);
        raw.expect_end();
        let error = here.connect(&unknown, ConnectHints::new()).unwrap_err();
        assert_eq!(error.code, ConnectErrorCode::NotFound);
        expect_end(&here);
    }
}

#[test]
fn invalid_addresses_have_their_codes() {
    for dialect in DIALECTS {
        let network = network(dialect);
        let here = endpoint(&network);
        // Bound, so that nobody else takes it, but not listening.
        let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let deaf = deaf.unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        deaf.bind(&any.into()).unwrap();
        let port = deaf.local_addr().unwrap().as_socket().unwrap().port();
        for (address, code) in [
            (EndpointAddress::from("nonsense"), ConnectErrorCode::Failed),
            (EndpointAddress::from("127.0.0.1:1:x"), ConnectErrorCode::Failed),
            (EndpointAddress::from("127.0.0.1:no-such-service:x"), ConnectErrorCode::Failed),
            (EndpointAddress::from("127.0.0.1:no-such-service:0"), ConnectErrorCode::NotFound),
            (EndpointAddress::from("name.invalid:1:0"), ConnectErrorCode::NotFound),
            (EndpointAddress::new("127.0.0.1", port, 0), ConnectErrorCode::NotFound),
        ] {
            // Twice, because the first attempt must leave nothing behind.
            for _ in 0..2 {
                let error = here.connect(&address, ConnectHints::new()).unwrap_err();
                assert_eq!(error.code, code, "{address}: {error}");
                assert_eq!(error.to, address);
                let expected = format!("cannot connect to {address}: ");
                assert!(error.to_string().starts_with(&expected), "{error}");
            }
        }
        expect_end(&here);
    }
}

#[test]
fn peers_that_drop_a_dial_early_are_noticed() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let listener = RawListener::new();
        let dial = |answer: &(dyn Fn(Raw) + Sync)| {
            std::thread::scope(|scope| {
                let connecting =
                    scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()));
                answer(listener.accept());
                connecting.join().unwrap()
            })
        };
        // Before the introduction was read, and after.
        assert_eq!(dial(&drop).unwrap_err().code, ConnectErrorCode::Failed);
        let outcome = dial(&|mut raw| {
            raw.expect_hello(dialect, here.address(), &listener.address());
        });
        assert_eq!(outcome.unwrap_err().code, ConnectErrorCode::Failed);
        // Half of a reply, and one that means nothing.
        let outcome = dial(&|mut raw| {
            raw.expect_hello(dialect, here.address(), &listener.address());
            raw.send(&[0, 0]);
        });
        assert_eq!(outcome.unwrap_err().code, ConnectErrorCode::Failed);
        let outcome = dial(&|mut raw| {
            raw.expect_hello(dialect, here.address(), &listener.address());
            raw.words(&[77]);
            raw.expect_end();
        });
        assert_eq!(outcome.unwrap_err().code, ConnectErrorCode::Failed);
        // After it was accepted and used, one loss.
        let connection = dial(&|mut raw| {
            raw.expect_hello(dialect, here.address(), &listener.address());
            raw.words(&[0]);
            raw.expect_words(&[0, 1024]);
        });
        expect_lost(&here, &listener.address());
        let connection = connection.unwrap();
        assert!(matches!(connection.send(&[b"x"]), Err(SendError::Failed(_))));
        connection.close();
        assert_eq!(connection.send(&[b"x"]), Err(SendError::Closed));
        expect_end(&here);
    }
}

#[test]
fn diallers_that_drop_early_are_noticed() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let whole = hello(dialect, &greater(), here.address());
        for length in 0..whole.len() {
            let mut raw = Raw::dial(here.address());
            raw.send(&whole[..length]);
            raw.finish();
            raw.expect_end();
        }
        // It is accepted, creates a connection, and is gone.
        let mut raw = Raw::dial(here.address());
        raw.send(&whole);
        raw.expect_words(&[0]);
        raw.words(&[0, 1024]);
        next_opened(&here, &greater());
        drop(raw);
        expect_lost(&here, &greater());
        // It is accepted again afterwards.
        let mut raw = Raw::dial(here.address());
        raw.introduce(dialect, &greater(), here.address());
        raw.words(&[0, 1024]);
        assert_eq!(next_opened(&here, &greater()).heavyweight(), 2);
        expect_end(&here);
    }
}

#[test]
fn of_equal_dials_one_is_accepted() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let dial = || {
            let mut raw = Raw::dial(here.address());
            raw.send(&hello(dialect, &greater(), here.address()));
            let reply = raw.read_word();
            (raw, reply)
        };
        let raws: Vec<_> = std::thread::scope(|scope| {
            let dials: Vec<_> = (0..20).map(|_| scope.spawn(dial)).collect();
            dials.into_iter().map(|dial| dial.join().unwrap()).collect()
        });
        let accepted = raws.iter().filter(|(_, reply)| *reply == 0).count();
        let crossed = raws.iter().filter(|(_, reply)| *reply == 2).count();
        assert_eq!((accepted, crossed), (1, 19));
        expect_end(&here);
    }
}

#[test]
fn an_unsupported_version_may_be_followed_by_another() {
    let network = network(Dialect::Multiplexed);
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    let mut unknown = hello(Dialect::Versioned, &greater(), here.address());
    unknown[..4].copy_from_slice(&[0, 0, 0, 9]);
    raw.send(&unknown);
    raw.expect_words(&[u32::MAX, 0]);
    raw.introduce(Dialect::Versioned, &greater(), here.address());
    raw.words(&[0, 1024]);
    next_opened(&here, &greater());
    expect_end(&here);
}

#[test]
fn only_a_few_unsupported_versions_are_listened_to() {
    let network = network(Dialect::Multiplexed);
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    for _ in 0..3 {
        raw.words(&[9, 8, 0, 0]);
        raw.expect_words(&[u32::MAX, 0]);
    }
    raw.expect_end();
    expect_end(&here);
}

#[test]
fn a_peer_that_knows_only_version_0_is_spoken_to_in_it() {
    let network = network(Dialect::Multiplexed);
    let here = endpoint(&network);
    let listener = RawListener::new();
    std::thread::scope(|scope| {
        let connecting =
            scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()).unwrap());
        let mut raw = listener.accept();
        assert_eq!(raw.read_word(), 0x4d55_0001);
        let length = raw.read_word();
        raw.read(usize::try_from(length).unwrap());
        raw.words(&[u32::MAX, 0]);
        raw.expect_hello(Dialect::Versioned, here.address(), &listener.address());
        raw.words(&[0]);
        let connection = connecting.join().unwrap();
        raw.expect_words(&[0, 1024]);
        connection.send(&[&[7; 100_000]]).unwrap();
        raw.expect_words(&[1024, 100_000]);
        raw.expect(&[7; 100_000]);
    });
}

#[test]
fn a_host_that_is_not_the_peers_is_refused() {
    let checking = Parameters { check_peer_host: true, ..parameters(Dialect::Versioned) };
    let network = Network::bind("127.0.0.1", 0, checking).unwrap();
    let here = endpoint(&network);
    let stranger = EndpointAddress::new("192.0.2.1", 1, 0);
    let mut raw = Raw::dial(here.address());
    raw.send(&hello(Dialect::Versioned, &stranger, here.address()));
    let mut mismatch = bytes(&[3, 9]);
    for part in [&b"192.0.2.1"[..], &bytes(&[9]), b"127.0.0.1", &bytes(&[9]), b"127.0.0.1"] {
        mismatch.extend(part);
    }
    raw.expect(&mismatch);
    raw.expect_end();
    let mut raw = Raw::dial(here.address());
    raw.send(&hello(Dialect::Original, &stranger, here.address()));
    raw.expect_words(&[1]);
    // Names are looked up.
    for host in ["localhost", "127.0.0.1"] {
        let mut raw = Raw::dial(here.address());
        let honest = EndpointAddress::new(host, 1, 0);
        raw.introduce(Dialect::Versioned, &honest, here.address());
        raw.words(&[0, 1024]);
        next_opened(&here, &honest);
        drop(raw);
        expect_lost(&here, &honest);
    }
    // And what a dialler makes of it.
    let lying = Parameters {
        external_host: Some("192.0.2.1".to_owned()),
        ..parameters(Dialect::Versioned)
    };
    let lying = Network::bind("127.0.0.1", 0, lying).unwrap();
    let error = endpoint(&lying).connect(here.address(), ConnectHints::new()).unwrap_err();
    assert_eq!(error.code, ConnectErrorCode::Failed);
    assert!(error.reason.contains("192.0.2.1"), "{error}");
}

#[test]
fn a_claimed_address_must_be_one() {
    let network = network(Dialect::Versioned);
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    raw.send(&hello(Dialect::Versioned, &"nonsense".into(), here.address()));
    raw.expect_words(&[1]);
    raw.expect_end();
    expect_end(&here);
}

#[test]
fn networks_that_cannot_be_dialled_can_be_answered() {
    for dialect in [Dialect::Versioned, Dialect::Multiplexed] {
        let server = network(dialect);
        let server = endpoint(&server);
        let network = Network::outbound_only(parameters(dialect)).unwrap();
        assert_eq!(network.port(), None);
        let clients = [endpoint(&network), endpoint(&network)];
        for client in &clients {
            let connection = connect(client, &server);
            connection.send(&[b"question"]).unwrap();
            let event = next(&server);
            let Event::ConnectionOpened { connection: id, from, .. } = event else {
                panic!("{event:?}");
            };
            expect_received(&server, id, b"question");
            let back = server.connect(&from, ConnectHints::new()).unwrap();
            back.send(&[b"answer"]).unwrap();
            let id = next_opened(client, server.address());
            expect_received(client, id, b"answer");
            drop(connection);
            let Event::ConnectionClosed { .. } = next(&server) else { panic!() };
            drop(back);
            expect_closed(client, id);
        }
    }
    let network = Network::outbound_only(parameters(Dialect::Original)).unwrap();
    let error = endpoint(&network).connect(&greater(), ConnectHints::new()).unwrap_err();
    assert_eq!(error.code, ConnectErrorCode::Failed);
}

#[test]
fn a_host_that_nobody_can_dial_needs_an_external_one() {
    let error = Network::bind("0.0.0.0", 0, Parameters::default()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let external =
        Parameters { external_host: Some("localhost".to_owned()), ..Parameters::default() };
    let network = Network::bind("0.0.0.0", 0, external).unwrap();
    let (here, there) = (endpoint(&network), endpoint(&network));
    assert!(here.address().as_str().starts_with("localhost:"));
    let _connection = connect(&there, &here);
    next_opened(&here, there.address());
}

#[test]
fn a_connect_does_not_end_with_the_dial_of_one_that_had_less_time() {
    let network = network(Dialect::Versioned);
    let here = std::sync::Arc::new(endpoint(&network));
    let listener = RawListener::new();
    let connect = |timeout| {
        let (here, address) = (here.clone(), listener.address());
        let hints = ConnectHints::new().timeout(timeout);
        rpc_testing::Blocked::spawn(move || here.connect(&address, hints))
    };
    // The second one waits for the dial of the first.
    let (hasty, patient) = (connect(Duration::from_millis(50)), connect(AMPLE));
    let mute = listener.accept();
    assert_eq!(hasty.join().unwrap_err().code, ConnectErrorCode::Timeout);
    let mut raw = listener.accept();
    raw.expect_hello(Dialect::Versioned, here.address(), &listener.address());
    raw.words(&[0]);
    patient.join().unwrap();
    drop(mute);
}
