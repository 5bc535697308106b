//! The table of the peers of a system.
//!
//! # State model of a peer
//!
//! ```text
//! absent ──wanted──► Connecting ──reached──► Up
//! Connecting ──not reached, or not in time──► absent
//! absent, Connecting ──accepted──► Up
//! Up ──accepted or reached once more──► Up
//! Up ──connection ended──► absent
//! ```
//!
//! - **Connecting**: one thread connects to the peer; other threads that ask for the
//!   same peer wait for the outcome. Meanwhile the peer may have connected, and that
//!   connection may have ended: then the next attempt, of another thread, may have begun
//!   when the first one is over. Each has a number, and ends none but itself.
//! - **Up**: there is a connection. A peer that connects again has noticed an end of
//!   this connection that this side has not: the old connection is closed, which fails
//!   everything that waits for it, and the new one takes its place.

use std::collections::HashMap;
use std::hash::Hash;

use crate::memory::GiveBack;
use crate::runtime::connection::Connection;
use crate::work::waiting::Waiters;

pub(super) struct Peers<Id> {
    pub(super) phase: Phase,
    pub(super) table: HashMap<Id, Slot>,
    /// The threads that wait for the table to change.
    pub(super) waiters: Waiters,
    /// How many attempts have begun.
    attempts: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Closed,
}

pub(super) enum Slot {
    /// With the number of the attempt.
    Connecting(u64),
    Up(Connection),
}

/// What the table holds for a peer.
pub(super) enum Known {
    /// The thread that has looked connects to the peer now, in the attempt of this number.
    Nobody(u64),
    Connecting,
    Up(Connection),
}

impl<Id> Default for Peers<Id> {
    fn default() -> Self {
        Peers {
            phase: Phase::Open,
            table: HashMap::new(),
            waiters: Waiters::default(),
            attempts: 0,
        }
    }
}

/// Number of peers for which an empty table keeps memory.
const KEPT: usize = 16;

impl<Id: Clone + Eq + Hash> Peers<Id> {
    /// Begins an attempt to connect to a peer for which the table holds nothing. Returns its
    /// number.
    pub(super) fn begin(&mut self, peer: &Id) -> u64 {
        self.attempts += 1;
        self.table.insert(peer.clone(), Slot::Connecting(self.attempts));
        self.attempts
    }

    /// Whether this attempt is what the table holds for the peer.
    pub(super) fn is_begun(&self, peer: &Id, attempt: u64) -> bool {
        matches!(self.table.get(peer), Some(Slot::Connecting(number)) if *number == attempt)
    }

    /// Ends an attempt, unless something else has taken its place.
    pub(super) fn give_up(&mut self, peer: &Id, attempt: u64) {
        if self.is_begun(peer, attempt) {
            self.remove(peer);
        }
    }

    pub(super) fn remove(&mut self, peer: &Id) -> Option<Slot> {
        let slot = self.table.remove(peer);
        self.table.give_back(KEPT);
        slot
    }

    /// Puts a connection into the table, unless the table holds one that began later:
    /// then the peer has given up the earlier one, which has ended or is about to.
    /// Returns the one of the two that is in the table now, and the other one.
    pub(super) fn put(
        &mut self,
        peer: &Id,
        connection: Connection,
    ) -> (Connection, Option<Connection>) {
        match self.table.get(peer) {
            Some(Slot::Up(newer)) if newer.number() > connection.number() => {
                (newer.clone(), Some(connection))
            }
            _ => match self.table.insert(peer.clone(), Slot::Up(connection.clone())) {
                Some(Slot::Up(older)) => (connection, Some(older)),
                Some(Slot::Connecting(_)) | None => (connection, None),
            },
        }
    }
}
