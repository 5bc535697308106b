//! What the tests of several modules use.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{self, PipeReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use capnp_threads_core::fd::SharedFd;
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{FrameLimits, Transport, TransportError};
use rpc_testing::{Blocked, content, message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The default limits, but for what `change` changes.
pub(crate) fn limits(change: impl FnOnce(&mut FrameLimits)) -> FrameLimits {
    let mut limits = FrameLimits::default();
    change(&mut limits);
    limits
}

/// A pipe's writing end as a message carries it, and the reading end: reading it
/// gives the end when every copy of the writing end was closed.
pub(crate) fn pipe_end() -> (SharedFd, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    (Arc::new(writer.into()), reader)
}

/// Waits until every copy of a pipe's writing end was closed, and returns what was
/// written to it.
pub(crate) fn read_to_end(mut pipe: PipeReader) -> String {
    let far_too_long = Timespec { tv_sec: 60, tv_nsec: 0 };
    let mut text = Vec::new();
    let mut piece = [0; 64];
    loop {
        let ready = poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&far_too_long)).unwrap();
        assert_eq!(ready, 1, "somebody still has the pipe's other end");
        match pipe.read(&mut piece).unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            count => text.extend_from_slice(&piece[..count]),
        }
    }
}

/// A message of a size, with file descriptors.
pub(crate) fn message_with(lengths: &[u32], fds: &[&SharedFd]) -> Message {
    let mut message = message(0, lengths);
    message.set_fds(fds.iter().map(|fd| Arc::clone(fd)).collect());
    message
}

/// Which files these are, whatever their numbers.
pub(crate) fn identities<'a>(fds: impl IntoIterator<Item = &'a SharedFd>) -> Vec<u64> {
    let identity = |fd: &SharedFd| File::from(fd.try_clone().unwrap()).metadata().unwrap().ino();
    fds.into_iter().map(identity).collect()
}

/// Whether the other side of `to` receives what is written to `from`.
pub(crate) fn check_one_way(from: &mut Transport, to: &mut Transport) {
    for batch in [vec![vec![3]], vec![vec![1], vec![0, 2, 600, 1], vec![5]]] {
        let mut messages: Vec<_> = batch.iter().map(|lengths| message(1, lengths)).collect();
        let sent: Vec<_> = messages.iter().map(content).collect();
        from.writer.write(&mut messages).unwrap();
        assert!(messages.is_empty());
        for expected in sent {
            assert_eq!(content(&to.reader.read().unwrap().unwrap()), expected);
        }
    }
}

/// Whether two transports are connected both ways, and each way ends with its
/// writer.
pub(crate) fn check_connected(mut left: Transport, mut right: Transport) {
    check_one_way(&mut left, &mut right);
    check_one_way(&mut right, &mut left);
    left.writer.finish().unwrap();
    left.writer.finish().unwrap();
    assert!(left.writer.write(&mut vec![message(0, &[1])]).is_err());
    assert!(right.reader.read().unwrap().is_none());
    assert!(right.reader.read().unwrap().is_none());
    // The other way is not affected.
    check_one_way(&mut right, &mut left);
    right.writer.finish().unwrap();
    assert!(left.reader.read().unwrap().is_none());
}

/// Whether a thread that waits for a message returns when its own side shuts
/// down, and the other side learns of the end.
pub(crate) fn check_shutdown_wakes_the_reader(left: Transport, mut right: Transport) {
    let Transport { mut reader, control, .. } = left;
    let blocked = Blocked::spawn(move || reader.read());
    control.shutdown();
    control.shutdown();
    assert!(blocked.join().is_ok_and(|message| message.is_none()));
    assert!(right.reader.read().unwrap().is_none());
    right.control.shutdown();
    control.shutdown();
}

/// Whether a thread whose messages the peer does not read returns with an error
/// when its own side shuts down.
pub(crate) fn check_shutdown_wakes_the_writer(left: Transport, right: Transport) {
    let Transport { mut writer, control, .. } = left;
    let blocked = Blocked::spawn(move || {
        loop {
            let mut batch: Vec<_> = (0..16).map(|seed| message(seed, &[64 << 10])).collect();
            if let Err(error) = writer.write(&mut batch) {
                return error;
            }
        }
    });
    control.shutdown();
    let error = blocked.join();
    assert!(matches!(error, TransportError::Io(_)), "{error}");
    drop(right);
    control.shutdown();
}

/// Whether a thread whose messages the peer does not read returns with an error
/// when the peer goes away, and reading gives the end or an error.
pub(crate) fn check_a_lost_peer_is_noticed(left: Transport, right: Transport) {
    let Transport { mut reader, mut writer, control } = left;
    let blocked = Blocked::spawn(move || {
        loop {
            let mut batch: Vec<_> = (0..16).map(|seed| message(seed, &[64 << 10])).collect();
            if let Err(error) = writer.write(&mut batch) {
                return error;
            }
        }
    });
    drop(right);
    let error = blocked.join();
    assert!(matches!(error, TransportError::Io(_)), "{error}");
    assert!(!matches!(reader.read(), Ok(Some(_))));
    control.shutdown();
}

/// A directory of its own for a test, removed in the end.
pub(crate) struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("rpc-transport-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        TemporaryDirectory(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.0);
        assert!(removed.is_ok() || thread::panicking());
    }
}
