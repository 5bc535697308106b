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

use std::cell::{Cell, RefCell};
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

    /// As [`prepare`](Self::prepare), for a thread that is about to answer a call that came
    /// over this, and then has nothing else to do. Returns `false`, too, if nothing is saved
    /// by that.
    ///
    /// Must not be called under a lock.
    fn prepare_to_answer(&self) -> bool;

    /// Undoes [`prepare`](Self::prepare).
    ///
    /// Must not be called under a lock.
    fn give_up(&self);

    /// Makes what progress there is to make at once, on a thread that has prepared for it.
    /// If this process has the other side, too, that includes the progress there; the thread
    /// may then keep the call `own`, which it has sent and which is not answered, to run it
    /// itself (Note [own calls]). See Note [both sides].
    /// Returns whether the thread is still prepared. Does not wait.
    ///
    /// Must not be called under a lock.
    fn advance(&self, own: &dyn Fn() -> Option<OwnQuestion>) -> bool;

    /// Makes progress on this thread, which waits, until it is unparked or the deadline
    /// comes. Returns at once, with `false`, if others make the progress: then the thread
    /// has to sleep. `prepared` says that this thread has prepared for it.
    ///
    /// Must not be called under a lock.
    fn make(&self, parker: &Parker, deadline: Deadline, prepared: bool) -> bool;

    /// Looks, from another thread and until it is gone, whether something that this thread has
    /// set aside has been there for a while, and [takes it over](SetAside::take_over) then.
    /// Returns `false` if nobody looks.
    ///
    /// Must not be called under a lock.
    fn look_after(&self, _aside: Arc<dyn SetAside>) -> bool {
        false
    }

    /// Parks the thread, for which others make the progress. Returns whether the deadline has
    /// come. As [`Parker::park`], it may return without a reason.
    fn park(&self, parker: &Parker, deadline: Deadline) -> bool {
        parker.park(deadline)
    }

    /// Makes progress on this worker, which has nothing else to do. Returns `true` when the
    /// worker kept a job, and `false` when nothing has come for a while.
    ///
    /// Must not be called under a lock.
    fn make_idly(&self, worker: &dyn Hands) -> bool;
}

/// The place where a thread sets something aside while it does what may take long.
pub(crate) trait SetAside: Send + Sync {
    /// The number of times that something was set aside here, if something is here now.
    fn times(&self) -> Option<u64>;

    /// Hands what is here to another thread, if it is what was set aside that time.
    ///
    /// Must not be called under a lock.
    fn take_over(&self, time: u64);
}

/// A call that this thread has sent to a peer, and is going to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnQuestion {
    /// The number of the connection.
    pub(crate) connection: u64,
    pub(crate) question: u32,
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
    /// The address of the call whose method this thread runs, with which it has nothing else
    /// to do, or 0.
    static ENDS: Cell<usize> = const { Cell::new(0) };
}

/// While this exists, this thread may be prepared to make progress: it has begun to do so,
/// or has let go of it, otherwise.
pub(crate) struct Prepared(());

impl Prepared {
    /// Lets go of what the thread had prepared for before, in the middle of which this is.
    pub(crate) fn begin(means: Means) -> Self {
        let_go();
        if let Some(progress) = means
            && progress.prepare()
        {
            PREPARED.with(|prepared| prepared.replace(Some(progress)));
        }
        Prepared(())
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

/// Makes what progress there is to make at once, if this thread has prepared for it: see
/// [`Progress::advance`].
///
/// Must not be called under a lock.
pub(crate) fn advance(own: impl Fn() -> Option<OwnQuestion>) {
    let prepared = PREPARED.try_with(|prepared| prepared.borrow_mut().take());
    if let Ok(Some(progress)) = prepared
        && progress.advance(&own)
    {
        PREPARED.with(|prepared| *prepared.borrow_mut() = Some(progress));
    }
}

/// While this exists, this thread runs the method of a call, and has nothing else to do once
/// the method has returned. When this is dropped, the thread makes the progress for which it
/// has prepared in order to answer.
pub(crate) struct Ends {
    outer: usize,
}

impl Ends {
    /// `call` is the address of the call.
    pub(crate) fn begin(call: usize) -> Self {
        Ends { outer: ENDS.with(|ends| ends.replace(call)) }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        ENDS.with(|ends| ends.set(self.outer));
        advance(|| None);
        let_go();
    }
}

/// The method of a call that came over something has returned, and this thread is about to
/// answer: if it has nothing else to do then, it prepares to make progress there.
///
/// Must not be called under a lock.
pub(crate) fn answers(call: usize, over: impl FnOnce() -> Means) {
    if ENDS.try_with(Cell::get) != Ok(call) {
        return;
    }
    let_go();
    if let Some(progress) = over()
        && progress.prepare_to_answer()
    {
        PREPARED.with(|prepared| prepared.replace(Some(progress)));
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
