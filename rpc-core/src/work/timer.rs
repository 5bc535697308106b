//! What ends at a point in time though no thread waits for it.
//!
//! Note [timer]
//!
//! A thread that waits sees to its own deadline: Note [waiting]. A call that was sent
//! with a deadline must end in time even if nobody waits for it, and without a thread of
//! its own. So the process has one more thread, which is started when such a call is
//! first made, and lives as long as the process. It keeps what has to end in a list in
//! the order of time, and sleeps until the first of it is due.
//!
//! A call that is over takes its entry off the list, and leaves the thread asleep: the
//! thread then wakes to find nothing due, and sleeps until the next entry's time. So
//! calls that all have the same deadline, and return before it, wake the thread once in
//! that time, however many they are. Only an entry that comes before everything for which
//! the thread sleeps wakes it.
//!
//! A child that was forked has a copy of the list, but not the thread, and the copy of the
//! lock may be held for ever. So a list belongs to a process, and the first such call that
//! a child makes leads to a list of the child's own. No lock is taken to find it.
//!
//! The thread serves connections: what it ends must not wait for other threads. The lock
//! is a leaf, and nothing that the list holds is ended or dropped under it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock, Weak};
use std::time::Instant;

use super::home::Home;
use super::role::{self, Role};
use super::waiting::{self, Called, Waiters};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::panics;
use crate::sync::{Mutex, thread};

/// Something that ends at a point in time.
pub(crate) trait Expire: Send + Sync {
    /// Ends it: the time has come. Must not wait. Called without a lock.
    fn expire(self: Arc<Self>);
}

/// An entry in the list. Dropping it takes the entry off.
pub(crate) struct Ticket {
    timer: &'static Timer,
    place: Place,
}

/// What is due comes in the order of time, and what is due at the same time in the order
/// in which it was entered.
type Place = (Instant, u64);

/// The list, and the thread that works it off.
struct Timer {
    state: Mutex<State>,
    home: Home,
    /// That of a child of this process: only there, this is ever set.
    of_child: OnceLock<Box<Timer>>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Place, Weak<dyn Expire>>,
    next_number: u64,
    thread: Thread,
    /// The thread, while it sleeps.
    waiters: Waiters,
}

/// What the thread does.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Thread {
    #[default]
    NotStarted,
    /// It will look at the list before it sleeps.
    Awake,
    AsleepUntil(Deadline),
}

/// That of the process in which it was first used.
static TIMER: LazyLock<Timer> = LazyLock::new(Timer::new);

/// Ends something at this time, unless the ticket is dropped before.
///
/// # Errors
/// The system has no thread to give.
pub(crate) fn at(time: Instant, what: Weak<dyn Expire>) -> Result<Ticket> {
    TIMER.of_this_process().at(time, what)
}

impl Ticket {
    /// When it is due.
    pub(crate) fn time(&self) -> Instant {
        self.place.0
    }
}

impl Timer {
    fn new() -> Self {
        Timer { state: Mutex::default(), home: Home::here(), of_child: OnceLock::new() }
    }

    fn of_this_process(&'static self) -> &'static Self {
        let mut timer = self;
        while !timer.home.is_here() {
            timer = timer.of_child.get_or_init(|| Box::new(Timer::new()));
        }
        timer
    }

    fn at(&'static self, time: Instant, what: Weak<dyn Expire>) -> Result<Ticket> {
        let mut state = self.state.lock();
        if state.thread == Thread::NotStarted {
            // Under the lock: whoever comes next relies on the thread.
            self.start()?;
            state.thread = Thread::Awake;
        }
        let place = (time, state.next_number);
        state.next_number += 1;
        state.entries.insert(place, what);
        let called = match state.thread {
            Thread::AsleepUntil(wakes) if wakes.time().is_none_or(|wakes| time < wakes) => {
                state.thread = Thread::Awake;
                state.waiters.call_all()
            }
            _ => Called::default(),
        };
        drop(state);
        called.wake();
        Ok(Ticket { timer: self, place })
    }

    fn start(&'static self) -> Result<()> {
        let run = move || {
            role::assume(Role::Coordinator(Weak::new()));
            loop {
                self.work();
            }
        };
        match thread::Builder::new().name("rpc-deadlines".into()).spawn(run) {
            // The thread lives as long as the process.
            Ok(_detached) => Ok(()),
            Err(error) => {
                Err(Error::overloaded(format!("no thread could be started for deadlines: {error}")))
            }
        }
    }

    /// Ends what is due, or sleeps until something is.
    fn work(&self) {
        let (due, next) = {
            let mut state = self.state.lock();
            let due = state.take_due(Instant::now());
            let next = state.entries.first_key_value();
            let next = next.map_or(Deadline::NEVER, |((time, _), _)| Deadline::at(*time));
            if due.is_empty() {
                state.thread = Thread::AsleepUntil(next);
            }
            (due, next)
        };
        if due.is_empty() {
            let is_called = |state: &mut State, _| (state.thread == Thread::Awake).then_some(());
            // Whether it was called or the time has come, it looks again.
            let _ = waiting::park(&self.state, |state| &mut state.waiters, next, is_called);
            self.state.lock().thread = Thread::Awake;
        }
        for what in due {
            if let Some(what) = what.upgrade() {
                // Nobody replaces this thread.
                let _ = panics::caught("the end of a call's time", || what.expire());
            }
        }
    }
}

impl State {
    fn take_due(&mut self, now: Instant) -> Vec<Weak<dyn Expire>> {
        let mut due = Vec::new();
        while let Some(first) = self.entries.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // In a child, nobody works the parent's list off.
        if self.timer.home.is_here() {
            let entry = self.timer.state.lock().entries.remove(&self.place);
            drop(entry);
        }
    }
}

#[cfg(all(test, not(rpc_model)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Tells of its end.
    struct Told(&'static str, mpsc::Sender<&'static str>);

    impl Expire for Told {
        fn expire(self: Arc<Self>) {
            self.1.send(self.0).unwrap();
        }
    }

    /// A list of the test's own, with something to enter into it.
    fn timer()
    -> (&'static Timer, impl Fn(&'static str) -> Arc<dyn Expire>, mpsc::Receiver<&'static str>)
    {
        let (tell, told) = mpsc::channel();
        let make = move |name| Arc::new(Told(name, tell.clone())) as Arc<dyn Expire>;
        (Box::leak(Box::new(Timer::new())), make, told)
    }

    fn in_an_hour() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[test]
    fn what_is_due_sooner_goes_first_even_if_the_thread_sleeps_already() {
        let (timer, make, told) = timer();
        let (late, soon) = (make("late"), make("soon"));
        let _late = timer.at(in_an_hour(), Arc::downgrade(&late)).unwrap();
        while !matches!(timer.state.lock().thread, Thread::AsleepUntil(_)) {
            std::thread::yield_now();
        }
        let _soon = timer.at(Instant::now(), Arc::downgrade(&soon)).unwrap();
        assert_eq!(told.recv(), Ok("soon"));
        assert_eq!(timer.state.lock().entries.len(), 1);
    }

    #[test]
    fn what_is_due_at_once_goes_in_the_order_in_which_it_came() {
        let (timer, make, told) = timer();
        let now = Instant::now();
        let names = ["one", "two", "three"];
        let all: Vec<_> = names.into_iter().map(make).collect();
        let _tickets: Vec<_> =
            all.iter().map(|what| timer.at(now, Arc::downgrade(what)).unwrap()).collect();
        for name in names {
            assert_eq!(told.recv(), Ok(name));
        }
    }

    #[test]
    fn a_ticket_that_is_dropped_takes_its_entry_along_and_wakes_nobody() {
        let (timer, make, told) = timer();
        let what = make("never");
        let ticket = timer.at(in_an_hour(), Arc::downgrade(&what)).unwrap();
        while !matches!(timer.state.lock().thread, Thread::AsleepUntil(_)) {
            std::thread::yield_now();
        }
        assert_eq!(timer.state.lock().entries.len(), 1);
        drop(ticket);
        assert!(timer.state.lock().entries.is_empty());
        // Later than that for which the thread sleeps.
        let asleep = timer.state.lock().thread;
        let later = timer.at(in_an_hour() + Duration::from_secs(1), Arc::downgrade(&what));
        assert!(timer.state.lock().thread == asleep);
        drop(later.unwrap());
        // A marker that comes after all of this.
        let marker = make("marker");
        let _marker = timer.at(Instant::now(), Arc::downgrade(&marker)).unwrap();
        assert_eq!(told.recv(), Ok("marker"));
    }

    #[test]
    fn what_is_gone_does_not_end() {
        let (timer, make, told) = timer();
        let now = Instant::now();
        let gone = Arc::downgrade(&make("gone"));
        let _gone = timer.at(now, gone).unwrap();
        let marker = make("marker");
        let _marker = timer.at(now, Arc::downgrade(&marker)).unwrap();
        assert_eq!(told.recv(), Ok("marker"));
    }
}
