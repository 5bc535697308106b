//! When a wait ends by itself.

use std::time::{Duration, Instant};

/// The point in time at which a wait gives up, if there is one.
///
/// Every duration makes a deadline: one that is beyond the end of the clock's range is
/// [`Deadline::NEVER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// A wait with this deadline never gives up.
    pub(crate) const NEVER: Deadline = Deadline(None);

    /// This long from now.
    pub(crate) fn after(timeout: Duration) -> Self {
        Deadline(Instant::now().checked_add(timeout))
    }

    /// At this point in time.
    pub(crate) const fn at(time: Instant) -> Self {
        Deadline(Some(time))
    }

    /// The point in time, if there is one.
    pub(crate) const fn time(self) -> Option<Instant> {
        self.0
    }

    /// Whether the point in time has passed.
    #[cfg(not(rpc_model))]
    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|time| time <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_makes_a_deadline() {
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
        let now = Deadline::after(Duration::ZERO);
        assert!(now.time().is_some_and(|time| time <= Instant::now()));
        assert!(Deadline::after(Duration::from_secs(3600)).time() > now.time());
    }
}
