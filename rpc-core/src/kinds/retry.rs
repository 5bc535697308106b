//! Making calls again that have failed.

use std::time::Duration;

use super::backoff::Backoff;
use crate::cap::effects;
use crate::deadline::Deadline;
use crate::error::{CarriedOut, Error, ErrorKind, Result};
use crate::work::event::Event;

/// Makes a call again when it has failed in a way that may pass: with the kinds
/// `disconnected` and `overloaded`.
///
/// Unless it is told that the call may be carried out twice, it makes the call again only
/// if it has not begun ([`CarriedOut::No`]), or if the callee has refused it as
/// `overloaded`. On a capability that is [connected anew](crate::reconnect), the next
/// attempt takes the next connection.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads_core::reconnect::{Backoff, Retry};
/// use rpc_schema::echo_capnp::echo;
/// # struct Echo;
/// # impl echo::Server for Echo {
/// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> capnp_threads_core::Result<()> {
/// #         Ok(())
/// #     }
/// # }
/// # let echo: echo::Client = capnp_threads_core::Vat::new().export(Echo);
///
/// let retry = Retry::new()
///     .attempts(5)
///     .backoff(Backoff::new(Duration::from_millis(50), Duration::from_secs(1)))
///     .idempotent();
/// let response = retry.call(|| echo.ping_request().call())?;
/// # drop(response);
/// # Ok::<(), capnp_threads_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "this makes no call by itself"]
pub struct Retry {
    attempts: u32,
    backoff: Backoff,
    within: Duration,
    repeatable: Repeatable,
}

/// Whether a call may be carried out more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeatable {
    No,
    Yes,
}

impl Retry {
    /// At most 3 attempts, with the default [`Backoff`] between them, of a call that must
    /// not be carried out twice.
    pub fn new() -> Self {
        Retry {
            attempts: 3,
            backoff: Backoff::default(),
            within: Duration::MAX,
            repeatable: Repeatable::No,
        }
    }

    /// Sets how many attempts are made at most. There is always a first one.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the pauses between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Begins no attempt later than this after the first one. An attempt that has begun is
    /// up to itself: use [`call_timeout`](crate::Request::call_timeout) in the closure.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Says that the call may be carried out more than once. Then it is also made again
    /// when nobody knows whether it was carried out.
    pub fn idempotent(mut self) -> Self {
        self.repeatable = Repeatable::Yes;
        self
    }

    /// Runs a closure that makes the call, until it succeeds, or fails in a way that will
    /// not pass. Waits between attempts.
    ///
    /// # Errors
    /// The error of the last attempt; or this thread must not wait.
    pub fn call<R>(&self, mut attempt: impl FnMut() -> Result<R>) -> Result<R> {
        let end = Deadline::after(self.within);
        let mut failures = 0_u32;
        loop {
            let error = match attempt() {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            failures = failures.saturating_add(1);
            if failures >= self.attempts || !self.may_pass(&error) {
                return Err(error);
            }
            let next = Deadline::after(self.backoff.pause(failures));
            if next.min(end) != next || end.has_passed() {
                return Err(error);
            }
            effects::catch_up();
            // Nothing happens but that time passes.
            Event::default().wait(next)?;
        }
    }

    fn may_pass(&self, error: &Error) -> bool {
        let passes = matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Overloaded)
            && !error.is_cancellation();
        let refused = error.kind() == ErrorKind::Overloaded;
        passes
            && match error.carried_out() {
                CarriedOut::No => true,
                CarriedOut::Maybe => self.repeatable == Repeatable::Yes,
                CarriedOut::Answered => refused || self.repeatable == Repeatable::Yes,
            }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry::new()
    }
}
