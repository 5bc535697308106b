//! Calls whose outcome is that of another call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{CallCell, Change, Demand, Early, Interest, Phase, Queue, WhenDone};
use crate::cap::client::Client;
use crate::cap::crossing::Crossing;
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::LocalPromise;
use crate::cap::payload::Outcome;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::wire::Path;

/// Maximum length of a chain of calls that wait for each other. A longer one is taken
/// for a circle.
const MAX_WAITS: usize = 1 << 16;

impl CallCell {
    /// Records that the question was answered with a reference to another call, which
    /// [`take_from`](Self::take_from) will name. `fields` are those that were asked for
    /// before. For use under the order lock.
    pub(crate) fn will_take(&self, fields: BTreeMap<Path, Client>) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Asked(_)) {
            // The call was cancelled.
            drop(state);
            return drop(fields);
        }
        let early = state.early.replace(Early::Taken(fields));
        let phase = std::mem::replace(&mut state.phase, Phase::Waiting);
        drop(state);
        drop((early, phase));
    }

    /// Makes the outcome of `other` the outcome of this call, too, as announced by
    /// [`will_take`](Self::will_take).
    ///
    /// Must not be called under a lock.
    pub(crate) fn take_from(self: &Arc<Self>, other: Interest) {
        self.take_changed(other, Change::Taken);
    }

    fn taken_fields(&self) -> BTreeMap<Path, Client> {
        match &self.state.lock().early {
            Some(Early::Taken(fields)) => fields.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Makes this call the counterpart of `other` on its side of a membrane: its
    /// outcome is that of `other`, and calls that are pipelined on it go to the fields
    /// of `other`; the capabilities in all of them cross the membrane. Returns the
    /// fields that must be handed over by [`hand_over_across`](Self::hand_over_across)
    /// once `other` is on its way.
    ///
    /// Must not be called under a lock.
    pub(crate) fn take_across(
        self: &Arc<Self>,
        other: Interest,
        crossing: &Crossing,
    ) -> Vec<(Path, Arc<LocalPromise>)> {
        let cell = Arc::clone(other.cell());
        if !self.is_undecided() {
            // The other call ends with this one, and not before: Note [deadlines].
            cell.is_up_to_the_caller(self.deadline().map_or(Deadline::NEVER, Deadline::at));
        }
        let mut fields = Vec::new();
        {
            let mut state = self.state.lock();
            if state.early.is_none() && matches!(state.phase, Phase::Waiting) {
                state.early = Some(Early::Behind(Arc::downgrade(&cell), crossing.clone()));
                // The fields stay in the map, so that they are found while they hand
                // over what they queued.
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

    /// Resolves fields of this call to those of `other`. The fields of `other` are made
    /// only now, because a call without fields gets into a queue faster.
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
        // This is deferred: calls may wait in the fields of calls that wait in these
        // fields, and so on.
        effects::defer(Effect::ResolveFields(Arc::clone(self), fields));
    }

    fn take_changed(self: &Arc<Self>, other: Interest, change: Change) {
        let cell = Arc::clone(other.cell());
        let mut state = self.state.lock();
        if state.demand == Demand::Wanted && matches!(state.phase, Phase::Waiting) {
            state.taken_from = Some(other);
            drop(state);
        } else {
            // This call is not wanted, so neither is the other one.
            drop(state);
            drop(other);
        }
        // See Note [cycles]: the wait was published first. A circle would keep itself
        // alive for ever.
        if cell.comes_from(self) {
            return self.complete(Err(Error::failed("a call was answered with its own outcome")));
        }
        cell.watch(WhenDone::Call(Arc::clone(self), change));
    }

    /// Whether this call, which waits in the queue of `promise`, waits there for
    /// its own outcome: a circle, which would keep itself alive for ever.
    pub(crate) fn waits_for_itself(self: &Arc<Self>, promise: &LocalPromise) -> bool {
        // Most calls have no field yet when they get into a queue.
        let has_fields = self.state.lock().has_fields();
        has_fields && promise.parent().is_some_and(|parent| parent.comes_from(self))
    }

    /// Whether the outcome of this call is that of `end`, or cannot come before it,
    /// directly or through other calls.
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
                    Some(_) | None => None,
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
    /// Turns the outcome of the other call into that of `cell`.
    pub(super) fn of(self, outcome: &Outcome, cell: &CallCell) -> Outcome {
        match self {
            Change::Taken => with_fields(outcome, cell.taken_fields()),
            Change::Crossing(crossing) => crossing.outcome(outcome),
        }
    }
}

/// The outcome with other capabilities in place of those in some fields. If several
/// fields hold the same capability, the replacement waits for all of theirs.
fn with_fields(outcome: &Outcome, fields: BTreeMap<Path, Client>) -> Outcome {
    let payload = outcome.clone()?;
    if fields.is_empty() {
        return Ok(payload);
    }
    let mut caps = payload.caps().to_vec();
    let mut replaced = BTreeSet::new();
    for (path, client) in fields {
        // If the field holds no capability, calls through it fail by themselves.
        if let Ok(Some(index)) = payload.cap_index_at(&path)
            && let Some(cap) = caps.get_mut(index)
        {
            *cap = if replaced.insert(index) { client } else { client.behind(cap.clone()) };
        }
    }
    Ok(payload.with_caps(caps))
}
