//! Bootstrap.

use crate::attacks::catalogue::case::{Case, Must, case};
use crate::attacks::catalogue::peer::ASKED;
use crate::attacks::catalogue::says::{self, INNER, patched};
use crate::attacks::target::Method;
use crate::support::raw::{self, Cap};

/// One for an object whose name is whatever this pointer leads to.
fn named(pointer: u64) -> Vec<u8> {
    patched(says::bootstrap(ASKED), INNER + 1, |_| pointer)
}

pub(super) const CASES: &[Case] = &[
    case("bootstrap-first", "asks at once", Must::Answers, |peer| {
        peer.say(&says::bootstrap(ASKED));
    })
    .first(),
    case(
        "bootstrap-twice",
        "asks two questions with one id",
        Must::Aborts("is asked while it is outstanding"),
        |peer| {
            peer.say(&says::bootstrap(5));
            peer.results(5);
            peer.say(&says::bootstrap(5));
        },
    ),
    case(
        "bootstrap-of-a-call",
        "asks with the id of a call that is under way",
        Must::Aborts("is asked while it is outstanding"),
        |peer| {
            peer.call(5, Method::Hold, &[]);
            peer.say(&says::bootstrap(5));
        },
    ),
    case("bootstrap-last-id", "asks with the id 2^32-1", Must::Shows("answered"), |peer| {
        peer.say(&says::bootstrap(u32::MAX));
        assert_eq!(peer.results(u32::MAX), [peer.object]);
        peer.say(&raw::finish(u32::MAX, true));
    }),
    case(
        "bootstrap-top-bit",
        "asks with the id 2^31, which is negative to some",
        Must::Shows("answered"),
        |peer| {
            peer.say(&says::bootstrap(1 << 31));
            assert_eq!(peer.results(1 << 31), [peer.object]);
        },
    ),
    case(
        "bootstrap-of-nothing",
        "sends a null pointer instead of the question",
        Must::Shows("answered, as question 0"),
        |peer| {
            peer.send(|message| {
                message.init_bootstrap();
            });
            peer.results(0);
            peer.say(&raw::finish(0, true));
            let null = patched(says::bootstrap(ASKED), INNER - 1, |_| 0);
            peer.say(&null);
            peer.results(0);
        },
    ),
    case(
        "bootstrap-by-name",
        "asks for an object by name",
        Must::Fails("no capabilities by name"),
        |peer| {
            peer.send(|message| {
                let mut bootstrap = message.init_bootstrap();
                bootstrap.set_question_id(ASKED);
                bootstrap.init_deprecated_object_id();
            });
            // An untouched pointer is no name.
            peer.results(ASKED);
            peer.say(&raw::finish(ASKED, true));
            // A struct without fields is one.
            peer.say(&named(0xffff_fffc));
        },
    ),
    case(
        "bootstrap-by-capability",
        "asks for an object whose name is a capability",
        Must::Fails("no capabilities by name"),
        |peer| peer.say(&named(3 | 77 << 32)),
    ),
    case(
        "bootstrap-by-name-out-of-bounds",
        "asks for an object whose name lies outside of the message",
        Must::Fails("no capabilities by name"),
        |peer| peer.say(&named(0x0fff_fffc | 9 << 32 | 9 << 48)),
    ),
    case(
        "bootstrap-of-a-provide",
        "asks with the id of a Provide",
        Must::Shows("the Provide is sent back, the question answered"),
        |peer| {
            peer.send(|message| {
                let mut provide = message.init_provide();
                provide.set_question_id(5);
                raw::write_target(provide.init_target(), &raw::Target::Import(0));
            });
            peer.say(&says::bootstrap(5));
            peer.until("an echo", |said| (*said == raw::Said::Unimplemented).then_some(()));
            peer.results(5);
        },
    )
    .only(&[
        crate::attacks::catalogue::case::Kind::Plain,
        crate::attacks::catalogue::case::Kind::Tls,
    ]),
    case("bootstrap-and-gone", "asks, ends the stream, and reads on", Must::Ends, |peer| {
        // Whether this is answered is up to the vat.
        peer.call(5, Method::Keep, &[Cap::None]);
        peer.end();
    }),
    case(
        "bootstrap-finished-before",
        "finishes a question, and asks it then",
        Must::Answers,
        |peer| {
            peer.say(&raw::finish(ASKED, true));
            peer.say(&says::bootstrap(ASKED));
        },
    ),
    case(
        "bootstrap-a-thousand",
        "asks 1000 times, and finishes in the reverse order",
        Must::Shows("1000 answers, and one export"),
        |peer| {
            for question in 1000..2000 {
                peer.say(&says::bootstrap(question));
            }
            for question in 1000..2000 {
                assert_eq!(peer.results(question), [peer.object]);
            }
            for question in (1000..2000).rev() {
                peer.say(&raw::finish(question, true));
            }
        },
    ),
];
