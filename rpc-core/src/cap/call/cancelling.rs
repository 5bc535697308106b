//! How calls are cancelled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Arrival, CallCell, Demand, Early, Phase, Queue, Sink};
use crate::cap::connection::Connection;
use crate::cap::delivery::cancelled;
use crate::cap::effects::{self, Effect};
use crate::error::Error;
use crate::sync::atomic::Ordering;
use crate::work::executor::{Executor, Job};
use crate::work::interrupt::Scope;

/// Whether the method of a call that has reached its object may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    Wanted,
    Cancelled,
}

impl CallCell {
    /// Whether the caller has lost interest.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.lock().demand == Demand::Cancelled
    }

    /// As [`is_cancelled`](Self::is_cancelled), without a lock.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Whether the call need not reach its object any more.
    pub(crate) fn is_unwanted(&self) -> bool {
        if !self.was_cancelled() {
            return false;
        }
        let state = self.state.lock();
        state.demand == Demand::Cancelled && state.arrival == Arrival::IfWanted
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
            (Demand::Wanted, Phase::Waiting | Phase::Asked(_) | Phase::Redirected(_)) => {
                state.on_cancel.push((executor, closure));
            }
            (Demand::Wanted, _) => {
                drop(state);
                effects::defer(Effect::drop_foreign(closure));
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

    /// Cancels the call: its outcome is no longer wanted.
    ///
    /// Must not be called under a lock.
    pub(crate) fn cancel(self: &Arc<Self>) {
        self.end(None);
    }

    /// Cancels the call and, if there is an error, fails it with that.
    pub(super) fn end(self: &Arc<Self>, error: Option<Error>) {
        let mut state = self.state.lock();
        // The peer lets go of a call as soon as it has the Return, which says what is at the
        // places of the fields. So the call was not cancelled before that was said.
        if matches!(state.phase, Phase::Completing(_) | Phase::Done(_)) {
            return;
        }
        state.demand = Demand::Cancelled;
        self.cancelled.store(true, Ordering::SeqCst);
        let question = match &state.phase {
            Phase::Asked(_) | Phase::Redirected(_) => {
                Some(std::mem::replace(&mut state.phase, Phase::Waiting))
            }
            _ => None,
        };
        let queue = match state.arrival {
            Arrival::IfWanted => state.queued_in.take(),
            Arrival::InAnyCase => None,
        };
        let hooks = std::mem::take(&mut state.on_cancel);
        let taken_from = state.taken_from.take();
        // These fields may keep the other call from being cancelled.
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
        if question.is_some() || error.is_some() {
            let error = error.unwrap_or_else(cancelled);
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
            Some((Queue::Mailbox(mailbox), place)) => {
                if let Some(mailbox) = mailbox.upgrade() {
                    mailbox.withdraw(self.origin, place);
                }
            }
            Some((Queue::Delayed(site), place)) => {
                if let Some(site) = site.upgrade() {
                    site.withdraw(place);
                }
            }
            Some((Queue::Other(queue), place)) => {
                if let Some(queue) = queue.upgrade() {
                    queue.withdraw(place);
                }
            }
            None => {}
        }
        for (executor, hook) in hooks {
            effects::spawn_or_run(&*executor, hook);
        }
    }

    /// Records that the call is about to wait in a queue, at this place.
    pub(crate) fn queued_in(&self, queue: Queue, place: u64) {
        let before = self.state.lock().queued_in.replace((queue, place));
        drop(before);
    }

    /// If the call waits for its turn to reach its object, makes it stay in its queue
    /// even if it is cancelled. Returns whether it does.
    pub(crate) fn arrives_in_any_case(&self) -> bool {
        let in_mailbox = match &self.state.lock().queued_in {
            Some((Queue::Held(_) | Queue::Delayed(_), _)) => None,
            Some((Queue::Mailbox(object), place)) => Some((object.upgrade(), *place)),
            _ => return false,
        };
        // Afterwards it may begin at any time, which is no harm.
        let waits = in_mailbox.is_none_or(|(object, place)| {
            object.is_some_and(|object| object.waits(self.origin, place))
        });
        if waits {
            self.state.lock().arrival = Arrival::InAnyCase;
        }
        waits
    }

    /// Lets a cancelled call that would have [arrived in any
    /// case](Self::arrives_in_any_case) leave its queue.
    ///
    /// Must not be called under a lock.
    pub(crate) fn need_not_arrive(self: &Arc<Self>) {
        self.state.lock().arrival = Arrival::IfWanted;
        self.cancel();
    }

    /// Records that the call has left the queue in which it waited.
    pub(crate) fn left_queue(&self) {
        let left = self.state.lock().queued_in.take();
        drop(left);
    }

    /// Finds out whether the method of a call that has left the mailbox of its object may begin.
    /// From then on, cancelling the call does not stop the method.
    pub(crate) fn begin(&self) -> Begun {
        if self.is_unwanted() { Begun::Cancelled } else { Begun::Wanted }
    }

    // ---- The flow limit

    /// Records that the call was delivered and counts as `words` words until it is
    /// over.
    pub(crate) fn counts_as(&self, words: u64) {
        self.words.store(words, Ordering::SeqCst);
    }

    /// Ends the call as far as the flow limit is concerned.
    pub(crate) fn no_longer_counts(&self) {
        self.no_longer_counts_on(None);
    }

    /// As [`no_longer_counts`](Self::no_longer_counts), with the connection over which the call
    /// came, if that is at hand.
    pub(super) fn no_longer_counts_on(&self, at_hand: Option<Arc<dyn Connection>>) {
        if self.words.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Of several threads, one gives them back.
        let words = self.words.swap(0, Ordering::SeqCst);
        if words > 0
            && let Sink::Answer(connection, ..) | Sink::Redirected(connection, ..) = &self.sink
            && let Some(connection) = at_hand.or_else(|| connection.upgrade())
        {
            connection.call_is_over(words);
        }
    }
}
