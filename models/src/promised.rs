//! A promise of the host's that is handed off before it resolves.
//!
//! Bob has promised something to Alice, and Alice something to Carol, who calls it. Alice's
//! promise becomes Bob's, which has not resolved. So Alice introduces Carol to Bob: she provides
//! the place of his promise, and her vine leads there, whatever she may hear of it later. Then
//! Bob's promise becomes an object of his own, of Alice's, or of Carol's. If Carol has asked Bob
//! before, she has his promise, and he resolves it for her:
//!
//! ```text
//!  Carol ──► Alice ──► Bob ──► Bob, Alice or Carol     before
//!  Carol ──► Bob ──► Bob, Alice or Carol               when she has asked Bob
//!  Carol ──► Bob, Alice or Carol                       afterwards
//! ```
//!
//! To an object of Alice's, Bob introduces her. In front of one of her own, calls wait behind an
//! embargo until those that she has sent by Bob have come back. She asks when she calls, and not
//! before. The messages that only tidy up are left out, as in [`resolution`](crate::resolution).

use std::collections::VecDeque;

use crate::{Label, Protocol, in_order};

/// A vat: Bob, Alice or Carol.
pub type Vat = usize;

/// Has a promise.
pub const BOB: Vat = 0;
/// Has Bob's promise, and has promised it to Carol.
pub const ALICE: Vat = 1;
/// Calls Alice's promise.
pub const CAROL: Vat = 2;

/// How many calls Carol makes at most.
#[derive(Clone, Copy, Debug)]
pub struct Promised {
    /// The number.
    pub calls: u8,
    /// What is wrong with the protocol, to see that it is noticed.
    pub fault: Fault,
}

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None.
    None,
    /// An Accept names no embargo.
    NoEmbargo,
    /// The vine, and late calls on Alice's promise, take the shortest path that she knows.
    ShorterPath,
    /// An introducer does not pass the Disembargo on.
    NoDisembargo,
}

/// What a message names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Names {
    /// A promise of the sender's.
    Promise,
    /// An object of the sender's.
    Own,
    /// An object of the receiver's.
    Yours,
    /// What a third vat hosts, with a vine.
    Third,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum On {
    /// A promise of the receiver's.
    Promise,
    /// Its object.
    Object,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A Call.
    Call(Label, On),
    /// A Resolve of the sender's promise.
    Resolve(Names),
    /// A Provide, for the third of the vats.
    Provide,
    /// An Accept, which names an embargo or none.
    Accept(bool),
    /// A Disembargo with `accept`, of a vine.
    LiftAtVine,
    /// The same, of what the sender has provided.
    LiftAtHost,
    /// The Return of an Accept.
    Given(Names),
    /// A Disembargo with `senderLoopback` of Bob's promise.
    Disembargo,
    /// The same, on its way back.
    Returned,
}

/// What Carol knows of the capability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Knows {
    /// A promise of a vat, through which something was sent or not.
    Promise { of: Vat, called: bool },
    /// What this vat hosts, as another one says. Nobody has asked for it.
    Introduced { by: Vat, host: Vat, called: bool },
    /// The host was asked, and calls wait.
    Asked { host: Vat, calls: Vec<Label> },
    /// Her own object, for which calls wait.
    Embargoed(Vec<Label>),
    /// An object of this vat.
    Object(Vat),
}

/// What somebody has provided at a host, and whether Carol has come for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Meeting {
    provided: bool,
    lifted: bool,
    /// Whether the Accept has named an embargo.
    came: Option<bool>,
    given: bool,
}

/// What becomes of a promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Promise {
    /// Calls wait.
    Open(Vec<Label>),
    /// Alice's is Bob's. Bob's is an object of this vat.
    Is(Vat),
}

/// All vats and what is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    alices: Promise,
    bobs: Promise,
    /// Whether Bob has given his promise to Carol.
    promised: bool,
    /// What Alice has heard of Bob's promise.
    alice_knows: Option<Vat>,
    carol: Knows,
    made: u8,
    /// What was sent from one vat to another.
    sent: [[VecDeque<Message>; 3]; 3],
    /// By the host: Bob's, or Alice's.
    meetings: [Meeting; 2],
    seen: Vec<Label>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Carol calls what she was given.
    Call,
    /// Alice's promise becomes Bob's.
    HandOff,
    /// Bob's promise becomes an object of this vat.
    Resolve(Vat),
    /// The oldest message from one vat to another arrives.
    Deliver(Vat, Vat),
}

/// The introducer to a host.
fn introducer(host: Vat) -> Vat {
    if host == BOB { ALICE } else { BOB }
}

/// What Bob tells a vat of an object.
fn named(to: Vat, object: Vat) -> Names {
    match object {
        BOB => Names::Own,
        object if object == to => Names::Yours,
        _ => Names::Third,
    }
}

impl State {
    /// The oldest message from one vat to another.
    pub fn oldest(&self, from: Vat, to: Vat) -> Option<Message> {
        self.sent[from][to].front().copied()
    }

    /// The calls that the object has seen which Bob's promise has become.
    pub fn seen(&self) -> &[Label] {
        &self.seen
    }

    /// How many calls Carol has made.
    pub fn made(&self) -> u8 {
        self.made
    }

    fn send(&mut self, from: Vat, to: Vat, message: Message) {
        self.sent[from][to].push_back(message);
    }

    /// A vat calls an object.
    fn call_object(&mut self, from: Vat, of: Vat, label: Label) {
        if from == of {
            self.seen.push(label);
        } else {
            self.send(from, of, Message::Call(label, On::Object));
        }
    }

    /// A call on Alice's promise has come to her.
    fn call_alices(&mut self, label: Label, fault: Fault) {
        match (&mut self.alices, self.alice_knows) {
            (Promise::Open(calls), _) => calls.push(label),
            (Promise::Is(_), Some(object)) if fault == Fault::ShorterPath => {
                self.call_object(ALICE, object, label);
            }
            (Promise::Is(_), _) => self.send(ALICE, BOB, Message::Call(label, On::Promise)),
        }
    }

    /// A call on Bob's promise has come to him.
    fn call_bobs(&mut self, label: Label) {
        match &mut self.bobs {
            Promise::Open(calls) => calls.push(label),
            Promise::Is(object) => {
                let object = *object;
                self.call_object(BOB, object, label);
            }
        }
    }

    /// Carol calls what she has.
    fn call(&mut self, label: Label, fault: Fault) {
        match &mut self.carol {
            Knows::Promise { of, called } => {
                *called = true;
                let of = *of;
                self.send(CAROL, of, Message::Call(label, On::Promise));
            }
            Knows::Introduced { by, host, called } => {
                let (by, host, embargo) = (*by, *host, *called && fault != Fault::NoEmbargo);
                self.send(CAROL, host, Message::Accept(embargo));
                if embargo {
                    self.send(CAROL, by, Message::LiftAtVine);
                }
                self.carol = Knows::Asked { host, calls: vec![label] };
            }
            Knows::Asked { calls, .. } | Knows::Embargoed(calls) => calls.push(label),
            Knows::Object(of) => {
                let of = *of;
                self.call_object(CAROL, of, label);
            }
        }
    }

    /// Bob names an object to a vat, and introduces the vat to its host if that is a third one.
    fn bob_names(&mut self, to: Vat, object: Vat, message: impl FnOnce(Names) -> Message) {
        let names = named(to, object);
        self.send(BOB, to, message(names));
        if names == Names::Third {
            self.send(BOB, object, Message::Provide);
        }
    }

    fn resolve(&mut self, object: Vat) {
        let before = std::mem::replace(&mut self.bobs, Promise::Is(object));
        if let Promise::Open(calls) = before {
            calls.into_iter().for_each(|label| self.call_bobs(label));
        }
        let told: &[Vat] = if self.promised { &[ALICE, CAROL] } else { &[ALICE] };
        for vat in told {
            self.bob_names(*vat, object, Message::Resolve);
        }
    }

    /// A host answers Carol, if she has come for something that is here.
    fn meet(&mut self, host: Vat) {
        let meeting = &mut self.meetings[host];
        let may_have_it = meeting.came.is_some_and(|embargo| !embargo || meeting.lifted);
        if !meeting.provided || !may_have_it || meeting.given {
            return;
        }
        meeting.given = true;
        match (host, &self.bobs) {
            (BOB, Promise::Open(_)) => {
                self.promised = true;
                self.send(BOB, CAROL, Message::Given(Names::Promise));
            }
            (BOB, Promise::Is(object)) => {
                let object = *object;
                self.bob_names(CAROL, object, Message::Given);
            }
            _ => self.send(host, CAROL, Message::Given(Names::Own)),
        }
    }

    /// Carol learns from a vat what she has, through which she has called or not.
    fn learn(&mut self, from: Vat, names: Names, called: bool) {
        self.carol = match names {
            Names::Promise => Knows::Promise { of: from, called: false },
            Names::Own => Knows::Object(from),
            Names::Yours if called => {
                self.send(CAROL, from, Message::Disembargo);
                Knows::Embargoed(Vec::new())
            }
            Names::Yours => Knows::Object(CAROL),
            Names::Third => {
                let host = if from == ALICE { BOB } else { ALICE };
                Knows::Introduced { by: from, host, called }
            }
        };
    }

    fn receive(&mut self, from: Vat, to: Vat, message: Message, fault: Fault) {
        match message {
            Message::Call(label, On::Object) => self.seen.push(label),
            Message::Call(label, On::Promise) if to == ALICE => self.call_alices(label, fault),
            Message::Call(label, On::Promise) => self.call_bobs(label),
            Message::Resolve(_) if to == ALICE => {
                if let Promise::Is(object) = self.bobs {
                    self.alice_knows = Some(object);
                }
            }
            Message::Resolve(names) => {
                let called = matches!(self.carol, Knows::Promise { called: true, .. });
                self.learn(from, names, called);
            }
            // What Bob provides at Carol's is for Alice, who does not come.
            Message::Provide if to == CAROL => {}
            Message::Provide => {
                self.meetings[to].provided = true;
                self.meet(to);
            }
            Message::Accept(embargo) => {
                self.meetings[to].came = Some(embargo);
                self.meet(to);
            }
            Message::LiftAtVine if fault == Fault::NoDisembargo => {}
            Message::LiftAtVine => {
                let host = if introducer(BOB) == to { BOB } else { ALICE };
                self.send(to, host, Message::LiftAtHost);
            }
            Message::LiftAtHost => {
                self.meetings[to].lifted = true;
                self.meet(to);
            }
            Message::Given(names) => {
                let before = self.carol.clone();
                self.learn(from, names, false);
                if let Knows::Asked { calls, .. } = before {
                    calls.into_iter().for_each(|label| self.call(label, fault));
                }
            }
            Message::Disembargo => self.send(to, from, Message::Returned),
            Message::Returned => {
                let before = std::mem::replace(&mut self.carol, Knows::Object(CAROL));
                if let Knows::Embargoed(calls) = before {
                    self.seen.extend(calls);
                }
            }
        }
    }
}

impl Protocol for Promised {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State {
            alices: Promise::Open(Vec::new()),
            bobs: Promise::Open(Vec::new()),
            promised: false,
            alice_knows: None,
            carol: Knows::Promise { of: ALICE, called: false },
            made: 0,
            sent: Default::default(),
            meetings: Default::default(),
            seen: Vec::new(),
        }
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        for (from, sent) in state.sent.iter().enumerate() {
            let busy = sent.iter().enumerate().filter(|(_, sent)| !sent.is_empty());
            actions.extend(busy.map(|(to, _)| Action::Deliver(from, to)));
        }
        if state.made < self.calls {
            actions.push(Action::Call);
        }
        match (&state.alices, &state.bobs) {
            (Promise::Open(_), _) => actions.push(Action::HandOff),
            // Otherwise it would not be a promise that is handed off.
            (Promise::Is(_), Promise::Open(_)) => {
                actions.extend([BOB, ALICE, CAROL].map(Action::Resolve));
            }
            (Promise::Is(_), Promise::Is(_)) => {}
        }
        actions
    }

    fn next(&self, state: &State, action: Action) -> State {
        let mut state = state.clone();
        match action {
            Action::Call => {
                state.made += 1;
                state.call(Label { caller: 2, number: state.made }, self.fault);
            }
            Action::HandOff => {
                let before = std::mem::replace(&mut state.alices, Promise::Is(BOB));
                if let Promise::Open(calls) = before {
                    calls.into_iter().for_each(|label| state.call_alices(label, self.fault));
                }
                state.send(ALICE, CAROL, Message::Resolve(Names::Third));
                state.send(ALICE, BOB, Message::Provide);
            }
            Action::Resolve(object) => state.resolve(object),
            Action::Deliver(from, to) => {
                if let Some(message) = state.sent[from][to].pop_front() {
                    state.receive(from, to, message, self.fault);
                }
            }
        }
        state
    }

    fn wrong(&self, state: &State) -> Option<String> {
        if !in_order(&state.seen) {
            return Some("calls arrived in another order".to_owned());
        }
        let is_over = self.actions(state).is_empty();
        if is_over && state.seen.len() != usize::from(state.made) {
            return Some(format!("{} of {} calls have arrived", state.seen.len(), state.made));
        }
        if is_over && matches!(state.carol, Knows::Asked { .. } | Knows::Embargoed(_)) {
            return Some("Carol still waits".to_owned());
        }
        None
    }
}
