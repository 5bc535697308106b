//! Workers that keep a job for themselves, so that no other one is woken for it.
//!
//! Note [kept jobs]
//!
//! A worker keeps the first job to which something leads that it does with nothing else
//! left to do:
//!
//! - It makes progress (Note [progress]), because it is idle.
//! - It answers a call whose method has returned. The answer may let calls go on that were
//!   waiting for it, such as the next one of a chain.
//!
//! Everything else goes to other workers, because the job may block. So does a kept job if
//! there is more to do than was known, such as another call in the object's mailbox, or a wait.
//!
//! With the answer of its last call an object is gone, and its destructor is the
//! application's: it may take long, or depend on the job. Most do neither, and take less time
//! than waking a worker. So while one runs, the job is *set aside*, where another thread finds
//! it: the one that watches a connection (Note [turns]) takes it over when it finds it there for
//! the second time. A destructor that waits in this library hands it over at once. Where nobody
//! watches, the job goes to another worker before the destructor begins.
//!
//! ```text
//! Kept ──a destructor begins──► Aside ──it ends──────────────────► Kept
//!                                 └────it waits, or is watched───► another worker's
//! ```
//!
//! After the answer of a method that was called by other code than this library's, that code may
//! go on for long. Such an object does not say that its
//! [methods end with their answers](crate::untyped::Dispatch), and nothing is kept there.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::{Arc, Weak};

use super::executor::Job;
use super::pool::Pool;
use super::posts::Post;
use super::progress::{self, Hands, Progress, SetAside};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Maximum number of workers of a pool that wait for something to read. Each is a thread
/// that the pool cannot call for another job meanwhile.
const MAX_READERS: usize = 64;

/// Which pool it is: its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolId(pub(super) usize);

/// The workers of a pool that make progress because they have nothing else to do.
#[derive(Default)]
pub(super) struct Readers(AtomicUsize);

/// One of them.
pub(super) struct Reads<'a>(&'a Readers);

impl Readers {
    /// Counts one more, if there are not too many.
    pub(super) fn try_begin(&self) -> Option<Reads<'_>> {
        if self.0.fetch_add(1, Ordering::SeqCst) < MAX_READERS {
            return Some(Reads(self));
        }
        self.0.fetch_sub(1, Ordering::SeqCst);
        None
    }
}

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A worker of a pool that may keep a job.
pub(super) struct Idle {
    pool: PoolId,
    post: Post,
}

/// Why a worker may keep a job.
#[derive(Clone, Copy)]
pub(super) enum Free {
    Idle(Post),
    /// The job that it has is as good as over.
    Ending,
}

crate::sync::thread_local! {
    /// The pool of which this thread is a worker.
    static WORKER: Cell<Option<PoolId>> = const { Cell::new(None) };
    /// The address of the call that this worker runs, or 0. No other method is on its stack,
    /// and with the answer the method is over.
    static ENDS: Cell<usize> = const { Cell::new(0) };
    /// Whether this worker may keep a job of this pool.
    static FREE: Cell<Option<(PoolId, Free)>> = const { Cell::new(None) };
    /// The job that it keeps.
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
    /// What led to the job that this worker does.
    static CAME_BY: RefCell<Option<Weak<dyn Progress>>> = const { RefCell::new(None) };
    /// Where this worker sets the job aside that it keeps.
    static ASIDE: OnceCell<Arc<Aside>> = const { OnceCell::new() };
}

/// A job with a place that a worker of this pool keeps.
struct Kept {
    pool: Arc<Pool>,
    /// The post and the step with which it has begun the job already.
    begun: Option<(Post, u64)>,
    job: Job,
}

/// Where one worker sets aside the job that it keeps. The lock is a leaf.
#[derive(Default)]
struct Aside(Mutex<InPlace>);

#[derive(Default)]
struct InPlace {
    /// The number of times that something was set aside.
    times: u64,
    kept: Option<Kept>,
}

impl Aside {
    fn set(&self, kept: Kept) -> u64 {
        let mut place = self.0.lock();
        place.times += 1;
        place.kept = Some(kept);
        place.times
    }

    /// What was set aside that time, if it is still there.
    fn take(&self, time: u64) -> Option<Kept> {
        let mut place = self.0.lock();
        if place.times == time { place.kept.take() } else { None }
    }

    fn take_any(&self) -> Option<Kept> {
        self.0.lock().kept.take()
    }
}

impl SetAside for Aside {
    fn times(&self) -> Option<u64> {
        let place = self.0.lock();
        place.kept.as_ref().map(|_| place.times)
    }

    fn take_over(&self, time: u64) {
        self.take(time).into_iter().for_each(Kept::let_go);
    }
}

impl Kept {
    fn let_go(self) {
        let Kept { pool, begun, job } = self;
        pool.let_go(begun, job);
    }
}

/// While this exists, this thread does something that may take long or depend on others: it
/// keeps nothing. What it had kept goes to other workers; or it is set aside, and the thread
/// keeps it again afterwards, if nobody has taken it over.
///
/// Must not begin or end under a lock.
pub(crate) struct Busy {
    free: Option<(PoolId, Free)>,
    aside: Option<u64>,
}

impl Busy {
    /// For something that certainly takes long.
    pub(crate) fn begin() -> Self {
        let free = FREE.with(Cell::take);
        let_go();
        Busy { free, aside: None }
    }

    /// For something that mostly does not.
    pub(crate) fn begin_for_a_while() -> Self {
        Busy { free: FREE.with(Cell::take), aside: set_aside() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(time) = self.aside
            && let Ok(Some(kept)) = ASIDE.try_with(|aside| aside.get()?.take(time))
        {
            let other = KEPT.with(|own| own.borrow_mut().replace(kept));
            debug_assert!(other.is_none(), "nothing is kept meanwhile");
        }
        FREE.with(|free| free.set(self.free));
    }
}

/// Sets aside the job that this thread has kept, if it has and somebody looks after it.
/// Otherwise the job goes to another worker.
fn set_aside() -> Option<u64> {
    let kept = KEPT.try_with(|kept| kept.borrow_mut().take()).ok()??;
    let aside = ASIDE.with(|aside| Arc::clone(aside.get_or_init(Arc::default)));
    let led_here = progress::made_here().or_else(|| CAME_BY.with(|by| by.borrow().clone()));
    let Some(progress) = led_here.and_then(|progress| progress.upgrade()) else {
        kept.let_go();
        return None;
    };
    let time = aside.set(kept);
    if progress.look_after(Arc::clone(&aside) as _) {
        return Some(time);
    }
    aside.take_over(time);
    None
}

/// Hands over to another worker the job that this one has kept, or set aside.
///
/// Must not be called under a lock.
pub(crate) fn let_go() {
    // A thread that is ending has kept nothing.
    let kept = KEPT.try_with(|kept| kept.borrow_mut().take());
    kept.into_iter().flatten().for_each(Kept::let_go);
    let aside = ASIDE.try_with(|aside| aside.get()?.take_any());
    aside.into_iter().flatten().for_each(Kept::let_go);
}

/// Notes what led to the job that this worker begins, unless it is the same as before.
pub(super) fn comes_by(progress: Option<Weak<dyn Progress>>) {
    if progress.is_some() {
        CAME_BY.with(|by| by.replace(progress));
    }
}

/// Takes what led to the job that this worker has done.
pub(super) fn came_by() -> Option<Weak<dyn Progress>> {
    CAME_BY.with(RefCell::take)
}

/// Lets the thread keep nothing more when it is dropped.
pub(crate) struct Closed(());

impl Drop for Closed {
    fn drop(&mut self) {
        FREE.with(|free| free.set(None));
    }
}

/// Makes this thread a worker of a pool.
pub(super) fn work_in(pool: PoolId) {
    WORKER.with(|worker| worker.set(Some(pool)));
}

/// While this exists, this worker runs a call that ends with its answer.
pub(crate) struct Runs(());

impl Runs {
    /// `call` is the address of the call.
    pub(crate) fn begin(call: usize) -> Self {
        ENDS.with(|ends| ends.set(call));
        Runs(())
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        ENDS.with(|ends| ends.set(0));
    }
}

/// Lets this worker keep the first job to which the answer of this call leads, until the
/// guard is dropped.
pub(crate) fn answers(call: usize) -> Option<Closed> {
    if ENDS.try_with(Cell::get) != Ok(call) {
        return None;
    }
    let pool = WORKER.with(Cell::get)?;
    ENDS.with(|ends| ends.set(0));
    FREE.with(|free| free.set(Some((pool, Free::Ending))));
    Some(Closed(()))
}

impl Idle {
    pub(super) fn new(pool: PoolId, post: Post) -> Self {
        Idle { pool, post }
    }
}

impl Hands for Idle {
    fn keep_first(&self, work: &mut dyn FnMut()) -> bool {
        FREE.with(|free| free.set(Some((self.pool, Free::Idle(self.post)))));
        let closed = Closed(());
        work();
        drop(closed);
        self.keeps()
    }

    fn keeps(&self) -> bool {
        KEPT.with(|kept| kept.borrow().is_some())
    }
}

/// The job that this thread kept.
pub(super) fn kept() -> Option<Job> {
    KEPT.with(|kept| kept.borrow_mut().take()).map(|kept| kept.job)
}

/// Why this thread may keep a job of this pool; `None` if it may not.
pub(super) fn free(pool: PoolId) -> Option<Free> {
    let (own, free) = FREE.try_with(Cell::get).ok()??;
    (own == pool).then_some(free)
}

/// Keeps a job of this pool, after [`free`].
pub(super) fn keep(pool: Arc<Pool>, begun: Option<(Post, u64)>, job: Job) {
    FREE.with(|free| free.set(None));
    drop(KEPT.with(|kept| kept.borrow_mut().replace(Kept { pool, begun, job })));
}
