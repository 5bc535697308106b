//! Call: whom it is for, and where its results go.

use crate::attacks::catalogue::case::{Case, Must, case};
use crate::attacks::catalogue::peer::{ASKED, Peer};
use crate::attacks::catalogue::says::{self, INNER, patched, unknown_at};
use crate::attacks::target::Method;
use crate::support::raw::{self, Cap, Outcome, Said, Target};

/// The first word of a call's target, where the target was written first.
const TARGET: usize = INNER + 6;

fn call_of(peer: &mut Peer, target: &Target) {
    peer.say(&raw::call(ASKED, target, 1, Method::Answer as u16, &[]));
}

/// A question whose results are one capability.
fn asked_for_one(peer: &mut Peer) {
    peer.call(5, Method::Give, &[]);
    peer.results(5);
}

/// Question 5, whose results stay with the vat.
fn kept(peer: &mut Peer, method: Method) {
    peer.say(&says::call(5, peer.object, |mut call| {
        call.set_method_id(method as u16);
        call.reborrow().get_send_results_to().set_yourself(());
    }));
    assert_eq!(peer.outcome(5), Outcome::SentElsewhere);
}

pub(super) const CASES: &[Case] = &[
    case(
        "call-of-no-export",
        "calls export 77",
        Must::Aborts("export 77, which does not exist"),
        |peer| {
            call_of(peer, &Target::Import(77));
        },
    ),
    case(
        "call-of-no-export-first",
        "calls export 0 before anything was exported",
        Must::Aborts("does not exist"),
        |peer| {
            call_of(peer, &Target::Import(peer.object + 9));
        },
    )
    .first(),
    case(
        "call-of-the-last-export",
        "calls export 2^32-1",
        Must::Aborts("does not exist"),
        |peer| {
            call_of(peer, &Target::Import(u32::MAX));
        },
    ),
    case(
        "call-of-what-was-released",
        "calls what it has just released",
        Must::Aborts("does not exist"),
        |peer| {
            peer.say(&says::release(peer.object, 1));
            call_of(peer, &Target::Import(peer.object));
        },
    ),
    case("call-and-release", "releases the object right behind a call", Must::Answers, |peer| {
        call_of(peer, &Target::Import(peer.object));
        peer.say(&says::release(peer.object, 1));
    }),
    case(
        "call-of-its-own-export",
        "calls a capability of its own, as if the vat hosted it",
        Must::Aborts("does not exist"),
        |peer| {
            peer.call(5, Method::Keep, &[Cap::SenderHosted(40)]);
            call_of(peer, &Target::Import(40));
        },
    ),
    case("call-of-no-method", "calls method 9999", Must::Fails("has no method 9999"), |peer| {
        let typed = Target::Import(peer.given(Method::Typed));
        peer.say(&raw::call(ASKED, &typed, raw::MORE_STUFF, 9999, &[]));
    }),
    case(
        "call-of-the-last-method",
        "calls method 65535",
        Must::Fails("has no method 65535"),
        |peer| {
            let typed = Target::Import(peer.given(Method::Typed));
            peer.say(&raw::call(ASKED, &typed, raw::MORE_STUFF, u16::MAX, &[]));
        },
    ),
    case(
        "call-of-no-interface",
        "calls an interface that nobody has",
        Must::Fails("does not implement interface"),
        |peer| {
            let typed = Target::Import(peer.given(Method::Typed));
            peer.say(&raw::call(ASKED, &typed, 0xdead_beef, 0, &[]));
        },
    ),
    case(
        "call-of-interface-0",
        "calls interface 0, by which the vat restores objects",
        Must::Fails("does not implement interface"),
        |peer| {
            let typed = Target::Import(peer.given(Method::Typed));
            peer.say(&raw::call(ASKED, &typed, 0, 0, &[]));
        },
    ),
    case(
        "call-twice",
        "makes two calls with one id",
        Must::Aborts("is asked while it is outstanding"),
        |peer| {
            peer.call(5, Method::Hold, &[]);
            peer.call(5, Method::Answer, &[]);
        },
    ),
    case(
        "call-with-the-id-of-results",
        "calls with the id of results that it keeps",
        Must::Aborts("is asked while it is outstanding"),
        |peer| {
            asked_for_one(peer);
            peer.call(5, Method::Answer, &[]);
        },
    ),
    case("call-with-the-last-id", "calls with the id 2^32-1", Must::Shows("answered"), |peer| {
        peer.call(u32::MAX, Method::Answer, &[]);
        peer.results(u32::MAX);
    }),
    case(
        "call-of-no-answer",
        "pipelines on question 77, which is none",
        Must::Fails("pipelined on question 77, which is not outstanding"),
        |peer| {
            peer.pipelined(ASKED, 77, vec![0]);
        },
    ),
    case(
        "call-of-itself",
        "pipelines a call on itself",
        Must::Fails("which is not outstanding"),
        |peer| {
            peer.pipelined(ASKED, ASKED, vec![0]);
        },
    ),
    case(
        "call-of-what-was-finished",
        "pipelines on what it has finished",
        Must::Fails("which is not outstanding"),
        |peer| {
            asked_for_one(peer);
            peer.say(&raw::finish(5, true));
            peer.pipelined(ASKED, 5, vec![0]);
        },
    ),
    case(
        "call-of-what-is-over",
        "pipelines on results that held nothing, and are gone",
        Must::Fails("which is not outstanding"),
        |peer| {
            peer.call(5, Method::Answer, &[]);
            peer.results(5);
            peer.pipelined(ASKED, 5, vec![0]);
        },
    ),
    case(
        "call-of-results-without-capability",
        "pipelines on results that hold nothing",
        Must::Fails("null"),
        |peer| {
            kept(peer, Method::Answer);
            peer.pipelined(ASKED, 5, vec![0]);
        },
    ),
    case(
        "call-of-a-null-capability",
        "pipelines on null in results",
        Must::Fails("null"),
        |peer| {
            peer.call(5, Method::Return, &[Cap::None, Cap::SenderHosted(41)]);
            peer.until("results", |said| {
                matches!(said, Said::Return { answer: 5, .. }).then_some(())
            });
            peer.pipelined(ASKED, 5, vec![0]);
        },
    ),
    case(
        "call-of-no-struct",
        "pipelines on a field of what is a list",
        Must::Fails("non-struct pointer"),
        |peer| {
            kept(peer, Method::Large);
            peer.pipelined(ASKED, 5, vec![0]);
        },
    ),
    case(
        "call-of-a-struct",
        "pipelines on a struct instead of a capability",
        Must::Fails("non-capability pointer"),
        |peer| {
            asked_for_one(peer);
            peer.pipelined(ASKED, 5, Vec::new());
        },
    ),
    case(
        "call-through-a-capability",
        "pipelines on a field of a capability",
        Must::Fails("non-struct pointer"),
        |peer| {
            asked_for_one(peer);
            peer.pipelined(ASKED, 5, vec![0, 0]);
        },
    ),
    case(
        "call-of-a-field-that-is-not-there",
        "pipelines on pointer 65535",
        Must::Fails("null"),
        |peer| {
            asked_for_one(peer);
            peer.pipelined(ASKED, 5, vec![u16::MAX]);
        },
    ),
    case(
        "call-by-a-long-path",
        "pipelines by a path of 10,000 pointers",
        Must::Fails("nothing lies so deep"),
        |peer| {
            asked_for_one(peer);
            peer.pipelined(ASKED, 5, vec![0; 10_000]);
        },
    ),
    case(
        "call-by-a-path-of-noops",
        "pipelines by 10,000 steps that do nothing",
        Must::Answers,
        |peer| {
            asked_for_one(peer);
            peer.send(|message| {
                let mut call = message.init_call();
                call.set_question_id(ASKED);
                call.set_interface_id(1);
                let mut answer = call.init_target().init_promised_answer();
                answer.set_question_id(5);
                let mut path = answer.init_transform(10_001);
                path.reborrow().get(10_000).set_get_pointer_field(0);
            });
        },
    ),
    case(
        "call-by-an-unknown-step",
        "pipelines by a step of an unknown kind",
        Must::Fails("a pipelined call with an unknown operation"),
        |peer| {
            asked_for_one(peer);
            let call = raw::call(ASKED, &Target::Answer(5, vec![0x0777]), 1, 0, &[]);
            let step = 0x0777_0001_u64.to_le_bytes();
            let at = call.chunks_exact(8).rposition(|word| word == step).expect("a step");
            peer.say(&patched(call, at - 1, unknown_at(0)));
        },
    ),
    case(
        "call-before-the-results",
        "pipelines on a call that never ends, and finishes that",
        Must::Shows("`canceled`; the other call goes on waiting"),
        |peer| {
            peer.call(5, Method::Hold, &[]);
            peer.pipelined(ASKED, 5, vec![0]);
            peer.say(&raw::finish(5, true));
            assert_eq!(peer.outcome(5), Outcome::Canceled);
        },
    ),
    case("call-of-nobody", "calls without a target, which is export 0", Must::Answers, |peer| {
        assert_eq!(peer.object, 0);
        peer.send(|message| {
            let mut call = message.init_call();
            call.set_question_id(ASKED);
            call.set_interface_id(1);
        });
    }),
    case(
        "call-of-an-unknown-target",
        "calls a target of an unknown kind",
        Must::Fails("a kind that is not known here"),
        |peer| {
            peer.say(&patched(says::call(ASKED, peer.object, |_| ()), TARGET, unknown_at(32)));
        },
    ),
    case(
        "call-for-a-third-party",
        "wants the results sent to a third party",
        Must::Aborts("sendResultsTo"),
        |peer| {
            peer.say(&says::call(ASKED, peer.object, |mut call| {
                call.reborrow().get_send_results_to().init_third_party();
            }));
        },
    ),
    case(
        "call-for-whomever",
        "wants the results sent in an unknown way",
        Must::Aborts("sendResultsTo"),
        |peer| {
            peer.say(&patched(says::call(ASKED, peer.object, |_| ()), INNER, unknown_at(48)));
        },
    ),
    case(
        "call-that-keeps-its-results",
        "has the vat keep the results, and never takes them",
        Must::Keeps,
        |peer| {
            peer.say(&says::call(ASKED, peer.object, |mut call| {
                call.reborrow().get_send_results_to().set_yourself(());
            }));
        },
    ),
    case(
        "call-with-both-hints",
        "will neither pipeline nor look at the results",
        Must::Answers,
        |peer| {
            peer.say(&says::call(ASKED, peer.object, |mut call| {
                call.set_no_promise_pipelining(true);
                call.set_only_promise_pipeline(true);
            }));
        },
    ),
    case(
        "call-for-nothing",
        "wants only a pipeline, and pipelines nothing",
        Must::Ignores,
        |peer| {
            peer.say(&says::call(ASKED, peer.object, |mut call| {
                call.set_only_promise_pipeline(true);
            }));
        },
    ),
    case(
        "call-against-its-word",
        "pipelines on what it said it would not",
        Must::Fails("noPromisePipelining"),
        |peer| {
            peer.say(&says::call(5, peer.object, |mut call| {
                call.set_method_id(Method::Give as u16);
                call.set_no_promise_pipelining(true);
            }));
            peer.pipelined(ASKED, 5, vec![0]);
            peer.results(5);
        },
    ),
    case(
        "call-of-results-that-are-elsewhere",
        "pipelines on results that the vat keeps",
        Must::Answers,
        |peer| {
            kept(peer, Method::Give);
            peer.pipelined(ASKED, 5, vec![0]);
        },
    ),
    case("call-that-was-finished", "finishes a call in front of it", Must::Answers, |peer| {
        peer.say(&raw::finish(ASKED, true));
        peer.call(ASKED, Method::Answer, &[]);
    }),
    case(
        "call-of-a-promise-for-ever",
        "calls a promise that never resolves, and leaves",
        Must::Ignores,
        |peer| {
            let promise = peer.given(Method::Promise);
            call_of(peer, &Target::Import(promise));
        },
    ),
    case(
        "call-in-a-circle",
        "has the vat pass a call on to the object that passes it on",
        Must::Cancels,
        |peer| {
            let object = peer.object;
            peer.call(ASKED, Method::Pass, &[Cap::ReceiverHosted(object)]);
            peer.say(&raw::finish(ASKED, true));
        },
    ),
];
