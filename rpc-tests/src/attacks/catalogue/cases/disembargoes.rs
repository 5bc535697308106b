//! Disembargo.

use super::resolves::{PROMISE, embargoed};
use crate::attacks::catalogue::case::{Case, Must, case};
use crate::attacks::catalogue::says::{self, INNER, disembargo, patched, unknown_at};
use crate::attacks::target::Method;
use crate::attacks::words::to_list;
use crate::support::raw::{self, Cap, Said, Target};

fn loopback(target: &Target, id: u32) -> Vec<u8> {
    disembargo(target, |mut context| context.set_sender_loopback(id))
}

fn back(target: &Target, id: u32) -> Vec<u8> {
    disembargo(target, |mut context| context.set_receiver_loopback(id))
}

/// The end of an Accept's embargo.
fn accepted(target: &Target, embargo: &[u8]) -> Vec<u8> {
    disembargo(target, |mut context| context.set_accept(embargo))
}

pub(super) const CASES: &[Case] = &[
    case(
        "disembargo-first",
        "lifts embargo 0 before anything else",
        Must::Aborts("embargo 0, which does not exist"),
        |peer| {
            peer.say(&back(&Target::Import(peer.object), 0));
        },
    )
    .first(),
    case(
        "disembargo-of-nothing",
        "lifts embargo 4, which is none",
        Must::Aborts("embargo 4, which does not exist"),
        |peer| {
            peer.say(&back(&Target::Import(peer.object), 4));
        },
    ),
    case(
        "disembargo-of-the-last",
        "lifts embargo 2^32-1",
        Must::Aborts("which does not exist"),
        |peer| {
            peer.say(&back(&Target::Import(peer.object), u32::MAX));
        },
    ),
    case(
        "disembargo-twice",
        "lifts an embargo twice",
        Must::Aborts("which does not exist"),
        |peer| {
            let id = embargoed(peer);
            let lifted = back(&Target::Import(PROMISE), id);
            peer.say(&[lifted.clone(), lifted].concat());
        },
    ),
    case(
        "disembargo-for-whatever",
        "lifts an embargo, and says that it was for something else",
        Must::Ignores,
        |peer| {
            let id = embargoed(peer);
            peer.say(&back(&Target::Answer(77, vec![1, 2, 3]), id));
        },
    ),
    case(
        "disembargo-of-no-export",
        "sends one for export 66, which is none",
        Must::Aborts("export 66, which does not exist"),
        |peer| {
            peer.say(&loopback(&Target::Import(66), 0));
        },
    ),
    case(
        "disembargo-of-no-answer",
        "sends one for the results of question 66",
        Must::Aborts("question 66, which is not outstanding"),
        |peer| {
            peer.say(&loopback(&Target::Answer(66, vec![0]), 0));
        },
    ),
    case(
        "disembargo-of-an-object",
        "sends one for an object of the vat's",
        Must::Aborts("does not lead back to its sender"),
        |peer| {
            peer.say(&loopback(&Target::Import(peer.object), 4));
        },
    ),
    case(
        "disembargo-of-results",
        "sends one for an object in results",
        Must::Aborts("does not lead back to its sender"),
        |peer| {
            peer.call(5, Method::Give, &[]);
            peer.results(5);
            peer.say(&loopback(&Target::Answer(5, vec![0]), 4));
        },
    ),
    case(
        "disembargo-of-null",
        "sends one for null in results",
        Must::Aborts("does not lead back to its sender"),
        |peer| {
            peer.call(5, Method::Return, &[Cap::None]);
            peer.until("results", |said| {
                matches!(said, Said::Return { answer: 5, .. }).then_some(())
            });
            peer.say(&loopback(&Target::Answer(5, vec![0]), 4));
        },
    ),
    case(
        "disembargo-of-a-promise",
        "sends one for a promise of the vat's that never resolves",
        Must::Ignores,
        |peer| {
            let promise = peer.given(Method::Promise);
            peer.say(&loopback(&Target::Import(promise), 4));
        },
    ),
    case(
        "disembargo-that-comes-back",
        "sends one with the id 2^32-1 for its own capability in results",
        Must::Shows("it comes back"),
        |peer| {
            peer.call(5, Method::Return, &[Cap::SenderHosted(41)]);
            peer.until("results", |said| {
                matches!(said, Said::Return { answer: 5, .. }).then_some(())
            });
            peer.say(&loopback(&Target::Answer(5, vec![0]), u32::MAX));
            peer.until("it", |said| {
                (*said == Said::ReceiverLoopback { target: Target::Import(41), id: u32::MAX })
                    .then_some(())
            });
        },
    ),
    case(
        "disembargo-of-what-was-finished",
        "sends one for results that it has finished",
        Must::Aborts("which is not outstanding"),
        |peer| {
            peer.call(5, Method::Return, &[Cap::SenderHosted(41)]);
            peer.until("results", |said| {
                matches!(said, Said::Return { answer: 5, .. }).then_some(())
            });
            peer.say(&[raw::finish(5, true), loopback(&Target::Answer(5, vec![0]), 4)].concat());
        },
    ),
    case(
        "disembargo-against-its-word",
        "sends one for what it would not pipeline on",
        Must::Aborts("noPromisePipelining"),
        |peer| {
            peer.say(&says::call(5, peer.object, |mut call| {
                call.set_method_id(Method::Hold as u16);
                call.set_no_promise_pipelining(true);
            }));
            peer.say(&loopback(&Target::Answer(5, vec![0]), 4));
        },
    ),
    case(
        "disembargo-of-an-unknown-target",
        "sends one for a target of an unknown kind",
        Must::Aborts("a target that is not known here"),
        |peer| {
            // The target follows the word and the two pointers.
            peer.say(&patched(loopback(&Target::Import(0), 4), INNER + 3, unknown_at(32)));
        },
    ),
    case(
        "disembargo-in-an-unknown-context",
        "sends one in an unknown context",
        Must::Echoes,
        |peer| {
            peer.say(&patched(loopback(&Target::Import(0), 4), INNER, unknown_at(32)));
        },
    ),
    case(
        "disembargo-without-content",
        "sends one without fields: embargo 0 of export 0",
        Must::Aborts("does not lead back to its sender"),
        |peer| {
            assert_eq!(peer.object, 0);
            peer.send(|message| {
                message.init_disembargo();
            });
        },
    ),
    case(
        "disembargo-of-no-vine",
        "lifts the embargo of an Accept for what is no vine",
        Must::Echoes,
        |peer| {
            peer.say(&accepted(&Target::Import(peer.object), b"embargo"));
        },
    )
    .introduced(Must::Aborts("which is no vine")),
    case(
        "disembargo-of-no-vine-that-is-there",
        "lifts the embargo of an Accept for export 66",
        Must::Echoes,
        |peer| {
            peer.say(&accepted(&Target::Import(66), b"embargo"));
        },
    )
    .introduced(Must::Aborts("which is no vine")),
    case(
        "disembargo-of-no-provide",
        "lifts the embargo of an Accept for a call",
        Must::Echoes,
        |peer| {
            peer.call(5, Method::Hold, &[]);
            peer.say(&accepted(&Target::Answer(5, Vec::new()), b"embargo"));
        },
    )
    .introduced(Must::Aborts("which provides nothing")),
    case(
        "disembargo-of-an-unknown-accept",
        "lifts the embargo of an Accept for a target of an unknown kind",
        Must::Echoes,
        |peer| {
            peer.say(&patched(accepted(&Target::Import(0), b"embargo"), INNER + 3, unknown_at(32)));
        },
    )
    .introduced(Must::Aborts("a target that is not known here")),
    case(
        "disembargo-out-of-bounds",
        "names an embargo outside of the message",
        Must::Aborts("out-of-bounds"),
        |peer| {
            let bytes = accepted(&Target::Import(0), b"embargo");
            // The second pointer.
            peer.say(&patched(bytes, INNER + 2, |_| to_list(1000, 2, 8)));
        },
    ),
];
