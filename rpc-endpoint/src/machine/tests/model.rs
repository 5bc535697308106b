//! Random scripts, checked against the trace model.
//!
//! `ENDPOINT_MODEL_SEEDS=from..to` replays or extends what is run by default.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::world::World;
use crate::trace::Dice;

#[derive(Clone, Copy)]
struct Script {
    cuts: bool,
    closed_ends: bool,
    ticks: bool,
}

fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("ENDPOINT_MODEL_SEEDS") else { return default };
    let (from, to) = text.split_once("..").expect("ENDPOINT_MODEL_SEEDS is from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

fn run_all(script: Script) -> usize {
    let mut lost = 0;
    for seed in seeds(0..600) {
        let mut world = World::new(Dice::new(seed), 3);
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut world, script)));
        if let Err(panic) = outcome {
            world.print_log();
            println!("replay with ENDPOINT_MODEL_SEEDS={seed}..{}", seed + 1);
            resume_unwind(panic);
        }
        lost += world.lost;
    }
    lost
}

/// Makes the script that bytes choose, with everything that may happen.
pub(crate) fn chosen(bytes: &[u8]) {
    let script = Script { cuts: true, closed_ends: true, ticks: true };
    run(&mut World::new(Dice::loaded(bytes), 3), script);
}

fn run(world: &mut World, script: Script) {
    // Some scripts rush, so that more crosses; others let things settle.
    let haste = [2, 5, 20][world.dice.below(3)];
    for _ in 0..150 {
        if !world.dice.one_in(haste) {
            world.advance();
            continue;
        }
        let ends = world.ends.len();
        let (one, other) = (world.dice.below(ends), world.dice.below(ends));
        let open = world.open.len();
        match world.dice.below(20) {
            0..6 => world.connect(one, other),
            6..11 if open > 0 => {
                let which = world.dice.below(open);
                world.send(which);
            }
            11..15 if open > 0 => {
                let which = world.dice.below(open);
                world.close(which);
            }
            15..18 => {
                world.receive(one);
            }
            18 if script.cuts && world.dice.one_in(4) => {
                let which = world.dice.below(1000);
                world.cut(which);
            }
            18 if script.closed_ends && world.dice.one_in(8) => {
                world.close_end(one);
                world.new_end();
            }
            18 => {
                world.dial_again();
            }
            19 if script.ticks => {
                // A long silence is a loss.
                world.disturbed = true;
                world.tick();
            }
            _ => {}
        }
    }
    settle(world);
    world.check_rest();
    while !world.open.is_empty() {
        world.close(0);
    }
    settle(world);
    world.check_rest();
    world.check_nothing_left();
}

/// Lets everything happen that can.
fn settle(world: &mut World) {
    loop {
        let received = (0..world.ends.len()).filter(|end| world.receive(*end)).count();
        if !world.advance() && received == 0 && !world.expire() {
            return;
        }
    }
}

#[test]
fn scripts_without_faults_lose_nothing() {
    let script = Script { cuts: false, closed_ends: false, ticks: false };
    assert_eq!(run_all(script), 0);
}

#[test]
fn scripts_with_cut_connections() {
    let script = Script { cuts: true, closed_ends: false, ticks: false };
    assert!(run_all(script) > 100);
}

#[test]
fn scripts_with_closed_endpoints() {
    let script = Script { cuts: false, closed_ends: true, ticks: false };
    assert!(run_all(script) > 5);
}

#[test]
fn scripts_with_everything() {
    let script = Script { cuts: true, closed_ends: true, ticks: true };
    assert!(run_all(script) > 100);
}
