//! A wire tap: every message of a connection in one readable line.
//!
//! ```text
//! -> bootstrap #0
//! <- return #0 results 0 words caps [senderHosted 0]
//! -> call #1 to import 0 0x88eb12a0e0af92b2/0 params 3 words
//! <- return #1 results 4 words noFinishNeeded
//! -> release import 0 count 1
//! -> end of stream
//! <- end of stream
//! ```
//!
//! `->` is what this side sends and `<-` what it receives; how the messages are
//! written is told in [`capnp_threads_core::describe`]. What is sent is printed before it is
//! written, so that it stands before the answer.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use capnp_threads_core::describe::{DescribeOptions, Direction, describe};
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{
    Arrivals, Descriptor, FrameLimits, MessageReader, MessageWriter, PeerDescription, Received,
    Transport, TransportControl, TransportError,
};
use parking_lot::Mutex;

/// Taps a transport. It works as it did before, only slower.
///
/// `sink` is called with each line, without an end of line, by the threads that
/// read, write and shut down, possibly at the same time. They wait for it, so it
/// should not wait for them.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let transport = capnp_threads_transport::tcp::connect("localhost:7000")?;
/// let transport = capnp_threads_transport::tap::tap(transport, |line| eprintln!("to server: {line}"));
/// # Ok(())
/// # }
/// ```
pub fn tap(transport: Transport, sink: impl Fn(&str) + Send + Sync + 'static) -> Transport {
    tap_with(transport, DescribeOptions::default(), sink)
}

/// As [`tap`], and `options` say how much is printed of each message.
pub fn tap_with(
    transport: Transport,
    options: DescribeOptions,
    sink: impl Fn(&str) + Send + Sync + 'static,
) -> Transport {
    let tap = Arc::new(Tap { options, sink: Box::new(sink) });
    Transport {
        reader: Box::new(TappedReader {
            inner: transport.reader,
            tap: Arc::clone(&tap),
            ended: false,
        }),
        writer: Box::new(TappedWriter {
            inner: transport.writer,
            tap: Arc::clone(&tap),
            told: 0,
            ended: false,
        }),
        control: Arc::new(TappedControl {
            inner: transport.control,
            tap,
            used: AtomicBool::new(false),
        }),
    }
}

/// Taps a transport and writes the lines to a file or the like. The connection
/// does not suffer from lines that cannot be written; they are lost.
pub fn tap_to(transport: Transport, sink: impl Write + Send + 'static) -> Transport {
    let sink = Mutex::new(sink);
    tap(transport, move |line| {
        let mut sink = sink.lock();
        // There is nobody to tell but the connection, which must not change.
        let _ = writeln!(sink, "{line}").and_then(|()| sink.flush());
    })
}

struct Tap {
    options: DescribeOptions,
    sink: Box<dyn Fn(&str) + Send + Sync>,
}

impl Tap {
    fn message(&self, direction: Direction, message: &Message) {
        self.line(direction, &describe(message, direction, &self.options));
    }

    fn line(&self, direction: Direction, text: &str) {
        let arrow = match direction {
            Direction::Sent => "->",
            Direction::Received => "<-",
        };
        (self.sink)(&format!("{arrow} {text}"));
    }
}

struct TappedReader {
    inner: Box<dyn MessageReader>,
    tap: Arc<Tap>,
    /// The end was printed, which may be met again and again.
    ended: bool,
}

impl TappedReader {
    fn end(&mut self, text: &str) {
        if !self.ended {
            self.ended = true;
            self.tap.line(Direction::Received, text);
        }
    }

    fn tell(&mut self, outcome: Result<Option<&Received>, &TransportError>) {
        match outcome {
            Ok(Some(Received::Message(message))) => self.tap.message(Direction::Received, message),
            Ok(Some(Received::Idle)) => self.tap.line(Direction::Received, "idle"),
            Ok(Some(Received::End)) => self.end("end of stream"),
            // Nothing, or nothing that this tap knows how to describe.
            Ok(_) => {}
            Err(error) => self.end(&format!("failed: {error}")),
        }
    }
}

impl MessageReader for TappedReader {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        let outcome = self.inner.read();
        match &outcome {
            Ok(Some(message)) => self.tap.message(Direction::Received, message),
            Ok(None) => self.end("end of stream"),
            Err(error) => self.end(&format!("failed: {error}")),
        }
        outcome
    }

    fn read_next(&mut self) -> Result<Received, TransportError> {
        let outcome = self.inner.read_next();
        self.tell(outcome.as_ref().map(Some));
        outcome
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.inner.descriptor()
    }

    fn arrivals(&self) -> Option<Arc<Arrivals>> {
        self.inner.arrivals()
    }

    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        let outcome = self.inner.try_read_next();
        self.tell(outcome.as_ref().map(Option::as_ref));
        outcome
    }

    fn has_buffered(&self) -> bool {
        self.inner.has_buffered()
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.inner.set_limits(limits);
    }
}

struct TappedWriter {
    inner: Box<dyn MessageWriter>,
    tap: Arc<Tap>,
    /// The end was printed, which may be met again and again.
    ended: bool,
    /// How many messages at the front of the next batch were printed already.
    told: usize,
}

impl TappedWriter {
    fn tell(&mut self, batch: &[Message]) {
        for message in batch.iter().skip(self.told) {
            self.tap.message(Direction::Sent, message);
        }
    }

    fn end(&mut self, text: &str) {
        if !self.ended {
            self.ended = true;
            self.tap.line(Direction::Sent, text);
        }
    }
}

impl MessageWriter for TappedWriter {
    fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
        self.tell(batch);
        self.told = 0;
        let outcome = self.inner.write(batch);
        if let Err(error) = &outcome {
            self.end(&format!("failed: {error}"));
        }
        outcome
    }

    fn try_write(&mut self, batch: &mut Vec<Message>) -> Result<bool, TransportError> {
        self.tell(batch);
        let outcome = self.inner.try_write(batch);
        // An error shows again.
        self.told = batch.len();
        outcome
    }

    fn max_fds(&self) -> usize {
        self.inner.max_fds()
    }

    fn can_declare_idle(&self) -> bool {
        self.inner.can_declare_idle()
    }

    fn declare_idle(&mut self) -> Result<(), TransportError> {
        self.tap.line(Direction::Sent, "idle");
        self.inner.declare_idle()
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        let outcome = self.inner.finish();
        match &outcome {
            Ok(()) => self.end("end of stream"),
            Err(error) => self.end(&format!("failed: {error}")),
        }
        outcome
    }
}

struct TappedControl {
    inner: Arc<dyn TransportControl>,
    tap: Arc<Tap>,
    used: AtomicBool,
}

impl TransportControl for TappedControl {
    fn shutdown(&self) {
        if !self.used.swap(true, Ordering::SeqCst) {
            (self.tap.sink)("-- shutdown");
        }
        self.inner.shutdown();
    }

    fn peer(&self) -> PeerDescription {
        self.inner.peer()
    }

    fn send_buffer(&self) -> Option<u64> {
        self.inner.send_buffer()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use capnp::Word;

    use super::*;
    use crate::testing::{self, limits};
    use crate::{memory, unix};
    use rpc_testing::{content, message};

    /// Collects lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Lines {
        fn tap(&self, transport: Transport) -> Transport {
            let lines = self.clone();
            tap(transport, move |line| lines.0.lock().push(line.to_owned()))
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock())
        }
    }

    /// A message of one segment that consists of these words.
    fn of_words(content: &[u64]) -> Message {
        let mut words = Word::allocate_zeroed_vec(content.len());
        let bytes = Word::words_to_bytes_mut(&mut words);
        for (place, word) in bytes.chunks_exact_mut(8).zip(content) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Message::from_segments(words, &[u32::try_from(content.len()).unwrap()]).unwrap()
    }

    // The root of a message has one word of data, the kind, and one pointer.
    const ROOT: u64 = 0x0001_0001_0000_0000;
    const BOOTSTRAP: [u64; 5] = [ROOT, 8, 0x0001_0001_0000_0000, 7, 0];
    const RELEASE: [u64; 4] = [ROOT, 6, 0x0000_0001_0000_0000, 2 << 32 | 5];
    /// A return whose results are a capability that the sender hosts.
    const RETURN: [u64; 11] = [
        ROOT,
        3,
        0x0001_0002_0000_0000,
        7, // answer id; results
        0,
        0x0002_0000_0000_0000, // to the payload
        0x0000_0000_0000_0003, // content: capability 0
        0x0000_0017_0000_0001, // table: a list of structs in two words
        0x0001_0001_0000_0004, // of one element
        4 << 32 | 1,
        0,
    ];

    #[test]
    fn each_message_is_one_line() {
        let (left, mut right) = memory::pair();
        let lines = Lines::default();
        let mut left = lines.tap(left);

        let garbage = of_words(&[ROOT, 4]);
        left.writer.write(&mut vec![of_words(&BOOTSTRAP), of_words(&RELEASE), garbage]).unwrap();
        assert_eq!(
            lines.take(),
            [
                "-> bootstrap #7",
                "-> release import 5 count 2",
                "-> malformed, 2 words in 1 segments (Message contains out-of-bounds pointer)",
            ]
        );

        right.writer.write(&mut vec![of_words(&RETURN), of_words(&RELEASE)]).unwrap();
        right.writer.finish().unwrap();
        while left.reader.read().unwrap().is_some() {}
        assert!(left.reader.read().unwrap().is_none());
        assert_eq!(
            lines.take(),
            [
                "<- return #7 results 0 words caps [senderHosted 4] releaseParamCaps",
                "<- release export 5 count 2",
                "<- end of stream",
            ]
        );

        left.writer.finish().unwrap();
        left.writer.finish().unwrap();
        left.control.shutdown();
        left.control.shutdown();
        assert_eq!(lines.take(), ["-> end of stream", "-- shutdown"]);
    }

    #[test]
    fn failures_are_lines_too() {
        let (left, mut right) = memory::pair();
        let lines = Lines::default();
        let mut left = lines.tap(left);
        left.reader.set_limits(limits(|limits| {
            limits.max_words = 4;
            limits.max_segments = 1;
        }));
        right.writer.write(&mut vec![of_words(&BOOTSTRAP)]).unwrap();
        assert!(left.reader.read().is_err());
        assert!(left.reader.read().is_err());
        drop(right);
        assert!(left.writer.write(&mut vec![of_words(&RELEASE)]).is_err());
        assert_eq!(
            lines.take(),
            [
                "<- failed: the peer sent a message of 5 words, the limit is 4; \
                 raise Limits::message_words if such messages are expected",
                "-> release import 5 count 2",
                "-> failed: the connection broke: the other side does not read any more, \
                 or this side has finished",
            ]
        );
    }

    #[test]
    fn a_tapped_transport_works_as_before() {
        let lines = Lines::default();
        for pair in [memory::pair, || memory::byte_pair(64 << 10), || unix::pair().unwrap()] {
            let (left, right) = pair();
            testing::check_connected(lines.tap(left), right);
            let (left, right) = pair();
            testing::check_connected(left, lines.tap(right));
            let (left, right) = pair();
            testing::check_shutdown_wakes_the_reader(lines.tap(left), right);
            let (left, right) = pair();
            testing::check_shutdown_wakes_the_writer(lines.tap(left), right);
            let (left, right) = pair();
            testing::check_a_lost_peer_is_noticed(lines.tap(left), right);

            let (mut left, right) = pair();
            let peer = right.control.peer();
            let mut right = lines.tap(right);
            assert_eq!(right.control.peer(), peer);
            left.writer.write(&mut (0..3).map(|seed| message(seed, &[2])).collect()).unwrap();
            for seed in 0..3 {
                let arrived = right.reader.read().unwrap().unwrap();
                assert_eq!(content(&arrived), content(&message(seed, &[2])));
                assert_eq!(right.reader.has_buffered(), seed < 2);
            }
        }
    }

    /// Keeps what is written, unless it was told to refuse.
    #[derive(Clone, Default)]
    struct File {
        text: Arc<Mutex<Vec<u8>>>,
        refused: Arc<AtomicBool>,
    }

    impl Write for File {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.refused.load(Ordering::Relaxed) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.text.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_gets_the_lines_and_may_refuse_them() {
        let (left, right) = memory::pair();
        let file = File::default();
        let mut left = tap_to(left, file.clone());
        left.writer.write(&mut vec![of_words(&BOOTSTRAP)]).unwrap();
        file.refused.store(true, Ordering::Relaxed);
        left.writer.write(&mut vec![of_words(&RELEASE)]).unwrap();
        file.refused.store(false, Ordering::Relaxed);
        left.writer.finish().unwrap();
        assert_eq!(*file.text.lock(), b"-> bootstrap #7\n-> end of stream\n");
        drop(right);
    }
}
