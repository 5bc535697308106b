//! Ending an unused connection without losing what begins at the same time.
//!
//! Note [idle]
//!
//! A side whose tables are empty may declare itself *idle*, if the transport can carry
//! that. From then on it begins nothing; with empty tables, all that could begin is a
//! Bootstrap. The other side learns of this in order with the messages. If the other
//! side's tables are empty, too, it ends the connection in the same step, and nothing is
//! under way in either direction: if the idle side had not received everything, the
//! other side's tables would not be empty. If they are not empty, a message of the other
//! side is under way, which wakes the idle side when it arrives. If both sides declare
//! themselves idle at the same time, both end the connection.
//!
//! So a thread that wants the peer's bootstrap capability while its own side is idle has
//! to wait until the connection is awake again or has ended. If it has ended, the
//! thread makes a new connection, as it would if it had found the connection ended.
//! Nothing was sent, and nothing failed.

use std::sync::Arc;

use super::{Machine, Phase, Txn};
use crate::error::Error;
use crate::sync::Count;
use crate::sync::atomic::Ordering;

/// Why nothing can begin on a connection that has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unused {
    /// This side is idle, and the other side has not reacted yet.
    Idle,
    /// The connection has ended while it was unused.
    Ended,
}

impl Machine {
    /// Makes this side idle if every table is empty, and tells the peer. Returns whether it
    /// did.
    pub(crate) fn declare_idle(self: &Arc<Self>) -> bool {
        self.transact(|txn| {
            let may = matches!(txn.order.phase, Phase::Live) && self.snapshot().is_empty();
            if may {
                txn.order.phase = Phase::Idle;
                self.idle.store(true, Ordering::SeqCst);
                self.outbox.push_idle();
            }
            may
        })
    }

    /// Learns that the peer is idle: ends the connection, unless something is going on here.
    pub(crate) fn peer_is_idle(self: &Arc<Self>) {
        self.end_if_unused();
    }

    /// Ends the connection if every table is empty. Returns whether it has ended.
    pub(crate) fn end_if_unused(self: &Arc<Self>) -> bool {
        self.transact(|txn| {
            if txn.dead().is_none() && self.snapshot().is_empty() {
                txn.order.phase = Phase::Idle;
                txn.disconnect(Error::disconnected("the connection was not used and is closed"));
            }
            txn.dead().is_some()
        })
    }

    /// Whether this side is idle.
    pub(crate) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::SeqCst)
    }

    /// Whether the peer has sent anything.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard.get() > 0
    }

    /// The number of messages sent or received. Wraps around.
    pub(crate) fn activity(&self) -> usize {
        self.said.get().wrapping_add(self.heard.get())
    }
}

impl Txn<'_> {
    /// Ends the idleness, because a message of the peer has arrived.
    pub(super) fn wake_up(&mut self) {
        if let Phase::Idle = self.order.phase {
            self.order.phase = Phase::Live;
            self.end_idle();
        }
    }

    /// Shows the end of the idleness to threads that look without the lock.
    pub(super) fn end_idle(&self) {
        self.machine.idle.store(false, Ordering::SeqCst);
    }

    /// Why nothing new can begin, although nothing has failed.
    pub(super) fn unused(&self) -> Option<Unused> {
        match &self.order.phase {
            Phase::Live | Phase::Dead(_) => None,
            Phase::Idle => Some(Unused::Idle),
            Phase::DeadUnused(_) => Some(Unused::Ended),
        }
    }
}
