//! Servers that begin with one call and end with one: [`serve`], and
//! [`Server`] for more.
//!
//! # How a server ends
//!
//! ```text
//! Serving ──stop, signal, a listener failed──► Draining ──all calls answered──► Ended
//!                                                 │
//!                                                 └─stop again, or time is up──► Ended
//! ```
//!
//! - **Serving**: everybody who connects is served.
//! - **Draining**: nobody is accepted any more and new calls are refused, with an error by
//!   which callers know that another server may take them
//!   ([`Error::is_draining`]). Calls that have begun are answered.
//! - **Ended**: the connections are closed, and the threads of the server's own vat are
//!   gone.
//!
//! All transitions are made by one thread, the one in [`Server::run`], or one of the
//! server's own after [`Server::start`]. Others send it events.

mod notice;
#[cfg(all(feature = "signals", unix))]
mod signals;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capnp_threads_core::OwnThread;
use capnp_threads_core::network::Listen;
use capnp_threads_core::offer::ObjectId;
use capnp_threads_core::vat::AcceptLimits;
#[cfg(feature = "tls")]
use capnp_threads_transport::tls::VatKey;
use capnp_threads_transport::{Address, Listener, PeerDescription};

use self::notice::Supervisor;
use crate::description::{self, SCHEMA};
use crate::health::Health;
use crate::{Client, ConnConfig, Error, FromClient, Result, ResultExt, ServeConfig, Vat};

type Configure = Arc<dyn Fn(&PeerDescription) -> Result<ConnConfig> + Send + Sync>;
type AnyListener = Box<dyn Listen + Send>;

/// Serves everybody who connects to an [address](Address), until the process is asked to
/// end: with the feature `signals`, by `SIGINT` or `SIGTERM`. Then the calls that have
/// begun are answered, for 10 seconds at most, and this returns.
///
/// It is short for `Server::new(bootstrap).listen(address)?.run()`; [`Server`] has more
/// to choose from.
///
/// ```no_run
/// use capnp_threads::{Result, Vat};
/// use rpc_schema::greeter_capnp::greeter;
/// # struct Greeter;
/// # impl greeter::Server for Greeter {}
///
/// fn main() -> Result<()> {
///     let greeter: greeter::Client = Vat::global().export(Greeter);
///     capnp_threads::serve("*:7000", greeter)
/// }
/// ```
///
/// # Errors
/// The address is not one, or nobody can listen there; otherwise as [`Server::run`].
pub fn serve(address: &str, bootstrap: impl FromClient) -> Result<()> {
    Server::new(bootstrap).listen(address)?.run()?;
    Ok(())
}

/// As [`serve`], as the vat with this key, for peers that have keys of their own: at
/// `host:port`, or at `tls:VATID@host:port` with the id of this key. All peers are let in;
/// to choose among them, use [`Server::with_config`] and
/// [`PeerDescription::vat`].
///
/// ```no_run
/// use capnp_threads::serving;
/// use capnp_threads::transport::tls::VatKey;
/// use capnp_threads::{Result, Vat};
/// use rpc_schema::greeter_capnp::greeter;
/// # struct Greeter;
/// # impl greeter::Server for Greeter {}
///
/// fn main() -> Result<()> {
///     let key = VatKey::load_or_create("greeter.key")?;
///     println!("I am tls:{}@…:7000", key.id());
///     let greeter: greeter::Client = Vat::global().export(Greeter);
///     serving::serve_as(&key, "*:7000", greeter)
/// }
/// ```
///
/// # Errors
/// As [`serve`] and [`Server::listen_as`].
#[cfg(feature = "tls")]
pub fn serve_as(key: &VatKey, address: &str, bootstrap: impl FromClient) -> Result<()> {
    Server::new(bootstrap).listen_as(key, address)?.run()?;
    Ok(())
}

/// A server that is being set up. See the [module](self).
///
/// ```
/// use std::time::Duration;
///
/// use capnp_threads::serving::Server;
/// use capnp_threads::{Result, Vat};
/// use rpc_schema::greeter_capnp::greeter;
/// # struct Greeter;
/// # impl greeter::Server for Greeter {}
///
/// # fn main() -> Result<()> {
/// let vat = Vat::new();
/// let greeter: greeter::Client = vat.export(Greeter);
/// let server = Server::new(greeter)
///     .vat(vat)
///     .listen("127.0.0.1:0")?
///     .drain_for(Duration::from_secs(30))
///     .start()?;
/// println!("serving at {}", server.addresses()[0]);
/// server.stop();
/// assert!(server.join()?);
/// # Ok(())
/// # }
/// ```
#[must_use = "a server does nothing until it is run or started"]
pub struct Server {
    configure: Configure,
    limits: AcceptLimits,
    listeners: Vec<AnyListener>,
    addresses: Vec<Address>,
    vat: Option<Vat>,
    drain_for: Duration,
    health: Option<Health>,
    schema: Option<Arc<[u8]>>,
    signals: bool,
    supervised: bool,
}

/// How long a server drains unless it is told otherwise.
const DRAIN_FOR: Duration = Duration::from_secs(10);

/// How long watchers of a server's health have to answer that they know of its end.
const TELL_FOR: Duration = Duration::from_secs(1);

/// How long the threads of a server's own vat may take to end after it was drained.
const END_FOR: Duration = Duration::from_secs(1);

/// The name under which peers find the [`Health`] of a server.
pub const HEALTH: &str = "health";

impl Server {
    /// A server that offers the same bootstrap capability to everybody, over connections
    /// with default settings.
    pub fn new(bootstrap: impl FromClient) -> Self {
        let client = bootstrap.into_client();
        Self::with_config(move |_| Ok(ConnConfig::new().bootstrap(client.clone())))
    }

    /// A server that decides for each peer how its connection behaves, as
    /// [`ServeConfig::new`] does.
    pub fn with_config(
        configure: impl Fn(&PeerDescription) -> Result<ConnConfig> + Send + Sync + 'static,
    ) -> Self {
        Server {
            configure: Arc::new(configure),
            limits: AcceptLimits::default(),
            listeners: Vec::new(),
            addresses: Vec::new(),
            vat: None,
            drain_for: DRAIN_FOR,
            health: None,
            schema: None,
            signals: true,
            supervised: true,
        }
    }

    /// Listens at an [address](Address), and at those that were given before.
    ///
    /// # Errors
    /// It is not an address, or nobody can listen there. One with `tls:` needs a key; it is
    /// for `Server::listen_as`.
    pub fn listen(self, address: &str) -> Result<Self> {
        let address: Address = address.parse().or_error()?;
        if let Address::Tls { .. } = address {
            return Err(Error::failed(format!(
                "to listen at {address} this side needs its key: use Server::listen_as, of the \
                 feature tls"
            )));
        }
        Ok(self.listener_at(address.listen()?))
    }

    /// Listens as the vat with this key, for peers that have keys: at `host:port`, or at
    /// `tls:VATID@host:port` with the id of this key. [`Running::addresses`] has the address
    /// with the id, for those who connect.
    ///
    /// ```
    /// use capnp_threads::connecting::Connector;
    /// use capnp_threads::serving::Server;
    /// use capnp_threads::transport::tls::VatKey;
    /// # use rpc_schema::greeter_capnp::greeter;
    /// # struct Greeter;
    /// # impl greeter::Server for Greeter {
    /// #     fn greet(&self, _: greeter::GreetParams, _: greeter::GreetResults) -> capnp_threads::Result<()> { Ok(()) }
    /// # }
    /// # fn main() -> capnp_threads::Result<()> {
    /// # let greeter: greeter::Client = capnp_threads::Vat::global().export(Greeter);
    /// let key = VatKey::generate()?; // or VatKey::load_or_create("greeter.key")?
    /// let server = Server::new(greeter).listen_as(&key, "127.0.0.1:0")?.start()?;
    /// let address = server.addresses()[0].to_string();
    /// assert!(address.starts_with(&format!("tls:{}@127.0.0.1:", key.id())));
    /// let client: greeter::Client = Connector::to(&address)?.connect()?;
    /// client.greet_request().call()?;
    /// # server.stop();
    /// # server.join()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// It is not an address of TCP, it is that of another vat, or nobody can listen there.
    #[cfg(feature = "tls")]
    pub fn listen_as(mut self, key: &VatKey, address: &str) -> Result<Self> {
        let address: Address = address.parse().or_error()?;
        let listener = key.listen(&address)?;
        self.addresses.push(key.address(listener.local_addr()));
        Ok(self.listener(listener))
    }

    /// Listens at the sockets that a supervisor, such as systemd with its socket units, has
    /// opened ([`Listener::inherited`]), or at `address` if there are none.
    ///
    /// Call this before there are other threads: they might read the environment at the
    /// same time.
    ///
    /// # Errors
    /// One of the sockets does not listen; otherwise as [`listen`](Self::listen).
    pub fn listen_inherited_or(self, address: &str) -> Result<Self> {
        let inherited = Listener::inherited()?;
        if inherited.is_empty() {
            return self.listen(address);
        }
        Ok(inherited.into_iter().fold(self, Self::listener_at))
    }

    fn listener_at(mut self, listener: Listener) -> Self {
        self.addresses.extend(listener.local_address().ok());
        self.listener(listener)
    }

    /// Accepts from a listener of any kind, such as that of `tls::TlsServer::listen`, and from
    /// those that were given before.
    pub fn listener(mut self, listener: impl Listen + Send + 'static) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// Sets how many peers may be connected to each listener, and how long they may keep
    /// silent.
    pub fn accept_limits(mut self, limits: AcceptLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves as this vat. The vat goes on when the server has ended, but all its
    /// connections have ended, also those that it has made itself. By default the server
    /// has a vat of its own, which is shut down at the end.
    pub fn vat(mut self, vat: Vat) -> Self {
        self.vat = Some(vat);
        self
    }

    /// Sets how long calls that have begun are waited for when the server ends. Default:
    /// 10 seconds.
    pub fn drain_for(mut self, time: Duration) -> Self {
        self.drain_for = time;
        self
    }

    /// Offers this object to every peer under the name [`HEALTH`], in place of whatever the
    /// connection's configuration offers by name, and lets it say when the server is about
    /// to end. Peers find it with [`health::of`](crate::health::of).
    pub fn health(mut self, health: &Health) -> Self {
        self.health = Some(health.clone());
        self
    }

    /// Tells peers that ask these schemas, a serialized `CodeGeneratorRequest`, under the
    /// name [`SCHEMA`], in place of whatever the connection's configuration offers by name:
    /// see [`description`](mod@crate::description).
    pub fn describe(mut self, schema: impl Into<Arc<[u8]>>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Sets whether `SIGINT` and `SIGTERM` end this server. Default: `true`, which does
    /// nothing without the feature `signals`.
    ///
    /// The first signal has the effect of [`Running::stop`], the second one that of
    /// [`Running::stop_now`], and the third one ends the process, as any of them does while
    /// no server listens to them.
    pub fn signals(mut self, on: bool) -> Self {
        self.signals = on;
        self
    }

    /// Sets whether the program's supervisor, such as systemd, is told when this server is
    /// ready and when it stops, and that it is alive. Default: `true`, which does nothing
    /// unless `NOTIFY_SOCKET` is in the environment.
    ///
    /// Where the supervisor wants signs of life (`WatchdogSec=`), it gets them while the
    /// vat's workers run methods. If all of them are stuck, it gets none.
    pub fn supervised(mut self, on: bool) -> Self {
        self.supervised = on;
        self
    }

    /// Serves on this thread until the server is asked to end. Returns whether every call
    /// that had begun was answered; those that were not were cancelled.
    ///
    /// # Errors
    /// Nothing to listen at; the limits let nobody in; the system has no thread to give;
    /// this thread runs a method of the vat, and must not wait.
    pub fn run(self) -> Result<bool> {
        self.open()?.conduct()
    }

    /// Serves on threads of its own.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn start(self) -> Result<Running> {
        let addresses = self.addresses.clone();
        let conductor = self.open()?;
        let events = conductor.send.clone();
        let thread = spawn("rpc-server", move || conductor.conduct())?;
        Ok(Running { addresses, events, thread })
    }

    /// Starts the threads that accept.
    fn open(self) -> Result<Conductor> {
        if self.listeners.is_empty() {
            return Err(Error::failed(
                "the server has no address to listen at; use Server::listen",
            ));
        }
        let own_vat = self.vat.is_none();
        let vat = self.vat.unwrap_or_default();
        let (send, events) = mpsc::channel();
        let mut named = Vec::new();
        named.extend(self.health.as_ref().map(|health| (HEALTH, health.client_in(&vat))));
        let described = self.schema.map(|schema| description::new(&vat, schema).into_client());
        named.extend(described.map(|described| (SCHEMA, described)));
        let configure =
            if named.is_empty() { self.configure } else { offering(self.configure, named) };
        let mut conductor = Conductor {
            vat: vat.clone(),
            own_vat,
            events,
            send: send.clone(),
            closers: Vec::new(),
            acceptors: Vec::new(),
            drain_for: self.drain_for,
            health: self.health,
            supervisor: Supervisor::none(),
            #[cfg(all(feature = "signals", unix))]
            signals: None,
        };
        #[cfg(all(feature = "signals", unix))]
        if self.signals {
            let send = send.clone();
            conductor.signals = Some(signals::subscribe(move || {
                // It is gone if the server has ended just now.
                let _ = send.send(Event::Signal);
            })?);
        }
        for listener in self.listeners {
            conductor.accept_from(listener, &configure, &self.limits)?;
        }
        if let Some(health) = &conductor.health {
            health.set_serving();
        }
        if self.supervised {
            conductor.supervisor = Supervisor::of_environment(&vat)?;
        }
        conductor.supervisor.ready();
        Ok(conductor)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("drain_for", &self.drain_for)
            .finish_non_exhaustive()
    }
}

/// The configuration, with capabilities under these names.
fn offering(configure: Configure, named: Vec<(&'static str, Client)>) -> Configure {
    let named: Arc<[_]> = named.into();
    Arc::new(move |peer| {
        let named = Arc::clone(&named);
        let restorer = move |object: &ObjectId, _: &PeerDescription| {
            let asked = object.text().ok();
            let found = named.iter().find(|(name, _)| asked.as_deref() == Some(*name));
            let found = found.map(|(_, client)| client.clone());
            found.ok_or_else(|| Error::failed("nothing is offered under this name"))
        };
        Ok(configure(peer)?.restorer(restorer))
    })
}

/// What the thread that conducts a server is told.
enum Event {
    Stop,
    StopNow,
    #[cfg_attr(not(all(feature = "signals", unix)), expect(dead_code, reason = "nobody sends it"))]
    Signal,
    /// One of the threads that accept has ended.
    Accepted(Result<()>),
    /// The vat was drained.
    Drained(Result<bool>),
}

/// Ends the server on behalf of all others.
struct Conductor {
    vat: Vat,
    own_vat: bool,
    events: Receiver<Event>,
    /// Keeps the channel open, too.
    send: Sender<Event>,
    closers: Vec<Box<dyn Fn() + Send + Sync>>,
    acceptors: Vec<OwnThread<JoinHandle<()>>>,
    drain_for: Duration,
    health: Option<Health>,
    supervisor: Supervisor,
    #[cfg(all(feature = "signals", unix))]
    signals: Option<signals::Subscription>,
}

/// How soon the server has to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    InOrder,
    Now,
}

impl Conductor {
    fn accept_from(
        &mut self,
        listener: AnyListener,
        configure: &Configure,
        limits: &AcceptLimits,
    ) -> Result<()> {
        self.closers.push(listener.closing());
        let (vat, configure, send) = (self.vat.clone(), Arc::clone(configure), self.send.clone());
        let config = ServeConfig::new(move |peer| configure(peer)).accept_limits(limits.clone());
        self.acceptors.push(spawn("rpc-accept", move || {
            let served = vat.serve(&*listener, config);
            // The address is free by the time that others learn of the end.
            drop(listener);
            let _ = send.send(Event::Accepted(served));
        })?);
        Ok(())
    }

    fn conduct(mut self) -> Result<bool> {
        let mut open = self.acceptors.len();
        let (haste, failure) = loop {
            match self.next() {
                Event::Stop | Event::Signal => break (Haste::InOrder, None),
                Event::StopNow => break (Haste::Now, None),
                // The one address that does not work any more must not go unnoticed.
                Event::Accepted(Err(error)) => break (Haste::InOrder, Some(error)),
                Event::Accepted(Ok(())) => {
                    open -= 1;
                    if open == 0 {
                        break (Haste::InOrder, None);
                    }
                }
                Event::Drained(_) => {}
            }
        };
        let drained = self.end(haste);
        match failure {
            Some(error) => Err(error),
            None => drained,
        }
    }

    fn next(&self) -> Event {
        // This holds a sender itself.
        self.events.recv().unwrap_or(Event::StopNow)
    }

    /// Drains the vat. Returns whether every call was answered.
    fn end(&mut self, haste: Haste) -> Result<bool> {
        self.supervisor.stopping();
        if let Some(health) = &self.health {
            health.set_not_serving("the server is shutting down");
        }
        self.close_listeners();
        let time = if haste == Haste::Now { Duration::ZERO } else { self.drain_for };
        let end = Instant::now().checked_add(time);
        let (vat, send) = (self.vat.clone(), self.send.clone());
        let health = self.health.clone();
        let drain = move || {
            if let Some(health) = health {
                // What a watcher was told is lost with its connection until it has run.
                health.wait_until_told(time.min(TELL_FOR));
            }
            let _ = send.send(Event::Drained(vat.drain(time)));
        };
        // On a thread of its own, so that this one can be told that there is no time.
        let draining = spawn("rpc-drain", drain);
        if draining.is_err() {
            let _ = self.send.send(Event::Drained(self.vat.drain(time)));
        }
        let mut cut_off = false;
        let drained = loop {
            match self.next() {
                Event::Drained(drained) => break drained,
                Event::Stop | Event::Accepted(_) => {}
                Event::StopNow | Event::Signal => {
                    // The other thread finds that nothing is left to wait for.
                    cut_off |= !self.vat.drain(Duration::ZERO)?;
                }
            }
        };
        // None of these threads has anything left to do.
        let threads = self.acceptors.drain(..).chain(draining.ok());
        for handle in threads.filter_map(OwnThread::take) {
            let _ = handle.join();
        }
        if self.own_vat {
            let left = end.map_or(END_FOR, |end| end.saturating_duration_since(Instant::now()));
            self.vat.shutdown(left.max(END_FOR))?;
        }
        Ok(drained? && !cut_off)
    }

    fn close_listeners(&mut self) {
        for close in self.closers.drain(..) {
            close();
        }
    }
}

impl Drop for Conductor {
    fn drop(&mut self) {
        // A server that could not be started serves nobody.
        self.close_listeners();
    }
}

/// A server that runs. Dropping this leaves it running, until a signal ends it.
#[must_use = "a server goes on until it is stopped"]
pub struct Running {
    addresses: Vec<Address>,
    events: Sender<Event>,
    thread: OwnThread<JoinHandle<Result<bool>>>,
}

impl Running {
    /// The addresses at which the server listens, as far as they have a text; ports that
    /// the system chose are filled in.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Lets the server end in an orderly way: see the [module](self). Does not wait.
    pub fn stop(&self) {
        // It is gone once the server has ended.
        let _ = self.events.send(Event::Stop);
    }

    /// Lets the server end without waiting for the calls that have begun. Does not wait.
    pub fn stop_now(&self) {
        let _ = self.events.send(Event::StopNow);
    }

    /// What stops the server, for others to hold.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.events.clone())
    }

    /// Waits until the server has ended. Returns whether every call that had begun was
    /// answered.
    ///
    /// # Errors
    /// As [`Server::run`]; and `failed` in a child that was forked since the server started.
    pub fn join(self) -> Result<bool> {
        let Some(thread) = self.thread.take() else {
            return Err(Error::failed(
                "this process was forked from that of the server, whose threads are only there",
            ));
        };
        thread.join().unwrap_or_else(|_| Err(Error::failed("the thread of the server panicked")))
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Stops a server from any thread, also from one of its methods.
#[derive(Clone)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    /// As [`Running::stop`].
    pub fn stop(&self) {
        let _ = self.0.send(Event::Stop);
    }

    /// As [`Running::stop_now`].
    pub fn stop_now(&self) {
        let _ = self.0.send(Event::StopNow);
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

fn spawn<R: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<OwnThread<JoinHandle<R>>> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map(OwnThread::new).map_err(|error| {
        Error::overloaded(format!("the thread {name} could not be started: {error}"))
    })
}
