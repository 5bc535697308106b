//! The short way to write what is sent most often: calls and results whose content is short,
//! and the messages that give references back. The mirror image of [`plain`](super::plain).
//!
//! Completing a message by the accessors of the schema takes several times as many
//! instructions as copying a short one. Here the content's words are copied out of the message
//! that they were built in, and the few numbers around them are put where the schema puts
//! them: into the very words that the accessors would write. Because they are copied, the
//! content may be shared, as that of results is which both leave and stay. Everything else is
//! left to the accessors.
//!
//! A message begins with its root pointer, the struct `Message`, and the `Call` or `Return` with
//! its payload, as [`PayloadBuilder`](crate::cap::payload::PayloadBuilder) lays them out before
//! it knows anything of the content. The content follows, then the target of a call, and then
//! the table of capabilities.

use capnp::Word;
use capnp::message::{Builder, HeapAllocator};

use super::encode::write_cap_table;
use super::message::Message as Frame;
use super::rpc_capnp::payload;
use super::{
    Call, Content, Descriptor, Descriptors, Hint, Message, ResultsTo, Return, ReturnKind, Target,
};

/// The longest segment that is copied, in words. Longer ones are completed in place.
const MOST_WORDS: usize = 64;

/// The tags of the union `Message`.
const CALL: u64 = 2;
const RETURN: u64 = 3;
const FINISH: u64 = 4;
const RELEASE: u64 = 6;
const BOOTSTRAP: u64 = 8;

/// How the words of a message begin that content lies in, before anything is filled in.
pub(crate) struct Opening<const WORDS: usize> {
    words: [Word; WORDS],
    /// Where the struct is that `Message` leads to, in words.
    inner: usize,
    /// Where the payload is, which consists of two pointers: to the content, and to the
    /// table of capabilities. Nothing is behind it but what these lead to.
    payload: usize,
}

/// The root pointer; `Message`, which has a word of data and a pointer; `Call`, the second of
/// whose three pointers leads to the payload; and the payload.
pub(crate) static OF_CALL: Opening<11> = Opening {
    words: words([
        struct_pointer(0, 1, 1, 1),
        CALL,
        struct_pointer(2, 3, 3, 3),
        0,
        0,
        0,
        0,
        struct_pointer(7, 9, 0, 2),
        0,
        0,
        0,
    ]),
    inner: 3,
    payload: 9,
};

/// As that of a call, with `Return`, which has one pointer.
pub(crate) static OF_RETURN: Opening<8> = Opening {
    words: words([
        struct_pointer(0, 1, 1, 1),
        RETURN,
        struct_pointer(2, 3, 2, 1),
        0,
        0,
        struct_pointer(5, 6, 0, 2),
        0,
        0,
    ]),
    inner: 3,
    payload: 6,
};

/// The root pointer, `Message`, and `Bootstrap`, which has a word of data and the pointer to
/// what is asked for.
pub(crate) static OF_BOOTSTRAP: Opening<5> = Opening {
    words: words([struct_pointer(0, 1, 1, 1), BOOTSTRAP, struct_pointer(2, 3, 1, 1), 0, 0]),
    inner: 3,
    payload: 4,
};

impl<const WORDS: usize> Opening<WORDS> {
    /// A message without anything in it.
    pub(crate) fn segment(&self) -> &[u8] {
        Word::words_to_bytes(&self.words)
    }

    /// Whether a segment begins so, with nothing filled in but the content.
    fn opens(&self, segment: &[u8]) -> bool {
        let (content, table) = (8 * self.payload, 8 * self.payload + 8);
        let (own, end) = (self.segment(), 8 * WORDS);
        segment.get(..content) == own.get(..content) && segment.get(table..end) == own.get(table..)
    }

    /// A message that begins so and has this content, with room for so many words more; and
    /// where the content ends.
    fn with<'f>(
        &self,
        content: &Content,
        more: usize,
        frames: &'f mut Vec<Frame>,
    ) -> Option<(&'f mut Frame, usize)> {
        let segment = match &content.frame {
            None => self.segment(),
            Some(frame) => {
                let segment = frame.built_segment()?;
                if segment.len() > 8 * MOST_WORDS || !self.opens(segment) {
                    return None;
                }
                segment
            }
        };
        frames.push(Frame::starting_with(segment, more));
        Some((frames.last_mut()?, segment.len() / 8))
    }
}

/// Whether content that was built in a message for a call, or for results, can be copied out of
/// it, so that it may be shared.
pub(crate) fn can_copy(content: &Frame) -> bool {
    content.built_segment().is_some_and(|segment| {
        segment.len() <= 8 * MOST_WORDS && (OF_CALL.opens(segment) || OF_RETURN.opens(segment))
    })
}

/// Writes a message, if it is one of those, without its file descriptors. Adds the frame to
/// others.
pub(super) fn write<'f>(message: &Message, frames: &'f mut Vec<Frame>) -> Option<&'f mut Frame> {
    match message {
        Message::Call(call) => write_call(call, frames),
        Message::Return(ret @ Return { outcome: ReturnKind::Results(content), .. }) => {
            write_results(ret, content, frames)
        }
        Message::Finish(finish) => {
            let bits = u64::from(!finish.release_results)
                | u64::from(!finish.early_cancellation_workaround) << 1;
            small(FINISH, u64::from(finish.question) | bits << 32, frames)
        }
        Message::Release(release) => {
            small(RELEASE, u64::from(release.id) | u64::from(release.count) << 32, frames)
        }
        _ => None,
    }
}

fn write_call<'f>(call: &Call, frames: &'f mut Vec<Frame>) -> Option<&'f mut Frame> {
    let table = Table::of(&call.params.caps);
    let steps = match &call.target {
        Target::PromisedAnswer(answer) => answer.path.as_deref().unwrap_or_default(),
        Target::ImportedCap(_) | Target::Unknown => &[],
    };
    let target_words = match &call.target {
        Target::ImportedCap(_) | Target::Unknown => 2,
        Target::PromisedAnswer(_) if steps.is_empty() => 4,
        Target::PromisedAnswer(_) => 5 + steps.len(),
    };
    let more = target_words + table.words();
    let (frame, target) = OF_CALL.with(&call.params, more, frames)?;
    let mut out = Words { bytes: frame.bytes_mut(), end: target };
    let results_to = match call.results_to {
        ResultsTo::Caller | ResultsTo::Unknown => 0,
        ResultsTo::Yourself => 1,
    };
    let method = u64::from(call.method) << 32 | results_to << 48;
    let hint = match call.hint {
        Hint::None => 0,
        Hint::NoPipelining => 1 << 1,
        Hint::OnlyPipeline => 1 << 2,
    };
    let inner = OF_CALL.inner;
    out.set(inner, u64::from(call.question) | method);
    out.set(inner + 1, call.interface);
    out.set(inner + 2, hint);
    out.set(inner + 3, struct_pointer(inner + 3, target, 1, 1));
    match &call.target {
        Target::ImportedCap(id) => {
            out.push(u64::from(*id));
            out.push(0);
        }
        Target::PromisedAnswer(answer) => {
            out.push(1 << 32);
            out.push(struct_pointer(target + 1, target + 2, 1, 1));
            out.push(u64::from(answer.question));
            if steps.is_empty() {
                out.push(0);
            } else {
                out.push(list_pointer(target + 3, target + 4, steps.len()));
                out.push(list_tag(steps.len(), 1, 0));
                steps.iter().for_each(|field| out.push(1 | u64::from(*field) << 16));
            }
        }
        // What it is has been lost.
        Target::Unknown => {
            out.push(0);
            out.push(0);
        }
    }
    table.write(&mut out, OF_CALL.payload + 1);
    Some(frame)
}

fn write_results<'f>(
    ret: &Return,
    content: &Content,
    frames: &'f mut Vec<Frame>,
) -> Option<&'f mut Frame> {
    let table = Table::of(&content.caps);
    let (frame, end) = OF_RETURN.with(content, table.words(), frames)?;
    let mut out = Words { bytes: frame.bytes_mut(), end };
    // The first of these two means the opposite of what it says, so that a struct of zeros is
    // the default.
    let bits = u64::from(!ret.release_params) | u64::from(ret.no_finish_needed) << 1;
    out.set(OF_RETURN.inner, u64::from(ret.answer) | bits << 32);
    table.write(&mut out, OF_RETURN.payload + 1);
    Some(frame)
}

/// A message that leads to a struct of one word.
fn small(tag: u64, data: u64, frames: &mut Vec<Frame>) -> Option<&mut Frame> {
    frames.push(Frame::starting_with(&[], 4));
    let frame = frames.last_mut()?;
    let mut out = Words { bytes: frame.bytes_mut(), end: 0 };
    for word in [struct_pointer(0, 1, 1, 1), tag, struct_pointer(2, 3, 1, 0), data] {
        out.push(word);
    }
    Some(frame)
}

/// The words of a message that is being written.
struct Words<'a> {
    bytes: &'a mut [u8],
    /// How many words are written.
    end: usize,
}

impl Words<'_> {
    fn set(&mut self, at: usize, word: u64) {
        if let Some(place) = self.bytes.get_mut(8 * at..8 * at + 8) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn push(&mut self, word: u64) {
        self.set(self.end, word);
        self.end += 1;
    }
}

/// The table of the capabilities of content.
enum Table<'a> {
    /// Each is named by a kind and a number.
    Plain(&'a [Descriptor]),
    /// Some are named otherwise, or have file descriptors. These words begin with the pointer
    /// to the table.
    Other(Vec<u64>),
}

impl<'a> Table<'a> {
    fn of(caps: &'a Descriptors) -> Self {
        let plain = |descriptor: &Descriptor| plain(descriptor).is_some();
        if caps.fds.is_empty() && caps.descriptors.iter().all(plain) {
            Table::Plain(&caps.descriptors)
        } else {
            Table::Other(table_by_accessors(caps))
        }
    }

    fn words(&self) -> usize {
        match self {
            Table::Plain([]) => 0,
            Table::Plain(descriptors) => 1 + 2 * descriptors.len(),
            Table::Other(words) => words.len().saturating_sub(1),
        }
    }

    /// Writes it, and the pointer to it, which is at this word.
    fn write(&self, out: &mut Words<'_>, pointer: usize) {
        match self {
            Table::Plain([]) => {}
            Table::Plain(descriptors) => {
                out.set(pointer, list_pointer(pointer, out.end, 2 * descriptors.len()));
                out.push(list_tag(descriptors.len(), 1, 1));
                for (kind, id) in descriptors.iter().filter_map(plain) {
                    out.push(kind | u64::from(id) << 32);
                    out.push(0);
                }
            }
            Table::Other(words) => {
                let Some((leads_to_next, table)) = words.split_first() else { return };
                // Its distance from the table grows by what lies between.
                out.set(pointer, leads_to_next + (((out.end - pointer - 1) as u64) << 2));
                table.iter().for_each(|word| out.push(*word));
            }
        }
    }
}

/// The kind and the number by which a capability is named; `None` if it takes more.
fn plain(descriptor: &Descriptor) -> Option<(u64, u32)> {
    match descriptor {
        Descriptor::None | Descriptor::Unknown(_) => Some((0, 0)),
        Descriptor::SenderHosted(id) => Some((1, *id)),
        Descriptor::SenderPromise(id) => Some((2, *id)),
        Descriptor::ReceiverHosted(id) => Some((3, *id)),
        Descriptor::ReceiverAnswer(_) | Descriptor::ThirdPartyHosted(..) => None,
    }
}

/// The table in a payload without content that is built by the accessors: its pointer, and what
/// is behind that. All that is in there is named by its distance.
fn table_by_accessors(caps: &Descriptors) -> Vec<u64> {
    let mut room = 64;
    loop {
        let mut builder = Builder::new(HeapAllocator::new().first_segment_words(room));
        write_cap_table(builder.init_root::<payload::Builder<'_>>(), caps);
        if let [segment] = &*builder.get_segments_for_output() {
            // In front of the pointer are the root's, and that to the content.
            let words = segment.as_chunks().0.iter().skip(2);
            return words.map(|word| u64::from_le_bytes(*word)).collect();
        }
        room = room.saturating_mul(2);
    }
}

/// Numbers as words of a message.
const fn words<const WORDS: usize>(numbers: [u64; WORDS]) -> [Word; WORDS] {
    let mut words = [capnp::word(0, 0, 0, 0, 0, 0, 0, 0); WORDS];
    let mut at = 0;
    while at < WORDS {
        let bytes = numbers[at].to_le_bytes();
        let [low @ .., _, _, _, _] = bytes;
        let [_, _, _, _, high @ ..] = bytes;
        words[at] = capnp::word(low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]);
        at += 1;
    }
    words
}

/// A pointer at the word `at` to the struct that begins at the word `to`, further on.
const fn struct_pointer(at: usize, to: usize, data: usize, pointers: usize) -> u64 {
    ((to - at - 1) as u64) << 2 | (data as u64) << 32 | (pointers as u64) << 48
}

/// A pointer to a list of structs, which has so many words behind its tag.
const fn list_pointer(at: usize, to: usize, words: usize) -> u64 {
    ((to - at - 1) as u64) << 2 | 1 | 7 << 32 | (words as u64) << 35
}

/// The tag of a list of structs.
const fn list_tag(count: usize, data: usize, pointers: usize) -> u64 {
    (count as u64) << 2 | (data as u64) << 32 | (pointers as u64) << 48
}

#[allow(clippy::unwrap_used)]
#[cfg(test)]
mod tests;
