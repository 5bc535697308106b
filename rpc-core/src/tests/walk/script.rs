//! Scripts: what a walk does, step by step. They can be printed and replayed, and stay
//! valid when steps are left out, because what a step names is counted modulo what
//! there is.

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
    /// From now on let nobody be introduced, or let everybody be.
    Introduce,
    /// From now on pass contacts on, or do not, and send calls along with Accepts, or do not.
    Habits,
    /// From now on those who look for a host wait until one finds it.
    Slow,
    /// Find a host.
    Find,
    /// Ask whether two capabilities are the same.
    Compare,
    /// Call a capability and say that its results, or its fields, are not wanted.
    Hinted,
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
    /// Three vats that introduce each other.
    Three,
    /// Four vats that introduce each other.
    Four,
    /// Five vats that introduce each other.
    Five,
}

impl Shape {
    /// Those that a walk chooses among, the frequent ones several times.
    pub(super) const CHOICE: [Shape; 14] = [
        Shape::Pair,
        Shape::Pair,
        Shape::Pair,
        Shape::Chain,
        Shape::Chain,
        Shape::Triangle,
        Shape::Mesh,
        Shape::Ring,
        Shape::Three,
        Shape::Three,
        Shape::Three,
        Shape::Four,
        Shape::Four,
        Shape::Five,
    ];

    pub(super) fn vats(self) -> usize {
        match self {
            Shape::Pair => 2,
            Shape::Chain | Shape::Triangle | Shape::Three => 3,
            Shape::Mesh | Shape::Four => 4,
            Shape::Ring | Shape::Five => 5,
        }
    }

    pub(super) fn links(self) -> &'static [(usize, usize)] {
        match self {
            Shape::Pair => &[(0, 1)],
            Shape::Chain => &[(0, 1), (1, 2)],
            Shape::Triangle | Shape::Three => &[(0, 1), (1, 2), (0, 2)],
            Shape::Mesh | Shape::Four => &[(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)],
            Shape::Ring => &[(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)],
            Shape::Five => {
                &[(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
            }
        }
    }

    /// Whether the vats introduce each other.
    pub(super) fn has_handoffs(self) -> bool {
        matches!(self, Shape::Three | Shape::Four | Shape::Five)
    }
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
