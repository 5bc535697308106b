//! What a vat does with those who come, and with those who send it elsewhere, when they do not
//! do what they should.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;
use std::{process, thread};

use capnp_threads_core::network::{RpcSystemBuilder, Token};
use capnp_threads_core::{Concurrency, Limits, RpcSystem, Vat};
use capnp_threads_transport::introducing::bearer;
use capnp_threads_transport::{Address, SocketNetwork};
use rpc_schema::echo_capnp::echo;
use rpc_tests::support::objects::any;
use rpc_tests::support::raw::{self, Outcome, RawPeer, Said, Target};
use rpc_tests::support::{Event, LONG, Watchdog};

use super::Notes;
use super::networks::{Kind, Sockets, number};

fn host() -> RpcSystemBuilder<SocketNetwork> {
    RpcSystem::builder(&Vat::new(), Sockets::<true>::listening())
        .bootstrap(echo::Client::from_server(Notes::default()))
}

fn connect(to: &RpcSystem<SocketNetwork>) -> (RawPeer, u32) {
    let Some(Address::UnixAbstract(name)) = to.network().local_address() else { panic!() };
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let mut peer = RawPeer::over(UnixStream::connect_addr(&address).unwrap());
    let object = peer.bootstrapped(0);
    (peer, object)
}

/// A token that the vat cannot tell from one whose Provide is on its way.
#[test]
fn who_comes_for_nothing_is_told_after_the_timeout() {
    let _watchdog = Watchdog::start();
    let bob = host().introduction_timeout(Duration::from_millis(10)).start().unwrap();
    let (mut carol, _) = connect(&bob);
    let contact = bearer::introduce(["unix:/nowhere".to_owned()]).unwrap().contact;
    let completion = bearer::directions("", &contact).unwrap().completion;
    carol.bytes(&raw::accept(1, Some(&completion)));
    assert!(matches!(carol.outcome(1), Outcome::Exception(_)));
}

/// Neither another time nor over another connection.
#[test]
fn a_secret_is_good_for_one_use() {
    let _watchdog = Watchdog::start();
    let bob = host().start().unwrap();
    let [(mut alice, object), (mut carol, _), (mut thief, _)] = [(); 3].map(|()| connect(&bob));
    let made = bearer::introduce(["unix:/nowhere".to_owned()]).unwrap();
    let completion = bearer::directions("", &made.contact).unwrap().completion;
    alice.bytes(&raw::provide(1, &Target::Import(object), &made.awaited));
    alice.sync(2);
    carol.bytes(&raw::accept(1, Some(&completion)));
    assert!(matches!(carol.outcome(1), Outcome::Results(_)));
    for peer in [&mut carol, &mut thief] {
        peer.bytes(&raw::accept(2, Some(&completion)));
        let outcome = peer.outcome(2);
        let Outcome::Exception(reason) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("was fetched before"), "{reason}");
    }
}

/// Names a place of its own where a vat can be, to which a peer has to be sent.
fn place() -> (UnixListener, Token) {
    let name = format!("strangers-{}-{}", process::id(), number());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
    let address = Address::UnixAbstract(name).to_string();
    (listener.unwrap(), bearer::introduce([address]).unwrap().contact)
}

/// Waits for a call of a vine.
fn called(introducer: &mut RawPeer) -> u32 {
    introducer.receive_until("a call of a vine", |said| match said {
        Said::Call { target: Target::Import(vine), .. } => Some(*vine),
        _ => None,
    })
}

/// The others are called through the introducer, and the end of a connection makes room.
#[test]
fn a_peer_makes_a_vat_connect_to_so_many_others() {
    let _watchdog = Watchdog::start();
    let mut limits = Limits::default();
    limits.introduced = 2;
    let vat = Vat::new();
    let target = any(&vat, Concurrency::Concurrent, |call| {
        let first = call.params().caps()[0].clone();
        call.forward(&first);
    });
    let bob = RpcSystem::builder(&vat, Sockets::<true>::listening())
        .bootstrap(target)
        .limits(limits)
        .introduction_timeout(LONG)
        .start()
        .unwrap();
    let (mut alice, object) = connect(&bob);
    let object = Target::Import(object);
    let hosts = [(); 4].map(|()| place());
    let [mut first, second] = [(1, &hosts[0]), (2, &hosts[1])].map(|(question, host)| {
        let (listener, contact) = host;
        alice.bytes(&raw::call_with_contact(question, &object, 0, Some(contact)));
        let mut peer = RawPeer::over(listener.accept().unwrap().0);
        peer.receive_until("an Accept", |said| (*said == Said::Other).then_some(()));
        peer
    });
    for (question, (_, contact)) in [(3, &hosts[2]), (4, &hosts[3])] {
        alice.bytes(&raw::call_with_contact(question, &object, 0, Some(contact)));
        assert_eq!(called(&mut alice), question);
    }
    // A host to which the vat is connected is not counted twice.
    let (_, contact) = &hosts[0];
    alice.bytes(&raw::call_with_contact(5, &object, 0, Some(contact)));
    first.receive_until("another Accept", |said| (*said == Said::Other).then_some(()));
    assert_eq!(bob.connection_count(), 3);

    drop(second);
    assert_eq!(called(&mut alice), 2);
    let [_, _, (third, contact), (unreached, _)] = hosts;
    let reached = Event::new();
    let host = thread::spawn({
        let reached = reached.clone();
        move || {
            let (connection, _) = third.accept().unwrap();
            reached.set();
            drop(connection);
        }
    });
    // The connection may still be about to end.
    for question in 6.. {
        alice.bytes(&raw::call_with_contact(question, &object, 0, Some(&contact)));
        assert_eq!(called(&mut alice), question);
        if reached.is_set() {
            break;
        }
    }
    host.join().unwrap();
    unreached.set_nonblocking(true).unwrap();
    assert!(unreached.accept().is_err(), "one more than allowed was dialled");
}
