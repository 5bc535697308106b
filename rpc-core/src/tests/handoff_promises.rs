//! Promises that are handed off before they have resolved.

use std::sync::Arc;

use super::handoffs::{ALICE, BOB, CAROL, Gift, Given, Town, gift};
use super::net::{End, limits};
use super::raw;
use crate::cap::client::Client;
use crate::cap::promise::promise;
use crate::fd::SharedFd;
use crate::protocol::remote_promise::RemotePromise;
use crate::wire::{Message, Return};

/// The links of a town of three.
struct Links {
    alice_to_bob: End,
    alice_to_carol: End,
    carol_to_alice: End,
    carol_to_bob: End,
    bob_to_carol: End,
}

fn links(town: &Town) -> Links {
    Links {
        alice_to_bob: town.end(ALICE, BOB),
        alice_to_carol: town.end(ALICE, CAROL),
        carol_to_alice: town.end(CAROL, ALICE),
        carol_to_bob: town.end(CAROL, BOB),
        bob_to_carol: town.end(BOB, CAROL),
    }
}

/// Carol has Bob's promise from Bob, so Alice is not needed for it to resolve.
#[test]
fn a_promise_is_called_at_its_host_and_resolves_there() {
    for (kind, place) in [(Gift::TheirPromise, "1"), (Gift::TheirField, "#0.0")] {
        let mut town = Town::new(3);
        let Given { client: bobs, make } = gift(&mut town, kind);
        let carol = town.has(ALICE, CAROL);
        town.objects[CAROL].keep();
        let links = links(&town);
        let given = town.net.call(&carol, 1, &[bobs]);
        assert_eq!(
            town.net.deliver_one(links.alice_to_carol),
            "call 0 on 0 (1) [thirdPartyHosted 0]"
        );
        let provide = format!("provide 2147483648 on {place}");
        town.net.step(links.alice_to_bob, &provide);
        let carols = town.given(CAROL);
        let early = town.net.call(&carols, 2, &[]);
        town.net.step(links.carol_to_bob, "accept 0");
        let answered = town.net.deliver_one(links.bob_to_carol);
        assert!(answered.starts_with("return 0 results (0) [senderPromise"), "{answered}");
        town.net.settle();
        assert_eq!(town.objects[BOB].seen(), []);

        town.net.cut(links.alice_to_carol);
        if kind == Gift::TheirPromise {
            // (The answer to Alice's call ends with her connection.)
            town.net.cut(links.alice_to_bob);
        }
        make(&mut town);
        town.net.settle();
        early.ok();
        assert_eq!(town.objects[BOB].seen(), [2]);
        drop((given, early, carols, carol));
        town.net.finish();
    }
}

/// What Carol has sent by Alice comes back to Alice, for the promise has become an object of
/// hers. The end of Carol's embargo follows it, and goes on to Bob from there.
#[test]
fn the_end_of_an_embargo_reaches_the_host_from_where_the_calls_before_it_end() {
    for held_up in [false, true] {
        let mut town = Town::new(3);
        let (object, alices) = town.net.object("another of alice's");
        let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
        let links = links(&town);
        let (promised, fulfiller) = promise();
        town.objects[CAROL].keep();
        let given = town.net.call(&carol, 1, &[promised]);
        town.net.settle();
        let carols = town.given(CAROL);
        let early = town.net.call(&carols, 2, &[]);
        town.net.settle();
        // The promise becomes a field of what Bob returns.
        town.objects[BOB].hold();
        let asked = town.net.call(&bob, 3, &[alices]);
        fulfiller.fulfill(asked.pipelined(0));
        town.net.settle();
        let late = town.net.call(&carols, 4, &[]);
        let held = town.objects[BOB].take();
        let caps = held.params().caps().to_vec();
        if held_up {
            // The answer is on its way, and what follows the early call is, too.
            held.respond(Ok(super::content::results(3, &caps)));
            drop(caps);
            town.settle_but(links.carol_to_alice);
            town.net.settle();
        } else {
            town.net.settle();
            held.respond(Ok(super::content::results(3, &caps)));
            drop(caps);
            town.net.settle();
        }
        early.ok();
        late.ok();
        assert_eq!(object.seen(), [2, 4]);
        drop((given, early, late, asked, carols, carol, bob));
        town.net.finish();
    }
}

/// Alice can pass a descriptor on. Whether Bob can send one to Carol, nobody knows.
#[test]
#[cfg(unix)]
fn what_has_a_descriptor_or_may_come_to_have_one_is_not_handed_off() {
    for kind in [Gift::TheirPromise, Gift::TheirField] {
        let mut town = Town::passing_fds();
        let Given { client: bobs, make } = gift(&mut town, kind);
        let carol = town.has(ALICE, CAROL);
        town.objects[CAROL].keep();
        let links = links(&town);
        let given = town.net.call(&carol, 1, &[bobs]);
        town.net.step(links.alice_to_carol, "call 0 on 0 (1) [senderPromise 0]");
        make(&mut town);
        town.net.settle();
        let carols = town.given(CAROL);
        let called = town.net.call(&carols, 2, &[]);
        town.net.settle();
        called.ok();
        drop((given, called, carols, carol));
        town.net.finish();
    }
    let mut town = Town::passing_fds();
    let fd: SharedFd = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
    let (_, with_fd) = town.net.object_with_fd("has a descriptor", fd);
    let bobs = received(&mut town, with_fd);
    assert!(bobs.fd().is_some());
    let carol = town.has(ALICE, CAROL);
    let given = town.net.call(&carol, 1, &[bobs]);
    let links = links(&town);
    town.net.step(links.alice_to_carol, "call 0 on 0 (1) [senderHosted 0 fd]");
    town.net.settle();
    drop((given, carol));
    town.net.finish();
}

/// What Alice has of an object of Bob's that he sends to her.
fn received(town: &mut Town, object: Client) -> Client {
    let bob = town.has(ALICE, BOB);
    town.objects[BOB].give(vec![object]);
    let call = town.net.call(&bob, 100, &[]);
    town.net.settle();
    town.objects[BOB].acknowledge();
    call.cap(0)
}

/// The field's results have come meanwhile, without a capability: nothing at the host can be
/// named any more, and another question may have its id.
#[test]
fn who_comes_for_a_field_that_is_not_there_is_told_so() {
    let (mut vat, bob) = super::handoff_peers::introducer(limits(), limits());
    let host = vat.introducer;
    let asked = vat.net.call(&bob, 7, &[]);
    let dest = RemotePromise::place(&asked.pipelined(0)).unwrap();
    vat.expect(host, &["call 0 on 5 (7)"]);
    let Message::Return(results) = raw::ret(0, 7, &[]) else { unreachable!() };
    vat.send(host, Message::Return(Return { no_finish_needed: true, ..results }));
    let next = vat.net.call(&bob, 8, &[]);
    vat.net.machine(host).provides(dest);
    let sent = vat.sent(host);
    assert_eq!(sent[..2], ["call 0 on 5 (8)", "provide 2147483648 on #2147483648"]);
    vat.object.acknowledge();
    drop((asked, next, bob));
    vat.finish();
}
