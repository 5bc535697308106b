//! What one peer, one host and all of them together may take.

use std::sync::Arc;

use capnp_threads_core::network::VatNetwork;

use super::raw::{Raw, hello};
use super::*;
use crate::vats::hello::{self as half, Hello, Kind};

fn small(change: impl FnOnce(&mut Parameters)) -> (Network, Endpoint) {
    let mut parameters = parameters(Dialect::Versioned);
    change(&mut parameters);
    let network = Network::bind("127.0.0.1", 0, parameters).unwrap();
    let endpoint = endpoint(&network);
    (network, endpoint)
}

/// A peer with a name, and so many connections.
fn raw_peer(here: &Endpoint, name: u32, connections: u32) -> Raw {
    let mut raw = Raw::dial(here.address());
    raw.introduce(Dialect::Versioned, &peer(name), here.address());
    for lcid in 1024..1024 + connections {
        raw.words(&[0, lcid]);
        next_opened(here, &peer(name));
    }
    raw
}

fn peer(name: u32) -> EndpointAddress {
    EndpointAddress::new("somewhere", 1, name)
}

#[test]
fn one_host_has_so_many_peers() {
    let (network, here) = small(|p| p.max_peers_per_host = 2);
    let other = endpoint(&network);
    let first = raw_peer(&here, 1, 1);
    let _second = raw_peer(&other, 2, 1);
    // At every endpoint of the network, but not at itself.
    for endpoint in [&here, &other] {
        let mut third = Raw::dial(endpoint.address());
        third.send(&hello(Dialect::Versioned, &peer(3), endpoint.address()));
        third.expect_end();
    }
    connect(&here, &here);
    next_opened(&here, here.address());
    let Event::ConnectionClosed { .. } = next(&here) else { panic!() };
    drop(first);
    expect_lost(&here, &peer(1));
    raw_peer(&other, 3, 1);
}

#[test]
fn the_one_with_more_than_its_share_of_all_connections_is_dropped() {
    let (_network, here) = small(|p| p.max_connections_in_all = 10);
    let mut greedy = raw_peer(&here, 1, 8);
    let mut modest = raw_peer(&here, 2, 2);
    // One more than the limit, of one that has less than its share.
    modest.words(&[0, 1026]);
    next_opened(&here, &peer(2));
    greedy.words(&[0, 1032]);
    next_opened(&here, &peer(1));
    let reason = expect_lost(&here, &peer(1));
    assert!(reason.contains("the limit is 10"), "{reason}");
    greedy.expect_cut();
    modest.words(&[0, 1027]);
    next_opened(&here, &peer(2));
    expect_end(&here);
}

#[test]
fn messages_that_are_not_received_are_limited_in_all() {
    let (_network, here) = small(|p| {
        p.max_message = 100_000;
        p.max_received = 100_000;
        p.max_received_in_all = 100_000;
    });
    let mut raws = [1, 2].map(|name| raw_peer(&here, name, 1));
    for raw in &mut raws {
        raw.words(&[1024, 45_000]);
        raw.send(&[7; 45_000]);
    }
    // Both are read before more comes.
    let wait = |count| until(|| here.local().events.len() >= count);
    wait(2);
    raws[0].words(&[1024, 20_000]);
    raws[0].send(&[7; 20_000]);
    wait(3);
    raws[0].words(&[1024, 1]);
    raws[0].send(&[7]);
    raws[0].expect_cut();
    // What had arrived is received, and the other peer is not affected.
    let received = [(); 3].map(|()| next(&here));
    assert!(received.iter().all(|event| matches!(event, Event::Received { .. })));
    let reason = expect_lost(&here, &peer(1));
    assert!(reason.contains("the limit is 100000"), "{reason}");
    raws[1].words(&[1024, 2]);
    raws[1].send(b"ok");
    let Event::Received { message, .. } = next(&here) else { panic!() };
    assert_eq!(message, b"ok");
    expect_end(&here);
}

#[test]
fn peers_that_come_and_go_do_not_fill_the_queue_of_events() {
    let (_network, here) = small(|p| p.max_events_in_all = 10);
    let dial = |name| {
        let mut raw = Raw::dial(here.address());
        raw.send(&hello(Dialect::Versioned, &peer(name), here.address()));
        raw
    };
    for name in 0..5 {
        let mut raw = dial(name);
        raw.expect_words(&[0]);
        raw.words(&[0, 1024]);
        // An opening and a loss.
        drop(raw);
        until(|| here.local().events.len() >= 2 * (name as usize + 1));
    }
    dial(6).expect_end();
    for name in 0..5 {
        next_opened(&here, &peer(name));
        expect_lost(&here, &peer(name));
    }
    let mut last = dial(6);
    last.expect_words(&[0]);
    expect_end(&here);
}

#[test]
fn a_peer_is_dropped_with_all_connections_in_both_directions() {
    for dialect in DIALECTS {
        let (here, there) = (network(dialect), network(dialect));
        let (one, other, third) = (endpoint(&here), endpoint(&there), endpoint(&there));
        let (forth, back) = (connect(&one, &other), connect(&other, &one));
        let ids = (next_opened(&other, one.address()), next_opened(&one, other.address()));
        let sibling = connect(&third, &one);
        let id = next_opened(&one, third.address());
        let claimed = one.claim(ids.1).unwrap();
        assert!(one.drop_peer(other.address()));
        let reason = expect_lost(&one, other.address());
        assert!(reason.contains("dropped"), "{reason}");
        expect_lost(&other, one.address());
        assert!(matches!(forth.send(&[b"x"]), Err(SendError::Failed(_))));
        assert!(matches!(claimed.receive(), Err(IncomingError::Lost(_))));
        while back.send(&[b"x"]).is_ok() {}
        assert!(!one.drop_peer(other.address()), "it is gone");
        // Another peer on the same machine is not.
        sibling.send(&[b"ok"]).unwrap();
        expect_received(&one, id, b"ok");
        // It may come again.
        let again = connect(&other, &one);
        next_opened(&one, other.address());
        drop(again);
    }
}

/// A dial that was asked for is given up, too.
#[test]
fn a_peer_that_is_being_dialled_is_dropped() {
    let network = network(Dialect::Versioned);
    let here = Arc::new(endpoint(&network));
    let listener = super::raw::RawListener::new();
    let address = listener.address();
    let connecting = rpc_testing::Blocked::spawn({
        let (here, address) = (here.clone(), address.clone());
        move || here.connect(&address, ConnectHints::new()).unwrap_err()
    });
    assert!(here.drop_peer(&address));
    let error = connecting.join();
    assert_eq!(error.code, ConnectErrorCode::Failed);
    assert!(error.reason.contains("dropped"), "{error}");
}

/// A vat with small limits, and an endpoint that plays many vats.
fn bob_and_crowd(change: impl FnOnce(&mut Parameters)) -> (EndpointNetwork, Network) {
    let mut parameters = parameters(Dialect::default());
    change(&mut parameters);
    let bob = EndpointNetwork::listening("bob", "127.0.0.1", 0, parameters).unwrap();
    (bob, network(Dialect::default()))
}

/// Opens a half of a vat with this name.
fn begin(from: &Endpoint, bob: &EndpointNetwork, name: &str, serial: u64) -> Connection {
    let half = from.connect(&bob.this_vat().hints()[0], ConnectHints::new()).unwrap();
    let (to, from) = ("bob".to_owned(), name.to_owned());
    let hello = Hello { kind: Kind::Half, serial, answers: 0, to, from };
    half.send_vec(half::encode(&hello)).unwrap();
    half
}

/// The reason of the next refusal that an endpoint gets.
fn refusal(endpoint: &Endpoint, bob: &EndpointNetwork) -> String {
    let id = next_opened(endpoint, &bob.this_vat().hints()[0]);
    let message = endpoint.claim(id).unwrap().receive().unwrap().unwrap();
    let Kind::Refusal(reason) = half::decode(&message).unwrap().kind else { panic!() };
    reason
}

#[test]
fn one_socket_begins_so_many_sessions() {
    let (bob, network) = bob_and_crowd(|p| {
        p.max_sessions_per_peer = 3;
        p.max_sessions = 5;
    });
    let (crowd, others) = (endpoint(&network), endpoint(&network));
    let mut halves: Vec<_> = (1..=4).map(|n| begin(&crowd, &bob, &format!("vat-{n}"), n)).collect();
    assert!(refusal(&crowd, &bob).contains("3 sessions with your endpoint"));
    halves.extend((5..=7).map(|n| begin(&others, &bob, &format!("vat-{n}"), n)));
    assert!(refusal(&others, &bob).contains("5 sessions, its limit"));
    assert_eq!(bob.peer_count(), 5);
    let mut accepted: Vec<_> = (0..5).map(|_| bob.accept().unwrap().unwrap()).collect();
    // The RPC system lets go of one of them.
    let gone = accepted.pop().unwrap();
    drop(gone.transport);
    halves.push(begin(&others, &bob, "vat-8", 8));
    let next = bob.accept().unwrap().unwrap();
    assert_eq!(next.peer.id(), "vat-8");
}

#[test]
fn a_vat_that_begins_anew_again_and_again_occupies_no_more() {
    let (bob, network) = bob_and_crowd(|p| p.max_sessions_per_peer = 3);
    let crowd = endpoint(&network);
    let mut halves = Vec::new();
    // Nobody accepts: each takes the place of the one before.
    for serial in 1..=20 {
        halves.push(begin(&crowd, &bob, "alice", serial));
    }
    // Until this is refused, or not, everything before it has been looked at.
    halves.push(begin(&crowd, &bob, "not bob?", 21));
    until(|| bob.peer_count() == 2);
    // Those that were accepted count as long as somebody has their transports.
    let mut accepted = vec![bob.accept().unwrap().unwrap(), bob.accept().unwrap().unwrap()];
    halves.push(begin(&crowd, &bob, "alice", 22));
    accepted.push(bob.accept().unwrap().unwrap());
    halves.push(begin(&crowd, &bob, "alice", 23));
    assert!(refusal(&crowd, &bob).contains("3 sessions"));
    drop(accepted);
    halves.push(begin(&crowd, &bob, "alice", 24));
    assert_eq!(bob.accept().unwrap().unwrap().peer.id(), "alice");
}

#[test]
fn a_vat_is_dropped_with_its_socket() {
    let (bob, network) = bob_and_crowd(|_| {});
    let alice = endpoint(&network);
    let half = begin(&alice, &bob, "alice", 1);
    let mut accepted = bob.accept().unwrap().unwrap();
    assert!(bob.drop_peer(&accepted.peer));
    assert!(accepted.transport.reader.read().is_err());
    expect_lost(&alice, &bob.this_vat().hints()[0]);
    assert!(matches!(half.send(&[b"x"]), Err(SendError::Failed(_))));
    assert!(!bob.drop_peer(&accepted.peer));
    assert_eq!(bob.peer_count(), 0);
    let _half = begin(&alice, &bob, "alice", 2);
    assert_eq!(bob.accept().unwrap().unwrap().peer.id(), "alice");
}
