//! The short way to read what comes most often: calls of an imported capability or of a field
//! of results, and results, that name no capabilities and lie in one segment.
//!
//! Reading such a frame by the accessors of the schema takes about five times as many
//! instructions as what they read. Here the few numbers are taken from where the schema puts
//! them. Everything else, and everything that is in any way unusual, is left to the accessors:
//! they alone say what is wrong with a frame.

use super::decode::Shape;
use super::message::Message as Frame;
use super::{Call, Descriptors, Finish, Hint, Message, PromisedAnswer, ResultsTo, Target};

/// The most steps of a path that are followed here.
const MOST_STEPS: usize = 16;

/// Reads the only segment of a frame, if it is one of those.
pub(super) fn read(segment: &[u8]) -> Option<Shape> {
    let root = Struct::at_pointer(segment, 0)?;
    let inner = Struct::at_pointer(segment, root.pointer(0)?)?;
    match root.u16(0) {
        2 => call(&root, &inner).map(Shape::Call),
        3 => results(&root, &inner),
        4 => finish(&root, &inner).map(|finish| Shape::Whole(Message::Finish(finish))),
        _ => None,
    }
}

fn call(root: &Struct<'_>, call: &Struct<'_>) -> Option<Call<Descriptors>> {
    let target = Struct::at_pointer(call.segment, call.pointer(0)?)?;
    let params = Struct::at_pointer(call.segment, call.pointer(1)?)?;
    if !are_apart(&[root, call, &target, &params]) || params.names_capabilities() {
        return None;
    }
    let called = match target.u16(4) {
        0 => Target::ImportedCap(target.u32(0)),
        1 => Target::PromisedAnswer(promised_answer(&[root, call, &target, &params], &target)?),
        // One of the future.
        _ => return None,
    };
    let results_to = match call.u16(6) {
        0 => ResultsTo::Caller,
        1 => ResultsTo::Yourself,
        _ => return None,
    };
    let hint = match (call.bit(129), call.bit(130)) {
        (false, false) => Hint::None,
        (true, false) => Hint::NoPipelining,
        _ => return None,
    };
    Some(Call {
        question: call.u32(0),
        target: called,
        interface: call.u64(8),
        method: call.u16(4),
        params: Descriptors::default(),
        results_to,
        hint,
    })
}

fn results(root: &Struct<'_>, ret: &Struct<'_>) -> Option<Shape> {
    let payload = Struct::at_pointer(ret.segment, ret.pointer(0)?)?;
    if ret.u16(6) != 0 || payload.names_capabilities() || !are_apart(&[root, ret, &payload]) {
        return None;
    }
    let (answer, release_params, no_finish_needed) = (ret.u32(0), !ret.bit(32), ret.bit(33));
    Some(if payload.has_content() {
        Shape::Results(answer, release_params, no_finish_needed, Descriptors::default())
    } else {
        Shape::empty_results(answer, release_params, no_finish_needed)
    })
}

fn finish(root: &Struct<'_>, finish: &Struct<'_>) -> Option<Finish> {
    are_apart(&[root, finish]).then(|| Finish {
        question: finish.u32(0),
        release_results: !finish.bit(32),
        early_cancellation_workaround: !finish.bit(33),
    })
}

/// A field of results to which `target` leads, beside other structs of its message.
fn promised_answer(others: &[&Struct<'_>; 4], target: &Struct<'_>) -> Option<PromisedAnswer> {
    let segment = target.segment;
    let answer = Struct::at_pointer(segment, target.pointer(0)?)?;
    let steps = match answer.pointer(0) {
        Some(at) if segment.get(at..at + 8) != Some(&[0; 8][..]) => steps(segment, at)?,
        _ => &[],
    };
    let [root, call, target, params] = others;
    // The list's tag is a word, too.
    let list = Struct { data: steps.as_flattened(), pointer_count: 1, ..answer };
    if !are_apart(&[root, call, target, params, &answer, &list]) {
        return None;
    }
    let mut path = Vec::with_capacity(steps.len());
    for step in steps {
        let [kind_low, kind_high, field_low, field_high, ..] = *step;
        match u16::from_le_bytes([kind_low, kind_high]) {
            0 => {}
            1 => path.push(u16::from_le_bytes([field_low, field_high])),
            _ => return None,
        }
    }
    Some(PromisedAnswer { question: answer.u32(0), path: Some(path.into()) })
}

/// The elements of the list that the pointer at this byte leads to, which must be structs of a
/// word.
fn steps(segment: &[u8], at: usize) -> Option<&[[u8; 8]]> {
    let pointer = u64::from_le_bytes(*segment.get(at..)?.first_chunk()?);
    if pointer & 3 != 1 || pointer >> 32 & 7 != 7 {
        return None;
    }
    let words = usize::try_from(pointer >> 35).ok()?;
    let start = behind(pointer, at)?;
    let tag = u64::from_le_bytes(*segment.get(start..)?.first_chunk()?);
    // Without the number of elements: structs, of a word of data.
    if tag & 3 != 0 || tag >> 32 != 1 || usize::try_from((tag & 0xffff_ffff) >> 2) != Ok(words) {
        return None;
    }
    if words > MOST_STEPS {
        return None;
    }
    let elements = segment.get(start + 8..start + 8 + 8 * words)?;
    Some(elements.as_chunks().0)
}

/// Where the pointer at this byte leads to, in bytes.
fn behind(pointer: u64, at: usize) -> Option<usize> {
    let [a, b, c, d, ..] = pointer.to_le_bytes();
    let offset = isize::try_from(i32::from_le_bytes([a, b, c, d]) >> 2).ok()?;
    (at / 8 + 1).checked_add_signed(offset)?.checked_mul(8)
}

/// Follows pointer fields from the root of the content that lies in a message, which is a call,
/// or else results. Returns the index of the capability there, which must be below `caps`;
/// `Some(None)` for a null pointer on the way. `None` if the accessors should look.
#[expect(clippy::option_option, reason = "nothing known is not the same as nothing there")]
pub(crate) fn cap_index(
    frame: &Frame,
    is_call: bool,
    path: &[u16],
    caps: usize,
) -> Option<Option<usize>> {
    if path.len() > MOST_STEPS {
        return None;
    }
    let segment = frame.only_segment()?;
    let root = Struct::at_pointer(segment, 0)?;
    let inner = Struct::at_pointer(segment, root.pointer(0)?)?;
    let payload = match (is_call, root.u16(0)) {
        (true, 2) => inner.pointer(1)?,
        (false, 3) if inner.u16(6) == 0 => inner.pointer(0)?,
        _ => return None,
    };
    let word = |at: usize| Some(u64::from_le_bytes(*segment.get(at..)?.first_chunk()?));
    let mut place = Struct::at_pointer(segment, payload)?.pointer(0);
    for field in path {
        let Some(at) = place else { return Some(None) };
        if word(at)? == 0 {
            return Some(None);
        }
        place = Struct::at_pointer(segment, at)?.pointer(usize::from(*field));
    }
    let Some(at) = place else { return Some(None) };
    match word(at)? {
        0 => Some(None),
        pointer if pointer & 0xffff_ffff == 3 => {
            let index = usize::try_from(pointer >> 32).ok()?;
            (index < caps).then_some(Some(index))
        }
        _ => None,
    }
}

/// Whether these structs are no larger than their segment together, as those are that do not
/// lie in each other. The accessors count what they read, and may refuse others.
fn are_apart(structs: &[&Struct<'_>]) -> bool {
    let sizes = structs.iter().map(|one| one.data.len() + 8 * one.pointer_count);
    // Each is of a mebibyte at most.
    structs.first().is_none_or(|first| sizes.sum::<usize>() <= first.segment.len())
}

/// A struct in the only segment of its message.
struct Struct<'a> {
    segment: &'a [u8],
    data: &'a [u8],
    /// Where the pointers begin in the segment, in bytes.
    pointers: usize,
    pointer_count: usize,
}

impl<'a> Struct<'a> {
    /// The struct that the pointer at this byte leads to; `None` if it leads to anything else,
    /// to nothing, or out of the segment.
    fn at_pointer(segment: &'a [u8], at: usize) -> Option<Self> {
        let pointer = segment.get(at..)?.first_chunk::<8>()?;
        let [a, b, c, d, data_low, data_high, count_low, count_high] = *pointer;
        let first = i32::from_le_bytes([a, b, c, d]);
        if first & 3 != 0 || *pointer == [0; 8] {
            return None;
        }
        let start = behind(u64::from_le_bytes(*pointer), at)?;
        let data_words = usize::from(u16::from_le_bytes([data_low, data_high]));
        let pointer_count = usize::from(u16::from_le_bytes([count_low, count_high]));
        let pointers = start.checked_add(8 * data_words)?;
        let end = pointers.checked_add(8 * pointer_count)?;
        let data = segment.get(start..pointers)?;
        (end <= segment.len()).then_some(Struct { segment, data, pointers, pointer_count })
    }

    /// Where in the segment a pointer field is.
    fn pointer(&self, index: usize) -> Option<usize> {
        (index < self.pointer_count).then_some(self.pointers + 8 * index)
    }

    /// A field at this byte; 0 beyond the struct, as for every struct of an older version.
    fn u32(&self, at: usize) -> u32 {
        self.field(at).map_or(0, u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        self.field(at).map_or(0, u64::from_le_bytes)
    }

    fn u16(&self, at: usize) -> u16 {
        self.field(at).map_or(0, u16::from_le_bytes)
    }

    fn bit(&self, at: usize) -> bool {
        self.field(at / 8).is_some_and(|[byte]: [u8; 1]| byte & 1 << (at % 8) != 0)
    }

    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.data.get(at..)?.first_chunk().copied()
    }

    /// For a payload.
    fn has_content(&self) -> bool {
        self.leads_to_something(0)
    }

    /// For a payload.
    fn names_capabilities(&self) -> bool {
        self.leads_to_something(1)
    }

    fn leads_to_something(&self, pointer: usize) -> bool {
        self.pointer(pointer).is_some_and(|at| self.segment.get(at..at + 8) != Some(&[0; 8][..]))
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod alike;
#[allow(clippy::unwrap_used)]
#[cfg(test)]
mod tests;
