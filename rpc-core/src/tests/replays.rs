//! The models of how promises resolve, replayed on the machine.
//!
//! [`rpc_models`] has the protocol as it is written down in `rpc.capnp`, without this code.
//! Each path through all its transitions is taken here once more, with real machines: what a
//! vat does in the model is done here, and after each step each machine must have sent the
//! messages that the model has sent. What only tidies up, Return, Finish and Release, is
//! delivered with what comes behind it.
//!
//! | transition of the model | function of the machine |
//! |---|---|
//! | a Call leaves a vat | `Machine::deliver_to`, `RemotePromise::accept` |
//! | a Call arrives | `Txn::receive_call`, `Txn::export_place` |
//! | a promise resolves, and the peer is told | `LocalPromise::resolve`, `Txn::resolve_export` |
//! | a Resolve arrives | `Txn::receive_resolve`, `Txn::settled_target`, `Txn::embargo` |
//! | a Disembargo arrives, or comes back | `Txn::receive_disembargo`, `Txn::lift` |
//! | a Provide, an Accept, or the Disembargo of one | `Txn::receive_provide`, `Txn::receive_accept`, `Txn::lift_at_vine`, `Txn::lift_provision` |

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rpc_models::handoff::{self, ALICE, BOB, CAROL, DAVE, Handoff};
use rpc_models::resolution::{self, Becomes, Resolution, Target};
use rpc_models::{Label, Protocol, paths};

use super::actor::Actor;
use super::neighbours::Neighbourhood;
use super::net::{Call, End, Net};
use crate::cap::client::Client;
use crate::cap::promise::{Fulfiller, promise};

/// The label of a call of the model, apart from those by which everything is set up.
pub(super) fn label(call: Label) -> u64 {
    1000 + 100 * u64::from(call.caller) + u64::from(call.number)
}

pub(super) fn labels(seen: &[Label]) -> Vec<u64> {
    seen.iter().copied().map(label).collect()
}

/// Whether a message, in one line, is one of those that the model has.
pub(super) fn is_modelled(line: &str) -> bool {
    let is_labelled = line.contains("(1") && line.starts_with("call ");
    let is_given = line.starts_with("return ") && line.contains("(0) [");
    let kinds = ["resolve ", "disembargo ", "provide ", "accept "];
    is_labelled || is_given || kinds.iter().any(|kind| line.starts_with(kind))
}

/// Delivers what an end has sent up to the next message of the model, and returns that.
pub(super) fn deliver(net: &mut Net, from: End) -> String {
    loop {
        assert!(net.queued(from) > 0, "the model has sent more");
        let line = net.deliver_one(from);
        if is_modelled(&line) {
            return line;
        }
        net.run();
    }
}

/// The number of a call, the word that stands for its target, and its label.
pub(super) fn call_parts(line: &str) -> (&str, u64) {
    let (_, rest) = line.split_once(" on ").unwrap();
    let (target, rest) = rest.split_once(" (").unwrap();
    let (label, _) = rest.split_once(')').unwrap();
    (target, label.parse().unwrap())
}

// ---- Two vats

/// The ids of what each vat exports to the other one: `0` is what it offers.
const PROMISE: &str = "1";
const OBJECT: &str = "2";

fn id(target: Target) -> &'static str {
    match target {
        Target::Object => OBJECT,
        Target::Promise => PROMISE,
    }
}

/// Requires that a message of the machine is the one of the model.
#[track_caller]
fn assert_says(line: &str, message: resolution::Message) {
    use resolution::Message;
    match message {
        Message::Call(target, call) => {
            assert!(line.starts_with("call "), "{line} is no {message:?}");
            assert_eq!(call_parts(line), (id(target), label(call)));
        }
        Message::Resolve(Becomes::Own) => {
            assert_eq!(line, format!("resolve {PROMISE} senderHosted {OBJECT}"));
        }
        Message::Resolve(Becomes::Theirs(target)) => {
            assert_eq!(line, format!("resolve {PROMISE} receiverHosted {}", id(target)));
        }
        Message::Disembargo => {
            assert_eq!(line, format!("disembargo senderLoopback 0 on {PROMISE}"));
        }
        Message::Returned(target) => {
            assert_eq!(line, format!("disembargo receiverLoopback 0 on {}", id(target)));
        }
    }
}

struct Pair {
    net: Net,
    ends: [End; 2],
    objects: [Actor; 2],
    own: [Client; 2],
    fulfillers: [Option<Fulfiller>; 2],
    /// What each vat has of the other one.
    their_promises: [Client; 2],
    their_objects: [Client; 2],
    calls: Vec<Call>,
}

impl Pair {
    fn new() -> Self {
        let mut net = Net::new();
        let offered = ["server a", "server b"].map(|name| net.object(name));
        let objects = ["a", "b"].map(|name| net.object(name));
        let promises = [(); 2].map(|()| promise());
        let [(server_a, offer_a), (server_b, offer_b)] = offered;
        let (a, b) = net.link(Some(offer_a), Some(offer_b));
        let ends = [a, b];
        let has = ends.map(|end| net.bootstrapped(end));
        let servers = [server_a, server_b];
        for (server, ((promised, _), (_, object))) in
            servers.iter().zip(promises.iter().zip(&objects))
        {
            server.give(vec![promised.clone(), object.clone()]);
        }
        let got = [0, 1].map(|vat| {
            let got = net.call(&has[vat], 1 + vat as u64, &[]);
            net.settle();
            got
        });
        // Vat 0 has what the server of vat 1 has given.
        let their_promises = [0, 1].map(|vat: usize| got[vat].cap(0));
        let their_objects = [0, 1].map(|vat: usize| got[vat].cap(1));
        for server in &servers {
            server.acknowledge();
        }
        drop((has, got));
        net.settle();
        let [(object_a, own_a), (object_b, own_b)] = objects;
        let [(_, fulfil_a), (_, fulfil_b)] = promises;
        Pair {
            net,
            ends,
            objects: [object_a, object_b],
            own: [own_a, own_b],
            fulfillers: [Some(fulfil_a), Some(fulfil_b)],
            their_promises,
            their_objects,
            calls: Vec::new(),
        }
    }

    fn replay(mut self, model: Resolution, path: &[resolution::Action]) {
        use resolution::Action;
        let mut state = model.start();
        for action in path {
            let message = match *action {
                Action::Deliver(from) => state.oldest(from),
                Action::Call(_) | Action::Resolve(..) => None,
            };
            state = model.next(&state, *action);
            self.net.note(|| format!("{action:?}"));
            match *action {
                Action::Call(vat) => {
                    let caller = u8::from(vat == 1);
                    let label = label(Label { caller, number: state.made(vat) });
                    let call = self.net.call(&self.their_promises[vat], label, &[]);
                    self.calls.push(call);
                }
                Action::Resolve(vat, becomes) => {
                    let to = match becomes {
                        Becomes::Own => &self.own[vat],
                        Becomes::Theirs(Target::Object) => &self.their_objects[vat],
                        Becomes::Theirs(Target::Promise) => &self.their_promises[vat],
                    };
                    self.fulfillers[vat].take().unwrap().fulfill(to.clone());
                }
                Action::Deliver(from) => {
                    let line = deliver(&mut self.net, self.ends[from]);
                    assert_says(&line, message.unwrap());
                }
            }
            self.net.run();
            for (vat, object) in self.objects.iter().enumerate() {
                assert_eq!(object.seen(), labels(state.seen(vat)), "at {vat} after {action:?}");
            }
        }
        settle(&mut self.net, self.ends, &self.calls);
        let Pair { net, own, their_promises, their_objects, calls, .. } = self;
        drop((own, their_promises, their_objects, calls));
        net.finish();
    }
}

/// Small enough to be replayed each time, and large enough for calls to overtake one another
/// and for both vats to be called.
const CALLS: [[u8; 2]; 2] = [[2, 0], [1, 1]];

#[test]
fn machines_resolve_promises_as_the_model_does() {
    for calls in CALLS {
        let model = Resolution { calls, fault: resolution::Fault::None };
        let paths = paths(&model);
        assert!(paths.len() > 100, "{} paths", paths.len());
        for path in &paths {
            Pair::new().replay(model, path);
        }
    }
}

/// A machine is told from a protocol that is not the machine's.
#[test]
fn a_model_with_another_rule_is_noticed() {
    use resolution::Fault::{EchoOvertakes, NoEmbargo, ShorterPath};
    for fault in [NoEmbargo, EchoOvertakes, ShorterPath] {
        let model = Resolution { calls: CALLS[0], fault };
        let replay = move |path: &[resolution::Action]| Pair::new().replay(model, path);
        assert!(is_noticed(&paths(&model), replay), "{fault:?} was not noticed");
    }
}

// ---- Four vats

#[track_caller]
fn assert_hands_off(line: &str, message: handoff::Message) {
    use handoff::Message;
    let says = match message {
        Message::Call(call) => line.starts_with("call ") && call_parts(line).1 == label(call),
        Message::Resolve => line.starts_with("resolve ") && line.contains("thirdPartyHosted"),
        Message::Provide => line.starts_with("provide "),
        Message::Accept(embargo) => {
            line.starts_with("accept ") && line.ends_with("embargo") == embargo
        }
        Message::LiftAtVine => line.starts_with("disembargo accept on ") && !line.contains('#'),
        Message::LiftAtHost => line.starts_with("disembargo accept on #"),
        Message::Given => line.starts_with("return ") && line.contains("senderHosted"),
    };
    assert!(says, "{line} is no {message:?}");
}

pub(super) fn end(ends: &[(usize, usize, End)], own: usize, peer: usize) -> End {
    ends.iter().find(|(one, other, _)| (*one, *other) == (own, peer)).unwrap().2
}

/// Links vats with each other, each of which offers something. The models know nothing of peers
/// without level 3.
pub(super) fn link_all(
    net: &mut Net,
    network: &Arc<Neighbourhood>,
    offered: &[Client],
) -> Vec<(usize, usize, End)> {
    let mut ends = Vec::new();
    for one in 0..offered.len() {
        for other in one + 1..offered.len() {
            let numbers = [one, other].map(|vat| u8::try_from(vat).unwrap());
            let [ours, theirs] = [one, other].map(|vat| Some(offered[vat].clone()));
            let (near, far) = net.link_in(network, numbers, ours, theirs);
            [near, far].into_iter().for_each(|end| net.machine(end).hears_of_handoffs());
            ends.extend([(one, other, near), (other, one, far)]);
        }
    }
    ends
}

/// Requires at the end of a way that nothing but what tidies up was left to be sent.
pub(super) fn settle(net: &mut Net, ends: impl IntoIterator<Item = End>, calls: &[Call]) {
    for end in ends {
        while net.queued(end) > 0 {
            let line = net.deliver_one(end);
            net.run();
            assert!(!is_modelled(&line), "{line} is not of the model");
        }
    }
    net.settle();
    for call in calls {
        call.ok();
    }
}

/// Whether a replay fails on one of these ways.
pub(super) fn is_noticed<A: Clone + Send + 'static>(
    paths: &[Vec<A>],
    replay: impl Fn(&[A]) + Clone + Send + 'static,
) -> bool {
    paths.iter().any(|path| {
        // On a thread of its own, where what it leaves behind harms nobody.
        let (path, replay) = (path.clone(), replay.clone());
        std::thread::spawn(move || replay(&path)).join().is_err()
    })
}

struct Town {
    net: Net,
    /// The end in one vat of the link to another one.
    ends: Vec<(usize, usize, End)>,
    object: Actor,
    fulfiller: Option<Fulfiller>,
    /// What Alice resolves her promise to.
    bobs: Client,
    /// What Carol and Dave were given.
    given: [Client; 2],
    calls: Vec<Call>,
}

impl Town {
    fn new() -> Self {
        let mut net = Net::new();
        let network = Neighbourhood::new();
        // They go to the host at once, whether they call or not.
        network.eager.store(true, Ordering::SeqCst);
        let made = ["bob", "alice", "carol", "dave"].map(|name| net.object(name));
        let ends = link_all(&mut net, &network, &made.each_ref().map(|(_, client)| client.clone()));
        let has = |net: &mut Net, own, peer| net.bootstrapped(end(&ends, own, peer));
        let bobs = has(&mut net, ALICE, BOB);
        let (promised, fulfiller) = promise();
        // From vat to vat. Whoever gave Alice's promise on would introduce her.
        network.closed.store(true, Ordering::SeqCst);
        let mut passed_on = promised;
        let mut given = Vec::new();
        for (from, to) in [(ALICE, CAROL), (CAROL, DAVE)] {
            made[to].0.keep();
            let object = has(&mut net, from, to);
            let call = net.call(&object, 1, &[passed_on]);
            net.settle();
            call.ok();
            passed_on = made[to].0.kept_one();
            given.push(passed_on.clone());
            drop((call, object));
        }
        net.settle();
        network.closed.store(false, Ordering::SeqCst);
        let [(object, _), ..] = made;
        let given = given.try_into().unwrap();
        let fulfiller = Some(fulfiller);
        Town { net, ends, object, fulfiller, bobs, given, calls: Vec::new() }
    }

    fn replay(mut self, model: Handoff, path: &[handoff::Action]) {
        use handoff::Action;
        let mut state = model.start();
        for action in path {
            let message = match *action {
                Action::Deliver(from, to) => state.oldest(from, to),
                Action::Call(_) | Action::Resolve => None,
            };
            state = model.next(&state, *action);
            self.net.note(|| format!("{action:?}"));
            match *action {
                Action::Call(vat) => {
                    let caller = u8::try_from(vat).unwrap();
                    let label = label(Label { caller, number: state.made(vat) });
                    let call = self.net.call(&self.given[vat - CAROL], label, &[]);
                    self.calls.push(call);
                }
                Action::Resolve => self.fulfiller.take().unwrap().fulfill(self.bobs.clone()),
                Action::Deliver(from, to) => {
                    let line = deliver(&mut self.net, end(&self.ends, from, to));
                    assert_hands_off(&line, message.unwrap());
                }
            }
            self.net.run();
            assert_eq!(self.object.seen(), labels(state.seen()), "after {action:?}");
        }
        settle(&mut self.net, self.ends.iter().map(|(.., end)| *end), &self.calls);
        let Town { net, bobs, given, calls, .. } = self;
        drop((bobs, given, calls));
        net.finish();
    }
}

#[test]
fn machines_hand_capabilities_off_as_the_model_does() {
    let model = Handoff { calls: [0, 0, 1, 1], fault: handoff::Fault::None };
    let paths = paths(&model);
    assert!(paths.len() > 100, "{} paths", paths.len());
    for path in &paths {
        Town::new().replay(model, path);
    }
}
