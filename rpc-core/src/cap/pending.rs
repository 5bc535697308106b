//! The untyped handle on a call that was started.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

#[cfg(test)]
use crate::cap::call::CallCell;
use crate::cap::call::Interest;
use crate::cap::client::Client;
use crate::cap::effects;
use crate::cap::payload::{Outcome, Payload};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Timeout};
use crate::work::progress::OwnQuestion;
use crate::work::role;

/// A call that was started. Any thread may wait for its outcome, more than once.
///
/// Dropping the last handle, and the last capability that was pipelined from it,
/// cancels the call: the callee is told, and may stop working on it.
///
/// As a [`Future`] it needs no runtime of its own; any executor can poll it.
#[derive(Clone)]
pub struct Pending(Interest);

impl Pending {
    pub(crate) fn new(interest: Interest) -> Self {
        Pending(interest)
    }

    /// Waits for the outcome, without a time limit.
    ///
    /// # Errors
    /// The call failed, or this thread must not wait because it serves a
    /// connection, or runs a method whose own call was cancelled
    /// ([`Error::is_cancellation`]).
    pub fn wait(&self) -> Result<Payload> {
        if let Some(outcome) = self.try_result() {
            return outcome;
        }
        self.wait_before(Deadline::NEVER)
    }

    /// Waits for the outcome, but no longer than `timeout`. The call itself goes on
    /// when time is up; drop this to cancel it.
    ///
    /// # Errors
    /// The errors of [`wait`](Self::wait), and when time is up one that [is a
    /// timeout](Error::is_timeout).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Payload> {
        match self.try_result() {
            Some(outcome) => outcome,
            None => self.wait_before(Deadline::after(timeout)),
        }
    }

    /// Waits for the outcome, but no longer than until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<Payload> {
        if let Some(outcome) = self.try_result() {
            return outcome;
        }
        self.wait_before(Deadline::at(deadline))
    }

    fn wait_before(&self, deadline: Deadline) -> Result<Payload> {
        effects::catch_up();
        self.outcome_before(deadline)?.unwrap_or_else(|| Err(too_late()))
    }

    /// Waits for the outcome until the deadline, and then gives the call up.
    pub(crate) fn end_before(self, deadline: Deadline) -> Result<Payload> {
        if let Some(outcome) = self.try_result() {
            return outcome;
        }
        self.outcome_before(deadline)?.unwrap_or_else(|| {
            let reason = "the call was not answered in time and was given up";
            Err(Error::timed_out(Timeout::MayHaveRun, reason))
        })
    }

    /// Waits for the outcome; `None` if the deadline comes first.
    fn outcome_before(&self, deadline: Deadline) -> Result<Option<Outcome>> {
        // The call goes on when the wait fails.
        self.0.cell().wait(deadline).map_err(Error::unanswered)
    }

    /// The question by which the call was sent to a peer, while it is not answered.
    pub(crate) fn question(&self) -> Option<OwnQuestion> {
        self.0.cell().question()
    }

    /// The outcome, if it has arrived. Does not wait.
    pub fn try_result(&self) -> Option<Result<Payload>> {
        effects::catch_up();
        self.0.cell().outcome()
    }

    /// Runs a closure with the outcome on a worker, once the outcome has arrived. The
    /// call goes on even if this handle is dropped.
    pub fn on_resolve(&self, closure: impl FnOnce(Result<Payload>) + Send + 'static) {
        let keep = self.clone();
        self.0.cell().on_done(
            role::current_executor(),
            Box::new(move |outcome| {
                drop(keep);
                closure(outcome);
            }),
        );
    }

    /// Keeps the call going until it is answered, and then runs a closure of this
    /// library on the thread that brings the answer. The closure must not wait.
    pub(crate) fn keep_until_done(self, closure: impl FnOnce(&Outcome) + Send + 'static) {
        let cell = Arc::clone(self.0.cell());
        cell.tell_when_done(Box::new(move |outcome| {
            closure(outcome);
            drop(self);
        }));
    }

    /// Runs a closure of this library on the thread that brings the outcome. It does not keep
    /// the call going, and must not wait.
    pub(crate) fn when_done(&self, closure: impl FnOnce(&Outcome) + Send + 'static) {
        self.0.cell().tell_when_done(Box::new(closure));
    }

    #[cfg(test)]
    pub(crate) fn cell(&self) -> &Arc<CallCell> {
        self.0.cell()
    }

    /// The capability that the results will hold at the end of `path`, a list of
    /// pointer fields. It can be called at once: calls on it are sent before the
    /// results have arrived. The same path gives the same capability every time.
    pub fn pipelined(&self, path: &[u16]) -> Client {
        self.0.cell().pipelined(path)
    }
}

fn too_late() -> Error {
    Error::timed_out(
        Timeout::MayHaveRun,
        "the call was not answered in time; it goes on until it is dropped",
    )
}

impl Future for Pending {
    type Output = Result<Payload>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.try_result() {
            return Poll::Ready(outcome);
        }
        self.0.cell().wake_on_done(context.waker());
        // If the outcome comes after this look, the waker registered above is woken; if
        // the outcome came before, this look finds it.
        match self.try_result() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.0.cell().outcome()).finish()
    }
}
