//! Long chains: whatever is linked to whatever, following it and taking it apart
//! does not use up the stack.
//!
//! The tests here call the library directly, without a check after every step,
//! which looks at whole tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::actor::Actor;
use super::content;
use super::net::{INTERFACE, METHOD, Net, limits};
use super::raw::{self, Raw};
use crate::cap::client::Client;
use crate::cap::pending::Pending;
use crate::cap::promise::{Fulfiller, promise};
use crate::error::Error;
use crate::limits::Limits;
use crate::wire::{Descriptor, Message, ResultsTo, ReturnKind};
use crate::work::waiting::Awaited;

/// Length of a chain. A recursion that needs 70 bytes for each link would use up the 2 MiB of
/// stack that a test has.
const LONG: usize = 30_000;

fn call(client: &Client, label: u64, caps: &[Client]) -> Pending {
    client.call(INTERFACE, METHOD, content::params(label, caps))
}

fn promises() -> (Vec<Client>, Vec<Fulfiller>) {
    (0..LONG).map(|_| promise()).unzip()
}

/// Each call is made on the result of the one before it.
fn pipelined_chain(start: &Client) -> Vec<Pending> {
    let mut calls: Vec<Pending> = Vec::with_capacity(LONG);
    let mut target = start.clone();
    for label in 0..LONG {
        let next = call(&target, label as u64, &[]);
        target = next.pipelined(&[0]);
        calls.push(next);
    }
    calls
}

#[test]
fn a_chain_of_promises_resolved_from_the_front() {
    let mut net = Net::new();
    let (end, target) = net.object("end");
    let (clients, fulfillers) = promises();
    let waiting = call(&clients[0], 1, &[]);
    let next = clients.iter().skip(1).cloned().chain([target]);
    for (fulfiller, next) in fulfillers.into_iter().zip(next) {
        fulfiller.fulfill(next);
    }
    let late = call(&clients[0], 2, &[]);
    net.run();
    assert_eq!(end.seen(), [1, 2]);
    drop((clients, waiting, late));
    net.finish();
}

#[test]
fn a_chain_of_promises_resolved_from_the_back() {
    let mut net = Net::new();
    let (end, target) = net.object("end");
    let (clients, fulfillers) = promises();
    let waiting = call(&clients[0], 1, &[]);
    let next: Vec<Client> = clients.iter().skip(1).cloned().chain([target]).collect();
    for (fulfiller, next) in fulfillers.into_iter().zip(next).rev() {
        fulfiller.fulfill(next);
    }
    net.run();
    assert_eq!(end.seen(), [1]);
    drop((clients, waiting));
    net.finish();
}

#[test]
fn a_chain_of_promises_dropped_at_the_front() {
    let mut net = Net::new();
    let (_, target) = net.object("end");
    let (mut clients, fulfillers) = promises();
    let next: Vec<Client> = clients.iter().skip(1).cloned().chain([target]).collect();
    for (fulfiller, next) in fulfillers.into_iter().zip(next) {
        fulfiller.fulfill(next);
    }
    clients.truncate(1);
    drop(clients);
    net.finish();
}

#[test]
fn a_chain_of_pipelined_calls_on_a_promise_that_fails() {
    let net = Net::new();
    let (start, fulfiller) = promise();
    let calls = pipelined_chain(&start);
    fulfiller.reject(Error::failed("the end"));
    for call in &calls {
        assert!(matches!(call.try_result(), Some(Err(error)) if error == Error::failed("the end")));
    }
    drop((start, calls));
    net.finish();
}

#[test]
fn a_chain_of_pipelined_calls_on_a_promise_that_is_kept() {
    let mut net = Net::new();
    let (object, client) = net.object("object");
    let (start, fulfiller) = promise();
    let calls = pipelined_chain(&start);
    object.give(vec![client.clone()]);
    fulfiller.fulfill(client);
    net.run();
    assert_eq!(object.seen().len(), LONG);
    assert!(object.seen().is_sorted());
    assert!(calls.iter().all(|call| matches!(call.try_result(), Some(Ok(_)))));
    object.acknowledge();
    drop((start, calls));
    net.finish();
}

#[test]
fn a_chain_of_pipelined_calls_that_is_cancelled_from_its_end() {
    let net = Net::new();
    let (start, fulfiller) = promise();
    let mut calls = pipelined_chain(&start);
    let last = calls.pop();
    // Each is kept by the one that was made on its result.
    drop(calls);
    assert!(last.as_ref().is_some_and(|call| call.try_result().is_none()));
    drop(last);
    drop((start, fulfiller));
    net.finish();
}

#[test]
fn a_chain_of_pipelined_calls_to_a_peer_that_goes_away() {
    let (mut raw, server) = raw::caller(Net::new());
    let calls = pipelined_chain(&server);
    raw.net.cut(raw.end);
    assert!(calls.iter().all(|call| matches!(call.try_result(), Some(Err(_)))));
    drop((server, calls));
    raw.finish();
}

#[test]
fn a_chain_of_pipelined_calls_to_a_peer_that_is_dropped() {
    let (raw, server) = raw::caller(Net::new());
    let mut calls = pipelined_chain(&server);
    let last = calls.pop();
    drop(calls);
    drop(last);
    drop(server);
    raw.net.check();
    raw.finish();
}

/// Promises of a peer, each resolved to the next.
#[test]
fn a_chain_of_promises_of_a_peer() {
    let (mut raw, server) = raw::callee();
    server.keep();
    let machine = Arc::clone(raw.net.machine(raw.end));
    let many = u32::try_from(LONG).unwrap();
    let send = |message| machine.receive(super::net::transmit(message));
    send(raw::call(0, raw::on(0), 1, &[Descriptor::SenderPromise(0)]));
    raw.net.run();
    let first = server.kept_one();
    let waiting = call(&first, 5, &[]);
    for id in 0..many {
        send(raw::resolve(id, Descriptor::SenderPromise(id + 1)));
    }
    send(raw::resolve(many, Descriptor::SenderHosted(many + 1)));
    let late = call(&first, 6, &[]);
    assert_eq!(raw.sent().last().unwrap(), &format!("call 1 on {} (6)", many + 1));
    server.acknowledge();
    drop((first, waiting, late, machine));
    raw.finish();
}

/// Objects of the application, each of which holds the next one.
#[test]
fn a_chain_of_objects_that_hold_each_other() {
    struct Link(#[expect(dead_code)] Client, Arc<AtomicUsize>);
    impl crate::untyped::Dispatch for Link {
        fn dispatch(&self, call: crate::untyped::IncomingCall) {
            super::actor::acknowledge(call);
        }
        fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
            self
        }
    }
    impl Drop for Link {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let net = Net::new();
    let drops = Arc::new(AtomicUsize::new(0));
    let mut client = Client::null();
    for _ in 0..LONG {
        let executor = Arc::clone(&net.jobs) as Arc<dyn crate::work::executor::Executor>;
        let server = Arc::new(Link(client, Arc::clone(&drops)));
        client = Client::of(crate::cap::object::LocalObject::new(
            server,
            crate::Concurrency::Serial,
            executor,
        ));
    }
    drop(client);
    assert_eq!(drops.load(Ordering::SeqCst), LONG);
    net.finish();
}

/// Calls that wait, each with the result of the one before it among its
/// parameters.
#[test]
fn a_chain_of_calls_that_carry_each_others_results() {
    for fulfilled in [true, false] {
        let mut net = Net::new();
        let (_, target) = net.object("target");
        let (start, fulfiller) = promise();
        let mut last = call(&start, 0, &[]);
        for label in 1..LONG {
            last = call(&start, label as u64, &[last.pipelined(&[0])]);
        }
        if fulfilled {
            fulfiller.fulfill(target);
            net.run();
        } else {
            drop((last, target));
            drop(fulfiller);
        }
        drop(start);
        net.finish();
    }
}

/// A peer that answers each of our calls with the results of a call of its own to us, which we
/// pass on to the peer, so many times.
struct Taking {
    raw: Raw,
    /// Passes the peer's calls on.
    proxy: Actor,
    /// What they are passed on to.
    server: Client,
    /// The first of our calls.
    first: Pending,
}

impl Taking {
    fn new(calls: u32) -> Self {
        let mut net = Net::new();
        let (proxy, client) = net.object("proxy");
        let mut raw = Raw::new(net, Some(client));
        raw.take_bootstrap();
        let server = raw.give_bootstrap(0);
        proxy.forward(server.clone());
        let first = call(&server, 1, &[]);
        // Each answer is passed on as a question, which takes its results from
        // the next answer. The questions' ids are free at once and take turns.
        let mut taking = Taking { raw, proxy, server, first };
        for id in 0..calls {
            taking.send(raw::call_to(id, raw::on(0), 1, &[], ResultsTo::Yourself));
            taking.raw.net.jobs.run_one();
            taking.send(raw::ret_with(id % 2, ReturnKind::TakeFromOtherQuestion(id)));
            taking.send(raw::finish(id, true));
        }
        taking.raw.sent();
        taking
    }

    fn send(&mut self, message: Message) {
        self.raw.net.machine(self.raw.end).receive(super::net::transmit(message));
    }

    fn finish(self) {
        let Taking { raw, proxy, server, first } = self;
        drop(first);
        raw.net.check();
        raw.expect_alive();
        proxy.acknowledge();
        drop(server);
        raw.finish();
    }
}

#[test]
fn a_chain_of_calls_whose_outcome_is_each_others() {
    for answered in [true, false] {
        let mut taking = Taking::new(20_000);
        if answered {
            taking.send(raw::ret(0, 7, &[]));
            let results = taking.first.try_result().unwrap().unwrap();
            assert_eq!(content::label(&results), 7);
        }
        taking.finish();
    }
}

/// Note [stuck workers]: who looks what such a call waits for follows the chain to its end.
#[test]
fn the_end_of_a_chain_of_calls_whose_outcome_is_each_others_is_found() {
    let taking = Taking::new(u32::try_from(LONG).unwrap());
    assert!(taking.first.cell().awaited_peer().is_some());
    assert!(taking.first.cell().behind().is_none());
    taking.finish();
}

/// Promises of ours that the peer holds, each resolved to the next, which the
/// peer holds, too. It gives them back from the end.
#[test]
fn a_chain_of_exported_promises() {
    let many = u32::try_from(LONG).unwrap();
    let mut net = Net::new();
    let (_, target) = net.object("target");
    let limits = Limits { exports: u32::MAX, message_words: u64::MAX, ..limits() };
    let mut raw = Raw::with_limits(net, limits, None);
    let server = raw.give_bootstrap(0);
    let machine = Arc::clone(raw.net.machine(raw.end));
    let send = |message| machine.receive(super::net::transmit(message));
    let (clients, fulfillers) = promises();
    let calls: Vec<Pending> =
        clients.chunks(50_000).map(|clients| call(&server, 1, clients)).collect();
    let next: Vec<Client> = clients.iter().skip(1).cloned().chain([target]).collect();
    for (fulfiller, next) in fulfillers.into_iter().zip(next) {
        fulfiller.fulfill(next);
    }
    drop((clients, calls));
    raw.sent();
    // The last is the target's own.
    for id in (1..=many).rev() {
        send(raw::release(id, if id == many { 1 } else { 2 }));
    }
    raw.expect_alive();
    send(raw::release(0, 1));
    assert_eq!(raw.net.snapshot(raw.end).exports, 0);
    drop((server, machine));
    raw.finish();
}
