//! What the send thread takes its work from.
//!
//! Note [waking]
//!
//! Messages are queued under the order lock of their connection. To wake the send
//! thread there would be a system call under that lock; worse, the thread may run
//! at once in place of the one that woke it, and whoever needs the lock waits for
//! that one's next turn. So queueing and waking are two steps, and the second one
//! comes after the lock. Nothing is lost in between: the thread looks at the queue
//! before it sleeps, and says that it sleeps under the queue's own lock, which
//! whoever queues takes too.
//!
//! All that waits is taken at once, with one lock for however many messages.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

/// The memory that an empty queue keeps, in items.
const KEPT: usize = 1024;

/// A queue of many producers and one consumer.
pub(super) struct SendQueue<T> {
    items: Mutex<Items<T>>,
    filled: Condvar,
    /// Whether something was added for which the consumer has to be woken.
    wake_due: AtomicBool,
}

struct Items<T> {
    waiting: VecDeque<T>,
    consumer: Consumer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Consumer {
    Busy,
    /// It waits, or is about to, and nobody has taken on to wake it.
    Asleep,
}

impl<T> SendQueue<T> {
    pub(super) fn new() -> Self {
        SendQueue {
            items: Mutex::new(Items { waiting: VecDeque::new(), consumer: Consumer::Busy }),
            filled: Condvar::new(),
            wake_due: AtomicBool::new(false),
        }
    }

    /// Adds an item. [`wake`](Self::wake) must follow. Does not wait.
    pub(super) fn push(&self, item: T) {
        let mut items = self.items.lock();
        items.waiting.push_back(item);
        if items.consumer == Consumer::Asleep {
            items.consumer = Consumer::Busy;
            self.wake_due.store(true, Ordering::SeqCst);
        }
    }

    /// Wakes the consumer if something was added while it slept. Does not wait.
    pub(super) fn wake(&self) {
        if self.wake_due.load(Ordering::SeqCst) && self.wake_due.swap(false, Ordering::SeqCst) {
            self.filled.notify_one();
        }
    }

    /// Takes all items, in order, once there are any. `taken` must be empty.
    pub(super) fn take(&self, taken: &mut VecDeque<T>) {
        debug_assert!(taken.is_empty());
        taken.shrink_to(KEPT);
        let mut items = self.items.lock();
        while items.waiting.is_empty() {
            items.consumer = Consumer::Asleep;
            self.filled.wait(&mut items);
        }
        items.consumer = Consumer::Busy;
        std::mem::swap(&mut items.waiting, taken);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn items_come_in_order_and_together() {
        let queue = SendQueue::new();
        (0..3).for_each(|item| queue.push(item));
        let mut taken = VecDeque::new();
        queue.take(&mut taken);
        assert_eq!(taken, [0, 1, 2]);
    }

    #[test]
    fn a_consumer_that_sleeps_is_woken_for_every_item() {
        const ITEMS: usize = 10_000;
        let queue = Arc::new(SendQueue::new());
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    for item in 0..ITEMS {
                        queue.push((producer, item));
                        queue.wake();
                    }
                })
            })
            .collect();
        let mut expected = [0; 2];
        let mut taken = VecDeque::new();
        while expected != [ITEMS; 2] {
            queue.take(&mut taken);
            for (producer, item) in taken.drain(..) {
                assert_eq!(item, expected[producer]);
                expected[producer] += 1;
            }
        }
        for producer in producers {
            assert!(producer.join().is_ok());
        }
    }
}
