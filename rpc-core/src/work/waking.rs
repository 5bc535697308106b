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
use std::sync::{Arc, Weak};

use crate::cap::call::CallCell;
use crate::work::pool::Pool;

/// Whom to wake.
pub(crate) enum Wakeup {
    /// The threads that wait for a call's outcome.
    Call(Arc<CallCell>),
    /// A worker that has nothing to do.
    Worker(Weak<Pool>),
}

crate::sync::thread_local! {
    /// The wake-ups of the batch that this thread works off.
    static NOTED: RefCell<Option<Vec<Wakeup>>> = const { RefCell::new(None) };
}

/// Leaves a wake-up to the end of the batch that this thread works off. Returns `false`
/// when there is none: then it is to be made now.
pub(crate) fn note(wakeup: impl FnOnce() -> Wakeup) -> bool {
    let noted = NOTED.try_with(|noted| {
        let mut noted = noted.borrow_mut();
        let Some(noted) = &mut *noted else { return false };
        noted.push(wakeup());
        true
    });
    noted.unwrap_or(false)
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
        catch_up();
        NOTED.with(|noted| *noted.borrow_mut() = None);
    }
}

impl Wakeup {
    fn make(self) {
        match self {
            Wakeup::Call(cell) => cell.wake_waiters(),
            Wakeup::Worker(pool) => {
                if let Some(pool) = pool.upgrade() {
                    pool.wake_one();
                }
            }
        }
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests {
    use super::*;
    use crate::cap::call::Sink;
    use crate::cap::effects;
    use crate::cap::payload::Payload;
    use crate::wire::Hint;

    fn noted() -> Option<usize> {
        NOTED.with(|noted| noted.borrow().as_ref().map(Vec::len))
    }

    fn complete_a_call() -> Arc<CallCell> {
        let (cell, interest) = CallCell::new(Sink::Here, Hint::None);
        cell.complete(Ok(Payload::empty().clone()));
        drop(interest);
        cell
    }

    #[test]
    fn wake_ups_are_noted_while_there_is_a_batch() {
        assert!(complete_a_call().outcome().is_some());
        assert_eq!(noted(), None);
        let batch = Batch::begin();
        assert!(complete_a_call().outcome().is_some());
        complete_a_call();
        assert_eq!(noted(), Some(2));
        drop(batch);
        assert_eq!(noted(), None);
    }

    #[test]
    fn they_are_made_before_application_code_runs() {
        let _batch = Batch::begin();
        complete_a_call();
        assert_eq!(noted(), Some(1));
        let mut left = None;
        effects::application(|| left = noted());
        assert_eq!(left, Some(0));
        complete_a_call();
        assert_eq!(noted(), Some(1));
    }

    /// A call that is waited for by another thread, and answered in a batch that goes
    /// on with code which waits for that thread.
    #[test]
    fn application_code_may_wait_for_a_thread_that_is_woken_in_the_same_batch() {
        let (cell, interest) = CallCell::new(Sink::Here, Hint::None);
        let waiting = std::thread::spawn(move || {
            let never = crate::work::interrupt::Interrupt::never();
            let outcome = interest.cell().wait(None, &never);
            outcome.is_ok_and(|outcome| outcome.is_some())
        });
        let _batch = Batch::begin();
        cell.complete(Ok(Payload::empty().clone()));
        let mut answered = None;
        effects::application(|| answered = waiting.join().ok());
        assert_eq!(answered, Some(true));
    }
}
