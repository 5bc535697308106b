//! Whether something grows.

use std::fs;

use crate::attacks::memory;

/// What is measured of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Seconds since the beginning.
    pub(super) at: f64,
    /// Bytes that the allocator has given out.
    pub(super) held: f64,
    /// Bytes that the system has given to the process.
    pub(super) resident: f64,
    pub(super) descriptors: f64,
    pub(super) threads: f64,
}

impl Sample {
    pub(super) fn now(at: f64) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Sample {
            at,
            held: number(memory::held()),
            resident: 1024.0 * field("VmRSS:"),
            descriptors: number(descriptors),
            threads: field("Threads:"),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far from 2^52")]
pub(super) fn number(value: usize) -> f64 {
    value as f64
}

/// A straight line through samples, by least squares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) mean: f64,
    /// What is added in a minute.
    pub(super) by_minute: f64,
    /// The error of that: two thirds of all lines through such samples are this close.
    pub(super) error: f64,
}

impl Line {
    pub(super) fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let count = number(points.clone().count()).max(1.0);
        let mean_of = |value: fn((f64, f64)) -> f64| points.clone().map(value).sum::<f64>() / count;
        let (x, y) = (mean_of(|point| point.0), mean_of(|point| point.1));
        let spread: f64 = points.clone().map(|(at, _)| (at - x).powi(2)).sum();
        let common: f64 = points.clone().map(|(at, value)| (at - x) * (value - y)).sum();
        let slope = if spread > 0.0 { common / spread } else { 0.0 };
        let rest: f64 = points.map(|(at, value)| (value - y - slope * (at - x)).powi(2)).sum();
        let error =
            if spread > 0.0 { (rest / (count - 2.0).max(1.0) / spread).sqrt() } else { 0.0 };
        Line { mean: y, by_minute: 60.0 * slope, error: 60.0 * error }
    }

    /// Whether it rises by more than chance, and by more than a hundredth of what there is
    /// in the time that was measured.
    pub(super) fn rises(&self, minutes: f64) -> bool {
        self.by_minute > 4.0 * self.error && self.by_minute * minutes > 0.01 * self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: impl Fn(f64) -> f64) -> Line {
        Line::through(
            (0..100).map(f64::from).map(move |at| (at, value(at))).collect::<Vec<_>>().into_iter(),
        )
    }

    #[test]
    fn what_grows_is_told_from_what_varies() {
        let wobble = |at: f64| 1000.0 + 50.0 * (at * 7.3).sin();
        assert!(!line(wobble).rises(100.0 / 60.0));
        let grows = line(|at| wobble(at) + 2.0 * at);
        assert!(grows.rises(100.0 / 60.0), "{grows:?}");
        assert!((grows.by_minute - 120.0).abs() < 10.0, "{grows:?}");
        assert!(!line(|at| wobble(at) - 2.0 * at).rises(100.0 / 60.0));
        assert!(!line(|_| 5.0).rises(1.0));
    }
}
