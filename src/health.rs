//! Whether a server wants calls: an object that says so, and tells watchers of changes.
//!
//! A server offers it beside its bootstrap capability, with
//! [`Server::health`](crate::serving::Server::health), and says that it does not want
//! calls any more when it is about to end. The interface is in `health.capnp`, so that
//! programs in other languages can ask, too.
//!
//! ```
//! use capnp_threads::serving::Server;
//! use capnp_threads::{ConnConfig, Result, Vat, health};
//! # use rpc_schema::greeter_capnp::greeter;
//! # struct Greeter;
//! # impl greeter::Server for Greeter {}
//!
//! # fn main() -> Result<()> {
//! let state = health::Health::new();
//! # let greeter: greeter::Client = Vat::global().export(Greeter);
//! let server = Server::new(greeter).listen("127.0.0.1:0")?.health(&state).start()?;
//!
//! let connection = Vat::global().connect(server.addresses()[0].connect()?, ConnConfig::new())?;
//! let server_health = health::of(&connection);
//! assert!(server_health.check_request().call()?.get()?.get_state()?.get_serving());
//! state.set_not_serving("the database is away");
//! assert!(!server_health.check_request().call()?.get()?.get_state()?.get_serving());
//! # connection.close();
//! # server.stop();
//! # server.join()?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::health_capnp::health;
use crate::serving::HEALTH;
use crate::{Client, Connection, FromClient, Result, Vat};

pub use crate::health_capnp::health::{Client as HealthClient, watcher};

/// The [`Health`] of the server at the other end of a connection.
pub fn of(connection: &Connection) -> HealthClient {
    HealthClient::from_client(connection.restore_client(HEALTH))
}

/// Whether a server wants calls. Cloning gives another handle on the same state, which is
/// *not serving* at first.
///
/// ```
/// use capnp_threads::health::Health;
///
/// let health = Health::new();
/// assert!(!health.is_serving());
/// health.set_serving();
/// assert!(health.is_serving());
/// health.set_not_serving("the database is away");
/// assert!(!health.is_serving());
/// ```
#[derive(Clone, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The lock is a leaf: nothing is called or dropped under it.
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    serving: bool,
    reason: String,
    /// Grows with each change.
    version: u64,
    watches: Vec<Weak<Watch>>,
    /// Grows with each answer of a watcher.
    answers: u64,
}

impl Health {
    /// Not serving, as a server is before it has started.
    pub fn new() -> Self {
        Health::default()
    }

    /// From now on the server wants calls.
    pub fn set_serving(&self) {
        self.set(true, String::new());
    }

    /// From now on the server wants no calls, for this reason.
    pub fn set_not_serving(&self, reason: impl Into<String>) {
        self.set(false, reason.into());
    }

    /// Whether the server wants calls.
    pub fn is_serving(&self) -> bool {
        self.shared.lock().serving
    }

    /// The object that peers ask, made callable in this vat.
    pub fn client_in(&self, vat: &Vat) -> Client {
        let client: HealthClient = vat.export_named("health", Asked(Arc::clone(&self.shared)));
        client.into_client()
    }

    /// Waits until every watcher has been told of the state and has answered, or has failed;
    /// no longer than `time`.
    pub(crate) fn wait_until_told(&self, time: Duration) {
        let end = Instant::now().checked_add(time);
        loop {
            let (version, answers, watches) = {
                let state = self.shared.lock();
                (state.version, state.answers, state.watches.clone())
            };
            if !watches.iter().filter_map(Weak::upgrade).any(|watch| watch.is_behind(version)) {
                return;
            }
            let left = end.map_or(time, |end| end.saturating_duration_since(Instant::now()));
            let state = self.shared.lock();
            let (state, waited) = self
                .shared
                .answered
                .wait_timeout_while(state, left, |state| state.answers == answers)
                .unwrap_or_else(PoisonError::into_inner);
            drop(state);
            if waited.timed_out() {
                return;
            }
        }
    }

    fn set(&self, serving: bool, reason: String) {
        let watches = {
            let mut state = self.shared.lock();
            if state.serving == serving && state.reason == reason {
                return;
            }
            state.serving = serving;
            state.reason = reason;
            state.version += 1;
            state.watches.retain(|watch| watch.strong_count() > 0);
            state.watches.clone()
        };
        for watch in watches.iter().filter_map(Weak::upgrade) {
            watch.tell();
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Health")
            .field("serving", &state.serving)
            .field("reason", &state.reason)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The object that peers ask.
struct Asked(Arc<Shared>);

impl health::Server for Asked {
    fn check(&self, _: health::CheckParams, mut results: health::CheckResults) -> Result<()> {
        let (serving, reason) = {
            let state = self.0.lock();
            (state.serving, state.reason.clone())
        };
        let mut state = results.get().init_state();
        state.set_serving(serving);
        state.set_reason(reason);
        Ok(())
    }

    fn watch(&self, params: health::WatchParams, mut results: health::WatchResults) -> Result<()> {
        let watch = Arc::new(Watch {
            watcher: params.get()?.get_watcher()?,
            health: Arc::clone(&self.0),
            told: Mutex::default(),
        });
        {
            let mut state = self.0.lock();
            // Otherwise a peer that comes and goes would use up memory.
            state.watches.retain(|watch| watch.strong_count() > 0);
            state.watches.push(Arc::downgrade(&watch));
        }
        watch.tell();
        results.get().set_watch(health::watch::Client::from_server(Handle(watch)));
        Ok(())
    }
}

/// What a peer holds while it watches.
struct Handle(#[expect(dead_code, reason = "what it keeps alive counts")] Arc<Watch>);

impl health::watch::Server for Handle {}

/// One peer that watches. It is told one state at a time: while it has not answered, states
/// in between are left out.
struct Watch {
    watcher: watcher::Client,
    health: Arc<Shared>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// The version that the watcher was told last, and whether it has not answered yet.
    version: Option<u64>,
    asked: bool,
    /// A watcher that fails has seen enough.
    failed: bool,
}

impl Watch {
    /// Whether the watcher has still to be told of a state, or to answer.
    fn is_behind(&self, version: u64) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        !told.failed && (told.asked || told.version != Some(version))
    }

    /// Tells the watcher of the state, unless it knows.
    fn tell(self: &Arc<Self>) {
        let (serving, reason) = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let state = self.health.lock();
            if told.failed || told.asked || told.version == Some(state.version) {
                return;
            }
            told.version = Some(state.version);
            told.asked = true;
            (state.serving, state.reason.clone())
        };
        let mut request = self.watcher.changed_request();
        let mut state = request.get().init_state();
        state.set_serving(serving);
        state.set_reason(reason);
        let (watch, health) = (Arc::downgrade(self), Arc::clone(&self.health));
        // This runs on a worker, so a state that changes all the time nests nothing.
        request.send().on_resolve(move |answer| {
            if let Some(watch) = watch.upgrade() {
                {
                    let mut told = watch.told.lock().unwrap_or_else(PoisonError::into_inner);
                    told.asked = false;
                    told.failed = answer.is_err();
                }
                watch.tell();
            }
            health.lock().answers += 1;
            health.answered.notify_all();
        });
    }
}
