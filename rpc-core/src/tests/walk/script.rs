//! Scripts: what a walk does, step by step. They come from a seed, can be printed
//! and replayed, and stay valid when steps are left out, because what a step names
//! is counted modulo what there is.

use std::fmt::Write;

/// One step. The numbers choose among what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step(pub(super) Do, pub(super) [u16; 4]);

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// Call a capability, with up to two capabilities.
    Call,
    /// Take a field of a call's results before they are there.
    Pipeline,
    /// Take a field of a call's results.
    Read,
    /// Lose interest in a call, or be done with it.
    DropCall,
    NewObject,
    NewPromise,
    /// Resolve a promise to a capability.
    Fulfil,
    /// Resolve a promise to null or an error.
    Reject,
    Clone,
    Drop,
    /// Answer a call with up to two capabilities.
    Answer,
    /// Say what the results of a call will have in them, before it is answered.
    Early,
    /// Answer a call with an error, or not at all.
    Fail,
    /// Answer a call by another call.
    TailCall,
    Bootstrap,
    /// Deliver one message.
    Deliver,
    /// Deliver all that one end of a connection has sent.
    Flush,
    /// From now on deliver what one end has sent only when there is nothing else, or when
    /// it is flushed.
    Delay,
    /// Run one job of an object.
    Run,
    /// Cut a connection.
    Cut,
    /// Set the flow limit of one end of a connection.
    Limit,
}

/// Which vats are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Pair,
    Chain,
    Triangle,
    /// Four vats, each linked with each.
    Mesh,
    /// Five vats in a circle.
    Ring,
}

impl Shape {
    /// Those that a walk chooses among, the frequent ones several times.
    const CHOICE: [Shape; 8] = [
        Shape::Pair,
        Shape::Pair,
        Shape::Pair,
        Shape::Chain,
        Shape::Chain,
        Shape::Triangle,
        Shape::Mesh,
        Shape::Ring,
    ];

    pub(super) fn vats(self) -> usize {
        match self {
            Shape::Pair => 2,
            Shape::Chain | Shape::Triangle => 3,
            Shape::Mesh => 4,
            Shape::Ring => 5,
        }
    }

    pub(super) fn links(self) -> &'static [(usize, usize)] {
        match self {
            Shape::Pair => &[(0, 1)],
            Shape::Chain => &[(0, 1), (1, 2)],
            Shape::Triangle => &[(0, 1), (1, 2), (0, 2)],
            Shape::Mesh => &[(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)],
            Shape::Ring => &[(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)],
        }
    }
}

/// Small, good enough, and the same everywhere: `SplitMix64`.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// How often each kind of step is taken, in proportion.
type Weights = [(Do, u64); 21];

const WEIGHTS: Weights = [
    (Do::Call, 150),
    (Do::Pipeline, 100),
    (Do::Read, 60),
    (Do::DropCall, 20),
    (Do::NewObject, 10),
    (Do::NewPromise, 50),
    (Do::Fulfil, 60),
    (Do::Reject, 4),
    (Do::Clone, 5),
    (Do::Drop, 5),
    (Do::Answer, 150),
    (Do::Early, 10),
    (Do::Fail, 6),
    (Do::TailCall, 25),
    (Do::Bootstrap, 10),
    (Do::Deliver, 400),
    (Do::Flush, 0),
    (Do::Delay, 0),
    (Do::Run, 200),
    (Do::Cut, 0),
    (Do::Limit, 0),
];

/// The walk of a seed.
pub(super) fn generate(seed: u64, steps: usize) -> (Shape, Vec<Step>) {
    let mut random = Random::new(seed);
    let shape = Shape::CHOICE[usize::try_from(random.below(8)).unwrap_or(0)];
    let mut weights = WEIGHTS;
    // Walks differ in what they do often: some hardly deliver, most never cut.
    for (what, weight) in &mut weights {
        *weight = *weight * (25 + random.below(176)) / 100;
        if *what == Do::Cut && random.below(6) == 0 {
            *weight = 3;
        }
        if *what == Do::Limit && random.below(3) == 0 {
            *weight = 20;
        }
        if *what == Do::Flush && random.below(3) == 0 {
            *weight = 30;
        }
        if *what == Do::Delay && random.below(3) == 0 {
            *weight = 15;
        }
    }
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut script = Vec::with_capacity(steps);
    for _ in 0..steps {
        let mut at = random.below(total);
        let mut chosen = Do::Deliver;
        for (what, weight) in &weights {
            if at < *weight {
                chosen = *what;
                break;
            }
            at -= weight;
        }
        let bits = random.next();
        let number = |shift: u32| u16::try_from((bits >> shift) & 0xffff).unwrap_or(0);
        script.push(Step(chosen, [number(0), number(16), number(32), number(48)]));
    }
    (shape, script)
}

/// A script as the body of a test that replays it.
pub(super) fn print(shape: Shape, script: &[Step]) -> String {
    let mut text = format!("replay(Shape::{shape:?}, &[\n");
    for Step(what, [a, b, c, d]) in script {
        writeln!(text, "    Step(Do::{what:?}, [{a}, {b}, {c}, {d}]),").unwrap();
    }
    text.push_str("]);");
    text
}

/// Leaves out steps as long as the walk still fails.
pub(super) fn shrink(script: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut script = script;
    let mut size = script.len() / 2;
    while size > 0 {
        let mut start = 0;
        let mut shorter = false;
        while start < script.len() {
            let end = (start + size).min(script.len());
            let rest: Vec<Step> = [&script[..start], &script[end..]].concat();
            if fails(&rest) {
                script = rest;
                shorter = true;
            } else {
                start = end;
            }
        }
        if !shorter || size > 1 {
            size /= 2;
        }
    }
    simplify(script, fails)
}

/// Makes the numbers small as long as the walk still fails.
fn simplify(script: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut script = script;
    for index in 0..script.len() {
        for place in 0..4 {
            for value in 0..8 {
                let before = script[index].1[place];
                if before <= value {
                    break;
                }
                script[index].1[place] = value;
                if fails(&script) {
                    break;
                }
                script[index].1[place] = before;
            }
        }
    }
    script
}
