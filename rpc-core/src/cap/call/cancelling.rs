//! How calls are cancelled.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::{CallCell, Demand, Early, Phase, Queue, Sink};
use crate::cap::connection::Connection;
use crate::cap::delivery::cancelled;
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::LocalPromise;
use crate::work::executor::{Executor, Job};
use crate::work::interrupt::Scope;

impl CallCell {
    /// Whether the caller has lost interest.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.lock().demand == Demand::Cancelled
    }

    /// Runs a closure when the caller loses interest; drops the closure if the call is
    /// settled first.
    pub(crate) fn on_cancel(&self, executor: Arc<dyn Executor>, closure: Job) {
        let mut state = self.state.lock();
        match (state.demand, &state.phase) {
            (Demand::Cancelled, _) => {
                drop(state);
                effects::spawn_or_run(&*executor, closure);
            }
            (Demand::Wanted, Phase::Waiting | Phase::Asked(_) | Phase::Forwarded(_)) => {
                state.on_cancel.push((executor, closure));
            }
            (Demand::Wanted, _) => {
                drop(state);
                effects::defer(Effect::drop(closure));
            }
        }
    }

    /// Makes a cancellation end the waits of the method that runs for this call, from
    /// now on. Must not be called under a lock.
    pub(crate) fn interrupts(&self, method: &Arc<Scope>) {
        let mut state = self.state.lock();
        let cancelled = state.demand == Demand::Cancelled;
        let before = state.method.replace(Arc::clone(method));
        drop(state);
        drop(before);
        if cancelled {
            method.cancel();
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Done(_))
    }

    /// Cancels the call: its outcome is no longer wanted.
    ///
    /// Must not be called under a lock.
    pub(crate) fn cancel(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Done(_)) {
            return;
        }
        state.demand = Demand::Cancelled;
        let question = match &state.phase {
            Phase::Asked(_) | Phase::Forwarded(_) => {
                Some(std::mem::replace(&mut state.phase, Phase::Waiting))
            }
            _ => None,
        };
        let queue = state.queued_in.take();
        let hooks = std::mem::take(&mut state.on_cancel);
        let taken_from = state.taken_from.take();
        // They may keep the other call from being cancelled.
        let fields = match &mut state.early {
            Some(Early::Taken(fields)) => std::mem::take(fields),
            _ => BTreeMap::new(),
        };
        let method = state.method.take();
        drop(state);
        if let Some(method) = method {
            method.cancel();
        }
        // Dropping the last reference to the question sends its Finish. Nothing else
        // would end the call, which a peer may still be able to name.
        if question.is_some() {
            let error = cancelled();
            effects::defer(Effect::Complete(Arc::clone(self), Err(error)));
        }
        drop((question, fields));
        // Calls that wait for each other's outcome form chains.
        if let Some(other) = taken_from {
            effects::defer(Effect::drop(other));
        }
        match queue {
            Some((Queue::Promise(promise), place)) => {
                if let Some(promise) = promise.upgrade() {
                    promise.withdraw(place);
                }
            }
            Some((Queue::Held(connection), place)) => {
                if let Some(connection) = connection.upgrade() {
                    connection.withdraw_held(place);
                }
            }
            None => {}
        }
        for (executor, hook) in hooks {
            effects::spawn_or_run(&*executor, hook);
        }
    }

    /// Records that the call is about to wait in a promise's queue, at this place.
    pub(crate) fn queued_in(&self, promise: &Arc<LocalPromise>, place: u64) {
        let mut state = self.state.lock();
        let before = state.queued_in.replace((Queue::Promise(Arc::downgrade(promise)), place));
        drop(state);
        drop(before);
    }

    /// Records that the call, which has just arrived, is held back at this place. For
    /// use under the order lock of its connection.
    pub(crate) fn held_by(&self, connection: Weak<dyn Connection>, place: u64) {
        let mut state = self.state.lock();
        let before = state.queued_in.replace((Queue::Held(connection), place));
        drop(state);
        drop(before);
    }

    /// If the call is held back, makes it stay at its place even if it is cancelled,
    /// and returns that place. For use under the order lock of its connection.
    pub(crate) fn goes_on_waiting(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let held = match state.queued_in.take() {
            Some(held @ (Queue::Held(_), _)) => held,
            other => {
                state.queued_in = other;
                return None;
            }
        };
        drop(state);
        Some(held.1)
    }

    /// Records that the call has left the queue in which it waited.
    pub(crate) fn left_queue(&self) {
        let left = self.state.lock().queued_in.take();
        drop(left);
    }

    // ---- The flow limit

    /// Records that the call was delivered and counts as `words` words until it is
    /// over.
    pub(crate) fn counts_as(&self, words: u64) {
        self.state.lock().words = words;
    }

    /// Ends the call as far as the flow limit is concerned.
    pub(crate) fn no_longer_counts(&self) {
        let words = std::mem::take(&mut self.state.lock().words);
        self.give_back(words);
    }

    pub(super) fn give_back(&self, words: u64) {
        if words > 0
            && let Sink::Answer(connection, ..) | Sink::Kept(connection, ..) = &self.sink
            && let Some(connection) = connection.upgrade()
        {
            connection.call_is_over(words);
        }
    }
}
