//! What the current thread may do.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use super::executor::Executor;
use super::hands;
use super::origin::{self, Origin};
use super::pool::Pool;
use super::posts::Post;
use super::room::Asker;
use super::waiting::Awaited;
use crate::error::Error;

/// What a thread is there for.
#[derive(Clone, Default)]
pub(crate) enum Role {
    /// A thread of the application's: it may wait without holding up this library.
    #[default]
    Application,
    /// A thread that serves a connection: what it waited for might have to come through
    /// the thread itself.
    Coordinator(Weak<Pool>),
    /// A thread that runs methods: while it waits, another worker takes its place.
    Worker(Arc<Pool>, Post),
}

/// Whether a thread that has queued a message is likely to queue more right
/// after it. See Note [in place].
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The thread has waited, or has begun a job behind which no other job waits.
    #[default]
    Calm,
    Busy,
}

crate::sync::thread_local! {
    static ROLE: RefCell<Role> = RefCell::default();
    static PACE: Cell<Pace> = const { Cell::new(Pace::Calm) };
}

/// Sets the pace of this thread.
pub(crate) fn set_pace(pace: Pace) {
    let _ = PACE.try_with(|current| current.set(pace));
}

/// Whether this thread should itself write what it has queued.
pub(crate) fn has_time() -> bool {
    PACE.try_with(|current| current.replace(Pace::Busy)) == Ok(Pace::Calm)
}

/// Whether this thread runs methods.
pub(crate) fn is_worker() -> bool {
    ROLE.try_with(|role| matches!(&*role.borrow(), Role::Worker(..))).unwrap_or(false)
}

/// Whether this thread can have a role: not any more when it is ending.
pub(super) fn is_there() -> bool {
    ROLE.try_with(|_| ()).is_ok()
}

/// Sets the role of the current thread for the rest of its life.
pub(crate) fn assume(role: Role) {
    drop(ROLE.with(|current| current.replace(role)));
}

/// While this exists, the current thread has another role than before.
pub(crate) struct InRole {
    before: Role,
}

impl InRole {
    pub(crate) fn begin(role: Role) -> Self {
        InRole { before: ROLE.with(|current| current.replace(role)) }
    }
}

impl Drop for InRole {
    fn drop(&mut self) {
        assume(std::mem::take(&mut self.before));
    }
}

/// Makes the current thread of a model one that serves a connection.
#[cfg(all(test, rpc_model))]
pub(crate) fn serve() {
    assume(Role::Coordinator(Weak::new()));
}

fn role() -> Role {
    // A thread that is ending may still drop values of this library.
    ROLE.try_with(|role| role.borrow().clone()).unwrap_or_default()
}

/// Whether this thread may wait for room on a connection.
pub(crate) fn may_wait() -> bool {
    !matches!(role(), Role::Coordinator(_))
}

/// The capacity in which this thread waits for room on a connection.
pub(crate) fn asker() -> Asker {
    match role() {
        Role::Worker(..) => Asker::Worker,
        Role::Application | Role::Coordinator(_) => Asker::Application,
    }
}

/// Whether this thread serves a connection, or runs the methods of a vat with these
/// workers.
pub(crate) fn works_for(pool: &Arc<Pool>) -> bool {
    match role() {
        Role::Application => false,
        Role::Coordinator(_) => true,
        Role::Worker(own, _) => Arc::ptr_eq(&own, pool),
    }
}

/// Runs a closure that waits. What it waits for must not depend on this thread.
///
/// # Errors
/// This thread serves a connection and must not wait.
pub(crate) fn wait<R>(wait: impl FnOnce() -> R) -> Result<R, Error> {
    wait_for(|| None, wait)
}

/// As [`wait`], for something that may wait in turn.
pub(crate) fn wait_for<R>(
    awaited: impl FnOnce() -> Option<Weak<dyn Awaited>>,
    wait: impl FnOnce() -> R,
) -> Result<R, Error> {
    let wait = || {
        let result = wait();
        set_pace(Pace::Calm);
        result
    };
    match role() {
        Role::Application => Ok(wait()),
        Role::Worker(pool, post) => {
            // Another worker has to run what this one may be waiting for.
            let _busy = hands::Busy::begin();
            let _place = pool.give_up_place(post, awaited());
            Ok(wait())
        }
        Role::Coordinator(_) => Err(Error::failed(
            "this thread serves a connection and must not wait: \
             the object must not be Inline, or the method must answer later",
        )),
    }
}

/// Makes this thread work for an origin from here on. If the thread is a worker, it
/// counts as one of this origin's: Note [shares].
pub(crate) fn work_for(origin: Origin) {
    if origin::current() == origin {
        return;
    }
    origin::set(origin);
    if let Role::Worker(pool, post) = role() {
        pool.work_for(post, origin);
    }
}

/// Where objects and closures made on this thread run: the vat whose thread it
/// is, or the default vat.
pub(crate) fn current_executor() -> Arc<dyn Executor> {
    match role() {
        Role::Worker(pool, _) => pool,
        Role::Coordinator(pool) => match pool.upgrade() {
            Some(pool) => pool,
            None => Pool::global(),
        },
        Role::Application => Pool::global(),
    }
}
