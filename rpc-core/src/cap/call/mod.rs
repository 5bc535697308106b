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

mod cancelling;
mod joining;
mod pipelining;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use crate::cap::client::Client;
use crate::cap::connection::{self, Connection, Question};
use crate::cap::crossing::Crossing;
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::LocalPromise;
use crate::cap::payload::{Outcome, Payload, cap_of};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::ids::{AnswerId, Serial};
use crate::sync::Mutex;
use crate::wire::{Hint, Path};
use crate::work::executor::{Executor, Job};
use crate::work::interrupt::Scope;
use crate::work::waiting::{self, Waiters};

/// A call and its outcome.
pub(crate) struct CallCell {
    state: Mutex<State>,
    sink: Sink,
    hint: Hint,
    interest: OnceLock<Weak<Interest>>,
}

/// Who asked.
pub(crate) enum Sink {
    /// Somebody in this process, who reads the outcome from the cell.
    Here,
    /// A peer, who is sent a Return.
    Answer(Weak<dyn Connection>, AnswerId, Serial),
    /// A peer, for a question of ours that it will answer with this outcome: it
    /// is told that the call has ended, and the outcome stays in the cell.
    Kept(Weak<dyn Connection>, AnswerId, Serial),
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
    /// The threads that wait for the outcome.
    waiters: Waiters,
    /// The queue in which the call waits, and its place there.
    queued_in: Option<(Queue, u64)>,
    /// How many words it counts as on the connection that it came from:
    /// Note [flow limit].
    words: u64,
    on_cancel: Vec<(Arc<dyn Executor>, Job)>,
    /// The method that runs for this call, if it is to be interrupted.
    method: Option<Arc<Scope>>,
    /// The other call whose outcome will be this one's.
    taken_from: Option<Arc<Interest>>,
}

/// Where a call waits.
enum Queue {
    /// For a promise to resolve.
    Promise(Weak<LocalPromise>),
    /// On the connection that it came from, for others to end.
    Held(Weak<dyn Connection>),
}

enum Phase {
    Waiting,
    Asked(Arc<dyn Question>),
    Forwarded(Arc<dyn Question>),
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
    Question(Arc<dyn Question>),
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
    /// `hint` is what the caller will not do.
    pub(crate) fn new(sink: Sink, hint: Hint) -> (Arc<CallCell>, Arc<Interest>) {
        let cell = Arc::new(CallCell {
            state: Mutex::new(State {
                phase: Phase::Waiting,
                demand: Demand::Wanted,
                fields: BTreeMap::new(),
                sweep_at: 16,
                early: None,
                handovers: 0,
                watchers: Vec::new(),
                waiters: Waiters::default(),
                queued_in: None,
                words: 0,
                on_cancel: Vec::new(),
                method: None,
                taken_from: None,
            }),
            sink,
            hint,
            interest: OnceLock::new(),
        });
        let interest = Arc::new(Interest { cell: Arc::clone(&cell) });
        // The cell is new: nobody has set it before.
        let _ = cell.interest.set(Arc::downgrade(&interest));
        (cell, interest)
    }

    pub(crate) fn hint(&self) -> Hint {
        self.hint
    }

    /// Whether somebody in this process made the call.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.sink, Sink::Here)
    }

    /// The peer's question that this answers with its outcome, if it is one of
    /// this connection's.
    pub(crate) fn asked_by(&self, connection: &dyn Connection) -> Option<(AnswerId, Serial)> {
        match &self.sink {
            Sink::Answer(own, id, serial) if connection::is_same(own.as_ptr(), connection) => {
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
        let (before, watchers, called) = {
            let mut state = self.state.lock();
            let before = std::mem::replace(&mut state.phase, Phase::Done(outcome.clone()));
            state.fields.clear();
            let early = state.early.take();
            let watchers = std::mem::take(&mut state.watchers);
            ((before, early), watchers, state.waiters.call_all())
        };
        called.wake();
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
            Sink::Answer(connection, id, serial) => match connection.upgrade() {
                Some(connection) if self.hint == Hint::OnlyPipeline => {
                    connection.keep_answer(*id, *serial);
                    outcome
                }
                Some(connection) => {
                    // Content without capabilities leaves without a copy, if
                    // nobody else holds it; and nobody looks for any in it.
                    self.let_go_of_content(&outcome);
                    connection.return_answer(*id, *serial, outcome)
                }
                None => outcome,
            },
            Sink::Kept(connection, id, serial) => {
                if let Some(connection) = connection.upgrade() {
                    connection.return_kept(*id, *serial);
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

    /// Waits for the outcome on behalf of the application; `None` when the deadline came
    /// first.
    ///
    /// # Errors
    /// See [`waiting::wait`].
    pub(crate) fn wait(&self, deadline: Deadline) -> Result<Option<Outcome>, Error> {
        waiting::wait(
            &self.state,
            |state| &mut state.waiters,
            deadline,
            |state, _| match &state.phase {
                Phase::Done(outcome) => Some(outcome.clone()),
                _ => None,
            },
        )
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

impl Watcher {
    fn notify(self, outcome: &Outcome) {
        match self {
            Watcher::Call(cell, change) => {
                if cell.begin_completion(change.of(outcome)) {
                    effects::defer(Effect::FinishCompletion(cell));
                }
            }
            Watcher::Closure(executor, closure) => {
                let outcome = outcome.clone();
                effects::spawn_or_run(&*executor, Box::new(move || closure(outcome)));
            }
            Watcher::Internal(closure) | Watcher::First(closure) => closure(outcome),
            Watcher::Waker(waker) => effects::application(|| waker.wake()),
        }
    }
}
