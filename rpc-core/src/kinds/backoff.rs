//! How long to wait before something that failed is tried again.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Pauses that grow: each is twice as long as the one before, up to a limit. Each is made
/// shorter by up to a half, at random, so that many who failed together do not try again
/// together.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads_core::reconnect::Backoff;
///
/// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// let third = backoff.pause(3);
/// assert!(third > Duration::from_millis(199) && third <= Duration::from_millis(400));
/// assert!(backoff.pause(1000) <= Duration::from_secs(5));
/// assert_eq!(Backoff::NONE.pause(3), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// No pauses.
    pub const NONE: Backoff = Backoff::new(Duration::ZERO, Duration::ZERO);

    /// `first` after one failure, and `most` at the most.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most }
    }

    /// The pause after so many failures in a row; none after 0.
    pub fn pause(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let longest = self.first.saturating_mul(factor).min(self.most);
        longest.saturating_sub((longest / 2).mul_f64(random_fraction()))
    }
}

/// From 100 milliseconds to 30 seconds.
impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30))
    }
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    // Every state of this kind has other keys, which come from the system.
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_differ() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(backoff.pause(0), Duration::ZERO);
        for (failures, longest) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (33, 60), (90, 60)] {
            let longest = Duration::from_secs(longest);
            for _ in 0..100 {
                let pause = backoff.pause(failures);
                assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
            }
        }
        assert!((0..100).any(|_| backoff.pause(7) != backoff.pause(7)));
        let for_ever = Backoff::new(Duration::MAX, Duration::MAX);
        assert!(for_ever.pause(3) >= Duration::MAX / 2);
    }
}
