//! What a promise of the host's may become after it was handed off: an object of any vat, nothing,
//! or itself; and what it counts meanwhile.

use std::sync::atomic::Ordering;

use super::actor::Actor;
use super::content;
use super::handoff_peers::introducer;
use super::handoffs::{ALICE, BOB, CAROL, DAVE, Town};
use super::net::{Call, End, limits};
use super::raw;
use crate::cap::client::Client;
use crate::cap::promise::{Fulfiller, promise};
use crate::error::Error;
use crate::kinds::membrane::{Membrane, MembranePolicy};
use crate::limits::Limits;
use crate::wire::Descriptor;

/// What Alice has of Bob, and gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Promise,
    /// A field of what Bob will answer.
    Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    ObjectOf(usize),
    Null,
    Broken,
}

/// Such a place, and what settles it.
struct Open {
    alices: Client,
    asked: Call,
    /// Absent for a field.
    fulfiller: Option<Fulfiller>,
}

fn open(town: &mut Town, place: Place) -> Open {
    let bob = town.has(ALICE, BOB);
    match place {
        Place::Promise => {
            let (promised, fulfiller) = promise();
            town.objects[BOB].give(vec![promised]);
            let asked = town.net.call(&bob, 100, &[]);
            town.net.settle();
            town.objects[BOB].acknowledge();
            Open { alices: asked.cap(0), asked, fulfiller: Some(fulfiller) }
        }
        Place::Field => {
            town.objects[BOB].hold();
            let asked = town.net.call(&bob, 100, &[]);
            town.net.settle();
            Open { alices: asked.pipelined(0), asked, fulfiller: None }
        }
    }
}

/// Bob settles the place.
fn settle(town: &mut Town, fulfiller: Option<Fulfiller>, target: Client) {
    match fulfiller {
        Some(fulfiller) => fulfiller.fulfill(target),
        None => town.objects[BOB].answer_with(&[target]),
    }
    town.objects[BOB].acknowledge();
}

/// An object of a vat, and what Bob has of it.
fn object_of(town: &mut Town, vat: usize) -> (Actor, Client) {
    let (actor, object) = town.net.object("the target");
    if vat == BOB {
        return (actor, object);
    }
    let server = town.has(BOB, vat);
    town.objects[vat].give(vec![object]);
    let call = town.net.call(&server, 101, &[]);
    town.net.settle();
    town.objects[vat].acknowledge();
    (actor, call.cap(0))
}

/// What is slow.
#[derive(Clone, Copy, Debug)]
enum Slow {
    /// What an end has sent stays under way.
    Link(End),
    /// An end holds the calls back that it gets.
    Limit(End),
}

impl Town {
    fn settle_slowly(&mut self, slow: Slow) {
        match slow {
            Slow::Link(end) => self.settle_but(end),
            Slow::Limit(end) => {
                self.net.set_flow_limit(end, 0);
                self.net.settle();
            }
        }
    }
}

/// How Carol gets what Alice has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    AsItIs,
    /// As a promise of Alice's, which becomes that when Carol has called it.
    Promised,
}

/// `slow` is what is slow until Bob's promise has resolved, and afterwards.
fn order_is_kept(place: Place, becomes: Becomes, given: Given, eager: bool, slow: [Slow; 2]) {
    let about = format!("{place:?} {becomes:?} {given:?} {eager} {slow:?}");
    let vats = if becomes == Becomes::ObjectOf(DAVE) { 4 } else { 3 };
    let mut town = Town::new(vats);
    town.network.eager.store(eager, Ordering::SeqCst);
    let (target, client) = match becomes {
        Becomes::ObjectOf(vat) => {
            let (actor, client) = object_of(&mut town, vat);
            (Some(actor), client)
        }
        Becomes::Null => (None, Client::null()),
        Becomes::Broken => (None, Client::broken(Error::failed("broken on purpose"))),
    };
    let Open { alices, asked, fulfiller } = open(&mut town, place);
    let carol = town.has(ALICE, CAROL);
    town.objects[CAROL].keep();
    let mut calls = vec![town.net.call(&alices, 1, &[])];
    let (gives, becomes_bobs) = match given {
        Given::AsItIs => (alices.clone(), None),
        Given::Promised => {
            let (promised, fulfiller) = promise();
            (promised, Some(fulfiller))
        }
    };
    calls.push(town.net.call(&carol, 50, &[gives]));
    town.net.settle();
    let carols = town.given(CAROL);
    calls.push(town.net.call(&carols, 2, &[]));
    if let Some(fulfiller) = becomes_bobs {
        town.net.settle();
        fulfiller.fulfill(alices.clone());
        // She does not know of it yet.
        calls.push(town.net.call(&carols, 3, &[]));
        town.settle_slowly(slow[0]);
        calls.push(town.net.call(&carols, 4, &[]));
    }
    settle(&mut town, fulfiller, client);
    for (label, slow) in [(5, slow[0]), (6, slow[1]), (7, slow[1])] {
        town.settle_slowly(slow);
        calls.push(town.net.call(&carols, label, &[]));
    }
    for slow in slow {
        if let Slow::Limit(end) = slow {
            town.net.set_flow_limit(end, u64::MAX);
        }
    }
    town.net.settle();
    calls.push(town.net.call(&carols, 8, &[]));
    town.net.settle();
    let expected = match given {
        Given::AsItIs => vec![1, 2, 5, 6, 7, 8],
        Given::Promised => (1..=8).collect(),
    };
    if let Some(target) = &target {
        assert_eq!(target.seen(), expected, "{about}");
        calls.iter().for_each(|call| drop(call.ok()));
    } else {
        let failed = calls.iter().filter(|call| matches!(call.result(), Some(Err(_)))).count();
        assert_eq!(failed, expected.len(), "{about}");
    }
    // Whatever it is, it is what Alice has.
    town.objects[CAROL].give(vec![carols.clone()]);
    let back = town.net.call(&carol, 51, &[]);
    town.net.settle();
    if target.is_some() {
        let comparison = alices.compare(&back.cap(0));
        town.net.settle();
        assert_eq!(comparison.try_answer().map(Result::ok), Some(Some(true)), "{about}");
        drop(comparison);
    }
    town.objects[CAROL].acknowledge();
    drop((calls, back, carols, carol, alices, asked));
    town.net.finish();
}

fn order_is_kept_if_it_becomes(becomes: Becomes) {
    let vats = if becomes == Becomes::ObjectOf(DAVE) { 4 } else { 3 };
    let ends: Vec<End> = Town::new(vats).ends.iter().map(|(.., end)| *end).collect();
    for place in [Place::Promise, Place::Field] {
        for given in [Given::AsItIs, Given::Promised] {
            // Of the many links between four vats, once.
            for eager in (0..if vats == 3 { 2 } else { 1 }).map(|habit| habit > 0) {
                for first in &ends {
                    order_is_kept(place, becomes, given, eager, [Slow::Limit(*first); 2]);
                    for second in &ends {
                        let slow = [first, second].map(|end| Slow::Link(*end));
                        order_is_kept(place, becomes, given, eager, slow);
                    }
                }
            }
        }
    }
}

#[test]
fn the_order_is_kept_if_it_becomes_an_object_of_the_hosts() {
    order_is_kept_if_it_becomes(Becomes::ObjectOf(BOB));
}

#[test]
fn the_order_is_kept_if_it_becomes_an_object_of_the_introducers() {
    order_is_kept_if_it_becomes(Becomes::ObjectOf(ALICE));
}

#[test]
fn the_order_is_kept_if_it_becomes_an_object_of_the_recipients() {
    order_is_kept_if_it_becomes(Becomes::ObjectOf(CAROL));
}

#[test]
fn the_order_is_kept_if_it_becomes_an_object_of_yet_another_vat() {
    order_is_kept_if_it_becomes(Becomes::ObjectOf(DAVE));
}

/// An object that Bob has from Alice, who needs nothing more of his answer. Carol's earlier calls
/// reach it through Alice, and only through her: so her later ones, which come to Bob, must not
/// take his own way there.
#[test]
fn the_order_is_kept_if_it_becomes_what_the_introducer_gave() {
    let ends: Vec<End> = Town::new(4).ends.iter().map(|(.., end)| *end).collect();
    for vat in [ALICE, BOB, CAROL, DAVE] {
        for eager in [false, true] {
            for first in &ends {
                for second in &ends {
                    for busy in [false, true] {
                        let slow = [*first, *second];
                        order_is_kept_if_it_becomes_what_alice_gave(vat, eager, busy, slow);
                    }
                }
            }
        }
    }
}

/// What `slow` sends stays under way until Alice has the answer, and afterwards. `busy` is whether
/// all of it arrives before Bob answers, who holds it back until then.
fn order_is_kept_if_it_becomes_what_alice_gave(
    vat: usize,
    eager: bool,
    busy: bool,
    slow: [End; 2],
) {
    let about = format!("{vat} {eager} {busy} {slow:?}");
    let mut town = Town::new(4);
    town.network.eager.store(eager, Ordering::SeqCst);
    let (target, object) = town.net.object("the target");
    let alices = if vat == ALICE {
        object
    } else {
        let server = town.has(ALICE, vat);
        town.objects[vat].give(vec![object]);
        let call = town.net.call(&server, 101, &[]);
        town.net.settle();
        town.objects[vat].acknowledge();
        call.cap(0)
    };
    let bob = town.has(ALICE, BOB);
    let carol = town.has(ALICE, CAROL);
    town.objects[BOB].hold();
    town.objects[CAROL].keep();
    let asked = town.net.call(&bob, 100, &[alices]);
    let (promised, fulfiller) = promise();
    let mut calls = vec![town.net.call(&carol, 50, &[promised])];
    town.net.settle();
    let carols = town.given(CAROL);
    let call = town.objects[BOB].take();
    let bobs = call.params().caps()[0].clone();
    calls.push(town.net.call(&carols, 1, &[]));
    fulfiller.fulfill(asked.pipelined(0));
    town.settle_but(slow[0]);
    let from_alice = town.end(BOB, ALICE);
    if busy {
        town.net.set_flow_limit(from_alice, 0);
        calls.extend([200, 201].map(|label| town.net.call(&bob, label, &[])));
        town.net.settle();
    }
    call.respond(Ok(content::results(0, &[bobs])));
    drop(asked);
    town.settle_but(slow[usize::from(busy)]);
    town.net.set_flow_limit(from_alice, u64::MAX);
    calls.push(town.net.call(&carols, 2, &[]));
    for label in [3, 4] {
        town.settle_but(slow[1]);
        calls.push(town.net.call(&carols, label, &[]));
    }
    town.net.settle();
    town.objects[BOB].let_go();
    town.net.settle();
    calls.push(town.net.call(&carols, 5, &[]));
    town.net.settle();
    assert_eq!(target.seen(), [1, 2, 3, 4, 5], "{about}");
    town.objects[CAROL].acknowledge();
    drop((calls, carols, carol, bob));
    town.net.finish();
}

#[test]
fn all_calls_fail_if_it_becomes_nothing() {
    order_is_kept_if_it_becomes(Becomes::Null);
    order_is_kept_if_it_becomes(Becomes::Broken);
}

/// Carol gives Bob what she has from Alice, which is his own promise, and he resolves it to that.
#[test]
fn a_promise_that_becomes_what_was_handed_off_of_it_is_broken() {
    let mut town = Town::new(3);
    let Open { alices, asked, fulfiller } = open(&mut town, Place::Promise);
    let [carol, bobs] = [town.has(ALICE, CAROL), town.has(CAROL, BOB)];
    town.objects[CAROL].keep();
    let given = town.net.call(&carol, 50, &[alices.clone()]);
    town.net.settle();
    let carols = town.given(CAROL);
    town.objects[BOB].keep();
    let passed = town.net.call(&bobs, 51, &[carols.clone()]);
    town.net.settle();
    let own = town.given(BOB);
    let early = town.net.call(&carols, 52, &[]);
    settle(&mut town, fulfiller, own.clone());
    town.net.settle();
    let [late, its] =
        [(&carols, 53), (&own, 54)].map(|(cap, label)| town.net.call(cap, label, &[]));
    town.net.settle();
    for call in [&early, &late, &its] {
        let reason = call.error().reason().to_owned();
        assert!(reason.contains("resolved to itself"), "{reason}");
    }
    drop((given, passed, early, late, its, own, carols, bobs, carol, alices, asked));
    town.net.finish();
}

/// Carol keeps what she was given, and does nothing with it. Bob's answer is not kept for that.
#[test]
fn a_vine_that_is_never_used_keeps_no_answer() {
    let mut town = Town::new(3);
    let Open { alices, asked, fulfiller } = open(&mut town, Place::Field);
    let carol = town.has(ALICE, CAROL);
    town.objects[CAROL].keep();
    let given = town.net.call(&carol, 50, &[alices.clone()]);
    town.net.settle();
    let carols = town.given(CAROL);
    let (object, bobs) = town.net.object("another of bob's");
    settle(&mut town, fulfiller, bobs);
    town.net.settle();
    drop((alices, asked, given, carol));
    town.net.settle();
    let (near, far) = (town.end(ALICE, BOB), town.end(BOB, ALICE));
    assert_eq!(town.net.snapshot(near).questions, 0);
    let kept = town.net.snapshot(far);
    assert_eq!((kept.answers, kept.provisions), (0, 1));
    assert_eq!(object.drops(), 0);
    drop(carols);
    town.net.settle();
    assert_eq!(object.drops(), 1);
    town.net.finish();
}

/// What Bob's method returns is answered by Alice or by Carol, while calls go by the vine.
#[test]
fn a_tail_call_behind_a_vine_is_answered() {
    for to in [ALICE, CAROL] {
        let mut town = Town::new(3);
        let cut = town.end(CAROL, BOB);
        if to == ALICE {
            town.net.cut(cut);
        }
        let Open { alices, asked, fulfiller } = open(&mut town, Place::Promise);
        let (target, bobs) = object_of(&mut town, to);
        let (between, object) = town.net.object("passes calls on");
        between.forward(bobs);
        let carol = town.has(ALICE, CAROL);
        town.objects[CAROL].keep();
        let given = town.net.call(&carol, 50, &[alices.clone()]);
        town.net.settle();
        let carols = town.given(CAROL);
        let early = town.net.call(&carols, 1, &[]);
        settle(&mut town, fulfiller, object);
        town.net.settle();
        let late = town.net.call(&carols, 2, &[]);
        town.net.settle();
        early.ok();
        late.ok();
        assert_eq!(target.seen(), [1, 2]);
        between.acknowledge();
        drop((given, early, late, carols, carol, alices, asked));
        town.net.finish();
    }
}

struct Nothing;

impl MembranePolicy for Nothing {}

/// As for what has resolved, and what becomes of it is behind the membrane, too.
#[test]
fn a_promise_behind_a_membrane_is_not_handed_off() {
    for place in [Place::Promise, Place::Field] {
        let mut town = Town::new(3);
        let Open { alices, asked, fulfiller } = open(&mut town, place);
        let (object, bobs) = town.net.object("another of bob's");
        let membrane = Membrane::new(Nothing);
        let behind: Client = membrane.wrap(&alices);
        let carol = town.has(ALICE, CAROL);
        town.objects[CAROL].keep();
        let to_carol = town.end(ALICE, CAROL);
        let given = town.net.call(&carol, 50, &[behind.clone()]);
        let told = town.net.deliver_one(to_carol);
        assert!(told.starts_with("call 0 on 0 (50) [sender"), "{told}");
        town.net.settle();
        let carols = town.given(CAROL);
        settle(&mut town, fulfiller, bobs);
        town.net.settle();
        let straight = town.end(CAROL, BOB);
        let called = town.net.call(&carols, 1, &[]);
        assert_eq!(town.count(straight, "call"), 0);
        called.ok();
        assert_eq!(object.seen(), [1]);
        drop((given, called, carols, carol, behind, membrane, alices, asked));
        town.net.finish();
    }
}

/// They count like what has resolved, also if one message names them all.
#[test]
fn no_more_promises_are_introduced_than_a_share_of_what_is_allowed() {
    let (mut vat, bob) = introducer(limits(), Limits { provisions: 2, ..limits() });
    let (recipient, host) = (vat.recipient, vat.introducer);
    let asked = vat.net.call(&bob, 1, &[]);
    vat.expect(host, &["call 0 on 5 (1)"]);
    vat.send(host, raw::ret(0, 1, &[Descriptor::SenderPromise(6)]));
    vat.sent(host);
    let [promised, field] = [asked.cap(0), vat.net.call(&bob, 2, &[]).pipelined(0)];
    vat.sent(host);
    vat.object.give(vec![promised.clone(), field.clone(), promised.clone()]);
    vat.send(recipient, raw::call(1, raw::on(0), 1, &[]));
    let told = vat.sent(recipient);
    assert_eq!(
        told,
        ["return 1 results (1) [thirdPartyHosted 1, thirdPartyHosted 2, senderPromise 3]"]
    );
    let provided = vat.sent(host);
    assert_eq!(provided.len(), 2, "{provided:?}");
    // The third one is handed off when there is room.
    vat.net.machine(host).hears_of_handoffs();
    vat.send(recipient, raw::release(1, 1));
    assert_eq!(vat.sent(host), ["finish 2147483648"]);
    vat.send(host, raw::resolve(6, Descriptor::SenderHosted(7)));
    vat.expect(recipient, &["resolve 3 thirdPartyHosted 1"]);
    vat.object.acknowledge();
    drop((promised, field, asked, bob));
    vat.finish();
}
