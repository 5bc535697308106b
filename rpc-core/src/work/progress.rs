//! What a waiting thread can do so that its wait ends.
//!
//! Note [progress]
//!
//! Most waits end when a connection makes progress: when something is read from its
//! socket. Waking the thread that waits, once another one has read, is a large part of
//! what a call costs. So a wait says what it is for, and its thread makes the progress
//! itself if nobody else does at this moment: it reads, makes the steps, and wakes the
//! threads whose answers came, until its own is there.
//!
//! A thread that is about to send what it will wait for prepares for that: otherwise the
//! answer may come before the thread waits, and wake another one. If it does anything else
//! first than to send, it gives that up ([`let_go`]).
//!
//! What such a thread does is the work of the connection and not its own. Its application
//! may hold a lock around the wait. So no application code runs on it, but for the method
//! or function that waits.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::deadline::Deadline;
use crate::sync::Parker;

/// Something that threads can bring forward while they wait.
pub(crate) trait Progress: Send + Sync {
    /// Makes sure that nobody else makes progress until this thread does, or
    /// [gives up](Self::give_up). Returns `false` if others make it.
    ///
    /// Must not be called under a lock.
    fn prepare(&self) -> bool;

    /// Undoes [`prepare`](Self::prepare).
    ///
    /// Must not be called under a lock.
    fn give_up(&self);

    /// Makes progress on this thread, which waits, until it is unparked or the deadline
    /// comes. Returns at once, with `false`, if others make the progress: then the thread
    /// has to sleep. `prepared` says that this thread has prepared for it.
    ///
    /// Must not be called under a lock.
    fn make(&self, parker: &Parker, deadline: Deadline, prepared: bool) -> bool;

    /// Makes progress on this worker, which has nothing else to do. Returns `true` when the
    /// worker kept a job, and `false` when nothing has come for a while.
    ///
    /// Must not be called under a lock.
    fn make_idly(&self, worker: &dyn Hands) -> bool;
}

/// A worker that makes progress because it has nothing else to do.
pub(crate) trait Hands {
    /// Lets this thread keep the first job that `work` leads to. Returns whether it keeps
    /// one now.
    fn keep_first(&self, work: &mut dyn FnMut()) -> bool;

    /// Whether this thread keeps a job.
    fn keeps(&self) -> bool;
}

crate::sync::thread_local! {
    /// What this thread brings forward at the moment.
    static MADE: RefCell<Option<Weak<dyn Progress>>> = const { RefCell::new(None) };
    /// What this thread has prepared for.
    static PREPARED: RefCell<Means> = const { RefCell::new(None) };
}

/// While this exists, this thread is prepared to make progress, unless it has begun to do
/// so or has let go of it.
pub(crate) struct Prepared(());

impl Prepared {
    /// Lets go of what the thread had prepared for before, in the middle of which this is.
    pub(crate) fn begin(progress: Arc<dyn Progress>) -> Option<Self> {
        let_go();
        if !progress.prepare() {
            return None;
        }
        PREPARED.with(|prepared| prepared.replace(Some(progress)));
        Some(Prepared(()))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let_go();
    }
}

/// Lets others make the progress that this thread has prepared for, because it is going to
/// do something else first.
///
/// Must not be called under a lock.
pub(crate) fn let_go() {
    let prepared = PREPARED.try_with(|prepared| prepared.borrow_mut().take());
    if let Ok(Some(progress)) = prepared {
        progress.give_up();
    }
}

/// Whether this thread has prepared for this; it is not prepared any more then.
pub(super) fn take_prepared(progress: &Arc<dyn Progress>) -> bool {
    let own = PREPARED.try_with(|prepared| {
        prepared
            .borrow_mut()
            .take_if(|own| std::ptr::addr_eq(Arc::as_ptr(own), Arc::as_ptr(progress)))
    });
    matches!(own, Ok(Some(_)))
}

/// What this thread brings forward at the moment, for the jobs that it leads to.
pub(super) fn made_here() -> Option<Weak<dyn Progress>> {
    MADE.try_with(|made| made.borrow().clone()).unwrap_or_default()
}

/// Whether this thread can note what it brings forward, and what it has prepared for: not
/// any more when it is ending.
pub(super) fn is_there() -> bool {
    MADE.try_with(|_| ()).is_ok() && PREPARED.try_with(|_| ()).is_ok()
}

/// While this exists, the thread makes progress.
pub(crate) struct Making(Option<Weak<dyn Progress>>);

impl Making {
    pub(crate) fn begin(progress: Weak<dyn Progress>) -> Self {
        Making(MADE.with(|made| made.replace(Some(progress))))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let _ = MADE.try_with(|made| made.replace(self.0.take()));
    }
}

/// What to bring forward, if the thread that waits can do anything.
pub(crate) type Means = Option<Arc<dyn Progress>>;
