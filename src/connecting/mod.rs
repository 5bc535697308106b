//! Clients that are made with one call and stay connected: [`connect`], and
//! [`Connector`] for more.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capnp_threads_core::reconnect::{Backoff, ReconnectControl, lazy_auto_reconnect_after};
#[cfg(feature = "tls")]
use capnp_threads_transport::tls::{TlsClient, TlsVat, VatKey};
use capnp_threads_transport::{Address, TcpOptions, Transport};

use crate::{ConnConfig, Connection, Error, FromClient, Result, ResultExt, Vat};

/// Connects to a server and returns its bootstrap capability. When the connection is lost,
/// the next call connects anew.
///
/// It is short for `Connector::to(address)?.connect()`; [`Connector`] has more to choose
/// from, and says what becomes of calls when a connection is lost. With the feature `tls`
/// the address may be that of a vat with a key, `tls:VATID@host:port`.
///
/// ```no_run
/// use rpc_schema::greeter_capnp::greeter;
///
/// # fn main() -> capnp_threads::Result<()> {
/// let greeter: greeter::Client = capnp_threads::connect("server.example:7000")?;
/// let mut request = greeter.greet_request();
/// request.get().set_name("threads");
/// println!("{}", request.call()?.get()?.get_greeting()?.to_str()?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The address is not one, or the server cannot be connected to.
pub fn connect<C: FromClient>(address: &str) -> Result<C> {
    Connector::to(address)?.connect()
}

type Dial = Arc<dyn Fn() -> Result<Transport> + Send + Sync>;
type Configure = Arc<dyn Fn() -> ConnConfig + Send + Sync>;

/// How long an attempt to connect may take unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// After how much silence the system asks a peer for a sign of life, how often it does so
/// from then on, and how often in vain before the connection ends.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// A client that is being set up.
///
/// What it makes is the bootstrap capability of a server, which outlives its connections:
/// see [`auto_reconnect_after`](crate::reconnect::auto_reconnect_after) for what becomes of
/// calls.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads::Result;
/// use capnp_threads::connecting::Connector;
/// # use rpc_schema::greeter_capnp::greeter;
///
/// /// The greeter at one of two addresses.
/// fn greeter() -> Result<greeter::Client> {
///     Connector::to("greeter.example:7000")?
///         .or("spare.example:7000")?
///         .timeout(Duration::from_secs(3))
///         .connect()
/// }
/// ```
///
/// # Vats with keys
/// With the feature `tls`, an address may be that of a vat with a key:
/// `tls:VATID@host:port`, or `tls:VATID@host:port,host:port` if there are several ways to
/// it. Whoever answers there has to prove that it is this vat. This side proves who it is
/// with the key that `Connector::key` gives. Without one it makes a key that nobody knows,
/// for servers that let everybody in.
#[must_use = "a connector does nothing until it connects"]
pub struct Connector {
    servers: Vec<Server>,
    #[cfg(feature = "tls")]
    key: Option<VatKey>,
    vat: Option<Vat>,
    configure: Configure,
    options: TcpOptions,
    timeout: Duration,
    backoff: Backoff,
}

/// The servers that an address names: several, if a vat has several addresses.
fn servers_at(address: &str) -> Result<Vec<Server>> {
    #[cfg(feature = "tls")]
    if address.starts_with("tls:") {
        let vat: TlsVat = address.parse().or_error()?;
        if vat.hints().is_empty() {
            return Err(Error::failed(format!(
                "{address} does not say where the vat is; write tls:VATID@host:port"
            )));
        }
        return Ok(vat.hints().iter().cloned().map(Server::At).collect());
    }
    Ok(vec![Server::At(address.parse().or_error()?)])
}

/// One of the servers that offer the same.
enum Server {
    At(Address),
    Dialled(Dial),
}

impl Connector {
    /// Connects to this address.
    ///
    /// # Errors
    /// It is not an address.
    pub fn to(address: &str) -> Result<Self> {
        Ok(Self::to_servers(servers_at(address)?))
    }

    /// Connects with a closure, which may wait: for transports that no address describes,
    /// such as TLS with certificates.
    pub fn with(dial: impl Fn() -> Result<Transport> + Send + Sync + 'static) -> Self {
        Self::to_servers(vec![Server::Dialled(Arc::new(dial))])
    }

    fn to_servers(servers: Vec<Server>) -> Self {
        let (idle, interval, probes) = KEEPALIVE;
        Connector {
            servers,
            #[cfg(feature = "tls")]
            key: None,
            vat: None,
            configure: Arc::new(ConnConfig::new),
            options: TcpOptions::new().keepalive(idle, interval, probes),
            timeout: TIMEOUT,
            backoff: Backoff::default(),
        }
    }

    /// Adds the address of another server that offers the same. Each attempt to connect
    /// tries all of them in turn, beginning with the one after that which was used last.
    ///
    /// # Errors
    /// It is not an address.
    pub fn or(mut self, address: &str) -> Result<Self> {
        self.servers.extend(servers_at(address)?);
        Ok(self)
    }

    /// As [`or`](Self::or), for a server that a closure connects to.
    pub fn or_with(mut self, dial: impl Fn() -> Result<Transport> + Send + Sync + 'static) -> Self {
        self.servers.push(Server::Dialled(Arc::new(dial)));
        self
    }

    /// Proves with this key who this side is, to servers with addresses `tls:`. Default: a
    /// new key that nobody else learns, for as long as what the connector makes exists.
    ///
    /// ```no_run
    /// use capnp_threads::connecting::Connector;
    /// use capnp_threads::transport::tls::VatKey;
    /// # use rpc_schema::greeter_capnp::greeter;
    ///
    /// # fn main() -> capnp_threads::Result<()> {
    /// let key = VatKey::load_or_create("own.key")?;
    /// # let server = "tls:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a@h:1";
    /// let greeter: greeter::Client = Connector::to(server)?.key(&key).connect()?;
    /// # drop(greeter);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn key(mut self, key: &VatKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Connects as this vat. Default: [`Vat::global`].
    pub fn vat(mut self, vat: Vat) -> Self {
        self.vat = Some(vat);
        self
    }

    /// Makes the settings of each connection. Default: [`ConnConfig::new`].
    pub fn config(mut self, make: impl Fn() -> ConnConfig + Send + Sync + 'static) -> Self {
        self.configure = Arc::new(make);
        self
    }

    /// Sets the options of TCP sockets. Default: keepalive, so that a server that vanished
    /// is noticed after a minute.
    pub fn tcp_options(mut self, options: TcpOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets how long connecting to one address may take. Default: 10 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the pauses after attempts that failed, or that led to a connection on which no
    /// call was answered: see
    /// [`auto_reconnect_after`](crate::reconnect::auto_reconnect_after).
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Connects, and returns the server's bootstrap capability.
    ///
    /// # Errors
    /// None of the servers can be connected to: the error of the last one.
    pub fn connect<C: FromClient>(self) -> Result<C> {
        Ok(self.connect_with_control()?.0)
    }

    /// As [`connect`](Self::connect), with a handle that gives connections up.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with_control<C: FromClient>(self) -> Result<(C, ReconnectControl)> {
        let line = self.line();
        let first = line.dial()?;
        line.lock().first = Some(first);
        Ok(line.reconnecting())
    }

    /// Connects at the first call. Does not wait, and does not fail: calls fail while no
    /// server can be connected to.
    pub fn lazy<C: FromClient>(self) -> (C, ReconnectControl) {
        self.line().reconnecting()
    }

    fn line(self) -> Line {
        let state = State {
            #[cfg(feature = "tls")]
            key: self.key,
            ..State::default()
        };
        Line {
            vat: self.vat.unwrap_or_else(|| Vat::global().clone()),
            state: Mutex::new(state),
            servers: self.servers,
            configure: self.configure,
            options: self.options,
            timeout: self.timeout,
            backoff: self.backoff,
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.servers.iter().filter_map(|server| match server {
            Server::At(address) => Some(address.to_string()),
            Server::Dialled(_) => None,
        });
        f.debug_struct("Connector")
            .field("addresses", &addresses.collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What connects, again and again.
struct Line {
    servers: Vec<Server>,
    vat: Vat,
    configure: Configure,
    options: TcpOptions,
    timeout: Duration,
    backoff: Backoff,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The server with which the next attempt begins.
    next: usize,
    /// A connection that was made beforehand.
    first: Option<Connection>,
    /// Dropping the last handle on a connection closes it.
    current: Option<Connection>,
    /// Who this side is for vats with keys; made when it is first needed, unless it was
    /// given.
    #[cfg(feature = "tls")]
    key: Option<VatKey>,
}

impl Line {
    fn reconnecting<C: FromClient>(self) -> (C, ReconnectControl) {
        lazy_auto_reconnect_after(self.backoff, move || self.connect())
    }

    fn connect<C: FromClient>(&self) -> Result<C> {
        let made = self.lock().first.take();
        let connection = match made {
            Some(connection) => connection,
            None => self.dial()?,
        };
        let bootstrap = connection.bootstrap_client();
        let before = self.lock().current.replace(connection);
        drop(before);
        Ok(C::from_client(bootstrap))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the first server that takes one.
    fn dial(&self) -> Result<Connection> {
        let begin = self.lock().next;
        let mut failure = Error::failed("there is no server to connect to");
        for turn in 0..self.servers.len() {
            let at = (begin + turn) % self.servers.len();
            let Some(server) = self.servers.get(at) else { continue };
            match self.dial_one(server) {
                Ok(connection) => {
                    self.lock().next = at + 1;
                    return Ok(connection);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn dial_one(&self, server: &Server) -> Result<Connection> {
        let transport = match server {
            #[cfg(feature = "tls")]
            Server::At(Address::Tls { vat, host, port }) => TlsClient::vat(&self.key()?, *vat)?
                .tcp_options(self.options.clone())
                .connect_to((&**host, *port), host, Some(self.timeout))?,
            Server::At(address) => address.connect_with(&self.options, Some(self.timeout))?,
            Server::Dialled(dial) => dial()?,
        };
        self.vat.connect(transport, (self.configure)())
    }

    #[cfg(feature = "tls")]
    fn key(&self) -> Result<VatKey> {
        let given = self.lock().key.clone();
        if let Some(key) = given {
            return Ok(key);
        }
        let made = VatKey::generate()?;
        Ok(self.lock().key.get_or_insert(made).clone())
    }
}
