//! Embargoes, and what keeps calls in order while promises resolve.

use super::actor::Actor;
use super::content;
use super::net::{self, Call, End, Net, limits};
use super::raw::{self, Raw, call, disembargo, finish, lift, on, on_field, promised, ret};
use crate::cap::client::Client;
use crate::cap::promise::promise;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::wire::Descriptor;

/// A machine that has asked a raw peer for something and got promise 4 of the
/// peer's, as an answer to question 0.
fn with_remote_promise(net: Net) -> (Raw, Client, Client) {
    let (mut raw, server) = raw::caller(net);
    let got = raw.net.call(&server, 1, &[]);
    raw.send(ret(0, 0, &[Descriptor::SenderPromise(4)]));
    raw.expect(&["call 0 on 0 (1)", "finish 0"]);
    let promised = got.cap(0);
    assert!(promised.is_unresolved());
    (raw, server, promised)
}

/// A machine, and something that its raw peer has promised and that it has called.
struct Called {
    raw: Raw,
    promised: Client,
    early: Call,
    /// The peer's bootstrap capability, and the call that gave the peer what it has.
    held: (Client, Call),
}

/// The machine has got promise 4 of the peer's, has `given` something to the peer with
/// question 0, and has called the promise with question 1 (label 3).
fn with_called_promise(net: Net, given: &[Client]) -> Called {
    let (mut raw, server, promised) = with_remote_promise(net);
    let put = raw.net.call(&server, 2, given);
    let early = raw.net.call(&promised, 3, &[]);
    let sent = raw.sent();
    assert!(sent[0].starts_with("call 0 on 0 (2)") && sent[1..] == ["call 1 on 4 (3)"], "{sent:?}");
    Called { raw, promised, early, held: (server, put) }
}

/// The machine has `given` something to the peer with question 0, and has called the first
/// field of the results with question 1 (label 2).
fn with_called_field(net: Net, given: &[Client]) -> Called {
    let (mut raw, server) = raw::caller(net);
    let asked = raw.net.call(&server, 1, given);
    let promised = asked.pipelined(0);
    let early = raw.net.call(&promised, 2, &[]);
    let sent = raw.sent();
    assert!(
        sent[0].starts_with("call 0 on 0 (1)") && sent[1..] == ["call 1 on #0.0 (2)"],
        "{sent:?}"
    );
    Called { raw, promised, early, held: (server, asked) }
}

/// Vat A has called an object of B (label 10) that answers with what it is given: an object
/// of A's own.
struct Echoed {
    net: Net,
    ends: [End; 2],
    own: Actor,
    remote: Client,
    echo: Call,
}

fn with_echo() -> Echoed {
    let (mut net, ends, server, remote) = net::pair();
    server.echo();
    let (own, given) = net.object("own");
    let echo = net.call(&remote, 10, &[given]);
    Echoed { net, ends, own, remote, echo }
}

impl Called {
    /// A call through the promise.
    fn call(&mut self, label: u64) -> Call {
        self.raw.net.call(&self.promised, label, &[])
    }

    #[track_caller]
    fn finish(self) {
        let Called { raw, promised, early, held } = self;
        drop((promised, early, held));
        raw.finish();
    }
}

/// Note [embargo]: an embargo keeps calls 0 to 5 in order.
#[test]
fn calls_after_the_return_wait_for_those_that_were_pipelined_before() {
    let Echoed { mut net, ends: [a, b], own, remote, echo } = with_echo();
    let field = echo.pipelined(0);
    let mut calls: Vec<Call> = (0..3).map(|label| net.call(&field, label, &[])).collect();
    net.step(a, "call 0 on 0 (10) [senderHosted 0]");
    net.step(a, "call 1 on #0.0 (0)");
    net.step(a, "call 2 on #0.0 (1)");
    net.step(a, "call 3 on #0.0 (2)");
    net.step(b, "return 0 results (10) [receiverHosted 0]");
    echo.ok();
    calls.extend((3..6).map(|label| net.call(&field, label, &[])));
    net.run();
    assert_eq!(own.seen(), []);
    net.step(a, "disembargo senderLoopback 0 on #0.0");
    net.step(a, "finish 0");
    net.step(b, "call 0 on 0 (0)");
    net.step(b, "call 1 on 0 (1)");
    net.step(b, "call 2 on 0 (2)");
    assert!(calls[3].result().is_none());
    assert_eq!(own.seen(), [0, 1, 2]);
    net.step(b, "disembargo receiverLoopback 0 on 0");
    assert_eq!(own.seen(), [0, 1, 2, 3, 4, 5]);
    net.settle();
    for call in &calls {
        call.ok();
    }
    drop((remote, echo, field, calls));
    net.finish();
}

/// Note [embargo]: there is nothing to wait for.
#[test]
fn there_is_no_embargo_when_nothing_was_sent_through_the_promise() {
    let Echoed { mut net, ends: [a, b], own, remote, echo } = with_echo();
    let field = echo.pipelined(0);
    net.step(a, "call 0 on 0 (10) [senderHosted 0]");
    net.step(b, "return 0 results (10) [receiverHosted 0]");
    let direct = net.call(&field, 1, &[]);
    net.run();
    assert_eq!(own.seen(), [1]);
    direct.ok();
    net.step(a, "finish 0");
    drop((remote, echo, field, direct));
    net.finish();
}

/// Note [embargo]: a Disembargo towards null would make peers abort.
#[test]
fn there_is_no_embargo_towards_null_or_an_error() {
    let outcomes = [
        ret(0, 0, &[]),
        ret(0, 0, &[Descriptor::None]),
        ret(0, 0, &[Descriptor::ReceiverHosted(99)]),
        raw::ret_with(0, crate::wire::ReturnKind::Exception(Error::failed("no"))),
    ];
    for outcome in outcomes {
        let (mut raw, server) = raw::caller(Net::new());
        let asked = raw.net.call(&server, 1, &[]);
        let field = asked.pipelined(0);
        let piped = raw.net.call(&field, 2, &[]);
        raw.expect(&["call 0 on 0 (1)", "call 1 on #0.0 (2)"]);
        raw.send(outcome);
        raw.expect(&["finish 0"]);
        let later = raw.net.call(&field, 3, &[]);
        later.error();
        raw.expect(&[]);
        raw.send(raw::ret_with(1, crate::wire::ReturnKind::Exception(Error::failed("null"))));
        raw.expect(&["finish 1"]);
        piped.error();
        drop((server, asked, field, piped, later));
        raw.finish();
    }
}

/// Note [embargo]: `Resolve.exception` does not lead back to this side.
#[test]
fn there_is_no_embargo_when_a_promise_is_rejected() {
    let (mut raw, server, promised) = with_remote_promise(Net::new());
    let early = raw.net.call(&promised, 2, &[]);
    raw.expect(&["call 0 on 4 (2)"]);
    raw.send(raw::reject(4, Error::overloaded("not today")));
    // Once it can no longer be named, it is released.
    raw.expect(&["release 4 x1"]);
    let late = raw.net.call(&promised, 3, &[]);
    assert_eq!(late.error(), Error::overloaded("not today"));
    early.assert_open();
    raw.send(raw::ret_with(0, crate::wire::ReturnKind::Exception(Error::overloaded("not today"))));
    assert_eq!(early.error().kind(), ErrorKind::Overloaded);
    drop((server, promised, early, late));
    raw.finish();
}

/// Note [embargo]: a promise of the peer resolves to an object of this side.
#[test]
fn a_resolve_to_our_object_waits_for_the_calls_that_come_back() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let mut called = with_called_promise(net, &[given]);
    called.raw.send(raw::resolve(4, Descriptor::ReceiverHosted(0)));
    called.raw.expect(&["disembargo senderLoopback 0 on 4", "release 4 x1"]);
    let late = called.call(4);
    assert_eq!(own.seen(), []);
    called.raw.send(call(0, on(0), 3, &[]));
    assert_eq!(own.seen(), [3]);
    called.raw.send(lift(on(0), 0));
    assert_eq!(own.seen(), [3, 4]);
    late.ok();
    called.raw.send(ret(1, 3, &[]));
    called.early.ok();
    drop(late);
    called.finish();
}

/// Note [embargo]: a promise of the peer resolves to the results of a call that this
/// side is still answering.
#[test]
fn a_resolve_to_our_answer_waits_for_the_calls_that_come_back() {
    let mut net = Net::new();
    let (worker, client) = net.object("worker");
    let (result, given) = net.object("result");
    worker.hold();
    let mut called = with_called_promise(net, &[client]);
    called.raw.send(call(0, on(0), 5, &[]));
    called.raw.sent();
    called.raw.send(raw::resolve(4, Descriptor::ReceiverAnswer(raw::promised(0, &[0]))));
    called.raw.expect(&["disembargo senderLoopback 0 on 4", "release 4 x1"]);
    let late = called.call(4);
    called.raw.send(call(1, on_field(0, &[0]), 3, &[]));
    called.raw.send(lift(on_field(0, &[0]), 0));
    assert_eq!(result.seen(), []);
    worker.answer_with(&[given]);
    called.raw.net.run();
    assert_eq!(result.seen(), [3, 4]);
    drop(late);
    called.finish();
}

/// Note [embargo]: a Return names a capability that this side hosts.
#[test]
fn results_that_are_our_own_answer_wait_for_the_calls_that_come_back() {
    let mut net = Net::new();
    let (worker, client) = net.object("worker");
    let (result, given) = net.object("result");
    worker.hold();
    let mut called = with_called_field(net, &[client]);
    // The peer calls our worker and answers with a field of what it will return.
    called.raw.send(call(0, on(0), 5, &[]));
    called.raw.send(ret(0, 0, &[Descriptor::ReceiverAnswer(promised(0, &[0]))]));
    called.raw.expect(&["disembargo senderLoopback 0 on #0.0", "finish 0"]);
    let late = called.call(3);
    worker.answer_with(&[given]);
    called.raw.net.run();
    called.raw.expect(&["return 0 results (0) [senderHosted 1]"]);
    assert_eq!(result.seen(), []);
    called.raw.send(call(1, on_field(0, &[0]), 2, &[]));
    called.raw.send(lift(on_field(0, &[0]), 0));
    assert_eq!(result.seen(), [2, 3]);
    drop(late);
    called.finish();
}

/// Note [described path]: promise 4 of the peer resolves to a field of an answer of this
/// side. While call 3 comes around, that field is described as promise 6 of the peer, and
/// promise 6 resolves to an object of this side. Call 3 takes the described path, by
/// promise 6, and call 4, which waited behind the embargo, takes the same path.
#[test]
fn what_an_embargo_held_back_takes_the_path_that_was_described_meanwhile() {
    let mut net = Net::new();
    let (worker, client) = net.object("worker");
    let (own, given) = net.object("own");
    worker.hold();
    let mut called = with_called_promise(net, &[client, given]);
    called.raw.send(call(0, on(0), 5, &[Descriptor::SenderPromise(6)]));
    called.raw.send(raw::resolve(4, Descriptor::ReceiverAnswer(raw::promised(0, &[0]))));
    called.raw.expect(&["disembargo senderLoopback 0 on 4", "release 4 x1"]);
    let late = called.call(4);
    let held = worker.take();
    let theirs = held.params().caps()[0].clone();
    held.respond(Ok(content::results(0, &[theirs])));
    called.raw.expect(&["return 0 results (0) [receiverHosted 6]"]);
    called.raw.send(raw::resolve(6, Descriptor::ReceiverHosted(1)));
    called.raw.expect(&["disembargo senderLoopback 1 on 6"]);
    // What was under way to promise 4 comes back, and goes on.
    called.raw.send(call(1, on_field(0, &[0]), 3, &[]));
    called.raw.send(lift(on_field(0, &[0]), 0));
    called.raw.expect(&["call 2 on 6 (3)", "call 3 on 6 (4)"]);
    // The second embargo was lifted before these came by.
    called.raw.send(lift(on(1), 1));
    assert_eq!(own.seen(), []);
    called.raw.send(call(2, on(1), 3, &[]));
    called.raw.send(call(3, on(1), 4, &[]));
    assert_eq!(own.seen(), [3, 4]);
    drop(late);
    called.finish();
}

/// Note [embargo]: calls on what is read out of the results do not overtake the
/// pipelined calls either.
#[test]
fn a_reader_of_the_results_is_not_ahead_of_the_pipelined_calls() {
    let Echoed { mut net, ends: [a, b], own, remote, echo } = with_echo();
    let piped = net.call(&echo.pipelined(0), 1, &[]);
    net.step(a, "call 0 on 0 (10) [senderHosted 0]");
    net.step(b, "return 0 results (10) [receiverHosted 0]");
    let read = net.call(&echo.cap(0), 2, &[]);
    net.run();
    assert_eq!(own.seen(), []);
    net.settle();
    assert_eq!(own.seen(), [1, 2]);
    drop((remote, echo, piped, read));
    net.finish();
}

/// Two fields of the results are one capability: each path has its embargo, and
/// the capability waits for both.
#[test]
fn two_paths_to_one_capability_are_both_waited_for() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let (mut raw, server) = raw::caller(net);
    let asked = raw.net.call(&server, 1, &[given]);
    let (left, right) = (asked.pipelined(0), asked.pipelined(1));
    let calls = [raw.net.call(&left, 2, &[]), raw.net.call(&right, 3, &[])];
    raw.sent();
    raw.send(ret(0, 0, &[Descriptor::ReceiverHosted(0), Descriptor::ReceiverHosted(0)]));
    raw.expect(&[
        "disembargo senderLoopback 0 on #0.0",
        "disembargo senderLoopback 1 on #0.1",
        "finish 0",
    ]);
    let late = [raw.net.call(&left, 4, &[]), raw.net.call(&right, 5, &[])];
    raw.send(lift(on(0), 1));
    assert_eq!(own.seen(), [5]);
    raw.send(lift(on(0), 0));
    assert_eq!(own.seen(), [5, 4]);
    drop((server, asked, left, right, calls, late));
    raw.finish();
}

/// Note [embargo]: the capability that comes back may be one of a third vat.
#[test]
fn a_promise_that_turns_out_to_be_behind_another_connection_of_ours_is_embargoed() {
    let mut net = Net::new();
    let (far, far_client) = net.object("far");
    let (echo, echo_client) = net.object("echo");
    echo.echo();
    let (a, b) = net.link(None, Some(echo_client));
    let (a_to_c, _) = net.link(None, Some(far_client));
    let (near, third) = (net.bootstrapped(a), net.bootstrapped(a_to_c));
    let asked = net.call(&near, 10, std::slice::from_ref(&third));
    let field = asked.pipelined(0);
    let early = net.call(&field, 1, &[]);
    net.step(a, "call 0 on 0 (10) [senderHosted 0]");
    net.step(a, "call 1 on #0.0 (1)");
    net.step(b, "return 0 results (10) [receiverHosted 0]");
    let late = net.call(&field, 2, &[]);
    assert_eq!(net.queued(a_to_c), 0);
    net.step(b, "call 0 on 0 (1)");
    net.step(a_to_c, "call 0 on 0 (1)");
    net.step(a, "disembargo senderLoopback 0 on #0.0");
    net.step(b, "disembargo receiverLoopback 0 on 0");
    net.step(a_to_c, "call 1 on 0 (2)");
    assert_eq!(far.seen(), [1, 2]);
    drop((near, third, asked, field, early, late));
    net.finish();
}

/// `Disembargo.target` is still named by the message, so it must not be released before.
#[test]
fn the_disembargo_goes_out_before_the_finish_and_the_release_of_what_it_names() {
    let mut net = Net::new();
    let (_, given) = net.object("own");
    let (mut raw, server, promised) = with_remote_promise(net);
    let asked = raw.net.call(&server, 2, &[given]);
    let calls = [raw.net.call(&asked.pipelined(0), 3, &[]), raw.net.call(&promised, 4, &[])];
    raw.sent();
    raw.send(ret(0, 0, &[Descriptor::ReceiverHosted(0)]));
    raw.expect(&["disembargo senderLoopback 0 on #0.0", "finish 0"]);
    raw.send(raw::resolve(4, Descriptor::ReceiverHosted(0)));
    raw.expect(&["disembargo senderLoopback 1 on 4", "release 4 x1"]);
    drop((server, promised, asked, calls));
    raw.finish();
}

/// `Disembargo.receiverLoopback` follows the calls, even if they wait in a queue.
#[test]
fn a_disembargo_is_returned_behind_the_calls_before_it() {
    let (mut raw, server) = raw::callee();
    let (inner, own) = raw.net.object("inner");
    server.keep();
    // The peer hands us its promise 4; we answer a call with a promise of ours
    // that resolves to it.
    raw.send(call(0, on(0), 1, &[Descriptor::SenderPromise(4)]));
    let theirs = server.kept_one();
    let (ours, fulfiller) = promise();
    server.give(vec![ours]);
    raw.send(call(1, on(0), 2, &[]));
    raw.expect(&["return 0 results (1) noFinishNeeded", "return 1 results (2) [senderPromise 1]"]);
    raw.send(call(2, on(1), 10, &[]));
    raw.send(call(3, on(1), 11, &[]));
    raw.expect(&[]);
    fulfiller.fulfill(theirs.clone());
    raw.expect(&["call 0 on 4 (10)", "call 1 on 4 (11)", "resolve 1 receiverHosted 4"]);
    raw.send(call(4, on(1), 12, &[]));
    raw.send(disembargo(on(1), 70));
    raw.expect(&["call 2 on 4 (12)", "disembargo receiverLoopback 70 on 4"]);
    // Also when promise 4 has moved on in the meantime: the way is what it was.
    let put = raw.net.call(&theirs, 20, &[own]);
    raw.expect(&["call 3 on 4 (20) [senderHosted 2]"]);
    raw.send(raw::resolve(4, Descriptor::ReceiverHosted(2)));
    raw.expect(&["disembargo senderLoopback 0 on 4"]);
    raw.send(call(5, on(1), 13, &[]));
    raw.send(disembargo(on(1), 71));
    raw.expect(&["call 4 on 4 (13)", "disembargo receiverLoopback 71 on 4"]);
    assert_eq!(inner.seen(), []);
    server.acknowledge();
    drop((theirs, put));
    raw.finish();
}

/// `Disembargo.senderLoopback`: the target must lead back to the sender.
#[test]
fn a_disembargo_that_does_not_lead_back_ends_the_connection() {
    let targets: [(crate::wire::Target, &str); 5] = [
        (on(0), "does not lead back"),
        (on_field(1, &[0]), "does not lead back"),
        (on_field(1, &[1]), "does not lead back"),
        (on(9), "does not exist"),
        (on_field(9, &[]), "not outstanding"),
    ];
    for (target, why) in targets {
        let (mut raw, server) = raw::callee();
        let (_, own) = raw.net.object("own");
        server.give(vec![own]);
        raw.send(call(1, on(0), 1, &[]));
        raw.sent();
        raw.send(disembargo(target, 3));
        raw.expect_abort(why);
        server.acknowledge();
        raw.finish();
    }
}

/// A bogus embargo id, or one that was lifted before.
#[test]
fn lifting_an_embargo_that_does_not_exist_ends_the_connection() {
    let mut net = Net::new();
    let (_, given) = net.object("own");
    let mut called = with_called_promise(net, &[given]);
    called.raw.send(raw::resolve(4, Descriptor::ReceiverHosted(0)));
    called.raw.send(lift(on(0), 0));
    called.raw.expect_alive();
    called.raw.send(lift(on(0), 0));
    called.raw.expect_abort("embargo 0");
    called.finish();
}

/// Note [described path]: the Tribble 4-way race, with two vats. A promise P of B
/// resolves to a promise Q of A, which at the same time resolves to an object X of B.
/// All calls that A makes through P must take the long path until A's Disembargo has
/// come back, although B could find X at once.
#[test]
fn tribbles_four_way_race_keeps_the_order_between_two_vats() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (x, x_client) = net.object("x");
    let (p_client, fulfil_p) = promise();
    let (a, b) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    server.give(vec![p_client, x_client]);
    let got = net.call(&remote, 100, &[]);
    net.settle();
    let (p_at_a, x_at_a) = (got.cap(0), got.cap(1));
    server.keep();
    let (q_client, fulfil_q) = promise();
    let put = net.call(&remote, 101, &[q_client]);
    net.settle();
    let q_at_b = server.kept_one();

    let first = net.call(&p_at_a, 1, &[]);
    net.step(a, "call 0 on 1 (1)");
    fulfil_p.fulfill(q_at_b.clone());
    fulfil_q.fulfill(x_at_a);
    let second = net.call(&p_at_a, 2, &[]);
    // B learns that Q is X; it has sent a call through Q and embargoes it.
    net.step(a, "resolve 0 receiverHosted 2");
    // The second call reaches P at B, where X is known: still it goes to Q.
    net.step(a, "call 1 on 1 (2)");
    assert_eq!(x.seen(), []);
    net.step(b, "call 0 on 0 (1)");
    net.step(b, "resolve 1 receiverHosted 0");
    let third = net.call(&p_at_a, 3, &[]);
    net.step(b, "disembargo senderLoopback 0 on 0");
    net.step(b, "call 1 on 0 (2)");
    // A passes both calls on to X, and asks for its own echo through P.
    net.step(a, "call 2 on 2 (1)");
    assert_eq!(x.seen(), [1]);
    net.step(a, "disembargo senderLoopback 0 on 1");
    net.settle();
    assert_eq!(x.seen(), [1, 2, 3]);
    for call in [&first, &second, &third] {
        call.ok();
    }
    server.acknowledge();
    drop((remote, got, p_at_a, put, q_at_b, first, second, third));
    net.finish();
}

/// Note [described path], with results in place of an exported promise: what a Return
/// described stays fixed for the calls that are pipelined on it.
#[test]
fn results_that_name_a_promise_of_the_caller_keep_the_described_way() {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (x, x_client) = net.object("x");
    let (a, b) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    server.give(vec![x_client]);
    let got = net.call(&remote, 100, &[]);
    net.settle();
    let x_at_a = got.cap(0);
    // A asks B to give Q back; Q becomes X of B's at the same time.
    server.echo();
    let (q_client, fulfil_q) = promise();
    let echo = net.call(&remote, 101, &[q_client]);
    let field = echo.pipelined(0);
    let first = net.call(&field, 1, &[]);
    net.step(a, "call 0 on 0 (101) [senderPromise 0]");
    net.step(a, "call 1 on #0.0 (1)");
    fulfil_q.fulfill(x_at_a);
    let second = net.call(&field, 2, &[]);
    net.step(a, "resolve 0 receiverHosted 1");
    net.step(a, "call 2 on #0.0 (2)");
    assert_eq!(x.seen(), []);
    net.step(b, "return 0 results (101) [receiverHosted 0]");
    let third = net.call(&field, 3, &[]);
    net.settle();
    assert_eq!(x.seen(), [1, 2, 3]);
    server.acknowledge();
    drop((remote, got, echo, field, first, second, third));
    net.finish();
}

/// Note [embargo]: the mark moves on to the promise to which the first one resolves.
#[test]
fn merged_promises_share_the_mark_that_something_was_sent() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let (mut raw, server, first) = with_remote_promise(net);
    let put = raw.net.call(&server, 2, &[given]);
    raw.send(ret(0, 0, &[Descriptor::SenderPromise(5)]));
    let second = put.cap(0);
    let early = raw.net.call(&first, 3, &[]);
    raw.expect(&["call 0 on 0 (2) [senderHosted 0]", "finish 0", "call 0 on 4 (3)"]);
    raw.send(raw::resolve(4, Descriptor::SenderPromise(5)));
    raw.expect(&["release 4 x1"]);
    // Nothing was sent to 5, but what was sent to 4 goes through it.
    raw.send(raw::resolve(5, Descriptor::ReceiverHosted(0)));
    raw.expect(&["disembargo senderLoopback 0 on 5", "release 5 x2"]);
    let late = [raw.net.call(&first, 4, &[]), raw.net.call(&second, 5, &[])];
    assert_eq!(own.seen(), []);
    raw.send(call(0, on(0), 3, &[]));
    raw.send(lift(on(0), 0));
    assert_eq!(own.seen(), [3, 4, 5]);
    drop((server, first, second, put, early, late));
    raw.finish();
}

/// Note [embargo]: the mark moves from a pipelined field to a promise of the peer.
#[test]
fn a_field_that_becomes_a_promise_hands_its_mark_on() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let mut called = with_called_field(net, &[given]);
    called.raw.send(ret(0, 0, &[Descriptor::SenderPromise(5)]));
    called.raw.expect(&["finish 0"]);
    called.raw.send(raw::resolve(5, Descriptor::ReceiverHosted(0)));
    called.raw.expect(&["disembargo senderLoopback 0 on 5", "release 5 x1"]);
    let late = called.call(3);
    assert_eq!(own.seen(), []);
    called.raw.send(lift(on(0), 0));
    assert_eq!(own.seen(), [3]);
    drop(late);
    called.finish();
}

/// A path in the `transform` of a `PromisedAnswer` always leads to the same promise.
#[test]
fn the_same_path_of_the_same_call_is_the_same_promise() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let (mut raw, server) = raw::caller(net);
    let asked = raw.net.call(&server, 1, &[given]);
    let (one, two) = (asked.pipelined(0), asked.pipelined(0));
    assert_eq!(one, two);
    assert_ne!(one, asked.pipelined(1));
    let early = raw.net.call(&one, 2, &[]);
    raw.sent();
    raw.send(ret(0, 0, &[Descriptor::ReceiverHosted(0)]));
    raw.expect(&["disembargo senderLoopback 0 on #0.0", "finish 0"]);
    // The embargo that the call through one of them made holds all of them.
    let late = [
        raw.net.call(&two, 3, &[]),
        raw.net.call(&asked.pipelined(0), 4, &[]),
        raw.net.call(&asked.cap(0), 5, &[]),
    ];
    raw.net.run();
    assert_eq!(own.seen(), []);
    raw.send(lift(on(0), 0));
    assert_eq!(own.seen(), [3, 4, 5]);
    drop((server, asked, one, two, early, late));
    raw.finish();
}

/// Note [embargo]: even if the promise that was called through has since been dropped.
#[test]
fn a_path_that_was_called_and_dropped_is_embargoed_all_the_same() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let (mut raw, server) = raw::caller(net);
    let asked = raw.net.call(&server, 1, &[given]);
    let early = raw.net.call(&asked.pipelined(0), 2, &[]);
    raw.sent();
    raw.send(ret(0, 0, &[Descriptor::ReceiverHosted(0)]));
    raw.expect(&["disembargo senderLoopback 0 on #0.0", "finish 0"]);
    let late = raw.net.call(&asked.cap(0), 3, &[]);
    assert_eq!(own.seen(), []);
    raw.send(lift(on(0), 0));
    assert_eq!(own.seen(), [3]);
    drop((server, asked, early, late));
    raw.finish();
}

/// On the answering side: calls that the peer pipelines on one path of a
/// `PromisedAnswer` wait in one queue, even across the moment when the results become
/// known.
#[test]
fn calls_that_a_peer_pipelines_on_one_path_stay_in_order() {
    let (mut raw, server) = raw::callee();
    let (result, given) = raw.net.object("result");
    server.hold();
    raw.send(call(0, on(0), 1, &[]));
    raw.send(call(1, on_field(0, &[0]), 2, &[]));
    raw.send(call(2, on_field(0, &[0]), 3, &[]));
    let (own_promise, fulfiller) = promise();
    server.answer_with(&[own_promise]);
    raw.expect(&["return 0 results (0) [senderPromise 1]"]);
    raw.send(call(3, on_field(0, &[0]), 4, &[]));
    raw.send(call(4, on(1), 5, &[]));
    assert_eq!(result.seen(), []);
    fulfiller.fulfill(given);
    raw.send(call(5, on_field(0, &[0]), 6, &[]));
    assert_eq!(result.seen(), [2, 3, 4, 5, 6]);
    raw.finish();
}

/// Behaviour: an embargo on an error fails all, the connection lives.
#[test]
fn an_embargo_in_front_of_what_fails_later_fails_the_calls_alone() {
    let (own_promise, fulfiller) = promise();
    let mut called = with_called_promise(Net::new(), &[own_promise]);
    called.raw.send(raw::resolve(4, Descriptor::ReceiverHosted(0)));
    called.raw.expect(&["disembargo senderLoopback 0 on 4", "release 4 x1"]);
    let waiting = called.call(4);
    called.raw.send(call(0, on(0), 3, &[]));
    fulfiller.reject(Error::failed("never mind"));
    called.raw.expect(&["return 0 failed: never mind", "resolve 0 failed: never mind"]);
    waiting.assert_open();
    called.raw.send(lift(on(0), 0));
    assert_eq!(waiting.error(), Error::failed("never mind"));
    called.raw.expect_alive();
    drop(waiting);
    called.finish();
}

/// Behaviour: an embargo blocks identity look-ups until it is lifted.
#[test]
fn what_is_embargoed_is_unresolved_until_the_embargo_is_lifted() {
    let mut net = Net::new();
    let (_, given) = net.object("own");
    let mut called = with_called_promise(net, std::slice::from_ref(&given));
    called.raw.send(raw::resolve(4, Descriptor::ReceiverHosted(0)));
    assert!(called.promised.is_unresolved());
    assert_ne!(called.promised, given);
    assert!(called.promised.local_dispatch().is_none());
    called.raw.send(lift(on(0), 0));
    assert!(!called.promised.is_unresolved());
    assert_eq!(called.promised, given);
    drop(given);
    called.finish();
}

/// Calls that wait in a promise are delivered before watchers see that it has resolved.
#[test]
fn queued_calls_arrive_before_those_who_wait_for_the_promise_are_told() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let (promised, fulfiller) = promise();
    let queued = net.call(&promised, 1, &[]);
    let jobs = std::sync::Arc::clone(&net.jobs);
    let target = given.clone();
    let follower = promised.clone();
    let told = crate::cap::watch::Watcher::Closure(
        jobs,
        crate::work::executor::Job::closure(move || {
            assert_eq!(follower, target);
            // Called and dropped at once, it would be cancelled.
            let call = follower.call(1, 1, content::params(2, &[]));
            call.keep_until_done(|_| ());
        }),
    );
    assert!(promised.watch(told).is_ok());
    fulfiller.fulfill(given);
    net.run();
    assert_eq!(own.seen(), [1, 2]);
    drop((promised, queued));
    net.finish();
}

/// First the pipelined capabilities resolve, then callers see the result.
#[test]
fn pipelined_fields_are_resolved_when_the_caller_sees_the_result() {
    let (mut raw, server) = raw::caller(Net::new());
    let asked = raw.net.call(&server, 1, &[]);
    let field = asked.pipelined(0);
    let look = field.clone();
    let looked = std::sync::Arc::new(crate::sync::Mutex::new(None));
    let seen = std::sync::Arc::clone(&looked);
    asked.when_settled(move || *seen.lock() = Some(look.is_unresolved()));
    raw.send(ret(0, 0, &[Descriptor::SenderHosted(5)]));
    assert_eq!(*looked.lock(), Some(false));
    drop((server, asked, field));
    raw.finish();
}

/// Behaviour: a two-hop embargo through a proxy. A's object goes through B, which
/// only passes things on, to C and comes back the same way.
#[test]
fn an_embargo_reaches_through_a_proxy_vat() {
    let mut net = Net::new();
    let (far, far_client) = net.object("far");
    far.hold();
    let (b_to_c, c) = net.link(None, Some(far_client));
    let through = net.bootstrapped(b_to_c);
    let (proxy, proxy_client) = net.object("proxy");
    proxy.forward(through.clone());
    let (a, b) = net.link(None, Some(proxy_client));
    let remote = net.bootstrapped(a);
    let (own, given) = net.object("own");

    let echo = net.call(&remote, 10, &[given]);
    let field = echo.pipelined(0);
    let mut calls = vec![net.call(&field, 1, &[])];
    net.step(a, "call 0 on 0 (10) [senderHosted 0]");
    net.step(a, "call 1 on #0.0 (1)");
    // B pipelines it on its own question to C.
    net.step(b_to_c, "call 0 on 0 (10) [senderHosted 0]");
    let incoming = far.take();
    let back = content::cap(incoming.params(), 0);
    incoming.respond(Ok(content::results(0, &[back])));
    net.step(c, "return 0 results (0) [receiverHosted 0]");
    // B embargoes, because a call went through, and A learns of its own object.
    net.step(b, "return 0 results (0) [senderPromise 1]");
    calls.push(net.call(&field, 2, &[]));
    net.settle();
    calls.push(net.call(&field, 3, &[]));
    net.settle();
    assert_eq!(own.seen(), [1, 2, 3]);
    for call in &calls {
        call.ok();
    }
    proxy.acknowledge();
    drop((through, remote, echo, field, calls));
    net.finish();
}

/// Behaviour: a promise as the second target. The peer's promise becomes a
/// promise of ours, which becomes a promise of the peer's, which becomes ours.
#[test]
fn an_embargo_in_front_of_a_promise_that_goes_back_and_forth_holds() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let (mut raw, server, first) = with_remote_promise(net);
    let (second, fulfil_second) = promise();
    let put = raw.net.call(&server, 2, &[second.clone(), given]);
    raw.expect(&["call 0 on 0 (2) [senderPromise 0, senderHosted 1]"]);
    raw.send(ret(0, 0, &[Descriptor::SenderPromise(6)]));
    let third = put.cap(0);
    let early = raw.net.call(&first, 10, &[]);
    raw.expect(&["finish 0", "call 0 on 4 (10)"]);
    // First hop: theirs to ours.
    raw.send(raw::resolve(4, Descriptor::ReceiverHosted(0)));
    raw.expect(&["disembargo senderLoopback 0 on 4", "release 4 x1"]);
    let held = raw.net.call(&first, 11, &[]);
    raw.send(call(1, on(0), 10, &[]));
    // Second hop: ours to theirs. What waited there goes on, what is embargoed
    // does not.
    fulfil_second.fulfill(third.clone());
    raw.expect(&["call 1 on 6 (10)", "resolve 0 receiverHosted 6"]);
    raw.send(lift(on(0), 0));
    raw.expect(&["call 2 on 6 (11)"]);
    // Third hop: theirs to ours.
    raw.send(raw::resolve(6, Descriptor::ReceiverHosted(1)));
    raw.expect(&["disembargo senderLoopback 0 on 6"]);
    let last = [raw.net.call(&first, 12, &[]), raw.net.call(&second, 13, &[])];
    raw.send(call(2, on(1), 10, &[]));
    raw.send(call(3, on(1), 11, &[]));
    assert_eq!(own.seen(), [10, 11]);
    raw.send(lift(on(1), 0));
    assert_eq!(own.seen(), [10, 11, 12, 13]);
    drop((server, first, second, third, put, early, held, last));
    raw.finish();
}

/// Note [described path], for the vat that waits. A promise of this side is exported
/// and comes back as the peer's result. While the calls that were pipelined on that
/// result are under way, it resolves to a promise of the peer, and the peer is told so:
/// from now on, what arrives through the export goes back to the peer. The embargo may
/// be lifted then, but it must lead where those calls went, although a shorter path is
/// known by now.
#[test]
fn an_embargo_leads_where_the_calls_before_it_went() {
    let (mut net, [a, b], server, remote) = net::pair();
    server.echo();
    let (own, given) = net.object("own");
    let (ours, fulfil_ours) = promise();
    // The server sends back our promise, and our object.
    let first_echo = net.call(&remote, 100, &[ours]);
    let field = first_echo.pipelined(0);
    let second_echo = net.call(&remote, 101, &[given]);
    let theirs = second_echo.pipelined(0);
    net.step(a, "call 0 on 0 (100) [senderPromise 0]");
    net.step(a, "call 1 on 0 (101) [senderHosted 1]");
    let first = net.call(&field, 1, &[]);
    net.step(b, "return 0 results (100) [receiverHosted 0]");
    let second = net.call(&field, 2, &[]);
    // Our promise becomes theirs, which turns out to be our object right after.
    fulfil_ours.fulfill(theirs.clone());
    net.step(b, "return 1 results (101) [receiverHosted 1]");
    net.step(a, "call 2 on #0.0 (1)");
    net.step(a, "disembargo senderLoopback 0 on #0.0");
    net.step(a, "finish 0");
    net.step(a, "resolve 0 receiverAnswer #1.0");
    net.step(a, "disembargo senderLoopback 1 on #1.0");
    // The first call comes by, and goes back to the peer once more.
    net.step(b, "call 0 on 0 (1)");
    net.step(b, "disembargo receiverLoopback 0 on 0");
    net.settle();
    assert_eq!(own.seen(), [1, 2]);
    for call in [&first, &second] {
        call.ok();
    }
    server.acknowledge();
    drop((remote, first_echo, second_echo, field, theirs, first, second));
    net.finish();
}

/// The reverse of an embargo: what we described as a promise of ours moves on to
/// the peer's only for those who come after its Resolve.
#[test]
fn a_resolve_of_an_exported_promise_names_what_earlier_calls_went_to() {
    let (mut raw, server) = raw::callee();
    server.keep();
    raw.send(call(0, on(0), 1, &[Descriptor::SenderPromise(4)]));
    let theirs = server.kept_one();
    let (ours, fulfiller) = promise();
    server.give(vec![ours]);
    raw.send(call(1, on(0), 2, &[]));
    raw.send(call(2, on_field(1, &[0]), 10, &[]));
    raw.sent();
    fulfiller.fulfill(theirs.clone());
    raw.expect(&["call 0 on 4 (10)", "resolve 1 receiverHosted 4"]);
    // The peer has released the export; the answer's field leads the same way.
    raw.send(raw::release(1, 1));
    raw.send(raw::resolve(4, Descriptor::SenderHosted(7)));
    raw.send(call(3, on_field(1, &[0]), 11, &[]));
    raw.send(disembargo(on_field(1, &[0]), 5));
    raw.expect(&["call 1 on 4 (11)", "disembargo receiverLoopback 5 on 4"]);
    raw.send(finish(1, false));
    server.acknowledge();
    drop(theirs);
    raw.finish();
}

/// Note [described path]: what was described as a field of results that the peer
/// hosts goes on with what the Return names, in the same way, and the question is
/// finished although the peer keeps what was described.
#[test]
fn a_described_field_goes_on_with_what_the_return_names() {
    let (mut raw, server) = raw::callee();
    let peer = raw.give_bootstrap(0);
    let asked = raw.net.call(&peer, 1, &[]);
    let (ours, fulfiller) = promise();
    server.give(vec![ours.clone()]);
    fulfiller.fulfill(asked.pipelined(0));
    let put = raw.net.call(&peer, 2, &[ours]);
    raw.send(call(0, on(0), 3, &[]));
    raw.expect(&[
        "call 0 on 0 (1)",
        "call 1 on 0 (2) [receiverAnswer #0.0]",
        "return 0 results (3) [receiverAnswer #0.0]",
    ]);
    server.acknowledge();
    drop(asked);
    raw.send(call(1, on_field(0, &[0]), 10, &[]));
    raw.expect(&["call 2 on #0.0 (10)"]);
    // First to a promise, then to an object of the peer's.
    raw.send(ret(0, 0, &[Descriptor::SenderPromise(4)]));
    raw.expect(&["finish 0"]);
    raw.send(call(3, on_field(0, &[0]), 11, &[]));
    raw.send(disembargo(on_field(0, &[0]), 9));
    raw.expect(&["call 0 on 4 (11)", "disembargo receiverLoopback 9 on 4"]);
    raw.send(raw::resolve(4, Descriptor::SenderHosted(5)));
    raw.send(call(4, on_field(0, &[0]), 12, &[]));
    let sent = raw.sent();
    assert_eq!(sent.last().unwrap(), "call 3 on 4 (12)", "{sent:?}");
    raw.send(finish(0, false));
    drop((peer, put));
    raw.finish();
}

/// Note [described path]: a field that was described to the peer resolves to an object of
/// this side, and its place is given up. Calls that the peer still sends to the field, and
/// its Disembargo, wait for the calls that went to the place before.
#[test]
fn a_described_field_that_resolves_to_this_side_leads_there_behind_an_embargo() {
    let (mut raw, server) = raw::callee();
    let (own, given) = raw.net.object("own");
    let peer = raw.give_bootstrap(0);
    let asked = raw.net.call(&peer, 1, &[given]);
    server.give(vec![asked.pipelined(0)]);
    raw.send(call(0, on(0), 3, &[]));
    raw.send(call(1, on_field(0, &[0]), 10, &[]));
    raw.expect(&[
        "call 0 on 0 (1) [senderHosted 1]",
        "return 0 results (3) [receiverAnswer #0.0]",
        "call 1 on #0.0 (10)",
    ]);
    server.acknowledge();
    drop(asked);
    raw.send(ret(0, 0, &[Descriptor::ReceiverHosted(1)]));
    raw.expect(&["disembargo senderLoopback 0 on #0.0", "finish 0"]);
    raw.send(call(2, on_field(0, &[0]), 11, &[]));
    raw.send(disembargo(on_field(0, &[0]), 70));
    raw.send(call(3, on(1), 10, &[]));
    assert_eq!(own.seen(), [10]);
    raw.expect(&["return 3 results (10) noFinishNeeded"]);
    raw.send(lift(on(1), 0));
    assert_eq!(own.seen(), [10, 11]);
    raw.expect(&["disembargo receiverLoopback 70 on #0.0", "return 2 results (11) noFinishNeeded"]);
    // Nothing is left to wait for.
    raw.send(disembargo(on_field(0, &[0]), 71));
    raw.expect(&["disembargo receiverLoopback 71 on #0.0"]);
    raw.send(finish(0, false));
    drop(peer);
    raw.finish();
}

/// Note [turned disembargoes]: B answers A's question 0 with a field of its own question 0,
/// which A answers with a field of its question 1, which B answers with an object of A: all
/// at the same time. A makes the calls 1 to 3 on the first field. Both vats give up the
/// places that they have described. Call 2 waits behind B's embargo, and A's Disembargo must
/// wait behind call 2, or call 3 arrives first.
#[test]
fn a_disembargo_waits_in_the_embargo_that_the_calls_before_it_wait_in() {
    let mut net = Net::new();
    let (on_a, of_a) = net.object("on a");
    let (on_b, of_b) = net.object("on b");
    let (end, given) = net.object("end");
    on_a.hold();
    on_b.hold();
    let (a, b) = net.link(Some(of_a), Some(of_b));
    let (to_b, to_a) = (net.bootstrapped(a), net.bootstrapped(b));
    let first = net.call(&to_b, 11, &[]);
    let third = net.call(&to_b, 12, &[given]);
    let second = net.call(&to_a, 13, &[]);
    net.settle();
    let field = first.pipelined(0);
    let mut calls = vec![net.call(&field, 1, &[])];
    net.step(a, "call 2 on #0.0 (1)");

    on_b.answer_with(&[second.pipelined(0)]);
    on_a.answer_with(&[third.pipelined(0)]);
    calls.push(net.call(&field, 2, &[]));
    let held = on_b.take();
    let end_at_b = held.params().caps()[0].clone();
    held.respond(Ok(content::results(0, &[end_at_b])));
    net.step(a, "return 0 results (0) [receiverAnswer #1.0]");
    net.step(a, "call 3 on #0.0 (2)");
    net.step(b, "call 1 on #0.0 (1)");
    net.step(b, "return 0 results (0) [receiverAnswer #0.0]");
    calls.push(net.call(&field, 3, &[]));
    net.step(b, "return 1 results (0) [receiverHosted 1]");
    net.step(b, "disembargo senderLoopback 0 on #0.0");
    net.step(a, "call 4 on #1.0 (1)");
    net.step(a, "disembargo senderLoopback 0 on #0.0");
    net.step(a, "finish 0");
    net.step(a, "disembargo senderLoopback 1 on #1.0");
    net.step(b, "finish 0");
    net.step(b, "call 0 on 1 (1)");
    net.step(b, "disembargo receiverLoopback 1 on 1");
    assert_eq!(end.seen(), [1]);
    net.settle();
    assert_eq!(end.seen(), [1, 2, 3]);
    calls.iter().for_each(|call| drop(call.ok()));
    drop((to_a, to_b, first, second, third, field, calls));
    on_a.acknowledge();
    on_b.acknowledge();
    net.finish();
}

/// Note [ending]: the calls that wait behind an embargo fail with the connection.
#[test]
fn an_embargo_is_rejected_when_the_connection_ends() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let mut called = with_called_promise(net, &[given]);
    called.raw.send(raw::resolve(4, Descriptor::ReceiverHosted(0)));
    let waiting = called.call(4);
    called.raw.net.cut(called.raw.end);
    assert_eq!(waiting.error().kind(), ErrorKind::Disconnected);
    assert_eq!(called.early.error().kind(), ErrorKind::Disconnected);
    assert_eq!(called.promised.failure().map(|error| error.kind()), Some(ErrorKind::Disconnected));
    called.raw.net.run();
    assert_eq!(own.seen(), []);
    drop(waiting);
    called.finish();
}

/// The limit of embargoes fails the one promise that needs one more.
#[test]
fn an_embargo_too_many_fails_that_promise_alone() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let limits = Limits { embargoes: 1, ..limits() };
    let mut raw = Raw::with_limits(net, limits, None);
    let server = raw.give_bootstrap(0);
    let asked: Vec<Call> =
        (0..2).map(|_| raw.net.call(&server, 1, std::slice::from_ref(&given))).collect();
    let piped: Vec<Call> =
        asked.iter().map(|asked| raw.net.call(&asked.pipelined(0), 2, &[])).collect();
    raw.sent();
    raw.send(ret(0, 0, &[Descriptor::ReceiverHosted(0)]));
    raw.send(ret(1, 0, &[Descriptor::ReceiverHosted(0)]));
    raw.expect(&["disembargo senderLoopback 0 on #0.0", "finish 0", "finish 1"]);
    let over = raw.net.call(&asked[1].cap(0), 3, &[]);
    assert_eq!(over.error().kind(), ErrorKind::Overloaded);
    raw.send(lift(on(0), 0));
    let fine = raw.net.call(&asked[0].cap(0), 4, &[]);
    raw.net.run();
    assert_eq!(own.seen(), [4]);
    drop((server, given, asked, piped, over, fine));
    raw.finish();
}
