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

use super::interrupt::Wake;

crate::sync::thread_local! {
    /// The wake-ups of the batch that this thread works off.
    static NOTED: RefCell<Option<Vec<Arc<dyn Wake>>>> = const { RefCell::new(None) };
}

/// Leaves telling those who wait for `what` to the end of the batch that this thread
/// works off. Returns `false` when there is none: then they are to be told now.
pub(crate) fn note(what: impl FnOnce() -> Option<Arc<dyn Wake>>) -> bool {
    let noted = NOTED.try_with(|noted| {
        let mut noted = noted.borrow_mut();
        let Some(noted) = &mut *noted else { return false };
        what().map(|what| noted.push(what)).is_some()
    });
    noted.unwrap_or(false)
}

/// Makes the wake-ups that are noted.
pub(crate) fn catch_up() {
    let noted = NOTED.try_with(|noted| noted.borrow_mut().as_mut().map(std::mem::take));
    for what in noted.ok().flatten().into_iter().flatten() {
        what.tell();
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
        catch_up();
        NOTED.with(|noted| *noted.borrow_mut() = None);
    }
}

/// How many wake-ups are noted on this thread, if it works off a batch.
#[cfg(test)]
pub(crate) fn noted() -> Option<usize> {
    NOTED.with(|noted| noted.borrow().as_ref().map(Vec::len))
}
