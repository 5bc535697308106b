//! What a step leaves to be done once no lock is held.
//!
//! Note [effects]
//!
//! Inside a transaction, or under any other lock, nothing of the application may
//! run: not a method, not a closure, not even the `Drop` of an object of its
//! own, because all of them may come back here. Such work is noted as an
//! [`Effect`]. Effects run in the order in which they were noted, on the thread
//! that noted them, as soon as that thread holds no lock of ours.
//!
//! Effects lead to further effects: a result completes a call, which resolves a
//! promise, which releases a queue. They join the back of the same queue instead
//! of nesting, so that no chain, however long a peer makes it, uses up the
//! stack. Drops wait until nothing else is left to be done. While application
//! code runs, the thread counts as idle, so that what that code starts is
//! finished when it returns; but only a few levels deep, because an object that
//! holds an object that holds an object is a chain like any other. Before
//! application code waits, what its thread has noted is done: it may be what the
//! code is going to wait for.
//!
//! A panic of application code ends with the effect that ran it. The thread has
//! other things to do, for others, and nobody up its stack asked for this one.
//!
//! This is the callbacks queue of the design this library follows, one for each
//! thread: whoever caused the work does it, right after its transaction.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::call::{CallCell, Interest};
use super::client::Client;
use super::connection::Connection;
use super::delivery::{Delivery, Echo, Route};
use super::local_promise::LocalPromise;
use super::payload::Outcome;
use super::watch::Watcher;
use crate::error::Error;
use crate::wire::Path;
use crate::work::executor::{Executor, Job};
use crate::work::interrupt::Aside;
use crate::work::role;
use crate::work::waking::Suspended;

/// How deep application code may nest on one stack before what it starts waits
/// for it to return.
const MAX_NESTING: u32 = 16;

/// One thing to be done without a lock.
pub(crate) enum Effect {
    /// Take a call, or a disembargo that travels as one, on to its target.
    Deliver(Route, Delivery),
    /// Resolve a promise and release what waited in it.
    Resolve(Arc<LocalPromise>, Route),
    /// Resolve pipelined fields of a call, whose own completion waits for that.
    ResolveFields(Arc<CallCell>, Vec<(Arc<LocalPromise>, Client)>),
    /// Publish the outcome that a call's cell already holds.
    FinishCompletion(Arc<CallCell>),
    /// Settle a call.
    Complete(Arc<CallCell>, Outcome),
    /// Nobody wants the outcome of a call any more.
    Cancel(Arc<CallCell>),
    /// Settle a call with the outcome of another one, with these capabilities in
    /// these fields.
    TakeFrom(Arc<CallCell>, Arc<Interest>, Vec<(Path, Client)>),
    /// Turn down a disembargo that leads nowhere.
    Refuse(Echo),
    /// Tell whoever waits for a promise that it is resolved.
    Notify(Watcher),
    /// Deliver what was held back: Note [flow limit].
    ReleaseHeld(Arc<dyn Connection>),
    /// Run calls of an object that promised not to block.
    RunInline(Arc<dyn Inline>),
    /// Work off the reports of dropped references, see Note [releases].
    FlushReleases(Arc<dyn Connection>),
    /// Run a closure for which no worker could be had.
    Run(Job),
    /// A rare step of this library's own.
    Do(Box<dyn FnOnce() + Send>),
    /// The connection's tables are empty: end its threads.
    Disconnected(Arc<dyn Connection>),
    /// Drop something that may run application code.
    Drop(Box<dyn Any + Send>),
}

/// Something whose application code runs where it is called, because it promised not
/// to block.
pub(crate) trait Inline: Send + Sync {
    /// Runs what there is to be run.
    fn run(self: Arc<Self>);
}

impl Effect {
    /// Drops a value after everything else was done.
    pub(crate) fn drop(value: impl Any + Send) -> Self {
        Effect::Drop(Box::new(value))
    }

    fn run(self) {
        match self {
            Effect::Deliver(route, delivery) => route.client().deliver(delivery),
            Effect::Resolve(promise, route) => promise.resolve(route.client()),
            Effect::ResolveFields(cell, fields) => {
                for (field, target) in fields {
                    field.resolve(target);
                }
                cell.fields_resolved();
            }
            Effect::FinishCompletion(cell) => cell.finish_completion(),
            Effect::Complete(cell, outcome) => cell.complete(outcome),
            Effect::Cancel(cell) => cell.cancel(),
            Effect::TakeFrom(cell, other, fields) => cell.take_from(other, fields),
            Effect::Refuse(echo) => echo.refuse(),
            Effect::Notify(watcher) => watcher.notify(),
            Effect::ReleaseHeld(connection) => connection.release_held(),
            Effect::RunInline(object) => application(|| object.run()),
            Effect::FlushReleases(connection) => connection.flush_releases(),
            Effect::Run(job) => application(job),
            Effect::Do(step) => step(),
            Effect::Disconnected(connection) => connection.disconnected(),
            Effect::Drop(value) => application(|| drop(value)),
        }
    }
}

#[derive(Default)]
struct Pending {
    /// Whose order lock this thread holds: the machine's address, or 0.
    locked: Cell<usize>,
    /// Whether a loop further up this thread's stack runs the queue.
    running: Cell<bool>,
    /// How much application code is on this thread's stack that an effect ran.
    nesting: Cell<u32>,
    queue: RefCell<VecDeque<Effect>>,
    drops: RefCell<VecDeque<Effect>>,
}

crate::sync::thread_local! {
    static PENDING: Pending = Pending::default();
}

/// Notes an effect, and runs it at once if this thread may.
pub(crate) fn defer(effect: Effect) {
    let mut slot = Some(effect);
    let noted = PENDING.try_with(|pending| {
        if let Some(effect) = slot.take() {
            pending.note(effect);
        }
    });
    match (noted, slot) {
        (Ok(()), _) => run_pending(),
        // The thread is ending and its queue is gone: nothing of ours is on its
        // stack any more.
        (Err(_), Some(effect)) => effect.run(),
        (Err(_), None) => {}
    }
}

/// Notes several effects, and runs them and what was noted before at once if this
/// thread may.
pub(crate) fn defer_all(effects: Vec<Effect>) {
    let mut effects = effects.into_iter();
    let noted =
        PENDING.try_with(|pending| effects.by_ref().for_each(|effect| pending.note(effect)));
    match noted {
        Ok(()) => run_pending(),
        Err(_) => effects.for_each(Effect::run),
    }
}

/// Does what this thread has noted, even in the middle of an effect: before
/// application code waits, or looks whether it has to. Not under a lock.
pub(crate) fn catch_up() {
    let ready = PENDING.try_with(|pending| pending.locked.get() == 0 && !pending.is_empty());
    if ready != Ok(true) {
        return;
    }
    let _outer = Restore { running: PENDING.with(|pending| pending.running.replace(true)) };
    while let Some(effect) = PENDING.with(Pending::next) {
        effect.run();
    }
}

/// Runs application code in the middle of an effect.
pub(crate) fn application(code: impl FnOnce()) {
    let suspended = Suspended::begin();
    /// Counts the nesting down.
    struct Nested;
    impl Drop for Nested {
        fn drop(&mut self) {
            let _ = PENDING.try_with(|pending| pending.nesting.set(pending.nesting.get() - 1));
        }
    }
    // It is nobody's method that is on this stack further up.
    let aside = Aside::begin();
    let outer = PENDING.try_with(|pending| {
        let depth = pending.nesting.get();
        pending.nesting.set(depth + 1);
        let running = pending.running.get();
        pending.running.set(running && depth >= MAX_NESTING);
        (Nested, Restore { running })
    });
    if let Err(panic) = catch_unwind(AssertUnwindSafe(code)) {
        tracing::error!("a destructor or a closure of the application panicked");
        // Its own drop may panic again, which nobody could make sense of.
        std::mem::forget(panic);
    }
    drop((outer, aside, suspended));
}

/// Runs a closure of the application on a worker or, when there is none to be
/// had, right here.
pub(crate) fn spawn_or_run(executor: &dyn Executor, job: Job) {
    if let Err(job) = executor.spawn(job) {
        tracing::warn!("no worker is free: a closure runs on the thread that triggered it");
        defer(Effect::Run(job));
    }
}

/// Runs something that waits, after what this thread has noted.
///
/// # Errors
/// This thread serves a connection and must not wait.
pub(crate) fn blocking<R>(wait: impl FnOnce() -> R) -> Result<R, Error> {
    catch_up();
    role::wait(wait)
}

/// Sets back whether the queue is run by somebody further up the stack.
struct Restore {
    running: bool,
}

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = PENDING.try_with(|pending| pending.running.set(self.running));
    }
}

/// Marks this thread as holding an order lock. Effects wait for its end.
pub(crate) struct LockScope(());

impl LockScope {
    /// `owner` is the address of whose lock it is.
    pub(crate) fn enter(owner: usize) -> Self {
        let before = PENDING.try_with(|pending| pending.locked.replace(owner)).unwrap_or(0);
        debug_assert_eq!(before, 0, "two order locks on one thread: see Note [locks]");
        LockScope(())
    }

    /// The address of whose order lock this thread holds.
    pub(crate) fn current() -> Option<usize> {
        let owner = PENDING.try_with(|pending| pending.locked.get()).unwrap_or(0);
        (owner != 0).then_some(owner)
    }
}

impl Drop for LockScope {
    fn drop(&mut self) {
        let _ = PENDING.try_with(|pending| pending.locked.set(0));
    }
}

impl Pending {
    fn note(&self, effect: Effect) {
        match effect {
            Effect::Drop(_) => self.drops.borrow_mut().push_back(effect),
            effect => self.queue.borrow_mut().push_back(effect),
        }
    }

    fn next(&self) -> Option<Effect> {
        let next = self.queue.borrow_mut().pop_front();
        next.or_else(|| self.drops.borrow_mut().pop_front())
    }

    fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty() && self.drops.borrow().is_empty()
    }
}

fn run_pending() {
    if !PENDING.with(|pending| pending.running.get()) {
        catch_up();
    }
}
