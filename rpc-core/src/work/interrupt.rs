//! How the waits of a method end when its call is cancelled.
//!
//! A method that has allowed it ([`IncomingCall::allow_cancellation`]) has a
//! [`Scope`]: its thread finds it, and so does its call. While the thread waits, the
//! scope knows for what. Whoever cancels the call marks the scope and then wakes that;
//! who waits registers first and then looks at the mark, under the lock of what it
//! waits for. So either the one finds whom to wake, or the other finds the mark.
//!
//! The scope belongs to the method and not to the thread: it is put aside while other
//! application code runs on the same stack, such as the method of an inline object.
//!
//! [`IncomingCall::allow_cancellation`]: crate::IncomingCall::allow_cancellation

use std::cell::RefCell;
use std::sync::Arc;

use crate::error::Error;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Something that threads wait for.
pub(crate) trait Wake: Send + Sync {
    /// Makes whoever waits look again. Takes the lock that they wait with, so must not
    /// be called under it.
    fn wake(&self);

    /// What they wait for has happened, as they find under the lock that they wait
    /// with: lets them go on. Takes no lock.
    fn tell(&self);
}

/// A method whose waits end when its call is cancelled.
#[derive(Default)]
pub(crate) struct Scope {
    cancelled: AtomicBool,
    /// What its thread waits for.
    waits_for: Mutex<Option<Arc<dyn Wake>>>,
}

impl Scope {
    /// Ends the wait that the method is in, and every later one.
    ///
    /// Must not be called under a lock.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let waits_for = self.waits_for.lock().clone();
        if let Some(waits_for) = waits_for {
            waits_for.wake();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
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
pub(crate) fn allow(scope: Arc<Scope>) {
    drop(swap(Some(scope)));
}

/// While this exists the thread runs something else than it did before, which has not
/// allowed anything.
pub(crate) struct Aside(Option<Arc<Scope>>);

impl Aside {
    pub(crate) fn begin() -> Self {
        Aside(swap(None))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(swap(self.0.take()));
    }
}

/// One wait, and whether it is to end.
pub(crate) struct Interrupt(Option<Arc<Scope>>);

impl Interrupt {
    /// This thread is going to wait for something.
    pub(crate) fn begin(what: Arc<dyn Wake>) -> Self {
        let scope = CURRENT.try_with(|current| current.borrow().clone()).unwrap_or_default();
        if let Some(scope) = &scope {
            *scope.waits_for.lock() = Some(what);
        }
        Interrupt(scope)
    }

    /// A wait that nothing ends.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Interrupt(None)
    }

    /// To be asked, under the lock of what is waited for, before each sleep.
    ///
    /// # Errors
    /// The wait is to end.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.0 {
            Some(scope) if scope.is_cancelled() => Err(Error::cancelled()),
            _ => Ok(()),
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(scope) = &self.0 {
            let before = scope.waits_for.lock().take();
            drop(before);
        }
    }
}
