//! Descriptors that are waited for.
//!
//! Everything here is Linux's: `eventfd` and `epoll`. On other systems, no thread but the
//! receive thread reads.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use self::linux::{Bell, Standby};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use self::nothing::{Bell, Standby};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::OnceLock;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll};
    use rustix::io::Errno;

    use crate::deadline::Deadline;
    use crate::fd::Descriptor;
    use crate::sync::parker::Polled;

    /// What wakes a thread that polls. There is none if the process has no descriptor left.
    #[derive(Default)]
    pub(crate) struct Bell(OnceLock<Option<OwnedFd>>);

    impl Bell {
        /// Whether there is a bell. Makes one if there is not.
        pub(crate) fn is_there(&self) -> bool {
            self.event().is_some()
        }

        fn event(&self) -> Option<&OwnedFd> {
            let make = || {
                let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
                rustix::event::eventfd(0, flags).ok()
            };
            self.0.get_or_init(make).as_ref()
        }

        pub(crate) fn ring(&self) {
            if let Some(event) = self.event() {
                // It cannot fail but for being rung already.
                let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
            }
        }

        /// Sleeps until the descriptor is readable, the bell rings or the deadline comes.
        pub(crate) fn poll(&self, descriptor: &Descriptor, deadline: Deadline) -> Polled {
            let Some(event) = self.event() else { return Polled::Unable };
            let mut fds = [
                PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN),
            ];
            let timeout = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                // A time that is not over is seen by those who look at the deadline.
                Ok(0) | Err(Errno::INTR) => return Polled::Unparked,
                Ok(_) => {}
                Err(_) => return Polled::Unable,
            }
            if !fds[1].revents().is_empty() {
                // Empty only if another ring was taken for this one.
                let _ = rustix::io::read(event, &mut [0; 8]);
            }
            if fds[0].revents().is_empty() { Polled::Unparked } else { Polled::Readable }
        }
    }

    /// Where a thread stands by for a descriptor while it is armed. Arming and disarming
    /// wake nobody.
    pub(crate) struct Standby {
        set: OwnedFd,
        descriptor: Descriptor,
    }

    impl Standby {
        /// Stands by for a descriptor, armed.
        ///
        /// # Errors
        /// The process has no descriptor left, or this one cannot be waited for.
        pub(crate) fn new(descriptor: Descriptor) -> io::Result<Self> {
            let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let data = epoll::EventData::new_u64(0);
            epoll::add(&set, descriptor.as_fd(), data, ARMED)?;
            Ok(Standby { set, descriptor })
        }

        pub(crate) fn arm(&self) -> io::Result<()> {
            self.modify(ARMED)
        }

        pub(crate) fn disarm(&self) -> io::Result<()> {
            self.modify(epoll::EventFlags::ONESHOT)
        }

        fn modify(&self, events: epoll::EventFlags) -> io::Result<()> {
            let data = epoll::EventData::new_u64(0);
            Ok(epoll::modify(&self.set, self.descriptor.as_fd(), data, events)?)
        }

        /// Waits until the descriptor is readable while it is armed; it is disarmed then.
        pub(crate) fn wait(&self) -> io::Result<()> {
            let mut events = [MaybeUninit::uninit(); 1];
            loop {
                match epoll::wait(&self.set, &mut events, None) {
                    Err(Errno::INTR) => {}
                    outcome => return Ok(outcome.map(drop)?),
                }
            }
        }

        pub(crate) fn descriptor(&self) -> &Descriptor {
            &self.descriptor
        }
    }

    const ARMED: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod nothing {
    use std::io;

    use crate::deadline::Deadline;
    use crate::fd::Descriptor;
    use crate::sync::parker::Polled;

    #[derive(Default)]
    pub(crate) struct Bell(());

    impl Bell {
        pub(crate) fn is_there(&self) -> bool {
            false
        }

        pub(crate) fn ring(&self) {}

        pub(crate) fn poll(&self, _: &Descriptor, _: Deadline) -> Polled {
            Polled::Unable
        }
    }

    pub(crate) enum Standby {}

    impl Standby {
        pub(crate) fn new(_: Descriptor) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn arm(&self) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn disarm(&self) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn wait(&self) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn descriptor(&self) -> &Descriptor {
            match *self {}
        }
    }
}
