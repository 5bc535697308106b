//! Join.

use rpc_schema::rpc_twoparty_capnp::join_key_part;

use crate::attacks::catalogue::case::{Case, Must, case};
use crate::attacks::catalogue::peer::{ASKED, Peer};
use crate::attacks::catalogue::says::{INNER, patched, unknown_at};
use crate::attacks::target::Method;
use crate::support::raw::{self, Cap, Outcome, Target, finish};

/// A Join whose key is filled in.
fn join(question: u32, target: &Target, key: impl FnOnce(super::Pointer<'_>)) -> Vec<u8> {
    raw::frame(|message| {
        let mut join = message.init_join();
        join.set_question_id(question);
        raw::write_target(join.reborrow().init_target(), target);
        key(join.init_key_part());
    })
}

/// One part of join 1, of so many.
fn part(question: u32, target: &Target, count: u16, number: u16) -> Vec<u8> {
    join(question, target, |key| {
        let mut part = key.init_as::<join_key_part::Builder<'_>>();
        part.set_join_id(1);
        part.set_part_count(count);
        part.set_part_num(number);
    })
}

/// One with bytes for a key.
fn with_bytes(question: u32, target: &Target, bytes: &[u8]) -> Vec<u8> {
    join(question, target, |mut key| key.set_as::<super::Bytes>(bytes).expect("there is room"))
}

fn object(peer: &Peer) -> Target {
    Target::Import(peer.object)
}

pub(super) const CASES: &[Case] = &[
    case(
        "join-of-no-export",
        "compares export 77, which is none",
        Must::Aborts("export 77, which does not exist"),
        |peer| {
            peer.say(&part(ASKED, &Target::Import(77), 2, 0));
        },
    ),
    case(
        "join-first",
        "compares export 0 before anything was exported",
        Must::Aborts("which does not exist"),
        |peer| {
            peer.say(&part(ASKED, &Target::Import(peer.object + 9), 1, 0));
        },
    )
    .first(),
    case(
        "join-with-the-id-of-a-call",
        "compares with the id of a call",
        Must::Aborts("is asked while it is outstanding"),
        |peer| {
            peer.call(5, Method::Hold, &[]);
            peer.say(&part(5, &object(peer), 1, 0));
        },
    ),
    case(
        "join-of-no-parts",
        "sends part 0 of 0",
        Must::Fails("part 0 of a join of 0 parts"),
        |peer| {
            peer.say(&part(ASKED, &object(peer), 0, 0));
        },
    ),
    case(
        "join-behind-the-last",
        "sends part 2 of 2",
        Must::Fails("part 2 of a join of 2 parts"),
        |peer| {
            peer.say(&part(ASKED, &object(peer), 2, 2));
        },
    ),
    case(
        "join-of-very-many",
        "sends part 0 of 65535",
        Must::Fails("at most 64 are allowed"),
        |peer| {
            peer.say(&part(ASKED, &object(peer), u16::MAX, 0));
        },
    ),
    case(
        "join-the-last-of-very-many",
        "sends part 65534 of 65535",
        Must::Fails("at most 64 are allowed"),
        |peer| {
            peer.say(&part(ASKED, &object(peer), u16::MAX, u16::MAX - 1));
        },
    ),
    case("join-of-one", "sends part 0 of 1", Must::Answers, |peer| {
        peer.say(&part(ASKED, &object(peer), 1, 0));
    }),
    case("join-of-a-part-twice", "sends part 0 of 2 twice", Must::Shows("both fail"), |peer| {
        peer.say(&[part(5, &object(peer), 2, 0), part(6, &object(peer), 2, 0)].concat());
        for question in [5, 6] {
            let Outcome::Exception(_) = peer.outcome(question) else { panic!("it does not fail") };
        }
    }),
    case(
        "join-that-disagrees",
        "says once that there are 2 parts, and once 3",
        Must::Shows("both fail"),
        |peer| {
            peer.say(&[part(5, &object(peer), 2, 0), part(6, &object(peer), 3, 1)].concat());
            for question in [5, 6] {
                let Outcome::Exception(_) = peer.outcome(question) else {
                    panic!("it does not fail")
                };
            }
        },
    ),
    case(
        "join-without-its-other-part",
        "sends one part of 2, and gives up",
        Must::Cancels,
        |peer| {
            peer.say(&[part(ASKED, &object(peer), 2, 0), finish(ASKED, true)].concat());
        },
    ),
    case("join-and-leave", "sends one part of 2, and leaves", Must::Ignores, |peer| {
        peer.say(&part(ASKED, &object(peer), 2, 1));
    }),
    case(
        "join-with-garbage",
        "compares with a key that is garbage",
        Must::Fails("non-struct pointer"),
        |peer| {
            peer.say(&with_bytes(ASKED, &object(peer), b"garbage"));
        },
    ),
    case(
        "join-without-a-key",
        "compares without a key",
        Must::Fails("part 0 of a join of 0 parts"),
        |peer| {
            peer.say(&join(ASKED, &object(peer), |_| ()));
        },
    ),
    case(
        "join-with-a-large-key",
        "compares with a key of 64 KiB",
        Must::Fails("the key part of a Join cannot be read"),
        |peer| {
            peer.say(&with_bytes(ASKED, &object(peer), &[7; 65_536]));
        },
    ),
    case(
        "join-with-33-bytes",
        "compares with a nonce that is one byte too long",
        Must::Fails("non-struct pointer"),
        |peer| {
            peer.say(&with_bytes(ASKED, &object(peer), &[7; 33]));
        },
    ),
    case(
        "join-with-a-capability",
        "compares with a capability for a key",
        Must::Fails("the key part of a Join cannot be read"),
        |peer| {
            let bytes = join(ASKED, &object(peer), |_| ());
            peer.say(&patched(bytes, INNER + 2, |_| 3));
        },
    ),
    case(
        "join-with-zeroes",
        "asks for the name of an object by a nonce of zeroes",
        Must::Answers,
        |peer| {
            peer.say(&with_bytes(ASKED, &object(peer), &[0; 32]));
        },
    ),
    case(
        "join-of-no-answer",
        "compares the results of question 88, which is none",
        Must::Fails("which is not outstanding"),
        |peer| {
            peer.say(&with_bytes(ASKED, &Target::Answer(88, vec![0]), &[7; 32]));
        },
    ),
    case(
        "join-of-an-unknown-target",
        "compares a target of an unknown kind",
        Must::Fails("a kind that is not known here"),
        |peer| {
            let bytes = with_bytes(ASKED, &object(peer), &[7; 32]);
            peer.say(&patched(bytes, INNER + 3, unknown_at(32)));
        },
    ),
    case(
        "join-of-its-own",
        "compares a capability of its own, and is asked for its name",
        Must::Ignores,
        |peer| {
            peer.call(5, Method::Return, &[Cap::SenderHosted(41)]);
            peer.until("results", |said| {
                matches!(said, raw::Said::Return { answer: 5, .. }).then_some(())
            });
            peer.say(&with_bytes(6, &Target::Answer(5, vec![0]), &[7; 32]));
            peer.until("a Join", |said| (*said == raw::Said::Other).then_some(()));
        },
    ),
    case(
        "join-of-a-promise",
        "compares a promise that never resolves, and gives up",
        Must::Cancels,
        |peer| {
            let promise = Target::Import(peer.given(Method::Promise));
            peer.say(&[with_bytes(ASKED, &promise, &[7; 32]), finish(ASKED, true)].concat());
        },
    ),
    case(
        "pipeline-on-a-join",
        "pipelines a call on a Join that does not end, and finishes that",
        Must::Shows("`canceled`; the call goes on waiting"),
        |peer| {
            peer.say(&part(5, &object(peer), 2, 0));
            peer.pipelined(ASKED, 5, vec![0]);
            peer.say(&finish(5, true));
            assert_eq!(peer.outcome(5), Outcome::Canceled);
        },
    ),
];
