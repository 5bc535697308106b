//! Transports within one process.
//!
//! [`pair`] hands messages over as they are: nothing is serialised and nothing
//! copied. [`byte_pair`] sends the same messages as bytes through two
//! [pipes](crate::pipe), framed as on a socket, for tests of what framing does.
//!
//! Both are bounded, as a socket is: a writer waits while the other side does
//! not read. A thread that must not wait for its peer needs a queue in front of the
//! writer; a transport without bounds would only hide that there is none.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use capnp_threads_core::memory::GiveBack;
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{
    Arrivals, FrameLimits, MessageReader, MessageWriter, PeerDescription, Received, Transport,
    TransportControl, TransportError,
};
use parking_lot::{Condvar, Mutex};

use crate::framing::{FramedReader, FramedWriter};
use crate::pipe::{self, PipeControl};

#[cfg(test)]
mod tests;

/// The longest message that is read where it lies, of which the content is copied, in words.
const MOST_COPIED: usize = 20;

/// Number of messages for which memory is kept when none waits.
const KEPT: usize = 16;

/// What [`pair`] lets lie between a writer and a reader.
///
/// ```
/// use capnp_threads_transport::memory::{self, Capacity};
///
/// let capacity = Capacity { messages: 16, words: 128 << 10 };
/// let (left, right) = memory::pair_with_capacity(capacity);
/// # drop((left, right));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "users make it")]
pub struct Capacity {
    /// Messages in one direction.
    pub messages: usize,
    /// Words of eight bytes in one direction. A message that is larger passes
    /// alone.
    pub words: usize,
}

impl Default for Capacity {
    /// 1024 messages of together 128 Ki words (1 MiB).
    fn default() -> Self {
        Capacity { messages: 1024, words: 128 << 10 }
    }
}

/// Two connected transports with the default [`Capacity`].
pub fn pair() -> (Transport, Transport) {
    pair_with_capacity(Capacity::default())
}

/// Two connected transports that hand messages over.
///
/// A reader takes everything that waits at once, so up to twice the capacity may
/// be on its way in one direction.
pub fn pair_with_capacity(capacity: Capacity) -> (Transport, Transport) {
    let (to_left, to_right) = Arrivals::pair();
    let left = Arc::new(Lane::new(capacity, to_left));
    let right = Arc::new(Lane::new(capacity, to_right));
    (side(&left, &right), side(&right, &left))
}

/// Two connected transports that frame their messages and send them through byte
/// pipes of `capacity` bytes (at least one) in each direction.
pub fn byte_pair(capacity: usize) -> (Transport, Transport) {
    let (left_reader, right_writer) = pipe::pipe(capacity);
    let (right_reader, left_writer) = pipe::pipe(capacity);
    let control = Arc::new(ByteControl { pipes: [left_writer.control(), right_writer.control()] });
    let transport = |reader, writer| Transport {
        reader: Box::new(FramedReader::new(reader)),
        writer: Box::new(FramedWriter::new(writer)),
        control: Arc::clone(&control) as Arc<dyn TransportControl>,
    };
    (transport(left_reader, left_writer), transport(right_reader, right_writer))
}

fn peer() -> PeerDescription {
    PeerDescription::from_address("memory")
}

fn side(incoming: &Arc<Lane>, outgoing: &Arc<Lane>) -> Transport {
    Transport {
        reader: Box::new(Reader {
            lane: Arc::clone(incoming),
            taken: VecDeque::new(),
            limits: FrameLimits::default(),
            failed: false,
        }),
        writer: Box::new(Writer { lane: Arc::clone(outgoing) }),
        control: Arc::new(Control {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
        }),
    }
}

/// One of the two ways between the sides.
struct Lane {
    capacity: Capacity,
    state: Mutex<State>,
    /// The queue got a message, or the writer ended it.
    readable: Condvar,
    /// The queue was emptied, or the reader is gone.
    writable: Condvar,
    /// Tells the same as `readable`, for a reader that does not wait.
    arrivals: Arc<Arrivals>,
}

struct State {
    queue: VecDeque<Message>,
    /// The size of all messages in the queue.
    words: usize,
    /// Nothing more will be written.
    ended: bool,
    /// Nothing more will be read.
    refused: bool,
}

impl Lane {
    fn new(capacity: Capacity, arrivals: Arc<Arrivals>) -> Self {
        Lane {
            capacity,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                words: 0,
                ended: false,
                refused: false,
            }),
            readable: Condvar::new(),
            writable: Condvar::new(),
            arrivals,
        }
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        self.arrivals.set(true);
        drop(state);
        self.tell_of_the_end();
    }

    fn tell_of_the_end(&self) {
        self.readable.notify_all();
        self.writable.notify_all();
        self.arrivals.tell();
    }

    /// Puts a message into the queue. [`tell`](Self::tell) has to follow.
    fn push(&self, state: &mut State, message: Message, words: usize) {
        state.words = state.words.saturating_add(words);
        state.queue.push_back(message);
        self.arrivals.set(true);
    }

    /// Tells the reader that something has come.
    fn tell(&self) {
        self.readable.notify_one();
        self.arrivals.tell();
    }

    fn refuse(&self) {
        let mut state = self.state.lock();
        state.refused = true;
        let dropped = std::mem::take(&mut state.queue);
        state.words = 0;
        self.arrivals.set(true);
        drop(state);
        drop(dropped);
        self.tell_of_the_end();
    }

    fn has_room_for(&self, state: &State, words: usize) -> bool {
        let Capacity { messages, words: limit } = self.capacity;
        state.queue.is_empty()
            || (state.queue.len() < messages && state.words.saturating_add(words) <= limit)
    }
}

struct Reader {
    lane: Arc<Lane>,
    /// What was taken out of the queue and not yet returned.
    taken: VecDeque<Message>,
    limits: FrameLimits,
    failed: bool,
}

impl Reader {
    /// Takes everything out of the queue.
    fn take_all(taken: &mut VecDeque<Message>, state: &mut State) {
        std::mem::swap(taken, &mut state.queue);
        state.words = 0;
    }

    /// Takes out what has come, if no more than one message is left of what was taken out
    /// before, which is going to be read. Returns whether nothing else will come. Does not wait.
    fn take_what_is_there(&mut self) -> bool {
        if self.taken.len() > 1 || self.taken.is_empty() && !self.lane.arrivals.is_readable() {
            return false;
        }
        let Reader { lane, taken, .. } = self;
        let mut state = lane.state.lock();
        let is_over = state.ended || state.refused;
        if taken.is_empty() {
            Self::take_all(taken, &mut state);
        }
        let is_last = taken.len() <= 1 && state.queue.is_empty();
        lane.arrivals.set(is_over || !is_last);
        drop(state);
        lane.writable.notify_all();
        is_over
    }

    /// The next message of those that were taken out; `None` if there is none.
    ///
    /// # Errors
    /// It is not accepted.
    fn next(&mut self) -> Result<Option<Message>, TransportError> {
        let Some(message) = self.taken.pop_front() else { return Ok(None) };
        self.taken.give_back(KEPT);
        let checked = check(&message, self.limits);
        self.failed = checked.is_err();
        checked?;
        Ok(Some(without_surplus(message, self.limits)))
    }

    fn check_whole(&self) -> Result<(), TransportError> {
        if self.failed {
            return Err(io::Error::other("an earlier read of this stream failed").into());
        }
        Ok(())
    }
}

impl MessageReader for Reader {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        self.check_whole()?;
        if self.taken.is_empty() {
            let Reader { lane, taken, .. } = self;
            let mut state = lane.state.lock();
            while state.queue.is_empty() && !state.ended && !state.refused {
                lane.readable.wait(&mut state);
            }
            Self::take_all(taken, &mut state);
            drop(state);
            lane.writable.notify_all();
        }
        self.next()
    }

    fn arrivals(&self) -> Option<Arc<Arrivals>> {
        Some(Arc::clone(&self.lane.arrivals))
    }

    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        self.check_whole()?;
        let is_over = self.take_what_is_there();
        if self.taken.is_empty() {
            return Ok(is_over.then_some(Received::End));
        }
        Ok(self.next()?.map(Received::Message))
    }

    fn look_at_next(&mut self, look: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if self.failed {
            return false;
        }
        self.take_what_is_there();
        let Some(message) = self.taken.front() else { return false };
        if message.size_in_words() > MOST_COPIED
            || !message.fds().is_empty()
            || check(message, self.limits).is_err()
        {
            return false;
        }
        let mut segments = message.segments();
        let (Some(only), None) = (segments.next(), segments.next()) else { return false };
        let taken = look(only);
        if taken {
            drop(self.taken.pop_front());
            self.taken.give_back(KEPT);
        }
        taken
    }

    fn has_buffered(&self) -> bool {
        !self.taken.is_empty() && !self.failed
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }
}

fn check(message: &Message, limits: FrameLimits) -> Result<(), TransportError> {
    let segments = message.segment_count() as u64;
    if segments > u64::from(limits.max_segments) {
        return Err(TransportError::TooManySegments { segments, limit: limits.max_segments });
    }
    let words = message.size_in_words() as u64;
    if words > limits.max_words {
        return Err(TransportError::TooLarge { words, limit: limits.max_words });
    }
    Ok(())
}

/// The message with no more file descriptors than are accepted.
fn without_surplus(mut message: Message, limits: FrameLimits) -> Message {
    let max = limits.max_fds as usize;
    if message.fds().len() > max {
        let mut fds = message.take_fds();
        fds.truncate(max);
        message.set_fds(fds);
    }
    message
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.lane.refuse();
    }
}

struct Writer {
    lane: Arc<Lane>,
}

impl MessageWriter for Writer {
    fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
        let mut messages = batch.drain(..);
        let mut next = messages.next();
        let mut state = self.lane.state.lock();
        while let Some(message) = next.take() {
            let words = message.size_in_words();
            while !state.refused && !state.ended && !self.lane.has_room_for(&state, words) {
                self.lane.tell();
                self.lane.writable.wait(&mut state);
            }
            if state.refused || state.ended {
                drop(state);
                let reason = "the other side does not read any more, or this side has finished";
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, reason).into());
            }
            self.lane.push(&mut state, message, words);
            next = messages.next();
        }
        drop(state);
        self.lane.tell();
        Ok(())
    }

    fn try_write(&mut self, batch: &mut Vec<Message>) -> Result<bool, TransportError> {
        let mut state = self.lane.state.lock();
        if state.refused || state.ended {
            return Ok(false);
        }
        let mut rest = batch.drain(..);
        let mut first_left = None;
        for message in rest.by_ref() {
            let words = message.size_in_words();
            if !self.lane.has_room_for(&state, words) {
                first_left = Some(message);
                break;
            }
            self.lane.push(&mut state, message, words);
        }
        drop(state);
        let left: Vec<Message> = first_left.into_iter().chain(rest).collect();
        batch.extend(left);
        self.lane.tell();
        Ok(batch.is_empty())
    }

    fn max_fds(&self) -> usize {
        usize::MAX
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        self.lane.end();
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lane.end();
    }
}

struct Control {
    incoming: Arc<Lane>,
    outgoing: Arc<Lane>,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        self.outgoing.end();
        self.incoming.refuse();
    }

    fn peer(&self) -> PeerDescription {
        peer()
    }
}

struct ByteControl {
    pipes: [PipeControl; 2],
}

impl TransportControl for ByteControl {
    fn shutdown(&self) {
        for pipe in &self.pipes {
            pipe.close();
        }
    }

    fn peer(&self) -> PeerDescription {
        peer()
    }
}
