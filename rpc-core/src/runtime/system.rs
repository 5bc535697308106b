//! All of a vat's connections over one network.
//!
//! # State model of a peer
//!
//! ```text
//! absent ──bootstrap──► Connecting ──reached──► Up ──connection ended──► absent
//!    └───────────────────accepted───────────────┘
//! ```
//!
//! - **Connecting**: one thread connects to the peer; other threads that ask for the
//!   same peer wait for the outcome.
//! - **Up**: there is a connection. A peer that connects again has noticed an end of
//!   this connection that this side has not: the old connection is closed, which fails
//!   everything that waits for it, and the new one takes its place.
//!
//! No other lock is held together with the table's lock, except that it may be taken
//! under the flow limit's. Nothing waits, and no application code runs, under it.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::config::ConnConfig;
use super::connection::Connection;
use super::exceptions::TraceEncoder;
use super::idle::Idler;
use super::vat::Vat;
use crate::cap::client::Client;
use crate::cap::effects;
use crate::cap::from_client::FromClient;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::flow::FlowControl;
use crate::limits::Limits;
use crate::network::{Accepted, Reached, VatNetwork};
use crate::protocol::rest::Unused;
use crate::runtime::offer::Restorer;
use crate::sync::Mutex;
use crate::transport::PeerDescription;
use crate::work::waiting::{self, Look, Waiters};

/// What a vat offers to a peer that it knows by id, or `None` for nothing.
type Factory<Id> = Box<dyn Fn(&Peer<'_, Id>) -> Option<Client> + Send + Sync>;

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
pub struct RpcSystem<N: VatNetwork> {
    handle: Arc<Handle<N>>,
}

struct Handle<N: VatNetwork>(Arc<Shared<N>>);

pub(super) struct Shared<N: VatNetwork> {
    vat: Vat,
    network: N,
    settings: Settings<N::VatId>,
    peers: Mutex<Peers<N::VatId>>,
    /// The flow limit of every connection. The table's lock is taken under this one.
    flow_limit: Mutex<u64>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    idler: Mutex<Option<Idler>>,
}

struct Settings<Id> {
    bootstrap: Factory<Id>,
    restorer: Option<Arc<dyn Restorer>>,
    gateway: Option<Client>,
    limits: Limits,
    flow: FlowControl,
    flow_limit: u64,
    debug: bool,
    trace_encoder: TraceEncoder,
    close_timeout: Duration,
    idle_timeout: Option<Duration>,
}

struct Peers<Id> {
    phase: Phase,
    table: HashMap<Id, Slot>,
    /// The threads that wait for the table to change.
    waiters: Waiters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closed,
}

enum Slot {
    Connecting,
    Up(Connection),
}

/// What the table holds for a peer.
enum Known {
    Nobody,
    Connecting,
    Up(Connection),
}

/// Maximum wait for the connection of a peer whose own attempt was faster than ours.
const CROSSED_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of an [`RpcSystem`] that is about to start.
pub struct RpcSystemBuilder<N: VatNetwork> {
    vat: Vat,
    network: N,
    settings: Settings<N::VatId>,
}

impl<N: VatNetwork> RpcSystem<N> {
    /// Begins the settings of a system that connects `vat` to the vats in `network`.
    pub fn builder(vat: &Vat, network: N) -> RpcSystemBuilder<N> {
        RpcSystemBuilder {
            vat: vat.clone(),
            network,
            settings: Settings {
                bootstrap: Box::new(|_| None),
                restorer: None,
                gateway: None,
                limits: Limits::default(),
                flow: FlowControl::default(),
                flow_limit: u64::MAX,
                debug: false,
                trace_encoder: TraceEncoder::default(),
                close_timeout: Duration::from_secs(1),
                idle_timeout: None,
            },
        }
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
        self.shared().settings.trace_encoder.set(Some(Arc::new(encoder)));
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
    /// peer](crate::transport::MessageWriter::rest), as endpoints can, a connection is
    /// closed only when the peer agrees, and no call is lost that the peer begins at
    /// the same time. Over other transports such calls fail with `disconnected`.
    pub fn close_idle(&self) -> usize {
        self.shared().up().iter().filter(|(_, connection)| connection.end_if_unused()).count()
    }

    /// Ends in an orderly way: accepts no more connections, waits until the peers'
    /// calls are finished, but no longer than `timeout`, and then closes every
    /// connection. Returns whether all calls were finished in time.
    pub fn drain(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        let connections = self.shared().stop();
        let finished =
            connections.iter().map(|connection| connection.wait_until_quiet(deadline)).collect();
        let finished: Vec<bool> = finished;
        for connection in &connections {
            connection.close();
        }
        for connection in &connections {
            // Each connection's close timeout bounds this wait.
            let _ = connection.join();
        }
        finished.into_iter().all(|finished| finished)
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
        for connection in self.0.stop() {
            connection.close();
        }
    }
}

impl<N: VatNetwork> RpcSystemBuilder<N> {
    /// Offers the same bootstrap capability to every peer.
    #[must_use]
    pub fn bootstrap(self, client: impl FromClient) -> Self {
        let client = client.into_client();
        self.bootstrap_factory(move |_| Some(client.clone()))
    }

    /// Decides for each peer which bootstrap capability it is offered. The closure is
    /// called once for each connection, when it begins, and must not block.
    #[must_use]
    pub fn bootstrap_factory(
        mut self,
        factory: impl Fn(&Peer<'_, N::VatId>) -> Option<Client> + Send + Sync + 'static,
    ) -> Self {
        self.settings.bootstrap = Box::new(factory);
        self
    }

    /// Offers capabilities by name to every peer; see [`ConnConfig::restorer`].
    #[must_use]
    pub fn restorer(mut self, restorer: impl Restorer) -> Self {
        self.settings.restorer = Some(Arc::new(restorer));
        self
    }

    /// Puts a gateway between this vat and every peer, for a network that is another
    /// realm; see [`ConnConfig::realm_gateway`].
    #[must_use]
    pub fn realm_gateway(mut self, gateway: impl FromClient) -> Self {
        self.settings.gateway = Some(gateway.into_client());
        self
    }

    /// Sets how much each connection may hold.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Sets how much may be on its way in streams; see [`ConnConfig::flow_control`].
    #[must_use]
    pub fn flow_control(mut self, flow: FlowControl) -> Self {
        self.settings.flow = flow;
        self
    }

    /// Sets how many words of calls each peer may have under way here; see
    /// [`ConnConfig::flow_limit`] and [`RpcSystem::set_flow_limit`].
    #[must_use]
    pub fn flow_limit(mut self, words: u64) -> Self {
        self.settings.flow_limit = words;
        self
    }

    /// Sets whether peers are told internal detail of errors; see
    /// [`ConnConfig::debug_mode`].
    #[must_use]
    pub fn debug_mode(mut self, on: bool) -> Self {
        self.settings.debug = on;
        self
    }

    /// Sets what makes the traces of errors that are sent; see
    /// [`ConnConfig::trace_encoder`].
    #[must_use]
    pub fn trace_encoder(self, encoder: impl Fn(&Error) -> String + Send + Sync + 'static) -> Self {
        self.settings.trace_encoder.set(Some(Arc::new(encoder)));
        self
    }

    /// Closes connections as [`RpcSystem::close_idle`] does, once nothing was sent or
    /// received for at least this long. Default: connections stay.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// Sets how long the end of a connection may take; see
    /// [`ConnConfig::close_timeout`]. The same timeout bounds how long
    /// [`bootstrap`](RpcSystem::bootstrap) waits for a peer to agree to the closing of
    /// an idle connection.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.close_timeout = timeout;
        self
    }

    /// Starts the system: from now on it accepts connections.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(self) -> Result<RpcSystem<N>> {
        let shared = Arc::new(Shared {
            vat: self.vat,
            network: self.network,
            flow_limit: Mutex::new(self.settings.flow_limit),
            settings: self.settings,
            peers: Mutex::new(Peers {
                phase: Phase::Open,
                table: HashMap::new(),
                waiters: Waiters::default(),
            }),
            acceptor: Mutex::new(None),
            idler: Mutex::new(None),
        });
        if let Some(timeout) = shared.settings.idle_timeout {
            *shared.idler.lock() = Some(Idler::start(&shared, timeout)?);
        }
        let accepting = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("rpc-accept".into())
            .spawn(move || accepting.accept())
            .map_err(|error| Error::overloaded(format!("no thread to accept with: {error}")))?;
        *shared.acceptor.lock() = Some(thread);
        Ok(RpcSystem { handle: Arc::new(Handle(shared)) })
    }
}

impl<N: VatNetwork> fmt::Debug for RpcSystemBuilder<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcSystemBuilder")
            .field("vat", &self.vat)
            .field("limits", &self.settings.limits)
            .finish_non_exhaustive()
    }
}

impl<Id: Clone + Eq + Hash> Peers<Id> {
    /// Puts a connection into the table, unless the table holds one that began later:
    /// then the peer has given up the earlier one, which has ended or is about to.
    /// Returns the one of the two that is in the table now, and the other one.
    fn put(&mut self, peer: &Id, connection: Connection) -> (Connection, Option<Connection>) {
        match self.table.get(peer) {
            Some(Slot::Up(newer)) if newer.number() > connection.number() => {
                (newer.clone(), Some(connection))
            }
            _ => match self.table.insert(peer.clone(), Slot::Up(connection.clone())) {
                Some(Slot::Up(older)) => (connection, Some(older)),
                Some(Slot::Connecting) | None => (connection, None),
            },
        }
    }
}

impl<N: VatNetwork> Shared<N> {
    /// The loop of the accepting thread.
    fn accept(self: &Arc<Self>) {
        loop {
            match self.network.accept() {
                Ok(Some(Accepted { peer, transport })) => {
                    if let Err(error) = self.accepted(peer, transport) {
                        tracing::warn!(%error, "a vat that came could not be served");
                    }
                }
                Ok(None) => return,
                Err(error) => tracing::warn!(%error, "accepting failed"),
            }
        }
    }

    fn accepted(
        self: &Arc<Self>,
        peer: N::VatId,
        transport: crate::transport::Transport,
    ) -> Result<()> {
        let connection = self.begin(&peer, transport)?;
        let old = {
            let mut peers = self.peers.lock();
            if peers.phase == Phase::Closed {
                drop(peers);
                connection.close();
                return Ok(());
            }
            peers.put(&peer, connection.clone()).1
        };
        self.peers_changed();
        if let Some(old) = old {
            old.close();
        }
        self.watch(peer, &connection);
        Ok(())
    }

    fn bootstrap(self: &Arc<Self>, peer: &N::VatId) -> Result<Client> {
        loop {
            let Some(connection) = self.reach(peer)? else { return Ok(self.own_bootstrap(peer)) };
            match connection.try_bootstrap() {
                Ok(client) => return Ok(client),
                Err(Unused::Ended) => {}
                Err(Unused::Resting) => {
                    let deadline = Deadline::after(self.settings.close_timeout);
                    if !effects::blocking(|| connection.wait_until_awake(deadline))? {
                        // The peer neither agreed nor woke the connection.
                        connection.close();
                    }
                }
            }
        }
    }

    /// The connection to a peer, which is made if there is none; `None` for this vat
    /// itself.
    fn reach(self: &Arc<Self>, peer: &N::VatId) -> Result<Option<Connection>> {
        let mut ended = None;
        loop {
            // Looking at a connection and preparing to wait run the effects that this
            // thread has noted, and these may be application code. So neither happens
            // under the lock.
            match self.look_for(peer)? {
                Known::Nobody => break,
                Known::Connecting => self.wait_while_connecting(peer)?,
                Known::Up(connection) => {
                    if connection.failure().is_none() {
                        return Ok(Some(connection));
                    }
                    self.forget(peer, connection.number());
                    ended = Some(connection);
                }
            }
        }
        let made = loop {
            match effects::blocking(|| self.network.connect(peer)).and_then(|reached| reached) {
                Ok(Reached::Peer(transport)) => break self.begin(peer, transport).map(Some),
                Ok(Reached::Oneself) => break Ok(None),
                Ok(Reached::Crossed) => {}
                Err(error) => break Err(error),
            }
            // The connection that crossed with this attempt may be the one that has
            // ended here. Then the network will notice its end soon.
            match ended.take() {
                None => return self.wait_for_crossed(peer),
                Some(connection) => match connection.join() {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
            }
        };
        let outcome = {
            let mut peers = self.peers.lock();
            match (made, peers.table.get(peer)) {
                (Ok(Some(connection)), _) if peers.phase == Phase::Open => {
                    let (current, old) = peers.put(peer, connection);
                    drop(peers);
                    self.peers_changed();
                    if let Some(old) = old {
                        old.close();
                    }
                    Ok(Some(current))
                }
                // The peer has connected to this vat in the meantime.
                (_, Some(Slot::Up(existing))) => return Ok(Some(existing.clone())),
                (made, _) => {
                    peers.table.remove(peer);
                    drop(peers);
                    self.peers_changed();
                    made
                }
            }
        };
        if let Ok(Some(connection)) = &outcome {
            self.watch(peer.clone(), connection);
        }
        outcome
    }

    /// What the table holds for a peer. If it holds nothing, the calling thread is now
    /// the one that connects to the peer.
    fn look_for(&self, peer: &N::VatId) -> Result<Known> {
        let mut peers = self.peers.lock();
        if peers.phase == Phase::Closed {
            return Err(Error::disconnected("this vat is shutting down"));
        }
        Ok(match peers.table.get(peer) {
            Some(Slot::Connecting) => Known::Connecting,
            Some(Slot::Up(connection)) => Known::Up(connection.clone()),
            None => {
                peers.table.insert(peer.clone(), Slot::Connecting);
                Known::Nobody
            }
        })
    }

    fn wait_while_connecting(&self, peer: &N::VatId) -> Result<()> {
        effects::catch_up();
        let look = |peers: &mut Peers<N::VatId>, _| {
            let connecting = matches!(peers.table.get(peer), Some(Slot::Connecting));
            (peers.phase == Phase::Closed || !connecting).then_some(())
        };
        waiting::wait(&self.peers, |peers| &mut peers.waiters, Deadline::NEVER, look).map(drop)
    }

    /// Takes a connection that has ended out of the table, unless a newer one is there.
    fn forget(&self, peer: &N::VatId, number: u64) {
        let mut peers = self.peers.lock();
        let ours = matches!(
            peers.table.get(peer),
            Some(Slot::Up(current)) if current.number() == number
        );
        let gone = if ours { peers.table.remove(peer) } else { None };
        drop(peers);
        drop(gone);
    }

    /// Waits for the connection of a peer whose attempt was faster: it is about to be
    /// accepted.
    fn wait_for_crossed(&self, peer: &N::VatId) -> Result<Option<Connection>> {
        effects::catch_up();
        let deadline = Deadline::after(CROSSED_TIMEOUT);
        let look = |peers: &mut Peers<N::VatId>, look: Look| match peers.table.get(peer) {
            Some(Slot::Up(connection)) => Some(Ok(Some(connection.clone()))),
            Some(Slot::Connecting) if look.late => {
                peers.table.remove(peer);
                Some(Err(Error::disconnected("the peer's own attempt did not arrive")))
            }
            Some(Slot::Connecting) if peers.phase == Phase::Open => None,
            _ => Some(Err(Error::disconnected("the peer is gone"))),
        };
        let found = waiting::wait(&self.peers, |peers| &mut peers.waiters, deadline, look)?;
        self.peers_changed();
        // The last look always finds something.
        found.unwrap_or_else(|| Err(Error::disconnected("the peer is gone")))
    }

    /// Makes the threads look again that wait for the table to change.
    fn peers_changed(&self) {
        let called = self.peers.lock().waiters.call_all();
        called.wake_now();
    }

    fn begin(
        self: &Arc<Self>,
        peer: &N::VatId,
        transport: crate::transport::Transport,
    ) -> Result<Connection> {
        let settings = &self.settings;
        let description = transport.control.peer();
        let offered = (settings.bootstrap)(&Peer { id: peer, description });
        let mut config = ConnConfig::new()
            .limits(settings.limits.clone())
            .flow_control(settings.flow.clone())
            .flow_limit(*self.flow_limit.lock())
            .debug_mode(settings.debug)
            .shared_trace_encoder(settings.trace_encoder.clone())
            .close_timeout(settings.close_timeout)
            .bootstrap_with(move |_| offered);
        config.restorer.clone_from(&settings.restorer);
        config.gateway.clone_from(&settings.gateway);
        self.vat.connect(transport, config)
    }

    fn own_bootstrap(&self, own: &N::VatId) -> Client {
        let peer = Peer { id: own, description: PeerDescription::default() };
        (self.settings.bootstrap)(&peer).unwrap_or_else(|| {
            Client::broken(Error::failed("this vat offers no bootstrap capability to itself"))
        })
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

    pub(super) fn up(&self) -> Vec<(N::VatId, Connection)> {
        let peers = self.peers.lock();
        let up = peers.table.iter().filter_map(|(peer, slot)| match slot {
            Slot::Up(connection) => Some((peer.clone(), connection.clone())),
            Slot::Connecting => None,
        });
        up.collect()
    }

    /// Ends accepting and connecting. Returns the connections that were in the table.
    fn stop(&self) -> Vec<Connection> {
        let table = {
            let mut peers = self.peers.lock();
            peers.phase = Phase::Closed;
            std::mem::take(&mut peers.table)
        };
        self.peers_changed();
        let idler = self.idler.lock().take();
        if let Some(idler) = idler {
            idler.stop();
        }
        self.network.shutdown();
        let acceptor = self.acceptor.lock().take();
        if let Some(acceptor) = acceptor
            && acceptor.thread().id() != std::thread::current().id()
            && acceptor.join().is_err()
        {
            tracing::error!("the accepting thread panicked");
        }
        table
            .into_values()
            .filter_map(|slot| match slot {
                Slot::Up(connection) => Some(connection),
                Slot::Connecting => None,
            })
            .collect()
    }
}
