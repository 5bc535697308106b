//! Waiting for a connection to be in some state.
//!
//! The protocol machine waits for nobody and tells nobody. A thread that waits for it to
//! be in some state looks again after each of its steps.

use crate::deadline::Deadline;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::work::waiting::{self, Waiters};

/// Where threads wait for the steps of one machine.
#[derive(Default)]
pub(super) struct Steps {
    /// The number of threads that wait. Raised under the lock of the list.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

impl Steps {
    /// Waits until the machine is in the state that `is_there` knows, or for the
    /// deadline. Returns whether it is. `is_there` must take no lock.
    pub(super) fn wait(&self, is_there: impl Fn() -> bool, deadline: Deadline) -> bool {
        let mut counted = false;
        let found = waiting::park(
            &self.waiters,
            |waiters| waiters,
            deadline,
            |_, _| {
                if !counted {
                    // From here on a step takes the lock and calls this thread.
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    counted = true;
                }
                is_there().then_some(())
            },
        );
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        found.is_some()
    }

    /// A step was made.
    pub(super) fn made(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let called = self.waiters.lock().call_all();
            called.wake_now();
        }
    }
}
