//! Passing a capability on before it was used: the contact of its introducer goes on to the
//! next vat, with a vine that leads to the introducer's vine. This vat asks the host for
//! nothing.
//!
//! ```text
//!   introducer ──contact, vine──► this vat ──contact, vine──► recipient
//!        ▲                                                        │
//!        └───────── vine ◄──────────────── vine ◄─────────────────┘
//! ```
//!
//! Whoever accepts, the calls that the recipient has made before take the vines, and so does
//! the Disembargo behind them. Calls that *this* vat has made through the promise that was
//! resolved with the contact are known to nobody else, and the recipient would not wait for
//! them. Then this vat accepts, and introduces the recipient itself.
//!
//! A capability that goes back to its introducer is named by its vine. If the introducer has
//! only passed it on, it takes this for what it has passed on, unless calls have come by the
//! vine: these must not be overtaken.

use std::sync::Arc;

use super::accepting::Deferred;
use super::provide::{Passed, Vine};
use crate::cap::client::Client;
use crate::cap::local_promise::LocalPromise;
use crate::error::Error;
use crate::ids::ExportId;
use crate::protocol::export::{self, Export};
use crate::protocol::import::ImportRef;
use crate::protocol::named::Hosted;
use crate::protocol::{Neighbour, Txn};
use crate::wire::{Descriptor, Token};

/// A capability that nobody has used, as it can be passed on.
pub(super) struct Unaccepted {
    pub(super) vine: Client,
    pub(super) contact: Token,
    /// The connection to its introducer.
    pub(super) neighbour: Arc<dyn Neighbour>,
}

impl Txn<'_> {
    /// Names a capability of a third vat that was not used yet, if it leads back to this peer
    /// or the network passes its contact on.
    ///
    /// # Errors
    /// Too many capabilities are exported.
    pub(in crate::protocol) fn pass_on(
        &mut self,
        client: &Client,
    ) -> Result<Option<(Descriptor, Client)>, Error> {
        let Some(own) = &self.machine.neighbour else { return Ok(None) };
        let promise = client.kind_as::<LocalPromise>();
        let found = promise.and_then(|promise| promise.before_demand(Deferred::unaccepted));
        let found = found.flatten();
        let Some(Unaccepted { vine, contact, neighbour }) = found else { return Ok(None) };
        let Some(import) = vine.kind_as::<ImportRef>() else { return Ok(None) };
        if self.is_own(import.machine()) {
            let back = Descriptor::ReceiverHosted(import.id().0);
            return Ok(Some((back, vine)));
        }
        if !self.may_send_vine(import.machine()) {
            return Ok(None);
        }
        let Some(contact) = own.forward(&*neighbour, &contact) else { return Ok(None) };
        let id = self.free_export()?;
        let serial = self.serial();
        let passed = Vine::Forwarded(Passed { whole: client.clone(), called: false, lifts: 0 });
        let kind = export::Kind::Vine(passed, vine.clone());
        self.machine.exports.insert(id, Export { serial, refs: 1, kind, key: None });
        self.order.vines += 1;
        Ok(Some((Descriptor::ThirdPartyHosted(id.0, Some(contact)), vine)))
    }

    /// Notes that the peer calls one of this side's exports, if it is a vine.
    pub(in crate::protocol) fn vine_called(&mut self, id: u32) {
        if self.order.vines > 0 {
            self.machine.exports.with(ExportId(id), |entry| {
                if let export::Kind::Vine(Vine::Forwarded(passed), _) = &mut entry.kind {
                    passed.called = true;
                }
            });
        }
    }

    /// What was passed on with a vine that the peer sends back, if it has called nothing there.
    pub(in crate::protocol) fn passed_on(&self, id: u32) -> Option<(Client, Hosted)> {
        if self.order.vines == 0 {
            return None;
        }
        let whole = self.machine.exports.with(ExportId(id), |entry| match &entry.kind {
            export::Kind::Vine(Vine::Forwarded(Passed { whole, called: false, .. }), vine) => {
                Some((whole.clone(), Hosted::client(vine.clone())))
            }
            _ => None,
        });
        whole.flatten()
    }
}
