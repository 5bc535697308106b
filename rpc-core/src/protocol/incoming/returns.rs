//! The outcomes of this side's calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cap::call::{CallCell, Interest, Settled};
use crate::cap::client::Client;
use crate::cap::effects::Effect;
use crate::cap::local_promise::LocalPromise;
use crate::cap::payload::{Carrier, Outcome, Payload, cap_of};
use crate::error::Error;
use crate::ids::{AnswerId, ExportId, QuestionId};
use crate::log::{tell, wanted};
use crate::protocol::named::{Hosted, Named};
use crate::protocol::question::{self, Asked};
use crate::protocol::{Abort, Txn, UnwantedReturns, answer, costs};
use crate::wire;

impl Txn<'_> {
    pub(super) fn receive_return(&mut self, ret: wire::Return) -> Result<(), Abort> {
        let machine = self.machine;
        let id = QuestionId(ret.answer);
        if machine.provides.contains(id) {
            // A Provide needs no Return.
            return Ok(());
        }
        if id.is_pipeline_only() {
            return self.receive_unwanted_return(id, &ret);
        }
        let mut ret = ret;
        if let wire::ReturnKind::Results(content) = &mut ret.outcome
            && ret.no_finish_needed
            && content.caps.descriptors.is_empty()
            && self.receive_data(id, content)
        {
            return Ok(());
        }
        let entry = machine.questions.with(id, |entry| {
            let state = std::mem::replace(&mut entry.state, question::State::Returned);
            (state, entry.permit.take(), entry.serial)
        });
        let state = entry.map(|(state, permit, serial)| {
            drop(permit);
            self.answered(serial);
            state
        });
        match state {
            None => Err(Abort::new(format!("Return for question {id}, which was not asked"))),
            Some(question::State::Returned) => {
                Err(Abort::new(format!("a second Return for question {id}")))
            }
            Some(question::State::Finished { params, finish }) => {
                // The Finish of this side gave up the results, whatever they are. If
                // they are those of a call that came back to this side, that call is no
                // longer wanted either; the peer may have finished it already.
                if let wire::ReturnKind::TakeFromOtherQuestion(other) = ret.outcome
                    && let Ok(interest) = self.take_answer(AnswerId(other))
                {
                    self.effect(Effect::drop(interest));
                }
                self.release_params(ret.release_params, &params)?;
                if finish == question::Finish::Owed && !ret.no_finish_needed {
                    self.send_finish(id, true);
                }
                self.forget_question(id);
                Ok(())
            }
            Some(question::State::Asked(asked)) => {
                self.order.knows_joins |= asked.sent == question::Sent::Join;
                let settled = if asked.results_to == question::ResultsTo::SentElsewhere {
                    let abort = Abort::new(format!("a second Return for question {id}"));
                    Err((Box::new(asked), abort))
                } else {
                    match self.release_params(ret.release_params, &asked.params) {
                        Ok(()) => self.settle_question(id, asked, ret.outcome),
                        Err(abort) => Err((Box::new(asked), abort)),
                    }
                };
                if let Err((asked, abort)) = settled {
                    // The question is in no table any more, so its waiters are told of
                    // the end here.
                    let error = Error::disconnected(format!(
                        "the peer answered against the rules: {}",
                        abort.0.reason()
                    ));
                    self.settle_with(*asked, Err(error.unanswered()));
                    return Err(abort);
                }
                if ret.no_finish_needed {
                    self.forget_returned(id);
                }
                // Otherwise the Finish follows when the last reference is dropped,
                // which usually has just happened.
                Ok(())
            }
        }
    }

    /// Handles what comes most often: results without capabilities, which need no Finish, for a
    /// question of which no field is used. Returns whether they were for such a question.
    fn receive_data(&mut self, id: QuestionId, content: &mut wire::Content) -> bool {
        let is_settled_by_data = |entry: &question::Question| match &entry.state {
            question::State::Asked(asked) => {
                asked.results_to == question::ResultsTo::Caller
                    && asked.sent == question::Sent::Other
                    && asked.fields.is_empty()
                    && asked.params.is_empty()
                    && asked.vine.is_none()
            }
            question::State::Returned | question::State::Finished { .. } => false,
        };
        let Some(entry) = self.machine.questions.remove_if(id, is_settled_by_data) else {
            return false;
        };
        self.free_question(id);
        let question::Question { serial, state, permit } = entry;
        drop(permit);
        self.answered(serial);
        if let question::State::Asked(asked) = state
            && let Some(cell) = asked.cell
        {
            let results = Payload::received(content.frame.take(), Carrier::Return, Vec::new());
            match cell.settle_with_data(serial, results) {
                Settled::Before => {}
                Settled::Begun => self.effect(Effect::FinishCompletion(cell)),
                Settled::Done(called) if called.is_empty() => {}
                Settled::Done(called) => self.effect(Effect::Called(called)),
            }
        }
        true
    }

    /// Forgets a question that needs no Finish. Results that were to stay with the peer are
    /// gone, and with them what their fields are promises for.
    fn forget_returned(&mut self, id: QuestionId) {
        let kept = self.machine.questions.with(id, |entry| match &mut entry.state {
            question::State::Asked(asked) => Some(std::mem::take(asked)),
            question::State::Returned | question::State::Finished { .. } => None,
        });
        self.forget_question(id);
        if let Some(asked) = kept.flatten() {
            let error = Error::failed("the results that it was a part of are gone");
            self.settle_with(asked, Err(error));
        }
    }

    /// Handles a Return that is not wanted, because the peer does not know the hint:
    /// Note [pipeline only].
    fn receive_unwanted_return(&mut self, id: QuestionId, ret: &wire::Return) -> Result<(), Abort> {
        if id.0 - question::FIRST_PIPELINE_ONLY >= self.order.pipelines.asked {
            return Err(Abort::new(format!("Return for question {id}, which was not asked")));
        }
        self.order.pipelines.returns = UnwantedReturns::Sent;
        // The exports in the parameters are known as long as the question is not
        // finished.
        let params = self.machine.questions.with(id, |entry| match &mut entry.state {
            question::State::Asked(asked) => std::mem::take(&mut asked.params),
            question::State::Returned | question::State::Finished { .. } => Vec::new(),
        });
        self.release_params(ret.release_params, &params.unwrap_or_default())
    }

    fn release_params(&mut self, release: bool, params: &[ExportId]) -> Result<(), Abort> {
        if release {
            for id in params {
                self.release_export(*id, 1)?;
            }
        }
        Ok(())
    }

    fn settle_question(
        &mut self,
        id: QuestionId,
        asked: Asked,
        outcome: wire::ReturnKind,
    ) -> Result<(), (Box<Asked>, Abort)> {
        let abort = match outcome {
            wire::ReturnKind::Results(content)
                if asked.results_to == question::ResultsTo::Caller =>
            {
                return self.settle_with_results(id, asked, content);
            }
            wire::ReturnKind::ResultsSentElsewhere
                if asked.results_to == question::ResultsTo::Yourself =>
            {
                // The fields still lead to the peer: Note [tail calls].
                let asked = Asked { results_to: question::ResultsTo::SentElsewhere, ..asked };
                self.machine
                    .questions
                    .with(id, |entry| entry.state = question::State::Asked(asked));
                return Ok(());
            }
            _ if asked.results_to == question::ResultsTo::Yourself => Abort::new(format!(
                "the results of question {id} came here, but should have stayed with the peer"
            )),
            wire::ReturnKind::Exception(error) => {
                let _entered = match &asked.cell {
                    Some(cell) if wanted!(DEBUG) => cell.enter_callers_span(),
                    _ => None,
                };
                tell!(DEBUG, question = %id, %error, "a call failed at the peer");
                self.settle_with(asked, Err(error));
                return Ok(());
            }
            wire::ReturnKind::TakeFromOtherQuestion(other) => {
                return self.settle_from_answer(id, asked, AnswerId(other));
            }
            wire::ReturnKind::Canceled => {
                Abort::new(format!("question {id} was canceled, but not by this side"))
            }
            wire::ReturnKind::Results(_) => Abort::new(format!("question {id} was answered twice")),
            wire::ReturnKind::ResultsSentElsewhere => Abort::new(format!(
                "the results of question {id} were sent elsewhere, but should have come here"
            )),
            wire::ReturnKind::Unknown => Abort(Error::unimplemented(
                "a Return of a kind that is not known here, as for level 3",
            )),
        };
        Err((Box::new(asked), abort))
    }

    fn settle_with_results(
        &mut self,
        id: QuestionId,
        asked: Asked,
        content: wire::Content,
    ) -> Result<(), (Box<Asked>, Abort)> {
        let mut content = content;
        let bytes = costs::named(&content.caps);
        // The content itself was asked for.
        if let Err(error) = self.charge_content(&mut content, bytes) {
            return Err((Box::new(asked), Abort(error)));
        }
        let wire::Content { frame, caps } = content;
        if caps.descriptors.is_empty() && asked.fields.is_empty() && asked.vine.is_none() {
            if let Some(cell) = asked.cell {
                self.complete(cell, Ok(Payload::received(frame, Carrier::Return, Vec::new())));
            }
            return Ok(());
        }
        let mut named = match self.import_all(&caps) {
            Ok(named) => named,
            Err(abort) => return Err((Box::new(asked), abort)),
        };
        let unknown = vec![Client::null(); named.len()];
        let payload = Payload::received(frame, Carrier::Return, unknown);
        // The fields through which something was sent come first: each may put an
        // embargo in the place of the capability, even in the results that are read.
        // See Note [embargo].
        let (called, quiet): (Vec<_>, Vec<_>) =
            asked.fields.into_iter().partition(|(_, field)| field.called);
        for (path, field) in called.into_iter().chain(quiet) {
            let target = match payload.cap_index_at(&path) {
                Err(error) => field.give_up_place(Client::broken(error)),
                Ok(None) => field.give_up_place(Client::null()),
                Ok(Some(index)) => match named.get_mut(index) {
                    Some(named) => {
                        let place = std::mem::replace(named, Named::Theirs(Client::null()));
                        let hosted = match &place {
                            Named::Theirs(client) => self.place_of(client),
                            Named::Ours(_) | Named::Reflected(..) => None,
                            // What was sent to the place goes through the introducer.
                            Named::Introduced(introduced) => Some(introduced.vine.clone()),
                            Named::Deferred(_, vine) => Some(vine.clone()),
                        };
                        let ours = matches!(place, Named::Ours(_) | Named::Reflected(..));
                        let introduced =
                            matches!(place, Named::Introduced(_) | Named::Deferred(..));
                        let vine = hosted.clone().filter(|_| introduced);
                        let dest =
                            || wire::Target::PromisedAnswer(wire::PromisedAnswer::new(id.0, &path));
                        let target = self.settled_target(place, field.called, dest);
                        field.give_up_place(hosted.unwrap_or_else(|| target.clone()));
                        *named = match vine {
                            _ if ours => Named::Ours(Hosted::client(target.clone())),
                            Some(vine) => Named::Deferred(target.clone(), vine),
                            None => Named::Theirs(target.clone()),
                        };
                        target
                    }
                    None => field.give_up_place(Client::null()),
                },
            };
            self.resolve_node(field.node.upgrade(), target);
        }
        if let Some(vine) = asked.vine {
            self.effect(Effect::drop(vine));
        }
        if let Some(cell) = asked.cell {
            let caps = named.into_iter().map(|named| self.reference_at_once(named)).collect();
            self.complete(cell, Ok(payload.with_caps(caps)));
        }
        Ok(())
    }

    /// Settles a question with an outcome that holds no capabilities of the peer.
    pub(in crate::protocol) fn settle_with(&mut self, asked: Asked, outcome: Outcome) {
        // An Accept that has failed, and through which nothing was sent: Note [handoff].
        let vine = asked.vine.filter(|_| outcome.is_err());
        for (path, field) in asked.fields {
            let target = match &vine {
                Some(vine) if path.is_empty() && !field.called => vine.clone(),
                _ => cap_of(&outcome, &path),
            };
            let target = field.give_up_place(target);
            self.resolve_node(field.node.upgrade(), target);
        }
        if let Some(vine) = vine {
            self.effect(Effect::drop(vine));
        }
        if let Some(cell) = asked.cell {
            self.complete(cell, outcome);
        }
    }

    /// Settles a question with the results of a call that the peer made to this side.
    fn settle_from_answer(
        &mut self,
        id: QuestionId,
        asked: Asked,
        other: AnswerId,
    ) -> Result<(), (Box<Asked>, Abort)> {
        let interest = match self.take_answer(other) {
            Ok(interest) => interest,
            Err(abort) => return Err((Box::new(asked), abort)),
        };
        // As in `settle_with_results`, capabilities that are behind an embargo are so
        // in the results that are read, too, and for those who ask for the field again.
        let mut fields = BTreeMap::new();
        for (path, field) in asked.fields {
            let node = field.node.upgrade();
            if node.is_none() && !field.called {
                continue;
            }
            let place = Named::Ours(Hosted::field(interest.cell(), &path));
            let dest = || wire::Target::PromisedAnswer(wire::PromisedAnswer::new(id.0, &path));
            let target = self.settled_target(place, field.called, dest);
            if field.called
                && let Some(embargo) = target.kind_as::<LocalPromise>()
            {
                // What was sent through the field comes back by the other call, even if that was
                // passed on and nobody waits for its outcome.
                embargo.keep_until_resolved(Arc::new(interest.clone()));
            }
            field.give_up_place(target.clone());
            fields.insert(path, target.clone());
            self.resolve_node(node, target);
        }
        match asked.cell {
            Some(cell) => {
                cell.will_take(fields);
                self.take_over(cell, interest);
            }
            // Only the fields are wanted, which are looked up after this transaction.
            None => self.effect(Effect::drop((interest, fields))),
        }
        if let Some(vine) = asked.vine {
            self.effect(Effect::drop(vine));
        }
        Ok(())
    }

    /// Takes over the peer's interest in the outcome of a call that it made to this
    /// side.
    fn take_answer(&self, id: AnswerId) -> Result<Interest, Abort> {
        let taken = self.machine.answers.with(id, |entry| match entry.results_to {
            // The peer need not finish its question when this side's question ends, so its
            // question must not keep the call alive.
            answer::ResultsTo::Yourself => entry.take_interest().ok_or("has been taken before"),
            answer::ResultsTo::Caller => Err("was not called with sendResultsTo.yourself"),
        });
        taken
            .unwrap_or(Err("is not outstanding"))
            .map_err(|why| Abort::new(format!("takeFromOtherQuestion: question {id} {why}")))
    }

    /// Settles a call, as a step of this transaction.
    pub(in crate::protocol) fn complete(&mut self, cell: Arc<CallCell>, outcome: Outcome) {
        if cell.begin_completion(outcome) {
            self.effect(Effect::FinishCompletion(cell));
        }
    }
}
