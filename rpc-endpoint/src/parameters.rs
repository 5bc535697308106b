//! What can be adjusted.

use std::io;
use std::time::Duration;

use capnp_threads_transport::TcpOptions;

use super::wire::MIN_WINDOW;

/// How peers talk over one TCP connection.
///
/// A server recognises all three. A client cannot know what a server speaks, so it says
/// for each peer with which one to begin.
///
/// ```
/// use capnp_threads_endpoint::{Dialect, Parameters};
///
/// let mut parameters = Parameters::default();
/// // The peers are programs in Haskell.
/// parameters.dialect = Dialect::Versioned;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dialect {
    /// Without a version in the handshake: network-transport-tcp up to 0.5.
    Original,
    /// Version 0 of the handshake, with probes: network-transport-tcp from 0.6.
    Versioned,
    /// Fragments, credit, heartbeats and incarnations. A server that does not know it is
    /// spoken to in the versioned dialect instead, on the same socket.
    #[default]
    Multiplexed,
}

/// What a network allows and expects. Change what should differ from the default:
///
/// ```
/// use capnp_threads_endpoint::Parameters;
///
/// let mut parameters = Parameters::default();
/// parameters.max_message = 1 << 20;
/// ```
///
/// A [`Network`](super::Network) that is made of them checks them first. Every time limit
/// may be zero, or as long as a [`Duration`] can be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parameters {
    /// The key by which peers know this network, if it has one; it then connects only to
    /// networks with keys, over TLS. Addresses of its endpoints begin with its id, as in
    /// `VATID@host:port:0`, and nobody else can have them. Not understood by other
    /// implementations. Default: none.
    #[cfg(feature = "tls")]
    pub key: Option<capnp_threads_transport::tls::VatKey>,
    /// How sockets are set up, and the backlog of the listening one. By default keepalive
    /// probes find peers whose machine has vanished: after 30 s of silence, every 10 s,
    /// three times.
    pub tcp: TcpOptions,
    /// The host by which peers reach this network, if it is not the one at which it
    /// listens.
    pub external_host: Option<String>,
    /// The port at which peers reach this network, if it is not the one at which it
    /// listens.
    pub external_port: Option<u16>,
    /// The dialect in which to dial, unless the hints of a `connect` say otherwise.
    pub dialect: Dialect,
    /// The newest dialect in which inbound dials are accepted. Those in newer ones are
    /// told to use version 0.
    pub newest_dialect: Dialect,
    /// Refuse peers that dial from another address than that of the host that they claim.
    /// Off by default: it needs a network without address translation, and name lookups
    /// for peers that claim names.
    pub check_peer_host: bool,
    /// How long a `connect` may take, unless its hints say otherwise, and how long an
    /// inbound dial may take to introduce itself. 10 s.
    pub connect_timeout: Duration,
    /// How many inbound sockets may be in their handshake. When one more comes, the
    /// oldest of them is closed. 256.
    pub max_half_open: usize,
    /// The longest address that a peer may claim, in bytes. 1024.
    pub max_address: u32,
    /// The longest message that is accepted, in bytes. A peer that sends a longer one is
    /// dropped. 64 MiB.
    pub max_message: u32,
    /// How many peers that have dialled may be connected to this network. One more is
    /// closed without a reply. 1024.
    pub max_peers: usize,
    /// How many of them may have dialled from one host: from one IPv4 address, or from
    /// one IPv6 network of 64 bits. 32.
    pub max_peers_per_host: usize,
    /// How many connections a peer may have open to one endpoint at a time. A peer that
    /// opens more is dropped. 65 536.
    pub max_connections: usize,
    /// How many connections all peers together may have open to this network. Beyond it,
    /// a peer that opens one more is dropped if it has more than its share, which is this
    /// number divided by that of the peers. 262 144.
    pub max_connections_in_all: usize,
    /// How many bytes may wait to be sent before `send` blocks: to one peer, or, in the
    /// multiplexed dialect, on one connection. One message may exceed it. 1 MiB.
    pub send_queue: usize,
    /// How many bytes may wait to be received before a peer is made to wait: of one peer,
    /// or, in the multiplexed dialect, of one connection. One message may exceed it. At
    /// least 64 KiB. 1 MiB.
    pub receive_queue: u32,
    /// How many bytes of one peer's messages may be held here, incomplete or not received
    /// yet, on all its connections together. Beyond it nothing more is read from the peer
    /// until some are received; a peer whose incomplete messages alone exceed it is
    /// dropped. At least `max_message`. 256 MiB.
    pub max_received: u64,
    /// How many bytes of all peers' messages may be held here. Beyond it, a peer that
    /// sends more is dropped if it has more than its share, which is this number divided
    /// by that of the peers. 1 GiB.
    pub max_received_in_all: u64,
    /// How many openings and closings of one peer's connections may wait to be received
    /// before nothing more is read from that peer. 16 384.
    pub max_events: usize,
    /// How many events may wait to be received at one endpoint before peers that dial it
    /// are turned away. 131 072.
    pub max_events_in_all: usize,
    /// For an [`EndpointNetwork`](super::EndpointNetwork): how many sessions that other
    /// vats began may go on at a time. One more is refused. Each is a connection of the
    /// RPC system, with its threads. 1024.
    pub max_sessions: usize,
    /// How many of them one peer may have begun. An honest one has a single session for
    /// most of the time, and a few when it is restarted. 16.
    pub max_sessions_per_peer: usize,
    /// How long a peer may be silent before it is asked for a sign of life. In the
    /// multiplexed dialect; in the others, see `probe_older_dialects`. 10 s.
    pub heartbeat: Duration,
    /// How long a peer that was asked for a sign of life may take until it counts as
    /// lost. 20 s.
    pub patience: Duration,
    /// Ask silent peers of the versioned dialect for a sign of life, too, and those of the
    /// original one that are known to answer. Off by default: the Haskell implementation
    /// writes its answer without regard to what its other threads are writing, and may put
    /// it into the middle of a long message that it begins at that moment.
    pub probe_older_dialects: bool,
    /// How long a peer that is being left may take to read the last bytes and to agree.
    /// 2 s.
    pub linger: Duration,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            #[cfg(feature = "tls")]
            key: None,
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
            max_peers: 1024,
            max_peers_per_host: 32,
            max_connections: 1 << 16,
            max_connections_in_all: 1 << 18,
            send_queue: 1 << 20,
            receive_queue: 1 << 20,
            max_received: 256 << 20,
            max_received_in_all: 1 << 30,
            max_events: 1 << 14,
            max_events_in_all: 1 << 17,
            max_sessions: 1024,
            max_sessions_per_peer: 16,
            heartbeat: Duration::from_secs(10),
            patience: Duration::from_secs(20),
            probe_older_dialects: false,
            linger: Duration::from_secs(2),
        }
    }
}

impl Parameters {
    /// Whether a network can work with them.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`], which names one that cannot.
    pub(super) fn check(&self) -> io::Result<()> {
        let fault = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let counts = [
            ("max_half_open", self.max_half_open),
            ("max_peers", self.max_peers),
            ("max_peers_per_host", self.max_peers_per_host),
            ("max_connections", self.max_connections),
            ("max_connections_in_all", self.max_connections_in_all),
            ("send_queue", self.send_queue),
            ("max_events", self.max_events),
            ("max_events_in_all", self.max_events_in_all),
            ("max_sessions", self.max_sessions),
            ("max_sessions_per_peer", self.max_sessions_per_peer),
        ];
        for (name, count) in counts {
            if count == 0 {
                return fault(format!("Parameters::{name} is 0, and must be at least 1"));
            }
        }
        let bytes = [
            ("receive_queue", self.receive_queue.into(), MIN_WINDOW.into()),
            ("max_received", self.max_received, self.max_message.into()),
            ("max_received_in_all", self.max_received_in_all, self.max_message.into()),
        ];
        for (name, bytes, least) in bytes {
            if bytes < least {
                return fault(format!(
                    "Parameters::{name} is {bytes}, and must be at least {least}"
                ));
            }
        }
        if self.dialect > self.newest_dialect {
            return fault(format!(
                "Parameters::dialect is {:?}, and newest_dialect does not allow it",
                self.dialect
            ));
        }
        if let Some(host) = &self.external_host {
            let is_strange = |c: char| c.is_whitespace() || c.is_control() || "@,/[]".contains(c);
            if host.is_empty() || host.contains(is_strange) {
                return fault(format!("Parameters::external_host is {host:?}, which is no host"));
            }
        }
        Ok(())
    }
}

/// What one `connect` wishes. Wishes about dialling have no effect if the peer is
/// connected already.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads_endpoint::ConnectHints;
///
/// let hints = ConnectHints::new().timeout(Duration::from_secs(5));
/// # let _ = hints;
/// ```
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        assert!(Parameters::default().check().is_ok());
        type Change = fn(&mut Parameters);
        let wrong: [(&str, Change); 17] = [
            ("max_half_open", |p| p.max_half_open = 0),
            ("max_peers", |p| p.max_peers = 0),
            ("max_peers_per_host", |p| p.max_peers_per_host = 0),
            ("max_connections", |p| p.max_connections = 0),
            ("max_connections_in_all", |p| p.max_connections_in_all = 0),
            ("send_queue", |p| p.send_queue = 0),
            ("max_events", |p| p.max_events = 0),
            ("max_events_in_all", |p| p.max_events_in_all = 0),
            ("max_sessions", |p| p.max_sessions = 0),
            ("max_sessions_per_peer", |p| p.max_sessions_per_peer = 0),
            ("receive_queue", |p| p.receive_queue = MIN_WINDOW - 1),
            ("max_received", |p| p.max_received = 1 << 20),
            ("max_received_in_all", |p| p.max_received_in_all = 1 << 20),
            ("dialect", |p| p.newest_dialect = Dialect::Versioned),
            ("external_host", |p| p.external_host = Some(String::new())),
            ("external_host", |p| p.external_host = Some("a\0b".to_owned())),
            ("external_host", |p| p.external_host = Some("a,b".to_owned())),
        ];
        for (name, change) in wrong {
            let mut parameters = Parameters::default();
            change(&mut parameters);
            let error = parameters.check().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("Parameters::{name} ")), "{error}");
        }
        for host in ["localhost", "10.0.0.1", "::1", "fe80::1%2"] {
            let external_host = Some(host.to_owned());
            assert!(Parameters { external_host, ..Parameters::default() }.check().is_ok());
        }
    }
}
