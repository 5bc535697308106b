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
//!   question and calls on them go to the peer at once; those that were made
//!   while waiting resolve to the question's.
//! - **Forwarded**: as asked, but the outcome never comes here: the peer that
//!   wants it has it already, see Note [tail calls].
//! - **Returning**: the outcome is known. The fields that were made in this
//!   process hand over what they queued; new ones lead straight to the results.
//! - **Completing**: a peer that waits for the outcome was sent its Return. The
//!   capabilities in the outcome are now what that Return described, see
//!   Note [described path]. The change is made in the transaction that queues the
//!   Return, so that no pipelined call of the peer's sees it too early or too
//!   late.
//! - **Done**: the waiting threads see the outcome.
//!
//! The fields come before the Return, and the Return before the waiting threads:
//! every call that was pipelined is on its way before the peer can answer what it
//! was told (its Disembargo must not overtake such a call), and before anybody
//! can call what the results contain.
//!
//! The lock is a leaf. What is taken out under it is dropped after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};

use crate::client::Client;
use crate::delivery::Tail;
use crate::effects::{self, Effect};
use crate::error::Error;
use crate::ids::{AnswerId, Serial};
use crate::local_promise::LocalPromise;
use crate::membrane::Crossing;
use crate::payload::Payload;
use crate::protocol::{Machine, QuestionRef};
use crate::runtime::{Executor, Job};
use crate::sync::{Condvar, Mutex};
use crate::wire::Path;

/// The most calls that one may wait for, one behind the other, before that is
/// taken for a circle.
const MAX_WAITS: usize = 1 << 16;

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
    /// A peer, for a question of ours that it will answer with this outcome: it
    /// is told that the call has ended, and the outcome stays in the cell.
    Kept(Weak<Machine>, AnswerId, Serial),
}

struct State {
    phase: Phase,
    demand: Demand,
    /// The fields that were made in this process, by path.
    fields: BTreeMap<Path, Weak<LocalPromise>>,
    /// At how many of them it is time to forget those that are gone.
    sweep_at: usize,
    /// What calls that are pipelined before the outcome go to, if that is not for
    /// the phase to say.
    early: Option<Early>,
    /// How many batches of those are being handed over to a question's fields.
    handovers: usize,
    watchers: Vec<Watcher>,
    /// The queue in which the call waits, and its place there.
    queued_in: Option<(Queue, u64)>,
    /// How many words it counts as on the connection that it came from:
    /// Note [flow limit].
    words: u64,
    on_cancel: Vec<(Arc<dyn Executor>, Job)>,
    /// The other call whose outcome will be this one's.
    taken_from: Option<Arc<Interest>>,
}

/// Where a call waits.
enum Queue {
    /// For a promise to resolve.
    Promise(Weak<LocalPromise>),
    /// On the connection that it came from, for others to end.
    Held(Weak<Machine>),
}

enum Phase {
    Waiting,
    Asked(Arc<QuestionRef>),
    Forwarded(Arc<QuestionRef>),
    Returning(Outcome, Carrier),
    Completing(Outcome),
    Done(Outcome),
}

/// Where pipelined calls go before the outcome is known.
#[derive(Clone)]
enum Early {
    /// To what the callee has given out.
    Given(Payload),
    /// To the fields of another call, which is this one behind a membrane.
    /// Weak: whoever wants this one wants that one, too.
    Behind(Weak<CallCell>, Crossing),
}

/// Whether a thread has taken on to carry the outcome to the next phases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Wanted,
    Found,
}

/// Whether anybody still wants the outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Wanted,
    Cancelled,
}

/// Who can tell what is at the end of a path.
pub(crate) enum Elsewhere {
    /// The connection of this question.
    Question(Arc<QuestionRef>),
    /// Another call, for the other side of a membrane.
    Behind(Arc<CallCell>, Crossing),
}

/// Who is told when a call is done.
enum Watcher {
    /// A call whose outcome is the same, but for what is in these fields.
    Call(Arc<CallCell>, Change),
    Closure(Arc<dyn Executor>, Box<dyn FnOnce(Outcome) + Send>),
    Waker(std::task::Waker),
    /// Part of this library, which runs it wherever it is.
    Internal(Box<dyn FnOnce(&Outcome) + Send>),
    /// The same, but before anybody else hears of the outcome.
    First(Box<dyn FnOnce(&Outcome) + Send>),
}

/// What makes the outcome of one call that of another.
enum Change {
    /// These capabilities take the place of those in these fields.
    Fields(Vec<(Path, Client)>),
    /// It crosses a membrane.
    Crossing(Crossing),
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
        // The last wish may go in the middle of a transaction, with a reference
        // to a field; and with it the wish for the call that this one waits for,
        // and so on: see Note [effects].
        if !self.cell.is_done() {
            effects::defer(Effect::Cancel(Arc::clone(&self.cell)));
        }
    }
}

impl CallCell {
    pub(crate) fn new(sink: Sink) -> (Arc<CallCell>, Arc<Interest>) {
        let cell = Arc::new(CallCell {
            state: Mutex::new(State {
                phase: Phase::Waiting,
                demand: Demand::Wanted,
                fields: BTreeMap::new(),
                sweep_at: 16,
                early: None,
                handovers: 0,
                watchers: Vec::new(),
                queued_in: None,
                words: 0,
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

    /// The peer's question that this answers with its outcome, if it is one of
    /// this connection's.
    pub(crate) fn asked_by(&self, machine: &Arc<Machine>) -> Option<(AnswerId, Serial)> {
        match &self.sink {
            Sink::Answer(own, id, serial) if own.as_ptr() == Arc::as_ptr(machine) => {
                Some((*id, *serial))
            }
            _ => None,
        }
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
            Phase::Waiting | Phase::Asked(_) | Phase::Forwarded(_) => {
                let returning = Phase::Returning(outcome, Carrier::Wanted);
                let before = std::mem::replace(&mut state.phase, returning);
                let hooks = std::mem::take(&mut state.on_cancel);
                let taken_from = state.taken_from.take();
                drop(state);
                drop((before, taken_from));
                if !hooks.is_empty() {
                    effects::defer(Effect::drop(hooks));
                }
                true
            }
            Phase::Returning(..) | Phase::Completing(_) | Phase::Done(_) => {
                drop(state);
                drop(outcome);
                false
            }
        }
    }

    /// Publishes the outcome: to the fields, to the peer that asked, to waiting
    /// threads.
    ///
    /// Must not be called under a lock.
    pub(crate) fn finish_completion(self: &Arc<Self>) {
        let (outcome, fields, first) = {
            let mut state = self.state.lock();
            if state.handovers > 0 {
                // The last of them comes here again.
                return;
            }
            let outcome = match &mut state.phase {
                Phase::Returning(outcome, carrier @ Carrier::Wanted) => {
                    *carrier = Carrier::Found;
                    outcome.clone()
                }
                _ => return,
            };
            let fields: Vec<_> = state
                .fields
                .iter()
                .filter_map(|(path, field)| Some((path.clone(), field.upgrade()?)))
                .collect();
            let is_first = |watcher: &mut Watcher| matches!(watcher, Watcher::First(_));
            let first: Vec<_> = state.watchers.extract_if(.., is_first).collect();
            (outcome, fields, first)
        };
        for watcher in first {
            watcher.notify(&outcome);
        }
        for (path, field) in &fields {
            field.resolve(cap_of(&outcome, path));
        }
        drop(fields);
        let outcome = self.send_return(outcome);
        let (before, watchers) = {
            let mut state = self.state.lock();
            let before = std::mem::replace(&mut state.phase, Phase::Done(outcome.clone()));
            state.fields.clear();
            let early = state.early.take();
            let watchers = std::mem::take(&mut state.watchers);
            ((before, early), watchers)
        };
        self.done.notify_all();
        drop(before);
        self.no_longer_counts();
        for watcher in watchers {
            watcher.notify(&outcome);
        }
    }

    /// Sends the Return if a peer asked, and tells what calls that are pipelined
    /// from now on find in the outcome.
    fn send_return(&self, outcome: Outcome) -> Outcome {
        match &self.sink {
            Sink::Here => outcome,
            Sink::Answer(machine, id, serial) => match machine.upgrade() {
                Some(machine) => {
                    // Content without capabilities leaves without a copy, if
                    // nobody else holds it; and nobody looks for any in it.
                    self.let_go_of_content(&outcome);
                    machine.return_answer(*id, *serial, outcome)
                }
                None => outcome,
            },
            Sink::Kept(machine, id, serial) => {
                if let Some(machine) = machine.upgrade() {
                    machine.transact(|txn| txn.return_kept(*id, *serial));
                }
                outcome
            }
        }
    }

    fn let_go_of_content(&self, outcome: &Outcome) {
        if let Ok(payload) = outcome
            && payload.caps().is_empty()
        {
            let mut state = self.state.lock();
            let hollow = Phase::Returning(Ok(Payload::empty().clone()), Carrier::Found);
            let before = std::mem::replace(&mut state.phase, hollow);
            drop(state);
            drop(before);
        }
    }

    /// The Return was queued, with these capabilities described. For use under
    /// the order lock of its connection.
    pub(crate) fn described(&self, outcome: &Outcome) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.phase, Phase::Completing(outcome.clone()));
        drop(state);
        drop(before);
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

    /// Runs a closure of this library's with the outcome, right where it comes in.
    pub(crate) fn tell_when_done(&self, closure: Box<dyn FnOnce(&Outcome) + Send>) {
        self.watch(Watcher::Internal(closure));
    }

    /// As [`tell_when_done`](Self::tell_when_done), before anybody can act upon the
    /// outcome.
    pub(crate) fn tell_first(&self, closure: Box<dyn FnOnce(&Outcome) + Send>) {
        self.watch(Watcher::First(closure));
    }

    /// Wakes a task when the outcome is there.
    pub(crate) fn wake_on_done(&self, waker: &std::task::Waker) {
        let known = self
            .state
            .lock()
            .watchers
            .iter()
            .any(|watcher| matches!(watcher, Watcher::Waker(own) if own.will_wake(waker)));
        if !known {
            self.watch(Watcher::Waker(waker.clone()));
        }
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

    // ---- Pipelining

    /// The capability at the end of `path` in the results, now or later. The
    /// same path gives the same capability every time.
    ///
    /// Must not be called under a lock.
    pub(crate) fn pipelined(self: &Arc<Self>, path: &[u16]) -> Client {
        let mut cell = Arc::clone(self);
        let mut crossings = Vec::new();
        let mut client = loop {
            match cell.pipelined_here(path) {
                Ok(client) => break client,
                Err(Elsewhere::Question(question)) => {
                    let field =
                        question.machine().transact(|txn| txn.question_field(&question, path));
                    // Otherwise its Return came in between, and the phase has changed.
                    if let Some(client) = field {
                        break client;
                    }
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

    /// As [`pipelined`](Self::pipelined), but gives up when that takes more than
    /// this call's own lock. For use under an order lock.
    pub(crate) fn pipelined_here(self: &Arc<Self>, path: &[u16]) -> Result<Client, Elsewhere> {
        let parent = self.interest.get().and_then(Weak::upgrade);
        let mut state = self.state.lock();
        let outcome = match &state.phase {
            Phase::Completing(outcome) | Phase::Done(outcome) => outcome.clone(),
            Phase::Waiting | Phase::Asked(_) | Phase::Forwarded(_) | Phase::Returning(..) => {
                if let Some(field) = state.fields.get(path).and_then(Weak::upgrade) {
                    return Ok(Client::from_promise(field));
                }
                match (&state.phase, &state.early) {
                    (Phase::Asked(question) | Phase::Forwarded(question), _) => {
                        return Err(Elsewhere::Question(Arc::clone(question)));
                    }
                    (Phase::Returning(outcome, _), _) => outcome.clone(),
                    (_, Some(Early::Given(early))) => Ok(early.clone()),
                    (_, Some(Early::Behind(cell, crossing))) => match cell.upgrade() {
                        Some(cell) => return Err(Elsewhere::Behind(cell, crossing.clone())),
                        None => Err(Error::failed("the call was cancelled")),
                    },
                    (_, None) => {
                        let field = LocalPromise::new(parent);
                        state.add_field(path, &field);
                        return Ok(Client::from_promise(field));
                    }
                }
            }
        };
        drop(state);
        Ok(cap_of(&outcome, path))
    }

    /// Gives the pipeline out before the outcome is known: pipelined calls, those
    /// that wait and those to come, go to the capabilities in `payload`. Only the
    /// first one counts, and only before the outcome.
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
            // Found as long as they hand over what they queued.
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

    /// The call was sent as a question. Returns the fields that must now be
    /// resolved to the question's fields, by [`Effect::ResolveFields`] if there
    /// are any; `None` when nobody wants the call any more.
    ///
    /// For use under the order lock.
    pub(crate) fn asked(
        &self,
        question: &Arc<QuestionRef>,
        tail: Tail,
    ) -> Option<Vec<(Path, Arc<LocalPromise>)>> {
        let mut state = self.state.lock();
        if state.demand == Demand::Cancelled || !matches!(state.phase, Phase::Waiting) {
            return None;
        }
        let question = Arc::clone(question);
        state.phase = match tail {
            Tail::No => Phase::Asked(question),
            Tail::Allowed => Phase::Forwarded(question),
        };
        let fields: Vec<_> = state
            .fields
            .iter()
            .filter_map(|(path, field)| Some((path.clone(), field.upgrade()?)))
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
            (Demand::Wanted, Phase::Waiting | Phase::Asked(_) | Phase::Forwarded(_)) => {
                state.on_cancel.push((executor, closure));
            }
            (Demand::Wanted, _) => {
                drop(state);
                effects::defer(Effect::drop(closure));
            }
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Done(_))
    }

    /// Nobody wants the outcome any more.
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
        drop(state);
        // The last reference to the question sends its Finish. Nothing else would
        // end the call, for which a peer may still have a name.
        if question.is_some() {
            let error = Error::failed("the call was cancelled");
            effects::defer(Effect::Complete(Arc::clone(self), Err(error)));
        }
        drop(question);
        // Calls whose outcome is each other's form chains.
        if let Some(other) = taken_from {
            effects::defer(Effect::drop(other));
        }
        match queue {
            Some((Queue::Promise(promise), place)) => {
                if let Some(promise) = promise.upgrade() {
                    promise.withdraw(place);
                }
            }
            Some((Queue::Held(machine), place)) => {
                if let Some(machine) = machine.upgrade() {
                    machine.withdraw_held(place);
                }
            }
            None => {}
        }
        for (executor, hook) in hooks {
            crate::runtime::spawn_or_run(&*executor, hook);
        }
    }

    /// The call is about to wait in a promise's queue, at this place.
    pub(crate) fn queued_in(&self, promise: &Arc<LocalPromise>, place: u64) {
        let mut state = self.state.lock();
        let before = state.queued_in.replace((Queue::Promise(Arc::downgrade(promise)), place));
        drop(state);
        drop(before);
    }

    /// The call, which has just come in, is held back at this place. For use under
    /// the order lock of its connection.
    pub(crate) fn held_by(&self, machine: &Arc<Machine>, place: u64) {
        let mut state = self.state.lock();
        let before = state.queued_in.replace((Queue::Held(Arc::downgrade(machine)), place));
        drop(state);
        drop(before);
    }

    /// The call left the queue that it waited in.
    pub(crate) fn left_queue(&self) {
        let left = self.state.lock().queued_in.take();
        drop(left);
    }

    // ---- The flow limit

    /// The call is delivered, and counts as so many words until it is over.
    pub(crate) fn counts_as(&self, words: u64) {
        self.state.lock().words = words;
    }

    /// The call is over, as far as the flow limit is concerned.
    pub(crate) fn no_longer_counts(&self) {
        let words = std::mem::take(&mut self.state.lock().words);
        self.give_back(words);
    }

    fn give_back(&self, words: u64) {
        if words > 0
            && let Sink::Answer(machine, ..) | Sink::Kept(machine, ..) = &self.sink
            && let Some(machine) = machine.upgrade()
        {
            machine.call_is_over(words);
        }
    }
}

impl Drop for CallCell {
    fn drop(&mut self) {
        // Closures of the application's, and calls whose outcome is this one's,
        // and so on.
        let words = std::mem::take(&mut self.state.get_mut().words);
        self.give_back(words);
        let state = self.state.get_mut();
        if !state.watchers.is_empty() || !state.on_cancel.is_empty() {
            let (watchers, hooks) =
                (std::mem::take(&mut state.watchers), std::mem::take(&mut state.on_cancel));
            effects::defer(Effect::drop((watchers, hooks)));
        }
    }
}

impl State {
    fn has_fields(&self) -> bool {
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

impl Watcher {
    fn notify(self, outcome: &Outcome) {
        match self {
            Watcher::Call(cell, change) => {
                let outcome = match change {
                    Change::Fields(fields) => with_fields(outcome, fields),
                    Change::Crossing(crossing) => crossing.outcome(outcome),
                };
                if cell.begin_completion(outcome) {
                    effects::defer(Effect::FinishCompletion(cell));
                }
            }
            Watcher::Closure(executor, closure) => {
                let outcome = outcome.clone();
                crate::runtime::spawn_or_run(&*executor, Box::new(move || closure(outcome)));
            }
            Watcher::Internal(closure) | Watcher::First(closure) => closure(outcome),
            Watcher::Waker(waker) => effects::application(|| waker.wake()),
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

/// The capability at the end of `path` in an outcome.
pub(crate) fn cap_of(outcome: &Outcome, path: &[u16]) -> Client {
    match outcome {
        Ok(payload) => payload.cap_at(path).unwrap_or_else(Client::broken),
        Err(error) => Client::broken(error.clone()),
    }
}
