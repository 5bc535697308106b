//! Writing without waiting, over every transport.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use capnp_threads_core::message::Message;
use capnp_threads_core::transport::Transport;

use crate::tap::tap;
use crate::{memory, tcp, tls, unix};
use rpc_testing::{content, message};

fn tcp_pair() -> (Transport, Transport) {
    let listener = tcp::Listener::bind(("127.0.0.1", 0)).unwrap();
    let client = tcp::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap())
}

/// Of very different lengths, in one or two segments.
fn numbered(number: usize) -> Message {
    let length = [1, 40, 700, 2000][number % 4];
    if number.is_multiple_of(3) {
        message(number, &[length, 3])
    } else {
        message(number, &[length])
    }
}

#[test]
fn what_is_not_written_at_once_is_written_later_and_in_order() {
    type Pair = fn() -> (Transport, Transport);
    let pairs: [(&str, Pair); 5] = [
        ("memory", memory::pair),
        ("bytes", || memory::byte_pair(10_000)),
        ("unix", || unix::pair().unwrap()),
        ("tcp", tcp_pair),
        ("tls", tls::testing::pair),
    ];
    for (name, pair) in pairs {
        for batch_size in [1, 7] {
            let (mut left, mut right) = pair();
            let mut sent = 0;
            // Nobody reads: it is full at some point, and the call returns all the same.
            let (mut batch, mut all) = (Vec::new(), true);
            while all {
                batch = (sent..sent + batch_size).map(numbered).collect();
                sent += batch_size;
                all = left.writer.try_write(&mut batch).unwrap();
            }
            let reader = thread::spawn(move || {
                let mut number = 0;
                while let Some(message) = right.reader.read().unwrap() {
                    assert_eq!(content(&message), content(&numbered(number)));
                    number += 1;
                }
                number
            });
            for _ in 0..100 {
                batch.push(numbered(sent));
                sent += 1;
                left.writer.write(&mut batch).unwrap();
                assert!(batch.is_empty());
                batch.push(numbered(sent));
                sent += 1;
                if left.writer.try_write(&mut batch).unwrap() {
                    assert!(batch.is_empty());
                }
            }
            left.writer.write(&mut batch).unwrap();
            left.writer.finish().unwrap();
            assert_eq!(reader.join().unwrap(), sent, "{name}");
        }
    }
}

#[test]
fn sockets_and_memory_take_small_batches_at_once() {
    for pair in [memory::pair, || unix::pair().unwrap(), tcp_pair, tls::testing::pair] {
        let (mut left, mut right) = pair();
        let mut batch = vec![numbered(0), numbered(1)];
        assert!(left.writer.try_write(&mut batch).unwrap());
        for number in 0..2 {
            let received = right.reader.read().unwrap().unwrap();
            assert_eq!(content(&received), content(&numbered(number)));
        }
    }
}

#[test]
fn a_broken_stream_shows_when_the_rest_is_written() {
    for pair in [memory::pair, || unix::pair().unwrap()] {
        let (mut left, right) = pair();
        right.control.shutdown();
        drop(right);
        let mut batch = vec![numbered(1)];
        assert!(!matches!(left.writer.try_write(&mut batch), Ok(true)));
        batch.push(numbered(2));
        assert!(left.writer.write(&mut batch).is_err());
    }
}

#[test]
fn a_tap_tells_every_message_once() {
    let told = Arc::new(AtomicUsize::new(0));
    let (left, mut right) = memory::pair_with_capacity(memory::Capacity { messages: 3, words: 99 });
    let mut left = tap(left, {
        let told = Arc::clone(&told);
        move |_: &str| {
            told.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut batch: Vec<Message> = (0..5).map(|number| message(number, &[1])).collect();
    assert!(!left.writer.try_write(&mut batch).unwrap());
    assert_eq!((batch.len(), told.load(Ordering::SeqCst)), (2, 5));
    let reader = thread::spawn(move || {
        for _ in 0..6 {
            right.reader.read().unwrap().unwrap();
        }
    });
    batch.push(message(5, &[1]));
    left.writer.write(&mut batch).unwrap();
    reader.join().unwrap();
    assert_eq!(told.load(Ordering::SeqCst), 6);
}
