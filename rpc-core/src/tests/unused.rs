//! Connections that end because they are unused. See Note [idle].

use super::net::{End, Net};
use crate::cap::client::Client;
use crate::error::ErrorKind;
use crate::protocol::idle::Unused;

fn net() -> (Net, [End; 2]) {
    let mut net = Net::new();
    let ours = net.object("ours").1;
    let theirs = net.object("theirs").1;
    let (a, b) = net.link(Some(ours), Some(theirs));
    (net, [a, b])
}

#[test]
fn two_sides_without_anything_under_way_end_when_one_is_idle() {
    let (mut net, [a, b]) = net();
    drop(net.bootstrapped(a));
    net.settle();
    assert!(net.machine(a).declare_idle());
    assert!(!net.machine(a).declare_idle(), "it is idle already");
    assert_eq!(net.machine(a).try_bootstrap(None, Ok(None)).unwrap_err(), Unused::Idle);
    net.deliver(a, "idle");
    assert_eq!(net.machine(b).try_bootstrap(None, Ok(None)).unwrap_err(), Unused::Ended);
    net.deliver(b, "end");
    assert_eq!(net.machine(a).try_bootstrap(None, Ok(None)).unwrap_err(), Unused::Ended);
    for end in [a, b] {
        let error = net.machine(end).failure().unwrap();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
    }
    net.finish();
}

#[test]
fn a_side_that_holds_something_is_not_idle() {
    let (mut net, [a, b]) = net();
    let held = net.bootstrapped(a);
    assert!(!net.machine(a).declare_idle());
    assert!(!net.machine(b).declare_idle());
    assert!(!net.machine(a).end_if_unused());
    drop(held);
    net.settle();
    assert!(net.machine(b).declare_idle());
    net.finish();
}

#[test]
fn what_begins_at_the_same_time_wakes_the_side_that_is_idle() {
    let (mut net, [a, b]) = net();
    assert!(net.machine(a).declare_idle());
    let theirs = net.bootstrap(b);
    let call = net.call(&theirs, 1, &[]);
    net.deliver(a, "idle");
    assert_eq!(net.machine(b).failure(), None);
    net.deliver(b, "bootstrap 0");
    assert!(!net.machine(a).is_idle());
    drop(net.machine(a).try_bootstrap(None, Ok(None)).unwrap());
    net.settle();
    call.ok();
    drop((theirs, call));
    net.finish();
}

#[test]
fn two_sides_that_rest_at_the_same_time_both_end() {
    let (mut net, [a, b]) = net();
    assert!(net.machine(a).declare_idle());
    assert!(net.machine(b).declare_idle());
    net.settle();
    for end in [a, b] {
        assert_eq!(net.machine(end).try_bootstrap(None, Ok(None)).unwrap_err(), Unused::Ended);
    }
    net.finish();
}

#[test]
fn the_loss_of_a_connection_that_is_idle_loses_nothing() {
    let (mut net, [a, b]) = net();
    assert!(net.machine(a).declare_idle());
    net.cut(a);
    assert_eq!(net.machine(a).try_bootstrap(None, Ok(None)).unwrap_err(), Unused::Ended);
    net.settle();
    assert_eq!(net.machine(b).try_bootstrap(None, Ok(None)).unwrap_err(), Unused::Ended);
    net.finish();
}

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn nothing_that_could_begin_fails_whenever_sides_are_idle() {
    let mut ended = 0;
    for seed in 0..2000 {
        let mut dice = Dice(seed);
        let (mut net, ends) = net();
        let mut calls = Vec::new();
        let mut held: Vec<Client> = Vec::new();
        for _ in 0..40 {
            let end = ends[usize::try_from(dice.roll(2)).unwrap()];
            match dice.roll(6) {
                0 => _ = net.machine(end).declare_idle(),
                1 => {
                    // Otherwise it would wait, or take another connection.
                    if let Ok(client) = net.machine(end).try_bootstrap(None, Ok(None)) {
                        calls.push(net.call(&client, 1, &[]));
                        held.push(client);
                    }
                }
                2 => held.clear(),
                _ if net.queued(end) > 0 => {
                    net.deliver_one(end);
                    net.run();
                }
                _ => {}
            }
        }
        net.settle();
        for call in &calls {
            assert!(call.result().is_some_and(|result| result.is_ok()), "seed {seed}");
        }
        drop((calls, held));
        net.settle();
        // Nobody waits for ever to be allowed to begin.
        for end in ends {
            let awake = net.machine(end).try_bootstrap(None, Ok(None)).is_ok();
            let dead = net.machine(end).failure().is_some();
            assert!(awake || dead, "seed {seed}");
            ended += usize::from(dead);
        }
        net.finish();
    }
    assert!(ended > 100, "{ended}");
}
