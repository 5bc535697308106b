//! Provide and Accept, which introduce one vat to another.

use capnp_threads_core::network::{Introduction, Token};
use capnp_threads_transport::introducing::bearer;

use crate::attacks::catalogue::case::{Case, Kind, Must, case};
use crate::attacks::catalogue::peer::{ASKED, Peer};
use crate::attacks::catalogue::says::{self, INNER, patched, unknown_at};
use crate::attacks::target::Method;
use crate::support::raw::{self, Cap, Outcome, Target, accept, finish, provide};

const NO_TOKEN: Must = Must::Fails("no token of this network");

/// Where tokens need not name who has made them.
const UNNAMED: &[Kind] = &[Kind::Handoff];

fn garbage() -> Token {
    Token::of_bytes(b"garbage").expect("it is short")
}

/// An introduction, with what the recipient shows.
fn introduction() -> (Introduction, Token) {
    let made = bearer::introduce(["unix:/nowhere".to_owned()]).expect("the system is random");
    let completion = bearer::directions("", &made.contact).expect("it is new").completion;
    (made, completion)
}

fn changed(token: &Token, change: impl FnOnce(&mut Vec<u8>)) -> Token {
    let mut bytes = token.bytes().expect("it is bytes");
    change(&mut bytes);
    Token::of_bytes(&bytes).expect("it is short")
}

/// An Accept with a token and the name of an embargo.
fn embargoed(question: u32, completion: &Token, embargo: &[u8]) -> Vec<u8> {
    raw::frame(|message| {
        let mut accept = message.init_accept();
        accept.set_question_id(question);
        raw::write_token(completion, accept.reborrow().init_provision());
        accept.set_embargo(embargo);
    })
}

/// A Provide for nobody.
fn provide_null(question: u32, target: &Target) -> Vec<u8> {
    raw::frame(|message| {
        let mut provide = message.init_provide();
        provide.set_question_id(question);
        raw::write_target(provide.init_target(), target);
    })
}

fn object(peer: &Peer) -> Target {
    Target::Import(peer.object)
}

/// Accepts once, and waits for the capability.
fn fetch(peer: &mut Peer, question: u32, completion: &Token) {
    peer.say(&accept(question, Some(completion)));
    assert_eq!(peer.results(question), [peer.object]);
}

pub(super) const PROVIDES: &[Case] = &[
    case("provide-of-no-export", "provides export 77, which is none", Must::Echoes, |peer| {
        peer.say(&provide(5, &Target::Import(77), &garbage()));
    })
    .introduced(Must::Aborts("export 77, which does not exist")),
    case("provide-first", "provides export 0 before anything was exported", Must::Echoes, |peer| {
        peer.say(&provide(5, &Target::Import(peer.object + 9), &garbage()));
    })
    .introduced(Must::Aborts("which does not exist"))
    .first(),
    case("provide-with-the-id-of-a-call", "provides with the id of a call", Must::Echoes, |peer| {
        peer.call(5, Method::Hold, &[]);
        peer.say(&provide(5, &object(peer), &garbage()));
    })
    .introduced(Must::Aborts("is asked while it is outstanding")),
    case(
        "provide-twice",
        "provides twice with one id",
        Must::Aborts("is asked while it is outstanding"),
        |peer| {
            peer.say(&provide(5, &object(peer), &garbage()));
            peer.say(&provide(5, &object(peer), &garbage()));
        },
    )
    .only(&[Kind::Endpoint, Kind::Handoff]),
    case(
        "call-with-the-id-of-a-provide",
        "calls with the id of a Provide",
        Must::Aborts("is asked while it is outstanding"),
        |peer| {
            peer.say(&provide(5, &object(peer), &garbage()));
            peer.call(5, Method::Answer, &[]);
        },
    )
    .only(&[Kind::Endpoint, Kind::Handoff]),
    case("provide-for-garbage", "provides for a recipient that is garbage", Must::Echoes, |peer| {
        peer.say(&provide(5, &object(peer), &garbage()));
    })
    .introduced(Must::Ignores),
    case("provide-for-nobody", "provides for null", Must::Echoes, |peer| {
        peer.say(&provide_null(5, &object(peer)));
    })
    .introduced(Must::Ignores),
    case("provide-for-a-large-token", "provides for a recipient of 64 KiB", Must::Echoes, |peer| {
        peer.send(|message| {
            let mut provide = message.init_provide();
            provide.set_question_id(5);
            raw::write_target(provide.reborrow().init_target(), &Target::Import(0));
            let set = provide.init_recipient().set_as::<super::Bytes>(&[7; 65_536][..]);
            set.expect("there is room");
        });
    })
    .introduced(Must::Ignores),
    case(
        "provide-for-a-capability",
        "provides for a recipient that is a capability",
        Must::Echoes,
        |peer| {
            let bytes = provide_null(5, &object(peer));
            peer.say(&patched(bytes, INNER + 2, |_| 3));
        },
    )
    .introduced(Must::Ignores),
    case(
        "provide-with-the-last-id",
        "provides with the id 2^32-1, and finishes it",
        Must::Ignores,
        |peer| {
            peer.say(&provide(u32::MAX, &object(peer), &garbage()));
            peer.say(&[finish(u32::MAX, true), finish(u32::MAX, true)].concat());
        },
    )
    .only(&[Kind::Endpoint, Kind::Handoff]),
    case(
        "provide-of-an-unknown-target",
        "provides a target of an unknown kind",
        Must::Echoes,
        |peer| {
            let bytes = provide_null(5, &object(peer));
            peer.say(&patched(bytes, INNER + 3, unknown_at(32)));
        },
    )
    .introduced(Must::Ignores),
    case(
        "provide-of-no-answer",
        "provides the results of question 88, which is none",
        Must::Echoes,
        |peer| {
            peer.say(&provide(5, &Target::Answer(88, vec![0]), &garbage()));
        },
    )
    .introduced(Must::Ignores),
    case(
        "provide-and-leave",
        "provides what it has released",
        Must::Aborts("which does not exist"),
        |peer| {
            peer.say(&says::release(peer.object, 1));
            peer.say(&provide(5, &object(peer), &garbage()));
        },
    )
    .only(&[Kind::Endpoint, Kind::Handoff]),
    case("provide-and-release", "provides the object, and releases it", Must::Ignores, |peer| {
        peer.say(&provide(5, &object(peer), &garbage()));
        peer.say(&says::release(peer.object, 1));
    })
    .only(&[Kind::Endpoint, Kind::Handoff]),
    case(
        "provide-a-long-embargo",
        "lifts an embargo whose name has 10,000 bytes",
        Must::Ignores,
        |peer| {
            peer.say(&provide(5, &object(peer), &garbage()));
            peer.send(|message| {
                let mut disembargo = message.init_disembargo();
                let target = Target::Answer(5, Vec::new());
                raw::write_target(disembargo.reborrow().init_target(), &target);
                disembargo.get_context().set_accept(&[7; 10_000]);
            });
        },
    )
    .only(&[Kind::Endpoint, Kind::Handoff]),
    case(
        "provide-an-embargo-of-a-field",
        "lifts an embargo of a field of what it provides",
        Must::Aborts("which provides nothing"),
        |peer| {
            peer.say(&provide(5, &object(peer), &garbage()));
            peer.send(|message| {
                let mut disembargo = message.init_disembargo();
                let target = Target::Answer(5, vec![0]);
                raw::write_target(disembargo.reborrow().init_target(), &target);
                disembargo.get_context().set_accept(b"embargo");
            });
        },
    )
    .only(&[Kind::Endpoint, Kind::Handoff]),
    case(
        "pipeline-on-a-provide",
        "pipelines a call on a Provide",
        Must::Fails("which is not outstanding"),
        |peer| {
            peer.say(&provide(5, &object(peer), &garbage()));
            peer.pipelined(ASKED, 5, Vec::new());
        },
    )
    .only(&[Kind::Endpoint, Kind::Handoff]),
    case(
        "provide-twice-for-one",
        "provides two objects for one recipient",
        Must::Shows("the first one is fetched"),
        |peer| {
            let (made, completion) = introduction();
            let other = Target::Import(peer.given(Method::Give));
            peer.say(&provide(5, &object(peer), &made.awaited));
            peer.say(&provide(6, &other, &made.awaited));
            fetch(peer, 7, &completion);
        },
    )
    .only(UNNAMED),
];

pub(super) const ACCEPTS: &[Case] = &[
    case("accept-garbage", "accepts with a token that is garbage", Must::Echoes, |peer| {
        peer.say(&accept(ASKED, Some(&garbage())));
    })
    .introduced(NO_TOKEN),
    case("accept-first", "accepts before anything else", Must::Echoes, |peer| {
        peer.say(&accept(ASKED, Some(&garbage())));
    })
    .introduced(NO_TOKEN)
    .first(),
    case("accept-null", "accepts without a token", Must::Echoes, |peer| {
        peer.say(&accept(ASKED, None));
    })
    .introduced(NO_TOKEN),
    case("accept-empty", "accepts with a token of no bytes", Must::Echoes, |peer| {
        peer.say(&accept(ASKED, Some(&Token::of_bytes(&[]).expect("it is short"))));
    })
    .introduced(NO_TOKEN),
    case("accept-large", "accepts with a token of 64 KiB", Must::Echoes, |peer| {
        peer.send(|message| {
            let mut accept = message.init_accept();
            accept.set_question_id(ASKED);
            let set = accept.init_provision().set_as::<super::Bytes>(&[7; 65_536][..]);
            set.expect("there is room");
        });
    })
    .introduced(Must::Fails("the token cannot be read")),
    case("accept-a-capability", "accepts with a capability for a token", Must::Echoes, |peer| {
        peer.say(&patched(accept(ASKED, None), INNER + 1, |_| 3));
    })
    .introduced(Must::Fails("the token cannot be read")),
    case(
        "accept-out-of-bounds",
        "accepts with a token outside of the message",
        Must::Echoes,
        |peer| {
            peer.say(&patched(accept(ASKED, None), INNER + 1, |_| 0x0fff_fffc | 9 << 32 | 9 << 48));
        },
    )
    .introduced(Must::Fails("the token cannot be read")),
    case("accept-with-the-id-of-a-call", "accepts with the id of a call", Must::Echoes, |peer| {
        peer.call(5, Method::Hold, &[]);
        peer.say(&accept(5, Some(&garbage())));
    })
    .introduced(Must::Aborts("is asked while it is outstanding")),
    case(
        "accept-with-a-contact",
        "accepts with what it was given to find the host",
        Must::Echoes,
        |peer| {
            peer.say(&accept(ASKED, Some(&introduction().0.contact)));
        },
    )
    .introduced(NO_TOKEN),
    case(
        "accept-with-what-is-awaited",
        "accepts with what the host was told",
        Must::Echoes,
        |peer| {
            peer.say(&accept(ASKED, Some(&introduction().0.awaited)));
        },
    )
    .introduced(NO_TOKEN),
    case("accept-too-late", "accepts with a token that has expired", Must::Echoes, |peer| {
        let expired = changed(&introduction().1, |bytes| bytes[18..26].fill(0));
        peer.say(&accept(ASKED, Some(&expired)));
    })
    .introduced(Must::Fails("has expired")),
    case("accept-a-short-token", "accepts with half a token", Must::Echoes, |peer| {
        let short = changed(&introduction().1, |bytes| bytes.truncate(20));
        peer.say(&accept(ASKED, Some(&short)));
    })
    .introduced(NO_TOKEN),
    case(
        "accept-a-token-of-keys",
        "accepts with a token of a network with keys",
        Must::Echoes,
        |peer| {
            let keyed = changed(&introduction().1, |bytes| bytes[0] = 1);
            peer.say(&accept(ASKED, Some(&keyed)));
        },
    )
    .introduced(NO_TOKEN),
    case(
        "accept-a-long-embargo",
        "accepts with an embargo whose name has 10,000 bytes",
        Must::Echoes,
        |peer| {
            peer.say(&embargoed(ASKED, &introduction().1, &[7; 10_000]));
        },
    )
    .introduced(Must::Fails("the name of an embargo has more than 128 bytes")),
    case("accept-nothing", "accepts what nobody provides, and gives up", Must::Cancels, |peer| {
        peer.say(&accept(ASKED, Some(&introduction().1)));
        peer.say(&finish(ASKED, true));
    })
    .only(UNNAMED),
    case(
        "accept-nothing-and-leave",
        "accepts what nobody provides, and leaves",
        Must::Ignores,
        |peer| {
            peer.say(&accept(ASKED, Some(&introduction().1)));
        },
    )
    .only(UNNAMED),
    case(
        "accept-twice",
        "accepts twice with one token",
        Must::Fails("was fetched before"),
        |peer| {
            let (made, completion) = introduction();
            peer.say(&provide(5, &object(peer), &made.awaited));
            fetch(peer, 6, &completion);
            peer.say(&accept(ASKED, Some(&completion)));
        },
    )
    .only(UNNAMED),
    case(
        "accept-twice-before",
        "accepts twice with one token before anything is provided",
        Must::Fails("or somebody else waits for it"),
        |peer| {
            let (_, completion) = introduction();
            peer.say(&accept(6, Some(&completion)));
            peer.say(&accept(ASKED, Some(&completion)));
        },
    )
    .only(UNNAMED),
    case(
        "accept-what-was-taken-back",
        "accepts what it has provided and taken back",
        Must::Fails("has taken it back"),
        |peer| {
            let (made, completion) = introduction();
            peer.say(&provide(5, &object(peer), &made.awaited));
            peer.say(&finish(5, true));
            peer.say(&accept(ASKED, Some(&completion)));
        },
    )
    .only(UNNAMED),
    case("accept-and-call", "calls what it accepts in the same breath", Must::Answers, |peer| {
        let (made, completion) = introduction();
        peer.say(&provide(5, &object(peer), &made.awaited));
        peer.say(&accept(6, Some(&completion)));
        peer.pipelined(ASKED, 6, Vec::new());
        assert_eq!(peer.results(6), [peer.object]);
    })
    .only(UNNAMED),
    case(
        "accept-what-is-broken",
        "accepts the results of a question that is none",
        Must::Shows("a broken capability"),
        |peer| {
            let (made, completion) = introduction();
            peer.say(&provide(5, &Target::Answer(88, vec![0]), &made.awaited));
            peer.say(&accept(6, Some(&completion)));
            let Outcome::Results(caps) = peer.outcome(6) else { panic!("no results") };
            let [Cap::SenderPromise(broken)] = caps[..] else { panic!("{caps:?} is not broken") };
            peer.until("a Resolve", |said| match said {
                raw::Said::Resolve { promise, to: Err(reason) } => {
                    (*promise == broken && reason.contains("not outstanding")).then_some(())
                }
                _ => None,
            });
        },
    )
    .only(UNNAMED),
];
