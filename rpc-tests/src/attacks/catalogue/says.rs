//! Messages of the peers, which no builder would make.

use capnp_threads_core::capnp::message::ReaderOptions;
use capnp_threads_core::capnp::serialize;
use rpc_schema::rpc_capnp::{call, disembargo, message, return_};

use crate::support::raw::{self, Cap, Target};

/// The number of a message's kind in the schema.
pub(super) fn tag(message: message::Reader<'_>) -> u16 {
    match message.which() {
        Ok(message::Unimplemented(_)) => 0,
        Ok(message::Abort(_)) => 1,
        Ok(message::Call(_)) => 2,
        Ok(message::Return(_)) => 3,
        Ok(message::Finish(_)) => 4,
        Ok(message::Resolve(_)) => 5,
        Ok(message::Release(_)) => 6,
        Ok(message::ObsoleteSave(_)) => 7,
        Ok(message::Bootstrap(_)) => 8,
        Ok(message::ObsoleteDelete(_)) => 9,
        Ok(message::Provide(_)) => 10,
        Ok(message::Accept(_)) => 11,
        Ok(message::Join(_)) => 12,
        Ok(message::Disembargo(_)) => 13,
        Ok(message::ThirdPartyAnswer(_)) => 14,
        Err(unknown) => unknown.0,
    }
}

/// The same for a message with its framing; `None` if that cannot be read.
pub(super) fn tag_of(bytes: &[u8]) -> Option<u16> {
    let message = serialize::read_message(bytes, ReaderOptions::new()).ok()?;
    message.get_root::<message::Reader<'_>>().ok().map(tag)
}

/// Changes a word of a message of one segment, which are counted from the pointer to the root.
///
/// The builder puts a struct behind the pointer to it, first its data, then its pointers. So
/// the message's own data are word 1, and those of what it holds begin at [`INNER`].
pub(super) fn patched(mut bytes: Vec<u8>, word: usize, change: impl FnOnce(u64) -> u64) -> Vec<u8> {
    let at = 8 + 8 * word;
    let place = &mut bytes[at..at + 8];
    let before = u64::from_le_bytes((&*place).try_into().expect("eight bytes"));
    place.copy_from_slice(&change(before).to_le_bytes());
    bytes
}

/// Where the data of what a message holds begin.
pub(super) const INNER: usize = 3;

/// Replaces sixteen bits of a word by the discriminant of nothing.
pub(super) fn unknown_at(bits: u32) -> impl FnOnce(u64) -> u64 {
    move |word| word & !(0xffff << bits) | 0x0123 << bits
}

pub(super) fn bootstrap(question: u32) -> Vec<u8> {
    raw::frame(|message| message.init_bootstrap().set_question_id(question))
}

pub(super) fn release(id: u32, count: u32) -> Vec<u8> {
    raw::frame(|message| {
        let mut release = message.init_release();
        release.set_id(id);
        release.set_reference_count(count);
    })
}

pub(super) fn resolve(promise: u32, to: &Cap) -> Vec<u8> {
    raw::frame(|message| {
        let mut resolve = message.init_resolve();
        resolve.set_promise_id(promise);
        raw::write_cap(resolve.init_cap(), to);
    })
}

/// A Return, which releases no parameters.
pub(super) fn returned(answer: u32, build: impl FnOnce(return_::Builder<'_>)) -> Vec<u8> {
    raw::frame(|message| {
        let mut ret = message.init_return();
        ret.set_answer_id(answer);
        ret.set_release_param_caps(false);
        build(ret);
    })
}

/// Results with these capabilities.
pub(super) fn results(answer: u32, caps: &[Cap]) -> Vec<u8> {
    returned(answer, |ret| raw::write_payload(ret.init_results(), caps))
}

pub(super) fn exception(answer: u32, reason: &str) -> Vec<u8> {
    returned(answer, |ret| ret.init_exception().set_reason(reason))
}

/// A call of method 0 of interface 1, of which the rest is filled in.
pub(super) fn call(question: u32, object: u32, build: impl FnOnce(call::Builder<'_>)) -> Vec<u8> {
    raw::frame(|message| {
        let mut call = message.init_call();
        call.set_question_id(question);
        call.set_interface_id(1);
        raw::write_target(call.reborrow().init_target(), &Target::Import(object));
        build(call);
    })
}

/// A Disembargo, whose context is filled in.
pub(super) fn disembargo(
    target: &Target,
    build: impl FnOnce(disembargo::context::Builder<'_>),
) -> Vec<u8> {
    raw::frame(|message| {
        let mut disembargo = message.init_disembargo();
        raw::write_target(disembargo.reborrow().init_target(), target);
        build(disembargo.get_context());
    })
}
