//! What can be adjusted.

use std::time::Duration;

use capnp_threads_transport::TcpOptions;

/// How peers talk over one TCP connection.
///
/// A server recognises all three. A client cannot know what a server speaks, so
/// that it says for each peer with which one to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dialect {
    /// Without a version in the handshake: network-transport-tcp up to 0.5.
    Original,
    /// Version 0 of the handshake, with probes: network-transport-tcp from 0.6.
    Versioned,
    /// Fragments, credit, heartbeats and incarnations. A server that does not
    /// know it is spoken to in the versioned dialect instead, on the same socket.
    #[default]
    Multiplexed,
}

/// What a network allows and expects. Change what should differ from the
/// default:
///
/// ```
/// use capnp_threads_endpoint::Parameters;
///
/// let mut parameters = Parameters::default();
/// parameters.max_message = 1 << 20;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parameters {
    /// How sockets are set up, and the backlog of the listening one. By default
    /// keepalive probes find peers whose machine vanished: after 30 s of silence,
    /// every 10 s, three times.
    pub tcp: TcpOptions,
    /// The host by which peers reach this network, if it is not the one that it
    /// listens at.
    pub external_host: Option<String>,
    /// The port at which peers reach this network, if it is not the one that it
    /// listens at.
    pub external_port: Option<u16>,
    /// The dialect in which to dial, unless the hints of a `connect` say
    /// otherwise.
    pub dialect: Dialect,
    /// The newest dialect that inbound dials are accepted in. Newer ones are told
    /// to use version 0.
    pub newest_dialect: Dialect,
    /// Refuse peers whose claimed host has not the address that they dial from.
    /// Off by default: it needs peers without address translation, and name
    /// lookups for those that claim names.
    pub check_peer_host: bool,
    /// How long a `connect` may take, unless its hints say otherwise, and how long
    /// an inbound dial may take to introduce itself. 10 s.
    pub connect_timeout: Duration,
    /// How many inbound sockets may be in their handshake. One more makes the
    /// oldest of them be closed. 256.
    pub max_half_open: usize,
    /// The longest address that a peer may claim, in bytes. 1024.
    pub max_address: u32,
    /// The longest message that is accepted, in bytes; a peer that sends a longer
    /// one is dropped. 64 MiB.
    pub max_message: u32,
    /// How many peers may be connected to one endpoint by dialling it; one more is
    /// closed without a reply. 4096.
    pub max_peers: usize,
    /// How many connections a peer may have open to one endpoint at a time; a
    /// peer that opens more is dropped. 65 536.
    pub max_connections: usize,
    /// How many bytes may wait to be sent before `send` blocks: to one peer, or,
    /// in the multiplexed dialect, on one connection. One message may exceed it.
    /// 1 MiB.
    pub send_queue: usize,
    /// How many bytes may wait to be received before a peer is made to wait: of
    /// one peer, or, in the multiplexed dialect, of one connection. One message
    /// may exceed it. At least 64 KiB. 1 MiB.
    pub receive_queue: u32,
    /// How many openings and closings of one peer's connections may wait to be
    /// received before nothing more is read from that peer. 131 072.
    pub max_events: usize,
    /// The multiplexed dialect: ask a peer that was silent for this long for a
    /// sign of life. 10 s.
    pub heartbeat: Duration,
    /// How long a peer that was asked for a sign of life may take until it counts
    /// as lost. 20 s.
    pub patience: Duration,
    /// How long a peer that is being left may take to read the last bytes and to
    /// agree. 2 s.
    pub linger: Duration,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            tcp: TcpOptions::new().keepalive(Duration::from_secs(30), Duration::from_secs(10), 3),
            external_host: None,
            external_port: None,
            dialect: Dialect::Multiplexed,
            newest_dialect: Dialect::Multiplexed,
            check_peer_host: false,
            connect_timeout: Duration::from_secs(10),
            max_half_open: 256,
            max_address: 1024,
            max_message: 64 << 20,
            max_peers: 4096,
            max_connections: 1 << 16,
            send_queue: 1 << 20,
            receive_queue: 1 << 20,
            max_events: 1 << 17,
            heartbeat: Duration::from_secs(10),
            patience: Duration::from_secs(20),
            linger: Duration::from_secs(2),
        }
    }
}

/// What one `connect` wishes. The wishes about dialling have no effect if the
/// peer is connected already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectHints {
    /// How long to wait, for a dial or for a peer that is being left;
    /// [`Parameters::connect_timeout`] if it is not given.
    pub timeout: Option<Duration>,
    /// The dialect in which to dial, instead of [`Parameters::dialect`].
    pub dialect: Option<Dialect>,
}

impl ConnectHints {
    /// No wishes.
    pub fn new() -> Self {
        ConnectHints::default()
    }

    /// Waits at most this long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Dials in this dialect.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }
}
