//! What a forked child does to what its parent has: nothing. Each test is alone in its
//! process, so that no other thread is anywhere in particular when it forks.

mod connections;
mod endpoints;
mod stores;
mod threads;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, mem};

/// A child of this process, which ends when this is dropped.
struct Child(libc::pid_t);

impl Child {
    /// Forks a child that does some work, reports whether that went well, and ends.
    fn start(work: impl FnOnce() -> bool) -> Self {
        // SAFETY: nothing of the child is shared with the parent but what the operating
        // system shares. Of locks that other threads of the parent may have held, the
        // child uses none but those of the allocator, which are prepared for this.
        match unsafe { libc::fork() } {
            0 => {
                let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
                // SAFETY: the child ends here, without running what the parent has
                // registered for its own end.
                unsafe { libc::_exit(i32::from(!done)) }
            }
            pid => {
                assert!(pid > 0, "{}", io::Error::last_os_error());
                Child(pid)
            }
        }
    }

    #[track_caller]
    fn succeeds(self) {
        assert_eq!(self.wait(), 0, "the child reports a failure");
    }

    fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: the status is written to a variable of ours.
        assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0);
        mem::forget(self);
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: it is a child of this process that was not waited for yet.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}
