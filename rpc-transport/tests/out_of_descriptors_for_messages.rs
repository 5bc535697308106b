//! What a transport does with file descriptors that the process may not open. It
//! is alone in its process, because it changes what the whole process may do.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use capnp::message::Builder;
use capnp_threads_core::fd::SharedFd;
use capnp_threads_core::message::Message;
use capnp_threads_transport::unix;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The next file descriptor would get this number.
fn lowest_free() -> u64 {
    u64::try_from(File::open("/dev/null").unwrap().as_raw_fd()).unwrap()
}

fn open_in_this_process() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn messages_arrive_with_what_the_process_may_open() {
    let (mut left, mut right) = unix::pair().unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    let fd: SharedFd = Arc::new(writer.into());
    let message = || {
        let mut message = Message::from(Builder::new_default());
        message.set_fds(vec![Arc::clone(&fd), Arc::clone(&fd)]);
        message
    };
    let open = open_in_this_process();
    left.writer.write(&mut vec![message(), message(), message()]).unwrap();
    assert_eq!(open_in_this_process(), open);

    let before = getrlimit(Resource::Nofile);
    let mut arrived = Vec::new();
    for allowed in [0, 1] {
        let limit = Rlimit { current: Some(lowest_free() + allowed), ..before };
        setrlimit(Resource::Nofile, limit).unwrap();
        arrived.push(right.reader.read());
        setrlimit(Resource::Nofile, before).unwrap();
    }
    arrived.push(right.reader.read());
    let arrived: Vec<_> = arrived.into_iter().map(|message| message.unwrap().unwrap()).collect();
    let counts: Vec<_> = arrived.iter().map(|message| message.fds().len()).collect();
    assert_eq!(counts, [0, 1, 2]);
    assert_eq!(open_in_this_process(), open + 3);

    drop(arrived);
    assert_eq!(open_in_this_process(), open);
    drop(fd);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "somebody still has the pipe");
}
