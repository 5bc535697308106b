//! Exports: capabilities of ours that the peer may call.
//!
//! # State model
//!
//! ```text
//! Settled ───────────────────────────────────────last Release──► gone
//! Pending ──promise resolved: Resolve sent──► Resolved ──last Release──► gone
//! ```
//!
//! - **Settled**: an object, or a capability of another connection for which we
//!   stand in.
//! - **Pending**: a promise; the peer was told so and waits for a Resolve. When
//!   the promise turns into another promise that this peer does not have, the
//!   entry goes on with that one and nothing is sent.
//! - **Resolved**: the Resolve was sent. From now on calls to this entry take the
//!   way that it described, see Note [described path].
//!
//! A capability is exported at most once at a time (a broken one each time: its
//! entry is the Resolve that follows).

use std::fmt;
use std::sync::Arc;

use crate::cap::capability::{Capability, Standing};
use crate::cap::client::Client;
use crate::cap::delivery::Delivery;
use crate::cap::effects::{self, Effect};
use crate::ids::Serial;
use crate::sync::Mutex;

/// One export.
pub(crate) struct Export {
    pub(crate) serial: Serial,
    /// How often the peer was told of it, less what it released.
    pub(crate) refs: u32,
    pub(crate) kind: Kind,
    /// Under which address the capability is found, if it is to be.
    pub(crate) key: Option<usize>,
}

pub(crate) enum Kind {
    Settled(Client),
    Pending(Arc<ExportSlot>),
    Resolved(Arc<ExportSlot>),
}

impl Export {
    /// The way that calls take which the peer sends to this export, now and later:
    /// not shortened, see Note [described path].
    pub(crate) fn way(&self) -> Client {
        match &self.kind {
            Kind::Settled(client) => client.clone(),
            Kind::Pending(slot) | Kind::Resolved(slot) => Client::of(Arc::clone(slot)),
        }
    }

    /// Where a call goes that the peer sends to this export now.
    pub(crate) fn target(&self) -> Client {
        match &self.kind {
            Kind::Settled(client) => client.clone(),
            Kind::Pending(slot) | Kind::Resolved(slot) => slot.target(),
        }
    }
}

/// Where calls to an exported promise go: to the promise, and from the Resolve
/// on where that said.
///
/// Shared with the answers whose results named the promise, because the peer may
/// send calls through those after it has released the export.
pub(crate) struct ExportSlot {
    target: Mutex<Client>,
}

impl ExportSlot {
    pub(super) fn new(target: Client) -> Arc<Self> {
        Arc::new(ExportSlot { target: Mutex::new(target) })
    }

    pub(crate) fn target(&self) -> Client {
        self.target.lock().clone()
    }

    pub(super) fn redirect(&self, target: Client) {
        let before = std::mem::replace(&mut *self.target.lock(), target);
        drop(before);
    }
}

/// What calls that the peer sends to an exported promise take; the application never
/// sees it.
impl Capability for ExportSlot {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        Err((self.target(), delivery))
    }

    fn standing(&self) -> Standing {
        Standing::Pending
    }

    fn resolved(&self) -> Option<Client> {
        Some(self.target())
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("exported promise")
    }
}

impl Drop for ExportSlot {
    fn drop(&mut self) {
        // Chains of promises are taken apart one by one, see Note [effects].
        let target = std::mem::take(self.target.get_mut());
        if target.is_promise() {
            effects::defer(Effect::drop(target));
        }
    }
}
