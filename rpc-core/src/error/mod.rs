//! Errors as values.
//!
//! An [`Error`] is what a call fails with. It has one of the four kinds that the
//! protocol knows, and travels over the wire as an `Exception`. Cloning it is cheap,
//! because one failure often has many observers.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::budget::Charge;

mod convert;

pub use convert::ResultExt;

/// The id of the detail that marks the refusals of a server that is about to end.
const DRAINING: u64 = 0xd8a1_a7c3_c92f_6e05;

/// The result of an operation that can fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a caller should react to a failure (the protocol's `Exception.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something went wrong and trying again will not help.
    Failed,
    /// A resource was exhausted for now; try again later, and less often.
    Overloaded,
    /// The connection to a capability that was needed is lost; connect again first.
    Disconnected,
    /// The other side does not have this method; use another one.
    Unimplemented,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::Failed => "failed",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Disconnected => "disconnected",
            ErrorKind::Unimplemented => "unimplemented",
        })
    }
}

/// Why a call failed.
///
/// Equality compares kind and reason. `Display` prints `kind: reason`, and so does
/// `Debug`, because that is how an error is printed that `main` returns; `{:#?}` prints
/// all that is known.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
    /// This differs between calls that fail for the same reason.
    carried_out: CarriedOut,
}

struct Inner {
    kind: ErrorKind,
    reason: String,
    trace: String,
    details: Vec<(u64, Vec<u8>)>,
    /// What only debug mode tells a peer.
    internal: String,
    cause: Cause,
    /// What the error costs the peer that sent it.
    held: Option<Charge>,
    /// Where in this process the error was made; `None` if a peer sent it.
    location: Option<&'static Location<'static>>,
}

/// What has caused an error. Peers are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Usual,
    /// A method's wait was ended because its call was cancelled.
    Cancellation,
    /// The time that was allowed was over.
    Timeout(Timeout),
}

/// Whether a call that failed may have been carried out: whether it may be made again.
/// See [`Error::carried_out`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CarriedOut {
    /// It has not begun. Making it again does nothing twice.
    No,
    /// It was sent, and no answer has come. It may have been carried out, or still be under
    /// way: only what may be done twice may be done again.
    Maybe,
    /// The callee has answered with this error, which says what has been done.
    Answered,
}

/// How far something had come when the time for it was over: whether it may be tried
/// again. See [`Error::timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// Nothing was sent. Trying again does nothing twice.
    NeverSent,
    /// The call was sent. It may have been carried out, or still be under way: only what
    /// may be done twice may be tried again.
    MayHaveRun,
}

impl Error {
    /// An error of the given kind. `reason` should tell the reader what to do.
    #[track_caller]
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Error::of(Inner {
            kind,
            reason: reason.into(),
            trace: String::new(),
            details: Vec::new(),
            internal: String::new(),
            cause: Cause::Usual,
            held: None,
            location: Some(Location::caller()),
        })
    }

    fn of(inner: Inner) -> Self {
        Error { inner: Arc::new(inner), carried_out: CarriedOut::Answered }
    }

    /// A failure that trying again will not mend.
    #[track_caller]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, reason)
    }

    /// A resource is exhausted for now.
    #[track_caller]
    pub fn overloaded(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Overloaded, reason)
    }

    /// A connection that the call needed is gone.
    #[track_caller]
    pub fn disconnected(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Disconnected, reason)
    }

    /// The callee does not have the method.
    #[track_caller]
    pub fn unimplemented(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, reason)
    }

    /// An error that a peer sent.
    pub(crate) fn received(
        kind: ErrorKind,
        reason: String,
        trace: String,
        details: Vec<(u64, Vec<u8>)>,
    ) -> Self {
        let (internal, cause) = (String::new(), Cause::Usual);
        let (held, location) = (None, None);
        Error::of(Inner { kind, reason, trace, details, internal, cause, held, location })
    }

    /// The error of a wait that ended because the call of its method was cancelled and
    /// the method has allowed cancellation.
    #[track_caller]
    pub(crate) fn cancelled() -> Self {
        Self::failed("the call that this method runs for was cancelled")
            .change(|inner| inner.cause = Cause::Cancellation)
            .unanswered()
    }

    /// The error of something for which the time was over. Its kind is `Overloaded`.
    #[track_caller]
    pub fn timed_out(how_far: Timeout, reason: impl Into<String>) -> Self {
        let error = Self::overloaded(reason).change(|inner| inner.cause = Cause::Timeout(how_far));
        match how_far {
            Timeout::NeverSent => error.not_begun(),
            Timeout::MayHaveRun => error.unanswered(),
        }
    }

    /// Whether the call that failed with this error may have been carried out.
    ///
    /// This is about the call that returned the error. A method that returns the error of
    /// a call of its own answers with it, so its caller finds [`CarriedOut::Answered`];
    /// peers are told kind and reason alone. An error that is not that of a call says
    /// `Answered`, too.
    ///
    /// ```
    /// use capnp_threads_core::reconnect::CarriedOut;
    /// use capnp_threads_core::{Error, ErrorKind};
    ///
    /// /// Whether to make a call again that must not be carried out twice.
    /// fn may_be_repeated(error: &Error) -> bool {
    ///     match error.carried_out() {
    ///         CarriedOut::No => error.kind() != ErrorKind::Failed,
    ///         // The callee refused it.
    ///         CarriedOut::Answered => error.kind() == ErrorKind::Overloaded,
    ///         _ => false,
    ///     }
    /// }
    ///
    /// # let client = capnp_threads_core::Client::broken(Error::disconnected("gone"));
    /// # let empty = capnp_threads_core::untyped::Payload::empty().clone();
    /// let error = client.call(0, 0, empty).wait().unwrap_err();
    /// assert!(may_be_repeated(&error));
    /// ```
    pub fn carried_out(&self) -> CarriedOut {
        if self.is_draining() { CarriedOut::No } else { self.carried_out }
    }

    /// The same error, for a call that has not begun.
    #[must_use]
    pub(crate) fn not_begun(mut self) -> Self {
        self.carried_out = CarriedOut::No;
        self
    }

    /// The same error, for a call that was sent and not answered.
    #[must_use]
    pub(crate) fn unanswered(mut self) -> Self {
        self.carried_out = CarriedOut::Maybe;
        self
    }

    /// The same error, with which a callee answers.
    #[must_use]
    pub(crate) fn answered(mut self) -> Self {
        self.carried_out = CarriedOut::Answered;
        self
    }

    /// Whether this process gave up because the time that it allowed was over. The
    /// error's kind is `Overloaded`, but unlike other errors of this kind it does not
    /// come from the callee. A peer that is told the error cannot see the difference.
    pub fn is_timeout(&self) -> bool {
        self.timeout().is_some()
    }

    /// How far the call had come when its time was over; `None` if this is not the
    /// error of a [timeout](Self::is_timeout).
    ///
    /// ```
    /// use capnp_threads_core::{Error, ErrorKind, Timeout};
    ///
    /// /// Whether to make a call again that must not be carried out twice.
    /// fn may_be_repeated(error: &Error) -> bool {
    ///     match (error.timeout(), error.kind()) {
    ///         (Some(how_far), _) => how_far == Timeout::NeverSent,
    ///         // The callee refused it.
    ///         (None, kind) => kind == ErrorKind::Overloaded,
    ///     }
    /// }
    ///
    /// assert!(may_be_repeated(&Error::timed_out(Timeout::NeverSent, "no room")));
    /// assert!(!may_be_repeated(&Error::timed_out(Timeout::MayHaveRun, "no answer")));
    /// ```
    pub fn timeout(&self) -> Option<Timeout> {
        match self.inner.cause {
            Cause::Timeout(how_far) => Some(how_far),
            Cause::Usual | Cause::Cancellation => None,
        }
    }

    /// The error with which a server that is about to end answers new calls.
    #[track_caller]
    pub(crate) fn draining() -> Self {
        let reason = "this server is shutting down and takes no new calls; try another server";
        Self::disconnected(reason).with_detail(DRAINING, Vec::new())
    }

    /// Whether a server refused the call because it was about to end in an orderly way, see
    /// [`RpcSystem::drain`](crate::RpcSystem::drain). The call has not begun: it may be made
    /// again, with another server. The error's kind is `Disconnected`, so that whatever
    /// connects anew on such errors does so, too. Callers in other processes see it as well,
    /// through any number of hops; peers of other implementations find the detail with the
    /// id `0xd8a1a7c3c92f6e05`.
    pub fn is_draining(&self) -> bool {
        self.detail(DRAINING).is_some()
    }

    /// Whether a wait ended with this error because the call that the method runs for
    /// was cancelled, see
    /// [`IncomingCall::allow_cancellation`](crate::untyped::IncomingCall::allow_cancellation).
    /// The error's kind is `Failed`; a peer that is told the error cannot see the
    /// difference.
    pub fn is_cancellation(&self) -> bool {
        self.inner.cause == Cause::Cancellation
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Inner {
            kind: self.kind(),
            reason: self.reason().into(),
            trace: self.inner.trace.clone(),
            details: self.inner.details.clone(),
            internal: self.inner.internal.clone(),
            cause: self.inner.cause,
            held: self.inner.held.as_ref().map(Charge::again),
            location: self.inner.location,
        };
        change(&mut inner);
        Error { inner: Arc::new(inner), carried_out: self.carried_out }
    }

    /// The same error, for which this is charged as long as it is kept.
    pub(crate) fn charged(&self, charge: Charge) -> Self {
        self.change(|inner| inner.held = Some(charge))
    }

    /// The same error with detail that stays inside this process, unless the error is
    /// sent over a connection in debug mode.
    #[must_use]
    pub fn with_internal(&self, detail: impl Into<String>) -> Self {
        self.change(|inner| inner.internal = detail.into())
    }

    /// Detail that is not for peers; empty when there is none.
    pub fn internal(&self) -> &str {
        &self.inner.internal
    }

    /// The same error with a trace: where the error happened, in a form that only
    /// people read. The trace survives hops over the wire.
    #[must_use]
    pub fn with_trace(&self, trace: impl Into<String>) -> Self {
        self.change(|inner| inner.trace = trace.into())
    }

    /// The same error with one more detail for programs to read. The author of such
    /// details chooses their id at random, as the id of a schema is chosen.
    #[must_use]
    pub fn with_detail(&self, id: u64, data: Vec<u8>) -> Self {
        self.change(|inner| inner.details.push((id, data)))
    }

    /// How a caller should react.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// What happened, for people. An error that was received carries the text
    /// that its origin wrote, with no prefix added on the way.
    pub fn reason(&self) -> &str {
        &self.inner.reason
    }

    /// The same error with the reason, trace and details that a peer will be told.
    pub(crate) fn as_sent(&self, reason: String, trace: String, details: usize) -> Self {
        self.change(|inner| {
            inner.reason = reason;
            inner.trace = trace;
            inner.details.truncate(details);
            inner.internal.clear();
        })
    }

    /// The size of the error in bytes.
    pub(crate) fn size(&self) -> usize {
        let details: usize = self.details().map(|(_, data)| data.len()).sum();
        self.reason().len() + self.trace().len() + self.internal().len() + details
    }

    /// Where in this process the error was made or converted into this type; `None` if
    /// a peer sent it. Peers are not told, unless a [trace
    /// encoder](crate::ConnConfig::trace_encoder) does so.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.inner.location
    }

    /// Where the error happened, in a form that people read; empty when its origin gave
    /// no trace.
    pub fn trace(&self) -> &str {
        &self.inner.trace
    }

    /// The detail stored under `id`, if its origin attached one.
    pub fn detail(&self, id: u64) -> Option<&[u8]> {
        self.details().find(|detail| detail.0 == id).map(|detail| detail.1)
    }

    /// All details, in the order in which they were attached.
    pub fn details(&self) -> impl ExactSizeIterator<Item = (u64, &[u8])> {
        self.inner.details.iter().map(|(id, data)| (*id, data.as_slice()))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(self, f);
        }
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind()).field("reason", &self.reason());
        out.field("carried_out", &self.carried_out());
        if !self.trace().is_empty() {
            out.field("trace", &self.trace());
        }
        if !self.inner.details.is_empty() {
            out.field("details", &self.inner.details.len());
        }
        out.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind(), self.reason())
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.reason() == other.reason()
    }
}

impl Eq for Error {}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_found_by_id() {
        let error = Error::failed("x").with_detail(7, vec![1]).with_detail(8, vec![2, 3]);
        assert_eq!(error.detail(8), Some(&[2, 3][..]));
        assert_eq!(error.detail(9), None);
        assert_eq!(error.with_trace("here").details().len(), 2);
    }
    #[test]
    fn an_error_that_main_returns_is_printed_for_people() {
        let error = Error::failed("the disk is full").with_trace("in store.rs");
        assert_eq!(format!("{error:?}"), error.to_string());
        let everything = format!("{error:#?}");
        assert!(everything.contains("the disk is full") && everything.contains("in store.rs"));
    }
}
