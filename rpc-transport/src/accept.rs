//! Waiting for connections until another thread has enough of it.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// How long accepting pauses after the system had no room for a connection,
/// which is still waiting and would fail again at once.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Lets threads wait for a listening socket and be called off.
///
/// The end of a pipe becomes readable when the other end is closed, and stays so:
/// no wake-up is lost or used up, however many threads wait.
pub(crate) struct Gate {
    wake: PipeReader,
    closer: Closer,
    /// The system was out of something at the last attempt.
    exhausted: AtomicBool,
}

impl Gate {
    pub(crate) fn new() -> io::Result<Self> {
        let (wake, held) = io::pipe()?;
        Ok(Gate {
            wake,
            closer: Closer { held: Arc::new(Mutex::new(Some(held))) },
            exhausted: AtomicBool::new(false),
        })
    }

    pub(crate) fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Waits for a connection at `listener`, which does not block, and takes it
    /// with `accept`.
    pub(crate) fn accept<T>(
        &self,
        listener: BorrowedFd<'_>,
        accept: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.exhausted.swap(false, Ordering::Relaxed) {
            let mut fds = [PollFd::new(&self.wake, PollFlags::IN)];
            poll(&mut fds, Some(&PAUSE))?;
        }
        loop {
            if self.closer.is_closed() {
                return Err(closed());
            }
            match accept() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [
                        PollFd::new(&self.wake, PollFlags::IN),
                        PollFd::new(&listener, PollFlags::IN),
                    ];
                    poll(&mut fds, None)?;
                }
                Err(error) => {
                    self.exhausted.store(is_exhaustion(&error), Ordering::Relaxed);
                    return Err(error);
                }
                Ok(stream) => return Ok(stream),
            }
        }
    }
}

fn poll(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<()> {
    match rustix::event::poll(fds, timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the listener was closed")
}

/// Whether an error says that the system was out of something: file descriptors,
/// memory or buffers. Such a lack may pass, and says nothing about the peer.
pub fn is_exhaustion(error: &io::Error) -> bool {
    let exhaustion = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhaustion.contains(&errno))
}

/// Closes a listener from any thread.
#[derive(Clone)]
pub struct Closer {
    held: Arc<Mutex<Option<PipeWriter>>>,
}

impl Closer {
    /// Makes the listener accept no more: threads that wait in its `accept`
    /// return with an error, and so does every later call. The address is free
    /// again when the listener is dropped. Closing twice is harmless.
    pub fn close(&self) {
        self.held.lock().take();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.held.lock().is_none()
    }
}
