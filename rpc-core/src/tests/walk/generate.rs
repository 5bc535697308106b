//! How a seed becomes a script.
//!
//! What goes wrong takes several steps of which each is unlikely behind the one before:
//! messages pile up, a promise is resolved, one direction is delivered, a call is made. A
//! walk that does everything evenly seldom does that, and comes to no rest either, in which
//! references are found out to be close. So some walks are made of *moods*, some dozen
//! steps each, in which some kinds of steps are likely and others do not come up.

use super::script::{Do, Shape, Step};

/// Small, good enough, and the same everywhere: `SplitMix64`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap_or(0)]
    }
}

/// How often each kind of step is taken, in proportion. Those behind the first
/// `EVENLY_CHOSEN` are of walks in moods only: the other ones stay what they were, so that
/// their seeds go on to mean something.
const WEIGHTS: [(Do, u64); 27] = [
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
    (Do::Introduce, 0),
    (Do::Habits, 0),
    (Do::Slow, 0),
    (Do::Find, 0),
    (Do::Compare, 15),
    (Do::Hinted, 20),
];

const EVENLY_CHOSEN: usize = 26;

/// What vats are up to for a while.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Everything comes up as often as usual.
    Even,
    /// Much is said, and hardly anything arrives.
    Piling,
    /// What was said arrives, and is answered.
    Calm,
    /// One direction arrives at once, and another one late.
    Lagging,
    /// Promises are made and resolved.
    Resolving,
    /// Calls are answered by capabilities, which are called.
    Returning,
    /// Vats lose interest.
    Cancelling,
    /// Calls are held back, and wait.
    Holding,
    /// Calls are passed on.
    Passing,
    /// Capabilities are compared.
    Comparing,
    /// Vats are introduced, and take their time.
    Introducing,
}

impl Mood {
    /// Those that a walk chooses among, the frequent ones several times.
    const CHOICE: [Mood; 16] = [
        Mood::Even,
        Mood::Even,
        Mood::Piling,
        Mood::Piling,
        Mood::Calm,
        Mood::Calm,
        Mood::Lagging,
        Mood::Lagging,
        Mood::Resolving,
        Mood::Resolving,
        Mood::Returning,
        Mood::Cancelling,
        Mood::Holding,
        Mood::Passing,
        Mood::Comparing,
        Mood::Introducing,
    ];

    /// How often a kind of step is taken whose usual weight is this.
    // Each mood by itself.
    #[allow(clippy::match_same_arms)]
    fn weight(self, what: Do, usual: u64, shape: Shape) -> u64 {
        let handoffs = shape.has_handoffs();
        match (self, what) {
            (_, Do::Introduce | Do::Habits | Do::Slow | Do::Find) if !handoffs => 0,
            (Mood::Piling, Do::Deliver | Do::Run) => usual / 8,
            (Mood::Calm, Do::Deliver | Do::Run | Do::Answer) => usual * 3,
            (Mood::Calm, Do::Call) => usual / 3,
            (Mood::Calm | Mood::Lagging, Do::Flush) => 60,
            (Mood::Lagging, Do::Delay) => 60,
            (Mood::Resolving, Do::Fulfil) => usual * 5,
            (Mood::Resolving, Do::NewPromise) => usual * 2,
            (Mood::Returning, Do::Answer | Do::Read) => usual * 3,
            (Mood::Cancelling, Do::DropCall | Do::Drop) => usual * 8,
            (Mood::Holding, Do::Limit) => 60,
            (Mood::Holding, Do::DropCall) => usual * 4,
            (Mood::Passing, Do::TailCall) => usual * 8,
            (Mood::Passing, Do::DropCall) => usual * 2,
            (Mood::Comparing, Do::Compare) => usual * 20,
            (Mood::Introducing, Do::Introduce | Do::Habits) => 10,
            (Mood::Introducing, Do::Slow) => 20,
            (_, Do::Find) => 30,
            _ => usual,
        }
    }
}

/// The walk of a seed in which everything comes up evenly.
pub(super) fn evenly(seed: u64, steps: usize) -> (Shape, Vec<Step>) {
    weighted(seed, steps, WEIGHTS.get(..EVENLY_CHOSEN).unwrap_or_default().to_vec())
}

/// The walk of a seed in which vats compare more than anything else.
pub(super) fn comparing(seed: u64, steps: usize) -> (Shape, Vec<Step>) {
    let mut weights = WEIGHTS.get(..EVENLY_CHOSEN).unwrap_or_default().to_vec();
    for (what, weight) in &mut weights {
        if *what == Do::Compare {
            *weight = 300;
        }
    }
    weighted(seed, steps, weights)
}

fn weighted(seed: u64, steps: usize, mut weights: Vec<(Do, u64)>) -> (Shape, Vec<Step>) {
    let mut random = Random::new(seed);
    let shape = random.one_of(&Shape::CHOICE);
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
        if shape.has_handoffs() {
            match what {
                Do::Introduce | Do::Habits if random.below(4) == 0 => *weight = 5,
                Do::Slow if random.below(3) == 0 => *weight = 10,
                Do::Find => *weight = 30,
                _ => {}
            }
        }
    }
    let mut script = habits(&mut random, shape);
    script.extend((0..steps).map(|_| one_step(&mut random, &weights)));
    (shape, script)
}

/// What vats that introduce each other are used to.
fn habits(random: &mut Random, shape: Shape) -> Vec<Step> {
    if !shape.has_handoffs() {
        return Vec::new();
    }
    let number = |choices| u16::try_from(choices).unwrap_or(0);
    vec![Step(Do::Habits, [0, number(random.below(2)), number(random.below(4)), 0])]
}

/// Every vat holds back what another one calls while one of its calls is under way: what comes
/// behind held calls has to come behind them, whatever it is.
fn one_by_one(shape: Shape) -> impl Iterator<Item = Step> {
    let ends = u16::try_from(2 * shape.links().len()).unwrap_or(0);
    (0..ends).map(|end| Step(Do::Limit, [0, end, 0, 0]))
}

/// The walk of a seed that has moods.
pub(super) fn in_moods(seed: u64, steps: usize) -> (Shape, Vec<Step>) {
    let mut random = Random::new(seed);
    let shape = random.one_of(&Shape::CHOICE);
    // Walks differ in what they do often, too, and most never cut.
    let mut weights = WEIGHTS;
    for (what, weight) in &mut weights {
        *weight = *weight * (25 + random.below(176)) / 100;
        if *what == Do::Cut && random.below(6) == 0 {
            *weight = 3;
        }
        if *what == Do::Limit && random.below(3) == 0 {
            *weight = 20;
        }
    }
    let mut script = habits(&mut random, shape);
    if random.below(4) == 0 {
        script.extend(one_by_one(shape));
    }
    let mut left = steps;
    while left > 0 {
        let mood = random.one_of(&Mood::CHOICE);
        let weights = weights.map(|(what, usual)| (what, mood.weight(what, usual, shape)));
        let length = usize::try_from(10 + random.below(50)).unwrap_or(10).min(left);
        script.extend((0..length).map(|_| one_step(&mut random, &weights)));
        left -= length;
    }
    (shape, script)
}

fn one_step(random: &mut Random, weights: &[(Do, u64)]) -> Step {
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut at = random.below(total);
    let mut chosen = Do::Deliver;
    for (what, weight) in weights {
        if at < *weight {
            chosen = *what;
            break;
        }
        at -= weight;
    }
    let bits = random.next();
    let number = |shift: u32| u16::try_from((bits >> shift) & 0xffff).unwrap_or(0);
    Step(chosen, [number(0), number(16), number(32), number(48)])
}

/// The walk that bytes choose.
pub(super) fn chosen(shape: u8, steps: &[u8]) -> (Shape, Vec<Step>) {
    /// What goes wrong shows in fewer; a walk of more takes too long to find it.
    const MOST: usize = 400;
    let shape = Shape::CHOICE[usize::from(shape) % Shape::CHOICE.len()];
    let (steps, _) = steps.as_chunks();
    let steps = steps.iter().take(MOST).map(|[what, numbers @ ..]: &[u8; 5]| {
        // Bytes that are kept go on to mean what they have meant: new kinds of steps take
        // some of the last ones.
        let (what, _) = match what {
            250.. => WEIGHTS[26],
            _ => WEIGHTS[usize::from(*what) % 26],
        };
        Step(what, numbers.map(u16::from))
    });
    (shape, steps.collect())
}
