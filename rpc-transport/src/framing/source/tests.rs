#![allow(clippy::unwrap_used)]

use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{MessageReader, MessageWriter};

use super::*;
use crate::framing::{FramedReader, FramedWriter};
use crate::testing::{identities, limits, pipe_end, read_to_end};
use rpc_testing::message;

/// Gives out what it was told to, read by read: bytes, and what comes with their
/// first.
#[derive(Default)]
struct Script(VecDeque<(Vec<u8>, Vec<OwnedFd>)>);

impl Read for Script {
    /// Without room for file descriptors the system closes them.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        receive(self, room, &mut Vec::new(), 0)
    }
}

// As the type of the real one is.
#[allow(clippy::unnecessary_wraps)]
fn receive(
    script: &mut Script,
    room: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    most: usize,
) -> io::Result<usize> {
    let Some((mut bytes, attached)) = script.0.pop_front() else { return Ok(0) };
    if bytes.len() > room.len() {
        script.0.push_front((bytes.split_off(room.len()), Vec::new()));
    }
    room[..bytes.len()].copy_from_slice(&bytes);
    fds.extend(attached.into_iter().take(most));
    Ok(bytes.len())
}

fn reader(script: impl IntoIterator<Item = (Vec<u8>, Vec<OwnedFd>)>) -> FramedReader<Script> {
    FramedReader::new(Script(script.into_iter().collect())).receiving_fds(receive)
}

/// What is written for a message of one segment.
fn framed(words: u32) -> Vec<u8> {
    let (mut reader, writer) = crate::pipe::pipe(1 << 20);
    FramedWriter::new(writer).write(&mut vec![message(0, &[words])]).unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

fn owned(fd: &SharedFd) -> OwnedFd {
    fd.try_clone().unwrap()
}

/// The next message's size and file descriptors.
fn next(reader: &mut FramedReader<Script>) -> (usize, Vec<u64>) {
    let message = reader.read().unwrap().unwrap();
    (message.size_in_words(), identities(message.fds()))
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn they_come_with_the_message_that_the_read_ends_in() {
    let [(a, _a), (b, _b)] = [pipe_end(), pipe_end()];
    let script = [
        // Two whole messages before it, as the system may put them together.
        ([framed(1), framed(2), framed(3)].concat(), vec![owned(&a)]),
        // One in the middle of its table.
        ([framed(4), framed(5)[..2].to_vec()].concat(), vec![owned(&b)]),
        ([&framed(5)[2..], &framed(6)].concat(), vec![]),
    ];
    let mut reader = reader(script);
    assert_eq!(next(&mut reader), (1, vec![]));
    assert_eq!(next(&mut reader), (2, vec![]));
    assert_eq!(next(&mut reader), (3, identities([&a])));
    assert_eq!(next(&mut reader), (4, vec![]));
    assert_eq!(next(&mut reader), (5, identities([&b])));
    assert_eq!(next(&mut reader), (6, vec![]));
    assert!(reader.read().unwrap().is_none());
}

#[test]
fn a_message_in_pieces_keeps_them_together() {
    let [(a, _a), (b, _b), (c, _c)] = [pipe_end(), pipe_end(), pipe_end()];
    for words in [7, 100_000] {
        let bytes = framed(words);
        let cut = |range: std::ops::Range<usize>| bytes[range].to_vec();
        let script = [
            (cut(0..1), vec![owned(&a), owned(&b)]),
            (cut(1..16), vec![]),
            (cut(16..24), vec![owned(&c)]),
        ];
        let rest = bytes[24..].chunks(4096).map(|piece| (piece.to_vec(), vec![]));
        let mut reader = reader(script.into_iter().chain(rest));
        assert_eq!(next(&mut reader), (words as usize, identities([&a, &b, &c])));
    }
}

#[test]
fn those_beyond_the_limit_of_a_message_are_closed() {
    let pipes: Vec<_> = (0..5).map(|_| pipe_end()).collect();
    let fds: Vec<_> = pipes.iter().map(|(fd, _)| owned(fd)).collect();
    let kept = identities(pipes[..2].iter().map(|(fd, _)| fd));
    // The first three come in one read, the others later.
    let mut fds = fds.into_iter();
    let bytes = framed(2);
    let mut reader = reader([
        (bytes[..1].to_vec(), fds.by_ref().take(3).collect()),
        (bytes[1..2].to_vec(), fds.by_ref().take(1).collect()),
        (bytes[2..].to_vec(), fds.collect()),
    ]);
    reader.set_limits(limits(|limits| limits.max_fds = 2));
    let message = reader.read().unwrap().unwrap();
    assert_eq!(identities(message.fds()), kept);
    for (fd, pipe) in pipes.into_iter().skip(2) {
        drop(fd);
        assert_eq!(read_to_end(pipe), "");
    }
}

#[test]
fn they_do_not_pile_up_before_a_message_that_never_ends() {
    let mut source = Source::new(Script::default());
    source.receive = Some(receive);
    source.max_fds = 4;
    let (fd, _pipe) = pipe_end();
    for _ in 0..100 {
        let fds = (0..4).map(|_| owned(&fd)).collect();
        source.inner.0.push_back((vec![0], fds));
        assert_eq!(source.read(&mut [0; 8]).unwrap(), 1);
    }
    assert_eq!(source.waiting.len(), 8);
}

#[test]
fn no_more_are_open_than_the_limit_says() {
    let (fd, _pipe) = pipe_end();
    let script = (0..4).map(|_| (framed(1), vec![owned(&fd), owned(&fd)]));
    let mut reader = reader(script);
    reader.set_limits(limits(|limits| limits.max_open_fds = 3));
    let mut messages: Vec<Message> = (0..3).map(|_| reader.read().unwrap().unwrap()).collect();
    let counts: Vec<_> = messages.iter().map(|message| message.fds().len()).collect();
    assert_eq!(counts, [2, 1, 0]);
    messages.remove(0);
    assert_eq!(reader.read().unwrap().unwrap().fds().len(), 2);
}

#[test]
fn with_a_limit_of_none_there_is_no_room_for_any() {
    let (fd, pipe) = pipe_end();
    let mut reader = reader([(framed(1), vec![owned(&fd)])]);
    reader.set_limits(limits(|limits| limits.max_fds = 0));
    assert_eq!(next(&mut reader), (1, vec![]));
    drop(fd);
    assert_eq!(read_to_end(pipe), "");
}
