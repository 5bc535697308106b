//! What is drawn of a recording.

#![allow(clippy::unwrap_used)]

use capnp::Word;
use capnp::message::{Builder, ReaderSegments};
use capnp_threads_core::message::Message;

use super::*;
use capnp_threads_core::rpc_capnp::message;

/// A message of the protocol.
fn message(build: impl FnOnce(message::Builder<'_>)) -> Message {
    let mut builder = Builder::new_default();
    build(builder.init_root());
    let reader = builder.into_reader();
    let segments = reader.into_segments();
    let mut bytes = Vec::new();
    let mut lengths = Vec::new();
    for index in 0..u32::try_from(segments.len()).unwrap() {
        let segment = segments.get_segment(index).unwrap();
        lengths.push(u32::try_from(segment.len() / 8).unwrap());
        bytes.extend_from_slice(segment);
    }
    let mut words = Word::allocate_zeroed_vec(bytes.len() / 8);
    Word::words_to_bytes_mut(&mut words).copy_from_slice(&bytes);
    Message::from_segments(words, &lengths).unwrap()
}

fn call(
    question: u32,
    on: impl FnOnce(capnp_threads_core::rpc_capnp::message_target::Builder<'_>),
) -> Message {
    message(|root| {
        let mut call = root.init_call();
        call.set_question_id(question);
        call.set_interface_id(0xabc);
        call.set_method_id(3);
        on(call.init_target());
    })
}

fn exception(question: u32, reason: &str) -> Message {
    message(|root| {
        let mut ret = root.init_return();
        ret.set_answer_id(question);
        ret.init_exception().set_reason(reason);
    })
}

fn disembargo(id: u32, is_echo: bool) -> Message {
    message(|root| {
        let mut disembargo = root.init_disembargo();
        disembargo.reborrow().init_target().set_imported_cap(4);
        let mut context = disembargo.init_context();
        if is_echo {
            context.set_receiver_loopback(id);
        } else {
            context.set_sender_loopback(id);
        }
    })
}

fn finish(question: u32) -> Message {
    message(|root| root.init_finish().set_question_id(question))
}

fn recorded(said: Vec<(u32, What)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (time, (connection, what)) in (0..).zip(said) {
        Event { time: time * 1000, connection, what }.write(&mut bytes).unwrap();
    }
    bytes
}

/// One of each thing that has to do with another one.
fn session() -> Vec<u8> {
    use Side::{Client, Server};
    let message = What::Message;
    recorded(vec![
        (1, What::Opened("somebody".to_owned())),
        (1, message(Client, call(5, |mut target| target.set_imported_cap(9)))),
        (1, message(Client, call(6, |target| target.init_promised_answer().set_question_id(5)))),
        // The same numbers mean something else to the other side, and on another connection.
        (1, message(Server, call(5, |mut target| target.set_imported_cap(1)))),
        (2, message(Client, call(5, |mut target| target.set_imported_cap(2)))),
        (1, message(Server, exception(6, "</script><b>no"))),
        (1, message(Server, disembargo(7, false))),
        (1, message(Client, disembargo(7, true))),
        (1, message(Client, exception(5, "never"))),
        (1, message(Client, finish(6))),
        (1, message(Client, call(6, |target| target.init_promised_answer().set_question_id(99)))),
        (1, What::Ended(Server, Some("reset".to_owned()))),
    ])
}

fn drawn(bytes: &[u8]) -> Drawn {
    events(None, Recording::new(bytes), 1000).unwrap()
}

#[test]
fn what_belongs_together_is_found_for_each_side_and_connection() {
    let drawn = drawn(&session());
    assert!(drawn.complaint.is_none());
    let places = |name: &str| -> Vec<_> {
        drawn.events.iter().map(|event| event.get(name).and_then(Value::as_u64)).collect()
    };
    // Answers, finishes and echoes to what they are for.
    let r = [None, None, None, None, None, Some(2), None, Some(6), Some(3), Some(2), None, None];
    assert_eq!(places("r"), r);
    let mut p = [None; 12];
    p[2] = Some(1);
    assert_eq!(places("p"), p);
    assert_eq!(drawn.events[1]["g"], "object 9");
    assert_eq!(drawn.events[1]["m"], "0x0000000000000abc/3");
    assert_eq!(drawn.events[6]["b"], 7);
    for (place, failed) in (0..).zip([0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1]) {
        assert_eq!(drawn.events[place].get("e").is_some(), failed == 1, "{place}");
    }
    assert_eq!(drawn.events[5]["x"], "</script><b>no");
    assert_eq!(drawn.events[4]["t"], 4.0);
}

#[test]
fn nothing_that_was_said_gets_out_of_the_data() {
    let page = page("a</script>b", &drawn(&session()));
    assert!(!page.contains("</script><b>") && !page.contains("a</script>b"));
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["name"], "a</script>b");
    assert_eq!(data["events"].as_array().unwrap().len(), 12);
    // Nothing is fetched from elsewhere.
    assert!(!PAGE.contains("src=") && !PAGE.contains("href=") && !PAGE.contains("url(http"));
    assert_eq!(PAGE.matches(DATA).count(), 1);
}

#[test]
fn recordings_that_end_in_the_middle_or_are_long_are_drawn_as_far_as_possible() {
    let bytes = session();
    let cut = drawn(&bytes[..bytes.len() - 3]);
    assert_eq!(cut.events.len(), 11);
    assert!(cut.complaint.unwrap().starts_with("the end is missing: "));
    let limited = events(None, Recording::new(&bytes[..]), 4).unwrap();
    assert_eq!(limited.events.len(), 4);
    assert!(limited.complaint.unwrap().contains("--limit"));
    for wrong in [&b"GIF89a is no recording at all"[..], &bytes[..20]] {
        let failure = events(None, Recording::new(wrong), 4).map(|_| ()).unwrap_err();
        assert!(failure.to_string().contains("no recording of `capnp-threads tap"), "{failure}");
    }
    assert!(drawn(&[]).events.is_empty());
}

proptest::proptest! {
    #[test]
    fn garbled_recordings_are_drawn_or_refused(
        changes in proptest::collection::vec((0_usize..100_000, 0_u8..=255), 1..8),
    ) {
        let mut bytes = session();
        for (place, byte) in changes {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        if let Ok(drawn) = events(None, Recording::new(&bytes[..]), 1000) {
            let count = drawn.events.len() as u64;
            for event in &drawn.events {
                for name in ["r", "p"] {
                    let place = event.get(name).and_then(Value::as_u64);
                    proptest::prop_assert!(place.is_none_or(|place| place < count));
                }
            }
        }
    }
}
