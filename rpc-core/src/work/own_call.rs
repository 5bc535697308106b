//! Callers that run their own calls.
//!
//! Note [own calls]
//!
//! A thread that makes a call and waits for it has nothing else to do. If the object is in
//! this process and idle, the thread runs the method itself: handing the call to a worker
//! and the answer back would take many times as long as a short method.
//!
//! - The thread runs its own call and no other one. What else waits in the mailbox is left
//!   to workers. So its wait does not depend on other methods.
//! - It runs as a worker of the object's vat does, with a place of its own there. A worker
//!   of another method gives its own place up meanwhile, as for any wait. So no more
//!   threads run methods than there are places, a method may wait, and a vat that is shut
//!   down waits for it.
//! - A call with a deadline, and a call of a method that lets a cancellation end its waits,
//!   goes to a worker: nothing could end the method, if it does not end by itself.
//! - Methods nest on one stack only to [`MAX_DEPTH`].
//!
//! The caller says so before it sends the call ([`OwnCall::begin`], [`expect`]). The pool
//! leaves the job to the thread when the object offers it ([`comes`]), so that no worker is
//! woken for it. If another call is first in the mailbox when the thread gets there, a
//! worker gets the job after all.
//!
//! The object may also be that of another vat of this process, behind a connection (Note
//! [both sides]). Then the thread looks for its call among those that come over the
//! connection, by the number of its question ([`Expected`]), and has to wait for the answer
//! when it has run it. A number is used again as soon as its question is answered, which a
//! busy object's worker may have done meanwhile. So what the thread has found is its own call
//! only if its question is open afterwards; otherwise a worker gets the job
//! ([`give_back`]). If the connection ends while the method runs, the thread learns of it
//! when the method has returned.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::executor::Job;
use super::origin::Origin;
use super::posts::Post;
use super::{interrupt, progress, role};
use crate::deadline::Deadline;
use crate::error::Error;

/// Maximum number of methods that nest on one stack because their callers run them.
const MAX_DEPTH: usize = 4;

/// A pool of workers.
pub(super) trait Host: Send + Sync {
    /// Runs the call with this address on this thread, in the place that was taken for it.
    fn run_own(self: Arc<Self>, post: Post, job: Job, call: usize);

    /// Lets a worker have a job that was left to a caller.
    fn take_back(self: Arc<Self>, post: Post, job: Job);
}

/// A job that was left to this thread.
struct Kept {
    host: Arc<dyn Host>,
    post: Post,
    job: Job,
    call: usize,
}

/// What this thread is about to do.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum About {
    #[default]
    Nothing,
    /// To send a call, and to wait for it.
    Call,
    /// The same; this is the address of the call.
    Waits(usize),
    /// The same; the call comes to its object as the answer to this question of a peer in
    /// this process.
    Asked(Origin, u32),
    /// The call has come to its object: its address there.
    Takes(usize),
}

crate::sync::thread_local! {
    static ABOUT: Cell<About> = const { Cell::new(About::Nothing) };
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
    /// The number of calls that this thread runs for itself at the moment.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// The beginning of a call that this thread is going to wait for.
pub(crate) struct OwnCall {
    /// What the thread was about, and what it had kept, if this is in the middle of another
    /// call.
    before: (About, Option<Kept>),
}

impl OwnCall {
    /// Lets this thread keep the call that it sends next, unless there is a reason to let
    /// a worker run it.
    pub(crate) fn begin(deadline: Deadline) -> Option<Self> {
        let may_run = deadline == Deadline::NEVER
            && role::is_there()
            && role::may_wait()
            && !interrupt::is_allowed()
            && DEPTH.try_with(Cell::get).is_ok_and(|depth| depth < MAX_DEPTH);
        if !may_run {
            return None;
        }
        let kept = KEPT.try_with(RefCell::take).ok()?;
        Some(OwnCall { before: (ABOUT.with(|about| about.replace(About::Call)), kept) })
    }

    /// Runs the call, if it was kept.
    ///
    /// Must not be called under a lock.
    ///
    /// # Errors
    /// As [`role::wait`].
    pub(crate) fn run(self) -> Result<(), Error> {
        let kept = KEPT.with(RefCell::take);
        drop(self);
        let Some(Kept { host, post, job, call }) = kept else { return Ok(()) };
        // Perhaps the thread took this for a call of a peer: what it called has resolved since.
        progress::let_go();
        /// Counts, whatever the method does.
        struct Deeper;
        impl Drop for Deeper {
            fn drop(&mut self) {
                DEPTH.with(|depth| depth.set(depth.get() - 1));
            }
        }
        role::wait(|| {
            DEPTH.with(|depth| depth.set(depth.get() + 1));
            let _deeper = Deeper;
            host.run_own(post, job, call);
        })
    }
}

impl Drop for OwnCall {
    fn drop(&mut self) {
        let (about, kept) = std::mem::take(&mut self.before);
        ABOUT.with(|own| own.set(about));
        // What is still there a panic has kept the thread from running.
        if let Some(kept) = KEPT.with(|own| own.replace(kept)) {
            kept.give_back();
        }
    }
}

impl Kept {
    fn give_back(self) {
        self.host.take_back(self.post, self.job);
    }
}

/// Lets a worker have the call that this thread has kept: it is another thread's.
///
/// Must not be called under a lock.
pub(crate) fn give_back() {
    if let Ok(Some(kept)) = KEPT.try_with(RefCell::take) {
        kept.give_back();
    }
}

/// Says which call it is that this thread is going to wait for.
pub(crate) fn expect(call: usize) {
    let _ = ABOUT.try_with(|about| {
        if about.get() == About::Call {
            about.set(About::Waits(call));
        }
    });
}

/// Whether the call that this thread is going to wait for has left, and has not come to its
/// object.
pub(crate) fn is_on_its_way() -> bool {
    ABOUT.with(|about| matches!(about.get(), About::Waits(_)))
}

/// While this exists, this thread makes the steps by which the call comes to its object.
pub(crate) struct Expected(());

impl Expected {
    /// The call has the number `question` on the connection with this origin, over which it
    /// comes.
    pub(crate) fn begin(origin: Origin, question: u32) -> Self {
        ABOUT.with(|about| about.set(About::Asked(origin, question)));
        Expected(())
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        ABOUT.with(|about| about.set(About::Nothing));
    }
}

/// While this exists, the thread offers a job to an executor.
pub(crate) struct Comes(());

/// Says that the job that comes next is for the call with this address. A peer's has an
/// origin, and the number of a question there.
pub(crate) fn comes(call: usize, origin: Origin, question: Option<u32>) -> Option<Comes> {
    let own = ABOUT.try_with(|about| {
        let own = match about.get() {
            About::Waits(own) => own == call,
            About::Asked(from, number) => from == origin && question == Some(number),
            About::Nothing | About::Call | About::Takes(_) => false,
        };
        if own {
            about.set(About::Takes(call));
        }
        own
    });
    (own == Ok(true)).then_some(Comes(()))
}

impl Drop for Comes {
    fn drop(&mut self) {
        ABOUT.with(|about| about.set(About::Nothing));
    }
}

/// Whether this thread keeps the job that comes now.
pub(super) fn takes() -> bool {
    ABOUT.try_with(|about| matches!(about.get(), About::Takes(_))).unwrap_or_default()
}

/// Whether this thread has kept the call that it is going to wait for.
pub(crate) fn keeps() -> bool {
    KEPT.try_with(|kept| kept.borrow().is_some()).unwrap_or_default()
}

/// Keeps a job, after [`takes`].
pub(super) fn keep(host: Arc<dyn Host>, post: Post, job: Job) {
    if let About::Takes(call) = ABOUT.with(Cell::take) {
        KEPT.with(|own| own.replace(Some(Kept { host, post, job, call })));
    }
}
