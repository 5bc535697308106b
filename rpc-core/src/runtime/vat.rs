//! A vat: the objects of one program, their workers and their connections.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::attendants::Attendants;
use super::config::ConnConfig;
use super::connection::{self, Connection};
use super::draining;
use super::supervisor::{Groups, OwnedSupervisor};
use crate::cap::client::Client;
use crate::cap::effects;
use crate::cap::interceptor::Interceptors;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::panics;
use crate::protocol::table::Table;
use crate::sync::Mutex;
use crate::transport::Transport;
use crate::work::executor::Executor;
use crate::work::pool::{DEFAULT_NAME, Pool, PoolConfig};
use crate::work::role;

/// How a vat behaves.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads_core::Vat;
/// use capnp_threads_core::vat::VatConfig;
///
/// # fn main() -> capnp_threads_core::Result<()> {
/// let mut config = VatConfig::default();
/// config.pool.max_workers = 16;
/// config.call_timeout = Some(Duration::from_secs(30));
/// let vat = Vat::with_config(config)?;
/// # let _ = vat;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VatConfig {
    /// Prefix of the names of the vat's threads, without NUL characters. Systems show
    /// only the first characters of a thread's name. Default: `rpc`.
    pub name: String,
    /// Settings of the vat's workers.
    pub pool: PoolConfig,
    /// How long each call of the vat over one of its connections may take, if neither the
    /// connection's configuration nor the caller allows another time: see
    /// [`ConnConfig::call_timeout`]. Default: without limit.
    pub call_timeout: Option<Duration>,
    /// What is asked about the calls that cross the vat's connections, in either direction.
    /// Default: nothing.
    pub interceptors: Interceptors,
    /// The threads of the vat's connections. Default: each connection has its own.
    pub connection_threads: ConnectionThreads,
}

/// The threads of a vat's connections.
///
/// ```
/// use capnp_threads_core::Vat;
/// use capnp_threads_core::vat::{ConnectionThreads, VatConfig};
///
/// # fn main() -> capnp_threads_core::Result<()> {
/// let mut config = VatConfig::default();
/// config.connection_threads = ConnectionThreads::Shared;
/// let for_many_clients = Vat::with_config(config)?;
/// # drop(for_many_clients);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionThreads {
    /// Every connection has three threads of its own, which wait while nothing is going
    /// on.
    #[default]
    Own,
    /// The vat's connections share their threads: one waits for all of them, and a
    /// connection gets others while there is something to do. For a vat with thousands of
    /// connections of which few are busy at a time. What comes first after a pause takes one
    /// wake-up longer.
    ///
    /// A connection whose transport has no descriptor to wait for, as one over the pipes of a
    /// child process, keeps a thread that receives.
    Shared,
}

impl VatConfig {
    fn check(&self) -> Result<()> {
        if self.name.contains('\0') {
            return Err(Error::failed(format!(
                "VatConfig::name is {:?}, but a thread's name cannot contain a NUL character",
                self.name
            )));
        }
        if self.pool.max_workers == 0 {
            return Err(Error::failed(
                "PoolConfig::max_workers is 0, and no method could run; make it 1 or more",
            ));
        }
        Ok(())
    }
}

impl Default for VatConfig {
    fn default() -> Self {
        VatConfig {
            name: DEFAULT_NAME.into(),
            pool: PoolConfig::default(),
            call_timeout: None,
            interceptors: Interceptors::default(),
            connection_threads: ConnectionThreads::default(),
        }
    }
}

/// A vat: objects that run in one worker pool, and their connections to other vats.
/// Cloning gives another handle on the same vat.
///
/// Dropping every handle leaves connections running until their own handles are
/// dropped; [`shutdown`](Self::shutdown) ends them all.
///
/// ```
/// use capnp_threads_core::{Result, Vat};
/// use rpc_schema::echo_capnp::echo;
///
/// struct Echo;
///
/// impl echo::Server for Echo {
///     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let vat = Vat::new();
/// let echo: echo::Client = vat.export(Echo);
/// echo.ping_request().call()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Vat {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    pool: Arc<Pool>,
    call_timeout: Option<Duration>,
    interceptors: Interceptors,
    /// Absent if connections have threads of their own.
    attendants: Option<Arc<Attendants>>,
    connections: Arc<connection::Registry>,
    next_connection: AtomicU64,
    /// Set before the connections are closed.
    closed: AtomicBool,
    supervisors: Arc<Groups>,
    /// The closures that close the listeners of threads that serve, each with a number.
    serving: Mutex<Serving>,
}

#[derive(Default)]
struct Serving {
    next: u64,
    closing: HashMap<u64, Box<dyn Fn() + Send + Sync>>,
}

/// Stands for a thread that serves, until it no longer does.
pub(super) struct ServingGuard<'a> {
    vat: &'a Vat,
    number: u64,
}

impl Drop for ServingGuard<'_> {
    fn drop(&mut self) {
        let closing = self.vat.shared.serving.lock().closing.remove(&self.number);
        drop(closing);
    }
}

impl Vat {
    /// A vat with default settings.
    pub fn new() -> Self {
        Self::of_config(VatConfig::default())
    }

    /// A vat with the given settings.
    ///
    /// # Errors
    /// `failed`, with the name of a setting with which the vat cannot work.
    pub fn with_config(config: VatConfig) -> Result<Self> {
        config.check()?;
        Ok(Self::of_config(config))
    }

    fn of_config(config: VatConfig) -> Self {
        let pool = Pool::new(config.name.clone(), config.pool.clone());
        Self::of_workers(pool, config)
    }

    fn of_workers(pool: Arc<Pool>, config: VatConfig) -> Self {
        let attendants = match config.connection_threads {
            ConnectionThreads::Own => None,
            ConnectionThreads::Shared => {
                Some(Arc::new(Attendants::new(config.name.clone(), &pool)))
            }
        };
        Vat {
            shared: Arc::new(Shared {
                pool,
                name: config.name,
                call_timeout: config.call_timeout,
                interceptors: config.interceptors,
                attendants,
                connections: Arc::new(Table::new()),
                next_connection: AtomicU64::new(1),
                closed: AtomicBool::new(false),
                supervisors: Arc::default(),
                serving: Mutex::default(),
            }),
        }
    }

    /// The default vat, which lives as long as the process. Objects that are made without a
    /// vat, on a thread that belongs to no vat, belong to it.
    pub fn global() -> &'static Vat {
        static GLOBAL: LazyLock<Vat> =
            LazyLock::new(|| Vat::of_workers(Pool::global(), VatConfig::default()));
        &GLOBAL
    }

    /// Makes an object callable, one call at a time.
    pub fn export_dispatch(&self, server: Arc<dyn Dispatch>) -> Client {
        self.export_dispatch_with(server, Concurrency::default())
    }

    /// Makes an object callable.
    pub fn export_dispatch_with(
        &self,
        server: Arc<dyn Dispatch>,
        concurrency: Concurrency,
    ) -> Client {
        Client::of(LocalObject::new(server, concurrency, self.executor()))
    }

    /// Makes a connection to the peer at the other end of a transport. Returns when the
    /// connection's threads run, whether or not the peer has sent anything.
    ///
    /// # Errors
    /// `failed` when the configuration has [`Limits`](crate::Limits) that let nothing
    /// through; `overloaded` when the operating system has no threads to give; `disconnected`
    /// when the vat was shut down, or when the peer was gone before the configuration's
    /// action could start.
    pub fn connect(&self, transport: Transport, mut config: ConnConfig) -> Result<Connection> {
        self.check_process()?;
        let common = &mut config.common;
        common.limits.check()?;
        common.call_timeout = common.call_timeout.or(self.shared.call_timeout);
        let behind = std::mem::take(&mut common.interceptors);
        common.interceptors = self.shared.interceptors.clone().and(behind);
        let number = self.shared.next_connection.fetch_add(1, Ordering::Relaxed);
        let connection = connection::start(
            transport,
            config,
            &self.shared.pool,
            self.shared.attendants.as_ref(),
            &self.shared.connections,
            number,
            format!("{}-{number}", self.shared.name),
        )?;
        // Its threads may outlive the connection, and a shutdown waits for them.
        self.shared.supervisors.note(connection.supervisor());
        // This is checked only now that the vat knows the connection: a later shutdown
        // finds the connection.
        if self.shared.closed.load(Ordering::SeqCst) {
            connection.close();
            return Err(Error::disconnected("the vat was shut down"));
        }
        Ok(connection)
    }

    /// A supervisor whose threads end with its owner. An object that has it as a field
    /// has threads of its own, which end when the object's last client is gone, and at
    /// the latest when the vat is shut down.
    pub fn supervisor(&self) -> OwnedSupervisor {
        let supervisor = OwnedSupervisor::new(self.executor());
        self.shared.supervisors.note(&supervisor);
        // As in `connect`, this is checked only now: a later shutdown finds the
        // supervisor.
        if self.shared.closed.load(Ordering::SeqCst) {
            supervisor.stop();
        }
        supervisor
    }

    /// Notes how a thread that serves is ended by a shutdown.
    ///
    /// # Errors
    /// The vat was shut down.
    pub(super) fn begin_serving(
        &self,
        closing: Box<dyn Fn() + Send + Sync>,
    ) -> Result<ServingGuard<'_>> {
        let number = {
            let mut serving = self.shared.serving.lock();
            serving.next += 1;
            let number = serving.next;
            serving.closing.insert(number, closing);
            number
        };
        let guard = ServingGuard { vat: self, number };
        // As in `connect`, this is checked only now: a later shutdown finds the thread.
        if self.shared.closed.load(Ordering::SeqCst) {
            return Err(Error::disconnected("the vat was shut down"));
        }
        Ok(guard)
    }

    /// Refuses to go on in a process that was forked from the vat's.
    pub(super) fn check_process(&self) -> Result<()> {
        self.shared.pool.home().check()
    }

    /// Waits for something that cannot happen before the vat's methods, or what its
    /// connections have begun, have ended.
    ///
    /// # Errors
    /// This thread runs such a method, or serves a connection; or this process was forked
    /// from the vat's.
    pub(super) fn wait_outside<R>(&self, wait: impl FnOnce() -> R) -> Result<R> {
        self.check_process()?;
        if role::works_for(&self.shared.pool) {
            return Err(Error::failed(
                "this thread runs a method of the vat, or serves a connection, and would wait \
                 for itself; let a thread of the application do it",
            ));
        }
        effects::blocking(wait)
    }

    /// The number of connections that have not ended yet.
    pub fn connection_count(&self) -> usize {
        self.shared.connections.len()
    }

    /// Ends serving in an orderly way: closes the listeners of [`serve`](Self::serve),
    /// answers the calls of peers that have arrived on any connection, and then closes the
    /// connections. Returns whether all of these calls were answered within `timeout`;
    /// those that were not are cancelled. Otherwise as [`RpcSystem::drain`]. The vat can
    /// serve and connect again.
    ///
    /// [`RpcSystem::drain`]: crate::RpcSystem::drain
    ///
    /// # Errors
    /// This thread runs a method of this vat, or serves a connection: it would wait for
    /// itself.
    pub fn drain(&self, timeout: Duration) -> Result<bool> {
        self.wait_outside(|| {
            let deadline = Deadline::after(timeout);
            self.close_listeners();
            draining::drain(&self.connections(), deadline)
        })
    }

    fn close_listeners(&self) {
        let serving = std::mem::take(&mut self.shared.serving.lock().closing);
        for closing in serving.into_values() {
            let _ = panics::caught("closing a listener", closing);
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    pub(super) fn connections(&self) -> Vec<Arc<connection::Shared>> {
        let mut connections = Vec::new();
        self.shared.connections.for_each(|_, connection| connections.push(Arc::clone(connection)));
        connections
    }

    /// Closes every connection, asks supervised threads to stop, and waits for all of
    /// these and for the workers to finish what they do. Returns whether everything
    /// ended within `timeout`; if not, call it again to wait on. From then on calls of the
    /// vat's objects fail with `disconnected`, and the vat makes no more connections.
    ///
    /// # Errors
    /// This thread runs a method of this vat, or serves a connection: it would wait for
    /// itself.
    pub fn shutdown(&self, timeout: Duration) -> Result<bool> {
        self.wait_outside(|| self.shutdown_before(Deadline::after(timeout)))
    }

    fn shutdown_before(&self, deadline: Deadline) -> bool {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.close_listeners();
        let connections = self.connections();
        for connection in &connections {
            connection.close();
        }
        // The supervisors stay in the list: the next shutdown waits for those that go on.
        let supervisors = self.shared.supervisors.all();
        for supervisor in &supervisors {
            supervisor.stop();
        }
        let ended = connections.iter().all(|connection| connection.join_before(deadline));
        let stopped = supervisors.iter().all(|supervisor| supervisor.join(deadline));
        let drained = self.shared.pool.close(deadline);
        let left = self.shared.attendants.iter().all(|attendants| attendants.close(deadline));
        ended && stopped && drained && left
    }

    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        Arc::clone(&self.shared.pool) as Arc<dyn Executor>
    }
}

impl Default for Vat {
    fn default() -> Self {
        Vat::new()
    }
}

impl fmt::Debug for Vat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vat")
            .field("name", &self.shared.name)
            .field("connections", &self.connection_count())
            .finish_non_exhaustive()
    }
}
