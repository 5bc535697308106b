//! A queue whose consumer is any thread that has time.
//!
//! Note [turns]
//!
//! Queueing something for another thread costs a wake-up: a system call, and the time
//! until the other thread runs. That is most of the time of a call when little else is
//! going on. So the right to consume the queue is a *turn* that any thread may take. A
//! thread that queued something and has nothing better to do takes the turn when it is
//! free. If there is more to do than such a thread should be kept for, the turn goes to the
//! *resident*, a thread that exists for this queue.
//!
//! # State model of the turn
//!
//! ```text
//! Free ──push──► Due ──claim──► Taken ──finish, nothing waits──► Free
//!                                 └──handed over, or dropped──► Resident ──wait──► Taken
//! ```
//!
//! Only the thread that has the turn takes items out, so their order is kept. The state
//! *Due* exists because an item may be pushed under a lock of the caller, as the
//! messages of the outbox are pushed under the order lock: waking a thread there would
//! be a system call under that lock. So a thread that has pushed calls
//! [`claim`](TurnQueue::claim) afterwards, without the lock; one of the threads that do
//! gets the turn.

use std::collections::VecDeque;

use crate::deadline::Deadline;
use crate::memory::GiveBack;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::work::waiting::{self, Waiters};

/// Maximum memory that an empty queue keeps, in items.
pub(super) const KEPT: usize = 64;

/// A queue of many producers.
pub(super) struct TurnQueue<T> {
    state: Mutex<State<T>>,
    /// Whether the turn is due. Changed under the lock only.
    due: AtomicBool,
}

struct State<T> {
    waiting: VecDeque<T>,
    owner: Owner,
    /// Where the resident waits.
    resident: Waiters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Free,
    Due,
    Taken,
    Resident,
}

/// The right to consume. Dropping it hands the turn to the resident.
pub(super) struct Turn<'q, T>(&'q TurnQueue<T>);

impl<T> TurnQueue<T> {
    pub(super) fn new() -> Self {
        TurnQueue {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                owner: Owner::Free,
                resident: Waiters::default(),
            }),
            due: AtomicBool::new(false),
        }
    }

    /// Adds an item. [`claim`](Self::claim) must follow. Does not wait.
    pub(super) fn push(&self, item: T) {
        let mut state = self.state.lock();
        state.waiting.push_back(item);
        if state.owner == Owner::Free {
            state.owner = Owner::Due;
            self.due.store(true, Ordering::SeqCst);
        }
    }

    /// Takes the turn if it is due. Does not wait.
    pub(super) fn claim(&self) -> Option<Turn<'_, T>> {
        if !self.due.load(Ordering::SeqCst) {
            return None;
        }
        let mut state = self.state.lock();
        if state.owner != Owner::Due {
            return None;
        }
        state.owner = Owner::Taken;
        self.due.store(false, Ordering::SeqCst);
        Some(Turn(self))
    }

    /// Takes out what nobody is going to consume.
    pub(super) fn clear(&self) -> VecDeque<T> {
        std::mem::take(&mut self.state.lock().waiting)
    }

    /// Waits until the resident has the turn.
    pub(super) fn wait(&self) -> Turn<'_, T> {
        waiting::park(
            &self.state,
            |state| &mut state.resident,
            Deadline::NEVER,
            |state, _| (state.owner == Owner::Resident).then(|| state.owner = Owner::Taken),
        );
        Turn(self)
    }
}

impl<T> Turn<'_, T> {
    /// Takes everything that waits, in order. `taken` must be empty.
    pub(super) fn take(&self, taken: &mut VecDeque<T>) {
        debug_assert!(taken.is_empty());
        taken.give_back(KEPT);
        std::mem::swap(&mut self.0.state.lock().waiting, taken);
    }

    /// Ends the turn if nothing waits.
    ///
    /// # Errors
    /// Something waits. The turn is handed back.
    pub(super) fn finish(self) -> Result<(), Self> {
        let mut state = self.0.state.lock();
        if !state.waiting.is_empty() {
            drop(state);
            return Err(self);
        }
        state.owner = Owner::Free;
        drop(state);
        std::mem::forget(self);
        Ok(())
    }

    /// Gives the turn, and what is left to do, to the resident.
    pub(super) fn hand_over(self) {
        drop(self);
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let called = {
            let mut state = self.0.state.lock();
            state.owner = Owner::Resident;
            state.resident.call_first()
        };
        called.wake_now();
    }
}

#[allow(clippy::unwrap_used, clippy::expect_used)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_together() {
        let queue = TurnQueue::new();
        (0..3).for_each(|item| queue.push(item));
        let turn = queue.claim().unwrap();
        let mut taken = VecDeque::new();
        turn.take(&mut taken);
        assert_eq!(taken, [0, 1, 2]);
        assert!(turn.finish().is_ok());
    }

    #[test]
    fn one_has_the_turn() {
        let queue = TurnQueue::new();
        assert!(queue.claim().is_none());
        queue.push(0);
        let turn = queue.claim().unwrap();
        queue.push(1);
        assert!(queue.claim().is_none());
        let turn = turn.finish().err().unwrap();
        turn.take(&mut VecDeque::new());
        assert!(turn.finish().is_ok());
        queue.push(2);
        queue.claim().unwrap().hand_over();
        assert!(queue.claim().is_none());
        assert!(queue.wait().finish().is_err());
    }

    /// Producers that work off what they find, or hand it over to the resident.
    #[test]
    fn every_item_is_consumed_in_order_whoever_has_the_turn() {
        const ITEMS: usize = 10_000;
        const PRODUCERS: usize = 3;
        fn consume(mut turn: Turn<'_, (usize, usize)>, seen: &Mutex<[usize; PRODUCERS]>) {
            let mut taken = VecDeque::new();
            loop {
                turn.take(&mut taken);
                let mut seen = seen.try_lock().expect("only one has the turn");
                for (producer, item) in taken.drain(..) {
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
        let queue = TurnQueue::new();
        let seen = Mutex::new([0; PRODUCERS]);
        let hand_over = |queue: &TurnQueue<_>| {
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
                            if item % 2 == 0 {
                                hand_over(queue);
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
