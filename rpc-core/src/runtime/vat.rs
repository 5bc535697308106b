//! A vat: the objects of one program, their workers and their connections.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dashmap::DashMap;

use super::config::ConnConfig;
use super::connection::{self, Connection};
use super::supervisor::{OwnedSupervisor, WeakSupervisor};
use crate::cap::client::Client;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::transport::Transport;
use crate::work::executor::Executor;
use crate::work::pool::{DEFAULT_NAME, Pool, PoolConfig};

/// How a vat behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VatConfig {
    /// What its threads' names start with. Default: `rpc`.
    pub name: String,
    /// Its workers.
    pub pool: PoolConfig,
}

impl Default for VatConfig {
    fn default() -> Self {
        VatConfig { name: DEFAULT_NAME.into(), pool: PoolConfig::default() }
    }
}

/// Objects that run in the same worker pool, and the connections to other vats.
/// Cloning gives another handle on the same vat.
///
/// Dropping every handle leaves connections running until their own handles are
/// dropped; [`shutdown`](Self::shutdown) ends them all.
#[derive(Clone)]
pub struct Vat {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    pool: Arc<Pool>,
    connections: Arc<connection::Registry>,
    next_connection: AtomicU64,
    /// Set before the connections are closed.
    closed: AtomicBool,
    supervisors: Mutex<Vec<WeakSupervisor>>,
}

impl Vat {
    /// A vat with default settings.
    pub fn new() -> Self {
        Self::with_config(VatConfig::default())
    }

    /// A vat with the given settings.
    pub fn with_config(config: VatConfig) -> Self {
        Self::of_workers(Pool::new(config.name.clone(), config.pool), config.name)
    }

    fn of_workers(pool: Arc<Pool>, name: String) -> Self {
        Vat {
            shared: Arc::new(Shared {
                pool,
                name,
                connections: Arc::new(DashMap::new()),
                next_connection: AtomicU64::new(1),
                closed: AtomicBool::new(false),
                supervisors: Mutex::default(),
            }),
        }
    }

    /// The vat that objects belong to that are made without one, on threads that
    /// are no vat's. It lives as long as the process.
    pub fn global() -> &'static Vat {
        static GLOBAL: LazyLock<Vat> =
            LazyLock::new(|| Vat::of_workers(Pool::global(), DEFAULT_NAME.into()));
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

    /// Starts to speak with the peer at the other end of a transport. Returns
    /// when the connection's threads run; the peer may not have said anything
    /// yet.
    ///
    /// # Errors
    /// `overloaded` when the system has no threads to give, `disconnected` when
    /// the vat was shut down, or when the peer was gone before the action of the
    /// configuration could start.
    pub fn connect(&self, transport: Transport, config: ConnConfig) -> Result<Connection> {
        let number = self.shared.next_connection.fetch_add(1, Ordering::Relaxed);
        let connection = connection::start(
            transport,
            config,
            &self.shared.pool,
            &self.shared.connections,
            number,
            format!("{}-{number}", self.shared.name),
        )?;
        // Asked only now that the connection is known to the vat: a shutdown that
        // has not happened by now will find it.
        if self.shared.closed.load(Ordering::SeqCst) {
            connection.close();
            return Err(Error::disconnected("the vat was shut down"));
        }
        Ok(connection)
    }

    /// Starts threads that end with whatever owns the supervisor: an object that has
    /// it as a field has threads of its own, which end when its last client is gone,
    /// and at the latest when the vat is shut down.
    pub fn supervisor(&self) -> OwnedSupervisor {
        let supervisor = OwnedSupervisor::new(self.executor());
        let mut supervisors = self.shared.supervisors.lock();
        // When it would have to grow it is time to forget those that are gone.
        if supervisors.len() == supervisors.capacity() {
            supervisors.retain(|group| !group.is_gone());
        }
        supervisors.push(supervisor.group());
        drop(supervisors);
        // As with connections: a shutdown that has not happened by now will find it.
        if self.shared.closed.load(Ordering::SeqCst) {
            supervisor.stop();
        }
        supervisor
    }

    /// How many connections have not ended yet.
    pub fn connection_count(&self) -> usize {
        self.shared.connections.len()
    }

    /// Closes every connection, asks supervised threads to stop, waits for all of
    /// these, and for the workers to finish what they do. Returns whether everything ended in time. Objects
    /// of the vat answer calls with `overloaded` from then on, and it takes no
    /// more connections.
    pub fn shutdown(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        self.shared.closed.store(true, Ordering::SeqCst);
        let connections: Vec<_> =
            self.shared.connections.iter().map(|entry| Arc::clone(entry.value())).collect();
        for connection in &connections {
            connection.close();
        }
        let supervisors = std::mem::take(&mut *self.shared.supervisors.lock());
        let supervisors: Vec<_> = supervisors.iter().filter_map(WeakSupervisor::upgrade).collect();
        for supervisor in &supervisors {
            supervisor.stop();
        }
        let ended = connections.iter().all(|connection| connection.join_before(deadline));
        let stopped = supervisors.iter().all(|supervisor| supervisor.join(deadline));
        let drained = self.shared.pool.close(deadline);
        ended && stopped && drained
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
