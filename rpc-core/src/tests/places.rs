//! Places that were described to the peer, and what leads there: Note [described path].

use super::actor::Actor;
use super::content;
use super::net::{Call, Net, copy, frame};
use super::raw::{
    self, Raw, call, call_to, disembargo, finish, lift, on, on_field, promised, resolve, ret,
    ret_with,
};
use crate::cap::client::Client;
use crate::wire::message::Message as Frame;
use crate::wire::{self, Descriptor, Message, ResultsTo, ReturnKind};

/// A machine that has asked its raw peer something, with `given`, and has told the peer that
/// its own field will be what answers the peer's question 9.
fn with_described_field(given: &[Client], net: Net) -> Described {
    let mut net = net;
    let (server, client) = net.object("server");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    let peer = raw.give_bootstrap(0);
    let asked = raw.net.call(&peer, 1, given);
    server.give(vec![asked.pipelined(0)]);
    raw.send(call(9, on(0), 2, &[]));
    server.acknowledge();
    let sent = raw.sent();
    assert!(sent[0].starts_with("call 0 on 0 (1)"), "{sent:?}");
    assert_eq!(sent[1..], ["return 9 results (2) [receiverAnswer #0.0]"]);
    Described { raw, server, peer, asked }
}

struct Described {
    raw: Raw,
    server: Actor,
    /// The peer's bootstrap capability.
    peer: Client,
    asked: Call,
}

/// What was told of a field of results that the peer took from a call of its own: it leads
/// there, behind the calls that were sent to the place, and the question is finished.
#[test]
fn a_described_field_of_results_that_stayed_here_is_given_up() {
    let mut net = Net::new();
    let (callee, passed) = net.object("callee");
    let (own, given) = net.object("own");
    callee.hold();
    let Described { mut raw, peer, asked, .. } = with_described_field(&[passed], net);
    raw.send(call(1, on_field(9, &[0]), 10, &[]));
    raw.expect(&["call 1 on #0.0 (10)"]);
    raw.send(call_to(2, on(1), 3, &[], ResultsTo::Yourself));
    raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(2)));
    // Although the peer keeps what was described.
    raw.expect(&["disembargo senderLoopback 0 on #0.0", "finish 0"]);
    callee.answer_with(&[given]);
    raw.expect(&["return 2 resultsSentElsewhere"]);
    raw.send(call(3, on_field(9, &[0]), 11, &[]));
    raw.send(disembargo(on_field(9, &[0]), 70));
    raw.send(call(4, on_field(2, &[0]), 10, &[]));
    assert_eq!(own.seen(), [10]);
    raw.expect(&["return 4 results (10) noFinishNeeded"]);
    raw.send(lift(on_field(2, &[0]), 0));
    assert_eq!(own.seen(), [10, 11]);
    raw.expect(&["disembargo receiverLoopback 70 on #0.0", "return 3 results (11) noFinishNeeded"]);
    callee.acknowledge();
    drop((peer, asked));
    raw.finish();
}

/// The promise for such a field is dropped, and asked for again: what leads to the place leads
/// to the new promise, and does not pass for something that is resolved.
#[test]
fn what_leads_to_a_described_field_leads_to_the_promise_that_was_asked_for_last() {
    let Described { mut raw, server, peer, asked } = with_described_field(&[], Net::new());
    server.keep();
    raw.send(call(1, on(0), 10, &[Descriptor::SenderPromise(4)]));
    let promise = server.kept_one();
    let early = raw.net.call(&promise, 11, &[]);
    raw.expect(&["return 1 results (10) noFinishNeeded", "call 1 on 4 (11)"]);
    let field = asked.pipelined(0);
    raw.send(resolve(4, Descriptor::ReceiverAnswer(promised(9, &[0]))));
    raw.expect(&["disembargo senderLoopback 0 on 4", "release 4 x1"]);
    raw.send(call(2, on_field(9, &[0]), 11, &[]));
    raw.expect(&["call 2 on #0.0 (11)"]);
    raw.send(lift(on_field(9, &[0]), 0));
    assert!(promise.is_unresolved());
    assert_eq!(promise, field);
    drop((peer, asked, promise, early, field));
    raw.finish();
}

/// The peer's promise 4 was described to it, is called, and comes back as what it is: nothing
/// could lift an embargo in front of it.
#[test]
fn a_promise_that_is_resolved_to_its_own_place_breaks_without_an_embargo() {
    let (mut raw, server) = raw::callee();
    server.keep();
    raw.send(call(1, on(0), 10, &[Descriptor::SenderPromise(4)]));
    let promise = server.kept_one();
    server.give(vec![promise.clone()]);
    raw.send(call(2, on(0), 11, &[]));
    server.acknowledge();
    let early = raw.net.call(&promise, 12, &[]);
    raw.expect(&[
        "return 1 results (10) noFinishNeeded",
        "return 2 results (11) [receiverHosted 4]",
        "call 0 on 4 (12)",
    ]);
    raw.send(resolve(4, Descriptor::ReceiverAnswer(promised(2, &[0]))));
    raw.expect(&["release 4 x1"]);
    assert!(promise.failure().is_some_and(|error| error.reason().contains("itself")));
    drop((promise, early));
    raw.finish();
}

/// Between the Return and what follows from it here, another thread takes in that promise 4
/// has become an object of this side, and a call that the peer has pipelined.
#[test]
fn what_is_pipelined_right_after_the_return_takes_the_path_that_it_described() {
    let (mut raw, server) = raw::callee();
    let (own, given) = raw.net.object("own");
    server.hold();
    raw.send(call(1, on(0), 10, &[Descriptor::SenderPromise(4)]));
    let held = server.take();
    let theirs = held.params().caps()[0].clone();
    let peer = raw.give_bootstrap(7);
    let put = raw.net.call(&peer, 11, &[given]);
    raw.expect(&["call 0 on 7 (11) [senderHosted 1]"]);
    raw.net.between(raw.end, |machine| {
        machine.receive(resolve(4, Descriptor::ReceiverHosted(1)));
        machine.receive(call(2, on_field(1, &[0]), 12, &[]));
    });
    held.respond(Ok(content::results(10, &[theirs])));
    raw.expect(&[
        "return 1 results (10) [receiverHosted 4]",
        "disembargo senderLoopback 0 on 4",
        "call 1 on 4 (12)",
    ]);
    assert_eq!(own.seen(), []);
    server.acknowledge();
    drop((peer, put));
    raw.finish();
}

/// The peer finishes its question as soon as it has the Return, which is all that has happened
/// here yet. A call and a Disembargo that it had pipelined are held back until later.
#[test]
fn what_is_held_back_takes_the_described_path_even_if_the_question_is_finished_at_once() {
    let (mut raw, server) = raw::callee();
    server.hold();
    raw.net.set_flow_limit(raw.end, 0);
    raw.send(call(1, on(0), 10, &[Descriptor::SenderPromise(4)]));
    raw.send(call(2, on_field(1, &[0]), 11, &[]));
    let held = server.take();
    let theirs = held.params().caps()[0].clone();
    raw.net.between(raw.end, |machine| {
        machine.receive(disembargo(on_field(1, &[0]), 0));
        machine.receive(finish(1, false));
        machine.receive(resolve(4, Descriptor::ReceiverHosted(0)));
    });
    held.respond(Ok(content::results(10, &[theirs])));
    raw.expect(&[
        "return 1 results (10) [receiverHosted 4]",
        "disembargo senderLoopback 0 on 4",
        "call 0 on 4 (11)",
        "disembargo receiverLoopback 0 on 4",
        "release 4 x1",
    ]);
    raw.expect_alive();
    assert_eq!(server.seen(), [10]);
    server.let_go();
    raw.finish();
}

/// A message whose second capability is the first one once more.
fn naming_the_first_twice(message: Message) -> Message {
    let (mut words, mut lengths) = (Vec::new(), Vec::new());
    copy(&frame(message), &mut words, &mut lengths);
    for word in capnp::Word::words_to_bytes_mut(&mut words).chunks_exact_mut(8) {
        // A capability pointer to index 1.
        if word == [3, 0, 0, 0, 1, 0, 0, 0] {
            word[4] = 0;
        }
    }
    wire::decode(Frame::from_segments(words, &lengths).unwrap()).unwrap()
}

/// Note [embargo]: results name one capability in two fields, and calls were pipelined on one of
/// them. The other one is that capability, too, so it waits for these calls.
#[test]
fn two_fields_that_are_one_capability_stand_behind_one_embargo() {
    for (called, quiet) in [(0, 1), (1, 0)] {
        let mut net = Net::new();
        let (own, given) = net.object("own");
        let (mut raw, server) = raw::caller(net);
        let asked = raw.net.call(&server, 1, &[given]);
        let fields = [asked.pipelined(0), asked.pipelined(1)];
        let early = raw.net.call(&fields[called], 2, &[]);
        raw.sent();
        let ours = [Descriptor::ReceiverHosted(0), Descriptor::ReceiverHosted(0)];
        raw.net.inject(raw.end, naming_the_first_twice(ret(0, 0, &ours)));
        raw.expect(&[&format!("disembargo senderLoopback 0 on #0.{called}"), "finish 0"]);
        let late = [raw.net.call(&fields[quiet], 3, &[]), raw.net.call(&fields[called], 4, &[])];
        raw.net.run();
        assert_eq!(own.seen(), []);
        assert_eq!(fields[0], fields[1]);
        raw.send(call(0, on(0), 2, &[]));
        raw.send(lift(on(0), 0));
        assert_eq!(own.seen(), [2, 3, 4]);
        drop((server, asked, fields, early, late));
        raw.finish();
    }
}
