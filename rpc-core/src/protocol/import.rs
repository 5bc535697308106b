//! Imports: capabilities of the peer that this side may call.
//!
//! # State model
//!
//! ```text
//! Promised(Pending) ──Resolve──► Promised(Resolved)
//!
//! Settled, Promised ──last handle dropped: Release sent──► gone
//! Settled, Promised ──connection ended───────────────────► gone
//! ```
//!
//! The handle ([`ImportRef`]) is what clients hold. However often the peer sends the
//! same import, there is one handle while any client lives. A promise that the peer sends
//! again after it has resolved it is that handle: the peer passes on what it gets. `refs`
//! counts how often the peer has sent the import; a single Release gives all of these
//! references back.
//!
//! "The last handle was dropped" and "the peer sends it again" are decided in one step
//! under the order lock: dropping only reports (Note [releases]), and the entry is
//! removed only if no handle lives when the report is read.
//!
//! A file descriptor that came with an import lives in the handle. Closing it may take
//! time, so that is an effect.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use super::Machine;
use super::dest::{Dest, Pinned};
use super::releases::Released;
use crate::budget::Charge;
use crate::cap::capability::Capability;
use crate::cap::client::Client;
use crate::cap::connection::Connection;
use crate::cap::delivery::Delivery;
use crate::cap::effects::{self, Effect};
use crate::cap::stream::{Stream, StreamSlot};
use crate::fd::SharedFd;
use crate::ids::ImportId;
use crate::protocol::remote_promise::RemotePromise;

/// One import.
pub(crate) struct Import {
    pub(crate) refs: u32,
    pub(crate) handle: Weak<ImportRef>,
    pub(crate) kind: Kind,
    /// What the entry costs the peer.
    pub(super) charge: Charge,
}

pub(crate) enum Kind {
    Settled,
    Promised {
        /// The promise, shared by all clients.
        node: Weak<RemotePromise>,
        /// What stands for it where it was described: Note [described path].
        pinned: Weak<Pinned>,
        resolution: Resolution,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// The promise is not resolved. `called` says whether anything was sent through it:
    /// Note [embargo].
    Pending {
        called: bool,
    },
    Resolved,
}

/// The right to name an import in messages. When the last one is dropped the
/// import is released.
pub(crate) struct ImportRef {
    machine: Arc<Machine>,
    id: ImportId,
    stream: StreamSlot,
    /// The file descriptor that came with the import.
    fd: OnceLock<SharedFd>,
}

impl ImportRef {
    pub(super) fn new(machine: Arc<Machine>, id: ImportId) -> Arc<Self> {
        Arc::new(ImportRef { machine, id, stream: StreamSlot::default(), fd: OnceLock::new() })
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    pub(crate) fn id(&self) -> ImportId {
        self.id
    }

    /// Keeps a file descriptor that came with the import, unless there is one already.
    /// (The first time the import may have come without it, because the message had too
    /// many.)
    pub(super) fn keep_fd(&self, fd: SharedFd) {
        if let Err(fd) = self.fd.set(fd) {
            effects::defer(Effect::drop(fd));
        }
    }

    /// Whether the peer will never resolve it.
    pub(super) fn is_settled(&self) -> bool {
        let settled = |import: &mut Import| matches!(import.kind, Kind::Settled);
        self.machine.imports.with(self.id, settled).unwrap_or(false)
    }

    /// Whether a file descriptor came with the import.
    pub(super) fn has_fd(&self) -> bool {
        self.fd.get().is_some()
    }

    /// Sends a delivery to the import. Must not be called under a lock.
    pub(super) fn send(self: Arc<Self>, delivery: Delivery) {
        let dest = Dest::Import(self);
        dest.machine().deliver_to(&dest, delivery);
    }
}

impl Capability for ImportRef {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        match self.machine.border_for(&delivery) {
            Some(border) => {
                let machine = Arc::clone(&self.machine);
                border.outwards(&machine, Client::of(self), delivery);
            }
            None => self.send(delivery),
        }
        Ok(())
    }

    fn connection(&self) -> Option<&dyn Connection> {
        Some(&*self.machine)
    }

    fn is_settled_import(&self) -> bool {
        // A promise that was sent again after it was resolved has no other handle.
        self.is_settled()
    }

    fn stream(&self) -> Arc<Stream> {
        self.stream.get_or_make(|| self.machine.flow_controller())
    }

    fn adopt_stream(&self, stream: Arc<Stream>) {
        self.stream.adopt(stream);
    }

    fn fd(&self) -> Option<SharedFd> {
        self.fd.get().cloned()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "import {}", self.id)
    }
}

impl Drop for ImportRef {
    fn drop(&mut self) {
        self.machine.released(Released::Import(self.id));
        if let Some(fd) = self.fd.take() {
            effects::defer(Effect::drop(fd));
        }
    }
}
