//! Two vats that dial each other, in every order in which what they say can arrive.

use std::collections::HashSet;

use super::*;

fn id(byte: u8) -> VatId {
    VatId::from_public_key([byte; 32])
}

/// The smaller one and the greater one.
const IDS: [u8; 2] = [1, 2];

/// What is on its way on a connection, or what its ends have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reached,
    Hello(Stamp),
    /// The other side has it and has not answered.
    Kept,
    Accepted(Stamp),
    Crossed,
    /// Nothing more happens to it.
    Decided,
}

/// A connection, by who has dialled it.
#[derive(Clone, Debug)]
struct Line {
    dialler: usize,
    stage: Stage,
    /// The session that each side has on it.
    ends: [Option<SessionNumber>; 2],
}

#[derive(Clone, Debug)]
struct World {
    vats: [Pairs<usize, usize>; 2],
    /// The dial under way of each.
    dials: [Option<usize>; 2],
    lines: Vec<Line>,
    /// How often each may still dial.
    attempts: [u32; 2],
    /// How many sessions may still be ended, and connections broken.
    ends: u32,
    breaks: u32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Dial(usize),
    Introduce(usize),
    Deliver(usize),
    Answer(usize),
    Break(usize),
    End(usize, usize),
    Notice(usize, usize),
}

impl World {
    fn new(attempts: [u32; 2], ends: u32, breaks: u32) -> Self {
        let vats = IDS.map(|byte| Pairs::new(id(byte), 1));
        World { vats, dials: [None; 2], lines: Vec::new(), attempts, ends, breaks }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for side in 0..2 {
            if self.attempts[side] > 0 && self.dials[side].is_none() {
                steps.push(Step::Dial(side));
            }
        }
        for (index, line) in self.lines.iter().enumerate() {
            match line.stage {
                Stage::Reached => steps.push(Step::Introduce(index)),
                Stage::Hello(_) => steps.push(Step::Deliver(index)),
                Stage::Accepted(_) | Stage::Crossed => steps.push(Step::Answer(index)),
                Stage::Kept | Stage::Decided => {}
            }
            if self.breaks > 0 && self.dials[line.dialler] == Some(index) {
                steps.push(Step::Break(index));
            }
            for side in 0..2 {
                if line.ends[side].is_some() {
                    if self.ends > 0 {
                        steps.push(Step::End(index, side));
                    }
                    let other_has_come = line.stage == Stage::Decided;
                    if line.ends[1 - side].is_none() && other_has_come {
                        steps.push(Step::Notice(index, side));
                    }
                }
            }
        }
        steps
    }

    fn peer(side: usize) -> VatId {
        id(IDS[1 - side])
    }

    fn dial(&mut self, side: usize) {
        self.lines.push(Line { dialler: side, stage: Stage::Reached, ends: [None; 2] });
        self.dials[side] = Some(self.lines.len() - 1);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Dial(side) => {
                self.attempts[side] -= 1;
                if self.vats[side].connect(Self::peer(side)) {
                    self.dial(side);
                }
            }
            Step::Introduce(index) => {
                let side = self.lines[index].dialler;
                let stamp = self.vats[side].introduce(Self::peer(side));
                self.lines[index].stage = stamp.map_or(Stage::Decided, Stage::Hello);
                if stamp.is_none() {
                    self.dials[side] = None;
                }
            }
            Step::Deliver(index) => self.deliver(index),
            Step::Answer(index) => self.answer(index),
            Step::Break(index) => {
                self.breaks -= 1;
                self.lines[index].stage = Stage::Decided;
                self.fail(self.lines[index].dialler);
            }
            Step::End(index, side) => {
                self.ends -= 1;
                self.end(index, side);
            }
            Step::Notice(index, side) => self.end(index, side),
        }
    }

    fn deliver(&mut self, index: usize) {
        let Stage::Hello(stamp) = self.lines[index].stage else { unreachable!() };
        let side = 1 - self.lines[index].dialler;
        match self.vats[side].arrived(Self::peer(side), stamp, index) {
            Arrival::Accepted(begun, _) => self.accept(index, side, begun),
            Arrival::Kept(replaced) => {
                self.lines[index].stage = Stage::Kept;
                self.cross(replaced);
            }
            Arrival::Crossed(_) => self.cross(Some(index)),
            Arrival::Older(_) => panic!("there is one incarnation"),
        }
    }

    fn accept(&mut self, index: usize, side: usize, begun: Begun<usize>) {
        self.lines[index].stage = match self.lines[index].stage {
            // It broke meanwhile.
            Stage::Decided => Stage::Decided,
            _ => Stage::Accepted(self.vats[side].stamp()),
        };
        self.begin(index, side, begun);
    }

    fn begin(&mut self, index: usize, side: usize, begun: Begun<usize>) {
        self.lines[index].ends[side] = Some(begun.number);
        assert_eq!(self.vats[side].set_session(Self::peer(side), begun.number, index), None);
        if let Some(old) = begun.replaced {
            self.lines[old].ends[side] = None;
        }
    }

    fn cross(&mut self, index: Option<usize>) {
        if let Some(index) = index
            && self.lines[index].stage != Stage::Decided
        {
            self.lines[index].stage = Stage::Crossed;
        }
    }

    fn answer(&mut self, index: usize) {
        let side = self.lines[index].dialler;
        let answer = std::mem::replace(&mut self.lines[index].stage, Stage::Decided);
        match answer {
            Stage::Accepted(stamp) => {
                match self.vats[side].accepted(Self::peer(side), stamp) {
                    Outcome::Begun(begun, crossed) => {
                        self.cross(crossed);
                        self.begin(index, side, begun);
                    }
                    Outcome::Crossed => {}
                    Outcome::Theirs(begun, theirs) => self.accept(theirs, side, begun),
                }
                self.dials[side] = None;
            }
            Stage::Crossed => match self.vats[side].crossed(Self::peer(side)) {
                Crossing::Here => self.dials[side] = None,
                Crossing::Passed => self.dial(side),
                Crossing::Unknown => panic!("both are honest: {self:#?}"),
            },
            _ => unreachable!(),
        }
    }

    fn fail(&mut self, side: usize) {
        self.dials[side] = None;
        if let Failure::Theirs(begun, index) = self.vats[side].failed(Self::peer(side)) {
            self.accept(index, side, begun);
        }
    }

    fn end(&mut self, index: usize, side: usize) {
        let Some(number) = self.lines[index].ends[side].take() else { unreachable!() };
        self.vats[side].over(Self::peer(side), number);
    }

    /// Nothing is on its way any more.
    fn check(&self, should_be_connected: bool) {
        let sessions = [0, 1].map(|side| {
            let pairs = &self.vats[side].pairs;
            assert!(pairs.values().all(|pair| pair.dial.is_none()), "{self:#?}");
            let mut own =
                self.lines.iter().enumerate().filter(|(_, line)| line.ends[side].is_some());
            let session = own.next().map(|(index, _)| index);
            assert!(own.next().is_none(), "two sessions: {self:#?}");
            assert_eq!(self.vats[side].session_count(), usize::from(session.is_some()));
            session
        });
        assert_eq!(sessions[0], sessions[1], "{self:#?}");
        assert!(!should_be_connected || sessions[0].is_some(), "{self:#?}");
        // Nothing is kept of vats with which there is nothing.
        assert!(sessions[0].is_some() || self.vats.iter().all(|vat| vat.pairs.is_empty()));
    }
}

/// Goes through all orders. Returns how many states there were.
fn explore(start: World, should_be_connected: bool) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        if !seen.insert(format!("{world:?}")) {
            continue;
        }
        let steps = world.steps();
        if steps.is_empty() {
            world.check(should_be_connected);
        }
        for step in steps {
            let mut next = world.clone();
            next.step(step);
            open.push(next);
        }
    }
    seen.len()
}

#[test]
fn vats_that_dial_each_other_have_one_connection_in_the_end() {
    for attempts in [[1, 0], [0, 1], [1, 1], [2, 1], [1, 2], [2, 2]] {
        assert!(explore(World::new(attempts, 0, 0), true) > 3);
    }
}

#[test]
fn both_vats_mean_the_same_connection_whatever_ends_and_breaks() {
    for (attempts, ends, breaks) in [([2, 1], 1, 0), ([1, 2], 1, 0), ([1, 1], 0, 2), ([2, 2], 1, 1)]
    {
        assert!(explore(World::new(attempts, ends, breaks), false) > 100);
    }
}

fn stamp(incarnation: u64, serial: u64) -> Stamp {
    Stamp { incarnation, serial }
}

#[test]
fn a_vat_that_has_restarted_takes_the_place_of_what_it_was() {
    let mut own: Pairs<u8, u8> = Pairs::new(id(1), 1);
    let Arrival::Accepted(first, 1) = own.arrived(id(2), stamp(5, 9), 1) else { panic!() };
    own.set_session(id(2), first.number, 11);
    // What comes late of the session's own past.
    assert_eq!(own.arrived(id(2), stamp(5, 9), 2), Arrival::Crossed(2));
    // Another program with the same key, which began earlier.
    assert_eq!(own.arrived(id(2), stamp(4, 99), 3), Arrival::Older(3));
    let Arrival::Accepted(next, 4) = own.arrived(id(2), stamp(6, 1), 4) else { panic!() };
    assert_eq!(next.replaced, Some(11));
    // The end of the old one does not matter any more.
    assert_eq!(own.over(id(2), first.number), None);
    assert_eq!(own.session_count(), 1);
    assert_eq!(own.set_session(id(2), first.number, 12), Some(12));
}

#[test]
fn one_dial_of_each_vat_is_kept_at_the_most() {
    let mut own: Pairs<u8, u8> = Pairs::new(id(1), 1);
    assert!(own.connect(id(2)));
    assert!(own.introduce(id(2)).is_some());
    assert_eq!(own.arrived(id(2), stamp(5, 2), 1), Arrival::Kept(None));
    assert_eq!(own.arrived(id(2), stamp(5, 1), 2), Arrival::Crossed(2));
    assert_eq!(own.arrived(id(2), stamp(5, 3), 3), Arrival::Kept(Some(1)));
    let Failure::Theirs(begun, 3) = own.failed(id(2)) else { panic!() };
    assert_eq!(begun.replaced, None);
    assert_eq!(own.session_count(), 1);
}

#[test]
fn an_acceptance_that_comes_late_does_not_undo_a_later_dial() {
    // The greater one's dial was accepted, that session has ended, and the other dials.
    let asked = || {
        let mut own: Pairs<u8, u8> = Pairs::new(id(2), 1);
        assert!(own.connect(id(1)));
        assert!(own.introduce(id(1)).is_some());
        let Arrival::Accepted(begun, _) = own.arrived(id(1), stamp(5, 3), 1) else { panic!() };
        own.set_session(id(1), begun.number, 11);
        own
    };
    assert_eq!(asked().accepted(id(1), stamp(5, 2)), Outcome::Crossed);
    // But one that they say after that dial means that they have given it up.
    let Outcome::Begun(begun, None) = asked().accepted(id(1), stamp(5, 3)) else { panic!() };
    assert_eq!(begun.replaced, Some(11));
}

#[test]
fn what_they_hold_on_to_is_told_from_what_has_come_and_gone() {
    let mut own: Pairs<u8, u8> = Pairs::new(id(2), 1);
    assert!(own.connect(id(1)));
    assert!(own.introduce(id(1)).is_some());
    assert_eq!(own.crossed(id(1)), Crossing::Unknown);
    let Arrival::Accepted(begun, _) = own.arrived(id(1), stamp(5, 3), 1) else { panic!() };
    own.over(id(1), begun.number);
    assert_eq!(own.crossed(id(1)), Crossing::Passed);
    // It does not explain the answer to the next one.
    assert!(own.introduce(id(1)).is_some());
    assert_eq!(own.crossed(id(1)), Crossing::Unknown);
}
