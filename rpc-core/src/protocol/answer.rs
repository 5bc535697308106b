//! Answers: the peer's questions to this side.
//!
//! # State model
//!
//! ```text
//!           ┌──Return sent, or none is wanted──► Returned ──Finish──► gone
//! Running ──┼──Return(noFinishNeeded) sent──────────────────────────► gone
//!           └──Finish: Return sent, if one is wanted────────────────► gone
//!
//! Running, Returned ──connection ended──► gone
//! ```
//!
//! - **Running**: the call is on its way, or its callee works on it. Calls that the
//!   peer pipelines on it wait in, or pass through, the cell's fields.
//! - **Returned**: the capabilities in the results are what the Return described
//!   (Note [described path]). Pipelined calls still find them in the cell, even when
//!   the peer has released the exports themselves.
//!
//! A Finish that comes before the Return is answered at once, with `canceled`, or with
//! `resultsSentElsewhere` where the results were to stay here: the peer gets its id back.
//! The callee is told that the outcome is no longer wanted, and may go on.
//!
//! No Return is wanted of a call that was made for its pipeline only: Note [pipeline only].
//!
//! Results without capabilities leave nothing behind: the Return says
//! `noFinishNeeded` and the entry is gone at once. A Finish that comes
//! nevertheless is ignored.

use std::sync::Arc;

use crate::budget::{Budget, Charge, Kind};
use crate::cap::call::{CallCell, Interest};
use crate::ids::{ExportId, Serial};
use crate::sync::{Count, Shared};

/// One answer. It [leaves the table](Self::left_table) before it is dropped.
pub(crate) struct Answer {
    pub(crate) serial: Serial,
    pub(crate) call: Call,
    pub(crate) state: State,
    pub(crate) results_to: ResultsTo,
    /// The number of bytes that the entry costs the peer; 0 once they were given back.
    pub(super) cost: u64,
}

/// The call that is answered.
pub(crate) enum Call {
    /// The peer is interested in the outcome. Dropping this cancels the call.
    Wanted(Interest),
    /// A question of this side has taken the outcome: only that question counts.
    Taken(Arc<CallCell>),
}

pub(crate) enum State {
    /// The call's outcome is owed.
    Running,
    Returned {
        /// The exports in the results, one for each descriptor: the Finish may release
        /// them.
        exports: Vec<ExportId>,
        /// What the results cost the peer that are kept.
        kept: Option<Charge>,
    },
}

impl Answer {
    pub(crate) fn cell(&self) -> &Arc<CallCell> {
        match &self.call {
            Call::Wanted(interest) => interest.cell(),
            Call::Taken(cell) => cell,
        }
    }

    /// Takes the peer's interest; `None` if that was done before.
    pub(super) fn take_interest(&mut self) -> Option<Interest> {
        let taken = Call::Taken(Arc::clone(self.cell()));
        match std::mem::replace(&mut self.call, taken) {
            Call::Wanted(interest) => Some(interest),
            Call::Taken(_) => None,
        }
    }

    /// Notes that the Return was sent, or that none is wanted. `kept` is what results cost
    /// that stay.
    pub(super) fn returned(
        &mut self,
        running: &Shared,
        exports: Vec<ExportId>,
        kept: Option<Charge>,
    ) {
        if let State::Running = self.state {
            running.take_one();
        }
        self.state = State::Returned { exports, kept };
    }

    /// Ends an answer whose Return needs no Finish, and which has left the table. Whoever answers
    /// the call holds it, so that nothing of the application's is dropped with this.
    pub(super) fn answered(self, running: &Shared, budget: &Budget) {
        debug_assert!(Arc::strong_count(self.cell()) > 1, "nobody holds the call that is answered");
        match self.left_table(running, budget).call {
            Call::Wanted(interest) => interest.satisfied(),
            Call::Taken(_) => {}
        }
    }

    /// Ends what counts of an answer that has left the table, and may be dropped only after
    /// the transaction.
    pub(super) fn left_table(mut self, running: &Shared, budget: &Budget) -> Self {
        budget.give_back(Kind::Entry, std::mem::take(&mut self.cost));
        self.returned(running, Vec::new(), None);
        self
    }
}

/// The destination of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultsTo {
    Caller,
    /// They stay here, for a question of this side that the peer answers with them, once.
    Yourself,
}
