//! What is wanted of this library, beside others and by itself.

use std::fmt;

use benches::table::{Spread, Table, markdown};

/// How the first peer should compare.
struct Goal {
    figure: &'static str,
    against: &'static str,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

/// What is measured by itself has no ratio.
const ITSELF: &str = "";

const CXX: &str = "C++ 1.3";
const RAW: &str = "raw";

const GOALS: [Goal; 14] = [
    goal("ping_us_p50", RAW, AtMost(1.2)),
    goal("ping_us_p50", CXX, AtMost(1.0)),
    goal("pipelined_w16_calls_per_s", CXX, AtLeast(2.0)),
    goal("pipelined_w128_calls_per_s", CXX, AtLeast(3.0)),
    goal("pipelined_w1024_calls_per_s", CXX, AtLeast(4.0)),
    goal("pipelined_w128_client_cpu_us", CXX, AtMost(0.4)),
    goal("chain10_us", CXX, AtMost(0.6)),
    goal("stream64k_MBps", CXX, AtLeast(1.3)),
    goal("stream64k_MBps", RAW, AtLeast(0.8)),
    goal("local_call_us", ITSELF, AtMost(1.0)),
    goal("memory_call_us", ITSELF, AtMost(2.0)),
    goal("two_vats_call_us", ITSELF, AtMost(1.5)),
    goal("two_vats_call_us", CXX, AtMost(0.4)),
    goal("endpoint_round_trip_us", RAW, AtMost(1.3)),
];

const fn goal(figure: &'static str, against: &'static str, bound: Bound) -> Goal {
    Goal { figure, against, bound }
}

/// The goals that a table has the figures for, and how far each was reached.
pub(crate) struct Judged<'a>(pub(crate) &'a Table);

impl fmt::Display for Judged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.peers().first() else { return Ok(()) };
        let mut lines = vec![["goal", "measured", "reached"].map(str::to_owned).into()];
        for goal in &GOALS {
            let spread = match goal.against {
                ITSELF => self.0.spread(goal.figure, first),
                other => self.0.ratio(goal.figure, first, other),
            };
            if let Some(spread) = spread {
                lines.push(vec![
                    goal.to_string(),
                    spread.to_string(),
                    goal.judge(spread).to_owned(),
                ]);
            }
        }
        if lines.len() == 1 { Ok(()) } else { markdown(f, &lines) }
    }
}

impl Goal {
    fn judge(&self, spread: Spread) -> &'static str {
        let reached = |value: f64| match self.bound {
            AtMost(bound) => value <= bound,
            AtLeast(bound) => value >= bound,
        };
        match (reached(spread.median), reached(spread.least) && reached(spread.greatest)) {
            (true, true) => "yes, in every round",
            (true, false) => "yes",
            (false, _) => "no",
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bound) = match self.bound {
            AtMost(bound) => ("≤", bound),
            AtLeast(bound) => ("≥", bound),
        };
        match self.against {
            ITSELF => write!(f, "{} {sign} {bound}", self.figure),
            other => write!(f, "{} {sign} {bound} × {other}", self.figure),
        }
    }
}
