//! The model of a promise that is handed off before it resolves, replayed on the machine, as in
//! [`super::replays`].

use rpc_models::promised::{self, ALICE, BOB, CAROL, Message, Names, Promised};
use rpc_models::{Label, Protocol, paths};

use super::actor::Actor;
use super::neighbours::Neighbourhood;
use super::net::{Call, End, Net};
use super::replays::{call_parts, deliver, end, is_noticed, label, labels, link_all, settle};
use crate::cap::client::Client;
use crate::cap::promise::{Fulfiller, promise};

#[track_caller]
fn assert_says(line: &str, message: Message) {
    let names = |names| match names {
        Names::Promise => "senderPromise",
        Names::Own => "senderHosted",
        Names::Yours => "receiverHosted",
        Names::Third => "thirdPartyHosted",
    };
    let says = match message {
        Message::Call(call, _) => line.starts_with("call ") && call_parts(line).1 == label(call),
        Message::Resolve(named) => line.starts_with("resolve ") && line.contains(names(named)),
        Message::Given(named) => line.starts_with("return ") && line.contains(names(named)),
        Message::Provide => line.starts_with("provide "),
        Message::Accept(embargo) => {
            line.starts_with("accept ") && line.ends_with("embargo") == embargo
        }
        Message::LiftAtVine => line.starts_with("disembargo accept on ") && !line.contains('#'),
        Message::LiftAtHost => line.starts_with("disembargo accept on #"),
        Message::Disembargo => line.starts_with("disembargo senderLoopback "),
        Message::Returned => line.starts_with("disembargo receiverLoopback "),
    };
    assert!(says, "{line} is no {message:?}");
}

struct Town {
    net: Net,
    /// The end in one vat of the link to another one.
    ends: Vec<(usize, usize, End)>,
    /// What Bob's promise may become: an object of each vat.
    objects: Vec<Actor>,
    /// What Bob has of these.
    bob_has: Vec<Client>,
    bobs: Option<Fulfiller>,
    /// Alice's promise, and what it becomes.
    alices: Option<(Fulfiller, Client)>,
    /// What Carol was given.
    given: Client,
    calls: Vec<Call>,
}

impl Town {
    fn new() -> Self {
        let mut net = Net::new();
        let network = Neighbourhood::new();
        let servers = ["bob", "alice", "carol"].map(|name| net.object(name));
        let offered = servers.each_ref().map(|(_, client)| client.clone());
        let ends = link_all(&mut net, &network, &offered);
        // What a server has, whoever asks for it.
        let gives = |net: &mut Net, to, from: usize, cap: Client| {
            servers[from].0.give(vec![cap]);
            let server = net.bootstrapped(end(&ends, to, from));
            let call = net.call(&server, 1, &[]);
            net.settle();
            servers[from].0.acknowledge();
            let cap = call.cap(0);
            drop((call, server));
            net.settle();
            cap
        };
        let objects = ["bob's", "alice's", "carol's"].map(|name| net.object(name));
        let bob_has = [BOB, ALICE, CAROL].map(|vat| match vat {
            BOB => objects[BOB].1.clone(),
            vat => gives(&mut net, BOB, vat, objects[vat].1.clone()),
        });
        let (bobs, fulfil_bobs) = promise();
        let (alices, fulfil_alices) = promise();
        let bobs = gives(&mut net, ALICE, BOB, bobs);
        let given = gives(&mut net, CAROL, ALICE, alices);
        Town {
            net,
            ends,
            objects: objects.into_iter().map(|(actor, _)| actor).collect(),
            bob_has: bob_has.into(),
            bobs: Some(fulfil_bobs),
            alices: Some((fulfil_alices, bobs)),
            given,
            calls: Vec::new(),
        }
    }

    fn replay(mut self, model: Promised, path: &[promised::Action]) {
        use promised::Action;
        let mut state = model.start();
        for action in path {
            let message = match *action {
                Action::Deliver(from, to) => state.oldest(from, to),
                Action::Call | Action::HandOff | Action::Resolve(_) => None,
            };
            state = model.next(&state, *action);
            self.net.note(|| format!("{action:?}"));
            match *action {
                Action::Call => {
                    let label = label(Label { caller: 2, number: state.made() });
                    let call = self.net.call(&self.given, label, &[]);
                    self.calls.push(call);
                }
                Action::HandOff => {
                    let (fulfiller, bobs) = self.alices.take().unwrap();
                    fulfiller.fulfill(bobs);
                }
                Action::Resolve(vat) => {
                    self.bobs.take().unwrap().fulfill(self.bob_has[vat].clone());
                }
                Action::Deliver(from, to) => {
                    let line = deliver(&mut self.net, end(&self.ends, from, to));
                    assert_says(&line, message.unwrap());
                }
            }
            self.net.run();
            let seen: Vec<u64> = self.objects.iter().flat_map(Actor::seen).collect();
            assert_eq!(seen, labels(state.seen()), "after {action:?}");
        }
        settle(&mut self.net, self.ends.iter().map(|(.., end)| *end), &self.calls);
        let Town { net, bob_has, given, calls, .. } = self;
        drop((bob_has, given, calls));
        net.finish();
    }
}

#[test]
fn machines_hand_promises_off_as_the_model_does() {
    let model = Promised { calls: 2, fault: promised::Fault::None };
    let paths = paths(&model);
    assert!(paths.len() > 100, "{} paths", paths.len());
    for path in &paths {
        Town::new().replay(model, path);
    }
}

/// A machine is told from a protocol that is not the machine's.
#[test]
fn a_model_of_promises_with_another_rule_is_noticed() {
    use promised::Fault::{NoDisembargo, NoEmbargo, ShorterPath};
    for fault in [NoEmbargo, NoDisembargo, ShorterPath] {
        let model = Promised { calls: 2, fault };
        let replay = move |path: &[promised::Action]| Town::new().replay(model, path);
        assert!(is_noticed(&paths(&model), replay), "{fault:?} was not noticed");
    }
}
