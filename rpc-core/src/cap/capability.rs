//! What a capability must do.
//!
//! A [`Client`] refers to a *kind* of capability: an object, something of a peer's, a
//! promise, what stands in front of another capability. To the rest of the library all
//! of them are this one trait. Each implements it in the file that it lives in; another
//! one is another file, and nothing else.
//!
//! Whoever has kinds of its own, as a connection has its imports, finds them again by
//! their type: [`Client::kind_as`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::client::Client;
use super::connection::Connection;
use super::delivery::Delivery;
use super::stream::Stream;
use super::watch::{WatchKey, Watcher};
use crate::error::Error;
use crate::fd::SharedFd;
use crate::flow::FixedWindow;

/// One kind of capability. All but [`accept`](Capability::accept) may be asked under an order
/// lock, and take one leaf lock at a time.
pub(crate) trait Capability: Any + Send + Sync {
    // ---- Calls

    /// Takes a delivery, or gives it back with the capability that it goes on to.
    /// Never waits.
    ///
    /// Must not be called under a lock.
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)>;

    /// The connection that a call would be sent over now.
    fn connection(&self) -> Option<&dyn Connection> {
        None
    }

    /// What is behind this one, if it only stands in front of another capability.
    fn behind(&self) -> Option<Client> {
        None
    }

    /// The stream of the calls through this.
    fn stream(&self) -> Arc<Stream> {
        // Calls fail at once, and so does the stream.
        Stream::new(Box::new(FixedWindow::DEFAULT))
    }

    /// Goes on with the stream of a promise that has resolved to this.
    fn adopt_stream(&self, stream: Arc<Stream>) {
        drop(stream);
    }

    // ---- What it is, and will be

    /// Whether it may still turn out to be something else.
    fn standing(&self) -> Standing {
        Standing::Settled
    }

    /// What it has turned out to be, or stands for, if that is not itself.
    fn resolved(&self) -> Option<Client> {
        None
    }

    /// Adds a watcher to a promise; gives it back if this is none, or is resolved.
    fn watch(&self, watcher: Watcher) -> Result<(), Watcher> {
        Err(watcher)
    }

    /// Forgets a watcher that is gone.
    fn unwatch(&self, key: &WatchKey<'_>) {
        let _ = key;
    }

    /// Where what is sent here comes by next, also when this is only about to resolve
    /// to that: for the search for circles, see Note [cycles].
    fn leads_to(&self) -> Option<Client> {
        self.resolved()
    }

    /// A circle leads through this.
    fn break_circle(&self, error: &Error) {
        let _ = error;
    }

    /// Why every call fails, if that is all there is to this.
    fn failure(&self) -> Option<&Error> {
        None
    }

    /// The file descriptor that belongs to it.
    fn fd(&self) -> Option<SharedFd> {
        None
    }

    /// What people are told it is.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// Whether a capability may still turn out to be something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Settled,
    Pending,
}
