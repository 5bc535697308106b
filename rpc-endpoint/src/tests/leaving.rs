//! How connections, sockets and endpoints end.

use std::net::Shutdown;
use std::thread;

use super::raw::{Raw, RawListener, greater, hello};
use super::*;
use rpc_testing::Blocked;

const OLD: [Dialect; 2] = [Dialect::Original, Dialect::Versioned];

/// An endpoint that is connected to a raw peer.
fn connected(dialect: Dialect) -> (Network, Endpoint, Connection, Raw, RawListener) {
    let network = network(dialect);
    let here = endpoint(&network);
    let listener = RawListener::new();
    let (connection, raw) = thread::scope(|scope| {
        let connecting = scope.spawn(|| here.connect(&listener.address(), ConnectHints::new()));
        let mut raw = listener.accept();
        raw.expect_hello(dialect, here.address(), &listener.address());
        raw.words(&[0]);
        raw.expect_words(&[0, 1024]);
        (connecting.join().unwrap().unwrap(), raw)
    });
    (network, here, connection, raw, listener)
}

#[test]
fn an_early_close_of_the_socket_closes_connections() {
    for dialect in OLD {
        let network = network(dialect);
        let here = endpoint(&network);
        let mut raw = Raw::dial(here.address());
        raw.introduce(dialect, &greater(), here.address());
        raw.words(&[0, 1024, 0, 1025, 2, 0]);
        let ids = [(); 2].map(|()| next_opened(&here, &greater()));
        for id in ids {
            expect_closed(&here, id);
        }
        raw.expect_words(&[2, 1025]);
        raw.expect_end();
        expect_end(&here);
    }
}

#[test]
fn a_close_of_the_socket_is_refused_while_there_are_connections() {
    for dialect in OLD {
        let (_network, here, connection, mut raw, listener) = connected(dialect);
        raw.words(&[0, 1024, 2, 0]);
        let id = next_opened(&here, &listener.address());
        expect_closed(&here, id);
        connection.send(&[b"x"]).unwrap();
        raw.expect_words(&[1024, 1]);
        raw.expect(b"x");
        drop(connection);
        raw.expect_words(&[1, 1024, 2, 1024]);
        // Not having seen the connection yet is refused, too.
        raw.words(&[2, 1023]);
        let again = Blocked::spawn({
            let address = listener.address();
            move || {
                let connection = here.connect(&address, ConnectHints::new()).unwrap();
                (here, connection)
            }
        });
        raw.words(&[2, 1024]);
        raw.expect_end();
        let mut raw = listener.accept();
        raw.words(&[0]);
        again.join();
    }
}

#[test]
fn created_overrides_closing() {
    for dialect in OLD {
        let (_network, here, connection, mut raw, listener) = connected(dialect);
        drop(connection);
        raw.expect_words(&[1, 1024, 2, 0]);
        raw.words(&[0, 1024]);
        next_opened(&here, &listener.address());
        let connection = here.connect(&listener.address(), ConnectHints::new()).unwrap();
        raw.expect_words(&[0, 1025]);
        drop(connection);
        raw.expect_words(&[1, 1025]);
        raw.words(&[1, 1024]);
        raw.expect_words(&[2, 1024]);
        raw.words(&[2, 1025]);
        raw.expect_end();
    }
}

#[test]
fn connect_blocks_after_the_socket_is_being_closed() {
    for dialect in OLD {
        for is_refused in [false, true] {
            let (_network, here, connection, mut raw, listener) = connected(dialect);
            drop(connection);
            raw.expect_words(&[1, 1024, 2, 0]);
            let address = listener.address();
            let connecting = Blocked::spawn(move || {
                let connection = here.connect(&address, ConnectHints::new()).unwrap();
                (here, connection)
            });
            if is_refused {
                raw.words(&[0, 1024]);
                raw.expect_words(&[0, 1025]);
                connecting.join();
            } else {
                raw.words(&[2, 1024]);
                raw.expect_end();
                let mut raw = listener.accept();
                let (here, there) = (hello_length(dialect, &listener), listener);
                raw.read(here);
                raw.words(&[0]);
                raw.expect_words(&[0, 1024]);
                connecting.join();
                drop(there);
            }
        }
    }
}

/// How long the introduction of an endpoint is whose port has as many digits.
fn hello_length(dialect: Dialect, listener: &RawListener) -> usize {
    hello(dialect, &listener.address(), &listener.address()).len()
}

#[test]
fn who_does_not_answer_that_a_socket_is_closed_is_left() {
    let parameters =
        Parameters { linger: Duration::from_millis(20), ..parameters(Dialect::Versioned) };
    let network = Network::bind("127.0.0.1", 0, parameters).unwrap();
    let here = endpoint(&network);
    let mut raw = Raw::dial(here.address());
    raw.introduce(Dialect::Versioned, &greater(), here.address());
    raw.words(&[0, 1024, 1, 1024]);
    let id = next_opened(&here, &greater());
    expect_closed(&here, id);
    raw.expect_cut();
    // It was not needed, so that nothing is lost.
    let mut raw = Raw::dial(here.address());
    raw.introduce(Dialect::Versioned, &greater(), here.address());
    raw.words(&[0, 1024]);
    next_opened(&here, &greater());
    expect_end(&here);
}

#[test]
fn a_socket_that_cannot_be_written_is_lost_once() {
    for dialect in DIALECTS {
        for act in ["send", "close", "connect"] {
            let (here, there) = (network(dialect), network(dialect));
            let (one, other) = (endpoint(&here), endpoint(&there));
            let connection = connect(&one, &other);
            let id = next_opened(&other, one.address());
            let back = connect(&other, &one);
            let back_id = next_opened(&one, other.address());
            let link = one.local().links().remove(0);
            link.socket().unwrap().shutdown(Shutdown::Write).unwrap();
            match act {
                "send" => while connection.send(&[b"x"]).is_ok() {},
                "close" => connection.close(),
                _ => drop(one.connect(other.address(), ConnectHints::new())),
            }
            expect_lost(&one, other.address());
            expect_lost(&other, one.address());
            assert!(matches!(back.send(&[b"x"]), Err(SendError::Failed(_))));
            // A new socket is made, and nothing of the old one comes.
            let again = connect(&one, &other);
            again.send(&[b"again"]).unwrap();
            let again_id = loop {
                match next(&other) {
                    Event::ConnectionOpened { connection, .. } => break connection,
                    // The connect above may have made a socket, or not.
                    Event::ConnectionClosed { .. } => assert_eq!(act, "connect"),
                    event => panic!("{event:?}"),
                }
            };
            assert!(again_id.heavyweight() > id.heavyweight());
            assert!(again_id.heavyweight() > back_id.heavyweight() || act == "connect");
        }
    }
}

#[test]
fn connections_are_made_anew_after_a_loss() {
    for dialect in DIALECTS {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        for round in 1..=5 {
            let connection = connect(&one, &other);
            let id = next_opened(&other, one.address());
            assert_eq!(id.heavyweight(), round);
            connection.send(&[b"x"]).unwrap();
            expect_received(&other, id, b"x");
            let link = other.local().links().remove(0);
            link.socket().unwrap().shutdown(Shutdown::Both).unwrap();
            expect_lost(&one, other.address());
            expect_lost(&other, one.address());
            assert!(matches!(connection.send(&[b"x"]), Err(SendError::Failed(_))));
        }
        expect_end(&one);
        expect_end(&other);
    }
}

#[test]
fn the_end_of_an_endpoint_by_the_byte() {
    for (dialect, farewell) in [(Dialect::Original, &[2, 1024][..]), (Dialect::Versioned, &[3])] {
        for close_network in [false, true] {
            let (network, here, connection, mut raw, listener) = connected(dialect);
            raw.words(&[0, 1024]);
            next_opened(&here, &listener.address());
            connection.send(&[b"last"]).unwrap();
            if close_network {
                let closing = thread::spawn(move || network.close());
                raw.expect_words(&[1024, 4]);
                raw.expect(b"last");
                raw.expect_words(farewell);
                raw.expect_end();
                drop(raw);
                closing.join().unwrap();
            } else {
                here.close();
                raw.expect_words(&[1024, 4]);
                raw.expect(b"last");
                raw.expect_words(farewell);
                raw.expect_end();
            }
            assert!(matches!(connection.send(&[b"x"]), Err(SendError::Failed(_))));
            let error = here.connect(&listener.address(), ConnectHints::new()).unwrap_err();
            assert_eq!(error.code, ConnectErrorCode::Failed);
            expect_end(&here);
        }
    }
}

#[test]
fn the_end_of_a_network() {
    for dialect in DIALECTS {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let forth = connect(&one, &other);
        let id = next_opened(&other, one.address());
        here.close();
        here.close();
        // Nothing of this end's was lost, and the original dialect cannot tell.
        expect_closed(&other, id);
        expect_end(&one);
        assert!(here.new_endpoint().is_err());
        assert!(matches!(forth.send(&[b"x"]), Err(SendError::Failed(_))));
        let outcome = other.connect(one.address(), ConnectHints::new());
        assert_eq!(outcome.unwrap_err().code, ConnectErrorCode::NotFound);
        expect_end(&other);
    }
}

#[test]
fn the_end_of_a_peers_endpoint_is_a_loss_for_who_sends() {
    for dialect in DIALECTS {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other) = (endpoint(&here), endpoint(&there));
        let forth = connect(&one, &other);
        let id = next_opened(&other, one.address());
        let back = connect(&other, &one);
        next_opened(&one, other.address());
        one.close();
        expect_closed(&other, id);
        expect_lost(&other, one.address());
        assert!(matches!(back.send(&[b"x"]), Err(SendError::Failed(_))));
        drop(forth);
        expect_end(&other);
    }
}

#[test]
fn a_mute_peer_does_not_stall_a_close() {
    for dialect in OLD {
        let parameters = Parameters {
            linger: Duration::from_millis(20),
            tcp: capnp_threads_transport::TcpOptions::new().send_buffer(4096),
            ..parameters(dialect)
        };
        let network = Network::bind("127.0.0.1", 0, parameters).unwrap();
        let here = endpoint(&network);
        let mut raw = Raw::dial(here.address());
        raw.introduce(dialect, &greater(), here.address());
        raw.words(&[0, 1024]);
        next_opened(&here, &greater());
        let connection = here.connect(&greater(), ConnectHints::new()).unwrap();
        let connection = std::sync::Arc::new(connection);
        let sender = connection.clone();
        let sending = Blocked::spawn(move || {
            loop {
                if let Err(error) = sender.send(&[&[0; 100_000]]) {
                    return error;
                }
            }
        });
        connection.close();
        assert_eq!(sending.join(), SendError::Closed);
        network.close();
        assert_eq!(next(&here), Event::EndpointClosed);
        drop(raw);
    }
}

#[test]
fn an_endpoint_that_is_closed_wakes_who_waits() {
    let (network, here, connection, mut raw, listener) = connected(Dialect::Versioned);
    drop(connection);
    raw.expect_words(&[1, 1024, 2, 0]);
    let here = std::sync::Arc::new(here);
    let connecting = Blocked::spawn({
        let (here, address) = (here.clone(), listener.address());
        move || here.connect(&address, ConnectHints::new()).unwrap_err()
    });
    let receiving = Blocked::spawn({
        let here = here.clone();
        move || here.receive()
    });
    here.close();
    assert_eq!(connecting.join().code, ConnectErrorCode::Failed);
    assert_eq!(receiving.join(), Ok(Event::EndpointClosed));
    drop(raw);
    network.close();
}

#[test]
fn the_end_of_an_endpoint_is_understood() {
    let (_network, here, connection, mut raw, listener) = connected(Dialect::Versioned);
    raw.words(&[0, 1024, 3]);
    let id = next_opened(&here, &listener.address());
    expect_closed(&here, id);
    expect_lost(&here, &listener.address());
    raw.expect_end();
    assert!(matches!(connection.send(&[b"x"]), Err(SendError::Failed(_))));
    expect_end(&here);
}
