//! The workers of a vat: threads that run methods and closures, which may block.
//!
//! # State model of a worker
//!
//! ```text
//!        ┌──────────────── the job is done, and no other is queued ────────────────┐
//!        ▼                                                                         │
//! Idle ──called, with a place and a job──► Working ──waits in this library──► Waiting
//!   │                                        ▲  ▲  │                             │
//!   │                                        │  └──┴── the next job              │ over
//!   │                                        └───── called, with a place ──── Returning
//!   └── nothing to do for a while, or the pool is closed ──► gone
//! ```
//!
//! A *place* is the right to run application code. There are
//! [`PoolConfig::max_workers`] places, and a worker has one while it is Working. A
//! worker that waits for an answer gives its place to another worker, so that a call
//! back always finds one. When the wait is over, the worker goes on as soon as a place
//! is free, before any queued job starts. The pool cannot see a method block on
//! something outside this library; the limit is generous for that reason.

use crate::panics;
use crate::sync::thread::JoinHandle;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use crate::sync::{Mutex, thread};

use super::executor::{Executor, Job};
use super::home::Home;
use super::role::{self, Role};
use super::waiting::{self, Called, Look, Waiters};
use crate::deadline::Deadline;
use crate::error::Error;

/// Default prefix of the names of a vat's threads.
pub(crate) const DEFAULT_NAME: &str = "rpc";

/// How many workers a vat may have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Maximum number of workers that run at once, not counting those that wait for an
    /// answer. Default: 256.
    pub max_workers: usize,
    /// Maximum number of waiting workers that `max_workers` leaves out of account.
    /// Waiting workers beyond this number do count: a peer that leaves calls unanswered
    /// must not be able to make a vat start threads without end. Default: 4096.
    pub max_waiting: usize,
    /// Maximum number of jobs that wait for a worker. Further calls are answered with
    /// `overloaded`. Default: 65536.
    pub max_queued: usize,
    /// How long an idle worker stays before its thread ends. Default: 5 s.
    pub idle_time: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig {
            max_workers: 256,
            max_waiting: 4096,
            max_queued: 1 << 16,
            idle_time: Duration::from_secs(5),
        }
    }
}

pub(crate) struct Pool {
    home: Home,
    config: PoolConfig,
    name: String,
    state: Mutex<State>,
    /// This pool itself, for the threads that it starts.
    this: Weak<Pool>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// The number of workers that exist.
    workers: usize,
    /// The number of places that are taken, or given to a worker that was called.
    working: usize,
    /// The number of workers that wait for an answer, or for a place after their answer
    /// came.
    waiting: usize,
    /// The workers that have nothing to do.
    idle: Waiters,
    /// The number of places given to idle workers that have not looked yet.
    given_to_idle: usize,
    /// The workers whose wait is over and that wait for a place.
    returning: Waiters,
    /// The number of places given to returning workers that have not looked yet.
    given_to_returning: usize,
    /// Threads that wait for the workers to go.
    closing: Waiters,
    handles: Vec<JoinHandle<()>>,
    spawned: u64,
    phase: Phase,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Closed,
}

/// What an idle worker finds.
enum Next {
    Job(Job),
    /// The worker leaves. It has been counted down already, and these threads are told.
    Leave(Called),
}

impl Pool {
    pub(crate) fn new(name: String, config: PoolConfig) -> Arc<Self> {
        Arc::new_cyclic(|this| Pool {
            home: Home::here(),
            config,
            name,
            state: Mutex::default(),
            this: Weak::clone(this),
        })
    }

    /// The workers of the default vat: objects belong to it that are made without a
    /// vat, on a thread that belongs to no vat. These workers live as long as the
    /// process.
    pub(crate) fn global() -> Arc<Self> {
        static GLOBAL: LazyLock<Arc<Pool>> =
            LazyLock::new(|| Pool::new(DEFAULT_NAME.into(), PoolConfig::default()));
        Arc::clone(&GLOBAL)
    }

    /// Starts a worker for a job, with a place that is counted already.
    ///
    /// # Errors
    /// No thread could be started. The place is free again.
    fn start_worker(&self, state: &mut State, job: Job) -> Result<(), Job> {
        let Some(pool) = self.this.upgrade() else {
            state.working -= 1;
            return Err(job);
        };
        state.handles.retain(|handle| !handle.is_finished());
        state.spawned += 1;
        let name = format!("{}-worker-{}", self.name, state.spawned);
        // The job is handed over separately, because the closure is lost if no thread
        // starts.
        let slot = Arc::new(Mutex::new(Some(job)));
        let first = Arc::clone(&slot);
        let started = thread::Builder::new().name(name).spawn(move || {
            role::assume(Role::Worker(Arc::clone(&pool)));
            let first = first.lock().take();
            pool.work(first);
        });
        match started {
            Ok(handle) => {
                state.workers += 1;
                state.handles.push(handle);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "no thread for another worker");
                state.working -= 1;
                slot.lock().take().map_or(Ok(()), Err)
            }
        }
    }

    fn work(&self, first: Option<Job>) {
        let mut next = first.or_else(|| self.next());
        while let Some(job) = next {
            // The panic of a method is caught where its call is answered; this would be
            // that of a closure of the application's, of which nobody else has to know.
            let _ = panics::caught("a closure on a worker", job);
            next = self.next();
        }
    }

    /// The next job of a worker that has a place. `None` when the worker has to leave;
    /// it has no place then.
    fn next(&self) -> Option<Job> {
        let mut working = true;
        let deadline = Deadline::after(self.config.idle_time);
        let next = waiting::park(
            &self.state,
            |state| &mut state.idle,
            deadline,
            |state, look| self.look_for_job(state, look, &mut working),
        );
        match next? {
            Next::Job(job) => Some(job),
            Next::Leave(called) => {
                called.wake();
                None
            }
        }
    }

    fn look_for_job(&self, state: &mut State, look: Look, working: &mut bool) -> Option<Next> {
        if look.called && state.given_to_idle > 0 {
            state.given_to_idle -= 1;
            *working = true;
        }
        let mut called = Called::default();
        if *working {
            // Returning workers come first. The jobs that idle workers were called for
            // are theirs.
            if state.returning.is_empty()
                && let Some(job) = state.queue.pop_front()
            {
                return Some(Next::Job(job));
            }
            *working = false;
            state.working -= 1;
            called = self.give_place(state);
        }
        if state.phase == Phase::Closed || look.late {
            state.workers -= 1;
            return Some(Next::Leave(called.and(state.closing.call_all())));
        }
        called.wake_now();
        None
    }

    /// Gives a free place to a worker whose wait is over, or else to a worker for a
    /// queued job.
    fn give_place(&self, state: &mut State) -> Called {
        if !state.returning.is_empty() && self.may_return(state) {
            state.working += 1;
            state.given_to_returning += 1;
            return state.returning.call_first();
        }
        if state.queue.len() <= state.given_to_idle || !self.has_place(state) {
            return Called::default();
        }
        state.working += 1;
        if !state.idle.is_empty() {
            state.given_to_idle += 1;
            return state.idle.call_last();
        }
        // The comparison above shows that the queue is not empty.
        if let Some(job) = state.queue.pop_front()
            && let Err(job) = self.start_worker(state, job)
        {
            // Without a thread for it, the job stays queued for the other workers.
            state.queue.push_front(job);
        }
        Called::default()
    }

    /// Lets another worker take this one's place until the guard is dropped.
    pub(crate) fn give_up_place(self: Arc<Self>) -> Place {
        let called = {
            let mut state = self.state.lock();
            state.working -= 1;
            state.waiting += 1;
            self.give_place(&mut state)
        };
        called.wake_now();
        Place(self)
    }

    /// Whether one more worker may run application code.
    fn has_place(&self, state: &State) -> bool {
        state.working + state.waiting.saturating_sub(self.config.max_waiting)
            < self.config.max_workers
    }

    /// Whether a worker whose wait is over may go on.
    fn may_return(&self, state: &State) -> bool {
        state.working + (state.waiting - 1).saturating_sub(self.config.max_waiting)
            < self.config.max_workers
    }

    /// The process that has the workers.
    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// Takes no more jobs, finishes those that are queued, and waits for the workers to
    /// leave. Returns whether all of them left before the deadline.
    pub(crate) fn close(&self, deadline: Deadline) -> bool {
        let called = {
            let mut state = self.state.lock();
            state.phase = Phase::Closed;
            state.idle.call_all()
        };
        called.wake_now();
        let handles = waiting::park(
            &self.state,
            |state| &mut state.closing,
            deadline,
            |state, _| (state.workers == 0).then(|| std::mem::take(&mut state.handles)),
        );
        let Some(handles) = handles else { return false };
        for handle in handles {
            if handle.thread().id() != thread::current().id() {
                // A worker catches the panics of its jobs.
                let _ = handle.join();
            }
        }
        true
    }
}

impl Executor for Pool {
    fn refusal(&self) -> Error {
        if let Err(forked) = self.home.check() {
            return forked;
        }
        if self.state.lock().phase == Phase::Closed {
            return Error::disconnected("the vat of this object was shut down");
        }
        Error::overloaded(
            "all workers of the callee are busy and its queue is full; try again later",
        )
    }

    fn spawn(&self, job: Job) -> Result<(), Job> {
        if !self.home.is_here() {
            return Err(job);
        }
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Err(job);
        }
        let mut job = job;
        if state.idle.is_empty() && state.returning.is_empty() && self.has_place(&state) {
            state.working += 1;
            match self.start_worker(&mut state, job) {
                Ok(()) => return Ok(()),
                Err(back) if state.workers == 0 => return Err(back),
                Err(back) => job = back,
            }
        }
        if state.queue.len() >= self.config.max_queued {
            return Err(job);
        }
        state.queue.push_back(job);
        let idle = !state.idle.is_empty();
        let called = if idle { self.give_place(&mut state) } else { Called::default() };
        drop(state);
        called.wake();
        Ok(())
    }
}

/// A place that was given up. Dropping this waits until a place is free again.
pub(crate) struct Place(Arc<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        let Place(pool) = self;
        waiting::park(
            &pool.state,
            |state| &mut state.returning,
            Deadline::NEVER,
            |state, look| {
                if look.called && state.given_to_returning > 0 {
                    state.given_to_returning -= 1;
                } else if state.returning.is_empty() && pool.may_return(state) {
                    state.working += 1;
                } else {
                    return None;
                }
                state.waiting -= 1;
                Some(())
            },
        );
    }
}
