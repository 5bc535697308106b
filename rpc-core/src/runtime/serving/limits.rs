//! How many peers may come, and how long they may keep silent.

use std::time::Duration;

use crate::error::{Error, Result};

/// Limits on the connections that peers make to this vat: for [`Vat::serve`] and, with
/// [`RpcSystemBuilder::accept_limits`], for a system. Connections that this vat makes do
/// not count.
///
/// A peer for which there is no room is told so with an Abort, as far as its socket
/// takes that without waiting, and is let go. Each connection has three threads here.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads_core::vat::AcceptLimits;
///
/// let mut limits = AcceptLimits::default();
/// limits.connections = 10_000;
/// limits.idle = Duration::from_secs(600);
/// ```
///
/// [`Vat::serve`]: crate::Vat::serve
/// [`RpcSystemBuilder::accept_limits`]: crate::network::RpcSystemBuilder::accept_limits
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptLimits {
    /// Maximum number of connections of all peers together, counted until their threads
    /// are gone. Default: 1024.
    pub connections: u32,

    /// Maximum number of connections from one peer: from one IPv4 address, from one IPv6
    /// network of 64 bits, of one user of this machine, or of one vat that has proved its
    /// id. Peers of which the transport knows none of these cannot be told apart, and only
    /// `connections` limits them. Default: 256.
    pub connections_per_peer: u32,

    /// How long a peer may take to send its first message. Default: 10 seconds.
    pub first_message: Duration,

    /// How long a connection may stay open while no call is under way and nothing is sent
    /// or received. It is then closed, even if the peer still holds capabilities. Less than a
    /// millisecond counts as one.
    /// Default: [`Duration::MAX`], which is for ever.
    pub idle: Duration,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        AcceptLimits {
            connections: 1024,
            connections_per_peer: 256,
            first_message: Duration::from_secs(10),
            idle: Duration::MAX,
        }
    }
}

impl AcceptLimits {
    /// Whether somebody can connect.
    ///
    /// # Errors
    /// `failed`, with the name of the limit that lets nobody in.
    pub(crate) fn check(&self) -> Result<()> {
        let counts = [
            ("connections", self.connections),
            ("connections_per_peer", self.connections_per_peer),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => Err(Error::failed(format!(
                "AcceptLimits::{name} is 0, so that nobody could connect; make it 1 or more"
            ))),
            None => Ok(()),
        }
    }
}
