//! Exports: capabilities of this side that the peer may call.
//!
//! # State model
//!
//! ```text
//! Pending ──promise resolved: Resolve sent──► Resolved
//! Pending ──resolved to a promise that the peer does not have──► Pending
//!
//! Settled, Pending, Resolved ──last reference released, or connection ended──► gone
//! ```
//!
//! A **vine** is Settled, too: an entry of its own for each time that it is sent, which also
//! keeps what was provided at the host, or the capability whose contact was passed on. See
//! Note [handoff].
//!
//! - **Settled**: an object, or a capability of another connection for which this vat
//!   stands in.
//! - **Pending**: a promise; the peer was told so and waits for a Resolve. If the
//!   promise resolves to another promise that this peer does not have, the entry goes
//!   on with that promise, and nothing is sent.
//! - **Resolved**: the Resolve was sent. From now on calls to this entry take the path
//!   that the Resolve described, see Note [described path].
//!
//! The peer releases references with a Release, or with what a Return or a Finish says of
//! parameters and results.
//!
//! A capability is exported at most once at a time (except a broken one, which gets a
//! new entry each time, followed by its Resolve).

use std::fmt;
use std::sync::Arc;

use crate::cap::capability::{Capability, Standing};
use crate::cap::client::Client;
use crate::cap::delivery::Delivery;
use crate::cap::effects::{self, Effect};
use crate::ids::Serial;
use crate::protocol::handoff::provide::Vine;
use crate::sync::Mutex;

/// One export.
pub(crate) struct Export {
    pub(crate) serial: Serial,
    /// The number of times that the export was sent, less the number that the peer has
    /// released.
    pub(crate) refs: u32,
    pub(crate) kind: Kind,
    /// The address under which the capability is found, if it can be found.
    pub(crate) key: Option<usize>,
}

pub(crate) enum Kind {
    Settled(Client),
    Pending(Arc<ExportSlot>),
    Resolved(Arc<ExportSlot>),
    /// What belongs to the vine, and the path to what was provided, or to the next vine.
    Vine(Vine, Client),
}

impl Export {
    /// The path of calls that the peer sends to this export, now and later, if it is not what
    /// the [target](Self::target) is. It is not shortened, see Note [described path].
    pub(crate) fn changing_way(&self) -> Option<Client> {
        match &self.kind {
            Kind::Settled(_) | Kind::Vine(..) => None,
            Kind::Pending(slot) | Kind::Resolved(slot) => Some(Client::of(Arc::clone(slot))),
        }
    }

    /// The target of a call that the peer sends to this export now.
    pub(crate) fn target(&self) -> Client {
        match &self.kind {
            Kind::Settled(client) | Kind::Vine(_, client) => client.clone(),
            Kind::Pending(slot) | Kind::Resolved(slot) => slot.target(),
        }
    }
}

/// The target of calls to an exported promise: the promise and, after the Resolve, what
/// the Resolve named.
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

/// Calls that the peer sends to an exported promise go through this. The application
/// never sees it.
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
