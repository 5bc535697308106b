//! Messages to be sent, right or wrong.

use capnp_threads_core::capnp::message::{Builder, HeapAllocator};
use capnp_threads_core::capnp::traits::ImbueMut;
use capnp_threads_core::capnp::{any_pointer, data, serialize};
use capnp_threads_core::hook::CapTable;
use capnp_threads_core::network::Token;
use capnp_threads_core::{Client, Error, FromClient};
use rpc_schema::rpc_capnp::{cap_descriptor, message, message_target, payload, promised_answer};
use rpc_schema::test_capnp::{test_call_order, test_more_stuff};

use super::{Cap, Target};

/// Which embargo a Disembargo is for.
#[derive(Clone, Copy, Debug)]
pub enum Loopback {
    /// That of this id, of the peer's.
    Sender(u32),
    /// That of this id, of the vat's: an answer.
    Receiver(u32),
}

/// The bytes of a message, with its framing.
pub fn frame(build: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut builder = Builder::new_default();
    build(builder.init_root());
    framed(&builder)
}

/// The same, for a message that is built already.
pub fn framed(builder: &Builder<HeapAllocator>) -> Vec<u8> {
    serialize::write_message_to_words(builder)
}

/// The bytes of a message of these words, in one segment.
pub fn words(words: &[u64]) -> Vec<u8> {
    let length = u64::try_from(words.len()).unwrap();
    [length << 32].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// A message whose union has a tag of the test's choice.
pub fn tagged(tag: u16) -> Vec<u8> {
    // Behind the framing and the pointer to the root comes the root's data.
    let mut bytes = frame(|message| {
        message.init_release().set_id(7);
    });
    bytes[16..18].copy_from_slice(&tag.to_le_bytes());
    bytes
}

/// Replaces the pointer to capability 0, which must be the only one in the
/// message's content, by `pointer`.
pub fn with_pointer(mut bytes: Vec<u8>, pointer: u64) -> Vec<u8> {
    let capability = 3_u64.to_le_bytes();
    // Behind it there are descriptors at most.
    let place = bytes.chunks_exact(8).rposition(|word| word == capability).unwrap();
    bytes[8 * place..][..8].copy_from_slice(&pointer.to_le_bytes());
    bytes
}

/// A Finish.
pub fn finish(question: u32, release: bool) -> Vec<u8> {
    frame(|message| {
        let mut finish = message.init_finish();
        finish.set_question_id(question);
        finish.set_release_result_caps(release);
        finish.set_require_early_cancellation_workaround(false);
    })
}

/// A call; see `RawPeer::call`.
pub fn call(question: u32, target: &Target, interface: u64, method: u16, caps: &[Cap]) -> Vec<u8> {
    frame(|message| {
        let mut call = message.init_call();
        call.set_question_id(question);
        call.set_interface_id(interface);
        call.set_method_id(method);
        write_target(call.reborrow().init_target(), target);
        write_payload(call.init_params(), caps);
    })
}

/// Content that refers to these capabilities, the first of them in a field.
pub fn write_payload(mut out: payload::Builder<'_>, caps: &[Cap]) {
    let mut table = out.reborrow().init_cap_table(caps.len().try_into().unwrap());
    for (index, cap) in (0..).zip(caps) {
        write_cap(table.reborrow().get(index), cap);
    }
    if !caps.is_empty() {
        pointer_to_first(out.get_content());
    }
}

/// Makes content a struct whose first pointer is the capability with index 0.
pub fn pointer_to_first(mut content: any_pointer::Builder<'_>) {
    let mut table = CapTable::new();
    let mut imbued = content.reborrow();
    imbued.imbue_mut(&mut table);
    let stand_in = Client::broken(Error::failed("only the index of this matters"));
    let mut params = imbued.init_as::<test_more_stuff::echo_params::Builder<'_>>();
    params.set_cap(test_call_order::Client::from_client(stand_in));
}

/// An Accept of what a token stands for, or of nothing.
pub fn accept(question: u32, completion: Option<&Token>) -> Vec<u8> {
    frame(|message| {
        let mut accept = message.init_accept();
        accept.set_question_id(question);
        if let Some(completion) = completion {
            write_token(completion, accept.init_provision());
        }
    })
}

/// A Provide for whom a token stands for.
pub fn provide(question: u32, target: &Target, awaited: &Token) -> Vec<u8> {
    frame(|message| {
        let mut provide = message.init_provide();
        provide.set_question_id(question);
        write_target(provide.reborrow().init_target(), target);
        write_token(awaited, provide.init_recipient());
    })
}

/// A call whose parameters have a capability of a third vat, which the contact leads to. Its vine
/// has the number of the question.
pub fn call_with_contact(
    question: u32,
    target: &Target,
    method: u16,
    contact: Option<&Token>,
) -> Vec<u8> {
    frame(|message| {
        let mut call = message.init_call();
        call.set_question_id(question);
        call.set_interface_id(1);
        call.set_method_id(method);
        write_target(call.reborrow().init_target(), target);
        let table = call.init_params().init_cap_table(1);
        let mut named = table.get(0).init_third_party_hosted();
        named.set_vine_id(question);
        if let Some(contact) = contact {
            write_token(contact, named.init_id());
        }
    })
}

/// A call of `callFoo` with a capability of a third vat, which has this vine.
pub fn call_foo_with_contact(
    question: u32,
    target: &Target,
    vine: u32,
    contact: &Token,
) -> Vec<u8> {
    frame(|message| {
        let mut call = message.init_call();
        call.set_question_id(question);
        call.set_interface_id(super::MORE_STUFF);
        call.set_method_id(super::CALL_FOO);
        write_target(call.reborrow().init_target(), target);
        let mut params = call.init_params();
        let mut named = params.reborrow().init_cap_table(1).get(0).init_third_party_hosted();
        named.set_vine_id(vine);
        write_token(contact, named.init_id());
        pointer_to_first(params.get_content());
    })
}

/// Writes a token that is made of bytes.
pub fn write_token(token: &Token, mut out: any_pointer::Builder<'_>) {
    out.set_as::<data::Owned>(&token.bytes().unwrap()[..]).unwrap();
}

/// Says what a call or a Disembargo goes to.
pub fn write_target(mut out: message_target::Builder<'_>, target: &Target) {
    match target {
        Target::Import(id) => out.set_imported_cap(*id),
        Target::Answer(question, path) => {
            write_answer(out.init_promised_answer(), *question, path);
        }
        Target::Unknown => out.set_imported_cap(0),
    }
}

fn write_answer(mut out: promised_answer::Builder<'_>, question: u32, path: &[u16]) {
    out.set_question_id(question);
    let mut ops = out.init_transform(path.len().try_into().unwrap());
    for (index, field) in (0..).zip(path) {
        ops.reborrow().get(index).set_get_pointer_field(*field);
    }
}

/// Describes a capability.
pub fn write_cap(mut out: cap_descriptor::Builder<'_>, cap: &Cap) {
    match cap {
        Cap::None | Cap::Unknown(_) => out.set_none(()),
        Cap::SenderHosted(id) => out.set_sender_hosted(*id),
        Cap::SenderPromise(id) => out.set_sender_promise(*id),
        Cap::ReceiverHosted(id) => out.set_receiver_hosted(*id),
        Cap::ReceiverAnswer(question, path) => {
            write_answer(out.init_receiver_answer(), *question, path);
        }
        Cap::ThirdParty(vine) => out.init_third_party_hosted().set_vine_id(*vine),
    }
}
