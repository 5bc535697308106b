//! What the tests of several packages share: threads that are known to sleep, messages that
//! can be told apart, vats that meet, programs that are run, and a log that can be read.
//!
//! All of it panics where a test has to fail.
#![allow(clippy::unwrap_used)]

pub mod log;
pub mod process;
pub mod sessions;

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use capnp::Word;
use capnp_threads_core::message::Message;

/// A message whose segments have these lengths in words and whose bytes all
/// depend on `seed` and on where they are.
pub fn message(seed: usize, lengths: &[u32]) -> Message {
    let total = lengths.iter().map(|length| *length as usize).sum();
    let mut words = Word::allocate_zeroed_vec(total);
    for (index, byte) in Word::words_to_bytes_mut(&mut words).iter_mut().enumerate() {
        *byte = u8::try_from((index * 7 + index / 251 + seed) % 256).unwrap();
    }
    Message::from_segments(words, lengths).unwrap()
}

/// The content of every segment, to compare messages by.
pub fn content(message: &Message) -> Vec<Vec<u8>> {
    message.segments().map(<[u8]>::to_vec).collect()
}

/// A thread that has gone to sleep in its work.
#[derive(Debug)]
pub struct Blocked<T>(JoinHandle<T>);

impl<T: Send + 'static> Blocked<T> {
    /// Starts a thread and waits until the system says that it sleeps. Panics if the
    /// thread ends instead.
    pub fn spawn(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            // The link leads to the thread's own folder.
            send.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            work()
        });
        let status = Path::new("/proc").join(receive.recv().unwrap()).join("stat");
        // The state follows the name, which is in parentheses.
        let asleep = || match fs::read_to_string(&status) {
            Ok(text) => text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')),
            Err(_) => thread.is_finished(),
        };
        while !asleep() && !thread.is_finished() {
            thread::yield_now();
        }
        assert!(!thread.is_finished(), "the thread ended instead of blocking");
        Blocked(thread)
    }

    /// Waits for the end of the work, and returns what came of it.
    pub fn join(self) -> T {
        self.0.join().unwrap()
    }
}
