//! One call, from the moment it is made until its outcome is known.
//!
//! # State model
//!
//! ```text
//! Waiting ──sent to a peer──► Asked(question)
//!    │                           │
//!    └────────complete───────────┴──► Returning ──► Completing ──► Done
//! ```
//!
//! - **Waiting**: on its way in a queue of this process, or with an object of
//!   this process. Pipelined fields are [`LocalPromise`]s.
//! - **Asked**: a question on a connection. Pipelined fields belong to the
//!   question and calls on them go to the peer at once.
//! - **Returning**: the outcome is known, but the fields that were made while
//!   waiting may still be handing over what they queued, and a peer that waits
//!   for the outcome has not been sent its Return. New fields still queue.
//! - **Completing**: the Return is queued; the capabilities in the outcome are
//!   now what that Return described (see Note [described path]). The fields made
//!   earlier are being resolved, new ones lead straight to the results.
//! - **Done**: every call that was pipelined before is ahead of whatever comes
//!   now. Only here the waiting threads see the outcome.
//!
//! The lock is a leaf. What is taken out under it is dropped after it.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Condvar, Mutex};

use crate::client::Client;
use crate::effects::{self, Effect};
use crate::error::Error;
use crate::ids::{AnswerId, Serial};
use crate::local_promise::LocalPromise;
use crate::payload::Payload;
use crate::protocol::{Machine, QuestionRef};
use crate::runtime::{Executor, Job};
use crate::wire::Path;

/// What became of a call.
pub(crate) type Outcome = Result<Payload, Error>;

/// A call and its outcome.
pub(crate) struct CallCell {
    state: Mutex<State>,
    done: Condvar,
    sink: Sink,
    interest: OnceLock<Weak<Interest>>,
}

/// Who asked.
pub(crate) enum Sink {
    /// Somebody in this process, who reads the outcome from the cell.
    Here,
    /// A peer, who is sent a Return.
    Answer(Weak<Machine>, AnswerId, Serial),
}

struct State {
    phase: Phase,
    demand: Demand,
    /// The fields that were made in this process, by path.
    fields: Vec<(Path, Weak<LocalPromise>)>,
    /// How many batches of those are being handed over to a question's fields.
    handovers: usize,
    watchers: Vec<Watcher>,
    /// The queue in which the call waits.
    queued_in: Option<Weak<LocalPromise>>,
    on_cancel: Vec<(Arc<dyn Executor>, Job)>,
    /// The other call whose outcome will be this one's.
    taken_from: Option<Arc<Interest>>,
}

enum Phase {
    Waiting,
    Asked(Arc<QuestionRef>),
    /// The outcome is absent while one thread carries it to the next phase.
    Returning(Option<Outcome>),
    Completing(Outcome),
    Done(Outcome),
}

/// Whether anybody still wants the outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Wanted,
    Cancelled,
}

/// Who is told when a call is done.
enum Watcher {
    /// A call whose outcome is the same.
    Call(Arc<CallCell>),
    Closure(Arc<dyn Executor>, Box<dyn FnOnce(Outcome) + Send>),
    Waker(std::task::Waker),
}

/// The wish to know a call's outcome. When the last one is dropped the call is
/// cancelled.
pub(crate) struct Interest {
    cell: Arc<CallCell>,
}

impl Interest {
    pub(crate) fn cell(&self) -> &Arc<CallCell> {
        &self.cell
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.cell.cancel();
    }
}

impl CallCell {
    pub(crate) fn new(sink: Sink) -> (Arc<CallCell>, Arc<Interest>) {
        let cell = Arc::new(CallCell {
            state: Mutex::new(State {
                phase: Phase::Waiting,
                demand: Demand::Wanted,
                fields: Vec::new(),
                handovers: 0,
                watchers: Vec::new(),
                queued_in: None,
                on_cancel: Vec::new(),
                taken_from: None,
            }),
            done: Condvar::new(),
            sink,
            interest: OnceLock::new(),
        });
        let interest = Arc::new(Interest { cell: Arc::clone(&cell) });
        // The cell is new: nobody has set it before.
        let _ = cell.interest.set(Arc::downgrade(&interest));
        (cell, interest)
    }

    // ---- The outcome

    /// Settles the call. Only the first outcome counts.
    ///
    /// Must not be called under a lock.
    pub(crate) fn complete(self: &Arc<Self>, outcome: Outcome) {
        if self.begin_completion(outcome) {
            self.finish_completion();
        }
    }

    /// Settles the call, as a step of a transaction. When it returns `true`,
    /// [`finish_completion`](Self::finish_completion) must follow after the
    /// transaction.
    pub(crate) fn begin_completion(&self, outcome: Outcome) -> bool {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Waiting | Phase::Asked(_) => {
                let before = std::mem::replace(&mut state.phase, Phase::Returning(Some(outcome)));
                let hooks = std::mem::take(&mut state.on_cancel);
                let taken_from = state.taken_from.take();
                drop(state);
                drop((before, taken_from));
                if !hooks.is_empty() {
                    effects::defer(Effect::drop(hooks));
                }
                true
            }
            Phase::Returning(_) | Phase::Completing(_) | Phase::Done(_) => {
                drop(state);
                drop(outcome);
                false
            }
        }
    }

    /// Publishes the outcome: Return, then fields, then waiting threads.
    ///
    /// Must not be called under a lock.
    pub(crate) fn finish_completion(self: &Arc<Self>) {
        let outcome = {
            let mut state = self.state.lock();
            if state.handovers > 0 {
                // The last of them comes here again.
                return;
            }
            match &mut state.phase {
                Phase::Returning(outcome) => match outcome.take() {
                    Some(outcome) => outcome,
                    None => return,
                },
                _ => return,
            }
        };
        let outcome = self.send_return(outcome);
        let fields = {
            let mut state = self.state.lock();
            state.phase = Phase::Completing(outcome.clone());
            std::mem::take(&mut state.fields)
        };
        // While these drain, `pipelined` must still find them.
        let live: Vec<(Path, Arc<LocalPromise>)> =
            fields.into_iter().filter_map(|(path, field)| Some((path, field.upgrade()?))).collect();
        if !live.is_empty() {
            self.state.lock().fields =
                live.iter().map(|(path, field)| (path.clone(), Arc::downgrade(field))).collect();
            for (path, field) in &live {
                field.resolve(cap_of(&outcome, path));
            }
        }
        let (before, watchers) = {
            let mut state = self.state.lock();
            let before = std::mem::replace(&mut state.phase, Phase::Done(outcome.clone()));
            state.fields.clear();
            (before, std::mem::take(&mut state.watchers))
        };
        self.done.notify_all();
        drop(before);
        for watcher in watchers {
            watcher.notify(&outcome);
        }
    }

    /// Sends the Return if a peer asked, and tells what pipelined calls from now
    /// on find in the outcome.
    fn send_return(&self, outcome: Outcome) -> Outcome {
        match &self.sink {
            Sink::Here => outcome,
            Sink::Answer(machine, id, serial) => match machine.upgrade() {
                Some(machine) => machine.return_answer(*id, *serial, outcome),
                None => outcome,
            },
        }
    }

    /// The outcome, once it is there.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.state.lock().phase {
            Phase::Done(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }

    /// Waits for the outcome; `None` when the deadline came first.
    pub(crate) fn wait(&self, deadline: Option<std::time::Instant>) -> Option<Outcome> {
        let mut state = self.state.lock();
        loop {
            if let Phase::Done(outcome) = &state.phase {
                return Some(outcome.clone());
            }
            match deadline {
                None => self.done.wait(&mut state),
                Some(deadline) => {
                    if self.done.wait_until(&mut state, deadline).timed_out() {
                        return match &state.phase {
                            Phase::Done(outcome) => Some(outcome.clone()),
                            _ => None,
                        };
                    }
                }
            }
        }
    }

    /// Runs a closure with the outcome, on `executor`.
    pub(crate) fn on_done(
        &self,
        executor: Arc<dyn Executor>,
        closure: Box<dyn FnOnce(Outcome) + Send>,
    ) {
        self.watch(Watcher::Closure(executor, closure));
    }

    /// Wakes a task when the outcome is there.
    pub(crate) fn wake_on_done(&self, waker: std::task::Waker) {
        self.watch(Watcher::Waker(waker));
    }

    fn watch(&self, watcher: Watcher) {
        let mut state = self.state.lock();
        if let Phase::Done(outcome) = &state.phase {
            let outcome = outcome.clone();
            drop(state);
            watcher.notify(&outcome);
        } else {
            state.watchers.push(watcher);
        }
    }

    /// Makes the outcome of `other` this call's, too.
    pub(crate) fn take_from(self: &Arc<Self>, other: Arc<Interest>) {
        let cell = Arc::clone(other.cell());
        {
            let mut state = self.state.lock();
            if state.demand == Demand::Wanted {
                state.taken_from = Some(other);
            } else {
                // Nobody wants it: nor do we want the other one.
                drop(state);
                drop(other);
            }
        }
        cell.watch(Watcher::Call(Arc::clone(self)));
    }

    // ---- Pipelining

    /// The capability at the end of `path` in the results, now or later. The
    /// same path gives the same capability every time.
    ///
    /// Must not be called under a lock.
    pub(crate) fn pipelined(self: &Arc<Self>, path: &[u16]) -> Client {
        loop {
            let question = match self.pipelined_here(path) {
                Ok(client) => return client,
                Err(question) => question,
            };
            let field = question.machine().transact(|txn| txn.question_field(&question, path));
            // Otherwise its Return came in between, and the phase has changed.
            if let Some(client) = field {
                return client;
            }
        }
    }

    /// As [`pipelined`](Self::pipelined), but gives up with the question when
    /// only its connection can tell. For use under an order lock.
    pub(crate) fn pipelined_here(
        self: &Arc<Self>,
        path: &[u16],
    ) -> Result<Client, Arc<QuestionRef>> {
        let parent = self.interest.get().and_then(Weak::upgrade);
        let mut state = self.state.lock();
        let existing = state.field(path);
        let client = match (&state.phase, existing) {
            (Phase::Asked(question), _) => Err(Arc::clone(question)),
            (_, Some(field)) => Ok(Client::from_promise(field)),
            (Phase::Waiting | Phase::Returning(_), None) => {
                let field = LocalPromise::new(parent.clone());
                state.fields.retain(|(_, field)| field.strong_count() > 0);
                state.fields.push((path.into(), Arc::downgrade(&field)));
                Ok(Client::from_promise(field))
            }
            (Phase::Completing(outcome) | Phase::Done(outcome), None) => {
                let outcome = outcome.clone();
                drop(state);
                return Ok(cap_of(&outcome, path));
            }
        };
        drop(state);
        drop(parent);
        client
    }

    /// The call was sent as a question. Returns the fields that must now be
    /// resolved to the question's fields, by [`Effect::ResolveFields`] if there
    /// are any; `None` when nobody wants the call any more.
    ///
    /// For use under the order lock.
    pub(crate) fn asked(
        &self,
        question: &Arc<QuestionRef>,
    ) -> Option<Vec<(Path, Arc<LocalPromise>)>> {
        let mut state = self.state.lock();
        if state.demand == Demand::Cancelled || !matches!(state.phase, Phase::Waiting) {
            return None;
        }
        state.phase = Phase::Asked(Arc::clone(question));
        let fields: Vec<_> = std::mem::take(&mut state.fields)
            .into_iter()
            .filter_map(|(path, field)| Some((path, field.upgrade()?)))
            .collect();
        if !fields.is_empty() {
            state.handovers += 1;
        }
        Some(fields)
    }

    /// The question was answered with a reference to another call; the outcome
    /// comes from there. For use under the order lock.
    pub(crate) fn no_longer_asked(&self) {
        let mut state = self.state.lock();
        let before = match state.phase {
            Phase::Asked(_) => Some(std::mem::replace(&mut state.phase, Phase::Waiting)),
            _ => None,
        };
        drop(state);
        drop(before);
    }

    /// The fields that [`asked`](Self::asked) gave out are resolved.
    pub(crate) fn fields_resolved(self: &Arc<Self>) {
        self.state.lock().handovers -= 1;
        self.finish_completion();
    }

    // ---- Cancellation

    /// Whether the caller has lost interest.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.lock().demand == Demand::Cancelled
    }

    /// Runs a closure when the caller loses interest; drops it when the call is
    /// settled before.
    pub(crate) fn on_cancel(&self, executor: Arc<dyn Executor>, closure: Job) {
        let mut state = self.state.lock();
        match (state.demand, &state.phase) {
            (Demand::Cancelled, _) => {
                drop(state);
                crate::runtime::spawn_or_run(&*executor, closure);
            }
            (Demand::Wanted, Phase::Waiting | Phase::Asked(_)) => {
                state.on_cancel.push((executor, closure));
            }
            (Demand::Wanted, _) => {
                drop(state);
                effects::defer(Effect::drop(closure));
            }
        }
    }

    /// Nobody wants the outcome any more.
    fn cancel(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Done(_)) {
            return;
        }
        state.demand = Demand::Cancelled;
        let question = match &state.phase {
            Phase::Asked(_) => Some(std::mem::replace(&mut state.phase, Phase::Waiting)),
            _ => None,
        };
        let queue = state.queued_in.take();
        let hooks = std::mem::take(&mut state.on_cancel);
        let taken_from = state.taken_from.take();
        drop(state);
        // The last reference to the question sends its Finish.
        drop((question, taken_from));
        if let Some(promise) = queue.and_then(|queue| queue.upgrade()) {
            promise.purge_cancelled();
        }
        for (executor, hook) in hooks {
            crate::runtime::spawn_or_run(&*executor, hook);
        }
    }

    /// The call waits in a promise's queue. Returns whether it was cancelled
    /// already, so that it must be taken out again.
    pub(crate) fn queued_in(&self, promise: &Arc<LocalPromise>) -> bool {
        let mut state = self.state.lock();
        if state.demand == Demand::Cancelled {
            return true;
        }
        state.queued_in = Some(Arc::downgrade(promise));
        false
    }

    /// The call left the queue that it waited in.
    pub(crate) fn left_queue(&self) {
        let left = self.state.lock().queued_in.take();
        drop(left);
    }
}

impl State {
    fn field(&self, path: &[u16]) -> Option<Arc<LocalPromise>> {
        self.fields.iter().find(|(own, _)| **own == *path)?.1.upgrade()
    }
}

impl Watcher {
    fn notify(self, outcome: &Outcome) {
        match self {
            Watcher::Call(cell) => {
                if cell.begin_completion(outcome.clone()) {
                    effects::defer(Effect::FinishCompletion(cell));
                }
            }
            Watcher::Closure(executor, closure) => {
                let outcome = outcome.clone();
                crate::runtime::spawn_or_run(&*executor, Box::new(move || closure(outcome)));
            }
            Watcher::Waker(waker) => effects::application(|| waker.wake()),
        }
    }
}

/// The capability at the end of `path` in an outcome.
pub(crate) fn cap_of(outcome: &Outcome, path: &[u16]) -> Client {
    match outcome {
        Ok(payload) => payload.cap_at(path).unwrap_or_else(Client::broken),
        Err(error) => Client::broken(error.clone()),
    }
}
