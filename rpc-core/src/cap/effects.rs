//! Effects: what a transaction leaves to be done once no lock is held.
//!
//! Note [effects]
//!
//! Inside a transaction, or under any other lock, no application code may run: not a
//! method, not a closure, not even the `Drop` of an application's object, because all
//! of these may call back into this library. Such work is noted as an [`Effect`].
//! Effects run in the order in which they were noted, on the thread that noted them, as
//! soon as that thread holds no lock of this library.
//!
//! Effects lead to further effects: a result completes a call, which resolves a
//! promise, which releases a queue. Further effects join the back of the same queue
//! instead of nesting, so that no chain, however long a peer makes it, uses up the
//! stack. Drops wait until nothing else is left to be done. While application code
//! runs, the thread counts as idle, so that effects of that code are finished when it
//! returns. This goes only a few levels deep, because an object that holds an object
//! that holds an object is a chain like any other. Before application code waits, the
//! effects that its thread has noted are run: the code may be about to wait for one of
//! them.
//!
//! A panic of application code ends with the effect that ran it. The thread has other
//! work to do, and nothing further up its stack depends on this effect.
//!
//! This is the queue of callbacks of the design that this library follows, but one for
//! each thread: the thread that caused the work does it, right after its transaction.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use super::call::{CallCell, Interest};
use super::client::Client;
use super::connection::Connection;
use super::delivery::{Delivery, Echo, Route};
use super::local_promise::LocalPromise;
use super::payload::Outcome;
use super::watch::Watcher;
use crate::error::Error;
use crate::log::tell;
use crate::memory::GiveBack;
use crate::panics;
use crate::wire::Path;
use crate::work::executor::{Executor, Job, Refused};
use crate::work::hands::Busy;
use crate::work::interrupt::Detached;
use crate::work::left::NotHeld;
use crate::work::pool::Pool;
use crate::work::waiting::Called;
use crate::work::waking::Suspended;
use crate::work::{progress, role};

/// Maximum nesting of application code on one stack. At this depth, effects of the code
/// wait until it returns.
const MAX_NESTING: u32 = 16;

/// Number of effects for which a thread keeps memory.
const KEPT: usize = 64;

/// One thing to be done without a lock.
pub(crate) enum Effect {
    /// Take a call, or a disembargo that travels as one, on to its target.
    Deliver(Client, Delivery),
    /// As `Deliver`, to a field of a call's results.
    DeliverToField(Arc<CallCell>, Path, Delivery),
    /// Resolve a promise and release what waited in it.
    Resolve(Arc<LocalPromise>, Route),
    /// Resolve pipelined fields of a call, whose own completion waits for that.
    ResolveFields(Arc<CallCell>, Vec<(Arc<LocalPromise>, Client)>),
    /// Publish the outcome that a call's cell already holds.
    FinishCompletion(Arc<CallCell>),
    /// Settle a call.
    Complete(Arc<CallCell>, Outcome),
    /// Cancel a call whose outcome is no longer wanted.
    Cancel(Arc<CallCell>),
    /// End a call after some time, unless its caller has decided otherwise:
    /// Note [deadlines].
    Limit(Arc<CallCell>, Duration),
    /// Settle a call with the outcome of another one.
    TakeFrom(Arc<CallCell>, Interest),
    /// Refuse a disembargo that leads nowhere.
    Refuse(Echo),
    /// Tell a watcher of a promise that the promise is resolved.
    Notify(Watcher),
    /// Deliver what was held back: Note [flow limit].
    ReleaseHeld(Arc<dyn Connection>),
    /// Run the calls of an object that has promised not to block.
    RunInline(Arc<dyn Inline>),
    /// Work off the reports of dropped references, see Note [releases].
    FlushReleases(Arc<dyn Connection>),
    /// Run a closure for which no worker was free.
    Run(Job),
    /// Wake threads whose call is done.
    Called(Called),
    /// Wake a task of the application's.
    Wake(Waker),
    /// A rare step of this library's own.
    Do(Box<dyn FnOnce() + Send>),
    /// End the threads of a connection whose tables are empty.
    Disconnected(Arc<dyn Connection>),
    /// Drop something that may run application code.
    Drop(Box<dyn Any + Send>),
    /// Drop something of the application's.
    DropForeign(Box<dyn Any + Send>),
}

/// An object whose methods run on the thread that delivers the call, because it has
/// promised not to block.
pub(crate) trait Inline: Send + Sync {
    /// Runs the calls that wait.
    fn run(self: Arc<Self>);
}

impl Effect {
    /// Drops a value after all other effects.
    pub(crate) fn drop(value: impl Any + Send) -> Self {
        Effect::Drop(Box::new(value))
    }

    /// Drops something of the application's after all other effects.
    pub(crate) fn drop_foreign(value: impl Any + Send) -> Self {
        Effect::DropForeign(Box::new(value))
    }

    /// Whether this runs code of the application's.
    fn is_foreign(&self) -> bool {
        matches!(
            self,
            Effect::RunInline(_) | Effect::Run(_) | Effect::DropForeign(_) | Effect::Wake(_)
        )
    }

    fn run(self) {
        match self {
            Effect::Deliver(target, delivery) => target.deliver(delivery),
            Effect::DeliverToField(cell, path, delivery) => {
                cell.pipelined(&path).deliver(delivery);
            }
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
            Effect::Limit(cell, timeout) => cell.ends_by_default(timeout),
            Effect::TakeFrom(cell, other) => cell.take_from(other),
            Effect::Refuse(echo) => echo.refuse(),
            Effect::Notify(watcher) => watcher.notify(),
            Effect::ReleaseHeld(connection) => connection.release_held(),
            Effect::RunInline(object) => application(|| object.run()),
            Effect::FlushReleases(connection) => connection.flush_releases(),
            Effect::Run(job) => application(|| job.run()),
            Effect::Called(called) => called.wake(),
            Effect::Do(step) => step(),
            Effect::Disconnected(connection) => connection.disconnected(),
            Effect::Drop(value) | Effect::DropForeign(value) => application(|| drop(value)),
            Effect::Wake(waker) => application(|| waker.wake()),
        }
    }
}

#[derive(Default)]
struct ThreadEffects {
    /// The machine whose order lock this thread holds: its address, or 0.
    locked: Cell<usize>,
    /// Whether a loop further up this thread's stack is running the queue.
    running: Cell<bool>,
    /// Whether the thread works for a connection while its application waits.
    borrowed: Cell<bool>,
    /// The number of calls of application code by effects on this thread's stack.
    nesting: Cell<u32>,
    queue: RefCell<VecDeque<Effect>>,
    drops: RefCell<VecDeque<Effect>>,
}

crate::sync::thread_local! {
    static EFFECTS: ThreadEffects = ThreadEffects::default();
}

/// The effects of a transaction, in order. Most transactions have one at the most, which
/// costs no allocation.
#[derive(Default)]
pub(crate) struct Effects {
    first: Option<Effect>,
    others: Vec<Effect>,
}

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        match &self.first {
            None => self.first = Some(effect),
            Some(_) => self.others.push(effect),
        }
    }
}

/// Notes an effect, and runs it at once if this thread may.
pub(crate) fn defer(effect: Effect) {
    // Most of the time it would be the only one in the queue.
    if !effect.is_foreign() && EFFECTS.try_with(ThreadEffects::is_at_rest) == Ok(true) {
        let outer = begin_running();
        effect.run();
        return run_all(outer);
    }
    let mut slot = Some(effect);
    let noted = EFFECTS.try_with(|effects| {
        if let Some(effect) = slot.take() {
            effects.note(effect);
        }
    });
    match (noted, slot) {
        (Ok(()), _) => run_pending(),
        // The thread is ending and its queue is gone: no code of this library is on its
        // stack any more.
        (Err(_), Some(effect)) => effect.run(),
        (Err(_), None) => {}
    }
}

/// Notes several effects, and runs them and those noted before at once if this thread
/// may.
pub(crate) fn defer_all(effects: Effects) {
    let Effects { first, others } = effects;
    match first {
        None => return run_pending(),
        Some(effect) if others.is_empty() => return defer(effect),
        Some(_) => {}
    }
    let mut effects = first.into_iter().chain(others);
    let noted = EFFECTS.try_with(|thread| effects.by_ref().for_each(|effect| thread.note(effect)));
    match noted {
        Ok(()) => run_pending(),
        Err(_) => effects.for_each(Effect::run),
    }
}

/// Runs the effects that this thread has noted, even in the middle of an effect. Called
/// before application code waits, or looks whether it has to wait. Must not be called
/// under a lock.
pub(crate) fn catch_up() {
    let ready = EFFECTS.try_with(|effects| effects.locked.get() == 0 && !effects.is_empty());
    if ready == Ok(true) {
        run_all(begin_running());
    }
}

/// Marks that a loop on this stack runs the queue.
fn begin_running() -> Restore {
    Restore { running: EFFECTS.with(|effects| effects.running.replace(true)) }
}

/// Runs the queue.
fn run_all(_outer: Restore) {
    if EFFECTS.with(ThreadEffects::is_empty) {
        return;
    }
    while let Some(effect) = EFFECTS.with(ThreadEffects::next) {
        if effect.is_foreign() {
            if is_borrowed() {
                return EFFECTS.with(|effects| effects.put_back(effect));
            }
            progress::let_go();
        }
        effect.run();
    }
    EFFECTS.with(ThreadEffects::give_memory_back);
}

/// Whether the thread works for a connection while its application waits, so that it must
/// not run application code: Note [progress].
pub(crate) fn is_borrowed() -> bool {
    EFFECTS.try_with(|effects| effects.borrowed.get()) == Ok(true)
}

/// Effects that another thread has to run, in this order. If the thread that was to do it
/// has gone, a worker of the default vat runs them: others may wait for them.
pub(crate) struct Rest {
    queue: VecDeque<Effect>,
    drops: VecDeque<Effect>,
}

impl Rest {
    /// Runs the effects on this thread.
    pub(crate) fn run(mut self) {
        self.run_all();
    }

    fn run_all(&mut self) {
        let _ = EFFECTS.try_with(|effects| {
            effects.queue.borrow_mut().append(&mut self.queue);
            effects.drops.borrow_mut().append(&mut self.drops);
        });
        run_pending();
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if self.queue.is_empty() && self.drops.is_empty() {
            return;
        }
        let rest =
            Rest { queue: std::mem::take(&mut self.queue), drops: std::mem::take(&mut self.drops) };
        spawn_or_run(&*Pool::global(), Job::closure(move || rest.run()));
    }
}

/// Runs a step of a connection on a thread whose application waits. Returns the effects
/// from the first on that runs application code.
pub(crate) fn borrowed(step: impl FnOnce()) -> Option<Rest> {
    struct Returned;
    impl Drop for Returned {
        fn drop(&mut self) {
            let _ = EFFECTS.try_with(|effects| effects.borrowed.set(false));
        }
    }
    EFFECTS.with(|effects| effects.borrowed.set(true));
    let returned = Returned;
    step();
    drop(returned);
    EFFECTS.with(ThreadEffects::take_rest)
}

/// The number of things that exist which ask the application something in the middle of an
/// effect.
static ASKING: AtomicUsize = AtomicUsize::new(0);

/// While this exists, any effect may ask the application something.
pub(crate) struct Asking(());

impl Asking {
    pub(crate) fn begin() -> Self {
        ASKING.fetch_add(1, Ordering::SeqCst);
        Asking(())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        ASKING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether any effect may ask the application something.
pub(crate) fn ask_the_application() -> bool {
    ASKING.load(Ordering::SeqCst) > 0
}

/// Whether effects that this thread notes run at once.
pub(crate) fn may_run() -> bool {
    EFFECTS.try_with(|effects| effects.locked.get() == 0 && !effects.running.get()) == Ok(true)
}

/// Runs application code in the middle of an effect. It may take its time, or depend on others:
/// they get the messages, the threads to be woken and the job that this thread holds back.
pub(crate) fn application(code: impl FnOnce()) {
    let not_held = NotHeld::begin();
    let busy = Busy::begin_for_a_while();
    let suspended = Suspended::begin();
    /// Counts the nesting down.
    struct Nested;
    impl Drop for Nested {
        fn drop(&mut self) {
            let _ = EFFECTS.try_with(|effects| effects.nesting.set(effects.nesting.get() - 1));
        }
    }
    // This code does not belong to the method that may be further up this stack.
    let aside = Detached::begin();
    let outer = EFFECTS.try_with(|effects| {
        let depth = effects.nesting.get();
        effects.nesting.set(depth + 1);
        let running = effects.running.get();
        effects.running.set(running && depth >= MAX_NESTING);
        (Nested, Restore { running })
    });
    // The panic has been logged, and nothing here depends on the code's success.
    let _ = panics::caught("a destructor or a closure of the application", code);
    drop((outer, aside, suspended, busy, not_held));
}

/// Runs a closure of the application on a worker or, if none is free, on this thread.
pub(crate) fn spawn_or_run(executor: &dyn Executor, job: Job) {
    if let Err(Refused { job, .. }) = executor.spawn(job) {
        tell!(WARN, "no worker is free: a closure runs on the thread that triggered it");
        defer(Effect::Run(job));
    }
}

/// Runs a closure that waits, after the effects that this thread has noted.
///
/// # Errors
/// This thread serves a connection and must not wait.
pub(crate) fn blocking<R>(wait: impl FnOnce() -> R) -> Result<R, Error> {
    catch_up();
    role::wait(wait)
}

/// Resets the mark that a loop is running the queue.
struct Restore {
    running: bool,
}

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = EFFECTS.try_with(|effects| effects.running.set(self.running));
    }
}

/// Marks this thread as holding an order lock. Effects wait until the mark is dropped.
pub(crate) struct LockScope(());

impl LockScope {
    /// `owner` is the address of the machine that owns the lock.
    pub(crate) fn enter(owner: usize) -> Self {
        let before = EFFECTS.try_with(|effects| effects.locked.replace(owner)).unwrap_or(0);
        debug_assert_eq!(before, 0, "two order locks on one thread: see Note [locks]");
        LockScope(())
    }

    /// The address of the machine whose order lock this thread holds.
    pub(crate) fn current() -> Option<usize> {
        let owner = EFFECTS.try_with(|effects| effects.locked.get()).unwrap_or(0);
        (owner != 0).then_some(owner)
    }
}

impl Drop for LockScope {
    fn drop(&mut self) {
        let _ = EFFECTS.try_with(|effects| effects.locked.set(0));
    }
}

impl ThreadEffects {
    /// The queue for an effect of this kind.
    fn queue_of(&self, effect: &Effect) -> &RefCell<VecDeque<Effect>> {
        match effect {
            Effect::Drop(_) | Effect::DropForeign(_) => &self.drops,
            _ => &self.queue,
        }
    }

    fn note(&self, effect: Effect) {
        self.queue_of(&effect).borrow_mut().push_back(effect);
    }

    fn next(&self) -> Option<Effect> {
        let next = self.queue.borrow_mut().pop_front();
        next.or_else(|| self.drops.borrow_mut().pop_front())
    }

    fn give_memory_back(&self) {
        for queue in [&self.queue, &self.drops] {
            queue.borrow_mut().give_back(KEPT);
        }
    }

    fn put_back(&self, effect: Effect) {
        self.queue_of(&effect).borrow_mut().push_front(effect);
    }

    fn take_rest(&self) -> Option<Rest> {
        (!self.is_empty()).then(|| Rest { queue: self.queue.take(), drops: self.drops.take() })
    }

    /// Whether an effect that is noted now would run at once, before any other.
    fn is_at_rest(&self) -> bool {
        self.locked.get() == 0 && !self.running.get() && self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty() && self.drops.borrow().is_empty()
    }
}

fn run_pending() {
    // A thread that is ending has noted nothing.
    if EFFECTS.try_with(|effects| effects.running.get()) == Ok(false) {
        catch_up();
    }
}
