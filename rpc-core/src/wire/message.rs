//! One Cap'n Proto message, whole, in a form that may cross threads.
//!
//! A message is either built here or was received. Both are read the same way,
//! so that what never leaves the process is never copied.

use capnp::message::{Builder, HeapAllocator, ReaderSegments};
use capnp::{OutputSegments, Word};

use crate::budget::Charge;
use crate::fd::SharedFd;

/// A frozen message, which can no longer be changed and can be shared.
///
/// ```
/// use capnp_threads_core::capnp::{Word, message};
/// use capnp_threads_core::message::Message;
///
/// // As a transport makes it of what it has read …
/// let received = Message::from_segments(Word::allocate_zeroed_vec(3), &[1, 2]);
/// assert!(received.is_some_and(|message| message.segment_count() == 2));
/// // … and of what is built here.
/// let built = Message::from(message::Builder::new_default());
/// assert_eq!(built.fds().len(), 0);
/// ```
pub struct Message {
    body: Body,
    fds: Vec<SharedFd>,
    /// What the message costs the peer that sent it.
    charge: Option<Charge>,
}

enum Body {
    Built(Builder<HeapAllocator>),
    Received(Received),
    Short(Short),
}

/// One segment that is short enough to lie in the message itself, which needs no memory of its
/// own then. Most calls and most results are so short.
struct Short {
    words: [Word; SHORT_WORDS],
    len: u8,
}

/// The longest segment that lies in the message itself, in words: room for a call of a field
/// of results, or one with a few numbers.
const SHORT_WORDS: usize = 20;

const NO_WORD: Word = capnp::word(0, 0, 0, 0, 0, 0, 0, 0);

/// Segments that lie one behind the other in one piece of memory.
struct Received {
    words: Vec<Word>,
    /// The ends of all segments but the last one, in words from the start. Most
    /// messages have one segment.
    ends: Vec<usize>,
}

impl Message {
    /// A message that was received: `words` are the segments' content, one
    /// segment after the other, `lengths` how many words each has.
    ///
    /// Returns `None` when the lengths do not add up to exactly `words`, or
    /// when there is no segment at all.
    pub fn from_segments(words: Vec<Word>, lengths: &[u32]) -> Option<Self> {
        let (last, others) = lengths.split_last()?;
        let mut ends = Vec::with_capacity(others.len());
        let mut end = 0_usize;
        for length in others {
            end = end.checked_add(usize::try_from(*length).ok()?)?;
            ends.push(end);
        }
        if end.checked_add(usize::try_from(*last).ok()?)? != words.len() {
            return None;
        }
        Some(Message {
            body: Body::Received(Received { words, ends }),
            fds: Vec::new(),
            charge: None,
        })
    }

    /// A message of one segment with this content, which is copied.
    ///
    /// Returns `None` when that is not a whole number of words, or when there is no memory for
    /// the copy.
    ///
    /// ```
    /// use capnp_threads_core::message::Message;
    ///
    /// assert!(Message::from_segment(&[0; 16]).is_some_and(|message| message.size_in_words() == 2));
    /// assert!(Message::from_segment(&[0; 15]).is_none());
    /// ```
    pub fn from_segment(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(size_of::<Word>()) {
            return None;
        }
        let len = bytes.len() / size_of::<Word>();
        if len <= SHORT_WORDS {
            return Some(Message::starting_with(bytes, 0));
        }
        // A peer says how long it is.
        let mut words = Vec::new();
        words.try_reserve_exact(len).ok()?;
        words.resize(len, NO_WORD);
        Word::words_to_bytes_mut(&mut words).copy_from_slice(bytes);
        let body = Body::Received(Received { words, ends: Vec::new() });
        Some(Message { body, fds: Vec::new(), charge: None })
    }

    /// A message of one segment that begins with this content, which is copied, and ends with
    /// so many words of zeros.
    pub(super) fn starting_with(bytes: &[u8], more: usize) -> Self {
        let len = bytes.len() / size_of::<Word>() + more;
        let mut body = match u8::try_from(len) {
            Ok(short) if len <= SHORT_WORDS => {
                Body::Short(Short { words: [NO_WORD; SHORT_WORDS], len: short })
            }
            _ => Body::Received(Received { words: vec![NO_WORD; len], ends: Vec::new() }),
        };
        if let Some(place) = body.bytes_mut().get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        Message { body, fds: Vec::new(), charge: None }
    }

    /// The content of a message that was made by [`starting_with`](Self::starting_with).
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.body.bytes_mut()
    }

    /// The content of a message that was built here, if it lies in one segment.
    pub(super) fn built_segment(&self) -> Option<&[u8]> {
        let Body::Built(builder) = &self.body else { return None };
        match &*builder.get_segments_for_output() {
            [segment] => Some(segment),
            _ => None,
        }
    }

    /// The file descriptors that travel with the message, beside its content. The
    /// message's capability descriptors refer to them by index.
    pub fn fds(&self) -> &[SharedFd] {
        &self.fds
    }

    /// Replaces the file descriptors that travel with the message.
    pub fn set_fds(&mut self, fds: Vec<SharedFd>) {
        self.fds = fds;
    }

    /// Takes the file descriptors out.
    pub fn take_fds(&mut self) -> Vec<SharedFd> {
        std::mem::take(&mut self.fds)
    }

    pub(crate) fn charge(&self) -> Option<&Charge> {
        self.charge.as_ref()
    }

    /// Sets what is charged as long as the message is kept.
    pub(crate) fn set_charge(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }

    pub(crate) fn is_built(&self) -> bool {
        matches!(self.body, Body::Built(_))
    }

    /// The builder again, if the message was built here.
    #[expect(clippy::result_large_err, reason = "a short message lies in its value, unboxed")]
    pub(crate) fn into_builder(self) -> Result<Builder<HeapAllocator>, Self> {
        match self.body {
            Body::Built(builder) => Ok(builder),
            Body::Received(_) | Body::Short(_) => Err(self),
        }
    }

    /// The content of each segment, in order.
    pub fn segments(&self) -> Segments<'_> {
        Segments {
            source: match &self.body {
                Body::Built(builder) => Source::Built(builder.get_segments_for_output()),
                Body::Received(received) => Source::Received(received),
                Body::Short(short) => Source::Short(short),
            },
            next: 0,
        }
    }

    /// The content of a message in one segment.
    pub(super) fn only_segment(&self) -> Option<&[u8]> {
        match &self.body {
            // From a peer in this process, or never sent.
            Body::Built(_) => self.built_segment(),
            Body::Received(Received { words, ends }) if ends.is_empty() => {
                Some(Word::words_to_bytes(words))
            }
            Body::Short(short) => Some(short.segment()),
            Body::Received(_) => None,
        }
    }

    /// The number of segments; at least one in a message that was received.
    pub fn segment_count(&self) -> usize {
        self.len()
    }

    /// The size of the content in words of eight bytes, without the framing.
    pub fn size_in_words(&self) -> usize {
        match &self.body {
            Body::Built(builder) => builder.size_in_words(),
            Body::Received(received) => received.words.len(),
            Body::Short(short) => usize::from(short.len),
        }
    }
}

impl Message {
    /// The memory of the content, in words. For a message that was built, an estimate: the
    /// size that its first segment was given is not known.
    pub(crate) fn memory_in_words(&self) -> usize {
        /// Size of the first segment beyond what is in it.
        const SPARE: usize = 32;
        match &self.body {
            Body::Built(builder) if builder.len() == 1 => builder.size_in_words() + SPARE,
            Body::Built(_) => {
                let mut used = self.segments().map(|segment| segment.len() / 8);
                let first = used.next().unwrap_or(0) + SPARE;
                // The allocator makes each segment as long as all before it and the first
                // one together, or longer if something longer has to go there.
                used.fold(first, |memory, used| memory + used.max(first + memory))
            }
            Body::Received(received) => received.words.capacity(),
            Body::Short(_) => 0,
        }
    }
}

impl From<Builder<HeapAllocator>> for Message {
    fn from(builder: Builder<HeapAllocator>) -> Self {
        Message { body: Body::Built(builder), fds: Vec::new(), charge: None }
    }
}

impl ReaderSegments for Message {
    fn get_segment(&self, index: u32) -> Option<&[u8]> {
        match &self.body {
            Body::Built(builder) => builder.get_segment(index),
            Body::Received(received) => received.segment(usize::try_from(index).ok()?),
            Body::Short(short) => (index == 0).then(|| short.segment()),
        }
    }

    fn len(&self) -> usize {
        match &self.body {
            Body::Built(builder) => builder.len(),
            Body::Received(received) => received.segment_count(),
            Body::Short(_) => 1,
        }
    }
}

impl Body {
    /// The content of the only segment, if it was not built.
    fn bytes_mut(&mut self) -> &mut [u8] {
        Word::words_to_bytes_mut(match self {
            Body::Short(Short { words, len }) => &mut words[..usize::from(*len)],
            Body::Received(Received { words, .. }) => words,
            Body::Built(_) => &mut [],
        })
    }
}

impl Short {
    fn segment(&self) -> &[u8] {
        Word::words_to_bytes(&self.words[..usize::from(self.len)])
    }
}

impl Received {
    fn segment_count(&self) -> usize {
        self.ends.len() + 1
    }

    fn segment(&self, index: usize) -> Option<&[u8]> {
        let end = match self.ends.get(index) {
            Some(end) => *end,
            None if index == self.ends.len() => self.words.len(),
            None => return None,
        };
        let start = match index.checked_sub(1) {
            Some(previous) => *self.ends.get(previous)?,
            None => 0,
        };
        self.words.get(start..end).map(Word::words_to_bytes)
    }
}

/// The segments of a message in order; see [`Message::segments`].
pub struct Segments<'a> {
    source: Source<'a>,
    next: usize,
}

/// A builder collects its segments again whenever it is asked for one, so they are
/// collected only once here.
enum Source<'a> {
    Built(OutputSegments<'a>),
    Received(&'a Received),
    Short(&'a Short),
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let segment = match &self.source {
            Source::Built(segments) => segments.get(self.next).copied(),
            Source::Received(received) => received.segment(self.next),
            Source::Short(short) => (self.next == 0).then(|| short.segment()),
        }?;
        self.next += 1;
        Some(segment)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = match &self.source {
            Source::Built(segments) => segments.len(),
            Source::Received(received) => received.segment_count(),
            Source::Short(_) => 1,
        };
        (count - self.next, Some(count - self.next))
    }
}

impl ExactSizeIterator for Segments<'_> {}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let origin = match &self.body {
            Body::Built(_) => "built",
            Body::Received(_) | Body::Short(_) => "received",
        };
        write!(
            f,
            "Message({origin}, {} words in {} segments)",
            self.size_in_words(),
            self.segment_count()
        )?;
        if !self.fds.is_empty() {
            write!(f, " with {} file descriptors", self.fds.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_where_the_lengths_say() {
        let words = Word::allocate_zeroed_vec(5);
        let message = Message::from_segments(words, &[2, 0, 3]).unwrap();
        let sizes: Vec<_> = message.segments().map(<[u8]>::len).collect();
        assert_eq!(sizes, [16, 0, 24]);
        assert_eq!(message.size_in_words(), 5);
    }

    #[test]
    fn a_built_message_lists_the_segments_that_it_gives_one_by_one() {
        use capnp::message::AllocationStrategy::FixedSize;
        let allocator = HeapAllocator::new().first_segment_words(2).allocation_strategy(FixedSize);
        let mut builder = Builder::new(allocator);
        builder.initn_root::<capnp::data_list::Builder<'_>>(4);
        let message = Message::from(builder);
        let mut segments = message.segments();
        assert_eq!(segments.len(), message.segment_count());
        assert!(segments.len() > 1);
        for index in 0.. {
            let segment = message.get_segment(index);
            assert_eq!(segments.next(), segment);
            if segment.is_none() {
                break;
            }
        }
    }

    #[test]
    fn only_a_segment_that_may_grow_is_larger_than_what_is_in_it() {
        let built = |lengths: &[usize]| {
            let mut builder = Builder::new(HeapAllocator::new().first_segment_words(32));
            let count = u32::try_from(lengths.len()).unwrap();
            let mut list = builder.initn_root::<capnp::data_list::Builder<'_>>(count);
            for (index, words) in (0..).zip(lengths) {
                list.set(index, &vec![1; 8 * words]);
            }
            let message = Message::from(builder);
            (message.segment_count(), message.size_in_words(), message.memory_in_words())
        };
        assert_eq!(built(&[10]), (1, 12, 12 + 32));
        // The first segment has the pointers, and the others what these point at.
        assert_eq!(built(&[90_000]), (2, 90_003, 90_003 + 32));
        // The last segment has room for as much as all before it.
        assert_eq!(built(&[1_000, 40]), (3, 1_045, 2 * (1_004 + 32) + 35));
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        assert!(Message::from_segments(Word::allocate_zeroed_vec(5), &[2, 2]).is_none());
        assert!(Message::from_segments(Word::allocate_zeroed_vec(5), &[6]).is_none());
        assert!(Message::from_segments(Vec::new(), &[]).is_none());
    }
}
