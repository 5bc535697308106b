//! What this side sends: calls, bootstrap requests, results.

use std::sync::Arc;

use super::descriptors::exporting::{Described, DescribedFor};
use super::dest::{Dest, Pinned};
use super::idle::Unused;
use super::question::{self, Asked, Question, QuestionRef};
use super::{Machine, Pipelines, Txn, UnwantedReturns, answer, costs};
use crate::budget::{Charge, Kind};
use crate::cap::call::{CallCell, Departure};
use crate::cap::client::Client;
use crate::cap::delivery::{CallRequest, Delivery, Echo, Tail, cancelled};
use crate::cap::effects::Effect;
use crate::cap::payload::{Carrier, Outcome, Payload};
use crate::error::Error;
use crate::ids::{AnswerId, ExportId, QuestionId, Serial};
use crate::log::tell;
use crate::protocol::remote_promise::RemotePromise;
use crate::wire::{self, Content, Descriptor, Descriptors, Hint, Path};
use crate::work::room::Permit;

/// Size of a message without its content and its descriptors, in words.
const FRAME_WORDS: usize = 16;

impl Machine {
    /// Sends a delivery to a place behind this connection.
    pub(crate) fn deliver_to(self: &Arc<Self>, dest: &Dest, delivery: Delivery) {
        if let Some(delivery) = prepared(delivery) {
            self.transact(|txn| txn.deliver(dest, delivery));
        }
    }

    /// Sends a delivery through a promise of the peer, or gives it back with what
    /// the promise has become. Choosing and queueing are one step.
    pub(crate) fn deliver_through(
        self: &Arc<Self>,
        promise: &Arc<RemotePromise>,
        delivery: Delivery,
    ) -> Result<(), (Client, Delivery)> {
        let Some(delivery) = prepared(delivery) else { return Ok(()) };
        self.transact(|txn| match promise.location() {
            Ok(target) => Err((target, delivery)),
            Err(dest) => {
                txn.deliver(&dest, delivery);
                Ok(())
            }
        })
    }

    /// Sends a delivery to a pinned place, or gives it back with the capability that replaces
    /// the place. Choosing and queueing are one step.
    pub(super) fn deliver_pinned(
        self: &Arc<Self>,
        pinned: &Pinned,
        delivery: Delivery,
    ) -> Result<(), (Client, Delivery)> {
        let Some(delivery) = prepared(delivery) else { return Ok(()) };
        self.transact(|txn| {
            let dest = match pinned.dest() {
                Ok(dest) => dest,
                Err(client) => return Err((client, delivery)),
            };
            txn.deliver(&dest, delivery);
            Ok(())
        })
    }

    /// Asks the peer for its bootstrap capability, or for the capability that it offers
    /// under the given name. The promise can be called at once. An error if the
    /// connection is unused and ends.
    ///
    /// `permit` is the place among the questions, if this thread waited for one, or the
    /// reason why there is none.
    pub(crate) fn try_bootstrap(
        self: &Arc<Self>,
        object: Option<Payload>,
        permit: Result<Option<Permit>, Error>,
    ) -> Result<Client, Unused> {
        let object = match object.map(|object| object.prepared(Carrier::Bootstrap)).transpose() {
            Ok(object) => object.and_then(|object| object.into_parts().0),
            Err(error) => return Ok(Client::broken(error)),
        };
        let permit = permit.map(|permit| permit.unwrap_or_else(|| self.room.take()));
        self.transact(|txn| {
            if let Some(unused) = txn.unused() {
                return Err(unused);
            }
            let permit = match (permit, txn.dead()) {
                (Ok(permit), None) => permit,
                (Err(error), _) | (_, Some(error)) => return Ok(Client::broken(error)),
            };
            if let Some(object) = &object
                && let Err(error) = txn.check_size(object.size_in_words())
            {
                return Ok(Client::broken(error));
            }
            let Some(question) = txn.ask(Asked::default(), Some(permit)) else {
                return Ok(Client::broken(Error::overloaded("no question id is free")));
            };
            let id = question.id().0;
            txn.send(wire::Message::Bootstrap(wire::Bootstrap { question: id, object }));
            Ok(txn.question_field(&question, &[]).unwrap_or_default())
        })
    }

    /// Sends the outcome of a call that the peer made. Returns the outcome with the
    /// capabilities to which calls are delivered that are pipelined from now on.
    pub(crate) fn return_answer(
        self: &Arc<Self>,
        id: AnswerId,
        serial: Serial,
        outcome: Outcome,
    ) -> Outcome {
        // Long results that must both leave and stay are copied, outside the lock.
        let results = match outcome {
            Err(error) => Err(error),
            Ok(payload) if payload.caps().is_empty() => match payload.prepared(Carrier::Return) {
                Ok(sent) => return self.transact(|txn| txn.return_data(id, serial, sent)),
                Err(error) => Err(error),
            },
            Ok(payload) => match payload.leaving(Carrier::Return) {
                Ok((sent, origin)) => Ok(ReturnContent { sent, origin, kept: payload }),
                Err(error) => Err(error),
            },
        };
        self.transact(|txn| txn.return_answer(id, serial, results))
    }
}

/// Whether an answer stays in the table until the peer finishes it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FinishNeeded {
    Yes,
    No,
}

/// The content of a Return, and what stays of it.
struct ReturnContent {
    sent: Payload,
    /// For each capability of `sent`, its index in `kept`.
    origin: Vec<usize>,
    kept: Payload,
}

/// Makes sure that sending cannot fail later, because the content can be completed in
/// place. Fails the delivery otherwise.
fn prepared(delivery: Delivery) -> Option<Delivery> {
    match delivery {
        Delivery::Call(mut call) => match call.params.prepared(Carrier::Call) {
            Ok(params) => {
                call.params = params;
                Some(Delivery::Call(call))
            }
            Err(error) => {
                call.cell.complete(Err(call.tail.failed(error)));
                None
            }
        },
        other @ (Delivery::Disembargo(_) | Delivery::Lift(_) | Delivery::Join(_)) => Some(other),
    }
}

impl Txn<'_> {
    /// Queues a delivery for a place behind this connection.
    pub(super) fn deliver(&mut self, dest: &Dest, delivery: Delivery) {
        match delivery {
            Delivery::Call(call) => self.send_call(dest, call),
            Delivery::Disembargo(echo) => self.return_disembargo(&dest.target(), echo),
            Delivery::Lift(lift) => self.pass_lift_on(dest, lift),
            Delivery::Join(join) => self.send_join(dest, join),
        }
    }

    /// Returns a disembargo of the peer, which has come to where it leaves towards the
    /// peer.
    pub(super) fn return_disembargo(&mut self, target: &wire::Target, echo: Echo) {
        if echo.is_from(&**self.machine) {
            self.send_loopback(target.clone(), echo.embargo());
        } else {
            self.effect(Effect::Refuse(echo));
        }
    }

    /// Queues a disembargo that is returned to the peer.
    pub(super) fn send_loopback(&mut self, target: wire::Target, embargo: u32) {
        self.send(wire::Message::Disembargo(wire::Disembargo {
            target,
            context: wire::Context::ReceiverLoopback(embargo),
        }));
    }

    fn send_call(&mut self, dest: &Dest, call: CallRequest) {
        let CallRequest { interface, method, params, cell, permit, tail } = call;
        let words = params.size_in_words();
        let (frame, caps) = params.into_parts();
        let described = self.sendable(dest).and_then(|()| {
            let words = words + dest.path().len();
            self.describe_within_limit(words, &caps, DescribedFor::Params)
        });
        let described = match described {
            Ok(described) => described,
            Err(error) => return self.effect(Effect::Complete(cell, Err(tail.failed(error)))),
        };
        let exports: Vec<ExportId> = described.iter().filter_map(Described::export).collect();
        let permit = permit.filter(|permit| permit.is_for(&self.machine.room));
        let permit = permit.unwrap_or_else(|| self.machine.room.take());
        let answer = self.tail_answer(&cell, tail);
        let passed_on = tail;
        let (kept, results_to, tail) = match answer {
            Some(_) => (question::ResultsTo::Yourself, wire::ResultsTo::Yourself, Tail::Allowed),
            None => (question::ResultsTo::Caller, wire::ResultsTo::Caller, Tail::No),
        };
        let (kept, hint) = match cell.hint() {
            Hint::OnlyPipeline if self.may_ask_for_pipeline() => {
                (question::ResultsTo::Unwanted, Hint::OnlyPipeline)
            }
            // A call that is passed on leaves out this hint, which not every peer
            // supports: see `Client::call_without_pipeline`.
            Hint::NoPipelining if cell.is_own() => (kept, Hint::NoPipelining),
            _ => (kept, Hint::None),
        };
        let Some(question) = self.new_question(kept) else {
            self.withdraw(exports.into_iter());
            let error = passed_on.failed(Error::overloaded("no question id is free"));
            return self.effect(Effect::Complete(cell, Err(error)));
        };
        let (id, serial) = (question.id(), question.serial());
        let fields = match cell.asked(question, tail) {
            Departure::Unwanted => {
                // The call was cancelled before it left: it is as if it had never been
                // made.
                self.free_question(id);
                self.withdraw(exports.into_iter());
                return self.effect(Effect::Complete(cell, Err(passed_on.failed(cancelled()))));
            }
            Departure::Alone => None,
            Departure::WithFields(question, fields) => Some((question, fields)),
        };
        if let Some(timeout) = self.machine.settings.call_timeout
            && cell.is_undecided()
        {
            self.effect(Effect::Limit(Arc::clone(&cell), timeout));
        }
        // Rarely is there more to do for the call here.
        let call = (answer.is_some() || fields.is_some()).then(|| Arc::clone(&cell));
        let asked = Asked {
            results_to: kept,
            cell: answer.is_none().then_some(cell),
            params: exports,
            ..Asked::default()
        };
        self.enter_question(id, serial, asked, Some(permit));
        self.mark_called(dest);
        let mut caps = Descriptors::default();
        if !described.is_empty() {
            caps = Descriptors::with_capacity(described.len());
            for described in described {
                caps.push(described.descriptor, described.fd);
            }
        }
        self.send_with_trailing(wire::Message::Call(wire::Call {
            question: id.0,
            target: dest.target(),
            interface,
            method,
            params: Content { frame, caps },
            results_to,
            hint,
        }));
        let Some(cell) = call else { return };
        if let Some(answer) = answer {
            self.return_from_question(answer, id);
            if let Some(step) = cell.tail_called() {
                self.effect(Effect::Do(step));
            }
        }
        if let Some((question, fields)) = fields {
            let fields = fields
                .into_iter()
                .filter_map(|(path, field)| Some((field, self.question_field(&question, &path)?)))
                .collect();
            self.effect(Effect::ResolveFields(cell, fields));
        }
    }

    /// The answer for which a call may be a tail call: the one that gets the call's
    /// outcome, if it is owed to the peer to which the call goes.
    fn tail_answer(&self, cell: &CallCell, tail: Tail) -> Option<AnswerId> {
        // A peer that wants no Return is not sent one that names another question.
        if tail == Tail::No || cell.hint() == Hint::OnlyPipeline {
            return None;
        }
        let (id, serial) = cell.asked_by(&**self.machine)?;
        let owed = self.machine.answers.with(id, |entry| {
            entry.serial == serial && matches!(entry.state, answer::State::Running)
        });
        (owed == Some(true)).then_some(id)
    }

    /// Answers the peer with the results of a question that was just sent to it.
    fn return_from_question(&mut self, id: AnswerId, question: QuestionId) {
        let machine = self.machine;
        machine.answers.with(id, |entry| {
            entry.returned(&machine.running_calls, Vec::new(), None);
            entry.cell().no_longer_counts();
        });
        self.send(wire::Message::Return(wire::Return {
            answer: id.0,
            release_params: false,
            no_finish_needed: false,
            outcome: wire::ReturnKind::TakeFromOtherQuestion(question.0),
        }));
    }

    /// Whether a call can be sent at all.
    fn sendable(&self, dest: &Dest) -> Result<(), Error> {
        self.dead().map_or(Ok(()), Err)?;
        self.nameable(dest)
    }

    /// Whether a message may still name a place: a question that needed no Finish is
    /// gone, and its id may belong to another question.
    pub(super) fn nameable(&self, dest: &Dest) -> Result<(), Error> {
        let Dest::Answer(question, _) = dest else { return Ok(()) };
        let known =
            self.machine.questions.with(question.id(), |entry| entry.serial == question.serial());
        if known != Some(true) {
            return Err(Error::failed("the results that it was a part of are gone"));
        }
        Ok(())
    }

    /// Names the capabilities of a message with so many words besides, all of them or none.
    ///
    /// # Errors
    /// The message would be too large, or too many capabilities are exported.
    fn describe_within_limit(
        &mut self,
        words: usize,
        caps: &[Client],
        what: DescribedFor,
    ) -> Result<Vec<Described>, Error> {
        let least = Descriptor::None.words();
        self.check_size(words + least * caps.len())?;
        let described = self.describe_all(caps, what)?;
        // Some take more, which is not known before they are described.
        let named = described.iter().map(|one| one.descriptor.words()).sum::<usize>();
        if let Err(error) = self.check_size(words + named) {
            self.withdraw(described.iter().filter_map(Described::export));
            return Err(error);
        }
        Ok(described)
    }

    /// Checks the size of a message, but for its frame: one over the limit fails only its own
    /// call, at the sender.
    fn check_size(&self, words: usize) -> Result<(), Error> {
        let words = words + FRAME_WORDS;
        let limit = self.limits().message_words;
        if words as u64 > limit {
            return Err(Error::failed(format!(
                "a message of {words} words would exceed the limit of {limit}; \
                 send less at once or raise Limits::message_words on both sides"
            )));
        }
        Ok(())
    }

    /// Enters a question.
    pub(super) fn ask(&mut self, asked: Asked, permit: Option<Permit>) -> Option<Arc<QuestionRef>> {
        let question = self.new_question(asked.results_to)?;
        self.enter_question(question.id(), question.serial(), asked, permit);
        Some(question)
    }

    /// A question that has its id, and is to be [entered](Self::enter_question) in this
    /// transaction; `None` if no id is free.
    fn new_question(&mut self, results_to: question::ResultsTo) -> Option<Arc<QuestionRef>> {
        let id = match results_to {
            question::ResultsTo::Unwanted => self.unreturned_question()?,
            _ => QuestionId(self.order.question_ids.allocate()?),
        };
        let serial = self.serial();
        Some(QuestionRef::new(Arc::clone(self.machine), id, serial))
    }

    fn enter_question(&self, id: QuestionId, serial: Serial, asked: Asked, permit: Option<Permit>) {
        let question = Question { serial, state: question::State::Asked(asked), permit };
        self.machine.questions.insert(id, question);
    }

    /// The id of a question that gets no Return; `None` if all were used.
    pub(super) fn unreturned_question(&mut self) -> Option<QuestionId> {
        let id = question::FIRST_PIPELINE_ONLY.checked_add(self.order.pipelines.asked)?;
        self.order.pipelines.asked += 1;
        Some(QuestionId(id))
    }

    /// Frees the id of a question that both sides have forgotten.
    pub(super) fn forget_question(&mut self, id: QuestionId) {
        if let Some(entry) = self.machine.questions.remove(id) {
            self.free_question(id);
            drop(entry);
        }
    }

    pub(super) fn free_question(&mut self, id: QuestionId) {
        if !id.is_pipeline_only() {
            self.order.question_ids.release(id.0);
        }
    }

    /// Whether a question that wants no Return may be asked.
    fn may_ask_for_pipeline(&self) -> bool {
        let Pipelines { asked, returns } = self.order.pipelines;
        returns == UnwantedReturns::LeftOut && asked < question::FIRST_PIPELINE_ONLY
    }

    /// The promise for a field of a question's results: the same promise for the same
    /// path. `None` if the results have arrived already.
    pub(crate) fn question_field(
        &mut self,
        question: &Arc<QuestionRef>,
        path: &[u16],
    ) -> Option<Client> {
        let machine = self.machine;
        machine.questions.with(question.id(), |entry| {
            if entry.serial != question.serial() {
                return None;
            }
            let question::State::Asked(asked) = &mut entry.state else { return None };
            let path: Path = path.into();
            let field = asked.fields.entry(path.clone()).or_default();
            let node = field.node.upgrade().unwrap_or_else(|| {
                let dest = Dest::Answer(Arc::clone(question), path);
                let node = RemotePromise::new(Arc::clone(machine), dest);
                field.node = Arc::downgrade(&node);
                field.pinned.upgrade().inspect(|pinned| pinned.stand_for(&node));
                node
            });
            Some(Client::of(node))
        })?
    }

    /// Sends results without capabilities, of which nothing stays. A Finish would have nothing
    /// to release.
    fn return_data(&mut self, id: AnswerId, serial: Serial, results: Payload) -> Outcome {
        if let Err(error) = self.check_size(results.size_in_words()) {
            return self.return_answer(id, serial, Err(error));
        }
        let kept = Ok(Payload::empty().clone());
        let machine = self.machine;
        let answered = machine.answers.remove_if(id, |entry| entry.serial == serial);
        // If the question is finished, or the connection has ended, no Return is wanted.
        let Some(entry) = answered else { return kept };
        entry.answered(&machine.running_calls, &machine.budget);
        let (frame, _) = results.into_parts();
        self.send_with_trailing(wire::Message::Return(wire::Return {
            answer: id.0,
            release_params: false,
            no_finish_needed: true,
            outcome: wire::ReturnKind::Results(Content { frame, caps: Descriptors::default() }),
        }));
        kept
    }

    fn return_answer(
        &mut self,
        id: AnswerId,
        serial: Serial,
        results: Result<ReturnContent, Error>,
    ) -> Outcome {
        let machine = self.machine;
        if machine.answers.with(id, |entry| entry.serial == serial) != Some(true) {
            // The question is finished, or the connection has ended: no Return is
            // wanted.
            return results.map(|results| results.kept);
        }
        let described = results.and_then(|results| {
            let sent = results.sent;
            let words = sent.size_in_words();
            let (frame, caps) = sent.into_parts();
            let described = self.describe_within_limit(words, &caps, DescribedFor::Place)?;
            let mut charge = None;
            if !described.is_empty() {
                match self.charge_results(&results.kept) {
                    Ok(charged) => charge = Some(charged),
                    Err(error) => {
                        self.withdraw(described.iter().filter_map(Described::export));
                        return Err(error);
                    }
                }
            }
            Ok((frame, described, results.origin, results.kept, charge))
        });
        // Without capabilities, a Finish would have nothing to release.
        let hint = machine.answers.with(id, |entry| entry.cell().hint());
        let finish = match &described {
            Ok((_, described, ..)) if described.is_empty() => FinishNeeded::No,
            // Here there is no pipelined call either that has to learn of the error.
            Err(_) if hint == Some(Hint::NoPipelining) => FinishNeeded::No,
            _ => FinishNeeded::Yes,
        };
        let (outcome, exports, kept, charge) = match described {
            Err(error) => {
                tell!(DEBUG, answer = %id, %error, internal = error.internal(), "a call of the peer's failed");
                (
                    wire::ReturnKind::Exception(error.clone()),
                    Vec::<ExportId>::new(),
                    Err(error),
                    None,
                )
            }
            Ok((frame, described, origin, kept, charge)) => {
                let exports = described.iter().filter_map(Described::export).collect();
                let mut paths = vec![Client::null(); kept.caps().len()];
                let mut caps = Descriptors::with_capacity(described.len());
                for (described, origin) in described.into_iter().zip(origin) {
                    caps.push(described.descriptor, described.fd);
                    if let Some(path) = paths.get_mut(origin) {
                        *path = described.path;
                    }
                }
                let content = Content { frame, caps };
                (wire::ReturnKind::Results(content), exports, Ok(kept.with_caps(paths)), charge)
            }
        };
        match finish {
            FinishNeeded::Yes => {
                let cell = machine.answers.with(id, |entry| {
                    entry.returned(&machine.running_calls, exports, charge);
                    Arc::clone(entry.cell())
                });
                if let Some(cell) = cell {
                    cell.described(&kept);
                }
            }
            FinishNeeded::No => {
                if let Some(entry) = machine.answers.remove(id) {
                    entry.answered(&machine.running_calls, &machine.budget);
                }
            }
        }
        self.send_with_trailing(wire::Message::Return(wire::Return {
            answer: id.0,
            release_params: false,
            no_finish_needed: finish == FinishNeeded::No,
            outcome,
        }));
        kept
    }

    /// Records the end of a call of which the peer wants only the pipeline. The outcome
    /// stays in the call's cell.
    pub(crate) fn keep_answer(
        &mut self,
        id: AnswerId,
        serial: Serial,
        outcome: Outcome,
    ) -> Outcome {
        self.keep(id, serial, outcome).1
    }

    /// Enters that an outcome stays here, if there is room for it. Returns whether its
    /// answer is in the table, and the outcome that stays.
    fn keep(&mut self, id: AnswerId, serial: Serial, outcome: Outcome) -> (bool, Outcome) {
        let machine = self.machine;
        if machine.answers.with(id, |entry| entry.serial == serial) != Some(true) {
            return (false, outcome);
        }
        let (outcome, kept) = match outcome.and_then(|payload| {
            let charge = self.charge_results(&payload)?;
            Ok((payload, charge))
        }) {
            Ok((payload, charge)) => (Ok(payload), Some(charge)),
            Err(error) => (Err(error), None),
        };
        machine.answers.with(id, |entry| {
            entry.returned(&machine.running_calls, Vec::new(), kept);
        });
        (true, outcome)
    }

    /// Charges for results that stay here until they are finished.
    fn charge_results(&self, results: &Payload) -> Result<Charge, Error> {
        let bytes = costs::results(results.size_in_words(), results.caps().len());
        self.machine.budget.charge(Kind::Results, bytes)
    }

    /// Sends the Return of a call whose results the peer wants to stay here.
    pub(crate) fn return_redirected(
        &mut self,
        id: AnswerId,
        serial: Serial,
        outcome: Outcome,
    ) -> Outcome {
        let (known, outcome) = self.keep(id, serial, outcome);
        if known {
            self.send(wire::Message::Return(wire::Return {
                answer: id.0,
                release_params: false,
                no_finish_needed: false,
                outcome: wire::ReturnKind::ResultsSentElsewhere,
            }));
        }
        outcome
    }
}
