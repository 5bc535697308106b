//! Finish and Release.

use crate::attacks::catalogue::case::{Case, Must, case};
use crate::attacks::catalogue::peer::ASKED;
use crate::attacks::catalogue::says::{self, bootstrap, release};
use crate::attacks::target::Method;
use crate::support::raw::{self, Cap, Outcome, finish};

pub(super) const FINISHES: &[Case] = &[
    case("finish-first", "finishes question 0 before anything else", Must::Ignores, |peer| {
        peer.say(&finish(0, true));
    })
    .first(),
    case("finish-of-nothing", "finishes question 123, which is none", Must::Ignores, |peer| {
        peer.say(&finish(123, true));
    }),
    case("finish-of-the-last", "finishes question 2^32-1", Must::Ignores, |peer| {
        peer.say(&finish(u32::MAX, true));
    }),
    case(
        "finish-without-content",
        "sends a Finish without fields, of question 0",
        Must::Ignores,
        |peer| {
            peer.send(|message| {
                message.init_finish();
            });
        },
    ),
    case("finish-twice", "finishes a question three times", Must::Ignores, |peer| {
        peer.call(5, Method::Give, &[]);
        peer.results(5);
        peer.say(&[finish(5, true), finish(5, true), finish(5, false)].concat());
    }),
    case("finish-before-the-answer", "finishes a call that runs", Must::Cancels, |peer| {
        peer.call(ASKED, Method::Hold, &[]);
        peer.say(&finish(ASKED, true));
    }),
    case(
        "finish-twice-before-the-answer",
        "finishes a call that runs, twice",
        Must::Cancels,
        |peer| {
            peer.call(ASKED, Method::Hold, &[]);
            peer.say(&[finish(ASKED, true), finish(ASKED, true)].concat());
        },
    ),
    case(
        "finish-and-ask-again",
        "finishes a call that runs, and uses its id at once",
        Must::Shows("`canceled`, and an answer"),
        |peer| {
            peer.call(ASKED, Method::Hold, &[]);
            peer.say(&finish(ASKED, true));
            peer.call(ASKED, Method::Answer, &[]);
            assert_eq!(peer.outcome(ASKED), Outcome::Canceled);
            peer.results(ASKED);
        },
    ),
    case(
        "finish-of-a-call-for-its-pipeline",
        "finishes a call of which it wants only the pipeline",
        Must::Ignores,
        |peer| {
            peer.say(&says::call(ASKED, peer.object, |mut call| {
                call.set_method_id(Method::Hold as u16);
                call.set_only_promise_pipeline(true);
            }));
            peer.say(&finish(ASKED, true));
        },
    ),
    case(
        "finish-of-what-the-vat-keeps",
        "finishes a call whose results the vat was to keep",
        Must::Keeps,
        |peer| {
            peer.say(&says::call(ASKED, peer.object, |mut call| {
                call.set_method_id(Method::Hold as u16);
                call.reborrow().get_send_results_to().set_yourself(());
            }));
            peer.say(&finish(ASKED, true));
        },
    ),
    case(
        "finish-that-releases-too-much",
        "releases results, and again by the Finish",
        Must::Aborts("Release of export"),
        |peer| {
            peer.say(&bootstrap(5));
            peer.results(5);
            peer.say(&[release(peer.object, 2), finish(5, true)].concat());
        },
    ),
    case(
        "finish-that-has-released",
        "releases results by the Finish, and again",
        Must::Aborts("more often than it was sent"),
        |peer| {
            peer.say(&bootstrap(5));
            peer.results(5);
            peer.say(&[finish(5, true), release(peer.object, 2)].concat());
        },
    ),
    case(
        "finish-of-a-handle",
        "releases an object by the Finish of its call, and again",
        Must::Aborts("Release of export"),
        |peer| {
            peer.call(5, Method::Give, &[]);
            let [given] = peer.results(5)[..] else { panic!("no object") };
            peer.say(&[finish(5, true), release(given, 1)].concat());
        },
    ),
    case(
        "finish-that-keeps",
        "keeps results beyond the Finish, and calls them",
        Must::Answers,
        |peer| {
            let given = peer.given(Method::Give);
            peer.say(&raw::call(ASKED, &raw::Target::Import(given), 1, 0, &[]));
        },
    ),
];

pub(super) const RELEASES: &[Case] = &[
    case(
        "release-first",
        "releases export 0 before anything else",
        Must::Aborts("Release of export"),
        |peer| {
            peer.say(&release(peer.object + 3, 1));
        },
    )
    .first(),
    case(
        "release-of-nothing",
        "releases export 31, which is none",
        Must::Aborts("export 31, which does not exist"),
        |peer| {
            peer.say(&release(31, 1));
        },
    ),
    case(
        "release-of-nothing-no-times",
        "releases export 31 no times",
        Must::Aborts("export 31, which does not exist"),
        |peer| {
            peer.say(&release(31, 0));
        },
    ),
    case(
        "release-of-the-last",
        "releases export 2^32-1",
        Must::Aborts("which does not exist"),
        |peer| {
            peer.say(&release(u32::MAX, 1));
        },
    ),
    case(
        "release-too-often",
        "releases twice what it has once",
        Must::Aborts("more often than it was sent"),
        |peer| {
            peer.say(&release(peer.object, 2));
        },
    ),
    case(
        "release-2^32-1-times",
        "releases 2^32-1 references, which is -1 to some",
        Must::Aborts("more often than it was sent"),
        |peer| {
            peer.say(&release(peer.object, u32::MAX));
        },
    ),
    case(
        "release-2^31-times",
        "releases 2^31 references",
        Must::Aborts("more often than it was sent"),
        |peer| {
            peer.say(&release(peer.object, 1 << 31));
        },
    ),
    case("release-no-times", "releases no reference", Must::Ignores, |peer| {
        peer.say(&release(peer.object, 0));
    }),
    case(
        "release-twice",
        "releases its only reference twice",
        Must::Aborts("which does not exist"),
        |peer| {
            peer.say(&[release(peer.object, 1), release(peer.object, 1)].concat());
        },
    ),
    case(
        "release-without-content",
        "sends a Release without fields: no reference of export 0",
        Must::Ignores,
        |peer| {
            peer.send(|message| {
                message.init_release();
            });
        },
    ),
    case(
        "release-of-its-own",
        "releases a capability that it hosts itself",
        Must::Aborts("which does not exist"),
        |peer| {
            peer.call(5, Method::Keep, &[Cap::SenderHosted(40)]);
            peer.say(&release(40, 1));
        },
    ),
    case(
        "release-of-a-promise",
        "releases a promise that a call is waiting in",
        Must::Cancels,
        |peer| {
            let promise = peer.given(Method::Promise);
            peer.say(&raw::call(ASKED, &raw::Target::Import(promise), 1, 0, &[]));
            peer.say(&release(promise, 1));
            peer.say(&finish(ASKED, true));
        },
    ),
    case(
        "release-and-ask-again",
        "releases the object, and asks for it again",
        Must::Answers,
        |peer| {
            peer.say(&[release(peer.object, 1), bootstrap(ASKED)].concat());
        },
    ),
    case("release-during-a-call", "releases the object whose method runs", Must::Cancels, |peer| {
        peer.call(ASKED, Method::Hold, &[]);
        peer.say(&[release(peer.object, 1), finish(ASKED, true)].concat());
    }),
];
