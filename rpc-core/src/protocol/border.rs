//! Deliveries at the border between the realms of two vats.

use std::sync::Arc;

use super::dest::Pinned;
use super::import::ImportRef;
use super::remote_promise::RemotePromise;
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

/// Makes a delivery that no border stops on its way to a peer. (What is behind another
/// connection has that connection's border in front of it.)
///
/// Must not be called under a lock.
pub(crate) fn deliver_past_border(target: Client, delivery: Delivery) {
    let (mut target, mut delivery) = (target, delivery);
    let first = target.connection().map(|connection| std::ptr::from_ref(connection).addr());
    loop {
        let here = target.connection().map(|connection| std::ptr::from_ref(connection).addr());
        if here != first {
            return target.deliver(delivery);
        }
        let sent = if let Some(pinned) = target.kind_as::<Pinned>() {
            pinned.send(delivery)
        } else if let Some(promise) = target.clone().into_kind_as::<RemotePromise>() {
            promise.machine().deliver_through(&promise, delivery)
        } else if let Some(import) = target.clone().into_kind_as::<ImportRef>() {
            return import.send(delivery);
        } else {
            return target.deliver(delivery);
        };
        match sent {
            Ok(()) => return,
            // The promise has been resolved, or its place given up.
            Err((next, back)) => (target, delivery) = (next.shortened(), back),
        }
    }
}
