//! What the writer does with file descriptors.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use capnp_threads_core::fd::SharedFd;
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::MessageWriter;
use parking_lot::Mutex;

use super::FramedWriter;
use crate::testing::{identities, message_with, pipe_end};
use rpc_testing::message;

/// Notes each call: how many bytes it took, and which file descriptors.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: Vec<(usize, Vec<u64>)>,
    bytes: Vec<u8>,
    /// What happens to the next calls: so many bytes are taken, or none.
    next: VecDeque<Result<usize, io::ErrorKind>>,
}

impl Log {
    fn take(&self, slices: &[IoSlice<'_>], fds: &[SharedFd]) -> io::Result<usize> {
        let mut state = self.0.lock();
        let most = state.next.pop_front().unwrap_or(Ok(usize::MAX))?;
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = bytes.len().min(most);
        state.bytes.extend_from_slice(&bytes[..taken]);
        state.calls.push((taken, identities(fds)));
        Ok(taken)
    }

    fn writer(&self) -> FramedWriter<Log> {
        FramedWriter::new(self.clone()).sending_fds(2, |log, slices, fds| log.take(slices, fds))
    }

    fn calls(&self) -> Vec<(usize, Vec<u64>)> {
        self.0.lock().calls.clone()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.take(slices, &[])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn bytes_of(batch: &mut Vec<Message>) -> Vec<u8> {
    let log = Log::default();
    FramedWriter::new(log.clone()).write(batch).unwrap();
    log.0.lock().bytes.clone()
}

#[test]
fn a_message_with_some_goes_alone() {
    let [(a, _a), (b, _b)] = [pipe_end(), pipe_end()];
    let batch = || {
        vec![
            message(0, &[1]),
            message(1, &[2]),
            message_with(&[3], &[&a, &b]),
            message_with(&[4000, 5], &[&b]),
            message(2, &[6]),
            message(3, &[7]),
        ]
    };
    let log = Log::default();
    log.writer().write(&mut batch()).unwrap();
    let sizes = [8 * 5, 8 * 4, 8 * 4007, 8 * 15];
    let fds = [vec![], identities([&a, &b]), identities([&b]), vec![]];
    assert_eq!(log.calls(), sizes.into_iter().zip(fds).collect::<Vec<_>>());
    assert_eq!(log.0.lock().bytes, bytes_of(&mut batch()));
}

#[test]
fn they_go_once_with_the_first_bytes() {
    let (a, _a) = pipe_end();
    let log = Log::default();
    log.0.lock().next = [Err(io::ErrorKind::Interrupted), Ok(5), Ok(7)].into();
    log.writer().write(&mut vec![message_with(&[10], &[&a])]).unwrap();
    assert_eq!(log.calls(), [(5, identities([&a])), (7, vec![]), (76, vec![])]);
    assert_eq!(log.0.lock().bytes, bytes_of(&mut vec![message(0, &[10])]));
}

#[test]
fn those_that_the_system_refuses_stay_behind() {
    let (a, _a) = pipe_end();
    let log = Log::default();
    log.0.lock().next = [Err(io::ErrorKind::InvalidInput)].into();
    let mut writer = log.writer();
    writer.write(&mut vec![message_with(&[10], &[&a]), message_with(&[1], &[&a])]).unwrap();
    assert_eq!(log.calls(), [(88, vec![]), (16, identities([&a]))]);

    log.0.lock().next = [Err(io::ErrorKind::BrokenPipe), Err(io::ErrorKind::BrokenPipe)].into();
    assert!(writer.write(&mut vec![message_with(&[10], &[&a])]).is_err());
}

#[test]
fn no_more_go_than_the_stream_takes_and_none_where_it_takes_none() {
    let (a, _a) = pipe_end();
    let log = Log::default();
    let mut writer = log.writer();
    assert_eq!(writer.max_fds(), 2);
    writer.write(&mut vec![message_with(&[1], &[&a, &a, &a])]).unwrap();
    assert_eq!(log.calls(), [(16, identities([&a, &a]))]);

    let log = Log::default();
    let mut writer = FramedWriter::new(log.clone());
    assert_eq!(writer.max_fds(), 0);
    writer.write(&mut vec![message_with(&[1], &[&a])]).unwrap();
    assert_eq!(log.calls(), [(16, vec![])]);
}
