//! Two vats, with threads of the application on both sides.

use super::super::actor::acknowledge;
use super::{Held, World, all_succeed, call, calls, content, limits};
use crate::cap::object::Concurrency;
use crate::cap::promise::promise;
use crate::error::Error;
use crate::limits::Limits;
use crate::sync::{explore, thread};

#[test]
fn threads_call_an_object_of_a_peer_through_what_it_offers() {
    explore(|| {
        let world = World::default();
        let (target, offered) = world.witness();
        let (near, _) = world.link(None, Some(offered));
        let client = near.bootstrap(None);
        let callers = [1, 2].map(|caller| {
            let client = client.clone();
            thread::spawn(move || all_succeed(&calls(&client, caller, 2)))
        });
        drop((client, near));
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        target.assert_saw(1, 2);
        target.assert_saw(2, 2);
        world.finish();
    });
}

/// The objects are inline, so that what a coordinator does is all that answers.
#[test]
fn threads_share_the_few_calls_that_may_be_under_way() {
    explore(|| {
        let world = World::default();
        let (target, offered) = world.object(Concurrency::Inline, acknowledge);
        let few = Limits { questions: 1, ..limits() };
        let (near, _) = world.link_with(few, None, Some(offered));
        let client = near.bootstrap(None);
        drop(near);
        let callers = [1, 2, 3].map(|caller| {
            let client = client.clone();
            thread::spawn(move || {
                let mut made = calls(&client, caller, 2);
                drop(made.pop());
                all_succeed(&made);
            })
        });
        drop(client);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        for caller in [1, 2, 3] {
            assert!(target.seen_of(caller).is_sorted());
        }
        world.finish();
    });
}

/// A promise of ours that the peer has is resolved to an object of the peer, while a
/// thread over there calls it and another one of ours drops it.
#[test]
fn a_promise_that_the_peer_calls_is_resolved_to_an_object_of_the_peer() {
    explore(|| {
        let world = World::default();
        let (target, theirs) = world.witness();
        let given = theirs.clone();
        let inner = world.clone();
        let (_, offered) = world.object(Concurrency::Serial, move |call| {
            let caps = call.params().caps().to_vec();
            if let [promised] = &caps[..] {
                let promised = promised.clone();
                inner.spawn(move || all_succeed(&calls(&promised, 1, 3)));
            }
            call.respond(Ok(content::results(0, &[given.clone()])));
        });
        let (near, _) = world.link(None, Some(offered));
        let peer = near.bootstrap(None);
        drop(near);
        let (promised, fulfiller) = promise();
        let answer = call(&peer, 0, &[promised.clone()]);
        world.spawn(move || drop(promised));
        let results = answer.wait().unwrap();
        fulfiller.fulfill(content::cap(&results, 0));
        drop((answer, results, peer, theirs));
        world.settle();
        target.assert_saw(1, 3);
        world.finish();
    });
}

/// The calls turn round in the peer until the promise resolves to an object of
/// their own side; then there is an embargo.
#[test]
fn calls_keep_their_order_when_a_pipelined_field_comes_back_to_the_caller() {
    explore(|| {
        let world = World::default();
        let (target, own_object) = world.witness();
        let (_, echo) = world.object(Concurrency::Serial, |call| {
            let caps = call.params().caps().to_vec();
            call.respond(Ok(content::results(0, &caps)));
        });
        let (near, _) = world.link(None, Some(echo));
        let peer = near.bootstrap(None);
        drop(near);
        let answer = call(&peer, 0, &[own_object]);
        let field = answer.pipelined(&[0]);
        let callers = [1, 2].map(|caller| {
            let field = field.clone();
            thread::spawn(move || all_succeed(&calls(&field, caller, 3)))
        });
        drop((peer, field));
        world.spawn(move || drop(answer));
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        target.assert_saw(1, 3);
        target.assert_saw(2, 3);
        world.finish();
    });
}

/// The promise is exported; calls through it reach the object that it becomes, which
/// the caller has itself.
#[test]
fn calls_keep_their_order_when_an_exported_promise_resolves() {
    explore(|| {
        let world = World::default();
        let (target, own_object) = world.witness();
        let held = Held::default();
        let own = held.clone();
        let (promised, fulfiller) = promise();
        let (_, giver) = world.object(Concurrency::Serial, move |call| {
            own.put(call);
        });
        let (near, _) = world.link(None, Some(giver));
        let peer = near.bootstrap(None);
        drop(near);
        let answer = call(&peer, 0, &[own_object]);
        drop(peer);
        let far = thread::spawn(move || {
            let call = held.take();
            let back = call.params().caps()[0].clone();
            call.respond(Ok(content::results(0, &[promised])));
            fulfiller.fulfill(back);
        });
        let results = answer.wait().unwrap();
        let client = content::cap(&results, 0);
        drop((answer, results));
        let callers = [1, 2].map(|caller| {
            let client = client.clone();
            thread::spawn(move || {
                let made = calls(&client, caller, 2);
                let resolved = client.resolve().unwrap();
                let last = call(&resolved, caller * 100 + 2, &[]);
                all_succeed(&made);
                all_succeed(&[last]);
            })
        });
        drop(client);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        far.join().unwrap();
        target.assert_saw(1, 3);
        target.assert_saw(2, 3);
        world.finish();
    });
}

/// The peer calls an object of ours twice and then returns it, while the flow limit lets
/// one of its calls run at a time: Note [held references].
#[test]
fn calls_through_what_came_back_are_behind_those_that_are_held_back() {
    explore(|| {
        let world = World::default();
        let (target, own_object) = world.witness();
        let inner = world.clone();
        let (_, giver) = world.object(Concurrency::Serial, move |call| {
            let back = call.params().caps()[0].clone();
            let made = calls(&back, 1, 2);
            call.respond(Ok(content::results(0, &[back])));
            inner.spawn(move || all_succeed(&made));
        });
        let (near, _) = world.link(None, Some(giver));
        near.set_flow_limit(0);
        let peer = near.bootstrap(None);
        drop(near);
        let answer = call(&peer, 0, &[own_object]);
        let results = answer.wait().unwrap();
        let back = content::cap(&results, 0);
        drop((peer, answer, results));
        all_succeed(&[call(&back, 102, &[])]);
        drop(back);
        world.settle();
        target.assert_saw(1, 3);
        world.finish();
    });
}

/// The peer holds back what is called, and answers with a promise of ours, which becomes an object
/// of one of the two. One thread takes out what was held back while another one answers. With two
/// vats, whichever way that takes, nothing overtakes it: Note [in hand].
#[test]
fn what_is_not_held_back_any_more_keeps_its_order_while_its_promise_is_described() {
    for is_ours in [true, false] {
        explore(move || {
            let world = World::default();
            let (target, object) = world.witness();
            let asked = Held::default();
            let kept = asked.clone();
            let (_, server) = world.object(Concurrency::Concurrent, move |call| kept.put(call));
            let (near, far) = world.link(None, Some(server));
            let peer = near.bootstrap(None);
            let (promised, fulfiller) = promise();
            let first = call(&peer, 0, &[]);
            let second = call(&peer, 1, &[promised]);
            let mut both = [asked.take(), asked.take()];
            both.sort_by_key(|asked| content::label(asked.params()));
            let [one, other] = both;
            let given = other.params().caps().to_vec();
            // There is room for one of these calls and no more.
            far.set_flow_limit(far.snapshot().words_in_flight - 1);
            let early = calls(&second.pipelined(&[0]), 1, 2);
            let becomes = if is_ours { object.clone() } else { first.pipelined(&[0]) };
            world.spawn(move || one.respond(Ok(content::results(0, &[object]))));
            world.spawn(move || other.respond(Ok(content::results(0, &given))));
            fulfiller.fulfill(becomes);
            // What goes there and back counts twice.
            far.set_flow_limit(u64::MAX);
            far.release_held();
            let late = calls(&second.pipelined(&[0]), 2, 1);
            [early, late, vec![first, second]].iter().for_each(|made| all_succeed(made));
            assert_eq!(target.seen(), [100, 101, 200]);
            drop((peer, asked, near, far));
            world.finish();
        });
    }
}

#[test]
fn calls_are_given_up_on_one_side_while_they_are_answered_on_the_other() {
    explore(|| {
        let world = World::default();
        let (_, result) = world.witness();
        let (_, giver) = world.object(Concurrency::Concurrent, move |call| {
            call.respond(Ok(content::results(0, &[result.clone()])));
        });
        let (near, _) = world.link(None, Some(giver));
        let peer = near.bootstrap(None);
        drop(near);
        let users = [1, 2].map(|caller| {
            let peer = peer.clone();
            thread::spawn(move || {
                let made = calls(&peer, caller, 2);
                let piped: Vec<_> =
                    made.iter().map(|pending| call(&pending.pipelined(&[0]), 0, &[])).collect();
                drop(made);
                drop(piped);
            })
        });
        drop(peer);
        users.into_iter().for_each(|user| user.join().unwrap());
        world.finish();
    });
}

/// Both sides call each other, pass the same capabilities to and fro, and drop them.
#[test]
fn references_go_to_and_fro_and_none_is_left() {
    explore(|| {
        let world = World::default();
        let keeps = |call: crate::cap::incoming_call::IncomingCall| {
            let caps = call.params().caps().to_vec();
            call.respond(Ok(content::results(0, &caps)));
        };
        let (_, ours) = world.object(Concurrency::Concurrent, keeps);
        let (_, theirs) = world.object(Concurrency::Concurrent, keeps);
        let (near, far) = world.link(Some(ours), Some(theirs));
        let users = [near, far].map(|machine| {
            let (_, object) = world.witness();
            thread::spawn(move || {
                let peer = machine.bootstrap(None);
                drop(machine);
                for _ in 0..2 {
                    let pending = call(&peer, 0, &[object.clone(), peer.clone()]);
                    let results = pending.wait().unwrap();
                    let back = content::cap(&results, 0);
                    drop((pending, results));
                    all_succeed(&[call(&back, 0, &[])]);
                }
            })
        });
        users.into_iter().for_each(|user| user.join().unwrap());
        world.finish();
    });
}

#[test]
fn every_call_ends_when_the_link_is_cut() {
    explore(|| {
        let world = World::default();
        let (target, offered) = world.witness();
        let (near, far) = world.link(None, Some(offered));
        let client = near.bootstrap(None);
        let callers = [1, 2].map(|caller| {
            let client = client.clone();
            thread::spawn(move || {
                let made = calls(&client, caller, 2);
                let ended: Vec<_> = made.iter().map(|pending| pending.wait().is_ok()).collect();
                // What comes after what was lost is lost.
                assert!(ended.is_sorted_by(|before, after| before >= after), "{ended:?}");
            })
        });
        drop(client);
        world.spawn(move || near.disconnect(Error::disconnected("cut")));
        drop(far);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        for caller in [1, 2] {
            assert!(target.seen_of(caller).is_sorted());
        }
        world.finish();
    });
}
