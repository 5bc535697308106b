//! What is told to the log.
//!
//! A subscriber of `tracing` is the application's. It is called in the middle of whatever
//! this library is doing, also under a lock, so a panic of it must go no further. Hence
//! events are made with [`tell!`](crate::log::tell) only.

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

/// Calls the subscriber.
pub fn guarded(event: impl FnOnce()) {
    // Where could it be told that there is no telling?
    let _ = panics::catch(event);
}

#[cfg(all(test, not(rpc_model)))]
pub(crate) mod tests;
