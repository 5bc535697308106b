//! The socket of two peers, with what keeps it from others where the network has a key.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::time::Duration;

#[cfg(feature = "tls")]
use capnp_threads_transport::tls;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::SockRef;

/// The longest time that every system accepts for a read.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What became of bytes that were to be written without waiting.
pub(super) enum AtOnce {
    /// The system has all of them.
    Everything,
    /// So many were taken. (If these are all, they were encrypted and are not with the system
    /// yet: a write of nothing, which waits, brings them there.)
    Taken(usize),
}

/// One thread reads and another one writes. Any may shut it.
pub(super) struct Socket {
    fd: Arc<OwnedFd>,
    /// In networks with a key, since both sides have proved theirs.
    #[cfg(feature = "tls")]
    tls: OnceLock<tls::Stream>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Socket {
            fd: Arc::new(stream.into()),
            #[cfg(feature = "tls")]
            tls: OnceLock::new(),
        })
    }

    /// Waits for bytes, as long as there is time; `None` waits for any time.
    pub(super) fn read(&self, room: &mut [u8], time: Option<Duration>) -> io::Result<usize> {
        let time = time.map(|time| time.min(LONGEST));
        if time.is_some_and(|time| time.is_zero()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        #[cfg(feature = "tls")]
        if let Some(stream) = self.tls.get() {
            return stream.read(room, time.map(|time| std::time::Instant::now() + time));
        }
        if time.is_some() {
            SockRef::from(self).set_read_timeout(time)?;
        }
        rustix::io::read(&self.fd, room).map_err(|error| match error.into() {
            error if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {
                io::ErrorKind::TimedOut.into()
            }
            error => error,
        })
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if that is nothing. Not for a socket that is encrypted.
    pub(super) fn read_now(&self, room: &mut [u8]) -> io::Result<usize> {
        let received = rustix::net::recv(&self.fd, room, RecvFlags::DONTWAIT);
        Ok(received.map(|(count, _)| count)?)
    }

    /// Whether it is readable just when there is something to read.
    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unused_self, reason = "only an encrypted one is not")
    )]
    pub(super) fn can_be_polled(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.get().is_some() {
            return false;
        }
        true
    }

    /// Reads without a time wait for any time from now on.
    pub(super) fn forget_time(&self) -> io::Result<()> {
        SockRef::from(self).set_read_timeout(None)
    }

    /// Writes everything, and waits until the system has taken it.
    pub(super) fn write_all(&self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(stream) = self.tls.get() {
            return stream.write_all(slices);
        }
        write_slices(&self.fd, slices)
    }

    /// Writes as much as the system takes at once.
    pub(super) fn write_now(&self, slices: &mut [IoSlice<'_>]) -> io::Result<AtOnce> {
        #[cfg(feature = "tls")]
        if let Some(stream) = self.tls.get() {
            let (count, is_everything) = stream.write_now(slices)?;
            return Ok(if is_everything { AtOnce::Everything } else { AtOnce::Taken(count) });
        }
        write_slices_now(&self.fd, slices)
    }

    /// Tells the peer that nothing more is written.
    pub(super) fn finish(&self) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(stream) = self.tls.get() {
            return stream.finish();
        }
        self.shutdown(Shutdown::Write)
    }

    /// Makes every read and write end. Does not wait.
    pub(super) fn shut(&self) {
        #[cfg(feature = "tls")]
        if let Some(stream) = self.tls.get() {
            stream.shut_down();
            return;
        }
        // It fails where there is nothing to shut any more.
        let _ = self.shutdown(Shutdown::Both);
    }

    /// Shuts what is below anything that protects it.
    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(self).shutdown(how)
    }

    /// Encrypts from now on what `handshake` makes of the socket. Nothing was read from it
    /// or written to it yet.
    #[cfg(feature = "tls")]
    pub(super) fn protect(
        &self,
        handshake: impl FnOnce(Arc<OwnedFd>) -> io::Result<tls::Stream>,
    ) -> io::Result<&tls::Stream> {
        let stream = handshake(Arc::clone(&self.fd))?;
        Ok(self.tls.get_or_init(|| stream))
    }
}

/// A peer that is gone must be an error and not a signal, also in programs that
/// changed what SIGPIPE does.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
/// These systems have no such flag. The standard library and socket2 set an option
/// of the same effect on every socket that they make.
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// As many slices as any system takes at once.
const MAX_SLICES: usize = 16;

fn write_slices(socket: &OwnedFd, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    loop {
        // Also removes empty slices.
        IoSlice::advance_slices(&mut slices, 0);
        if slices.is_empty() {
            return Ok(());
        }
        match send(socket, slices, SEND_FLAGS) {
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_slices_now(socket: &OwnedFd, mut slices: &mut [IoSlice<'_>]) -> io::Result<AtOnce> {
    let flags = SEND_FLAGS.union(SendFlags::DONTWAIT);
    let mut taken = 0;
    loop {
        IoSlice::advance_slices(&mut slices, 0);
        if slices.is_empty() {
            return Ok(AtOnce::Everything);
        }
        match send(socket, slices, flags) {
            Ok(count) => {
                taken += count;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(AtOnce::Taken(taken)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends some of the slices.
fn send(
    socket: &OwnedFd,
    slices: &[IoSlice<'_>],
    flags: SendFlags,
) -> Result<usize, rustix::io::Errno> {
    let batch = &slices[..slices.len().min(MAX_SLICES)];
    rustix::net::sendmsg(socket, batch, &mut SendAncillaryBuffer::default(), flags)
}
