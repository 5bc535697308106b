//! Random walks: two to five vats do whatever they can, in a random order, and a
//! model that knows nothing of the protocol says what must come of it.
//!
//! The steps are in [`script`], how a seed chooses among them in [`generate`], and what
//! must come of them in [`shadow`]: every call reaches the object that its reference
//! leads to, once, or fails for a reason; calls through one reference arrive in the order
//! in which they were made, also through those that were forked from it, in whatever vat
//! (E-order); at the end nothing is left in any table and every object was dropped once.
//!
//! `cargo test` makes a bounded number of walks. For more, and to look into one:
//!
//! - `WALK_RUNS=100000 WALK_STEPS=400 cargo test --release -p capnp-threads-core --lib walk`
//!   makes so many walks of so many steps. `WALK_FROM` is the first seed.
//! - `WALK_SEED=17 cargo test -p capnp-threads-core --lib walk` repeats one.
//!
//! A walk that fails is made shorter as long as it fails, and printed as a call of
//! `replay`, for a test of its own, with the messages that were delivered.

mod generate;
mod script;
mod shadow;
mod world;

#[cfg(test)]
pub(crate) use self::generate::Random;
use self::script::{Do, Shape, Step};
use self::world::{Check, World};
use super::neighbours::{AT_HOME, FORWARDED, FOUND};
use super::net::Net;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many walks `cargo test` makes, and how long they are.
const RUNS: u64 = 150;
const STEPS: usize = 300;

/// Whether a walk keeps what was delivered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Journal {
    Kept,
    None,
}

fn walk(shape: Shape, script: &[Step], journal: Journal) -> Check {
    let mut net = Net::new();
    if journal == Journal::None {
        net.keep_no_journal();
    }
    let mut world = World::new(shape, net);
    let outcome = script.iter().try_for_each(|step| world.step(*step)).and_then(|()| world.end());
    if outcome.is_err() && journal == Journal::Kept {
        world.print_journal();
    }
    outcome
}

/// Makes a walk apart, so that a panic inside is no more than a failure and leaves
/// nothing behind on this thread.
fn fails(shape: Shape, script: &[Step]) -> bool {
    let script = script.to_vec();
    let walk = std::thread::spawn(move || walk(shape, &script, Journal::None));
    !matches!(walk.join(), Ok(Ok(())))
}

/// Makes a walk that failed before, with its messages shown.
fn replay(shape: Shape, script: &[Step]) {
    if let Err(problem) = walk(shape, script, Journal::Kept) {
        panic!("{problem}");
    }
}

/// How a seed becomes a walk of so many steps.
type Generate = fn(u64, usize) -> (Shape, Vec<Step>);

fn run(generate: Generate, seed: u64, steps: usize) {
    let (shape, script) = generate(seed, steps);
    check(&format!("walk {seed} of {steps} steps"), shape, script);
}

/// Makes the walks of these seeds, with as many threads as there are processors.
fn run_all(generate: Generate, seeds: Range<u64>, steps: usize) {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                return;
            }
            // Nobody else begins another one when one has failed.
            let failing = OnFailure(|| next.store(seeds.end, Ordering::SeqCst));
            run(generate, seed, steps);
            drop(failing);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// Does this if a thread panics meanwhile.
struct OnFailure<F: Fn()>(F);

impl<F: Fn()> Drop for OnFailure<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

fn check(name: &str, shape: Shape, script: Vec<Step>) {
    if !fails(shape, &script) {
        return;
    }
    eprintln!("{name} fails; looking for a shorter one");
    let script = script::shrink(script, |script| fails(shape, script));
    eprintln!("{name}\n{}", script::print(shape, &script));
    replay(shape, &script);
    panic!("{name} fails in one thread and not in another");
}

/// Makes some walks in which vats compare more than anything else.
pub(super) fn compare_at_random() {
    for seed in 0..40 {
        let (shape, script) = generate::comparing(seed, 150);
        if let Err(problem) = walk(shape, &script, Journal::Kept) {
            panic!("walk {seed} of those that compare: {problem}");
        }
    }
}

/// Makes the walk that the bytes choose: its vats with the first one, and with five others
/// each step and its numbers.
pub fn network(bytes: &[u8]) {
    let Some((shape, steps)) = bytes.split_first() else { return };
    let (shape, script) = generate::chosen(*shape, steps);
    if let Err(problem) = walk(shape, &script, Journal::None) {
        panic!("{problem}\n{}", script::print(shape, &script));
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn random_walks_keep_the_order_and_leave_nothing_behind() {
    let steps = setting("WALK_STEPS").map_or(STEPS, |steps| usize::try_from(steps).unwrap());
    if let Some(seed) = setting("WALK_SEED") {
        return run(generate::evenly, seed, steps);
    }
    let from = setting("WALK_FROM").unwrap_or(0);
    let runs = setting("WALK_RUNS").unwrap_or(RUNS);
    let counts = [&FOUND, &FORWARDED, &AT_HOME];
    let before = counts.map(|count| count.load(Ordering::SeqCst));
    run_all(generate::evenly, from..from + runs, steps);
    let after = counts.map(|count| count.load(Ordering::SeqCst));
    let [found, forwarded, at_home] = [0, 1, 2].map(|which| after[which] - before[which]);
    eprintln!("{found} hosts were found, {forwarded} contacts passed on, {at_home} at home");
    // One walk in a hundred or so ends at home, which says nothing of a few.
    let often = runs < RUNS || found > runs / 2 && forwarded > runs / 10;
    let at_times = runs < 100 * RUNS || at_home > runs / 400;
    assert!(often && at_times, "{found}, {forwarded}, {at_home} in {runs} walks");
}

#[test]
fn random_walks_in_moods_keep_the_order_and_leave_nothing_behind() {
    let steps = setting("WALK_STEPS").map_or(STEPS, |steps| usize::try_from(steps).unwrap());
    if let Some(seed) = setting("WALK_SEED") {
        return run(generate::in_moods, seed, steps);
    }
    let from = setting("WALK_FROM").unwrap_or(0);
    // Of the many walks, one in ten.
    let runs = setting("WALK_RUNS").map_or(RUNS, |runs| runs.div_ceil(10));
    run_all(generate::in_moods, from..from + runs, steps);
}

/// Of these walks, each is made once for each of its steps, each link and each fault, which
/// comes at that step.
const FAULTY_RUNS: u64 = 1;
const FAULTY_STEPS: usize = 60;

#[test]
fn random_walks_survive_a_fault_of_each_link_at_each_step() {
    // Fewer than of the other ones, since each of them is some thousand walks.
    let runs = setting("WALK_RUNS").map_or(FAULTY_RUNS, |runs| (runs / 10_000).max(1));
    let from = setting("WALK_FROM").unwrap_or(0);
    for seed in from..from + runs {
        let (shape, script) = generate::evenly(seed, FAULTY_STEPS);
        for (fault, choice) in [(Do::Cut, 0), (Do::Delay, 1), (Do::Limit, 0)] {
            // Both ends of a link can be late, or be reluctant; a cut is the same to both.
            let apart = if fault == Do::Cut { 2 } else { 1 };
            for end in (0..2 * shape.links().len()).step_by(apart) {
                let end = u16::try_from(end).unwrap();
                for at in 0..=script.len() {
                    let mut script = script.clone();
                    script.insert(at, Step(fault, [0, end, choice, 0]));
                    let name = format!(
                        "walk {seed} of {FAULTY_STEPS} steps with {fault:?} of end {end} before {at}"
                    );
                    check(&name, shape, script);
                }
            }
        }
    }
}
