//! The process to which threads belong.
//!
//! A child that was forked has a copy of everything, but none of the threads that would do
//! the work. Without a check it would wait for them for ever.

use std::mem;

use crate::error::{Error, Result};
use crate::process;

/// The process in which something was made that has threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    process: u32,
}

impl Home {
    /// The process that calls this.
    pub(crate) fn here() -> Self {
        Home { process: process::id() }
    }

    /// The id of the process.
    pub(crate) fn process(self) -> u32 {
        self.process
    }

    /// Whether this is that process.
    pub(crate) fn is_here(self) -> bool {
        self.process == process::id()
    }

    /// Refuses to go on in a child of that process.
    ///
    /// # Errors
    /// `failed`: this process was forked.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(Error::failed(format!(
            "this belongs to process {}, from which this process, {}, was forked, and its \
             threads are only there; fork before there are threads, or start another program",
            self.process,
            process::id()
        )))
    }
}

/// The handle of a thread that was started in this process.
///
/// In a child that was forked there is no such thread. The system may have given its stack, and
/// with that its name, to a thread of the child, and would take what is done with the handle
/// for meant for that one: even a handle that is only dropped lets go of a thread, and the
/// child could not wait for its own any more. So in a child this handle is forgotten.
///
/// ```
/// let thread = capnp_threads_core::OwnThread::new(std::thread::spawn(|| 7));
/// assert_eq!(thread.take().map(|handle| handle.join().ok()), Some(Some(7)));
/// ```
#[derive(Debug)]
pub struct OwnThread<H> {
    /// Taken when this is joined or dropped.
    handle: Option<H>,
    home: Home,
}

impl<H> OwnThread<H> {
    /// Of a thread that this process has just started.
    pub fn new(handle: H) -> Self {
        OwnThread { handle: Some(handle), home: Home::here() }
    }

    /// The handle, unless this process was forked from that of the thread.
    pub fn get(&self) -> Option<&H> {
        self.handle.as_ref().filter(|_| self.home.is_here())
    }

    /// As [`get`](Self::get), for good.
    pub fn take(mut self) -> Option<H> {
        self.taken()
    }

    fn taken(&mut self) -> Option<H> {
        let handle = self.handle.take();
        if self.home.is_here() {
            return handle;
        }
        mem::forget(handle);
        None
    }
}

impl<H> Drop for OwnThread<H> {
    fn drop(&mut self) {
        drop(self.taken());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use super::*;

    #[test]
    fn what_belongs_to_another_process_is_refused() {
        assert_eq!(Home::here().check(), Ok(()));
        let parent = Home { process: process::id() + 1 };
        let told = parent.check().err().map(|error| error.reason().to_owned());
        assert!(told.is_some_and(|told| told.contains("was forked")));
    }

    #[test]
    fn the_handle_of_another_processs_thread_is_neither_used_nor_dropped() {
        // Handles that are never dropped are no leak while something else leads to it.
        static HANDLE: LazyLock<Arc<()>> = LazyLock::new(Arc::default);
        let own = || OwnThread::new(Arc::clone(&HANDLE));
        let another = || {
            let mut thread = own();
            thread.home.process += 1;
            thread
        };
        assert!(own().get().is_some() && own().take().is_some());
        assert_eq!(Arc::strong_count(&HANDLE), 1);
        assert!(another().get().is_none() && another().take().is_none());
        assert_eq!(Arc::strong_count(&HANDLE), 3);
    }
}
