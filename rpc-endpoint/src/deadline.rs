//! Times at which waiting ends.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, MutexGuard};

/// When waiting ends, or that it does not. Every [`Duration`] makes one: what is further
/// away than the clock can tell never comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NEVER: Self = Deadline(None);

    pub(crate) fn after(time: Duration) -> Self {
        Deadline(Instant::now().checked_add(time))
    }

    /// The earlier one.
    pub(crate) fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(another)) => Deadline(Some(one.min(another))),
            (one, another) => Deadline(one.or(another)),
        }
    }

    /// The time that is left; `None` if there is no end to it.
    pub(crate) fn rest(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_over(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// Waits for a condition to be signalled; `false` if the time has passed.
    pub(crate) fn wait<T>(self, condvar: &Condvar, guard: &mut MutexGuard<'_, T>) -> bool {
        match self.0 {
            None => {
                condvar.wait(guard);
                true
            }
            Some(at) => !condvar.wait_until(guard, at).timed_out(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_makes_a_deadline() {
        let never = Deadline::after(Duration::MAX);
        assert_eq!(never, Deadline::NEVER);
        assert_eq!(never.rest(), None);
        assert!(!never.is_over());
        let now = Deadline::after(Duration::ZERO);
        assert!(now.is_over());
        assert_eq!(now.rest(), Some(Duration::ZERO));
        assert_eq!(now.min(never), now);
        assert_eq!(never.min(now), now);
        assert_eq!(never.min(never), never);
        let (mutex, condvar) = (parking_lot::Mutex::new(()), Condvar::new());
        assert!(!now.wait(&condvar, &mut mutex.lock()));
    }
}
