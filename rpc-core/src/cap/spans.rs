//! Spans of calls.
//!
//! Note [spans]
//!
//! A call has a span on each side, of the level `DEBUG`. That of the caller begins when the
//! call is made; that of the callee when its method begins, on whose thread it is entered
//! while the method runs. Both end when the call is over. If a method passes its call on,
//! the span in which it does that is the parent of the next callee's. While a call is answered its span
//! is entered, so that what is told of its failure belongs to it.
//!
//! A cell has the spans among its listeners. So a call of which no subscriber wants to know
//! has nothing of all this, and costs a look at the level that is wanted, on each side.
//! Subscribers are called in the middle of steps: see [`log`](crate::log).

use crate::error::Error;
use crate::log::{self, Span};
use crate::transport::PeerDescription;
use crate::work::origin;

/// What a span says about a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Outgoing,
    Incoming,
    /// The call was passed on within this span, which is the application's, or a method's.
    PassedOn,
}

/// One of the spans of a call.
pub(super) struct CallSpan {
    span: Span,
    kind: Kind,
    /// Whether the call was sent to a peer.
    sent: bool,
}

impl CallSpan {
    pub(super) fn new(span: Span, kind: Kind) -> Self {
        CallSpan { span, kind, sent: false }
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    pub(super) fn is_of(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// Notes that the call leaves as a question. Returns the span in which that is to be
    /// [recorded](record_question).
    pub(super) fn is_sent(&mut self) -> Option<Span> {
        if self.kind != Kind::Outgoing {
            return None;
        }
        self.sent = true;
        Some(self.span.clone())
    }

    /// Tells of a failure that nobody else tells.
    pub(super) fn ends(&self, failure: Option<&Error>) {
        if let Some(error) = failure
            && self.kind == Kind::Outgoing
            && !self.sent
        {
            let _entered = self.span.enter();
            log::tell!(DEBUG, %error, internal = error.internal(), "a call failed in this process");
        }
    }
}

/// Records in the caller's span by which question the call left. May be called under an
/// order lock, as the log is.
pub(super) fn record_question(span: &Span, connection: u64, peer: &PeerDescription, id: u32) {
    span.record("connection", connection);
    span.record("peer", &*origin::named(peer));
    span.record("question", id);
}
