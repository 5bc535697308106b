//! Peers that do not keep to the rules of handoffs, do not answer, or do what this library
//! does not do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
#[cfg(not(rpc_model))]
use std::time::Duration;

use super::content;
use super::handoffs::{
    ALICE, BOB, CAROL, DAVE, Gift, Given, Host, Town, accept, echo_of, gift, host, host_with, lift,
    provide, token,
};
use super::neighbours::Neighbourhood;
use super::net::{Net, limits};
use super::raw;
use crate::cap::client::Client;
use crate::cap::payload::Payload;
use crate::cap::promise::promise;
use crate::cap::watch::Watcher;
use crate::error::Error;
use crate::limits::Limits;
use crate::wire::{self, Context, Descriptor, Disembargo, Message, Provide, Target};
use crate::work::event::Event;

/// A vat that was given a capability of a third vat, and its two raw peers.
pub(super) fn recipient(network: &Arc<Neighbourhood>) -> (Host, Client) {
    recipient_of(&limits(), network, &[2, 0, 7])
}

fn recipient_of(limits: &Limits, network: &Arc<Neighbourhood>, contact: &[u8]) -> (Host, Client) {
    let mut net = Net::new();
    let (object, client) = net.object("carol");
    object.keep();
    let introducer = net.raw_side_in_with(limits.clone(), network, (1, 0), Some(client));
    let host = net.raw_side_in(network, (1, 2), None);
    let mut vat = Host { net, introducer, recipient: host, object };
    vat.send(introducer, raw::bootstrap(0));
    vat.send(introducer, raw::finish(0, false));
    vat.sent(introducer);
    let cap = Descriptor::ThirdPartyHosted(4, token(contact));
    vat.send(introducer, raw::call(1, raw::on(0), 1, &[cap]));
    vat.sent(introducer);
    let cap = vat.object.kept_one();
    (vat, cap)
}

/// Waiting for a capability uses it, and sends nothing through it.
fn wait_for(cap: &Client) {
    assert!(cap.watch(Watcher::Thread(Arc::new(Event::default()))).is_ok());
}

/// Another thread brings it about.
#[cfg(not(rpc_model))]
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

/// The call would wait for ever if its question were forgotten.
#[test]
fn a_refusal_of_something_else_than_an_accept_changes_nothing() {
    let (mut raw, server) = raw::caller(Net::new());
    let called = raw.net.call(&server, 1, &[]);
    raw.expect(&["call 0 on 0 (1)"]);
    raw.send_built(|root| root.init_unimplemented().init_accept().set_question_id(0));
    raw.expect_alive();
    raw.send(raw::ret(0, 1, &[]));
    called.ok();
    drop((called, server));
    raw.finish();
}

#[test]
fn an_accept_that_is_not_wanted_any_more_may_be_refused() {
    let (mut vat, cap) = recipient(&Neighbourhood::new());
    let host = vat.recipient;
    wait_for(&cap);
    drop(cap);
    // A host that has echoed it may end the connection when it is to be finished.
    vat.expect(host, &["accept 0"]);
    vat.net.inject(host, echo_of(|root| root.init_accept().set_question_id(0)));
    assert!(vat.net.machine(host).failure().is_none());
    assert!(vat.net.snapshot(host).is_empty());
    vat.finish();
}

/// What a host answers that nobody wants any more is given back.
#[cfg(not(rpc_model))]
fn answer_late(vat: &mut Host) {
    let host = vat.recipient;
    let cap = Payload::of_capability(Client::broken(Error::failed("never called")));
    let content = content::message(cap, vec![Descriptor::SenderHosted(5)]);
    vat.send(host, raw::ret_with(0, wire::ReturnKind::Results(content)));
    // The thread that has ended the wait may not be done with the question.
    let mut told = vat.sent(host);
    while !told.iter().any(|line| line.starts_with("finish 0")) {
        std::thread::yield_now();
        told.extend(vat.sent(host));
    }
}

/// A host that has shown what it knows is told at once that nobody waits.
#[test]
fn an_accept_that_is_not_wanted_any_more_is_finished() {
    let (mut vat, cap) = recipient(&Neighbourhood::new());
    let host = vat.recipient;
    vat.net.machine(host).hears_of_handoffs();
    wait_for(&cap);
    drop(cap);
    vat.expect(host, &["accept 0", "finish 0 releaseResultCaps"]);
    vat.send(host, raw::ret_with(0, wire::ReturnKind::Canceled));
    assert!(vat.net.snapshot(host).is_empty());
    vat.finish();
}

/// The host lives, and does not answer. The thread of the deadlines ends the wait.
#[test]
#[cfg(not(rpc_model))]
fn a_host_that_does_not_answer_is_called_through_the_introducer() {
    let network = Neighbourhood::new();
    *network.patience.lock() = Some(Duration::from_millis(1));
    let (mut vat, cap) = recipient(&network);
    let (introducer, host) = (vat.introducer, vat.recipient);
    let called = vat.net.call(&cap, 2, &[]);
    cap.resolve().unwrap();
    vat.expect(host, &["accept 0"]);
    vat.expect(introducer, &["call 0 on 4 (2)"]);
    answer_late(&mut vat);
    // The thread that has ended the wait may still hold what it ended.
    let machine = Arc::clone(vat.net.machine(host));
    until(|| Arc::strong_count(&machine) == 2);
    drop((called, cap, machine));
    vat.finish();
}

/// Alice's vat, which has Bob's object as import 5 and gives it to whoever asks.
pub(super) fn introducer(to_recipient: Limits, to_host: Limits) -> (Host, Client) {
    let mut net = Net::new();
    let network = Neighbourhood::new();
    let (object, client) = net.object("alice");
    let host = net.raw_side_in_with(to_host, &network, (0, 2), None);
    let recipient = net.raw_side_in_with(to_recipient, &network, (0, 1), Some(client));
    let mut vat = Host { net, introducer: host, recipient, object };
    let bob = vat.net.bootstrap(host);
    let nothing = Payload::of_capability(Client::broken(Error::failed("never called")));
    let content = content::message(nothing, vec![Descriptor::SenderHosted(5)]);
    vat.send(host, raw::ret_with(0, wire::ReturnKind::Results(content)));
    vat.expect(host, &["bootstrap 0", "finish 0"]);
    vat.send(recipient, raw::bootstrap(0));
    vat.send(recipient, raw::finish(0, false));
    vat.sent(recipient);
    vat.object.give(vec![bob.clone()]);
    (vat, bob)
}

/// Otherwise somebody who asks often could make the introducer exceed what its host allows.
#[test]
fn no_more_is_introduced_than_a_share_of_what_is_allowed() {
    let few_vines = (Limits { exports: 16, ..limits() }, limits());
    let few_provides = (limits(), Limits { answers: 8, ..limits() });
    let few_provisions = (limits(), Limits { provisions: 2, ..limits() });
    for (to_recipient, to_host) in [few_vines, few_provides, few_provisions] {
        let (mut vat, bob) = introducer(to_recipient, to_host);
        let (recipient, host) = (vat.recipient, vat.introducer);
        for (question, name) in
            [(1, "thirdPartyHosted"), (2, "thirdPartyHosted"), (3, "senderHosted")]
        {
            vat.send(recipient, raw::call(question, raw::on(0), 1, &[]));
            let told = format!("return {question} results (1) [{name} {question}]");
            vat.expect(recipient, &[&told]);
        }
        vat.expect(host, &["provide 2147483648 on 5", "provide 2147483649 on 5"]);
        vat.net.machine(host).hears_of_handoffs();
        vat.send(recipient, raw::release(1, 1));
        vat.expect(host, &["finish 2147483648"]);
        vat.send(recipient, raw::call(4, raw::on(0), 1, &[]));
        vat.expect(recipient, &["return 4 results (1) [thirdPartyHosted 1]"]);
        vat.object.acknowledge();
        drop(bob);
        vat.finish();
    }
}

/// As long as a host has not shown what it knows, it is not told what is taken back: to it, that
/// is still provided.
#[test]
fn what_is_taken_back_counts_until_the_host_is_told() {
    let (mut vat, bob) = introducer(limits(), Limits { provisions: 2, ..limits() });
    let (recipient, host) = (vat.recipient, vat.introducer);
    let mut names = Vec::new();
    for question in 1..=3 {
        vat.send(recipient, raw::call(question, raw::on(0), 1, &[]));
        names.extend(vat.sent(recipient));
        vat.send(recipient, raw::finish(question, true));
    }
    let third = |question| format!("return {question} results (1) [thirdPartyHosted 1]");
    let through = "return 3 results (1) [senderHosted 1]".to_owned();
    assert_eq!(names, [third(1), third(2), through]);
    let provides = ["provide 2147483648 on 5", "provide 2147483649 on 5"];
    let told = vat.sent(host);
    assert_eq!([&*told[0], &*told[3]], provides, "{told:?}");
    assert_eq!(told[1..3], ["bootstrap 0", "finish 0 releaseResultCaps"]);
    vat.send(host, raw::ret_with(0, wire::ReturnKind::Canceled));
    vat.expect(host, &["finish 2147483648", "finish 2147483649"]);
    vat.send(recipient, raw::call(4, raw::on(0), 1, &[]));
    vat.expect(recipient, &[&third(4)]);
    vat.object.acknowledge();
    drop(bob);
    vat.finish();
}

/// An introducer may provide a promise. Its late calls take the path that was described to
/// it, and those of the recipient must not overtake them.
#[test]
fn calls_on_a_provided_promise_follow_those_of_the_introducer() {
    let Host { net, introducer, recipient, object } = host();
    let mut vat = Host { net, introducer, recipient, object };
    let (promised, fulfiller) = promise();
    vat.object.give(vec![promised]);
    vat.send(introducer, raw::call(1, raw::on(0), 1, &[]));
    vat.expect(introducer, &["return 1 results (1) [senderPromise 1]"]);
    vat.object.keep();
    vat.send(introducer, raw::call(2, raw::on(0), 2, &[Descriptor::SenderPromise(6)]));
    vat.sent(introducer);
    let theirs = vat.object.kept_one();
    vat.send(introducer, raw::call(3, raw::on(1), 10, &[]));
    let provide =
        Provide { question: 9, target: Target::ImportedCap(1), recipient: token(&[1, 7]) };
    vat.send(introducer, Message::Provide(provide));
    vat.send(recipient, accept(0, 7, Some(b"e")));
    vat.send(recipient, raw::call(1, raw::on_field(0, &[]), 30, &[]));
    // The promise becomes one of the introducer, and that becomes Bob's own object.
    fulfiller.fulfill(theirs);
    vat.expect(introducer, &["call 0 on 6 (10)", "resolve 1 receiverHosted 6"]);
    vat.send(introducer, raw::resolve(6, Descriptor::ReceiverHosted(0)));
    vat.expect(introducer, &["disembargo senderLoopback 0 on 6"]);
    vat.send(introducer, raw::call(4, raw::on(1), 20, &[]));
    vat.expect(introducer, &["call 1 on 6 (20)"]);
    vat.send(introducer, lift(9, &[], b"e"));
    let round = vat.sent(introducer);
    // What was sent round by the introducer comes back.
    vat.send(introducer, raw::call(5, raw::on(0), 10, &[]));
    vat.send(introducer, raw::lift(raw::on(0), 0));
    vat.send(introducer, raw::call(6, raw::on(0), 20, &[]));
    if round.iter().any(|line| line == "call 2 on 6 (30)") {
        vat.send(introducer, raw::call(7, raw::on(0), 30, &[]));
    }
    assert_eq!(vat.object.seen(), [1, 2, 10, 20, 30]);
    vat.finish();
}

/// Other implementations provide promises, and fields of what is not answered. Whoever comes
/// gets a promise.
#[test]
fn what_is_not_resolved_may_be_provided() {
    for field in [false, true] {
        for broken in [false, true] {
            let mut vat = host();
            let (introducer, recipient) = (vat.introducer, vat.recipient);
            let (other, object) = vat.net.object("other");
            let (promised, fulfiller) = promise();
            let target = if field {
                vat.object.hold();
                vat.send(introducer, raw::call(1, raw::on(0), 1, &[]));
                raw::on_field(1, &[0])
            } else {
                vat.object.give(vec![promised.clone()]);
                vat.send(introducer, raw::call(1, raw::on(0), 1, &[]));
                vat.expect(introducer, &["return 1 results (1) [senderPromise 1]"]);
                raw::on(1)
            };
            let early = Provide { question: 9, target, recipient: token(&[1, 7]) };
            vat.send(introducer, Message::Provide(early));
            vat.send(recipient, accept(0, 7, None));
            vat.send(recipient, raw::call(1, raw::on_field(0, &[]), 2, &[]));
            let told = vat.sent(recipient);
            assert!(told[0].starts_with("return 0 results (0) [senderPromise"), "{told:?}");
            if broken {
                fulfiller.reject(Error::failed("broken"));
            } else {
                fulfiller.fulfill(object.clone());
            }
            if field {
                vat.object.answer_with(&[promised.clone()]);
            }
            vat.net.run();
            let told = vat.sent(recipient).join("\n");
            let seen = if broken { vec![] } else { vec![2] };
            assert_eq!(other.seen(), seen);
            let expected = if broken { "broken" } else { "senderHosted" };
            assert!(told.contains("resolve") && told.contains(expected), "{told}");
            vat.object.acknowledge();
            drop((promised, object));
            vat.finish();
        }
    }
}

/// A recipient of another implementation that does not pass contacts on provides what it has
/// asked for, and has not got.
#[test]
fn what_somebody_waits_for_may_be_provided() {
    let mut vat = host();
    let (introducer, recipient) = (vat.introducer, vat.recipient);
    vat.send(recipient, accept(0, 7, None));
    let target = raw::on_field(0, &[]);
    let passed = Provide { question: 1 << 31, target, recipient: token(&[0, 8]) };
    vat.send(recipient, Message::Provide(passed));
    let provision = token(&[1, 8]);
    let asked = wire::Accept { question: 1, provision, embargo: None };
    vat.send(introducer, Message::Accept(asked));
    let told = vat.sent(introducer);
    assert!(told[0].starts_with("return 1 results (0) [senderPromise"), "{told:?}");
    vat.send(introducer, provide(9, 7));
    vat.expect(recipient, &["return 0 results (0) [senderHosted 0]"]);
    let told = vat.sent(introducer);
    assert!(told[0].starts_with("resolve") && told[0].ends_with("senderHosted 0"), "{told:?}");
    vat.finish();
}

/// What is too much is not kept, and who comes for it is told so. The introducer does not
/// learn of it: it keeps to the rules as if it were there.
#[test]
fn what_is_provided_beyond_the_limit_is_not_kept() {
    let mut vat = host_with(&Limits { provisions: 2, ..limits() });
    let (introducer, recipient) = (vat.introducer, vat.recipient);
    let refused = |vat: &mut Host, question: u32| {
        let [told] = <[String; 1]>::try_from(vat.sent(recipient)).unwrap();
        assert!(told.starts_with(&format!("return {question} overloaded")), "{told}");
    };
    vat.send(recipient, accept(0, 3, None));
    for nonce in 1..=4 {
        vat.send(introducer, provide(nonce.into(), nonce));
    }
    // Whether it comes before or afterwards.
    refused(&mut vat, 0);
    vat.send(recipient, accept(1, 4, Some(b"e")));
    refused(&mut vat, 1);
    vat.send(introducer, lift(4, &[], b"e"));
    vat.send(recipient, accept(2, 2, None));
    vat.expect(recipient, &["return 2 results (0) [senderHosted 0]"]);
    assert_eq!(vat.net.snapshot(introducer).provisions, 4);
    // What was not kept makes no room when it is taken back, and what was kept does.
    vat.send(introducer, raw::finish(3, false));
    vat.send(introducer, provide(5, 5));
    vat.send(recipient, accept(3, 5, None));
    refused(&mut vat, 3);
    vat.send(introducer, raw::finish(1, false));
    vat.send(introducer, provide(6, 6));
    vat.send(recipient, accept(4, 6, None));
    vat.expect(recipient, &["return 4 results (0) [senderHosted 0]"]);
    vat.expect(introducer, &[]);
    vat.finish();
}

/// What need not wait needs no place.
#[test]
fn who_comes_while_too_many_wait_is_told_so() {
    let mut vat = host_with(&Limits { accepts: 2, ..limits() });
    let (introducer, recipient) = (vat.introducer, vat.recipient);
    vat.send(introducer, provide(9, 9));
    vat.send(recipient, accept(0, 1, None));
    vat.send(recipient, accept(1, 9, Some(b"e")));
    vat.expect(recipient, &[]);
    for (question, nonce, embargo) in [(2, 2, None), (3, 9, Some(&b"f"[..]))] {
        vat.send(recipient, accept(question, nonce, embargo));
        let [told] = <[String; 1]>::try_from(vat.sent(recipient)).unwrap();
        assert!(told.starts_with(&format!("return {question} overloaded")), "{told}");
    }
    assert_eq!(vat.net.snapshot(recipient).accepts, 2);
    vat.send(recipient, accept(4, 9, None));
    vat.expect(recipient, &["return 4 results (0) [senderHosted 0]"]);
    // Whoever gives up, or gets it, makes room.
    vat.send(recipient, raw::finish(0, true));
    vat.expect(recipient, &["return 0 canceled"]);
    vat.send(introducer, lift(9, &[], b"e"));
    vat.expect(recipient, &["return 1 results (0) [senderHosted 0]"]);
    vat.send(recipient, accept(5, 2, None));
    vat.send(recipient, accept(6, 3, None));
    vat.expect(recipient, &[]);
    assert_eq!(vat.net.snapshot(recipient).accepts, 2);
    vat.finish();
}

/// A vat that comes to itself waits in one of the places of the peer that has sent it there.
#[test]
fn what_is_sent_home_waits_in_a_place_of_who_sends_it() {
    let limits = Limits { accepts: 0, ..limits() };
    let (mut vat, cap) = recipient_of(&limits, &Neighbourhood::new(), &[1, 0, 7]);
    let introducer = vat.introducer;
    let called = vat.net.call(&cap, 2, &[]);
    vat.expect(introducer, &["call 0 on 4 (2)"]);
    drop((called, cap));
    vat.finish();
}

fn lift_at_vine(vine: u32, embargo: &[u8]) -> Message {
    let context = Context::Accept(embargo.into());
    Message::Disembargo(Disembargo { target: Target::ImportedCap(vine), context })
}

fn lifts(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.starts_with("disembargo accept")).count()
}

/// A host of level 1 may only echo a Provide, and end the connection when it gets the Disembargo.
/// So it is asked something in between, unless it has shown what it knows.
#[test]
fn a_host_that_may_not_know_handoffs_is_not_told_of_embargoes() {
    for refused in [false, true] {
        let (mut vat, bob) = introducer(limits(), limits());
        let (recipient, host) = (vat.recipient, vat.introducer);
        vat.send(recipient, raw::call(1, raw::on(0), 1, &[]));
        vat.expect(recipient, &["return 1 results (1) [thirdPartyHosted 1]"]);
        vat.send(recipient, lift_at_vine(1, b"e"));
        vat.send(recipient, lift_at_vine(1, b"f"));
        let told = vat.sent(host);
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[..2], ["provide 2147483648 on 5", "bootstrap 0"]);
        if refused {
            vat.net.inject(host, echo_of(|root| root.init_provide().set_question_id(1 << 31)));
        }
        vat.send(host, raw::ret_with(0, wire::ReturnKind::Canceled));
        let both = ["disembargo accept on #2147483648"; 2];
        vat.expect(host, if refused { &[] } else { &both });
        vat.send(recipient, lift_at_vine(1, b"g"));
        vat.expect(host, if refused { &[] } else { &both[..1] });
        vat.object.acknowledge();
        drop(bob);
        vat.finish();
    }
}

/// Between the step that names the vine and the one that sends the Provide, another thread takes
/// in that the recipient lifts its embargo.
#[test]
fn an_embargo_that_is_lifted_before_the_provide_has_left_is_lifted_behind_it() {
    let (mut vat, bob) = introducer(limits(), limits());
    let (recipient, host) = (vat.recipient, vat.introducer);
    vat.net.machine(host).hears_of_handoffs();
    vat.send(recipient, raw::call(1, raw::on(0), 1, &[]));
    vat.expect(recipient, &["return 1 results (1) [thirdPartyHosted 1]"]);
    vat.expect(host, &["provide 2147483648 on 5"]);
    vat.object.hold();
    vat.send(recipient, raw::call(2, raw::on(0), 2, &[]));
    let held = vat.object.take();
    vat.net.between(recipient, |machine| machine.receive(lift_at_vine(2, b"e")));
    held.respond(Ok(content::results(2, &[bob.clone()])));
    vat.expect(recipient, &["return 2 results (2) [thirdPartyHosted 2]"]);
    vat.expect(host, &["provide 2147483649 on 5", "disembargo accept on #2147483649"]);
    vat.object.acknowledge();
    drop(bob);
    vat.finish();
}

/// A host that has come for something itself need not be asked.
#[test]
fn a_host_that_knows_handoffs_is_not_asked() {
    let (mut vat, bob) = introducer(limits(), limits());
    let (recipient, host) = (vat.recipient, vat.introducer);
    vat.send(host, Message::Accept(wire::Accept { question: 0, provision: None, embargo: None }));
    vat.sent(host);
    vat.send(recipient, raw::call(1, raw::on(0), 1, &[]));
    vat.send(recipient, lift_at_vine(1, b"e"));
    vat.expect(host, &["provide 2147483648 on 5", "disembargo accept on #2147483648"]);
    vat.object.acknowledge();
    drop(bob);
    vat.finish();
}

/// Otherwise the recipient of one capability could have the introducer fill the host's tables,
/// until that ends the introducer's connection.
#[test]
fn a_recipient_lifts_few_embargoes() {
    let (mut vat, bob) = introducer(limits(), limits());
    let (recipient, host) = (vat.recipient, vat.introducer);
    vat.send(host, Message::Accept(wire::Accept { question: 0, provision: None, embargo: None }));
    vat.send(recipient, raw::call(1, raw::on(0), 1, &[]));
    vat.send(recipient, lift_at_vine(1, &[7; 129]));
    assert_eq!(lifts(&vat.sent(host)), 0, "its name is too long");
    for name in 0..100 {
        vat.send(recipient, lift_at_vine(1, &[name]));
    }
    assert_eq!(lifts(&vat.sent(host)), 15);
    for end in [recipient, host] {
        assert!(vat.net.machine(end).failure().is_none());
    }
    vat.object.acknowledge();
    drop(bob);
    vat.finish();
}

/// The same of a vat in between, which does not use up what the introducer allows.
#[test]
fn a_recipient_lifts_fewer_embargoes_of_what_was_passed_on() {
    let network = Neighbourhood::new();
    network.forwards.store(true, Ordering::SeqCst);
    let (mut vat, cap) = recipient_of(&limits(), &network, &[&[2, 0][..], &[7; 8]].concat());
    let introducer = vat.introducer;
    let (object, client) = vat.net.object("dave");
    object.give(vec![cap]);
    let last = vat.net.raw_side_in(&network, (1, 3), Some(client));
    vat.send(last, raw::bootstrap(0));
    vat.send(last, raw::finish(0, false));
    vat.send(last, raw::call(1, raw::on(0), 1, &[]));
    let told = vat.sent(last);
    assert_eq!(told[1], "return 1 results (1) [thirdPartyHosted 1]");
    for name in 0..100 {
        vat.send(last, lift_at_vine(1, &[name]));
    }
    assert_eq!(lifts(&vat.sent(introducer)), 4);
    object.acknowledge();
    vat.net.cut(last);
    vat.sent(last);
    vat.finish();
}

/// An introducer passes on what recipients say, so it is not cut off because of that.
#[test]
fn a_host_forgets_embargoes_that_nobody_names() {
    let mut vat = host();
    let (introducer, recipient) = (vat.introducer, vat.recipient);
    vat.send(introducer, provide(9, 7));
    for name in 0..300_u16 {
        vat.send(introducer, lift(9, &[], &name.to_be_bytes()));
    }
    vat.send(introducer, lift(9, &[], &[0; 4096]));
    vat.expect(introducer, &[]);
    vat.send(recipient, accept(0, 7, Some(&255_u16.to_be_bytes())));
    vat.expect(recipient, &["return 0 results (0) [senderHosted 0]"]);
    vat.send(recipient, accept(1, 7, Some(&256_u16.to_be_bytes())));
    vat.expect(recipient, &[]);
    vat.send(recipient, accept(2, 7, Some(&[0; 4096])));
    let [told] = <[String; 1]>::try_from(vat.sent(recipient)).unwrap();
    assert!(told.starts_with("return 2 failed"), "{told}");
    assert!(vat.net.machine(introducer).failure().is_none());
    vat.finish();
}

/// The same where there is no room for what it says.
#[test]
fn an_introducer_is_not_cut_off_for_what_recipients_say() {
    let mut vat = host_with(&Limits { budget_bytes: 32 << 10, ..limits() });
    let introducer = vat.introducer;
    vat.send(introducer, provide(9, 7));
    for name in 0..200_u16 {
        vat.send(introducer, lift(9, &[], &name.to_be_bytes()));
    }
    vat.expect(introducer, &[]);
    assert!(vat.net.machine(introducer).failure().is_none());
    vat.finish();
}

/// An introducer may send a vat to a host for what it does not provide there. Meanwhile the
/// application goes on calling the host.
#[test]
fn who_waits_at_a_host_takes_no_place_of_a_call() {
    let (mut vat, cap) = recipient(&Neighbourhood::new());
    let host = vat.recipient;
    let before = vat.net.machine(host).room().questions();
    wait_for(&cap);
    vat.expect(host, &["accept 0"]);
    assert_eq!(vat.net.machine(host).room().questions(), before);
    // The introducer pays for it.
    let paid = vat.net.snapshot(vat.introducer).budget_bytes;
    vat.send(host, raw::ret_with(0, wire::ReturnKind::Exception(Error::failed("no"))));
    assert!(vat.net.snapshot(vat.introducer).budget_bytes < paid);
    drop(cap);
    vat.finish();
}

/// It may take a network long to find that nobody is there.
#[test]
#[cfg(not(rpc_model))]
fn a_host_that_is_not_found_in_time_is_called_through_the_introducer() {
    let network = Neighbourhood::new();
    *network.patience.lock() = Some(Duration::from_millis(1));
    network.slow.store(true, Ordering::SeqCst);
    let (mut vat, cap) = recipient(&network);
    let (introducer, host) = (vat.introducer, vat.recipient);
    let called = vat.net.call(&cap, 2, &[]);
    cap.resolve().unwrap();
    let mut told = Vec::new();
    while told.is_empty() {
        told = vat.sent(introducer);
    }
    assert_eq!(told, ["call 0 on 4 (2)"]);
    vat.expect(host, &[]);
    // Found after all, it is told at once that nobody wants it.
    assert!(network.find_one());
    vat.expect(host, &["accept 0"]);
    answer_late(&mut vat);
    // The thread that has ended the search may hold what leads to both for a moment longer.
    let machines = [introducer, host].map(|end| Arc::clone(vat.net.machine(end)));
    drop((called, cap));
    until(|| machines.iter().all(|machine| Arc::strong_count(machine) == 2));
    drop(machines);
    vat.finish();
}

/// The host keeps nothing, or lets nobody wait, and who introduces does not know it.
#[test]
fn the_order_is_kept_where_a_host_refuses() {
    let [no_provisions, no_accepts] =
        [Limits { provisions: 0, ..limits() }, Limits { accepts: 0, ..limits() }];
    for (few, forwards) in
        [&no_provisions, &no_accepts].map(|few| [(few, false), (few, true)]).concat()
    {
        for kind in Gift::ALL {
            let made =
                || Town::with_limits(4, |vat| if vat == BOB { few.clone() } else { limits() });
            for held in 0..made().ends.len() {
                let mut town = made();
                town.network.forwards.store(forwards, Ordering::SeqCst);
                let Given { client: bob, make } = gift(&mut town, kind);
                let dave = town.has(ALICE, DAVE);
                let carol = town.has(DAVE, CAROL);
                town.objects[DAVE].keep();
                let held = town.ends[held].2;
                let mut calls = vec![town.net.call(&dave, 50, &[bob.clone()])];
                town.net.settle();
                let daves = town.given(DAVE);
                town.objects[CAROL].keep();
                calls.push(town.net.call(&carol, 51, &[daves.clone()]));
                town.net.settle();
                let carols = town.given(CAROL);
                calls.push(town.net.call(&carols, 1, &[]));
                make(&mut town);
                for method in 2..5 {
                    town.settle_but(held);
                    calls.push(town.net.call(&carols, method, &[]));
                }
                town.net.settle();
                let seen = town.objects[BOB].seen();
                assert_eq!(seen, [1, 2, 3, 4], "{few:?} {forwards} {kind:?} {held:?}");
                calls.iter().for_each(|call| drop(call.ok()));
                drop((calls, carols, daves, carol, dave, bob));
                town.net.finish();
            }
        }
    }
}
