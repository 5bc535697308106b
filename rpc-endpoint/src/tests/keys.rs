//! Networks with keys and without: who can take whose place.

use capnp_threads_core::network::{Accepted, Reached, VatNetwork};
use capnp_threads_core::transport::Transport;
use capnp_threads_transport::VatId;
use capnp_threads_transport::tls::VatKey;

use super::*;
use crate::vats::hello::{self, Hello, Kind};
use rpc_testing::{content, message};

pub(super) fn key() -> VatKey {
    VatKey::generate().unwrap()
}

fn with_key(dialect: Dialect, key: &VatKey) -> Parameters {
    Parameters { key: Some(key.clone()), ..parameters(dialect) }
}

pub(super) fn keyed(dialect: Dialect, key: &VatKey) -> Network {
    Network::bind("127.0.0.1", 0, with_key(dialect, key)).unwrap()
}

/// A vat that has proved its key.
fn vat(key: &VatKey) -> EndpointNetwork {
    let parameters = with_key(Dialect::default(), key);
    EndpointNetwork::listening(&key.id().to_string(), "127.0.0.1", 0, parameters).unwrap()
}

/// The address of a vat without its id.
fn place_of(vat: &EndpointNetwork) -> String {
    let name = vat.this_vat();
    assert!(!name.hints()[0].as_str().contains('@'));
    name.hints()[0].to_string()
}

fn failure(from: &Endpoint, to: &EndpointAddress) -> String {
    from.connect(to, ConnectHints::new()).unwrap_err().to_string()
}

#[test]
fn endpoints_with_keys_talk_as_others_do() {
    for dialect in DIALECTS {
        let keys = [key(), key()];
        let networks = [keyed(dialect, &keys[0]), keyed(dialect, &keys[1])];
        let [one, other] = networks.each_ref().map(endpoint);
        assert_eq!(one.address().parts().unwrap().vat, Some(keys[0].id()));
        let connection = connect(&one, &other);
        let id = next_opened(&other, one.address());
        for length in [0, 1, 5000, 1 << 20] {
            let content = vec![7; length];
            connection.send(&[&content]).unwrap();
            expect_received(&other, id, &content);
        }
        let back = connect(&other, &one);
        let back_id = next_opened(&one, other.address());
        // Both over one socket.
        assert_eq!((one.local().links().len(), other.local().links().len()), (1, 1));
        back.send(&[b"hello"]).unwrap();
        expect_received(&one, back_id, b"hello");
        connection.close();
        expect_closed(&other, id);
        back.close();
        expect_closed(&one, back_id);
        // The socket is left in order, and made again.
        let again = connect(&other, &one);
        let id = next_opened(&one, other.address());
        again.send(&[b"again"]).unwrap();
        expect_received(&one, id, b"again");
    }
}

#[test]
fn whoever_is_at_the_address_of_another_vat_is_not_reached() {
    let [victim, thief] = [key(), key()];
    let (here, there) = (keyed(Dialect::default(), &key()), keyed(Dialect::default(), &thief));
    let (caller, stolen) = (endpoint(&here), endpoint(&there));
    let place = stolen.address().place();
    let text = failure(&caller, &EndpointAddress::from(format!("{}@{place}", victim.id())));
    assert!(text.contains(&format!("{}, and not {}", thief.id(), victim.id())), "{text}");
    // Nor is an address without a vat taken for anybody's.
    let text = failure(&caller, &place.into());
    assert!(text.contains("write VATID@host:port:endpoint"), "{text}");
    connect(&caller, &stolen);
}

#[test]
fn networks_with_keys_and_without_do_not_mix() {
    let (with, without) = (keyed(Dialect::default(), &key()), network(Dialect::default()));
    let (with, without) = (endpoint(&with), endpoint(&without));
    let text = failure(&without, with.address());
    assert!(text.contains("needs Parameters::key"), "{text}");
    failure(&without, &with.address().place().into());
    let named = format!("{}@{}", VatId::from_public_key([1; 32]), without.address());
    failure(&with, &named.into());
}

/// What a peer is told that claims an address, with a key or without.
fn claim(victim: &str, dialler: &Network, to: &Endpoint) -> Result<Connection, ConnectError> {
    dialler.endpoint_that_claims(victim.into()).connect(to.address(), ConnectHints::new())
}

/// Without keys, whoever comes first has an address. With keys it is the owner's.
#[test]
fn steal_an_address() {
    let victim = EndpointAddress::from("10.9.8.7:7113:0");
    let here = network(Dialect::default());
    let target = endpoint(&here);
    let thief = network(Dialect::default());
    let connection = claim(victim.as_str(), &thief, &target).unwrap();
    next_opened(&target, &victim);
    drop(connection);

    let keys = [key(), key()];
    let here = keyed(Dialect::default(), &key());
    let target = endpoint(&here);
    let [honest, thief] = keys.each_ref().map(|key| keyed(Dialect::default(), key));
    let victim = format!("{}@10.9.8.7:7113:0", keys[0].id());
    let text = claim(&victim, &thief, &target).unwrap_err().to_string();
    assert!(text.contains("no such endpoint"), "{text}");
    // Its owner may come from anywhere.
    let _connection = claim(&victim, &honest, &target).unwrap();
    next_opened(&target, &victim.as_str().into());
    // A thief without a key does not get as far as claiming anything.
    let keyless = network(Dialect::default());
    claim(&victim, &keyless, &target).unwrap_err();
    // And a network without a key does not believe that somebody has one.
    let (here, thief) = (network(Dialect::default()), network(Dialect::default()));
    claim(&victim, &thief, &endpoint(&here)).unwrap_err();
}

fn half(from: &Endpoint, to: &EndpointAddress, hello: &Hello) -> Connection {
    let half = from.connect(to, ConnectHints::new()).unwrap();
    half.send_vec(hello::encode(hello)).unwrap();
    half
}

fn qualified(vat: &EndpointNetwork) -> EndpointAddress {
    let name = vat.this_vat();
    format!("{}@{}", name.id(), name.hints()[0]).into()
}

/// Without keys, a vat is whoever says so. With keys it is whoever has the key.
#[test]
fn impostor() {
    let parameters = || parameters(Dialect::default());
    let bob = EndpointNetwork::listening("bob", "127.0.0.1", 0, parameters()).unwrap();
    let alice = EndpointNetwork::listening("alice", "127.0.0.1", 0, parameters()).unwrap();
    let Reached::Peer(mut alices) = alice.connect(&bob.this_vat()).unwrap() else { panic!() };
    alices.writer.write(&mut vec![message(1, &[1])]).unwrap();
    let mut with_alice = bob.accept().unwrap().unwrap().transport;
    assert!(with_alice.reader.read().unwrap().is_some());
    // Somebody comes with her name, and her session is over.
    let impostor = EndpointNetwork::listening("alice", "127.0.0.1", 0, parameters()).unwrap();
    let Reached::Peer(mut theirs) = impostor.connect(&bob.this_vat()).unwrap() else { panic!() };
    theirs.writer.write(&mut vec![message(1, &[1])]).unwrap();
    assert_eq!(bob.accept().unwrap().unwrap().peer.id(), "alice");
    assert!(with_alice.reader.read().is_err());

    let [alices_key, bobs_key, eves_key] = [key(), key(), key()];
    let (alice, bob) = (vat(&alices_key), vat(&bobs_key));
    let Reached::Peer(mut alices) = alice.connect(&bob.this_vat()).unwrap() else { panic!() };
    alices.writer.write(&mut vec![message(1, &[1])]).unwrap();
    let Accepted { peer, transport: mut with_alice } = bob.accept().unwrap().unwrap();
    assert_eq!((peer.id(), peer.hints()), (alice.this_vat().id(), alice.this_vat().hints()));
    assert_eq!(with_alice.control.peer().vat(), Some(alices_key.id()));
    assert_eq!(alices.control.peer().vat(), Some(bobs_key.id()));
    assert!(with_alice.reader.read().unwrap().is_some());
    let eves_network = keyed(Dialect::default(), &eves_key);
    let eve = endpoint(&eves_network);
    let name = bob.this_vat();
    let hello = |serial, from: &str, to: &str| {
        let (to, from) = (to.to_owned(), from.to_owned());
        Hello { kind: Kind::Half, serial, answers: 0, to, from }
    };
    // She cannot begin anew for Alice, nor refuse for her.
    let _half = half(&eve, &qualified(&bob), &hello(9, peer.id(), name.id()));
    let refusal = next_opened(&eve, &qualified(&bob));
    let refusal = eve.claim(refusal).unwrap().receive().unwrap().unwrap();
    let Kind::Refusal(reason) = hello::decode(&refusal).unwrap().kind else { panic!() };
    assert!(reason.contains("key of another vat"), "{reason}");
    for answers in 1..4 {
        let kind = Kind::Refusal("alice does not want to".into());
        let hello = Hello { kind, answers, ..hello(9 + answers, peer.id(), name.id()) };
        let _half = half(&eve, &qualified(&bob), &hello);
    }
    // As herself she is welcome.
    let _half = half(&eve, &qualified(&bob), &hello(20, &eves_key.id().to_string(), name.id()));
    let eves = bob.accept().unwrap().unwrap();
    assert_eq!(eves.transport.control.peer().vat(), Some(eves_key.id()));
    // And Alice's session goes on.
    alices.writer.write(&mut vec![message(1, &[1])]).unwrap();
    assert_eq!(content(&with_alice.reader.read().unwrap().unwrap()), content(&message(1, &[1])));
    assert_eq!(bob.peer_count(), 2);
}

#[test]
fn a_vat_is_looked_for_only_where_it_has_to_prove_itself() {
    let [alice, bob] = [key(), key()].map(|key| vat(&key));
    let mine = alice.this_vat();
    // A hint that names another vat is left out; one that names none has to be Bob's.
    let wrong = EndpointVat::new(bob.this_vat().id()).unwrap().at(qualified(&alice));
    let error = alice.connect(&wrong).map(drop).unwrap_err();
    assert!(error.reason().contains("no address of the vat"), "{error}");
    let wrong = EndpointVat::new(bob.this_vat().id()).unwrap().at(place_of(&alice));
    let error = alice.connect(&wrong).map(drop).unwrap_err();
    assert!(error.reason().contains(&format!("{}, and not", mine.id())), "{error}");
    let right = wrong.at(place_of(&bob));
    let Reached::Peer(transport) = alice.connect(&right).unwrap() else { panic!() };
    let Transport { control, .. } = &transport;
    assert_eq!(control.peer().vat().unwrap().to_string(), right.id());
    // The id of a vat with a key is not chosen.
    let parameters = with_key(Dialect::default(), &key());
    let error = EndpointNetwork::listening("alice", "127.0.0.1", 0, parameters).unwrap_err();
    assert!(error.to_string().contains("is that of the key"), "{error}");
}

#[test]
fn a_vat_that_nobody_can_dial_has_a_key_all_the_same() {
    let (mine, bob) = (key(), vat(&key()));
    let parameters = with_key(Dialect::default(), &mine);
    let alice = EndpointNetwork::outbound_only(&mine.id().to_string(), parameters).unwrap();
    let Reached::Peer(mut here) = alice.connect(&bob.this_vat()).unwrap() else { panic!() };
    here.writer.write(&mut vec![message(1, &[1])]).unwrap();
    let mut there = bob.accept().unwrap().unwrap().transport;
    assert_eq!(there.control.peer().vat(), Some(mine.id()));
    assert!(there.reader.read().unwrap().is_some());
    there.writer.write(&mut vec![message(1, &[1])]).unwrap();
    assert!(here.reader.read().unwrap().is_some());
}
