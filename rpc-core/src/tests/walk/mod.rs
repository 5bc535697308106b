//! Random walks: two to five vats do whatever they can, in a random order, and a
//! model that knows nothing of the protocol says what must come of it.
//!
//! The steps are in [`script`], what must come of them in [`shadow`]: every call
//! reaches the object that its reference leads to, once, or fails for a reason;
//! calls through one reference arrive in the order in which they were made, also
//! through those that were forked from it, in whatever vat (E-order); at the end
//! nothing is left in any table and every object was dropped once.
//!
//! `cargo test` makes a bounded number of walks. For more, and to look into one:
//!
//! - `WALK_RUNS=100000 WALK_STEPS=400 cargo test --release -p capnp-threads-core --lib walk`
//!   makes so many walks of so many steps. `WALK_FROM` is the first seed.
//! - `WALK_SEED=17 cargo test -p capnp-threads-core --lib walk` repeats one.
//!
//! A walk that fails is made shorter as long as it fails, and printed as a call of
//! `replay`, for a test of its own, with the messages that were delivered.

mod script;
mod shadow;
mod world;

use self::script::{Shape, Step};
use self::world::{Check, World};
use super::net::Net;

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

fn run(seed: u64, steps: usize) {
    let (shape, script) = script::generate(seed, steps);
    if !fails(shape, &script) {
        return;
    }
    eprintln!("walk {seed} of {steps} steps fails; looking for a shorter one");
    let script = script::shrink(script, |script| fails(shape, script));
    eprintln!("WALK_SEED={seed} WALK_STEPS={steps}\n{}", script::print(shape, &script));
    replay(shape, &script);
    panic!("walk {seed} fails in one thread and not in another");
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn random_walks_keep_the_order_and_leave_nothing_behind() {
    let steps = setting("WALK_STEPS").map_or(STEPS, |steps| usize::try_from(steps).unwrap());
    if let Some(seed) = setting("WALK_SEED") {
        return run(seed, steps);
    }
    let from = setting("WALK_FROM").unwrap_or(0);
    for seed in from..from + setting("WALK_RUNS").unwrap_or(RUNS) {
        run(seed, steps);
    }
}
