//! Three vats and more: capabilities that are handed off.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::actor::Actor;
use super::neighbours::{Neighbourhood, ONCE};
use super::net::{Call, End, Net, limits, received, transmit};
use super::raw;
use crate::cap::client::Client;
use crate::cap::promise::promise;
use crate::error::ErrorKind;
use crate::kinds::membrane::{Membrane, MembranePolicy};
use crate::limits::Limits;
use crate::wire::rpc_capnp::{message, message_target};
use crate::wire::{self, Accept, Context, Disembargo, Message, Provide, Target, Token};

/// The vats, by what they mostly do: Alice introduces Carol to Bob.
pub(super) const ALICE: usize = 0;
pub(super) const CAROL: usize = 1;
pub(super) const BOB: usize = 2;
/// Passes on what Alice gives to him.
pub(super) const DAVE: usize = 3;

/// Vats that are all linked with each other, each of which has one object.
pub(super) struct Town {
    pub(super) net: Net,
    pub(super) network: Arc<Neighbourhood>,
    /// The end in one vat of the link to another one.
    pub(super) ends: Vec<(usize, usize, End)>,
    pub(super) objects: Vec<Actor>,
}

impl Town {
    pub(super) fn new(vats: usize) -> Self {
        Self::with_limits(vats, |_| limits())
    }

    /// With the limits of each vat.
    pub(super) fn with_limits(vats: usize, limits: impl Fn(usize) -> Limits) -> Self {
        Self::in_network(Neighbourhood::new(), vats, limits)
    }

    /// Of three vats whose links pass file descriptors.
    #[cfg(unix)]
    pub(super) fn passing_fds() -> Self {
        let network = Neighbourhood::new();
        network.passing_fds.store(true, Ordering::SeqCst);
        Self::in_network(network, 3, |_| limits())
    }

    fn in_network(
        network: Arc<Neighbourhood>,
        vats: usize,
        limits: impl Fn(usize) -> Limits,
    ) -> Self {
        let mut net = Net::new();
        let names = ["alice", "carol", "bob", "dave"];
        let made: Vec<_> = names.into_iter().take(vats).map(|name| net.object(name)).collect();
        let mut ends = Vec::new();
        for one in 0..vats {
            for other in one + 1..vats {
                let numbers = [one, other].map(|vat| u8::try_from(vat).unwrap());
                let offered = [one, other].map(|vat| Some(made[vat].1.clone()));
                let limits = [one, other].map(&limits);
                let (near, far) = net.link_in_with(limits, &network, numbers, offered);
                ends.extend([(one, other, near), (other, one, far)]);
            }
        }
        let objects = made.into_iter().map(|(actor, _)| actor).collect();
        Town { net, network, ends, objects }
    }

    pub(super) fn end(&self, own: usize, peer: usize) -> End {
        let found = self.ends.iter().find(|(one, other, _)| (*one, *other) == (own, peer));
        found.unwrap().2
    }

    /// What one vat has of another one's object.
    pub(super) fn has(&mut self, own: usize, peer: usize) -> Client {
        let end = self.end(own, peer);
        self.net.bootstrapped(end)
    }

    /// What a vat was given.
    pub(super) fn given(&mut self, vat: usize) -> Client {
        self.objects[vat].kept_one()
    }

    /// Delivers everything but what this end sends.
    pub(super) fn settle_but(&mut self, held: End) {
        self.net.run();
        loop {
            let ends = self.ends.iter().map(|(.., end)| *end);
            let busy = ends.filter(|end| *end != held).find(|end| self.net.queued(*end) > 0);
            let Some(end) = busy else { return };
            self.net.deliver_one(end);
            self.net.run();
        }
    }

    /// How many messages of this kind arrive from an end before there is nothing more to do
    /// in the whole town.
    pub(super) fn count(&mut self, from: End, kind: &str) -> usize {
        let mut count = 0;
        loop {
            self.settle_but(from);
            if self.net.queued(from) == 0 {
                return count;
            }
            count += usize::from(self.net.deliver_one(from).starts_with(kind));
        }
    }
}

/// Alice gives Carol what Bob has offered to her.
#[test]
fn a_capability_that_is_handed_off_is_called_without_a_detour() {
    let mut town = Town::new(3);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    town.objects[CAROL].keep();
    let [to_bob, to_carol] = [BOB, CAROL].map(|peer| town.end(ALICE, peer));
    let given = town.net.call(&carol, 1, &[bob]);
    town.net.step(to_bob, "provide 2147483648 on 0");
    town.net.step(to_carol, "call 0 on 0 (1) [thirdPartyHosted 0]");
    let carols = town.given(CAROL);
    let [back, there] = [ALICE, BOB].map(|peer| town.end(CAROL, peer));
    town.net.step(back, "return 0 results (1) noFinishNeeded");
    // Nothing happens before Carol uses it.
    assert!(carols.is_unresolved());
    town.net.settle();
    assert_eq!(town.net.queued(there), 0);

    let called = town.net.call(&carols, 2, &[]);
    town.net.step(there, "accept 0");
    let answers = town.end(BOB, CAROL);
    town.net.step(answers, "return 0 results (0) [senderHosted 0]");
    town.net.step(there, "finish 0");
    town.net.step(there, "call 0 on 0 (2)");
    town.net.step(answers, "return 0 results (2) noFinishNeeded");
    called.ok();
    town.net.step(back, "release 0 x1");
    // Alice does not know yet that Bob's vat knows what she would finish.
    town.net.step(to_bob, "bootstrap 0");
    town.net.step(to_bob, "release 0 x1");
    town.net.step(to_bob, "finish 0 releaseResultCaps");
    let known = town.end(BOB, ALICE);
    town.net.step(known, "return 0 results (0) [senderHosted 0]");
    town.net.step(to_bob, "finish 2147483648");
    assert!(!carols.is_unresolved());

    // Alice is not needed any more.
    drop((given, called));
    town.net.cut(to_carol);
    town.net.cut(to_bob);
    town.net.settle();
    town.net.call(&carols, 3, &[]);
    town.net.settle();
    assert_eq!(town.objects[BOB].seen(), [2, 3]);
    drop((carol, carols));
    town.net.finish();
}

/// Carol calls a promise of Alice's, which then becomes what Bob hosts.
#[test]
fn calls_to_the_host_wait_for_those_that_take_the_detour() {
    let mut town = Town::new(3);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    town.objects[CAROL].keep();
    let (promised, fulfiller) = promise();
    let given = town.net.call(&carol, 1, &[promised]);
    town.net.settle();
    let carols = town.given(CAROL);
    let early = town.net.call(&carols, 2, &[]);
    let [back, there] = [ALICE, BOB].map(|peer| town.end(CAROL, peer));
    let [to_bob, to_carol] = [BOB, CAROL].map(|peer| town.end(ALICE, peer));
    town.net.step(back, "call 0 on 0 (2)");
    fulfiller.fulfill(bob);
    town.net.deliver(to_bob, "call 0 on 0 (2)");
    town.net.deliver(to_bob, "provide 2147483648 on 0");
    town.net.step(to_carol, "resolve 0 thirdPartyHosted 1");

    let late = town.net.call(&carols, 3, &[]);
    town.net.step(there, "accept 0 embargo");
    // Bob's object has not seen the early call, for which the late one waits.
    town.net.step(back, "release 0 x1");
    town.net.step(back, "disembargo accept on 1");
    let answers = town.end(BOB, CAROL);
    assert_eq!((town.objects[BOB].seen(), town.net.queued(answers)), (vec![2], 0));
    town.net.step(to_bob, "bootstrap 1");
    town.net.step(to_bob, "finish 1 releaseResultCaps");
    let known = town.end(BOB, ALICE);
    town.net.deliver(known, "return 0 results (2) noFinishNeeded");
    town.net.step(known, "return 1 results (0) [senderHosted 0]");
    town.net.deliver(to_bob, "disembargo accept on #2147483648");
    town.net.step(answers, "return 0 results (0) [senderHosted 0]");
    town.net.settle();
    assert_eq!(town.objects[BOB].seen(), [2, 3]);
    early.ok();
    late.ok();
    drop((given, early, late, carol, carols));
    town.net.finish();
}

/// What a vat gives away, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gift {
    Object,
    Promise,
    /// A field of what another call returns.
    Field,
    /// A promise of Bob's.
    TheirPromise,
    /// A field of what Bob will return.
    TheirField,
}

impl Gift {
    pub(super) const ALL: [Gift; 5] =
        [Gift::Object, Gift::Promise, Gift::Field, Gift::TheirPromise, Gift::TheirField];
}

/// A gift, and what makes it Bob's object.
pub(super) struct Given {
    pub(super) client: Client,
    pub(super) make: Box<dyn FnOnce(&mut Town)>,
}

pub(super) fn gift(town: &mut Town, gift: Gift) -> Given {
    let bob = town.has(ALICE, BOB);
    match gift {
        Gift::Object => Given { client: bob, make: Box::new(|_| ()) },
        Gift::Promise => {
            let (client, fulfiller) = promise();
            Given { client, make: Box::new(move |_| fulfiller.fulfill(bob)) }
        }
        Gift::Field => {
            // Alice asks herself, by way of Carol, who answers with what she was given.
            let carol = town.has(ALICE, CAROL);
            town.objects[CAROL].hold();
            let call = town.net.call(&carol, 100, &[bob]);
            let client = call.pipelined(0);
            let make = move |town: &mut Town| {
                let held = town.objects[CAROL].take();
                let caps = held.params().caps().to_vec();
                held.respond(Ok(super::content::results(100, &caps)));
                drop(call);
            };
            town.net.settle();
            Given { client, make: Box::new(make) }
        }
        Gift::TheirPromise => {
            let (promised, fulfiller) = promise();
            town.objects[BOB].give(vec![promised]);
            let call = town.net.call(&bob, 100, &[]);
            town.net.settle();
            town.objects[BOB].acknowledge();
            let (client, object) = (call.cap(0), another_object_of_bobs(town));
            Given { client, make: Box::new(move |_| fulfiller.fulfill(object)) }
        }
        Gift::TheirField => {
            let asked = town.objects[BOB].clone();
            asked.hold();
            let call = town.net.call(&bob, 100, &[]);
            let (client, object) = (call.pipelined(0), another_object_of_bobs(town));
            town.net.settle();
            let make = move |_: &mut Town| {
                asked.answer_with(&[object]);
                drop(call);
            };
            Given { client, make: Box::new(make) }
        }
    }
}

/// Takes the place of the object that has been asked.
fn another_object_of_bobs(town: &mut Town) -> Client {
    let (actor, client) = town.net.object("another of bob's");
    town.objects[BOB] = actor;
    client
}

/// Calls that were made before a handoff, while it goes on, and afterwards, arrive in that
/// order, whichever link is slow.
#[test]
fn the_order_is_kept_whichever_link_is_held_back() {
    for eager in [false, true] {
        for kind in Gift::ALL {
            let links = Town::new(3).ends.len();
            for held in 0..links {
                let mut town = Town::new(3);
                town.network.eager.store(eager, Ordering::SeqCst);
                let Given { client: bob, make } = gift(&mut town, kind);
                let carol = town.has(ALICE, CAROL);
                let held = town.ends[held].2;
                // Alice's own calls come first.
                let mut calls = vec![town.net.call(&bob, 1, &[])];
                let taken = Arc::clone(&town.network);
                town.objects[CAROL].keep();
                calls.push(town.net.call(&carol, 50, &[bob.clone()]));
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
                assert_eq!(town.objects[BOB].seen(), [1, 2, 3, 4, 5], "{kind:?} {held:?} {eager}");
                calls.iter().for_each(|call| drop(call.ok()));
                drop((calls, carols, carol, bob, taken));
                town.net.finish();
            }
        }
    }
}

/// Alice gives something to Dave, who gives it to Carol.
#[test]
fn the_order_is_kept_over_four_vats_whichever_link_is_held_back() {
    for kind in Gift::ALL {
        let links = Town::new(4).ends.len();
        for held in 0..links {
            let mut town = Town::new(4);
            let Given { client: bob, make } = gift(&mut town, kind);
            let dave = town.has(ALICE, DAVE);
            let carol = town.has(DAVE, CAROL);
            let held = town.ends[held].2;
            town.objects[DAVE].keep();
            town.objects[CAROL].keep();
            let mut calls = vec![town.net.call(&bob, 1, &[])];
            calls.push(town.net.call(&dave, 50, &[bob.clone()]));
            town.net.settle();
            let daves = town.given(DAVE);
            calls.push(town.net.call(&daves, 2, &[]));
            calls.push(town.net.call(&carol, 51, &[daves.clone()]));
            town.net.settle();
            let carols = town.given(CAROL);
            calls.push(town.net.call(&carols, 3, &[]));
            make(&mut town);
            town.settle_but(held);
            calls.push(town.net.call(&carols, 4, &[]));
            town.settle_but(held);
            calls.push(town.net.call(&carols, 5, &[]));
            town.net.settle();
            calls.push(town.net.call(&carols, 6, &[]));
            town.net.settle();
            assert_eq!(town.objects[BOB].seen(), [1, 2, 3, 4, 5, 6], "{kind:?} {held:?}");
            calls.iter().for_each(|call| drop(call.ok()));
            // Now it goes straight to Bob.
            let straight = town.end(CAROL, BOB);
            let last = town.net.call(&carols, 7, &[]);
            assert_eq!(town.count(straight, "call"), 1);
            last.ok();
            drop((calls, last, carols, daves, carol, dave, bob));
            town.net.finish();
        }
    }
}

/// Cuts each link after each number of messages.
#[test]
fn every_wait_ends_wherever_a_link_is_cut() {
    let mut cuts = 0;
    for kind in Gift::ALL {
        for (one, other) in [(ALICE, CAROL), (ALICE, BOB), (CAROL, BOB)] {
            for after in 0.. {
                let mut town = Town::new(3);
                let Given { client: bob, make } = gift(&mut town, kind);
                let carol = town.has(ALICE, CAROL);
                let back = town.has(CAROL, ALICE);
                town.objects[CAROL].keep();
                town.objects[ALICE].keep();
                let mut calls: Vec<Call> = vec![town.net.call(&carol, 50, &[bob.clone()])];
                town.net.settle();
                let carols = town.given(CAROL);
                // Through the promise, and then along with the capability.
                calls.push(town.net.call(&carols, 1, &[]));
                make(&mut town);
                let mut delivered = 0;
                while delivered < after && town.step_one() {
                    delivered += 1;
                }
                calls.push(town.net.call(&carols, 2, &[]));
                calls.push(town.net.call(&back, 51, &[carols.clone()]));
                let cut = town.end(one, other);
                town.net.cut(cut);
                cuts += 1;
                town.net.settle();
                calls.push(town.net.call(&carols, 3, &[]));
                town.net.settle();
                for call in &calls {
                    assert!(call.result().is_some(), "{kind:?} {one} {other} {after}");
                }
                let seen = town.objects[BOB].seen();
                assert!(seen.is_sorted(), "{seen:?}");
                drop((town.objects[ALICE].kept(), calls, carols, carol, back, bob));
                town.net.finish();
                if delivered < after {
                    break;
                }
            }
        }
    }
    assert!(cuts > 30, "{cuts}");
}

impl Town {
    /// Delivers one message. Returns whether there was one.
    pub(super) fn step_one(&mut self) -> bool {
        self.net.run();
        let ends = self.ends.iter().map(|(.., end)| *end);
        let busy = ends.into_iter().find(|end| self.net.queued(*end) > 0);
        busy.map(|end| self.net.deliver_one(end)).is_some()
    }
}

/// The Provide is late. Nobody waits for the capability any more, but a call through it is
/// under way.
#[test]
fn a_reference_that_is_dropped_does_not_cancel_its_calls() {
    let mut town = Town::new(3);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    town.objects[CAROL].keep();
    let given = town.net.call(&carol, 1, &[bob]);
    let late = town.end(ALICE, BOB);
    town.settle_but(late);
    let carols = town.given(CAROL);
    let called = town.net.call(&carols, 2, &[]);
    drop((carols, given, carol));
    town.settle_but(late);
    called.assert_open();
    town.net.settle();
    called.ok();
    drop(called);
    town.net.finish();
}

#[test]
fn a_host_that_is_not_reached_is_called_through_the_introducer() {
    let mut town = Town::new(3);
    let cut = town.end(CAROL, BOB);
    town.net.cut(cut);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    town.objects[CAROL].keep();
    let given = town.net.call(&carol, 1, &[bob]);
    town.net.settle();
    let carols = town.given(CAROL);
    let called = town.net.call(&carols, 2, &[]);
    town.net.settle();
    called.ok();
    assert_eq!(town.objects[BOB].seen(), [2]);
    drop((given, called, carol, carols));
    town.net.finish();
}

#[test]
fn what_was_not_used_is_lost_with_its_introducer() {
    let mut town = Town::new(3);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    town.objects[CAROL].keep();
    let given = town.net.call(&carol, 1, &[bob]);
    town.net.settle();
    let carols = town.given(CAROL);
    let cut = town.end(ALICE, CAROL);
    town.net.cut(cut);
    town.net.settle();
    let called = town.net.call(&carols, 2, &[]);
    town.net.settle();
    assert_eq!(called.error().kind(), ErrorKind::Disconnected);
    drop((given, called, carol, carols));
    town.net.finish();
}

#[test]
fn what_is_taken_at_once_survives_its_introducer() {
    let mut town = Town::new(3);
    town.network.eager.store(true, Ordering::SeqCst);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    town.objects[CAROL].keep();
    let given = town.net.call(&carol, 1, &[bob]);
    town.net.settle();
    let carols = town.given(CAROL);
    for peer in [CAROL, BOB] {
        let cut = town.end(ALICE, peer);
        town.net.cut(cut);
    }
    town.net.settle();
    let called = town.net.call(&carols, 2, &[]);
    town.net.settle();
    called.ok();
    drop((given, called, carol, carols));
    town.net.finish();
}

#[test]
fn what_is_sent_back_is_the_same_object() {
    let mut town = Town::new(3);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    town.objects[CAROL].echo();
    let echoed = town.net.call(&carol, 1, &[bob.clone()]);
    town.net.settle();
    let back = echoed.cap(0);
    let called = town.net.call(&back, 2, &[]);
    town.net.settle();
    called.ok();
    assert_eq!(back, bob);
    drop((echoed, called, back, bob, carol));
    town.net.finish();
}

/// A capability that the recipient itself hosts, and that its introducer has from a third vat.
#[test]
fn what_comes_home_is_called_in_place() {
    let mut town = Town::new(3);
    // Bob has Carol's object from Carol, and gives it to Alice, who gives it to Carol.
    let carols = town.has(BOB, CAROL);
    let alice = town.has(BOB, ALICE);
    town.objects[ALICE].keep();
    let given = town.net.call(&alice, 1, &[carols]);
    town.net.settle();
    let alices = town.given(ALICE);
    let carol = town.has(ALICE, CAROL);
    town.objects[CAROL].keep();
    let home = town.net.call(&carol, 2, &[alices]);
    town.net.settle();
    let own = town.given(CAROL);
    let called = town.net.call(&own, 3, &[]);
    town.net.settle();
    called.ok();
    assert!(own.local_dispatch().is_some());
    drop((given, home, called, own, carol, alice));
    town.net.finish();
}

/// A vat with two raw peers: an introducer, which has its object as export 0, and a vat that
/// was introduced.
pub(super) struct Host {
    pub(super) net: Net,
    pub(super) introducer: End,
    pub(super) recipient: End,
    pub(super) object: Actor,
}

pub(super) fn host() -> Host {
    host_with(&limits())
}

pub(super) fn host_with(limits: &Limits) -> Host {
    host_in(&Neighbourhood::new(), limits)
}

pub(super) fn host_in(network: &Arc<Neighbourhood>, limits: &Limits) -> Host {
    let mut net = Net::new();
    let (object, client) = net.object("bob");
    let introducer = net.raw_side_in_with(limits.clone(), network, (2, 0), Some(client));
    let recipient = net.raw_side_in_with(limits.clone(), network, (2, 1), None);
    let mut host = Host { net, introducer, recipient, object };
    host.send(introducer, raw::bootstrap(0));
    host.send(introducer, raw::finish(0, false));
    assert_eq!(host.sent(introducer), ["return 0 results (0) [senderHosted 0]"]);
    host
}

#[expect(clippy::unnecessary_wraps, reason = "a message may hold none")]
pub(super) fn token(bytes: &[u8]) -> Option<Token> {
    Some(Token::of_bytes(bytes).unwrap())
}

/// Export 0 is for vat 1, under a nonce.
pub(super) fn provide(question: u32, nonce: u8) -> Message {
    let recipient = token(&[1, nonce]);
    Message::Provide(Provide { question, target: Target::ImportedCap(0), recipient })
}

/// What vat 0 has provided, under a nonce.
pub(super) fn accept(question: u32, nonce: u8, embargo: Option<&[u8]>) -> Message {
    let embargo = embargo.map(Into::into);
    Message::Accept(Accept { question, provision: token(&[0, nonce]), embargo })
}

pub(super) fn lift(question: u32, path: &[u16], embargo: &[u8]) -> Message {
    let target = raw::on_field(question, path);
    Message::Disembargo(Disembargo { target, context: Context::Accept(embargo.into()) })
}

impl Host {
    pub(super) fn send(&mut self, end: End, message: Message) {
        self.net.inject(end, transmit(message));
        self.net.run();
    }

    pub(super) fn sent(&mut self, end: End) -> Vec<String> {
        self.net.take_sent(end).iter().map(super::line::line).collect()
    }

    #[track_caller]
    pub(super) fn expect(&mut self, end: End, lines: &[&str]) {
        assert_eq!(self.sent(end), lines);
    }

    #[track_caller]
    fn expect_abort(&mut self, end: End, why: &str) {
        let sent = self.sent(end);
        assert!(sent.last().is_some_and(|last| last.contains(why)), "{sent:?}");
        assert!(self.net.machine(end).failure().is_some());
    }

    #[track_caller]
    pub(super) fn finish(mut self) {
        for end in [self.introducer, self.recipient] {
            self.net.cut(end);
            self.sent(end);
        }
        self.net.finish();
    }
}

/// Whichever comes first, and as often as the recipient comes.
#[test]
fn a_provide_and_an_accept_find_each_other() {
    for provide_first in [true, false] {
        let mut host = host();
        let (introducer, recipient) = (host.introducer, host.recipient);
        if provide_first {
            host.send(introducer, provide(1 << 31, 7));
            host.send(recipient, accept(0, 7, None));
        } else {
            host.send(recipient, accept(0, 7, None));
            host.expect(recipient, &[]);
            host.send(introducer, provide(1 << 31, 7));
        }
        host.expect(recipient, &["return 0 results (0) [senderHosted 0]"]);
        host.send(recipient, accept(1, 7, None));
        host.expect(recipient, &["return 1 results (0) [senderHosted 0]"]);
        // When it was taken back, it is gone, and whoever comes is told so.
        host.send(introducer, raw::finish(1 << 31, false));
        host.send(recipient, accept(2, 7, None));
        let [told] = <[String; 1]>::try_from(host.sent(recipient)).unwrap();
        assert!(told.starts_with("return 2 disconnected"), "{told}");
        host.expect(introducer, &[]);
        host.finish();
    }
}

/// Whichever comes first, and whether or not there is an embargo: one comes for it, once.
#[test]
fn what_may_be_fetched_once_is_fetched_once() {
    for (provide_first, embargo) in
        [(true, None), (false, None), (true, Some(&b"one"[..])), (false, Some(b"one"))]
    {
        let mut host = host();
        let (introducer, recipient) = (host.introducer, host.recipient);
        let refused = |host: &mut Host, question: u32| {
            let [told] = <[String; 1]>::try_from(host.sent(recipient)).unwrap();
            assert!(told.starts_with(&format!("return {question} failed")), "{told}");
        };
        if provide_first {
            host.send(introducer, provide(9, ONCE));
        }
        host.send(recipient, accept(0, ONCE, embargo));
        if !provide_first || embargo.is_some() {
            // Another one who waits could be given it instead.
            host.expect(recipient, &[]);
            host.send(recipient, accept(1, ONCE, None));
            refused(&mut host, 1);
        }
        if !provide_first {
            host.send(introducer, provide(9, ONCE));
        }
        if embargo.is_some() {
            host.send(introducer, lift(9, &[], b"one"));
        }
        host.expect(recipient, &["return 0 results (0) [senderHosted 0]"]);
        host.send(recipient, accept(2, ONCE, None));
        refused(&mut host, 2);
        // Who waits and gives up has not used it.
        host.send(recipient, accept(3, ONCE + 1, None));
        host.send(recipient, raw::finish(3, true));
        host.expect(recipient, &["return 3 canceled"]);
        host.send(introducer, provide(10, ONCE + 1));
        host.send(recipient, accept(4, ONCE + 1, None));
        host.expect(recipient, &["return 4 results (0) [senderHosted 0]"]);
        host.finish();
    }
}

/// An embargo is lifted before or after it is named.
#[test]
fn an_accept_waits_for_its_own_embargo() {
    let mut host = host();
    let (introducer, recipient) = (host.introducer, host.recipient);
    host.send(introducer, provide(9, 7));
    host.send(recipient, accept(0, 7, Some(b"one")));
    host.send(recipient, raw::call(1, raw::on_field(0, &[]), 20, &[]));
    host.send(introducer, lift(9, &[], b"other"));
    host.expect(recipient, &[]);
    assert_eq!(host.object.seen(), []);
    host.send(introducer, raw::call(3, raw::on(0), 10, &[]));
    host.send(introducer, lift(9, &[], b"one"));
    assert_eq!(host.object.seen(), [10, 20]);
    let [first, _] = <[String; 2]>::try_from(host.sent(recipient)).unwrap();
    assert_eq!(first, "return 0 results (0) [senderHosted 0]");
    host.send(recipient, accept(2, 7, Some(b"other")));
    host.expect(recipient, &["return 2 results (0) [senderHosted 0]"]);
    // Nobody else lifts it: it is as if it had never been lifted.
    host.send(recipient, accept(3, 7, Some(b"one")));
    host.expect(recipient, &[]);
    host.send(recipient, accept(4, 7, Some(b"one")));
    let [told] = <[String; 1]>::try_from(host.sent(recipient)).unwrap();
    assert!(told.starts_with("return 4 failed"), "{told}");
    host.finish();
}

#[test]
fn who_waits_for_an_embargo_is_told_that_the_introducer_is_gone() {
    for finish in [true, false] {
        let mut host = host();
        let (introducer, recipient) = (host.introducer, host.recipient);
        host.send(introducer, provide(9, 7));
        host.send(recipient, accept(0, 7, Some(b"one")));
        // And somebody waits for what does not come.
        host.send(recipient, accept(1, 8, None));
        host.expect(recipient, &[]);
        if finish {
            host.send(introducer, raw::finish(9, false));
        } else {
            host.net.cut(introducer);
        }
        let told = host.sent(recipient);
        assert_eq!(told.len(), if finish { 1 } else { 2 }, "{told:?}");
        assert!(told.iter().all(|line| line.contains("disconnected")), "{told:?}");
        host.finish();
    }
}

#[test]
fn a_recipient_that_waits_may_change_its_mind() {
    let mut host = host();
    let (introducer, recipient) = (host.introducer, host.recipient);
    host.send(recipient, accept(0, 7, None));
    host.send(recipient, raw::finish(0, true));
    host.expect(recipient, &["return 0 canceled"]);
    host.send(introducer, provide(9, 7));
    host.expect(recipient, &[]);
    host.finish();
}

/// Who was not introduced gets nothing, whatever it shows.
#[test]
fn tokens_that_are_forged_or_foreign_reach_nothing() {
    let mut host = host();
    let (introducer, recipient) = (host.introducer, host.recipient);
    host.send(introducer, provide(9, 7));
    // For vat 3, and this is vat 1.
    let recipient_token = token(&[3, 8]);
    let target = Target::ImportedCap(0);
    host.send(
        introducer,
        Message::Provide(Provide { question: 10, target, recipient: recipient_token }),
    );
    // Nobody provides this.
    host.send(recipient, accept(0, 6, None));
    // Foreign: this was provided for another vat.
    host.send(recipient, accept(1, 8, None));
    host.expect(recipient, &[]);
    // A vat that is not there, and what is no token.
    for (question, provision) in [(2, token(&[4, 7])), (3, token(&[])), (4, None)] {
        host.send(recipient, Message::Accept(Accept { question, provision, embargo: None }));
        let [told] = <[String; 1]>::try_from(host.sent(recipient)).unwrap();
        assert!(told.starts_with(&format!("return {question} ")), "{told}");
        assert!(!told.contains("results"), "{told}");
    }
    // The introducer provides something under a key that is taken, or under none.
    host.send(introducer, provide(11, 7));
    let target = Target::ImportedCap(0);
    host.send(introducer, Message::Provide(Provide { question: 12, target, recipient: None }));
    host.send(introducer, raw::finish(11, false));
    host.send(introducer, raw::finish(12, false));
    host.send(recipient, accept(5, 7, None));
    host.expect(recipient, &["return 5 results (0) [senderHosted 0]"]);
    host.expect(introducer, &[]);
    host.finish();
}

#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let aborts = |why: &str, messages: Vec<Message>| {
        let mut host = host();
        let introducer = host.introducer;
        for message in messages {
            host.send(introducer, message);
        }
        host.expect_abort(introducer, why);
        host.finish();
    };
    let unknown = Provide { question: 1, target: Target::ImportedCap(5), recipient: token(b"a") };
    aborts("Provide of export 5", vec![Message::Provide(unknown)]);
    aborts("question 9 is asked", vec![provide(9, 1), provide(9, 2)]);
    aborts("question 9 is asked", vec![provide(9, 1), accept(9, 2, None)]);
    aborts("question 9 is asked", vec![provide(9, 1), raw::call(9, raw::on(0), 1, &[])]);
    aborts("provides nothing", vec![lift(9, &[], b"e")]);
    aborts("provides nothing", vec![provide(9, 1), lift(9, &[0], b"e")]);
    let no_vine =
        Disembargo { target: Target::ImportedCap(0), context: Context::Accept((*b"e").into()) };
    aborts("no vine", vec![Message::Disembargo(no_vine)]);
}

/// The Disembargo for what was provided names the Provide itself: with a null pointer here, which
/// C++ insists on, and others may write a list of no steps.
#[test]
fn the_end_of_an_embargo_names_a_provide_and_no_field_of_it() {
    let lifts = |transform: Option<&[u16]>| {
        built(|root| {
            let mut disembargo = root.init_disembargo();
            let mut answer = disembargo.reborrow().init_target().init_promised_answer();
            answer.set_question_id(9);
            if let Some(transform) = transform {
                let mut steps = answer.init_transform(u32::try_from(transform.len()).unwrap());
                for (index, field) in (0..).zip(transform) {
                    steps.reborrow().get(index).set_get_pointer_field(*field);
                }
            }
            disembargo.init_context().set_accept(b"one");
        })
    };
    for transform in [None, Some(&[][..]), Some(&[0])] {
        let mut host = host();
        let (introducer, recipient) = (host.introducer, host.recipient);
        host.send(introducer, provide(9, 7));
        host.send(recipient, accept(0, 7, Some(b"one")));
        host.expect(recipient, &[]);
        host.net.inject(introducer, lifts(transform));
        if transform == Some(&[0]) {
            host.expect_abort(introducer, "provides nothing");
        } else {
            host.expect(recipient, &["return 0 results (0) [senderHosted 0]"]);
            host.expect(introducer, &[]);
        }
        host.finish();
    }
    let sent = super::net::frame(lift(9, &[], b"one"));
    let reader = capnp::message::Reader::new(sent, capnp::message::ReaderOptions::new());
    let root = reader.get_root::<message::Reader<'_>>().unwrap();
    let Ok(message::Disembargo(Ok(disembargo))) = root.which() else { panic!() };
    let Ok(message_target::PromisedAnswer(Ok(answer))) = disembargo.get_target().unwrap().which()
    else {
        panic!()
    };
    assert!(!answer.has_transform());
}

/// A Provide has no answer on which calls could be pipelined.
#[test]
fn a_call_on_a_provide_fails_alone() {
    let mut host = host();
    let introducer = host.introducer;
    host.send(introducer, provide(9, 7));
    host.send(introducer, raw::call(10, raw::on_field(9, &[]), 1, &[]));
    let [told] = <[String; 1]>::try_from(host.sent(introducer)).unwrap();
    assert!(told.starts_with("return 10 failed"), "{told}");
    host.finish();
}

pub(super) fn echo_of(fill: impl FnOnce(message::Builder<'_>)) -> Message {
    built(|root| fill(root.init_unimplemented()))
}

/// A message that is written field by field.
fn built(fill: impl FnOnce(message::Builder<'_>)) -> Message {
    let mut builder = capnp::message::Builder::new_default();
    fill(builder.init_root::<message::Builder<'_>>());
    wire::decode(received(&wire::message::Message::from(builder))).unwrap()
}

/// A recipient whose host knows no handoffs.
#[test]
fn a_host_of_level_1_is_called_through_the_introducer() {
    let mut net = Net::new();
    let network = Neighbourhood::new();
    let (object, client) = net.object("carol");
    object.keep();
    let introducer = net.raw_side_in(&network, (1, 0), Some(client));
    let host = net.raw_side_in(&network, (1, 2), None);
    let mut vat = Host { net, introducer, recipient: host, object };
    vat.send(introducer, raw::bootstrap(0));
    vat.send(introducer, raw::finish(0, false));
    vat.sent(introducer);
    let contact = token(&[2, 0, 7]);
    let cap = wire::Descriptor::ThirdPartyHosted(4, contact);
    vat.send(introducer, raw::call(1, raw::on(0), 1, &[cap]));
    vat.expect(introducer, &["return 1 results (1) noFinishNeeded"]);
    let cap = vat.object.kept_one();
    let resolved = cap.clone();
    // Waiting for the capability uses it, and sends nothing through it.
    let event = Arc::new(crate::work::event::Event::default());
    let _ = resolved.watch(crate::cap::watch::Watcher::Thread(event));
    vat.expect(host, &["accept 0"]);
    vat.net.inject(host, echo_of(|root| root.init_accept().set_question_id(0)));
    vat.expect(host, &[]);
    let called = vat.net.call(&cap, 2, &[]);
    vat.expect(introducer, &["call 0 on 4 (2)"]);
    assert!(vat.net.machine(host).failure().is_none());
    drop((called, cap, resolved));
    vat.finish();
}

/// An introducer whose host knows no handoffs: from then on, it stands in for the host.
#[test]
fn a_host_of_level_1_is_not_introduced_again() {
    let mut net = Net::new();
    let network = Neighbourhood::new();
    let (object, client) = net.object("alice");
    let host = net.raw_side_in(&network, (0, 2), None);
    let recipient = net.raw_side_in(&network, (0, 1), Some(client));
    let mut vat = Host { net, introducer: host, recipient, object };
    let bob = vat.net.bootstrap(host);
    vat.send(
        host,
        raw::ret_with(
            0,
            wire::ReturnKind::Results(super::content::message(
                crate::cap::payload::Payload::of_capability(Client::broken(
                    crate::error::Error::failed("never called"),
                )),
                vec![wire::Descriptor::SenderHosted(5)],
            )),
        ),
    );
    vat.expect(host, &["bootstrap 0", "finish 0"]);
    vat.send(recipient, raw::bootstrap(0));
    vat.send(recipient, raw::finish(0, false));
    vat.sent(recipient);
    vat.object.give(vec![bob.clone()]);
    vat.send(recipient, raw::call(1, raw::on(0), 1, &[]));
    vat.expect(recipient, &["return 1 results (1) [thirdPartyHosted 1]"]);
    vat.expect(host, &["provide 2147483648 on 5"]);
    vat.net.inject(host, echo_of(|root| root.init_provide().set_question_id(1 << 31)));
    vat.send(recipient, raw::call(2, raw::on(0), 2, &[]));
    vat.expect(recipient, &["return 2 results (2) [senderHosted 2]"]);
    // The vine leads there nevertheless.
    vat.send(recipient, raw::call(3, raw::on(1), 3, &[]));
    vat.expect(host, &["call 0 on 5 (3)"]);
    vat.object.acknowledge();
    drop(bob);
    vat.finish();
}

struct Nothing;

impl MembranePolicy for Nothing {}

/// What a vat controls, it does not give out of its hands.
#[test]
fn a_membrane_stays_in_the_path() {
    let mut town = Town::new(3);
    let [bob, carol] = [town.has(ALICE, BOB), town.has(ALICE, CAROL)];
    let membrane = Membrane::new(Nothing);
    let behind: Client = membrane.wrap(&bob);
    let to_carol = town.end(ALICE, CAROL);
    let given = town.net.call(&carol, 1, &[behind.clone()]);
    town.net.step(to_carol, "call 0 on 0 (1) [senderHosted 0]");
    town.net.settle();
    drop((given, carol, bob, behind, membrane));
    town.net.finish();
}
