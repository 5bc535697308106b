//! What entries and contents cost: their memory, estimated from above. See Note [budget].

use std::mem::size_of;

use super::answer::Answer;
use super::handoff::Introduced;
use super::handoff::meetings::Provided;
use super::held::Item;
use super::import::{Import, ImportRef};
use super::named::Named;
use crate::budget::Charge;
use crate::cap::call::CallCell;
use crate::cap::client::Client;
use crate::cap::delivery::{CallRequest, Delivery};
use crate::cap::local_promise::LocalPromise;
use crate::ids::AnswerId;
use crate::protocol::question::Question;
use crate::protocol::remote_promise::RemotePromise;
use crate::wire::message::Message as Frame;
use crate::wire::{self, Content, Descriptor, Descriptors, PromisedAnswer, Token};

/// The two counters of an `Arc`, and what an allocator keeps beside it.
const ARC: usize = 32;

/// An entry of a table that may be a third full.
const fn entry(size: usize) -> usize {
    3 * (size + 8)
}

/// A place in a queue that may be half full.
const fn place(size: usize) -> usize {
    2 * (size + 16)
}

/// A call of the peer, without its parameters.
pub(crate) const CALL: u64 = (entry(size_of::<Answer>()) + (size_of::<CallCell>() + ARC)) as u64;

/// The parameters of a call on their way to an object. The cell is counted here, too,
/// because a call that is finished may still be under way.
const UNDER_WAY: usize = size_of::<CallCell>() + ARC + place(size_of::<CallRequest>());

/// A call of the peer whose outcome this side has taken, and that has left the table: the cell, its
/// place among those that end with the connection, and what holds this charge.
pub(super) const TAKEN: u64 =
    ((size_of::<CallCell>() + ARC) + entry(size_of::<[usize; 4]>()) + size_of::<Charge>() + ARC)
        as u64;

/// A capability of the peer.
pub(crate) const IMPORT: u64 = (entry(size_of::<Import>())
    + (size_of::<ImportRef>() + ARC)
    + (size_of::<RemotePromise>() + ARC)) as u64;

/// What a peer provides, or asks for: its entry, and its part of the table of those who meet.
pub(crate) const PROVISION: u64 = (entry(size_of::<Provided>())
    + entry(size_of::<(usize, AnswerId)>())
    + 3 * entry(size_of::<[u64; 16]>())
    + (size_of::<LocalPromise>() + ARC)
    + place(size_of::<Item>())) as u64;

/// What a Join takes beside a call: its place among those that wait for each other, and the
/// comparison, which asks one question.
pub(crate) const JOIN: u64 = (6 * entry(size_of::<[u64; 16]>())
    + (size_of::<LocalPromise>() + ARC)
    + place(size_of::<Item>())) as u64
    + CALL;

/// A Disembargo that waits.
const DISEMBARGO: usize = place(size_of::<Item>()) + place(size_of::<Delivery>());

/// A capability that a message names.
const NAMED: usize = size_of::<Descriptor>() + size_of::<Named>() + size_of::<Client>();

/// A place of this side that a message names: a promise may have to stand for it.
const NAMED_OURS: usize =
    NAMED + size_of::<LocalPromise>() + ARC + place(size_of::<Item>()) + size_of::<Client>();

/// The number of capabilities that one message may name, at most, for a budget of this
/// many bytes.
pub(crate) fn most_named(budget: u64) -> usize {
    usize::try_from(budget / NAMED as u64).unwrap_or(usize::MAX)
}

/// The parameters of a call, with what they name.
pub(super) fn params(content: &Content) -> u64 {
    UNDER_WAY as u64 + content.frame.as_deref().map_or(0, frame) + named(&content.caps)
}

/// A message.
pub(super) fn frame(frame: &Frame) -> u64 {
    (8 * frame.size_in_words() + size_of::<Frame>() + ARC) as u64
}

/// The capabilities that a message names.
pub(super) fn named(caps: &Descriptors) -> u64 {
    let cost = |descriptor: &Descriptor| match descriptor {
        Descriptor::ReceiverHosted(_) => NAMED_OURS,
        Descriptor::ReceiverAnswer(answer) => NAMED_OURS + path(answer),
        Descriptor::ThirdPartyHosted(_, Some(contact)) => NAMED_OURS + contact.size(),
        _ => NAMED,
    };
    caps.descriptors.iter().map(cost).sum::<usize>() as u64
}

/// A capability of a third vat, until its host has answered: first what leads there, and then
/// the question, and who waits for the answer.
pub(super) fn contact(contact: &Token) -> u64 {
    let promise = size_of::<LocalPromise>() + ARC;
    let contact = contact.size() + size_of::<Introduced>() + ARC;
    let asked = entry(size_of::<Question>()) + size_of::<RemotePromise>() + ARC;
    (promise + contact.max(asked)) as u64
}

/// Results of this many words, with this many capabilities.
pub(super) fn results(words: usize, caps: usize) -> u64 {
    (8 * words + size_of::<Frame>() + ARC + caps * (size_of::<Client>() + 8)) as u64
}

/// A call to a target, without its parameters.
pub(super) fn call(target: &wire::Target) -> u64 {
    CALL + target_path(target)
}

/// A Disembargo for a target.
pub(super) fn disembargo(target: &wire::Target) -> u64 {
    DISEMBARGO as u64 + target_path(target)
}

fn target_path(target: &wire::Target) -> u64 {
    match target {
        wire::Target::PromisedAnswer(answer) => {
            (path(answer) + size_of::<LocalPromise>() + ARC + size_of::<Client>()) as u64
        }
        wire::Target::ImportedCap(_) | wire::Target::Unknown => 0,
    }
}

/// A path to a field. It is kept with the field, and with what waits for the field.
fn path(answer: &PromisedAnswer) -> usize {
    answer.path.as_ref().map_or(0, |path| 3 * size_of_val(&**path))
}
