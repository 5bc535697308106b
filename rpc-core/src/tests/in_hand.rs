//! Calls of a peer that were looked up and not handed over yet, while another thread describes
//! to the peer where they go: Note [in hand].

use std::sync::Arc;

use super::content;
use super::handoffs::{ALICE, BOB, CAROL, DAVE, Town};
use super::net::{Call, transmit};
use crate::cap::client::Client;
use crate::cap::promise::promise;

/// Calls the same object once more while Carol's way to its host is slow: the host gets the calls,
/// which have these labels, in their order.
fn assert_not_overtaken(
    town: &mut Town,
    early: &Call,
    object: Client,
    host: usize,
    labels: [u64; 2],
) {
    let slow = town.end(CAROL, host);
    town.settle_but(slow);
    let late = town.net.call(&object, labels[1], &[]);
    drop(object);
    town.settle_but(slow);
    town.net.settle();
    assert_eq!(town.objects[host].seen(), labels);
    early.ok();
    late.ok();
}

/// Carol gives back to Alice what Alice has given to her, and a call of Alice's that comes for
/// it is the first use of it.
#[test]
fn a_call_in_hand_is_not_overtaken_when_what_it_is_for_goes_back_unused() {
    let mut town = Town::new(3);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    let [to_carol, to_alice] = [(ALICE, CAROL), (CAROL, ALICE)].map(|(a, b)| town.end(a, b));
    town.objects[CAROL].hold();
    let asked = town.net.call(&carol, 1, &[bob]);
    town.net.settle();
    let early = town.net.call(&asked.pipelined(0), 2, &[]);
    let held = town.objects[CAROL].take();
    town.net.between(to_alice, move |_| {
        let caps = held.params().caps().to_vec();
        held.respond(Ok(content::results(1, &caps)));
    });
    town.net.deliver(to_carol, "call 1 on #0.0 (2)");
    assert_not_overtaken(&mut town, &early, asked.pipelined(0), BOB, [2, 3]);
    town.objects[CAROL].let_go();
    drop((asked, early, carol));
    town.net.finish();
}

/// The same, where Carol has given Alice a promise of her own, which becomes what Alice has given
/// to her.
#[test]
fn a_call_in_hand_is_not_overtaken_when_its_promise_becomes_what_goes_back_unused() {
    let mut town = Town::new(3);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    let [to_carol, to_alice] = [(ALICE, CAROL), (CAROL, ALICE)].map(|(a, b)| town.end(a, b));
    town.objects[CAROL].keep();
    let given = town.net.call(&carol, 1, &[bob]);
    town.net.settle();
    let unused = town.given(CAROL);
    let (promised, fulfiller) = promise();
    town.objects[CAROL].give(vec![promised]);
    let asked = town.net.call(&carol, 2, &[]);
    town.net.settle();
    let alices = asked.cap(0);
    let early = town.net.call(&alices, 3, &[]);
    town.net.between(to_alice, move |_| fulfiller.fulfill(unused));
    town.net.deliver(to_carol, "call 0 on 1 (3)");
    assert_not_overtaken(&mut town, &early, alices.clone(), BOB, [3, 4]);
    town.objects[CAROL].acknowledge();
    drop((given, asked, alices, early, carol));
    town.net.finish();
}

/// Carol answers Alice with a promise of Bob's, which becomes Dave's object.
#[test]
fn a_call_in_hand_is_not_overtaken_when_its_promise_is_handed_off_and_resolves() {
    let mut town = Town::new(4);
    let [carol, dave] = [town.has(ALICE, CAROL), town.has(BOB, DAVE)];
    let [to_carol, to_alice] = [(ALICE, CAROL), (CAROL, ALICE)].map(|(a, b)| town.end(a, b));
    let (carol_to_bob, bob_to_carol) = (town.end(CAROL, BOB), town.end(BOB, CAROL));
    let (promised, fulfiller) = promise();
    let bob = town.has(CAROL, BOB);
    town.objects[BOB].give(vec![promised]);
    let promised = town.net.call(&bob, 0, &[]);
    town.net.settle();
    let promised_to_carol = promised.cap(0);
    town.objects[BOB].acknowledge();
    town.objects[CAROL].hold();
    let asked = town.net.call(&carol, 1, &[]);
    town.net.settle();
    let early = town.net.call(&asked.pipelined(0), 2, &[]);
    fulfiller.fulfill(dave);
    let resolved = town.net.take_sent(bob_to_carol);
    let held = town.objects[CAROL].take();
    let at_carol = Arc::clone(town.net.machine(carol_to_bob));
    town.net.between(to_alice, move |_| {
        held.respond(Ok(content::results(1, &[promised_to_carol])));
        resolved.into_iter().for_each(|message| at_carol.receive(transmit(message)));
    });
    town.net.deliver(to_carol, "call 1 on #0.0 (2)");
    assert_not_overtaken(&mut town, &early, asked.pipelined(0), DAVE, [2, 3]);
    town.objects[CAROL].let_go();
    drop((asked, early, carol, bob, promised));
    town.net.finish();
}
