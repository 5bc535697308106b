//! Waiting for a condition until a deadline.

use parking_lot::{Condvar, MutexGuard};

pub(crate) use capnp_threads_core::deadline::Deadline;

/// Waits for a condition to be signalled; `false` if the deadline has passed.
pub(crate) fn wait<T>(
    deadline: Deadline,
    condvar: &Condvar,
    guard: &mut MutexGuard<'_, T>,
) -> bool {
    match deadline.time() {
        None => {
            condvar.wait(guard);
            true
        }
        Some(time) => !condvar.wait_until(guard, time).timed_out(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wait_ends_with_its_deadline() {
        let (mutex, condvar) = (parking_lot::Mutex::new(()), Condvar::new());
        assert!(!wait(Deadline::after(Duration::ZERO), &condvar, &mut mutex.lock()));
    }
}
