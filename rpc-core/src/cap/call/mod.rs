//! One call, from the moment it is made until its outcome is known.
//!
//! # State model
//!
//! ```text
//! Waiting ──sent to a peer───────────────────────► Asked(question)
//! Waiting ──tail call to the peer that asked─────► Redirected(question)
//! Asked ──answered with another call's outcome───► Waiting
//! Asked, Redirected ──cancelled, or time over────► Waiting
//! Waiting, Asked, Redirected ──complete──────────► Returning
//! Returning ──Return that awaits a Finish queued─► Completing
//! Returning ──no such Return─────────────────────► Done
//! Completing ──published─────────────────────────► Done
//! Done ──results turned out to be too large──────► Completing
//! ```
//!
//! - **Waiting**: the call is on its way in a queue of this process, with an object of
//!   this process, or waits for the outcome of another call. Pipelined fields are
//!   [`LocalPromise`]s. A cancelled question also leads back here; an error then
//!   completes the call.
//! - **Asked**: the call is a question on a connection. Pipelined fields belong to the
//!   question and calls on them go to the peer at once; fields that were made while
//!   waiting resolve to the question's fields.
//! - **Redirected**: as Asked, but the outcome never comes here: the peer that wants it
//!   has it already, see Note [tail calls].
//! - **Returning**: the outcome is known. The fields that were made in this
//!   process hand over what they queued; new ones lead straight to the results.
//! - **Completing**: a peer that waits for the outcome was sent its Return. The
//!   capabilities in the outcome are now what that Return described, see
//!   Note [described path]. The change is made in the transaction that queues the
//!   Return, so that no pipelined call of the peer's sees it too early or too late.
//!   Without such a Return, or with one that needs no Finish, Returning leads to Done.
//!   Where nobody has to be told of the outcome before, both are one step; and results of which
//!   nothing stays here count as published before they leave. If they turn out to be too large
//!   to be sent, the call is Completing and Done once more, with an error.
//! - **Done**: the waiting threads see the outcome.
//!
//! The fields come before the Return, and the Return before the waiting threads: every
//! call that was pipelined is on its way before the peer can react to the Return (the
//! peer's Disembargo must not overtake such a call), and before a thread can call what
//! the results contain. Results without capabilities, of a call that has no fields and no
//! listeners, make no difference to anybody here: it does not matter when they are published.
//!
//! The lock is a leaf. What is taken out under it is dropped after it.

mod cancelling;
mod ending;
mod joining;
mod pipelining;
mod timing;

pub(crate) use cancelling::Begun;
pub use ending::Ending;
pub(crate) use pipelining::Departure;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::cap::client::Client;
use crate::cap::connection::{self, Connection, Question};
use crate::cap::crossing::Crossing;
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::LocalPromise;
use crate::cap::payload::{Outcome, Payload, cap_of};
use crate::cap::spans::{CallSpan, Kind};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::ids::{AnswerId, Serial};
use crate::log::{Entered, Span};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mark, Mutex};
use crate::wire::{Hint, Path};
use crate::work::executor::{Calls, Executor, Job};
use crate::work::interrupt::Scope;
use crate::work::origin::{self, Origin};
use crate::work::progress::OwnQuestion;
use crate::work::waiting::{self, Awaited, Called, Waiters};

/// A call and its outcome.
pub(crate) struct CallCell {
    state: Mutex<State>,
    sink: Sink,
    hint: Hint,
    origin: Origin,
    /// How many there are of its [`Interest`].
    interests: AtomicUsize,
    /// Whether nothing is left to cancel.
    over: Mark,
    /// Whether the demand is `Cancelled`, for those who look without the lock.
    cancelled: AtomicBool,
    /// The number of words that the call counts as on the connection over which it came:
    /// Note [flow limit].
    words: AtomicU64,
}

/// The party that made the call.
pub(crate) enum Sink {
    /// This process, which reads the outcome from the cell.
    Here,
    /// A peer, which is sent a Return.
    Answer(Weak<dyn Connection>, AnswerId, Serial),
    /// A peer that will answer a question of this side with this outcome: the peer is
    /// told that the call has ended, and the outcome stays in the cell.
    Redirected(Weak<dyn Connection>, AnswerId, Serial),
}

struct State {
    phase: Phase,
    demand: Demand,
    /// Whether the outcome was wanted when it came: a call that was answered is let go of,
    /// which is no cancellation.
    demand_at_end: Demand,
    /// Whether something ends the call at some time: Note [deadlines].
    time: timing::Time,
    /// The fields that were made in this process, by path.
    fields: BTreeMap<Path, Weak<LocalPromise>>,
    /// Number of fields at which those that are gone are swept out.
    sweep_at: usize,
    /// Where pipelined calls go before the outcome is known, if the phase does not say.
    early: Option<Early>,
    /// The number of batches of fields that are being handed over to a question's
    /// fields.
    handovers: usize,
    when_done: Vec<WhenDone>,
    /// The threads that wait for the outcome.
    waiters: Waiters,
    /// The queue in which the call waits, and its place there.
    queued_in: Option<(Queue, u64)>,
    arrival: Arrival,
    on_cancel: Vec<(Arc<dyn Executor>, Job)>,
    /// The method that runs for this call, if it allows interruption.
    method: Option<Arc<Scope>>,
    /// The other call whose outcome will be this one's.
    taken_from: Option<Interest>,
}

/// The queue in which a call waits. A call that is cancelled leaves it at once.
pub(crate) enum Queue {
    /// The queue of a promise that is not resolved.
    Promise(Weak<LocalPromise>),
    /// The calls that the call's connection holds back until others end.
    Held(Weak<dyn Connection>),
    /// The mailbox of the object that will run the call, runs it, or has run it: the call does not
    /// learn when it is taken out.
    Mailbox(Weak<dyn Keeps>),
    /// Those that wait because an interceptor delays one of them.
    Delayed(Weak<dyn Delays>),
    /// What else a call may wait in.
    Other(Weak<dyn Queued>),
}

/// Something in which calls wait.
pub(crate) trait Queued: Send + Sync {
    /// Takes out a cancelled call, if it still waits.
    ///
    /// Must not be called under a lock.
    fn withdraw(&self, place: u64);
}

/// A site where calls wait because an interceptor delays one of them.
pub(crate) trait Delays: Send + Sync {
    /// Takes out a cancelled call, if it still waits.
    ///
    /// Must not be called under a lock.
    fn withdraw(self: Arc<Self>, place: u64);
}

/// An object that keeps calls in its mailbox.
pub(crate) trait Keeps: Calls {
    /// Takes out a cancelled call of this origin, if it still waits.
    ///
    /// Must not be called under a lock.
    fn withdraw(&self, origin: Origin, place: u64);

    /// Whether a call of this origin waits at this place. The lock that this takes is a leaf.
    fn waits(&self, origin: Origin, place: u64) -> bool;

    /// Whether the method of this call, and no other, runs.
    fn runs(&self, call: *const CallCell) -> bool;
}

/// Whether a call that is cancelled on its way to an object still arrives there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    IfWanted,
    /// It does: its caller finished the call at once, but wants it to be delivered.
    InAnyCase,
}

enum Phase {
    Waiting,
    Asked(Arc<dyn Question>),
    Redirected(Arc<dyn Question>),
    Returning(Outcome, Publisher),
    Completing(Outcome),
    Done(Outcome),
}

/// Where pipelined calls go before the outcome is known.
#[derive(Clone)]
enum Early {
    /// To the capabilities that the callee has given out.
    Given(Payload),
    /// To the fields of another call, which is this call's counterpart behind a
    /// membrane. The reference is weak: the interest in this call keeps the other one
    /// alive, too.
    Behind(Weak<CallCell>, Crossing),
    /// The outcome will be that of another call. These fields were asked for before. They
    /// stay the same for everything that asks again or reads the results, because earlier
    /// calls may be on their way to them.
    Taken(BTreeMap<Path, Client>),
}

/// Whether a thread takes the outcome to the next phases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publisher {
    Wanted,
    Present,
}

/// Whether the outcome is still wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Wanted,
    Cancelled,
}

/// Where the capability at the end of a path can be looked up.
pub(crate) enum Elsewhere {
    /// The connection of this question.
    Question(Arc<dyn Question>),
    /// Another call, for the other side of a membrane.
    Behind(Arc<CallCell>, Crossing),
}

/// A listener that is told when a call is done.
enum WhenDone {
    /// A call whose outcome is the same, apart from this change.
    Call(Arc<CallCell>, Change),
    Closure(Arc<dyn Executor>, Box<dyn FnOnce(Outcome) + Send>),
    Waker(std::task::Waker),
    /// A closure of this library, which runs on the thread that brings the outcome.
    Internal(Box<dyn FnOnce(&Outcome) + Send>),
    /// A closure of this library that runs before the outcome is published.
    First(Box<dyn FnOnce(&Outcome) + Send>),
    /// A span of the call: Note [spans].
    Span(CallSpan),
    /// A closure of the application that is told how the call ended: Note [endings].
    Observer(ending::Observer),
}

/// The change that turns the outcome of one call into that of another.
enum Change {
    /// The call has fields that are known already: [`Early::Taken`].
    Taken,
    /// The outcome crosses a membrane.
    Crossing(Crossing),
}

/// The interest in a call's outcome. When the last of its clones is dropped, the call is
/// cancelled.
pub(crate) struct Interest {
    cell: Arc<CallCell>,
}

impl Clone for Interest {
    fn clone(&self) -> Self {
        self.cell.interests.fetch_add(1, Ordering::SeqCst);
        Interest { cell: Arc::clone(&self.cell) }
    }
}

impl Interest {
    pub(crate) fn cell(&self) -> &Arc<CallCell> {
        &self.cell
    }

    /// Ends the interest in a call that was answered: there is nothing left to cancel.
    pub(crate) fn satisfied(self) {
        self.cell.over.set();
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        // Of a call that is over, nobody counts it any more.
        if self.cell.over.is_seen() || self.cell.interests.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        // The last interest may be dropped in the middle of a transaction, with a
        // reference to a field; and with it the interest in the call for which this one
        // waits, and so on: see Note [effects].
        effects::defer(Effect::Cancel(Arc::clone(&self.cell)));
    }
}

impl CallCell {
    /// `hint` says what the caller will not use, `origin` for whom the call is made:
    /// Note [shares].
    pub(crate) fn new(sink: Sink, hint: Hint, origin: Origin) -> (Arc<CallCell>, Interest) {
        let cell = Arc::new(CallCell {
            state: Mutex::new(State {
                phase: Phase::Waiting,
                demand: Demand::Wanted,
                demand_at_end: Demand::Wanted,
                time: timing::Time::default(),
                fields: BTreeMap::new(),
                sweep_at: 16,
                early: None,
                handovers: 0,
                when_done: Vec::new(),
                waiters: Waiters::default(),
                queued_in: None,
                arrival: Arrival::IfWanted,
                on_cancel: Vec::new(),
                method: None,
                taken_from: None,
            }),
            sink,
            hint,
            origin,
            interests: AtomicUsize::new(1),
            over: Mark::default(),
            cancelled: AtomicBool::new(false),
            words: AtomicU64::new(0),
        });
        let interest = Interest { cell: Arc::clone(&cell) };
        (cell, interest)
    }

    /// The interest in the outcome, while there is any.
    fn interest(self: &Arc<Self>) -> Option<Interest> {
        let one_more = |interests: usize| (interests > 0).then(|| interests + 1);
        let taken =
            self.interests.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok();
        taken.then(|| Interest { cell: Arc::clone(self) })
    }

    pub(crate) fn hint(&self) -> Hint {
        self.hint
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether this process made the call.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.sink, Sink::Here)
    }

    /// The connection over which the call came; `None` if this process made it, or the
    /// connection is gone.
    pub(crate) fn came_over(&self) -> Option<Arc<dyn Connection>> {
        match &self.sink {
            Sink::Here => None,
            Sink::Answer(connection, ..) | Sink::Redirected(connection, ..) => connection.upgrade(),
        }
    }

    /// The peer's question that this call's outcome answers, if it came over
    /// `connection`.
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
        let mut state = self.state.lock();
        match state.decide(outcome) {
            Ok(decided) if decided.is_nothing() => {
                let step = state.next_step(&self.sink, self.hint);
                drop(state);
                self.make(step);
            }
            Ok(decided) => {
                drop(state);
                decided.forget();
                self.finish_completion();
            }
            Err(outcome) => {
                drop(state);
                drop(outcome);
            }
        }
    }

    /// Settles the call, as a step of a transaction. When it returns `true`,
    /// [`finish_completion`](Self::finish_completion) must follow after the
    /// transaction.
    pub(crate) fn begin_completion(&self, outcome: Outcome) -> bool {
        let mut state = self.state.lock();
        let decided = state.decide(outcome);
        drop(state);
        match decided {
            Ok(decided) => {
                decided.forget();
                true
            }
            Err(outcome) => {
                drop(outcome);
                false
            }
        }
    }

    /// Settles a call with results without capabilities, as a step of a transaction; the question
    /// with this serial, by which it was sent, is in no table any more. Mostly nobody has to be
    /// told before the results are published: then they are published at once.
    pub(crate) fn settle_with_data(&self, forgotten: Serial, results: Payload) -> Settled {
        let mut state = self.state.lock();
        let decided = match state.decide(Ok(results)) {
            Ok(decided) => decided,
            Err(late) => {
                drop(state);
                drop(late);
                return Settled::Before;
            }
        };
        if let Phase::Asked(question) = &decided.before {
            question.forget(forgotten);
        }
        let plain = decided.hooks.is_empty() && decided.taken_from.is_none();
        let plain = plain && state.is_plain(&self.sink);
        let called = plain.then(|| state.publish_at_once().called);
        drop(state);
        decided.forget();
        match called {
            None => Settled::Begun,
            Some(called) => {
                self.over.set();
                Settled::Done(called)
            }
        }
    }

    /// Publishes the outcome: to the fields, to the peer that asked, to waiting
    /// threads.
    ///
    /// Must not be called under a lock.
    pub(crate) fn finish_completion(self: &Arc<Self>) {
        let step = self.state.lock().next_step(&self.sink, self.hint);
        self.make(step);
    }

    /// Makes the next step of the call's completion, and those behind it.
    fn make(&self, step: Step) {
        let (outcome, over) = match step {
            Step::Nothing => return,
            Step::Publish(published) => return self.tell(published, None),
            Step::Return(outcome) => {
                let (outcome, over) = self.send_return(outcome);
                if outcome.is_ok() {
                    self.over.set();
                    return self.no_longer_counts_on(over);
                }
                // They could not be sent: the outcome is an error, after all.
                (outcome, over)
            }
            Step::HandOver(HandOver { outcome, fields, first, demand, span }) => {
                // What is told of the answer belongs to the call.
                let entered = span.map(|span| span.enter());
                for listener in first {
                    listener.notify(&outcome, demand);
                }
                for (path, field) in &fields {
                    field.resolve(cap_of(&outcome, path));
                }
                drop(fields);
                let returned = self.send_return(outcome);
                drop(entered);
                returned
            }
        };
        let published = self.state.lock().publish(outcome);
        self.tell(published, over);
    }

    /// Tells everybody that the call is done, which came over this connection, if that is at hand.
    fn tell(&self, published: Published, over: Option<Arc<dyn Connection>>) {
        let Published { before, early, outcome, when_done, demand, called } = published;
        self.over.set();
        called.wake();
        drop(early);
        // The outcome may have lost what only the peer needs.
        let returned = match before {
            Phase::Returning(returned, _) if when_done.iter().any(WhenDone::observes) => {
                Some(returned)
            }
            before => {
                drop(before);
                None
            }
        };
        self.no_longer_counts_on(over);
        let Some(outcome) = outcome else { return };
        for listener in when_done {
            let told = if listener.observes() { returned.as_ref() } else { None };
            listener.notify(told.unwrap_or(&outcome), demand);
        }
    }

    /// Sends the Return if a peer made the call. Returns the outcome as later pipelined
    /// calls see it, and the connection to the peer if it is still at hand.
    fn send_return(&self, outcome: Outcome) -> (Outcome, Option<Arc<dyn Connection>>) {
        match &self.sink {
            Sink::Here => (outcome, None),
            Sink::Answer(connection, id, serial) => match connection.upgrade() {
                Some(connection) if self.hint == Hint::OnlyPipeline => {
                    (connection.keep_answer(*id, *serial, outcome), None)
                }
                Some(connection) => {
                    let (outcome, connection) = connection.return_answer(*id, *serial, outcome);
                    (outcome, Some(connection))
                }
                None => (outcome, None),
            },
            Sink::Redirected(connection, id, serial) => match connection.upgrade() {
                Some(connection) => (connection.return_redirected(*id, *serial, outcome), None),
                None => (outcome, None),
            },
        }
    }

    /// Records that the Return was queued, with these capabilities described. For use
    /// under the order lock of the connection.
    pub(crate) fn described(&self, outcome: &Outcome) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.phase, Phase::Completing(outcome.clone()));
        drop(state);
        drop(before);
    }

    /// The outcome; `None` until the call is done.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.state.lock().phase {
            Phase::Done(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }

    /// The question by which the call was sent to a peer, while it is not answered.
    pub(crate) fn question(&self) -> Option<OwnQuestion> {
        match &self.state.lock().phase {
            Phase::Asked(question) => {
                let (connection, question) = (question.connection(), question.number());
                Some(OwnQuestion { connection, question })
            }
            _ => None,
        }
    }

    /// Waits for the outcome on behalf of the application; `None` if the deadline comes
    /// first.
    ///
    /// # Errors
    /// See [`waiting::wait`].
    pub(crate) fn wait(self: &Arc<Self>, deadline: Deadline) -> Result<Option<Outcome>, Error> {
        waiting::wait_for(
            || Some(Arc::downgrade(self) as Weak<dyn Awaited>),
            |state| match &state.phase {
                Phase::Asked(question) => question.means(),
                _ => None,
            },
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
        self.watch(WhenDone::Closure(executor, closure));
    }

    /// Runs a closure of this library with the outcome, on the thread that brings it.
    pub(crate) fn tell_when_done(&self, closure: Box<dyn FnOnce(&Outcome) + Send>) {
        self.watch(WhenDone::Internal(closure));
    }

    /// As [`tell_when_done`](Self::tell_when_done), but before the outcome is
    /// published.
    pub(crate) fn tell_first(&self, closure: Box<dyn FnOnce(&Outcome) + Send>) {
        self.watch(WhenDone::First(closure));
    }

    /// Wakes a task when the call is done.
    pub(crate) fn wake_on_done(&self, waker: &std::task::Waker) {
        let known = self
            .state
            .lock()
            .when_done
            .iter()
            .any(|listener| matches!(listener, WhenDone::Waker(own) if own.will_wake(waker)));
        if !known {
            self.watch(WhenDone::Waker(waker.clone()));
        }
    }

    /// Keeps a span of the call until the call is over.
    pub(super) fn keep_span(&self, span: CallSpan) {
        self.watch(WhenDone::Span(span));
    }

    /// The last span of this kind, while the call is not over.
    pub(super) fn span_of(&self, kind: Kind) -> Option<Span> {
        let state = self.state.lock();
        state.spans().filter(|span| span.is_of(kind)).last().map(|span| span.span().clone())
    }

    /// The caller's span, entered; for what is told of the call elsewhere.
    pub(crate) fn enter_callers_span(&self) -> Option<Entered> {
        Some(self.span_of(Kind::Outgoing)?.enter())
    }

    /// The peer's question that the call answers.
    pub(super) fn answer_id(&self) -> Option<AnswerId> {
        match &self.sink {
            Sink::Here => None,
            Sink::Answer(_, id, _) | Sink::Redirected(_, id, _) => Some(*id),
        }
    }

    fn watch(&self, listener: WhenDone) {
        let mut state = self.state.lock();
        if let Phase::Done(outcome) = &state.phase {
            let (outcome, demand) = (outcome.clone(), state.demand_at_end);
            drop(state);
            listener.notify(&outcome, demand);
        } else {
            state.when_done.push(listener);
        }
    }
}

/// What [`settle_with_data`](CallCell::settle_with_data) has done.
pub(crate) enum Settled {
    /// Nothing: the call had an outcome.
    Before,
    /// [`finish_completion`](CallCell::finish_completion) must follow after the transaction.
    Begun,
    /// Everything. These threads must be woken after the transaction.
    Done(Called),
}

/// The next step of a call's completion.
enum Step {
    /// Another thread makes it, or a handover has to end first.
    Nothing,
    /// The peer is sent these results, of which nothing stays here. The call is done.
    Return(Outcome),
    HandOver(HandOver),
    Publish(Published),
}

/// What is told before the outcome is published, and the outcome.
struct HandOver {
    outcome: Outcome,
    fields: Vec<(Path, Arc<LocalPromise>)>,
    first: Vec<WhenDone>,
    demand: Demand,
    span: Option<Span>,
}

/// What is left to do when the call is done.
struct Published {
    before: Phase,
    early: Option<Early>,
    /// The outcome, if there are listeners.
    outcome: Option<Outcome>,
    when_done: Vec<WhenDone>,
    demand: Demand,
    called: Called,
}

/// What a call whose outcome is decided does not need any more.
struct Decided {
    before: Phase,
    taken_from: Option<Interest>,
    time: timing::Time,
    hooks: Vec<(Arc<dyn Executor>, Job)>,
}

impl Decided {
    /// Whether there is nothing to drop before others learn of the outcome.
    fn is_nothing(&self) -> bool {
        matches!(self.before, Phase::Waiting) && self.hooks.is_empty() && self.taken_from.is_none()
    }

    /// Must not be called under the call's lock.
    fn forget(self) {
        let Decided { before, taken_from, time, hooks } = self;
        drop((before, taken_from, time));
        if !hooks.is_empty() {
            effects::defer(Effect::drop_foreign(hooks));
        }
    }
}

impl State {
    /// Decides the outcome, unless there is one.
    fn decide(&mut self, outcome: Outcome) -> Result<Decided, Outcome> {
        match self.phase {
            Phase::Waiting | Phase::Asked(_) | Phase::Redirected(_) => {
                let returning = Phase::Returning(outcome, Publisher::Wanted);
                self.demand_at_end = self.demand;
                Ok(Decided {
                    before: std::mem::replace(&mut self.phase, returning),
                    taken_from: self.taken_from.take(),
                    time: std::mem::take(&mut self.time),
                    hooks: std::mem::take(&mut self.on_cancel),
                })
            }
            Phase::Returning(..) | Phase::Completing(_) | Phase::Done(_) => Err(outcome),
        }
    }

    /// Begins the next step of a call whose outcome is decided.
    fn next_step(&mut self, sink: &Sink, hint: Hint) -> Step {
        // The last handover calls for this again.
        if self.handovers > 0 {
            return Step::Nothing;
        }
        if !matches!(self.phase, Phase::Returning(_, Publisher::Wanted)) {
            return Step::Nothing;
        }
        let is_early = |listener: &WhenDone| listener.is_first() || listener.observes();
        if matches!(sink, Sink::Here)
            && self.fields.is_empty()
            && !self.when_done.iter().any(is_early)
        {
            // Nobody has to be told before it is published.
            return Step::Publish(self.publish_at_once());
        }
        let is_plain = self.has_nobody_to_tell();
        let Phase::Returning(outcome, publisher) = &mut self.phase else { return Step::Nothing };
        *publisher = Publisher::Present;
        let is_answer = matches!(sink, Sink::Answer(..)) && hint != Hint::OnlyPipeline;
        let hollow = is_answer
            && outcome.as_ref().is_ok_and(|payload| payload.caps().is_empty())
            && !self.when_done.iter().any(WhenDone::observes);
        // Content without capabilities leaves without a copy if it is not shared; and no
        // pipelined call needs it, but those who observe may.
        let outcome = if hollow {
            let outcome = std::mem::replace(outcome, Ok(Payload::empty().clone()));
            if is_plain && self.waiters.is_empty() {
                // Whoever looks finds no more than if the Return were not sent yet.
                self.phase = Phase::Done(Ok(Payload::empty().clone()));
                return Step::Return(outcome);
            }
            outcome
        } else {
            outcome.clone()
        };
        let (fields, demand) = (self.living_fields(), self.demand_at_end);
        if self.when_done.is_empty() {
            return Step::HandOver(HandOver {
                outcome,
                fields,
                first: Vec::new(),
                demand,
                span: None,
            });
        }
        let is_first = |listener: &mut WhenDone| listener.is_first();
        let first: Vec<_> = self.when_done.extract_if(.., is_first).collect();
        Step::HandOver(HandOver { outcome, fields, first, demand, span: self.span() })
    }

    /// Whether nothing but the phase changes, and threads are called, when the outcome of a call
    /// is published that is decided.
    fn is_plain(&self, sink: &Sink) -> bool {
        matches!(sink, Sink::Here) && self.handovers == 0 && self.has_nobody_to_tell()
    }

    /// Whether nothing of this call depends on the outcome but threads that wait for it.
    fn has_nobody_to_tell(&self) -> bool {
        self.fields.is_empty() && self.when_done.is_empty() && self.early.is_none()
    }

    /// Publishes the outcome that was decided.
    fn publish_at_once(&mut self) -> Published {
        let nothing = || Ok(Payload::empty().clone());
        let outcome = match &mut self.phase {
            Phase::Returning(outcome, _) => std::mem::replace(outcome, nothing()),
            _ => nothing(),
        };
        self.publish(outcome)
    }

    /// Publishes an outcome.
    fn publish(&mut self, outcome: Outcome) -> Published {
        let when_done = std::mem::take(&mut self.when_done);
        let told = (!when_done.is_empty()).then(|| outcome.clone());
        let before = std::mem::replace(&mut self.phase, Phase::Done(outcome));
        if !self.fields.is_empty() {
            self.fields.clear();
        }
        Published {
            before,
            early: self.early.take(),
            outcome: told,
            when_done,
            demand: self.demand_at_end,
            called: self.waiters.call_all(),
        }
    }

    /// The fields that somebody still refers to.
    fn living_fields(&self) -> Vec<(Path, Arc<LocalPromise>)> {
        if self.fields.is_empty() {
            return Vec::new();
        }
        let living =
            |(path, field): (&Path, &Weak<LocalPromise>)| Some((path.clone(), field.upgrade()?));
        self.fields.iter().filter_map(living).collect()
    }

    fn spans(&self) -> impl Iterator<Item = &CallSpan> {
        self.when_done.iter().filter_map(|listener| match listener {
            WhenDone::Span(span) => Some(span),
            _ => None,
        })
    }

    /// The span to which the answer belongs.
    fn span(&self) -> Option<Span> {
        let own = self.spans().filter(|span| !span.is_of(Kind::PassedOn));
        own.last().map(|span| span.span().clone())
    }
}

impl CallCell {
    /// Looks at this call, then at the one whose outcome it will have, and so on, until something
    /// is found. A call may stand for another one behind a membrane, and peers make chains of calls
    /// that take each other's outcome, as long as they like.
    fn first_in_chain<R>(&self, look: impl Fn(&CallCell) -> Option<R>) -> Option<R> {
        let mut next = None::<Arc<CallCell>>;
        loop {
            let cell = next.as_deref().unwrap_or(self);
            if let Some(found) = look(cell) {
                return Some(found);
            }
            let other = Arc::clone(cell.state.lock().taken_from.as_ref()?.cell());
            next = Some(other);
        }
    }
}

impl Awaited for CallCell {
    fn behind(&self) -> Option<Arc<dyn Calls>> {
        let found = self.first_in_chain(|cell| {
            let (object, place) = match &cell.state.lock().queued_in {
                Some((Queue::Mailbox(object), place)) => (object.upgrade(), *place),
                _ => return None,
            };
            // A method that has returned will be answered without the object's worker.
            Some(object.filter(|object| object.waits(cell.origin, place) || object.runs(cell)))
        });
        Some(found?? as _)
    }

    fn awaited_peer(&self) -> Option<String> {
        self.first_in_chain(|cell| match &cell.state.lock().phase {
            Phase::Asked(question) | Phase::Redirected(question) => {
                Some(origin::named(question.peer()))
            }
            _ => None,
        })
    }
}

impl Drop for CallCell {
    fn drop(&mut self) {
        // The listeners may be closures of the application, and calls that take this
        // call's outcome, which have listeners in turn.
        self.no_longer_counts();
        let state = self.state.get_mut();
        if !state.when_done.is_empty() || !state.on_cancel.is_empty() {
            let (when_done, hooks) =
                (std::mem::take(&mut state.when_done), std::mem::take(&mut state.on_cancel));
            effects::defer(Effect::drop_foreign((when_done, hooks)));
        }
    }
}

impl WhenDone {
    /// Whether it is told before the outcome is published.
    fn is_first(&self) -> bool {
        match self {
            WhenDone::First(_) => true,
            WhenDone::Observer(observer) => observer.is_told_at_once(),
            _ => false,
        }
    }

    /// Whether it is told what was returned, and not what is left of it.
    fn observes(&self) -> bool {
        matches!(self, WhenDone::Observer(_))
    }

    fn notify(self, outcome: &Outcome, demand: Demand) {
        match self {
            WhenDone::Call(cell, change) => {
                let outcome = change.of(outcome, &cell);
                if cell.begin_completion(outcome) {
                    effects::defer(Effect::FinishCompletion(cell));
                }
            }
            WhenDone::Closure(executor, closure) => {
                let outcome = outcome.clone();
                effects::spawn_or_run(&*executor, Job::closure(move || closure(outcome)));
            }
            WhenDone::Internal(closure) | WhenDone::First(closure) => closure(outcome),
            WhenDone::Observer(observer) => observer.tell_outcome(outcome, demand),
            WhenDone::Span(span) => span.ends(outcome.as_ref().err()),
            WhenDone::Waker(waker) => effects::defer(Effect::Wake(waker)),
        }
    }
}
