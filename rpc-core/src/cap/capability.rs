//! The trait of all kinds of capability.
//!
//! A [`Client`] refers to a *kind* of capability: an object, a capability of a peer, a
//! promise, or a wrapper of another capability. The rest of the library knows all kinds
//! by this one trait. Each kind implements the trait in its own file, so that a new
//! kind is a new file and nothing else.
//!
//! A module that has kinds of its own, as a connection has its imports, recognises them
//! by their type: [`Client::kind_as`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::connection::Connection;
use super::delivery::Delivery;
use super::stream::Stream;
use super::watch::{WatchKey, Watcher};
use crate::error::Error;
use crate::fd::SharedFd;
use crate::flow::FixedWindow;

/// One kind of capability. All methods except [`accept`](Capability::accept) may be
/// called under an order lock, and take one leaf lock at a time.
pub(crate) trait Capability: Any + Send + Sync {
    // ---- Calls

    /// Takes a delivery, or gives it back with the capability to which it has to go on.
    /// Never waits.
    ///
    /// Must not be called under a lock.
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)>;

    /// The connection over which a call would be sent now.
    fn connection(&self) -> Option<&dyn Connection> {
        None
    }

    /// Whether this is, for good, a capability that the peer of its connection hosts.
    fn is_settled_import(&self) -> bool {
        false
    }

    /// The capability behind this one, if this one only stands in front of another.
    fn behind(&self) -> Option<Client> {
        None
    }

    /// The object of this process of which this is the outside.
    fn object(&self) -> Option<Client> {
        None
    }

    /// The time limit for each call that is made through this very reference.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// The stream of the calls through this capability.
    fn stream(&self) -> Arc<Stream> {
        // By default calls fail at once, and so does the stream.
        Stream::new(Box::new(FixedWindow::DEFAULT))
    }

    /// Takes over the stream of a promise that has resolved to this capability.
    fn adopt_stream(&self, stream: Arc<Stream>) {
        drop(stream);
    }

    /// Whether this is connected again after its connection was lost.
    fn comes_back(&self) -> bool {
        false
    }

    /// Whether this leads nowhere until it is connected again.
    fn is_unconnected(&self) -> bool {
        false
    }

    // ---- Resolution

    /// Whether this may still resolve to another capability.
    fn standing(&self) -> Standing {
        Standing::Settled
    }

    /// What this has resolved to or stands for, if that is another capability.
    fn resolved(&self) -> Option<Client> {
        None
    }

    /// Adds a watcher to a promise. Gives the watcher back if this is not a promise, or
    /// is resolved.
    fn watch(&self, watcher: Watcher) -> Result<(), Watcher> {
        Err(watcher)
    }

    /// Removes a watcher that is gone.
    fn unwatch(&self, key: &WatchKey<'_>) {
        let _ = key;
    }

    /// The next capability on the path of what is sent here, even if this has not quite
    /// resolved to it. For the search for circles: Note [cycles].
    fn leads_to(&self) -> Option<Client> {
        self.resolved()
    }

    /// Tells the capability that a circle leads through it.
    fn break_circle(&self, error: &Error) {
        let _ = error;
    }

    /// The error with which every call fails, if this is a broken capability.
    fn failure(&self) -> Option<&Error> {
        None
    }

    /// The file descriptor that belongs to this capability.
    fn fd(&self) -> Option<SharedFd> {
        None
    }

    /// Describes the capability for people.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// Whether a capability may still resolve to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Settled,
    Pending,
}
