//! Resolve.

use crate::attacks::catalogue::case::{Case, Must, case};
use crate::attacks::catalogue::peer::{ASKED, Peer};
use crate::attacks::catalogue::says::{self, INNER, patched, resolve, unknown_at};
use crate::attacks::target::Method;
use crate::attacks::words::to_list;
use crate::support::raw::{self, Cap, Said, Target};
use capnp_threads_core::capnp::text;

/// A promise of the peer's.
pub(super) const PROMISE: u32 = 40;

/// Makes the vat keep the promise.
fn keep(peer: &mut Peer) {
    peer.call(80, Method::Keep, &[Cap::SenderPromise(PROMISE)]);
}

/// Makes the vat keep the promise, resolves it by these bytes, and has the vat call what it has
/// become.
fn kept(peer: &mut Peer, to: &[u8]) {
    let typed = Target::Import(peer.given(Method::Typed));
    peer.say(&raw::call(5, &typed, raw::MORE_STUFF, raw::HOLD, &[Cap::SenderPromise(PROMISE)]));
    peer.results(5);
    peer.say(to);
    // callHeld
    peer.say(&raw::call(ASKED, &typed, raw::MORE_STUFF, 4, &[]));
}

/// Answers a call of the vat's that goes to this capability of the peer's.
fn refuse(peer: &mut Peer, own: u32) {
    let question = peer.called(own);
    peer.say(&says::exception(question, "on purpose"));
}

/// Waits until the vat has embargoed a promise that is one of its own objects, and returns the
/// number.
pub(super) fn embargoed(peer: &mut Peer) -> u32 {
    let object = peer.object;
    let question = peer.kept_promise(PROMISE);
    peer.say(&resolve(PROMISE, &Cap::ReceiverHosted(object)));
    peer.say(&says::exception(question, "on purpose"));
    peer.fails(ASKED, "on purpose");
    peer.until("a Disembargo", |said| match said {
        Said::SenderLoopback { id, .. } => Some(*id),
        _ => None,
    })
}

pub(super) const CASES: &[Case] = &[
    case(
        "resolve-first",
        "resolves promise 0 before anything else",
        Must::Shows("what it became is released"),
        |peer| {
            peer.say(&resolve(0, &Cap::SenderHosted(45)));
            peer.released(45);
        },
    )
    .first(),
    case(
        "resolve-of-nothing",
        "resolves a promise that it has never sent",
        Must::Shows("what it became is released"),
        |peer| {
            peer.say(&resolve(44, &Cap::SenderHosted(45)));
            peer.released(45);
        },
    ),
    case(
        "resolve-of-nothing-to-a-promise",
        "resolves what it has never sent to a promise",
        Must::Shows("what it became is released"),
        |peer| {
            peer.say(&resolve(u32::MAX, &Cap::SenderPromise(u32::MAX - 1)));
            peer.released(u32::MAX - 1);
        },
    ),
    case(
        "resolve-of-nothing-to-nothing",
        "resolves what it has never sent to `none`",
        Must::Aborts("to `none`"),
        |peer| {
            peer.say(&resolve(44, &Cap::None));
        },
    ),
    case("resolve-to-none", "resolves a promise to `none`", Must::Aborts("to `none`"), |peer| {
        keep(peer);
        peer.say(&resolve(PROMISE, &Cap::None));
    }),
    case(
        "resolve-without-content",
        "sends a Resolve without fields: promise 0, to `none`",
        Must::Aborts("to `none`"),
        |peer| {
            peer.send(|message| {
                message.init_resolve();
            });
        },
    ),
    case(
        "resolve-of-what-is-settled",
        "resolves what is no promise",
        Must::Aborts("which is no promise"),
        |peer| {
            peer.call(80, Method::Keep, &[Cap::SenderHosted(PROMISE)]);
            peer.say(&resolve(PROMISE, &Cap::SenderHosted(41)));
        },
    ),
    case(
        "resolve-twice",
        "resolves a promise twice",
        Must::Aborts("a second Resolve of promise 40"),
        |peer| {
            // The results are named by the promise, so it is not gone when it has resolved.
            peer.call(5, Method::Return, &[Cap::SenderPromise(PROMISE)]);
            peer.outcome(5);
            let first = resolve(PROMISE, &Cap::SenderHosted(41));
            peer.say(&[first, resolve(PROMISE, &Cap::SenderHosted(42))].concat());
        },
    ),
    case(
        "resolve-what-is-gone",
        "resolves a promise again that is gone since it was resolved",
        Must::Shows("what it became is released"),
        |peer| {
            keep(peer);
            peer.say(&resolve(PROMISE, &Cap::SenderHosted(41)));
            peer.released(PROMISE);
            peer.say(&resolve(PROMISE, &Cap::SenderHosted(42)));
            peer.released(42);
        },
    ),
    case("resolve-to-itself", "resolves a promise to itself", Must::Fails("itself"), |peer| {
        kept(peer, &resolve(PROMISE, &Cap::SenderPromise(PROMISE)));
    }),
    case(
        "resolve-in-a-circle",
        "resolves three promises to each other",
        Must::Fails("on purpose"),
        |peer| {
            let circle = [
                resolve(PROMISE, &Cap::SenderPromise(41)),
                resolve(41, &Cap::SenderPromise(42)),
                resolve(42, &Cap::SenderPromise(PROMISE)),
            ];
            kept(peer, &circle.concat());
            // The first one was released when it had become another: this is a new promise.
            refuse(peer, PROMISE);
        },
    ),
    case(
        "resolve-to-no-export",
        "resolves a promise to the vat's export 88",
        Must::Fails("export 88, which does not exist"),
        |peer| {
            kept(peer, &resolve(PROMISE, &Cap::ReceiverHosted(88)));
        },
    ),
    case(
        "resolve-to-no-answer",
        "resolves a promise to the results of question 88",
        Must::Fails("which is not outstanding"),
        |peer| {
            kept(peer, &resolve(PROMISE, &Cap::ReceiverAnswer(88, vec![0])));
        },
    ),
    case(
        "resolve-to-an-unknown-kind",
        "resolves a promise to what is named in an unknown way",
        Must::Fails("in a way (291)"),
        |peer| {
            kept(
                peer,
                &patched(resolve(PROMISE, &Cap::SenderHosted(41)), INNER + 2, unknown_at(0)),
            );
        },
    ),
    case(
        "resolve-in-an-unknown-way",
        "resolves a promise neither to a capability nor to an exception",
        Must::Echoes,
        |peer| {
            peer.say(&patched(resolve(PROMISE, &Cap::SenderHosted(41)), INNER, unknown_at(32)));
        },
    ),
    case(
        "resolve-to-a-third-vat",
        "resolves a promise to a capability of a third vat, without a contact",
        Must::Fails("on purpose"),
        |peer| {
            kept(peer, &resolve(PROMISE, &Cap::ThirdParty(41)));
            refuse(peer, 41);
        },
    ),
    case(
        "resolve-to-its-own-vine",
        "resolves a promise to a vine that is the promise",
        Must::Aborts("before that as a promise"),
        |peer| {
            keep(peer);
            peer.say(&resolve(PROMISE, &Cap::ThirdParty(PROMISE)));
        },
    ),
    case(
        "resolve-to-an-exception",
        "resolves a promise to an exception that is not UTF-8",
        Must::Fails("broken \u{fffd}"),
        |peer| {
            let exception = raw::frame(|message| {
                let mut resolve = message.init_resolve();
                resolve.set_promise_id(PROMISE);
                resolve.init_exception().set_reason(text::Reader(b"broken \xfe"));
            });
            kept(peer, &exception);
        },
    ),
    case(
        "resolve-to-an-exception-out-of-bounds",
        "resolves a promise to a reason outside of the message",
        Must::Aborts("out-of-bounds"),
        |peer| {
            let exception = raw::frame(|message| {
                let mut resolve = message.init_resolve();
                resolve.set_promise_id(PROMISE);
                resolve.init_exception().set_reason("nowhere");
            });
            peer.say(&patched(exception, INNER + 3, |_| to_list(1000, 2, 8)));
        },
    ),
    case(
        "resolve-to-the-vat",
        "resolves a promise that was called to the vat, and says no more",
        Must::Shows("a Disembargo"),
        |peer| {
            embargoed(peer);
        },
    ),
    case(
        "resolve-what-the-vat-has-promised",
        "resolves a promise of the vat's",
        Must::Shows("what it became is released"),
        |peer| {
            let promise = peer.given(Method::Promise);
            peer.say(&resolve(promise, &Cap::SenderHosted(45)));
            peer.released(45);
        },
    ),
];
