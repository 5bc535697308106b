//! The workers of a vat: threads that run methods and closures, which may block.
//!
//! # State model of a worker
//!
//! ```text
//! Idle ──job──► Working ⇄ Waiting (inside a wait of this library)
//!   └──nothing to do for a while, or shutdown──► gone
//! ```
//!
//! A worker that waits for an answer does not count: another one takes its
//! place, so that call-backs always find a worker. What a method blocks on
//! outside this library is not seen; for that the limit is generous.

use crate::sync::thread::JoinHandle;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard, thread};

use super::executor::{Executor, Job};
use super::interrupt::Wake;
use super::role::{self, Role};
use super::waking;

/// What the names of a vat's threads start with if nobody says.
pub(crate) const DEFAULT_NAME: &str = "rpc";

/// How many workers a vat may have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Workers that run at once, not counting those that wait for an answer.
    /// Default: 256.
    pub max_workers: usize,
    /// Workers that wait for an answer and are not counted for that. When there
    /// are more, which takes as many calls that are answered by nobody, those
    /// count: a peer must not be able to make a vat start threads without end.
    /// Default: 4096.
    pub max_waiting: usize,
    /// Jobs that wait for a worker. Calls beyond that are answered with
    /// `overloaded`. Default: 65536.
    pub max_queued: usize,
    /// How long a worker stays when there is nothing to do. Default: 5 s.
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
    config: PoolConfig,
    name: String,
    state: Mutex<State>,
    /// There is a job, or an end.
    work: Condvar,
    /// A worker has gone.
    gone: Condvar,
    /// Itself, for the threads that it starts.
    this: Weak<Pool>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Workers that exist.
    workers: usize,
    /// Of these, how many wait for a job.
    idle: usize,
    /// Of these, how many wait for an answer.
    waiting: usize,
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

impl Pool {
    pub(crate) fn new(name: String, config: PoolConfig) -> Arc<Self> {
        Arc::new_cyclic(|this| Pool {
            config,
            name,
            state: Mutex::default(),
            work: Condvar::new(),
            gone: Condvar::new(),
            this: Weak::clone(this),
        })
    }

    /// The workers of the vat that objects belong to which are made without one, on
    /// threads that are no vat's. They live as long as the process.
    pub(crate) fn global() -> Arc<Self> {
        static GLOBAL: LazyLock<Arc<Pool>> =
            LazyLock::new(|| Pool::new(DEFAULT_NAME.into(), PoolConfig::default()));
        Arc::clone(&GLOBAL)
    }

    fn start_worker(&self, state: &mut State, job: Option<Job>) -> Result<(), Job> {
        let Some(pool) = self.this.upgrade() else { return job.map_or(Ok(()), Err) };
        state.handles.retain(|handle| !handle.is_finished());
        state.spawned += 1;
        let name = format!("{}-worker-{}", self.name, state.spawned);
        // Handed over apart from the closure, which is lost if no thread starts.
        let slot = Arc::new(Mutex::new(job));
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
                match slot.lock().take() {
                    Some(job) => Err(job),
                    None => Ok(()),
                }
            }
        }
    }

    fn work(&self, first: Option<Job>) {
        let mut next = first;
        loop {
            if let Some(job) = next.take()
                && let Err(panic) = catch_unwind(AssertUnwindSafe(job))
            {
                // Methods are caught where they are answered; this was a closure
                // of the application's.
                tracing::error!("a closure panicked on a worker");
                std::mem::forget(panic);
            }
            let mut state = self.state.lock();
            next = self.next(&mut state);
            if next.is_none() {
                state.workers -= 1;
                drop(state);
                self.gone.notify_all();
                return;
            }
        }
    }

    fn next(&self, state: &mut MutexGuard<'_, State>) -> Option<Job> {
        let mut slept = false;
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            if state.phase == Phase::Closed || slept {
                return None;
            }
            state.idle += 1;
            slept = self.work.wait_for(state, self.config.idle_time).timed_out();
            state.idle -= 1;
        }
    }

    /// Lets another worker take this one's place until the guard is dropped.
    pub(crate) fn give_up_place(self: Arc<Self>) -> Place {
        {
            let mut state = self.state.lock();
            state.waiting += 1;
            // Those that are idle have been told of as many jobs.
            if state.idle < state.queue.len() && self.has_place(&state) {
                // Without a thread the job stays queued for the others.
                let _ = self.start_worker(&mut state, None);
            }
        }
        Place(self)
    }

    fn has_place(&self, state: &State) -> bool {
        state.workers - state.waiting.min(self.config.max_waiting) < self.config.max_workers
    }

    /// Takes no more jobs, finishes those that are queued, and waits for the
    /// workers to go. Returns whether all went before the deadline.
    pub(crate) fn close(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        state.phase = Phase::Closed;
        self.work.notify_all();
        while state.workers > 0 {
            match deadline {
                None => self.gone.wait(&mut state),
                Some(deadline) => {
                    let late = self.gone.wait_until(&mut state, deadline).timed_out();
                    if late && state.workers > 0 {
                        return false;
                    }
                }
            }
        }
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        for handle in handles {
            if handle.thread().id() != thread::current().id() {
                // Panics were caught inside.
                let _ = handle.join();
            }
        }
        true
    }
}

impl Executor for Pool {
    fn spawn(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Err(job);
        }
        let mut job = job;
        if state.idle <= state.queue.len() && self.has_place(&state) {
            match self.start_worker(&mut state, Some(job)) {
                Ok(()) => return Ok(()),
                Err(back) if state.workers == 0 => return Err(back),
                Err(back) => job = back,
            }
        }
        if state.queue.len() >= self.config.max_queued {
            return Err(job);
        }
        state.queue.push_back(job);
        drop(state);
        if !waking::note(|| self.this.upgrade().map(|pool| pool as Arc<dyn Wake>)) {
            self.tell();
        }
        Ok(())
    }
}

impl Wake for Pool {
    fn wake(&self) {
        self.tell();
    }

    /// Has a worker that is idle look for a job.
    fn tell(&self) {
        self.work.notify_one();
    }
}

/// A place that was given up; taken again when this is dropped.
pub(crate) struct Place(Arc<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}
