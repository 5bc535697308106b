//! How large a test is, and which seeds it runs with.

use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rpc_tests::support::{stress_time, watchdog};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, and is {text:?}")))
}

/// `STRESS_THREADS`, or what the test has usually.
pub fn threads(usual: usize) -> usize {
    number("STRESS_THREADS").map_or(usual, |threads| usize::try_from(threads).unwrap().max(1))
}

/// `STRESS_STEPS` of each thread in one round, or what the test has usually.
pub fn steps(usual: usize) -> usize {
    number("STRESS_STEPS").map_or(usual, |steps| usize::try_from(steps).unwrap())
}

/// Runs a test with one seed after the other for `STRESS_SECONDS`, but once at
/// least; or with `STRESS_SEED` alone.
pub fn for_seeds(mut run: impl FnMut(u64)) {
    /// Says which seed it was.
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if thread::panicking() {
                println!("STRESS_SEED={} repeats this", self.0);
            }
        }
    }
    let mut one = |seed| {
        let _doing = watchdog::doing(&format!("what STRESS_SEED={seed} repeats"));
        let _seed = Seed(seed);
        run(seed);
    };
    if let Some(seed) = number("STRESS_SEED") {
        return one(seed);
    }
    // Other ones each time: threads do not take turns in the same way anyway.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = u64::from(now.subsec_nanos()) ^ now.as_secs() << 20;
    let end = Instant::now() + stress_time();
    for seed in first.. {
        one(seed);
        if Instant::now() > end {
            return;
        }
    }
}
