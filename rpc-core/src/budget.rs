//! How much a peer makes this side hold.
//!
//! Note [budget]
//!
//! Whatever a peer can leave behind on this side is counted, in bytes, against the one
//! budget of its connection ([`Limits::budget_bytes`](crate::Limits::budget_bytes)):
//!
//! | what | from | to | without room |
//! |---|---|---|---|
//! | a call of the peer: its entry and its cell | the Call | its Finish, or the Return after which none is needed | Abort |
//! | a call whose outcome this side has taken: its cell | the Finish | the call is over | Abort |
//! | the parameters of a call: the message, the capabilities that it names, the call's place in a queue | the Call | the last reference to the content is dropped; a copy for another connection counts until it is written | the call fails as `overloaded` |
//! | the results of a call that the peer may still pipeline on | the Return | the Finish | the call fails as `overloaded` |
//! | the capabilities that results name, in a Return of the peer | the Return | the last reference to the content is dropped | Abort |
//! | a capability of the peer: its entry and its handle | the first message that names it | the Release | Abort |
//! | the error with which the peer breaks a promise | the Resolve | the error is dropped | Abort |
//! | where a third vat is that hosts a capability of the peer's, and later the question to that | the first message that says so | the host has answered, or the capability is dropped | Abort |
//! | what the peer provides for a third vat | the Provide | its Finish | Abort |
//! | an embargo of that which was lifted and not named yet | the Disembargo | somebody names it, or the Finish | it is forgotten |
//! | a Disembargo that has to be returned | its arrival | it is returned, or dropped | Abort |
//!
//! None of these can be pushed back by reading no further: answers and Finishes, which
//! make room, come over the same stream. (Only messages that the coordinator has not
//! worked off are; they do not depend on the peer.)
//!
//! Sizes are estimated from above: `protocol/costs.rs`. A [`Charge`] is owned by what it
//! was made for, and gives its bytes back when that is dropped, wherever it has got to by
//! then. Contents and results leave an eighth of the budget to the rest, so that a peer
//! whose calls fail for lack of room can still be told so, one by one.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The budget of one connection.
pub(crate) struct Budget {
    limit: u64,
    held: [AtomicU64; 3],
}

/// What something is charged as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry of a table.
    Entry,
    /// What such an entry keeps, and might do without.
    Results,
    /// What is on its way through this vat.
    Content,
}

/// A part of a budget that is in use until this is dropped.
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
    kind: Kind,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Budget { limit, held: std::array::from_fn(|_| AtomicU64::new(0)) })
    }

    /// Takes a part of the budget.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn charge(self: &Arc<Self>, kind: Kind, bytes: u64) -> Result<Charge, Error> {
        self.take(kind, bytes)?;
        Ok(Charge { budget: Arc::clone(self), bytes, kind })
    }

    /// Takes a part of the budget that has to be [given back](Self::give_back) by hand: for
    /// entries of which there is one for each call, and which lie beside the budget.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn take(&self, kind: Kind, bytes: u64) -> Result<(), Error> {
        self.add(kind, bytes);
        let limit = match kind {
            Kind::Entry => self.limit,
            Kind::Results | Kind::Content => self.limit - self.limit / 8,
        };
        let held = self.held();
        if held > limit {
            self.give_back(kind, bytes);
            return Err(Error::overloaded(format!(
                "the peer's calls and capabilities would take {held} bytes; \
                 the limit is {} (Limits::budget_bytes)",
                self.limit
            )));
        }
        Ok(())
    }

    fn charge_anyway(self: &Arc<Self>, kind: Kind, bytes: u64) -> Charge {
        self.add(kind, bytes);
        Charge { budget: Arc::clone(self), bytes, kind }
    }

    fn add(&self, kind: Kind, bytes: u64) {
        self.held[kind as usize].fetch_add(bytes, Ordering::SeqCst);
    }

    /// Gives back what was [taken](Self::take).
    pub(crate) fn give_back(&self, kind: Kind, bytes: u64) {
        let before = self.held[kind as usize].fetch_sub(bytes, Ordering::SeqCst);
        debug_assert!(before >= bytes, "a charge was given back twice");
    }

    /// The number of bytes that are in use.
    pub(crate) fn held(&self) -> u64 {
        self.held.iter().map(|held| held.load(Ordering::SeqCst)).sum()
    }

    /// The number of bytes that are in use as one kind.
    pub(crate) fn held_as(&self, kind: Kind) -> u64 {
        self.held[kind as usize].load(Ordering::SeqCst)
    }
}

impl Charge {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A charge for a copy of what this is for, whether there is room or not.
    pub(crate) fn again(&self) -> Charge {
        self.budget.charge_anyway(self.kind, self.bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.kind, self.bytes);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes as {:?}", self.bytes, self.kind)
    }
}

/// Places for a number of things at once.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: AtomicUsize,
}

/// The place of one thing, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Places { most, taken: AtomicUsize::new(0) })
    }

    /// The number of places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// A place, if one is free.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let one_more = |taken: usize| (taken < self.most).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_given_back() {
        let places = Places::new(2);
        let (one, _other) = (places.take(), places.take().unwrap());
        assert!(places.take().is_none() && places.take().is_none());
        drop(one);
        let _third = places.take().unwrap();
        assert!(places.take().is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_costs_nothing() {
        let budget = Budget::new(800);
        let entry = budget.charge(Kind::Entry, 100).unwrap();
        let content = budget.charge(Kind::Content, 600).unwrap();
        assert!(budget.charge(Kind::Content, 1).is_err(), "the last eighth is for entries");
        assert!(budget.charge(Kind::Results, 1).is_err());
        let last = budget.charge(Kind::Entry, 100).unwrap();
        assert!(budget.charge(Kind::Entry, 1).is_err());
        assert_eq!((budget.held(), budget.held_as(Kind::Entry)), (800, 200));
        let copy = content.again();
        drop((content, entry));
        assert_eq!(budget.held(), 700, "the copy is still there");
        drop((copy, last));
        assert_eq!(budget.held(), 0);
    }
}
