//! All of a vat's connections over one network.
//!
//! No other lock is held together with the table's lock, except that it may be taken
//! under the flow limit's. Nothing waits, and no application code runs, under it.

mod accepting;
mod admission;
mod builder;
mod ended;
mod handoffs;
mod idle;
mod peers;
mod reaching;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::admission::Admission;
pub use self::builder::RpcSystemBuilder;
use self::builder::Settings;
use self::ended::Ended;
use self::idle::Idler;
use self::peers::{Peers, Phase, Slot};
use super::config::ConnConfig;
use super::connection::Connection;
use super::draining;
use super::serving::Door;
use super::vat::Vat;
use crate::budget::Places;
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::log::tell;
use crate::panics;
use crate::protocol::handoff::meetings::Meetings;
use crate::sync::Mutex;
use crate::transport::network::VatNetwork;
use crate::transport::{PeerDescription, Transport};

/// The vat that asks for the bootstrap capability.
#[derive(Debug)]
#[non_exhaustive]
pub struct Peer<'a, Id> {
    /// The vat's id in the network.
    pub id: &'a Id,
    /// What the transport knows of the vat; empty when this vat asks itself.
    pub description: PeerDescription,
}

/// A vat in a network of vats: it accepts connections, connects to the vats that the
/// application asks for, and keeps one connection to each of them. Cloning gives
/// another handle on the same system.
///
/// Dropping the last handle stops accepting and closes every connection.
///
/// ```
/// use capnp_threads_core::network::VatNetwork;
/// use capnp_threads_core::{FromClient, Result, RpcSystem, Vat};
///
/// /// The bootstrap capability of another vat in a network; and of this one for the others.
/// fn reach<N: VatNetwork, C: FromClient>(network: N, own: C, other: &N::VatId) -> Result<C> {
///     let system = RpcSystem::builder(&Vat::new(), network).bootstrap(own).start()?;
///     let other = system.bootstrap(other);
///     // … and keep the system for as long as the capability is called.
/// #   drop(system);
///     Ok(other)
/// }
/// ```
pub struct RpcSystem<N: VatNetwork> {
    handle: Arc<Handle<N>>,
}

struct Handle<N: VatNetwork>(Arc<Shared<N>>);

struct Shared<N: VatNetwork> {
    vat: Vat,
    network: N,
    door: Arc<Door>,
    settings: Settings<N::VatId>,
    peers: Mutex<Peers<N::VatId>>,
    /// Where the vats meet that are introduced to each other.
    meetings: Arc<Meetings>,
    /// For the vats to which this one connects because others have introduced them.
    introduced: Arc<Places>,
    /// The flow limit of every connection. The table's lock is taken under this one.
    flow_limit: Mutex<u64>,
    acceptor: Mutex<Option<Ended>>,
    idler: Mutex<Option<Idler>>,
}

impl<N: VatNetwork> RpcSystem<N> {
    /// Begins the settings of a system that connects `vat` to the vats in `network`.
    pub fn builder(vat: &Vat, network: N) -> RpcSystemBuilder<N> {
        RpcSystemBuilder::new(vat.clone(), network)
    }

    /// The bootstrap capability of a vat. If there is no connection to the vat, this
    /// waits until there is one, but it does not wait for the capability, which can be
    /// called at once.
    ///
    /// A vat that asks for itself gets what it offers to itself, without a connection.
    /// If the vat cannot be reached, every call on the capability fails with the
    /// reason.
    pub fn bootstrap<C: FromClient>(&self, peer: &N::VatId) -> C {
        C::from_client(self.shared().bootstrap(peer).unwrap_or_else(Client::broken))
    }

    /// The connection to a vat, which is made if there is none. `None` if the vat is
    /// this one.
    ///
    /// # Errors
    /// The vat cannot be reached, or this thread must not wait.
    pub fn connection(&self, peer: &N::VatId) -> Result<Option<Connection>> {
        self.shared().reach(peer)
    }

    /// Sets what makes the traces of errors that are sent, on every connection of this
    /// system, existing ones included; see [`ConnConfig::trace_encoder`].
    pub fn set_trace_encoder(&self, encoder: impl Fn(&Error) -> String + Send + Sync + 'static) {
        self.shared().settings.common.trace_encoder.set(Some(Arc::new(encoder)));
    }

    /// How many peers are connected.
    pub fn connection_count(&self) -> usize {
        self.shared().up().len()
    }

    /// Changes how many words of calls each peer may have under way here, on every
    /// existing and every future connection; see [`Connection::set_flow_limit`]. Does
    /// not wait.
    pub fn set_flow_limit(&self, words: u64) {
        let connections = {
            let mut limit = self.shared().flow_limit.lock();
            *limit = words;
            // A connection that is not in the table yet gets the limit when it is put
            // there.
            let connections = self.shared().up();
            for (_, connection) in &connections {
                connection.note_flow_limit(words);
            }
            connections
        };
        for (_, connection) in connections {
            connection.apply_flow_limit();
        }
    }

    /// Closes the connections over which nothing is going on: no call is under way in
    /// either direction, and neither side holds capabilities of the other. A connection
    /// is made again when it is needed. Returns the number of connections that this
    /// tried to close. Does not wait.
    ///
    /// If the network's transports [can tell the
    /// peer](crate::transport::MessageWriter::declare_idle), as endpoints can, a connection is
    /// closed only when the peer agrees, and no call is lost that the peer begins at
    /// the same time. Over other transports such calls fail with `disconnected`.
    pub fn close_idle(&self) -> usize {
        self.shared().up().iter().filter(|(_, connection)| connection.end_if_unused()).count()
    }

    /// Ends in an orderly way: accepts no more connections, answers the calls of the peers
    /// that have arrived, and then closes every connection. Returns whether all of these
    /// calls were answered within `timeout`; those that were not are cancelled.
    ///
    /// Calls that arrive meanwhile are refused with an error that says
    /// [`is_draining`](Error::is_draining): their callers know that they did not begin,
    /// and that another server may take them. That includes calls that a peer has to make
    /// before it can answer a call of this side.
    ///
    /// Returns at the latest after `timeout` and twice the
    /// [close timeout](RpcSystemBuilder::close_timeout), also if threads of the connections'
    /// supervisors go on.
    ///
    /// # Errors
    /// This thread runs a method of this vat, or serves a connection: it would wait for
    /// itself.
    pub fn drain(&self, timeout: Duration) -> Result<bool> {
        self.shared().vat.wait_outside(|| {
            let deadline = Deadline::after(timeout);
            let connections: Vec<_> =
                self.shared().stop(deadline).iter().map(Connection::inner).collect();
            draining::drain(&connections, deadline)
        })
    }

    /// The network.
    pub fn network(&self) -> &N {
        &self.shared().network
    }

    fn shared(&self) -> &Arc<Shared<N>> {
        &self.handle.0
    }
}

impl<N: VatNetwork> Clone for RpcSystem<N> {
    fn clone(&self) -> Self {
        RpcSystem { handle: Arc::clone(&self.handle) }
    }
}

impl<N: VatNetwork> fmt::Debug for RpcSystem<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcSystem")
            .field("vat", &self.shared().vat)
            .field("connections", &self.connection_count())
            .finish_non_exhaustive()
    }
}

impl<N: VatNetwork> Drop for Handle<N> {
    fn drop(&mut self) {
        if self.0.vat.check_process().is_err() {
            // A forked child has none of the threads, and its parent goes on.
            return;
        }
        for connection in self.0.stop(Deadline::NEVER) {
            connection.close();
        }
    }
}

impl<N: VatNetwork> Shared<N> {
    /// What a peer is admitted to.
    ///
    /// # Errors
    /// It is refused, or the authorizer panicked.
    fn admit(&self, id: &N::VatId, description: PeerDescription) -> Result<Admission> {
        let Some(authorize) = &self.settings.authorizer else { return Ok(Admission::new()) };
        panics::catch(|| authorize(&Peer { id, description })).unwrap_or_else(|panicked| {
            tell!(ERROR, message = panicked.message, "an authorizer or factory panicked");
            Err(Error::failed("the authorizer or bootstrap factory panicked")
                .with_internal(panicked.message))
        })
    }

    fn begin(
        self: &Arc<Self>,
        peer: &N::VatId,
        transport: Transport,
        admission: Admission,
    ) -> Result<Connection> {
        let mut common = self.settings.common.clone();
        let Admission { bootstrap, limits } = admission;
        if let Some(limits) = limits {
            common.limits = limits;
        }
        let neighbour = self.neighbour(peer, &common.limits);
        let mut config = ConnConfig::with_common(common)
            .flow_limit(*self.flow_limit.lock())
            .bootstrap_with(move |_| bootstrap);
        config.neighbour = neighbour;
        self.vat.connect(transport, config)
    }

    /// Looks after a connection that is in the table now: sets the flow limit, which
    /// may have changed meanwhile, and forgets the connection when it has ended.
    fn watch(self: &Arc<Self>, peer: N::VatId, connection: &Connection) {
        {
            let limit = self.flow_limit.lock();
            connection.note_flow_limit(*limit);
        }
        connection.apply_flow_limit();
        let weak = Arc::downgrade(self);
        let watched = connection.number();
        connection.on_end(Box::new(move || {
            if let Some(shared) = weak.upgrade() {
                shared.forget(&peer, watched);
            }
        }));
    }

    /// Takes a connection that has ended out of the table, unless a newer one is there.
    fn forget(&self, peer: &N::VatId, number: u64) {
        let mut peers = self.peers.lock();
        let ours = matches!(
            peers.table.get(peer),
            Some(Slot::Up(current)) if current.number() == number
        );
        let gone = if ours { peers.remove(peer) } else { None };
        drop(peers);
        drop(gone);
    }

    /// Makes the threads look again that wait for the table to change.
    fn peers_changed(&self) {
        let called = self.peers.lock().waiters.call_all();
        called.wake_now();
    }

    fn up(&self) -> Vec<(N::VatId, Connection)> {
        let peers = self.peers.lock();
        let up = peers.table.iter().filter_map(|(peer, slot)| match slot {
            Slot::Up(connection) => Some((peer.clone(), connection.clone())),
            Slot::Connecting(_) => None,
        });
        up.collect()
    }

    /// Ends accepting and connecting, and waits for the threads that do so, but not beyond
    /// the deadline. Returns the connections that have not ended.
    fn stop(&self, deadline: Deadline) -> Vec<Connection> {
        self.peers.lock().phase = Phase::Closed;
        self.peers_changed();
        let idler = self.idler.lock().take();
        if let Some(idler) = idler {
            idler.stop(deadline);
        }
        self.door.close();
        let _ = panics::caught("a network's shutdown", || self.network.shutdown());
        let acceptor = self.acceptor.lock().clone();
        if let Some(acceptor) = acceptor {
            acceptor.wait(deadline);
        }
        self.up().into_iter().map(|(_, connection)| connection).collect()
    }
}
