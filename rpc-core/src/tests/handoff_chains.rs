//! Capabilities of a third vat that are passed on before anybody has used them.

use std::sync::atomic::Ordering;

use super::handoffs::{ALICE, BOB, CAROL, DAVE, Gift, Given, Town, gift};
use super::net::Call;
use crate::cap::client::Client;
use crate::cap::promise::promise;

/// A town whose vats pass contacts on.
fn town(vats: usize) -> Town {
    let town = Town::new(vats);
    town.network.forwards.store(true, Ordering::SeqCst);
    town
}

/// Alice gives something to Dave, who gives it to Carol. Dave has nothing to do with Bob.
#[test]
fn who_passes_a_capability_on_need_not_know_its_host() {
    let mut town = town(4);
    let [bob, dave] = [town.has(ALICE, BOB), town.has(ALICE, DAVE)];
    let carol = town.has(DAVE, CAROL);
    town.objects[DAVE].keep();
    town.objects[CAROL].keep();
    let given = town.net.call(&dave, 1, &[bob]);
    town.net.settle();
    let daves = town.given(DAVE);
    let passed = town.net.call(&carol, 2, &[daves.clone()]);
    let on = town.end(DAVE, CAROL);
    town.net.step(on, "call 0 on 0 (2) [thirdPartyHosted 0]");
    town.net.settle();
    let carols = town.given(CAROL);
    assert!(carols.is_unresolved());
    assert_eq!(town.network.forwarded.load(Ordering::SeqCst), 1);

    // Carol goes to Bob, and shows what Alice has made for Dave.
    let called = town.net.call(&carols, 3, &[]);
    let [there, answers] = [town.end(CAROL, BOB), town.end(BOB, CAROL)];
    town.net.step(there, "accept 0");
    town.net.step(answers, "return 0 results (0) [senderHosted 0]");
    town.net.step(there, "finish 0");
    town.net.step(there, "call 0 on 0 (3)");
    town.net.settle();
    called.ok();
    // The vines go back one after the other when Dave has no use for his own either.
    drop((given, passed, called, daves));
    town.net.settle();
    let [alice, dave_at_bob] = [town.end(ALICE, BOB), town.end(DAVE, BOB)];
    assert!(town.net.snapshot(alice).is_empty());
    assert!(town.net.snapshot(dave_at_bob).is_empty());
    for peer in [BOB, DAVE] {
        let cut = town.end(ALICE, peer);
        town.net.cut(cut);
    }
    let cut = town.end(DAVE, CAROL);
    town.net.cut(cut);
    town.net.settle();
    let last = town.net.call(&carols, 4, &[]);
    town.net.settle();
    last.ok();
    assert_eq!(town.objects[BOB].seen(), [3, 4]);
    drop((last, carols, carol, dave));
    town.net.finish();
}

/// Carol calls a promise of Dave's, who has it from Alice, where it becomes Bob's object. Her
/// call goes by both, and so does what lets her later ones go on.
#[test]
fn the_end_of_an_embargo_takes_the_way_of_the_calls_before_it() {
    let mut town = town(4);
    let [bob, dave] = [town.has(ALICE, BOB), town.has(ALICE, DAVE)];
    let carol = town.has(DAVE, CAROL);
    town.objects[DAVE].keep();
    town.objects[CAROL].keep();
    // Dave's own promise, which becomes what Alice gives to him.
    let (promised, fulfiller) = promise();
    let passed = town.net.call(&carol, 1, &[promised]);
    let given = town.net.call(&dave, 2, &[bob]);
    town.net.settle();
    let carols = town.given(CAROL);
    let early = town.net.call(&carols, 3, &[]);
    fulfiller.fulfill(town.given(DAVE));
    let [back, on] = [town.end(CAROL, DAVE), town.end(DAVE, CAROL)];
    town.settle_but(back);
    assert_eq!(town.net.queued(on), 0);
    let late = town.net.call(&carols, 4, &[]);
    let straight = town.end(CAROL, BOB);
    town.settle_but(back);
    assert_eq!((town.objects[BOB].seen(), town.net.queued(straight)), (vec![], 0));
    town.net.step(back, "call 0 on 0 (3)");
    town.net.step(back, "release 0 x1");
    town.net.step(back, "disembargo accept on 1");
    let (to_alice, to_bob) = (town.end(DAVE, ALICE), town.end(ALICE, BOB));
    town.net.step(to_alice, "call 0 on 0 (3)");
    town.net.step(to_alice, "disembargo accept on 0");
    town.net.step(to_bob, "call 0 on 0 (3)");
    town.net.step(to_bob, "bootstrap 1");
    town.net.step(to_bob, "finish 1 releaseResultCaps");
    let known = town.end(BOB, ALICE);
    town.net.deliver(known, "return 0 results (3) noFinishNeeded");
    town.net.step(known, "return 1 results (0) [senderHosted 0]");
    town.net.deliver(to_bob, "disembargo accept on #2147483648");
    town.net.settle();
    early.ok();
    late.ok();
    assert_eq!(town.objects[BOB].seen(), [3, 4]);
    drop((given, passed, early, late, carols, carol, dave));
    town.net.finish();
}

/// Whether contacts are passed on or not, and calls follow the Accept or not.
#[test]
fn the_order_is_kept_in_chains_whichever_link_is_held_back() {
    for habits in 0..8 {
        for kind in Gift::ALL {
            let links = Town::new(4).ends.len();
            for held in 0..links {
                let mut town = Town::new(4);
                let habit = |bit: u32| habits & bit != 0;
                town.network.forwards.store(habit(1), Ordering::SeqCst);
                town.network.pipelines.store(habit(2), Ordering::SeqCst);
                town.network.eager.store(habit(4), Ordering::SeqCst);
                let Given { client: bob, make } = gift(&mut town, kind);
                let dave = town.has(ALICE, DAVE);
                let carol = town.has(DAVE, CAROL);
                town.objects[DAVE].keep();
                let held = town.ends[held].2;
                let mut calls: Vec<Call> = vec![town.net.call(&bob, 1, &[])];
                calls.push(town.net.call(&dave, 50, &[bob.clone()]));
                town.net.settle();
                let daves = town.given(DAVE);
                town.objects[CAROL].keep();
                calls.push(town.net.call(&carol, 51, &[daves.clone()]));
                town.net.settle();
                let carols = town.given(CAROL);
                calls.push(town.net.call(&carols, 2, &[]));
                make(&mut town);
                town.settle_but(held);
                calls.push(town.net.call(&carols, 3, &[]));
                town.settle_but(held);
                calls.push(town.net.call(&carols, 4, &[]));
                town.net.settle();
                calls.push(town.net.call(&carols, 5, &[]));
                town.net.settle();
                let seen = town.objects[BOB].seen();
                assert_eq!(seen, [1, 2, 3, 4, 5], "{habits} {kind:?} {held:?}");
                calls.iter().for_each(|call| drop(call.ok()));
                let straight = town.end(CAROL, BOB);
                let last = town.net.call(&carols, 6, &[]);
                assert_eq!(town.count(straight, "call"), 1, "{habits} {kind:?} {held:?}");
                last.ok();
                drop((calls, last, carols, daves, carol, dave, bob));
                town.net.finish();
            }
        }
    }
}

/// Dave gives on to Bob what is Bob's own.
#[test]
fn a_host_comes_to_itself_for_what_it_hosts() {
    for early in [false, true] {
        let mut town = town(4);
        let [bob, dave] = [town.has(ALICE, BOB), town.has(ALICE, DAVE)];
        let bobs = town.has(DAVE, BOB);
        town.objects[DAVE].keep();
        let given = town.net.call(&dave, 1, &[bob.clone()]);
        town.net.settle();
        let daves = town.given(DAVE);
        town.objects[BOB].keep();
        let (passed, calls) = if early {
            // Bob calls a promise that then becomes his own object.
            let (promised, fulfiller) = promise();
            let passed = town.net.call(&bobs, 2, &[promised]);
            town.net.settle();
            let own = town.given(BOB);
            let early = town.net.call(&own, 3, &[]);
            fulfiller.fulfill(daves.clone());
            let home = town.end(DAVE, BOB);
            town.net.step(home, "resolve 0 thirdPartyHosted 1");
            let late = town.net.call(&own, 4, &[]);
            (passed, vec![(own, early), (Client::null(), late)])
        } else {
            let passed = town.net.call(&bobs, 2, &[daves.clone()]);
            let late = town.end(ALICE, BOB);
            town.settle_but(late);
            let own = town.given(BOB);
            let called = town.net.call(&own, 3, &[]);
            // Nothing is sent for it.
            let back = town.end(BOB, DAVE);
            town.settle_but(back);
            (passed, vec![(own, called)])
        };
        town.net.settle();
        calls.iter().for_each(|(_, call)| drop(call.ok()));
        let own = calls[0].0.clone();
        assert!(own.local_dispatch().is_some(), "{early}");
        assert!(town.objects[BOB].seen().ends_with(if early { &[3, 4][..] } else { &[3] }));
        drop((given, passed, calls, own, daves, bobs, dave, bob));
        town.net.finish();
    }
}

/// The introducer may never provide it.
#[test]
fn a_host_that_gives_up_what_it_came_to_itself_for_waits_no_more() {
    let mut town = town(4);
    let [bob, dave] = [town.has(ALICE, BOB), town.has(ALICE, DAVE)];
    let bobs = town.has(DAVE, BOB);
    town.objects[DAVE].keep();
    let given = town.net.call(&dave, 1, &[bob.clone()]);
    let (provide, host) = (town.end(ALICE, BOB), u8::try_from(BOB).unwrap());
    town.settle_but(provide);
    let daves = town.given(DAVE);
    town.objects[BOB].keep();
    let passed = town.net.call(&bobs, 2, &[daves.clone()]);
    town.settle_but(provide);
    let own = town.given(BOB);
    let called = town.net.call(&own, 3, &[]);
    town.settle_but(provide);
    assert_eq!(town.network.waiting_at(host), 1);
    drop((passed, called, own));
    town.settle_but(provide);
    assert_eq!(town.network.waiting_at(host), 0);
    town.net.settle();
    drop((given, daves, bobs, dave, bob));
    town.net.finish();
}

/// What goes back to its introducer is what that has given away, also if the introducer has
/// only passed it on.
#[test]
fn what_goes_back_unused_is_what_was_given() {
    let mut town = town(4);
    let [bob, dave] = [town.has(ALICE, BOB), town.has(ALICE, DAVE)];
    let carol = town.has(DAVE, CAROL);
    town.objects[DAVE].echo();
    let echoed = town.net.call(&dave, 1, &[bob.clone()]);
    let [to_dave, back] = [town.end(ALICE, DAVE), town.end(DAVE, ALICE)];
    let to_bob = town.end(ALICE, BOB);
    town.net.step(to_bob, "provide 2147483648 on 0");
    town.net.step(to_dave, "call 0 on 0 (1) [thirdPartyHosted 0]");
    town.net.step(back, "return 0 results (1) [receiverHosted 0]");
    town.net.settle();
    assert_eq!(echoed.cap(0), bob);

    // Dave passes it on to Carol, who sends it back to him, and he sends it to her once more.
    town.objects[DAVE].keep();
    let given = town.net.call(&dave, 2, &[bob.clone()]);
    town.net.settle();
    let daves = town.given(DAVE);
    town.objects[CAROL].echo();
    let echoed_too = town.net.call(&carol, 3, &[daves.clone()]);
    town.net.settle();
    let again = echoed_too.cap(0);
    assert_eq!(again, daves);
    assert!(again.is_unresolved());
    town.objects[CAROL].keep();
    let passed = town.net.call(&carol, 4, &[again.clone()]);
    town.net.settle();
    assert_eq!(town.network.forwarded.load(Ordering::SeqCst), 2);
    let carols = town.given(CAROL);
    let called = town.net.call(&carols, 5, &[]);
    let straight = town.end(CAROL, BOB);
    assert_eq!(town.count(straight, "call"), 1);
    called.ok();
    drop((echoed, echoed_too, given, again, passed, called, carols, daves, carol, dave, bob));
    town.net.finish();
}

/// Carol could not reach Bob, has called by the vines, and sends the capability back.
#[test]
fn what_comes_back_after_calls_by_its_vine_is_called_behind_them() {
    let mut town = town(4);
    let cut = town.end(CAROL, BOB);
    town.net.cut(cut);
    let [bob, dave] = [town.has(ALICE, BOB), town.has(ALICE, DAVE)];
    let carol = town.has(DAVE, CAROL);
    town.objects[DAVE].keep();
    let given = town.net.call(&dave, 1, &[bob.clone()]);
    town.net.settle();
    let daves = town.given(DAVE);
    town.objects[CAROL].keep();
    let passed = town.net.call(&carol, 2, &[daves.clone()]);
    town.net.settle();
    let carols = town.given(CAROL);
    let first = town.net.call(&carols, 3, &[]);
    let alices = town.end(DAVE, ALICE);
    town.settle_but(alices);
    town.objects[CAROL].give(vec![carols]);
    let back = town.net.call(&carol, 4, &[]);
    town.settle_but(alices);
    let again = back.cap(0);
    let second = town.net.call(&again, 5, &[]);
    town.settle_but(alices);
    assert_eq!(town.objects[BOB].seen(), []);
    town.net.settle();
    assert_eq!(town.objects[BOB].seen(), [3, 5]);
    first.ok();
    second.ok();
    town.objects[CAROL].acknowledge();
    drop((given, passed, first, back, again, second, daves, carol, dave, bob));
    town.net.finish();
}

/// Calls follow the Accept, and nobody refers to the capability any more.
#[test]
fn calls_that_follow_an_accept_outlive_the_reference() {
    let mut town = Town::new(3);
    town.network.pipelines.store(true, Ordering::SeqCst);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    town.objects[CAROL].keep();
    let given = town.net.call(&carol, 1, &[bob]);
    let late = town.end(ALICE, BOB);
    town.settle_but(late);
    let carols = town.given(CAROL);
    let called = town.net.call(&carols, 2, &[]);
    drop((carols, given, carol));
    let there = town.end(CAROL, BOB);
    town.net.step(there, "accept 0");
    town.net.step(there, "call 1 on #0 (2)");
    town.settle_but(late);
    called.assert_open();
    town.net.settle();
    called.ok();
    assert_eq!(town.objects[BOB].seen(), [2]);
    drop(called);
    town.net.finish();
}

/// Cuts each link after each number of messages, with and without passing contacts on.
#[test]
fn every_wait_in_a_chain_ends_wherever_a_link_is_cut() {
    let links = [(ALICE, DAVE), (ALICE, BOB), (DAVE, CAROL), (CAROL, BOB), (DAVE, BOB)];
    let mut cuts = 0;
    for habits in 0..4 {
        for (one, other) in links {
            for after in 0.. {
                let mut town = Town::new(4);
                town.network.forwards.store(habits & 1 != 0, Ordering::SeqCst);
                town.network.pipelines.store(habits & 2 != 0, Ordering::SeqCst);
                let [bob, dave] = [town.has(ALICE, BOB), town.has(ALICE, DAVE)];
                let carol = town.has(DAVE, CAROL);
                town.objects[DAVE].keep();
                town.objects[CAROL].keep();
                let (promised, fulfiller) = promise();
                let mut calls = vec![town.net.call(&carol, 50, &[promised])];
                calls.push(town.net.call(&dave, 51, &[bob.clone()]));
                town.net.settle();
                let (carols, daves) = (town.given(CAROL), town.given(DAVE));
                calls.push(town.net.call(&carols, 1, &[]));
                fulfiller.fulfill(daves);
                let mut delivered = 0;
                while delivered < after && town.step_one() {
                    delivered += 1;
                }
                calls.push(town.net.call(&carols, 2, &[]));
                let cut = town.end(one, other);
                town.net.cut(cut);
                cuts += 1;
                town.net.settle();
                calls.push(town.net.call(&carols, 3, &[]));
                town.net.settle();
                for call in &calls {
                    assert!(call.result().is_some(), "{habits} {one} {other} {after}");
                }
                let seen = town.objects[BOB].seen();
                assert!(seen.is_sorted(), "{habits} {one} {other} {after}: {seen:?}");
                drop((calls, carols, carol, dave, bob));
                town.net.finish();
                if delivered < after {
                    break;
                }
            }
        }
    }
    assert!(cuts > 100, "{cuts}");
}

/// The host is found while the connection to it is about to end, because nobody has used it.
#[test]
fn a_host_whose_connection_ends_unused_is_looked_for_again() {
    for early in [false, true] {
        let mut town = Town::new(3);
        town.network.pipelines.store(early, Ordering::SeqCst);
        let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
        town.objects[CAROL].keep();
        let given = town.net.call(&carol, 1, &[bob]);
        town.net.settle();
        let carols = town.given(CAROL);
        let there = town.end(CAROL, BOB);
        assert!(town.net.machine(there).declare_idle());
        let called = town.net.call(&carols, 2, &[]);
        assert_eq!(town.net.deliver_one(there), "idle");
        town.net.settle();
        called.assert_open();
        assert!(town.net.machine(there).failure().is_some());
        let names = [CAROL, BOB].map(|vat| u8::try_from(vat).unwrap());
        let network = std::sync::Arc::clone(&town.network);
        let (again, _) = town.net.link_in(&network, names, None, None);
        assert!(town.network.find_one());
        town.net.step(again, "accept 0");
        town.net.settle();
        called.ok();
        assert_eq!(town.objects[BOB].seen(), [2]);
        drop((given, called, carols, carol));
        town.net.finish();
    }
}
