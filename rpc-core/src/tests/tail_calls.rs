//! Tail calls, and peers that answer them against the rules.

use std::sync::Arc;

use super::actor::{Actor, acknowledge};
use super::net::Net;
use super::raw::{self, Raw, call_to, on, ret_with};
use crate::cap::client::Client;
use crate::sync::Mutex;
use crate::wire::{Descriptor, Message, ResultsTo, Return, ReturnKind};

/// A machine that has answered the peer's question 1 by its own question 0, whose results stay
/// with the peer; and a promise for a field of these, which has come back.
fn with_field_that_stays() -> (Raw, Actor, Client) {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let mut raw = Raw::new(net, Some(client));
    raw.take_bootstrap();
    let theirs = raw.give_bootstrap(5);

    // The first call is answered by a call to the peer; what the second one brings
    // is kept.
    let target = Mutex::new(Some(theirs));
    let kept = Arc::new(Mutex::new(None::<Client>));
    let keep = Arc::clone(&kept);
    object.on_call(move |call| {
        let target = target.lock().take();
        if let Some(target) = target {
            call.forward(&target);
        } else {
            *keep.lock() = call.params().caps().first().cloned();
            acknowledge(call);
        }
    });
    raw.send(raw::call(1, raw::on(0), 10, &[]));
    raw.expect(&["call 0 on 5 (10) yourself", "return 1 takeFromOtherQuestion 0", "release 5 x1"]);
    raw.send(raw::call(2, raw::on(0), 11, &[Descriptor::ReceiverAnswer(raw::promised(1, &[0]))]));
    let promise = kept.lock().take().unwrap();
    assert!(promise.is_unresolved());
    raw.sent();
    object.acknowledge();
    (raw, object, promise)
}

#[test]
fn a_second_return_of_a_tail_call_breaks_what_was_pipelined_on_it() {
    let (mut raw, _, promise) = with_field_that_stays();
    raw.send(raw::ret_with(0, ReturnKind::ResultsSentElsewhere));
    raw.expect_alive();
    assert!(promise.is_unresolved());
    raw.send(raw::ret_with(0, ReturnKind::ResultsSentElsewhere));
    raw.expect_abort("a second Return");
    // Whoever waits for it hears of the end.
    assert!(promise.failure().is_some(), "{promise:?}");
    drop(promise);
    raw.finish();
}

/// `Return.noFinishNeeded`: the peer has let go of the results. Its id may be that of another
/// question soon, and whoever waits for a field must not wait for ever.
#[test]
fn fields_of_results_that_stay_with_the_peer_break_when_it_lets_go_of_them() {
    let (mut raw, _, promise) = with_field_that_stays();
    raw.send(Message::Return(Return {
        answer: 0,
        release_params: false,
        no_finish_needed: true,
        outcome: ReturnKind::ResultsSentElsewhere,
    }));
    assert!(promise.failure().is_some(), "{promise:?}");
    let server = raw.give_bootstrap(6);
    let put = raw.net.call(&server, 12, &[promise.clone()]);
    let sent = raw.sent();
    assert_eq!(sent[0], "call 0 on 6 (12) [senderPromise 1]");
    let late = raw.net.call(&promise, 13, &[]);
    assert!(late.error().reason().contains("are gone"));
    raw.expect(&[]);
    drop((promise, server, put, late));
    raw.finish();
}

/// `Return.takeFromOtherQuestion`: the outcome of a call is that of one question.
#[test]
fn the_outcome_of_a_call_is_taken_once() {
    let (mut raw, server) = raw::caller(Net::new());
    let (callee, given) = raw.net.object("callee");
    callee.hold();
    let put = raw.net.call(&server, 1, &[given]);
    raw.send(raw::ret(0, 1, &[]));
    let asked = [raw.net.call(&server, 2, &[]), raw.net.call(&server, 3, &[])];
    raw.send(call_to(0, on(0), 4, &[], ResultsTo::Yourself));
    raw.send(ret_with(0, ReturnKind::TakeFromOtherQuestion(0)));
    raw.expect_alive();
    raw.send(ret_with(1, ReturnKind::TakeFromOtherQuestion(0)));
    raw.expect_abort("has been taken before");
    callee.let_go();
    drop((server, put, asked));
    raw.finish();
}
