//! Many threads on one connection, at both of its ends.

use std::thread;

use capnp_threads_core::{ConnConfig, Connection, Limits, Vat};
use rpc_schema::test_capnp::test_more_stuff;

use crate::desk::Desk;
use crate::ledger::Ledger;
use crate::settings::{for_seeds, steps, threads};
use crate::worker::{Accepts, Mix, Worker, clear_exchange};
use rpc_tests::support::{LONG, Watchdog, Wire, settle, threads_named, until, vat};

/// Two vats that offer each other a desk.
struct Ends {
    name: String,
    vats: [Vat; 2],
    connections: [Connection; 2],
}

impl Ends {
    fn new(plan: &Plan, ledger: &Ledger) -> Self {
        let Plan { wire, mix, .. } = *plan;
        let name =
            format!("s{}{}{}", &format!("{mix:?}")[..1], &format!("{wire:?}")[..1], plan.ends);
        let vats = [vat(&name), vat(&name)];
        let (left, right) = wire.pair();
        let config = |vat: &Vat| {
            let mut limits = Limits::default();
            limits.questions = u32::try_from(plan.questions).unwrap();
            let config = ConnConfig::new().limits(limits).flow_limit(plan.flow_limit);
            config.bootstrap(Desk::concurrent(vat, ledger))
        };
        let connections = [
            vats[0].connect(left, config(&vats[0])).unwrap(),
            vats[1].connect(right, config(&vats[1])).unwrap(),
        ];
        Ends { name, vats, connections }
    }

    fn end(self) {
        let [left, right] = &self.connections;
        settle(left, right);
        left.close();
        assert!(left.join_timeout(LONG).unwrap());
        assert!(right.join_timeout(LONG).unwrap());
        for vat in &self.vats {
            assert_eq!(vat.connection_count(), 0);
            assert!(vat.shutdown(LONG).unwrap());
        }
        until("threads to go", || threads_named(&self.name) == 0);
    }
}

/// What the ends are like, and who works there.
struct Plan {
    wire: Wire,
    mix: Mix,
    questions: usize,
    flow_limit: u64,
    threads: usize,
    /// At how many ends the threads are.
    ends: usize,
}

impl Plan {
    fn new(wire: Wire, usual: usize) -> Self {
        let threads = threads(usual);
        // Every thread may leave some calls unanswered: nobody may wait for those.
        let questions = 64 * threads;
        Plan { wire, mix: Mix::Everything, questions, flow_limit: u64::MAX, threads, ends: 2 }
    }
}

fn round(plan: &Plan, seed: u64, steps: usize) {
    let ledger = Ledger::default();
    let ends = Ends::new(plan, &ledger);
    let desks = ends.connections.each_ref().map(Connection::bootstrap::<test_more_stuff::Client>);
    thread::scope(|scope| {
        for number in 0..plan.threads {
            let end = number % plan.ends;
            let (vat, desk) = (&ends.vats[end], desks[end].clone());
            let seed = seed.wrapping_mul(1 << 20).wrapping_add(number as u64);
            let worker = Worker::new(&ledger, seed, vat, desk, Accepts::Nothing);
            let worker = worker.with_mix(plan.mix);
            thread::Builder::new()
                .name(format!("thread {number}"))
                .spawn_scoped(scope, move || worker.run(steps, |_| ()))
                .unwrap();
        }
    });
    clear_exchange(&ledger, &ends.vats[0], Accepts::Nothing);
    until("closures to run", || ledger.closures() == 0);
    for desk in desks {
        desk.hold_request().call().unwrap();
    }
    ends.end();
    ledger.assert_right();
    assert!(steps < 10 || plan.mix == Mix::Answered || ledger.arrived() > 0);
    until("every object to be dropped", || ledger.census().alive() == 0);
}

#[test]
fn many_threads_share_a_connection_in_memory() {
    let _watchdog = Watchdog::start();
    for_seeds(|seed| round(&Plan::new(Wire::Memory, 64), seed, steps(30)));
}

#[test]
fn many_threads_share_a_unix_socket() {
    let _watchdog = Watchdog::start();
    for_seeds(|seed| round(&Plan::new(Wire::Unix, 64), seed, steps(30)));
}

#[test]
fn many_threads_share_a_tcp_connection() {
    let _watchdog = Watchdog::start();
    for_seeds(|seed| round(&Plan::new(Wire::Tcp, 64), seed, steps(30)));
}

#[test]
fn many_threads_share_an_encrypted_connection() {
    let _watchdog = Watchdog::start();
    for_seeds(|seed| round(&Plan::new(Wire::Tls, 64), seed, steps(30)));
}

#[test]
fn a_few_threads_share_a_narrow_pipe() {
    let _watchdog = Watchdog::start();
    for_seeds(|seed| round(&Plan::new(Wire::Bytes, 6), seed, steps(60)));
}

/// All of them call the other side, whose methods call back, at both ends.
#[test]
fn many_threads_share_two_questions() {
    let _watchdog = Watchdog::start();
    let plan = Plan { mix: Mix::Answered, questions: 2, ..Plan::new(Wire::Memory, 64) };
    for_seeds(|seed| round(&plan, seed, steps(30)));
}

/// Their calls wait for each other's answers, and those for call-backs.
#[test]
fn many_threads_wait_for_a_flow_limit() {
    let _watchdog = Watchdog::start();
    let usual = Plan::new(Wire::Unix, 64);
    let plan = Plan { mix: Mix::Answered, flow_limit: 100, ends: 1, ..usual };
    for_seeds(|seed| round(&plan, seed, steps(30)));
}
