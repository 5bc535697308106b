//! References that a peer sends back while its calls are held back:
//! Note [held references].

use super::actor::Actor;
use super::content;
use super::flow_limit::{load, one_at_a_time};
use super::net::{Net, limits};
use super::raw::{
    Raw, call, call_to, finish, lift, on, on_field, promised, reject, resolve, ret, ret_with,
};
use crate::cap::client::Client;
use crate::cap::promise::promise;
use crate::error::Error;
use crate::limits::Limits;
use crate::wire::{Descriptor, ResultsTo, ReturnKind};

/// Vat B calls an object of A twice, and A holds the second call back. Then B returns the
/// object to A. A's call on it arrives third.
#[test]
fn our_object_in_results_is_behind_the_calls_that_are_held_back() {
    for pipelined in [false, true] {
        let mut net = Net::new();
        let (ours, ours_client) = net.object("ours");
        let (theirs, theirs_client) = net.object("theirs");
        ours.hold();
        let (a, b) = net.link(Some(ours_client), Some(theirs_client));
        let (to_b, to_a) = (net.bootstrapped(a), net.bootstrapped(b));
        theirs.give(vec![to_a.clone()]);
        net.set_flow_limit(a, 0);
        let mut calls = vec![net.call(&to_a, 1, &[]), net.call(&to_a, 2, &[])];
        let asked = net.call(&to_b, 10, &[]);
        let field = asked.pipelined(0);
        net.step(b, "call 0 on 0 (1)");
        net.step(b, "call 1 on 0 (2)");
        net.step(a, "call 0 on 0 (10)");
        net.step(b, "return 0 results (10) [receiverHosted 0]");
        assert_eq!(ours.seen(), [1], "a peer alone gets nothing past the limit");
        let ours_again = if pipelined { field.clone() } else { asked.cap(0) };
        calls.push(net.call(&ours_again, 3, &[]));
        net.run();
        assert_eq!((ours.seen(), load(&net, a).1), (vec![1, 2, 3], 0));
        ours.acknowledge();
        (0..3).for_each(|_| ours.answer_with(&[]));
        net.settle();
        calls.iter().for_each(|call| drop(call.ok()));
        drop((to_a, to_b, calls, asked, field, ours_again));
        theirs.acknowledge();
        net.finish();
    }
}

/// The same with a field of a call that B has made: B pipelines a call on it, which is held
/// back, and returns the field to A.
#[test]
fn a_field_of_our_answer_in_results_is_behind_the_calls_that_are_held_back() {
    let (mut raw, object) = one_at_a_time(limits());
    let (inner, given) = raw.net.object("inner");
    let theirs = raw.give_bootstrap(7);
    let asked = raw.net.call(&theirs, 50, &[]);
    raw.expect(&["call 0 on 7 (50)"]);
    raw.net.set_flow_limit(raw.end, u64::MAX);
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    raw.net.set_flow_limit(raw.end, 0);
    raw.send(call(3, on_field(1, &[0]), 3, &[]));
    raw.send(ret(0, 50, &[Descriptor::ReceiverAnswer(promised(1, &[0]))]));
    raw.expect(&["finish 0"]);
    object.answer_with(&[given]);
    raw.net.run();
    assert_eq!((inner.seen(), load(&raw.net, raw.end).1), (vec![], 2), "call 2 still counts");
    let later = raw.net.call(&asked.cap(0), 4, &[]);
    raw.net.run();
    assert_eq!(inner.seen(), [3, 4]);
    later.ok();
    object.answer_with(&[]);
    raw.net.run();
    drop((theirs, asked, later));
    raw.finish();
}

/// The same with a promise of the peer that nobody has called.
#[test]
fn a_promise_that_becomes_our_object_is_behind_the_calls_that_are_held_back() {
    let (mut raw, object) = one_at_a_time(limits());
    raw.send(call(1, on(0), 1, &[Descriptor::SenderPromise(4)]));
    let first = object.take();
    let promise = first.params().caps()[0].clone();
    raw.send(call(2, on(0), 2, &[]));
    raw.send(resolve(4, Descriptor::ReceiverHosted(0)));
    assert_eq!((object.seen(), load(&raw.net, raw.end).1), (vec![1], 2));
    let later = raw.net.call(&promise, 3, &[]);
    raw.net.run();
    assert_eq!(object.seen(), [1, 2, 3]);
    object.acknowledge();
    (0..2).for_each(|_| object.answer_with(&[]));
    raw.net.run();
    later.ok();
    drop((first, promise));
    raw.finish();
}

/// The reference is passed on to a third vat, whose call on it arrives third.
#[test]
fn a_reference_that_is_passed_on_is_behind_the_calls_that_are_held_back() {
    let (mut raw, object) = one_at_a_time(limits());
    let (far, far_client) = raw.net.object("far");
    far.hold();
    let (near_end, far_end) = raw.net.link(None, Some(far_client));
    let to_far = raw.net.bootstrapped(near_end);
    let theirs = raw.give_bootstrap(7);
    let asked = raw.net.call(&theirs, 50, &[]);
    raw.expect(&["call 0 on 7 (50)"]);
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    raw.send(ret(0, 50, &[Descriptor::ReceiverHosted(0)]));
    assert_eq!(object.seen(), [1]);
    // Somebody is going to wait for what it is: nobody waits for room.
    let passed = raw.net.call(&to_far, 60, &[asked.cap(0)]);
    raw.net.step(near_end, "call 0 on 0 (60) [senderPromise 0]");
    assert_eq!(object.seen(), [1, 2]);
    raw.net.step(near_end, "resolve 0 senderHosted 1");
    let held = far.take();
    let later = raw.net.call(&held.params().caps()[0], 3, &[]);
    object.acknowledge();
    (0..2).for_each(|_| object.answer_with(&[]));
    raw.net.settle();
    assert_eq!(object.seen(), [1, 2, 3]);
    later.ok();
    held.respond(Ok(content::results(0, &[])));
    drop((to_far, theirs, asked, passed, later));
    raw.net.settle();
    assert_eq!(raw.net.snapshot(far_end).imports, 0);
    raw.finish();
}

/// A method counts against the limit, calls its caller back, and waits for a reference in
/// the answer. It must not wait for its own end.
#[test]
fn a_method_that_waits_for_a_reference_does_not_wait_for_its_own_end() {
    let (mut raw, object) = one_at_a_time(limits());
    let theirs = raw.give_bootstrap(7);
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    let back = raw.net.call(&theirs, 50, &[]);
    raw.expect(&["call 0 on 7 (50)"]);
    raw.send(ret(0, 50, &[Descriptor::ReceiverHosted(0)]));
    let ours = back.cap(0);
    assert!(ours.is_unresolved());
    let (done, waiter) = (object.take(), raw.net.call(&ours, 3, &[]));
    raw.net.run();
    assert!(!ours.is_unresolved());
    assert_eq!(object.seen(), [1, 2, 3]);
    (0..2).for_each(|_| object.answer_with(&[]));
    waiter.ok();
    done.respond(Ok(content::results(0, &[])));
    raw.net.run();
    assert_eq!(load(&raw.net, raw.end), (0, 0));
    drop((theirs, back, ours, waiter));
    raw.finish();
}

/// A call comes back for a question of this side, and a call that is pipelined on it is held
/// back: calls on the results follow that one, whether or not a field was asked for before.
#[test]
fn results_that_are_taken_from_another_call_are_behind_what_is_held_back() {
    for asked_before in [false, true] {
        let (mut raw, object) = one_at_a_time(limits());
        let (callee, passed) = raw.net.object("callee");
        let (inner, given) = raw.net.object("inner");
        callee.hold();
        let server = raw.give_bootstrap(7);
        let asked = raw.net.call(&server, 50, &[passed]);
        let field = asked_before.then(|| asked.pipelined(0));
        raw.expect(&["call 0 on 7 (50) [senderHosted 1]"]);
        raw.net.set_flow_limit(raw.end, u64::MAX);
        raw.send(call(1, on(0), 1, &[]));
        raw.send(call_to(2, on(1), 2, &[], ResultsTo::Yourself));
        raw.net.set_flow_limit(raw.end, 0);
        raw.send(call(3, on_field(2, &[0]), 3, &[]));
        assert_eq!(load(&raw.net, raw.end).1, 1);
        raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(2)));
        let mut calls = Vec::new();
        if let Some(field) = &field {
            calls.push(raw.net.call(&asked.pipelined(0), 4, &[]));
            calls.push(raw.net.call(field, 5, &[]));
        }
        callee.answer_with(&[given]);
        calls.push(raw.net.call(&asked.cap(0), 6, &[]));
        raw.net.run();
        let expected: &[u64] = if asked_before { &[3, 4, 5, 6] } else { &[3, 6] };
        assert_eq!(inner.seen(), expected);
        calls.iter().for_each(|call| drop(call.ok()));
        object.answer_with(&[]);
        raw.net.run();
        callee.acknowledge();
        drop((server, asked, field, calls));
        raw.finish();
    }
}

/// The peer calls a promise of this side, and sends it along as a parameter of another call;
/// both calls are held back. Meanwhile the promise resolves to promise 4 of the peer, and
/// that to an object of this side. The first call takes the path that was described to the
/// peer, and calls through the parameter follow it on the same path.
#[test]
fn a_parameter_of_a_call_that_is_held_back_takes_the_path_that_was_described_meanwhile() {
    let (mut raw, object) = one_at_a_time(limits());
    let (inner, given) = raw.net.object("inner");
    raw.send(call(1, on(0), 1, &[Descriptor::SenderPromise(4)]));
    let theirs = object.take();
    let (place, fulfiller) = promise();
    raw.net.set_flow_limit(raw.end, u64::MAX);
    raw.send(call(2, on(0), 2, &[]));
    object.answer_with(&[place.clone(), given]);
    raw.expect(&["return 2 results (0) [senderPromise 1, senderHosted 2]"]);
    raw.net.set_flow_limit(raw.end, 0);
    raw.send(call(3, on(1), 3, &[]));
    raw.send(call(4, on(0), 4, &[Descriptor::ReceiverHosted(1)]));
    assert_eq!(load(&raw.net, raw.end).1, 3);

    fulfiller.fulfill(theirs.params().caps()[0].clone());
    raw.expect(&["resolve 1 receiverHosted 4"]);
    raw.send(resolve(4, Descriptor::ReceiverHosted(2)));
    raw.expect(&["disembargo senderLoopback 0 on 4"]);
    // This is for what was sent to promise 4 before. It does not wait for room.
    raw.send(lift(on(2), 0));
    raw.expect(&["call 0 on 4 (3)"]);
    let held = object.take();
    let later = raw.net.call(&held.params().caps()[0], 5, &[]);
    raw.net.run();
    assert_eq!(inner.seen(), [], "the call that the peer has made first is on its way");
    raw.expect(&["call 1 on 4 (5)"]);
    drop((place, later, held, theirs));
    raw.finish();
}

/// They take memory, and a peer can send any number of them.
#[test]
fn references_that_wait_count_as_held_back() {
    let limits = Limits { held_back_bytes: 8192, ..limits() };
    let (mut raw, object) = one_at_a_time(limits);
    let promises: Vec<_> = (0..40).map(Descriptor::SenderPromise).collect();
    raw.send(call(1, on(0), 1, &promises));
    raw.send(call(2, on(0), 2, &[]));
    for promise in 0..20 {
        raw.send(resolve(promise, Descriptor::ReceiverHosted(0)));
    }
    raw.expect_alive();
    assert_eq!(load(&raw.net, raw.end).1, 21);
    for promise in 20..40 {
        raw.send(resolve(promise, Descriptor::ReceiverHosted(0)));
    }
    raw.expect_abort("Limits::held_back_bytes");
    drop(object.take());
    raw.finish();
}

/// The calls in front of them are lost, but they are capabilities of this side.
#[test]
fn references_that_wait_are_there_when_the_connection_ends() {
    let (mut raw, object) = one_at_a_time(limits());
    let first = unfinished(&mut raw, &object);
    let ours = first.params().caps()[0].clone();
    let broken = first.params().caps()[1].clone();
    raw.send(call(2, on(0), 2, &[]));
    raw.send(resolve(4, Descriptor::ReceiverHosted(0)));
    raw.send(reject(5, Error::failed("no")));
    assert!(ours.is_unresolved());
    assert!(!broken.is_unresolved(), "there is nothing to wait for");
    raw.net.cut(raw.end);
    assert!(ours.local_dispatch().is_some());
    let later = raw.net.call(&ours, 3, &[]);
    raw.net.run();
    assert_eq!(object.seen(), [1, 3]);
    object.answer_with(&[]);
    later.ok();
    drop((first, ours, broken, later));
    raw.finish();
}

fn unfinished(raw: &mut Raw, object: &Actor) -> crate::cap::incoming_call::IncomingCall {
    raw.send(call(1, on(0), 1, &[Descriptor::SenderPromise(4), Descriptor::SenderPromise(5)]));
    object.take()
}

/// While nothing is held back, a reference is no promise.
#[test]
fn without_a_limit_our_object_comes_back_as_what_it_is() {
    let (mut raw, object) = one_at_a_time(limits());
    raw.net.set_flow_limit(raw.end, u64::MAX);
    raw.send(call(1, on(0), 1, &[Descriptor::ReceiverHosted(0)]));
    let held = object.take();
    let client: &Client = &held.params().caps()[0];
    assert!(client.local_dispatch().is_some());
    held.respond(Ok(content::results(0, &[])));
    raw.send(finish(1, true));
    raw.finish();
}

/// The reference is to a field of a call that was passed on to the peer. When the connection
/// has ended, nobody can tell what that field is.
#[test]
fn references_to_what_the_peer_would_have_returned_break_when_the_connection_ends() {
    let (mut raw, object) = one_at_a_time(limits());
    let theirs = raw.give_bootstrap(7);
    let asked = raw.net.call(&theirs, 50, &[]);
    raw.net.set_flow_limit(raw.end, u64::MAX);
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    object.take().forward(&theirs);
    raw.expect(&[
        "call 0 on 7 (50)",
        "call 1 on 7 (1) yourself",
        "return 1 takeFromOtherQuestion 1",
    ]);
    raw.net.set_flow_limit(raw.end, 0);
    raw.send(call(3, on(0), 3, &[]));
    raw.send(ret(0, 50, &[Descriptor::ReceiverAnswer(promised(1, &[0]))]));
    let field = asked.cap(0);
    assert_eq!((field.is_unresolved(), load(&raw.net, raw.end).1), (true, 2));
    raw.net.cut(raw.end);
    assert!(field.failure().is_some());
    drop((object.take(), theirs, asked, field));
    raw.finish();
}
