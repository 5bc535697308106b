//! Calls whose outcome is that of another call.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{CallCell, Change, Demand, Early, Interest, Phase, Queue, Watcher};
use crate::cap::client::Client;
use crate::cap::crossing::Crossing;
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::LocalPromise;
use crate::cap::payload::Outcome;
use crate::error::Error;
use crate::wire::Path;

/// The most calls that one may wait for, one behind the other, before that is
/// taken for a circle.
const MAX_WAITS: usize = 1 << 16;

impl CallCell {
    /// Makes the outcome of `other` this call's, too, but for the capabilities in
    /// `fields`, which take the place of those that are there.
    ///
    /// Must not be called under a lock.
    pub(crate) fn take_from(self: &Arc<Self>, other: Arc<Interest>, fields: Vec<(Path, Client)>) {
        self.take_changed(other, Change::Fields(fields));
    }

    /// Makes this call the same as `other`, on its side of a membrane: its outcome
    /// is that of `other`, and calls that are pipelined on it go to the fields of
    /// `other`, all of it with what it carries across. Returns the fields that must
    /// be handed over by [`hand_over_across`](Self::hand_over_across) when `other`
    /// is on its way.
    ///
    /// Must not be called under a lock.
    pub(crate) fn take_across(
        self: &Arc<Self>,
        other: Arc<Interest>,
        crossing: &Crossing,
    ) -> Vec<(Path, Arc<LocalPromise>)> {
        let cell = Arc::clone(other.cell());
        let mut fields = Vec::new();
        {
            let mut state = self.state.lock();
            if state.early.is_none() && matches!(state.phase, Phase::Waiting) {
                state.early = Some(Early::Behind(Arc::downgrade(&cell), crossing.clone()));
                // Found as long as they hand over what they queued.
                let known = state.fields.iter();
                fields = known
                    .filter_map(|(path, field)| Some((path.clone(), field.upgrade()?)))
                    .collect();
                if !fields.is_empty() {
                    state.handovers += 1;
                }
            }
        }
        self.take_changed(other, Change::Crossing(crossing.clone()));
        fields
    }

    /// Resolves fields of this call to those of `other`. They are asked for only
    /// now: a call without fields gets into a queue faster.
    pub(crate) fn hand_over_across(
        self: &Arc<Self>,
        fields: Vec<(Path, Arc<LocalPromise>)>,
        other: &Arc<CallCell>,
        crossing: &Crossing,
    ) {
        if fields.is_empty() {
            return;
        }
        let fields = fields.into_iter();
        let fields =
            fields.map(|(path, field)| (field, crossing.client(&other.pipelined(&path)))).collect();
        // Not right here: calls may wait in the fields of those that wait in these,
        // and so on.
        effects::defer(Effect::ResolveFields(Arc::clone(self), fields));
    }

    fn take_changed(self: &Arc<Self>, other: Arc<Interest>, change: Change) {
        let cell = Arc::clone(other.cell());
        let mut state = self.state.lock();
        if state.demand == Demand::Wanted && matches!(state.phase, Phase::Waiting) {
            state.taken_from = Some(other);
            drop(state);
        } else {
            // Nobody wants it: nor do we want the other one.
            drop(state);
            drop(other);
        }
        // See Note [cycles]: it was published first. A circle would keep itself
        // alive for ever.
        if cell.comes_from(self) {
            return self.complete(Err(Error::failed("a call was answered with its own outcome")));
        }
        cell.watch(Watcher::Call(Arc::clone(self), change));
    }

    /// Whether this call, which waits in the queue of `promise`, waits there for
    /// its own outcome: a circle, which would keep itself alive for ever.
    pub(crate) fn waits_for_itself(self: &Arc<Self>, promise: &LocalPromise) -> bool {
        // Most calls have no field yet when they get into a queue.
        let has_fields = self.state.lock().has_fields();
        has_fields && promise.parent().is_some_and(|parent| parent.comes_from(self))
    }

    /// Whether the outcome of this call is, or cannot come before, that of `end`,
    /// over any number of others.
    fn comes_from(self: &Arc<Self>, end: &Arc<Self>) -> bool {
        let mut cell = Arc::clone(self);
        for _ in 0..MAX_WAITS {
            if Arc::ptr_eq(&cell, end) {
                return true;
            }
            let (taken_from, queue) = {
                let state = cell.state.lock();
                let taken_from = state.taken_from.as_ref().map(|other| Arc::clone(other.cell()));
                let queue = match &state.queued_in {
                    Some((Queue::Promise(promise), _)) => promise.upgrade(),
                    Some((Queue::Held(_), _)) | None => None,
                };
                (taken_from, queue)
            };
            match taken_from.or_else(|| queue?.parent()) {
                Some(next) => cell = next,
                None => return false,
            }
        }
        true
    }
}

impl Change {
    /// What the outcome of the one call is as that of the other.
    pub(super) fn of(self, outcome: &Outcome) -> Outcome {
        match self {
            Change::Fields(fields) => with_fields(outcome, fields),
            Change::Crossing(crossing) => crossing.outcome(outcome),
        }
    }
}

/// The outcome with other capabilities in place of those in some fields. Where
/// several of these are one capability, it is behind all of them.
fn with_fields(outcome: &Outcome, fields: Vec<(Path, Client)>) -> Outcome {
    let payload = outcome.clone()?;
    if fields.is_empty() {
        return Ok(payload);
    }
    let mut caps = payload.caps().to_vec();
    let mut replaced = BTreeSet::new();
    for (path, client) in fields {
        // Where there is none, calls through the field fail by themselves.
        if let Ok(Some(index)) = payload.cap_index_at(&path)
            && let Some(cap) = caps.get_mut(index)
        {
            *cap = if replaced.insert(index) { client } else { client.behind(cap.clone()) };
        }
    }
    Ok(payload.with_caps(caps))
}
