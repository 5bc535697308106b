//! Calls that wait until earlier ones are over: Note [flow limit].

use super::actor::Actor;
use super::content;
use super::net::{End, Net, limits};
use super::raw::{
    Raw, call, call_to, disembargo, finish, on, on_field, promised, release, resolve, ret,
};

use crate::error::Error;
use crate::limits::Limits;
use crate::wire::{Descriptor, ResultsTo};

/// Words of calls under way at an end, and how much it holds back.
pub(super) fn load(net: &Net, end: End) -> (u64, usize) {
    let snapshot = net.snapshot(end);
    (snapshot.words_in_flight, snapshot.held_back)
}

/// A machine that offers an object which keeps its calls open, one at a time
/// being taken.
pub(super) fn one_at_a_time(limits: Limits) -> (Raw, Actor) {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    object.hold();
    let mut raw = Raw::with_limits(net, limits, Some(client));
    raw.take_bootstrap();
    raw.net.set_flow_limit(raw.end, 0);
    (raw, object)
}

fn answer(raw: &mut Raw, object: &Actor) {
    object.answer_with(&[]);
    raw.net.run();
}

#[test]
fn calls_over_the_limit_wait_for_the_answers_of_earlier_ones() {
    let (mut raw, object) = one_at_a_time(limits());
    assert_eq!(load(&raw.net, raw.end), (0, 0), "a bootstrap request does not count");
    for question in 1..=3 {
        raw.send(call(question, on(0), u64::from(question), &[]));
    }
    let (words, held) = load(&raw.net, raw.end);
    assert_eq!((object.seen(), held), (vec![1], 2));
    answer(&mut raw, &object);
    assert_eq!((object.seen(), load(&raw.net, raw.end)), (vec![1, 2], (words, 1)));
    // Room for two: they are counted, not the words above the limit.
    raw.net.set_flow_limit(raw.end, words);
    raw.send(call(4, on(0), 4, &[]));
    assert_eq!((object.seen(), load(&raw.net, raw.end)), (vec![1, 2, 3], (2 * words, 1)));
    answer(&mut raw, &object);
    assert_eq!((object.seen(), load(&raw.net, raw.end)), (vec![1, 2, 3, 4], (2 * words, 0)));
    answer(&mut raw, &object);
    answer(&mut raw, &object);
    assert_eq!(load(&raw.net, raw.end), (0, 0));
    raw.expect(&[
        "return 1 results (0) noFinishNeeded",
        "return 2 results (0) noFinishNeeded",
        "return 3 results (0) noFinishNeeded",
        "return 4 results (0) noFinishNeeded",
    ]);
    raw.finish();
}

#[test]
fn a_call_that_is_larger_than_the_limit_passes_alone() {
    let (mut raw, object) = one_at_a_time(limits());
    raw.net.set_flow_limit(raw.end, 1);
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    assert_eq!(object.seen(), [1]);
    answer(&mut raw, &object);
    assert_eq!(object.seen(), [1, 2]);
    answer(&mut raw, &object);
    raw.finish();
}

#[test]
fn raising_the_limit_delivers_what_was_held_back_in_order() {
    let (mut raw, object) = one_at_a_time(limits());
    for question in 1..=5 {
        raw.send(call(question, on(0), u64::from(question), &[]));
    }
    assert_eq!(object.seen(), [1]);
    raw.net.set_flow_limit(raw.end, u64::MAX);
    raw.net.run();
    assert_eq!(object.seen(), [1, 2, 3, 4, 5]);
    // Lowering it takes nothing back, and holds back the next one.
    raw.net.set_flow_limit(raw.end, 0);
    raw.send(call(6, on(0), 6, &[]));
    assert_eq!((object.seen().len(), load(&raw.net, raw.end).1), (5, 1));
    for _ in 0..6 {
        answer(&mut raw, &object);
    }
    assert_eq!(object.seen(), [1, 2, 3, 4, 5, 6]);
    raw.finish();
}

/// Note [flow limit]: if a Return were held back, two vats that call each other back
/// would wait for ever.
#[test]
fn answers_and_resolutions_pass_what_is_held_back() {
    let (mut raw, object) = one_at_a_time(limits());
    let theirs = raw.give_bootstrap(7);
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[Descriptor::SenderPromise(9)]));
    assert_eq!(load(&raw.net, raw.end).1, 1);

    // A method calls back and gets its answer.
    let back = raw.net.call(&theirs, 50, &[]);
    raw.expect(&["call 0 on 7 (50)"]);
    raw.send(ret(0, 51, &[]));
    assert_eq!(content::label(&back.ok()), 51);
    raw.expect(&["finish 0"]);
    // A promise, which came with a call that is held back, resolves.
    raw.send(resolve(9, Descriptor::SenderHosted(7)));
    raw.expect(&["release 9 x1"]);
    answer(&mut raw, &object);
    let held = object.take();
    assert_eq!(object.seen(), [1, 2]);
    assert!(held.params().caps()[0] == theirs);
    held.respond(Ok(content::results(0, &[])));
    raw.net.run();
    raw.expect_alive();
    drop((theirs, back));
    raw.finish();
}

/// Note [flow limit]: the call's target was looked up when the call arrived.
#[test]
fn a_call_that_is_held_back_finds_a_target_that_is_released_behind_it() {
    let (mut raw, object) = one_at_a_time(limits());
    let (second, given) = raw.net.object("second");
    raw.send(call(1, on(0), 1, &[]));
    let first = object.take();
    raw.net.set_flow_limit(raw.end, u64::MAX);
    raw.send(call(2, on(0), 2, &[]));
    object.answer_with(&[given]);
    raw.expect(&["return 2 results (0) [senderHosted 1]"]);
    raw.net.set_flow_limit(raw.end, 0);
    raw.send(call(3, on(1), 3, &[]));
    raw.send(call(4, on_field(2, &[0]), 4, &[]));
    assert_eq!(load(&raw.net, raw.end).1, 2);
    raw.send(release(1, 1));
    raw.send(finish(2, false));
    assert_eq!(raw.net.snapshot(raw.end).exports, 1, "the bootstrap object's");
    assert_eq!((second.seen(), second.drops()), (vec![], 0));
    first.respond(Ok(content::results(0, &[])));
    raw.net.run();
    assert_eq!(second.seen(), [3, 4]);
    assert_eq!(second.drops(), 1);
    raw.expect(&[
        "return 1 results (0) noFinishNeeded",
        "return 3 results (3) noFinishNeeded",
        "return 4 results (4) noFinishNeeded",
    ]);
    raw.finish();
}

/// Note [described path]: a promise of ours becomes one of the peer's, which moves on,
/// while a call to it is held back. The call must go the way that was described, as
/// those do that come later.
#[test]
fn a_call_that_is_held_back_goes_the_way_that_was_described_meanwhile() {
    for through_results in [false, true] {
        let (mut raw, object) = one_at_a_time(limits());
        raw.send(call(1, on(0), 1, &[Descriptor::SenderPromise(4)]));
        let held = object.take();
        let theirs = held.params().caps()[0].clone();
        held.respond(Ok(content::results(0, &[])));
        raw.expect(&["return 1 results (0) noFinishNeeded"]);
        raw.net.set_flow_limit(raw.end, u64::MAX);
        raw.send(call(2, on(0), 2, &[]));
        raw.send(call(3, on(0), 3, &[]));
        let (open, promising) = (object.take(), object.take());
        let (ours, fulfiller) = crate::cap::promise::promise();
        let mut promising = Some(promising);
        let target = if through_results {
            on_field(3, &[0])
        } else {
            let promising = promising.take().unwrap();
            promising.respond(Ok(content::results(0, &[ours.clone()])));
            raw.expect(&["return 3 results (0) [senderPromise 1]"]);
            on(1)
        };
        raw.net.set_flow_limit(raw.end, 0);
        raw.send(call(4, target.clone(), 4, &[]));
        assert_eq!(load(&raw.net, raw.end).1, 1);
        fulfiller.fulfill(theirs.clone());
        if let Some(promising) = promising {
            promising.respond(Ok(content::results(0, &[ours.clone()])));
            raw.expect(&["return 3 results (0) [receiverHosted 4]"]);
        } else {
            raw.expect(&["resolve 1 receiverHosted 4"]);
        }
        raw.send(resolve(4, Descriptor::SenderHosted(9)));
        raw.expect(&[]);
        raw.send(call(5, target.clone(), 5, &[]));
        raw.send(disembargo(target, 70));
        open.respond(Ok(content::results(0, &[])));
        raw.net.run();
        raw.expect(&["return 2 results (0) noFinishNeeded", "call 0 on 4 (4)"]);
        raw.send(ret(0, 0, &[]));
        raw.expect(&[
            "finish 0",
            "return 4 results (0) noFinishNeeded",
            "call 0 on 4 (5)",
            "disembargo receiverLoopback 70 on 4",
        ]);
        drop((theirs, ours));
        raw.finish();
    }
}

/// A call is answered with a question of ours, and finished, while what was pipelined
/// on it is held back: that still goes to the question.
#[test]
fn what_is_held_back_keeps_the_question_that_it_goes_to() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    object.on_call(|call| {
        let target = call.params().caps()[0].clone();
        call.forward(&target);
    });
    raw.send(call(1, on(0), 1, &[Descriptor::SenderHosted(5)]));
    raw.sent();
    object.hold();
    raw.send(call(2, on(0), 2, &[]));
    raw.net.set_flow_limit(raw.end, 0);
    raw.send(call(3, on_field(1, &[0]), 3, &[]));
    raw.send(disembargo(on_field(1, &[0]), 70));
    raw.send(finish(1, false));
    raw.expect(&[]);
    answer(&mut raw, &object);
    raw.expect(&[
        "return 2 results (0) noFinishNeeded",
        "call 1 on #0.0 (3)",
        "disembargo receiverLoopback 70 on #0.0",
        "finish 0 releaseResultCaps",
    ]);
    raw.send(ret(1, 3, &[]));
    raw.expect(&["finish 1", "return 3 results (3) noFinishNeeded"]);
    raw.expect_alive();
    object.acknowledge();
    raw.finish();
}

/// Note [flow limit]: a Disembargo travels as a call does.
#[test]
fn a_disembargo_is_returned_behind_the_calls_that_are_held_back() {
    let (mut raw, object) = one_at_a_time(limits());
    let theirs = raw.give_bootstrap(4);
    let (ours, fulfiller) = crate::cap::promise::promise();
    raw.send(call(1, on(0), 1, &[]));
    object.answer_with(&[ours]);
    raw.expect(&["return 1 results (0) [senderPromise 1]"]);
    fulfiller.fulfill(theirs.clone());
    raw.expect(&["resolve 1 receiverHosted 4"]);
    raw.send(call(2, on(0), 2, &[]));
    raw.send(call(3, on(1), 3, &[]));
    raw.send(disembargo(on(1), 70));
    raw.expect(&[]);
    assert_eq!(load(&raw.net, raw.end).1, 2);
    answer(&mut raw, &object);
    raw.expect(&[
        "return 2 results (0) noFinishNeeded",
        "call 0 on 4 (3)",
        "disembargo receiverLoopback 70 on 4",
    ]);
    // Alone, it does not wait.
    raw.send(disembargo(on(1), 71));
    raw.expect(&["disembargo receiverLoopback 71 on 4"]);
    drop(theirs);
    raw.finish();
}

/// The embargo of this side may wait for one of the peer, which that Disembargo ends.
#[test]
fn a_disembargo_does_not_wait_for_room_while_this_side_has_an_embargo() {
    let (mut raw, object) = one_at_a_time(limits());
    let theirs = raw.give_bootstrap(4);
    let (ours, fulfiller) = crate::cap::promise::promise();
    raw.send(call(1, on(0), 1, &[Descriptor::SenderPromise(5)]));
    let first = object.take();
    let promised = first.params().caps()[0].clone();
    let early = raw.net.call(&promised, 10, &[]);
    first.respond(Ok(content::results(0, &[ours])));
    raw.expect(&["call 0 on 5 (10)", "return 1 results (0) [senderPromise 1]"]);
    fulfiller.fulfill(theirs.clone());
    raw.expect(&["resolve 1 receiverHosted 4"]);
    raw.send(resolve(5, Descriptor::ReceiverHosted(0)));
    raw.expect(&["disembargo senderLoopback 0 on 5", "release 5 x1"]);
    raw.send(call(2, on(0), 2, &[]));
    raw.send(call(3, on(0), 3, &[]));
    assert_eq!((object.seen(), load(&raw.net, raw.end).1), (vec![1, 2], 1));
    raw.send(disembargo(on(1), 70));
    raw.expect(&["disembargo receiverLoopback 70 on 4"]);
    assert_eq!((object.seen(), load(&raw.net, raw.end).1), (vec![1, 2, 3], 0));
    drop((theirs, promised, early, object.take(), object.take()));
    raw.finish();
}

/// The calls that an embargo is for may be among those that are held back. They
/// still come first, and nobody waits for a method that waits for them.
#[test]
fn an_embargo_ends_behind_the_calls_that_are_held_back() {
    let mut net = Net::new();
    let (echo, echo_client) = net.object("echo");
    let (own, given) = net.object("own");
    echo.echo();
    own.hold();
    let (a, b) = net.link(None, Some(echo_client));
    net.set_flow_limit(a, 0);
    let remote = net.bootstrapped(a);
    let asked = net.call(&remote, 10, &[given]);
    let field = asked.pipelined(0);
    let mut calls: Vec<_> = (1..=3).map(|label| net.call(&field, label, &[])).collect();
    net.step(a, "call 0 on 0 (10) [senderHosted 0]");
    for label in 1..=3 {
        net.step(a, &format!("call {label} on #0.0 ({label})"));
    }
    net.step(b, "return 0 results (10) [receiverHosted 0]");
    calls.push(net.call(&field, 4, &[]));
    net.step(a, "disembargo senderLoopback 0 on #0.0");
    for label in 1..=3 {
        net.step(b, &format!("call {} on 0 ({label})", label - 1));
    }
    assert_eq!((own.seen(), load(&net, a).1), (vec![1], 2));
    net.step(b, "disembargo receiverLoopback 0 on 0");
    assert_eq!((own.seen(), load(&net, a).1), (vec![1, 2, 3, 4], 0));
    for _ in 0..4 {
        own.answer_with(&[]);
    }
    net.settle();
    calls.iter().for_each(|call| drop(call.ok()));
    assert_eq!(load(&net, a), (0, 0));
    drop((remote, asked, field, calls));
    net.finish();
}

#[test]
fn a_call_that_is_cancelled_while_it_is_held_back_never_arrives() {
    let (mut raw, object) = one_at_a_time(limits());
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[Descriptor::SenderHosted(5)]));
    raw.send(call(3, on(0), 3, &[]));
    raw.send(finish(2, true));
    // Its parameters go with it.
    raw.expect(&["return 2 canceled", "release 5 x1"]);
    assert_eq!(load(&raw.net, raw.end).1, 1);
    answer(&mut raw, &object);
    answer(&mut raw, &object);
    assert_eq!(object.seen(), [1, 3]);
    raw.expect_alive();
    raw.finish();
}

/// The call is the peer's until it is over here, wherever it is passed on to.
#[test]
fn a_call_that_is_passed_on_counts_once() {
    let mut net = Net::new();
    let (behind, behind_client) = net.object("behind");
    let (front, front_client) = net.object("front");
    behind.hold();
    let (a, b) = net.link(None, Some(front_client));
    let (b_to_c, c) = net.link(None, Some(behind_client));
    net.set_flow_limit(b, 0);
    front.forward(net.bootstrapped(b_to_c));
    let remote = net.bootstrapped(a);
    let calls = [net.call(&remote, 1, &[]), net.call(&remote, 2, &[])];
    net.settle();
    let (words, held) = load(&net, b);
    assert!(words > 0);
    assert_eq!((behind.seen(), held), (vec![1], 1));
    assert_eq!(load(&net, b_to_c), (0, 0));
    assert_eq!(load(&net, c), (words, 0));
    behind.answer_with(&[]);
    net.settle();
    assert_eq!((behind.seen(), load(&net, b)), (vec![1, 2], (words, 0)));
    behind.answer_with(&[]);
    net.settle();
    assert_eq!((load(&net, b), load(&net, c)), ((0, 0), (0, 0)));
    calls.iter().for_each(|call| drop(call.ok()));
    front.acknowledge();
    drop((remote, calls));
    net.finish();
}

/// Note [tail calls]: the peer has its answer, and works on it itself.
#[test]
fn a_call_that_goes_back_to_the_peer_does_not_count() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    object.on_call(|call| {
        let target = call.params().caps()[0].clone();
        call.forward(&target);
    });
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    raw.net.set_flow_limit(raw.end, 0);
    for question in 1..=2 {
        raw.send(call(question, on(0), 1, &[Descriptor::SenderHosted(5)]));
    }
    assert_eq!(load(&raw.net, raw.end), (0, 0));
    object.acknowledge();
    raw.finish();
}

/// And the other side of it: results that stay here for the peer.
#[test]
fn a_call_whose_results_stay_here_counts_until_they_are_there() {
    let (mut raw, object) = one_at_a_time(limits());
    raw.send(call_to(1, on(0), 1, &[], ResultsTo::Yourself));
    raw.send(call(2, on(0), 2, &[]));
    assert_eq!(object.seen(), [1]);
    answer(&mut raw, &object);
    assert_eq!(object.seen(), [1, 2]);
    answer(&mut raw, &object);
    assert_eq!(load(&raw.net, raw.end), (0, 0));
    raw.finish();
}

/// The parameters of work that is no longer wanted still count.
#[test]
fn a_cancelled_call_counts_until_its_object_is_done_with_it() {
    let (mut raw, object) = one_at_a_time(limits());
    raw.send(call(1, on(0), 1, &[]));
    raw.send(finish(1, true));
    raw.send(call(2, on(0), 2, &[]));
    assert_eq!(object.seen(), [1]);
    assert!(load(&raw.net, raw.end).0 > 0);
    answer(&mut raw, &object);
    assert_eq!(object.seen(), [1, 2]);
    answer(&mut raw, &object);
    raw.finish();
}

#[test]
fn a_call_that_is_pipelined_on_one_that_is_held_back_waits_with_it() {
    let (mut raw, object) = one_at_a_time(limits());
    let (inner, given) = raw.net.object("inner");
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    raw.send(call(3, on_field(2, &[0]), 3, &[]));
    // Also as a parameter.
    let argument = Descriptor::ReceiverAnswer(promised(2, &[0]));
    raw.send(call(4, on(0), 4, &[argument]));
    answer(&mut raw, &object);
    assert_eq!((object.seen(), inner.seen()), (vec![1, 2], vec![]));
    object.answer_with(&[given.clone()]);
    raw.net.run();
    assert_eq!((object.seen(), inner.seen()), (vec![1, 2, 4], vec![3]));
    let last = object.take();
    assert!(last.params().caps()[0] == given);
    last.respond(Err(Error::failed("enough")));
    drop(given);
    raw.finish();
}

/// A peer that sends whatever it likes.
#[test]
fn too_much_that_is_held_back_ends_the_connection() {
    let limits = Limits { held_back_bytes: 4096, ..limits() };
    let (mut raw, object) = one_at_a_time(limits);
    raw.send(call(1, on(0), 1, &[]));
    let words = load(&raw.net, raw.end).0;
    let fit = 4096 / (8 * words);
    for question in 2..2 + fit {
        raw.send(call(u32::try_from(question).unwrap(), on(0), question, &[]));
    }
    raw.expect_alive();
    assert_eq!(load(&raw.net, raw.end).1 as u64, fit);
    raw.send(call(1000, on(0), 1000, &[]));
    raw.expect_abort("Limits::held_back_bytes");
    assert_eq!(load(&raw.net, raw.end).1, 0);
    assert_eq!(object.seen(), [1]);
    answer(&mut raw, &object);
    assert_eq!(load(&raw.net, raw.end), (0, 0));
    raw.finish();
}

/// Note [ending], for calls that are held back.
#[test]
fn what_is_held_back_is_gone_with_its_connection() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let (parameter, given) = net.object("parameter");
    object.hold();
    let (a, b) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    net.set_flow_limit(b, 0);
    let calls = [net.call(&remote, 1, &[]), net.call(&remote, 2, &[given])];
    net.settle();
    assert_eq!((object.seen(), load(&net, b).1), (vec![1], 1));
    net.cut(b);
    assert_eq!(load(&net, b).1, 0);
    net.settle();
    for call in &calls {
        assert_eq!(call.error().kind(), crate::ErrorKind::Disconnected);
    }
    assert_eq!(parameter.drops(), 1);
    object.answer_with(&[]);
    assert_eq!(object.seen(), [1]);
    assert_eq!(load(&net, b), (0, 0));
    drop((remote, calls));
    net.finish();
}

/// An object that runs where the call is delivered ends it right there.
#[test]
fn calls_of_an_inline_object_are_delivered_one_after_the_other() {
    let mut net = Net::new();
    let (slow, slow_client) = net.object("slow");
    let (quick, quick_client) = net.object_with("quick", crate::Concurrency::Inline);
    slow.hold();
    quick.on_call(|call| call.respond(Ok(content::results(0, &[]))));
    let mut raw = Raw::new(net, Some(slow_client));
    raw.take_bootstrap();
    raw.net.set_flow_limit(raw.end, 0);
    raw.send(call(1, on(0), 1, &[]));
    slow.answer_with(&[quick_client]);
    raw.expect(&["return 1 results (0) [senderHosted 1]"]);
    raw.send(call(2, on(0), 2, &[]));
    for question in 3..=40 {
        raw.send(call(question, on(1), u64::from(question), &[]));
    }
    assert_eq!(load(&raw.net, raw.end).1, 38);
    answer(&mut raw, &slow);
    assert_eq!(quick.seen(), (3..=40).collect::<Vec<u64>>());
    assert_eq!(load(&raw.net, raw.end), (0, 0));
    raw.expect_alive();
    raw.finish();
}

/// What waited only for that call goes on at once, although an earlier one is still under way.
#[test]
fn a_held_call_that_is_cancelled_makes_way_for_the_disembargo_behind_it() {
    let (mut raw, object) = one_at_a_time(limits());
    let theirs = raw.give_bootstrap(4);
    raw.send(call(1, on(0), 1, &[]));
    object.answer_with(&[theirs.clone()]);
    raw.expect(&["return 1 results (0) [receiverHosted 4]"]);
    raw.send(call(2, on(0), 2, &[]));
    raw.send(call(3, on(0), 3, &[]));
    raw.send(disembargo(on_field(1, &[0]), 70));
    raw.expect(&[]);
    raw.send(finish(3, true));
    raw.expect(&["return 3 canceled", "disembargo receiverLoopback 70 on 4"]);
    assert_eq!((object.seen(), load(&raw.net, raw.end).1), (vec![1, 2], 0));
    object.let_go();
    drop(theirs);
    raw.finish();
}

/// The limit is a number of words that may be under way, not one that must not be reached.
#[test]
fn a_call_is_delivered_as_long_as_the_limit_is_not_exceeded() {
    let (mut raw, object) = one_at_a_time(limits());
    raw.send(call(1, on(0), 1, &[]));
    let words = load(&raw.net, raw.end).0;
    raw.net.set_flow_limit(raw.end, words);
    raw.send(call(2, on(0), 2, &[]));
    assert_eq!((object.seen(), load(&raw.net, raw.end)), (vec![1, 2], (2 * words, 0)));
    raw.send(call(3, on(0), 3, &[]));
    assert_eq!(load(&raw.net, raw.end).1, 1);
    object.let_go();
    raw.finish();
}
