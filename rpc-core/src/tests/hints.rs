//! What callers say about the use they will make of an answer, and what becomes of
//! those who do otherwise.

use super::content;
use super::net::{self, INTERFACE, METHOD, Net};
use super::raw::{
    Raw, call, call_hinted, call_to, disembargo, finish, on, on_field, release, ret, ret_with,
};
use crate::cap::client::Client;
use crate::cap::pending::Pending;
use crate::error::Error;
use crate::typed::Pipeline;
use crate::wire::{Descriptor, Finish, Hint, Message, ResultsTo, Return, ReturnKind};

const FIRST: u32 = 1 << 31;

/// A call for the pipeline only, and the capability that its first field will be.
fn pipeline_only(client: &Client, label: u64, caps: &[Client]) -> Client {
    let pipeline: Pipeline =
        client.call_pipeline_only(INTERFACE, METHOD, content::params(label, caps));
    pipeline.get_pointer_field(0).as_cap()
}

fn without_pipeline(client: &Client, label: u64) -> Pending {
    client.call_without_pipeline(INTERFACE, METHOD, content::params(label, &[]))
}

// ---- onlyPromisePipeline

/// Behaviour: pipeline-only call.
#[test]
fn a_call_for_the_pipeline_only_is_never_returned() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (inner, given) = net.object("inner");
    server.give(vec![given]);
    let field = pipeline_only(&remote, 10, &[]);
    let calls = [net.call(&field, 1, &[]), net.call(&field, 2, &[])];
    net.step(a, &format!("call {FIRST} on 0 (10) onlyPromisePipeline"));
    assert_eq!(net.queued(b), 0);
    net.settle();
    // Also when the method has returned long since.
    let late = net.call(&field, 3, &[]);
    net.settle();
    assert_eq!(inner.seen(), [1, 2, 3]);
    calls.iter().chain([&late]).for_each(|call| drop(call.ok()));
    assert!(field.is_unresolved());
    assert_eq!(net.snapshot(a).questions, 1);
    assert_eq!(net.snapshot(b).answers, 1);
    drop((field, calls, late));
    server.acknowledge();
    net.step(a, &format!("finish {FIRST} releaseResultCaps"));
    assert_eq!(net.queued(b), 0);
    assert_eq!(inner.drops(), 1);
    drop(remote);
    net.finish();
}

#[test]
fn a_call_for_the_pipeline_only_goes_on_as_long_as_its_pipeline() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (inner, given) = net.object("inner");
    server.hold();
    let field = pipeline_only(&remote, 10, &[]);
    net.settle();
    let held = server.take();
    held.set_pipeline(content::results(0, &[given]));
    let early = net.call(&field, 1, &[]);
    net.settle();
    early.ok();
    assert!(!held.is_cancelled());
    drop((field, early));
    net.settle();
    assert!(held.is_cancelled());
    assert_eq!(net.snapshot(a).questions + net.snapshot(b).answers, 0);
    held.respond(Ok(content::results(0, &[])));
    net.settle();
    assert_eq!(inner.seen(), [1]);
    drop(remote);
    net.finish();
}

#[test]
fn who_calls_the_pipeline_of_a_call_that_failed_learns_of_it() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    server.on_call(|call| call.respond(Err(Error::failed("on purpose"))));
    let (a, _) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    let field = pipeline_only(&remote, 10, &[]);
    let early = net.call(&field, 1, &[]);
    net.settle();
    let late = net.call(&field, 2, &[]);
    net.settle();
    for call in [&early, &late] {
        assert!(call.error().reason().contains("on purpose"));
    }
    drop((remote, field, early, late));
    net.finish();
}

/// Every vat on the way does without results.
#[test]
fn a_call_for_the_pipeline_only_stays_one_when_it_is_passed_on() {
    let mut net = Net::new();
    let (behind, behind_client) = net.object("behind");
    let (front, front_client) = net.object("front");
    let (inner, given) = net.object("inner");
    behind.give(vec![given]);
    let (a, b) = net.link(None, Some(front_client));
    let (b_to_c, _) = net.link(None, Some(behind_client));
    front.forward(net.bootstrapped(b_to_c));
    let remote = net.bootstrapped(a);
    let field = pipeline_only(&remote, 10, &[]);
    let called = net.call(&field, 1, &[]);
    net.step(a, &format!("call {FIRST} on 0 (10) onlyPromisePipeline"));
    net.step(b_to_c, &format!("call {FIRST} on 0 (10) onlyPromisePipeline"));
    net.settle();
    called.ok();
    assert_eq!(inner.seen(), [1]);
    assert_eq!(net.snapshot(b).exports, 1);
    drop((remote, field, called));
    front.acknowledge();
    behind.acknowledge();
    net.finish();
}

/// Nor is the results' way cut short: the caller takes no Return that would say so.
#[test]
fn a_call_for_the_pipeline_only_that_goes_back_is_not_a_tail_call() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (callee, passed) = net.object("callee");
    let (own, given) = net.object("own");
    callee.give(vec![given]);
    server.on_call(|call| {
        let target = call.params().caps()[0].clone();
        call.forward(&target);
    });
    let field = pipeline_only(&remote, 10, &[passed]);
    let mut calls = vec![net.call(&field, 1, &[])];
    net.step(a, &format!("call {FIRST} on 0 (10) [senderHosted 0] onlyPromisePipeline"));
    net.step(b, &format!("call {FIRST} on 0 (10) [receiverHosted 0] onlyPromisePipeline"));
    net.settle();
    calls.push(net.call(&field, 2, &[]));
    net.settle();
    assert_eq!(own.seen(), [1, 2]);
    calls.iter().for_each(|call| drop(call.ok()));
    drop((remote, field, calls));
    callee.acknowledge();
    net.finish();
}

#[test]
fn a_pipeline_of_this_process_needs_no_results_either() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (inner, given) = net.object("inner");
    server.give(vec![given]);
    let field = pipeline_only(&client, 10, &[]);
    let called = net.call(&field, 1, &[]);
    net.run();
    called.ok();
    assert_eq!(inner.seen(), [1]);
    server.acknowledge();
    drop((client, field, called));
    net.finish();
}

/// A peer that does not know the hint.
#[test]
fn a_return_that_nobody_wants_is_ignored_and_the_hint_is_given_up() {
    let mut net = Net::new();
    let (parameter, given) = net.object("parameter");
    let mut raw = Raw::new(net, None);
    let server = raw.give_bootstrap(5);
    let first = pipeline_only(&server, 1, &[given]);
    let second = pipeline_only(&server, 2, &[]);
    drop(second);
    raw.expect(&[
        &format!("call {FIRST} on 5 (1) [senderHosted 0] onlyPromisePipeline"),
        &format!("call {} on 5 (2) onlyPromisePipeline", FIRST + 1),
        &format!("finish {} releaseResultCaps", FIRST + 1),
    ]);
    // One is finished, the other is not; and a peer may give the parameters back.
    raw.send(ret(FIRST + 1, 0, &[Descriptor::SenderHosted(8)]));
    raw.send(Message::Return(Return {
        answer: FIRST,
        release_params: true,
        no_finish_needed: false,
        outcome: ReturnKind::Exception(Error::failed("nobody reads this")),
    }));
    raw.expect(&[]);
    assert_eq!(parameter.drops(), 1);
    let called = raw.net.call(&first, 3, &[]);
    raw.expect(&[&format!("call 0 on #{FIRST}.0 (3)")]);
    raw.send(ret(0, 3, &[]));
    called.ok();
    raw.expect(&["finish 0"]);
    // From now on the peer is asked as it wants to be.
    let third = pipeline_only(&server, 4, &[]);
    raw.expect(&["call 0 on 5 (4)"]);
    raw.send(ret(0, 0, &[Descriptor::SenderHosted(9)]));
    raw.expect(&["finish 0"]);
    drop((first, called));
    raw.expect(&[&format!("finish {FIRST} releaseResultCaps")]);
    raw.send(ret(FIRST, 0, &[]));
    raw.expect_alive();
    drop((server, third));
    raw.finish();
}

#[test]
fn a_return_for_a_pipeline_that_was_never_asked_for_ends_the_connection() {
    for answer in [FIRST + 1, FIRST + 7, u32::MAX] {
        let mut raw = Raw::new(Net::new(), None);
        let server = raw.give_bootstrap(5);
        let field = pipeline_only(&server, 1, &[]);
        raw.send(ret(answer, 0, &[]));
        raw.expect_abort("was not asked");
        assert!(field.failure().is_some());
        drop((server, field));
        raw.finish();
    }
}

/// Note [ending], for a call with `onlyPromisePipeline`.
#[test]
fn a_pipeline_breaks_with_its_connection() {
    let mut raw = Raw::new(Net::new(), None);
    let server = raw.give_bootstrap(5);
    let field = pipeline_only(&server, 1, &[]);
    let called = raw.net.call(&field, 2, &[]);
    raw.net.cut(raw.end);
    assert_eq!(called.error().kind(), crate::ErrorKind::Disconnected);
    assert!(field.failure().is_some());
    drop((server, field, called));
    raw.finish();
}

/// The callee, and a peer that gives both hints, or one that makes no sense.
#[test]
fn hints_that_make_no_sense_are_ignored() {
    let mut net = Net::new();
    let (_object, client) = net.object("object");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    raw.send_built(|message| {
        let mut call = message.init_call();
        call.set_question_id(1);
        call.reborrow().init_target().set_imported_cap(0);
        call.set_no_promise_pipelining(true);
        call.set_only_promise_pipeline(true);
        call.init_params();
    });
    raw.expect(&["return 1 results (0) noFinishNeeded"]);
    raw.send_built(|message| {
        let mut call = message.init_call();
        call.set_question_id(2);
        call.reborrow().init_target().set_imported_cap(0);
        call.set_only_promise_pipeline(true);
        call.reborrow().get_send_results_to().set_yourself(());
        call.init_params();
    });
    raw.expect(&["return 2 resultsSentElsewhere"]);
    raw.send(finish(2, true));
    raw.expect_alive();
    raw.finish();
}

#[test]
fn a_call_for_the_pipeline_only_is_owed_no_return_however_it_ends() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let (inner, given) = net.object("inner");
    object.hold();
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    // Answered, failed, dropped, and finished before that.
    for question in 1..=4 {
        raw.send(call_hinted(question, on(0), 0, Hint::OnlyPipeline));
    }
    object.answer_with(&[given]);
    object.answer(Err(Error::failed("on purpose")));
    drop(object.take());
    raw.send(finish(4, true));
    let cancelled = object.take();
    assert!(cancelled.is_cancelled());
    drop(cancelled);
    raw.net.run();
    raw.expect(&[]);
    raw.send(call(5, on_field(1, &[0]), 7, &[]));
    raw.send(call(6, on_field(2, &[0]), 8, &[]));
    raw.send(call(7, on_field(3, &[0]), 9, &[]));
    raw.send(call(8, on_field(4, &[0]), 9, &[]));
    let sent = raw.sent();
    assert_eq!(sent[0], "return 5 results (7) noFinishNeeded");
    assert!(sent[1].contains("on purpose"), "{sent:?}");
    assert!(sent[2].contains("without answering"), "{sent:?}");
    assert!(sent[3].contains("not outstanding"), "{sent:?}");
    assert_eq!(sent.len(), 4);
    // The same id may be used when it was finished, and not before.
    raw.send(finish(1, true));
    assert_eq!(inner.drops(), 1);
    raw.send(call_hinted(1, on(0), 0, Hint::OnlyPipeline));
    object.acknowledge();
    drop(object.take());
    raw.send(call_hinted(2, on(0), 0, Hint::OnlyPipeline));
    raw.expect_abort("while it is outstanding");
    raw.finish();
}

// ---- noPromisePipelining

#[test]
fn a_call_without_a_pipeline_says_so_and_cannot_be_pipelined_on() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (inner, given) = net.object("inner");
    server.give(vec![given]);
    let (a, _) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    let asked = without_pipeline(&remote, 1);
    let refused = net.call(&asked.pipelined(&[0]), 2, &[]);
    assert!(refused.error().reason().contains("without promise pipelining"));
    net.step(a, "call 0 on 0 (1) noPromisePipelining");
    net.settle();
    // What the results hold can be called when they are there.
    let held = asked.try_result().unwrap().unwrap();
    let called = net.call(&content::cap(&held, 0), 3, &[]);
    let also = net.call(&asked.pipelined(&[0]), 4, &[]);
    net.settle();
    called.ok();
    also.ok();
    assert_eq!(inner.seen(), [3, 4]);
    server.acknowledge();
    drop((remote, asked, refused, held, called, also));
    net.finish();
}

/// Also an error is not needed any more then.
#[test]
fn an_error_of_a_call_without_a_pipeline_needs_no_finish() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    object.on_call(|call| call.respond(Err(Error::failed("on purpose"))));
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call_hinted(2, on(0), 2, Hint::NoPipelining));
    raw.expect(&["return 1 failed: on purpose", "return 2 failed: on purpose noFinishNeeded"]);
    assert_eq!(raw.net.snapshot(raw.end).answers, 1);
    raw.send(finish(2, true));
    raw.send(finish(1, true));
    raw.expect_alive();
    raw.finish();
}

/// A peer that pipelines although it said that it would not: those calls fail, and
/// a parameter that names such a field is broken. A Disembargo cannot fail.
#[test]
fn pipelining_on_a_call_that_was_to_have_none_fails() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    object.hold();
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    raw.send(call_hinted(1, on(0), 1, Hint::NoPipelining));
    raw.send(call(2, on_field(1, &[0]), 2, &[]));
    raw.expect(&[
        "return 2 failed: pipelined on question 1, which was asked with noPromisePipelining",
    ]);
    let first = object.take();
    object.keep();
    let field = Descriptor::ReceiverAnswer(super::raw::promised(1, &[0]));
    raw.send(call(3, on(0), 3, &[field]));
    assert!(object.kept_one().failure().is_some());
    raw.expect(&["return 3 results (3) noFinishNeeded"]);
    raw.expect_alive();
    raw.send(disembargo(on_field(1, &[0]), 70));
    raw.expect_abort("noPromisePipelining");
    drop(first);
    raw.finish();
}

// ---- requireEarlyCancellationWorkaround

/// There are peers that finish calls right away and yet want them to arrive.
#[test]
fn a_finish_may_let_a_call_arrive_that_is_held_back() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    object.hold();
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    raw.net.machine(raw.end).set_flow_limit(0);
    for question in 1..=3 {
        raw.send(call(question, on(0), u64::from(question), &[Descriptor::SenderHosted(5)]));
    }
    for (question, early_cancellation_workaround) in [(2, true), (3, false)] {
        raw.send(Message::Finish(Finish {
            question,
            release_results: true,
            early_cancellation_workaround,
        }));
    }
    raw.expect(&["return 2 canceled", "return 3 canceled"]);
    object.answer_with(&[]);
    raw.net.run();
    assert_eq!(object.seen(), [1, 2]);
    assert!(object.take().is_cancelled());
    raw.expect(&["return 1 results (0) noFinishNeeded", "release 5 x3"]);
    raw.expect_alive();
    raw.finish();
}

/// What is sent says the opposite.
#[test]
fn our_own_finish_requires_no_workaround() {
    let mut raw = Raw::new(Net::new(), None);
    let server = raw.give_bootstrap(5);
    drop(raw.net.call(&server, 1, &[]));
    let sent = raw.net.take_sent(raw.end);
    assert!(sent.iter().any(|message| matches!(
        message,
        Message::Finish(Finish { early_cancellation_workaround: false, .. })
    )));
    raw.send(ret_with(0, ReturnKind::Canceled));
    raw.expect_alive();
    drop(server);
    raw.finish();
}

// ---- noFinishNeeded

/// A peer that says so although there are capabilities: those stay, the question is
/// over.
#[test]
fn results_with_capabilities_may_need_no_finish() {
    let mut raw = Raw::new(Net::new(), None);
    let server = raw.give_bootstrap(5);
    let asked = raw.net.call(&server, 1, &[]);
    raw.expect(&["call 0 on 5 (1)"]);
    match ret(0, 0, &[Descriptor::SenderHosted(6)]) {
        Message::Return(ret) => raw.send(Message::Return(Return { no_finish_needed: true, ..ret })),
        other => panic!("{other:?}"),
    }
    raw.expect(&[]);
    let called = raw.net.call(&asked.cap(0), 2, &[]);
    raw.expect(&["call 0 on 6 (2)"]);
    raw.send(ret(0, 2, &[]));
    called.ok();
    drop((asked, called));
    raw.expect(&["finish 0", "release 6 x1"]);
    // A call for the peer's results to itself cannot be used twice.
    raw.send(call_to(1, on(0), 1, &[], ResultsTo::Caller));
    raw.expect_abort("does not exist");
    raw.send(release(0, 1));
    drop(server);
    raw.finish();
}
