//! Keeping a failure that repeats from costing much.

use std::time::{Duration, Instant};

/// The pause after the first of several failures in a row, and the longest pause.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The shortest time between two lines of the log about the same thing.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// How long to pause after a failure: twice as long after each one in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The pause after one more failure.
    pub(crate) fn failed(&mut self) -> Duration {
        let [shortest, longest] = PAUSES;
        let pause = self.last.map_or(shortest, |last| (last * 2).min(longest));
        self.last = Some(pause);
        pause
    }

    pub(crate) fn succeeded(&mut self) {
        self.last = None;
    }
}

/// Lets few lines through to the log, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Whether something that happens now may be logged; then, how many times it
    /// happened before without being logged.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_LINES) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_second_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.succeeded();
        assert_eq!(backoff.failed().as_millis(), 10);
    }

    #[test]
    fn of_many_lines_a_few_pass_and_the_others_are_counted() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.pass(start), Some(0));
        for millis in 1..=1000 {
            assert_eq!(throttle.pass(start + Duration::from_millis(millis)), None);
        }
        assert_eq!(throttle.pass(start + BETWEEN_LINES), Some(1000));
        assert_eq!(throttle.pass(start + BETWEEN_LINES), None);
    }
}
