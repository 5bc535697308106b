//! Calls that are cancelled before their methods have begun: none of these runs.

use super::actor::Actor;
use super::content;
use super::net::{Net, transmit};
use super::raw::{Raw, call, finish, on};
use crate::cap::client::Client;
use crate::cap::object::Concurrency;
use crate::cap::promise::promise;
use crate::error::Result;
use crate::kinds::membrane::{Membrane, MembranePolicy, Passage};
use crate::wire::{Descriptor, Finish, Message};

/// Delivers a message, and leaves the objects their work.
fn give(raw: &mut Raw, message: Message) {
    raw.net.inject(raw.end, transmit(message));
}

fn finish_but_deliver(question: u32) -> Message {
    Message::Finish(Finish { question, release_results: true, early_cancellation_workaround: true })
}

fn offering(concurrency: Concurrency) -> (Raw, Actor) {
    let mut net = Net::new();
    let (object, client) = net.object_with("object", concurrency);
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    (raw, object)
}

#[test]
fn a_call_that_is_finished_leaves_the_mailbox_at_once() {
    for concurrency in [Concurrency::Serial, Concurrency::Concurrent] {
        let (mut raw, object) = offering(concurrency);
        for question in 1..=4 {
            let caps = [Descriptor::SenderHosted(question)];
            give(&mut raw, call(question, on(0), u64::from(question), &caps));
        }
        give(&mut raw, finish(2, true));
        give(&mut raw, finish(3, true));
        // What came with them is released before the object gets to work.
        raw.expect(&["return 2 canceled", "release 2 x1", "return 3 canceled", "release 3 x1"]);
        raw.net.run();
        assert_eq!(object.seen(), [1, 4]);
        raw.sent();
        raw.finish();
    }
}

#[test]
fn calls_that_were_finished_leave_no_work_behind() {
    for concurrency in [Concurrency::Serial, Concurrency::Concurrent] {
        let (mut raw, object) = offering(concurrency);
        for _ in 0..1000 {
            give(&mut raw, call(1, on(0), 1, &[]));
            give(&mut raw, finish(1, true));
        }
        assert_eq!(raw.net.jobs.len(), 1, "a worker for all of them");
        for question in 2..=3 {
            give(&mut raw, call(question, on(0), u64::from(question), &[]));
        }
        raw.net.run();
        assert_eq!(object.seen(), [2, 3]);
        raw.sent();
        raw.finish();
    }
}

/// There are peers that finish calls right away and yet want them to arrive.
#[test]
fn a_finish_may_let_a_call_arrive_that_waits_in_a_mailbox() {
    let (mut raw, object) = offering(Concurrency::Serial);
    for question in 1..=3 {
        give(&mut raw, call(question, on(0), u64::from(question), &[]));
    }
    give(&mut raw, finish_but_deliver(2));
    give(&mut raw, finish(3, true));
    raw.net.run();
    assert_eq!(object.seen(), [1, 2]);
    raw.expect(&["return 2 canceled", "return 3 canceled", "return 1 results (1) noFinishNeeded"]);
    raw.finish();
}

/// Nor do they outlive the connection.
#[test]
fn calls_that_were_to_arrive_in_any_case_go_with_the_connection() {
    let (mut raw, object) = offering(Concurrency::Serial);
    for question in 1..100 {
        give(&mut raw, call(question, on(0), u64::from(question), &[]));
        give(&mut raw, finish_but_deliver(question));
    }
    raw.net.cut(raw.end);
    raw.net.run();
    assert_eq!(object.seen(), [0; 0]);
    raw.finish();
}

#[test]
fn a_call_of_this_vat_that_is_dropped_is_not_run() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let first = net.call(&client, 1, &[]);
    drop(net.call(&client, 2, &[]));
    let third = net.call(&client, 3, &[]);
    net.run();
    assert_eq!(object.seen(), [1, 3]);
    assert_eq!((content::label(&first.ok()), content::label(&third.ok())), (1, 3));
    drop((client, first, third));
    net.finish();
}

/// The mailbox is behind a promise, and that behind a membrane.
#[test]
fn a_cancelled_call_leaves_the_queue_behind_a_membrane() {
    struct Open;
    impl MembranePolicy for Open {
        fn inbound_call(&self, _: u64, _: u16, _: &Client) -> Result<Passage> {
            Ok(Passage::Through)
        }
    }
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let (promised, fulfiller) = promise();
    let outside: Client = Membrane::new(Open).wrap(&promised);
    let early = net.call(&outside, 1, &[]);
    let kept = net.call(&outside, 2, &[]);
    fulfiller.fulfill(client);
    drop(early);
    drop(net.call(&outside, 3, &[]));
    let last = net.call(&outside, 4, &[]);
    net.run();
    assert_eq!(object.seen(), [2, 4]);
    drop((promised, outside, kept, last));
    net.finish();
}

/// A method that has begun goes on.
#[test]
fn a_method_that_has_begun_is_told_and_runs() {
    let (mut raw, object) = offering(Concurrency::Serial);
    object.hold();
    raw.send(call(1, on(0), 1, &[]));
    raw.send(finish(1, true));
    let held = object.take();
    assert!(held.is_cancelled());
    assert_eq!(object.seen(), [1]);
    drop(held);
    raw.expect(&["return 1 canceled"]);
    raw.finish();
}
