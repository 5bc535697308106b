//! What is told to the log.
//!
//! A subscriber of `tracing` is the application's. It is called in the middle of whatever
//! this library is doing, also under a lock, so a panic of it must go no further. Hence
//! events are made with [`tell!`](crate::log::tell) only.

use std::sync::Arc;

use crate::panics;

/// Makes an event of `tracing`, as `tracing::event!` does, but takes only the name of the
/// level. What a panic of the subscriber leaves out of the log is lost.
#[doc(hidden)]
#[macro_export]
macro_rules! __tell {
    ($level:ident, $($event:tt)+) => {
        if tracing::Level::$level <= tracing::level_filters::LevelFilter::current() {
            $crate::log::guarded(|| tracing::event!(tracing::Level::$level, $($event)+));
        }
    };
}

pub use crate::__tell as tell;

/// Whether events and spans of this level may be of interest to anybody.
#[doc(hidden)]
#[macro_export]
macro_rules! __wanted {
    ($level:ident) => {
        tracing::Level::$level <= tracing::level_filters::LevelFilter::current()
    };
}

pub use crate::__wanted as wanted;

/// Calls the subscriber.
pub fn guarded(event: impl FnOnce()) {
    // Where could it be told that there is no telling?
    let _ = panics::catch(event);
}

/// A span, whose subscriber may panic. Clones are the same span; only the first of them and
/// the last are known to the subscriber.
#[derive(Clone, Debug)]
pub struct Span(Option<Arc<Guarded>>);

#[derive(Debug)]
struct Guarded(Option<tracing::Span>);

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            guarded(|| drop(span));
        }
    }
}

impl Span {
    /// A span, as a macro of `tracing` makes it.
    pub fn made(make: impl FnOnce() -> tracing::Span) -> Self {
        let span = panics::catch(make).ok().filter(|span| !span.is_none());
        Span(span.map(|span| Arc::new(Guarded(Some(span)))))
    }

    fn span(&self) -> Option<&tracing::Span> {
        self.0.as_ref()?.0.as_ref()
    }

    /// The id by which other spans name it.
    pub fn id(&self) -> Option<tracing::Id> {
        self.span()?.id()
    }

    /// Sets a field that was left open.
    pub fn record(&self, field: &str, value: impl tracing::Value) {
        if let Some(span) = self.span() {
            guarded(|| {
                span.record(field, value);
            });
        }
    }

    /// Makes events of this thread belong to the span.
    pub fn enter(&self) -> Entered {
        let entered = self.clone();
        entered.call(|id, subscriber| subscriber.enter(id));
        Entered(entered)
    }

    fn call(&self, step: impl FnOnce(&tracing::Id, &tracing::Dispatch)) {
        if let Some(span) = self.span() {
            guarded(|| {
                span.with_subscriber(|(id, subscriber)| step(id, subscriber));
            });
        }
    }
}

/// While this exists, events of this thread belong to a span.
#[derive(Debug)]
pub struct Entered(Span);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.call(|id, subscriber| subscriber.exit(id));
    }
}

#[cfg(all(test, not(rpc_model)))]
pub(crate) mod tests;
