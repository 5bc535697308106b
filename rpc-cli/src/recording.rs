//! Recordings of what two vats said: what `tap` writes and `trace` reads.
//!
//! The format is `recording.capnp`. Whoever made the file may have been anybody: what is
//! read is bounded, and what is garbled is told.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use capnp::Word;
use capnp::message::{Builder, ReaderOptions};
use capnp_threads_core::message::Message;

use crate::failure::{Failure, Result};
use crate::recording_capnp::event;

/// The largest event that is read, in words: that of a message of the largest size that
/// vats accept by default, and what is around it.
const MAX_EVENT: usize = (8 << 20) + (1 << 16);

/// Something that happened on one of the connections.
#[derive(Debug)]
pub(crate) struct Event {
    /// Since the recording began, in nanoseconds.
    pub(crate) time: u64,
    /// Which connection, counted from 1.
    pub(crate) connection: u32,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// A client was accepted; what is known of it.
    Opened(String),
    /// A message passed.
    Message(Side, Message),
    /// A side has said its last message, and why if it failed.
    Ended(Side, Option<String>),
}

/// The side that a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// The side that connected.
    Client,
    /// The side that was connected to.
    Server,
}

impl Event {
    /// Writes the event with one call, so that a recording ends with a whole one wherever
    /// the program is ended.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut message = Builder::new_default();
        let mut root = message.init_root::<event::Builder<'_>>();
        root.set_time(self.time);
        root.set_connection(self.connection);
        match &self.what {
            What::Opened(peer) => root.set_opened(peer.as_str()),
            What::Message(from, content) => {
                let mut to = root.init_message();
                to.set_from_client(*from == Side::Client);
                to.set_descriptors(u16::try_from(content.fds().len()).unwrap_or(u16::MAX));
                let count = u32::try_from(content.segment_count()).unwrap_or(u32::MAX);
                let mut segments = to.init_segments(count);
                for (index, segment) in (0..count).zip(content.segments()) {
                    segments.set(index, segment);
                }
            }
            What::Ended(from, failure) => {
                let mut to = root.init_ended();
                to.set_from_client(*from == Side::Client);
                if let Some(failure) = failure {
                    to.set_failure(failure.as_str());
                }
            }
        }
        to.write_all(&capnp::serialize::write_message_to_words(&message))
    }
}

/// The events of a recording.
pub(crate) struct Recording<R> {
    input: R,
    /// Nothing more is read.
    ended: bool,
}

/// Opens a recording.
pub(crate) fn open(path: &Path) -> Result<Recording<BufReader<File>>> {
    let file = File::open(path)
        .map_err(|error| Failure::command(format_args!("{}: {error}", path.display())))?;
    Ok(Recording::new(BufReader::new(file)))
}

impl<R: Read> Recording<R> {
    pub(crate) fn new(input: R) -> Self {
        Recording { input, ended: false }
    }

    fn read(&mut self) -> Result<Option<Event>> {
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(Some(MAX_EVENT));
        let Some(message) =
            capnp::serialize::try_read_message(&mut self.input, options).map_err(garbled)?
        else {
            return Ok(None);
        };
        let root = message.get_root::<event::Reader<'_>>().map_err(garbled)?;
        let what = match root.which().map_err(|error| garbled(error.into()))? {
            event::Opened(peer) => What::Opened(text(peer).map_err(garbled)?),
            event::Message(from) => {
                let from = from.map_err(garbled)?;
                What::Message(
                    side(from.get_from_client()),
                    content(from.get_segments().map_err(garbled)?).map_err(garbled)?,
                )
            }
            event::Ended(end) => {
                let end = end.map_err(garbled)?;
                let failure = if end.has_failure() {
                    Some(text(end.get_failure()).map_err(garbled)?)
                } else {
                    None
                };
                What::Ended(side(end.get_from_client()), failure)
            }
        };
        Ok(Some(Event { time: root.get_time(), connection: root.get_connection(), what }))
    }
}

impl<R: Read> Iterator for Recording<R> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if self.ended {
            return None;
        }
        let event = self.read().transpose();
        self.ended = !matches!(event, Some(Ok(_)));
        event
    }
}

fn garbled(error: capnp::Error) -> Failure {
    Failure::command(format_args!(
        "this is no recording of `capnp-threads tap --record`, or it was cut off: {error}"
    ))
}

fn side(from_client: bool) -> Side {
    if from_client { Side::Client } else { Side::Server }
}

fn text(text: capnp::Result<capnp::text::Reader<'_>>) -> capnp::Result<String> {
    Ok(text?.to_string()?)
}

/// The message that consists of some segments.
fn content(segments: capnp::data_list::Reader<'_>) -> capnp::Result<Message> {
    let mut lengths = Vec::new();
    let mut bytes = Vec::new();
    for segment in segments {
        let segment = segment?;
        if segment.len() % 8 != 0 {
            return Err(capnp::Error::failed("a segment is not made of words".to_owned()));
        }
        lengths.push(u32::try_from(segment.len() / 8).unwrap_or(u32::MAX));
        bytes.extend_from_slice(segment);
    }
    let mut words = Word::allocate_zeroed_vec(bytes.len() / 8);
    Word::words_to_bytes_mut(&mut words).copy_from_slice(&bytes);
    Message::from_segments(words, &lengths)
        .ok_or_else(|| capnp::Error::failed("a message without segments".to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message() -> Message {
        let words = Word::allocate_zeroed_vec(3);
        Message::from_segments(words, &[1, 2]).unwrap()
    }

    fn recorded() -> Vec<u8> {
        let events = [
            What::Opened("127.0.0.1:4000".to_owned()),
            What::Message(Side::Client, message()),
            What::Message(Side::Server, message()),
            What::Ended(Side::Client, None),
            What::Ended(Side::Server, Some("reset".to_owned())),
        ];
        let mut bytes = Vec::new();
        for (time, what) in (0..).zip(events) {
            Event { time, connection: 1, what }.write(&mut bytes).unwrap();
        }
        bytes
    }

    #[test]
    fn what_is_recorded_is_read_again() {
        let bytes = recorded();
        let events: Vec<_> = Recording::new(&bytes[..]).map(Result::unwrap).collect();
        assert_eq!(events.iter().map(|event| event.time).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(matches!(&events[0].what, What::Opened(peer) if peer == "127.0.0.1:4000"));
        let What::Message(Side::Server, read) = &events[2].what else { panic!("{events:?}") };
        assert!(read.segments().eq(message().segments()));
        assert!(matches!(&events[3].what, What::Ended(Side::Client, None)));
        assert!(matches!(&events[4].what, What::Ended(Side::Server, Some(why)) if why == "reset"));
    }

    #[test]
    fn a_recording_that_was_cut_off_gives_what_is_whole_and_then_an_error() {
        let bytes = recorded();
        for length in 0..bytes.len() {
            let read: Vec<_> = Recording::new(&bytes[..length]).collect();
            let (last, others) = match read.split_last() {
                Some((last, others)) => (last.is_ok(), others),
                None => continue,
            };
            assert!(others.iter().all(Result::is_ok));
            let mut rest = &bytes[..length];
            let whole = others.len() + usize::from(last);
            for _ in 0..whole {
                capnp::serialize::read_message(&mut rest, ReaderOptions::new()).unwrap();
            }
            assert_eq!(rest.is_empty(), last, "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbled_recordings_are_errors(
            changes in proptest::collection::vec((0_usize..1000, 0_u8..=255), 0..6),
        ) {
            let mut bytes = recorded();
            for (place, byte) in changes {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
            // However often it is asked, it ends.
            proptest::prop_assert!(Recording::new(&bytes[..]).count() <= bytes.len());
        }
    }
}
