//! Workers that read while they have nothing else to do.
//!
//! A worker that makes progress (Note [progress]) finds jobs. The first one it keeps for
//! itself: it need not be woken for it. Everything else goes to other workers, because the
//! job may block.

use std::cell::{Cell, RefCell};

use super::executor::Job;
use super::posts::Post;
use super::progress::Hands;
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

crate::sync::thread_local! {
    /// The worker that this thread is, while it may keep a job.
    static FREE: Cell<Option<(PoolId, Post)>> = const { Cell::new(None) };
    /// The job that it keeps.
    static KEPT: RefCell<Option<Job>> = const { RefCell::new(None) };
}

impl Idle {
    pub(super) fn new(pool: PoolId, post: Post) -> Self {
        Idle { pool, post }
    }
}

impl Hands for Idle {
    fn keep_first(&self, work: &mut dyn FnMut()) -> bool {
        /// Lets the thread keep nothing more, even after a panic.
        struct Closed;
        impl Drop for Closed {
            fn drop(&mut self) {
                FREE.with(|free| free.set(None));
            }
        }
        FREE.with(|free| free.set(Some((self.pool, self.post))));
        let closed = Closed;
        work();
        drop(closed);
        KEPT.with(|kept| kept.borrow().is_some())
    }
}

/// The job that this thread kept.
pub(super) fn kept() -> Option<Job> {
    KEPT.with(|kept| kept.borrow_mut().take())
}

/// The worker that this thread is, if it may keep a job of this pool.
pub(super) fn free(pool: PoolId) -> Option<Post> {
    let (own, post) = FREE.try_with(Cell::get).ok()??;
    (own == pool).then_some(post)
}

/// Keeps a job, after [`free`].
pub(super) fn keep(job: Job) {
    FREE.with(|free| free.set(None));
    drop(KEPT.with(|kept| kept.borrow_mut().replace(job)));
}
