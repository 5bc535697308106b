//! Return: answers to questions of the vat's.

use rpc_schema::rpc_capnp::exception;

use crate::attacks::catalogue::case::{Case, Must, case};
use crate::attacks::catalogue::peer::{ASKED, OWN, Peer};
use crate::attacks::catalogue::says::{self, INNER, patched, returned, unknown_at};
use crate::attacks::target::Method;
use crate::attacks::words::to_list;
use crate::support::raw::{self, Cap, Outcome, Target};
use capnp_threads_core::capnp::text;

/// Answers the vat's call with an exception that is filled in.
fn failed(peer: &mut Peer, fill: impl FnOnce(exception::Builder<'_>)) {
    let question = peer.called_back();
    peer.say(&returned(question, |ret| fill(ret.init_exception())));
}

fn take(answer: u32, from: u32) -> Vec<u8> {
    returned(answer, |mut ret| ret.set_take_from_other_question(from))
}

/// Has a typed object call the peer, and answers with results whose first pointer is this.
fn read(peer: &mut Peer, pointer: u64) {
    let typed = Target::Import(peer.given(Method::Typed));
    peer.say(&raw::call(ASKED, &typed, raw::MORE_STUFF, raw::CALL_FOO, &[Cap::SenderHosted(OWN)]));
    let question = peer.called(OWN);
    peer.say(&raw::with_pointer(says::results(question, &[Cap::SenderHosted(41)]), pointer));
}

/// Calls a method that waits for its cancellation, whose results stay with the vat, as question
/// 5. Makes the vat call the peer, and returns the vat's question.
fn waiting(peer: &mut Peer) -> u32 {
    peer.say(&says::call(5, peer.object, |mut call| {
        call.set_method_id(Method::Hold as u16);
        call.reborrow().get_send_results_to().set_yourself(());
    }));
    peer.called_back()
}

/// Waits until the vat says that the results of [`ASKED`] are those of its own question.
fn taken(peer: &mut Peer) {
    let outcome = peer.outcome(ASKED);
    assert!(matches!(outcome, Outcome::TakeFrom(_)), "{outcome:?} for a call that came back");
}

/// Answers the vat's call with results that name a capability.
fn named(peer: &mut Peer, cap: Cap) {
    let question = peer.called_back();
    peer.say(&says::results(question, &[cap]));
}

/// An answer with results whose table of capabilities is behind this pointer.
fn table_at(peer: &mut Peer, pointer: u64) {
    let question = peer.called_back();
    let results = returned(question, |ret| {
        ret.init_results();
    });
    // The payload follows the two words and the pointer of the Return.
    peer.say(&patched(results, INNER + 4, |_| pointer));
}

pub(super) const CASES: &[Case] = &[
    case(
        "return-unasked",
        "answers question 9, which was not asked",
        Must::Aborts("question 9, which was not asked"),
        |peer| {
            peer.say(&says::results(9, &[]));
        },
    ),
    case(
        "return-first",
        "answers question 0 before anything else",
        Must::Aborts("question 0, which was not asked"),
        |peer| {
            peer.say(&says::results(0, &[]));
        },
    )
    .first(),
    case(
        "return-last-id",
        "answers question 2^32-1",
        Must::Aborts("which was not asked"),
        |peer| {
            peer.say(&says::results(u32::MAX, &[]));
        },
    ),
    case(
        "return-of-a-pipeline",
        "answers the first question that wants no answer, which was not asked",
        Must::Aborts("which was not asked"),
        |peer| {
            peer.say(&says::exception(1 << 31, "unwanted"));
        },
    ),
    case(
        "return-before-the-question",
        "answers question 0 right before it is asked",
        Must::Aborts("which was not asked"),
        |peer| {
            let object = peer.object;
            let early = [
                says::results(0, &[]),
                raw::call(
                    5,
                    &Target::Import(object),
                    1,
                    Method::CallBack as u16,
                    &[Cap::SenderHosted(OWN)],
                ),
            ];
            peer.say(&early.concat());
        },
    ),
    case("return-twice", "answers twice", Must::Aborts("Return for question"), |peer| {
        let question = peer.called_back();
        peer.say(&says::results(question, &[]));
        peer.results(ASKED);
        peer.say(&says::results(question, &[]));
    }),
    case(
        "return-elsewhere-twice",
        "says twice that the results stay with it",
        Must::Aborts("a second Return for question"),
        |peer| {
            let question = peer.tail_called(&[]);
            let elsewhere = returned(question, |mut ret| ret.set_results_sent_elsewhere(()));
            taken(peer);
            peer.say(&[elsewhere.clone(), elsewhere].concat());
        },
    ),
    case(
        "return-canceled",
        "answers with `canceled`, which nobody has asked for",
        Must::Aborts("was canceled, but not by this side"),
        |peer| {
            let question = peer.called_back();
            peer.say(&returned(question, |mut ret| ret.set_canceled(())));
        },
    ),
    case(
        "return-canceled-late",
        "answers with `canceled` what the vat has finished",
        Must::Shows("the vat's Finish"),
        |peer| {
            let question = peer.tail_called(&[]);
            taken(peer);
            peer.say(&raw::finish(ASKED, true));
            peer.until("a Finish", |said| {
                matches!(said, raw::Said::Finish { question: own, .. } if *own == question)
                    .then_some(())
            });
            peer.say(&returned(question, |mut ret| ret.set_canceled(())));
        },
    ),
    case(
        "return-elsewhere",
        "says that the results went elsewhere, which nobody has asked for",
        Must::Aborts("should have come here"),
        |peer| {
            let question = peer.called_back();
            peer.say(&returned(question, |mut ret| ret.set_results_sent_elsewhere(())));
        },
    ),
    case(
        "return-here",
        "sends results that should have stayed with it",
        Must::Aborts("should have stayed with the peer"),
        |peer| {
            let question = peer.tail_called(&[]);
            taken(peer);
            peer.say(&says::results(question, &[]));
        },
    ),
    case(
        "return-exception-here",
        "sends an exception that should have stayed with it",
        Must::Aborts("should have stayed with the peer"),
        |peer| {
            let question = peer.tail_called(&[]);
            taken(peer);
            peer.say(&says::exception(question, "here"));
        },
    ),
    case(
        "take-from-nothing",
        "has the vat take the results of question 55, which is none",
        Must::Aborts("question 55 is not outstanding"),
        |peer| {
            let question = peer.called_back();
            peer.say(&take(question, 55));
        },
    ),
    case(
        "take-from-the-last",
        "has the vat take the results of question 2^32-1",
        Must::Aborts("is not outstanding"),
        |peer| {
            let question = peer.called_back();
            peer.say(&take(question, u32::MAX));
        },
    ),
    case(
        "take-what-is-sent",
        "has the vat take results that it was to send",
        Must::Aborts("was not called with sendResultsTo.yourself"),
        |peer| {
            let question = peer.called_back();
            peer.say(&take(question, ASKED));
        },
    ),
    case(
        "take-twice",
        "has the vat take the same results twice",
        Must::Aborts("has been taken before"),
        |peer| {
            peer.passed_back(5);
            let first = peer.called_back();
            peer.call(101, Method::CallBack, &[Cap::SenderHosted(OWN)]);
            let second = peer.called(OWN);
            peer.say(&[take(first, 5), take(second, 5)].concat());
        },
    ),
    case(
        "take-and-leave",
        "has the vat take the results of a method that waits for its cancellation, and leaves",
        Must::Ignores,
        |peer| {
            let question = waiting(peer);
            peer.say(&take(question, 5));
        },
    ),
    case(
        "take-finish-and-leave",
        "does the same, and finishes that call before it leaves",
        Must::Shows("`resultsSentElsewhere` for that call"),
        |peer| {
            let question = waiting(peer);
            peer.say(&[take(question, 5), raw::finish(5, true)].concat());
            assert_eq!(peer.outcome(5), Outcome::SentElsewhere);
        },
    ),
    case(
        "take-from-itself",
        "has the vat take the results of a call from that call",
        Must::Keeps,
        |peer| {
            let question = peer.passed_back(ASKED);
            peer.say(&take(question, ASKED));
        },
    ),
    case(
        "take-in-a-circle",
        "has the vat take the results of two calls from each other",
        Must::Shows("both calls end"),
        |peer| {
            let (first, second) = (peer.passed_back(5), peer.passed_back(6));
            peer.say(&[take(first, 6), take(second, 5)].concat());
            assert_eq!(peer.outcome(5), Outcome::SentElsewhere);
            assert_eq!(peer.outcome(6), Outcome::SentElsewhere);
        },
    ),
    case(
        "return-for-a-third-party",
        "lets the vat await the results from a third party",
        Must::Aborts("a kind that is not known here"),
        |peer| {
            let question = peer.called_back();
            peer.say(&returned(question, |ret| {
                ret.init_await_from_third_party();
            }));
        },
    ),
    case(
        "return-of-an-unknown-kind",
        "answers in an unknown way",
        Must::Aborts("a kind that is not known here"),
        |peer| {
            let question = peer.called_back();
            let answer = returned(question, |mut ret| ret.set_canceled(()));
            peer.say(&patched(answer, INNER, unknown_at(48)));
        },
    ),
    case(
        "return-of-nothing",
        "answers with a null pointer",
        Must::Aborts("question 0, which was not asked"),
        |peer| {
            peer.send(|message| {
                message.init_return();
            });
        },
    ),
    case("results-null", "answers with null for results", Must::Answers, |peer| {
        let question = peer.called_back();
        peer.say(&returned(question, |ret| {
            ret.init_results();
        }));
    }),
    case("results-of-no-export", "returns the vat's export 88", Must::Answers, |peer| {
        named(peer, Cap::ReceiverHosted(88));
    }),
    case("results-of-no-answer", "returns the results of question 88", Must::Answers, |peer| {
        named(peer, Cap::ReceiverAnswer(88, vec![0]));
    }),
    case(
        "results-of-the-question",
        "returns the results of the call that waits for them",
        Must::Answers,
        |peer| {
            named(peer, Cap::ReceiverAnswer(ASKED, vec![0]));
        },
    ),
    case(
        "results-of-an-unknown-kind",
        "returns a capability that is named in an unknown way",
        Must::Answers,
        |peer| {
            let question = peer.called_back();
            let results = says::results(question, &[Cap::SenderHosted(41)]);
            // The descriptor is the last but one word.
            let descriptor = results.len() / 8 - 3;
            let is_there = |word: &[u8]| word[0] == 1 && word[4] == 41;
            let at = results.chunks_exact(8).rposition(is_there).unwrap_or(descriptor);
            peer.say(&patched(results, at - 1, unknown_at(0)));
        },
    ),
    case(
        "results-of-a-third-vat",
        "returns a capability of a third vat, without a contact",
        Must::Answers,
        |peer| {
            named(peer, Cap::ThirdParty(41));
        },
    ),
    case(
        "results-settled-and-promised",
        "returns the capability that was called as a promise",
        Must::Aborts("before that as senderHosted"),
        |peer| {
            named(peer, Cap::SenderPromise(OWN));
        },
    ),
    case(
        "results-out-of-bounds",
        "returns a pointer to what is outside of the message",
        Must::Fails("out-of-bounds"),
        |peer| {
            read(peer, 0x0fff_fffc | 9 << 32 | 9 << 48);
        },
    ),
    case(
        "results-in-themselves",
        "returns a struct that is its own content",
        Must::Fails("non-list pointer"),
        |peer| {
            read(peer, 0xffff_fffc | 1 << 48);
        },
    ),
    case(
        "results-of-the-wrong-kind",
        "returns a capability instead of a text",
        Must::Fails("non-list pointer"),
        |peer| {
            read(peer, 3);
        },
    ),
    case(
        "results-that-are-no-text",
        "returns a text that does not end with a zero",
        Must::Fails("not NUL-terminated"),
        |peer| {
            // Five bytes of the table in front, behind which there is more.
            read(peer, to_list(0x3fff_fffd, 2, 5));
        },
    ),
    case(
        "results-table-out-of-bounds",
        "names capabilities outside of the message",
        Must::Aborts("out-of-bounds"),
        |peer| {
            table_at(peer, to_list(100, 7, 100));
        },
    ),
    case(
        "results-table-of-nothing",
        "names 2^29-1 capabilities that take no room",
        Must::Aborts("Read limit exceeded"),
        |peer| {
            table_at(peer, to_list(0, 0, 0x1fff_ffff));
        },
    ),
    case(
        "results-and-nothing-to-finish",
        "returns a capability, and wants no Finish",
        Must::Answers,
        |peer| {
            let question = peer.called_back();
            peer.say(&returned(question, |mut ret| {
                ret.set_no_finish_needed(true);
                raw::write_payload(ret.init_results(), &[Cap::SenderHosted(41)]);
            }));
        },
    ),
    case(
        "exception-of-nothing",
        "answers with a null exception",
        Must::Shows("the call fails, for no reason"),
        |peer| {
            let question = peer.called_back();
            let answer = returned(question, |ret| {
                ret.init_exception();
            });
            peer.say(&patched(answer, INNER + 2, |_| 0));
            assert_eq!(peer.outcome(ASKED), Outcome::Exception(String::new()));
        },
    ),
    case(
        "exception-without-a-reason",
        "answers with an exception without a reason",
        Must::Shows("the call fails, for no reason"),
        |peer| {
            failed(peer, |_| ());
            assert_eq!(peer.outcome(ASKED), Outcome::Exception(String::new()));
        },
    ),
    case(
        "exception-that-is-no-text",
        "answers with a reason that is not UTF-8",
        Must::Fails("not \u{fffd} text"),
        |peer| {
            failed(peer, |mut exception| exception.set_reason(text::Reader(b"not \xff text")));
        },
    ),
    case(
        "exception-of-an-unknown-type",
        "answers with an exception of a type to come",
        Must::Fails("from the future"),
        |peer| {
            let question = peer.called_back();
            let answer = says::exception(question, "from the future");
            // The exception follows the two words and the pointer of the Return.
            peer.say(&patched(answer, INNER + 3, unknown_at(32)));
        },
    ),
    case(
        "exception-with-a-long-trace",
        "answers with a trace of 1 MiB",
        Must::Fails("traced"),
        |peer| {
            failed(peer, |mut exception| {
                exception.set_reason("traced");
                exception.set_trace("x".repeat(1 << 20).as_str());
            });
        },
    ),
    case(
        "exception-with-many-details",
        "answers with 10,000 details",
        Must::Fails("detailed"),
        |peer| {
            failed(peer, |mut exception| {
                exception.set_reason("detailed");
                exception.init_details(10_000);
            });
        },
    ),
    case(
        "exception-out-of-bounds",
        "answers with a reason outside of the message",
        Must::Aborts("out-of-bounds"),
        |peer| {
            let question = peer.called_back();
            let answer = says::exception(question, "nowhere");
            peer.say(&patched(answer, INNER + 4, |_| to_list(1000, 2, 100)));
        },
    ),
    case(
        "exception-with-a-false-end",
        "answers with a reason that does not end with a zero",
        Must::Aborts("not NUL-terminated"),
        |peer| {
            let question = peer.called_back();
            let answer = says::exception(question, "12345678");
            peer.say(&patched(answer, INNER + 4, |pointer| pointer - (1 << 35)));
        },
    ),
    case(
        "parameters-released-twice",
        "releases parameters by the Return, and once more",
        Must::Aborts("more often than it was sent"),
        |peer| {
            let object = peer.object;
            let question = peer.tail_called(&[Cap::ReceiverHosted(object)]);
            taken(peer);
            // The peer has it twice now: by its Bootstrap, and by the parameters.
            peer.send(|message| {
                let mut ret = message.init_return();
                ret.set_answer_id(question);
                ret.set_results_sent_elsewhere(());
            });
            peer.say(&says::release(object, 2));
        },
    ),
    case(
        "parameters-released-before",
        "releases parameters, and again by the Return",
        Must::Aborts("Release of export"),
        |peer| {
            let object = peer.object;
            let question = peer.tail_called(&[Cap::ReceiverHosted(object)]);
            taken(peer);
            peer.say(&says::release(object, 2));
            peer.send(|message| {
                let mut ret = message.init_return();
                ret.set_answer_id(question);
                ret.set_results_sent_elsewhere(());
            });
        },
    ),
];
