//! Networks of vats, as an [`RpcSystem`](crate::RpcSystem) sees them.

use std::fmt;
use std::hash::Hash;

use crate::error::Result;
use crate::transport::Transport;

/// A way to reach vats by name, and to be reached by them.
///
/// Two vats that talk have one connection, whoever made it: where both may call
/// at the same time it is up to the network to let one of the two attempts win on
/// both sides.
pub trait VatNetwork: Send + Sync + 'static {
    /// How a vat is named. Addresses and other hints may be part of it, but two
    /// ids are equal only if they name the same vat.
    type VatId: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// Reaches a vat. Waits, as long as the network thinks fit.
    ///
    /// # Errors
    /// `disconnected` when the vat cannot be reached now, `failed` when it never
    /// can be.
    fn connect(&self, peer: &Self::VatId) -> Result<Reached>;

    /// Waits for another vat to reach this one; `None` after
    /// [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    /// An attempt failed. The next one may not: call again.
    fn accept(&self) -> Result<Option<Accepted<Self::VatId>>>;

    /// Accepts nobody any more: [`accept`](Self::accept) returns, now and in the
    /// future. Connections that exist go on.
    fn shutdown(&self);
}

/// What became of an attempt to reach a vat.
#[non_exhaustive]
pub enum Reached {
    /// It is this very vat: there is nothing to connect.
    Oneself,
    /// A new connection.
    Peer(Transport),
    /// The other vat was faster: its attempt comes, or has come, out of
    /// [`accept`](VatNetwork::accept) and is the one that counts.
    Crossed,
}

/// A vat that has reached this one.
#[expect(clippy::exhaustive_structs, reason = "networks make it")]
pub struct Accepted<Id> {
    /// Who it is.
    pub peer: Id,
    /// The way to it.
    pub transport: Transport,
}
