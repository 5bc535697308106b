//! Asking a silent peer for a sign of life.
//!
//! Note [probe]
//!
//! The protocol has no message for that. A Bootstrap, with its Finish right behind it, comes
//! closest: every peer answers it, whether or not it offers anything, and nothing is left of
//! it on either side. A connection on which nothing is held is not asked: nobody on this
//! side waits for anything, and a connection that is not used may end (Note [idle]).

use std::sync::Arc;

use super::question::Asked;
use super::{Machine, Phase, Txn};
use crate::sync::Count;
use crate::wire;
use crate::work::room::Permit;

impl Machine {
    /// Asks the peer for a sign of life. Returns whether it did.
    pub(crate) fn probe(self: &Arc<Self>) -> bool {
        let permit = self.room.take();
        self.transact(|txn| {
            if !matches!(txn.order.phase, Phase::Live) || self.snapshot().is_empty() {
                return false;
            }
            txn.ask_for_a_sign(Some(permit))
        })
    }

    /// The number of messages that the peer has sent. Wraps around.
    pub(crate) fn received(&self) -> usize {
        self.heard.get()
    }
}

impl Txn<'_> {
    /// Asks the peer for its bootstrap capability, which nobody here wants. Returns whether it
    /// did: there may be no free id.
    pub(super) fn ask_for_a_sign(&mut self, permit: Option<Permit>) -> bool {
        let Some(question) = self.ask(Asked::default(), permit) else { return false };
        let id = question.id().0;
        self.send(wire::Message::Bootstrap(wire::Bootstrap { question: id, object: None }));
        // The Finish follows at the end of this step: Note [releases].
        drop(question);
        true
    }
}
