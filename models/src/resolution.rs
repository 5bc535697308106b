//! Two vats, each with an object and a promise that the other one has.
//!
//! A promise may become the object of its own vat, the object of the other vat or, in one of
//! the vats, the other one's promise. Both vats call the other one's promise, before and
//! after it has resolved. `rpc.capnp` says of a Resolve to something of the receiver's:
//! calls that were sent through the promise may still be on their way, so calls that are
//! made now wait for a Disembargo that follows those.
//!
//! The messages that only tidy up, Return, Finish and Release, change nothing about where
//! calls go, and are left out.

use std::collections::VecDeque;

use crate::{Label, Protocol, in_order};

/// How many calls each vat makes at most.
#[derive(Clone, Copy, Debug)]
pub struct Resolution {
    /// Of each vat.
    pub calls: [u8; 2],
    /// What is wrong with the protocol, to see that it is noticed.
    pub fault: Fault,
}

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None.
    None,
    /// Nobody waits for a Disembargo.
    NoEmbargo,
    /// A Disembargo that comes back overtakes what was sent before it.
    EchoOvertakes,
    /// What was described as a promise of the peer's is taken for what this has become.
    ShorterPath,
}

/// One of the two.
pub type Vat = usize;

/// What a call or a Disembargo goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The object of the vat that receives this.
    Object,
    /// Its promise.
    Promise,
}

/// What a promise is said to have become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Becomes {
    /// The object of the vat whose promise it is: `senderHosted`.
    Own,
    /// Something of the other vat: `receiverHosted`.
    Theirs(Target),
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A Call.
    Call(Target, Label),
    /// A Resolve of the sender's promise.
    Resolve(Becomes),
    /// A Disembargo with `senderLoopback`, for the receiver's promise.
    Disembargo,
    /// A Disembargo with `receiverLoopback`.
    Returned(Target),
}

/// Where something is passed on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// The object of this vat.
    Object,
    /// The promise of this vat.
    Promise,
    /// The object of the other one.
    Theirs,
    /// The promise of the other one, or what it has become.
    TheirPromise,
    /// The promise of the other one, whatever it has become: that is what the other vat was
    /// told.
    Described,
    /// What waits for the Disembargo of this vat.
    Embargo,
}

/// What is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Delivery {
    Call(Label),
    /// A Disembargo that has to be returned.
    Echo,
}

/// A promise of a vat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Own {
    Pending(Vec<Delivery>),
    Resolved(Place),
}

/// Calls that wait for a Disembargo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Embargo {
    None,
    Waiting(Vec<Delivery>, Place),
    Lifted(Place),
}

/// One vat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Side {
    own: Own,
    /// What the peer was told that this vat's promise is, if it was told.
    described: Option<Place>,
    /// Whether anything was sent through the peer's promise, or the peer was told to.
    called: bool,
    /// What the peer's promise has become.
    theirs: Option<Place>,
    embargo: Embargo,
    sent: VecDeque<Message>,
    seen: Vec<Label>,
    made: u8,
    /// A Disembargo has come to an object, to which none leads.
    lost: bool,
}

/// Both vats and what is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State([Side; 2]);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A vat calls the other one's promise.
    Call(Vat),
    /// The promise of a vat resolves.
    Resolve(Vat, Becomes),
    /// The oldest message that a vat has sent arrives.
    Deliver(Vat),
}

impl State {
    /// The oldest message that a vat has sent.
    pub fn oldest(&self, from: Vat) -> Option<Message> {
        self.0[from].sent.front().copied()
    }

    /// The calls that the object of a vat has seen.
    pub fn seen(&self, vat: Vat) -> &[Label] {
        &self.0[vat].seen
    }

    /// How many calls a vat has made.
    pub fn made(&self, vat: Vat) -> u8 {
        self.0[vat].made
    }

    /// Whether calls of a vat wait for a Disembargo although their path leads back to the
    /// other vat: both promises have resolved at the same time.
    pub fn is_four_way_race(&self) -> bool {
        self.0.iter().any(|side| {
            let leads_back = |place: &Place| match place {
                Place::Theirs | Place::TheirPromise | Place::Described => true,
                Place::Promise => matches!(side.own, Own::Resolved(Place::Theirs)),
                Place::Object | Place::Embargo => false,
            };
            matches!(&side.embargo, Embargo::Waiting(_, place) if leads_back(place))
        })
    }
}

impl Side {
    fn new() -> Self {
        Side {
            own: Own::Pending(Vec::new()),
            described: None,
            called: false,
            theirs: None,
            embargo: Embargo::None,
            sent: VecDeque::new(),
            seen: Vec::new(),
            made: 0,
            lost: false,
        }
    }

    fn send(&mut self, target: Target, delivery: Delivery) {
        self.called |= target == Target::Promise;
        self.sent.push_back(match delivery {
            Delivery::Call(label) => Message::Call(target, label),
            Delivery::Echo => Message::Returned(target),
        });
    }

    fn deliver(&mut self, place: Place, delivery: Delivery) {
        match (place, delivery) {
            (Place::Object, Delivery::Call(label)) => self.seen.push(label),
            (Place::Object, Delivery::Echo) => self.lost = true,
            (Place::Theirs, _) => self.send(Target::Object, delivery),
            (Place::Described, _) => self.send(Target::Promise, delivery),
            (Place::TheirPromise, _) => match self.theirs {
                Some(place) => self.deliver(place, delivery),
                None => self.send(Target::Promise, delivery),
            },
            (Place::Promise, _) => match &mut self.own {
                Own::Pending(queue) => queue.push(delivery),
                Own::Resolved(place) => {
                    let place = *place;
                    self.deliver(place, delivery);
                }
            },
            (Place::Embargo, _) => match &mut self.embargo {
                Embargo::Waiting(queue, _) => queue.push(delivery),
                Embargo::Lifted(place) => {
                    let place = *place;
                    self.deliver(place, delivery);
                }
                Embargo::None => self.lost = true,
            },
        }
    }

    /// What is at the end of a place, as far as this vat knows.
    fn end(&self, place: Place) -> Place {
        match place {
            Place::TheirPromise => self.theirs.map_or(place, |next| self.end(next)),
            Place::Promise => match self.own {
                Own::Resolved(next) => self.end(next),
                Own::Pending(_) => place,
            },
            Place::Embargo => match self.embargo {
                Embargo::Lifted(next) => self.end(next),
                Embargo::Waiting(..) | Embargo::None => place,
            },
            Place::Object | Place::Theirs | Place::Described => place,
        }
    }

    /// Tells the peer what this vat's promise has become, unless that is not known: while
    /// it leads to something that this vat waits for itself, a Resolve would tell nothing.
    fn tell(&mut self) {
        if self.described.is_some() || matches!(self.own, Own::Pending(_)) {
            return;
        }
        let (becomes, described) = match self.end(Place::Promise) {
            Place::Object => (Becomes::Own, Place::Object),
            Place::Theirs => (Becomes::Theirs(Target::Object), Place::Theirs),
            Place::TheirPromise | Place::Described => {
                // What the peer sends to its own promise comes here on the way there, so
                // naming the promise counts as a call of it.
                self.called = true;
                (Becomes::Theirs(Target::Promise), Place::Described)
            }
            Place::Promise | Place::Embargo => return,
        };
        self.sent.push_back(Message::Resolve(becomes));
        self.described = Some(described);
    }

    fn receive(&mut self, message: Message, fault: Fault) {
        let described = match (self.described, fault) {
            (Some(Place::Described), Fault::ShorterPath) => Some(Place::TheirPromise),
            (described, _) => described,
        };
        let own = described.unwrap_or(Place::Promise);
        match message {
            Message::Call(Target::Object, label) => {
                self.deliver(Place::Object, Delivery::Call(label));
            }
            Message::Call(Target::Promise, label) => self.deliver(own, Delivery::Call(label)),
            Message::Disembargo if fault == Fault::EchoOvertakes => {
                self.sent.push_front(Message::Returned(Target::Object));
            }
            Message::Disembargo => self.deliver(own, Delivery::Echo),
            Message::Resolve(Becomes::Own) => self.theirs = Some(Place::Theirs),
            Message::Resolve(Becomes::Theirs(target)) => {
                let place = match target {
                    Target::Object => Place::Object,
                    Target::Promise => own,
                };
                self.theirs = Some(if self.called && fault != Fault::NoEmbargo {
                    self.embargo = Embargo::Waiting(Vec::new(), place);
                    self.sent.push_back(Message::Disembargo);
                    Place::Embargo
                } else {
                    place
                });
            }
            Message::Returned(_) => match std::mem::replace(&mut self.embargo, Embargo::None) {
                Embargo::Waiting(queue, place) => {
                    for delivery in queue {
                        self.deliver(place, delivery);
                    }
                    self.embargo = Embargo::Lifted(place);
                }
                Embargo::None | Embargo::Lifted(_) => self.lost = true,
            },
        }
        // What has been learnt may be what this vat's promise has become.
        self.tell();
    }

    fn resolve(&mut self, becomes: Becomes) {
        let place = match becomes {
            Becomes::Own => Place::Object,
            Becomes::Theirs(Target::Object) => Place::Theirs,
            Becomes::Theirs(Target::Promise) => Place::TheirPromise,
        };
        if let Own::Pending(queue) = std::mem::replace(&mut self.own, Own::Resolved(place)) {
            for delivery in queue {
                self.deliver(place, delivery);
            }
        }
        self.tell();
    }
}

/// What the promises may become. That of the first vat never becomes the other one's, or
/// both could become each other, which is an error of its own.
const BECOMES: [&[Becomes]; 2] = [
    &[Becomes::Own, Becomes::Theirs(Target::Object)],
    &[Becomes::Own, Becomes::Theirs(Target::Object), Becomes::Theirs(Target::Promise)],
];

impl Protocol for Resolution {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State([Side::new(), Side::new()])
    }

    fn actions(&self, State(sides): &State) -> Vec<Action> {
        let mut actions = Vec::new();
        for (vat, side) in sides.iter().enumerate() {
            if !side.sent.is_empty() {
                actions.push(Action::Deliver(vat));
            }
            if side.made < self.calls[vat] {
                actions.push(Action::Call(vat));
            }
            if matches!(side.own, Own::Pending(_)) {
                actions.extend(BECOMES[vat].iter().map(|becomes| Action::Resolve(vat, *becomes)));
            }
        }
        actions
    }

    fn next(&self, state: &State, action: Action) -> State {
        let State(mut sides) = state.clone();
        match action {
            Action::Call(vat) => {
                let side = &mut sides[vat];
                side.made += 1;
                let label = Label { caller: u8::from(vat == 1), number: side.made };
                side.deliver(Place::TheirPromise, Delivery::Call(label));
            }
            Action::Resolve(vat, becomes) => sides[vat].resolve(becomes),
            Action::Deliver(from) => {
                if let Some(message) = sides[from].sent.pop_front() {
                    sides[1 - from].receive(message, self.fault);
                }
            }
        }
        State(sides)
    }

    fn wrong(&self, state: &State) -> Option<String> {
        let State(sides) = state;
        if sides.iter().any(|side| side.lost) {
            return Some("a Disembargo leads nowhere".to_owned());
        }
        if !sides.iter().all(|side| in_order(&side.seen)) {
            return Some("calls arrived in another order".to_owned());
        }
        let is_over = self.actions(state).is_empty();
        let seen: usize = sides.iter().map(|side| side.seen.len()).sum();
        let made: u8 = sides.iter().map(|side| side.made).sum();
        if is_over && seen != usize::from(made) {
            return Some(format!("{seen} of {made} calls have arrived"));
        }
        let waits = |side: &Side| matches!(side.embargo, Embargo::Waiting(..));
        if is_over && (sides.iter().any(waits) || sides.iter().any(|side| side.described.is_none()))
        {
            return Some("a vat waits for ever".to_owned());
        }
        None
    }
}
