//! Every time limit may be zero, or as long as a `Duration` can be.

use std::time::Duration;

use capnp_threads_core::network::{Reached, VatNetwork};
use capnp_threads_endpoint::{
    ConnectErrorCode, ConnectHints, EndpointNetwork, Event, IncomingError, Network, Parameters,
};

const MAX: Duration = Duration::MAX;

fn endless() -> Parameters {
    let mut parameters = Parameters::default();
    parameters.connect_timeout = MAX;
    parameters.heartbeat = MAX;
    parameters.patience = MAX;
    parameters.linger = MAX;
    parameters
}

#[test]
fn the_longest_time_is_as_good_as_endless() {
    let networks = [(); 2].map(|()| Network::bind("127.0.0.1", 0, endless()).unwrap());
    let [here, there] = [0, 1].map(|n: usize| networks[n].new_endpoint().unwrap());
    let hints = ConnectHints::new().timeout(MAX);
    let forth = here.connect(there.address(), hints).unwrap();
    let own = there.connect(there.address(), hints).unwrap();
    for message in [b"one", b"two"] {
        forth.send(&[message]).unwrap();
    }
    let mut claimed = None;
    while claimed.is_none() {
        if let Some(Event::ConnectionOpened { connection, from }) =
            there.receive_timeout(MAX).unwrap()
            && from == *here.address()
        {
            claimed = there.claim(connection);
        }
    }
    let claimed = claimed.unwrap();
    assert_eq!(claimed.receive_timeout(MAX).unwrap().unwrap(), b"one");
    assert_eq!(claimed.receive().unwrap().unwrap(), b"two");
    drop((forth, own));
    assert_eq!(claimed.receive_timeout(MAX), Ok(None));
    for network in networks {
        network.close();
    }
}

#[test]
fn no_time_at_all_is_not_endless() {
    let mut none = Parameters::default();
    none.connect_timeout = Duration::ZERO;
    none.linger = Duration::ZERO;
    let hasty = Network::bind("127.0.0.1", 0, none).unwrap();
    let ordinary = Network::bind("127.0.0.1", 0, Parameters::default()).unwrap();
    let (here, there) = (hasty.new_endpoint().unwrap(), ordinary.new_endpoint().unwrap());
    let error = here.connect(there.address(), ConnectHints::new()).unwrap_err();
    assert_eq!(error.code, ConnectErrorCode::Timeout);
    assert_eq!(here.receive_timeout(Duration::ZERO), Ok(None));
    // With more time there is a connection, also if the dial of the one without goes on.
    // Further ones need not wait.
    let ample = ConnectHints::new().timeout(Duration::from_secs(60));
    let forth = here.connect(there.address(), ample).unwrap();
    let again = here.connect(there.address(), ConnectHints::new()).unwrap();
    let Event::ConnectionOpened { connection, .. } = there.receive().unwrap() else { panic!() };
    let claimed = there.claim(connection).unwrap();
    let nothing = claimed.receive_timeout(Duration::ZERO);
    assert_eq!(nothing, Err(IncomingError::TimedOut));
    forth.send(&[b"x"]).unwrap();
    assert_eq!(claimed.receive().unwrap().unwrap(), b"x");
    drop((forth, again));
    hasty.close();
}

#[test]
fn peers_that_must_show_life_at_once_are_lost_and_nothing_worse() {
    let mut none = Parameters::default();
    none.heartbeat = Duration::ZERO;
    none.patience = Duration::ZERO;
    let impatient = Network::bind("127.0.0.1", 0, none).unwrap();
    let ordinary = Network::bind("127.0.0.1", 0, Parameters::default()).unwrap();
    let (here, there) = (impatient.new_endpoint().unwrap(), ordinary.new_endpoint().unwrap());
    let connection = here.connect(there.address(), ConnectHints::new()).unwrap();
    loop {
        if let Event::ConnectionLost { peer, reason } = here.receive().unwrap() {
            assert_eq!(peer, *there.address());
            assert!(reason.contains("sign of life"), "{reason}");
            break;
        }
    }
    drop(connection);
}

#[test]
fn vats_wait_as_long_or_as_short() {
    let alice = EndpointNetwork::listening("alice", "127.0.0.1", 0, endless()).unwrap();
    let bob = EndpointNetwork::listening("bob", "127.0.0.1", 0, endless()).unwrap();
    let Reached::Peer(mut here) = alice.connect(&bob.this_vat()).unwrap() else { panic!() };
    let mut there = bob.accept().unwrap().unwrap().transport;
    there.writer.finish().unwrap();
    assert!(here.reader.read().unwrap().is_none());
    here.writer.finish().unwrap();
    assert!(there.reader.read().unwrap().is_none());
    // The next session waits for the end of this one.
    let Reached::Peer(_next) = alice.connect(&bob.this_vat()).unwrap() else { panic!() };

    let mut none = Parameters::default();
    none.connect_timeout = Duration::ZERO;
    let hasty = EndpointNetwork::listening("hasty", "127.0.0.1", 0, none).unwrap();
    assert!(hasty.connect(&bob.this_vat()).is_err());
}
