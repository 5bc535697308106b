//! Capabilities with a time limit for each call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::capability::Capability;
use super::client::Client;
use super::delivery::Delivery;
use super::effects::{self, Effect};

/// A capability with a time limit for the calls that are made through this very
/// reference. Everything else sees the capability behind it, as it sees that behind a
/// promise which has resolved.
struct Timed {
    inner: Client,
    timeout: Duration,
}

impl Client {
    /// The same capability, with a time limit for each call that is made through the
    /// returned client and its clones: for the wait for room, the sending and the wait
    /// for the answer. It takes the place of the connection's default
    /// ([`ConnConfig::call_timeout`](crate::ConnConfig::call_timeout));
    /// [`Duration::MAX`] stands for no limit. A call that is made with a deadline of its
    /// own has that one.
    ///
    /// When the time is over the call fails with an error that [is a
    /// timeout](crate::Error::is_timeout), even if nobody waits for it, and the callee is
    /// told that it is cancelled. A streaming call that is not answered in time ends its
    /// stream.
    ///
    /// The limit belongs to the reference: peers to which it is sent, capabilities that
    /// come out of its calls, and what a promise becomes that is fulfilled with it, have
    /// no part in it. Generated clients have this method from
    /// [`FromClient`](crate::FromClient::with_timeout).
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        // A new limit takes the place of an old one.
        let inner = self.kind_as::<Timed>().map_or(self, |timed| &timed.inner).clone();
        if inner.is_null() {
            return inner;
        }
        Client::of(Arc::new(Timed { inner, timeout }))
    }
}

impl Capability for Timed {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        Err((self.inner.clone(), delivery))
    }

    fn resolved(&self) -> Option<Client> {
        Some(self.inner.clone())
    }

    fn timeout(&self) -> Option<Duration> {
        Some(self.timeout)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with a limit of {:?}", self.inner, self.timeout)
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        // Chains of promises are taken apart one by one, see Note [effects].
        if self.inner.is_promise() {
            effects::defer(Effect::drop(std::mem::take(&mut self.inner)));
        }
    }
}
