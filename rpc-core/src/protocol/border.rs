//! Deliveries at the border between the realms of two vats.

use std::sync::Arc;

use super::dest::Pinned;
use super::import::ImportRef;
use super::{Border, Machine};
use crate::cap::client::Client;
use crate::cap::delivery::Delivery;

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
