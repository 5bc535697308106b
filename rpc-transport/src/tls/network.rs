//! A network of vats that know each other by their keys.
//!
//! # Locks
//!
//! The state of the network is behind one lock, a leaf. Nothing is sent, waited for or
//! dropped under it that does more than give memory back.

mod guard;
mod hello;
mod introductions;
mod name;
mod pairs;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use capnp_threads_core::log::tell;
use capnp_threads_core::network::{Accepted, Introductions, Reached, VatNetwork};
use capnp_threads_core::transport::{Transport, TransportControl, VatId};
use capnp_threads_core::{Error, Result};
use parking_lot::Mutex;

pub use self::name::{NotAVat, TlsVat};

use self::hello::{Hello, Kind};
use self::pairs::{Arrival, Begun, Crossing, Failure, Outcome, Pairs, SessionNumber, Stamp};
use super::opened::Opened;
use super::{Listener, TlsClient, TlsServer, VatKey};
use crate::accept::{self, Entrance};
use crate::{Address, TcpOptions, addr, tcp};

/// The most vats of which it is remembered where they are reached.
const MAX_REMEMBERED: usize = 4096;

/// The most addresses of a vat that are tried.
const MAX_HINTS: usize = 16;

/// How often a vat is dialled anew that answers that another connection counts, when that one
/// was over before this side dialled.
const ATTEMPTS: u32 = 4;

/// A network of vats that have keys, for an [`RpcSystem`](capnp_threads_core::RpcSystem): over
/// TLS, each knows who the other is.
///
/// Vats are known by their ids, and any two have one connection, whoever made it. A vat that
/// answers at somebody else's address is not taken for it, and no vat but the owner of a key
/// can end the connections of that vat by claiming to be it. When both dial at once, the dial
/// of the vat with the smaller id counts. A vat that restarts and dials again takes the place
/// of what it was. A vat that asks for its own id talks to itself.
///
/// ```no_run
/// use capnp_threads_core::{Client, RpcSystem, Vat};
/// use capnp_threads_transport::tls::{TlsNetwork, TlsVat, VatKey};
///
/// # fn example(greeter: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let key = VatKey::load_or_create("/var/lib/greeter/vat.key")?;
/// let network = TlsNetwork::listening(&key, &"127.0.0.1:7000".parse()?)?;
/// println!("reach me at {}", network.this_vat());
/// let server = RpcSystem::builder(&Vat::new(), network).bootstrap(greeter).start()?;
///
/// // Another one, which knows that address.
/// let network = TlsNetwork::client(&VatKey::generate()?)?;
/// let client = RpcSystem::builder(&Vat::new(), network).start()?;
/// # let id = key.id();
/// let address: TlsVat = format!("tls:{id}@127.0.0.1:7000").parse()?;
/// let greeter: Client = client.bootstrap(&address);
/// # Ok(())
/// # }
/// ```
///
/// Any vat with a key is let in; whom it serves is decided by
/// [`RpcSystemBuilder::authorizer`](capnp_threads_core::network::RpcSystemBuilder::authorizer),
/// which sees the id.
///
/// A capability that one vat gives to another is not called through the first one, but where
/// it is hosted, if the vat that hosts it is reached at an address that the first one knows:
/// see [`Introductions`].
///
/// # On the wire
///
/// TLS 1.3 with raw public keys (RFC 7250) and the ALPN protocol `capnp-vats/1`. Behind the
/// handshake each side says something, preceded by its length in two bytes: the vat that
/// dials a *dial*, then the other one an *answer*. All numbers are unsigned and big-endian.
///
/// | bytes | content |
/// |---|---|
/// | 1 | 0: dial; 1: accepted; 2: crossed, another connection counts; 3: refused |
/// | 8 | incarnation: when the sender's network was made, in microseconds since 1970 |
/// | 8 | serial: in a dial, its number among the dials of this incarnation; otherwise that of the sender's last dial, 0 if there was none |
/// | the rest | where the sender is reached, or the reason why it refuses |
///
/// What follows an acceptance are messages.
pub struct TlsNetwork {
    shared: Arc<Shared>,
    entrance: Entrance<Listener>,
}

struct Shared {
    key: VatKey,
    own: TlsVat,
    client: TcpOptions,
    timeout: Duration,
    state: Mutex<State>,
}

struct State {
    pairs: Pairs<Arc<dyn TransportControl>, Opened>,
    /// Where vats were reached, or say that they are.
    remembered: HashMap<VatId, Vec<Address>>,
    is_shut_down: bool,
}

impl TlsNetwork {
    /// A network in which the vat with this key is reached at an address: one of TCP, or
    /// its own with `tls:`.
    ///
    /// # Errors
    /// As for [`VatKey::listen`].
    pub fn listening(key: &VatKey, address: &Address) -> io::Result<Self> {
        let (host, port) = key.where_to_listen(address)?;
        Self::on(key, addr::listen_tcp(host, port, &TcpOptions::new())?)
    }

    /// A network in which the vat with this key is reached on a socket that listens already,
    /// for example with other options, or an inherited one.
    ///
    /// # Errors
    /// The system has no thread or no descriptor to give.
    pub fn on(key: &VatKey, listener: tcp::Listener) -> io::Result<Self> {
        let at = listener.local_addr()?;
        let listener = TlsServer::vat_in_network(key)?.listen_on(listener)?;
        let mut network = Self::client(key)?;
        network.entrance = Entrance::at(listener);
        // Nobody can dial every address.
        Ok(if at.ip().is_unspecified() { network } else { network.found_at(key.address(at)) })
    }

    /// A network in which the vat with this key only reaches others.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if rustls cannot use the key.
    pub fn client(key: &VatKey) -> io::Result<Self> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let micros = since_1970.unwrap_or_default().as_micros();
        let incarnation = u64::try_from(micros).unwrap_or(u64::MAX);
        Ok(TlsNetwork {
            shared: Arc::new(Shared {
                own: TlsVat::new(key.id()),
                client: TcpOptions::new(),
                timeout: Duration::from_secs(30),
                state: Mutex::new(State {
                    pairs: Pairs::new(key.id(), incarnation),
                    remembered: HashMap::new(),
                    is_shut_down: false,
                }),
                key: key.clone(),
            }),
            entrance: Entrance::closed_to_all(),
        })
    }

    /// Sets the options of sockets that are dialled.
    #[must_use]
    pub fn tcp_options(self, options: TcpOptions) -> Self {
        self.with(|shared| shared.client = options)
    }

    /// Sets how long reaching a vat may take, with all its addresses. Default: 30 seconds.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.with(|shared| shared.timeout = timeout)
    }

    /// Sets where others reach this vat, if that is not the address at which it listens: it
    /// tells them so when it connects. Needed for a vat that listens at every address of its
    /// machine, if it is to be called back, or introduced to others.
    #[must_use]
    pub fn advertise(self, host: &str, port: u16) -> Self {
        let address = Address::Tls { vat: self.id(), host: host.to_owned(), port };
        self.found_at(address)
    }

    fn found_at(self, address: Address) -> Self {
        self.with(|shared| shared.own = TlsVat::new(shared.own.id()).with(address))
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        // Nobody else has it before the network is used.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            change(shared);
        }
        self
    }

    /// This vat, with its address, as others name it.
    pub fn this_vat(&self) -> TlsVat {
        self.shared.own.clone()
    }

    /// The id of this vat.
    pub fn id(&self) -> VatId {
        self.shared.own.id()
    }

    /// How many vats this one has a connection with.
    pub fn peer_count(&self) -> usize {
        self.shared.state.lock().pairs.session_count()
    }

    /// How many handshakes of others have failed: who came had no key, or not in time.
    pub fn failed_handshakes(&self) -> u64 {
        self.entrance.listener().map_or(0, |listener| listener.failed_handshakes())
    }
}

impl VatNetwork for TlsNetwork {
    type VatId = TlsVat;

    fn connect(&self, peer: &TlsVat) -> Result<Reached> {
        if peer.id() == self.id() {
            return Ok(Reached::Oneself);
        }
        self.shared.connect(peer)
    }

    fn accept(&self) -> Result<Option<Accepted<TlsVat>>> {
        let Some(listener) = self.entrance.wait() else { return Ok(None) };
        let closer = listener.closer();
        loop {
            match accept::next_peer(listener.accept_opened(), &closer)? {
                None => return Ok(None),
                Some(opened) => {
                    if let Some(accepted) = self.shared.arrived(opened) {
                        return Ok(Some(accepted));
                    }
                }
            }
        }
    }

    fn shutdown(&self) {
        if let Some(listener) = self.entrance.shut() {
            listener.closer().close();
        }
        let (kept, stamp) = {
            let mut state = self.shared.state.lock();
            state.is_shut_down = true;
            (state.pairs.shut_down(), state.pairs.stamp())
        };
        for mut dial in kept {
            answer(&mut dial, Kind::Refused, stamp, SHUTTING_DOWN);
        }
    }

    fn introductions(&self) -> Option<&dyn Introductions<TlsVat>> {
        Some(self)
    }
}

/// What vats are told that come too late.
const SHUTTING_DOWN: &str = "this vat is shutting down";

impl fmt::Debug for TlsNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsNetwork")
            .field("vat", &self.this_vat())
            .field("peers", &self.peer_count())
            .finish_non_exhaustive()
    }
}

/// Answers a dial. If that fails, the connection is broken, and whoever uses it learns so.
fn answer(dial: &mut Opened, kind: Kind, stamp: Stamp, text: &str) {
    let hello = Hello { kind, stamp, text: text.to_owned() };
    if let Err(error) = dial.say(&hello::encode(&hello)) {
        let peer = dial.peer();
        tell!(DEBUG, %peer, %error, "a vat that has connected could not be answered");
    }
}

/// What a dial came to that was answered.
enum Answered {
    Reached(Reached),
    /// The session that this crossed has come and gone.
    Passed,
    /// The session that this is said to have crossed was over before.
    Held,
}

/// Their dials.
impl Shared {
    fn arrived(self: &Arc<Self>, mut opened: Opened) -> Option<Accepted<TlsVat>> {
        // Without one, the handshake has failed.
        let id = opened.peer().vat()?;
        let hello = match hello::decode(&opened.take_first()) {
            Ok(hello) if hello.kind == Kind::Dial => hello,
            Ok(_) => return None,
            Err(error) => {
                tell!(DEBUG, vat = %id, %error, "a vat was refused");
                return None;
            }
        };
        let peer = TlsVat::new(id).with_list(&hello.text);
        let (arrival, stamp) = {
            let mut state = self.state.lock();
            let stamp = state.pairs.stamp();
            let refusal = if id == self.own.id() {
                Some("your key is that of this vat itself")
            } else {
                state.is_shut_down.then_some(SHUTTING_DOWN)
            };
            if let Some(reason) = refusal {
                drop(state);
                answer(&mut opened, Kind::Refused, stamp, reason);
                return None;
            }
            state.remember(&peer);
            (state.pairs.arrived(id, hello.stamp, opened), stamp)
        };
        let from = |opened: &Opened| opened.peer().address.clone();
        match arrival {
            Arrival::Accepted(begun, opened) => {
                let transport = self.accept(id, begun, opened, stamp);
                Some(Accepted { peer, transport })
            }
            Arrival::Kept(crossed) => {
                if let Some(mut crossed) = crossed {
                    answer(&mut crossed, Kind::Crossed, stamp, "");
                }
                None
            }
            Arrival::Crossed(mut opened) => {
                answer(&mut opened, Kind::Crossed, stamp, "");
                None
            }
            Arrival::Older(mut opened) => {
                let from = from(&opened);
                tell!(
                    WARN,
                    vat = %id, from,
                    "refused: it began before the vat of this id that is connected; two programs \
                     have one key, or a clock was set back"
                );
                let reason = "a program that began later is connected with your key";
                answer(&mut opened, Kind::Refused, stamp, reason);
                None
            }
        }
    }

    /// Accepts a dial that was found to count.
    fn accept(
        self: &Arc<Self>,
        peer: VatId,
        begun: Begun<Arc<dyn TransportControl>>,
        mut opened: Opened,
        stamp: Stamp,
    ) -> Transport {
        answer(&mut opened, Kind::Accepted, stamp, &self.own.list());
        self.begin(peer, begun, opened)
    }

    /// Makes a session's transport, and ends the session before it.
    fn begin(
        self: &Arc<Self>,
        peer: VatId,
        begun: Begun<Arc<dyn TransportControl>>,
        opened: Opened,
    ) -> Transport {
        if let Some(replaced) = begun.replaced {
            tell!(DEBUG, vat = %peer, "the vat has begun anew, and its old connection is ended");
            replaced.shutdown();
        }
        let transport = opened.into_transport();
        let control = Arc::clone(&transport.control);
        let late = self.state.lock().pairs.set_session(peer, begun.number, control);
        if let Some(replaced) = late {
            replaced.shutdown();
        }
        guard::transport(transport, self, peer, begun.number)
    }

    fn over(&self, peer: VatId, number: SessionNumber) {
        let control = self.state.lock().pairs.over(peer, number);
        drop(control);
    }
}

/// Our dials.
impl Shared {
    fn connect(self: &Arc<Self>, peer: &TlsVat) -> Result<Reached> {
        let addresses = {
            let mut state = self.state.lock();
            if !state.pairs.connect(peer.id()) {
                return Ok(Reached::Crossed);
            }
            state.addresses(peer)
        };
        let attempt = Attempt { shared: Some(self), peer: peer.id() };
        let outcome = self.dial_all(peer.id(), &addresses);
        match outcome {
            Ok(reached) => {
                attempt.end();
                Ok(reached)
            }
            Err(error) => attempt.fail().ok_or(error),
        }
    }

    fn dial_all(self: &Arc<Self>, peer: VatId, addresses: &[Address]) -> Result<Reached> {
        let deadline = Instant::now().checked_add(self.timeout);
        let mut failure = Error::disconnected(format!("no address of the vat {peer} is known"));
        for (index, address) in addresses.iter().enumerate() {
            // Those that were answered by what no session of this side explains.
            let mut unexplained = 0;
            loop {
                let rest = deadline.map_or(self.timeout, |deadline| {
                    deadline.saturating_duration_since(Instant::now())
                });
                let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
                match self.dial(peer, address, rest / others) {
                    Ok(Answered::Reached(reached)) => return Ok(reached),
                    // Each time there was a connection, and the time is limited.
                    Ok(Answered::Passed) => {}
                    Ok(Answered::Held) => {
                        unexplained += 1;
                        if unexplained == ATTEMPTS {
                            let reason = "it holds on to a connection that has ended on this side";
                            failure = Error::disconnected(format!(
                                "the vat {peer} at {address}: {reason}"
                            ));
                            break;
                        }
                    }
                    Err(error) => {
                        if error.kind() == io::ErrorKind::InvalidData {
                            tell!(WARN, %address, %error, "a vat was not reached at its address");
                        }
                        failure = Error::disconnected(error.to_string());
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    fn dial(
        self: &Arc<Self>,
        peer: VatId,
        address: &Address,
        timeout: Duration,
    ) -> io::Result<Answered> {
        // Others are not among the hints.
        let Address::Tls { host, port, .. } = address else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let deadline = Instant::now().checked_add(timeout);
        let client = TlsClient::vat_in_network(&self.key, peer)?.tcp_options(self.client.clone());
        let mut opened = client.open((&**host, *port), host, Some(timeout))?;
        let Some(stamp) = self.state.lock().pairs.introduce(peer) else {
            return Ok(Answered::Reached(Reached::Crossed));
        };
        let text = self.own.list();
        opened.say(&hello::encode(&Hello { kind: Kind::Dial, stamp, text }))?;
        let hello = hello::decode(&opened.hear(deadline)?)?;
        match hello.kind {
            Kind::Accepted => {
                let (outcome, stamp) = {
                    let mut state = self.state.lock();
                    state.remember(&TlsVat::new(peer).with(address.clone()).with_list(&hello.text));
                    (state.pairs.accepted(peer, hello.stamp), state.pairs.stamp())
                };
                Ok(Answered::Reached(match outcome {
                    Outcome::Begun(begun, crossed) => {
                        if let Some(mut crossed) = crossed {
                            answer(&mut crossed, Kind::Crossed, stamp, "");
                        }
                        Reached::Peer(self.begin(peer, begun, opened))
                    }
                    Outcome::Crossed => Reached::Crossed,
                    Outcome::Theirs(begun, theirs) => {
                        Reached::Peer(self.accept(peer, begun, theirs, stamp))
                    }
                }))
            }
            Kind::Crossed => Ok(match self.state.lock().pairs.crossed(peer) {
                Crossing::Here => Answered::Reached(Reached::Crossed),
                Crossing::Passed => Answered::Passed,
                Crossing::Unknown => Answered::Held,
            }),
            Kind::Refused => {
                let reason = &hello.text;
                Err(io::Error::other(format!("the vat {peer} at {address} refuses: {reason}")))
            }
            Kind::Dial => {
                let reason = format!("the vat {peer} at {address} dials where it should answer");
                Err(io::Error::new(io::ErrorKind::InvalidData, reason))
            }
        }
    }

    /// What becomes of a dial that has failed: a session of theirs may have come instead.
    fn failed(self: &Arc<Self>, peer: VatId) -> Option<Reached> {
        let (failure, stamp) = {
            let mut state = self.state.lock();
            (state.pairs.failed(peer), state.pairs.stamp())
        };
        match failure {
            Failure::Failed => None,
            Failure::Crossed => Some(Reached::Crossed),
            Failure::Theirs(begun, opened) => {
                Some(Reached::Peer(self.accept(peer, begun, opened, stamp)))
            }
        }
    }
}

/// While this exists, its thread is the one that dials a vat.
struct Attempt<'a> {
    /// `None` when it is decided what became of it.
    shared: Option<&'a Arc<Shared>>,
    peer: VatId,
}

impl Attempt<'_> {
    fn end(mut self) {
        self.shared = None;
    }

    fn fail(mut self) -> Option<Reached> {
        self.shared.take()?.failed(self.peer)
    }
}

/// The thread panics.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            drop(shared.failed(self.peer));
        }
    }
}

impl State {
    /// Where to try to reach a vat.
    fn addresses(&self, peer: &TlsVat) -> Vec<Address> {
        let remembered = self.remembered.get(&peer.id()).into_iter().flatten().cloned();
        let all = remembered.fold(peer.clone(), TlsVat::with);
        all.hints().iter().take(MAX_HINTS).cloned().collect()
    }

    fn remember(&mut self, peer: &TlsVat) {
        if peer.hints().is_empty() {
            return;
        }
        let (id, hints) = (peer.id(), peer.hints().iter().take(MAX_HINTS).cloned().collect());
        if self.remembered.len() >= MAX_REMEMBERED
            && !self.remembered.contains_key(&id)
            && let Some(other) = self.remembered.keys().next().copied()
        {
            self.remembered.remove(&other);
        }
        self.remembered.insert(id, hints);
    }
}

#[cfg(test)]
mod tests;
