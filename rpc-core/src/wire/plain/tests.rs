//! What the short way reads is what the accessors of the schema read.

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the frames are small"
)]
mod laid_out;

use std::collections::BTreeSet;

use capnp::Word;
use capnp::message::Builder;

use super::super::decode::decode_within;
use super::alike::read_alike;
use super::*;
use crate::cap::client::Client;
use crate::cap::payload::{Carrier, Payload};
use crate::wire::Return;
use crate::wire::rpc_capnp::message;

/// A frame as it is received: in memory of its own.
fn received(words: &[u64]) -> Frame {
    let mut own = Word::allocate_zeroed_vec(words.len());
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    Word::words_to_bytes_mut(&mut own).copy_from_slice(&bytes);
    let length = u32::try_from(words.len()).unwrap();
    Frame::from_segments(own, &[length]).unwrap()
}

fn built(fill: impl FnOnce(message::Builder<'_>)) -> Vec<u64> {
    let mut builder = Builder::new_default();
    fill(builder.init_root());
    let segments = builder.get_segments_for_output();
    segments[0].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Reads a frame both ways. Returns whether it could be read in the short one.
fn compare(words: &[u64]) -> bool {
    match read_alike(|| received(words)) {
        Ok(message) => message.is_some(),
        Err(difference) => panic!("{words:x?} is {difference}"),
    }
}

fn frames() -> Vec<Vec<u64>> {
    let call = |hint: u8, yourself: bool| {
        built(|root| {
            let mut call = root.init_call();
            call.set_question_id(0x0102_0304);
            call.set_interface_id(0x1122_3344_5566_7788);
            call.set_method_id(0x0909);
            call.set_no_promise_pipelining(hint == 1);
            call.set_only_promise_pipeline(hint == 2);
            call.reborrow().init_target().set_imported_cap(0x0a0b_0c0d);
            if yourself {
                call.reborrow().get_send_results_to().set_yourself(());
            }
            call.init_params().init_content().initn_as::<capnp::data::Builder<'_>>(9);
        })
    };
    let results = |release: bool, no_finish: bool| {
        built(|root| {
            let mut ret = root.init_return();
            ret.set_answer_id(0x0102_0304);
            ret.set_release_param_caps(release);
            ret.set_no_finish_needed(no_finish);
            ret.init_results();
        })
    };
    let finish = |release: bool, workaround: bool| {
        built(|root| {
            let mut finish = root.init_finish();
            finish.set_question_id(0x0102_0304);
            finish.set_release_result_caps(release);
            finish.set_require_early_cancellation_workaround(workaround);
        })
    };
    let of_field = |steps: &[Option<u16>]| {
        built(|root| {
            let mut call = root.init_call();
            let mut answer = call.reborrow().init_target().init_promised_answer();
            answer.set_question_id(0x0a0b_0c0d);
            if !steps.is_empty() {
                let mut list = answer.init_transform(u32::try_from(steps.len()).unwrap());
                for (index, step) in (0..).zip(steps) {
                    let mut op = list.reborrow().get(index);
                    match step {
                        Some(field) => op.set_get_pointer_field(*field),
                        None => op.set_noop(()),
                    }
                }
            }
            call.init_params().init_content().initn_as::<capnp::data::Builder<'_>>(9);
        })
    };
    let both = [false, true];
    let mut frames = vec![call(0, false), call(1, false), call(0, true), call(1, true)];
    frames.extend([
        of_field(&[]),
        of_field(&[Some(0x0102)]),
        of_field(&[Some(1), None, Some(u16::MAX)]),
    ]);
    for first in both {
        frames.extend(both.map(|second| results(first, second)));
        frames.extend(both.map(|second| finish(first, second)));
    }
    frames
}

#[test]
fn what_comes_most_often_goes_the_short_way() {
    for frame in frames() {
        assert!(compare(&frame), "{frame:?}");
    }
}

#[test]
fn what_is_rare_is_left_to_the_accessors() {
    let rare = [
        built(|root| _ = root.init_bootstrap()),
        built(|root| _ = root.init_call().init_params()),
        built(|root| {
            let mut call = root.init_call();
            call.reborrow().init_target().init_promised_answer().init_transform(17);
            call.init_params();
        }),
        built(|root| {
            let mut call = root.init_call();
            call.reborrow().init_target();
            call.init_params().init_cap_table(1);
        }),
        built(|root| {
            let mut call = root.init_call();
            call.reborrow().init_target();
            call.set_only_promise_pipeline(true);
            call.init_params();
        }),
        built(|root| _ = root.init_return().init_exception()),
        built(|root| root.init_return().set_canceled(())),
        built(|root| _ = root.init_return().init_results().init_cap_table(0)),
    ];
    for frame in rare {
        let frame = received(&frame);
        let segment = frame.only_segment().unwrap();
        assert!(read(segment).is_none(), "{frame:?}");
    }
}

/// Each frame with each bit of it turned, and cut off at each word.
#[test]
fn what_is_garbled_is_read_alike_or_left_to_the_accessors() {
    let mut short = 0;
    for frame in frames() {
        for bit in 0..64 * frame.len() {
            let mut garbled = frame.clone();
            garbled[bit / 64] ^= 1 << (bit % 64);
            short += usize::from(compare(&garbled));
        }
        for end in 0..frame.len() {
            compare(&frame[..end]);
        }
    }
    assert!(short > 1000, "only {short}");
}

/// Numbers that look like pointers.
#[test]
fn what_is_random_is_read_alike_or_left_to_the_accessors() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut short = 0;
    for _ in 0..20_000 {
        let words: Vec<u64> = (0..12)
            .map(|index| match next() % 4 {
                0 => next() % 6,
                1 => next(),
                // A struct nearby.
                _ => (next() % 4) << 2 | (1 + next() % 3) << 32 | (1 + next() % 3) << 48,
            } & if index == 1 { 0xf } else { u64::MAX })
            .collect();
        short += usize::from(compare(&words));
    }
    assert!(short > 100, "only {short}");
}

/// `PLAIN_RUNS=10000000` makes so many frames, and `PLAIN_FROM` is the first seed.
#[test]
fn what_others_lay_out_is_read_alike_or_left_to_the_accessors() {
    let setting = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let from = setting("PLAIN_FROM").unwrap_or(0);
    let runs = setting("PLAIN_RUNS").unwrap_or(50_000);
    let mut short = 0;
    let mut said = BTreeSet::new();
    for seed in from..from + runs {
        let outcome = read_alike(|| laid_out::frame(seed));
        let message = outcome.unwrap_or_else(|difference| panic!("{seed}: {difference}"));
        let Some(message) = message else { continue };
        short += 1;
        said.insert(match message {
            Message::Call(call) => format!("call {:?} {:?}", call.results_to, call.hint),
            Message::Return(Return { release_params, no_finish_needed, .. }) => {
                format!("results {release_params} {no_finish_needed}")
            }
            Message::Finish(finish) => {
                let Finish { release_results, early_cancellation_workaround, .. } = finish;
                format!("finish {release_results} {early_cancellation_workaround}")
            }
            message => format!("{message:?}"),
        });
    }
    assert!(short > runs / 10, "only {short} of {runs}");
    // Calls to the caller and to the peer itself, with and without the one hint; results and
    // finishes with each of their two bits.
    assert_eq!(said.len(), 12, "{said:?}");
}

/// Paths through content of any kind.
#[test]
fn what_a_path_leads_to_is_what_the_accessors_find() {
    const PATHS: [&[u16]; 8] = [&[], &[0], &[1], &[0, 0], &[1, 0], &[0, 1], &[2], &[0, 0, 0]];
    let (mut nothing, mut found) = (0, 0);
    for seed in 0..40_000 {
        let frame = laid_out::frame(seed);
        for (is_call, carrier) in [(true, Carrier::Call), (false, Carrier::Return)] {
            for path in PATHS {
                let Some(index) = cap_index(&frame, is_call, path, 3) else { continue };
                let frame = Some(laid_out::frame(seed).into());
                let payload = Payload::received(frame, carrier, vec![Client::null(); 3]);
                let expected = payload.cap_index_by_accessors(path);
                assert_eq!(expected.unwrap(), index, "{seed}: {path:?}");
                assert_eq!(payload.cap_index_at(path).unwrap(), index);
                *if index.is_some() { &mut found } else { &mut nothing } += 1;
            }
        }
    }
    assert!(nothing > 1000 && found > 20, "{nothing} lead to nothing, {found} to a capability");
}

/// The accessors count what they read, and refuse to read so much.
#[test]
fn structs_that_lie_in_each_other_are_left_to_the_accessors() {
    const LENGTH: u64 = 260;
    let to_all = |from: u64, pointers: u64| {
        let back = from.wrapping_neg() & 0x3fff_ffff;
        back << 2 | LENGTH << 32 | pointers << 48
    };
    // The message, its call and the call's target are one struct, which is a call by its first
    // word and has nothing but zeros besides; and so are the parameters, without the pointers.
    let mut words = vec![to_all(0, 2), 2];
    words.resize(words.len() - 1 + usize::try_from(LENGTH).unwrap(), 0);
    words.extend([to_all(LENGTH + 1, 2), to_all(LENGTH + 2, 0)]);
    assert!(!compare(&words));
    let error = decode_within(received(&words), 0).unwrap_err();
    assert!(error.reason().contains("limit"), "{error}");
}
