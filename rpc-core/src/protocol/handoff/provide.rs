//! What a vine keeps: the capability stays provided at its host until the vine is gone.
//!
//! # State model
//!
//! ```text
//! Unsent ──effect of the step that described it──► Sent ──vine gone: Finish──► gone
//!    └──connection to the host ended──► Void         └──`unimplemented`, or ended──► Void
//! ```

use std::sync::Arc;

use crate::budget::Place;
use crate::cap::client::Client;
use crate::cap::delivery::Embargoed;
use crate::ids::QuestionId;
use crate::sync::Mutex;
use crate::wire::AcceptEmbargo;

/// What belongs to a vine.
pub(crate) enum Vine {
    /// This vat has provided the capability.
    Root {
        provide: Arc<Provide>,
        /// The number of embargoes that were lifted.
        lifts: u32,
    },
    /// Another vat has, and this one has passed its contact on.
    Forwarded(Passed),
}

/// Number of embargoes that are lifted by one vine. A recipient needs one, and so does each of
/// those to whom it has passed the contact on.
const MAX_LIFTS: u32 = 16;

/// The same for the vine of a contact that was passed on: so that one of several recipients
/// cannot use up what all of them have at the introducer.
const MAX_PASSED_LIFTS: u32 = 4;

impl Vine {
    /// Whether one more embargo may be lifted, which is counted.
    pub(super) fn may_lift(&mut self) -> bool {
        let (lifts, most) = match self {
            Vine::Root { lifts, .. } => (lifts, MAX_LIFTS),
            Vine::Forwarded(passed) => (&mut passed.lifts, MAX_PASSED_LIFTS),
        };
        *lifts += u32::from(*lifts <= most);
        *lifts <= most
    }
}

/// What was passed on.
pub(crate) struct Passed {
    /// The capability, which this vat may use itself.
    pub(super) whole: Client,
    /// Whether anything was called through the vine.
    pub(super) called: bool,
    /// The number of embargoes that were lifted.
    pub(super) lifts: u32,
}

/// What is provided at a host for one vine. When the last reference is dropped, it is taken
/// back.
pub(crate) struct Provide {
    /// The connection to the host.
    at: Arc<dyn ProvidesAt>,
    state: Mutex<State>,
    /// Among what may be provided there. Present until drop.
    place: Option<Place>,
}

pub(super) enum State {
    /// These embargoes are to be lifted once it is sent.
    Unsent(Vec<AcceptEmbargo>),
    Sent(QuestionId),
    Void,
}

/// The connection to a host at which something is provided.
pub(super) trait ProvidesAt: Send + Sync {
    /// What is provided by this question is not needed any more. It keeps its place until it is
    /// taken back. May be called anywhere.
    fn not_needed(self: Arc<Self>, id: QuestionId, place: Place);

    /// An embargo of what is provided by this question ends. Must not be called under a lock.
    fn lift(self: Arc<Self>, id: QuestionId, embargo: AcceptEmbargo);
}

impl Provide {
    pub(super) fn new(at: Arc<dyn ProvidesAt>, place: Place) -> Arc<Self> {
        let state = Mutex::new(State::Unsent(Vec::new()));
        Arc::new(Provide { at, state, place: Some(place) })
    }

    /// Moves on to another state, and returns the one before.
    pub(super) fn becomes(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.lock(), state)
    }
}

impl Embargoed for Provide {
    fn lift(self: Arc<Self>, embargo: AcceptEmbargo) {
        let id = match &mut *self.state.lock() {
            State::Unsent(embargoes) => return embargoes.push(embargo),
            State::Sent(id) => *id,
            State::Void => return,
        };
        Arc::clone(&self.at).lift(id, embargo);
    }
}

impl Drop for Provide {
    fn drop(&mut self) {
        if let (State::Sent(id), Some(place)) = (&*self.state.get_mut(), self.place.take()) {
            Arc::clone(&self.at).not_needed(*id, place);
        }
    }
}
