//! What the peer sends, with one function for each kind of message.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer::{self, Answer};
use super::descriptors::View;
use super::embargo::Embargo;
use super::import::{self, Resolution};
use super::named::{Named, Place};
use super::question::{self, Asked};
use super::remote_promise::RemotePromise;
use super::{Abort, Machine, Txn, UnwantedReturns};
use crate::cap::call::{CallCell, Interest, Sink};
use crate::cap::client::Client;
use crate::cap::delivery::{CallRequest, Delivery, Echo, Route, Tail};
use crate::cap::effects::Effect;
use crate::cap::local_promise::LocalPromise;
use crate::cap::payload::{Carrier, Outcome, Payload, cap_of};
use crate::error::{Error, ErrorKind};
use crate::ids::{AnswerId, EmbargoId, ExportId, ImportId, QuestionId};
use crate::sync::atomic::Ordering;
use crate::wire::{self, Context, Descriptor, Hint, Target};

/// Interface and method of the call that asks [`Offers::restorer`](super::Offers) for an
/// object by its name. No schema has this interface: the call never leaves the vat, and
/// its parameters are the name.
const RESTORE: (u64, u16) = (0, 0);

impl Machine {
    /// Handles one message of the peer. An error in it ends the connection with
    /// an Abort.
    pub(crate) fn receive(self: &Arc<Self>, mut message: wire::Message) {
        tracing::trace!(?message, "receive");
        let arrived = message.take_fds();
        self.transact(|txn| {
            txn.arrived = arrived;
            if txn.dead().is_some() {
                return;
            }
            txn.wake_up();
            txn.machine.activity.fetch_add(1, Ordering::Relaxed);
            txn.machine.heard.store(true, Ordering::Relaxed);
            if let Err(Abort(error)) = txn.receive(message).and_then(|()| txn.check_held()) {
                txn.abort(error);
            }
        });
    }
}

impl Txn<'_> {
    fn receive(&mut self, message: wire::Message) -> Result<(), Abort> {
        match message {
            wire::Message::Unimplemented(echoed) => self.receive_unimplemented(echoed),
            wire::Message::Abort(error) => {
                self.receive_abort(&error);
                Ok(())
            }
            wire::Message::Bootstrap(bootstrap) => self.receive_bootstrap(bootstrap),
            wire::Message::Call(call) => self.receive_call(call),
            wire::Message::Return(ret) => self.receive_return(ret),
            wire::Message::Finish(finish) => self.receive_finish(&finish),
            wire::Message::Resolve(resolve) => self.receive_resolve(resolve),
            wire::Message::Release(release) => {
                self.release_export(ExportId(release.id), release.count)
            }
            wire::Message::Disembargo(disembargo) => self.receive_disembargo(&disembargo),
            unknown @ wire::Message::Unknown(_) => {
                self.send(unknown);
                Ok(())
            }
        }
    }

    /// Handles an echo of a message of this side that the peer does not know.
    fn receive_unimplemented(&mut self, echoed: Option<Box<wire::Message>>) -> Result<(), Abort> {
        match echoed.map(|message| *message) {
            // A peer of level 0 has no use for promises: it never calls what the
            // Resolve exported, so that export is released.
            Some(wire::Message::Resolve(wire::Resolve { resolution: Ok(descriptor), .. })) => {
                match super::descriptors::exported(&descriptor) {
                    Some(id) => self.release_export(id, 1),
                    None => Ok(()),
                }
            }
            Some(wire::Message::Resolve(_) | wire::Message::Unimplemented(_)) => Ok(()),
            _ => Err(Abort(Error::unimplemented(
                "the peer does not implement a message that this side cannot do without",
            ))),
        }
    }

    fn receive_abort(&mut self, error: &Error) {
        tracing::debug!(%error, "the peer ended the connection");
        let reason = Error::received(
            ErrorKind::Disconnected,
            format!("the peer ended the connection: {}", error.reason()),
            error.trace().to_owned(),
            error.details().map(|(id, data)| (id, data.to_vec())).collect(),
        );
        self.disconnect(reason);
    }

    // ---- Level 0

    fn receive_bootstrap(&mut self, bootstrap: wire::Bootstrap) -> Result<(), Abort> {
        let id = AnswerId(bootstrap.question);
        let cell = self.begin_answer(id, answer::ResultsTo::Caller, Hint::None)?;
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
                let object = Payload::received(object, Carrier::Bootstrap, Vec::new());
                let (interface, method) = RESTORE;
                let request = CallRequest {
                    interface,
                    method,
                    params: object,
                    cell,
                    permit: None,
                    tail: Tail::No,
                };
                Effect::Deliver(Route::Client(restorer.clone()), Delivery::Call(request))
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

    fn receive_call(&mut self, call: wire::Call) -> Result<(), Abort> {
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
        // Target and parameters are looked up before the call's own answer exists: a
        // call cannot be pipelined on itself, nor be given what it is to return.
        let target = match &call.target {
            Target::ImportedCap(export) => self.export_place(*export).ok_or_else(|| {
                Abort::new(format!("Call to export {export}, which does not exist"))
            })?,
            Target::PromisedAnswer(answer) => self
                .field_place(answer)
                .unwrap_or_else(|error| Place::client(Client::broken(error))),
            Target::Unknown => Place::client(Client::broken(Error::unimplemented(
                "the call's target is of a kind that is not known here",
            ))),
        };
        let params = self.receive_content(call.params, Carrier::Call)?;
        let words = params.size_in_words() as u64;
        let cell = self.begin_answer(id, results_to, call.hint)?;
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
    fn begin_answer(
        &mut self,
        id: AnswerId,
        results_to: answer::ResultsTo,
        hint: Hint,
    ) -> Result<Arc<CallCell>, Abort> {
        if self.machine.answers.contains(id) {
            return Err(Abort::new(format!("question {id} is asked while it is outstanding")));
        }
        if self.machine.answers.len() >= self.limits().answers as usize {
            return Err(Abort(Error::overloaded(format!(
                "more than {} calls are outstanding; finish some first",
                self.limits().answers
            ))));
        }
        let serial = self.serial();
        let machine = Arc::downgrade(self.machine);
        let sink = match results_to {
            answer::ResultsTo::Caller => Sink::Answer(machine as _, id, serial),
            answer::ResultsTo::Yourself | answer::ResultsTo::Taken => {
                Sink::Redirected(machine as _, id, serial)
            }
        };
        let (cell, interest) = CallCell::new(sink, hint);
        self.machine.answers.insert(
            id,
            Answer {
                serial,
                cell: Arc::clone(&cell),
                interest: Some(interest),
                state: answer::State::Running,
                results_to,
            },
        );
        Ok(cell)
    }

    fn receive_content(
        &mut self,
        content: wire::Content,
        carrier: Carrier,
    ) -> Result<Payload, Abort> {
        let named = self.import_all(&content.caps)?.into_iter();
        let caps = named.map(|named| self.reference(named)).collect();
        Ok(Payload::received(content.frame, carrier, caps))
    }

    fn receive_return(&mut self, ret: wire::Return) -> Result<(), Abort> {
        let machine = self.machine;
        let id = QuestionId(ret.answer);
        if id.is_pipeline_only() {
            return self.receive_unwanted_return(id, &ret);
        }
        let entry = machine.questions.with(id, |entry| {
            let state = std::mem::replace(&mut entry.state, question::State::Returned);
            (state, entry.permit.take())
        });
        let (state, permit) = entry.map_or((None, None), |(state, permit)| (Some(state), permit));
        drop(permit);
        match state {
            None => Err(Abort::new(format!("Return for question {id}, which was not asked"))),
            Some(question::State::Returned) => {
                Err(Abort::new(format!("a second Return for question {id}")))
            }
            Some(question::State::Finished { params }) => {
                // The Finish of this side gave up the results, whatever they are. If
                // they are those of a call that came back to this side, that call is no
                // longer wanted either; the peer may have finished it already.
                if let wire::ReturnKind::TakeFromOtherQuestion(other) = ret.outcome
                    && let Ok(interest) = self.take_answer(AnswerId(other))
                {
                    self.effect(Effect::drop(interest));
                }
                self.release_params(ret.release_params, &params)?;
                self.forget_question(id);
                Ok(())
            }
            Some(question::State::Asked(asked)) => {
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
                    self.settle_with(*asked, Err(error));
                    return Err(abort);
                }
                if ret.no_finish_needed {
                    self.forget_question(id);
                }
                // Otherwise the Finish follows when the last reference is dropped,
                // which usually has just happened.
                Ok(())
            }
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
                tracing::debug!(question = %id, %error, "a call failed at the peer");
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
        let wire::Content { frame, caps } = content;
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
                            Named::Ours(_) => None,
                        };
                        let ours = matches!(place, Named::Ours(_));
                        let dest = || {
                            wire::Target::PromisedAnswer(wire::PromisedAnswer {
                                question: id.0,
                                path: Some(path.clone()),
                            })
                        };
                        let target = self.settled_target(place, field.called, dest);
                        field.give_up_place(hosted.unwrap_or_else(|| target.clone()));
                        *named = if ours {
                            Named::Ours(Place::client(target.clone()))
                        } else {
                            Named::Theirs(target.clone())
                        };
                        target
                    }
                    None => field.give_up_place(Client::null()),
                },
            };
            self.resolve_node(field.node.upgrade(), target);
        }
        if let Some(cell) = asked.cell {
            let caps = named.into_iter().map(|named| self.reference_at_once(named)).collect();
            self.complete(cell, Ok(payload.with_caps(caps)));
        }
        Ok(())
    }

    /// Settles a question with an outcome that holds no capabilities of the peer.
    pub(super) fn settle_with(&mut self, asked: Asked, outcome: Outcome) {
        for (path, field) in asked.fields {
            let target = field.give_up_place(cap_of(&outcome, &path));
            self.resolve_node(field.node.upgrade(), target);
        }
        if let Some(cell) = asked.cell {
            self.complete(cell, outcome);
        }
    }

    /// Takes over the peer's interest in the outcome of a call that it made to this
    /// side.
    fn take_answer(&mut self, id: AnswerId) -> Result<Arc<Interest>, Abort> {
        let taken = self.machine.answers.with(id, |entry| match entry.results_to {
            answer::ResultsTo::Yourself => {
                entry.results_to = answer::ResultsTo::Taken;
                // The peer need not finish its question when this side's question ends,
                // so its question must not keep the call alive.
                entry.interest.take().ok_or("has been taken before")
            }
            answer::ResultsTo::Caller => Err("was not called with sendResultsTo.yourself"),
            answer::ResultsTo::Taken => Err("has been taken before"),
        });
        taken
            .unwrap_or(Err("is not outstanding"))
            .map_err(|why| Abort::new(format!("takeFromOtherQuestion: question {id} {why}")))
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
            let place = Named::Ours(Place::field(interest.cell(), &path));
            let dest = || {
                wire::Target::PromisedAnswer(wire::PromisedAnswer {
                    question: id.0,
                    path: Some(path.clone()),
                })
            };
            let target = self.settled_target(place, field.called, dest);
            field.give_up_place(target.clone());
            fields.insert(path, target.clone());
            self.resolve_node(node, target);
        }
        if let Some(cell) = asked.cell {
            cell.will_take(fields);
            self.take_over(cell, interest);
        }
        Ok(())
    }

    fn receive_finish(&mut self, finish: &wire::Finish) -> Result<(), Abort> {
        let id = AnswerId(finish.question);
        // Some peers finish even a question that needs no Finish.
        let Some(entry) = self.machine.answers.remove(id) else { return Ok(()) };
        if finish.early_cancellation_workaround {
            self.let_arrive(&entry.cell);
        }
        let result = match &entry.state {
            answer::State::Running if entry.cell.hint() == Hint::OnlyPipeline => Ok(()),
            answer::State::Running => {
                let outcome = match entry.results_to {
                    answer::ResultsTo::Caller => wire::ReturnKind::Canceled,
                    // A peer that asked this side to keep the results expects this
                    // Return.
                    answer::ResultsTo::Yourself | answer::ResultsTo::Taken => {
                        wire::ReturnKind::ResultsSentElsewhere
                    }
                };
                self.send(wire::Message::Return(wire::Return {
                    answer: id.0,
                    release_params: false,
                    no_finish_needed: false,
                    outcome,
                }));
                Ok(())
            }
            answer::State::Returned { exports } if finish.release_results => {
                exports.iter().try_for_each(|export| self.release_export(*export, 1))
            }
            answer::State::Returned { .. } => Ok(()),
        };
        self.effect(Effect::drop(entry));
        result
    }

    // ---- Level 1

    fn receive_resolve(&mut self, resolve: wire::Resolve) -> Result<(), Abort> {
        let machine = self.machine;
        let id = ImportId(resolve.promise);
        let before = machine.imports.with(id, |import| match &mut import.kind {
            import::Kind::Settled => {
                Err(Abort::new(format!("Resolve of {id}, which is no promise")))
            }
            import::Kind::Promised { resolution: Resolution::Resolved, .. } => {
                Err(Abort::new(format!("a second Resolve of promise {id}")))
            }
            import::Kind::Promised { node, resolution, .. } => match *resolution {
                Resolution::Resolved => Err(Abort::new("a second Resolve")),
                Resolution::Pending { called } => {
                    *resolution = Resolution::Resolved;
                    Ok((node.upgrade(), called))
                }
            },
        });
        if let Ok(Descriptor::None) = resolve.resolution {
            return Err(Abort::new(format!("Resolve of promise {id} to `none`")));
        }
        let (node, called) = match before {
            Some(before) => before?,
            None => (None, false),
        };
        let target = match resolve.resolution {
            Err(error) => Client::broken(error),
            Ok(descriptor) => {
                // The target is looked up even if it is not wanted, because this side
                // has to release its references.
                let named = self.import(&descriptor, 0)?;
                let dest = || wire::Target::ImportedCap(id.0);
                self.settled_target(named, called && node.is_some(), dest)
            }
        };
        self.resolve_node(node, target);
        Ok(())
    }

    /// What a promise of the peer resolves to: the capability that the peer named, or
    /// an embargo in front of it. See Note [embargo].
    fn settled_target(
        &mut self,
        named: Named,
        called: bool,
        promise: impl FnOnce() -> wire::Target,
    ) -> Client {
        let mut named = named;
        let target = match &mut named {
            Named::Theirs(client) => client.shortened(),
            Named::Ours(place) => self.settled_now(place).shortened(),
        };
        let promise = promise();
        if let View::Pinned(pinned) = self.view(&target)
            && *pinned.target() == promise
        {
            // See Note [cycles]. This holds even if the promise is no longer referred
            // to.
            let broken = Client::broken(Error::failed("a promise was resolved to itself"));
            pinned.give_up(broken.clone());
            return broken;
        }
        if !called {
            return self.reference_at_once(named);
        }
        let way = match (named, self.view(&target)) {
            (_, View::Null | View::Broken(_))
            | (Named::Theirs(_), View::Import(_) | View::Pinned(_)) => return target,
            (Named::Theirs(_), View::Remote(next)) => {
                // From one promise of the peer to the next: what was sent through the
                // first one counts for the second one.
                if let Err(dest) = next.location() {
                    self.mark_called(&dest);
                }
                return target;
            }
            // Either this side hosts the target, or the promise that the peer named has
            // already resolved to a capability of this side. In the end the embargo
            // leads to the path that the earlier calls took when they came back, even
            // if a shorter one is known by then: see Note [described path].
            (Named::Theirs(client), _) => Place::client(client),
            (Named::Ours(place), _) => place,
        };
        self.embargo(way, promise)
    }

    fn embargo(&mut self, mut target: Place, promise: wire::Target) -> Client {
        if self.machine.embargoes.len() >= self.limits().embargoes as usize {
            return Client::broken(Error::overloaded(format!(
                "more than {} promises wait for their embargo; raise Limits::embargoes",
                self.limits().embargoes
            )));
        }
        let Some(id) = self.order.embargo_ids.allocate() else {
            return Client::broken(Error::overloaded("no embargo id is free"));
        };
        let ahead = self.settled_now(&mut target);
        let gate = LocalPromise::before_embargoed(Arc::downgrade(self.machine) as _, ahead);
        self.machine
            .embargoes
            .insert(EmbargoId(id), Embargo { promise: Arc::clone(&gate), target });
        self.send(wire::Message::Disembargo(wire::Disembargo {
            target: promise,
            context: Context::SenderLoopback(id),
        }));
        Client::of(gate)
    }

    fn receive_disembargo(&mut self, disembargo: &wire::Disembargo) -> Result<(), Abort> {
        match disembargo.context {
            Context::ReceiverLoopback(id) => {
                let embargo = self.machine.embargoes.remove(EmbargoId(id)).ok_or_else(|| {
                    Abort::new(format!("Disembargo for embargo {id}, which does not exist"))
                })?;
                self.order.embargo_ids.release(id);
                self.lift(embargo.promise, embargo.target);
                Ok(())
            }
            Context::SenderLoopback(embargo) => {
                let target = match &disembargo.target {
                    Target::ImportedCap(id) => self.export_place(*id).ok_or_else(|| {
                        Abort::new(format!("Disembargo of export {id}, which does not exist"))
                    })?,
                    Target::PromisedAnswer(answer) => self
                        .field_place(answer)
                        .map_err(|error| Abort::new(format!("Disembargo: {}", error.reason())))?,
                    Target::Unknown => {
                        return Err(Abort(Error::unimplemented(
                            "Disembargo of a target that is not known here",
                        )));
                    }
                };
                let echo = Echo::new(Arc::clone(self.machine) as _, embargo);
                self.hand_over(target, Delivery::Disembargo(echo), 0);
                if self.machine.embargoes.len() > 0 {
                    // It may wait for what this Disembargo ends: Note [flow limit].
                    self.deliver_all_held();
                }
                Ok(())
            }
            Context::Unknown => Ok(()),
        }
    }

    /// Resolves a promise of the peer, unless nothing refers to it any more.
    pub(super) fn resolve_node(&mut self, node: Option<Arc<RemotePromise>>, target: Client) {
        if let Some(node) = node {
            self.effects.extend(node.resolve(target));
        }
    }

    /// Settles a call, as a step of this transaction.
    pub(super) fn complete(&mut self, cell: Arc<CallCell>, outcome: Outcome) {
        if cell.begin_completion(outcome) {
            self.effect(Effect::FinishCompletion(cell));
        }
    }
}
