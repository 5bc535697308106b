//! How many threads the vats behind one socket can start.

use std::time::Duration;

use capnp_threads_core::{RpcSystem, Vat};
use capnp_threads_endpoint::{
    ConnectHints, Endpoint, EndpointAddress, EndpointNetwork, Event, Network, Parameters,
};
use rpc_tests::support::alone;

const CROWD: u64 = 1500;
const AMPLE: Duration = Duration::from_secs(60);

/// The first message of a half for the vat Bob.
fn hello(from: &str, serial: u64) -> Vec<u8> {
    let mut bytes = b"RPC1\0\0\0\0".to_vec();
    bytes.extend(serial.to_be_bytes());
    bytes.extend([0; 8]);
    for text in ["bob", from] {
        bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits for the refusal of a half.
fn expect_refusal(crowd: &Endpoint, bob: &EndpointAddress) {
    loop {
        match crowd.receive_timeout(AMPLE).unwrap() {
            Some(Event::Received { message, .. }) => {
                // Whoever is not refused is answered with a half.
                if message[4..8] == [0, 0, 0, 1] {
                    return;
                }
            }
            Some(Event::ConnectionOpened { from, .. }) => assert_eq!(from, *bob),
            Some(Event::ConnectionClosed { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_crowd_of_vats_behind_one_socket_starts_few_threads() {
    if !alone("endpoints::crowd::a_crowd_of_vats_behind_one_socket_starts_few_threads") {
        return;
    }
    let network = EndpointNetwork::listening("bob", "127.0.0.1", 0, Parameters::default()).unwrap();
    let address = network.this_vat().hints()[0].clone();
    let bob = RpcSystem::builder(&Vat::new(), network).start().unwrap();
    let network = Network::bind("127.0.0.1", 0, Parameters::default()).unwrap();
    let crowd = network.new_endpoint().unwrap();
    // One thread reads its socket and one writes, on both sides.
    let before = threads() + 4;

    let limit = u64::try_from(Parameters::default().max_sessions_per_peer).unwrap();
    let mut halves = Vec::new();
    for number in 1..=CROWD {
        let half = crowd.connect(&address, ConnectHints::new()).unwrap();
        half.send_vec(hello(&format!("vat-{number}"), number)).unwrap();
        halves.push(half);
        if number > limit {
            expect_refusal(&crowd, &address);
        }
    }
    // Each session has three threads, and a few workers help.
    let most = before + 4 * usize::try_from(limit).unwrap();
    assert!(threads() <= most, "{} threads, {before} without sessions", threads());
    assert!(bob.connection_count() <= usize::try_from(limit).unwrap());
}
