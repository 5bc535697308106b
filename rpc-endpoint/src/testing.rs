//! What the tests of several modules use.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use capnp::Word;
use capnp_threads_core::message::Message;

/// A message whose segments have these lengths in words and whose bytes all
/// depend on `seed` and on where they are.
pub(crate) fn message(seed: usize, lengths: &[u32]) -> Message {
    let total = lengths.iter().map(|length| *length as usize).sum();
    let mut words = Word::allocate_zeroed_vec(total);
    for (index, byte) in Word::words_to_bytes_mut(&mut words).iter_mut().enumerate() {
        *byte = u8::try_from((index * 7 + index / 251 + seed) % 256).unwrap();
    }
    Message::from_segments(words, lengths).unwrap()
}

/// The content of every segment, to compare messages by.
pub(crate) fn content(message: &Message) -> Vec<Vec<u8>> {
    message.segments().map(<[u8]>::to_vec).collect()
}

/// A thread that is known to have gone to sleep in what it was given to do.
pub(crate) struct Blocked<T>(JoinHandle<T>);

impl<T: Send + 'static> Blocked<T> {
    pub(crate) fn spawn(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            send.send(status_file()).unwrap();
            work()
        });
        let status: PathBuf = receive.recv().unwrap();
        // The state follows the name, which is in parentheses.
        let asleep = || match fs::read_to_string(&status) {
            Ok(text) => text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')),
            Err(_) => thread.is_finished(),
        };
        while !asleep() && !thread.is_finished() {
            thread::yield_now();
        }
        assert!(!thread.is_finished(), "it should have blocked");
        Blocked(thread)
    }

    pub(crate) fn join(self) -> T {
        self.0.join().unwrap()
    }
}

/// Where Linux tells what the calling thread is doing.
fn status_file() -> PathBuf {
    let task = fs::read_link("/proc/thread-self").unwrap();
    PathBuf::from("/proc").join(task).join("stat")
}
