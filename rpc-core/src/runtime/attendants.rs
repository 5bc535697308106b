//! Threads that the connections of a vat share.
//!
//! Note [shared threads]
//!
//! The three threads of a connection wait most of the time. Where connections share their
//! threads ([`ConnectionThreads::Shared`](super::ConnectionThreads)), the work of each of
//! the three is a *duty*. Whoever would wake the thread calls for the duty instead, and one
//! of the vat's *attendants* does what there is to do. One more thread stands by for the
//! sockets of all connections, and calls for the duty of reading (Note [reading in turns]).
//!
//! # State model of a duty
//!
//! ```text
//! Idle ──called for──► Due ──an attendant begins──► Attended ──nothing is left──► Idle
//!                       ▲                             │   ▲
//!                       │ begun once more   called for│   │begun once more
//!                       └────────┐                    ▼   │
//!                                └──────────────── AttendedAndDue
//! ```
//!
//! - A duty is attended to by one thread at a time, and at least once after each call.
//! - There are as many attendants as duties under way: one that waits, for a peer that
//!   does not read, holds up no other connection. So in the worst case there are as many
//!   threads as without sharing. An attendant that has had nothing to do for a while ends,
//!   but for one, which stays as long as no other has nothing to do.
//! - If no more threads can be started, a duty that is due waits for the next attendant, and
//!   the thread that stands by tries again and again to start one. The end of a connection
//!   waits for no other attendant: the one that sees it off does itself what nobody has
//!   begun.
//! - A forked child has no attendants, and calls for none.
//!
//! Rules of the locks: the lock of the attendants is never held while a duty is attended
//! to, or dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::log::tell;
use crate::memory::GiveBack;
use crate::panics;
use crate::protocol::table::Table;
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::{Mutex, StandbySet, thread};
use crate::work::home::Home;
use crate::work::pool::Pool;
use crate::work::role::{self, Role};
use crate::work::waiting::{self, Waiters};

/// How long an attendant that has nothing to do waits for a duty.
const LINGER: Duration = Duration::from_secs(2);

/// How long the thread that stands by waits before it tries again to start an attendant.
const RETRY: Duration = Duration::from_millis(100);

/// Number of duties that are due for which memory is kept.
const KEPT: usize = 64;

/// The work of one of a connection's threads.
pub(super) trait Resident: Send + Sync {
    /// Does what there is to do. Returns where a thread of the connection's own would wait
    /// for more.
    fn attend(&self);
}

/// The work of a resident, and how far it is.
struct Duty {
    state: AtomicU8,
    resident: Box<dyn Resident>,
}

const IDLE: u8 = 0;
const DUE: u8 = 1;
const ATTENDED: u8 = 2;
const ATTENDED_AND_DUE: u8 = 3;

/// What calls for a duty.
#[derive(Clone)]
pub(super) struct Summons {
    duty: Weak<Duty>,
    attendants: Weak<Shared>,
}

#[cfg(all(test, not(rpc_model)))]
impl Summons {
    /// Calls for nothing.
    pub(super) fn of_nobody() -> Self {
        Summons { duty: Weak::new(), attendants: Weak::new() }
    }
}

/// A connection whose work is left to attendants. Dropping this lets go of its duties.
pub(super) struct Member {
    attendants: Arc<Attendants>,
    connection: u64,
}

/// The duties of one connection.
pub(super) struct Duties {
    pub(super) coordinating: Summons,
    pub(super) sending: Summons,
    /// Absent for a transport that no thread can stand by for.
    pub(super) reading: Option<Summons>,
}

/// Keeps the duties of one connection.
struct Entry {
    reading: Option<Summons>,
    _duties: Vec<Arc<Duty>>,
}

/// The attendants of a vat. Dropping this ends them once nothing is left to be done.
pub(super) struct Attendants {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    home: Home,
    pool: Weak<Pool>,
    /// The duties of the connections that have not ended, by the connections' numbers.
    entries: Table<u64, Entry, crate::sync::Shared>,
    state: Mutex<State>,
    this: Weak<Shared>,
}

#[derive(Default)]
struct State {
    due: VecDeque<Arc<Duty>>,
    /// The attendants that wait for a duty, and whoever waits for their end.
    idle: Waiters,
    ending: Waiters,
    attendants: usize,
    /// Whether one of the attendants waits, or was just called, that does not end.
    one_stays: bool,
    /// The number of attendants that could not be started.
    lacking: usize,
    /// The number of attendants that were ever started.
    started: u64,
    members: usize,
    standby: StandbyThread,
    closed: bool,
}

/// The thread that stands by for the sockets.
#[derive(Default)]
enum StandbyThread {
    #[default]
    NotStarted,
    Runs(Arc<StandbySet>),
    /// It has ended, or will when it looks.
    Over,
}

impl Summons {
    /// Calls for the duty, if the connection still has it. Does not wait.
    pub(super) fn call(&self) {
        let Some(duty) = self.duty.upgrade() else { return };
        if duty.call() {
            match self.attendants.upgrade() {
                Some(shared) => shared.add(duty),
                None => tell!(DEBUG, "nobody attends to a connection of a vat that is gone"),
            }
        }
    }

    /// Does on this thread what is due, unless another thread has begun to.
    pub(super) fn attend(&self) {
        if let Some(duty) = self.duty.upgrade() {
            duty.attend();
        }
    }
}

impl Duty {
    /// Returns whether the duty has become due.
    fn call(&self) -> bool {
        let next = |state| match state {
            IDLE => Some(DUE),
            ATTENDED => Some(ATTENDED_AND_DUE),
            _ => None,
        };
        let before = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        before == Ok(IDLE)
    }

    /// Does what is due, unless another thread has begun to.
    fn attend(&self) {
        let change = |from, to| {
            self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if !change(DUE, ATTENDED) {
            return;
        }
        loop {
            // What can panic in it is caught where the connection can be ended.
            let _ = panics::caught("a thread of a connection", || self.resident.attend());
            if change(ATTENDED, IDLE) {
                return;
            }
            self.state.store(ATTENDED, Ordering::SeqCst);
        }
    }
}

impl Attendants {
    pub(super) fn new(name: String, pool: &Arc<Pool>) -> Self {
        let shared = Arc::new_cyclic(|this| Shared {
            name,
            home: Home::here(),
            pool: Arc::downgrade(pool),
            entries: Table::new(),
            state: Mutex::default(),
            this: Weak::clone(this),
        });
        Attendants { shared }
    }

    /// Takes a connection on.
    pub(super) fn admit(self: &Arc<Self>, connection: u64) -> Member {
        self.shared.state.lock().members += 1;
        Member { attendants: Arc::clone(self), connection }
    }

    /// The number of attendants.
    #[cfg(all(test, rpc_model))]
    pub(super) fn number(&self) -> usize {
        self.shared.state.lock().attendants
    }

    /// Ends the attendants when nothing is left to be done, and waits for that. Returns
    /// whether they have ended before the deadline.
    pub(super) fn close(&self, deadline: Deadline) -> bool {
        self.shared.close();
        let ended = waiting::park(
            &self.shared.state,
            |state| &mut state.ending,
            deadline,
            |state, _| (state.attendants == 0).then_some(()),
        );
        ended.is_some()
    }
}

impl Drop for Attendants {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Member {
    /// Where the sockets of connections are stood by for; `None` where that is not possible.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn standby(&self) -> Result<Option<Arc<StandbySet>>> {
        let shared = &self.attendants.shared;
        let mut state = shared.state.lock();
        match &state.standby {
            StandbyThread::Runs(set) => return Ok(Some(Arc::clone(set))),
            StandbyThread::Over => return Ok(None),
            StandbyThread::NotStarted => {}
        }
        let set = match StandbySet::new() {
            Ok(set) => Arc::new(set),
            Err(error) => {
                tell!(DEBUG, %error, "nobody can stand by for the sockets of connections");
                return Ok(None);
            }
        };
        let (own, weak) = (Arc::clone(&set), Weak::clone(&shared.this));
        shared.spawn("standby", move || stand_by(&own, &weak))?;
        state.standby = StandbyThread::Runs(Arc::clone(&set));
        Ok(Some(set))
    }

    /// Takes over the duties of the connection.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn enter(
        &self,
        coordinating: Box<dyn Resident>,
        sending: Box<dyn Resident>,
        reading: Option<Box<dyn Resident>>,
    ) -> Result<Duties> {
        let shared = &self.attendants.shared;
        {
            let mut state = shared.state.lock();
            if state.attendants == 0 {
                shared.start_attendant(&mut state)?;
            }
        }
        let mut all = Vec::new();
        let mut duty = |resident| {
            let duty = Arc::new(Duty { state: AtomicU8::new(IDLE), resident });
            let summons =
                Summons { duty: Arc::downgrade(&duty), attendants: Weak::clone(&shared.this) };
            all.push(duty);
            summons
        };
        let coordinating = duty(coordinating);
        let sending = duty(sending);
        let reading = reading.map(duty);
        let entry = Entry { reading: reading.clone(), _duties: all };
        shared.entries.insert(self.connection, entry);
        Ok(Duties { coordinating, sending, reading })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let shared = &self.attendants.shared;
        drop(shared.entries.remove(self.connection));
        let standby = {
            let mut state = shared.state.lock();
            state.members -= 1;
            state.end_standby()
        };
        ring(standby);
    }
}

/// Lets the thread look that stands by.
fn ring(standby: Option<Arc<StandbySet>>) {
    if let Some(set) = standby {
        set.ring();
    }
}

impl State {
    /// Lets the thread end that stands by, if nobody needs it any more: then it has to look.
    fn end_standby(&mut self) -> Option<Arc<StandbySet>> {
        if !self.closed || self.members > 0 {
            return None;
        }
        match std::mem::replace(&mut self.standby, StandbyThread::Over) {
            StandbyThread::Runs(set) => Some(set),
            StandbyThread::NotStarted | StandbyThread::Over => None,
        }
    }

    /// Notes that an attendant could not be started. The thread that stands by has to look.
    fn lacks(&mut self, error: &Error) -> Option<Arc<StandbySet>> {
        tell!(ERROR, %error, "connections wait for a thread");
        self.lacking += 1;
        match &self.standby {
            StandbyThread::Runs(set) => Some(Arc::clone(set)),
            StandbyThread::NotStarted | StandbyThread::Over => None,
        }
    }
}

impl Shared {
    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let role = Role::Coordinator(Weak::clone(&self.pool));
        let in_role = move || {
            role::assume(role);
            work();
        };
        let named = thread::Builder::new().name(format!("{}-{name}", self.name));
        named.spawn(in_role).map(drop).map_err(|error| {
            Error::overloaded(format!("no thread could be started for connections: {error}"))
        })
    }

    /// Lets an attendant do what is due.
    fn add(&self, duty: Arc<Duty>) {
        let (called, standby) = {
            let mut state = self.state.lock();
            state.due.push_back(duty);
            let called = state.idle.call_last();
            let started = if called.is_empty() && self.home.is_here() {
                self.start_attendant(&mut state)
            } else {
                Ok(())
            };
            (called, started.err().and_then(|error| state.lacks(&error)))
        };
        called.wake_now();
        ring(standby);
    }

    /// Starts the attendants that could not be started before. Returns when to try again;
    /// `None` when nobody has to stand by any more.
    fn start_those_lacking(&self) -> Option<Deadline> {
        let mut state = self.state.lock();
        if matches!(state.standby, StandbyThread::Over) {
            return None;
        }
        while state.lacking > 0 && !state.due.is_empty() {
            if self.start_attendant(&mut state).is_err() {
                return Some(Deadline::after(RETRY));
            }
            state.lacking -= 1;
        }
        state.lacking = 0;
        Some(Deadline::NEVER)
    }

    fn start_attendant(&self, state: &mut State) -> Result<()> {
        let Some(this) = self.this.upgrade() else { return Ok(()) };
        state.started += 1;
        self.spawn(&format!("attendant-{}", state.started), move || this.attend())?;
        state.attendants += 1;
        Ok(())
    }

    /// What an attendant does.
    fn attend(&self) {
        while let Some(duty) = self.next() {
            role::set_pace(role::Pace::Calm);
            duty.attend();
        }
    }

    /// The next duty; `None` when the attendant has to end. It is not counted any more then.
    fn next(&self) -> Option<Arc<Duty>> {
        let found = loop {
            let stays = !std::mem::replace(&mut self.state.lock().one_stays, true);
            let deadline = if stays { Deadline::NEVER } else { Deadline::after(LINGER) };
            let found = waiting::park(
                &self.state,
                |state| &mut state.idle,
                deadline,
                |state, look| {
                    let next = state.due.pop_front();
                    if next.is_none() {
                        // The one that stays may have been called.
                        let others = state.idle.len() > usize::from(!look.called);
                        let ends = state.closed || (look.late && state.one_stays && others);
                        if !ends {
                            return None;
                        }
                        state.attendants -= 1;
                    }
                    state.due.give_back(KEPT);
                    state.one_stays &= !stays;
                    Some(next)
                },
            );
            if let Some(found) = found {
                break found;
            }
        };
        if found.is_none() {
            let called = self.state.lock().ending.call_all();
            called.wake_now();
        }
        found
    }

    fn close(&self) {
        let (called, standby) = {
            let mut state = self.state.lock();
            state.closed = true;
            (state.idle.call_all(), state.end_standby())
        };
        called.wake_now();
        ring(standby);
    }
}

/// What the thread does that stands by for the sockets.
fn stand_by(set: &StandbySet, shared: &Weak<Shared>) {
    let mut deadline = Deadline::NEVER;
    loop {
        let found = match set.wait(deadline) {
            Ok(found) => found,
            Err(error) => {
                tell!(ERROR, %error, "nobody stands by for the sockets of connections any more");
                return;
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        if let Some(number) = found {
            let reading = shared.entries.with(number, |entry| entry.reading.clone());
            if let Some(reading) = reading.flatten() {
                reading.call();
            }
        }
        if found.is_none() || deadline.has_passed() {
            match shared.start_those_lacking() {
                Some(next) => deadline = next,
                None => return,
            }
        }
    }
}
