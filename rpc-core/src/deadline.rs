//! When a wait ends by itself.
//!
//! For the crates of this workspace; what users call takes durations and instants.

use std::time::{Duration, Instant};

/// How long something may take, as a setting; `None` if nothing limits it.
pub(crate) type TimeLimit = Option<Duration>;

/// The least time between two looks at the same thing, whatever a setting says. A thread that
/// looked without a pause would do nothing else.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);

/// The point in time at which a wait gives up, if there is one.
///
/// Every duration makes a deadline: one that is beyond the end of the clock's range is
/// [`Deadline::NEVER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// A wait with this deadline never gives up.
    pub const NEVER: Deadline = Deadline(None);

    /// This long from now.
    pub fn after(timeout: Duration) -> Self {
        Deadline(Instant::now().checked_add(timeout))
    }

    /// At this point in time.
    pub const fn at(time: Instant) -> Self {
        Deadline(Some(time))
    }

    /// The point in time, if there is one.
    pub const fn time(self) -> Option<Instant> {
        self.0
    }

    /// The earlier of two deadlines.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(own), Some(other)) => Deadline(Some(own.min(other))),
            (own, other) => Deadline(own.or(other)),
        }
    }

    /// The time that is left: zero if the deadline has passed, `None` if it never comes.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|time| time.saturating_duration_since(Instant::now()))
    }

    /// Whether the deadline has passed.
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|time| time <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_makes_a_deadline() {
        let never = Deadline::after(Duration::MAX);
        assert_eq!(never, Deadline::NEVER);
        assert_eq!(never.remaining(), None);
        assert!(!never.has_passed());
        let now = Deadline::after(Duration::ZERO);
        assert!(now.time().is_some_and(|time| time <= Instant::now()));
        assert!(now.has_passed());
        assert_eq!(now.remaining(), Some(Duration::ZERO));
        assert_eq!(now.min(never), now);
        assert_eq!(never.min(now), now);
        assert_eq!(never.min(never), never);
        assert!(Deadline::after(Duration::from_secs(3600)).time() > now.time());
    }
}
