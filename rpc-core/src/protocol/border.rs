//! What stands between the realms of two vats, as the protocol sees it.

use std::sync::Arc;

use super::dest::Pinned;
use super::import::ImportRef;
use super::{Machine, Txn};
use crate::cap::client::Client;
use crate::cap::delivery::{Delivery, Route};
use crate::cap::effects::Effect;

/// Whatever sees to it that certain calls do not cross a connection as they are: see
/// Note [realm gateway].
pub(crate) trait Border: Send + Sync {
    /// Whether this is such a call.
    fn stops(&self, delivery: &Delivery) -> bool;

    /// One is about to leave for `target`, which the peer of `machine` hosts, or is to
    /// resolve.
    ///
    /// Must not be called under a lock.
    fn outwards(self: Arc<Self>, machine: &Arc<Machine>, target: Client, delivery: Delivery);

    /// The peer of `machine` has sent one for `target`.
    ///
    /// Must not be called under a lock.
    fn inwards(self: Arc<Self>, machine: &Arc<Machine>, target: Client, delivery: Delivery);
}

impl Machine {
    /// What a delivery that crosses this connection goes to instead.
    pub(super) fn border_for(&self, delivery: &Delivery) -> Option<Arc<dyn Border>> {
        if !self.has_border {
            return None;
        }
        let border = self.border.lock().clone()?;
        border.stops(delivery).then_some(border)
    }
}

impl Txn<'_> {
    /// Has something delivered that the peer has sent, after this transaction.
    pub(super) fn deliver_inwards(&mut self, target: Route, delivery: Delivery) {
        let effect = match self.machine.border_for(&delivery) {
            Some(border) => {
                let machine = Arc::clone(self.machine);
                Effect::Do(Box::new(move || border.inwards(&machine, target.client(), delivery)))
            }
            None => Effect::Deliver(target, delivery),
        };
        self.effect(effect);
    }
}

/// Delivers something; what a peer hosts gets it as it is.
///
/// Must not be called under a lock.
pub(crate) fn deliver_past_border(target: Client, delivery: Delivery) {
    if let Some(import) = target.clone().into_kind_as::<ImportRef>() {
        import.send(delivery);
    } else if let Some(pinned) = target.clone().into_kind_as::<Pinned>()
        && let Ok(dest) = pinned.dest()
    {
        pinned.machine().deliver_to(dest, delivery);
    } else {
        target.deliver(delivery);
    }
}
