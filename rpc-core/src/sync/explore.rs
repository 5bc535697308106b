//! Runs a model with many interleavings: see Note [models].

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// How many interleavings are tried, if `MODEL_RUNS` does not say.
const RUNS: usize = 400;

/// What a frame of unoptimised code takes is multiplied by how deep effects nest.
const STACK: usize = 1 << 20;

/// Runs `body` with many interleavings, half of them at random, the other half with
/// few changes between threads at places that hardly anybody would think of
/// (PCT). `MODEL_RUNS` says how many, `MODEL_SEED` which, and `MODEL_SCHEDULE` is
/// one that failed, as it was printed.
pub(crate) fn explore(body: impl Fn() + Send + Sync + 'static) {
    let body = Arc::new(body);
    if let Ok(schedule) = std::env::var("MODEL_SCHEDULE") {
        let schedule: String = schedule.split_whitespace().collect();
        let scheduler = ReplayScheduler::new_from_encoded(&schedule);
        return run(scheduler, &body);
    }
    let runs = number("MODEL_RUNS").and_then(|runs| usize::try_from(runs).ok()).unwrap_or(RUNS);
    let seed = number("MODEL_SEED").unwrap_or(1);
    run(RandomScheduler::new_from_seed(seed, runs.div_ceil(2)), &body);
    for depth in [2, 3, 5] {
        run(PctScheduler::new_from_seed(seed, depth, runs.div_ceil(6)), &body);
    }
}

fn run(scheduler: impl Scheduler + 'static, body: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.silence_warnings = true;
    let body = Arc::clone(body);
    Runner::new(scheduler, config).run(move || body());
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, not a number")))
}
