//! File descriptors over Unix sockets, and where there are none.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use capnp_threads_core::fd::SharedFd;
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{MessageReader, Transport};
use rustix::io::FdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::{from_stream, pair};
use crate::testing::{identities, limits, message_with, pipe_end, read_to_end};
use crate::{memory, tcp};
use rpc_testing::{Blocked, content, message};

/// Sends bytes and file descriptors as a peer may that is not ours.
fn send(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
    let sent =
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty());
    assert_eq!(sent.unwrap(), bytes.len());
}

/// What the standard framing of a message of one segment is.
fn framed(words: u32) -> Vec<u8> {
    let mut bytes = [0_u32.to_le_bytes(), words.to_le_bytes()].concat();
    bytes.extend(content(&message(0, &[words])).concat());
    bytes
}

fn read(reader: &mut Box<dyn MessageReader>) -> Message {
    reader.read().unwrap().unwrap()
}

fn check_passing((left, right): (Transport, Transport)) {
    let pipes: Vec<_> = (0..4).map(|_| pipe_end()).collect();
    let [a, b, c, d] = [0, 1, 2, 3].map(|index| &pipes[index].0);
    let batch = || {
        vec![
            message_with(&[1], &[]),
            message_with(&[2], &[a]),
            message_with(&[3], &[b, c]),
            message_with(&[4], &[]),
            message_with(&[5], &[]),
            // Longer than any buffer.
            message_with(&[128 << 10, 6], &[d, a]),
            message_with(&[7], &[b]),
            message_with(&[8], &[]),
        ]
    };
    let expected: Vec<_> =
        batch().iter().map(|sent| (content(sent), identities(sent.fds()))).collect();
    let Transport { mut writer, .. } = left;
    thread::scope(|scope| {
        // Goes when this fails, so that nobody waits for it to read.
        let mut right = right;
        scope.spawn(|| {
            for _ in 0..10 {
                writer.write(&mut batch()).unwrap();
            }
        });
        for round in 0..10 {
            for expected in &expected {
                let arrived = read(&mut right.reader);
                assert_eq!(identities(arrived.fds()), expected.1, "round {round}");
                assert_eq!(content(&arrived), expected.0, "round {round}");
            }
        }
    });
}

#[test]
fn each_message_arrives_with_its_own() {
    check_passing(pair().unwrap());
    check_passing(memory::pair());
}

#[test]
fn one_end_of_a_pipe_arrives_and_works() {
    let (mut left, mut right) = pair().unwrap();
    let (fd, pipe) = pipe_end();
    left.writer.write(&mut vec![message_with(&[1], &[&fd])]).unwrap();
    drop(fd);
    let mut arrived = read(&mut right.reader).take_fds();
    let fd = Arc::into_inner(arrived.remove(0)).unwrap();
    let flags = rustix::io::fcntl_getfd(&fd).unwrap();
    assert!(flags.contains(FdFlags::CLOEXEC), "programs that are started should not inherit it");
    let mut file = File::from(fd);
    file.write_all(b"through the socket").unwrap();
    drop(file);
    assert_eq!(read_to_end(pipe), "through the socket");
}

#[test]
fn what_was_sent_stays_open_until_it_is_written() {
    let (mut left, mut right) = pair().unwrap();
    let [(first, _first), (second, pipe)] = [pipe_end(), pipe_end()];
    let expected = identities([&first, &second]);
    // So much goes before it that the writer has to wait.
    let before = message(0, &[1 << 20]);
    let batch = vec![before, message_with(&[1], &[&first, &second])];
    drop((first, second));
    let writing = Blocked::spawn(move || {
        let mut batch = batch;
        left.writer.write(&mut batch).unwrap();
        left
    });
    // Whatever is opened now does not get their numbers.
    let _other = [(); 4].map(|()| File::open("/dev/null").unwrap());
    read(&mut right.reader);
    let arrived = read(&mut right.reader);
    writing.join();
    assert_eq!(identities(arrived.fds()), expected);
    drop(arrived);
    assert_eq!(read_to_end(pipe), "");
}

#[test]
fn what_a_peer_sends_beyond_the_limit_is_closed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut right = from_stream(ours).unwrap();
    right.reader.set_limits(limits(|limits| limits.max_fds = 2));
    let (fd, pipe) = pipe_end();
    let fds = vec![fd.as_fd(); 200];
    // With the table, in the middle, and with another message.
    let bytes = framed(3);
    send(&theirs, &bytes[..8], &fds);
    send(&theirs, &bytes[8..], &fds);
    send(&theirs, &framed(4), &fds);
    let (first, second) = (read(&mut right.reader), read(&mut right.reader));
    assert_eq!([first.fds().len(), second.fds().len()], [2, 2]);
    drop((fd, first, second));
    assert_eq!(read_to_end(pipe), "");
}

#[test]
fn nothing_is_taken_with_a_limit_of_none() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut right = from_stream(ours).unwrap();
    right.reader.set_limits(limits(|limits| limits.max_fds = 0));
    let (fd, pipe) = pipe_end();
    send(&theirs, &framed(3), &[fd.as_fd()]);
    drop(fd);
    assert!(read(&mut right.reader).fds().is_empty());
    assert_eq!(read_to_end(pipe), "");
}

#[test]
fn what_waits_for_the_rest_of_its_message_is_closed_with_the_reader() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut right = from_stream(ours).unwrap();
    let (fd, pipe) = pipe_end();
    send(&theirs, &framed(3)[..9], &[fd.as_fd()]);
    drop((fd, theirs));
    assert!(right.reader.read().is_err());
    drop(right);
    assert_eq!(read_to_end(pipe), "");
}

#[test]
fn a_socket_closes_what_nobody_reads() {
    let (mut left, right) = pair().unwrap();
    let (fd, pipe) = pipe_end();
    left.writer.write(&mut vec![message_with(&[1], &[&fd])]).unwrap();
    drop((fd, right));
    assert_eq!(read_to_end(pipe), "");
}

/// As many as one call of the system takes.
#[test]
fn two_hundred_and_fifty_three_go_at_once() {
    let (mut left, mut right) = pair().unwrap();
    right.reader.set_limits(limits(|limits| {
        limits.max_fds = 300;
        limits.max_open_fds = 300;
    }));
    assert_eq!(left.writer.max_fds(), 253);
    let (fd, pipe) = pipe_end();
    left.writer.write(&mut vec![message_with(&[1], &vec![&fd; 260])]).unwrap();
    assert_eq!(read(&mut right.reader).fds().len(), 253);
    drop(fd);
    assert_eq!(read_to_end(pipe), "");
}

#[test]
fn over_tcp_and_streams_of_bytes_none_go() {
    let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
    let client = tcp::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap();
    for (mut left, mut right) in [(client, server), memory::byte_pair(1 << 16)] {
        assert_eq!(left.writer.max_fds(), 0);
        let (fd, pipe) = pipe_end();
        left.writer.write(&mut vec![message_with(&[1], &[&fd])]).unwrap();
        drop(fd);
        let arrived = read(&mut right.reader);
        assert!(arrived.fds().is_empty());
        assert_eq!(content(&arrived), content(&message(0, &[1])));
        assert_eq!(read_to_end(pipe), "");
    }
}

#[test]
fn within_the_process_they_are_handed_over() {
    let (mut left, mut right) = memory::pair();
    let (fd, _pipe) = pipe_end();
    left.writer.write(&mut vec![message_with(&[1], &[&fd; 3])]).unwrap();
    right.reader.set_limits(limits(|limits| limits.max_fds = 2));
    let arrived = read(&mut right.reader);
    assert_eq!(arrived.fds().len(), 2);
    assert!(arrived.fds().iter().all(|arrived: &SharedFd| Arc::ptr_eq(arrived, &fd)));
}
