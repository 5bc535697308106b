//! Clients: references to capabilities.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::capability::{Capability, Standing};
use super::connection::Connection;
use super::delivery::Delivery;
use super::local_promise::LocalPromise;
use super::stream::Stream;
use super::watch::{WatchKey, Watcher};
use crate::error::{Error, ErrorKind};
use crate::fd::SharedFd;
use crate::flow::FixedWindow;

/// A capability: a reference to an object in this process or elsewhere, or to a promise
/// for one. Any thread may hold, clone, call and drop it.
///
/// Calls through one client arrive in the order in which they were made, even while a
/// promise behind it resolves. A clone's calls come after those that were made through
/// the original before it was cloned. Dropping the last client that refers to an object
/// lets its owner drop the object. Clones are cheap.
///
/// Generated clients wrap one of these.
#[derive(Clone, Default)]
pub struct Client(
    /// The capability; `None` for the null capability.
    Option<Arc<dyn Capability>>,
);

// Note [cycles]
//
// A promise that is resolved to itself, directly or through other promises, fails. The
// thread that resolves a promise first publishes where the promise leads, and then
// follows that path. So of several threads that close a circle together, at least one
// sees it.
//
// A circle may lead through a peer: a promise of this side resolves to a promise of the
// peer, which resolves to the first one. Such a circle shows when the peer's promise
// resolves to something that is pinned to the place of that promise itself: this side
// has described it to the peer as being the peer's promise. Everything that is sent
// there would come back for ever. So the places on the circle are given up, too: calls
// that arrive there fail, and the two vats do not keep each other's promises alive. The
// search goes on through embargoes that have not ended, or the embargoes of the two vats
// could wait for each other for ever. (A circle through three vats looks like a chain to
// each of them. A circle that leads through a pipeline given out early shows when the
// call is answered; until then, what is sent there goes round.)

/// Maximum length of a chain of promises. A longer one is taken for a circle.
const MAX_CHAIN: usize = 1 << 16;

impl Client {
    /// The null capability. Calls on it fail.
    pub fn null() -> Self {
        Client(None)
    }

    /// A reference to a capability of any kind.
    pub(crate) fn of(kind: Arc<impl Capability>) -> Self {
        Client(Some(kind))
    }

    /// Whether this is the null capability; `false` for a promise that has not yet
    /// resolved to it.
    pub fn is_null(&self) -> bool {
        self.shortened().0.is_none()
    }

    /// The error with which all calls fail, if it is already known that they do.
    pub fn failure(&self) -> Option<Error> {
        self.shortened().broken_by().cloned()
    }

    /// Whether this may still resolve to another capability.
    pub fn is_unresolved(&self) -> bool {
        self.shortened().is_promise()
    }

    /// A number that equal clients share while they exist.
    pub fn identity(&self) -> usize {
        self.shortened().address()
    }

    /// The file descriptor that belongs to the capability: the one with which an object
    /// of this process was [made callable](crate::Vat::export_with_fd), or the one that
    /// the peer sent with a capability of its own.
    ///
    /// `None` if there is none, if the connection does not carry file descriptors or
    /// too many were sent at once (see [`Limits`](crate::Limits)), and for a promise
    /// that is not resolved yet: [`resolve`](Self::resolve) it first. The descriptor
    /// stays open until its last handle is dropped, even if the capability is gone by
    /// then.
    pub fn fd(&self) -> Option<SharedFd> {
        self.shortened().0?.fd()
    }

    // ---- For the rest of the library

    fn kind(&self) -> Option<&dyn Capability> {
        self.0.as_deref()
    }

    /// The capability, if it is of this kind.
    pub(crate) fn kind_as<K: Capability>(&self) -> Option<&K> {
        (self.kind()? as &dyn std::any::Any).downcast_ref()
    }

    /// As [`kind_as`](Self::kind_as), but returns a counted reference.
    pub(crate) fn into_kind_as<K: Capability>(self) -> Option<Arc<K>> {
        (self.0? as Arc<dyn std::any::Any + Send + Sync>).downcast().ok()
    }

    /// Takes a delivery to where this leads. Never waits.
    ///
    /// Must not be called under a lock.
    pub(crate) fn deliver(self, delivery: Delivery) {
        let (mut client, mut delivery) = (self, delivery);
        loop {
            let Some(kind) = client.0 else {
                return delivery.answer_for_null();
            };
            match kind.accept(delivery) {
                Ok(()) => return,
                Err((next, back)) => (client, delivery) = (next, back),
            }
        }
    }

    /// Follows resolved promises to what they have resolved to.
    pub(crate) fn shortened(&self) -> Client {
        let mut client = self.clone();
        while let Some(next) = client.next_resolved() {
            client = next;
        }
        client
    }

    /// One step of [`shortened`](Self::shortened).
    pub(crate) fn next_resolved(&self) -> Option<Client> {
        self.kind()?.resolved()
    }

    /// The time limit for calls through this very reference.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.kind()?.timeout()
    }

    /// Whether this very reference may still resolve to another capability.
    pub(crate) fn is_promise(&self) -> bool {
        self.kind().is_some_and(|kind| kind.standing() == Standing::Pending)
    }

    /// The error with which every call through this very reference fails, if it is
    /// broken.
    pub(crate) fn broken_by(&self) -> Option<&Error> {
        self.kind()?.failure()
    }

    /// Whether this very reference is null or broken.
    pub(crate) fn is_null_or_broken(&self) -> bool {
        self.0.is_none() || self.broken_by().is_some()
    }

    /// The address of this very reference in memory; 0 if it is null or broken.
    pub(crate) fn address(&self) -> usize {
        match &self.0 {
            Some(kind) if kind.failure().is_none() => Arc::as_ptr(kind).cast::<()>() as usize,
            _ => 0,
        }
    }

    /// Describes what this leads to, for people.
    pub(crate) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shortened().kind() {
            Some(kind) => kind.describe(f),
            None => f.write_str("null"),
        }
    }

    /// The object of this process of which this very reference is the outside.
    pub(super) fn object(&self) -> Option<Client> {
        self.kind()?.object()
    }

    /// Whether this very reference is, for good, a capability that a peer hosts.
    pub(super) fn is_settled_import(&self) -> bool {
        self.kind().is_some_and(Capability::is_settled_import)
    }

    /// The connection over which a call would be sent now.
    pub(crate) fn connection(&self) -> Option<&dyn Connection> {
        self.kind()?.connection()
    }

    /// The capability behind this very reference, if it only stands in front of
    /// another.
    pub(super) fn behind_this(&self) -> Option<Client> {
        self.kind()?.behind()
    }

    /// The first capability that does not merely stand in front of another one.
    pub(crate) fn innermost(&self) -> Client {
        let mut client = self.shortened();
        // A reconnecting capability whose closure returns that very capability leads
        // nowhere.
        for _ in 0..MAX_CHAIN {
            match client.behind_this() {
                Some(next) => client = next.shortened(),
                None => break,
            }
        }
        client
    }

    /// Whether this is connected again after its connection was lost.
    pub(crate) fn comes_back(&self) -> bool {
        self.shortened().kind().is_some_and(Capability::comes_back)
    }

    /// Whether this leads nowhere until it is connected again.
    pub(super) fn is_unconnected(&self) -> bool {
        self.innermost().kind().is_some_and(Capability::is_unconnected)
    }

    /// Whether calls fail because a connection has ended.
    pub(crate) fn is_disconnected(&self) -> bool {
        let client = self.innermost();
        match client.broken_by() {
            Some(error) => error.kind() == ErrorKind::Disconnected,
            None => client.connection().is_some_and(|connection| connection.room().is_closed()),
        }
    }

    /// The stream of calls through this capability.
    pub(crate) fn stream(&self) -> Arc<Stream> {
        match self.shortened().kind() {
            Some(kind) => kind.stream(),
            None => Stream::new(Box::new(FixedWindow::DEFAULT)),
        }
    }

    /// Takes over the stream of a promise that has resolved to this capability.
    pub(crate) fn adopt_stream(&self, stream: Arc<Stream>) {
        if let Some(kind) = self.kind() {
            kind.adopt_stream(stream);
        }
    }

    /// Adds a watcher to a promise. Gives the watcher back if this is not a promise, or
    /// is resolved.
    pub(crate) fn watch(&self, watcher: Watcher) -> Result<(), Watcher> {
        match self.kind() {
            Some(kind) => kind.watch(watcher),
            None => Err(watcher),
        }
    }

    /// Removes a watcher that is gone.
    pub(crate) fn unwatch(&self, key: &WatchKey<'_>) {
        if let Some(kind) = self.kind() {
            kind.unwatch(key);
        }
    }

    /// Follows this, even through promises that are about to resolve. If the path leads
    /// to the promise `end`, returns the error with which `end` fails. See
    /// Note [cycles].
    pub(crate) fn circle_to(&self, end: &Client) -> Option<Error> {
        if !self.leads_to(end, |_| ()) {
            return None;
        }
        let error = Error::failed("a promise was resolved to itself");
        self.leads_to(end, |passed| passed.break_circle(&error));
        Some(error)
    }

    fn leads_to(&self, end: &Client, pass: impl Fn(&dyn Capability)) -> bool {
        let end = end.address();
        let mut client = self.clone();
        for _ in 0..MAX_CHAIN {
            if client.is_promise() && client.address() == end {
                return true;
            }
            let Some(kind) = client.kind() else { return false };
            let next = kind.leads_to();
            pass(kind);
            match next {
                Some(next) => client = next,
                None => return false,
            }
        }
        true
    }

    /// A promise for the capability to which both will resolve. It resolves once neither is
    /// a promise any more: two embargoes in front of one object are lifted one by one.
    ///
    /// Must not be called under a lock.
    pub(crate) fn behind(self, first: Client) -> Client {
        let first = first.shortened();
        if first.broken_by().is_some() {
            return first;
        }
        if !first.is_promise() {
            return self;
        }
        let both = LocalPromise::new(None);
        let client = Client::of(Arc::clone(&both));
        if let Err(Watcher::Promise(both, target)) = first.watch(Watcher::Promise(both, self)) {
            // It was resolved just now.
            both.resolve(target);
        }
        client
    }
}

/// Clients are equal when they refer to the same object, or to the same promise
/// that is not resolved yet. Two broken clients are equal when they fail alike.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.shortened(), other.shortened());
        // Null and broken capabilities have no address.
        let a_fails = (a.0.is_none(), a.broken_by());
        a_fails == (b.0.is_none(), b.broken_by()) && a.address() == b.address()
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(")?;
        self.describe(f)?;
        f.write_str(")")
    }
}
