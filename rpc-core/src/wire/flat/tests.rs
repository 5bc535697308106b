//! What the short way writes is, word for word, what the accessors of the schema write.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use super::super::encode::by_accessors;
use super::*;
use crate::cap::payload::{Carrier, PayloadBuilder};
use crate::tests::walk::Random;
use crate::wire::rpc_capnp::{message, return_};
use crate::wire::{Finish, PromisedAnswer, Release, Token};

fn number(random: &mut Random) -> u32 {
    let number = u32::try_from(random.next() >> 32).unwrap();
    random.one_of(&[0, 1, 7, u32::MAX, number])
}

fn short(random: &mut Random) -> u16 {
    u16::try_from(random.below(1 << 16)).unwrap()
}

fn answer(random: &mut Random) -> PromisedAnswer {
    let steps = random.one_of(&[0, 1, 1, 2, 5]);
    let path = (0..steps).map(|_| short(random)).collect();
    let path = (random.below(8) > 0).then_some(path);
    PromisedAnswer { question: number(random), path }
}

fn descriptor(random: &mut Random) -> Descriptor {
    match random.below(16) {
        0 => Descriptor::None,
        1 => Descriptor::Unknown(short(random)),
        2 => Descriptor::ReceiverAnswer(answer(random)),
        3 => {
            let bytes = vec![5; usize::try_from(random.below(2000)).unwrap()];
            let token = (random.below(4) > 0).then(|| Token::of_bytes(&bytes).unwrap());
            Descriptor::ThirdPartyHosted(number(random), token)
        }
        4..8 => Descriptor::SenderPromise(number(random)),
        8..12 => Descriptor::ReceiverHosted(number(random)),
        _ => Descriptor::SenderHosted(number(random)),
    }
}

fn caps(random: &mut Random) -> Descriptors {
    let mut caps = Descriptors::default();
    let count = random.one_of(&[0, 0, 0, 1, 1, 2, 3, 40]);
    for _ in 0..count {
        let fd = (random.below(40) == 0).then(|| Arc::new(File::open("/dev/null").unwrap().into()));
        caps.push(descriptor(random), fd);
    }
    caps
}

fn opened(carrier: Carrier, room: u32) -> Builder<HeapAllocator> {
    let mut builder = Builder::new(HeapAllocator::new().first_segment_words(room));
    let root = builder.init_root::<message::Builder<'_>>();
    match carrier {
        Carrier::Call => _ = root.init_call().init_params(),
        _ => _ = root.init_return().init_results(),
    }
    builder
}

/// Content in a message that is opened as those of `PayloadBuilder` are. Its first segment has
/// room for what is added later, so that the accessors write it there, too.
fn content(random: &mut Random, carrier: Carrier) -> Content {
    let mut builder = opened(carrier, random.one_of(&[16, 4096, 4096, 4096]));
    let root = match builder.get_root::<message::Builder<'_>>().unwrap().which().unwrap() {
        message::Call(call) => call.unwrap().get_params().unwrap().get_content(),
        message::Return(ret) => match ret.unwrap().which().unwrap() {
            return_::Results(results) => results.unwrap().get_content(),
            _ => unreachable!("it was opened for results"),
        },
        _ => unreachable!("it was opened for content"),
    };
    let bytes = usize::try_from(random.below(300)).unwrap();
    match random.below(6) {
        0 => {}
        1 => root.initn_as::<capnp::data::Builder<'_>>(u32::try_from(bytes).unwrap()).fill(9),
        2 => root.init_as::<message::Builder<'_>>().init_call().set_interface_id(7),
        3 => {
            let mut list = root.initn_as::<capnp::data_list::Builder<'_>>(3);
            (0..3).for_each(|index| list.set(index, &vec![3; bytes / 3]));
        }
        4 => _ = root.init_as::<message::Builder<'_>>(),
        _ => _ = root.initn_as::<capnp::text::Builder<'_>>(3),
    }
    Content { frame: Some(Arc::new(builder.into())), caps: caps(random) }
}

fn message(seed: u64) -> Message {
    let random = &mut Random::new(seed);
    let some = |random: &mut Random| random.below(2) == 0;
    match random.below(8) {
        0 => Message::Finish(Finish {
            question: number(random),
            release_results: some(random),
            early_cancellation_workaround: some(random),
        }),
        1 => Message::Release(Release { id: number(random), count: number(random) }),
        2..5 => Message::Return(Return {
            answer: number(random),
            release_params: some(random),
            no_finish_needed: some(random),
            outcome: ReturnKind::Results(content(random, Carrier::Return)),
        }),
        _ => Message::Call(Call {
            question: number(random),
            target: match random.below(8) {
                0 => Target::Unknown,
                1..4 => Target::PromisedAnswer(answer(random)),
                _ => Target::ImportedCap(number(random)),
            },
            interface: random.next(),
            method: short(random),
            params: content(random, Carrier::Call),
            results_to: random.one_of(&[
                ResultsTo::Caller,
                ResultsTo::Yourself,
                ResultsTo::Unknown,
            ]),
            hint: random.one_of(&[Hint::None, Hint::NoPipelining, Hint::OnlyPipeline]),
        }),
    }
}

fn segments(frame: &Frame) -> Vec<&[u8]> {
    frame.segments().collect()
}

/// `FLAT_RUNS=1000000` makes so many messages, and `FLAT_FROM` is the first seed.
#[test]
fn the_words_are_those_that_the_accessors_write() {
    let setting = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let from = setting("FLAT_FROM").unwrap_or(0);
    let runs = setting("FLAT_RUNS").unwrap_or(20_000);
    let (mut written, mut left, mut compared) = (0, 0, 0);
    let mut kinds = BTreeSet::new();
    for seed in from..from + runs {
        let message = message(seed);
        let said = format!("{message:?}");
        let mut frames = Vec::new();
        let Some(frame) = write(&message, &mut frames) else {
            assert!(frames.is_empty(), "half of a frame is left");
            left += 1;
            continue;
        };
        written += 1;
        assert_eq!(frame.segment_count(), 1);
        kinds.insert(match &message {
            Message::Call(call) => {
                format!(
                    "call {:?} {:?} {}",
                    call.results_to,
                    call.hint,
                    call.params.caps.fds.is_empty()
                )
            }
            Message::Return(ret) => format!("{} {}", ret.release_params, ret.no_finish_needed),
            Message::Finish(_) => "finish".to_owned(),
            _ => "release".to_owned(),
        });
        let expected = by_accessors(message).unwrap();
        if expected.segment_count() == 1 {
            compared += 1;
            assert!(segments(frame) == segments(&expected), "{seed}: {said}");
        }
    }
    assert!(left > runs / 50 && compared > runs / 2, "{left} were left, {compared} compared");
    assert!(written > compared, "none has its table in the content's segment");
    assert_eq!(kinds.len(), 18 + 4 + 2, "{kinds:?}");
}

#[test]
fn shared_content_is_copied_and_stays_what_it_was() {
    let mut builder = PayloadBuilder::for_results();
    builder.content().initn_as::<capnp::data::Builder<'_>>(20).fill(4);
    let payload = builder.finish(Vec::new());
    let before: Vec<Vec<u8>> =
        segments(&payload.clone().into_parts().0.unwrap()).iter().map(|s| s.to_vec()).collect();
    let ready = payload.clone().prepared(Carrier::Return).unwrap();
    let (frame, _) = ready.into_parts();
    let caps = Descriptors::from(vec![
        Descriptor::SenderHosted(4),
        Descriptor::ReceiverAnswer(PromisedAnswer::new(3, &[1].into())),
    ]);
    let ret = Message::Return(Return {
        answer: 1,
        release_params: false,
        no_finish_needed: false,
        outcome: ReturnKind::Results(Content { frame, caps }),
    });
    let sent = crate::wire::encode(ret).unwrap();
    assert!(sent.size_in_words() > payload.size_in_words());
    assert_eq!(segments(&payload.into_parts().0.unwrap()), before);
}

/// What has nothing in it is written as if a message had been opened for it.
#[test]
fn content_without_anything_in_it_needs_no_message() {
    for seed in 0..2000 {
        let [mut empty, mut with_room] = [message(seed), message(seed)];
        let mut carriers = 0;
        for (message, is_empty) in [(&mut empty, true), (&mut with_room, false)] {
            let (content, carrier) = match message {
                Message::Call(call) => (&mut call.params, Carrier::Call),
                Message::Return(Return { outcome: ReturnKind::Results(content), .. }) => {
                    (content, Carrier::Return)
                }
                _ => continue,
            };
            carriers += 1;
            content.frame = (!is_empty).then(|| Arc::new(opened(carrier, 4096).into()));
        }
        if carriers == 2 {
            let mut frames = Vec::new();
            let frame = write(&empty, &mut frames).unwrap();
            assert!(
                segments(frame) == segments(&by_accessors(with_room).unwrap()),
                "{seed}: {empty:?}"
            );
        }
    }
}

#[test]
fn content_is_built_so_that_it_can_be_copied() {
    for builder in [PayloadBuilder::for_params(), PayloadBuilder::for_results()] {
        let mut builder = builder;
        builder.content();
        let (frame, _) = builder.finish(Vec::new()).into_parts();
        assert!(can_copy(&frame.unwrap()));
    }
    let mut long = PayloadBuilder::for_params();
    long.content().initn_as::<capnp::data::Builder<'_>>(512);
    assert!(!can_copy(&long.finish(Vec::new()).into_parts().0.unwrap()));
}

/// What was not built in this order, or has been completed, is not copied.
#[test]
fn content_that_lies_otherwise_is_left_to_the_accessors() {
    let complete = |message| by_accessors(message).unwrap();
    let mut seen = 0;
    for seed in 0..200 {
        let first = message(seed);
        if !matches!(first, Message::Call(_) | Message::Return(_)) {
            continue;
        }
        let frame = Arc::new(complete(first));
        // Its ids may happen to be zeros.
        seen += usize::from(!can_copy(&frame));
    }
    assert!(seen > 100, "only {seen}");
    let mut builder = Builder::new_default();
    let mut call = builder.init_root::<message::Builder<'_>>().init_call();
    call.reborrow().init_target();
    call.init_params();
    assert!(!can_copy(&Frame::from(builder)));
    assert!(!can_copy(&Frame::from(Builder::new_default())));
    // A table of capabilities is there already.
    let mut builder = Builder::new_default();
    let results = builder.init_root::<message::Builder<'_>>().init_return();
    results.init_results().init_cap_table(1);
    assert!(!can_copy(&Frame::from(builder)));
}
