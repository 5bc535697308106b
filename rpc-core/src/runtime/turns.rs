//! A queue whose consumer is any thread that has time.
//!
//! Note [turns]
//!
//! Queueing something for another thread costs a wake-up: a system call, and the time
//! until the other thread runs. That is most of the time of a call when little else is
//! going on. So the right to consume the queue is a *turn* that any thread may take. A
//! thread that queued something and has nothing better to do takes the turn when it is
//! free. If there is more to do than such a thread should be kept for, the turn goes to the
//! *resident*, a thread that exists for this queue, or to an attendant in its place (Note
//! [shared threads]).
//!
//! # State model of the turn
//!
//! ```text
//! Free ──push──► Due ──claim──► Taken ──finish, nothing waits──► Free
//!                 │               └──handed over, or dropped──► Resident ──wait──► Taken
//!                 └──left, and found by the resident that watches──► Taken
//! ```
//!
//! Only the thread that has the turn takes items out, so their order is kept. With the turn it
//! gets the items that wait, and what is needed to consume them, which nobody else has meanwhile:
//! so consuming, which may wait, is done without a lock. The state
//! *Due* exists because an item may be pushed under a lock of the caller, as the
//! messages of the outbox are pushed under the order lock: waking a thread there would
//! be a system call under that lock. So a thread that has pushed calls
//! [`claim`](TurnQueue::claim) afterwards, without the lock; one of the threads that do
//! gets the turn.
//!
//! A thread that is going to queue more, or about to wait, need not take the turn yet, and
//! calls nobody: it *leaves* the turn due, and claims it later. Nobody can tell what else
//! the thread will do before that. So while threads do this the resident *watches*: it
//! looks again and again, and takes a turn that it finds due for the second time. (What it
//! finds for the first time belongs, mostly, to a thread that is in the middle of queueing
//! more.) Each look costs as much as several calls do. So the longer it watches the less
//! often it looks.
//!
//! ```text
//! No ──left, resident called──► Once ──left again──► Again
//!  ▲                            │  ▲                   │
//!  └──────the resident looks────┘  └the resident looks─┘
//! ```
//!
//! The resident may watch something else beside its queue, which threads leave in the same
//! way ([`Watched`]). It does so only while it waits for its turn: before it takes the turn,
//! and perhaps waits for what it does then, it sees to what was left there.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::attendants::Summons;
use crate::deadline::Deadline;
use crate::memory::GiveBack;
use crate::sync::{Flag, Level, Mutex};
use crate::work::waiting::{self, Called, Waiters};

/// Maximum memory that an empty queue keeps, in items.
pub(super) const KEPT: usize = 64;

/// How long a resident that begins to watch sleeps before it looks.
const FIRST_INTERVAL: Duration = Duration::from_micros(125);

/// How long a resident that has watched for a while sleeps before it looks. Nothing that was
/// left waits for longer than two of these, but for the time until the resident runs.
const LONGEST_INTERVAL: Duration = Duration::from_micros(500);

/// A queue of many producers, and what consumes it.
pub(super) struct TurnQueue<T, C> {
    state: Mutex<State<T, C>>,
    /// Whether the turn is due. Changed under the lock only.
    due: Flag,
    /// The number of items that wait for a turn that is due, while the resident watches for this
    /// interval and the next; otherwise the greatest number. Changed under the lock only.
    at_ease: Level,
    /// What calls the resident, if that is not a thread of its own.
    summons: OnceLock<Summons>,
    watched: OnceLock<Weak<dyn Watched>>,
}

/// What a resident watches beside its queue.
pub(super) trait Watched: Send + Sync {
    /// Looks, at the end of an interval, and sees to what was left before this interval.
    /// Returns whether something is still left.
    fn look(&self) -> bool;

    /// Sees to everything that is left: nobody will look for a while.
    fn see_to_it(&self);
}

struct State<T, C> {
    waiting: VecDeque<T>,
    /// What was taken out before those and has not been consumed; mostly nothing, kept for its
    /// memory.
    taken: VecDeque<T>,
    /// Absent while a thread has the turn, and once this is closed.
    consumer: Option<C>,
    owner: Owner,
    /// The number of times that the turn was claimed.
    claims: u64,
    /// Where the resident waits.
    resident: Waiters,
    whereabouts: Whereabouts,
    watch: Watch,
}

/// Where the resident is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    /// In [`TurnQueue::wait`].
    Here,
    Away,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Free,
    Due,
    Taken,
    Resident,
}

/// Whether the resident looks for a turn that was left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    No,
    /// At the end of this interval, and not after it.
    Once,
    /// The turn was left in this interval: also at the end of the next one.
    Again,
}

/// The right to consume. Dropping it hands the turn, and what is left to do, to the resident.
pub(super) struct Turn<'q, T, C> {
    queue: &'q TurnQueue<T, C>,
    /// What was taken out of the queue, in order.
    pub(super) taken: VecDeque<T>,
    /// `None` once the queue is closed.
    pub(super) consumer: Option<C>,
}

impl<T, C> TurnQueue<T, C> {
    pub(super) fn new(consumer: C) -> Self {
        TurnQueue {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                taken: VecDeque::new(),
                consumer: Some(consumer),
                owner: Owner::Free,
                claims: 0,
                resident: Waiters::default(),
                whereabouts: Whereabouts::Away,
                watch: Watch::No,
            }),
            due: Flag::default(),
            at_ease: Level::new(usize::MAX),
            summons: OnceLock::new(),
            watched: OnceLock::new(),
        }
    }

    /// Lets the resident watch something else, too.
    pub(super) fn watch(&self, watched: Weak<dyn Watched>) {
        // Done once, before anything is left there.
        let _ = self.watched.set(watched);
    }

    /// Leaves something to the resident that it watches. Returns whether it does: then it will
    /// [look](Watched::look), or [see to it](Watched::see_to_it). Does not wait.
    pub(super) fn leave_watched(&self) -> bool {
        let called = {
            let mut state = self.state.lock();
            if state.whereabouts == Whereabouts::Away {
                return false;
            }
            state.leave()
        };
        called.wake_now();
        true
    }

    /// The resident has ended, and watches nothing any more.
    pub(super) fn resident_is_gone(&self) {
        self.state.lock().whereabouts = Whereabouts::Away;
        self.see_to_watched();
    }

    fn see_to_watched(&self) {
        self.watched().into_iter().for_each(|watched| watched.see_to_it());
    }

    fn watched(&self) -> Option<Arc<dyn Watched>> {
        self.watched.get().and_then(Weak::upgrade)
    }

    /// Lets attendants be the resident. They [take the turn over](Self::take_over).
    pub(super) fn share(&self, summons: Summons) {
        // Done once, before anything is pushed.
        let _ = self.summons.set(summons);
    }

    /// Adds an item. [`claim`](Self::claim) must follow. Does not wait.
    pub(super) fn push(&self, item: T) {
        let mut state = self.state.lock();
        state.waiting.push_back(item);
        if state.owner == Owner::Free {
            state.owner = Owner::Due;
            self.due.set(true);
        }
        let at_ease = state.owner == Owner::Due && state.watch == Watch::Again;
        self.at_ease.set(if at_ease { state.waiting.len() } else { usize::MAX });
    }

    /// Whether the turn is due.
    pub(super) fn is_due(&self) -> bool {
        self.due.get()
    }

    /// Takes the turn if it is due. Does not wait.
    pub(super) fn claim(&self) -> Option<Turn<'_, T, C>> {
        if !self.is_due() {
            return None;
        }
        let mut state = self.state.lock();
        if state.owner != Owner::Due {
            return None;
        }
        self.take_due(&mut state);
        Some(self.turn(&mut state))
    }

    /// Takes the turn if it is due and so many items wait; leaves it if fewer do. The caller
    /// has to [`claim`](Self::claim) it when it is about to wait. Not for a queue whose
    /// resident attendants are. Does not wait.
    pub(super) fn claim_or_leave(&self, much: usize) -> Option<Turn<'_, T, C>> {
        // The resident sees to it, and watches as long as if this thread had left the turn.
        if !self.is_due() || self.at_ease.get() < much {
            return None;
        }
        let called = {
            let mut state = self.state.lock();
            if state.owner != Owner::Due {
                return None;
            }
            if state.waiting.len() >= much {
                self.take_due(&mut state);
                return Some(self.turn(&mut state));
            }
            state.leave()
        };
        called.wake_now();
        None
    }

    fn take_due(&self, state: &mut State<T, C>) {
        state.owner = Owner::Taken;
        state.claims += 1;
        self.due.set(false);
    }

    /// The turn that this thread has taken, with what waits.
    fn turn(&self, state: &mut State<T, C>) -> Turn<'_, T, C> {
        let mut taken = std::mem::take(&mut state.taken);
        state.take(&mut taken);
        Turn { queue: self, taken, consumer: state.consumer.take() }
    }

    /// Takes out what nobody is going to consume, and the consumer.
    pub(super) fn close(&self) -> (VecDeque<T>, VecDeque<T>, Option<C>) {
        let mut state = self.state.lock();
        let State { waiting, taken, consumer, .. } = &mut *state;
        (std::mem::take(taken), std::mem::take(waiting), consumer.take())
    }

    /// Waits until the resident has the turn.
    pub(super) fn wait(&self) -> Turn<'_, T, C> {
        let mut watching = Watching::No;
        loop {
            let found = waiting::park(
                &self.state,
                |state| &mut state.resident,
                watching.deadline(),
                |state, look| {
                    state.whereabouts = Whereabouts::Here;
                    if state.owner == Owner::Resident {
                        state.owner = Owner::Taken;
                    } else if look.late && watching.finds_due(state) {
                        self.take_due(state);
                    } else {
                        return watching.begins(state).then_some(Found::Watch);
                    }
                    state.whereabouts = Whereabouts::Away;
                    Some(Found::Turn(self.turn(state)))
                },
            );
            match found {
                Some(Found::Turn(turn)) => {
                    self.see_to_watched();
                    return turn;
                }
                // The end of an interval.
                None if self.watched().is_some_and(|watched| watched.look()) => {
                    self.state.lock().watch = Watch::Again;
                }
                Some(Found::Watch) | None => {}
            }
        }
    }

    /// Takes the turn if the resident has it. Does not wait.
    pub(super) fn take_over(&self) -> Option<Turn<'_, T, C>> {
        let mut state = self.state.lock();
        if state.owner != Owner::Resident {
            return None;
        }
        state.owner = Owner::Taken;
        Some(self.turn(&mut state))
    }
}

/// What the resident finds.
enum Found<'q, T, C> {
    Turn(Turn<'q, T, C>),
    /// It has to watch.
    Watch,
}

/// How the resident watches.
enum Watching {
    No,
    Yes {
        /// How long it sleeps before it looks.
        interval: Duration,
        /// The number of claims when it found the turn due, if it did when it looked last.
        due: Option<u64>,
    },
}

impl Watching {
    fn deadline(&self) -> Deadline {
        match self {
            Watching::No => Deadline::NEVER,
            Watching::Yes { interval, .. } => Deadline::after(*interval),
        }
    }

    /// Looks, at the end of an interval. Returns whether the turn has been due since the
    /// last look.
    fn finds_due<T, C>(&mut self, state: &mut State<T, C>) -> bool {
        let Watching::Yes { interval, due } = self else { return false };
        *interval = (2 * *interval).min(LONGEST_INTERVAL);
        let before = due.take();
        if state.owner != Owner::Due {
            state.watch = state.watch.looked();
            return false;
        }
        *due = Some(state.claims);
        before == *due
    }

    /// Watches if threads leave the turn, and otherwise not. Returns whether this begins to.
    fn begins<T, C>(&mut self, state: &State<T, C>) -> bool {
        match (&self, state.watch) {
            (_, Watch::No) => {
                *self = Watching::No;
                false
            }
            (Watching::Yes { .. }, _) => false,
            (Watching::No, _) => {
                *self = Watching::Yes { interval: FIRST_INTERVAL, due: None };
                true
            }
        }
    }
}

impl Watch {
    fn looked(self) -> Self {
        match self {
            Watch::No | Watch::Once => Watch::No,
            Watch::Again => Watch::Once,
        }
    }
}

impl<T, C> State<T, C> {
    /// Takes out what waits, unless there is something left that was taken out before.
    fn take(&mut self, taken: &mut VecDeque<T>) {
        if taken.is_empty() {
            taken.give_back(KEPT);
            std::mem::swap(&mut self.waiting, taken);
        }
    }

    /// Leaves the turn due. The resident has to be woken if it is called.
    fn leave(&mut self) -> Called {
        match self.watch {
            Watch::No => {
                self.watch = Watch::Once;
                self.resident.call_first()
            }
            Watch::Once | Watch::Again => {
                self.watch = Watch::Again;
                Called::default()
            }
        }
    }
}

impl<T, C> Turn<'_, T, C> {
    /// Ends the turn if nothing waits.
    ///
    /// # Errors
    /// Something waits, or is left of what was taken out. The turn is handed back with it.
    pub(super) fn finish(mut self) -> Result<(), Self> {
        let mut state = self.queue.state.lock();
        state.take(&mut self.taken);
        if !self.taken.is_empty() {
            drop(state);
            return Err(self);
        }
        self.put_back(&mut state);
        state.owner = Owner::Free;
        drop(state);
        // Nothing is left in it that would have to be dropped.
        std::mem::forget(self);
        Ok(())
    }

    /// Gives the turn, and what is left to do, to the resident.
    pub(super) fn hand_over(self) {
        drop(self);
    }

    fn put_back(&mut self, state: &mut State<T, C>) {
        state.taken = std::mem::take(&mut self.taken);
        state.consumer = self.consumer.take();
    }
}

impl<T, C> Drop for Turn<'_, T, C> {
    fn drop(&mut self) {
        let queue = self.queue;
        let called = {
            let mut state = queue.state.lock();
            self.put_back(&mut state);
            state.owner = Owner::Resident;
            state.resident.call_first()
        };
        called.wake_now();
        if let Some(summons) = queue.summons.get() {
            summons.call();
        }
    }
}

#[allow(clippy::unwrap_used, clippy::expect_used)]
#[cfg(test)]
mod tests {
    use super::*;

    /// What the thread that has the turn finds, which ends with that.
    fn consumed<T, C>(turn: Option<Turn<'_, T, C>>) -> VecDeque<T> {
        let mut turn = turn.unwrap();
        let taken = std::mem::take(&mut turn.taken);
        assert!(turn.finish().is_ok());
        taken
    }

    #[test]
    fn items_come_in_order_and_together() {
        let queue = TurnQueue::new(());
        (0..3).for_each(|item| queue.push(item));
        assert_eq!(consumed(queue.claim()), [0, 1, 2]);
    }

    #[test]
    fn one_has_the_turn() {
        let queue = TurnQueue::new(());
        assert!(queue.claim().is_none());
        queue.push(0);
        let turn = queue.claim().unwrap();
        queue.push(1);
        assert!(queue.claim().is_none());
        // What was taken out is still there.
        let mut turn = turn.finish().err().unwrap();
        assert_eq!(std::mem::take(&mut turn.taken), [0]);
        assert_eq!(consumed(turn.finish().err()), [1]);
        queue.push(2);
        queue.claim().unwrap().hand_over();
        assert!(queue.claim().is_none());
        queue.push(3);
        // What is left comes first.
        let mut turn = queue.wait();
        assert_eq!(std::mem::take(&mut turn.taken), [2]);
        assert_eq!(consumed(turn.finish().err()), [3]);
    }

    #[test]
    fn who_has_the_turn_has_the_consumer() {
        let queue = TurnQueue::new(7);
        let has = |turn: &Turn<'_, i32, i32>| turn.consumer;
        queue.push(0);
        let turn = queue.claim().unwrap();
        assert_eq!(has(&turn), Some(7));
        turn.hand_over();
        let mut turn = queue.wait();
        turn.consumer = turn.consumer.map(|consumer| consumer + 1);
        turn.taken.clear();
        assert!(turn.finish().is_ok());
        queue.push(1);
        assert_eq!(queue.close(), (VecDeque::new(), VecDeque::from([1]), Some(8)));
        let turn = queue.claim().unwrap();
        assert!(has(&turn).is_none() && turn.taken.is_empty());
    }

    #[test]
    fn what_is_left_is_taken_when_it_is_much() {
        let queue = TurnQueue::new(());
        assert!(queue.claim_or_leave(0).is_none());
        queue.push(0);
        assert!(queue.claim_or_leave(2).is_none());
        queue.push(1);
        assert_eq!(consumed(queue.claim_or_leave(2)), [0, 1]);
    }

    #[test]
    fn what_is_left_is_taken_by_whoever_comes_next_or_else_by_the_resident() {
        let queue = TurnQueue::new(());
        queue.push(0);
        assert!(queue.claim_or_leave(9).is_none());
        assert_eq!(consumed(queue.claim()), [0]);
        for item in 1..4 {
            queue.push(item);
            assert!(queue.claim_or_leave(9).is_none());
            assert_eq!(consumed(Some(queue.wait())), [item]);
        }
    }

    /// What is due for the first time, a thread has left that goes on.
    #[test]
    fn the_resident_takes_what_it_finds_due_for_the_second_time() {
        let queue = TurnQueue::new(());
        queue.push(0);
        assert!(queue.claim_or_leave(9).is_none());
        let mut watching = Watching::No;
        assert!(!watching.finds_due(&mut queue.state.lock()));
        assert!(watching.begins(&queue.state.lock()));
        assert!(!watching.finds_due(&mut queue.state.lock()));
        // Another thread claims it, and leaves what it queues then.
        assert_eq!(consumed(queue.claim()), [0]);
        queue.push(1);
        assert!(queue.claim_or_leave(9).is_none());
        assert!(!watching.finds_due(&mut queue.state.lock()));
        assert!(!watching.begins(&queue.state.lock()));
        assert!(watching.finds_due(&mut queue.state.lock()));
    }

    #[test]
    fn the_resident_looks_less_often_the_longer_it_watches() {
        let queue = TurnQueue::new(());
        let mut watching = Watching::No;
        let interval = |watching: &Watching| match watching {
            Watching::No => None,
            Watching::Yes { interval, .. } => Some(*interval),
        };
        queue.push(0);
        assert!(queue.claim_or_leave(9).is_none());
        assert!(watching.begins(&queue.state.lock()));
        assert_eq!(interval(&watching), Some(FIRST_INTERVAL));
        for _ in 0..9 {
            watching.finds_due(&mut queue.state.lock());
        }
        assert_eq!(interval(&watching), Some(LONGEST_INTERVAL));
        // It sleeps when nothing was left for two intervals.
        assert_eq!(consumed(queue.claim()), [0]);
        watching.finds_due(&mut queue.state.lock());
        assert!(!watching.begins(&queue.state.lock()));
        assert_eq!(interval(&watching), None);
    }

    /// The resident does not run where nothing is left any more.
    #[test]
    fn the_resident_looks_as_often_as_something_was_left() {
        let looks = |left: &[Watch]| left.iter().fold(Watch::No, |_, watch| watch.looked());
        assert!(looks(&[Watch::Once]) == Watch::No);
        assert!(looks(&[Watch::Again]) == Watch::Once);
        let queue = TurnQueue::new(());
        queue.push(0);
        let watch = || queue.state.lock().watch;
        assert!(queue.claim_or_leave(9).is_none() && watch() == Watch::Once);
        assert!(queue.claim_or_leave(9).is_none() && watch() == Watch::Again);
        queue.claim().unwrap().hand_over();
        // A turn that is given is no look.
        assert!(consumed(Some(queue.wait())) == [0] && watch() == Watch::Again);
    }

    /// Producers that work off what they find, or hand it over to the resident.
    #[test]
    fn every_item_is_consumed_in_order_whoever_has_the_turn() {
        const ITEMS: usize = 10_000;
        const PRODUCERS: usize = 3;
        fn consume(mut turn: Turn<'_, (usize, usize), ()>, seen: &Mutex<[usize; PRODUCERS]>) {
            loop {
                let mut seen = seen.try_lock().expect("only one has the turn");
                for (producer, item) in turn.taken.drain(..) {
                    assert_eq!(item, seen[producer]);
                    seen[producer] += 1;
                }
                drop(seen);
                match turn.finish() {
                    Ok(()) => return,
                    Err(more) => turn = more,
                }
            }
        }
        let queue = TurnQueue::new(());
        let seen = Mutex::new([0; PRODUCERS]);
        let hand_over = |queue: &TurnQueue<_, _>| {
            if let Some(turn) = queue.claim() {
                turn.hand_over();
            }
        };
        std::thread::scope(|scope| {
            let (queue, seen) = (&queue, &seen);
            scope.spawn(move || {
                while seen.lock()[0] <= ITEMS {
                    consume(queue.wait(), seen);
                }
            });
            std::thread::scope(|scope| {
                for producer in 0..PRODUCERS {
                    scope.spawn(move || {
                        for item in 0..ITEMS {
                            queue.push((producer, item));
                            if item % 3 == 0 {
                                hand_over(queue);
                            } else if item % 3 == 1 {
                                if let Some(turn) = queue.claim_or_leave(5) {
                                    consume(turn, seen);
                                }
                            } else if let Some(turn) = queue.claim() {
                                consume(turn, seen);
                            }
                        }
                    });
                }
            });
            // The last item is left to the resident, so that its loop ends.
            queue.push((0, ITEMS));
            hand_over(queue);
        });
        assert_eq!(*seen.lock(), [ITEMS + 1, ITEMS, ITEMS]);
    }
}
