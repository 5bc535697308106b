//! Pipelining: calls on capabilities that a call is going to return.

use std::sync::{Arc, Weak};

use super::{CallCell, Demand, Early, Elsewhere, Phase, State, WhenDone};
use crate::cap::client::Client;
use crate::cap::connection::Question;
use crate::cap::delivery::{Tail, cancelled};
use crate::cap::local_promise::LocalPromise;
use crate::cap::payload::{Payload, cap_of};
use crate::cap::spans;
use crate::error::Error;
use crate::wire::{Hint, Path};

/// What has to be done for a call that leaves as a question.
pub(crate) enum Departure<Q> {
    /// It is no longer wanted, and does not leave.
    Unwanted,
    /// Nothing.
    Alone,
    /// These fields must now be resolved to those of the question, by
    /// [`Effect::ResolveFields`](crate::cap::effects::Effect::ResolveFields).
    WithFields(Arc<Q>, Vec<(Path, Arc<LocalPromise>)>),
}

impl CallCell {
    /// The capability at the end of `path` in the results, now or later. The
    /// same path gives the same capability every time.
    ///
    /// Must not be called under a lock.
    pub(crate) fn pipelined(self: &Arc<Self>, path: &[u16]) -> Client {
        let mut cell = Arc::clone(self);
        let mut crossings = Vec::new();
        let mut asked = None::<Arc<dyn Question>>;
        let mut client = loop {
            match cell.pipelined_here(path) {
                Ok(client) => break client,
                Err(Elsewhere::Question(question)) => {
                    if let Some(client) = Arc::clone(&question).field(path) {
                        break client;
                    }
                    // The question's Return came in between, and the phase has changed. If
                    // it has not, the question has ended without a word to this call.
                    if asked.as_ref().is_some_and(|asked| Arc::ptr_eq(asked, &question)) {
                        let gone = "the results that it is a part of are gone";
                        break Client::broken(Error::disconnected(gone));
                    }
                    asked = Some(question);
                }
                Err(Elsewhere::Behind(other, crossing)) => {
                    crossings.push(crossing);
                    cell = other;
                }
            }
        };
        while let Some(crossing) = crossings.pop() {
            client = crossing.client(&client);
        }
        client
    }

    /// As [`pipelined`](Self::pipelined), but gives up if it would need another lock
    /// than this call's own. For use under an order lock.
    pub(crate) fn pipelined_here(self: &Arc<Self>, path: &[u16]) -> Result<Client, Elsewhere> {
        let parent = self.interest();
        let mut state = self.state.lock();
        let outcome = match &state.phase {
            Phase::Completing(outcome) | Phase::Done(outcome) => outcome.clone(),
            Phase::Waiting | Phase::Asked(_) | Phase::Redirected(_) | Phase::Returning(..) => {
                if self.hint == Hint::NoPipelining {
                    return Ok(Client::broken(not_pipelined()));
                }
                if let Some(Early::Taken(fields)) = &state.early
                    && let Some(client) = fields.get(path)
                {
                    return Ok(client.clone());
                }
                if let Some(field) = state.fields.get(path).and_then(Weak::upgrade) {
                    return Ok(Client::of(field));
                }
                match (&state.phase, &state.early) {
                    (Phase::Asked(question) | Phase::Redirected(question), _) => {
                        return Err(Elsewhere::Question(Arc::clone(question)));
                    }
                    (Phase::Returning(outcome, _), _) => outcome.clone(),
                    (_, Some(Early::Given(early))) => Ok(early.clone()),
                    (_, Some(Early::Behind(cell, crossing))) => match cell.upgrade() {
                        Some(cell) => return Err(Elsewhere::Behind(cell, crossing.clone())),
                        None => Err(cancelled()),
                    },
                    (_, None | Some(Early::Taken(_))) => {
                        let field = LocalPromise::new(parent);
                        state.add_field(path, &field);
                        return Ok(Client::of(field));
                    }
                }
            }
        };
        drop(state);
        Ok(cap_of(&outcome, path))
    }

    /// Gives the pipeline out before the outcome is known: pipelined calls that wait
    /// and those to come go to the capabilities in `payload`. Only the first pipeline
    /// counts, and only before the outcome.
    ///
    /// Must not be called under a lock.
    pub(crate) fn set_pipeline(&self, payload: Payload) {
        let fields: Vec<_> = {
            let mut state = self.state.lock();
            if state.early.is_some() || !matches!(state.phase, Phase::Waiting) {
                drop(state);
                drop(payload);
                return;
            }
            state.early = Some(Early::Given(payload.clone()));
            let fields = std::mem::take(&mut state.fields);
            // The fields stay in the map, so that they are found while they hand over
            // what they queued.
            let live: Vec<_> = fields
                .into_iter()
                .filter_map(|(path, field)| Some((path, field.upgrade()?)))
                .collect();
            state.fields =
                live.iter().map(|(path, field)| (path.clone(), Arc::downgrade(field))).collect();
            live
        };
        let outcome = Ok(payload);
        for (path, field) in fields {
            field.resolve(cap_of(&outcome, &path));
        }
    }

    /// Records that the call was sent as a question.
    ///
    /// For use under the order lock.
    pub(crate) fn asked<Q: Question + 'static>(
        &self,
        question: Arc<Q>,
        tail: Tail,
    ) -> Departure<Q> {
        let mut state = self.state.lock();
        if state.demand == Demand::Cancelled || !matches!(state.phase, Phase::Waiting) {
            drop(state);
            drop(question);
            return Departure::Unwanted;
        }
        let mut sent = None;
        for listener in &mut state.when_done {
            if let WhenDone::Span(span) = listener {
                sent = sent.or_else(|| {
                    Some((span.is_sent()?, Arc::clone(&question) as Arc<dyn Question>))
                });
            }
        }
        let fields = state.living_fields();
        let departure = if fields.is_empty() {
            Departure::Alone
        } else {
            state.handovers += 1;
            Departure::WithFields(Arc::clone(&question), fields)
        };
        state.phase = match tail {
            Tail::No => Phase::Asked(question),
            Tail::Allowed => Phase::Redirected(question),
        };
        drop(state);
        if let Some((span, question)) = sent {
            let (connection, id) = (question.connection(), question.number());
            spans::record_question(&span, connection, question.peer(), id);
        }
        departure
    }

    /// Records that the fields which [`asked`](Self::asked) gave out are resolved.
    pub(crate) fn fields_resolved(self: &Arc<Self>) {
        self.state.lock().handovers -= 1;
        self.finish_completion();
    }
}

impl State {
    pub(super) fn has_fields(&self) -> bool {
        self.fields.values().any(|field| field.strong_count() > 0)
    }

    fn add_field(&mut self, path: &[u16], field: &Arc<LocalPromise>) {
        if self.fields.len() >= self.sweep_at {
            self.fields.retain(|_, field| field.strong_count() > 0);
            self.sweep_at = (2 * self.fields.len()).max(16);
        }
        self.fields.insert(path.into(), Arc::downgrade(field));
    }
}

/// The error of a pipelined call on a call that was made without a pipeline.
fn not_pipelined() -> Error {
    Error::failed(
        "the call was made without promise pipelining: \
         wait for its results before calling what they hold",
    )
}
