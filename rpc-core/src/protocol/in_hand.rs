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

use crate::sync::atomic::{AtomicUsize, Ordering};

/// How much of a connection is in hand.
#[derive(Default)]
pub(crate) struct Hands(Arc<AtomicUsize>);

/// One delivery of the peer, from when it is looked up until it is handed over, and this is
/// dropped.
pub(crate) struct InHand(Arc<AtomicUsize>);

impl Hands {
    /// Takes a delivery in hand.
    ///
    /// For use under the order lock.
    pub(super) fn take(&self) -> InHand {
        self.0.fetch_add(1, Ordering::SeqCst);
        InHand(Arc::clone(&self.0))
    }

    /// Whether something is about to be handed over.
    pub(super) fn hold_something(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
