//! Where peers come from: listeners for [`Vat::serve`](crate::Vat::serve), and networks of
//! vats for an [`RpcSystem`](crate::RpcSystem).

use std::fmt;
use std::hash::Hash;

use super::Transport;
use super::introductions::Introductions;
use crate::error::Result;

/// Where peers connect to a vat that [serves](crate::Vat::serve) them.
pub trait Listen: Sync {
    /// Waits for the next peer. `None` once the listener is closed.
    ///
    /// # Errors
    /// A peer could not be accepted; `overloaded` if the system is out of something. Call
    /// again, after a pause: the next attempt may succeed.
    fn next_peer(&self) -> Result<Option<Transport>>;

    /// What closes the listener from any thread: a thread that waits in
    /// [`next_peer`](Self::next_peer) returns, and no peer is accepted any more.
    fn closing(&self) -> Box<dyn Fn() + Send + Sync>;
}

/// A way to connect to vats by their ids, and to accept their connections.
///
/// Two vats that talk have one connection, whichever of them made it. If both may
/// connect at the same time, the network must let the same one of the two attempts win
/// on both sides.
pub trait VatNetwork: Send + Sync + 'static {
    /// The id of a vat. Addresses and other hints may be part of it, but two ids must
    /// be equal only if they name the same vat.
    type VatId: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// Connects to a vat. Waits as long as the network sees fit.
    ///
    /// # Errors
    /// `disconnected` when the vat cannot be reached now, `failed` when it never
    /// can be.
    fn connect(&self, peer: &Self::VatId) -> Result<Reached>;

    /// Waits for another vat to reach this one; `None` after
    /// [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    /// An attempt failed. Call again: the next one may succeed.
    fn accept(&self) -> Result<Option<Accepted<Self::VatId>>>;

    /// Ends accepting: [`accept`](Self::accept) returns `None`, now and in the future.
    /// Existing connections go on.
    fn shutdown(&self);

    /// How the vats of this network introduce each other, so that a capability that one of
    /// them gives to another is called without a detour. By default they do not, and whoever
    /// gives a capability away stands in for the vat that hosts it.
    fn introductions(&self) -> Option<&dyn Introductions<Self::VatId>> {
        None
    }
}

/// The outcome of an attempt to connect to a vat.
#[non_exhaustive]
pub enum Reached {
    /// The id is that of this vat: there is nothing to connect.
    Oneself,
    /// A new connection.
    Peer(Transport),
    /// The other vat was faster. The connection that counts comes out of
    /// [`accept`](VatNetwork::accept), or has done so already.
    Crossed,
}

/// A vat that has connected to this one.
#[expect(clippy::exhaustive_structs, reason = "networks make it")]
pub struct Accepted<Id> {
    /// The id of the vat.
    pub peer: Id,
    /// The connection to the vat.
    pub transport: Transport,
}
