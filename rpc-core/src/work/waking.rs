//! Threads that are woken together.
//!
//! Note [waking together]
//!
//! A connection's coordinator works off many messages in a row. If each answer woke the
//! thread that waits for it, and each call woke a worker, a thread that waits for the
//! first of many answers would run at once, find the second one missing, and sleep
//! again: two system calls and two switches for every call. So while a batch is worked
//! off, the threads to be woken are noted, and they are woken at its end. The outcomes
//! themselves are not held back: a thread that looks finds them.
//!
//! Application code that runs in the middle of a batch, such as a destructor, may
//! depend on a thread that was noted, or on one that the code itself wakes. So the
//! noted threads are woken before application code runs, and nothing is noted while it
//! runs.

use std::cell::RefCell;

use crate::sync::Unparker;

crate::sync::thread_local! {
    /// The threads to be woken at the end of this thread's batch.
    static NOTED: RefCell<Option<Vec<Unparker>>> = const { RefCell::new(None) };
}

/// Wakes a thread: at the end of the batch if this thread works one off, otherwise at
/// once.
pub(crate) fn wake(thread: Unparker) {
    let mut thread = Some(thread);
    // A thread that is ending works off no batch.
    let _ = NOTED.try_with(|noted| {
        if let Some(noted) = &mut *noted.borrow_mut() {
            noted.extend(thread.take());
        }
    });
    if let Some(thread) = thread {
        thread.unpark();
    }
}

/// Wakes the threads that are noted.
pub(crate) fn catch_up() {
    let noted = NOTED.try_with(|noted| noted.borrow_mut().as_mut().map(std::mem::take));
    for thread in noted.ok().flatten().into_iter().flatten() {
        thread.unpark();
    }
}

/// Whether this thread can work off a batch: not any more when it is ending.
pub(super) fn is_there() -> bool {
    NOTED.try_with(|_| ()).is_ok()
}

/// While this exists, the thread works off a batch.
pub(crate) struct Batch(());

impl Batch {
    pub(crate) fn begin() -> Self {
        NOTED.with(|noted| *noted.borrow_mut() = Some(Vec::new()));
        Batch(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        catch_up();
        NOTED.with(|noted| *noted.borrow_mut() = None);
    }
}

/// While this exists, this thread's batch, if there is one, notes nothing.
pub(crate) struct Suspended {
    batch: bool,
}

impl Suspended {
    /// Wakes the threads that are noted.
    pub(crate) fn begin() -> Self {
        catch_up();
        let batch = NOTED.try_with(|noted| noted.borrow_mut().take().is_some());
        Suspended { batch: batch.unwrap_or(false) }
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if self.batch {
            let _ = NOTED.try_with(|noted| *noted.borrow_mut() = Some(Vec::new()));
        }
    }
}

/// How many threads are noted on this thread, if it works off a batch.
#[cfg(all(test, not(rpc_model)))]
pub(crate) fn noted() -> Option<usize> {
    NOTED.with(|noted| noted.borrow().as_ref().map(Vec::len))
}
