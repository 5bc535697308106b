//! Note [draining]: what arrives before is answered, what arrives later is refused.

use super::content;
use super::net::Net;
use super::raw::{self, Raw, call, finish, on, on_field};
use crate::wire::{Message, ReturnKind};

/// The questions that were refused, of what the machine has sent.
fn refused(raw: &mut Raw) -> Vec<u32> {
    let sent = raw.net.take_sent(raw.end);
    let refused = sent.into_iter().map(|message| match message {
        Message::Return(ret) => match ret.outcome {
            ReturnKind::Exception(error) if error.is_draining() => ret.answer,
            other => panic!("question {} was not refused: {other:?}", ret.answer),
        },
        other => panic!("no Return: {other:?}"),
    });
    refused.collect()
}

#[test]
fn calls_that_arrived_are_answered_and_later_ones_are_refused() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    object.hold();
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    let machine = raw.net.machine(raw.end).clone();
    assert!(!machine.owes_nothing());
    machine.drain();
    raw.send(call(3, on(0), 3, &[]));
    raw.send(raw::bootstrap(4));
    // Also what is pipelined on a call that was taken.
    raw.send(call(5, on_field(1, &[0]), 5, &[]));
    assert_eq!(refused(&mut raw), [3, 4, 5]);
    object.answer(Ok(content::results(1, &[])));
    assert!(!machine.owes_nothing());
    object.answer(Ok(content::results(2, &[])));
    raw.net.run();
    raw.expect(&["return 1 results (1) noFinishNeeded", "return 2 results (2) noFinishNeeded"]);
    assert!(machine.owes_nothing());
    assert_eq!(object.seen(), [1, 2]);
    drop(machine);
    raw.finish();
}

#[test]
fn a_call_that_the_peer_gave_up_or_keeps_is_owed_no_more() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let (_, result) = net.object("result");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    object.hold();
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    let machine = raw.net.machine(raw.end).clone();
    machine.drain();
    raw.send(finish(1, true));
    raw.expect(&["return 1 canceled"]);
    assert!(!machine.owes_nothing());
    drop(object.take());
    object.answer_with(&[result]);
    raw.net.run();
    // Its results are not given back yet.
    assert!(machine.owes_nothing());
    assert_eq!(raw.net.snapshot(raw.end).answers, 1);
    raw.sent();
    drop(machine);
    raw.finish();
}

#[test]
fn nothing_is_owed_after_the_end() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    object.hold();
    raw.send(call(1, on(0), 1, &[]));
    let machine = raw.net.machine(raw.end).clone();
    raw.net.cut(raw.end);
    assert!(machine.owes_nothing());
    drop((object.take(), machine));
    raw.finish();
}
