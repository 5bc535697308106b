//! What a peer can make a vat hold: Note [budget].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::actor::Actor;
use super::content;
use super::net::{Net, limits, transmit};
use super::raw::{Raw, bootstrap, call, call_to, disembargo, finish, on, on_field, ret, ret_with};
use crate::cap::call::CallCell;
use crate::cap::object::Concurrency;
use crate::cap::promise::promise;
use crate::error::Error;
use crate::limits::Limits;
use crate::protocol::costs;
use crate::wire::{Descriptor, Finish, Message, ResultsTo, ReturnKind};

/// A machine with a small budget, and an object that keeps its calls open.
fn offering(bytes: u64) -> (Raw, Actor) {
    let mut net = Net::new();
    let (object, client) = net.object_with("object", Concurrency::Concurrent);
    object.hold();
    let mut raw = Raw::with_limits(net, Limits { budget_bytes: bytes, ..limits() }, Some(client));
    raw.take_bootstrap();
    (raw, object)
}

fn held(raw: &Raw) -> u64 {
    raw.net.snapshot(raw.end).budget_bytes
}

/// Sends messages until the connection ends, and tells how many it took. The object gets
/// no time to work.
fn flood(raw: &mut Raw, mut message: impl FnMut(u32) -> Message) -> u32 {
    for number in 1..1_000_000 {
        raw.net.inject(raw.end, transmit(message(number)));
        if raw.net.machine(raw.end).failure().is_some() {
            return number;
        }
    }
    panic!("the connection did not end")
}

#[test]
fn disembargoes_that_wait_for_an_answer_end_the_connection_when_they_are_too_many() {
    let (mut raw, object) = offering(1 << 20);
    raw.send(call(1, on(0), 1, &[]));
    let taken = flood(&mut raw, |id| disembargo(on_field(1, &[0]), id));
    assert!(u64::from(taken) <= (1 << 20) / 128, "{taken}");
    raw.expect_abort("Limits::budget_bytes");
    object.let_go();
    raw.finish();
}

#[test]
fn disembargoes_that_wait_in_a_promise_are_counted_until_they_are_returned() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let (promised, fulfiller) = promise();
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    object.give(vec![promised]);
    raw.send(call(1, on(0), 1, &[]));
    raw.expect(&["return 1 results (1) [senderPromise 1]"]);
    let before = held(&raw);
    for id in 0..100 {
        raw.send(disembargo(on(1), id));
    }
    assert!(held(&raw) >= before + 100 * 128);
    let theirs = raw.give_bootstrap(7);
    fulfiller.fulfill(theirs);
    raw.net.run();
    assert_eq!(raw.sent().len(), 101, "a Resolve, and every Disembargo");
    raw.send(finish(1, true));
    raw.expect_alive();
    object.let_go();
    raw.finish();
}

/// Honest peers see a call fail, not the connection.
#[test]
fn parameters_for_which_there_is_no_room_fail_their_call() {
    let (mut raw, object) = offering(64 << 10);
    let mut question = 0;
    let refused = loop {
        question += 1;
        raw.send(call(question, on(0), 1, &[Descriptor::SenderHosted(9)]));
        let sent = raw.sent();
        if !sent.is_empty() {
            break sent;
        }
        assert!(held(&raw) <= 64 << 10);
    };
    assert!(question > 10, "{question}");
    let [failure] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(failure.contains("Limits::budget_bytes"), "{failure}");
    raw.expect_alive();
    assert_eq!(object.seen().len() + 1, question as usize, "its method did not run");
    // An answer makes room.
    object.answer_with(&[]);
    raw.net.run();
    raw.send(finish(question, true));
    raw.sent();
    raw.send(call(question, on(0), 2, &[]));
    assert_eq!(raw.sent(), [""; 0]);
    assert_eq!(object.seen().len(), question as usize);
    object.let_go();
    raw.finish();
}

/// Not even the failures are taken without end.
#[test]
fn calls_without_end_end_the_connection() {
    let (mut raw, object) = offering(1 << 20);
    let taken = flood(&mut raw, |question| call(question, on(0), 1, &[]));
    assert!(u64::from(taken) <= (1 << 20) / 256, "{taken}");
    raw.expect_abort("Limits::budget_bytes");
    object.let_go();
    raw.finish();
}

/// Peers that finish a call and still want it to be delivered: what waits counts.
#[test]
fn finished_calls_that_still_wait_count() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let limits = Limits { budget_bytes: 1 << 20, ..limits() };
    let mut raw = Raw::with_limits(net, limits, Some(client));
    raw.take_bootstrap();
    for question in 1..10_000 {
        raw.net.inject(raw.end, transmit(call(question, on(0), 1, &[])));
        raw.net.inject(
            raw.end,
            Message::Finish(Finish {
                question,
                release_results: true,
                early_cancellation_workaround: true,
            }),
        );
        assert!(held(&raw) <= 1 << 20);
    }
    let failed = raw.sent().iter().filter(|line| line.contains("budget_bytes")).count();
    raw.expect_alive();
    raw.net.run();
    assert!((5_000..9_999).contains(&failed), "{failed}");
    assert_eq!(object.seen().len() + failed, 9_999, "those for which there was room arrive");
    object.let_go();
    raw.finish();
}

/// However small a descriptor is on the wire.
#[test]
fn capabilities_of_the_peer_count_until_they_are_released() {
    let (mut raw, object) = offering(1 << 20);
    let before = held(&raw);
    let caps: Vec<_> = (0..100).map(Descriptor::SenderHosted).collect();
    raw.send(call(1, on(0), 1, &caps));
    assert!(held(&raw) >= before + 100 * costs::IMPORT);
    let taken = object.take();
    // The same ones again cost less.
    let once = held(&raw);
    raw.send(call(2, on(0), 2, &caps));
    assert!(held(&raw) < once + 100 * costs::IMPORT);
    drop((taken, object.take()));
    raw.net.run();
    assert!(held(&raw) < before + 100 * costs::IMPORT);
    assert_eq!(raw.net.snapshot(raw.end).imports, 0);
    let many: Vec<_> = (0..10_000).map(Descriptor::SenderPromise).collect();
    raw.send(call(3, on(0), 3, &many));
    raw.expect_abort("Limits::budget_bytes");
    object.let_go();
    raw.finish();
}

#[test]
fn results_count_until_they_are_finished() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let (_, given) = net.object("other");
    object.give(vec![given]);
    let limits = Limits { budget_bytes: 64 << 10, ..limits() };
    let mut raw = Raw::with_limits(net, limits, Some(client));
    raw.take_bootstrap();
    let mut question = 0;
    let failure = loop {
        question += 1;
        raw.send(call(question, on(0), 1, &[]));
        let sent = raw.sent();
        let [ret] = sent.as_slice() else { panic!("{sent:?}") };
        if !ret.contains("senderHosted") {
            break ret.clone();
        }
        assert!(held(&raw) <= 64 << 10);
    };
    assert!(failure.contains("Limits::budget_bytes"), "{failure}");
    assert!(question > 10, "{question}");
    raw.expect_alive();
    for question in 1..=question {
        raw.send(finish(question, true));
    }
    raw.sent();
    assert_eq!(held(&raw), 0);
    object.let_go();
    raw.finish();
}

/// Whoever keeps the parameters of a call keeps them at the peer's cost.
#[test]
fn parameters_count_as_long_as_they_are_kept() {
    let (mut raw, object) = offering(1 << 20);
    raw.send(call(1, on(0), 1, &[]));
    let taken = object.take();
    let params = taken.params().clone();
    taken.respond(Ok(content::results(0, &[])));
    raw.net.run();
    assert!(raw.net.snapshot(raw.end).answers == 0 && held(&raw) > 0);
    drop(params);
    assert_eq!(held(&raw), 0);
    raw.expect(&["return 1 results (0) noFinishNeeded"]);
    object.let_go();
    raw.finish();
}

/// A copy that leaves over another connection is the first peer's as long as it waits.
#[test]
fn what_is_forwarded_counts_until_it_has_left() {
    let mut net = Net::new();
    let (_far, far) = net.object("far");
    let (near, _) = net.link(None, Some(far));
    let remote = net.bootstrapped(near);
    let (object, client) = net.object("object");
    object.forward(remote.clone());
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    raw.send(call(1, on(0), 1, &[]));
    let waiting = held(&raw);
    assert!(waiting > costs::CALL, "the copy waits to be sent");
    raw.net.deliver_one(near);
    assert!(held(&raw) < waiting && held(&raw) >= costs::CALL);
    raw.net.settle();
    assert_eq!(held(&raw), 0);
    raw.sent();
    drop(remote);
    object.let_go();
    raw.finish();
}

#[test]
fn errors_that_break_promises_count_as_long_as_they_are_kept() {
    let (mut raw, object) = offering(1 << 20);
    raw.send(call(1, on(0), 1, &[Descriptor::SenderPromise(5)]));
    let taken = object.take();
    let before = held(&raw);
    raw.send(super::raw::reject(5, Error::failed("x".repeat(100_000))));
    assert!(held(&raw) >= before + 99_000);
    drop(taken);
    raw.sent();
    assert!(held(&raw) < before);
    raw.send(call(2, on(0), 1, &[Descriptor::SenderPromise(6)]));
    raw.send(super::raw::reject(6, Error::failed("x".repeat(1 << 20))));
    raw.expect_abort("Limits::budget_bytes");
    object.let_go();
    raw.finish();
}

/// What this side asked for is not refused, but what it names is counted.
#[test]
fn capabilities_in_results_count() {
    let mut raw = Raw::with_limits(Net::new(), Limits { budget_bytes: 1 << 16, ..limits() }, None);
    let server = raw.give_bootstrap(0);
    let asked = raw.net.call(&server, 1, &[]);
    raw.expect(&["call 0 on 0 (1)"]);
    let caps: Vec<_> = (1..1000).map(Descriptor::SenderHosted).collect();
    raw.send(super::raw::ret(0, 1, &caps));
    raw.expect_abort("Limits::budget_bytes");
    drop((server, asked));
    raw.finish();
}

/// A window of calls as large as peers have it by default, none of them small.
#[test]
fn honest_pipelining_fits() {
    let mut net = Net::new();
    let (object, client) = net.object_with("object", Concurrency::Concurrent);
    object.hold();
    let mut raw = Raw::with_limits(net, Limits::default(), Some(client));
    raw.take_bootstrap();
    for question in 1..=4096 {
        let caps = [Descriptor::SenderHosted(question), Descriptor::ReceiverHosted(0)];
        let target = if question == 1 { on(0) } else { on_field(question - 1, &[0]) };
        raw.send(call(question, target, 1, &caps));
    }
    raw.expect(&[]);
    assert!(held(&raw) < Limits::default().budget_bytes / 8);
    object.let_go();
    raw.finish();
}

/// Results with capabilities stay until the Finish, for what the peer pipelines on them.
#[test]
fn results_count_as_long_as_they_stay() {
    let (mut raw, object) = offering(1 << 20);
    let (_, given) = raw.net.object("given");
    let before = held(&raw);
    raw.send(call(1, on(0), 1, &[]));
    let mut fields = vec![crate::cap::client::Client::null(); 1000];
    fields.push(given);
    object.answer_with(&fields);
    raw.net.run();
    assert!(held(&raw) >= before + 8 * 1000, "{} after {before}", held(&raw));
    raw.send(finish(1, true));
    assert_eq!(held(&raw), before);
    drop(fields);
    object.let_go();
    raw.finish();
}

/// The peer may ask the next thing as soon as the answer has left the table, though this side
/// has not dropped it yet.
#[test]
fn an_answer_that_has_left_the_table_costs_nothing() {
    let (mut raw, object) = offering(1 << 20);
    let before = held(&raw);
    raw.send(bootstrap(1));
    assert!(held(&raw) > before);
    let at_once = Arc::new(AtomicU64::new(u64::MAX));
    let tell = Arc::clone(&at_once);
    raw.net.between(raw.end, move |machine| {
        tell.store(machine.snapshot().budget_bytes, Ordering::SeqCst);
    });
    raw.send(finish(1, true));
    assert_eq!(at_once.load(Ordering::SeqCst), before);
    object.let_go();
    raw.finish();
}

/// `Limits::backlog_bytes`: a peer that asks without end and does not read.
#[test]
fn a_peer_that_does_not_read_what_it_asks_for_is_cut_off() {
    let mut net = Net::new();
    let (_, client) = net.object("object");
    let limits = Limits { backlog_bytes: 16 << 10, ..limits() };
    let mut raw = Raw::with_limits(net, limits, Some(client));
    for question in 0..1000 {
        raw.net.inject(raw.end, transmit(bootstrap(question)));
    }
    raw.expect_abort("Limits::backlog_bytes");
    raw.finish();
}

/// A call whose outcome this side has taken is in no table when both sides have finished. With
/// calls that take each other's outcome a peer could leave any number of them here.
#[test]
fn calls_that_came_back_cost_their_peer_until_they_are_over() {
    for calls in [20, 2000] {
        let mut net = Net::new();
        let (proxy, client) = net.object("proxy");
        let limits = Limits { budget_bytes: 256 << 10, ..limits() };
        let mut raw = Raw::with_limits(net, limits, Some(client));
        raw.take_bootstrap();
        let server = raw.give_bootstrap(0);
        let before = raw.net.snapshot(raw.end).budget_bytes;
        proxy.forward(server.clone());
        let first = raw.net.call(&server, 1, &[]);
        for id in 0..calls {
            raw.send(call_to(id, on(0), 1, &[], ResultsTo::Yourself));
            raw.send(ret_with(id % 2, ReturnKind::TakeFromOtherQuestion(id)));
            raw.send(finish(id, true));
            if first.result().is_some() {
                break;
            }
        }
        if calls > 20 {
            // The call at the end has failed, or the connection has ended.
            let error = first.error();
            assert!(error.reason().contains("Limits::budget_bytes"), "{error}");
        } else {
            raw.sent();
            let cost = raw.net.snapshot(raw.end).budget_bytes - before;
            assert!(cost > 20 * size_of::<CallCell>() as u64, "{cost}");
            assert_eq!(raw.net.machine(raw.end).taken_calls(), 20);
            raw.send(ret(0, 7, &[]));
            assert_eq!(content::label(&first.ok()), 7);
            assert_eq!(raw.net.snapshot(raw.end).budget_bytes, before);
            assert_eq!(raw.net.machine(raw.end).taken_calls(), 0);
        }
        proxy.acknowledge();
        drop((server, first));
        raw.finish();
    }
}
