//! Waiting for descriptors.

use std::io;

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

/// Waits until one of them is ready. Returns `false` if none is: the time is over, or a
/// signal ended the wait.
pub(crate) fn poll(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<bool> {
    match rustix::event::poll(fds, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
