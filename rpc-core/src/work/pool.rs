//! The workers of a vat: threads that run methods and closures, which may block.
//!
//! # State model of a worker
//!
//! ```text
//!        ┌────────────────── the job is done, and there is no other ──────────────┐
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
//! is free. The pool cannot see a method block on something outside this library; the
//! limit is generous for that reason, and `watch.rs` tells when nothing moves. Who gets
//! a place is the subject of `shares.rs`, Note [shares].
//!
//! A job that has a place is handed to an idle worker, which is called for it. Another
//! worker, one that finishes its own job meanwhile, may take the job first; then the
//! called worker finds nothing and is idle again. So there are never more jobs handed
//! over than there are called workers on their way.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use super::executor::{Executor, Job, Refused};
use super::hands::{self, Free, Idle, PoolId, Readers};
use super::home::{Home, OwnThread};
use super::left;
use super::origin::{self, OnBehalf, Origin};
use super::own_call::{self, Host};
use super::posts::{Post, Posts};
use super::progress::Progress;
use super::role::{self, InRole, Role};
use super::shares::{Shares, Turn};
use super::waiting::{self, Awaited, Called, Look, Waiters};
use super::watch;
use crate::deadline::{Deadline, PAUSE};
use crate::error::Error;
use crate::log::tell;
use crate::memory::GiveBack;
use crate::panics;
use crate::sync::thread::JoinHandle;
use crate::sync::{Mutex, thread};

/// Default prefix of the names of a vat's threads.
pub(crate) const DEFAULT_NAME: &str = "rpc";

/// How many workers a vat may have.
///
/// What is limited here is shared out among the connections: no connection can take
/// more than three quarters of it, nor more than three times what is left.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads_core::vat::PoolConfig;
///
/// let mut pool = PoolConfig::default();
/// pool.max_workers = 16;
/// pool.idle_time = Duration::from_secs(60);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Maximum number of workers that run at once, not counting those that wait for an
    /// answer. To be shared out, it must be at least 4. Default: 256.
    pub max_workers: usize,
    /// Maximum number of waiting workers that `max_workers` leaves out of account.
    /// Waiting workers beyond this number do count: a peer that leaves calls unanswered
    /// must not be able to make a vat start threads without end. Default: 4096.
    pub max_waiting: usize,
    /// Maximum number of jobs that wait for a worker. Further calls are answered with
    /// `overloaded`. Default: 65536.
    pub max_queued: usize,
    /// Whether a thread of this process that makes a call and waits for it (`call()`) runs
    /// the method itself if the object is idle, also if the call comes from another vat over
    /// a transport within this process. It needs the stack for that, and the method sees its
    /// thread-local variables. Default: true.
    pub callers_run: bool,
    /// How long an idle worker stays before its thread ends. Default: 5 s.
    pub idle_time: Duration,
    /// How long work may wait without any progress before a warning is logged that
    /// names the objects which have the workers, or behind which calls wait. It comes
    /// after once to twice this time, of which less than a millisecond counts as one.
    /// Default: 5 s; `Duration::MAX` for no warnings.
    pub patience: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig {
            max_workers: 256,
            max_waiting: 4096,
            max_queued: 1 << 16,
            callers_run: true,
            idle_time: Duration::from_secs(5),
            patience: Duration::from_secs(5),
        }
    }
}

pub(crate) struct Pool {
    home: Home,
    config: PoolConfig,
    name: String,
    state: Mutex<State>,
    readers: Readers,
    /// This pool itself, for the threads that it starts.
    this: Weak<Pool>,
}

/// The number of threads that have ended which may be kept.
const FEW: usize = 8;

/// The workers of a pool at one moment.
pub(crate) struct Numbers {
    pub(crate) workers: usize,
    /// Those that have nothing to do.
    pub(crate) idle: usize,
    pub(crate) waiting_jobs: usize,
}

pub(super) struct State {
    pub(super) shares: Shares,
    pub(super) posts: Posts,
    /// Jobs with places, for idle workers that were called.
    handed: VecDeque<Job>,
    /// The number of workers that exist.
    workers: usize,
    /// The workers that have nothing to do.
    idle: Waiters,
    /// The number of idle workers that were called and have not looked yet.
    called_idle: usize,
    /// Threads that wait for the workers to go.
    closing: Waiters,
    /// Of threads that a shutdown has to wait for. Those of threads that have ended are
    /// among them until [`State::forget_ended`] is called.
    handles: Vec<OwnThread<JoinHandle<()>>>,
    spawned: u64,
    pub(super) phase: Phase,
    /// Whether a thread looks for what is stuck.
    pub(super) watched: bool,
    /// This thread, while it sleeps.
    pub(super) watcher: Waiters,
}

#[derive(PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Closed,
}

/// What an idle worker finds.
enum Next {
    Job(Job, After),
    /// Nothing, but others have to be told of something.
    Again(After),
    /// The worker leaves. It has been counted down already.
    Leave(After),
}

impl Next {
    /// Does what is left to be done. Then the worker goes on with a job, leaves without one,
    /// or looks again.
    fn finish(self) -> ControlFlow<Option<Job>> {
        let (next, after) = match self {
            Next::Job(job, after) => (ControlFlow::Break(Some(job)), after),
            Next::Leave(after) => (ControlFlow::Break(None), after),
            Next::Again(after) => (ControlFlow::Continue(()), after),
        };
        after.finish();
        next
    }
}

/// What is left to be done without the pool's lock.
#[derive(Default)]
struct After {
    called: Called,
    /// Calls that no worker is going to run.
    refused: VecDeque<Job>,
}

impl After {
    fn call(&mut self, called: Called) {
        self.called = std::mem::take(&mut self.called).and(called);
    }

    fn is_empty(&self) -> bool {
        self.called.is_empty() && self.refused.is_empty()
    }

    fn finish(self) {
        self.called.wake_now();
        if self.refused.is_empty() {
            return;
        }
        let error = Error::overloaded(
            "all workers that the callee may use for this caller wait for other calls; \
             perhaps they wait for this one, or for the caller",
        );
        for job in self.refused {
            job.refuse(&error);
        }
    }
}

impl Pool {
    pub(crate) fn new(name: String, config: PoolConfig) -> Arc<Self> {
        Arc::new_cyclic(|this| Pool {
            home: Home::here(),
            state: Mutex::new(State {
                shares: Shares::new(&config),
                posts: Posts::default(),
                handed: VecDeque::new(),
                workers: 0,
                idle: Waiters::default(),
                called_idle: 0,
                closing: Waiters::default(),
                handles: Vec::new(),
                spawned: 0,
                phase: Phase::Open,
                watched: false,
                watcher: Waiters::default(),
            }),
            readers: Readers::default(),
            config,
            name,
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

    pub(super) fn state(&self) -> &Mutex<State> {
        &self.state
    }

    pub(super) fn patience(&self) -> Duration {
        self.config.patience.max(PAUSE)
    }

    /// Starts a worker for a job that has a place.
    ///
    /// # Errors
    /// No thread could be started.
    fn start_worker(&self, state: &mut State, job: Job) -> Result<(), Job> {
        let Some(pool) = self.this.upgrade() else { return Err(job) };
        state.forget_ended();
        state.spawned += 1;
        let name = format!("{}-worker-{}", self.name, state.spawned);
        let post = state.posts.take();
        state.posts.begin(post, &job);
        // The job is handed over separately, because the closure is lost if no thread
        // starts.
        let slot = Arc::new(Mutex::new(Some(job)));
        let first = Arc::clone(&slot);
        let started = thread::Builder::new().name(name).spawn(move || {
            role::assume(Role::Worker(Arc::clone(&pool), post));
            let first = first.lock().take();
            pool.work(post, first);
        });
        match started {
            Ok(handle) => {
                state.workers += 1;
                state.handles.push(OwnThread::new(handle));
                Ok(())
            }
            Err(error) => {
                tell!(WARN, %error, "no thread for another worker");
                state.posts.free(post);
                slot.lock().take().map_or(Ok(()), Err)
            }
        }
    }

    fn work(&self, post: Post, first: Option<Job>) {
        hands::work_in(self.id());
        let mut next = first.or_else(|| self.next(post, None));
        while let Some(job) = next {
            origin::set(job.origin());
            // What a kept job came by is what the job before it came by.
            hands::comes_by(job.came_by());
            // The panic of a method is caught where its call is answered.
            let _ = panics::caught("a closure on a worker", || job.run());
            next = match hands::kept() {
                Some(kept) => Some(self.go_on_with(post, kept)),
                None => self.next(post, hands::came_by()),
            };
        }
    }

    /// Changes the state, and then does what that leaves to be done without the lock.
    fn change<R>(&self, step: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        let result = step(&mut self.state.lock(), &mut after);
        after.finish();
        result
    }

    /// Ends the job of a worker that has kept another one, with a place.
    fn go_on_with(&self, post: Post, kept: Job) -> Job {
        self.change(|state, after| {
            let origin = state.posts.origin(post);
            state.shares.end(origin);
            state.posts.begin(post, &kept);
            self.hand_places(state, after, Some);
        });
        kept
    }

    /// Hands over to other workers a job that this one has kept.
    pub(super) fn let_go(&self, begun: Option<(Post, u64)>, kept: Job) {
        self.change(|state, after| {
            if let Some((post, step)) = begun {
                state.posts.end_of(post, step);
            }
            self.hand_over_or_queue(state, after, kept);
        });
    }

    /// The next job of a worker that has a place. `None` when the worker has to leave;
    /// it has no place then. A worker that finds none looks first where the last one
    /// came from.
    fn next(&self, post: Post, came_by: Option<Weak<dyn Progress>>) -> Option<Job> {
        left::write();
        let mut has_place = true;
        if let Some(progress) = came_by.and_then(|progress| progress.upgrade())
            && let Some(_reads) = self.readers.try_begin()
        {
            let look = Look { called: false, late: false };
            loop {
                let found = self.look_for_job(&mut self.state.lock(), look, post, &mut has_place);
                match found.map(Next::finish) {
                    Some(ControlFlow::Break(job)) => return job,
                    Some(ControlFlow::Continue(())) => {}
                    None => break,
                }
            }
            if progress.make_idly(&Idle::new(self.id(), post)) {
                return hands::kept();
            }
        }
        let deadline = Deadline::after(self.config.idle_time);
        loop {
            let next = waiting::park(
                &self.state,
                |state| &mut state.idle,
                deadline,
                |state, look| self.look_for_job(state, look, post, &mut has_place),
            );
            if let ControlFlow::Break(job) = next?.finish() {
                return job;
            }
        }
    }

    fn look_for_job(
        &self,
        state: &mut State,
        look: Look,
        post: Post,
        has_place: &mut bool,
    ) -> Option<Next> {
        if look.called {
            state.called_idle -= 1;
        }
        let mut after = After::default();
        let mut job = state.handed.pop_front();
        if std::mem::replace(has_place, false) {
            let origin = state.posts.origin(post);
            state.shares.end(origin);
            self.hand_places(state, &mut after, |found| {
                if job.is_some() {
                    return Some(found);
                }
                job = Some(found);
                None
            });
        }
        if let Some(job) = job {
            state.posts.begin(post, &job);
            return Some(Next::Job(job, after));
        }
        if state.phase == Phase::Closed || look.late {
            after.call(state.lose_worker(post));
            return Some(Next::Leave(after));
        }
        state.posts.rest(post);
        // Workers that left together were not gone yet when the last of them looked.
        state.forget_ended();
        // The workers that were called are woken without the lock.
        (!after.is_empty()).then_some(Next::Again(after))
    }

    /// Gives the places that are free to what waits for them. `take` is offered each
    /// job first.
    fn hand_places(
        &self,
        state: &mut State,
        after: &mut After,
        mut take: impl FnMut(Job) -> Option<Job>,
    ) {
        while let Some(turn) = state.shares.next_turn() {
            match turn {
                Turn::Return(called) => after.call(called),
                Turn::Begin(job) => {
                    let Some(job) = take(job) else { continue };
                    match self.hand_over(state, job) {
                        Ok(called) => after.call(called),
                        Err(job) => {
                            // Without a thread for it, the job stays queued for the
                            // other workers.
                            state.shares.give_back(job);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Hands a job that has a place to a worker. If there is none, the job waits in front of
    /// its queue for another one.
    fn hand_over_or_queue(&self, state: &mut State, after: &mut After, job: Job) {
        match self.hand_over(state, job) {
            Ok(called) => after.call(called),
            Err(job) => state.shares.give_back(job),
        }
    }

    fn id(&self) -> PoolId {
        PoolId(std::ptr::from_ref(self).addr())
    }

    /// Hands a job that has a place to a worker.
    ///
    /// # Errors
    /// No worker is idle, and no thread could be started. The job still has its place.
    fn hand_over(&self, state: &mut State, job: Job) -> Result<Called, Job> {
        if let Some(free) = hands::free(self.id())
            && let Some(pool) = self.this.upgrade()
        {
            let begun = match free {
                Free::Idle(post) => Some((post, state.posts.begin(post, &job))),
                Free::Ending => None,
            };
            hands::keep(pool, begun, job);
            return Ok(Called::default());
        }
        if state.handed.len() < state.called_idle {
            // A called worker is on its way that would find nothing.
            state.handed.push_back(job);
            return Ok(Called::default());
        }
        if state.idle.is_empty() {
            return self.start_worker(state, job).map(|()| Called::default());
        }
        state.handed.push_back(job);
        state.called_idle += 1;
        Ok(state.idle.call_last())
    }

    /// Lets other workers have this one's place until the guard is dropped. `awaited` is
    /// what the worker waits for, if it is a call.
    pub(crate) fn give_up_place(
        self: Arc<Self>,
        post: Post,
        awaited: Option<Weak<dyn Awaited>>,
    ) -> Place {
        let origin = self.change(|state, after| {
            let origin = state.posts.origin(post);
            state.shares.wait(origin);
            state.posts.wait(post, awaited);
            self.hand_places(state, after, Some);
            after.refused = state.shares.take_hopeless(origin);
            self.watch(state);
            origin
        });
        Place { pool: self, post, origin }
    }

    /// Counts a worker as one that works for this origin.
    pub(crate) fn work_for(&self, post: Post, origin: Origin) {
        self.change(|state, after| {
            let before = state.posts.change_origin(post, origin);
            if before != origin {
                state.shares.transfer(before, origin);
                self.hand_places(state, after, Some);
            }
        });
    }

    /// Makes sure that a thread looks for what is stuck.
    fn watch(&self, state: &mut State) {
        if state.watched
            || state.phase == Phase::Closed
            || Deadline::after(self.config.patience) == Deadline::NEVER
        {
            return;
        }
        let Some(pool) = self.this.upgrade() else { return };
        let name = format!("{}-watch", self.name);
        match thread::Builder::new().name(name).spawn(move || watch::run(&pool)) {
            Ok(handle) => {
                state.watched = true;
                state.handles.push(OwnThread::new(handle));
            }
            Err(error) => tell!(DEBUG, %error, "no thread to look for workers that are stuck"),
        }
    }

    /// The process that has the workers.
    /// How many workers there are now, and how much waits for them.
    pub(crate) fn numbers(&self) -> Numbers {
        let state = self.state.lock();
        Numbers {
            workers: state.workers,
            idle: state.idle.len(),
            waiting_jobs: state.shares.queues().iter().map(|queued| queued.jobs).sum(),
        }
    }

    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// Takes no more jobs, finishes those that are queued, and waits for the workers to
    /// leave. Returns whether all of them left before the deadline.
    pub(crate) fn close(&self, deadline: Deadline) -> bool {
        let called = {
            let mut state = self.state.lock();
            state.phase = Phase::Closed;
            state.called_idle += state.idle.len();
            state.idle.call_all().and(state.watcher.call_all())
        };
        called.wake_now();
        let handles = waiting::park(
            &self.state,
            |state| &mut state.closing,
            deadline,
            |state, _| {
                let gone = state.workers == 0 && !state.watched;
                gone.then(|| std::mem::take(&mut state.handles))
            },
        );
        let Some(handles) = handles else { return false };
        for handle in handles.into_iter().filter_map(OwnThread::take) {
            if handle.thread().id() != thread::current().id() {
                // A worker catches the panics of its jobs.
                let _ = handle.join();
            }
        }
        true
    }
}

impl State {
    /// Counts one worker less. Those who wait for all of them to go have to look.
    fn lose_worker(&mut self, post: Post) -> Called {
        self.workers -= 1;
        self.posts.free(post);
        self.forget_ended();
        self.closing.call_all()
    }

    /// Forgets threads that have ended, whose handles keep their names and their stacks.
    /// Looking at all of them is worth it only when most have ended.
    fn forget_ended(&mut self) {
        if self.handles.len() > 2 * self.workers + FEW {
            self.handles.retain(|thread| thread.get().is_some_and(|handle| !handle.is_finished()));
            self.handles.give_back(FEW);
        }
    }

    /// The thread that looks for what is stuck is going to end.
    pub(super) fn watch_ends(&mut self) -> Called {
        self.watched = false;
        self.closing.call_all()
    }
}

impl Executor for Pool {
    fn spawn(&self, job: Job) -> Result<(), Refused> {
        let refused = |job, reason: &str| Err(Refused { job, error: Error::overloaded(reason) });
        if let Err(error) = self.home.check() {
            return Err(Refused { job, error });
        }
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            let error = Error::disconnected("the vat of this object was shut down");
            return Err(Refused { job, error });
        }
        let origin = job.origin();
        let mut job = job;
        if state.shares.may_begin_now(origin) {
            state.shares.begin(origin);
            if self.config.callers_run
                && own_call::takes()
                && let Some(pool) = self.this.upgrade()
            {
                let post = state.posts.take();
                state.posts.begin(post, &job);
                state.workers += 1;
                drop(state);
                own_call::keep(pool, post, job);
                return Ok(());
            }
            match self.hand_over(&mut state, job) {
                Ok(called) => {
                    drop(state);
                    called.wake();
                    return Ok(());
                }
                Err(back) => job = back,
            }
            state.shares.end(origin);
            if state.workers == 0 {
                return refused(job, "the callee's vat has no thread to run the call on");
            }
        }
        if let Err(job) = state.shares.queue(job) {
            let reason = "all workers of the callee are busy and its queue is full; \
                          try again later";
            return refused(job, reason);
        }
        let refused = state.shares.take_hopeless(origin);
        self.watch(&mut state);
        drop(state);
        After { refused, ..After::default() }.finish();
        Ok(())
    }
}

impl Host for Pool {
    fn run_own(self: Arc<Self>, post: Post, job: Job, call: usize) {
        let ran = {
            let _on_behalf = OnBehalf::begin(job.origin());
            let _working = InRole::begin(Role::Worker(Arc::clone(&self), post));
            panics::caught("a call on its caller's thread", || job.run_own(call))
        };
        if let Ok(false) = ran {
            return self.take_back(post, job);
        }
        drop(job);
        self.change(|state, after| {
            let origin = state.posts.origin(post);
            state.shares.end(origin);
            self.hand_places(state, after, Some);
            after.call(state.lose_worker(post));
        });
    }

    fn take_back(self: Arc<Self>, post: Post, job: Job) {
        self.change(|state, after| {
            self.hand_over_or_queue(state, after, job);
            after.call(state.lose_worker(post));
        });
    }
}

/// A place that was given up. Dropping this waits until a place is free again.
pub(crate) struct Place {
    pool: Arc<Pool>,
    post: Post,
    origin: Origin,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Place { pool, post, origin } = self;
        let after = waiting::park(
            &pool.state,
            |state| state.shares.returning(*origin),
            Deadline::NEVER,
            |state, look| {
                state.shares.go_on(*origin, look.called).then(|| {
                    state.posts.go_on(*post);
                    let mut after = After::default();
                    // One worker fewer waits: that may be all that held another origin
                    // up.
                    pool.hand_places(state, &mut after, Some);
                    after
                })
            },
        );
        after.unwrap_or_default().finish();
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests;
