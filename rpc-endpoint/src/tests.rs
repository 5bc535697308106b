//! Tests over real sockets. Times are only given where something must not hang
//! or where a time limit is what is tested; no outcome depends on how fast
//! anything is.
#![allow(clippy::unwrap_used, clippy::large_stack_arrays)]

mod connections;
mod crossing;
mod faults;
mod handshakes;
mod introductions;
mod keys;
mod leaving;
mod limits;
mod multiplexed;
mod originals;
mod raw;
mod reading;
mod scripts;
mod vats;
mod writing;

use std::time::{Duration, Instant};

use super::*;

/// Long enough for everything that is to happen.
const AMPLE: Duration = Duration::from_secs(60);

const DIALECTS: [Dialect; 3] = [Dialect::Original, Dialect::Versioned, Dialect::Multiplexed];

fn parameters(dialect: Dialect) -> Parameters {
    Parameters { dialect, connect_timeout: AMPLE, linger: AMPLE, ..Parameters::default() }
}

fn network(dialect: Dialect) -> Network {
    Network::bind("127.0.0.1", 0, parameters(dialect)).unwrap()
}

fn endpoint(network: &Network) -> Endpoint {
    network.new_endpoint().unwrap()
}

fn next(endpoint: &Endpoint) -> Event {
    endpoint.receive_timeout(AMPLE).unwrap().unwrap()
}

fn connect(from: &Endpoint, to: &Endpoint) -> Connection {
    from.connect(to.address(), ConnectHints::new()).unwrap()
}

fn next_opened(endpoint: &Endpoint, from: &EndpointAddress) -> ConnectionId {
    let event = next(endpoint);
    let Event::ConnectionOpened { connection, from: who, .. } = &event else {
        panic!("{event:?}");
    };
    assert_eq!(who, from);
    *connection
}

fn expect_received(endpoint: &Endpoint, connection: ConnectionId, message: &[u8]) {
    assert_eq!(next(endpoint), Event::Received { connection, message: message.to_vec() });
}

fn expect_closed(endpoint: &Endpoint, connection: ConnectionId) {
    assert_eq!(next(endpoint), Event::ConnectionClosed { connection });
}

fn expect_lost(endpoint: &Endpoint, lost: &EndpointAddress) -> String {
    let event = next(endpoint);
    let Event::ConnectionLost { peer, reason } = event else { panic!("{event:?}") };
    assert_eq!(peer, *lost);
    reason
}

/// Waits until something holds that other threads bring about.
#[track_caller]
fn until(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < AMPLE, "it does not come about");
        std::thread::yield_now();
    }
}

/// Nothing but the end is to come.
fn expect_end(endpoint: &Endpoint) {
    endpoint.close();
    assert_eq!(next(endpoint), Event::EndpointClosed);
    assert_eq!(endpoint.receive(), Err(ReceiveError::Closed));
    assert_eq!(endpoint.receive_timeout(AMPLE), Err(ReceiveError::Closed));
}
