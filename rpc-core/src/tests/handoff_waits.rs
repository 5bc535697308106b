//! How long those wait who come to a host, and what becomes of calls that do not wait.

use std::sync::atomic::Ordering;
#[cfg(not(rpc_model))]
use std::time::Duration;

use super::handoff_peers::recipient;
use super::handoffs::{ALICE, BOB, CAROL, DAVE, Town, echo_of, token};
#[cfg(not(rpc_model))]
use super::handoffs::{Host, accept, host_in, lift, provide};
use super::neighbours::Neighbourhood;
#[cfg(not(rpc_model))]
use super::net::{End, limits};
use super::raw;
use crate::error::{Error, ErrorKind};
use crate::wire::{Descriptor, ReturnKind};

/// What a host tells next, which another thread brings about.
#[cfg(not(rpc_model))]
fn told(host: &mut Host, end: End) -> String {
    loop {
        if let [told] = &host.sent(end)[..] {
            return told.clone();
        }
        std::thread::yield_now();
    }
}

/// The thread of the deadlines ends the wait. Nothing of it is left.
#[test]
#[cfg(not(rpc_model))]
fn who_comes_for_what_does_not_come_is_told_when_the_time_is_over() {
    for embargo in [None, Some(&b"never lifted"[..])] {
        let network = Neighbourhood::new();
        *network.patience.lock() = Some(Duration::from_millis(1));
        let mut host = host_in(&network, &limits());
        let (introducer, recipient) = (host.introducer, host.recipient);
        if embargo.is_some() {
            host.send(introducer, provide(9, 7));
        }
        host.send(recipient, accept(0, 7, embargo));
        let told = told(&mut host, recipient);
        assert!(told.starts_with("return 0 ") && told.contains("deadline"), "{told}");
        assert_eq!((network.waiting_at(2), host.net.snapshot(recipient).accepts), (0, 0));
        // What comes later finds nobody, and is there for whoever comes then.
        if embargo.is_some() {
            host.send(introducer, lift(9, &[], b"never lifted"));
        } else {
            host.send(introducer, provide(9, 7));
        }
        host.send(recipient, accept(1, 7, embargo));
        host.expect(recipient, &["return 1 results (0) [senderHosted 0]"]);
        host.send(recipient, raw::finish(0, false));
        host.finish();
    }
}

/// Carol has called what Dave then passes on to her, and the connection to him ends before she
/// uses it. Nobody else could lift her embargo, and Bob does not learn of that.
#[test]
fn who_cannot_lift_its_embargo_does_not_wait_for_that() {
    let mut town = Town::new(4);
    town.network.forwards.store(true, Ordering::SeqCst);
    let [bob, dave] = [town.has(ALICE, BOB), town.has(ALICE, DAVE)];
    town.objects[DAVE].keep();
    let given = town.net.call(&dave, 1, &[bob]);
    town.net.settle();
    let daves = town.given(DAVE);
    let carols = town.has(CAROL, DAVE);
    town.objects[DAVE].hold();
    let asked = town.net.call(&carols, 2, &[]);
    // What is sent to the field of it counts as a call.
    let field = asked.pipelined(0);
    let sent = town.net.call(&carols, 3, &[field.clone()]);
    town.net.settle();
    town.objects[DAVE].answer_with(&[daves.clone()]);
    town.net.settle();
    town.objects[DAVE].answer_with(&[]);
    town.net.settle();
    assert_eq!(town.network.forwarded.load(Ordering::SeqCst), 1);
    let cut = town.end(CAROL, DAVE);
    town.net.cut(cut);
    town.net.settle();

    let called = town.net.call(&field, 4, &[]);
    town.net.settle();
    assert_eq!(called.error().kind(), ErrorKind::Disconnected);
    assert_eq!(town.network.waiting_at(u8::try_from(BOB).unwrap()), 0);
    assert_eq!(town.objects[BOB].seen(), []);
    town.objects[DAVE].acknowledge();
    drop((given, asked, sent, called, field, daves, carols, dave));
    town.net.finish();
}

/// What was sent behind the Accept fails with it. What comes afterwards is not sent there.
#[test]
fn calls_that_follow_an_accept_fail_at_a_host_of_level_1() {
    let network = Neighbourhood::new();
    network.pipelines.store(true, Ordering::SeqCst);
    let (mut vat, cap) = recipient(&network);
    let (introducer, host) = (vat.introducer, vat.recipient);
    let called = vat.net.call(&cap, 2, &[]);
    vat.expect(host, &["accept 0", "call 1 on #0 (2)"]);
    vat.expect(introducer, &[]);
    vat.net.inject(host, echo_of(|root| root.init_accept().set_question_id(0)));
    // It knows nothing of the question on which the call depends.
    let unknown = Error::failed("pipelined on what was not asked");
    vat.send(host, raw::ret_with(1, ReturnKind::Exception(unknown)));
    assert_eq!(called.error().kind(), ErrorKind::Failed);
    let late = vat.net.call(&cap, 3, &[]);
    assert_eq!(late.error().kind(), ErrorKind::Unimplemented);
    vat.expect(introducer, &["release 4 x1"]);
    assert!(vat.net.machine(host).failure().is_none());

    // From now on such a host is called through the introducer.
    let again = Descriptor::ThirdPartyHosted(5, token(&[2, 0, 8]));
    vat.send(introducer, raw::call(2, raw::on(0), 4, &[again]));
    vat.expect(introducer, &["return 2 results (4) noFinishNeeded"]);
    let other = vat.object.kept_one();
    let through = vat.net.call(&other, 5, &[]);
    vat.expect(introducer, &["call 0 on 5 (5)"]);
    drop((called, late, through, cap, other));
    vat.finish();
}
