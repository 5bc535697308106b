//! Places in results that may not have arrived yet.

use super::client::Client;
use super::pending::Pending;

/// A place in the results of a call, whether they have arrived or not.
///
/// Generated `Pipeline` types wrap this type and have a method for every field that
/// leads to a capability. A pointer whose type the schema leaves open gives this type
/// itself, which [`as_cap`](Self::as_cap) treats as a capability.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pending: Pending,
    path: Vec<u16>,
}

impl Pipeline {
    pub(crate) fn new(pending: Pending) -> Self {
        Pipeline { pending, path: Vec::new() }
    }

    /// The capability at this place. Calls on it are sent without waiting for the
    /// results. If the results turn out to hold no capability here, the calls fail.
    pub fn as_cap(&self) -> Client {
        self.pending.pipelined(&self.path)
    }

    /// The place to which the pointer field with this index leads.
    #[must_use]
    pub fn get_pointer_field(&self, index: u16) -> Self {
        let mut path = Vec::with_capacity(self.path.len() + 1);
        path.extend_from_slice(&self.path);
        path.push(index);
        Pipeline { pending: self.pending.clone(), path }
    }

    /// The same place, for a group of fields.
    #[must_use]
    pub fn noop(&self) -> Self {
        self.clone()
    }
}
