//! Answers: what the peer asked us.
//!
//! # State model
//!
//! ```text
//!            ┌──Return sent──► Returned ──Finish──► gone
//! Running ───┤
//!            └──Finish: Return(canceled) sent──► gone
//! ```
//!
//! - **Running**: the call is on its way, or somebody works on it. Calls that the
//!   peer pipelines on it wait in, or pass through, the cell's fields.
//! - **Returned**: the capabilities in the results are what the Return described
//!   (Note [described path]); pipelined calls still find them in the cell, also
//!   when the peer has released the exports themselves.
//!
//! A Finish that comes first is answered at once: the peer gets its id back, and
//! the work, which is told that nobody wants it any more, may go on for itself.
//!
//! A call that was made for its pipeline only goes the same way, but no Return is sent:
//! Note [pipeline only].
//!
//! Results without capabilities leave nothing behind: the Return says
//! `noFinishNeeded` and the entry is gone at once. A Finish that comes
//! nevertheless is ignored.

use std::sync::Arc;

use crate::cap::call::{CallCell, Interest};
use crate::ids::{ExportId, Serial};

/// One answer.
pub(crate) struct Answer {
    pub(crate) serial: Serial,
    pub(crate) cell: Arc<CallCell>,
    /// The peer's wish to know. Dropping it cancels the call. Absent once a
    /// question of ours has taken the outcome: then only that one counts.
    pub(crate) interest: Option<Arc<Interest>>,
    pub(crate) state: State,
    pub(crate) results_to: ResultsTo,
}

pub(crate) enum State {
    Running,
    Returned {
        /// What the results exported, once for each descriptor: the Finish may
        /// give them back.
        exports: Vec<ExportId>,
    },
}

/// Where the results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultsTo {
    Caller,
    /// They stay here, for a question of ours that the peer answers with them.
    Kept,
    /// That question has taken them.
    Taken,
}
