//! Promises of the application.

use std::fmt;
use std::sync::Arc;

use crate::cap::client::Client;
use crate::cap::local_promise::LocalPromise;
use crate::error::Error;

/// Makes a promise for a capability, and the fulfiller that resolves it.
///
/// Calls on the promise wait, in order, until it is fulfilled. The promise can be
/// passed to peers like any other capability.
pub fn promise() -> (Client, Fulfiller) {
    let promise = LocalPromise::new(None);
    (Client::of(Arc::clone(&promise)), Fulfiller { promise: Some(promise) })
}

/// Resolves a promise. Dropping the fulfiller breaks the promise.
pub struct Fulfiller {
    promise: Option<Arc<LocalPromise>>,
}

impl Fulfiller {
    /// Resolves the promise to `target`, which may be a promise itself, or null. A
    /// promise that would resolve to itself, directly or through others, fails instead.
    /// Calls that waited are delivered before this returns. This does not wait for
    /// their outcome.
    pub fn fulfill(mut self, target: Client) {
        if let Some(promise) = self.promise.take() {
            promise.resolve(target);
        }
    }

    /// Makes every call on the promise fail.
    pub fn reject(self, error: Error) {
        self.fulfill(Client::broken(error));
    }
}

impl Drop for Fulfiller {
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            promise.resolve(Client::broken(Error::failed(
                "the promise was given up without being fulfilled",
            )));
        }
    }
}

impl fmt::Debug for Fulfiller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fulfiller")
    }
}
