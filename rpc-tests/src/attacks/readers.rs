//! Peers that do not read, or hardly.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use capnp_threads_core::Concurrency;

use super::assault::{call, connect, ended, last_words};
use super::target::{LARGE, Method};
use super::words::{self, Content, finish};
use super::{Attack, Bound, Ends, Seen, Siege};
use crate::support::raw;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "unread-returns",
        about: "calls without end, finishes each call, and reads nothing",
        bounds: &[Bound::Backlog],
        ends: Ends::CutOff("backlog_bytes"),
        run: unread_returns,
    },
    Attack {
        name: "unread-results",
        about: "asks for large results, and reads nothing",
        bounds: &[Bound::Backlog, Bound::Budget],
        ends: Ends::CutOff("backlog_bytes"),
        run: unread_results,
    },
    Attack {
        name: "unread-echoes",
        about: "sends messages that nobody knows, and reads nothing",
        bounds: &[Bound::Backlog],
        ends: Ends::CutOff("backlog_bytes"),
        run: unread_echoes,
    },
    Attack {
        name: "introductions",
        about: "sends the messages of level 3 without end, and reads nothing",
        bounds: &[Bound::Backlog],
        ends: Ends::CutOff("backlog_bytes"),
        run: introductions,
    },
    Attack {
        name: "slow-reader",
        about: "reads one byte at a time",
        bounds: &[Bound::Backlog, Bound::Budget],
        ends: Ends::GoesOn,
        run: slow_reader,
    },
];

/// Writes the same again and again, up to so many bytes, until it is cut off; only then
/// reads.
fn unread(siege: &Siege, most: u64, some: impl Fn(u32) -> Vec<u8>) -> Seen {
    let (mut peer, connection, _own) = connect(siege, Concurrency::Concurrent);
    let object = peer.bootstrapped(0);
    let mut writer = peer.writer();
    let mut written = 0;
    while written < most {
        let bytes = some(object);
        if writer.write_all(&bytes).is_err() {
            break;
        }
        written += bytes.len() as u64;
        siege.look();
        // When it ends, the vat reads on for a while; nothing more comes of that.
        if connection.failure().is_some() {
            break;
        }
    }
    siege.honest_goes_on();
    // Ends this direction.
    peer.end();
    let seen = last_words(peer);
    ended(&connection);
    seen
}

/// More than is ever queued, where an answer is not smaller than what it answers.
fn too_much(siege: &Siege) -> u64 {
    8 * siege.sizes.limits.backlog_bytes
}

fn unread_returns(siege: &Siege) -> Seen {
    unread(siege, too_much(siege), |object| {
        [call(1, object, Method::Answer, &[]), finish(1)].concat().repeat(100)
    })
}

fn unread_results(siege: &Siege) -> Seen {
    // Results are larger than calls by far. They need no Finish, but one that comes before
    // them would cancel the call.
    let question = Cell::new(0);
    unread(siege, too_much(siege) / LARGE as u64 * 200, |object| {
        question.set(question.get() + 1);
        call(question.get(), object, Method::Large, &[])
    })
}

fn unread_echoes(siege: &Siege) -> Seen {
    unread(siege, too_much(siege), |_| raw::tagged(1000).repeat(100))
}

fn introductions(siege: &Siege) -> Seen {
    let provide = raw::frame(|message| message.init_provide().set_question_id(1));
    let accept = raw::frame(|message| message.init_accept().set_question_id(2));
    let answer = raw::frame(|message| message.init_third_party_answer().set_answer_id(1 << 30));
    let some = [provide, accept, answer].concat().repeat(100);
    unread(siege, too_much(siege), |_| some.clone())
}

fn slow_reader(siege: &Siege) -> Seen {
    let (mut peer, connection, _own) = connect(siege, Concurrency::Concurrent);
    let object = peer.bootstrapped(0);
    let (mut slow, mut writer) = (peer.writer(), peer.writer());
    let reading = thread::spawn(move || {
        let mut byte = [0];
        let mut read = 0_u32;
        while slow.read(&mut byte).is_ok_and(|count| count > 0) {
            read += 1;
        }
        read
    });
    let calls = 40;
    for question in 1..=calls {
        let content = Content::Data(16);
        let bytes = words::call(question, object, Method::Large, content, &[]);
        // One byte at a time, too.
        for byte in bytes.chunks(1) {
            let _ = writer.write_all(byte);
        }
        siege.look();
    }
    siege.honest_goes_on();
    let _ = writer.shutdown(Shutdown::Write);
    // What is left is not worth waiting for when the vat ends it.
    let read = reading.join().unwrap();
    assert!(read > calls * LARGE as u32 / 2, "only {read} bytes were read");
    ended(&connection);
    Seen::default()
}
