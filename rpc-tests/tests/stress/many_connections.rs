//! Many connections through one vat, which stands between all others: what one
//! leaves with it, another one calls through it.

use std::thread;

use capnp_threads_core::{ConnConfig, Connection, Limits, Vat};
use rpc_schema::test_capnp::test_more_stuff;

use crate::desk::Desk;
use crate::ledger::Ledger;
use crate::settings::{for_seeds, steps, threads};
use crate::worker::{Accepts, Worker, clear_exchange};
use rpc_tests::support::{
    LONG, Random, Watchdog, Wire, settle, threads_named, until, vat, vat_that_shares_threads,
};

/// How many vats are around the one in the middle.
const LEAVES: usize = 4;

/// A connection between a leaf and the hub.
struct Spoke {
    leaf: usize,
    here: Connection,
    there: Connection,
}

/// `hub` makes the vat in the middle. The names of all threads begin with `prefix`.
fn round(
    hub: fn(&str) -> Vat,
    prefix: &str,
    seed: u64,
    connections: usize,
    threads: usize,
    steps: usize,
) {
    let ledger = Ledger::default();
    let mut random = Random::new(seed);
    let hub = &hub(&format!("{prefix}h"));
    let leaves: [Vat; LEAVES] = std::array::from_fn(|_| vat(&format!("{prefix}l")));
    // One desk for all: what it holds came over any of the connections.
    let shared = Desk::concurrent(hub, &ledger);
    let config = || {
        let mut limits = Limits::default();
        limits.questions = u32::try_from(64 * threads * connections).unwrap();
        ConnConfig::new().limits(limits)
    };
    let spokes: Vec<_> = (0..connections)
        .map(|number| {
            let wire = Wire::ALL[random.below(Wire::ALL.len())];
            let (here, there) = wire.pair();
            let leaf = number % LEAVES;
            let there = hub.connect(there, config().bootstrap(shared.clone())).unwrap();
            Spoke { leaf, here: leaves[leaf].connect(here, config()).unwrap(), there }
        })
        .collect();
    drop(shared);
    let desks: Vec<test_more_stuff::Client> =
        spokes.iter().map(|spoke| spoke.here.bootstrap()).collect();
    thread::scope(|scope| {
        for (spoke, desk) in spokes.iter().zip(&desks) {
            for _ in 0..threads {
                let vat = &leaves[spoke.leaf];
                let worker =
                    Worker::new(&ledger, random.draw(), vat, desk.clone(), Accepts::Nothing);
                scope.spawn(move || worker.run(steps, |_| ()));
            }
        }
    });
    clear_exchange(&ledger, &leaves[0], Accepts::Nothing);
    until("closures to run", || ledger.closures() == 0);
    desks[0].hold_request().call().unwrap();
    drop(desks);
    for spoke in &spokes {
        settle(&spoke.here, &spoke.there);
    }
    for spoke in spokes {
        spoke.there.close();
        assert!(spoke.here.join_timeout(LONG).unwrap());
        assert!(spoke.there.join_timeout(LONG).unwrap());
    }
    for vat in leaves.iter().chain([hub]) {
        assert_eq!(vat.connection_count(), 0);
        assert!(vat.shutdown(LONG).unwrap());
    }
    until("threads to go", || threads_named(prefix) == 0);
    ledger.assert_right();
    until("every object to be dropped", || ledger.census().alive() == 0);
}

#[test]
fn many_connections_meet_in_one_vat() {
    let _watchdog = Watchdog::start();
    for_seeds(|seed| round(vat, "sm", seed, 32, threads(4), steps(15)));
}

#[test]
fn many_connections_share_the_threads_of_one_vat() {
    let _watchdog = Watchdog::start();
    for_seeds(|seed| round(vat_that_shares_threads, "ss", seed, 32, threads(4), steps(15)));
}
