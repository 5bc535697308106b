//! What goes wrong, as values.
//!
//! An [`Error`] is what a call fails with: it has one of the four kinds that the
//! protocol knows and travels over the wire as an `Exception`. It is cheap to
//! clone, because one failure often has many observers.

use std::fmt;
use std::sync::Arc;

use crate::protocol::Detail;

/// The result of everything that can fail as a call fails.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a caller should react to a failure (the protocol's `Exception.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something went wrong and trying again will not help.
    Failed,
    /// A resource was exhausted for now; try again later, and less often.
    Overloaded,
    /// The connection to some needed capability was lost; re-establish it first.
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
/// Equality compares kind and reason. `Display` prints `kind: reason`.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    reason: String,
    trace: String,
    details: Vec<(u64, Vec<u8>)>,
    /// What only debug mode tells a peer.
    internal: String,
    origin: Origin,
}

/// What an error comes from, where that is not for peers to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Usual,
    /// A method waited whose call was cancelled.
    Cancellation,
}

impl Error {
    /// An error of the given kind; `reason` should tell the reader what to do.
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self::with_parts(kind, reason.into(), String::new(), Vec::new())
    }

    /// A failure that trying again will not mend.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, reason)
    }

    /// A resource is exhausted for now.
    pub fn overloaded(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Overloaded, reason)
    }

    /// A connection that the call needed is gone.
    pub fn disconnected(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Disconnected, reason)
    }

    /// The callee does not have the method.
    pub fn unimplemented(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, reason)
    }

    pub(crate) fn with_parts(
        kind: ErrorKind,
        reason: String,
        trace: String,
        details: Vec<(u64, Vec<u8>)>,
    ) -> Self {
        let (internal, origin) = (String::new(), Origin::Usual);
        Error(Arc::new(Inner { kind, reason, trace, details, internal, origin }))
    }

    /// What a wait fails with, in a method that has allowed it, when the call that the
    /// method runs for is cancelled.
    pub(crate) fn cancelled() -> Self {
        Self::failed("the call that this method runs for was cancelled")
            .change(|inner| inner.origin = Origin::Cancellation)
    }

    /// Whether this says that a wait was given up because the call that the method
    /// runs for was cancelled, see
    /// [`IncomingCall::allow_cancellation`](crate::IncomingCall::allow_cancellation).
    /// Its kind is `Failed`. A peer that it is told to does not know the difference.
    pub fn is_cancellation(&self) -> bool {
        self.0.origin == Origin::Cancellation
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Inner {
            kind: self.kind(),
            reason: self.reason().into(),
            trace: self.0.trace.clone(),
            details: self.0.details.clone(),
            internal: self.0.internal.clone(),
            origin: self.0.origin,
        };
        change(&mut inner);
        Error(Arc::new(inner))
    }

    /// The same error with detail that stays inside this process, unless the
    /// connection that it leaves by is in debug mode.
    #[must_use]
    pub fn with_internal(&self, detail: impl Into<String>) -> Self {
        self.change(|inner| inner.internal = detail.into())
    }

    /// Detail that is not for peers; empty when there is none.
    pub fn internal(&self) -> &str {
        &self.0.internal
    }

    /// The error as a peer may see it.
    pub(crate) fn for_peer(&self, detail: Detail) -> Self {
        if self.0.internal.is_empty() {
            return self.clone();
        }
        self.change(|inner| {
            let internal = std::mem::take(&mut inner.internal);
            if detail == Detail::Shown {
                inner.reason = format!("{}: {internal}", inner.reason);
            }
        })
    }

    /// The same error with a trace: where it happened, in a form that only
    /// people read. It survives hops over the wire.
    #[must_use]
    pub fn with_trace(&self, trace: impl Into<String>) -> Self {
        self.change(|inner| inner.trace = trace.into())
    }

    /// The same error with one more detail for programs to read, under an id
    /// that its author chose at random, as capability schemas choose theirs.
    #[must_use]
    pub fn with_detail(&self, id: u64, data: Vec<u8>) -> Self {
        self.change(|inner| inner.details.push((id, data)))
    }

    /// How a caller should react.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened, for people. An error that was received carries the text
    /// that its origin wrote, with no prefix added on the way.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Where it happened, for people; empty when its origin gave none.
    pub fn trace(&self) -> &str {
        &self.0.trace
    }

    /// The detail stored under `id`, if its origin attached one.
    pub fn detail(&self, id: u64) -> Option<&[u8]> {
        self.details().find(|detail| detail.0 == id).map(|detail| detail.1)
    }

    /// All details, in the order in which they were attached.
    pub fn details(&self) -> impl ExactSizeIterator<Item = (u64, &[u8])> {
        self.0.details.iter().map(|(id, data)| (*id, data.as_slice()))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind()).field("reason", &self.reason());
        if !self.trace().is_empty() {
            out.field("trace", &self.trace());
        }
        if !self.0.details.is_empty() {
            out.field("details", &self.0.details.len());
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

/// Reading a message yields the capnp crate's errors; they keep their kind.
impl From<capnp::Error> for Error {
    fn from(error: capnp::Error) -> Self {
        let kind = match error.kind {
            capnp::ErrorKind::Overloaded => ErrorKind::Overloaded,
            capnp::ErrorKind::Disconnected => ErrorKind::Disconnected,
            capnp::ErrorKind::Unimplemented => ErrorKind::Unimplemented,
            _ => ErrorKind::Failed,
        };
        let reason = match (error.kind, error.extra.is_empty()) {
            // These four say nothing beyond the kind, which we keep anyway.
            (
                capnp::ErrorKind::Failed
                | capnp::ErrorKind::Overloaded
                | capnp::ErrorKind::Disconnected
                | capnp::ErrorKind::Unimplemented,
                false,
            ) => error.extra,
            _ => error.to_string(),
        };
        Error::new(kind, reason)
    }
}

impl From<Error> for capnp::Error {
    fn from(error: Error) -> Self {
        let reason = error.reason().to_owned();
        match error.kind() {
            ErrorKind::Failed => capnp::Error::failed(reason),
            ErrorKind::Overloaded => capnp::Error::overloaded(reason),
            ErrorKind::Disconnected => capnp::Error::disconnected(reason),
            ErrorKind::Unimplemented => capnp::Error::unimplemented(reason),
        }
    }
}

impl From<std::str::Utf8Error> for Error {
    fn from(error: std::str::Utf8Error) -> Self {
        Error::failed(format!("text is not valid UTF-8: {error}"))
    }
}

impl From<capnp::NotInSchema> for Error {
    fn from(error: capnp::NotInSchema) -> Self {
        Error::failed(format!("a value is not in this version of the schema: {error}"))
    }
}

/// A lost connection is `disconnected`, exhaustion is `overloaded`, everything
/// else `failed`.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::ConnectionRefused
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::UnexpectedEof => ErrorKind::Disconnected,
            Io::OutOfMemory | Io::QuotaExceeded | Io::StorageFull => ErrorKind::Overloaded,
            _ => ErrorKind::Failed,
        };
        Error::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_kind_and_reason_through_the_capnp_crate_and_back() {
        for kind in [
            ErrorKind::Failed,
            ErrorKind::Overloaded,
            ErrorKind::Disconnected,
            ErrorKind::Unimplemented,
        ] {
            let error = Error::new(kind, "the reason");
            let back = Error::from(capnp::Error::from(error.clone()));
            assert_eq!(back, error);
            assert_eq!(back.reason(), "the reason");
        }
    }

    #[test]
    fn details_are_found_by_id() {
        let error = Error::failed("x").with_detail(7, vec![1]).with_detail(8, vec![2, 3]);
        assert_eq!(error.detail(8), Some(&[2, 3][..]));
        assert_eq!(error.detail(9), None);
        assert_eq!(error.with_trace("here").details().len(), 2);
    }
}
