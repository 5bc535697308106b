//! Capabilities that have failed.

use std::fmt;
use std::sync::Arc;

use super::capability::Capability;
use super::client::Client;
use super::delivery::Delivery;
use crate::error::Error;

/// A capability whose calls all fail with one error.
struct Broken(Error);

impl Client {
    /// A capability whose calls all fail with `error`.
    pub fn broken(error: Error) -> Self {
        Client::of(Arc::new(Broken(error)))
    }
}

impl Capability for Broken {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        delivery.fail(&self.0);
        Ok(())
    }

    fn failure(&self) -> Option<&Error> {
        Some(&self.0)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken, {}", self.0)
    }
}
