//! Bytes in, messages out.

use std::fmt;
use std::io::{self, Read};

use capnp::Word;
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{
    Descriptor, FrameLimits, MessageReader, Received, TransportError,
};

use super::source::{IsAhead, Patience, ReadNow, ReceiveFds, Source};
use super::{NUMBER, WORD};

/// The buffer that a new reader has, in bytes.
const FIRST_BUFFER: usize = 4 << 10;

/// The largest buffer, in bytes. Longer messages are read straight into the
/// memory that they stay in.
const LARGEST_BUFFER: usize = 64 << 10;

/// The size of a read, in bytes, while the length of a message that may be long is not
/// known.
const PEEK: usize = 512;

/// After so many reads in a row that bring little, the buffer is too large for the traffic.
const FEW_READS: u32 = 16;

/// The memory, in words, that a long message gets before any of it has arrived; see
/// Note [paying as it arrives].
const FIRST_STEP: usize = 16 << 10;

/// Reads messages from a stream of bytes.
///
/// One call of the stream's `read` fetches as many messages as are there and fit
/// into a buffer, which follows the traffic between 4 and 64 KiB. Both limits of
/// [`FrameLimits`] are checked as soon as the segment table has arrived, before
/// memory is set aside for what it announces.
///
/// The stream must block until there is something to read. An error that it
/// reports, other than [`io::ErrorKind::Interrupted`], ends the stream of
/// messages; this includes a time limit that was set on a socket.
///
/// ```
/// use capnp_threads_transport::MessageReader;
/// use capnp_threads_transport::framing::FramedReader;
///
/// // One segment of one word.
/// let bytes = [0_u32, 1, 7, 8].map(u32::to_le_bytes).concat();
/// let mut reader = FramedReader::new(std::io::Cursor::new(bytes));
/// let message = reader.read().unwrap().unwrap();
/// assert_eq!(message.size_in_words(), 1);
/// assert!(reader.read().unwrap().is_none());
/// ```
pub struct FramedReader<R> {
    source: Source<R>,
    /// Bytes that were read lie in `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled all the room that it was given.
    buffer_was_filled: bool,
    /// The number of reads, since the last other one, that needed a quarter of the buffer or
    /// less.
    small_reads: u32,
    /// The last message was too long for the buffer.
    last_was_long: bool,
    /// The segment table of the message that is being read.
    lengths: Vec<u32>,
    part: Part,
    limits: FrameLimits,
    state: State,
}

/// The part of a message that is read next. What a reader has of a message that is not
/// complete stays with it, because another thread may go on reading.
enum Part {
    /// The number of segments.
    Start,
    /// The lengths of so many segments, and the padding behind them: so many numbers are
    /// left.
    Table { segments: u64, left: u64 },
    /// So many words. Those of a long message are filled in as they come.
    Content { total: usize, long: Vec<Word>, filled: usize },
}

/// What came of an attempt to read.
enum Progress<T> {
    Done(T),
    /// The rest has not come yet.
    Later,
    /// The stream ended before.
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed,
}

impl<R: Read> FramedReader<R> {
    /// Reads from `inner` with [`FrameLimits::default`].
    pub fn new(inner: R) -> Self {
        let mut reader = FramedReader {
            source: Source::new(inner),
            buffer: vec![0; FIRST_BUFFER],
            start: 0,
            end: 0,
            buffer_was_filled: false,
            small_reads: 0,
            last_was_long: false,
            lengths: Vec::new(),
            part: Part::Start,
            limits: FrameLimits::default(),
            state: State::Open,
        };
        reader.apply_limits();
        reader
    }

    /// Uses `receive` instead of [`Read::read`] as long as the
    /// [limits](FrameLimits) accept file descriptors.
    #[must_use]
    pub fn receiving_fds(mut self, receive: ReceiveFds<R>) -> Self {
        self.source.receive = Some(receive);
        self
    }

    /// Declares that this descriptor is readable whenever the stream has something to
    /// read. Then any thread that waits for an answer can read from the stream, and the
    /// thread that is there for reading is not woken.
    #[must_use]
    pub fn polling(mut self, descriptor: Descriptor) -> Self {
        self.source.descriptor = Some(descriptor);
        self
    }

    /// As [`polling`](Self::polling), for a stream that keeps bytes of its own after a read, so
    /// that something may be there although the descriptor is not readable. `read_now` takes
    /// everything that can be had without waiting before it fails with `WouldBlock`. `is_ahead`
    /// tells whether the stream keeps something: whoever stops reading before that failure, as a
    /// thread does that has got its answer, would otherwise wait for a descriptor that does not
    /// tell of what has come already.
    #[must_use]
    pub fn polling_with(
        mut self,
        descriptor: Descriptor,
        read_now: ReadNow<R>,
        is_ahead: IsAhead<R>,
    ) -> Self {
        self.source.read_now = Some(read_now);
        self.source.is_ahead = Some(is_ahead);
        self.polling(descriptor)
    }

    /// Begins with bytes that were read from the stream before.
    #[must_use]
    pub fn starting_with(mut self, mut bytes: Vec<u8>) -> Self {
        self.start = 0;
        self.end = bytes.len();
        self.source.was_read(bytes.len());
        bytes.resize(bytes.len().max(FIRST_BUFFER), 0);
        self.buffer = bytes;
        self
    }

    /// Whether nothing of the next message was read from the stream yet. Then
    /// something else may be read through [`inner_mut`](Self::inner_mut).
    pub fn is_between_messages(&self) -> bool {
        self.start == self.end && matches!(self.part, Part::Start) && self.state == State::Open
    }

    /// The stream.
    pub fn inner_mut(&mut self) -> &mut R {
        self.source.inner_mut()
    }

    fn apply_limits(&mut self) {
        self.source.max_fds = self.limits.max_fds as usize;
        self.source.max_open = self.limits.max_open_fds as usize;
    }

    /// Goes on with the message that is being read.
    fn read_message(&mut self, patience: Patience) -> Result<Progress<Message>, TransportError> {
        if let Some(message) = self.take_buffered_message() {
            return Ok(Progress::Done(message));
        }
        loop {
            let progress = match &mut self.part {
                Part::Start => self.read_start(patience)?,
                Part::Table { .. } => self.read_table(patience)?,
                Part::Content { .. } => return self.read_content(patience),
            };
            match progress {
                Progress::Done(part) => self.part = part,
                Progress::Later => return Ok(Progress::Later),
                Progress::Ended => return Ok(Progress::Ended),
            }
        }
    }

    /// A message of one segment, as most are, all of which is in the buffer, which is within
    /// the limits, and for which there is memory.
    fn take_buffered_message(&mut self) -> Option<Message> {
        let segment = self.buffered_segment()?;
        let bytes = segment.len();
        let message = Message::from_segment(segment)?;
        self.skip_segment(bytes);
        Some(self.complete(message))
    }

    /// The segment of such a message.
    fn buffered_segment(&self) -> Option<&[u8]> {
        if !matches!(self.part, Part::Start) || self.limits.max_segments == 0 {
            return None;
        }
        let (table, rest) = self.buffer[self.start..self.end].split_at_checked(2 * NUMBER)?;
        let (count, words) = table.split_at(NUMBER);
        let words = u32::from_le_bytes(*words.first_chunk()?);
        if count != [0; NUMBER] || u64::from(words) > self.limits.max_words {
            return None;
        }
        rest.get(..usize::try_from(words).ok()?.checked_mul(WORD)?)
    }

    fn skip_segment(&mut self, bytes: usize) {
        self.start += 2 * NUMBER + bytes;
        self.last_was_long = bytes > LARGEST_BUFFER;
    }

    fn read_start(&mut self, patience: Patience) -> Result<Progress<Part>, TransportError> {
        let number = match self.read_number(patience)? {
            Progress::Done(number) => number,
            Progress::Ended if self.start < self.end => return Err(TransportError::Truncated),
            Progress::Later => return Ok(Progress::Later),
            Progress::Ended => return Ok(Progress::Ended),
        };
        // A table that was meant to announce no segment at all has u32::MAX
        // here, and counts as the 2^32 segments that it stands for.
        let segments = u64::from(number) + 1;
        if segments > u64::from(self.limits.max_segments) {
            let limit = self.limits.max_segments;
            return Err(TransportError::TooManySegments { segments, limit });
        }
        self.lengths.clear();
        // With the first number, the table fills whole words.
        Ok(Progress::Done(Part::Table { segments, left: segments | 1 }))
    }

    fn read_table(&mut self, patience: Patience) -> Result<Progress<Part>, TransportError> {
        let Part::Table { segments, mut left } = self.part else {
            unreachable!("the caller looked")
        };
        while left > 0 {
            match self.read_number(patience)? {
                // The padding is no length.
                Progress::Done(_) if self.lengths.len() as u64 == segments => {}
                Progress::Done(number) => {
                    let table = |_| out_of_memory("a table of segments");
                    self.lengths.try_reserve(1).map_err(table)?;
                    self.lengths.push(number);
                }
                Progress::Ended => return Err(TransportError::Truncated),
                Progress::Later => {
                    self.part = Part::Table { segments, left };
                    return Ok(Progress::Later);
                }
            }
            left -= 1;
        }
        // Cannot overflow: fewer than 2^32 numbers that are each below 2^32.
        let words: u64 = self.lengths.iter().copied().map(u64::from).sum();
        match usize::try_from(words) {
            Ok(total) if words <= self.limits.max_words && total <= usize::MAX / WORD => {
                self.last_was_long = total * WORD > LARGEST_BUFFER;
                Ok(Progress::Done(Part::Content { total, long: Vec::new(), filled: 0 }))
            }
            _ => Err(TransportError::TooLarge { words, limit: self.limits.max_words }),
        }
    }

    fn read_number(&mut self, patience: Patience) -> io::Result<Progress<u32>> {
        match self.want(NUMBER, patience)? {
            Progress::Done(()) => {}
            Progress::Later => return Ok(Progress::Later),
            Progress::Ended => return Ok(Progress::Ended),
        }
        let mut number = [0; NUMBER];
        number.copy_from_slice(&self.buffer[self.start..self.start + NUMBER]);
        self.start += NUMBER;
        Ok(Progress::Done(u32::from_le_bytes(number)))
    }

    fn read_content(&mut self, patience: Patience) -> Result<Progress<Message>, TransportError> {
        let Part::Content { total, .. } = self.part else { unreachable!("the caller looked") };
        if self.lengths.len() == 1 && total * WORD <= LARGEST_BUFFER {
            return match self.read_only_segment(total * WORD, patience)? {
                Progress::Ended => Err(TransportError::Truncated),
                progress => Ok(progress),
            };
        }
        let words = if total * WORD > LARGEST_BUFFER {
            self.read_long_content(patience)?
        } else {
            self.read_short_content(total, patience)?
        };
        let words = match words {
            Progress::Done(words) => words,
            Progress::Later => return Ok(Progress::Later),
            Progress::Ended => return Err(TransportError::Truncated),
        };
        let Some(message) = Message::from_segments(words, &self.lengths) else {
            unreachable!("the content was read in the length that the table adds up to");
        };
        Ok(Progress::Done(self.complete(message)))
    }

    /// As most messages are: one segment, which fits into the buffer.
    fn read_only_segment(
        &mut self,
        bytes: usize,
        patience: Patience,
    ) -> io::Result<Progress<Message>> {
        match self.want(bytes, patience)? {
            Progress::Done(()) => {}
            Progress::Later => return Ok(Progress::Later),
            Progress::Ended => return Ok(Progress::Ended),
        }
        // The table counts whole words.
        let message = Message::from_segment(&self.buffer[self.start..self.start + bytes])
            .ok_or_else(|| no_memory_for_message(bytes / WORD))?;
        self.start += bytes;
        Ok(Progress::Done(self.complete(message)))
    }

    /// A message of which everything was read.
    fn complete(&mut self, mut message: Message) -> Message {
        self.part = Part::Start;
        let end = self.source.offset() - (self.end - self.start) as u64;
        let fds = self.source.fds_before(end);
        if !fds.is_empty() {
            message.set_fds(fds);
        }
        message
    }

    fn read_short_content(
        &mut self,
        total: usize,
        patience: Patience,
    ) -> io::Result<Progress<Vec<Word>>> {
        match self.want(total * WORD, patience)? {
            Progress::Done(()) => {}
            Progress::Later => return Ok(Progress::Later),
            Progress::Ended => return Ok(Progress::Ended),
        }
        let mut words = Vec::new();
        grow(&mut words, total, total)?;
        let taken = self.take_buffered(Word::words_to_bytes_mut(&mut words));
        debug_assert_eq!(taken, total * WORD);
        Ok(Progress::Done(words))
    }

    // Note [paying as it arrives]
    //
    // A table costs its sender a few bytes and may announce as much as the
    // limits allow, on each of many connections. So a long message gets memory in
    // steps, each at most as large as what has arrived of it before, and a peer
    // that announces much and sends nothing occupies one first step.
    fn read_long_content(
        &mut self,
        patience: Patience,
    ) -> Result<Progress<Vec<Word>>, TransportError> {
        let part = std::mem::replace(&mut self.part, Part::Start);
        let Part::Content { total, long: mut words, mut filled } = part else {
            unreachable!("the caller looked")
        };
        while filled < total * WORD {
            if filled == words.len() * WORD {
                let step = words.len().max(FIRST_STEP).min(total - words.len());
                grow(&mut words, step, total)?;
            }
            let room = &mut Word::words_to_bytes_mut(&mut words)[filled..];
            filled += match self.take_buffered(room) {
                0 => match self.source.read_with(patience, room)? {
                    Some(0) => return Ok(Progress::Ended),
                    Some(count) => count,
                    None => {
                        self.part = Part::Content { total, long: words, filled };
                        return Ok(Progress::Later);
                    }
                },
                count => count,
            };
        }
        Ok(Progress::Done(words))
    }
    /// Moves what is buffered, as far as there is room for it.
    fn take_buffered(&mut self, room: &mut [u8]) -> usize {
        let count = room.len().min(self.end - self.start);
        room[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
        count
    }

    /// Reads until at least `count` bytes are buffered, at most [`LARGEST_BUFFER`].
    fn want(&mut self, count: usize, patience: Patience) -> io::Result<Progress<()>> {
        while self.end - self.start < count {
            self.make_room(count)?;
            // After a long message the next one is likely to be long, too, and what is
            // buffered of it has to be copied. So no more is read than its table needs.
            let most = if self.last_was_long { count.max(PEEK) } else { self.buffer.len() };
            let room = self.buffer.len().min(self.end + most);
            let read = self.source.read_with(patience, &mut self.buffer[self.end..room])?;
            let Some(read) = read else { return Ok(Progress::Later) };
            self.end += read;
            self.buffer_was_filled = self.end == self.buffer.len();
            let is_small = self.end <= self.buffer.len() / 4;
            self.small_reads = if is_small { self.small_reads + 1 } else { 0 };
            if read == 0 {
                return Ok(Progress::Ended);
            }
        }
        Ok(Progress::Done(()))
    }

    /// Moves what is buffered, which is part of one message, to the front, and
    /// enlarges a buffer that is too small for `count` bytes or for the traffic, or makes it
    /// smaller after its peak.
    ///
    /// # Errors
    /// There is no memory for a buffer of `count` bytes.
    fn make_room(&mut self, count: usize) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let mut size = self.buffer.len();
        if self.buffer_was_filled {
            size = (size * 2).min(LARGEST_BUFFER);
        }
        size = size.max(count.next_power_of_two());
        if size > self.buffer.len() {
            match self.buffer.try_reserve_exact(size - self.buffer.len()) {
                Ok(()) => self.buffer.resize(size, 0),
                // The traffic gets no larger buffer.
                Err(_) if count <= self.buffer.len() => {}
                Err(_) => return Err(out_of_memory(format_args!("{count} bytes of a message"))),
            }
        } else if self.small_reads >= FEW_READS {
            self.small_reads = 0;
            let smaller = (size / 2).max(FIRST_BUFFER).max(count.next_power_of_two());
            if smaller < self.buffer.len() && self.end <= smaller {
                self.buffer.truncate(smaller);
                self.buffer.shrink_to_fit();
            }
        }
        self.buffer_was_filled = false;
        Ok(())
    }

    /// The number that starts at byte `offset` of what is buffered.
    fn peek_number(&self, offset: usize) -> Option<u32> {
        let bytes = self.buffer[self.start..self.end].get(offset..offset + NUMBER)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Whether the first message is buffered from its table to its end, or as far as it tells
    /// that it goes beyond a limit.
    fn peek_message(&self) -> Option<bool> {
        let buffered = self.end - self.start;
        let segments = usize::try_from(self.peek_number(0)?).ok()?.checked_add(1)?;
        // The first comparison keeps the products below small.
        if segments as u64 > u64::from(self.limits.max_segments) {
            return Some(true);
        }
        if segments > buffered / NUMBER {
            return Some(false);
        }
        let table = (NUMBER * (segments + 1)).next_multiple_of(WORD);
        let mut words = 0_u64;
        for index in 1..=segments {
            words += u64::from(self.peek_number(NUMBER * index)?);
        }
        if words > self.limits.max_words {
            return Some(true);
        }
        let fits = words <= (buffered / WORD) as u64;
        Some(fits && table + usize::try_from(words).ok()? * WORD <= buffered)
    }
}

impl<R: Read> FramedReader<R> {
    fn read_with(&mut self, patience: Patience) -> Result<Progress<Message>, TransportError> {
        match self.state {
            State::Open => {}
            State::Ended => return Ok(Progress::Ended),
            State::Failed => {
                return Err(io::Error::other("an earlier read of this stream failed").into());
            }
        }
        let outcome = self.read_message(patience);
        match outcome {
            Ok(Progress::Done(_) | Progress::Later) => {}
            Ok(Progress::Ended) => self.state = State::Ended,
            Err(_) => self.state = State::Failed,
        }
        outcome
    }
}

impl<R: Read + Send + 'static> MessageReader for FramedReader<R> {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        match self.read_with(Patience::Waits)? {
            Progress::Done(message) => Ok(Some(message)),
            Progress::Ended => Ok(None),
            Progress::Later => unreachable!("a reader that waits reads on"),
        }
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.source.descriptor.clone()
    }

    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        match self.read_with(Patience::TakesWhatIsThere)? {
            Progress::Done(message) => Ok(Some(Received::Message(message))),
            Progress::Ended => Ok(Some(Received::End)),
            Progress::Later => {
                // Whoever calls this again has seen that the descriptor is readable.
                self.source.is_readable();
                Ok(None)
            }
        }
    }

    fn look_at_next(&mut self, look: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if self.state != State::Open || self.source.has_fds() {
            return false;
        }
        let Some(segment) = self.buffered_segment() else { return false };
        let bytes = segment.len();
        let taken = look(segment);
        if taken {
            self.skip_segment(bytes);
        }
        taken
    }

    fn has_buffered(&self) -> bool {
        let has_message =
            || matches!(self.part, Part::Start) && self.peek_message().unwrap_or(false);
        self.state == State::Open && (has_message() || self.source.is_ahead())
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
        self.apply_limits();
    }
}

/// Adds `step` words to what there is of a message of `total` words.
///
/// # Errors
/// There is no memory for it.
fn grow(words: &mut Vec<Word>, step: usize, total: usize) -> io::Result<()> {
    words.try_reserve_exact(step).map_err(|_| no_memory_for_message(total))?;
    words.resize(words.len() + step, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
    Ok(())
}

fn no_memory_for_message(words: usize) -> io::Error {
    out_of_memory(format_args!("a message of {words} words"))
}

fn out_of_memory(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, format!("there is no memory for {what}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A stream that brings these pieces, one with each read.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.front_mut() else { return Ok(0) };
            let count = piece.len().min(room.len());
            room[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.pop_front();
            }
            Ok(count)
        }
    }

    /// Note [memory peak] of `capnp-threads-core`.
    #[test]
    fn the_buffer_becomes_small_again_when_the_traffic_does() {
        // A table of one segment of one word, and the word.
        let message = [0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        let small = 200;
        let many = message.repeat(LARGEST_BUFFER);
        let pieces = std::iter::once(many).chain(std::iter::repeat_n(message.to_vec(), small));
        let mut reader = FramedReader::new(Pieces(pieces.collect()));
        for _ in 0..LARGEST_BUFFER {
            reader.read().unwrap().unwrap();
        }
        assert_eq!(reader.buffer.len(), LARGEST_BUFFER);
        for _ in 0..small {
            assert_eq!(reader.read().unwrap().unwrap().size_in_words(), 1);
        }
        assert_eq!((reader.buffer.len(), reader.buffer.capacity()), (FIRST_BUFFER, FIRST_BUFFER));
        assert!(reader.read().unwrap().is_none());
    }
}
