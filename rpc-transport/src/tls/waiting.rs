//! Waiting for a socket, until a deadline.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::polling;

/// Waits until a socket is ready, or broken. Returns `false` when the deadline came first.
pub(super) fn wait(
    socket: &impl AsFd,
    what: PollFlags,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    loop {
        if poll(&mut [PollFd::new(socket, what)], deadline)? {
            return Ok(true);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(false);
        }
    }
}

/// Waits until one of them is ready; `false` if none is, because the deadline came, or for
/// no reason.
pub(super) fn poll(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    let rest = deadline.map(|deadline| {
        let rest = deadline.saturating_duration_since(Instant::now());
        // Far beyond any time for which a system stays up.
        let longest = i64::from(i32::MAX);
        Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(longest).min(longest),
            tv_nsec: rest.subsec_nanos().into(),
        }
    });
    polling::poll(fds, rest.as_ref())
}
