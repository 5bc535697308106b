//! Calls that are made word by word, as no builder would make them.

use super::target::Method;
use crate::support::raw;

/// The content of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    /// None.
    Nothing,
    /// So many words of data.
    Data(usize),
    /// Words behind a pointer, which stands right in front of them but for two words.
    Raw(u64, &'a [u64]),
}

/// A pointer to a struct that begins so many words behind the pointer's own place.
pub(super) fn to_struct(offset: u64, data: u64, pointers: u64) -> u64 {
    offset << 2 | data << 32 | pointers << 48
}

/// A pointer to a list of elements of a kind, so many of them; a list of structs gives
/// its number of words.
pub(super) fn to_list(offset: u64, kind: u64, count: u64) -> u64 {
    1 | offset << 2 | kind << 32 | count << 35
}

/// A capability of the sender's as an element of a table: one word.
pub(super) fn sender_hosted(id: u32) -> u64 {
    1 | u64::from(id) << 32
}

/// A promise of the sender's.
pub(super) fn sender_promise(id: u32) -> u64 {
    2 | u64::from(id) << 32
}

/// A capability of the receiver's.
pub(super) fn receiver_hosted(id: u32) -> u64 {
    3 | u64::from(id) << 32
}

/// A call of an object, with its framing.
pub(super) fn call(
    question: u32,
    object: u32,
    method: Method,
    content: Content<'_>,
    table: &[u64],
) -> Vec<u8> {
    let method = u64::from(method as u16);
    let (pointer, data, behind) = match content {
        Content::Nothing => (0, 0, &[][..]),
        Content::Data(words) => (to_list(3, 2, 8 * words as u64), words, &[][..]),
        Content::Raw(pointer, words) => (pointer, 0, words),
    };
    let table_at = (data + behind.len()) as u64;
    let to_table = match table.len() as u64 {
        0 => 0,
        count => to_list(2 + table_at, 7, count),
    };
    let head = [
        // The root: its tag says that it is a call.
        to_struct(0, 1, 1),
        2,
        // The call: question and method, interface, where the results go.
        to_struct(0, 3, 3),
        u64::from(question) | method << 32,
        1,
        0,
        // Its target, its parameters, and no third party.
        to_struct(4, 1, 1),
        to_struct(1, 0, 2),
        0,
        // The parameters.
        pointer,
        to_table,
        // The target: an import.
        u64::from(object),
        0,
    ];
    let tag = (!table.is_empty()).then(|| to_struct(table.len() as u64, 1, 0));
    let count = head.len() + data + behind.len() + tag.iter().len() + table.len();
    // At once, because the largest messages would be as large in each of several steps.
    let mut bytes = Vec::with_capacity(8 * (1 + count));
    let mut push = |word: u64| bytes.extend_from_slice(&word.to_le_bytes());
    push((count as u64) << 32);
    head.into_iter().for_each(&mut push);
    (0..data).for_each(|_| push(0x0123_4567_89ab_cdef));
    behind.iter().chain(&tag).chain(table).copied().for_each(push);
    bytes
}

/// A Finish.
pub(super) fn finish(question: u32) -> Vec<u8> {
    // Results' capabilities are released, and nothing needs a workaround.
    raw::words(&[to_struct(0, 1, 1), 4, to_struct(0, 1, 0), u64::from(question) | 1 << 33])
}

/// A Bootstrap.
pub(super) fn bootstrap(question: u32) -> Vec<u8> {
    raw::words(&[to_struct(0, 1, 1), 8, to_struct(0, 1, 1), u64::from(question), 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::raw::Said;
    use crate::support::raw::{Cap, Target};
    use capnp_threads_core::capnp::message::ReaderOptions;
    use capnp_threads_core::capnp::serialize;

    fn read(bytes: &[u8]) -> Said {
        raw::said(&serialize::read_message(bytes, ReaderOptions::new()).unwrap())
    }

    #[test]
    fn messages_say_what_they_are_meant_to() {
        let table = [sender_hosted(5), sender_promise(6), receiver_hosted(7)];
        let bytes = call(3, 4, Method::Give, Content::Data(9), &table);
        let caps = vec![Cap::SenderHosted(5), Cap::SenderPromise(6), Cap::ReceiverHosted(7)];
        let (target, method) = (Target::Import(4), Method::Give as u16);
        let expected = Said::Call { question: 3, target, interface: 1, method, caps };
        assert_eq!(read(&bytes), expected);
        assert_eq!(read(&finish(8)), Said::Finish { question: 8, release: true });
        assert_eq!(read(&bootstrap(9)), Said::Bootstrap(9));
    }
}
