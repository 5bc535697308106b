//! Bytes in, and the file descriptors that come with them.
//!
//! Note [where descriptors are]
//!
//! File descriptors are handed to the system together with bytes, and it delivers
//! them with the first of these. Linux ends a read at the end of the piece of data
//! that they came with, so that one read never brings those of two pieces; but
//! bytes before that piece may be in the same read. So all that is known is: they
//! belong to a message that has its first byte in or before this read, and the
//! read's *last* byte lies in the piece that they were sent with. Other systems
//! begin a read at that piece instead, and may go on behind it: there it is the
//! read's *first* byte.
//!
//! Whoever sends a message with file descriptors therefore sends it apart, in a
//! call of its own that ends with it: [`FramedWriter`](super::FramedWriter) does,
//! and so does the C++ implementation. Then one byte tells which message they
//! belong to.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Weak};

use capnp_threads_core::fd::{OwnedFd, SharedFd};
use capnp_threads_core::transport::Descriptor;
#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::fork::Owner;
#[cfg(unix)]
use crate::polling;

#[cfg(test)]
mod tests;

/// Reads bytes, as [`Read::read`] does, and appends the file descriptors that came
/// with them to the list, at most as many as the last argument says. It closes the
/// others.
///
/// One call must not bring the descriptors of two messages. The sockets of Linux and
/// the BSDs see to that if the sender hands each message with descriptors over in a
/// call of its own, as [`FramedWriter`](super::FramedWriter) does.
pub type ReceiveFds<R> = fn(&mut R, &mut [u8], &mut Vec<OwnedFd>, usize) -> io::Result<usize>;

/// Reads as [`Read::read`] does, but fails with [`io::ErrorKind::WouldBlock`] where that would
/// wait.
pub type ReadNow<R> = fn(&mut R, &mut [u8]) -> io::Result<usize>;

/// Whether a stream keeps something of which its descriptor does not tell.
pub type IsAhead<R> = fn(&R) -> bool;

/// A stream of bytes, some of which have file descriptors with them.
pub(super) struct Source<R> {
    inner: R,
    /// `None` where there are only bytes.
    pub(super) receive: Option<ReceiveFds<R>>,
    /// `None` where the descriptor tells whether a read would wait.
    pub(super) read_now: Option<ReadNow<R>>,
    /// `None` where the descriptor tells of everything.
    pub(super) is_ahead: Option<IsAhead<R>>,
    /// How many come with one message at the most.
    pub(super) max_fds: usize,
    /// How many of those that came may be open at the most.
    pub(super) max_open: usize,
    /// How many bytes were read so far.
    offset: u64,
    /// What came with messages that are not complete, and the offset of a byte in
    /// the message that it belongs to. In order.
    waiting: VecDeque<(u64, OwnedFd)>,
    /// What was given out and may still be open.
    given: Vec<Weak<OwnedFd>>,
    /// Empty, kept for its memory.
    arrived: Vec<OwnedFd>,
    owner: Owner,
    /// What is readable when there is something to read, if that is known.
    pub(super) descriptor: Option<Descriptor>,
    supply: Supply,
}

/// Whether a read may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Waits,
    TakesWhatIsThere,
}

/// What is known of the bytes that can be read without waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Supply {
    /// There are some: the descriptor was seen to be readable.
    Some,
    /// The last read took all.
    None,
    Unknown,
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        Source {
            inner,
            receive: None,
            read_now: None,
            is_ahead: None,
            max_fds: 0,
            max_open: 0,
            offset: 0,
            waiting: VecDeque::new(),
            given: Vec::new(),
            arrived: Vec::new(),
            owner: Owner::this_process(),
            descriptor: None,
            supply: Supply::Unknown,
        }
    }

    /// Notes that so many bytes were read before.
    pub(super) fn was_read(&mut self, count: usize) {
        self.offset += count as u64;
    }

    /// Notes that the descriptor was readable.
    pub(super) fn is_readable(&mut self) {
        self.supply = Supply::Some;
    }

    /// Whether there is something of which the descriptor does not tell.
    pub(super) fn is_ahead(&self) -> bool {
        self.is_ahead.is_some_and(|is_ahead| is_ahead(&self.inner))
    }

    /// Reads as [`read`](Self::read) does; `None` where it would wait and may not.
    pub(super) fn read_with(
        &mut self,
        patience: Patience,
        room: &mut [u8],
    ) -> io::Result<Option<usize>> {
        if patience == Patience::Waits {
            self.supply = Supply::Unknown;
            return self.read(room).map(Some);
        }
        if let Some(read_now) = self.read_now {
            return self.read_by(read_now, room);
        }
        let is_there = match self.supply {
            Supply::Some => true,
            Supply::None => false,
            Supply::Unknown => self.poll()?,
        };
        if !is_there {
            return Ok(None);
        }
        let count = self.read(room)?;
        // The end of the stream stays readable.
        let all = count > 0 && count < room.len();
        self.supply = if all { Supply::None } else { Supply::Unknown };
        Ok(Some(count))
    }

    fn read_by(&mut self, read_now: ReadNow<R>, room: &mut [u8]) -> io::Result<Option<usize>> {
        self.owner.check()?;
        loop {
            match read_now(&mut self.inner, room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                outcome => {
                    let count = outcome?;
                    self.offset += count as u64;
                    return Ok(Some(count));
                }
            }
        }
    }

    /// Whether there is something to read.
    #[cfg(unix)]
    fn poll(&self) -> io::Result<bool> {
        let Some(descriptor) = &self.descriptor else { return Ok(true) };
        let mut fds = [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)];
        polling::poll(&mut fds, Some(&Timespec::default()))
    }

    /// There are no descriptors here.
    #[cfg(not(unix))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "others can")]
    fn poll(&self) -> io::Result<bool> {
        Ok(true)
    }

    pub(super) fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// The offset of the next byte that is read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Waits for bytes. Returns 0 at the end of the stream.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.owner.check()?;
        let count = loop {
            let outcome = match self.receive {
                Some(receive) if self.max_fds > 0 => {
                    receive(&mut self.inner, room, &mut self.arrived, self.max_fds)
                }
                // What comes unasked is closed by the system.
                _ => self.inner.read(room),
            };
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        let start = self.offset;
        self.offset += count as u64;
        if !self.arrived.is_empty() {
            self.note_arrived(start);
        }
        Ok(count)
    }

    #[cold]
    fn note_arrived(&mut self, start: u64) {
        // See Note [where descriptors are].
        let at = if cfg!(any(target_os = "linux", target_os = "android")) {
            self.offset.saturating_sub(1)
        } else {
            start
        };
        // Of a peer that follows the rules, no more wait than those of the message
        // that is being read and of one behind it. Others cannot pile them up by
        // sending a message in small pieces.
        let room = (2 * self.max_fds).saturating_sub(self.waiting.len());
        self.waiting.extend(self.arrived.drain(..).take(room).map(|fd| (at, fd)));
    }

    /// Whether anything came that belongs to a message which was not given out yet.
    pub(super) fn has_fds(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes what came with the message that ends before the byte at `end`.
    pub(super) fn fds_before(&mut self, end: u64) -> Vec<SharedFd> {
        if self.waiting.is_empty() { Vec::new() } else { self.take_before(end) }
    }

    #[cold]
    fn take_before(&mut self, end: u64) -> Vec<SharedFd> {
        let count = self.waiting.iter().take_while(|(at, _)| *at < end).count();
        self.given.retain(|fd| fd.strong_count() > 0);
        let room = self.max_open.saturating_sub(self.given.len()).min(self.max_fds);
        let fds: Vec<_> =
            self.waiting.drain(..count).take(room).map(|(_, fd)| Arc::new(fd)).collect();
        self.given.extend(fds.iter().map(Arc::downgrade));
        fds
    }
}
