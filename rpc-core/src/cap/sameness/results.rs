//! The content of answers to Joins: Note [join].

use capnp::traits::ImbueMut;

use super::number::Answer;
use crate::cap::client::Client;
use crate::cap::indices::{self, CapTable};
use crate::cap::payload::{Payload, PayloadBuilder};
use crate::error::{Error, Result};
use crate::wire::JoinPart;
use crate::wire::rpc_twoparty_capnp::join_result;

/// Reads an answer to a nonce, which may come from a peer.
///
/// # Errors
/// It is none.
pub(super) fn name(payload: &Payload) -> Result<Answer> {
    let reader = payload.open();
    let bytes = Payload::content(&reader)?.get_as::<capnp::data::Reader<'_>>()?;
    Answer::try_from(bytes).map_err(|_| Error::failed("a Join was answered with something else"))
}

/// The answer to one part. The first part gets the capability, too, if all are the same.
pub(crate) fn part_answered(part: JoinPart, same: bool, cap: &Client) -> Payload {
    let mut builder = PayloadBuilder::for_results();
    let mut table = CapTable::new();
    let mut content = builder.content();
    content.imbue_mut(&mut table);
    let mut result = content.init_as::<join_result::Builder<'_>>();
    result.set_join_id(part.join);
    result.set_succeeded(same);
    if part.number > 0 || !same || cap.is_null() {
        return builder.finish(Vec::new());
    }
    result.init_cap().set_as_capability(indices::index_hook(0));
    builder.finish(vec![cap.clone()])
}

/// Reads an answer to a part, which may come from a peer.
///
/// # Errors
/// It is none, or is for another join.
pub(super) fn part(payload: &Payload, join: u32) -> Result<bool> {
    let reader = payload.open();
    let result = Payload::content(&reader)?.get_as::<join_result::Reader<'_>>()?;
    if result.get_join_id() != join {
        return Err(Error::failed("a Join was answered for another one"));
    }
    Ok(result.get_succeeded())
}

/// What a comparison has found.
pub(super) fn found(same: bool) -> Payload {
    part_answered(JoinPart { join: 0, count: 1, number: 0 }, same, &Client::null())
}

/// Reads what a comparison has found.
pub(crate) fn is_same(payload: &Payload) -> Result<bool> {
    part(payload, 0)
}
