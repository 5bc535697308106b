//! Endpoints of the parent, and the vats on top of them.

use capnp_threads_core::network::{Reached, VatNetwork};
use capnp_threads_endpoint::{
    ConnectHints, EndpointNetwork, EndpointVat, Event, IncomingError, Network, Parameters,
    ReceiveError, SendError,
};
use rpc_tests::support::alone;

use super::Child;

#[test]
fn a_child_leaves_its_parent_alone() {
    if !alone("forked::endpoints::a_child_leaves_its_parent_alone") {
        return;
    }
    let networks = [(); 2].map(|()| Network::bind("127.0.0.1", 0, Parameters::default()).unwrap());
    let [here, there] = [0, 1].map(|n: usize| networks[n].new_endpoint().unwrap());
    let forth = here.connect(there.address(), ConnectHints::new()).unwrap();
    let Event::ConnectionOpened { connection, .. } = there.receive().unwrap() else { panic!() };
    let claimed = there.claim(connection).unwrap();
    let (alice, bob) = ("alice", "bob");
    let [alice, bob] = [alice, bob]
        .map(|id| EndpointNetwork::listening(id, "127.0.0.1", 0, Parameters::default()).unwrap());
    let Reached::Peer(transport) = alice.connect(&bob.this_vat()).unwrap() else { panic!() };
    let mut all = Some((networks, here, there, forth, claimed, alice, bob, transport));

    let child = Child::start(|| {
        let (networks, here, there, forth, claimed, alice, bob, mut transport) =
            all.take().unwrap();
        let refused = here.connect(there.address(), ConnectHints::new()).is_err()
            && matches!(forth.send(&[b"x"]), Err(SendError::Failed(_)))
            && there.receive() == Err(ReceiveError::Forked)
            && matches!(claimed.receive(), Err(IncomingError::Lost(_)))
            && networks[0].new_endpoint().is_err()
            && !here.drop_peer(there.address())
            && alice.connect(&EndpointVat::new("bob").unwrap()).is_err()
            && bob.accept().is_err()
            && transport.reader.read().is_err()
            && transport.writer.finish().is_err();
        transport.control.shutdown();
        forth.close();
        bob.shutdown();
        // Everything is dropped.
        refused
    });
    child.succeeds();

    let (networks, here, there, forth, claimed, alice, bob, transport) = all.take().unwrap();
    forth.send(&[b"x"]).unwrap();
    assert_eq!(claimed.receive().unwrap().unwrap(), b"x");
    let again = there.connect(here.address(), ConnectHints::new()).unwrap();
    let Event::ConnectionOpened { .. } = here.receive().unwrap() else { panic!() };
    let accepted = bob.accept().unwrap().unwrap();
    assert_eq!(accepted.peer, alice.this_vat());
    drop((again, accepted, transport, networks));
}
