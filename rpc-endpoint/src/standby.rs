//! Waiting for a socket from which several threads may read.
//!
//! This needs Linux's `epoll` and `eventfd`. Elsewhere only the reading thread reads.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use self::linux::{Bell, Standby};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use self::nothing::{Bell, Standby};

use std::sync::Arc;

/// Why a thread that waited goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    expect(dead_code, reason = "no thread waits so there")
)]
pub(crate) enum Polled {
    /// The socket has something, or has ended.
    Readable,
    /// The bell was rung, or there is no reason.
    Called,
    /// The system does not let the thread wait so.
    Unable,
}

/// The threads that read while they wait for something, and have to be told when somebody else
/// brings it. Guarded by the lock of that something.
#[derive(Default)]
pub(crate) struct Guests(Vec<Arc<Bell>>);

impl Guests {
    pub(crate) fn add(&mut self, bell: &Arc<Bell>) {
        self.0.push(bell.clone());
    }

    pub(crate) fn remove(&mut self, bell: &Arc<Bell>) {
        self.0.retain(|other| !Arc::ptr_eq(bell, other));
    }

    /// Makes all of them look.
    pub(crate) fn call(&self) {
        self.0.iter().for_each(|bell| bell.ring());
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::cell::RefCell;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::Arc;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll};
    use rustix::io::Errno;

    use super::Polled;
    use crate::deadline::Deadline;
    use crate::socket::Socket;

    /// What wakes a thread that waits for a socket.
    pub(crate) struct Bell(OwnedFd);

    /// The bell of a thread, and the process for which it is.
    ///
    /// A forked child has its parent's bell as well, and each would take the rings that are for
    /// the other. So the child needs one of its own.
    type Own = Option<(u32, Arc<Bell>)>;

    thread_local! {
        static OWN: RefCell<Own> = const { RefCell::new(None) };
    }

    impl Bell {
        fn new() -> io::Result<Self> {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            Ok(Bell(rustix::event::eventfd(0, flags)?))
        }

        /// That of this thread; `None` while the process has no descriptor left for it.
        pub(crate) fn own() -> Option<Arc<Self>> {
            let process = capnp_threads_core::process::id();
            OWN.try_with(|own| Self::in_process(process, &mut own.borrow_mut())).ok().flatten()
        }

        fn in_process(process: u32, own: &mut Own) -> Option<Arc<Self>> {
            match own {
                Some((of, bell)) if *of == process => Some(bell.clone()),
                _ => {
                    let bell = Arc::new(Bell::new().ok()?);
                    *own = Some((process, bell.clone()));
                    Some(bell)
                }
            }
        }

        pub(crate) fn ring(&self) {
            // It cannot fail but for being rung already.
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }

        fn silence(&self) {
            // It fails if it is not rung.
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
        }

        /// Sleeps until the socket is readable, the bell rings or the deadline comes.
        pub(crate) fn poll(&self, socket: &Socket, deadline: Deadline) -> Polled {
            let mut fds = [
                PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN),
            ];
            let timeout = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                // Whoever looks at the deadline sees whether it has come.
                Ok(0) | Err(Errno::INTR) => return Polled::Called,
                Ok(_) => {}
                Err(_) => return Polled::Unable,
            }
            if !fds[1].revents().is_empty() {
                self.silence();
            }
            if fds[0].revents().is_empty() { Polled::Called } else { Polled::Readable }
        }
    }

    /// Where the reading thread stands by for a socket while that is armed. Arming and
    /// disarming wake nobody.
    pub(crate) struct Standby {
        set: OwnedFd,
        socket: Arc<Socket>,
        bell: Bell,
    }

    /// What the descriptors of a set are called in it.
    const SOCKET: u64 = 0;
    const BELL: u64 = 1;

    impl Standby {
        /// Stands by for a socket, which is not armed.
        ///
        /// # Errors
        /// The process has no descriptor left.
        pub(crate) fn new(socket: &Arc<Socket>) -> io::Result<Self> {
            let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let bell = Bell::new()?;
            let data = epoll::EventData::new_u64(SOCKET);
            epoll::add(&set, socket.as_fd(), data, epoll::EventFlags::ONESHOT)?;
            let data = epoll::EventData::new_u64(BELL);
            epoll::add(&set, bell.0.as_fd(), data, epoll::EventFlags::IN)?;
            Ok(Standby { set, socket: socket.clone(), bell })
        }

        pub(crate) fn socket(&self) -> &Socket {
            &self.socket
        }

        pub(crate) fn arm(&self) {
            self.modify(epoll::EventFlags::IN | epoll::EventFlags::ONESHOT);
        }

        pub(crate) fn disarm(&self) {
            self.modify(epoll::EventFlags::ONESHOT);
        }

        /// Makes the reading thread look.
        pub(crate) fn call(&self) {
            self.bell.ring();
        }

        fn modify(&self, events: epoll::EventFlags) {
            let data = epoll::EventData::new_u64(SOCKET);
            if epoll::modify(&self.set, self.socket.as_fd(), data, events).is_err() {
                // It is in the set as long as both exist. Without it nobody would read.
                self.socket.shut();
                self.call();
            }
        }

        /// Waits until the socket is readable while it is armed, or the thread is called;
        /// `false` if the time is over first.
        ///
        /// # Errors
        /// The system does not let this process wait.
        pub(crate) fn wait(&self, time: Option<Duration>) -> io::Result<bool> {
            let mut events = [MaybeUninit::uninit(); 2];
            let time = time.and_then(|time| Timespec::try_from(time).ok());
            loop {
                match epoll::wait(&self.set, &mut events, time.as_ref()) {
                    Ok((events, _)) => {
                        if events.iter().any(|event| event.data.u64() == BELL) {
                            self.bell.silence();
                        }
                        return Ok(!events.is_empty());
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    mod tests {
        use super::*;

        #[test]
        fn a_thread_has_one_bell_and_another_in_a_forked_child() {
            let (parent, child) = (1, 2);
            let mut own = None;
            let bell = Bell::in_process(parent, &mut own).unwrap();
            assert!(Arc::ptr_eq(&bell, &Bell::in_process(parent, &mut own).unwrap()));
            let other = Bell::in_process(child, &mut own).unwrap();
            assert!(!Arc::ptr_eq(&bell, &other));
            // A ring for the one is not taken by the other.
            bell.ring();
            other.silence();
            assert!(rustix::io::read(&bell.0, &mut [0; 8]).is_ok());
            assert!(Arc::ptr_eq(&other, &Bell::in_process(child, &mut own).unwrap()));
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod nothing {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use super::Polled;
    use crate::deadline::Deadline;
    use crate::socket::Socket;

    pub(crate) enum Bell {}

    impl Bell {
        pub(crate) fn own() -> Option<Arc<Self>> {
            None
        }

        pub(crate) fn ring(&self) {
            match *self {}
        }

        pub(crate) fn poll(&self, _: &Socket, _: Deadline) -> Polled {
            match *self {}
        }
    }

    pub(crate) enum Standby {}

    impl Standby {
        pub(crate) fn new(_: &Arc<Socket>) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn socket(&self) -> &Socket {
            match *self {}
        }

        pub(crate) fn arm(&self) {
            match *self {}
        }

        pub(crate) fn disarm(&self) {
            match *self {}
        }

        pub(crate) fn call(&self) {
            match *self {}
        }

        pub(crate) fn wait(&self, _: Option<Duration>) -> io::Result<bool> {
            match *self {}
        }
    }
}
