//! Questions whose results are those of a call that the peer passed back.

use capnp::message::ReaderSegments;

use super::content;
use super::net::{self, Call, Net};
use super::raw::{self, Raw, call, call_to, finish, lift, on, on_field, release, ret, ret_with};
use crate::cap::client::Client;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::payload::{Carrier, Payload};
use crate::error::{Error, ErrorKind};
use crate::wire::message::Message;
use crate::wire::{self, Hint, ResultsTo, ReturnKind};

/// Note [embargo]: calls wait behind the embargo whether their capability comes from
/// the results or from asking for the field again.
#[test]
fn results_that_are_taken_from_another_call_stand_behind_the_embargo() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (callee, passed) = net.object("callee");
    let (own, given) = net.object("own");
    callee.give(vec![given]);
    server.on_call(|call| {
        let target = call.params().caps()[0].clone();
        call.forward(&target);
    });

    let asked = net.call(&remote, 10, &[passed]);
    let field = asked.pipelined(0);
    let before = net.call(&field, 1, &[]);
    net.step(a, "call 0 on 0 (10) [senderHosted 0]");
    net.step(b, "call 0 on 0 (10) [receiverHosted 0] yourself");
    net.step(b, "return 0 takeFromOtherQuestion 0");
    assert_eq!(callee.seen(), [10]);

    // The results are there, the call that was sent before is not.
    let read = asked.cap(0);
    let again = asked.pipelined(0);
    let mut calls = vec![net.call(&read, 2, &[])];
    calls.push(net.call(&again, 3, &[]));
    calls.push(net.call(&field, 4, &[]));
    net.run();
    assert_eq!(own.seen(), []);

    net.settle();
    assert_eq!(own.seen(), [1, 2, 3, 4]);
    for call in calls.iter().chain([&before]) {
        call.ok();
    }
    drop((remote, asked, field, before, read, again, calls));
    callee.acknowledge();
    net.finish();
}

/// `Return.takeFromOtherQuestion`: B passes A's call back to A. A asks for a field of the
/// results before that and after it, and gets the same capability: calls through both
/// arrive in the order in which they were made.
#[test]
fn a_field_is_the_same_before_and_after_its_call_comes_back() {
    for first_again in [true, false] {
        let (mut net, [a, b], server, remote) = net::pair();
        let (callee, passed) = net.object("callee");
        let (own, given) = net.object("own");
        callee.hold();
        server.on_call(|call| {
            let target = call.params().caps()[0].clone();
            call.forward(&target);
        });

        let asked = net.call(&remote, 10, &[passed]);
        let field = asked.pipelined(0);
        net.step(a, "call 0 on 0 (10) [senderHosted 0]");
        net.step(b, "call 0 on 0 (10) [receiverHosted 0] yourself");
        net.step(b, "return 0 takeFromOtherQuestion 0");
        let again = asked.pipelined(0);
        let fields = if first_again { [again, field] } else { [field, again] };
        let mut calls = vec![net.call(&fields[0], 1, &[]), net.call(&fields[1], 2, &[])];
        calls.push(net.call(&asked.pipelined(0), 3, &[]));
        callee.answer_with(&[given]);
        calls.push(net.call(&asked.cap(0), 4, &[]));
        net.settle();
        assert_eq!(own.seen(), [1, 2, 3, 4]);
        calls.iter().for_each(|call| drop(call.ok()));
        drop((remote, asked, fields, calls));
        callee.acknowledge();
        net.finish();
    }
}

/// The same when the promise through which the call was sent is gone.
#[test]
fn an_embargo_covers_a_field_that_was_called_through_a_promise_that_is_gone() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (callee, passed) = net.object("callee");
    let (own, given) = net.object("own");
    callee.give(vec![given]);
    server.on_call(|call| {
        let target = call.params().caps()[0].clone();
        call.forward(&target);
    });

    let asked = net.call(&remote, 10, &[passed]);
    let before = net.call(&asked.pipelined(0), 1, &[]);
    net.step(a, "call 0 on 0 (10) [senderHosted 0]");
    net.step(b, "call 0 on 0 (10) [receiverHosted 0] yourself");
    net.step(b, "return 0 takeFromOtherQuestion 0");
    let after = net.call(&asked.pipelined(0), 2, &[]);
    net.settle();
    assert_eq!(own.seen(), [1, 2]);
    drop((remote, asked, before, after));
    callee.acknowledge();
    net.finish();
}

/// Something that came back: a call of `callee`, which keeps it open, passed back
/// by the test for the call that is returned.
fn passed_back() -> (Raw, Client, Call, IncomingCall) {
    let mut net = Net::new();
    let (callee, passed) = net.object("callee");
    callee.hold();
    let (mut raw, server) = raw::caller(net);
    let asked = raw.net.call(&server, 10, &[passed]);
    raw.expect(&["call 0 on 0 (10) [senderHosted 0]"]);
    raw.send(call_to(0, on(0), 10, &[], ResultsTo::Yourself));
    let held = callee.take();
    assert!(!held.is_cancelled());
    (raw, server, asked, held)
}

fn end_passed_back(mut raw: Raw, server: Client, held: IncomingCall) {
    assert!(held.is_cancelled());
    held.respond(Err(Error::failed("cancelled")));
    raw.expect(&["return 0 resultsSentElsewhere"]);
    raw.send(finish(0, true));
    raw.send(release(0, 1));
    raw.expect_alive();
    drop(server);
    raw.finish();
}

/// Note [tail calls], at the first caller: some peers finish the call that they passed
/// back only when it has returned.
#[test]
fn losing_interest_cancels_the_call_that_came_back() {
    let (mut raw, server, asked, held) = passed_back();
    raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
    raw.expect(&["finish 0"]);
    assert!(!held.is_cancelled());
    drop(asked);
    end_passed_back(raw, server, held);
}

/// The same when a field of the results was asked for, and perhaps called: only the holder
/// of the field keeps the call that came back from being cancelled.
#[test]
fn losing_interest_in_a_field_and_its_call_cancels_the_call_that_came_back() {
    for called in [false, true] {
        let (mut raw, server, asked, held) = passed_back();
        let field = asked.pipelined(0);
        let early = called.then(|| raw.net.call(&field, 11, &[]));
        raw.sent();
        raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
        if called {
            raw.expect(&["disembargo senderLoopback 0 on #0.0", "finish 0"]);
            raw.send(lift(on_field(0, &[0]), 0));
        } else {
            raw.expect(&["finish 0"]);
        }
        drop(asked);
        assert!(!held.is_cancelled(), "the field is wanted");
        drop(early);
        raw.sent();
        drop(field);
        end_passed_back(raw, server, held);
    }
}

/// `Return.takeFromOtherQuestion`: the Finish crosses the Return.
#[test]
fn a_call_that_came_back_for_one_that_is_finished_is_cancelled() {
    let (mut raw, server, asked, held) = passed_back();
    drop(asked);
    raw.expect(&["finish 0 releaseResultCaps"]);
    // It may still be answered otherwise.
    assert!(!held.is_cancelled());
    raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
    end_passed_back(raw, server, held);
}

/// The peer has seen our Finish, finishes what it passed back, and then returns.
#[test]
fn a_return_for_a_finished_question_may_name_a_call_that_is_finished() {
    let (mut raw, server, asked, held) = passed_back();
    drop(asked);
    raw.expect(&["finish 0 releaseResultCaps"]);
    raw.send(finish(0, true));
    raw.expect(&["return 0 resultsSentElsewhere"]);
    raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
    assert!(held.is_cancelled());
    drop(held);
    raw.send(release(0, 1));
    raw.expect_alive();
    drop(server);
    raw.finish();
}

/// It came over the connection, and ends with it: whoever waits for it would wait for ever if
/// only the peer would have ended it. This holds if both sides have finished, too.
#[test]
fn a_call_that_came_back_ends_with_the_connection() {
    for is_finished in [false, true] {
        let (mut raw, server, asked, held) = passed_back();
        raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
        raw.expect(&["finish 0"]);
        if is_finished {
            raw.send(finish(0, true));
            raw.expect(&["return 0 resultsSentElsewhere"]);
        }
        assert!(!held.is_cancelled());
        asked.assert_open();
        raw.net.cut(raw.end);
        assert!(held.is_cancelled());
        assert_eq!(asked.error().kind(), ErrorKind::Disconnected);
        // Too late.
        held.respond(Ok(Payload::empty().clone()));
        assert_eq!(asked.error().kind(), ErrorKind::Disconnected);
        drop(server);
        raw.finish();
    }
}

/// Results in which the fields 0 and 1 name one capability, as only a message can
/// have them.
fn named_twice(cap: &Client) -> Payload {
    let twice = content::results(0, &[cap.clone(), cap.clone()]);
    let (mut words, mut lengths) = (Vec::new(), Vec::new());
    for index in 0..u32::try_from(ReaderSegments::len(&twice)).unwrap() {
        let segment = twice.get_segment(index).unwrap();
        lengths.push(u32::try_from(segment.len() / 8).unwrap());
        for word in segment.chunks_exact(8) {
            // A capability pointer to index 1.
            let index = if word == [3, 0, 0, 0, 1, 0, 0, 0] { 0 } else { word[4] };
            let (low, high) = word.split_at(4);
            words.push(capnp::word(
                low[0], low[1], low[2], low[3], index, high[1], high[2], high[3],
            ));
        }
    }
    let frame = Message::from_segments(words, &lengths).unwrap();
    Payload::received(Some(frame.into()), Carrier::Return, vec![cap.clone()])
}

/// Note [embargo], where two pipelined paths lead to one capability: calls on the
/// capability in the results follow the calls through both paths, in whatever order the
/// peer sends those on.
#[test]
fn results_stand_behind_the_embargoes_of_all_paths_that_lead_to_them() {
    for first in [0, 1] {
        let (mut raw, server, asked, held) = passed_back();
        let (own, given) = raw.net.object("own");
        let fields = [asked.pipelined(0), asked.pipelined(1)];
        let mut calls = vec![raw.net.call(&fields[0], 1, &[]), raw.net.call(&fields[1], 2, &[])];
        raw.expect(&["call 1 on #0.0 (1)", "call 2 on #0.1 (2)"]);
        raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
        raw.expect(&[
            "disembargo senderLoopback 0 on #0.0",
            "disembargo senderLoopback 1 on #0.1",
            "finish 0",
        ]);
        held.respond(Ok(named_twice(&given)));
        raw.expect(&["return 0 resultsSentElsewhere"]);

        let read = asked.cap(0);
        assert!(read == asked.cap(1));
        calls.push(raw.net.call(&read, 3, &[]));
        let (second, seen) = (1 - first, |path: u16| u64::from(path) + 1);
        for (question, path) in [(10, first), (11, second)] {
            raw.net.run();
            assert!(!own.seen().contains(&3), "ahead of the calls through path {path}");
            raw.send(call(question, on_field(0, &[path]), seen(path), &[]));
            raw.send(lift(on_field(0, &[path]), u32::from(path)));
        }
        assert_eq!(own.seen(), [seen(first), seen(second), 3]);
        calls.push(raw.net.call(&read, 4, &[]));
        raw.net.run();
        assert_eq!(own.seen().last(), Some(&4));
        assert!(read == given);

        // The calls that the peer sent on are answered, and so are those of this
        // side.
        raw.send(ret(1, 1, &[]));
        raw.send(ret(2, 2, &[]));
        calls.iter().for_each(|call| drop(call.ok()));
        raw.send(finish(0, true));
        raw.expect_alive();
        drop((server, asked, fields, calls, read, given));
        raw.finish();
    }
}

/// The call that came back was passed on, and is cancelled with the one that it was
/// passed back for. Nobody is left who would end it but us, while the peer has not
/// finished it and may go on to pipeline calls on it.
#[test]
fn what_is_pipelined_on_a_cancelled_call_that_came_back_and_was_passed_on_fails() {
    let mut net = Net::new();
    let (callee, passed) = net.object("callee");
    let (mut raw, server) = raw::caller(net);
    callee.forward(server.clone());
    let asked = raw.net.call(&server, 10, &[passed]);
    raw.expect(&["call 0 on 0 (10) [senderHosted 0]"]);
    raw.send(call_to(0, on(0), 10, &[], ResultsTo::Yourself));
    raw.expect(&["call 1 on 0 (10)"]);
    drop(asked);
    raw.expect(&["finish 0 releaseResultCaps"]);
    raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
    raw.expect(&["finish 1 releaseResultCaps", "return 0 resultsSentElsewhere"]);
    raw.send(call(1, on_field(0, &[0]), 11, &[]));
    raw.expect(&["return 1 failed: the call was cancelled"]);
    raw.send(ret_with(1, ReturnKind::Canceled));
    raw.send(finish(0, true));
    raw.expect_alive();
    callee.acknowledge();
    drop(server);
    raw.finish();
}

/// Note [idle]: when both sides have finished, no table has such a call, and the connection may
/// be closed. It needs nothing of the peer, and somebody here waits for it.
#[test]
fn a_call_that_came_back_outlives_a_connection_that_is_not_used() {
    for peer_is_idle in [false, true] {
        let (mut net, [a, b], server, remote) = net::pair();
        let (callee, passed) = net.object("callee");
        callee.hold();
        server.on_call(|call| {
            let target = call.params().caps()[0].clone();
            call.forward(&target);
        });
        let asked = net.call(&remote, 10, &[passed]);
        drop(remote);
        net.settle();
        server.acknowledge();
        let held = callee.take();
        if peer_is_idle {
            assert!(net.machine(b).declare_idle());
            net.settle();
        } else {
            assert!(net.machine(a).end_if_unused());
        }
        assert!(net.machine(a).failure().is_some());
        assert!(!held.is_cancelled());
        asked.assert_open();
        held.respond(Ok(content::results(11, &[])));
        net.run();
        assert_eq!(content::label(&asked.ok()), 11);
        drop(asked);
        callee.acknowledge();
        net.finish();
    }
}

/// `Call.noPromisePipelining` is the word of the peer, and not of those who take the outcome.
#[test]
fn who_takes_the_outcome_of_a_call_may_pipeline_on_it_whatever_the_peer_does() {
    let mut net = Net::new();
    let (callee, passed) = net.object("callee");
    let (own, given) = net.object("own");
    callee.hold();
    let (mut raw, server) = raw::caller(net);
    let asked = raw.net.call(&server, 10, &[passed]);
    let field = asked.pipelined(0);
    raw.sent();
    let wire::Message::Call(back) = call_to(0, on(0), 10, &[], ResultsTo::Yourself) else {
        unreachable!()
    };
    raw.send(wire::Message::Call(wire::Call { hint: Hint::NoPipelining, ..back }));
    raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
    raw.expect(&["finish 0"]);
    callee.answer_with(&[given]);
    let calls = [raw.net.call(&field, 1, &[]), raw.net.call(&asked.cap(0), 2, &[])];
    raw.net.run();
    assert_eq!(own.seen(), [1, 2]);
    calls.iter().for_each(|call| drop(call.ok()));
    drop((asked, field, calls, server));
    raw.finish();
}

/// A vat that passes calls on to another peer, and what it has of that one's object.
fn passes_on(net: &mut Net) -> (super::actor::Actor, super::actor::Actor, Client) {
    let (callee, passed) = net.object("callee");
    let (third, client) = net.object("third");
    let (near, _) = net.link(None, Some(client));
    let client = net.bootstrapped(near);
    callee.forward(client);
    (callee, third, passed)
}

/// Whoever holds a field, and no call, wants what was called through the field to arrive. It
/// comes back by the call that came back, which was passed on to another vat.
#[test]
fn what_was_called_through_a_field_arrives_though_nobody_waits_for_the_call() {
    for late in [false, true] {
        let (mut net, [a, b], server, remote) = net::pair();
        let (callee, third, passed) = passes_on(&mut net);
        let (own, given) = net.object("own");
        server.on_call(|call| {
            let target = call.params().caps()[0].clone();
            call.forward(&target);
        });
        third.hold();
        let mut asked = Some(net.call(&remote, 10, &[passed]));
        let field = asked.as_ref().unwrap().pipelined(0);
        let mut calls = vec![net.call(&field, 1, &[])];
        if late {
            net.step(a, "call 0 on 0 (10) [senderHosted 0]");
            net.step(b, "call 0 on 0 (10) [receiverHosted 0] yourself");
            net.step(b, "return 0 takeFromOtherQuestion 0");
        }
        asked.take();
        net.settle();
        third.answer_with(&[given]);
        calls.push(net.call(&field, 2, &[]));
        net.settle();
        calls.iter().for_each(|call| drop(call.ok()));
        assert_eq!(own.seen(), [1, 2]);
        drop((remote, field, calls));
        callee.acknowledge();
        third.acknowledge();
        net.finish();
    }
}

/// Of a bootstrap request, only the field is wanted.
#[test]
fn a_bootstrap_capability_may_be_that_of_a_call_that_came_back() {
    for called in [false, true] {
        let mut net = Net::new();
        let (callee, third, passed) = passes_on(&mut net);
        let (own, given) = net.object("own");
        let mut raw = Raw::new(net, Some(passed));
        raw.take_bootstrap();
        third.on_call(move |call| {
            call.respond(Ok(Payload::of_capability(given.clone())));
        });
        let server = raw.net.bootstrap(raw.end);
        raw.expect(&["bootstrap 0"]);
        let mut calls = Vec::new();
        if called {
            calls.push(raw.net.call(&server, 1, &[]));
            raw.expect(&["call 1 on #0 (1)"]);
        }
        raw.send(call_to(0, on(0), 10, &[], ResultsTo::Yourself));
        raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
        if called {
            raw.send(call(1, on_field(0, &[]), 1, &[]));
            raw.send(lift(on_field(0, &[]), 0));
        }
        calls.push(raw.net.call(&server, 2, &[]));
        raw.net.settle();
        if called {
            raw.sent();
            raw.send(ret(1, 1, &[]));
        }
        calls.iter().for_each(|call| drop(call.ok()));
        assert_eq!(own.seen(), if called { &[1, 2][..] } else { &[2] });
        raw.expect_alive();
        drop((server, calls));
        callee.acknowledge();
        third.acknowledge();
        raw.finish();
    }
}
