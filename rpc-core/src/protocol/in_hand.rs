//! What the peer has sent and is about to be handed over.
//!
//! Note [in hand]
//!
//! A delivery of the peer is looked up under the order lock and handed over without it. In
//! between, another thread may describe the place to the peer for which it came, in a Return or
//! a Resolve. Later calls take the path that was described (Note [described path]); this one
//! goes to what was found at the place, and follows the promises there as far as they have
//! resolved by then. As a rule the two agree:
//!
//! - What has resolved for good is the same by both paths.
//! - If a promise of the peer was described, it resolves by a later message of the peer. Such
//!   a message is received when this has been handed over, unless it was held back (Note [flow
//!   limit]). If it was, and the promise has resolved to something of this side, then this
//!   waits in the embargo of that promise, or has arrived; and what takes the path that was
//!   described comes back behind the Disembargo. If it has resolved to something of the peer's,
//!   both go there by this connection.
//!
//! They do not agree where vats are introduced to each other (Note [handoff]). A promise may
//! become what another vat hosts, and this side then asks the host for it. What is in hand would
//! wait for the host's answer, while calls on the path that was described are on their way there
//! by another vat. A promise of a third vat resolves by messages of that vat, which may come at
//! any time. And a capability that nobody has used is passed on by another path than its own.
//!
//! So in such a network it is counted what is in hand and came for a promise. While there is
//! anything, a place is described without a path of its own: the promise at the place is
//! exported, whoever has made it. Calls on the export go to the promise, too, until it resolves
//! and is described by the same rule.
//!
//! What waits in a queue is not in hand. A promise does not count as resolved before its queue
//! is empty, and what this connection holds back is looked up when it is taken out.

use std::sync::Arc;

use super::counted::Counted;
use super::{Machine, Txn};
use crate::cap::delivery::Route;

impl Machine {
    /// Takes in hand again what was let go. It has to be looked up again afterwards.
    ///
    /// Must not be called under a lock.
    // The method itself is for one lifetime only.
    #[allow(clippy::redundant_closure_for_method_calls)]
    pub(crate) fn takes_in_hand(self: &Arc<Self>) -> Option<Counted> {
        self.neighbour.as_ref()?;
        self.transact(|txn| txn.take_in_hand())
    }
}

impl Txn<'_> {
    /// Takes a delivery in hand until what is returned is dropped; `None` if that makes no
    /// difference: Note [in hand].
    fn take_in_hand(&mut self) -> Option<Counted> {
        self.machine.neighbour.as_ref().map(|_| self.machine.in_hand.one_more())
    }

    /// The same, for a delivery that takes this route.
    pub(super) fn take_in_hand_for(&mut self, route: &Route) -> Option<Counted> {
        self.machine.neighbour.as_ref()?;
        let may_move = match route {
            Route::Client(client) => client.shortened().is_promise(),
            Route::Field(..) => true,
        };
        if may_move { self.take_in_hand() } else { None }
    }

    /// Whether something is about to be handed over.
    pub(super) fn has_in_hand(&self) -> bool {
        self.machine.in_hand.count() > 0
    }
}
