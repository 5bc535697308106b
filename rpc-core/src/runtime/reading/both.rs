//! One thread that makes the steps of both sides of a connection within this process.
//!
//! Note [both sides]
//!
//! Over a transport within a process, the thread that waits for an answer can do more than
//! read it: the other side's turn is here, too. Such a thread takes both turns before it sends
//! its call, makes the steps of the other side by which the call comes to its object, runs the
//! method (Note [own calls]), and makes the steps of its own side by which the answer comes
//! back. No other thread is woken.
//!
//! ```text
//! caller's thread
//!   both turns ─► send ─► steps of the other side: the call comes, and is kept
//!   no turn    ─► the method
//!   both turns ─► answer ─► steps of this side: the outcome ─► steps of the other side
//! ```
//!
//! - The turns are given away while the method runs, which may block for ever: others read
//!   meanwhile. When the method has returned, and before the answer is sent, the thread takes
//!   both turns again if they are free. A worker whose job ends with an answer does so, too:
//!   it brings the answer to its caller, and wakes nobody else.
//! - Both turns or none: threads try, and nobody waits for a turn. Whatever has no thread
//!   with the turn has a resident that is called for it, as ever (Note [reading in turns]).
//! - *No thread sleeps with a turn here.* A thread that finds nothing more to do gives both
//!   away and sleeps as one that waits for anything else: what comes later calls the
//!   resident, and a thread that calls meanwhile finds both turns free. Sleeping with the
//!   turn would save one wake-up for an answer that comes late, and cost every other call two.
//!   For the same reason no worker stays with the turn when it has nothing else to do.
//! - The thread is a guest on both sides: no application code of either vat runs on it but
//!   its own call's method. Everything else goes to that side's coordinator or workers. While
//!   a coordinator has not caught up nobody makes steps at that side, because that could mean
//!   to wait for it with the turn of the other side.
//! - A step of one side never runs in a step of the other one: no lock of one is held while
//!   the other's is taken, and what one step sends is read in a later one.
//! - What a reader does not [tell of](crate::transport::MessageReader::arrivals), as of a
//!   transport that wraps this one and may hold something back, its own receive thread reads.

use std::cell::Cell;
use std::sync::Arc;

use super::{Next, Reading, Turn, Whose};
use crate::cap::effects;
use crate::deadline::Deadline;
use crate::sync::Parker;
use crate::work::left;
use crate::work::own_call::{self, Expected};
use crate::work::progress::OwnQuestion;

/// How often a thread looks for more that is not about to wait. It makes up to 128 steps
/// each time.
const MAX_LOOKS: u32 = 4;

impl Reading {
    /// Lets threads of the other side's vat make the steps of this side from now on.
    pub(super) fn open_to_other(&self) {
        if let Some(arrivals) = self.standing.arrivals() {
            arrivals.set_reader(self.this.clone());
        }
    }

    /// The other side, if threads of this side may make its steps.
    fn other(&self) -> Option<Arc<Reading>> {
        self.standing.arrivals()?.reader_of_other()
    }

    /// Takes both turns, or none.
    pub(super) fn prepare_both(&self) -> bool {
        let Some(other) = self.other() else { return false };
        if !self.receiving.has_caught_up() || !other.receiving.has_caught_up() {
            return false;
        }
        let Some(here) = self.claim_elsewhere() else { return false };
        other.claim_elsewhere().is_some_and(|there| here.keep() && there.keep())
    }

    pub(super) fn give_up_both(&self) {
        let other = self.other();
        drop((other.as_deref().map(Reading::kept_turn), self.kept_turn()));
    }

    /// Makes the steps of what has come to both sides, whose turns this thread has, as
    /// [`Progress::advance`](crate::work::progress::Progress::advance) does.
    pub(super) fn advance_both(&self, own: &dyn Fn() -> Option<OwnQuestion>) -> bool {
        let here = self.kept_turn();
        // It exists as long as its turn is taken.
        let Some(other) = self.other() else { return false };
        let mut both = Both { here, there: other.kept_turn() };
        let looks = Cell::new(0);
        let goes_on = || looks.replace(looks.get() + 1) < MAX_LOOKS && !own_call::keeps();
        let number = self.machine.origin().number();
        let asked = own().filter(|asked| asked.connection == number);
        {
            let from = other.machine.origin();
            let _expected = asked.map(|asked| Expected::begin(from, asked.question));
            both.make_steps(goes_on);
        }
        if asked.is_some() && own_call::keeps() && own() != asked {
            own_call::give_back();
        }
        both.keep()
    }

    /// Makes the steps of what has come to both sides on a thread that waits.
    pub(super) fn make_steps_of_both(&self, parker: &Parker, deadline: Deadline, prepared: bool) {
        let is_over = || deadline.has_passed();
        let goes_on = || !parker.is_unparked() && !is_over();
        let other = self.other();
        let both = if prepared {
            let there = other.as_deref().map(Reading::kept_turn);
            let both = there.map(|there| Both { here: self.kept_turn(), there });
            both.filter(|_| effects::may_run())
        } else {
            None
        };
        if let Some(mut both) = both {
            both.make_steps(goes_on);
            return;
        }
        let sides = [other.as_deref(), Some(self)];
        for side in sides.into_iter().flatten() {
            if side.standing.is_readable()
                && side.receiving.has_caught_up()
                && self.is_for_guests()
                && let Some(mut turn) = side.claim_elsewhere()
            {
                turn.make_steps(goes_on);
            }
        }
    }
}

/// The turns of both sides.
struct Both<'a> {
    here: Turn<'a>,
    there: Turn<'a>,
}

impl Both<'_> {
    /// Makes the steps of what has come, until nothing is left or `goes_on` says no.
    fn make_steps(&mut self, goes_on: impl Fn() -> bool) {
        while goes_on() {
            // What one side has to send the other one is waiting for.
            left::write();
            if !self.there.make_steps(&goes_on) && !self.here.make_steps(&goes_on) {
                return;
            }
        }
    }

    /// Leaves both turns taken, for this thread to come back to, unless one of them is over.
    fn keep(self) -> bool {
        let Both { here, there } = self;
        here.next == Next::Later && there.next == Next::Later && here.keep() && there.keep()
    }
}

impl Turn<'_> {
    /// Makes the steps of what has come. Returns whether there was anything.
    fn make_steps(&mut self, goes_on: impl Fn() -> bool) -> bool {
        let reading = self.reading;
        let has_some = self.next == Next::Later
            && reading.standing.is_readable()
            && reading.receiving.has_caught_up();
        if has_some {
            reading.work_off(self, Whose::Guest, goes_on);
        }
        has_some
    }
}
