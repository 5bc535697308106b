//! Messages in, bytes out.

use std::io::{self, IoSlice, Write};

use capnp_threads_core::fd::SharedFd;
use capnp_threads_core::log::tell;
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{MessageWriter, TransportError};

use super::{NUMBER, WORD};
use crate::fork::Owner;

/// Segments below this size, in bytes, are copied behind one another. Over Unix
/// sockets on Linux, copying cost less than one more entry in a vectored write up
/// to sizes between 2 and 4 KiB, and about the same from there to 16 KiB.
const COPY_BELOW: usize = 4 << 10;

/// The number of bytes that are gathered before they are written.
const ROUND_BYTES: usize = 256 << 10;

/// The memory, in bytes, that a writer keeps between batches.
const KEPT_BYTES: usize = 64 << 10;

/// The most pieces that one vectored write takes on current systems (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Writes what the stream takes at once: as [`Write::write_vectored`], but where
/// that would wait it fails with [`io::ErrorKind::WouldBlock`]. For a socket, a
/// `sendmsg` with `MSG_DONTWAIT`.
pub type WriteNow<W> = fn(&mut W, &[IoSlice<'_>]) -> io::Result<usize>;

/// Writes bytes, as [`Write::write_vectored`] does, and sends all of the file
/// descriptors along with the first of them. An error means that nothing was
/// written.
pub type SendFds<W> = fn(&mut W, &[IoSlice<'_>], &[SharedFd]) -> io::Result<usize>;

/// Larger batches, in bytes, are left to a thread that may wait. What the stream
/// does not take at once has to be copied.
const MOST_AT_ONCE: usize = 256 << 10;

/// Writes messages to a stream of bytes.
///
/// A batch goes out in as few calls as possible: segment tables and short
/// segments are copied into one buffer, long segments are written from where
/// they are, and everything is handed over with `write_vectored`.
///
/// The stream must block until it has taken something.
///
/// ```
/// use capnp_threads_core::capnp::Word;
/// use capnp_threads_core::message::Message;
/// use capnp_threads_transport::MessageWriter;
/// use capnp_threads_transport::framing::FramedWriter;
///
/// let message = Message::from_segments(Word::allocate_zeroed_vec(1), &[1]).unwrap();
/// let mut writer = FramedWriter::new(Vec::new());
/// writer.write(&mut vec![message]).unwrap();
/// ```
pub struct FramedWriter<W> {
    inner: Option<W>,
    finish: fn(W) -> io::Result<()>,
    /// `None` where there are only bytes.
    fds: Option<Descriptors<W>>,
    /// `None` where it is not known whether a write waits.
    now: Option<WriteNow<W>>,
    /// Bytes of messages that were begun, to be written before anything else.
    rest: Vec<u8>,
    /// Kept between batches so that its memory is.
    copied: Vec<u8>,
    /// A write failed, perhaps in the middle of a message.
    broken: bool,
    owner: Owner,
}

impl<W: Write> FramedWriter<W> {
    /// Writes to `inner`. Finishing drops it, which ends a pipe.
    pub fn new(inner: W) -> Self {
        FramedWriter::with_finish(inner, |inner| {
            drop(inner);
            Ok(())
        })
    }

    /// Writes to `inner`, and ends it with `finish` after everything was written
    /// and flushed.
    pub fn with_finish(inner: W, finish: fn(W) -> io::Result<()>) -> Self {
        FramedWriter {
            inner: Some(inner),
            finish,
            fds: None,
            now: None,
            rest: Vec::new(),
            copied: Vec::new(),
            broken: false,
            owner: Owner::this_process(),
        }
    }

    /// Uses `now` for [`MessageWriter::try_write`]: the thread that makes a call
    /// then writes it itself, which saves it from waking the connection's send
    /// thread. Without this, every message takes that detour.
    #[must_use]
    pub fn writing_now(mut self, now: WriteNow<W>) -> Self {
        self.now = Some(now);
        self
    }

    /// Uses `send` for messages that have file descriptors, at most `max` of them
    /// with one message. Such a message goes out in a call of its own, which lets
    /// the receiver tell to which message the descriptors belong.
    #[must_use]
    pub fn sending_fds(mut self, max: usize, send: SendFds<W>) -> Self {
        self.fds = Some(Descriptors { send, max });
        self
    }
}

/// How a stream sends file descriptors.
struct Descriptors<W> {
    send: SendFds<W>,
    /// The most that it sends at once.
    max: usize,
}

impl<W: Write + Send + 'static> MessageWriter for FramedWriter<W> {
    fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
        self.owner.check()?;
        if self.broken {
            return Err(broken().into());
        }
        let Some(inner) = &mut self.inner else {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the stream was finished").into());
        };
        let rest = std::mem::take(&mut self.rest);
        let written = inner
            .write_all(&rest)
            .and_then(|()| write_all(inner, self.fds.as_ref(), &mut self.copied, batch));
        match written {
            Ok(()) => {
                batch.clear();
                Ok(())
            }
            Err(error) => {
                self.broken = true;
                Err(error.into())
            }
        }
    }

    fn try_write(&mut self, batch: &mut Vec<Message>) -> Result<bool, TransportError> {
        self.owner.check()?;
        let (Some(inner), Some(now)) = (&mut self.inner, self.now) else {
            return Ok(batch.is_empty());
        };
        let bytes: usize = batch.iter().map(|message| WORD * message.size_in_words()).sum();
        let fds = batch.iter().any(|message| !message.fds().is_empty());
        if self.broken || !self.rest.is_empty() || fds || bytes > MOST_AT_ONCE {
            return Ok(false);
        }
        self.copied.clear();
        let mut round = Round { copied: &mut self.copied, pieces: Vec::new(), described: 0 };
        if round.gather(batch)? < batch.len() {
            return Ok(false);
        }
        let mut slices = round.slices();
        let mut slices = slices.as_mut_slice();
        let sent = loop {
            match now(inner, &slices[..slices.len().min(MAX_SLICES)]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                Err(error) => {
                    self.broken = true;
                    return Err(error.into());
                }
                Ok(sent) => break sent,
            }
        };
        if sent == 0 {
            return Ok(batch.is_empty());
        }
        IoSlice::advance_slices(&mut slices, sent);
        slices.iter().for_each(|slice| self.rest.extend_from_slice(slice));
        batch.clear();
        give_back(&mut self.copied);
        Ok(self.rest.is_empty())
    }

    fn max_fds(&self) -> usize {
        self.fds.as_ref().map_or(0, |fds| fds.max)
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        self.owner.check()?;
        let Some(mut inner) = self.inner.take() else { return Ok(()) };
        if self.broken {
            return Err(broken().into());
        }
        inner.flush()?;
        (self.finish)(inner)?;
        Ok(())
    }
}

/// Empties a buffer. One large batch must not occupy its memory for ever.
fn give_back(copied: &mut Vec<u8>) {
    copied.clear();
    copied.shrink_to(KEPT_BYTES);
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "an earlier write to this stream failed")
}

fn write_all<W: Write>(
    inner: &mut W,
    fds: Option<&Descriptors<W>>,
    copied: &mut Vec<u8>,
    batch: &[Message],
) -> io::Result<()> {
    let mut rest = batch;
    while let Some(first) = rest.first() {
        copied.clear();
        let mut round = Round { copied, pieces: Vec::new(), described: 0 };
        let count = match fds {
            Some(how) if !first.fds().is_empty() => {
                round.gather_message(first)?;
                round.write_with_fds(inner, how, first.fds())?;
                1
            }
            _ => {
                let count = round.gather(rest)?;
                round.write(inner)?;
                count
            }
        };
        rest = &rest[count..];
    }
    give_back(copied);
    inner.flush()
}

/// What is written at once, unless the stream takes less.
struct Round<'a, 'b> {
    copied: &'b mut Vec<u8>,
    /// Empty as long as everything was copied.
    pieces: Vec<Piece<'a>>,
    /// How much of `copied` the pieces speak of.
    described: usize,
}

enum Piece<'a> {
    /// What was copied, from where the piece of this kind before ended, up to
    /// this offset.
    Copied(usize),
    Lent(&'a [u8]),
}

impl<'a> Round<'a, '_> {
    /// Takes messages from the front of `batch` until there is enough for one
    /// call, or one has file descriptors, but at least one. Returns how many.
    fn gather(&mut self, batch: &'a [Message]) -> io::Result<usize> {
        for (index, message) in batch.iter().enumerate() {
            let full = self.copied.len() >= ROUND_BYTES || self.pieces.len() + 2 >= MAX_SLICES;
            if full || (index > 0 && !message.fds().is_empty()) {
                return Ok(index);
            }
            self.gather_message(message)?;
        }
        Ok(batch.len())
    }

    fn gather_message(&mut self, message: &'a Message) -> io::Result<()> {
        let mut segments = message.segments();
        if segments.len() == 1
            && let Some(only) = segments.next()
        {
            self.number(0)?;
            self.number(only.len() / WORD)?;
            self.gather_segment(only);
            return Ok(());
        }
        // A builder that nothing was built in has no segment, which the table
        // cannot say. One empty segment means the same.
        let count = segments.len().max(1);
        self.number(count - 1)?;
        for segment in message.segments() {
            self.number(segment.len() / WORD)?;
        }
        if segments.len() == 0 {
            self.number(0)?;
        }
        if count.is_multiple_of(2) {
            self.number(0)?;
        }
        segments.for_each(|segment| self.gather_segment(segment));
        Ok(())
    }

    fn gather_segment(&mut self, segment: &'a [u8]) {
        if segment.len() < COPY_BELOW {
            self.copied.extend_from_slice(segment);
        } else {
            self.describe_copied();
            self.pieces.push(Piece::Lent(segment));
        }
    }

    fn number(&mut self, number: usize) -> io::Result<()> {
        let number = u32::try_from(number).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a segment of 2^32 words or more cannot be sent; split the data up",
            )
        })?;
        self.copied.extend_from_slice(&number.to_le_bytes());
        debug_assert_eq!(number.to_le_bytes().len(), NUMBER);
        Ok(())
    }

    fn describe_copied(&mut self) {
        if self.described < self.copied.len() {
            self.described = self.copied.len();
            self.pieces.push(Piece::Copied(self.described));
        }
    }

    fn write(mut self, inner: &mut impl Write) -> io::Result<()> {
        if self.pieces.is_empty() {
            return inner.write_all(self.copied);
        }
        write_slices(inner, &mut self.slices())
    }

    /// As [`write`](Self::write), for one message with file descriptors: they go
    /// with its first byte, and nothing else goes in that call. See
    /// Note [where descriptors are].
    fn write_with_fds<W: Write>(
        mut self,
        inner: &mut W,
        how: &Descriptors<W>,
        fds: &[SharedFd],
    ) -> io::Result<()> {
        let mut slices = self.slices();
        let mut slices = slices.as_mut_slice();
        let first = &slices[..slices.len().min(MAX_SLICES)];
        let fds = &fds[..fds.len().min(how.max)];
        let sent = loop {
            match (how.send)(inner, first, fds) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match sent {
            Ok(count) => {
                IoSlice::advance_slices(&mut slices, count);
                write_slices(inner, slices)
            }
            // The system does not pass every file descriptor on, nor any number of
            // them to peers that do not read. The capabilities can do without. If it
            // is the stream that broke, that shows now.
            Err(error) => {
                write_slices(inner, slices)?;
                let count = fds.len();
                tell!(WARN, %error, count, "a message went without its file descriptors");
                Ok(())
            }
        }
    }

    fn slices(&mut self) -> Vec<IoSlice<'_>> {
        self.describe_copied();
        let mut start = 0;
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Copied(end) => {
                    let copied = &self.copied[start..*end];
                    start = *end;
                    IoSlice::new(copied)
                }
                Piece::Lent(segment) => IoSlice::new(segment),
            })
            .collect()
    }
}

/// Writes all of the slices, none of which is empty.
fn write_slices(inner: &mut impl Write, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        let now = slices.len().min(MAX_SLICES);
        match inner.write_vectored(&slices[..now]) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::WriteZero,
                    "the stream takes no more bytes",
                ));
            }
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_large_batch_does_not_occupy_its_memory_for_ever() {
        let words = capnp::Word::allocate_zeroed_vec(COPY_BELOW / WORD - 1);
        let length = u32::try_from(words.len()).unwrap();
        let batch = || -> Vec<Message> {
            let message = || Message::from_segments(words.clone(), &[length]).unwrap();
            std::iter::repeat_with(message).take(50).collect()
        };
        let now: WriteNow<Vec<u8>> = |inner, slices| inner.write_vectored(slices);
        let mut writer = FramedWriter::new(Vec::new()).writing_now(now);
        writer.write(&mut batch()).unwrap();
        assert!(writer.copied.capacity() <= KEPT_BYTES);
        assert!(writer.try_write(&mut batch()).unwrap());
        assert!(writer.copied.capacity() <= KEPT_BYTES);
        assert!(writer.inner.unwrap().len() > 2 * KEPT_BYTES);
    }
}
