//! Incoming connections that somebody may still claim.

use std::collections::HashMap;

use std::sync::Arc;

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use parking_lot::Mutex;

use super::address::ConnectionId;
use super::inbox::Inbox;

/// The connections, by their ids. The lock is a leaf: what is taken out is dropped without
/// it.
#[derive(Default)]
pub(super) struct Claimable(Mutex<HashMap<ConnectionId, Arc<Inbox>>>);

impl Claimable {
    pub(super) fn insert(&self, connection: ConnectionId, inbox: Arc<Inbox>) {
        let before = self.0.lock().insert(connection, inbox);
        drop(before);
    }

    /// Takes a connection out.
    pub(super) fn remove(&self, connection: ConnectionId) -> Option<Arc<Inbox>> {
        let mut connections = self.0.lock();
        let inbox = connections.remove(&connection);
        connections.give_back(KEPT);
        inbox
    }

    pub(super) fn clear(&self) {
        let connections = std::mem::take(&mut *self.0.lock());
        drop(connections);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}
