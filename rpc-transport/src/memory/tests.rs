#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{self, limits};
use rpc_testing::{Blocked, content, message};

type Pair = fn() -> (Transport, Transport);
const PAIRS: [Pair; 4] = [
    pair,
    || pair_with_capacity(Capacity { messages: 1000, words: 1 << 10 }),
    || byte_pair(64 << 10),
    || byte_pair(1 << 10),
];

#[test]
fn messages_pass_both_ways() {
    for pair in PAIRS {
        let (mut left, mut right) = pair();
        let sender = std::thread::spawn(move || {
            let lengths = [1, 2000, 3];
            let mut batch: Vec<_> = (0..20).map(|seed| message(seed, &lengths)).collect();
            left.writer.write(&mut batch).unwrap();
            left
        });
        for seed in 0..20 {
            let arrived = right.reader.read().unwrap().unwrap();
            assert_eq!(content(&arrived), content(&message(seed, &[1, 2000, 3])));
        }
        drop(sender.join().unwrap());
        assert!(right.reader.read().unwrap().is_none());
    }
}

#[test]
fn each_way_ends_with_its_writer() {
    // These have room for everything that is written before it is read.
    for (left, right) in [pair(), byte_pair(64 << 10)] {
        testing::check_connected(left, right);
    }
}

#[test]
fn shutdown_wakes_whoever_waits() {
    for pair in PAIRS {
        let (left, right) = pair();
        testing::check_shutdown_wakes_the_reader(left, right);
        let (left, right) = pair();
        testing::check_shutdown_wakes_the_writer(left, right);
    }
}

#[test]
fn shutdown_wakes_the_other_side_too() {
    for pair in PAIRS {
        let (left, right) = pair();
        let Transport { mut reader, mut writer, control: _control } = right;
        let reading = Blocked::spawn(move || reader.read());
        let writing =
            Blocked::spawn(move || while writer.write(&mut vec![message(0, &[1000])]).is_ok() {});
        left.control.shutdown();
        assert!(reading.join().is_ok_and(|message| message.is_none()));
        writing.join();
    }
}

#[test]
fn a_lost_peer_is_noticed() {
    for pair in PAIRS {
        let (left, right) = pair();
        testing::check_a_lost_peer_is_noticed(left, right);
    }
}

#[test]
fn messages_are_not_copied() {
    let (mut left, mut right) = pair();
    let original = message(0, &[10]);
    let place = original.segments().next().unwrap().as_ptr();
    left.writer.write(&mut vec![original]).unwrap();
    let arrived = right.reader.read().unwrap().unwrap();
    assert_eq!(arrived.segments().next().unwrap().as_ptr(), place);
}

#[test]
fn a_short_message_is_shown_where_it_lies() {
    fn shown(reader: &mut dyn MessageReader, takes: bool) -> Option<Vec<u8>> {
        let mut seen = None;
        let taken = reader.look_at_next(&mut |segment| {
            seen = Some(segment.to_vec());
            takes
        });
        assert_eq!(taken, takes && seen.is_some());
        seen
    }
    let (mut left, mut right) = pair();
    let reader = &mut *right.reader;
    assert_eq!(shown(reader, true), None);
    let lengths: [&[u32]; 4] = [&[3], &[40], &[2, 1], &[5]];
    let made = || lengths.iter().enumerate().map(|(seed, lengths)| message(seed, lengths));
    left.writer.write(&mut made().collect()).unwrap();
    let made: Vec<_> = made().collect();
    for takes in [false, true] {
        assert_eq!(shown(reader, takes), content(&made[0]).pop());
    }
    for long in &made[1..3] {
        assert_eq!(
            shown(reader, true),
            None,
            "its content would be copied, or it has two segments"
        );
        let Some(Received::Message(came)) = reader.try_read_next().unwrap() else { panic!("none") };
        assert_eq!(content(&came), content(long));
    }
    assert_eq!(shown(reader, true), content(&made[3]).pop());
    // One that comes later is found, and so is the end.
    assert!(reader.try_read_next().unwrap().is_none());
    left.writer.write(&mut vec![message(9, &[1])]).unwrap();
    assert_eq!(shown(reader, true), content(&message(9, &[1])).pop());
    drop(left);
    assert_eq!(shown(reader, true), None);
    assert!(matches!(reader.try_read_next(), Ok(Some(Received::End))));
}

#[test]
fn a_writer_waits_for_room_and_goes_on_when_there_is_some() {
    let (mut left, mut right) = pair_with_capacity(Capacity { messages: 2, words: 100 });
    let blocked = Blocked::spawn(move || {
        // The first three show the limit on messages, the rest that on words.
        let lengths = [1, 1, 1, 60, 60, 500, 1];
        let mut batch = lengths.map(|length| message(0, &[length])).into();
        left.writer.write(&mut batch).unwrap();
        assert!(batch.is_empty());
    });
    let mut sizes = Vec::new();
    while let Some(message) = right.reader.read().unwrap() {
        sizes.push(message.size_in_words());
    }
    assert_eq!(sizes, [1, 1, 1, 60, 60, 500, 1]);
    blocked.join();
}

#[test]
fn what_was_written_before_a_shutdown_arrives() {
    for pair in PAIRS {
        let (mut left, mut right) = pair();
        left.writer.write(&mut vec![message(0, &[1]), message(1, &[2])]).unwrap();
        left.control.shutdown();
        assert_eq!(right.reader.read().unwrap().unwrap().size_in_words(), 1);
        assert!(right.reader.has_buffered());
        assert_eq!(right.reader.read().unwrap().unwrap().size_in_words(), 2);
        assert!(!right.reader.has_buffered());
        assert!(right.reader.read().unwrap().is_none());
        assert!(right.writer.write(&mut vec![message(0, &[1])]).is_err());
        assert!(left.reader.read().unwrap().is_none());
    }
}

#[test]
fn limits_hold_as_on_a_socket() {
    for pair in PAIRS {
        for lengths in [&[4, 4][..], &[1, 1, 1]] {
            let (mut left, mut right) = pair();
            right.reader.set_limits(limits(|limits| {
                limits.max_words = 7;
                limits.max_segments = 2;
            }));
            left.writer.write(&mut vec![message(0, lengths), message(0, &[1])]).unwrap();
            assert!(right.reader.read().unwrap_err().is_peer_fault());
            assert!(!right.reader.has_buffered());
            assert!(matches!(right.reader.read(), Err(TransportError::Io(_))));
        }
    }
}
