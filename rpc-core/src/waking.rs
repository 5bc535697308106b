//! Threads that are woken together.
//!
//! Note [waking together]
//!
//! While a connection's coordinator works off what has arrived, each answer would
//! wake the thread that waits for it, and each call a worker. A thread that waits
//! for the first of many answers would run at once, find the second one missing, and
//! sleep again: two system calls and two switches for every call. So while a batch
//! is worked off, wake-ups are noted, and made at its end; outcomes are there for
//! whoever looks. Application code that runs in the middle of a batch, such as a
//! destructor, may depend on a thread that was to be woken: before it runs, the
//! wake-ups that are noted are made.

use std::cell::RefCell;
use std::sync::Arc;

use crate::call::CallCell;
use crate::runtime::Pool;

/// Whom to wake.
pub(crate) enum Wakeup {
    /// The threads that wait for a call's outcome.
    Call(Arc<CallCell>),
    /// A worker that has nothing to do.
    Worker(Arc<Pool>),
}

crate::sync::thread_local! {
    /// The wake-ups of the batch that this thread works off.
    static NOTED: RefCell<Option<Vec<Wakeup>>> = const { RefCell::new(None) };
}

/// Wakes, now or at the end of the batch.
pub(crate) fn wake(wakeup: Wakeup) {
    let mut wakeup = Some(wakeup);
    let _ = NOTED.try_with(|noted| {
        if let Some(noted) = &mut *noted.borrow_mut() {
            noted.extend(wakeup.take());
        }
    });
    if let Some(wakeup) = wakeup {
        wakeup.make();
    }
}

/// Makes the wake-ups that are noted.
pub(crate) fn catch_up() {
    let noted = NOTED.try_with(|noted| noted.borrow_mut().as_mut().map(std::mem::take));
    for wakeup in noted.ok().flatten().into_iter().flatten() {
        wakeup.make();
    }
}

/// While this exists, the thread notes wake-ups.
pub(crate) struct Batch(());

impl Batch {
    pub(crate) fn begin() -> Self {
        NOTED.with(|noted| *noted.borrow_mut() = Some(Vec::new()));
        Batch(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let noted = NOTED.with(|noted| noted.borrow_mut().take());
        for wakeup in noted.into_iter().flatten() {
            wakeup.make();
        }
    }
}

impl Wakeup {
    fn make(self) {
        match self {
            Wakeup::Call(cell) => cell.wake_waiters(),
            Wakeup::Worker(pool) => pool.wake_one(),
        }
    }
}
