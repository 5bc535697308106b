//! Runs a model with many interleavings: see Note [models].

use std::sync::Arc;

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Default number of interleavings that are tried, which `MODEL_RUNS` overrides.
const RUNS: usize = 400;

/// Stack size of a model's thread, in bytes: frames of unoptimised code are large, and
/// effects nest deeply.
const STACK: usize = 1 << 20;

/// Runs `body` with many interleavings. Half of them are chosen at random; the other
/// half change between threads only a few times, at unlikely places (PCT). `MODEL_RUNS`
/// sets their number and `MODEL_SEED` chooses other ones; `MODEL_SCHEDULE` repeats one
/// that failed, given as it was printed.
pub(crate) fn explore(body: impl Fn() + Send + Sync + 'static) {
    let body = Arc::new(body);
    if let Ok(schedule) = std::env::var("MODEL_SCHEDULE") {
        let schedule: String = schedule.split_whitespace().collect();
        let scheduler = ReplayScheduler::new_from_encoded(&schedule);
        run(scheduler, &body);
        return;
    }
    let runs = number("MODEL_RUNS").and_then(|runs| usize::try_from(runs).ok()).unwrap_or(RUNS);
    let seed = number("MODEL_SEED").unwrap_or(1);
    run(RandomScheduler::new_from_seed(seed, runs.div_ceil(2)), &body);
    for depth in [2, 3, 5] {
        run(PctScheduler::new_from_seed(seed, depth, runs.div_ceil(6)), &body);
    }
}

/// Number of interleavings beyond which a model is not small.
const SMALL: usize = 1_000_000;

/// Runs `body` with every interleaving. It must be small, and leave nothing to chance: waits
/// have no deadline.
pub(crate) fn explore_all(body: impl Fn() + Send + Sync + 'static) {
    let tried = run(DfsScheduler::new(Some(SMALL), true), &Arc::new(body));
    assert!(tried < SMALL, "more interleavings than are tried");
    println!("all {tried} interleavings");
}

/// Returns how many interleavings were tried.
fn run(
    scheduler: impl Scheduler + 'static,
    body: &Arc<impl Fn() + Send + Sync + 'static>,
) -> usize {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.silence_warnings = true;
    let body = Arc::clone(body);
    Runner::new(scheduler, config).run(move || body())
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, not a number")))
}
