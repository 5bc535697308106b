//! Ending a connection that nobody uses, so that nothing is lost that begins just
//! then.
//!
//! Note [rest]
//!
//! A side whose tables are empty may say that it *rests*, as far as the transport
//! can carry that. From then on it begins nothing; with empty tables all that could
//! begin is a Bootstrap. The other side hears of it in order with the messages. If
//! its tables are empty, too, it ends the connection in the same step, and nothing
//! is under way in either direction: what it sent before, the resting side had
//! received, or its tables would not be empty now. Otherwise something of its own
//! is under way, which wakes the resting side when it arrives. Two sides that rest
//! at the same time both end.
//!
//! So whoever wants the peer's bootstrap capability while its own side rests has to
//! wait until the connection is awake again or has ended, and in the latter case
//! makes a new one, as somebody does who finds that the connection has ended in the
//! meantime. Nothing was sent, and nothing failed.

use std::sync::Arc;

use super::{Machine, Phase, Txn};
use crate::error::Error;
use crate::sync::atomic::Ordering;

/// Why nothing can begin on a connection, though none of it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unused {
    /// This side rests: it is still open what the other one says.
    Resting,
    /// It has ended while nobody used it.
    Ended,
}

impl Machine {
    /// Rests, if every table is empty. Returns whether it does.
    pub(crate) fn rest(self: &Arc<Self>) -> bool {
        self.transact(|txn| {
            let may = matches!(txn.order.phase, Phase::Live) && self.snapshot().is_empty();
            if may {
                txn.order.phase = Phase::Resting;
                self.resting.store(true, Ordering::SeqCst);
                self.outbox.push_rest();
            }
            may
        })
    }

    /// The peer rests: that is the end, unless something is going on here.
    pub(crate) fn peer_rests(self: &Arc<Self>) {
        self.end_if_unused();
    }

    /// Ends the connection if every table is empty. Returns whether it has ended.
    pub(crate) fn end_if_unused(self: &Arc<Self>) -> bool {
        self.transact(|txn| {
            if txn.dead().is_none() && self.snapshot().is_empty() {
                txn.order.phase = Phase::Resting;
                txn.disconnect(Error::disconnected("the connection was not used and is closed"));
            }
            txn.dead().is_some()
        })
    }

    /// Whether this side rests.
    pub(crate) fn rests(&self) -> bool {
        self.resting.load(Ordering::SeqCst)
    }

    /// How often something was sent or received. Wraps around.
    pub(crate) fn activity(&self) -> usize {
        self.activity.load(Ordering::Relaxed)
    }
}

impl Txn<'_> {
    /// The peer has said something.
    pub(super) fn wake_up(&mut self) {
        if let Phase::Resting = self.order.phase {
            self.order.phase = Phase::Live;
            self.stop_resting();
        }
    }

    /// The end of a rest, for those who look without the lock.
    pub(super) fn stop_resting(&self) {
        self.machine.resting.store(false, Ordering::SeqCst);
    }

    /// What stands in the way of something new, if nothing has failed.
    pub(super) fn unused(&self) -> Option<Unused> {
        match &self.order.phase {
            Phase::Live | Phase::Dead(_) => None,
            Phase::Resting => Some(Unused::Resting),
            Phase::DeadUnused(_) => Some(Unused::Ended),
        }
    }
}
