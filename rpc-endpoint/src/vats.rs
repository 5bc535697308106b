//! A network of vats made of endpoints.
//!
//! Each vat has an endpoint. Two vats that talk have one session: a lightweight
//! connection each way, the *halves*, see Note [halves]. A thread receives the
//! events of the endpoint and brings halves together; all else happens on the
//! threads of whoever uses a session.
//!
//! # Locks
//!
//! The state of the network, then the halves of one session. Neither is held while
//! anything of the endpoint may wait.

mod events;
pub(super) mod hello;
mod id;
mod introductions;
mod places;
mod session;
mod stream;

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use capnp_threads_core::log::tell;
use capnp_threads_core::network::{Accepted, Introductions, Reached, VatNetwork};
use capnp_threads_core::transport::{Identity, PeerDescription, Transport};
use capnp_threads_core::{Error, OwnThread, Result};
use capnp_threads_transport::fork::Owner;
use capnp_threads_transport::introducing::Introduce;
use parking_lot::{Condvar, Mutex};

pub use id::{EndpointVat, InvalidVatId};

use self::places::{Place, Places};
use self::session::{Progress, Session};
use super::deadline::{self, Deadline};
use super::{ConnectErrorCode, ConnectionId, Endpoint, EndpointAddress, Network, Parameters};

/// The most vats that are remembered. Those with which there is no session are forgotten
/// first.
const MAX_REMEMBERED: usize = 4096;

/// A network of vats that reach each other over endpoints, for an
/// [`RpcSystem`](capnp_threads_core::RpcSystem).
///
/// Vats are known by their ids. Any two have one connection, whoever opened it,
/// and open another one when it is needed again. A vat that was in touch once is
/// found again without a hint. A vat that connects to its own id talks to itself.
///
/// ```
/// use capnp_threads_core::{RpcSystem, Vat};
/// use rpc_schema::greeter_capnp::greeter;
/// use capnp_threads_endpoint::{EndpointNetwork, Parameters};
///
/// # struct Greeter;
/// # impl greeter::Server for Greeter {
/// #     fn greet(&self, _: greeter::GreetParams, _: greeter::GreetResults) -> capnp_threads_core::Result<()> { Ok(()) }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let alice = EndpointNetwork::listening("alice", "127.0.0.1", 0, Parameters::default())?;
/// let bob = EndpointNetwork::listening("bob", "127.0.0.1", 0, Parameters::default())?;
/// let hello_alice = alice.this_vat();
///
/// let vat = Vat::new();
/// let greeter: greeter::Client = vat.export(Greeter);
/// let alice = RpcSystem::builder(&vat, alice).bootstrap(greeter).start()?;
/// let bob = RpcSystem::builder(&Vat::new(), bob).start()?;
/// let greeter: greeter::Client = bob.bootstrap(&hello_alice);
/// greeter.greet_request().call()?;
/// # Ok(())
/// # }
/// ```
///
/// Without a key nobody is authenticated: vats say themselves who they are. With one
/// (`Parameters::key`, the feature `tls`), the id of a vat is that of its key; a vat that says
/// hello with the id of another one is refused, and so is one that answers at the address of
/// another one. The log tells of both.
///
/// A capability that one vat gives to another is not called through the first one, but where
/// it is hosted, if the vat that hosts it is reached at an address that the first one knows:
/// see [`Introductions`]. Without keys that is so for vats on one machine, see
/// [`introducing`](Self::introducing).
///
/// Dropping it closes its endpoint and thereby all connections. If it made the
/// endpoint's network, it waits for that to end, see [`Network::close`].
pub struct EndpointNetwork {
    shared: Arc<Shared>,
    introduce: Introduce,
    dispatcher: Option<OwnThread<JoinHandle<()>>>,
    /// What it made for itself; closed last.
    network: Option<Network>,
}

struct Shared {
    id: Arc<str>,
    endpoint: Endpoint,
    connect_timeout: Duration,
    send_queue: usize,
    serials: AtomicU64,
    places: Arc<Places>,
    state: Mutex<State>,
    /// A session was accepted or is over, or this vat accepts no more.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    peers: HashMap<Arc<str>, Known>,
    /// The sessions that others began and nobody has accepted yet.
    arrived: VecDeque<Arrived>,
    /// The sessions that the halves of others belong to.
    theirs: HashMap<ConnectionId, Arc<Session>>,
    phase: Phase,
}

/// A session that another vat began.
struct Arrived {
    session: Arc<Session>,
    from: EndpointAddress,
    place: Place,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Nobody is accepted any more.
    ShutDown,
}

/// What is known of another vat.
#[derive(Default)]
struct Known {
    /// The address that it gave last.
    address: Option<EndpointAddress>,
    /// Addresses at which it was not found.
    wrong: Vec<EndpointAddress>,
    session: Option<Arc<Session>>,
}

impl EndpointNetwork {
    /// Makes an endpoint of its own for the vat `id`, which others reach at a host
    /// and port, see [`Network::bind`].
    ///
    /// # Errors
    /// Those of [`Network::bind`]; [`io::ErrorKind::InvalidInput`] if the id is
    /// none, or not that of the key.
    pub fn listening(id: &str, host: &str, port: u16, parameters: Parameters) -> io::Result<Self> {
        Self::of_network(id, Network::bind(host, port, parameters)?)
    }

    /// Makes an endpoint of its own for the vat `id`, which others reach only after
    /// it has reached them. It needs another dialect than the original one.
    ///
    /// # Errors
    /// The system has no threads to give; [`io::ErrorKind::InvalidInput`] if the id
    /// is none.
    pub fn outbound_only(id: &str, parameters: Parameters) -> io::Result<Self> {
        Self::of_network(id, Network::outbound_only(parameters)?)
    }

    fn of_network(id: &str, network: Network) -> io::Result<Self> {
        let endpoint = network.new_endpoint().map_err(io::Error::other)?;
        let mut vats = Self::on(id, endpoint)?;
        vats.network = Some(network);
        Ok(vats)
    }

    /// Uses an endpoint for the vat `id`. Several vats of one process may share a
    /// [`Network`] in this way, which has to outlive them.
    ///
    /// # Errors
    /// The system has no thread to give; [`io::ErrorKind::InvalidInput`] if the id
    /// is none.
    pub fn on(id: &str, endpoint: Endpoint) -> io::Result<Self> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let own = EndpointVat::new(id).map_err(|error| invalid(error.to_string()))?;
        if let Some(vat) = endpoint.local().network.vat()
            && id != vat.to_string()
        {
            return Err(invalid(format!(
                "the id of a vat whose network has a key is that of the key, {vat}, and not {id}"
            )));
        }
        let parameters = &endpoint.local().network.parameters;
        let shared = Arc::new(Shared {
            id: own.shared_id().clone(),
            connect_timeout: parameters.connect_timeout,
            send_queue: parameters.send_queue,
            places: Places::new(parameters.max_sessions, parameters.max_sessions_per_peer),
            endpoint,
            serials: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let receiving = shared.clone();
        let dispatcher = thread::Builder::new()
            .name("endpoint-vats".into())
            .spawn(move || receiving.receive_events())?;
        let introduce = Introduce::OnThisMachine;
        Ok(EndpointNetwork {
            shared,
            introduce,
            dispatcher: Some(OwnThread::new(dispatcher)),
            network: None,
        })
    }

    /// Sets where vats without keys may be introduced to each other, by secrets
    /// ([`introducing::bearer`](capnp_threads_transport::introducing::bearer)). Default:
    /// [`Introduce::OnThisMachine`]. Peers count as being on this machine if the network
    /// listens at a loopback address or not at all, and theirs is one as well.
    ///
    /// Vats with keys need no secrets, and are introduced wherever they are.
    #[must_use]
    pub fn introducing(mut self, introduce: Introduce) -> Self {
        self.introduce = introduce;
        self
    }

    /// This vat, with its address, as others name it.
    pub fn this_vat(&self) -> EndpointVat {
        let address = self.shared.endpoint.address().clone();
        let own = EndpointVat::of_shared(self.shared.id.clone());
        if address.parts().is_some() { own.at(address.place()) } else { own }
    }

    /// How many vats this one has a connection with, or is about to.
    pub fn peer_count(&self) -> usize {
        if !self.shared.is_ours() {
            return 0;
        }
        let state = self.shared.state.lock();
        state.peers.values().filter(|known| known.session.is_some()).count()
    }

    /// Drops a vat at once, with its session and every socket that this depends on;
    /// `false` if there is no session. Other vats that share the socket, because they share
    /// the endpoint of that one, are dropped with it.
    ///
    /// Does not block, and keeps nobody from connecting anew.
    pub fn drop_peer(&self, peer: &EndpointVat) -> bool {
        const REASON: &str = "this program dropped the vat";
        if !self.shared.is_ours() {
            return false;
        }
        let session = {
            let state = self.shared.state.lock();
            state.peers.get(peer.id()).and_then(|known| known.session.clone())
        };
        let Some(session) = session else { return false };
        for link in self.shared.endpoint.local().links() {
            if session.depends_on(link.id) {
                link.drop_peer(REASON);
            }
        }
        session.over(REASON);
        self.shared.settle(&session);
        true
    }
}

impl VatNetwork for EndpointNetwork {
    type VatId = EndpointVat;

    /// Waits for the dial, if the two have no socket, and while a connection that
    /// was closed before is still open on the other side; but no longer than
    /// [`Parameters::connect_timeout`] for each address. Does not wait for the
    /// vat to answer.
    fn connect(&self, peer: &EndpointVat) -> Result<Reached> {
        self.shared.owner().check()?;
        self.shared.connect(peer)
    }

    fn accept(&self) -> Result<Option<Accepted<EndpointVat>>> {
        self.shared.owner().check()?;
        let mut state = self.shared.state.lock();
        loop {
            if state.phase == Phase::ShutDown {
                return Ok(None);
            }
            if let Some(Arrived { session, from, place }) = state.arrived.pop_front() {
                state.arrived.give_back(KEPT);
                drop(state);
                let peer = EndpointVat::of_shared(session.peer.clone()).at(from.place());
                let transport = transport(&session, &from, Some(place));
                return Ok(Some(Accepted { peer, transport }));
            }
            self.shared.changed.wait(&mut state);
        }
    }

    fn shutdown(&self) {
        if !self.shared.is_ours() {
            return;
        }
        let arrived = {
            let mut state = self.shared.state.lock();
            state.phase = Phase::ShutDown;
            std::mem::take(&mut state.arrived)
        };
        self.shared.changed.notify_all();
        for Arrived { session, .. } in arrived {
            session.decline();
        }
    }

    fn introductions(&self) -> Option<&dyn Introductions<EndpointVat>> {
        let introduces = self.shared.is_keyed() || self.introduce != Introduce::Nobody;
        introduces.then_some(self as _)
    }
}

/// What vats are told that come too late.
const SHUTTING_DOWN: &str = "this vat is shutting down";

impl Drop for EndpointNetwork {
    fn drop(&mut self) {
        // A forked child has no such thread.
        if !self.shared.is_ours() {
            return;
        }
        self.shared.endpoint.close();
        if let Some(dispatcher) = self.dispatcher.take().and_then(OwnThread::take)
            && dispatcher.join().is_err()
        {
            tell!(ERROR, "the thread that receives an endpoint's events panicked");
        }
        if let Some(network) = &self.network {
            network.close();
        }
    }
}

impl fmt::Debug for EndpointNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointNetwork")
            .field("vat", &self.this_vat())
            .field("peers", &self.peer_count())
            .finish_non_exhaustive()
    }
}

/// The transport of a session, which occupies the place if another vat began it.
fn transport(session: &Arc<Session>, address: &EndpointAddress, place: Option<Place>) -> Transport {
    let description = format!("{} ({})", session.peer, address.place());
    let mut peer = PeerDescription::from_address(description);
    if session.shared.is_keyed() {
        // It was compared with the id of the session.
        peer = peer.with_identity(address.vat().map(Identity::of_vat));
    }
    stream::transport(session, peer, place)
}

impl Shared {
    fn owner(&self) -> Owner {
        self.endpoint.local().network.owner
    }

    /// Whether vats have to prove who they are.
    fn is_keyed(&self) -> bool {
        self.endpoint.local().network.vat().is_some()
    }

    /// Whether whoever is at an address is the vat of this id: it is believed, where vats
    /// have no keys.
    fn is_proved(&self, id: &str, at: &EndpointAddress) -> bool {
        !self.is_keyed() || at.vat().is_some_and(|vat| vat.to_string() == id)
    }

    /// Where to look for a vat that is said to be at an address. Where vats have keys, only
    /// there where they have proved theirs.
    fn qualified(&self, id: &str, hint: &EndpointAddress) -> Option<EndpointAddress> {
        if !self.is_keyed() {
            return Some(hint.clone());
        }
        let address = match hint.vat() {
            Some(_) => hint.clone(),
            None => EndpointAddress::nowhere(id.parse().ok(), hint.place()),
        };
        self.is_proved(id, &address).then_some(address)
    }

    /// Whether it belongs to this process, and not to the one from which it was forked.
    fn is_ours(&self) -> bool {
        self.owner().is_this_process()
    }

    fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn connect(self: &Arc<Self>, peer: &EndpointVat) -> Result<Reached> {
        if *peer.id() == *self.id {
            return Ok(Reached::Oneself);
        }
        let Some((session, addresses)) = self.begin(peer) else { return Ok(Reached::Crossed) };
        let mut last = None;
        for address in &addresses {
            match session.dial(address) {
                Ok(()) => return Ok(Reached::Peer(transport(&session, address, None))),
                Err(error) => last = Some((address, error)),
            }
        }
        let id = peer.id();
        let error = match last {
            None => Error::disconnected(format!("no address of the vat {id} is known")),
            Some((address, error)) => {
                let text = format!("the vat {id} at {address}: {}", error.reason);
                match error.code {
                    ConnectErrorCode::InsufficientResources => Error::overloaded(text),
                    _ => Error::disconnected(text),
                }
            }
        };
        session.over(error.reason());
        self.settle(&session);
        Err(error)
    }

    /// A new session with a vat, and where to try to reach it; `None` if there is a
    /// session already. Waits while one is being closed.
    fn begin(self: &Arc<Self>, peer: &EndpointVat) -> Option<(Arc<Session>, Vec<EndpointAddress>)> {
        let deadline = Deadline::after(self.connect_timeout);
        let mut state = self.state.lock();
        loop {
            let known = state.known(peer.shared_id());
            let Some(session) = known.session.clone() else { break };
            match session.progress() {
                Progress::Over => known.session = None,
                Progress::Alone | Progress::Together => return None,
                Progress::Leaving | Progress::LeavingAlone => {
                    if !deadline::wait(deadline, &self.changed, &mut state) {
                        // See Note [halves]: what comes of it now comes too late.
                        session.over("the vat did not close its half in time");
                    }
                }
            }
        }
        let known = state.known(peer.shared_id());
        let addresses = self.addresses(Some(&*known), peer);
        let session = Session::new(self, peer.shared_id().clone(), EndpointAddress::from(""));
        known.session = Some(session.clone());
        Some((session, addresses))
    }

    /// Where to try to reach a vat.
    fn addresses(&self, known: Option<&Known>, peer: &EndpointVat) -> Vec<EndpointAddress> {
        let mut addresses: Vec<EndpointAddress> =
            known.and_then(|known| known.address.clone()).into_iter().collect();
        for hint in peer.hints() {
            if let Some(hint) = self.qualified(peer.id(), hint)
                && !addresses.contains(&hint)
            {
                addresses.push(hint);
            }
        }
        // Addresses at which it was not found are tried last.
        let is_wrong =
            |address: &EndpointAddress| known.is_some_and(|known| known.wrong.contains(address));
        addresses.sort_by_key(is_wrong);
        addresses
    }

    /// Makes room for the next session if this one is over.
    fn settle(&self, session: &Arc<Session>) {
        let mut state = self.state.lock();
        if session.progress() == Progress::Over
            && let Some(known) = state.peers.get_mut(&session.peer)
            && known.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session))
        {
            known.session = None;
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    fn known(&mut self, id: &Arc<str>) -> &mut Known {
        if self.peers.len() >= MAX_REMEMBERED && !self.peers.contains_key(id) {
            let idle = self.peers.iter().find(|(_, known)| known.session.is_none());
            if let Some(idle) = idle.map(|(id, _)| id.clone()) {
                self.peers.remove(&idle);
            }
        }
        self.peers.entry(id.clone()).or_default()
    }
}
