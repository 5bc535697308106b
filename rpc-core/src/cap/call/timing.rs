//! How a call ends because its time is over.
//!
//! Note [deadlines]
//!
//! A deadline covers a whole call: the wait for room, the sending, and the wait for the
//! answer. Who enforces it depends on who waits.
//!
//! - A thread that makes the call and waits for it in one step enforces the deadline
//!   itself, and gives the call up by dropping it.
//! - The deadline of a call that was sent first, and may be waited for later, is in the
//!   process's list: Note [timer]. When the deadline passes, the call fails for everybody,
//!   the capabilities that were pipelined from it are broken, and the peer is sent a
//!   Finish. A call that still waits in a queue is taken out of it, and a method of this
//!   process learns of a cancellation.
//!
//! Which time counts is decided where the call is made, before it waits for anything: the
//! caller's, or else that of the client (`with_timeout`), or else that of the connection
//! over which the call would be sent now. A call that waits in a promise has no connection
//! yet. If nothing was decided before, the connection over which it leaves decides, and
//! its time runs from then on.
//!
//! A call that is passed on for a peer is not limited by any of these: its caller decides
//! how long it waits, and cancels it. Nor is a call of which only the pipeline is wanted,
//! which is not over before the last capability is dropped; its deadline covers only the
//! wait for room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CallCell, Phase};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Timeout};
use crate::wire::Hint;
use crate::work::timer::{self, Expire, Ticket};

/// What ends a call that is not answered.
#[derive(Default)]
pub(super) enum Time {
    /// Not decided yet: the connection over which the call leaves decides.
    #[default]
    Open,
    /// Only its caller, at this time.
    UpToTheCaller(Deadline),
    /// The process's list, when the call's entry there is due.
    Limited(Ticket),
}

impl CallCell {
    /// Leaves the end of the call to its caller, whatever the connection's default.
    pub(crate) fn is_up_to_the_caller(&self, until: Deadline) {
        self.decide(Time::UpToTheCaller(until));
    }

    /// When the call ends if it is not answered, as far as that is decided.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state.lock().time {
            Time::Open => None,
            Time::UpToTheCaller(until) => until.time(),
            Time::Limited(ticket) => Some(ticket.time()),
        }
    }

    /// Ends the call at this time, if it is not over by then.
    ///
    /// # Errors
    /// The system has no thread to give: see [`timer::at`].
    pub(crate) fn ends_at(self: &Arc<Self>, time: Instant) -> Result<()> {
        let this: Arc<dyn Expire> = Arc::clone(self) as _;
        let ticket = timer::at(time, Arc::downgrade(&this))?;
        self.decide(Time::Limited(ticket));
        Ok(())
    }

    /// Ends a call of a peer after this time, if it is not over by then. Must not be called
    /// under a lock.
    pub(crate) fn ends_after(self: &Arc<Self>, timeout: Duration) {
        if let Some(time) = Deadline::after(timeout).time()
            && let Err(error) = self.ends_at(time)
        {
            self.complete(Err(error));
        }
    }

    /// Ends the call after this time, unless something else was decided before. Must not
    /// be called under a lock.
    pub(crate) fn ends_by_default(self: &Arc<Self>, timeout: Duration) {
        if let Some(time) = Deadline::after(timeout).time()
            && self.is_undecided()
            && let Err(error) = self.ends_at(time)
        {
            self.complete(Err(error));
        }
    }

    /// Whether the connection over which the call leaves decides its deadline.
    pub(crate) fn is_undecided(&self) -> bool {
        self.is_own()
            && self.hint != Hint::OnlyPipeline
            && matches!(self.state.lock().time, Time::Open)
    }

    fn decide(&self, time: Time) {
        let mut state = self.state.lock();
        let is_over =
            matches!(state.phase, Phase::Returning(..) | Phase::Completing(_) | Phase::Done(_));
        // A call that is over needs no ticket, and would keep it.
        let unused = if is_over { time } else { std::mem::replace(&mut state.time, time) };
        drop(state);
        drop(unused);
    }
}

impl Expire for CallCell {
    fn expire(self: Arc<Self>) {
        let question = match &self.state.lock().phase {
            Phase::Waiting => None,
            Phase::Asked(question) | Phase::Redirected(question) => Some(Arc::clone(question)),
            Phase::Returning(..) | Phase::Completing(_) | Phase::Done(_) => return,
        };
        let error = Error::timed_out(
            Timeout::MayHaveRun,
            "the call was not answered before its deadline and was given up",
        );
        // The answer may come at this moment: the first transaction decides.
        if let Some(question) = question {
            question.give_up(&error);
        }
        self.end(Some(error));
    }
}
