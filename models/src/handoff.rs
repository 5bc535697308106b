//! A promise that becomes an object of another vat, and is handed off from vat to vat.
//!
//! Bob hosts an object. Alice has it, and has given Carol a promise; Carol has given that to
//! Dave. Alice's promise becomes Bob's object. So Alice introduces Carol to Bob: she provides
//! the object to him for Carol, and tells Carol where to go, together with a vine. Carol asks
//! Bob for the object. If she has called the promise before, her Accept names an embargo, and
//! a Disembargo follows her earlier calls to Alice and from her to Bob, who answers when both
//! have come. Then Carol's promise has become Bob's object, and she introduces Dave in the same
//! way.
//!
//! ```text
//!  Dave ──► Carol ──► Alice ──► Bob        before
//!  Dave ──► Bob ◄── Carol                  afterwards
//! ```
//!
//! The messages that only tidy up are left out, as in [`resolution`](crate::resolution).

use std::collections::VecDeque;

use crate::{Label, Protocol, in_order};

/// A vat: Bob, Alice, Carol or Dave.
pub type Vat = usize;

/// Hosts the object.
pub const BOB: Vat = 0;
/// Has it, and has promised it to Carol.
pub const ALICE: Vat = 1;
/// Has given Alice's promise to Dave.
pub const CAROL: Vat = 2;
/// Has Carol's promise.
pub const DAVE: Vat = 3;

/// How many calls are made at most.
#[derive(Clone, Copy, Debug)]
pub struct Handoff {
    /// Of each vat; Bob and Alice make none.
    pub calls: [u8; 4],
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
    /// The introducer does not pass the Disembargo on.
    NoDisembargo,
    /// Calls do not wait for the answer to the Accept.
    NoWait,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A Call: of the object at Bob's, of the sender's import elsewhere.
    Call(Label),
    /// A Resolve of the sender's promise to a capability of a third vat, Bob.
    Resolve,
    /// A Provide of the object, for the vat that comes after the sender.
    Provide,
    /// An Accept, which names an embargo or none.
    Accept(bool),
    /// A Disembargo with `accept`, of a vine.
    LiftAtVine,
    /// The same, of what the sender has provided.
    LiftAtHost,
    /// The Return of an Accept, with the object.
    Given,
}

/// What one of those that are not the host knows of the capability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Knows {
    /// A promise of the vat in front of it, through which something was sent or not.
    Promise { called: bool },
    /// It has asked the host, and calls wait.
    Asked(Vec<Label>),
    /// The host's object.
    Object,
}

/// What somebody has provided at the host, and who has come for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Meeting {
    provided: bool,
    lifted: bool,
    /// Whether the Accept has named an embargo.
    came: Option<bool>,
    given: bool,
}

/// All vats and what is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Calls that wait in Alice's promise, until that has resolved.
    promise: Option<Vec<Label>>,
    /// What Carol and Dave know; those in front of them know the object.
    knows: [Knows; 2],
    made: [u8; 4],
    /// What was sent from one vat to another.
    sent: [[VecDeque<Message>; 4]; 4],
    /// By who has come.
    meetings: [Meeting; 2],
    seen: Vec<Label>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A vat calls what it was given.
    Call(Vat),
    /// Alice's promise becomes Bob's object.
    Resolve,
    /// The oldest message from one vat to another arrives.
    Deliver(Vat, Vat),
}

impl State {
    /// The oldest message from one vat to another.
    pub fn oldest(&self, from: Vat, to: Vat) -> Option<Message> {
        self.sent[from][to].front().copied()
    }

    /// The calls that the object has seen.
    pub fn seen(&self) -> &[Label] {
        &self.seen
    }

    /// How many calls a vat has made.
    pub fn made(&self, vat: Vat) -> u8 {
        self.made[vat]
    }

    /// Whether a vat calls the host without a detour.
    pub fn is_handed_off(&self, vat: Vat) -> bool {
        matches!(self.knows[vat - CAROL], Knows::Object)
    }

    fn send(&mut self, from: Vat, to: Vat, message: Message) {
        self.sent[from][to].push_back(message);
    }

    /// A vat calls what it has, or passes a call on to that.
    fn call(&mut self, vat: Vat, label: Label) {
        if vat == ALICE {
            match &mut self.promise {
                Some(queue) => queue.push(label),
                None => self.send(ALICE, BOB, Message::Call(label)),
            }
            return;
        }
        match &mut self.knows[vat - CAROL] {
            Knows::Promise { called } => {
                *called = true;
                self.send(vat, vat - 1, Message::Call(label));
            }
            Knows::Asked(queue) => queue.push(label),
            Knows::Object => self.send(vat, BOB, Message::Call(label)),
        }
    }

    /// A vat introduces the next one to Bob.
    fn introduce(&mut self, vat: Vat) {
        if vat < DAVE {
            self.send(vat, vat + 1, Message::Resolve);
            self.send(vat, BOB, Message::Provide);
        }
    }

    /// Bob answers whoever has come for something that is here.
    fn meet(&mut self, guest: Vat) {
        let meeting = &mut self.meetings[guest - CAROL];
        let may_have_it = meeting.came.is_some_and(|embargo| !embargo || meeting.lifted);
        if meeting.provided && may_have_it && !meeting.given {
            meeting.given = true;
            self.send(BOB, guest, Message::Given);
        }
    }

    fn receive(&mut self, from: Vat, to: Vat, message: Message, fault: Fault) {
        match message {
            Message::Call(label) if to == BOB => self.seen.push(label),
            Message::Call(label) => self.call(to, label),
            Message::Resolve => {
                let queue = Knows::Asked(Vec::new());
                let before = std::mem::replace(&mut self.knows[to - CAROL], queue);
                let called = matches!(before, Knows::Promise { called: true });
                let embargo = called && fault != Fault::NoEmbargo;
                self.send(to, BOB, Message::Accept(embargo));
                if embargo {
                    self.send(to, from, Message::LiftAtVine);
                }
                if fault == Fault::NoWait {
                    self.knows[to - CAROL] = Knows::Object;
                }
            }
            Message::LiftAtVine if fault == Fault::NoDisembargo => {}
            Message::LiftAtVine => self.send(to, BOB, Message::LiftAtHost),
            Message::Provide => {
                self.meetings[from + 1 - CAROL].provided = true;
                self.meet(from + 1);
            }
            Message::LiftAtHost => {
                self.meetings[from + 1 - CAROL].lifted = true;
                self.meet(from + 1);
            }
            Message::Accept(embargo) => {
                self.meetings[from - CAROL].came = Some(embargo);
                self.meet(from);
            }
            Message::Given => {
                let before = std::mem::replace(&mut self.knows[to - CAROL], Knows::Object);
                if let Knows::Asked(queue) = before {
                    queue.into_iter().for_each(|label| self.call(to, label));
                }
                self.introduce(to);
            }
        }
    }
}

impl Protocol for Handoff {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State {
            promise: Some(Vec::new()),
            knows: [Knows::Promise { called: false }, Knows::Promise { called: false }],
            made: [0; 4],
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
        let may_call = |vat: &Vat| state.made[*vat] < self.calls[*vat];
        actions.extend([CAROL, DAVE].into_iter().filter(may_call).map(Action::Call));
        if state.promise.is_some() {
            actions.push(Action::Resolve);
        }
        actions
    }

    fn next(&self, state: &State, action: Action) -> State {
        let mut state = state.clone();
        match action {
            Action::Call(vat) => {
                state.made[vat] += 1;
                let caller = if vat == DAVE { 3 } else { 2 };
                state.call(vat, Label { caller, number: state.made[vat] });
            }
            Action::Resolve => {
                let queue = state.promise.take().unwrap_or_default();
                queue.into_iter().for_each(|label| state.call(ALICE, label));
                state.introduce(ALICE);
            }
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
        let made: u8 = state.made.iter().sum();
        if is_over && state.seen.len() != usize::from(made) {
            return Some(format!("{} of {made} calls have arrived", state.seen.len()));
        }
        if is_over && !(state.is_handed_off(CAROL) && state.is_handed_off(DAVE)) {
            return Some("a vat still waits, or takes a detour".to_owned());
        }
        None
    }
}
