//! Asking a silent peer for a sign of life. See Note [probe].

use super::net::{Net, pair};
use crate::error::ErrorKind;
use crate::runtime::keepalive::Keepalive;
use crate::work::timer::Expire;
use std::sync::Arc;
use std::time::Duration;

const AN_HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_probe_is_answered_and_leaves_nothing_behind() {
    let (mut net, [a, b], _actor, held) = pair();
    let held_by = |net: &Net, end| {
        #[cfg_attr(not(feature = "metrics"), expect(unused_mut))]
        let mut held = net.snapshot(end);
        // What has gone over the connection is counted for good.
        #[cfg(feature = "metrics")]
        {
            held.sent_bytes = 0;
            held.received_bytes = 0;
        }
        held
    };
    let before = (held_by(&net, a), held_by(&net, b));
    for _ in 0..3 {
        assert!(net.machine(a).probe());
        net.deliver(a, "bootstrap 0");
        net.settle();
        assert_eq!((held_by(&net, a), held_by(&net, b)), before);
    }
    drop(held);
    net.finish();
}

#[test]
fn a_connection_on_which_nothing_is_held_is_not_probed() {
    let (mut net, [a, b], _actor, held) = pair();
    drop(held);
    net.settle();
    for end in [a, b] {
        assert!(!net.machine(end).probe());
        assert_eq!(net.queued(end), 0);
    }
    assert!(net.machine(a).declare_idle());
    assert!(!net.machine(a).probe());
    net.settle();
    assert!(!net.machine(a).probe(), "it has ended");
    net.finish();
}

/// The looks are the test's.
fn kept(net: &Net, end: super::net::End) -> Arc<Keepalive> {
    let machine = Arc::downgrade(net.machine(end));
    Keepalive::begin(net.machine(end), AN_HOUR, move |error| {
        machine.upgrade().unwrap().disconnect(error);
    })
}

#[test]
fn a_peer_that_answers_is_kept_and_one_that_does_not_is_given_up() {
    let (mut net, [a, _b], _actor, held) = pair();
    let keepalive = kept(&net, a);
    let look = || Arc::clone(&keepalive).expire();
    for _ in 0..3 {
        look();
        assert_eq!(net.queued(a), 2, "a Bootstrap and its Finish");
        net.settle();
    }
    // What came since the last look is a sign of life, whatever it is.
    let call = net.call(&held, 1, &[]);
    net.settle();
    look();
    net.settle();
    drop(call);
    look();
    assert_eq!(net.machine(a).failure(), None);
    // From here on nothing arrives.
    look();
    let error = net.machine(a).failure().unwrap();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.reason().contains("no sign of life"), "{error}");
    look();
    drop(held);
    net.finish();
}
