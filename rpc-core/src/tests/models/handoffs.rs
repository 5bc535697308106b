//! Three vats that introduce each other, with a thread for each direction of each link, and
//! threads of the application.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::actor::acknowledge;
use super::super::neighbours::{Neighbourhood, VatNumber};
use super::{Held, Object, World, all_succeed, call, calls, content};
use crate::cap::client::Client;
use crate::cap::object::Concurrency;
use crate::cap::promise::promise;
use crate::error::Error;
use crate::protocol::Machine;
use crate::sync::{Mutex, explore, thread};

/// Alice introduces Carol to Bob.
const ALICE: VatNumber = 0;
const CAROL: VatNumber = 1;
const BOB: VatNumber = 2;

/// The vats, each with its end of a link to one of the others.
struct Town {
    world: World,
    network: Arc<Neighbourhood>,
    alice_to_bob: Arc<Machine>,
    alice_to_carol: Arc<Machine>,
    carol_to_bob: Arc<Machine>,
    /// The object with which Bob answers whatever he is asked.
    bobs: Object,
    /// What Carol was given.
    carols: Arc<Mutex<Vec<Client>>>,
}

impl Town {
    /// With what each call does that Carol gets, once she has kept what came with it.
    fn new(received: impl Fn(&World, Client) + Send + Sync + 'static) -> Self {
        let world = World::default();
        let network = Neighbourhood::new();
        let (bobs, object) = world.witness();
        let (_, bob) = world.object(Concurrency::Concurrent, move |call| {
            call.respond(Ok(content::results(0, &[object.clone()])));
        });
        let carols = Arc::new(Mutex::new(Vec::new()));
        let (kept, inner) = (Arc::clone(&carols), world.clone());
        let (_, carol) = world.object(Concurrency::Concurrent, move |call| {
            let given = call.params().caps()[0].clone();
            kept.lock().push(given.clone());
            acknowledge(call);
            received(&inner, given);
        });
        let (alice_to_bob, _) = world.link_in(&network, [ALICE, BOB], [None, Some(bob)]);
        let (alice_to_carol, _) = world.link_in(&network, [ALICE, CAROL], [None, Some(carol)]);
        let (carol_to_bob, _) = world.link_in(&network, [CAROL, BOB], [None, None]);
        Town { world, network, alice_to_bob, alice_to_carol, carol_to_bob, bobs, carols }
    }

    /// What Alice has of Bob's object and of Carol's.
    fn alice_has(&self) -> [Client; 2] {
        [&self.alice_to_bob, &self.alice_to_carol].map(|end| end.bootstrap(None))
    }

    /// Ends the model, which has dropped everything else.
    fn finish(self) {
        let Town { world, network, alice_to_bob, alice_to_carol, carol_to_bob, carols, .. } = self;
        let carols = std::mem::take(&mut *carols.lock());
        drop((alice_to_bob, alice_to_carol, carol_to_bob, carols));
        world.settle();
        assert!(network.is_empty(), "something is still provided, or somebody waits");
        world.finish();
    }
}

/// Two threads give away what Bob will answer, while he answers. The question is not kept for
/// what stands for the field: Note [described path].
#[test]
fn a_field_is_handed_off_while_its_host_answers() {
    explore(|| {
        let town = Town::new(|_, _| ());
        let [bob, carol] = town.alice_has();
        let question = call(&bob, 0, &[]);
        let givers = [1, 2].map(|label| {
            let (carol, field) = (carol.clone(), question.pipelined(&[0]));
            thread::spawn(move || all_succeed(&[call(&carol, label, &[field])]))
        });
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        question.wait().unwrap();
        drop((question, bob, carol));
        town.world.settle();
        // Carol has used nothing of what she was given.
        assert_eq!(town.alice_to_bob.snapshot().questions, 0, "a question is kept");
        let given = std::mem::take(&mut *town.carols.lock());
        for (caller, client) in (1..).zip(&given) {
            all_succeed(&calls(client, caller, 2));
        }
        drop(given);
        town.world.settle();
        town.bobs.assert_saw(1, 2);
        town.bobs.assert_saw(2, 2);
        town.finish();
    });
}

/// Which link is cut.
type Cut = fn(&Town) -> &Arc<Machine>;

/// Carol calls a promise of Alice's on and on. It becomes a field of what Bob answers, and he
/// answers.
fn carol_calls(eager: bool, cut: Option<Cut>) {
    explore(move || {
        let town = Town::new(move |world, given| {
            world.spawn(move || {
                let made = calls(&given, 1, 4);
                drop(given);
                let ok = made.iter().filter(|pending| pending.wait().is_ok()).count();
                assert!(ok == made.len() || cut.is_some(), "{ok} calls have succeeded");
            });
        });
        town.network.eager.store(eager, Ordering::SeqCst);
        let [bob, carol] = town.alice_has();
        let (promised, fulfiller) = promise();
        let given = call(&carol, 0, &[promised]);
        if let Some(cut) = cut {
            let cut = Arc::clone(cut(&town));
            town.world.spawn(move || cut.disconnect(Error::disconnected("cut")));
        }
        let question = call(&bob, 0, &[]);
        fulfiller.fulfill(question.pipelined(&[0]));
        let ended = [given, question].map(|call| call.wait().is_ok());
        assert!(ended == [true; 2] || cut.is_some());
        drop((bob, carol));
        // She gives it up while her calls are under way.
        drop(std::mem::take(&mut *town.carols.lock()));
        town.world.settle();
        assert!(town.bobs.seen().is_sorted(), "{:?}", town.bobs.seen());
        if cut.is_none() {
            town.bobs.assert_saw(1, 4);
        }
        town.finish();
    });
}

#[test]
fn calls_keep_their_order_while_a_promise_is_handed_off() {
    carol_calls(false, None);
}

#[test]
fn calls_keep_their_order_while_a_promise_is_handed_off_and_accepted_at_once() {
    carol_calls(true, None);
}

#[test]
fn every_wait_ends_when_the_introducer_loses_the_host() {
    carol_calls(false, Some(|town| &town.alice_to_bob));
}

#[test]
fn every_wait_ends_when_the_introducer_loses_the_recipient() {
    carol_calls(true, Some(|town| &town.alice_to_carol));
}

#[test]
fn every_wait_ends_when_the_recipient_does_not_reach_the_host() {
    carol_calls(true, Some(|town| &town.carol_to_bob));
}

/// Carol holds back what Alice calls, and answers with a promise of Alice's, which becomes Bob's
/// object. One of her threads takes out what was held back while another one answers.
#[test]
fn what_is_not_held_back_any_more_is_not_overtaken_by_way_of_the_answer() {
    explore(|| {
        let world = World::default();
        let network = Neighbourhood::new();
        let (bobs, bob) = world.witness();
        let asked = Held::default();
        let kept = asked.clone();
        let (_, carol) = world.object(Concurrency::Concurrent, move |call| kept.put(call));
        let (alice_to_bob, _) = world.link_in(&network, [ALICE, BOB], [None, Some(bob)]);
        let link = world.link_in(&network, [ALICE, CAROL], [None, Some(carol)]);
        let (alice_to_carol, carol_to_alice) = link;
        world.link_in(&network, [CAROL, BOB], [None, None]);
        let [bob, carol] = [&alice_to_bob, &alice_to_carol].map(|end| end.bootstrap(None));
        let (promised, fulfiller) = promise();
        let first = call(&carol, 0, &[]);
        let second = call(&carol, 0, &[promised]);
        let [one, other] = [asked.take(), asked.take()];
        let answers = [one, other].map(|asked| (asked.params().caps().to_vec(), asked));
        // There is room for one of these calls and no more.
        carol_to_alice.set_flow_limit(carol_to_alice.snapshot().words_in_flight - 1);
        let made = calls(&second.pipelined(&[0]), 1, 2);
        for (caps, asked) in answers {
            world.spawn(move || asked.respond(Ok(content::results(0, &caps))));
        }
        fulfiller.fulfill(bob);
        all_succeed(&made);
        all_succeed(&[first, second]);
        bobs.assert_saw(1, 2);
        drop((made, carol, alice_to_bob, alice_to_carol, carol_to_alice, asked));
        world.settle();
        assert!(network.is_empty(), "something is still provided, or somebody waits");
        world.finish();
    });
}
