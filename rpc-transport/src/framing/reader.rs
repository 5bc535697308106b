//! Bytes in, messages out.

use std::io::{self, Read};

use capnp::Word;
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{FrameLimits, MessageReader, TransportError};

use super::source::{ReceiveFds, Source};
use super::{NUMBER, WORD};

/// The buffer that a new reader has, in bytes.
const FIRST_BUFFER: usize = 4 << 10;

/// The largest buffer, in bytes. Longer messages are read straight into the
/// memory that they stay in.
const LARGEST_BUFFER: usize = 64 << 10;

/// The size of a read, in bytes, while the length of a message that may be long is not
/// known.
const PEEK: usize = 512;

/// The memory, in words, that a long message gets before any of it has arrived; see
/// Note [paying as it arrives].
const FIRST_STEP: usize = 16 << 10;

/// Reads messages from a stream of bytes.
///
/// One call of the stream's `read` fetches as many messages as are there and fit
/// into a buffer, which grows with the traffic from 4 to 64 KiB. Both limits of
/// [`FrameLimits`] are checked as soon as the segment table has arrived, before
/// memory is set aside for what it announces.
///
/// The stream must block until there is something to read. An error that it
/// reports, other than [`io::ErrorKind::Interrupted`], ends the stream of
/// messages; this includes a time limit that was set on a socket.
pub struct FramedReader<R> {
    source: Source<R>,
    /// Bytes that were read lie in `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled all the room that it was given.
    buffer_was_filled: bool,
    /// The last message was too long for the buffer.
    last_was_long: bool,
    /// The segment table of the message that is being read.
    lengths: Vec<u32>,
    limits: FrameLimits,
    state: State,
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
            last_was_long: false,
            lengths: Vec::new(),
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

    /// Whether nothing of the next message was read from the stream yet. Then
    /// something else may be read through [`inner_mut`](Self::inner_mut).
    pub fn is_between_messages(&self) -> bool {
        self.start == self.end && self.state == State::Open
    }

    /// The stream.
    pub fn inner_mut(&mut self) -> &mut R {
        self.source.inner_mut()
    }

    fn apply_limits(&mut self) {
        self.source.max_fds = self.limits.max_fds as usize;
        self.source.max_open = self.limits.max_open_fds as usize;
    }

    fn read_message(&mut self) -> Result<Option<Message>, TransportError> {
        if !self.want(NUMBER)? {
            return if self.start == self.end { Ok(None) } else { Err(TransportError::Truncated) };
        }
        let total = self.read_table()?;
        let words = self.read_content(total)?;
        let Some(mut message) = Message::from_segments(words, &self.lengths) else {
            unreachable!("the content was read in the length that the table adds up to");
        };
        let end = self.source.offset() - (self.end - self.start) as u64;
        message.set_fds(self.source.fds_before(end));
        Ok(Some(message))
    }

    /// Reads the segment table into `lengths` and returns how many words of
    /// content follow.
    fn read_table(&mut self) -> Result<usize, TransportError> {
        // A table that was meant to announce no segment at all has u32::MAX
        // here, and counts as the 2^32 segments that it stands for.
        let segments = u64::from(self.read_number()?) + 1;
        if segments > u64::from(self.limits.max_segments) {
            let limit = self.limits.max_segments;
            return Err(TransportError::TooManySegments { segments, limit });
        }
        self.lengths.clear();
        for _ in 0..segments {
            let length = self.read_number()?;
            self.lengths.push(length);
        }
        if segments.is_multiple_of(2) {
            self.read_number()?;
        }
        // Cannot overflow: fewer than 2^32 numbers that are each below 2^32.
        let words: u64 = self.lengths.iter().copied().map(u64::from).sum();
        match usize::try_from(words) {
            Ok(total) if words <= self.limits.max_words && total <= usize::MAX / WORD => Ok(total),
            _ => Err(TransportError::TooLarge { words, limit: self.limits.max_words }),
        }
    }

    fn read_number(&mut self) -> Result<u32, TransportError> {
        if !self.want(NUMBER)? {
            return Err(TransportError::Truncated);
        }
        let mut number = [0; NUMBER];
        number.copy_from_slice(&self.buffer[self.start..self.start + NUMBER]);
        self.start += NUMBER;
        Ok(u32::from_le_bytes(number))
    }

    fn read_content(&mut self, total: usize) -> Result<Vec<Word>, TransportError> {
        self.last_was_long = total * WORD > LARGEST_BUFFER;
        if total * WORD > LARGEST_BUFFER {
            return self.read_long_content(total);
        }
        if !self.want(total * WORD)? {
            return Err(TransportError::Truncated);
        }
        let mut words = Word::allocate_zeroed_vec(total);
        let taken = self.take_buffered(Word::words_to_bytes_mut(&mut words));
        debug_assert_eq!(taken, total * WORD);
        Ok(words)
    }

    // Note [paying as it arrives]
    //
    // A table costs its sender a few bytes and may announce as much as the
    // limits allow, on each of many connections. So a long message gets memory in
    // steps, each at most as large as what has arrived of it before, and a peer
    // that announces much and sends nothing occupies one first step.
    fn read_long_content(&mut self, total: usize) -> Result<Vec<Word>, TransportError> {
        let mut words: Vec<Word> = Vec::new();
        let mut filled = 0;
        while filled < total * WORD {
            if filled == words.len() * WORD {
                let step = words.len().max(FIRST_STEP).min(total - words.len());
                words.try_reserve_exact(step).map_err(|_| out_of_memory(total))?;
                words.resize(words.len() + step, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
            }
            let room = &mut Word::words_to_bytes_mut(&mut words)[filled..];
            filled += match self.take_buffered(room) {
                0 => match self.source.read(room)? {
                    0 => return Err(TransportError::Truncated),
                    count => count,
                },
                count => count,
            };
        }
        Ok(words)
    }

    /// Moves what is buffered, as far as there is room for it.
    fn take_buffered(&mut self, room: &mut [u8]) -> usize {
        let count = room.len().min(self.end - self.start);
        room[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
        count
    }

    /// Waits until at least `count` bytes are buffered, at most
    /// [`LARGEST_BUFFER`]. Returns `false` if the stream ends before.
    fn want(&mut self, count: usize) -> io::Result<bool> {
        while self.end - self.start < count {
            self.make_room(count);
            // After a long message the next one is likely to be long, too, and what is
            // buffered of it has to be copied. So no more is read than its table needs.
            let most = if self.last_was_long { count.max(PEEK) } else { self.buffer.len() };
            let room = self.buffer.len().min(self.end + most);
            let read = self.source.read(&mut self.buffer[self.end..room])?;
            self.end += read;
            self.buffer_was_filled = self.end == self.buffer.len();
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Moves what is buffered, which is part of one message, to the front, and
    /// enlarges a buffer that is too small for `count` bytes or for the traffic.
    fn make_room(&mut self, count: usize) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let mut size = self.buffer.len();
        if self.buffer_was_filled {
            size = (size * 2).min(LARGEST_BUFFER);
        }
        size = size.max(count.next_power_of_two());
        if size > self.buffer.len() {
            self.buffer.resize(size, 0);
        }
        self.buffer_was_filled = false;
    }

    /// The number that starts at byte `offset` of what is buffered.
    fn peek_number(&self, offset: usize) -> Option<u32> {
        let bytes = self.buffer[self.start..self.end].get(offset..offset + NUMBER)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Whether the first message is buffered from its table to its end.
    fn peek_message(&self) -> Option<bool> {
        let buffered = self.end - self.start;
        let segments = usize::try_from(self.peek_number(0)?).ok()?.checked_add(1)?;
        // The first comparison keeps the products below small.
        if segments > buffered / NUMBER || segments as u64 > u64::from(self.limits.max_segments) {
            return Some(false);
        }
        let table = (NUMBER * (segments + 1)).next_multiple_of(WORD);
        let mut words = 0_u64;
        for index in 1..=segments {
            words += u64::from(self.peek_number(NUMBER * index)?);
        }
        Some(
            words <= self.limits.max_words
                && words <= (buffered / WORD) as u64
                && table + usize::try_from(words).ok()? * WORD <= buffered,
        )
    }
}

impl<R: Read + Send + 'static> MessageReader for FramedReader<R> {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        match self.state {
            State::Open => {}
            State::Ended => return Ok(None),
            State::Failed => {
                return Err(io::Error::other("an earlier read of this stream failed").into());
            }
        }
        let outcome = self.read_message();
        match outcome {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::Ended,
            Err(_) => self.state = State::Failed,
        }
        outcome
    }

    fn has_buffered(&self) -> bool {
        self.state == State::Open && self.peek_message().unwrap_or(false)
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
        self.apply_limits();
    }
}

fn out_of_memory(words: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        format!("there is no memory for a message of {words} words"),
    )
}
