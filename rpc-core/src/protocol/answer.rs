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

use crate::budget::Charge;
use crate::cap::call::{CallCell, Interest};
use crate::ids::{ExportId, Serial};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// One answer.
pub(crate) struct Answer {
    pub(crate) serial: Serial,
    pub(crate) cell: Arc<CallCell>,
    /// The peer's interest in the outcome. Dropping it cancels the call. Absent once a
    /// question of this side has taken the outcome: then only that question counts.
    pub(crate) interest: Option<Interest>,
    pub(crate) state: State,
    pub(crate) results_to: ResultsTo,
    /// What the entry costs the peer.
    pub(super) charge: Charge,
}

pub(crate) enum State {
    /// The call's outcome is owed.
    Running { _owed: Owed },
    Returned {
        /// The exports in the results, one for each descriptor: the Finish may release
        /// them.
        exports: Vec<ExportId>,
        /// What the results cost the peer that are kept.
        kept: Option<Charge>,
    },
}

impl Answer {
    /// Notes that the Return was sent, or that none is wanted. `kept` is what results cost
    /// that stay.
    pub(super) fn returned(&mut self, exports: Vec<ExportId>, kept: Option<Charge>) {
        self.state = State::Returned { exports, kept };
    }

    /// Ends what counts of an answer that has left the table, and may be dropped only after
    /// the transaction.
    pub(super) fn left_table(mut self) -> Self {
        self.charge.give_back();
        self.returned(Vec::new(), None);
        self
    }
}

/// Counts what is owed to the peer, such as the outcomes of its calls, for threads that look without the
/// order lock.
#[derive(Clone, Default)]
pub(crate) struct Debts(Arc<AtomicUsize>);

/// One outcome that is owed; no longer when this is dropped.
pub(crate) struct Owed(Arc<AtomicUsize>);

impl Debts {
    pub(super) fn one_more(&self) -> Owed {
        self.0.fetch_add(1, Ordering::SeqCst);
        Owed(Arc::clone(&self.0))
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The destination of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultsTo {
    Caller,
    /// They stay here, for a question of this side that the peer answers with them, once.
    Yourself,
}
