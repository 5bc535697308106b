//! What the endpoints of one port share.

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use capnp_threads_transport::fork::Owner;
use capnp_threads_transport::{Address, Closer, Listener, is_exhaustion, tcp};
use dashmap::DashMap;
use parking_lot::{Condvar, Mutex};

use super::address::{EndpointAddress, EndpointId};
use super::answer;
use super::census::{Census, Leaving, Limits, Place};
use super::deadline::Deadline;
use super::error::NewEndpointError;
use super::inbox::Entry;
use super::local::Local;
use super::machine::Rules;
use super::notes::Notes;
use super::parameters::Parameters;
use super::socket::Socket;
use super::wire::{self, DialectTerms, Reply, Stamp, Terms, WireLimits};

/// The number of errors in a row that the listening socket survives. A lack of resources
/// does not count.
const ENOUGH_ERRORS: u32 = 100;

pub(super) struct Shared {
    pub(super) owner: Owner,
    pub(super) parameters: Parameters,
    pub(super) rules: Rules,
    pub(super) census: Census,
    pub(super) notes: Notes,
    /// Where peers dial; `None` if they cannot.
    listening: Option<Listening>,
    locals: DashMap<EndpointId, Arc<Local>>,
    next_local: Mutex<Option<EndpointId>>,
    is_closed: AtomicBool,
    start: Instant,
    incarnation: u64,
    serial: AtomicU64,
    tickets: AtomicU64,
    /// Sockets that were accepted, and whose threads have not ended.
    inbound: AtomicUsize,
    half_open: Mutex<BTreeMap<u64, Arc<Socket>>>,
    lingering: Mutex<Vec<(Deadline, Arc<Socket>)>>,
    /// How many threads serve sockets.
    threads: Mutex<usize>,
    thread_ended: Condvar,
    timekeeper: Mutex<Timekeeper>,
    timekeeper_changed: Condvar,
}

struct Listening {
    host: String,
    port: u16,
    /// Whether only peers on this machine can connect.
    is_here: bool,
    closer: Closer,
}

#[derive(Default)]
struct Timekeeper {
    is_over: bool,
}

impl Shared {
    /// Begins to listen at a host and port, or does not listen at all.
    pub(super) fn start(at: Option<(&str, u16)>, parameters: Parameters) -> io::Result<Arc<Self>> {
        parameters.check()?;
        let listener = at.map(|at| listen(at, &parameters)).transpose()?;
        let mut listening = None;
        if let Some((host, _)) = at
            && let Some(listener) = &listener
        {
            let at = listener.local_addr()?;
            let port = parameters.external_port.unwrap_or(at.port());
            let host = dialable_host(host, &parameters)?;
            let is_here = at.ip().is_loopback();
            listening = Some(Listening { host, port, is_here, closer: listener.closer() });
        }
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let micros = since_1970.unwrap_or_default().as_micros();
        let shared = Arc::new(Shared {
            owner: Owner::this_process(),
            rules: rules(&parameters),
            census: Census::new(limits(&parameters)),
            notes: Notes::default(),
            parameters,
            listening,
            locals: DashMap::new(),
            next_local: Mutex::new(Some(0)),
            is_closed: AtomicBool::new(false),
            start: Instant::now(),
            incarnation: u64::try_from(micros).unwrap_or(u64::MAX),
            serial: AtomicU64::new(0),
            tickets: AtomicU64::new(0),
            inbound: AtomicUsize::new(0),
            half_open: Mutex::default(),
            lingering: Mutex::default(),
            threads: Mutex::new(0),
            thread_ended: Condvar::new(),
            timekeeper: Mutex::default(),
            timekeeper_changed: Condvar::new(),
        });
        let keeper = shared.clone();
        thread::Builder::new().name("endpoint-time".into()).spawn(move || keeper.keep_time())?;
        if let Some(listener) = listener {
            let acceptor = shared.clone();
            let accepting = shared.spawn("endpoint-accept", move || acceptor.accept(&listener));
            if let Err(error) = accepting {
                shared.close();
                return Err(error);
            }
        }
        Ok(shared)
    }

    /// Starts a thread that is waited for when the network is closed.
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        *self.threads.lock() += 1;
        // It counts until it ends, or if it could not start, until here.
        let counted = Counted(self.clone());
        thread::Builder::new().name(name.into()).spawn(move || {
            let _counted = counted;
            work();
        })?;
        Ok(())
    }

    /// Milliseconds since the network was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    // Note [stamps]
    //
    // In the multiplexed dialect, a dial whose stamp is newer than the last that
    // its sender gave us replaces what we have of it. So a dial must be older than
    // the acceptance of another that made it needless. Both get their stamps under
    // the lock of their link: the dial's while the link is undecided, the
    // acceptance's when it decides.

    /// What we tell a peer that we dial, with a stamp of its own.
    pub(super) fn terms_of_dial(&self) -> Terms {
        self.terms(self.serial.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// How a dial with these terms is accepted.
    pub(super) fn reply_to(&self, terms: DialectTerms) -> Vec<u8> {
        let ours = match terms {
            DialectTerms::Multiplexed(_) => Some(self.terms(self.serial.load(Ordering::SeqCst))),
            DialectTerms::Original | DialectTerms::Versioned => None,
        };
        wire::encode_reply(&Reply::Accepted(ours))
    }

    fn terms(&self, serial: u64) -> Terms {
        Terms {
            stamp: Stamp { incarnation: self.incarnation, serial },
            window: self.rules.receive_queue,
            max_message: self.rules.max_message,
        }
    }

    pub(super) fn next_ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn wire_limits(&self) -> WireLimits {
        WireLimits {
            max_address: self.parameters.max_address,
            newest: self.parameters.newest_dialect,
        }
    }

    /// Whether peers can dial us.
    pub(super) fn is_dialable(&self) -> bool {
        self.listening.is_some()
    }

    /// Whether nobody from another machine can connect.
    pub(super) fn is_here(&self) -> bool {
        self.listening.as_ref().is_none_or(|listening| listening.is_here)
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.listening.as_ref().map(|listening| listening.port)
    }
}

fn listen((host, port): (&str, u16), parameters: &Parameters) -> io::Result<tcp::Listener> {
    let address = Address::Tcp { host: host.to_owned(), port };
    match address.listen_with(&parameters.tcp)? {
        Listener::Tcp(listener) => Ok(listener),
        _ => unreachable!("the address is one of TCP"),
    }
}

/// The host that is put into addresses.
fn dialable_host(host: &str, parameters: &Parameters) -> io::Result<String> {
    if let Some(external) = &parameters.external_host {
        return Ok(external.clone());
    }
    if host == "*" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "nobody can dial the unspecified address; set Parameters::external_host",
        ));
    }
    Ok(host.to_owned())
}

fn rules(parameters: &Parameters) -> Rules {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Rules {
        max_message: parameters.max_message,
        max_connections: parameters.max_connections,
        max_events: parameters.max_events,
        receive_queue: parameters.receive_queue,
        max_held: parameters.max_received,
        heartbeat: millis(parameters.heartbeat),
        patience: millis(parameters.patience),
        probes_older: parameters.probe_older_dialects,
        linger: millis(parameters.linger),
    }
}

fn limits(parameters: &Parameters) -> Limits {
    Limits {
        connections: parameters.max_connections_in_all,
        bytes: parameters.max_received_in_all,
        peers: parameters.max_peers,
        peers_per_host: parameters.max_peers_per_host,
    }
}

/// Endpoints.
impl Shared {
    pub(super) fn new_local(self: &Arc<Self>) -> Result<Arc<Local>, NewEndpointError> {
        let failed = |reason: &str| NewEndpointError::Failed(reason.to_owned());
        self.owner.check().map_err(|error| failed(&error.to_string()))?;
        let mut next = self.next_local.lock();
        let id = next.ok_or_else(|| failed("all endpoint ids have been used"))?;
        if self.is_closed() {
            return Err(failed("the network is closed"));
        }
        let address = if let Some(listening) = &self.listening {
            EndpointAddress::of(self.vat(), &listening.host, listening.port, id)
        } else {
            // Not an address that anybody could dial.
            let name = format!("unreachable-{:x}-{id}", self.incarnation);
            EndpointAddress::nowhere(self.vat(), &name)
        };
        let local = Local::new(self.clone(), id, address);
        *next = id.checked_add(1);
        self.locals.insert(id, local.clone());
        Ok(local)
    }

    pub(super) fn local(&self, id: EndpointId) -> Option<Arc<Local>> {
        self.locals.get(&id).map(|local| local.clone())
    }

    pub(super) fn forget(&self, local: &Arc<Local>) {
        self.locals.remove(&local.id);
    }

    fn all_locals(&self) -> Vec<Arc<Local>> {
        self.locals.iter().map(|entry| entry.value().clone()).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Closes everything and waits for the threads that serve sockets.
    pub(super) fn close(&self) {
        // A forked child has none of the threads, and must not touch the sockets.
        if !self.owner.is_this_process() {
            return;
        }
        self.stop();
        let mut threads = self.threads.lock();
        while *threads > 0 {
            self.thread_ended.wait(&mut threads);
        }
        drop(threads);
        self.timekeeper.lock().is_over = true;
        self.timekeeper_changed.notify_all();
    }

    /// Closes everything and waits for nobody.
    fn stop(&self) {
        {
            // From here on, no endpoint is made.
            let _next = self.next_local.lock();
            self.is_closed.store(true, Ordering::SeqCst);
        }
        if let Some(listening) = &self.listening {
            listening.closer.close();
        }
        for socket in self.half_open.lock().values() {
            socket.shut();
        }
        for local in self.all_locals() {
            local.close();
        }
    }
}

/// Sockets.
impl Shared {
    fn accept(self: &Arc<Self>, listener: &tcp::Listener) {
        let closer = listener.closer();
        let mut errors = 0;
        loop {
            match listener.accept_stream() {
                Ok((stream, peer)) => {
                    errors = 0;
                    self.welcome(Socket::new(stream), peer.ip());
                }
                Err(_) if closer.is_closed() => return,
                Err(error) if is_exhaustion(&error) => {}
                Err(error) => {
                    errors += 1;
                    if errors == ENOUGH_ERRORS {
                        self.fail(&format!("cannot accept: {error}"));
                        return;
                    }
                }
            }
        }
    }

    fn fail(&self, reason: &str) {
        for local in self.all_locals() {
            local.events.push(Entry::NetworkFailed(reason.to_owned()));
        }
        self.stop();
    }

    /// Leaves the handshake to a thread of its own. If there are too many, the oldest is
    /// given up: an honest one takes a round trip.
    fn welcome(self: &Arc<Self>, socket: Arc<Socket>, ip: IpAddr) {
        let Some(counted) = Inbound::count(self) else {
            self.notes.add(|| {
                format!("a dial from {ip} was turned away: too many sockets have not ended yet")
            });
            return;
        };
        let ticket = self.next_ticket();
        {
            let mut half_open = self.half_open.lock();
            if half_open.len() >= self.parameters.max_half_open
                && let Some((_, oldest)) = half_open.pop_first()
            {
                oldest.shut();
            }
            half_open.insert(ticket, socket.clone());
        }
        if self.is_closed() {
            socket.shut();
        }
        let shared = self.clone();
        let started = self.spawn("endpoint-answer", move || {
            let _counted = counted;
            answer::run(&shared, &socket, ip, ticket);
        });
        // Without a thread, the socket is dropped.
        if started.is_err() {
            self.introduced(ticket);
        }
    }

    /// A place for a peer that dials, unless there is none.
    pub(super) fn place(&self, ip: IpAddr) -> Result<Place, &'static str> {
        self.census.place(ip, |host| {
            // Those that were reported as lost, but have not left yet, would otherwise keep
            // a program out that has heard of it.
            let mut leaving = Leaving::default();
            for link in self.all_locals().iter().flat_map(|local| local.links()) {
                if let Some(from) = link.host()
                    && link.is_dead()
                {
                    leaving.all += 1;
                    leaving.of_host += usize::from(from == host);
                }
            }
            leaving
        })
    }

    /// A socket has introduced itself, or failed to.
    pub(super) fn introduced(&self, ticket: u64) {
        self.half_open.lock().remove(&ticket);
    }

    /// Shuts a socket down after a while.
    pub(super) fn linger(&self, socket: &Arc<Socket>) {
        let deadline = Deadline::after(self.parameters.linger);
        self.lingering.lock().push((deadline, socket.clone()));
    }

    /// A socket has served.
    pub(super) fn done_with(&self, socket: &Arc<Socket>) {
        let mut lingering = self.lingering.lock();
        lingering.retain(|(_, other)| !Arc::ptr_eq(other, socket));
        lingering.give_back(KEPT);
    }

    /// Ends what has lingered for too long, and tells all links the time.
    fn keep_time(&self) {
        let parameters = &self.parameters;
        let shortest = parameters.heartbeat.min(parameters.patience).min(parameters.linger);
        let pause = (shortest / 4).clamp(Duration::from_millis(1), Duration::from_secs(1));
        let mut keeper = self.timekeeper.lock();
        while !keeper.is_over {
            self.timekeeper_changed.wait_for(&mut keeper, pause);
            let mut lingering = self.lingering.lock();
            lingering.retain(|(deadline, socket)| {
                let is_due = deadline.has_passed();
                if is_due {
                    socket.shut();
                }
                !is_due
            });
            lingering.give_back(KEPT);
            drop(lingering);
            for local in self.all_locals() {
                for link in local.links() {
                    link.tick();
                }
            }
            self.notes.log();
        }
    }
}

/// One of the threads that are waited for.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.threads.lock() -= 1;
        self.0.thread_ended.notify_all();
    }
}

/// A socket that was accepted, from then on until its threads have ended.
struct Inbound(Arc<Shared>);

impl Inbound {
    /// `None` if there are too many. There may be more than there may be peers, for a
    /// peer that has left has a thread until its socket has ended.
    fn count(network: &Arc<Shared>) -> Option<Self> {
        let parameters = &network.parameters;
        let most = parameters.max_peers.saturating_add(parameters.max_half_open).saturating_mul(2);
        let counted = Inbound(network.clone());
        let before = network.inbound.fetch_add(1, Ordering::SeqCst);
        (before < most).then_some(counted)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.0.inbound.fetch_sub(1, Ordering::SeqCst);
    }
}
