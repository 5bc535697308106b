//! Ids, counts and the tables: who frees what, and when.

use std::sync::Arc;

use super::content;
use super::net::{self, Net, frame, limits};
use super::raw::{self, Raw, call, finish, on, on_field, release, ret};
use crate::cap::client::Client;
use crate::cap::payload::Payload;
use crate::cap::promise::promise;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::sync::Mutex;
use crate::wire::rpc_capnp;
use crate::wire::{Descriptor, Message, Return, ReturnKind};

/// `Return` and `Finish`: a whole call.
#[test]
fn a_call_returns_and_leaves_nothing_behind() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (a, b) = net.link(None, Some(client));
    let remote = net.bootstrap(a);
    let call = net.call(&remote, 5, &[]);
    net.step(a, "bootstrap 0");
    net.step(a, "call 1 on #0 (5)");
    assert_eq!(server.seen(), [5]);
    call.assert_open();
    net.step(b, "return 0 results (0) [senderHosted 0]");
    net.step(b, "return 1 results (5) noFinishNeeded");
    assert_eq!(content::label(&call.ok()), 5);
    net.step(a, "finish 0");
    drop((remote, call));
    net.step(a, "release 0 x1");
    net.finish();
}

/// `releaseParamCaps` and `releaseResultCaps` are sent as `false`, although their
/// default is `true`, except that a Finish before the Return gives the results up.
#[test]
fn flags_that_default_to_true_are_set_deliberately() {
    let returned = frame(raw::ret(0, 0, &[]));
    let finished = |release| frame(raw::finish(0, release));
    let options = capnp::message::ReaderOptions::new();
    let read = capnp::message::Reader::new(&returned, options);
    let root: rpc_capnp::message::Reader<'_> = read.get_root().unwrap();
    let rpc_capnp::message::Return(ret) = root.which().unwrap() else { panic!() };
    assert!(!ret.unwrap().get_release_param_caps());
    for release in [false, true] {
        let finished = finished(release);
        let read = capnp::message::Reader::new(&finished, options);
        let root: rpc_capnp::message::Reader<'_> = read.get_root().unwrap();
        let rpc_capnp::message::Finish(finish) = root.which().unwrap() else { panic!() };
        let finish = finish.unwrap();
        assert_eq!(finish.get_release_result_caps(), release);
        assert!(!finish.get_require_early_cancellation_workaround());
    }
}

/// `Return.releaseParamCaps` defaults to `true`: this releases the parameters.
#[test]
fn a_return_with_default_flags_releases_the_parameters() {
    let mut net = Net::new();
    let (_, own) = net.object("own");
    let (mut raw, server) = raw::caller(net);
    let call = raw.net.call(&server, 1, &[own.clone(), own]);
    raw.expect(&["call 0 on 0 (1) [senderHosted 0, senderHosted 0]"]);
    raw.send_built(|message| {
        let mut ret = message.init_return();
        ret.set_answer_id(0);
        ret.init_results();
    });
    call.ok();
    assert_eq!(raw.net.snapshot(raw.end).exports, 0);
    drop((server, call));
    raw.finish();
}

/// `Finish.releaseResultCaps` defaults to `true`: this releases the results'
/// capabilities.
#[test]
fn a_finish_with_default_flags_releases_the_results() {
    let mut net = Net::new();
    let (_, own) = net.object("own");
    let mut raw = Raw::new(net, Some(own));
    raw.send(raw::bootstrap(0));
    raw.expect(&["return 0 results (0) [senderHosted 0]"]);
    raw.send_built(|message| message.init_finish().set_question_id(0));
    assert!(raw.net.snapshot(raw.end).is_empty());
    raw.finish();
}

/// `QuestionId`: when it may be used again.
#[test]
fn a_question_id_is_used_again_only_after_both_return_and_finish() {
    let (mut raw, server) = raw::caller(Net::new());
    let first = raw.net.call(&server, 1, &[]);
    raw.expect(&["call 0 on 0 (1)"]);
    drop(first);
    raw.expect(&["finish 0 releaseResultCaps"]);
    // Finished, but not returned.
    let second = raw.net.call(&server, 2, &[]);
    raw.expect(&["call 1 on 0 (2)"]);
    raw.send(raw::ret_with(0, ReturnKind::Canceled));
    let third = raw.net.call(&server, 3, &[]);
    raw.expect(&["call 0 on 0 (3)"]);
    raw.send(ret(1, 0, &[]));
    raw.expect(&["finish 1"]);
    raw.send(ret(0, 0, &[]));
    raw.expect(&["finish 0"]);
    second.ok();
    third.ok();
    drop((server, second, third));
    raw.finish();
}

/// There are peers that never return what was finished first. Their ids stay
/// taken, but nobody may wait for them.
#[test]
fn a_cancelled_call_makes_room_for_another_one_before_it_returns() {
    let limits = Limits { questions: 1, ..limits() };
    let mut raw = Raw::with_limits(Net::new(), limits, None);
    let server = raw.give_bootstrap(0);
    let cancelled = raw.net.call(&server, 1, &[]);
    raw.expect(&["call 0 on 0 (1)"]);
    let room = Arc::clone(raw.net.machine(raw.end).room());
    assert!(room.try_take().is_none());
    drop(cancelled);
    raw.expect(&["finish 0 releaseResultCaps"]);
    let permit = room.try_take();
    assert!(permit.is_some());
    drop((permit, server));
    assert_eq!(raw.net.snapshot(raw.end).questions, 1);
    raw.finish();
}

/// The Finish waits while a described path still leads through a pipelined field.
#[test]
fn an_id_stays_taken_while_the_path_through_it_is_described() {
    let (mut raw, _) = raw::callee();
    let server = raw.give_bootstrap(0);
    let asked = raw.net.call(&server, 1, &[]);
    let field = asked.pipelined(0);
    // We answer the peer with the field of what we asked it.
    let (answerer, own) = raw.net.object("answerer");
    answerer.give(vec![field]);
    let handed = raw.net.call(&server, 2, &[own]);
    raw.expect(&["call 0 on 0 (1)", "call 1 on 0 (2) [senderHosted 1]"]);
    raw.send(call(0, on(1), 3, &[]));
    raw.expect(&["return 0 results (3) [receiverAnswer #0.0]"]);
    // Nobody here wants it any more, but the peer may call through it.
    drop(asked);
    answerer.acknowledge();
    raw.expect(&[]);
    let other = raw.net.call(&server, 4, &[]);
    raw.expect(&["call 2 on 0 (4)"]);
    raw.send(call(1, on_field(0, &[0]), 5, &[]));
    raw.expect(&["call 3 on #0.0 (5)"]);
    raw.send(finish(0, false));
    raw.expect(&["finish 0 releaseResultCaps"]);
    drop((server, handed, other));
    raw.finish();
}

/// `Return.noFinishNeeded`, received.
#[test]
fn no_finish_is_sent_when_the_return_says_that_none_is_needed() {
    let (mut raw, server) = raw::caller(Net::new());
    let first = raw.net.call(&server, 1, &[]);
    raw.expect(&["call 0 on 0 (1)"]);
    raw.send(Message::Return(Return {
        answer: 0,
        release_params: false,
        no_finish_needed: true,
        outcome: ret_outcome(7),
    }));
    assert_eq!(content::label(&first.ok()), 7);
    drop(first);
    let second = raw.net.call(&server, 2, &[]);
    raw.expect(&["call 0 on 0 (2)"]);
    drop((server, second));
    raw.finish();
}

/// What was described as a field of a question with `noFinishNeeded` does not become a
/// field of the next question with that id.
#[test]
fn a_described_field_of_a_question_that_is_gone_is_what_it_turned_out_to_be() {
    let (mut raw, server) = raw::callee();
    let peer = raw.give_bootstrap(0);
    let asked = raw.net.call(&peer, 1, &[]);
    server.give(vec![asked.pipelined(0)]);
    raw.send(call(0, on(0), 2, &[]));
    raw.expect(&["call 0 on 0 (1)", "return 0 results (2) [receiverAnswer #0.0]"]);
    server.keep();
    raw.send(Message::Return(Return {
        answer: 0,
        release_params: false,
        no_finish_needed: true,
        outcome: ReturnKind::Results(content::message(
            content::results(3, &[Client::broken(Error::failed("never called"))]),
            vec![Descriptor::ReceiverHosted(0)],
        )),
    }));
    raw.expect(&["disembargo senderLoopback 0 on #0.0"]);
    drop(asked);
    // The peer hands us what it was told: a field of our question 0, as it was.
    raw.send(call(1, on(0), 4, &[Descriptor::ReceiverAnswer(raw::promised(0, &[0]))]));
    let stale = server.kept_one();
    let other = raw.net.call(&peer, 5, &[]);
    raw.expect(&["return 1 results (4) noFinishNeeded", "call 0 on 0 (5)"]);
    let put = raw.net.call(&peer, 6, std::slice::from_ref(&stale));
    raw.expect(&["call 1 on 0 (6) [senderPromise 1]"]);
    let piped = raw.net.call(&stale, 7, &[]);
    raw.expect(&[]);
    raw.send(raw::lift(on(0), 0));
    raw.expect(&["resolve 1 senderHosted 0"]);
    piped.ok();
    drop((peer, stale, other, put, piped));
    raw.finish();
}

fn ret_outcome(label: u64) -> ReturnKind {
    ReturnKind::Results(content::message(content::results(label, &[]), Vec::new()))
}

/// A Return with `noFinishNeeded` may come after the Finish was sent.
#[test]
fn a_return_that_needs_no_finish_frees_a_cancelled_question() {
    let (mut raw, server) = raw::caller(Net::new());
    drop(raw.net.call(&server, 1, &[]));
    raw.expect(&["call 0 on 0 (1)", "finish 0 releaseResultCaps"]);
    raw.send(Message::Return(Return {
        answer: 0,
        release_params: false,
        no_finish_needed: true,
        outcome: ret_outcome(7),
    }));
    raw.expect(&[]);
    assert_eq!(raw.net.snapshot(raw.end).questions, 0);
    drop(server);
    raw.finish();
}

/// A `Finish` may follow a Return that said `noFinishNeeded`.
#[test]
fn a_finish_for_an_unknown_answer_is_ignored() {
    let mut raw = Raw::new(Net::new(), None);
    raw.send(finish(7, true));
    raw.send(finish(7, false));
    raw.expect(&[]);
    raw.expect_alive();
    raw.finish();
}

/// `Finish`: neither dropping again nor the Return causes a second one.
#[test]
fn one_finish_is_sent_however_a_question_ends() {
    let (mut raw, server) = raw::caller(Net::new());
    let asked = raw.net.call(&server, 1, &[]);
    let field = asked.pipelined(0);
    drop(asked);
    raw.expect(&["call 0 on 0 (1)"]);
    drop(field);
    raw.expect(&["finish 0 releaseResultCaps"]);
    raw.send(ret(0, 0, &[Descriptor::SenderHosted(4)]));
    raw.expect(&[]);
    drop(server);
    raw.expect(&["release 0 x1"]);
    raw.finish();
}

/// `Finish` before the Return, sent by this side: its `releaseResultCaps` covers the results.
#[test]
fn a_return_after_our_finish_imports_nothing() {
    let (mut raw, server) = raw::caller(Net::new());
    drop(raw.net.call(&server, 1, &[]));
    raw.sent();
    raw.send(ret(0, 0, &[Descriptor::SenderHosted(4), Descriptor::SenderPromise(5)]));
    raw.expect(&[]);
    assert_eq!(raw.net.snapshot(raw.end).imports, 1);
    drop(server);
    raw.expect(&["release 0 x1"]);
    raw.finish();
}

/// `Finish` before the Return, sent by the peer.
#[test]
fn no_results_are_sent_after_a_finish_was_received() {
    let (mut raw, server) = raw::callee();
    let (_, result) = raw.net.object("result");
    server.hold();
    raw.send(call(0, on(0), 1, &[]));
    raw.expect(&[]);
    raw.send(finish(0, true));
    raw.expect(&["return 0 canceled"]);
    server.answer_with(&[result]);
    raw.net.check();
    raw.expect(&[]);
    assert_eq!(raw.net.snapshot(raw.end).exports, 1);
    raw.finish();
}

/// Behaviour: a Finish that crosses the Return leaks nothing.
#[test]
fn a_finish_that_crosses_the_return_leaks_nothing() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (result, given) = net.object("result");
    server.give(vec![given.clone(), given]);
    let call = net.call(&remote, 1, &[]);
    net.step(a, "call 0 on 0 (1)");
    assert_eq!(net.queued(b), 1);
    drop(call);
    net.step(a, "finish 0 releaseResultCaps");
    net.step(b, "return 0 results (1) [senderHosted 1, senderHosted 1]");
    server.acknowledge();
    net.settle();
    assert_eq!(result.drops(), 1);
    drop(remote);
    net.finish();
}

/// `Resolve.promiseId`: the Resolve belongs to the entry, not to the number.
#[test]
fn an_export_id_is_not_resolved_for_the_promise_that_had_it_before() {
    let mut net = Net::new();
    let (_, target) = net.object("target");
    let (_, other) = net.object("other");
    let (mut raw, server) = raw::caller(net);
    let (promised, fulfiller) = promise();
    let first = raw.net.call(&server, 1, std::slice::from_ref(&promised));
    raw.expect(&["call 0 on 0 (1) [senderPromise 0]"]);
    raw.send(release(0, 1));
    let second = raw.net.call(&server, 2, &[other]);
    raw.expect(&["call 1 on 0 (2) [senderHosted 0]"]);
    fulfiller.fulfill(target);
    raw.net.check();
    raw.expect(&[]);
    drop((server, first, second, promised));
    raw.finish();
}

/// `Resolve.promiseId`, even if another promise has the number now.
#[test]
fn two_promises_that_had_one_export_id_after_each_other_resolve_apart() {
    let mut net = Net::new();
    let (_, target) = net.object("target");
    let (mut raw, server) = raw::caller(net);
    let (one, fulfil_one) = promise();
    let (two, fulfil_two) = promise();
    let first = raw.net.call(&server, 1, &[one]);
    raw.send(release(0, 1));
    let second = raw.net.call(&server, 2, &[two]);
    raw.expect(&["call 0 on 0 (1) [senderPromise 0]", "call 1 on 0 (2) [senderPromise 0]"]);
    fulfil_one.fulfill(target.clone());
    raw.net.check();
    raw.expect(&[]);
    fulfil_two.fulfill(target);
    raw.net.check();
    raw.expect(&["resolve 0 senderHosted 1"]);
    drop((server, first, second));
    raw.finish();
}

/// `Release.referenceCount` gives all references back at once.
#[test]
fn an_import_is_released_once_with_all_its_references() {
    let (mut raw, server) = raw::caller(Net::new());
    let first = raw.net.call(&server, 1, &[]);
    raw.send(ret(0, 0, &[Descriptor::SenderHosted(4), Descriptor::SenderHosted(4)]));
    let second = raw.net.call(&server, 2, &[]);
    raw.send(ret(0, 0, &[Descriptor::SenderHosted(4)]));
    let (one, two) = (first.cap(0), second.cap(0));
    assert_eq!(one, two);
    raw.sent();
    drop((first, second, one));
    raw.expect(&[]);
    drop(two);
    raw.expect(&["release 4 x3"]);
    drop(server);
    raw.finish();
}

/// Note [releases]: one message drops the last handle of an import and brings the
/// import again. This side holds import 4 only through a promise of its own that
/// resolved to the import and that the peer still imports. The Return releases that
/// promise, as a parameter, and brings import 4 again.
#[test]
fn an_import_whose_release_is_pending_comes_to_life_again() {
    let (mut raw, server) = raw::caller(Net::new());
    let got = raw.net.call(&server, 1, &[]);
    raw.send(ret(0, 0, &[Descriptor::SenderHosted(4)]));
    let import = got.cap(0);
    let (promised, fulfiller) = promise();
    let asked = raw.net.call(&server, 2, &[promised]);
    fulfiller.fulfill(import);
    drop(got);
    raw.net.check();
    raw.expect(&[
        "call 0 on 0 (1)",
        "finish 0",
        "call 0 on 0 (2) [senderPromise 0]",
        "resolve 0 receiverHosted 4",
    ]);
    let results = content::results(0, &[Client::broken(Error::failed("never called"))]);
    raw.send(Message::Return(Return {
        answer: 0,
        release_params: true,
        no_finish_needed: false,
        outcome: ReturnKind::Results(content::message(results, vec![Descriptor::SenderHosted(4)])),
    }));
    raw.expect(&["finish 0"]);
    let back = asked.cap(0);
    let again = raw.net.call(&back, 3, &[]);
    raw.expect(&["call 0 on 4 (3)"]);
    drop((asked, again, back));
    raw.expect(&["finish 0 releaseResultCaps", "release 4 x2"]);
    drop(server);
    raw.finish();
}

/// A failed send leaks no export, and its ids are used again.
#[test]
fn a_call_that_cannot_be_sent_leaks_no_export_and_no_id() {
    let mut net = Net::new();
    let (first, one) = net.object("first");
    let (_, two) = net.object("second");
    let limits = Limits { exports: 2, ..limits() };
    let mut raw = Raw::with_limits(net, limits, None);
    let server = raw.give_bootstrap(0);
    let (promised, fulfiller) = promise();
    let broken = Client::broken(Error::failed("broken"));
    let too_many = raw.net.call(&server, 1, &[broken, promised.clone(), one.clone()]);
    assert_eq!(too_many.error().kind(), ErrorKind::Overloaded);
    raw.expect(&[]);
    assert_eq!(raw.net.snapshot(raw.end).exports, 0);
    // Nothing watches the promise any more, either.
    fulfiller.fulfill(one.clone());
    raw.expect(&[]);
    let fits = raw.net.call(&server, 2, &[one, two]);
    raw.expect(&["call 0 on 0 (2) [senderHosted 0, senderHosted 1]"]);
    drop((too_many, fits, promised, server));
    assert_eq!(first.drops(), 0);
    raw.finish();
}

/// `Limits::message_words`: the call fails at the sender, before anything is entered.
#[test]
fn a_message_over_the_size_limit_fails_its_call_alone() {
    let mut net = Net::new();
    let (_, own) = net.object("own");
    let limits = Limits { message_words: 100, ..limits() };
    let mut raw = Raw::with_limits(net, limits, None);
    let server = raw.give_bootstrap(0);
    let caps: Vec<_> = std::iter::repeat_n(own, 40).collect();
    let large = raw.net.call(&server, 1, &caps);
    assert!(large.error().reason().contains("limit of 100"), "{:?}", large.error());
    raw.expect(&[]);
    assert!(raw.net.snapshot(raw.end).imports == 1 && raw.net.snapshot(raw.end).exports == 0);
    let small = raw.net.call(&server, 2, &caps[..2]);
    raw.expect(&["call 0 on 0 (2) [senderHosted 0, senderHosted 0]"]);
    drop((server, caps, large, small));
    raw.finish();
}

/// `Limits::message_words`: a field of results takes more words than another capability.
#[test]
fn a_message_is_not_over_the_size_limit_whatever_it_names() {
    let limits = Limits { message_words: 100, ..limits() };
    let mut net = Net::new();
    let (own, client) = net.object("own");
    let mut raw = Raw::with_limits(net, limits, Some(client));
    raw.take_bootstrap();
    let server = raw.give_bootstrap(5);
    let asked = raw.net.call(&server, 1, &[]);
    let fields: Vec<_> = (0..40).map(|field| asked.pipelined(field)).collect();
    raw.sent();
    let (mut calls, mut sent, mut refused) = (Vec::new(), 0, 0);
    for count in 0..fields.len() {
        let called = raw.net.call(&server, 2, &fields[..count]);
        own.give(fields[..count].to_vec());
        raw.send(call(u32::try_from(count).unwrap(), on(0), 3, &[]));
        for message in raw.net.take_sent(raw.end) {
            let content = match &message {
                Message::Call(call) => &call.params,
                Message::Return(Return { outcome: ReturnKind::Results(content), .. }) => content,
                _ => continue,
            };
            assert!(
                content.frame.as_ref().is_some_and(|frame| frame.size_in_words() <= 100),
                "{message:?}"
            );
            sent += 1;
        }
        refused += usize::from(called.result().is_some());
        calls.push(called);
    }
    assert!(sent > 10 && refused > 10, "{sent} {refused}");
    own.acknowledge();
    drop((server, asked, fields, calls));
    raw.finish();
}

/// Nothing lies so deep in results. A call that names such a place must not be passed on: to
/// another peer it may be too large.
#[test]
fn a_call_of_a_place_that_is_too_deep_fails_alone() {
    let mut net = Net::new();
    let (own, client) = net.object("own");
    let (_, there) = net.object("there");
    let limits = Limits { message_words: 100, ..limits() };
    let (near, far) = net.link_with(limits, None, Some(there));
    let there = net.bootstrapped(near);
    own.forward(there);
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    raw.send(call(1, on(0), 1, &[]));
    raw.net.take_sent(near);
    raw.send(call(2, on_field(1, &[0; 300]), 2, &[]));
    let sent = raw.sent();
    assert!(sent[0].starts_with("return 2 failed"), "{sent:?}");
    let passed_on = raw.net.take_sent(near);
    assert!(passed_on.is_empty(), "{passed_on:?}");
    raw.send(call(3, on_field(1, &[0; 50]), 3, &[]));
    assert_eq!(raw.net.queued(near), 1);
    raw.expect_alive();
    own.acknowledge();
    raw.net.cut(far);
    raw.net.cut(near);
    raw.finish();
}

/// `Limits::message_words`, for results.
#[test]
fn results_over_the_size_limit_become_an_exception_and_export_nothing() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (_, own) = net.object("own");
    server.give(std::iter::repeat_n(own, 40).collect());
    let limits = Limits { message_words: 100, ..limits() };
    let mut raw = Raw::with_limits(net, limits, Some(client));
    raw.take_bootstrap();
    raw.send(call(0, on(0), 1, &[]));
    let sent = raw.sent();
    assert!(sent[0].starts_with("return 0 failed: a message of"), "{sent:?}");
    assert_eq!(raw.net.snapshot(raw.end).exports, 1);
    raw.send(finish(0, true));
    raw.expect_alive();
    server.acknowledge();
    raw.finish();
}

/// The same for results without capabilities, of which nothing stays here.
#[test]
fn results_that_are_too_large_to_be_sent_are_an_error_here_too() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    server.hold();
    let limits = Limits { message_words: 100, ..limits() };
    let mut raw = Raw::with_limits(net, limits, Some(client));
    raw.take_bootstrap();
    raw.send(call(0, on(0), 1, &[]));
    let held = server.take();
    let cell = Arc::clone(held.cell());
    held.respond(Ok(Payload::of_bytes(&[7; 4096])));
    let sent = raw.sent();
    assert!(sent[0].starts_with("return 0 failed: a message of"), "{sent:?}");
    assert!(cell.outcome().is_some_and(|outcome| outcome.is_err()));
    raw.send(finish(0, true));
    raw.expect_alive();
    raw.finish();
}

/// An answer to a `Bootstrap` keeps its capability after a `Release` of the export.
#[test]
fn a_bootstrap_answer_outlives_the_export_that_it_was_sent_as() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let mut raw = Raw::new(net, Some(client));
    raw.send(raw::bootstrap(0));
    raw.expect(&["return 0 results (0) [senderHosted 0]"]);
    raw.send(release(0, 1));
    raw.send(call(1, on_field(0, &[]), 5, &[]));
    raw.expect(&["return 1 results (5) noFinishNeeded"]);
    raw.send(call(2, on_field(0, &[]), 6, &[Descriptor::SenderHosted(3)]));
    raw.expect(&["release 3 x1", "return 2 results (6) noFinishNeeded"]);
    raw.send(finish(0, false));
    assert_eq!(server.seen(), [5, 6]);
    raw.finish();
}

/// An `importedCap` that does not exist, as the target of a call.
#[test]
fn a_call_to_a_dead_export_ends_the_connection() {
    let (mut raw, _) = raw::callee();
    raw.send(release(0, 1));
    raw.send(call(1, on(0), 1, &[]));
    raw.expect_abort("Call to export 0");
    raw.finish();
}

/// A `promisedAnswer` that is not outstanding, or does not lead to a capability, as the
/// target of a call.
#[test]
fn a_dead_or_malformed_promised_answer_fails_that_call_alone() {
    let (mut raw, server) = raw::callee();
    let (_, result) = raw.net.object("result");
    server.on_call(move |call| {
        let nested = content::nested(0, 1, &result);
        call.respond(Ok(nested));
    });
    raw.send(call(0, on(0), 1, &[]));
    raw.expect(&["return 0 results (0) [senderHosted 1]"]);
    // Where the answer never was, where it is a struct, where there is nothing,
    // and deeper than it goes.
    for (question, path) in [(9, &[0][..]), (0, &[0]), (0, &[1]), (0, &[0, 0, 0])] {
        raw.send(call(1, on_field(question, path), 2, &[Descriptor::SenderHosted(3)]));
        let mut sent = raw.sent();
        sent.sort();
        assert_eq!(sent[0], "release 3 x1");
        assert!(sent[1].starts_with("return 1 failed"), "{sent:?}");
        assert_eq!(sent.len(), 2);
        raw.send(finish(1, false));
    }
    // A step of a kind that is not known.
    raw.send_built(|message| {
        let mut call = message.init_call();
        call.set_question_id(1);
        let mut answer = call.reborrow().init_target().init_promised_answer();
        answer.set_question_id(0);
        answer.init_transform(1);
        call.init_params();
    });
    let sent = raw.sent();
    assert!(sent[0].starts_with("return 1"), "{sent:?}");
    raw.expect_alive();
    server.acknowledge();
    raw.finish();
}

/// Behaviour: the same capability twice in one message is counted twice.
#[test]
fn the_same_capability_twice_in_one_message_is_counted_twice() {
    let (mut net, [a, b], server, remote) = net::pair();
    server.keep();
    let (own, given) = net.object("own");
    let call = net.call(&remote, 1, &[given.clone(), given]);
    net.step(a, "call 0 on 0 (1) [senderHosted 0, senderHosted 0]");
    let mut kept = server.kept();
    assert_eq!(kept.len(), 2);
    kept.pop();
    net.settle();
    assert_eq!(own.drops(), 0);
    kept.pop();
    net.step(b, "release 0 x2");
    assert_eq!(own.drops(), 1);
    drop((remote, call));
    net.finish();
}

/// Behaviour: retain and release.
#[test]
fn our_own_object_comes_back_as_the_same_object_and_is_called_without_a_message() {
    let (mut net, [a, b], server, remote) = net::pair();
    server.keep();
    let (own, given) = net.object("own");
    let put = net.call(&remote, 1, std::slice::from_ref(&given));
    net.settle();
    let kept = server.kept_one();
    server.give(vec![kept.clone()]);
    let get = net.call(&remote, 2, &[]);
    net.step(a, "call 0 on 0 (2)");
    net.step(b, "return 0 results (2) [receiverHosted 0]");
    let back = get.cap(0);
    assert_eq!(back, given);
    net.settle();
    let direct = net.call(&back, 3, &[]);
    assert_eq!((net.queued(a), net.queued(b)), (0, 0));
    net.run();
    direct.ok();
    assert_eq!(own.seen(), [3]);
    server.acknowledge();
    drop((put, get, direct, back, given, kept, remote));
    net.finish();
}

/// Behaviour: exporting the same promise twice gives the same id.
#[test]
fn the_same_promise_is_exported_under_one_id() {
    let mut net = Net::new();
    let (_, target) = net.object("target");
    let (mut raw, server) = raw::caller(net);
    let (promised, fulfiller) = promise();
    let first = raw.net.call(&server, 1, std::slice::from_ref(&promised));
    let second = raw.net.call(&server, 2, std::slice::from_ref(&promised));
    raw.expect(&["call 0 on 0 (1) [senderPromise 0]", "call 1 on 0 (2) [senderPromise 0]"]);
    fulfiller.fulfill(target);
    raw.net.check();
    raw.expect(&["resolve 0 senderHosted 1"]);
    raw.send(release(0, 2));
    raw.send(release(1, 1));
    assert_eq!(raw.net.snapshot(raw.end).exports, 0);
    drop((first, second, server, promised));
    raw.finish();
}

/// Behaviour: dropping a capability in the middle of its call keeps the object.
#[test]
fn an_object_lives_as_long_as_a_call_of_it_runs() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (inner, own) = net.object("inner");
    server.give(vec![own]);
    inner.hold();
    let (a, _) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    let get = net.call(&remote, 1, &[]);
    let call = net.call(&get.pipelined(0), 2, &[]);
    drop(get);
    net.settle();
    server.acknowledge();
    net.settle();
    assert_eq!(inner.seen(), [2]);
    inner.answer_with(&[]);
    net.settle();
    call.ok();
    drop((remote, call));
    net.finish();
    assert_eq!(inner.drops(), 1);
}

/// Behaviour: release without further traffic.
#[test]
fn dropping_the_last_reference_sends_the_release_at_once() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (inner, own) = net.object("inner");
    server.give(vec![own]);
    let (a, _) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    let get = net.call(&remote, 1, &[]);
    net.settle();
    server.acknowledge();
    let held = get.cap(0);
    drop(get);
    let more = held.clone();
    drop(held);
    assert_eq!(net.queued(a), 0);
    drop(more);
    net.deliver(a, "release 1 x1");
    assert_eq!(inner.drops(), 1);
    drop(remote);
    net.finish();
}

/// "Ids, imports, shutdown": what no longer exists is not counted down.
#[test]
fn releasing_too_much_or_what_is_not_there_ends_the_connection() {
    for (id, count) in [(0, 2), (1, 1), (u32::MAX, u32::MAX)] {
        let (mut raw, _) = raw::callee();
        raw.send(release(id, count));
        raw.expect_abort("Release of export");
        raw.finish();
    }
}

/// A capability that was exported, released in full, and exported again is a new
/// export with a count of its own.
#[test]
fn a_capability_is_exported_anew_after_its_release() {
    let (mut raw, server) = raw::callee();
    let (_, given) = raw.net.object("given");
    server.give(vec![given]);
    for _ in 0..2 {
        raw.send(call(0, on(0), 1, &[]));
        raw.expect(&["return 0 results (1) [senderHosted 1]"]);
        raw.send(finish(0, false));
        raw.send(release(1, 1));
    }
    raw.send(release(1, 1));
    raw.expect_abort("Release of export 1");
    server.acknowledge();
    raw.finish();
}

/// An answer's id is free for the peer when a Return that needs no Finish was
/// sent, or the Finish was received.
#[test]
fn asking_with_the_id_of_an_open_question_ends_the_connection() {
    let (mut raw, server) = raw::callee();
    server.hold();
    raw.send(call(1, on(0), 1, &[]));
    server.answer_with(&[]);
    raw.expect(&["return 1 results (0) noFinishNeeded"]);
    raw.send(call(1, on(0), 2, &[]));
    raw.expect_alive();
    raw.send(call(1, on(0), 3, &[]));
    raw.expect_abort("question 1 is asked while it is outstanding");
    assert_eq!(server.seen(), [1, 2]);
    drop(server.take());
    raw.finish();
}

/// "Ids, imports, shutdown": the handle of what a message names lives until the
/// message is queued, so the Release cannot come before it.
#[test]
fn a_release_does_not_overtake_a_message_that_names_the_import() {
    let (mut net, [a, b], server, remote) = net::pair();
    let (inner, own) = net.object("inner");
    server.give(vec![own]);
    let get = net.call(&remote, 1, &[]);
    net.settle();
    server.keep();
    let held = get.cap(0);
    drop(get);
    let put = net.call(&remote, 2, &[held]);
    net.step(a, "call 0 on 0 (2) [receiverHosted 1]");
    net.step(a, "release 1 x1");
    let back = server.kept_one();
    let direct = net.call(&back, 3, &[]);
    assert_eq!(net.queued(b), 1);
    net.run();
    direct.ok();
    assert_eq!(inner.seen(), [3]);
    drop((remote, put, direct, back));
    net.finish();
}

/// "A dropped capability re-enters": an object whose drop makes a call is dropped
/// when no lock is held.
#[test]
fn an_object_may_call_when_it_is_dropped() {
    struct Caller(Client, Arc<Mutex<Vec<crate::untyped::Pending>>>);
    impl crate::untyped::Dispatch for Caller {
        fn dispatch(&self, call: crate::untyped::IncomingCall) {
            super::actor::acknowledge(call);
        }
        fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
            self
        }
    }
    impl Drop for Caller {
        fn drop(&mut self) {
            self.1.lock().push(self.0.call(1, 1, content::params(77, &[])));
        }
    }
    let (mut raw, server) = raw::caller(Net::new());
    let calls = Arc::default();
    let object = crate::cap::object::LocalObject::new(
        Arc::new(Caller(server.clone(), Arc::clone(&calls))),
        crate::Concurrency::Serial,
        Arc::clone(&raw.net.jobs) as Arc<dyn crate::work::executor::Executor>,
    );
    let handed = raw.net.call(&server, 1, &[Client::of(object)]);
    raw.expect(&["call 0 on 0 (1) [senderHosted 0]"]);
    raw.send(release(0, 1));
    raw.expect(&["call 1 on 0 (77)"]);
    calls.lock().clear();
    drop((handed, server));
    raw.finish();
}
