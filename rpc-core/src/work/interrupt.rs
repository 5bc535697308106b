//! How the waits of a method end when its call is cancelled.
//!
//! Note [interrupts]
//!
//! A method that has allowed cancellation ([`IncomingCall::allow_cancellation`]) has a
//! [`Scope`], which both its thread and its call can find. Cancelling the call marks
//! the scope and then unparks the thread. A wait of the method looks at the mark before
//! each sleep. So either the wait finds the mark, or the thread is unparked and looks
//! again.
//!
//! The scope belongs to the method and not to the thread: the scope is put aside while
//! other application code runs on the same stack, such as the method of an inline
//! object.
//!
//! [`IncomingCall::allow_cancellation`]: crate::untyped::IncomingCall::allow_cancellation

use std::cell::RefCell;
use std::sync::Arc;

use super::waiting;
use crate::error::Error;
use crate::sync::Unparker;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A method whose waits end when its call is cancelled.
pub(crate) struct Scope {
    cancelled: AtomicBool,
    /// The thread that runs the method.
    thread: Unparker,
}

impl Scope {
    /// Ends the wait that the method is in, and every later one.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

crate::sync::thread_local! {
    /// The scope of the method that runs on this thread, if it allowed cancellation.
    static CURRENT: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
}

fn swap(scope: Option<Arc<Scope>>) -> Option<Arc<Scope>> {
    // A thread that is ending runs no method.
    CURRENT.try_with(|current| current.replace(scope)).unwrap_or_default()
}

/// Gives the method on this thread a scope.
pub(crate) fn allow() -> Arc<Scope> {
    let scope =
        Arc::new(Scope { cancelled: AtomicBool::new(false), thread: waiting::this_thread() });
    drop(swap(Some(Arc::clone(&scope))));
    scope
}

/// Whether the method on this thread lets a cancellation end its waits.
pub(super) fn is_allowed() -> bool {
    CURRENT.try_with(|current| current.borrow().is_some()).unwrap_or_default()
}

/// Whether a wait of this thread may go on.
///
/// # Errors
/// The call of the method on this thread was cancelled, and the method lets a
/// cancellation end its waits.
pub(super) fn check() -> Result<(), Error> {
    let cancelled = CURRENT.try_with(|current| {
        current.borrow().as_ref().is_some_and(|scope| scope.cancelled.load(Ordering::SeqCst))
    });
    if cancelled == Ok(true) { Err(Error::cancelled()) } else { Ok(()) }
}

/// While this exists, the thread runs other code than the method whose scope it had,
/// and that code has allowed nothing.
pub(crate) struct Detached(Option<Arc<Scope>>);

impl Detached {
    pub(crate) fn begin() -> Self {
        Detached(swap(None))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        drop(swap(self.0.take()));
    }
}
