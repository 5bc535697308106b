//! Networks that talk to each other, and peers that do what the test says.
#![allow(clippy::unwrap_used)]

use std::thread;

use rpc_testing::Blocked;
use rpc_testing::sessions::{both_mean_the_same, number_of, numbered};

use super::*;
use crate::testing;

fn local() -> Address {
    "127.0.0.1:0".parse().unwrap()
}

fn listening(key: &VatKey) -> TlsNetwork {
    TlsNetwork::listening(key, &local()).unwrap()
}

/// Two vats, the one with the smaller id first.
fn keys() -> [VatKey; 2] {
    let mut keys = [(); 2].map(|()| VatKey::generate().unwrap());
    keys.sort_by_key(VatKey::id);
    keys
}

/// Has a vat reach another one, and that one accept it.
fn meet(from: &TlsNetwork, name: &TlsVat, to: &TlsNetwork) -> (Transport, Accepted<TlsVat>) {
    thread::scope(|scope| {
        let accepting = scope.spawn(|| accepted(to));
        let Reached::Peer(transport) = from.connect(name).unwrap() else { panic!() };
        (transport, accepting.join().unwrap())
    })
}

fn is_crossed(network: &TlsNetwork, peer: &TlsVat) -> bool {
    matches!(network.connect(peer).unwrap(), Reached::Crossed)
}

fn error(network: &TlsNetwork, peer: &TlsVat) -> String {
    network.connect(peer).err().unwrap().to_string()
}

fn accepted(network: &TlsNetwork) -> Accepted<TlsVat> {
    network.accept().unwrap().unwrap()
}

#[test]
fn two_vats_have_one_connection_whoever_made_it() {
    let [alice, bob] = keys().map(|key| listening(&key));
    let (here, Accepted { peer, transport: there }) = meet(&alice, &bob.this_vat(), &bob);
    assert_eq!((peer.clone(), peer.hints()), (alice.this_vat(), alice.this_vat().hints()));
    assert_eq!(here.control.peer().vat(), Some(bob.id()));
    assert_eq!(there.control.peer().vat(), Some(alice.id()));
    // Either may ask for it.
    assert!(is_crossed(&alice, &bob.this_vat()) && is_crossed(&bob, &peer));
    testing::check_connected(here, there);
    assert_eq!((alice.peer_count(), bob.peer_count()), (0, 0));
    // Now Bob knows where Alice is.
    let (_here, there) = meet(&bob, &TlsVat::new(alice.id()), &alice);
    assert_eq!(there.peer.hints(), bob.this_vat().hints());
    assert!(matches!(bob.connect(&bob.this_vat()).unwrap(), Reached::Oneself));
}

#[test]
fn whoever_has_stolen_the_address_of_a_vat_is_not_taken_for_it() {
    let [victim, thief] = keys();
    let thief = listening(&thief);
    let caller = TlsNetwork::client(&VatKey::generate().unwrap()).unwrap();
    let stolen = thief.this_vat().hints()[0].clone();
    let Address::Tls { host, port, .. } = stolen else { panic!() };
    let name = TlsVat::new(victim.id()).at(&host, port);
    let text = error(&caller, &name);
    assert!(text.contains(&format!("{}, and not {}", thief.id(), victim.id())), "{text}");
    assert_eq!(caller.peer_count(), 0);
    // The vat is reached where it is, also if that is said last.
    let victim = listening(&victim);
    let name = name.with(victim.this_vat().hints()[0].clone());
    let (transport, _there) = meet(&caller, &name, &victim);
    assert_eq!(transport.control.peer().vat(), Some(victim.id()));
    // What the thief was asked says nothing of the caller.
    assert_eq!(thief.peer_count(), 0);
}

/// Connects by hand, without a dial.
fn open(key: &VatKey, to: &TlsNetwork) -> io::Result<Opened> {
    let vat = to.this_vat();
    let Address::Tls { host, port, .. } = &vat.hints()[0] else { panic!() };
    TlsClient::vat_in_network(key, vat.id()).unwrap().open((&**host, *port), host, None)
}

/// Says a dial by hand.
fn dial(key: &VatKey, to: &TlsNetwork, stamp: Stamp) -> Opened {
    let mut opened = open(key, to).unwrap();
    let hello = Hello { kind: Kind::Dial, stamp, text: String::new() };
    opened.say(&hello::encode(&hello)).unwrap();
    opened
}

fn heard(opened: &mut Opened) -> Hello {
    hello::decode(&opened.hear(None).unwrap()).unwrap()
}

const FIRST: Stamp = Stamp { incarnation: 1, serial: 1 };
const LATEST: Stamp = Stamp { incarnation: u64::MAX, serial: u64::MAX };

#[test]
fn an_incarnation_is_believed_only_of_the_owner_of_the_key() {
    let [alice, bob] = keys();
    let eve = VatKey::generate().unwrap();
    let alice = listening(&alice);
    let mut first = dial(&bob, &alice, FIRST);
    let mut session = accepted(&alice);
    assert_eq!(heard(&mut first).kind, Kind::Accepted);
    // Eve says that she is the latest there can be. That is a session of her own.
    let _eves = dial(&eve, &alice, LATEST);
    let with_eve = accepted(&alice);
    assert_eq!(with_eve.peer.id(), eve.id());
    assert_eq!(alice.peer_count(), 2);
    let mut there = first.into_transport();
    testing::check_one_way(&mut there, &mut session.transport);
    // She cannot say it with Bob's key.
    let impostor = bob.impostor(&eve);
    let failed = alice.failed_handshakes();
    if let Ok(mut opened) = open(&impostor, &alice) {
        let hello = Hello { kind: Kind::Dial, stamp: LATEST, text: String::new() };
        // Alice may have ended it already.
        let _ = opened.say(&hello::encode(&hello));
        assert!(opened.hear(None).is_err());
    }
    while alice.failed_handshakes() == failed {
        thread::yield_now();
    }
    testing::check_one_way(&mut there, &mut session.transport);
    // Bob himself may begin anew, which ends what he had.
    let mut second = dial(&bob, &alice, Stamp { incarnation: 2, serial: 1 });
    let anew = accepted(&alice);
    assert_eq!(anew.peer.id(), bob.id());
    assert_eq!(heard(&mut second).kind, Kind::Accepted);
    assert!(session.transport.reader.read().unwrap().is_none());
}

#[test]
fn two_programs_with_one_key_do_not_take_turns() {
    let [alice, bob] = keys();
    let alice = listening(&alice);
    let _later = dial(&bob, &alice, Stamp { incarnation: 2, serial: 1 });
    let _session = accepted(&alice);
    let alice = Arc::new(alice);
    let accepting = {
        let alice = Arc::clone(&alice);
        Blocked::spawn(move || alice.accept())
    };
    let mut earlier = dial(&bob, &alice, FIRST);
    let hello = heard(&mut earlier);
    assert_eq!(hello.kind, Kind::Refused);
    assert!(hello.text.contains("began later"), "{}", hello.text);
    // Nor does a vat call itself from another program.
    let own = alice.shared.key.clone();
    let mut itself = dial(&own, &alice, FIRST);
    assert_eq!(heard(&mut itself).kind, Kind::Refused);
    assert_eq!(alice.peer_count(), 1);
    alice.shutdown();
    assert!(accepting.join().unwrap().is_none());
}

#[test]
fn a_dial_that_crosses_is_kept_until_ours_is_decided() {
    for ours_is_accepted in [true, false] {
        let [small, great] = keys();
        let own = Arc::new(listening(&small));
        // The other vat, by hand.
        let server = TlsServer::vat_in_network(&great).unwrap();
        let server = server.listen(("127.0.0.1", 0)).unwrap();
        let at = server.local_addr();
        let name = TlsVat::new(great.id()).at("127.0.0.1", at.port());
        let connecting = {
            let own = Arc::clone(&own);
            Blocked::spawn(move || own.connect(&name))
        };
        let mut ours = server.accept_opened().unwrap();
        let hello = hello::decode(&ours.take_first()).unwrap();
        assert_eq!((hello.kind, hello.stamp.serial), (Kind::Dial, 1));
        let mut theirs = dial(&great, &own, FIRST);
        let accepting = {
            let own = Arc::clone(&own);
            Blocked::spawn(move || own.accept())
        };
        while !own.shared.state.lock().pairs.has_kept(great.id()) {
            thread::yield_now();
        }
        let mut there = if ours_is_accepted {
            answer(&mut ours, Kind::Accepted, FIRST, "");
            assert_eq!(heard(&mut theirs).kind, Kind::Crossed);
            ours
        } else {
            drop(ours);
            assert_eq!(heard(&mut theirs).kind, Kind::Accepted);
            theirs
        }
        .into_transport();
        let Reached::Peer(mut here) = connecting.join().unwrap() else { panic!() };
        testing::check_one_way(&mut there, &mut here);
        own.shutdown();
        assert!(accepting.join().unwrap().is_none());
    }
}

#[test]
fn a_dial_that_has_not_arrived_yet_gives_way() {
    let [small, great] = keys();
    let own = Arc::new(listening(&small));
    // There the dial waits for a handshake that never goes on.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = TlsVat::new(great.id()).at("127.0.0.1", silent.local_addr().unwrap().port());
    let connecting = {
        let own = Arc::clone(&own);
        Blocked::spawn(move || own.connect(&name))
    };
    let (held, _) = silent.accept().unwrap();
    let mut theirs = dial(&great, &own, FIRST);
    let Accepted { mut transport, .. } = accepted(&own);
    assert_eq!(heard(&mut theirs).kind, Kind::Accepted);
    testing::check_one_way(&mut theirs.into_transport(), &mut transport);
    drop(held);
    assert!(matches!(connecting.join().unwrap(), Reached::Crossed));
    assert_eq!(own.peer_count(), 1);
}

#[test]
fn a_vat_that_shuts_down_says_so_and_its_connections_go_on() {
    let [alice, bob] = keys().map(|key| listening(&key));
    let (mut here, there) = meet(&alice, &bob.this_vat(), &bob);
    let mut there = there.transport;
    let waiting = thread::scope(|scope| {
        let accepting = scope.spawn(|| bob.accept());
        bob.shutdown();
        accepting.join().unwrap().unwrap()
    });
    assert!(waiting.is_none() && bob.accept().unwrap().is_none());
    testing::check_one_way(&mut here, &mut there);
    let other = TlsNetwork::client(&VatKey::generate().unwrap()).unwrap();
    error(&other, &bob.this_vat());
    // A client has nothing to end but its own waiting.
    thread::scope(|scope| {
        let accepting = scope.spawn(|| other.accept());
        other.shutdown();
        assert!(accepting.join().unwrap().unwrap().is_none());
    });
}

#[test]
fn what_is_no_dial_is_refused_and_nothing_else_happens() {
    let [alice, bob] = keys();
    let alice = listening(&alice);
    for said in [&b""[..], b"\0short", &[9; 40], &[0xff; 1024]] {
        let mut opened = open(&bob, &alice).unwrap();
        opened.say(said).unwrap();
        let mut good = dial(&bob, &alice, FIRST);
        let session = accepted(&alice);
        assert_eq!(heard(&mut good).kind, Kind::Accepted);
        assert!(opened.hear(None).is_err());
        drop((session, good));
        assert_eq!(alice.peer_count(), 0);
    }
    // Too long to be read at all: the handshake has failed.
    let mut opened = open(&bob, &alice).unwrap();
    opened.say(&[0; 2000]).unwrap();
    assert!(opened.hear(None).is_err());
    assert_eq!(alice.failed_handshakes(), 1);
}

#[test]
fn a_vat_that_says_nothing_is_let_go_when_its_time_is_over() {
    let [alice, bob] = keys();
    let server = TlsServer::vat_in_network(&alice).unwrap();
    let server = server.handshake_timeout(Duration::from_millis(20));
    let listener = server.listen(("127.0.0.1", 0)).unwrap();
    let client = TlsClient::vat_in_network(&bob, alice.id()).unwrap();
    let mut silent = client.open(listener.local_addr(), "", None).unwrap();
    assert!(silent.hear(None).is_err());
    while listener.failed_handshakes() == 0 {
        thread::yield_now();
    }
}

#[test]
fn a_vat_that_is_in_no_network_is_refused_and_the_other_way_round() {
    let [alice, bob] = keys();
    let network = listening(&alice);
    assert!(bob.connect(&network.this_vat().hints()[0]).is_err());
    let listener = alice.listen(&local()).unwrap();
    let name = TlsVat::new(alice.id()).at("127.0.0.1", listener.local_addr().port());
    assert!(TlsNetwork::client(&bob).unwrap().connect(&name).is_err());
}

/// Sends a number, receives one, and says that it has it. So no side gives the session up
/// before the other has its number.
fn exchange(transport: Transport, number: u64) -> u64 {
    let Transport { mut reader, mut writer, .. } = transport;
    writer.write(&mut vec![numbered(number)]).unwrap();
    let theirs = number_of(&reader.read().unwrap().unwrap());
    // From here on the other side may have given it up, and begun another in its place: then
    // this fails, and so does what follows.
    let _given_up = writer.write(&mut vec![numbered(number)]);
    let _given_up = reader.read();
    let _given_up = writer.finish();
    while let Ok(Some(_)) = reader.read() {}
    theirs
}

#[test]
fn both_vats_mean_the_same_sessions_whoever_begins_and_ends_them() {
    let [alice, bob] = keys().map(|key| listening(&key));
    let vats = [&alice, &bob].map(|vat| (vat, vat.this_vat()));
    both_mean_the_same(vats, 100, exchange);
}
