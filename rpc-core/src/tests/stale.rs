//! Reports and messages that are about what has ended already, and calls that end on their way.

use std::sync::Arc;

use super::content;
use super::net::{Net, limits};
use super::raw::{self, Raw, call, on, ret};
use crate::cap::capability::Capability;
use crate::cap::client::Client;
use crate::cap::connection::Question;
use crate::cap::delivery::Delivery;
use crate::cap::promise::promise;
use crate::error::{Error, Timeout};
use crate::limits::Limits;
use crate::protocol::Dest;
use crate::protocol::remote_promise::RemotePromise;
use crate::sync::Mutex;
use crate::wire::{Descriptor, Message, Return, ReturnKind};

/// The question of which this is a field, as another thread holds it for a moment.
fn question(field: &Client) -> Arc<dyn Question> {
    let promise = field.clone().into_kind_as::<RemotePromise>().unwrap();
    match promise.location() {
        Err(Dest::Answer(question, _)) => question,
        _ => panic!("{field:?} is no field of a question"),
    }
}

fn returned(answer: u32, release_params: bool, no_finish_needed: bool) -> Message {
    let content = content::message(content::results(0, &[]), Vec::new());
    let outcome = ReturnKind::Results(content);
    Message::Return(Return { answer, release_params, no_finish_needed, outcome })
}

/// The first question needed no Finish, and is still held when another one has its id.
#[test]
fn the_end_of_a_question_is_not_that_of_the_next_one_with_its_id() {
    let (mut raw, server) = raw::caller(Net::new());
    let first = raw.net.call(&server, 1, &[]);
    let held = question(&first.pipelined(0));
    raw.send(returned(0, false, true));
    let second = raw.net.call(&server, 2, &[]);
    raw.expect(&["call 0 on 0 (1)", "call 0 on 0 (2)"]);
    drop((first, held));
    raw.expect(&[]);
    raw.send(ret(0, 3, &[]));
    assert_eq!(content::label(&second.ok()), 3);
    raw.expect(&["finish 0"]);
    drop((server, second));
    raw.finish();
}

/// The question is still there because somebody holds it.
#[test]
fn a_second_return_ends_the_connection() {
    let (mut raw, server) = raw::caller(Net::new());
    let asked = raw.net.call(&server, 1, &[]);
    let held = question(&asked.pipelined(0));
    raw.send(ret(0, 2, &[]));
    raw.expect(&["call 0 on 0 (1)"]);
    raw.send(ret(0, 3, &[]));
    raw.expect_abort("a second Return for question 0");
    assert_eq!(content::label(&asked.ok()), 2);
    drop((server, asked, held));
    raw.finish();
}

/// `Return.releaseParamCaps` holds for a call that is not wanted any more, too.
#[test]
fn a_return_after_our_finish_releases_the_parameters() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let (mut raw, server) = raw::caller(net);
    drop(raw.net.call(&server, 1, &[given]));
    raw.expect(&["call 0 on 0 (1) [senderHosted 0]", "finish 0 releaseResultCaps"]);
    assert_eq!(own.drops(), 0);
    raw.send(returned(0, true, false));
    assert_eq!((raw.net.snapshot(raw.end).exports, own.drops()), (0, 1));
    drop(server);
    raw.finish();
}

/// Note [deadlines]: the Finish of a call whose time is over gives up the results.
#[test]
fn a_call_whose_time_is_over_keeps_nothing_of_its_results() {
    let (mut raw, server) = raw::caller(Net::new());
    let asked = raw.net.call(&server, 1, &[]);
    let field = asked.pipelined(0);
    let error = Error::timed_out(Timeout::MayHaveRun, "too late");
    question(&field).give_up(&error);
    raw.expect(&["call 0 on 0 (1)", "finish 0 releaseResultCaps"]);
    assert!(asked.error().is_timeout() && field.failure().is_some());
    raw.send(ret(0, 2, &[Descriptor::SenderHosted(5)]));
    raw.expect(&[]);
    assert_eq!(raw.net.snapshot(raw.end).imports, 1, "that of the bootstrap capability");
    drop((server, asked, field));
    raw.finish();
}

/// Keeps what is delivered to it, until the test sends it on.
#[derive(Default)]
struct Gate(Mutex<Vec<Delivery>>);

impl Capability for Gate {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        self.0.lock().push(delivery);
        Ok(())
    }

    fn describe(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gate")
    }
}

/// It is cancelled when it is in no queue any more, and in no message yet.
#[test]
fn a_call_that_is_cancelled_on_its_way_out_leaves_nothing_behind() {
    let mut net = Net::new();
    let (own, given) = net.object("own");
    let (mut raw, server) = raw::caller(net);
    let gate = Arc::new(Gate::default());
    drop(raw.net.call(&Client::of(Arc::clone(&gate)), 1, &[given]));
    let deliveries = std::mem::take(&mut *gate.0.lock());
    deliveries.into_iter().for_each(|delivery| server.clone().deliver(delivery));
    raw.net.check();
    raw.expect(&[]);
    let snapshot = raw.net.snapshot(raw.end);
    assert_eq!((snapshot.exports, snapshot.questions, own.drops()), (0, 0, 1));
    drop((gate, server));
    raw.finish();
}

/// The promise lives on, and does not remember who had it.
#[test]
fn an_export_that_was_released_leaves_its_promise_alone() {
    let (mut raw, server) = raw::caller(Net::new());
    let (promised, fulfiller) = promise();
    let machine = Arc::clone(raw.net.machine(raw.end));
    let before = Arc::weak_count(&machine);
    for _ in 0..3 {
        let put = raw.net.call(&server, 1, std::slice::from_ref(&promised));
        raw.expect(&["call 0 on 0 (1) [senderPromise 0]"]);
        assert!(Arc::weak_count(&machine) > before, "somebody watches it");
        raw.send(returned(0, true, true));
        put.ok();
        drop(put);
        assert_eq!(Arc::weak_count(&machine), before);
    }
    fulfiller.fulfill(server.clone());
    raw.expect(&[]);
    drop((machine, server, promised));
    raw.finish();
}

/// `Limits::answers` is how many there may be.
#[test]
fn as_many_calls_may_be_outstanding_as_the_limit_says() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    object.hold();
    let mut raw = Raw::with_limits(net, Limits { answers: 2, ..limits() }, Some(client));
    raw.take_bootstrap();
    raw.send(call(1, on(0), 1, &[]));
    raw.send(call(2, on(0), 2, &[]));
    raw.expect(&[]);
    raw.expect_alive();
    raw.send(call(3, on(0), 3, &[]));
    raw.expect_abort("more than 2 calls are outstanding");
    object.let_go();
    raw.finish();
}
