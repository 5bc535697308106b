//! Descriptors that are waited for.
//!
//! Everything here is Linux's: `eventfd` and `epoll`. On other systems, no thread but the
//! receive thread reads.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use self::linux::{Bell, Standby, StandbySet};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use self::nothing::{Bell, Standby, StandbySet};

use crate::deadline::Deadline;

/// Whether a thread that sleeps no more finds its time over.
pub(super) fn has_passed(deadline: Deadline) -> bool {
    deadline.has_passed()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::{Arc, OnceLock};

    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll};
    use rustix::io::Errno;

    use crate::deadline::Deadline;
    use crate::fd::Descriptor;
    use crate::sync::parker::Polled;

    /// What wakes a thread that polls. There is none while the process has no descriptor left.
    ///
    /// A forked child has its parent's bell as well, and each would take the rings that are for
    /// the other. So it is of no use to the child.
    #[derive(Default)]
    pub(crate) struct Bell(OnceLock<Hung>);

    struct Hung {
        process: u32,
        event: OwnedFd,
    }

    impl Bell {
        /// Whether this process, which has this id, has a bell here. Makes one if there is none.
        pub(crate) fn is_there(&self, process: u32) -> bool {
            self.event(process).is_some()
        }

        fn event(&self, process: u32) -> Option<&OwnedFd> {
            let hung = if let Some(hung) = self.0.get() {
                hung
            } else {
                let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
                let event = rustix::event::eventfd(0, flags).ok()?;
                self.0.get_or_init(|| Hung { process, event })
            };
            (hung.process == process).then_some(&hung.event)
        }

        pub(crate) fn ring(&self) {
            if let Some(hung) = self.0.get() {
                // It cannot fail but for being rung already.
                let _ = rustix::io::write(&hung.event, &1_u64.to_ne_bytes());
            }
        }

        /// Sleeps until the descriptor is readable, the bell rings or the deadline comes.
        /// `process` is the id of this process.
        pub(crate) fn poll(
            &self,
            descriptor: &Descriptor,
            deadline: Deadline,
            process: u32,
        ) -> Polled {
            let Some(event) = self.event(process) else { return Polled::Unable };
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

    /// Descriptors for which one thread stands by.
    pub(crate) struct StandbySet {
        set: OwnedFd,
        /// What ends the wait. A forked child has it, too.
        bell: OwnedFd,
    }

    /// Stands for the bell of a set among the numbers of its descriptors.
    const BELL: u64 = u64::MAX;

    impl StandbySet {
        /// # Errors
        /// The process has no descriptor left.
        pub(crate) fn new() -> io::Result<Self> {
            let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let bell = rustix::event::eventfd(0, flags)?;
            let data = epoll::EventData::new_u64(BELL);
            epoll::add(&set, &bell, data, epoll::EventFlags::IN)?;
            Ok(StandbySet { set, bell })
        }

        /// Waits until one of the descriptors is readable while it is armed, and disarms
        /// it. Returns its number; `None` when the bell was rung, or the deadline has come.
        ///
        /// # Errors
        /// The system does not let this process wait.
        pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<Option<u64>> {
            let number = wait(&self.set, deadline)?;
            if number == Some(BELL) {
                // It is rung, or another ring was taken for this one.
                let _ = rustix::io::read(&self.bell, &mut [0; 8]);
            }
            Ok(number.filter(|number| *number != BELL))
        }

        /// Ends the wait, or the next one.
        pub(crate) fn ring(&self) {
            // It cannot fail but for being rung already.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Returns `None` when the deadline has come.
    fn wait(set: &OwnedFd, deadline: Deadline) -> io::Result<Option<u64>> {
        let mut events = [MaybeUninit::uninit(); 1];
        loop {
            let timeout = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
            match epoll::wait(set, &mut events, timeout.as_ref()) {
                Ok((events, _)) => {
                    if let Some(event) = events.first() {
                        return Ok(Some(event.data.u64()));
                    }
                    if deadline.has_passed() {
                        return Ok(None);
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where a thread stands by for a descriptor while it is armed. Arming and disarming
    /// wake nobody.
    pub(crate) struct Standby {
        set: Set,
        number: u64,
        descriptor: Descriptor,
    }

    enum Set {
        /// Of this descriptor alone.
        Own(OwnedFd),
        Shared(Arc<StandbySet>),
    }

    impl Standby {
        /// Stands by for a descriptor: in a set of its own, armed; or in a shared one under a
        /// number, which is not `u64::MAX`, disarmed.
        ///
        /// # Errors
        /// The process has no descriptor left, or this one cannot be waited for.
        pub(crate) fn new(
            descriptor: Descriptor,
            shared: Option<(Arc<StandbySet>, u64)>,
        ) -> io::Result<Self> {
            let (set, number, events) = if let Some((set, number)) = shared {
                (Set::Shared(set), number, epoll::EventFlags::ONESHOT)
            } else {
                let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
                let call = epoll::EventData::new_u64(BELL);
                epoll::add(&set, always_readable()?, call, epoll::EventFlags::ONESHOT)?;
                (Set::Own(set), 0, ARMED)
            };
            let standby = Standby { set, number, descriptor };
            let data = epoll::EventData::new_u64(number);
            epoll::add(standby.set(), standby.descriptor.as_fd(), data, events)?;
            Ok(standby)
        }

        fn set(&self) -> &OwnedFd {
            match &self.set {
                Set::Own(set) => set,
                Set::Shared(shared) => &shared.set,
            }
        }

        pub(crate) fn arm(&self) -> io::Result<()> {
            self.modify(ARMED)
        }

        pub(crate) fn disarm(&self) -> io::Result<()> {
            self.modify(epoll::EventFlags::ONESHOT)
        }

        fn modify(&self, events: epoll::EventFlags) -> io::Result<()> {
            let data = epoll::EventData::new_u64(self.number);
            Ok(epoll::modify(self.set(), self.descriptor.as_fd(), data, events)?)
        }

        /// Ends the wait, or the next one, whether this is armed or not. Only for a descriptor
        /// with a set of its own.
        pub(crate) fn call(&self) -> io::Result<()> {
            let data = epoll::EventData::new_u64(BELL);
            Ok(epoll::modify(self.set(), always_readable()?, data, ARMED)?)
        }

        /// Whether the descriptor is readable, or cannot be asked: then a read tells why.
        pub(crate) fn is_readable(&self) -> bool {
            let mut fds = [PollFd::from_borrowed_fd(self.descriptor.as_fd(), PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&Timespec::default())) != Ok(0)
        }

        /// Waits until the descriptor is readable while it is armed, which is disarmed then, or
        /// until this is called. Only for a descriptor with a set of its own.
        pub(crate) fn wait(&self) -> io::Result<()> {
            wait(self.set(), Deadline::NEVER).map(drop)
        }

        pub(crate) fn descriptor(&self) -> &Descriptor {
            &self.descriptor
        }
    }

    /// What calls those who stand by for one descriptor each: it is in every such set, armed for
    /// one call.
    fn always_readable() -> io::Result<&'static OwnedFd> {
        static EVENT: OnceLock<OwnedFd> = OnceLock::new();
        if let Some(event) = EVENT.get() {
            return Ok(event);
        }
        let event = rustix::event::eventfd(1, EventfdFlags::CLOEXEC)?;
        Ok(EVENT.get_or_init(|| event))
    }

    const ARMED: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod nothing {
    use std::io;
    use std::sync::Arc;

    use crate::deadline::Deadline;
    use crate::fd::Descriptor;
    use crate::sync::parker::Polled;

    #[derive(Default)]
    pub(crate) struct Bell(());

    impl Bell {
        pub(crate) fn is_there(&self, _: u32) -> bool {
            false
        }

        pub(crate) fn ring(&self) {}

        pub(crate) fn poll(&self, _: &Descriptor, _: Deadline, _: u32) -> Polled {
            Polled::Unable
        }
    }

    pub(crate) enum StandbySet {}

    impl StandbySet {
        pub(crate) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn wait(&self, _: Deadline) -> io::Result<Option<u64>> {
            match *self {}
        }

        pub(crate) fn ring(&self) {
            match *self {}
        }
    }

    pub(crate) enum Standby {}

    impl Standby {
        pub(crate) fn new(_: Descriptor, _: Option<(Arc<StandbySet>, u64)>) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn arm(&self) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn disarm(&self) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn call(&self) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn is_readable(&self) -> bool {
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
