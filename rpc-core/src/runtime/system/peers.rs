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
//!   same peer wait for the outcome.
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
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Closed,
}

pub(super) enum Slot {
    Connecting,
    Up(Connection),
}

/// What the table holds for a peer.
pub(super) enum Known {
    Nobody,
    Connecting,
    Up(Connection),
}

impl<Id> Default for Peers<Id> {
    fn default() -> Self {
        Peers { phase: Phase::Open, table: HashMap::new(), waiters: Waiters::default() }
    }
}

/// Number of peers for which an empty table keeps memory.
const KEPT: usize = 16;

impl<Id: Clone + Eq + Hash> Peers<Id> {
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
                Some(Slot::Connecting) | None => (connection, None),
            },
        }
    }
}
