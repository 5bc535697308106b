//! Joins, in which vats ask each other whether capabilities are the same: Note [join] in
//! `cap/sameness`.
//!
//! A Join of the peer is an answer like a call, and counts as one. In addition,
//! `Limits::joins` bounds how many are under way. One by nonce takes the path of a call, to
//! whatever knows the answer, which may be behind another connection. One by parts waits in
//! `gathering.rs` for the others. Either ends when the peer finishes it, when its time is over,
//! or with the connection.

mod gathering;

use std::sync::Arc;

pub(crate) use self::gathering::Gatherings;

use super::counted::Counted;
use super::dest::Dest;
use super::incoming::Refused;
use super::named::{Hosted, Named};
use super::question::{Asked, Sent};
use super::{Abort, Machine, Txn, answer, costs};
use crate::cap::call::{CallCell, Departure};
use crate::cap::client::Client;
use crate::cap::delivery::{Delivery, JoinRequest, Tail, cancelled};
use crate::cap::effects::Effect;
use crate::error::Error;
use crate::ids::{AnswerId, QuestionId};
use crate::sync::atomic::Ordering;
use crate::wire::{self, Hint, JoinKey, Target, Token};

impl Txn<'_> {
    /// Sends a Join for a place behind this connection.
    pub(super) fn send_join(&mut self, dest: &Dest, join: JoinRequest) {
        let JoinRequest { key, cell } = join;
        let token = match self.joinable(dest).and_then(|()| key.token()) {
            Ok(token) => token,
            Err(error) => return self.effect(Effect::Complete(cell, Err(error))),
        };
        let asked = Asked { cell: Some(Arc::clone(&cell)), sent: Sent::Join, ..Asked::default() };
        let Some(question) = self.ask(asked, Some(self.machine.room.take())) else {
            let error = Error::overloaded("no question id is free");
            return self.effect(Effect::Complete(cell, Err(error)));
        };
        // Nothing was pipelined on it.
        if let Departure::Unwanted = cell.asked(Arc::clone(&question), Tail::No) {
            self.forget_question(question.id());
            return self.effect(Effect::Complete(cell, Err(cancelled())));
        }
        if let Some(timeout) = self.machine.settings.call_timeout
            && cell.is_undecided()
        {
            self.effect(Effect::Limit(cell, timeout));
        }
        self.send(wire::Message::Join(wire::Join {
            question: question.id().0,
            target: dest.target(),
            key: Some(token),
        }));
    }

    /// # Errors
    /// No Join can be sent there.
    fn joinable(&self, dest: &Dest) -> Result<(), Error> {
        if let Some(error) = self.dead() {
            return Err(error);
        }
        if self.machine.refused_joins.load(Ordering::SeqCst) {
            return Err(unknown_to_peer());
        }
        self.nameable(dest)
    }

    /// The peer does not know what a Join is.
    pub(super) fn join_refused(&mut self, id: QuestionId) {
        let Some(refused) = self.take_refused(id, |asked| asked.sent == Sent::Join) else {
            return;
        };
        self.machine.refused_joins.store(true, Ordering::SeqCst);
        if let Refused::Open(asked) = refused {
            self.settle_with(asked, Err(unknown_to_peer()));
        }
    }

    pub(super) fn receive_join(&mut self, join: wire::Join) -> Result<(), Abort> {
        let wire::Join { question, target, key } = join;
        let id = AnswerId(question);
        let place = match &target {
            Target::ImportedCap(export) => self.export_place(*export).ok_or_else(|| {
                Abort::new(format!("Join of export {export}, which does not exist"))
            })?,
            Target::PromisedAnswer(answer) => self
                .field_place(answer)
                .unwrap_or_else(|error| Hosted::client(Client::broken(error))),
            Target::Unknown => Hosted::client(Client::broken(Error::unimplemented(
                "the target of a Join is of a kind that is not known here",
            ))),
        };
        let token = key.as_ref().map_or(0, Token::size) as u64;
        let begun = self.begin_join();
        // One that is refused costs no more than a call.
        let more = if begun.is_ok() { costs::JOIN + token } else { 0 };
        let cost = costs::call(&target) + more;
        let cell = self.begin_answer(id, answer::ResultsTo::Caller, Hint::None, cost)?;
        let owed = match begun {
            Ok(owed) => owed,
            Err(error) => {
                self.effect(Effect::drop(place));
                self.effect(Effect::Complete(cell, Err(error)));
                return Ok(());
            }
        };
        cell.tell_when_done(Box::new(move |_| drop(owed)));
        if let Some(patience) = self.machine.settings.join_patience {
            let cell = Arc::clone(&cell);
            self.effect(Effect::Do(Box::new(move || cell.ends_after(patience))));
        }
        let key = key
            .ok_or_else(|| Error::failed("the key part of a Join cannot be read"))
            .and_then(|key| JoinKey::read(&key));
        match key {
            Err(error) => {
                self.effect(Effect::drop(place));
                self.effect(Effect::Complete(cell, Err(error)));
            }
            Ok(key @ JoinKey::Nonce(_)) => {
                self.hand_over(place, Delivery::Join(JoinRequest { key, cell }), 0);
            }
            Ok(JoinKey::Part(part)) => {
                let target = self.reference_at_once(Named::Ours(place));
                let machine = Arc::clone(self.machine);
                self.effect(Effect::Do(Box::new(move || machine.gather(part, cell, target))));
            }
        }
        Ok(())
    }

    /// # Errors
    /// Too many are under way, or the connection takes nothing new.
    fn begin_join(&self) -> Result<Counted, Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let limit = self.limits().joins;
        if self.machine.joins.count() >= limit as usize {
            return Err(Error::overloaded(format!(
                "more than {limit} comparisons are under way for this peer (Limits::joins)"
            )));
        }
        Ok(self.machine.joins.one_more())
    }
}

impl Machine {
    fn gather(self: &Arc<Self>, part: wire::JoinPart, cell: Arc<CallCell>, target: Client) {
        self.gatherings.come(part, cell, target);
    }
}

fn unknown_to_peer() -> Error {
    Error::unimplemented(
        "the peer cannot tell whether capabilities are the same: it does not know Join, \
         which is level 4 of the protocol",
    )
}
