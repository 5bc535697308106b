//! How large the limits are under which a vat is attacked, and so the attacks.

use std::time::Duration;

use capnp_threads_core::Limits;
use capnp_threads_core::vat::{AcceptLimits, PoolConfig};
use capnp_threads_endpoint::Parameters;

/// The limits of a vat that is attacked. Attacks are made so large that they would exceed
/// these by far.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Of each connection.
    pub limits: Limits,
    /// Of the vat's workers.
    pub pool: PoolConfig,
    /// Of those who come.
    pub accept: AcceptLimits,
    /// Of a network of endpoints.
    pub endpoints: Parameters,
}

impl Sizes {
    /// Those that users get who set none.
    pub fn default_limits() -> Self {
        Sizes {
            limits: Limits::default(),
            pool: PoolConfig::default(),
            accept: AcceptLimits::default(),
            endpoints: Parameters::default(),
        }
    }

    /// So small that each attack takes a moment.
    pub fn small() -> Self {
        let mut sizes = Sizes::default_limits();
        let limits = &mut sizes.limits;
        limits.exports = 512;
        limits.answers = 2048;
        limits.embargoes = 512;
        limits.provisions = 256;
        limits.accepts = 128;
        limits.introduced = 16;
        limits.message_words = 32 << 10;
        limits.queued_bytes = 1 << 20;
        limits.backlog_bytes = 4 << 20;
        limits.held_back_bytes = 2 << 20;
        limits.budget_bytes = 8 << 20;
        limits.received_messages = 64;
        let pool = &mut sizes.pool;
        pool.max_workers = 8;
        pool.max_waiting = 64;
        pool.max_queued = 512;
        pool.idle_time = Duration::from_millis(50);
        let accept = &mut sizes.accept;
        accept.connections = 64;
        accept.connections_per_peer = 24;
        // A sanitizer makes honest peers late, too, and those who come as a crowd: each was
        // sent away as one that says nothing.
        accept.first_message = Duration::from_millis(if cfg!(sanitized) { 5_000 } else { 300 });
        let endpoints = &mut sizes.endpoints;
        endpoints.max_half_open = 32;
        endpoints.max_message = 1 << 20;
        endpoints.max_peers = 16;
        endpoints.max_peers_per_host = 8;
        endpoints.max_connections = 2048;
        endpoints.receive_queue = 64 << 10;
        endpoints.max_received = 4 << 20;
        endpoints.max_received_in_all = 16 << 20;
        endpoints.max_events = 1024;
        endpoints.max_events_in_all = 16 << 10;
        endpoints.connect_timeout = Duration::from_secs(5);
        sizes
    }

    /// The same without any limit of a connection or a vat: what attacks meet where
    /// nothing bounds them.
    pub fn unlimited() -> Self {
        let mut sizes = Sizes::small();
        let limits = &mut sizes.limits;
        limits.exports = u32::MAX;
        limits.answers = u32::MAX;
        limits.embargoes = u32::MAX;
        limits.provisions = u32::MAX;
        limits.accepts = u32::MAX;
        limits.introduced = u32::MAX;
        limits.backlog_bytes = u64::MAX;
        limits.budget_bytes = u64::MAX;
        limits.received_messages = u32::MAX;
        let pool = &mut sizes.pool;
        pool.max_workers = 1 << 20;
        pool.max_waiting = 1 << 20;
        pool.max_queued = 1 << 20;
        let accept = &mut sizes.accept;
        accept.connections = u32::MAX;
        accept.connections_per_peer = u32::MAX;
        accept.first_message = Duration::MAX;
        let endpoints = &mut sizes.endpoints;
        endpoints.max_half_open = usize::MAX;
        endpoints.max_peers_per_host = usize::MAX;
        endpoints.max_connections = usize::MAX;
        endpoints.max_sessions = usize::MAX;
        endpoints.max_sessions_per_peer = usize::MAX;
        endpoints.connect_timeout = Duration::MAX;
        sizes
    }
}

/// What limits how much a vat holds because of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// What one connection makes the vat hold.
    Budget,
    /// What is queued for a peer that does not read.
    Backlog,
    /// What the vat gives to one peer.
    Exports,
    /// Workers that wait for a peer.
    Waiting,
    /// Connections of all peers.
    Connections,
    /// Connections of one peer.
    ConnectionsPerPeer,
    /// Sessions of one peer of an endpoint.
    Sessions,
    /// Messages of one peer of an endpoint.
    EndpointMessages,
    /// Connections of one peer of an endpoint.
    EndpointConnections,
    /// Peers of an endpoint from one host.
    EndpointPeers,
    /// Sockets in their handshake with an endpoint.
    HalfOpen,
    /// What one peer provides for others.
    Provisions,
    /// What one peer has come for and waits for.
    Accepts,
    /// Connections to vats that one peer has introduced.
    Introduced,
}

/// What an attack may take of the vat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Bytes of memory.
    pub memory: u64,
    /// Threads.
    pub threads: u64,
    /// File descriptors.
    pub descriptors: u64,
}

/// What a connection costs: what `docs/limits.md` says, with room for what its thread is
/// just doing.
const CONNECTION: Share = Share { memory: 64 << 10, threads: 3, descriptors: 2 };

/// The sockets of those who were refused, which stay for a moment.
const REFUSED: Share = Share { memory: 1 << 20, threads: 0, descriptors: 64 };

impl Bound {
    /// The name of the setting.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Budget => "Limits::budget_bytes",
            Bound::Backlog => "Limits::backlog_bytes",
            Bound::Exports => "Limits::exports",
            Bound::Waiting => "PoolConfig::max_waiting",
            Bound::Connections => "AcceptLimits::connections",
            Bound::ConnectionsPerPeer => "AcceptLimits::connections_per_peer",
            Bound::Sessions => "Parameters::max_sessions_per_peer",
            Bound::EndpointMessages => "Parameters::max_received",
            Bound::EndpointConnections => "Parameters::max_connections",
            Bound::EndpointPeers => "Parameters::max_peers_per_host",
            Bound::HalfOpen => "Parameters::max_half_open, Parameters::max_peers",
            Bound::Provisions => "Limits::provisions",
            Bound::Accepts => "Limits::accepts",
            Bound::Introduced => "Limits::introduced",
        }
    }

    /// What it allows.
    pub fn share(self, sizes: &Sizes) -> Share {
        let memory = |memory| Share { memory, ..Share::default() };
        let endpoints = &sizes.endpoints;
        match self {
            Bound::Budget => memory(sizes.limits.budget_bytes),
            Bound::Backlog => memory(sizes.limits.backlog_bytes),
            // An entry here, and one of those who meet. Those that are refused have a small one,
            // as long as the peer may name them.
            Bound::Provisions => memory(u64::from(sizes.limits.provisions) << 12),
            // The question, and its entry of those who meet.
            Bound::Accepts => memory(u64::from(sizes.limits.accepts) << 12),
            Bound::Introduced => CONNECTION.times(sizes.limits.introduced.into()),
            // An entry, and an object of the application's.
            Bound::Exports => memory(u64::from(sizes.limits.exports) << 10),
            Bound::Waiting => {
                // One connection gets three quarters, and so do those that wait.
                let threads = (sizes.pool.max_waiting as u64).div_ceil(4) * 3;
                // A thread keeps its parker and its name, and what it does.
                Share { memory: threads * (4 << 10), threads, descriptors: 0 }
            }
            Bound::Connections => CONNECTION.times(sizes.accept.connections.into()).and(REFUSED),
            Bound::ConnectionsPerPeer => {
                CONNECTION.times(sizes.accept.connections_per_peer.into()).and(REFUSED)
            }
            // The session, and a connection with its credit in each direction.
            Bound::Sessions => {
                Share { descriptors: 0, ..CONNECTION.times(endpoints.max_sessions_per_peer as u64) }
            }
            Bound::EndpointMessages => memory(endpoints.max_received),
            // An entry for each and the events of those that nobody has received.
            Bound::EndpointConnections => memory((endpoints.max_connections as u64) << 9),
            Bound::EndpointPeers => Share { memory: 64 << 10, threads: 2, descriptors: 2 }
                .times(endpoints.max_peers_per_host as u64),
            // A socket counts until its thread has ended, and one may be given up for
            // another before. There may be twice as many as those that are wanted.
            // And the threads of those that were given up may be about to end.
            Bound::HalfOpen => Share { memory: 64 << 10, threads: 1, descriptors: 1 }
                .times(2 * (endpoints.max_half_open + endpoints.max_peers) as u64)
                .and(Share { threads: endpoints.max_half_open as u64, ..Share::default() }),
        }
    }
}

impl Share {
    fn times(self, count: u64) -> Share {
        Share {
            memory: self.memory.saturating_mul(count),
            threads: self.threads.saturating_mul(count),
            descriptors: self.descriptors.saturating_mul(count),
        }
    }

    fn and(self, other: Share) -> Share {
        Share {
            memory: self.memory.saturating_add(other.memory),
            threads: self.threads.saturating_add(other.threads),
            descriptors: self.descriptors.saturating_add(other.descriptors),
        }
    }

    /// The greater of each of the two.
    #[must_use]
    pub fn most(self, other: Share) -> Share {
        Share {
            memory: self.memory.max(other.memory),
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }

    /// What these bounds allow together, and what any connection may take in any case.
    pub fn of(bounds: &[Bound], sizes: &Sizes) -> Share {
        let message = 8 * sizes.limits.message_words;
        // What was read and what is being read, and what the attackers need themselves.
        let received = sizes.limits.budget_bytes / 8 + 2 * message + (2 << 20);
        // The workers, and those who accept, keep time and watch, of two vats and an endpoint.
        let threads = sizes.pool.max_workers as u64 + 12;
        // A worker that reads needs a descriptor to be woken by.
        let descriptors = threads + 8;
        let any = Share { memory: received, threads, descriptors }.and(CONNECTION);
        bounds.iter().fold(any, |sum, bound| sum.and(bound.share(sizes)))
    }
}
