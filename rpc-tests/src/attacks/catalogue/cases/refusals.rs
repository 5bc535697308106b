//! Unimplemented, Abort, and the messages that nobody sends.

use rpc_schema::rpc_capnp::{exception, message};

use crate::attacks::catalogue::case::{Case, Must, case};
use crate::attacks::catalogue::peer::{ASKED, Peer};
use crate::attacks::catalogue::says::{self, INNER, patched, unknown_at};
use crate::attacks::target::Method;
use crate::attacks::words::to_list;
use crate::support::raw::{self, Cap, Target};
use capnp_threads_core::capnp::text;

const NEEDED: Must = Must::Aborts("the peer does not implement a message");

/// Sends a message back that the vat may have sent or not.
fn echo(peer: &mut Peer, build: impl FnOnce(message::Builder<'_>)) {
    peer.send(|message| build(message.init_unimplemented()));
}

/// Ends the connection for a reason that is filled in.
fn abort(peer: &mut Peer, fill: impl FnOnce(exception::Builder<'_>)) {
    peer.send(|message| fill(message.init_abort()));
}

/// A Resolve of the vat's, as it comes back.
fn resolved(peer: &mut Peer, cap: &Cap) {
    echo(peer, |message| {
        let mut resolve = message.init_resolve();
        resolve.set_promise_id(3);
        raw::write_cap(resolve.init_cap(), cap);
    });
}

/// What cannot be copied comes back without its content.
fn echoed_without_content(peer: &mut Peer) {
    assert_eq!(peer.echo(), 0, "a message is `unimplemented` by default");
}

pub(super) const UNIMPLEMENTED: &[Case] = &[
    case("echo-first", "sends a Bootstrap back that the vat never sent", NEEDED, |peer| {
        echo(peer, |message| {
            message.init_bootstrap();
        });
    })
    .first(),
    case("echo-call", "sends a Call back that the vat never sent", NEEDED, |peer| {
        echo(peer, |message| message.init_call().set_question_id(1));
    }),
    case("echo-own-call", "sends the vat's Call back", NEEDED, |peer| {
        let question = peer.called_back();
        echo(peer, |message| message.init_call().set_question_id(question));
    }),
    case("echo-return", "sends a Return back", NEEDED, |peer| {
        echo(peer, |message| message.init_return().set_answer_id(1));
    }),
    case("echo-finish", "sends a Finish back", NEEDED, |peer| {
        echo(peer, |message| message.init_finish().set_question_id(1));
    }),
    case("echo-release", "sends a Release back", NEEDED, |peer| {
        echo(peer, |message| message.init_release().set_id(1));
    }),
    case("echo-abort", "sends an Abort back", NEEDED, |peer| {
        echo(peer, |message| message.init_abort().set_reason("no"));
    }),
    case("echo-disembargo", "sends a Disembargo back", NEEDED, |peer| {
        echo(peer, |message| {
            message.init_disembargo().get_context().set_sender_loopback(1);
        });
    }),
    case(
        "echo-disembargo-of-an-accept",
        "sends the Disembargo of an Accept back",
        Must::Ignores,
        |peer| {
            echo(peer, |message| message.init_disembargo().get_context().set_accept(b"embargo"));
        },
    ),
    case(
        "echo-resolve-of-no-export",
        "sends a Resolve back that has named export 88",
        Must::Aborts("export 88, which does not exist"),
        |peer| {
            resolved(peer, &Cap::SenderHosted(88));
        },
    ),
    case(
        "echo-resolve",
        "sends a Resolve back that has named the object, and calls that",
        Must::Aborts("which does not exist"),
        |peer| {
            resolved(peer, &Cap::SenderHosted(peer.object));
            peer.say(&raw::call(5, &Target::Import(peer.object), 1, 0, &[]));
        },
    ),
    case(
        "echo-resolve-to-a-promise",
        "sends a Resolve back that has named the object as a promise",
        Must::Ignores,
        |peer| {
            resolved(peer, &Cap::SenderPromise(peer.object));
        },
    ),
    case(
        "echo-resolve-to-its-own",
        "sends a Resolve back that has named a capability of the peer's",
        Must::Ignores,
        |peer| {
            resolved(peer, &Cap::ReceiverHosted(88));
        },
    ),
    case(
        "echo-resolve-to-an-exception",
        "sends a Resolve to an exception back",
        Must::Ignores,
        |peer| {
            echo(peer, |message| message.init_resolve().init_exception().set_reason("no"));
        },
    ),
    case("echo-provide", "sends a Provide back that the vat never sent", Must::Ignores, |peer| {
        echo(peer, |message| message.init_provide().set_question_id(77));
    }),
    case("echo-accept", "sends an Accept back that the vat never sent", Must::Ignores, |peer| {
        echo(peer, |message| message.init_accept().set_question_id(77));
    }),
    case("echo-join", "sends a Join back that the vat never sent", Must::Ignores, |peer| {
        echo(peer, |message| message.init_join().set_question_id(77));
    }),
    case(
        "echo-a-call-as-a-join",
        "sends a Join back with the id of the vat's call",
        Must::Answers,
        |peer| {
            let question = peer.called_back();
            echo(peer, |message| message.init_join().set_question_id(question));
            peer.say(&says::results(question, &[]));
        },
    ),
    case(
        "echo-a-call-as-an-accept",
        "sends an Accept back with the id of the vat's call",
        Must::Answers,
        |peer| {
            let question = peer.called_back();
            echo(peer, |message| message.init_accept().set_question_id(question));
            peer.say(&says::results(question, &[]));
        },
    ),
    case("echo-an-echo", "sends an `unimplemented` back", Must::Ignores, |peer| {
        echo(peer, |message| {
            message.init_unimplemented().init_call();
        });
    }),
    case("echo-a-deep-echo", "sends 1000 `unimplemented` in each other", Must::Ignores, |peer| {
        let depth = 1000_u64;
        let mut words = vec![1 << 32 | 1 << 48];
        for _ in 0..depth {
            words.extend([0, 1 << 32 | 1 << 48]);
        }
        words.extend([2, 0]);
        peer.say(&raw::words(&words));
    }),
    case("echo-an-unknown-message", "sends a message of kind 1000 back", NEEDED, |peer| {
        let bytes = raw::frame(|message| {
            message.init_unimplemented().init_release().set_id(7);
        });
        peer.say(&patched(bytes, INNER, unknown_at(0)));
    }),
    case("echo-what-is-obsolete", "sends an obsolete message back", NEEDED, |peer| {
        echo(peer, |message| {
            message.init_obsolete_save();
        });
    }),
    case("echo-nothing", "sends a null pointer back", Must::Ignores, |peer| {
        let bytes = raw::frame(|message| {
            message.init_unimplemented();
        });
        peer.say(&patched(bytes, 2, |_| 0));
    }),
    case(
        "echo-out-of-bounds",
        "sends back what lies outside of the message",
        Must::Aborts("out-of-bounds"),
        |peer| {
            let bytes = raw::frame(|message| {
                message.init_unimplemented();
            });
            peer.say(&patched(bytes, 2, |_| 1000 << 2 | 1 << 32 | 1 << 48));
        },
    ),
];

pub(super) const ABORTS: &[Case] = &[
    case("abort-first", "ends the connection before anything else", Must::Ends, |peer| {
        abort(peer, |mut exception| exception.set_reason("enough"));
    })
    .first(),
    case("abort-without-a-reason", "ends the connection for no reason", Must::Ends, |peer| {
        abort(peer, |_| ());
    }),
    case("abort-without-content", "ends the connection with a null pointer", Must::Ends, |peer| {
        let bytes = raw::frame(|message| {
            message.init_abort();
        });
        peer.say(&patched(bytes, 2, |_| 0));
    }),
    case(
        "abort-that-is-no-text",
        "ends the connection for a reason that is not UTF-8",
        Must::Ends,
        |peer| {
            abort(peer, |mut exception| exception.set_reason(text::Reader(b"\xc3\x28\xff")));
        },
    ),
    case(
        "abort-of-an-unknown-type",
        "ends the connection by an exception of a type to come",
        Must::Ends,
        |peer| {
            let bytes = raw::frame(|message| message.init_abort().set_reason("enough"));
            peer.say(&patched(bytes, INNER, unknown_at(32)));
        },
    ),
    case(
        "abort-with-a-long-trace",
        "ends the connection with a trace of 1 MiB",
        Must::Ends,
        |peer| {
            abort(peer, |mut exception| exception.set_trace("x".repeat(1 << 20).as_str()));
        },
    ),
    case(
        "abort-with-many-details",
        "ends the connection with 10,000 details",
        Must::Ends,
        |peer| {
            abort(peer, |exception| {
                exception.init_details(10_000);
            });
        },
    ),
    case("abort-and-call", "ends the connection, and calls", Must::Ends, |peer| {
        abort(peer, |mut exception| exception.set_reason("enough"));
        peer.call(ASKED, Method::Answer, &[]);
    }),
    case(
        "abort-and-break-the-rules",
        "ends the connection, and breaks the rules",
        Must::Ends,
        |peer| {
            abort(peer, |mut exception| exception.set_reason("enough"));
            peer.say(&[says::release(99, 9), says::results(99, &[])].concat());
        },
    ),
    case(
        "abort-while-called",
        "ends the connection instead of answering the vat",
        Must::Ends,
        |peer| {
            peer.called_back();
            abort(peer, |mut exception| exception.set_reason("enough"));
        },
    ),
    case(
        "abort-while-a-method-runs",
        "ends the connection while a method runs",
        Must::Ends,
        |peer| {
            peer.call(5, Method::Hold, &[]);
            abort(peer, |mut exception| exception.set_reason("enough"));
        },
    ),
    case("abort-twice", "ends the connection twice", Must::Ends, |peer| {
        abort(peer, |mut exception| exception.set_reason("enough"));
        abort(peer, |mut exception| exception.set_reason("more than that"));
    }),
    case(
        "abort-out-of-bounds",
        "ends the connection for a reason outside of the message",
        Must::Aborts("out-of-bounds"),
        |peer| {
            let bytes = raw::frame(|message| message.init_abort().set_reason("nowhere"));
            peer.say(&patched(bytes, INNER + 1, |_| to_list(1000, 2, 8)));
        },
    ),
];

pub(super) const OBSOLETE: &[Case] = &[
    case("obsolete-save", "sends an `obsoleteSave`", Must::Echoes, |peer| {
        peer.send(|message| {
            message.init_obsolete_save();
        });
    })
    .first(),
    case("obsolete-delete", "sends an `obsoleteDelete`", Must::Echoes, |peer| {
        peer.send(|message| {
            message.init_obsolete_delete();
        });
    }),
    case(
        "obsolete-out-of-bounds",
        "sends an `obsoleteSave` of what lies outside of the message",
        Must::Shows("an empty `unimplemented`"),
        |peer| {
            peer.say(&raw::words(&[1 << 32 | 1 << 48, 7, 1000 << 2 | 9 << 32]));
            echoed_without_content(peer);
        },
    ),
    case(
        "obsolete-capability",
        "sends an `obsoleteDelete` of a capability",
        Must::Shows("an empty `unimplemented`"),
        |peer| {
            peer.say(&raw::words(&[1 << 32 | 1 << 48, 9, 3]));
            echoed_without_content(peer);
        },
    ),
    case(
        "obsolete-deep",
        "sends an `obsoleteSave` of 1000 nested structs",
        Must::Shows("an empty `unimplemented`"),
        |peer| {
            let words = [&[1 << 32 | 1 << 48, 7][..], &[1 << 48; 1000]].concat();
            peer.say(&raw::words(&words));
            echoed_without_content(peer);
        },
    ),
    case("third-party-answer", "sends a ThirdPartyAnswer", Must::Echoes, |peer| {
        peer.send(|message| message.init_third_party_answer().set_answer_id(1 << 30));
    }),
    case(
        "third-party-answer-in-use",
        "sends a ThirdPartyAnswer with the id of a call of the vat's",
        Must::Answers,
        |peer| {
            let question = peer.called_back();
            peer.send(|message| message.init_third_party_answer().set_answer_id(question));
            peer.until("an echo", |said| (*said == raw::Said::Unimplemented).then_some(()));
            peer.say(&says::results(question, &[]));
        },
    ),
    case(
        "third-party-answer-without-content",
        "sends a ThirdPartyAnswer that is a null pointer",
        Must::Echoes,
        |peer| {
            peer.say(&raw::words(&[1 << 32 | 1 << 48, 14, 0]));
        },
    ),
    case(
        "unknown-to-be-ignored",
        "sends a message of every unknown kind from 15 to 114",
        Must::Shows("each comes back"),
        |peer| {
            (15..115).for_each(|kind| peer.say(&raw::tagged(kind)));
            for _ in 15..115 {
                peer.until("an echo", |said| (*said == raw::Said::Unimplemented).then_some(()));
            }
        },
    ),
];
