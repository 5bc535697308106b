//! What an endpoint tells its program.

use super::address::{ConnectionId, EndpointAddress};

/// Something that happened at an endpoint.
///
/// Events of one connection come in order: opened, messages, and one end, which
/// is either `ConnectionClosed` or the `ConnectionLost` of its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer opened a connection to this endpoint.
    ConnectionOpened {
        /// How later events name it.
        connection: ConnectionId,
        /// Who opened it. Peers tell their address themselves.
        from: EndpointAddress,
    },
    /// A message arrived.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// The slices that were sent, as one.
        message: Vec<u8>,
    },
    /// The peer closed a connection, and every message of it was received.
    ConnectionClosed {
        /// Which connection.
        connection: ConnectionId,
    },
    /// The TCP connection to a peer is gone, and with it every connection from
    /// and to that peer. There is one such event for all of them.
    ConnectionLost {
        /// The peer.
        peer: EndpointAddress,
        /// What happened, for people.
        reason: String,
    },
    /// The network as a whole stopped working. `EndpointClosed` follows.
    NetworkFailed {
        /// What happened, for people.
        reason: String,
    },
    /// The endpoint was closed. This is the last event.
    EndpointClosed,
}
