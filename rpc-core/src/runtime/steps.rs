//! Waiting for a connection to reach some state.
//!
//! The protocol machine neither waits nor wakes threads. A thread that waits for the
//! machine to reach some state looks again after each of the machine's steps.

use crate::deadline::Deadline;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::work::waiting::{self, Waiters};

/// The threads that wait for steps of one machine.
#[derive(Default)]
pub(super) struct Steps {
    /// The number of threads that wait. Raised under the lock of the list.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

impl Steps {
    /// Waits until `is_there` says that the machine has reached its state, or until the
    /// deadline. Returns whether it has. `is_there` must take no lock.
    pub(super) fn wait(&self, is_there: impl Fn() -> bool, deadline: Deadline) -> bool {
        let mut counted = false;
        let found = waiting::park(
            &self.waiters,
            |waiters| waiters,
            deadline,
            |_, _| {
                if !counted {
                    // From here on, the next step takes the lock and calls this thread.
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    counted = true;
                }
                is_there().then_some(())
            },
        );
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        found.is_some()
    }

    /// Tells the waiting threads that the machine made a step.
    pub(super) fn made(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let called = self.waiters.lock().call_all();
            called.wake_now();
        }
    }
}
