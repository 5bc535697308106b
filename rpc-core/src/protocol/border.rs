//! The border between the realms of two vats, as the protocol sees it.

use std::sync::Arc;

use super::dest::Pinned;
use super::import::ImportRef;
use super::{Machine, Txn};
use crate::cap::client::Client;
use crate::cap::delivery::{Delivery, Route};
use crate::cap::effects::Effect;

/// Keeps certain calls from crossing a connection unchanged: see Note [realm gateway].
pub(crate) trait Border: Send + Sync {
    /// Whether this delivery must not cross the connection unchanged.
    fn stops(&self, delivery: &Delivery) -> bool;

    /// Takes a delivery that is about to leave for `target`, which the peer of
    /// `machine` hosts, or will resolve.
    ///
    /// Must not be called under a lock.
    fn outwards(self: Arc<Self>, machine: &Arc<Machine>, target: Client, delivery: Delivery);

    /// Takes a delivery that the peer of `machine` has sent for `target`.
    ///
    /// Must not be called under a lock.
    fn inwards(self: Arc<Self>, machine: &Arc<Machine>, target: Client, delivery: Delivery);
}

impl Machine {
    /// The border to which a delivery goes instead of crossing this connection.
    pub(super) fn border_for(&self, delivery: &Delivery) -> Option<Arc<dyn Border>> {
        if !self.has_border {
            return None;
        }
        let border = self.border.lock().clone()?;
        border.stops(delivery).then_some(border)
    }
}

impl Txn<'_> {
    /// Notes the effect that delivers what the peer has sent.
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

/// Makes a delivery that no border stops on its way to a peer.
///
/// Must not be called under a lock.
pub(crate) fn deliver_past_border(target: Client, delivery: Delivery) {
    let (mut target, mut delivery) = (target, delivery);
    while let Some(pinned) = target.kind_as::<Pinned>() {
        match pinned.send(delivery) {
            Ok(()) => return,
            Err(next) => (target, delivery) = next,
        }
    }
    match target.clone().into_kind_as::<ImportRef>() {
        Some(import) => import.send(delivery),
        None => target.deliver(delivery),
    }
}
