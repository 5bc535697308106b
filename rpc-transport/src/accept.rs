//! Waiting for clients until the listener is closed.

use std::io;
use std::net::Shutdown;
#[cfg(unix)]
use std::os::unix::net::UnixStream as WakeStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use capnp_threads_core::Error;
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::BorrowedFd;

use crate::failure::is_exhaustion;
use crate::fork::Owner;
use crate::polling::poll;

/// Systems without pairs of sockets make one of a connection to themselves.
#[cfg(not(unix))]
use std::net::TcpStream as WakeStream;

/// The pause after an attempt for which the system had no room. The client still waits,
/// so that the next attempt would fail at once.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Lets any number of threads wait at a listening socket until the listener is closed.
///
/// They wait for one end of a pair of sockets, too. Shutting down the other end makes it
/// readable for good, whoever else has copies of it: no wake-up is lost or used up, and a
/// forked child cannot keep its parent from closing.
pub(crate) struct Gate {
    wake: WakeStream,
    closer: Closer,
    /// The system was out of something at the last attempt.
    exhausted: AtomicBool,
}

impl Gate {
    pub(crate) fn new() -> io::Result<Self> {
        let (wake, waker) = pair()?;
        let shared =
            Closing { waker, owner: Owner::this_process(), closed: AtomicBool::new(false) };
        Ok(Gate {
            wake,
            closer: Closer { shared: Arc::new(shared) },
            exhausted: AtomicBool::new(false),
        })
    }

    pub(crate) fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// What is readable once the listener is closed.
    #[cfg(all(feature = "tls", unix))]
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        rustix::fd::AsFd::as_fd(&self.wake)
    }

    /// Waits for a client at `listener`, which does not block, and takes it with
    /// `accept`.
    pub(crate) fn accept<T>(
        &self,
        listener: BorrowedFd<'_>,
        accept: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.exhausted.swap(false, Ordering::SeqCst) {
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
                    // In a forked child, the parent's closing shows here alone.
                    if !fds[0].revents().is_empty() {
                        self.closer.shared.closed.store(true, Ordering::SeqCst);
                        return Err(closed());
                    }
                }
                Err(error) => {
                    self.exhausted.store(is_exhaustion(&error), Ordering::SeqCst);
                    return Err(error);
                }
                Ok(stream) => return Ok(stream),
            }
        }
    }
}

#[cfg(unix)]
fn pair() -> io::Result<(WakeStream, WakeStream)> {
    WakeStream::pair()
}

#[cfg(not(unix))]
fn pair() -> io::Result<(WakeStream, WakeStream)> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let here = WakeStream::connect(listener.local_addr()?)?;
    loop {
        // Somebody else may have been faster.
        let (there, from) = listener.accept()?;
        if from == here.local_addr()? {
            return Ok((here, there));
        }
    }
}

/// Where vats come into a network, if they do.
pub(crate) struct Entrance<L> {
    /// Taken away at the shutdown, so that whoever comes after it is refused by
    /// the system instead of waiting to be accepted.
    listener: Mutex<Option<Arc<L>>>,
    shut: Mutex<bool>,
    changed: Condvar,
}

impl<L> Entrance<L> {
    /// Of a network into which nobody comes.
    pub(crate) fn closed_to_all() -> Self {
        Entrance { listener: Mutex::new(None), shut: Mutex::new(false), changed: Condvar::new() }
    }

    pub(crate) fn at(listener: L) -> Self {
        Entrance { listener: Mutex::new(Some(Arc::new(listener))), ..Self::closed_to_all() }
    }

    pub(crate) fn listener(&self) -> Option<Arc<L>> {
        self.listener.lock().clone()
    }

    /// The listener to accept from. Without one, waits for the shutdown.
    pub(crate) fn wait(&self) -> Option<Arc<L>> {
        let listener = self.listener();
        if listener.is_none() {
            let mut shut = self.shut.lock();
            while !*shut {
                self.changed.wait(&mut shut);
            }
        }
        listener
    }

    pub(crate) fn is_shut(&self) -> bool {
        *self.shut.lock()
    }

    /// Lets nobody in any more. Returns the listener, which is to be closed.
    pub(crate) fn shut(&self) -> Option<Arc<L>> {
        *self.shut.lock() = true;
        self.changed.notify_all();
        self.listener.lock().take()
    }
}

/// Lets [`Vat::serve`](capnp_threads_core::Vat::serve) accept from a listener with the
/// methods `accept` and `closer`.
macro_rules! listens {
    ($listener:ty) => {
        /// For [`Vat::serve`](capnp_threads_core::Vat::serve).
        impl capnp_threads_core::network::Listen for $listener {
            fn next_peer(&self) -> capnp_threads_core::Result<Option<Transport>> {
                crate::accept::next_peer(self.accept(), &self.closer())
            }

            fn closing(&self) -> Box<dyn Fn() + Send + Sync> {
                let closer = self.closer();
                Box::new(move || closer.close())
            }
        }
    };
}
pub(crate) use listens;

/// What an attempt to accept means to a vat that serves.
pub(crate) fn next_peer<T>(
    attempt: io::Result<T>,
    closer: &Closer,
) -> capnp_threads_core::Result<Option<T>> {
    match attempt {
        Ok(peer) => Ok(Some(peer)),
        Err(_) if closer.is_closed() => Ok(None),
        Err(error) if is_exhaustion(&error) => Err(Error::overloaded(format!(
            "cannot accept a peer, because this process or system is out of file descriptors \
             or memory: {error}; raise the limit (ulimit -n), or lower \
             AcceptLimits::connections"
        ))),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the listener was closed")
}

/// Closes a listener from any thread.
#[derive(Clone)]
pub struct Closer {
    shared: Arc<Closing>,
}

struct Closing {
    waker: WakeStream,
    owner: Owner,
    closed: AtomicBool,
}

impl Closer {
    /// Closes the listener: threads that wait in its `accept` return with an error, and
    /// so does every later call. The address is free again when the listener is dropped.
    /// Closing twice is harmless.
    ///
    /// In a child that was forked since the listener was made, this ends later calls of
    /// the child alone.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        if self.shared.owner.is_this_process() {
            // It fails if it was done before.
            let _ = self.shared.waker.shutdown(Shutdown::Both);
        }
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::SeqCst)
    }
}
