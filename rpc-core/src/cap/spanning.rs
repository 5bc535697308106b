//! How the spans of calls begin: Note [spans].

use super::call::CallCell;
use super::client::Client;
use super::interface::Method;
use super::object::Dispatch;
use super::spans::{CallSpan, Kind};
use crate::log::{self, Entered, Span};
use crate::panics;
use crate::work::origin;

/// Makes a span whose parent is `$parent`, if there is one, or else the span in which the
/// thread is.
macro_rules! child {
    ($parent:expr, $($span:tt)+) => {
        match $parent.and_then(|parent: Span| parent.id()) {
            Some(parent) => Span::made(|| {
                tracing::span!(target: "capnp_threads_core::calls", parent: parent, tracing::Level::DEBUG, $($span)+)
            }),
            None => Span::made(|| {
                tracing::span!(target: "capnp_threads_core::calls", tracing::Level::DEBUG, $($span)+)
            }),
        }
    };
}

impl CallCell {
    /// Begins the callee's span, and enters it. Must not be called under a lock.
    #[inline]
    pub(super) fn enter_span(
        &self,
        server: &dyn Dispatch,
        interface: u64,
        method: u16,
    ) -> Option<Entered> {
        log::wanted!(DEBUG).then(|| self.begin_incoming(server, interface, method))
    }

    #[cold]
    fn begin_incoming(&self, server: &dyn Dispatch, interface: u64, method: u16) -> Entered {
        let name = || {
            panics::catch(|| server.method_name(interface, method))
                .ok()
                .flatten()
                .unwrap_or_else(|| Method::of(interface, method).to_string())
        };
        let object = || panics::catch(|| server.name().map(str::to_owned)).ok().flatten();
        let over = self.came_over();
        let peer = over.as_ref().map(|connection| origin::named(connection.peer()));
        let parent = self.span_of(Kind::PassedOn).or_else(|| self.span_of(Kind::Outgoing));
        let span = child!(
            parent,
            "incoming call",
            method = name(),
            object = object(),
            connection = over.as_ref().map(|connection| connection.number()),
            peer = peer.as_deref().unwrap_or("this process"),
            question = self.answer_id().map(|id| id.0),
        );
        let entered = span.enter();
        self.keep_span(CallSpan::new(span, Kind::Incoming));
        entered
    }

    /// Notes the span in which the call is passed on. Must not be called under a lock.
    #[inline]
    pub(super) fn is_passed_on(&self) {
        if log::wanted!(DEBUG) {
            self.keep_current_span();
        }
    }

    #[cold]
    fn keep_current_span(&self) {
        let span = Span::made(tracing::Span::current);
        if span.id().is_some() {
            self.keep_span(CallSpan::new(span, Kind::PassedOn));
        }
    }

    /// Begins the caller's span. Must not be called under a lock.
    #[inline]
    pub(super) fn begin_span(&self, target: &Client, interface: u64, method: u16) {
        if log::wanted!(DEBUG) {
            self.begin_outgoing(target, interface, method);
        }
    }

    #[cold]
    fn begin_outgoing(&self, target: &Client, interface: u64, method: u16) {
        let span = child!(
            None,
            "outgoing call",
            method = %Method::of(interface, method),
            object = ?target,
            connection = tracing::field::Empty,
            peer = tracing::field::Empty,
            question = tracing::field::Empty,
        );
        self.keep_span(CallSpan::new(span, Kind::Outgoing));
    }
}
