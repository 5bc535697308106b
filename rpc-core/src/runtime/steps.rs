//! Waiting for a connection to be in some state.
//!
//! The protocol machine waits for nobody and tells nobody. Who waits for it to be in
//! some state looks again after each of its steps.

use std::time::Instant;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex};

/// Where threads wait for the steps of one machine.
#[derive(Default)]
pub(super) struct Steps {
    /// How many threads wait. Written under the lock only.
    waiting: AtomicUsize,
    lock: Mutex<()>,
    made: Condvar,
}

impl Steps {
    /// Waits until the machine is in the state that `is_there` knows, or for the
    /// deadline. Returns whether it is. `is_there` must take no lock.
    pub(super) fn wait(&self, is_there: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
        let mut lock = self.lock.lock();
        // From here on whoever makes a step takes the lock and tells us.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut late = false;
        while !is_there() && !late {
            match deadline {
                None => self.made.wait(&mut lock),
                Some(deadline) => late = self.made.wait_until(&mut lock, deadline).timed_out(),
            }
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        is_there()
    }

    /// A step was made.
    pub(super) fn made(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // The lock orders us after a waiter that has looked but does not sleep.
            drop(self.lock.lock());
            self.made.notify_all();
        }
    }
}
