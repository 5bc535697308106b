//! The one way to wait.
//!
//! Note [waiting]
//!
//! A thread that waits looks at some state under the state's lock. If what it wants is
//! not there, the thread enters itself in the list of waiters that is part of this
//! state, unlocks, and parks. A thread that changes the state *calls* the waiters for
//! whom there is something now: it takes them out of the list, unlocks, and unparks
//! exactly these. A thread that was unparked looks again. So a needless wake-up does no
//! harm, and a waiter that was called in vain enters itself again.
//!
//! Every thread has one parker, which all of its waits use. Anything may unpark it at
//! any time: a call that came too late for an earlier wait, or the cancellation of the
//! method on it (Note [interrupts]).
//!
//! Waiters are called in the order in which they came, unless the list says otherwise.
//! What only one waiter can have is counted as given when this waiter is called, not
//! when its thread runs; the thread learns from [`Look::called`] that it was given
//! something. Otherwise a thread that comes in between could take it away, and the
//! order of arrival would mean nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Weak};

use super::executor::Calls;
use super::progress::{self, Means};
use super::{interrupt, left, role, waking};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::memory::GiveBack;
use crate::sync::{Mutex, Parker, Unparker};

/// The threads that wait for one thing. The list is part of the state that they look
/// at.
#[derive(Default)]
pub(crate) struct Waiters {
    /// The number of the next waiter.
    next: u64,
    /// The first waiter, kept apart so that a list of one costs no allocation.
    first: Option<Waiter>,
    /// The other waiters, in ascending order of their numbers. Empty if there is no
    /// first one.
    others: VecDeque<Waiter>,
}

/// Number of waiters for which a list keeps memory.
const KEPT: usize = 16;

struct Waiter {
    number: u64,
    thread: Unparker,
}

/// Threads that were taken out of a list and have to be unparked without its lock.
#[must_use = "a thread that is called and not unparked sleeps for ever"]
#[derive(Default)]
pub(crate) struct Called {
    first: Option<Unparker>,
    others: VecDeque<Waiter>,
}

/// What a thread knows of its own wait when it looks.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// The thread was called after it looked last.
    pub(crate) called: bool,
    /// The deadline has come: this is the thread's last look.
    pub(crate) late: bool,
}

impl Waiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// Calls the waiter that came first.
    pub(crate) fn call_first(&mut self) -> Called {
        let first = self.first.take();
        self.first = self.others.pop_front();
        self.others.give_back(KEPT);
        Called { first: first.map(|waiter| waiter.thread), others: VecDeque::new() }
    }

    /// Calls the waiter that came last: its data is the most likely to be still in a
    /// cache.
    pub(crate) fn call_last(&mut self) -> Called {
        let last = self.others.pop_back().or_else(|| self.first.take());
        self.others.give_back(KEPT);
        Called { first: last.map(|waiter| waiter.thread), others: VecDeque::new() }
    }

    /// Calls all waiters.
    pub(crate) fn call_all(&mut self) -> Called {
        Called {
            first: self.first.take().map(|waiter| waiter.thread),
            others: std::mem::take(&mut self.others),
        }
    }

    fn enter(&mut self, thread: Unparker) -> u64 {
        let number = self.next;
        self.next += 1;
        let waiter = Waiter { number, thread };
        match &self.first {
            None => self.first = Some(waiter),
            Some(_) => self.others.push_back(waiter),
        }
        number
    }

    fn has(&self, number: u64) -> bool {
        self.first.as_ref().is_some_and(|first| first.number == number)
            || self.others.binary_search_by_key(&number, |other| other.number).is_ok()
    }

    fn leave(&mut self, number: u64) {
        if self.first.as_ref().is_some_and(|first| first.number == number) {
            self.first = self.others.pop_front();
        } else if let Ok(place) = self.others.binary_search_by_key(&number, |other| other.number) {
            self.others.remove(place);
        }
        self.others.give_back(KEPT);
    }
}

impl Called {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds the threads that were called from another list.
    pub(crate) fn and(mut self, more: Called) -> Called {
        match (&self.first, more.first) {
            (None, first) => self.first = first,
            (Some(_), None) => {}
            (Some(_), Some(thread)) => self.others.push_back(Waiter { number: 0, thread }),
        }
        self.others.extend(more.others);
        self
    }

    /// Unparks the threads, at the end of the batch if this thread works one off:
    /// Note [waking together].
    pub(crate) fn wake(self) {
        self.for_each(waking::wake);
    }

    /// Unparks the threads at once.
    pub(crate) fn wake_now(self) {
        self.for_each(|thread| thread.unpark());
    }

    fn for_each(self, mut wake: impl FnMut(Unparker)) {
        if let Some(first) = self.first {
            wake(first);
        }
        for other in self.others {
            wake(other.thread);
        }
    }
}

/// Something that a method waits for, and that may wait in turn.
pub(crate) trait Awaited: Send + Sync {
    /// The object behind whose method this waits.
    fn behind(&self) -> Option<Arc<dyn Calls>>;

    /// The peer that was asked, in words, if that is what this waits for.
    fn awaited_peer(&self) -> Option<String>;
}

crate::sync::thread_local! {
    static PARKER: Parker = Parker::new();
}

/// What unparks this thread.
pub(crate) fn this_thread() -> Unparker {
    with_parker(Parker::unparker)
}

/// Runs something with this thread's parker.
pub(crate) fn with_parker<R>(run: impl FnOnce(&Parker) -> R) -> R {
    let mut run = Some(run);
    let ran = PARKER.try_with(|parker| run.take().map(|run| run(parker)));
    match (ran, run) {
        (Ok(Some(result)), _) => result,
        // The thread is ending, and its parker is gone already.
        (_, Some(run)) => run(&Parker::new()),
        (_, None) => unreachable!("what ran has a result"),
    }
}

/// Whether this thread still has what is needed to make progress (Note [progress]). A
/// thread that is ending, and waits in a destructor of its own, may have lost it.
pub(crate) fn can_make_progress() -> bool {
    progress::is_there() && role::is_there() && waking::is_there()
}

/// Waits on behalf of the application until `look`, which runs under the lock, finds
/// something; returns `None` if `deadline` comes first. A worker that waits lets
/// another worker have its place. `list` finds the list of waiters in the state.
///
/// Must not be called under a lock.
///
/// # Errors
/// This thread serves a connection and must not wait; or the call of the method on this
/// thread was cancelled, and the method lets a cancellation end its waits.
pub(crate) fn wait<S, R>(
    state: &Mutex<S>,
    list: impl Fn(&mut S) -> &mut Waiters,
    deadline: Deadline,
    look: impl FnMut(&mut S, Look) -> Option<R>,
) -> Result<Option<R>, Error> {
    wait_by(|_| None, state, list, deadline, look)
}

/// As [`wait`], for something that this thread may bring forward. `means` runs under the
/// lock: Note [progress].
pub(crate) fn wait_by<S, R>(
    means: impl Fn(&S) -> Means,
    state: &Mutex<S>,
    list: impl Fn(&mut S) -> &mut Waiters,
    deadline: Deadline,
    look: impl FnMut(&mut S, Look) -> Option<R>,
) -> Result<Option<R>, Error> {
    wait_for(|| None, means, state, list, deadline, look)
}

/// As [`wait_by`], for something that may wait in turn: Note [stuck workers].
pub(crate) fn wait_for<S, R>(
    awaited: impl FnOnce() -> Option<Weak<dyn Awaited>>,
    means: impl Fn(&S) -> Means,
    state: &Mutex<S>,
    list: impl Fn(&mut S) -> &mut Waiters,
    deadline: Deadline,
    mut look: impl FnMut(&mut S, Look) -> Option<R>,
) -> Result<Option<R>, Error> {
    if role::may_wait() {
        let found = look(&mut state.lock(), Look { called: false, late: false });
        if found.is_some() {
            return Ok(found);
        }
    }
    role::wait_for(awaited, || park_unless(means, state, list, deadline, look, interrupt::check))?
}

/// Waits as part of this library: as [`wait`] does, but on any thread, and only the
/// deadline can end the wait before `look` finds something.
pub(crate) fn park<S, R>(
    state: &Mutex<S>,
    list: impl Fn(&mut S) -> &mut Waiters,
    deadline: Deadline,
    look: impl FnMut(&mut S, Look) -> Option<R>,
) -> Option<R> {
    match park_unless(|_| None, state, list, deadline, look, || Ok::<(), Infallible>(())) {
        Ok(found) => found,
        Err(never) => match never {},
    }
}

/// The loop of every wait. `go_on`, called under the lock before each sleep, may end
/// it.
fn park_unless<S, R, E>(
    means: impl Fn(&S) -> Means,
    state: &Mutex<S>,
    list: impl Fn(&mut S) -> &mut Waiters,
    deadline: Deadline,
    mut look: impl FnMut(&mut S, Look) -> Option<R>,
    go_on: impl Fn() -> Result<(), E>,
) -> Result<Option<R>, E> {
    with_parker(|parker| {
        let mut entered = None;
        let mut late = false;
        loop {
            let mut guard = state.lock();
            let called = entered.is_some_and(|number| !list(&mut guard).has(number));
            let end = match look(&mut guard, Look { called, late }) {
                Some(found) => Some(Ok(Some(found))),
                None if late => Some(Ok(None)),
                None => go_on().err().map(Err),
            };
            if let Some(end) = end {
                if let Some(number) = entered {
                    list(&mut guard).leave(number);
                }
                return end;
            }
            if called || entered.is_none() {
                entered = Some(list(&mut guard).enter(parker.unparker()));
            }
            let means = means(&guard);
            drop(guard);
            let prepared = means.as_ref().is_some_and(progress::take_prepared);
            // This thread waits for something else than it thought.
            progress::let_go();
            left::write();
            late = match means {
                Some(means) if means.make(parker, deadline, prepared) => deadline.has_passed(),
                Some(means) => means.park(parker, deadline),
                None => parker.park(deadline),
            };
        }
    })
}

#[cfg(all(test, not(rpc_model)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Line {
        waiters: Waiters,
        tickets: usize,
    }

    fn take_a_ticket(line: &Mutex<Line>) {
        let found = park(
            line,
            |line| &mut line.waiters,
            Deadline::NEVER,
            |line, look| {
                let mine = look.called && line.tickets > 0;
                mine.then(|| line.tickets -= 1)
            },
        );
        assert!(found.is_some());
    }

    /// Waits until this many threads stand in line.
    fn until_there_are(line: &Mutex<Line>, number: u64) {
        while line.lock().waiters.next < number {
            std::thread::yield_now();
        }
    }

    #[test]
    fn threads_are_called_in_the_order_in_which_they_came() {
        let line = Arc::new(Mutex::new(Line::default()));
        let threads: Vec<_> = (1..=5)
            .map(|number| {
                let own = Arc::clone(&line);
                let thread = std::thread::spawn(move || take_a_ticket(&own));
                until_there_are(&line, number);
                thread
            })
            .collect();
        for thread in threads {
            let called = {
                let mut line = line.lock();
                line.tickets += 1;
                line.waiters.call_first()
            };
            called.wake();
            // The thread that goes on is this one.
            thread.join().unwrap();
        }
        assert!(line.lock().waiters.is_empty());
    }

    #[test]
    fn the_last_look_is_late_and_leaves_nothing_in_the_list() {
        let line = Mutex::new(Line::default());
        let mut looks = Vec::new();
        let found = park(
            &line,
            |line| &mut line.waiters,
            Deadline::after(Duration::ZERO),
            |_, look| -> Option<()> {
                looks.push(look.late);
                None
            },
        );
        assert!(found.is_none());
        assert_eq!(looks, [false, true]);
        assert!(line.lock().waiters.is_empty());
    }

    #[test]
    fn waking_a_thread_that_was_not_called_leaves_it_in_its_place() {
        let line = Arc::new(Mutex::new(Line::default()));
        let (own, them) = (Arc::clone(&line), std::sync::mpsc::channel());
        let first = std::thread::spawn(move || {
            them.0.send(this_thread()).unwrap();
            take_a_ticket(&own);
        });
        let thread = them.1.recv().unwrap();
        until_there_are(&line, 1);
        for _ in 0..100 {
            thread.unpark();
        }
        let own = Arc::clone(&line);
        let second = std::thread::spawn(move || take_a_ticket(&own));
        until_there_are(&line, 2);
        for thread in [first, second] {
            let called = {
                let mut line = line.lock();
                line.tickets += 1;
                line.waiters.call_first()
            };
            called.wake();
            thread.join().unwrap();
        }
        assert_eq!(line.lock().waiters.next, 2);
    }
}
