//! A window that adapts to what the path to the callee carries.

use std::time::Duration;

use super::FlowController;

/// Minimum size of a window, in bytes.
const MIN_WINDOW: u64 = 16 << 10;
/// Maximum size of a window, in bytes.
const MAX_WINDOW: u64 = 256 << 20;
/// Number of rounds without growth after which the start is over.
const FULL_ROUNDS: u32 = 3;

/// A window that is kept a little larger than what the path to the callee and back
/// holds at any moment, which is its bandwidth times its round-trip time. So the path
/// is always full, and a change for the better is noticed.
///
/// Time is counted in rounds: a round ends with the first answer to a message that was
/// sent after the previous round ended.
///
/// - *Start*: the window may double each round, until three rounds in a row have
///   not made the stream a quarter faster.
/// - *Steady*: the window goes to 5/4 of what the last round carried, growing to no more
///   than 5/4 and shrinking to no less than 7/8 of itself in a round.
///
/// The window stays between 16 KiB and 256 MiB.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads_core::flow::{AdaptiveWindow, FlowController};
///
/// let mut window = AdaptiveWindow::new(64 << 10);
/// assert_eq!(window.window(), 64 << 10);
/// // As the stream tells it what is sent, and when that is answered:
/// let (sent, answered) = (Duration::ZERO, Duration::from_millis(20));
/// window.sent(64 << 10, sent);
/// window.answered(64 << 10, sent, answered);
/// assert!(window.window() >= 16 << 10);
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveWindow {
    window: u64,
    phase: Phase,
    /// Bytes answered in this round.
    answered: u64,
    round_began: Duration,
    /// The shortest time that an answer has taken so far.
    min_round_trip: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Start {
        /// The best rate so far, in bytes a second.
        best: f64,
        rounds_without_growth: u32,
    },
    Steady,
}

impl AdaptiveWindow {
    /// A window that starts with this many bytes.
    pub fn new(initial: u64) -> Self {
        AdaptiveWindow {
            window: initial.clamp(MIN_WINDOW, MAX_WINDOW),
            phase: Phase::Start { best: 0.0, rounds_without_growth: 0 },
            answered: 0,
            round_began: Duration::ZERO,
            min_round_trip: None,
        }
    }

    /// Ends a round: decides on the window for the next one.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn end_round(&mut self, now: Duration) {
        let took = now.saturating_sub(self.round_began).max(Duration::from_micros(1));
        let rate = self.answered as f64 / took.as_secs_f64();
        let round_trip = self.min_round_trip.unwrap_or(took);
        self.round_began = now;
        self.answered = 0;
        match &mut self.phase {
            Phase::Start { best, rounds_without_growth } => {
                if rate > *best * 1.25 {
                    *best = rate;
                    *rounds_without_growth = 0;
                } else {
                    *rounds_without_growth += 1;
                }
                if *rounds_without_growth >= FULL_ROUNDS {
                    self.phase = Phase::Steady;
                } else {
                    self.window = self.window.saturating_mul(2);
                }
            }
            Phase::Steady => {
                let wanted = (rate * round_trip.as_secs_f64() * 1.25) as u64;
                let most = self.window.saturating_mul(5) / 4;
                let least = self.window.saturating_mul(7) / 8;
                self.window = wanted.clamp(least, most);
            }
        }
        self.window = self.window.clamp(MIN_WINDOW, MAX_WINDOW);
    }
}

impl FlowController for AdaptiveWindow {
    fn window(&self) -> u64 {
        self.window
    }

    fn answered(&mut self, bytes: u64, sent: Duration, now: Duration) {
        self.answered += bytes;
        let round_trip = now.saturating_sub(sent);
        self.min_round_trip =
            Some(self.min_round_trip.map_or(round_trip, |least| least.min(round_trip)));
        if sent >= self.round_began {
            self.end_round(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs rounds in which the path carries `rate` bytes a second with a delay of 10
    /// ms and the sender fills the window.
    #[allow(clippy::cast_precision_loss)]
    fn rounds(window: &mut AdaptiveWindow, count: u32, rate: u64, now: &mut Duration) {
        for _ in 0..count {
            let sent = *now;
            let bytes = window.window();
            let busy = Duration::from_secs_f64(bytes as f64 / rate as f64);
            *now += Duration::from_millis(10).max(busy);
            window.answered(bytes, sent, *now);
        }
    }

    #[test]
    fn it_doubles_until_the_way_is_full() {
        let (mut window, mut now) = (AdaptiveWindow::new(64 << 10), Duration::ZERO);
        rounds(&mut window, 2, 100_000_000, &mut now);
        assert_eq!(window.window(), 256 << 10);
        rounds(&mut window, 40, 100_000_000, &mut now);
        // 100 MB/s for 10 ms is a megabyte, and a quarter is added.
        let full = 1_250_000;
        assert!(window.window().abs_diff(full) < full / 4, "{}", window.window());
    }

    #[test]
    fn it_shrinks_and_grows_with_the_way_but_not_at_once() {
        let (mut window, mut now) = (AdaptiveWindow::new(64 << 10), Duration::ZERO);
        rounds(&mut window, 40, 100_000_000, &mut now);
        let before = window.window();
        rounds(&mut window, 1, 10_000_000, &mut now);
        assert!(window.window() >= before * 7 / 8 - 1);
        rounds(&mut window, 60, 10_000_000, &mut now);
        let slow = window.window();
        assert!(slow < before / 2, "{slow} of {before}");
        rounds(&mut window, 60, 100_000_000, &mut now);
        assert!(window.window() > slow, "{}", window.window());
    }

    #[test]
    fn it_never_goes_below_the_minimum() {
        let (mut window, mut now) = (AdaptiveWindow::new(1), Duration::ZERO);
        assert_eq!(window.window(), MIN_WINDOW);
        for _ in 0..100 {
            let sent = now;
            now += Duration::from_millis(1);
            window.answered(10, sent, now);
        }
        assert_eq!(window.window(), MIN_WINDOW);
    }
}
