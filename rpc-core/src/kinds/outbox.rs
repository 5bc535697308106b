//! Calls that are made one behind another, without letting a slow callee hold up its caller.
//!
//! An [`Outbox`] is a bounded queue in front of one capability. A program that tells many
//! listeners something has one for each of them: calls to a listener that is slow, stuck or
//! far away wait there, and the [policy](WhenFull) says what happens when there are too many.
//! No thread waits for a listener: when a call is answered, the next ones are sent.
//!
//! # State model
//!
//! ```text
//! Open ──the peer is gone, the promise broke, or too slow──► Closed(error)
//! ```
//!
//! - **Open**: calls wait in the queue while `under_way` of them are not answered. One thread
//!   at a time sends, so that they leave in order; others find `sending` set and leave it to
//!   that one.
//! - **Closed**: nothing more is sent, the queue is empty, and the capability is released.
//!
//! The lock is a leaf: calls are sent and dropped without it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cap::calling::{By, Call};
use crate::cap::client::Client;
use crate::cap::disconnect::DisconnectGuard;
use crate::cap::effects;
use crate::cap::from_client::FromClient;
use crate::cap::payload::{Outcome, Payload};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::wire::Hint;
use crate::work::executor::{Executor, Job};
use crate::work::role;
use crate::work::waiting::{self, Waiters};

/// What becomes of a call for which an [`Outbox`] has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Its caller waits until there is room.
    Wait,
    /// The call that has waited longest is dropped: for listeners to whom only the latest
    /// state matters.
    DropOldest,
    /// The listener is given up: its capability is released, and all further calls fail.
    DropCapability,
}

/// How much an [`Outbox`] holds.
///
/// ```
/// use capnp_threads_core::outbox::{OutboxConfig, WhenFull};
///
/// let mut config = OutboxConfig::new(WhenFull::DropCapability);
/// config.waiting = 1000;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxConfig {
    /// Maximum number of calls that wait to be sent, at least 1. Default: 64.
    pub waiting: usize,
    /// Maximum number of calls that were sent and are not answered, at least 1. They do not
    /// wait for room on the connection, beyond `Limits::questions` if need be. Default: 4.
    pub under_way: usize,
    /// What happens when too many calls wait.
    pub when_full: WhenFull,
}

impl OutboxConfig {
    /// The defaults, with this policy.
    pub fn new(when_full: WhenFull) -> Self {
        OutboxConfig { waiting: 64, under_way: 4, when_full }
    }
}

/// A bounded queue of calls on one capability: see the [module](crate::outbox). Cloning gives
/// another handle on the same queue. When the last one is dropped, what waits is still sent.
///
/// ```
/// use capnp_threads_core::outbox::{Outbox, OutboxConfig, WhenFull};
/// use rpc_schema::echo_capnp::echo;
/// # struct Echo;
/// # impl echo::Server for Echo {
/// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> capnp_threads_core::Result<()> {
/// #         Ok(())
/// #     }
/// # }
///
/// # fn main() -> capnp_threads_core::Result<()> {
/// # let listener: echo::Client = capnp_threads_core::Vat::new().export(Echo);
/// let outbox = Outbox::new(&listener, OutboxConfig::new(WhenFull::DropOldest));
/// for _ in 0..3 {
///     listener.ping_request().post(&outbox)?; // never waits
/// }
/// assert!(outbox.finish(std::time::Duration::from_secs(60))?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Outbox {
    queue: Arc<Queue>,
    /// Closes the queue when the peer is gone.
    _notice: Arc<DisconnectGuard>,
}

struct Queue {
    client: Client,
    config: OutboxConfig,
    executor: Arc<dyn Executor>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    under_way: usize,
    /// Whether a thread is sending.
    sending: bool,
    dropped: u64,
    failed: u64,
    closed: Option<Error>,
    /// The threads that wait for room, and those that wait for the end of everything.
    for_room: Waiters,
    for_end: Waiters,
}

impl Outbox {
    /// A queue in front of a capability.
    pub fn new(client: &impl FromClient, mut config: OutboxConfig) -> Self {
        config.waiting = config.waiting.max(1);
        config.under_way = config.under_way.max(1);
        let client = client.as_client().clone();
        let queue = Arc::new(Queue {
            client: client.clone(),
            config,
            executor: role::current_executor(),
            state: Mutex::default(),
        });
        let ends = Arc::downgrade(&queue);
        let notice = client.on_disconnect(move |error| {
            if let Some(queue) = ends.upgrade()
                && queue.is_lost()
            {
                queue.close(error);
            }
        });
        Outbox { queue, _notice: Arc::new(notice) }
    }

    /// The capability to which the calls go.
    pub fn client(&self) -> &Client {
        &self.queue.client
    }

    /// Makes a call, now or when earlier ones are answered. Its results are dropped. Waits
    /// only with [`WhenFull::Wait`], or as long as an interceptor delays it.
    ///
    /// # Errors
    /// The capability was given up, or its peer is gone; the call has not begun. With
    /// [`WhenFull::Wait`], also that this thread must not wait.
    pub fn post(&self, interface_id: u64, method_id: u16, params: Payload) -> Result<()> {
        self.post_call(Call { interface_id, method_id, params, hint: Hint::None })
    }

    pub(crate) fn post_call(&self, call: Call) -> Result<()> {
        self.queue.enter(call).map_err(Error::not_begun)?;
        self.queue.send();
        Ok(())
    }

    /// Waits until every call is answered, or the outbox is closed, but no longer than
    /// `timeout`. Returns whether that happened in time.
    ///
    /// # Errors
    /// Why the outbox is closed; or this thread must not wait.
    pub fn finish(&self, timeout: Duration) -> Result<bool> {
        effects::catch_up();
        let found = waiting::wait(
            &self.queue.state,
            |state| &mut state.for_end,
            Deadline::after(timeout),
            |state, _| match &state.closed {
                Some(error) => Some(Err(error.clone())),
                None => (state.calls.is_empty() && state.under_way == 0).then_some(Ok(())),
            },
        )?;
        found.transpose().map(|found| found.is_some())
    }

    /// Gives the capability up: what waits is dropped, and further calls fail with `error`.
    pub fn close(&self, error: Error) {
        self.queue.close(error);
    }

    /// Why the outbox is closed; `None` while it is not.
    pub fn failure(&self) -> Option<Error> {
        self.queue.state.lock().closed.clone()
    }

    /// The number of calls that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.queue.state.lock().calls.len()
    }

    /// The number of calls that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.queue.state.lock().dropped
    }

    /// The number of calls that have failed.
    pub fn failed(&self) -> u64 {
        self.queue.state.lock().failed
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.queue.state.lock();
        f.debug_struct("Outbox")
            .field("waiting", &state.calls.len())
            .field("under_way", &state.under_way)
            .field("dropped", &state.dropped)
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

/// What comes of a call that wants to enter.
enum Entry {
    Entered,
    /// It has taken the place of another one.
    InsteadOf(Call),
    Refused(Error),
    TooSlow(Call),
}

impl Queue {
    fn enter(&self, call: Call) -> Result<()> {
        let mut call = Some(call);
        let mut look = |state: &mut State| {
            if let Some(error) = &state.closed {
                return Some(Entry::Refused(error.clone()));
            }
            let own = call.take()?;
            if state.calls.len() < self.config.waiting {
                state.calls.push_back(own);
                return Some(Entry::Entered);
            }
            match self.config.when_full {
                WhenFull::Wait => {
                    call = Some(own);
                    None
                }
                WhenFull::DropOldest => {
                    state.dropped += 1;
                    state.calls.push_back(own);
                    state.calls.pop_front().map(Entry::InsteadOf)
                }
                WhenFull::DropCapability => Some(Entry::TooSlow(own)),
            }
        };
        let mut entry = look(&mut self.state.lock());
        if entry.is_none() {
            effects::catch_up();
            entry = waiting::wait(
                &self.state,
                |state| &mut state.for_room,
                Deadline::NEVER,
                |state, _| look(state),
            )?;
        }
        match entry {
            // The wait has no deadline, so there is an entry.
            Some(Entry::Entered) | None => Ok(()),
            Some(Entry::InsteadOf(oldest)) => {
                drop(oldest);
                Ok(())
            }
            Some(Entry::Refused(error)) => Err(error),
            Some(Entry::TooSlow(call)) => {
                drop(call);
                let error = Error::overloaded(format!(
                    "the callee is too slow: {} calls wait for it, which is the limit \
                     (OutboxConfig::waiting)",
                    self.config.waiting
                ));
                self.close(error.clone());
                Err(error)
            }
        }
    }

    /// Sends what may be sent, unless another thread does.
    ///
    /// Must not be called under a lock.
    fn send(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            if state.sending {
                return;
            }
            state.sending = true;
        }
        loop {
            let (call, called) = {
                let mut state = self.state.lock();
                let may = state.under_way < self.config.under_way && state.closed.is_none();
                let next = if may { state.calls.pop_front() } else { None };
                let Some(call) = next else {
                    state.sending = false;
                    return;
                };
                state.under_way += 1;
                (call, state.for_room.call_first())
            };
            called.wake();
            let pending = self.client.place_now().send(call, By::Timer);
            let queue = Arc::clone(self);
            pending.keep_until_done(move |outcome| queue.answered(outcome));
        }
    }

    /// Runs on the thread that brings the answer.
    fn answered(self: &Arc<Self>, outcome: &Outcome) {
        let is_over = outcome.is_err() && self.is_lost();
        let (more, called) = {
            let mut state = self.state.lock();
            state.under_way -= 1;
            state.failed += u64::from(outcome.is_err());
            let ended = state.under_way == 0 && state.calls.is_empty();
            let called = if ended { Some(state.for_end.call_all()) } else { None };
            (!state.sending && !state.calls.is_empty(), called)
        };
        if let Some(called) = called {
            called.wake();
        }
        if let (true, Err(error)) = (is_over, outcome) {
            return self.close(error.clone());
        }
        if more {
            // Sending may take its time, if an interceptor delays calls.
            let queue = Arc::clone(self);
            effects::spawn_or_run(&*self.executor, Job::closure(move || queue.send()));
        }
    }

    /// Whether all calls fail, for ever.
    fn is_lost(&self) -> bool {
        !self.client.comes_back()
            && (self.client.is_disconnected() || self.client.failure().is_some())
    }

    fn close(&self, error: Error) {
        let (calls, called) = {
            let mut state = self.state.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(error);
            let called = state.for_room.call_all().and(state.for_end.call_all());
            (std::mem::take(&mut state.calls), called)
        };
        called.wake();
        drop(calls);
    }
}
