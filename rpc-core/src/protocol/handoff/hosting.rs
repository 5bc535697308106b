//! The host: it keeps what is provided, until the vat that was announced comes for it.

use std::sync::Arc;

use super::MAX_EMBARGO;
use super::ability::Ability;
use super::meetings::{Kept, Lifted, Provided, Provision, Settled, Way};
use crate::budget::Kind;
use crate::cap::call::CallCell;
use crate::cap::client::Client;
use crate::cap::delivery::Route;
use crate::cap::effects::Effect;
use crate::error::Error;
use crate::ids::AnswerId;
use crate::log::tell;
use crate::protocol::held::Item;
use crate::protocol::named::{Hosted, Named};
use crate::protocol::{Abort, Machine, Txn, answer, costs};
use crate::wire::{self, AcceptEmbargo, Hint, PromisedAnswer, Target, Token};

impl Machine {
    /// Must not be called under a lock.
    pub(in crate::protocol) fn lift(self: &Arc<Self>, lifted: Lifted) {
        let Some(neighbour) = &self.neighbour else { return };
        let mut lifted = lifted;
        let way = match lifted.way.take() {
            Some(Route::Client(client)) => Some(client),
            Some(Route::Field(cell, path)) => (!cell.is_cancelled()).then(|| cell.pipelined(&path)),
            None => None,
        };
        let way = way.map(|way| self.transact(|txn| txn.unpinned(way)));
        neighbour.meetings().lift(lifted, way).tell();
    }

    fn offer(self: &Arc<Self>, provision: Provision, awaited: Option<Token>, cap: Client) {
        let Some(neighbour) = &self.neighbour else { return };
        let offered = awaited
            .ok_or_else(|| Error::failed("the token cannot be read"))
            .and_then(|awaited| neighbour.awaited(&awaited))
            .and_then(|key| neighbour.meetings().offer(provision, key, cap));
        match offered {
            Ok(settled) => settled.tell(),
            // A Provide has no answer. Who comes for this learns that it is not here.
            Err(error) => tell!(DEBUG, %error, "what a peer provides cannot be offered"),
        }
    }

    /// Tells whoever comes for what was not kept.
    fn refuse(&self, awaited: Option<Token>) {
        let Some(neighbour) = &self.neighbour else { return };
        if let Some(Ok(key)) = awaited.map(|awaited| neighbour.awaited(&awaited)) {
            neighbour.meetings().refuse(key).tell();
        }
    }

    fn come(
        self: &Arc<Self>,
        cell: Arc<CallCell>,
        completion: Option<Token>,
        embargo: Option<AcceptEmbargo>,
    ) {
        let Some(neighbour) = &self.neighbour else { return };
        let too_long = embargo.as_ref().is_some_and(|embargo| embargo.len() > MAX_EMBARGO);
        if too_long {
            let error = format!("the name of an embargo has more than {MAX_EMBARGO} bytes");
            return cell.complete(Err(Error::failed(error)));
        }
        let shown = completion
            .ok_or_else(|| Error::failed("the token cannot be read"))
            .and_then(|completion| neighbour.shown(&completion));
        match shown {
            Ok(shown) => {
                let place = self.accepts.take();
                neighbour.meetings().come(shown, embargo, &cell, place).tell();
                if let Some(patience) = neighbour.patience() {
                    cell.ends_after(patience);
                }
            }
            Err(error) => cell.complete(Err(error)),
        }
    }
}

impl Txn<'_> {
    pub(in crate::protocol) fn receive_provide(
        &mut self,
        provide: wire::Provide,
    ) -> Result<(), Abort> {
        let Some(neighbour) = self.machine.neighbour.clone() else {
            return self.echo(wire::Message::Provide(provide));
        };
        self.is_able();
        let wire::Provide { question, target, recipient } = provide;
        let id = AnswerId(question);
        self.check_new_answer(id)?;
        let token = recipient.as_ref().map_or(0, Token::size) as u64;
        let charge = self.charge(Kind::Entry, costs::PROVISION + costs::call(&target) + token)?;
        let place = match &target {
            Target::ImportedCap(export) => self.export_place(*export).ok_or_else(|| {
                Abort::new(format!("Provide of export {export}, which does not exist"))
            })?,
            Target::PromisedAnswer(answer) => self
                .field_place(answer)
                .unwrap_or_else(|error| Hosted::client(Client::broken(error))),
            Target::Unknown => Hosted::client(Client::broken(Error::unimplemented(
                "what is provided is named in a way that is not known here",
            ))),
        };
        let Some(kept) = self.machine.kept_provisions.take() else {
            tell!(DEBUG, "the peer provides more than Limits::provisions; it stays in the path");
            self.machine.provisions.insert(id, Provided { kept: None, charge });
            let machine = Arc::clone(self.machine);
            self.effect(Effect::Do(Box::new(move || {
                machine.refuse(recipient);
                drop(place);
            })));
            return Ok(());
        };
        let way = match place.later() {
            Route::Client(client) => Way::Client(client.clone()),
            Route::Field(cell, path) => Way::Field(Arc::downgrade(cell), path.clone()),
        };
        // Behind the calls that the introducer has made: Note [held references].
        let cap = self.reference_at_once(Named::Ours(place));
        let provision = neighbour.meetings().begin();
        if let Way::Field(cell, _) = &way {
            self.order.provided_fields.insert((cell.as_ptr().addr(), id));
        }
        let kept = Some(Kept { provision, way, _place: kept });
        self.machine.provisions.insert(id, Provided { kept, charge });
        let machine = Arc::clone(self.machine);
        self.effect(Effect::Do(Box::new(move || machine.offer(provision, recipient, cap))));
        Ok(())
    }

    pub(in crate::protocol) fn receive_accept(
        &mut self,
        accept: wire::Accept,
    ) -> Result<(), Abort> {
        if self.machine.neighbour.is_none() {
            return self.echo(wire::Message::Accept(accept));
        }
        self.is_able();
        let wire::Accept { question, provision, embargo } = accept;
        let id = AnswerId(question);
        let tokens = provision.as_ref().map_or(0, Token::size)
            + embargo.as_ref().map_or(0, |embargo| embargo.len());
        // The key is kept three times.
        let cost = costs::CALL + costs::PROVISION + 3 * tokens as u64;
        let cell = self.begin_answer(id, answer::ResultsTo::Caller, Hint::None, cost)?;
        if let Some(refusal) = self.refusal() {
            self.effect(Effect::Complete(cell, Err(refusal)));
            return Ok(());
        }
        let machine = Arc::clone(self.machine);
        self.effect(Effect::Do(Box::new(move || machine.come(cell, provision, embargo))));
        Ok(())
    }

    /// The introducer lifts an embargo of what it has provided.
    ///
    /// It passes on what others say, so it is not held against it if that is too much. Those
    /// who have named the embargo wait until their time is over.
    pub(in crate::protocol) fn lift_provision(
        &mut self,
        answer: &PromisedAnswer,
        embargo: AcceptEmbargo,
    ) -> Result<(), Abort> {
        let id = AnswerId(answer.question);
        let provided = self
            .machine
            .provisions
            .with(id, |entry| entry.kept.as_ref().map(|kept| (kept.provision, kept.way.clone())));
        let (Some(provided), Some([])) = (provided, answer.path.as_deref()) else {
            return Err(Abort::new(format!(
                "Disembargo of an Accept for question {id}, which provides nothing"
            )));
        };
        // The introducer may not know yet that nobody waits for it.
        let Some((provision, way)) = provided else { return Ok(()) };
        let cost = costs::PROVISION + embargo.len() as u64;
        let charge = self.machine.budget.charge(Kind::Content, cost).ok();
        let Some(charge) = charge.filter(|_| embargo.len() <= MAX_EMBARGO) else {
            tell!(DEBUG, "the end of an embargo is not remembered");
            return Ok(());
        };
        let way = match way {
            Way::Client(client) => Some(Route::Client(client)),
            Way::Field(cell, path) => cell.upgrade().map(|cell| Route::Field(cell, path)),
        };
        let lifted = Lifted { provision, embargo, way, charge };
        if self.order.held.is_open() {
            let machine = Arc::clone(self.machine);
            self.effect(Effect::Do(Box::new(move || machine.lift(lifted))));
        } else {
            self.hold(Item::Lift(lifted));
        }
        Ok(())
    }

    /// The peer finishes a call that has returned. What its fields were described as stays the
    /// path of those that are provided: the introducer's calls come back by that path.
    pub(in crate::protocol) fn keep_ways(&mut self, finished: &Arc<CallCell>) {
        let call = Arc::as_ptr(finished).addr();
        let all = (call, AnswerId(0))..=(call, AnswerId(u32::MAX));
        let provided: Vec<_> = self.order.provided_fields.range(all).copied().collect();
        for one in provided {
            self.order.provided_fields.remove(&one);
            let (_, id) = one;
            let machine = self.machine;
            let path = machine.provisions.with(id, |entry| match &entry.kept {
                Some(Kept { way: Way::Field(_, path), .. }) => Some(path.clone()),
                _ => None,
            });
            let Some(path) = path.flatten() else { continue };
            let client = self.settled_now(&mut Hosted::described_field(finished, &path));
            machine.provisions.with(id, |entry| {
                if let Some(kept) = &mut entry.kept {
                    kept.way = Way::Client(client);
                }
            });
        }
    }

    /// The introducer takes back what it has provided. Returns whether there was such a
    /// thing.
    pub(in crate::protocol) fn finish_provision(&mut self, id: AnswerId) -> bool {
        let Some(provided) = self.machine.provisions.remove(id) else { return false };
        if let Some(Kept { way: Way::Field(cell, _), .. }) = &provided.kept {
            self.order.provided_fields.remove(&(cell.as_ptr().addr(), id));
        }
        self.take_back(provided);
        true
    }

    /// Takes back what has left the table.
    pub(in crate::protocol) fn take_back(&mut self, provided: Provided) {
        let Some(kept) = provided.kept else { return };
        let Some(neighbour) = self.machine.neighbour.clone() else { return };
        let Kept { provision, way, .. } = kept;
        self.effect(Effect::Do(Box::new(move || {
            let settled: Settled = neighbour.meetings().take_back(provision);
            settled.tell();
            drop(way);
        })));
    }

    /// The connection has ended: nothing more will be provided.
    pub(in crate::protocol) fn end_handoffs(&mut self) {
        for (_, provided) in self.machine.provisions.take_all() {
            self.take_back(provided);
        }
        self.order.provided_fields.clear();
        drop(self.machine.provides.take_all());
        self.order.ability = Ability::default();
        if let Some(neighbour) = self.machine.neighbour.clone() {
            let machine = Arc::clone(self.machine);
            self.effect(Effect::Do(Box::new(move || {
                neighbour.meetings().lost(machine.room()).tell();
                neighbour.ended();
            })));
        }
    }
}
