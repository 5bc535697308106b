//! Capabilities that are connected again after they were disconnected.
//!
//! # State model
//!
//! ```text
//!        ┌─ a call fails as disconnected or finds it ended, or reset ─┐
//!        ▼                                                            │
//! Unconnected ──next call──► Connecting(generation) ──────► Connected(generation)
//!        ▲                          │
//!        └─connecting fails, or reset
//! ```
//!
//! A generation in which no call was answered has failed. After failures in a row,
//! Connecting begins with a pause, in which the timer has the attempt and no thread waits.
//! So a server that accepts and hangs up at once is not besieged, and the first attempt
//! after a connection that was good comes at once.
//!
//! A call that finds its connection ended uses the next connection at once: the call was
//! not sent, so nothing is done twice.
//!
//! From the first call of a generation on, calls go to a promise, which resolves to the
//! capability that `connect` returns. So calls keep their order and do not wait here. A
//! report that a generation has ended names the generation: of several calls that
//! failed together, only the first one has an effect.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::backoff::Backoff;
use crate::cap::call::CallCell;
use crate::cap::capability::Capability;
use crate::cap::client::Client;
use crate::cap::delivery::Delivery;
use crate::cap::effects::{self, Effect};
use crate::cap::from_client::FromClient;
use crate::cap::local_promise::LocalPromise;
use crate::cap::sameness::number::Number;
use crate::cap::stream::Stream;
use crate::error::{CarriedOut, Error, ErrorKind, Result};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::work::executor::{Executor, Job};
use crate::work::role;
use crate::work::timer::{self, Expire, Ticket};

/// Makes a capability that is connected again: once a call has failed with `disconnected`,
/// the next call connects anew. `connect` finds the capability to which calls go, such as
/// the bootstrap capability of a new connection. It runs on a worker, where it may wait,
/// and for the first time now.
///
/// Calls that are under way when the connection ends fail: it is not known whether they
/// were carried out, and the caller decides whether to try again. Calls that wait for
/// an attempt to connect fail if the attempt does; the next call makes another attempt.
/// Capabilities that came from an earlier connection stay broken.
///
/// The last handle on a [`Connection`](crate::Connection) closes it when it is dropped,
/// so `connect` must keep its connection until the next one takes its place.
///
/// A callee may answer with `disconnected` because of a connection of its own; such an
/// answer counts as well.
///
/// ```
/// use capnp_threads_core::reconnect::auto_reconnect;
/// use capnp_threads_core::{Result, Vat};
/// use rpc_schema::echo_capnp::echo;
/// # struct Echo;
/// # impl echo::Server for Echo {
/// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> { Ok(()) }
/// # }
/// # fn dial(vat: &Vat) -> Result<echo::Client> { Ok(vat.export(Echo)) }
///
/// # fn main() -> Result<()> {
/// let vat = Vat::new();
/// let (echo, control) = auto_reconnect(move || -> Result<echo::Client> { dial(&vat) });
/// echo.ping_request().call()?;
/// control.reset();
/// echo.ping_request().call()?;
/// assert_eq!(control.generation(), 2);
/// # Ok(())
/// # }
/// ```
pub fn auto_reconnect<C, F>(connect: F) -> (C, ReconnectControl)
where
    C: FromClient,
    F: Fn() -> Result<C> + Send + Sync + 'static,
{
    let (client, control) = lazy_auto_reconnect(connect);
    control.reconnecting.current();
    (client, control)
}

/// As [`auto_reconnect`], with pauses after attempts that failed, or that led to a
/// connection on which no call was answered. Calls that come during a pause wait for the
/// attempt after it; to let them wait no longer than some time, use
/// [`Client::with_timeout`].
pub fn auto_reconnect_after<C, F>(backoff: Backoff, connect: F) -> (C, ReconnectControl)
where
    C: FromClient,
    F: Fn() -> Result<C> + Send + Sync + 'static,
{
    let (client, control) = lazy_auto_reconnect_after(backoff, connect);
    control.reconnecting.current();
    (client, control)
}

/// As [`auto_reconnect`], but connects for the first time at the first call.
pub fn lazy_auto_reconnect<C, F>(connect: F) -> (C, ReconnectControl)
where
    C: FromClient,
    F: Fn() -> Result<C> + Send + Sync + 'static,
{
    lazy_auto_reconnect_after(Backoff::NONE, connect)
}

/// As [`auto_reconnect_after`], but connects for the first time at the first call.
pub fn lazy_auto_reconnect_after<C, F>(backoff: Backoff, connect: F) -> (C, ReconnectControl)
where
    C: FromClient,
    F: Fn() -> Result<C> + Send + Sync + 'static,
{
    let connect = move || connect().map(FromClient::into_client);
    let reconnecting = Arc::new_cyclic(|this| Reconnecting {
        connect: Arc::new(connect),
        backoff,
        proven: AtomicU64::new(0),
        state: Mutex::new(State { generation: 0, current: None, failures: 0, ended: None }),
        number: Number::default(),
        this: Weak::clone(this),
    });
    let client = C::from_client(Client::of(Arc::clone(&reconnecting)));
    (client, ReconnectControl { reconnecting })
}

/// Controls a capability that [`auto_reconnect`] made. Cloning gives another handle on
/// the same capability.
#[derive(Clone)]
pub struct ReconnectControl {
    reconnecting: Arc<Reconnecting>,
}

impl ReconnectControl {
    /// Gives the present connection up, if there is one: the next call connects again,
    /// without a pause. Calls that are under way go on.
    pub fn reset(&self) {
        let generation = self.generation();
        self.reconnecting.end_generation(generation);
        self.reconnecting.state.lock().failures = 0;
    }

    /// The number of attempts to connect so far.
    pub fn generation(&self) -> u64 {
        self.reconnecting.state.lock().generation
    }
}

impl fmt::Debug for ReconnectControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.reconnecting.state.lock();
        f.debug_struct("ReconnectControl")
            .field("generation", &state.generation)
            .field("connected", &state.current.is_some())
            .finish()
    }
}

struct Reconnecting {
    connect: Arc<dyn Fn() -> Result<Client> + Send + Sync>,
    backoff: Backoff,
    /// The last generation in which a call was answered.
    proven: AtomicU64,
    /// The lock is a leaf.
    state: Mutex<State>,
    number: Number,
    this: Weak<Reconnecting>,
}

struct State {
    generation: u64,
    /// The capability to which calls go; `None` if the next call has to connect.
    current: Option<Client>,
    /// The number of generations in a row that have failed.
    failures: u32,
    /// The end of the last generation.
    ended: Option<Instant>,
}

impl Reconnecting {
    /// The capability to which a call goes. The generation ends if the call fails with
    /// `disconnected`.
    ///
    /// Must not be called under a lock.
    fn route(&self, cell: &Arc<CallCell>) -> Client {
        let (client, generation) = self.current();
        let this = Weak::clone(&self.this);
        cell.tell_first(Box::new(move |outcome| {
            let Some(this) = this.upgrade() else { return };
            match outcome {
                Err(error) if error.kind() == ErrorKind::Disconnected => {
                    this.end_generation(generation);
                }
                Err(error) if error.carried_out() != CarriedOut::Answered => {}
                Ok(_) | Err(_) => {
                    // This is written once in a generation.
                    if this.proven.load(Ordering::SeqCst) < generation {
                        this.proven.fetch_max(generation, Ordering::SeqCst);
                    }
                }
            }
        }));
        client
    }

    /// The capability to which calls go now, if it is connected.
    fn connected(&self) -> Option<Client> {
        self.state.lock().current.clone()
    }

    /// The capability to which calls go, and its generation. Starts to connect if need
    /// be, without waiting.
    fn current(&self) -> (Client, u64) {
        let known = {
            let state = self.state.lock();
            state.current.clone().map(|current| (current, state.generation))
        };
        if let Some((current, generation)) = known {
            if !current.is_disconnected() {
                return (current, generation);
            }
            self.end_generation(generation);
        }
        let (promise, generation, not_before) = {
            let mut state = self.state.lock();
            if let Some(current) = &state.current {
                return (current.clone(), state.generation);
            }
            let promise = LocalPromise::new(None);
            state.generation += 1;
            state.current = Some(Client::of(Arc::clone(&promise)));
            let pause = self.backoff.pause(state.failures);
            (promise, state.generation, state.ended.and_then(|ended| ended.checked_add(pause)))
        };
        let client = Client::of(Arc::clone(&promise));
        let (connect, this) = (Arc::clone(&self.connect), Weak::clone(&self.this));
        let executor = role::current_executor();
        let attempt = Attempt { connect, this, generation };
        match not_before {
            Some(time) if time > Instant::now() => Paused::until(time, attempt, executor, &promise),
            _ => attempt.begin(promise, &*executor),
        }
        (client, generation)
    }

    /// Lets the next call connect again, unless another call has done so by now.
    fn end_generation(&self, generation: u64) {
        let before = {
            let mut state = self.state.lock();
            if state.generation != generation {
                return;
            }
            let before = state.current.take();
            if before.is_some() {
                let proven = self.proven.load(Ordering::SeqCst) >= generation;
                state.failures = if proven { 0 } else { state.failures.saturating_add(1) };
                state.ended = Some(Instant::now());
            }
            before
        };
        if let Some(before) = before {
            effects::defer(Effect::drop_foreign(before));
        }
    }
}

impl Capability for Reconnecting {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        let Some(call) = delivery.call_or_answer(&self.number) else { return Ok(()) };
        Err((self.route(&call.cell), Delivery::Call(call)))
    }

    fn behind(&self) -> Option<Client> {
        self.connected()
    }

    fn comes_back(&self) -> bool {
        true
    }

    fn is_unconnected(&self) -> bool {
        self.connected().is_none()
    }

    fn stream(&self) -> Arc<Stream> {
        // Each generation has its own stream.
        self.current().0.stream()
    }

    fn leads_to(&self) -> Option<Client> {
        self.connected()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connected anew when disconnected")
    }
}

/// An attempt to connect that has not begun.
struct Attempt {
    connect: Arc<dyn Fn() -> Result<Client> + Send + Sync>,
    this: Weak<Reconnecting>,
    generation: u64,
}

impl Attempt {
    fn begin(self, promise: Arc<LocalPromise>, executor: &dyn Executor) {
        let Attempt { connect, this, generation } = self;
        let job = Connecting { promise: Some(promise), this, generation };
        let spawned = executor.spawn(Job::closure(move || {
            let target = connect();
            job.finish(target);
        }));
        if let Err(job) = spawned {
            // Connecting may wait, and must not do so on this thread. Dropping the job
            // breaks the promise.
            drop(job);
        }
    }
}

/// An attempt that the timer has. Its promise keeps it: without anybody who waits for the
/// promise, there is nothing to connect for.
struct Paused {
    promise: Weak<LocalPromise>,
    executor: Arc<dyn Executor>,
    /// Both locks are leaves.
    attempt: Mutex<Option<Attempt>>,
    ticket: Mutex<Option<Ticket>>,
}

impl Paused {
    fn until(
        time: Instant,
        attempt: Attempt,
        executor: Arc<dyn Executor>,
        promise: &Arc<LocalPromise>,
    ) {
        let paused = Arc::new(Paused {
            promise: Arc::downgrade(promise),
            executor,
            attempt: Mutex::new(Some(attempt)),
            ticket: Mutex::new(None),
        });
        promise.keep_until_resolved(Arc::clone(&paused) as _);
        let this: Arc<dyn Expire> = Arc::clone(&paused) as _;
        match timer::at(time, Arc::downgrade(&this)) {
            // The ticket of an entry that the timer has taken is worth nothing.
            Ok(ticket) => *paused.ticket.lock() = Some(ticket),
            // Nobody measures the pause.
            Err(_) => paused.begin(),
        }
    }

    fn begin(&self) {
        let attempt = self.attempt.lock().take();
        if let (Some(attempt), Some(promise)) = (attempt, self.promise.upgrade()) {
            attempt.begin(promise, &*self.executor);
        }
    }
}

impl Expire for Paused {
    fn expire(self: Arc<Self>) {
        self.begin();
    }
}

/// An attempt to connect that is under way.
struct Connecting {
    promise: Option<Arc<LocalPromise>>,
    this: Weak<Reconnecting>,
    generation: u64,
}

impl Connecting {
    fn finish(mut self, outcome: Result<Client>) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Result<Client>) {
        let Some(promise) = self.promise.take() else { return };
        let target = outcome.unwrap_or_else(Client::broken);
        // The generation ends before its promise resolves. Otherwise a call that is made
        // right after another one has failed would meet the same failure.
        if target.failure().is_some()
            && let Some(this) = self.this.upgrade()
        {
            this.end_generation(self.generation);
        }
        promise.resolve(target);
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.settle(Err(Error::overloaded(
            "connecting again panicked, or no worker was free for it; try again later",
        )));
    }
}
