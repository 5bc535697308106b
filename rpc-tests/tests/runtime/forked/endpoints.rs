//! What a forked child does to the endpoints of its parent: nothing. It is one test in a
//! process of its own.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use capnp_threads_core::{Reached, VatNetwork};
use capnp_threads_endpoint::{
    ConnectHints, EndpointNetwork, EndpointVat, Event, IncomingError, Network, Parameters,
    ReceiveError, SendError,
};

/// Forks a child, which reports whether something holds and ends. Waits for it.
fn in_a_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child uses nothing that it shares with the parent but what the operating
    // system shares, and no lock that another thread of the parent may have held, except
    // those of the allocator, which are prepared for this.
    match unsafe { libc::fork() } {
        0 => {
            let holds = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
            // SAFETY: the child ends here, without what the parent registered for its end.
            unsafe { libc::_exit(i32::from(!holds)) }
        }
        pid => {
            assert!(pid > 0);
            let mut status = 0;
            // SAFETY: the status is written to a variable of ours.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            status == 0
        }
    }
}

#[test]
fn a_child_leaves_its_parent_alone() {
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

    let held = in_a_child(|| {
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
    assert!(held, "the child could use what is its parent's");

    let (networks, here, there, forth, claimed, alice, bob, transport) = all.take().unwrap();
    forth.send(&[b"x"]).unwrap();
    assert_eq!(claimed.receive().unwrap().unwrap(), b"x");
    let again = there.connect(here.address(), ConnectHints::new()).unwrap();
    let Event::ConnectionOpened { .. } = here.receive().unwrap() else { panic!() };
    let accepted = bob.accept().unwrap().unwrap();
    assert_eq!(accepted.peer, alice.this_vat());
    drop((again, accepted, transport, networks));
}
