//! Where the introduced meet: what introducers have provided, and who has come for it.
//!
//! # State model
//!
//! Of a key, which the network makes of the tokens of both sides:
//!
//! ```text
//! Expected ──Provide──► Here ──Finish, or introducer lost──► Gone ──many others gone──► no entry
//!   │ ▲                   ▲ └──a key of one use shown──► Fetched ──Finish, or lost──► Gone
//!   │ │ Accept            │ Provide
//!   │ └────── no entry ───┘
//!   │            └──refused: too much is provided──► Gone
//!   └──refused──► Gone
//! ```
//!
//! - **Expected**: somebody has come for what is not here yet, and waits.
//! - **Here**: it was provided. Whoever comes gets it; who names an embargo waits until that
//!   is lifted. An embargo may be lifted before anybody names it.
//! - **Fetched**: somebody has got it whose key was good for one use. Nobody else gets it. Of
//!   those who show such a key, one at most waits at a time.
//! - **Gone**: it was taken back, or never kept. Whoever waits, or comes, is told so. The last
//!   of these keys are remembered, because an Accept may have been overtaken by that. Of the
//!   others, nothing is known, and the network's patience ends the wait.
//!
//! There is one of these for each vat in a network. The lock is a leaf. What an operation
//! leaves to be done is returned, and done without it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use crate::budget::{Charge, Place};
use crate::cap::call::{CallCell, Queue, Queued};
use crate::cap::client::Client;
use crate::cap::delivery::{Route, cancelled};
use crate::cap::effects::{self, Effect};
use crate::cap::payload::{Outcome, Payload};
use crate::error::Error;
use crate::sync::Mutex;
use crate::transport::introductions::Uses;
use crate::wire::{AcceptEmbargo, Path};
use crate::work::room::Room;

/// What the Provide and the Accept for one capability have in common. It must name
/// introducer and recipient as the network knows them, unless it holds a secret.
pub(crate) type Key = Box<[u8]>;

/// Number of keys that are remembered after what was provided is gone.
const REMEMBERED: usize = 1024;

/// Number of embargoes of one provision that are remembered if they are lifted before anybody
/// names them.
const MAX_LIFTED: usize = 256;

/// What somebody shows who comes for a capability.
pub(crate) struct Shown {
    pub(crate) key: Key,
    /// The room of the connection to the introducer, if it is known who that is. Nothing more
    /// can be expected when that connection has ended.
    pub(crate) introducer: Option<Weak<Room>>,
    pub(crate) uses: Uses,
}

/// The table of all keys.
#[derive(Default)]
pub(crate) struct Meetings {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    meetings: HashMap<Key, Meeting>,
    /// The keys that are Gone, the last one at the end.
    gone: VecDeque<Key>,
    /// The key for which somebody waits at a place.
    places: HashMap<u64, Key>,
    /// What was begun to be provided and not taken back: the key, once it is offered.
    provisions: HashMap<Provision, Option<Key>>,
    /// The number of places and provisions that there have been.
    numbered: u64,
}

#[derive(Default)]
struct Meeting {
    offer: Offer,
    /// Those who wait, by their places.
    guests: BTreeMap<u64, Waiting>,
    /// The places of those who have named an embargo.
    named: HashMap<AcceptEmbargo, u64>,
}

#[derive(Default)]
enum Offer {
    #[default]
    Expected,
    Here {
        cap: Client,
        /// Embargoes that were lifted and not named yet, and what is found behind them.
        lifted: HashMap<AcceptEmbargo, (Client, Charge)>,
    },
    /// Somebody has got it whose key was good for one use.
    Fetched,
    Gone(Why),
}

/// Why nothing is left of what was provided.
#[derive(Clone, Copy)]
enum Why {
    TakenBack,
    /// The introducer provides too much.
    NotKept,
}

impl Why {
    fn error(self) -> Error {
        match self {
            Why::TakenBack => gone(),
            Why::NotKept => Error::overloaded(
                "the vat that introduced this capability provides too many (Limits::provisions)",
            ),
        }
    }
}

/// Somebody who has come.
struct Waiting {
    /// The call that is answered with the capability.
    cell: Arc<CallCell>,
    embargo: Option<AcceptEmbargo>,
    /// The room of the connection to the introducer, which tells when that has ended.
    introducer: Option<Weak<Room>>,
    uses: Uses,
    _place: Place,
}

/// One Provide, in the table of its connection and here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Provision(u64);

/// An entry in the table of what the peer of a connection, an introducer, has provided: from
/// the Provide to its Finish, or the end of the connection.
pub(crate) struct Provided {
    /// `None` if too much was provided already: the entry only tells that the introducer may
    /// still name it.
    pub(crate) kept: Option<Kept>,
    /// What the entry costs the peer.
    pub(crate) charge: Charge,
}

/// What of an introducer's Provide is kept.
pub(crate) struct Kept {
    pub(crate) provision: Provision,
    /// The path of what the introducer sends to what it has provided, now and later.
    pub(crate) way: Way,
    pub(crate) _place: Place,
}

impl Provided {
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }
}

/// The path to a place of this side that must not be kept alive.
#[derive(Clone)]
pub(crate) enum Way {
    Client(Client),
    /// A field of an answer, until the peer finishes that.
    Field(Weak<CallCell>, Path),
}

/// An embargo that an introducer lifts behind the calls that it has passed on.
pub(crate) struct Lifted {
    pub(crate) provision: Provision,
    pub(crate) embargo: AcceptEmbargo,
    /// The path that these calls have taken; `None` if they went to what was provided.
    pub(crate) way: Option<Route>,
    /// What remembering it costs the introducer.
    pub(crate) charge: Charge,
}

/// Calls that are over, to be settled without a lock.
#[must_use]
pub(crate) struct Settled(Vec<(Arc<CallCell>, Outcome)>);

impl Settled {
    fn nothing() -> Self {
        Settled(Vec::new())
    }

    /// Must not be called under a lock.
    pub(crate) fn tell(self) {
        for (cell, outcome) in self.0 {
            cell.left_queue();
            cell.complete(outcome);
        }
    }
}

fn found(cap: &Client) -> Payload {
    Payload::of_capability(cap.clone())
}

fn fetched() -> Error {
    Error::failed("this capability was fetched before, or somebody else waits for it")
}

fn crowded() -> Error {
    Error::overloaded("too many of your Accepts wait here (Limits::accepts)")
}

fn gone() -> Error {
    Error::disconnected("the vat that introduced this capability has taken it back, or is gone")
}

impl Meetings {
    /// Begins to provide something.
    pub(crate) fn begin(&self) -> Provision {
        let mut state = self.state.lock();
        let provision = Provision(state.number());
        state.provisions.insert(provision, None);
        provision
    }

    /// Offers what is provided to whoever has this key, unless it was taken back already.
    ///
    /// # Errors
    /// Something was provided for this key before.
    pub(crate) fn offer(
        &self,
        provision: Provision,
        key: Key,
        cap: Client,
    ) -> Result<Settled, Error> {
        let mut state = self.state.lock();
        if state.provisions.get(&provision) != Some(&None) {
            return Ok(Settled::nothing());
        }
        let meeting = state.meetings.entry(key.clone()).or_default();
        if !matches!(meeting.offer, Offer::Expected) {
            return Err(Error::failed("something was provided for this recipient before"));
        }
        meeting.offer = Offer::Here { cap: cap.clone(), lifted: HashMap::new() };
        let ready = meeting.guests.iter().filter(|(_, guests)| guests.embargo.is_none());
        let ready: Vec<u64> = ready.map(|(place, _)| *place).collect();
        state.provisions.insert(provision, Some(key));
        Ok(state.take(ready.into_iter(), || Ok(found(&cap))))
    }

    /// Takes back what was provided. Whoever waits for the end of an embargo is told so.
    pub(crate) fn take_back(&self, provision: Provision) -> Settled {
        let mut state = self.state.lock();
        let Some(Some(key)) = state.provisions.remove(&provision) else {
            return Settled::nothing();
        };
        let (before, settled) = state.end(key, Why::TakenBack);
        drop(state);
        drop(before);
        settled
    }

    /// What is provided for this key is not kept: whoever waits, or comes, is told so.
    pub(crate) fn refuse(&self, key: Key) -> Settled {
        let mut state = self.state.lock();
        let meeting = state.meetings.get(&key);
        if meeting.is_some_and(|meeting| !matches!(meeting.offer, Offer::Expected)) {
            return Settled::nothing();
        }
        // Nothing was here that could be dropped.
        let (_, settled) = state.end(key, Why::NotKept);
        settled
    }

    /// Lifts an embargo of what was provided. It gives way to `way`, or to what was
    /// provided. One that nobody has named, and that is one too many, is forgotten.
    pub(crate) fn lift(&self, lifted: Lifted, way: Option<Client>) -> Settled {
        let Lifted { provision, embargo, charge, .. } = lifted;
        let mut state = self.state.lock();
        let Some(Some(key)) = state.provisions.get(&provision).cloned() else {
            return Settled::nothing();
        };
        let Some(Meeting { offer: Offer::Here { cap, lifted }, named, .. }) =
            state.meetings.get_mut(&key)
        else {
            return Settled::nothing();
        };
        let cap = way.unwrap_or_else(|| cap.clone());
        let Some(place) = named.get(&embargo).copied() else {
            let is_kept = lifted.len() < MAX_LIFTED || lifted.contains_key(&embargo);
            let before =
                if is_kept { lifted.insert(embargo, (cap, charge)) } else { Some((cap, charge)) };
            drop(state);
            drop(before);
            return Settled::nothing();
        };
        state.take(std::iter::once(place), || Ok(found(&cap)))
    }

    /// Somebody has come. The call is answered when there is something for it, or at once if it
    /// would need a place to wait and has none.
    pub(crate) fn come(
        self: &Arc<Self>,
        shown: Shown,
        embargo: Option<AcceptEmbargo>,
        cell: &Arc<CallCell>,
        place_to_wait: Option<Place>,
    ) -> Settled {
        let Shown { key, introducer, uses } = shown;
        let mut state = self.state.lock();
        let meeting = state.meetings.get_mut(&key);
        let outcome = meeting.and_then(|meeting| meeting.receive(embargo.as_ref(), uses));
        let place_to_wait = match (outcome, place_to_wait) {
            (None, Some(place)) => place,
            (outcome, _) => {
                let outcome = outcome.unwrap_or_else(|| Err(crowded()));
                return Settled(vec![(Arc::clone(cell), outcome)]);
            }
        };
        let place = state.number();
        drop(state);
        // A cell has a lock of its own, so it is told before it is in the table, and looked
        // at once more afterwards.
        cell.queued_in(Queue::Other(Arc::downgrade(self) as _), place);
        let mut state = self.state.lock();
        state.places.insert(place, key.clone());
        let meeting = state.meetings.entry(key).or_default();
        if let Some(embargo) = &embargo {
            meeting.named.insert(embargo.clone(), place);
        }
        let guest = Waiting {
            cell: Arc::clone(cell),
            embargo,
            introducer: introducer.clone(),
            uses,
            _place: place_to_wait,
        };
        meeting.guests.insert(place, guest);
        let settled = state.look_again(place);
        drop(state);
        if cell.is_cancelled() {
            self.withdraw(place);
        }
        let lost = introducer.is_some_and(|introducer| is_lost(&introducer));
        let lost = if lost { self.fail(vec![place]) } else { Settled::nothing() };
        Settled([settled.0, lost.0].concat())
    }

    /// The connection to an introducer has ended: nothing more will be provided.
    pub(crate) fn lost(&self, introducer: &Arc<Room>) -> Settled {
        let lost = Arc::downgrade(introducer);
        let by = |guests: &Waiting| {
            guests.introducer.as_ref().is_some_and(|introducer| introducer.ptr_eq(&lost))
        };
        let state = self.state.lock();
        let guests = state.meetings.values().flat_map(|meeting| &meeting.guests);
        let places: Vec<u64> =
            guests.filter(|(_, guests)| by(guests)).map(|(place, _)| *place).collect();
        drop(state);
        self.fail(places)
    }

    fn fail(&self, places: Vec<u64>) -> Settled {
        self.state.lock().take(places.into_iter(), || Err(gone()))
    }

    /// How many have come and wait.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn hosts_that_wait(&self) -> usize {
        self.state.lock().places.len()
    }

    /// As if the time were over for all who wait.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn end_waits(&self) {
        let places = self.state.lock().places.keys().copied().collect();
        self.fail(places).tell();
    }

    /// Whether nothing is provided, and nobody waits.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.provisions.is_empty()
            && state.places.is_empty()
            && state.meetings.values().all(|meeting| matches!(meeting.offer, Offer::Gone(_)))
    }
}

impl Meeting {
    /// What there is for somebody who has just come; `None` for who has to wait.
    fn receive(&mut self, embargo: Option<&AcceptEmbargo>, uses: Uses) -> Option<Outcome> {
        if uses == Uses::Once && !self.guests.is_empty() {
            return Some(Err(fetched()));
        }
        if embargo.is_some_and(|embargo| self.named.contains_key(embargo)) {
            return Some(Err(Error::failed("an embargo of this name is waited for already")));
        }
        self.look(embargo, uses)
    }

    /// What there is for somebody who comes; `None` for who has to wait. What is found was
    /// given.
    fn look(&mut self, embargo: Option<&AcceptEmbargo>, uses: Uses) -> Option<Outcome> {
        let cap = match &mut self.offer {
            Offer::Expected => return None,
            Offer::Fetched => return Some(Err(fetched())),
            Offer::Gone(why) => return Some(Err(why.error())),
            Offer::Here { cap, lifted } => match embargo {
                None => found(cap),
                Some(embargo) => found(&lifted.remove(embargo)?.0),
            },
        };
        self.was_given(uses);
        Some(Ok(cap))
    }

    /// Somebody got it. The introducer's entry of the table of provisions is left.
    fn was_given(&mut self, uses: Uses) {
        if uses == Uses::Once
            && let Offer::Here { cap, lifted } = std::mem::replace(&mut self.offer, Offer::Fetched)
        {
            effects::defer(Effect::drop((cap, lifted)));
        }
    }
}

fn is_lost(introducer: &Weak<Room>) -> bool {
    introducer.upgrade().is_none_or(|introducer| introducer.is_closed())
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// The end of what a key leads to. Remembers it for those who come later.
    fn end(&mut self, key: Key, why: Why) -> (Offer, Settled) {
        let meeting = self.meetings.entry(key.clone()).or_default();
        let before = std::mem::replace(&mut meeting.offer, Offer::Gone(why));
        let guests: Vec<u64> = meeting.guests.keys().copied().collect();
        let settled = self.take(guests.into_iter(), || Err(why.error()));
        self.gone.push_back(key);
        if self.gone.len() > REMEMBERED
            && let Some(oldest) = self.gone.pop_front()
        {
            self.meetings.remove(&oldest);
        }
        (before, settled)
    }

    /// Takes out those who wait at these places.
    fn take(
        &mut self,
        places: impl Iterator<Item = u64>,
        outcome: impl Fn() -> Outcome,
    ) -> Settled {
        let mut settled = Vec::new();
        for place in places {
            let Some(key) = self.places.remove(&place) else { continue };
            let Some(meeting) = self.meetings.get_mut(&key) else { continue };
            if let Some(Waiting { cell, embargo, uses, .. }) = meeting.guests.remove(&place) {
                if let Some(embargo) = embargo
                    && meeting.named.get(&embargo) == Some(&place)
                {
                    meeting.named.remove(&embargo);
                }
                let outcome = outcome();
                if outcome.is_ok() {
                    meeting.was_given(uses);
                }
                settled.push((cell, outcome));
            }
            if matches!(meeting.offer, Offer::Expected) && meeting.guests.is_empty() {
                self.meetings.remove(&key);
            }
        }
        Settled(settled)
    }

    /// Looks whether there is something, by now, for who waits at a place.
    fn look_again(&mut self, place: u64) -> Settled {
        let Some(key) = self.places.get(&place) else { return Settled::nothing() };
        let Some(meeting) = self.meetings.get_mut(key) else { return Settled::nothing() };
        let Some(guest) = meeting.guests.get(&place) else { return Settled::nothing() };
        let (embargo, uses) = (guest.embargo.clone(), guest.uses);
        // Another one may have come since this one was let in.
        let outcome = if uses == Uses::Once && meeting.guests.len() > 1 {
            Err(fetched())
        } else {
            match meeting.look(embargo.as_ref(), uses) {
                Some(outcome) => outcome,
                None => return Settled::nothing(),
            }
        };
        self.take(std::iter::once(place), || outcome.clone())
    }
}

impl Queued for Meetings {
    /// A call that waits here was cancelled.
    fn withdraw(&self, place: u64) {
        let Settled(gone) = self.state.lock().take(std::iter::once(place), || Err(cancelled()));
        // Whoever cancels the call may know a better reason: see `Delivery::fail`.
        for (cell, outcome) in gone {
            effects::defer(Effect::Complete(cell, outcome));
        }
    }
}
