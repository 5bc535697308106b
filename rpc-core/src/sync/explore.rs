//! Runs a model with many interleavings: see Note [models].

use std::sync::Arc;

use shuttle::scheduler::{
    DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId,
};
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
    explore_every(0, usize::MAX, body);
}

/// The same for a body that leaves something to chance: whether something is so that can be
/// so or not, such as whether the time of a thread is over when it looks. The first
/// `chances` of these are tried both ways, and all later ones are so.
pub(crate) fn explore_chances(chances: u32, body: impl Fn() + Send + Sync + 'static) {
    explore_every(chances, usize::MAX, body);
}

/// The same, with those interleavings only in which threads that could go on are made to wait
/// for others at most so many times. Most mistakes need one or two of these. Nothing in `body`
/// may wait by looking again and again.
pub(crate) fn explore_switches(
    switches: usize,
    chances: u32,
    body: impl Fn() + Send + Sync + 'static,
) {
    explore_every(chances, switches, body);
}

fn explore_every(chances: u32, switches: usize, body: impl Fn() + Send + Sync + 'static) {
    let body = Arc::new(body);
    let mut tried = 0;
    for chosen in 0..1 << chances {
        let schedules = DfsScheduler::new(Some(SMALL - tried), false);
        let every = Every { schedules, chosen, chances, made: 0, switches, switched: 0 };
        tried += run(every, &body);
        assert!(tried < SMALL, "more interleavings than are tried");
    }
    println!("all {tried} interleavings");
}

/// Tries every schedule, with the same choices where something is left to chance.
struct Every {
    schedules: DfsScheduler,
    /// One bit for each choice.
    chosen: u64,
    chances: u32,
    /// How many choices this execution has made.
    made: u32,
    /// How many times a thread that could go on may be made to wait, and was in this execution.
    switches: usize,
    switched: usize,
}

impl Scheduler for Every {
    fn new_execution(&mut self) -> Option<Schedule> {
        (self.made, self.switched) = (0, 0);
        self.schedules.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let goes_on = runnable.iter().find(|task| Some(task.id()) == current);
        let Some(own) = goes_on else {
            return self.schedules.next_task(runnable, current, is_yielding);
        };
        if self.switched == self.switches {
            return self.schedules.next_task(&[own], current, is_yielding);
        }
        let next = self.schedules.next_task(runnable, current, is_yielding);
        self.switched += usize::from(next != current);
        next
    }

    fn next_u64(&mut self) -> u64 {
        assert!(self.chances > 0, "something is left to chance");
        let so = self.made >= self.chances || self.chosen >> self.made & 1 == 1;
        self.made += 1;
        if so { u64::MAX } else { 0 }
    }
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
