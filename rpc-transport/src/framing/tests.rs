#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use capnp::message::{AllocationStrategy, Builder, HeapAllocator, ReaderSegments};
use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{MessageReader, MessageWriter, TransportError};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{FramedReader, FramedWriter};
use crate::testing::limits;
use rpc_testing::{content, message};

/// Gives bytes out in the pieces that it is told to, then in full, and reports
/// an interruption for a piece of no bytes.
#[derive(Clone, Default)]
struct Source(Arc<Mutex<SourceState>>);

#[derive(Default)]
struct SourceState {
    bytes: VecDeque<u8>,
    pieces: VecDeque<usize>,
    calls: usize,
    largest_room: usize,
    rooms: Vec<usize>,
}

impl Source {
    fn new(bytes: impl Into<VecDeque<u8>>) -> Self {
        Source::in_pieces(bytes, [])
    }

    fn in_pieces(bytes: impl Into<VecDeque<u8>>, pieces: impl IntoIterator<Item = usize>) -> Self {
        let pieces = pieces.into_iter().collect();
        let state = SourceState { bytes: bytes.into(), pieces, ..SourceState::default() };
        Source(Arc::new(Mutex::new(state)))
    }

    fn calls(&self) -> usize {
        self.0.lock().calls
    }
}

impl Read for Source {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        state.calls += 1;
        state.largest_room = state.largest_room.max(room.len());
        state.rooms.push(room.len());
        let piece = state.pieces.pop_front().unwrap_or(usize::MAX);
        if piece == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let piece = piece.min(room.len());
        state.bytes.read(&mut room[..piece])
    }
}

/// Takes bytes in the pieces that it is told to, then as they come, and reports
/// an interruption for a piece of no bytes.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<SinkState>>);

#[derive(Default)]
struct SinkState {
    bytes: Vec<u8>,
    pieces: VecDeque<usize>,
    /// How many slices each call had.
    calls: Vec<usize>,
    /// What happens after the pieces, instead of taking everything.
    then: Option<Result<usize, io::ErrorKind>>,
    flushed: bool,
}

impl Sink {
    fn in_pieces(pieces: impl IntoIterator<Item = usize>) -> Self {
        let pieces = pieces.into_iter().collect();
        Sink(Arc::new(Mutex::new(SinkState { pieces, ..SinkState::default() })))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    fn calls(&self) -> Vec<usize> {
        self.0.lock().calls.clone()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock();
        state.calls.push(slices.len());
        state.flushed = false;
        let piece = match (state.pieces.pop_front(), state.then) {
            (Some(0), _) => return Err(io::ErrorKind::Interrupted.into()),
            (Some(piece), _) => piece,
            (None, None) => usize::MAX,
            (None, Some(outcome)) => return Ok(outcome?),
        };
        let mut written = 0;
        for slice in slices {
            let count = slice.len().min(piece - written);
            state.bytes.extend_from_slice(&slice[..count]);
            written += count;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().flushed = true;
        Ok(())
    }
}

fn framed(mut batch: Vec<Message>) -> Vec<u8> {
    let sink = Sink::default();
    FramedWriter::new(sink.clone()).write(&mut batch).unwrap();
    assert!(sink.0.lock().flushed);
    sink.bytes()
}

fn reader(bytes: &[u8]) -> FramedReader<Source> {
    FramedReader::new(Source::new(bytes.to_vec()))
}

/// A segment table of these numbers, without padding.
fn table(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn a_message_is_framed_as_the_standard_says() {
    let bytes = framed(vec![message(0, &[1, 2]), message(1, &[1])]);
    #[rustfmt::skip]
    let expected = [
        1, 0, 0, 0,  1, 0, 0, 0,  2, 0, 0, 0,  0, 0, 0, 0,
        0, 7, 14, 21, 28, 35, 42, 49,
        56, 63, 70, 77, 84, 91, 98, 105,
        112, 119, 126, 133, 140, 147, 154, 161,
        0, 0, 0, 0,  1, 0, 0, 0,
        1, 8, 15, 22, 29, 36, 43, 50,
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn a_builder_in_which_nothing_was_built_is_one_empty_segment() {
    let bytes = framed(vec![Message::from(Builder::new_default())]);
    assert_eq!(bytes, [0; 8]);
    assert_eq!(content(&reader(&bytes).read().unwrap().unwrap()), [Vec::<u8>::new()]);
}

#[test]
fn a_built_message_of_many_segments_arrives() {
    let allocator = HeapAllocator::new()
        .first_segment_words(1)
        .allocation_strategy(AllocationStrategy::FixedSize);
    let mut builder = Builder::new(allocator);
    let mut list = builder.initn_root::<capnp::data_list::Builder<'_>>(100);
    for index in 0..100 {
        list.set(index, &[u8::try_from(index).unwrap(); 20]);
    }
    let built = Message::from(builder);
    let expected = content(&built);
    assert!(expected.len() > 50);
    let arrived = reader(&framed(vec![built])).read().unwrap().unwrap();
    assert_eq!(content(&arrived), expected);
}

#[test]
fn the_capnp_crate_frames_messages_in_the_same_way() {
    for lengths in [&[3][..], &[0], &[1, 2], &[5, 0, 700, 1]] {
        let bytes = framed(vec![message(0, lengths)]);
        let theirs =
            capnp::serialize::read_message(&bytes[..], capnp::message::ReaderOptions::new());
        let segments = theirs.unwrap().into_segments();
        assert_eq!(segments.len(), lengths.len());
        for (index, expected) in (0..).zip(content(&message(0, lengths))) {
            assert_eq!(segments.get_segment(index).unwrap(), expected);
        }
        let mut written = Vec::new();
        let original = message(0, lengths);
        capnp::serialize::write_message_segments(&mut written, &original).unwrap();
        assert_eq!(written, bytes);
    }
}

#[test]
fn many_messages_are_read_by_one_call() {
    let bytes = framed((0..50).map(|seed| message(seed, &[5])).collect());
    let source = Source::new(bytes);
    let mut reader = FramedReader::new(source.clone());
    assert!(!reader.has_buffered());
    for seed in 0..50 {
        assert_eq!(content(&reader.read().unwrap().unwrap()), content(&message(seed, &[5])));
        assert_eq!(reader.has_buffered(), seed < 49);
    }
    assert_eq!(source.calls(), 1);
    assert!(reader.read().unwrap().is_none());
}

/// What the next message is, if it is shown, and whether it counts as read then.
fn shown(reader: &mut FramedReader<Source>, takes: bool) -> Option<Vec<u8>> {
    let mut seen = None;
    let taken = reader.look_at_next(&mut |segment| {
        seen = Some(segment.to_vec());
        takes
    });
    assert_eq!(taken, takes && seen.is_some());
    seen
}

#[test]
fn a_message_of_one_segment_is_shown_where_it_lies() {
    let lengths: [&[u32]; 6] = [&[3], &[4], &[2, 1], &[0], &[5], &[40 << 10]];
    let made = || lengths.iter().enumerate().map(|(seed, lengths)| message(seed, lengths));
    let mut reader = reader(&framed(made().collect()));
    let made: Vec<_> = made().collect();
    assert_eq!(shown(&mut reader, true), None, "nothing is buffered");
    assert_eq!(content(&reader.read().unwrap().unwrap()), content(&made[0]));
    // It may be shown again and again, and counts as read once it was taken.
    for takes in [false, false, true] {
        assert_eq!(shown(&mut reader, takes), content(&made[1]).pop());
    }
    assert_eq!(shown(&mut reader, true), None, "it has two segments");
    assert_eq!(content(&reader.read().unwrap().unwrap()), content(&made[2]));
    assert_eq!(shown(&mut reader, true), content(&made[3]).pop());
    assert_eq!(shown(&mut reader, false), content(&made[4]).pop());
    assert_eq!(content(&reader.read().unwrap().unwrap()), content(&made[4]));
    assert_eq!(shown(&mut reader, true), None, "not all of it is there");
    assert_eq!(content(&reader.read().unwrap().unwrap()), content(&made[5]));
    assert!(reader.read().unwrap().is_none());
    assert_eq!(shown(&mut reader, true), None, "the stream has ended");
}

#[test]
fn a_message_that_is_refused_is_not_shown() {
    let mut reader = reader(&framed(vec![message(0, &[1]), message(1, &[9])]));
    drop(reader.read().unwrap().unwrap());
    reader.set_limits(limits(|limits| limits.max_words = 8));
    assert_eq!(shown(&mut reader, true), None);
    assert!(reader.read().is_err());
    assert_eq!(shown(&mut reader, true), None, "the stream is broken");
}

#[test]
fn the_buffer_grows_with_the_traffic() {
    let count = 4000;
    let bytes = framed((0..count).map(|seed| message(seed, &[7])).collect());
    let source = Source::new(bytes);
    let mut reader = FramedReader::new(source.clone());
    for seed in 0..count {
        assert_eq!(content(&reader.read().unwrap().unwrap()), content(&message(seed, &[7])));
    }
    // 4, 8, 16, 32 and 64 KiB, then 64 KiB each time, of about 256 KiB.
    assert!(source.calls() < 10, "{}", source.calls());
}

#[test]
fn a_reader_begins_with_what_was_read_before() {
    let bytes = framed((0..3).map(|seed| message(seed, &[2])).collect());
    for first in 0..=bytes.len() {
        let (before, rest) = bytes.split_at(first);
        let mut reader = reader(rest).starting_with(before.to_vec());
        assert_eq!(reader.has_buffered(), first >= bytes.len() / 3);
        for seed in 0..3 {
            let came = reader.read().unwrap().unwrap();
            assert_eq!(content(&came), content(&message(seed, &[2])), "after {first}");
        }
        assert!(reader.read().unwrap().is_none());
    }
}

#[test]
fn a_stream_that_ends_between_messages_ends_there() {
    let mut reader = reader(&framed(vec![message(0, &[1])]));
    assert!(reader.read().unwrap().is_some());
    assert!(reader.read().unwrap().is_none());
    assert!(reader.read().unwrap().is_none());
}

#[test]
fn a_stream_that_ends_anywhere_else_is_truncated() {
    let long = 70 << 7; // longer than the buffer
    for batch in [vec![message(0, &[1, 0, 2]), message(1, &[2, 1])], vec![message(0, &[long])]] {
        let mut ends = vec![0];
        for message in &batch {
            let table = (4 * (1 + message.segment_count())).next_multiple_of(8);
            ends.push(ends.last().unwrap() + table + 8 * message.size_in_words());
        }
        let bytes = framed(batch);
        assert_eq!(ends.last(), Some(&bytes.len()));
        let step = if bytes.len() > 1000 { 97 } else { 1 };
        for end in (0..bytes.len()).step_by(step) {
            let whole = ends.iter().filter(|other| **other <= end).count() - 1;
            let mut reader = reader(&bytes[..end]);
            for _ in 0..whole {
                assert!(reader.read().unwrap().is_some());
            }
            if ends.contains(&end) {
                assert!(reader.read().unwrap().is_none());
            } else {
                let error = reader.read().unwrap_err();
                assert!(matches!(error, TransportError::Truncated), "at {end}: {error}");
                // It stays at that.
                assert!(reader.read().is_err());
                assert!(!reader.has_buffered());
            }
        }
    }
}

#[test]
fn as_many_segments_as_allowed_are_accepted() {
    let lengths: Vec<u32> = (0..512).map(|index| index % 3).collect();
    let original = message(0, &lengths);
    let expected = content(&original);
    let bytes = framed(vec![original]);
    assert_eq!(content(&reader(&bytes).read().unwrap().unwrap()), expected);
}

#[test]
fn more_segments_than_allowed_are_refused_before_their_table_is_read() {
    for (number, announced) in [(512, 513), (u32::MAX - 1, u64::from(u32::MAX))] {
        let error = reader(&table(&[number])).read().unwrap_err();
        let TransportError::TooManySegments { segments, limit } = error else { panic!("{error}") };
        assert_eq!((segments, limit), (announced, 512));
    }
}

#[test]
fn a_table_for_no_segment_at_all_is_refused() {
    let mut reader = reader(&table(&[u32::MAX, 0, 0, 0]));
    let error = reader.read().unwrap_err();
    assert!(error.is_peer_fault());
    let TransportError::TooManySegments { segments, .. } = error else { panic!("{error}") };
    assert_eq!(segments, 1 << 32);
    // What follows is not taken for a message.
    assert!(!reader.has_buffered());
    assert!(reader.read().is_err());
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_table() {
    let half = 4 << 20;
    for (numbers, announced) in [
        (vec![0, 2 * half + 1], u64::from(2 * half) + 1),
        (vec![1, half, half + 1, 0], u64::from(2 * half) + 1),
        (vec![2, u32::MAX, u32::MAX, u32::MAX], 3 * u64::from(u32::MAX)),
    ] {
        let error = reader(&table(&numbers)).read().unwrap_err();
        assert!(error.is_peer_fault());
        let TransportError::TooLarge { words, limit } = error else { panic!("{error}") };
        assert_eq!((words, limit), (announced, 8 << 20));
    }
}

#[test]
fn limits_hold_from_the_next_message_on() {
    let mut reader = reader(&framed((0..3).map(|seed| message(seed, &[4, 4])).collect()));
    assert!(reader.read().unwrap().is_some());
    assert!(reader.has_buffered());
    reader.set_limits(limits(|limits| {
        limits.max_words = 8;
        limits.max_segments = 2;
    }));
    assert!(reader.read().unwrap().is_some());
    reader.set_limits(limits(|limits| {
        limits.max_words = 7;
        limits.max_segments = 2;
    }));
    // What goes beyond a limit need not come as a whole.
    assert!(reader.has_buffered());
    assert!(matches!(reader.read(), Err(TransportError::TooLarge { words: 8, limit: 7 })));
    assert!(!reader.has_buffered());
}

#[test]
fn a_lying_table_costs_little_memory() {
    // The largest message that is allowed, of which nothing or little follows.
    for follows in [0, 1, 1000, 300 << 10] {
        let mut bytes = table(&[0, 8 << 20]);
        bytes.resize(bytes.len() + follows, 1);
        let source = Source::new(bytes);
        let mut reader = FramedReader::new(source.clone());
        assert!(matches!(reader.read(), Err(TransportError::Truncated)));
        let room = source.0.lock().largest_room;
        assert!(room <= (128 << 10).max(follows), "{room} bytes for {follows}");
    }
}

#[test]
fn a_batch_of_short_messages_is_one_plain_write() {
    let sink = Sink::default();
    let mut writer = FramedWriter::new(sink.clone());
    let mut batch: Vec<_> = (0..1000).map(|seed| message(seed, &[3, 2, 5])).collect();
    writer.write(&mut batch).unwrap();
    assert_eq!(sink.calls(), [1]);
    writer.write(&mut batch).unwrap();
    assert_eq!(sink.calls(), [1], "an empty batch writes nothing");
}

#[test]
fn long_segments_are_written_from_where_they_are() {
    let sink = Sink::default();
    let mut batch = vec![
        message(0, &[3]),
        message(1, &[1000, 5, 2000]),
        message(2, &[3]),
        message(3, &[1000]),
        message(4, &[3]),
    ];
    FramedWriter::new(sink.clone()).write(&mut batch).unwrap();
    // Between and around three long segments lie four copied pieces.
    assert_eq!(sink.calls(), [7]);
}

#[test]
fn a_vectored_write_has_at_most_1024_slices() {
    let sink = Sink::default();
    let lengths: Vec<u32> = std::iter::repeat_n(512, 700).collect();
    let mut batch: Vec<_> = (0..4).map(|seed| message(seed, &lengths)).collect();
    let expected: Vec<_> = batch.iter().map(content).collect();
    FramedWriter::new(sink.clone()).write(&mut batch).unwrap();
    assert!(sink.calls().iter().all(|slices| *slices <= 1024), "{:?}", sink.calls());
    let mut reader = reader(&sink.bytes());
    reader.set_limits(limits(|limits| {
        limits.max_words = 8 << 20;
        limits.max_segments = 700;
    }));
    for expected in expected {
        assert_eq!(content(&reader.read().unwrap().unwrap()), expected);
    }
}

#[test]
fn a_writer_that_failed_writes_nothing_more() {
    for (then, expected) in [
        (Ok(0), io::ErrorKind::WriteZero),
        (Err(io::ErrorKind::ConnectionReset), io::ErrorKind::ConnectionReset),
    ] {
        for lengths in [[5], [5000]] {
            let sink = Sink::in_pieces([10]);
            sink.0.lock().then = Some(then);
            let mut writer = FramedWriter::new(sink.clone());
            let error = writer.write(&mut vec![message(0, &lengths)]).unwrap_err();
            let TransportError::Io(error) = error else { panic!("{error}") };
            assert_eq!(error.kind(), expected);
            sink.0.lock().then = None;
            assert!(writer.write(&mut vec![message(0, &lengths)]).is_err());
            assert!(writer.finish().is_err());
            assert_eq!(sink.bytes().len(), 10);
        }
    }
}

#[test]
fn finishing_flushes_and_closes() {
    let sink = Sink::default();
    let mut writer = FramedWriter::with_finish(sink.clone(), |sink| {
        assert!(sink.0.lock().flushed);
        sink.0.lock().bytes.push(b'.');
        Ok(())
    });
    writer.finish().unwrap();
    writer.finish().unwrap();
    assert_eq!(sink.bytes(), b".");
    assert!(writer.write(&mut vec![message(0, &[1])]).is_err());
}

/// The lengths of the segments of one message: mostly few and short, sometimes
/// many, sometimes longer than any buffer.
fn lengths() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        8 => prop::collection::vec(0_u32..20, 1..6),
        1 => prop::collection::vec(0_u32..4, 1..=512),
        1 => prop::collection::vec(prop_oneof![0_u32..20, 500_u32..20_000], 1..4),
    ]
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0_usize..20, 0_usize..5000], 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_any_chunking(
        batches in prop::collection::vec(prop::collection::vec(lengths(), 0..12), 0..4),
        taken in pieces(),
        given in pieces(),
    ) {
        let sink = Sink::in_pieces(taken);
        let mut writer = FramedWriter::new(sink.clone());
        let mut expected = Vec::new();
        for batch in &batches {
            let mut messages: Vec<_> =
                batch.iter().enumerate().map(|(seed, lengths)| message(seed, lengths)).collect();
            expected.extend(messages.iter().map(content));
            writer.write(&mut messages).unwrap();
            prop_assert!(messages.is_empty());
        }
        let source = Source::in_pieces(sink.bytes(), given);
        let mut reader = FramedReader::new(source.clone());
        for expected in expected {
            let buffered = reader.has_buffered();
            let calls = source.calls();
            let message = reader.read().unwrap().unwrap();
            prop_assert_eq!(content(&message), expected);
            prop_assert!(!buffered || source.calls() == calls);
        }
        prop_assert!(reader.read().unwrap().is_none());
    }

    #[test]
    fn garbage_is_an_error_or_messages_and_never_a_panic(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => 0_u8..8, 1 => any::<u8>()], 0..400),
        given in pieces(),
    ) {
        let length = bytes.len();
        let mut reader = FramedReader::new(Source::in_pieces(bytes, given));
        let mut words = 0;
        while let Ok(Some(message)) = reader.read() {
            words += message.size_in_words();
            reader.has_buffered();
        }
        prop_assert!(words * 8 <= length);
    }
}

/// What is buffered of a long message has to be copied into the memory that it
/// stays in, and long messages come one after the other.
#[test]
fn little_is_buffered_of_a_long_message_that_follows_another() {
    const LONG: [u32; 1] = [40 << 10];
    let source = Source::new(framed((0..3).map(|seed| message(seed, &LONG)).collect()));
    let mut reader = FramedReader::new(source.clone());
    for seed in 0..3 {
        let received = reader.read().unwrap().unwrap();
        assert_eq!(content(&received), content(&message(seed, &LONG)));
        let rooms = std::mem::take(&mut source.0.lock().rooms);
        assert_eq!(rooms[0] <= 512, seed > 0, "{rooms:?}");
    }
}
