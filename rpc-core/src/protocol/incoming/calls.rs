//! The peer's calls, from their beginning to their Finish.

use std::sync::Arc;

use crate::budget::Kind;
use crate::cap::call::{CallCell, Sink};
use crate::cap::client::Client;
use crate::cap::delivery::{CallRequest, Delivery, Tail};
use crate::cap::effects::Effect;
use crate::cap::payload::{Carrier, Payload};
use crate::error::Error;
use crate::ids::AnswerId;
use crate::protocol::answer::{self, Answer};
use crate::protocol::named::Hosted;
use crate::protocol::{Abort, Txn, costs};
use crate::sync::Count;
use crate::wire::message::Message as Frame;
use crate::wire::{self, Hint, Target};

/// Interface and method of the call that asks [`Offers::restorer`](super::Offers) for an
/// object by its name. No schema has this interface: the call never leaves the vat, and
/// its parameters are the name.
const RESTORE: (u64, u16) = (0, 0);

impl Txn<'_> {
    pub(super) fn receive_bootstrap(&mut self, bootstrap: wire::Bootstrap) -> Result<(), Abort> {
        let id = AnswerId(bootstrap.question);
        let mut bootstrap = bootstrap;
        let refused = match &mut bootstrap.object {
            Some(object) => self.charge_frame(object, costs::frame(object)).err(),
            None => None,
        };
        let cell = self.begin_answer(id, answer::ResultsTo::Caller, Hint::None, costs::CALL)?;
        if let Some(error) = refused {
            self.effect(Effect::Complete(cell, Err(error)));
            return Ok(());
        }
        if let Some(refusal) = self.refusal() {
            self.effect(Effect::Complete(cell, Err(refusal)));
            return Ok(());
        }
        let offers = &self.order.offers;
        let effect = match (bootstrap.object, &offers.bootstrap, &offers.restorer) {
            (None, Some(client), _) => {
                Effect::Complete(cell, Ok(Payload::of_capability(client.clone())))
            }
            (None, None, _) => {
                let error = "this vat offers no bootstrap capability on this connection";
                Effect::Complete(cell, Err(Error::failed(error)))
            }
            // The application looks the object up, which may take time.
            (Some(object), _, Some(restorer)) => {
                let object = Payload::received(Some(object), Carrier::Bootstrap, Vec::new());
                let (interface, method) = RESTORE;
                let request = CallRequest {
                    interface,
                    method,
                    params: object,
                    cell,
                    permit: None,
                    tail: Tail::No,
                };
                Effect::Deliver(restorer.clone(), Delivery::Call(request))
            }
            (Some(_), _, None) => {
                let error = "this vat offers no capabilities by name on this connection, \
                             only its bootstrap capability";
                Effect::Complete(cell, Err(Error::failed(error)))
            }
        };
        self.effect(effect);
        Ok(())
    }

    pub(super) fn receive_call(&mut self, call: wire::Call) -> Result<(), Abort> {
        let id = AnswerId(call.question);
        let results_to = match call.results_to {
            wire::ResultsTo::Caller => answer::ResultsTo::Caller,
            wire::ResultsTo::Yourself => answer::ResultsTo::Yourself,
            wire::ResultsTo::Unknown => {
                return Err(Abort(Error::unimplemented(
                    "Call.sendResultsTo is neither `caller` nor `yourself`",
                )));
            }
        };
        // The peer says what it will not do itself. The outcome of such a call is for this side,
        // which has perhaps pipelined on the question that takes it.
        let hint = match results_to {
            answer::ResultsTo::Caller => call.hint,
            answer::ResultsTo::Yourself => Hint::None,
        };
        // Target and parameters are looked up before the call's own answer exists: a
        // call cannot be pipelined on itself, nor be given what it is to return.
        let target = match &call.target {
            Target::ImportedCap(export) => {
                self.vine_called(*export);
                self.export_place(*export).ok_or_else(|| {
                    Abort::new(format!("Call to export {export}, which does not exist"))
                })?
            }
            Target::PromisedAnswer(answer) => self
                .field_place(answer)
                .unwrap_or_else(|error| Hosted::client(Client::broken(error))),
            Target::Unknown => Hosted::client(Client::broken(Error::unimplemented(
                "the call's target is of a kind that is not known here",
            ))),
        };
        let target = self.refusal().map_or(target, |error| Hosted::client(Client::broken(error)));
        let cost = costs::call(&call.target);
        let mut content = call.params;
        let bytes = costs::params(&content);
        let refused = self.charge_content(&mut content, bytes).err();
        let params = self.receive_content(content, Carrier::Call)?;
        let words = params.size_in_words() as u64;
        let cell = self.begin_answer(id, results_to, hint, cost)?;
        if let Some(error) = refused {
            self.effect(Effect::drop((target, params)));
            self.effect(Effect::Complete(cell, Err(error)));
            return Ok(());
        }
        let request = CallRequest {
            interface: call.interface,
            method: call.method,
            params,
            cell,
            permit: None,
            tail: Tail::No,
        };
        self.hand_over(target, Delivery::Call(request), words);
        Ok(())
    }

    /// Enters an answer.
    pub(in crate::protocol) fn begin_answer(
        &mut self,
        id: AnswerId,
        results_to: answer::ResultsTo,
        hint: Hint,
        cost: u64,
    ) -> Result<Arc<CallCell>, Abort> {
        let machine = self.machine;
        self.check_answers(id)?;
        machine.budget.take(Kind::Entry, cost).map_err(Abort)?;
        let serial = self.serial();
        let connection = Arc::downgrade(machine);
        let sink = match results_to {
            answer::ResultsTo::Caller => Sink::Answer(connection as _, id, serial),
            answer::ResultsTo::Yourself => Sink::Redirected(connection as _, id, serial),
        };
        let (cell, interest) = CallCell::new(sink, hint, machine.settings.origin);
        let answer = Answer {
            serial,
            call: answer::Call::Wanted(interest),
            state: answer::State::Running,
            results_to,
            cost,
        };
        machine.running_calls.add_one();
        if let Some(answer) = machine.answers.insert_new(id, answer) {
            let left = answer.left_table(&machine.running_calls, &machine.budget);
            self.effect(Effect::drop((left, cell)));
            return Err(asked_twice(id));
        }
        Ok(cell)
    }

    /// Checks that one more question of the peer may begin, with this id.
    pub(in crate::protocol) fn check_new_answer(&self, id: AnswerId) -> Result<(), Abort> {
        if self.machine.answers.contains(id) {
            return Err(asked_twice(id));
        }
        self.check_answers(id)
    }

    /// Checks the same, but for the answers with which it may share its id.
    fn check_answers(&self, id: AnswerId) -> Result<(), Abort> {
        let machine = self.machine;
        if machine.provisions.contains(id) {
            return Err(asked_twice(id));
        }
        if machine.answers.len() + machine.provisions.len() >= self.limits().answers as usize {
            return Err(Abort(Error::overloaded(format!(
                "more than {} calls are outstanding; finish some first",
                self.limits().answers
            ))));
        }
        Ok(())
    }

    /// Charges for a message as long as it is kept.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn charge_frame(&self, frame: &mut Arc<Frame>, bytes: u64) -> Result<(), Error> {
        let charge = self.machine.budget.charge(Kind::Content, bytes)?;
        // It has just been received, so it is not shared yet.
        if let Some(frame) = Arc::get_mut(frame) {
            frame.set_charge(charge);
        }
        Ok(())
    }

    /// As [`charge_frame`](Self::charge_frame). Content with nothing in it, which is not
    /// kept, costs nothing.
    pub(super) fn charge_content(
        &self,
        content: &mut wire::Content,
        bytes: u64,
    ) -> Result<(), Error> {
        match &mut content.frame {
            Some(frame) => self.charge_frame(frame, bytes),
            None => Ok(()),
        }
    }

    fn receive_content(
        &mut self,
        content: wire::Content,
        carrier: Carrier,
    ) -> Result<Payload, Abort> {
        if content.caps.descriptors.is_empty() {
            return Ok(Payload::received(content.frame, carrier, Vec::new()));
        }
        // One by one, so that what is looked up for one is gone before the next.
        let descriptors = content.caps.descriptors.iter().enumerate();
        let caps = descriptors.map(|(index, descriptor)| {
            let named = self.import(descriptor, index)?;
            Ok(self.reference(named))
        });
        let caps = caps.collect::<Result<_, Abort>>()?;
        Ok(Payload::received(content.frame, carrier, caps))
    }

    pub(super) fn receive_finish(&mut self, finish: &wire::Finish) -> Result<(), Abort> {
        let id = AnswerId(finish.question);
        if self.finish_provision(id) {
            return Ok(());
        }
        // Some peers finish even a question that needs no Finish.
        let Some(entry) = self.machine.answers.remove(id) else { return Ok(()) };
        if finish.early_cancellation_workaround {
            self.let_arrive(entry.cell());
        }
        if matches!(entry.state, answer::State::Returned { .. }) {
            self.keep_ways(entry.cell());
        }
        let result = match &entry.state {
            answer::State::Running if entry.cell().hint() == Hint::OnlyPipeline => Ok(()),
            answer::State::Running => {
                let outcome = match entry.results_to {
                    answer::ResultsTo::Caller => wire::ReturnKind::Canceled,
                    // A peer that asked this side to keep the results expects this
                    // Return.
                    answer::ResultsTo::Yourself => wire::ReturnKind::ResultsSentElsewhere,
                };
                self.send(wire::Message::Return(wire::Return {
                    answer: id.0,
                    release_params: false,
                    no_finish_needed: false,
                    outcome,
                }));
                Ok(())
            }
            answer::State::Returned { exports, .. } if finish.release_results => {
                exports.iter().try_for_each(|export| self.release_export(*export, 1))
            }
            answer::State::Returned { .. } => Ok(()),
        };
        let goes_on = match (&entry.state, &entry.call) {
            (answer::State::Running, answer::Call::Taken(cell)) => Some(Arc::clone(cell)),
            _ => None,
        };
        let left = entry.left_table(&self.machine.running_calls, &self.machine.budget);
        self.effect(Effect::drop(left));
        result?;
        goes_on.map_or(Ok(()), |taken| self.remember_taken(&taken))
    }

    /// Remembers a call that goes on, because this side has taken its outcome, and that the peer
    /// has finished. There may be any number of these, which take each other's outcome, so each is
    /// charged for.
    fn remember_taken(&mut self, taken: &Arc<CallCell>) -> Result<(), Abort> {
        self.order.taken.enter(taken);
        let charge = self.charge(Kind::Content, costs::TAKEN)?;
        taken.tell_when_done(Box::new(move |_| drop(charge)));
        Ok(())
    }
}

fn asked_twice(id: AnswerId) -> Abort {
    Abort::new(format!("question {id} is asked while it is outstanding"))
}
