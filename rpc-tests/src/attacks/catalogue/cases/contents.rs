//! Call: what is in it, its content and the capabilities that it names.

use crate::attacks::catalogue::case::{Case, Kind, Must, case};
use crate::attacks::catalogue::peer::{ASKED, OWN, Peer};
use crate::attacks::catalogue::says::{self, patched};
use crate::attacks::target::Method;
use crate::attacks::words::{self, Content, to_list};
use crate::support::raw::{self, Cap, Target};

/// The descriptor of a word, by its kind and its number.
fn named(kind: u64, id: u32) -> u64 {
    kind | u64::from(id) << 32
}

/// Has a typed method read content that this pointer leads to.
fn read(peer: &mut Peer, pointer: u64, behind: &[u64]) {
    let typed = peer.given(Method::Typed);
    let content = Content::Raw(pointer, behind);
    let call = words::call(ASKED, typed, Method::Answer, content, &[words::sender_hosted(OWN)]);
    // The words are of interface 1; the method is `callFoo` there, too.
    peer.say(&patched(call, 4, |_| raw::MORE_STUFF));
}

/// Has a typed method read content whose only field, a capability, is this pointer.
fn read_field(peer: &mut Peer, pointer: u64) {
    let typed = Target::Import(peer.given(Method::Typed));
    let call = raw::call(ASKED, &typed, raw::MORE_STUFF, raw::CALL_FOO, &[Cap::SenderHosted(OWN)]);
    peer.say(&raw::with_pointer(call, pointer));
}

/// Has the vat pass content on whose only pointer is this, with these words behind it.
fn passed_on(peer: &mut Peer, pointer: u64, behind: &[u64]) {
    let content = Content::Raw(pointer, behind);
    let table = [words::sender_hosted(OWN)];
    peer.say(&words::call(ASKED, peer.object, Method::Pass, content, &table));
}

/// Has the vat call what this names.
fn called(peer: &mut Peer, cap: Cap) {
    peer.call(ASKED, Method::CallBack, &[cap]);
}

/// Has the vat call a capability that is described by one word.
fn called_word(peer: &mut Peer, descriptor: u64) {
    let call = words::call(ASKED, peer.object, Method::CallBack, Content::Nothing, &[descriptor]);
    peer.say(&call);
}

/// A call with a table of capabilities behind a pointer of the peer's choice.
fn table_at(peer: &mut Peer, pointer: u64) {
    let call = words::call(ASKED, peer.object, Method::Answer, Content::Nothing, &[]);
    // The second pointer of the parameters.
    peer.say(&patched(call, 10, |_| pointer));
}

/// Has the vat call the vine of a capability of a third vat, and answers that.
fn vine_is_called(peer: &mut Peer, contact: impl FnOnce(super::Pointer<'_>)) {
    let object = peer.object;
    peer.send(|message| {
        let mut call = message.init_call();
        call.set_question_id(5);
        call.set_interface_id(1);
        call.set_method_id(Method::CallBack as u16);
        raw::write_target(call.reborrow().init_target(), &Target::Import(object));
        let table = call.init_params().init_cap_table(1);
        let mut third = table.get(0).init_third_party_hosted();
        third.set_vine_id(OWN);
        contact(third.init_id());
    });
    let question = peer.called(OWN);
    peer.say(&says::exception(question, "by the vine"));
    peer.fails(5, "by the vine");
}

pub(super) const CASES: &[Case] = &[
    case(
        "content-out-of-bounds",
        "sends a pointer to what is outside of the message",
        Must::Fails("out-of-bounds"),
        |peer| {
            read(peer, 0x0fff_fffc | 9 << 32 | 9 << 48, &[]);
        },
    ),
    case(
        "content-before",
        "sends a pointer to what is in front of the message",
        Must::Fails("out-of-bounds"),
        |peer| {
            read(peer, 0xffff_0000 | 1 << 48, &[]);
        },
    ),
    case(
        "content-list",
        "sends a list of bytes instead of a struct",
        Must::Fails("non-struct pointer"),
        |peer| {
            read(peer, to_list(3, 2, 8), &[0]);
        },
    ),
    case(
        "content-capability",
        "sends a capability instead of a struct",
        Must::Fails("non-struct pointer"),
        |peer| {
            read(peer, 3, &[]);
        },
    ),
    case(
        "content-in-itself",
        "sends a struct that is its own content",
        Must::Fails("non-capability pointer"),
        |peer| {
            read(peer, 0xffff_fffc | 1 << 48, &[]);
        },
    ),
    case(
        "content-far-away",
        "sends a pointer to segment 99 of 1",
        Must::Fails("segment"),
        |peer| {
            read(peer, 2 | 99 << 32, &[]);
        },
    ),
    case(
        "content-of-no-kind",
        "sends a pointer of a reserved kind",
        Must::Fails("non-struct pointer"),
        |peer| {
            read(peer, 7, &[]);
        },
    ),
    case(
        "capability-out-of-range",
        "refers to capability 1 of 1",
        Must::Fails("invalid capability pointer"),
        |peer| {
            read_field(peer, 3 | 1 << 32);
        },
    ),
    case(
        "capability-far-out-of-range",
        "refers to capability 2^32-1",
        Must::Fails("invalid capability pointer"),
        |peer| {
            read_field(peer, 3 | 0xffff_ffff << 32);
        },
    ),
    case(
        "data-instead-of-a-capability",
        "sends a list where a capability belongs",
        Must::Fails("non-capability pointer"),
        |peer| {
            read_field(peer, to_list(0, 2, 0));
        },
    ),
    case(
        "content-deep",
        "has the vat pass 1000 nested structs on",
        Must::Fails("nested"),
        |peer| {
            passed_on(peer, 3 << 2 | 1 << 48, &[1 << 48; 1000]);
        },
    ),
    case(
        "content-that-repeats-itself",
        "has the vat pass lists of lists on which are all the same",
        Must::Fails("Read limit exceeded"),
        |peer| {
            let wide: Vec<u64> = (0..512_u64)
                .map(|index| to_list(511 - index, 5, 512))
                .chain((0..512).map(|_| 1))
                .collect();
            passed_on(peer, to_list(3, 6, 512), &wide);
        },
    ),
    case(
        "content-of-nothing",
        "has the vat pass a list of 2^29 elements of no size on",
        Must::Fails("Read limit exceeded"),
        |peer| {
            passed_on(peer, 1 | 0x1fff_ffff << 35, &[]);
        },
    ),
    case(
        "content-far-away-passed-on",
        "has the vat pass a pointer to segment 99 on",
        Must::Fails("segment"),
        |peer| {
            passed_on(peer, 2 | 99 << 32, &[]);
        },
    ),
    case("no-parameters", "calls with a null pointer for parameters", Must::Answers, |peer| {
        peer.say(&says::call(ASKED, peer.object, |call| {
            call.init_params();
        }));
    }),
    case(
        "table-out-of-bounds",
        "names capabilities outside of the message",
        Must::Aborts("out-of-bounds"),
        |peer| {
            table_at(peer, to_list(100, 7, 100));
        },
    ),
    case(
        "table-of-nothing",
        "names 2^29-1 capabilities, none of which takes any room",
        Must::Aborts("Read limit exceeded"),
        |peer| {
            table_at(peer, to_list(0, 0, 0x1fff_ffff));
        },
    ),
    case(
        "table-of-empty-structs",
        "names 2^30-1 capabilities by structs without fields",
        Must::Aborts("Read limit exceeded"),
        |peer| {
            let call = words::call(ASKED, peer.object, Method::Answer, Content::Nothing, &[0]);
            // The tag of the list, in front of the only descriptor: the last word but one.
            let tag = call.len() / 8 - 3;
            peer.say(&patched(call, tag, |_| 0x3fff_ffff << 2));
        },
    ),
    case(
        "table-with-a-false-tag",
        "names more capabilities than there are words",
        Must::Aborts("overrun its word count"),
        |peer| {
            let call = words::call(ASKED, peer.object, Method::Answer, Content::Nothing, &[0]);
            let tag = call.len() / 8 - 3;
            peer.say(&patched(call, tag, |_| 9 << 2 | 1 << 32));
        },
    ),
    case("table-of-bits", "sends a table of bits", Must::Aborts("Found bit list"), |peer| {
        table_at(peer, to_list(1, 1, 8));
    }),
    case(
        "table-that-is-a-struct",
        "sends a struct instead of the table",
        Must::Aborts("list"),
        |peer| {
            table_at(peer, 0xffff_fffc);
        },
    ),
    case(
        "table-that-is-a-capability",
        "sends a capability instead of the table",
        Must::Aborts("list"),
        |peer| {
            table_at(peer, 3);
        },
    ),
    case(
        "a-thousand-of-one",
        "names one capability a thousand times",
        Must::Shows("all are released at once"),
        |peer| {
            peer.call(5, Method::Answer, &vec![Cap::SenderHosted(40); 1000]);
            peer.outcome(5);
            peer.until("a release of all", |said| {
                (*said == raw::Said::Release { id: 40, count: 1000 }).then_some(())
            });
        },
    ),
    case(
        "named-none",
        "has the vat call a capability that is `none`",
        Must::Fails("null"),
        |peer| {
            called(peer, Cap::None);
        },
    ),
    case(
        "named-export-that-is-not-there",
        "has the vat call the vat's export 88",
        Must::Fails("export 88, which does not exist"),
        |peer| {
            called(peer, Cap::ReceiverHosted(88));
        },
    ),
    case(
        "named-last-export",
        "has the vat call the vat's export 2^32-1",
        Must::Fails("which does not exist"),
        |peer| {
            called(peer, Cap::ReceiverHosted(u32::MAX));
        },
    ),
    case(
        "named-answer-that-is-not-there",
        "has the vat call the results of question 88",
        Must::Fails("question 88, which is not outstanding"),
        |peer| {
            called(peer, Cap::ReceiverAnswer(88, vec![0]));
        },
    ),
    case(
        "named-its-own-answer",
        "has the vat call the results of that very call",
        Must::Fails("which is not outstanding"),
        |peer| {
            called(peer, Cap::ReceiverAnswer(ASKED, vec![0]));
        },
    ),
    case(
        "named-in-an-unknown-way",
        "names a capability by a descriptor of kind 77",
        Must::Fails("(77)"),
        |peer| {
            called_word(peer, named(77, 5));
        },
    ),
    case(
        "named-without-its-pointer",
        "names a field of an answer, and no answer",
        Must::Fails("which is not outstanding"),
        |peer| {
            called_word(peer, named(4, 5));
        },
    ),
    case(
        "named-a-third-vat-without-any",
        "names a capability of a third vat, and no vat",
        Must::Shows("export 0 of the peer is called, which is the vine"),
        |peer| {
            called_word(peer, named(5, 5));
            let question = peer.called(0);
            peer.say(&says::exception(question, "on purpose"));
            peer.fails(ASKED, "on purpose");
        },
    ),
    case(
        "settled-and-a-promise",
        "names one capability as settled, and then as a promise",
        Must::Aborts("before that as senderHosted"),
        |peer| {
            peer.call(5, Method::Keep, &[Cap::SenderHosted(40)]);
            peer.call(6, Method::Keep, &[Cap::SenderPromise(40)]);
        },
    ),
    case(
        "a-promise-and-settled",
        "names one capability as a promise, and then as settled",
        Must::Aborts("before that as a promise"),
        |peer| {
            peer.call(5, Method::Keep, &[Cap::SenderPromise(40)]);
            peer.call(6, Method::Keep, &[Cap::SenderHosted(40)]);
        },
    ),
    case(
        "both-in-one-table",
        "names one capability both ways in one message",
        Must::Aborts("before that as senderHosted"),
        |peer| {
            peer.call(5, Method::Keep, &[Cap::SenderHosted(40), Cap::SenderPromise(40)]);
        },
    ),
    case(
        "last-import",
        "names capability 2^32-1",
        Must::Shows("it is called, and released"),
        |peer| {
            called(peer, Cap::SenderHosted(u32::MAX));
            let question = peer.called(u32::MAX);
            peer.say(&says::results(question, &[]));
            peer.results(ASKED);
            peer.released(u32::MAX);
        },
    ),
    case(
        "contact-null",
        "names a capability of a third vat, without a contact",
        Must::Shows("the vine is called"),
        |peer| {
            vine_is_called(peer, |_| ());
        },
    ),
    case(
        "contact-garbage",
        "names one whose contact is garbage",
        Must::Shows("the vine is called"),
        |peer| {
            vine_is_called(peer, |mut id| {
                id.set_as::<super::Bytes>(&b"garbage"[..]).expect("room");
            });
        },
    ),
    case(
        "contact-huge",
        "names one whose contact has 64 KiB",
        Must::Shows("the vine is called"),
        |peer| {
            vine_is_called(peer, |mut id| {
                id.set_as::<super::Bytes>(&[7; 65_536][..]).expect("room");
            });
        },
    ),
    case(
        "contact-and-settled",
        "uses the vine of a promise as that of a third vat",
        Must::Aborts("before that as a promise"),
        |peer| {
            peer.call(5, Method::Keep, &[Cap::SenderPromise(40)]);
            peer.call(6, Method::Keep, &[Cap::ThirdParty(40)]);
        },
    ),
    case(
        "descriptor-that-did-not-come",
        "names descriptor 3 of none for a capability",
        Must::Shows("the capability is called, without one"),
        |peer| {
            // The index stands beside the kind; its default is 0xff.
            called_word(peer, named(1, OWN) | (3 ^ 0xff) << 16);
            let question = peer.called(OWN);
            peer.say(&says::results(question, &[]));
            peer.results(ASKED);
        },
    ),
    case("descriptor-of-two", "names one descriptor for two capabilities", Must::Answers, |peer| {
        let named = named(1, OWN) | 0xff << 16;
        let table = [named, named];
        let call = words::call(ASKED, peer.object, Method::Answer, Content::Nothing, &table);
        peer.say_with_fd(&call, std::fs::File::open("/dev/null").expect("nothing").into());
    })
    .only(&[Kind::Plain, Kind::Handoff]),
];
