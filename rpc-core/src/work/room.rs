//! Where application threads wait before they add to what a connection holds.
//!
//! Waiting happens before any lock is taken, and only for threads that act for
//! the application: whoever acts for a peer (the coordinator, or whoever
//! forwards what a peer sent) goes ahead, or two vats could wait for each other
//! for ever.
//!
//! A worker is something between: it may run a method that answers the peer with a
//! call back, and the peer's workers may do the same, while threads of both sides
//! have all the calls under way that they may have. So each worker may have one
//! call beyond the limit, and waits only while it has that one.

use std::collections::HashSet;
use std::sync::Arc;

use super::interrupt::{Interrupt, Wake};
use crate::error::Error;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Condvar, Mutex};

pub(crate) struct Room {
    max_questions: usize,
    max_bytes: usize,
    questions: AtomicUsize,
    bytes: AtomicUsize,
    /// How many threads wait. Written under the lock only.
    waiting: AtomicUsize,
    closed: Mutex<Option<Error>>,
    /// The workers that have a call beyond the limit.
    extras: Mutex<HashSet<ThreadId>>,
    changed: Condvar,
}

/// A place among a connection's outstanding questions. Dropping it frees the
/// place.
pub(crate) struct Permit {
    room: Arc<Room>,
    /// The worker whose place beyond the limit it is.
    extra: Option<ThreadId>,
}

/// Who waits for a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Application,
    Worker,
}

impl Room {
    pub(crate) fn new(max_questions: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Room {
            max_questions,
            max_bytes,
            questions: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            closed: Mutex::new(None),
            extras: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// A place for one more question, without waiting and if need be beyond the
    /// limit.
    pub(crate) fn take(self: &Arc<Self>) -> Permit {
        self.questions.fetch_add(1, Ordering::SeqCst);
        Permit { room: Arc::clone(self), extra: None }
    }

    /// A place for one more question, or `None` if the limits do not allow it
    /// now.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Permit> {
        if self.bytes.load(Ordering::SeqCst) >= self.max_bytes {
            return None;
        }
        self.questions
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
                (taken < self.max_questions).then_some(taken + 1)
            })
            .ok()
            .map(|_| Permit { room: Arc::clone(self), extra: None })
    }

    /// This worker's place beyond the limit, if it is free. What is queued to be
    /// sent leaves whatever the calls do, so that is no reason to go ahead.
    fn try_take_extra(self: &Arc<Self>) -> Option<Permit> {
        let worker = thread::current().id();
        if self.bytes.load(Ordering::SeqCst) >= self.max_bytes || !self.extras.lock().insert(worker)
        {
            return None;
        }
        let mut permit = self.take();
        permit.extra = Some(worker);
        Some(permit)
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// The connection has ended, or something else ends the wait.
    pub(crate) fn wait(
        self: &Arc<Self>,
        asker: Asker,
        interrupt: &Interrupt,
    ) -> Result<Permit, Error> {
        let mut closed = self.closed.lock();
        // From here on whoever frees a place takes the lock and tells us.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let result = loop {
            if let Some(error) = &*closed {
                break Err(error.clone());
            }
            if let Some(permit) = self.try_take() {
                break Ok(permit);
            }
            if asker == Asker::Worker
                && let Some(permit) = self.try_take_extra()
            {
                break Ok(permit);
            }
            if let Err(error) = interrupt.check() {
                break Err(error);
            }
            self.changed.wait(&mut closed);
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// Bytes were queued to be sent.
    pub(crate) fn queued(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Bytes have left the queue.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.made();
    }

    /// How many bytes are queued.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Whoever waits, now or later, fails.
    pub(crate) fn close(&self, error: Error) {
        *self.closed.lock() = Some(error);
        self.changed.notify_all();
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.lock().is_some()
    }

    /// Lets those who wait, if any do, look again.
    fn made(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // The lock orders us after a waiter that has counted itself but does
            // not sleep yet.
            drop(self.closed.lock());
            self.changed.notify_all();
        }
    }
}

impl Wake for Room {
    fn wake(&self) {
        drop(self.closed.lock());
        self.tell();
    }

    fn tell(&self) {
        self.changed.notify_all();
    }
}

impl Permit {
    pub(crate) fn is_for(&self, room: &Arc<Room>) -> bool {
        Arc::ptr_eq(&self.room, room)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(worker) = self.extra {
            self.room.extras.lock().remove(&worker);
        }
        self.room.questions.fetch_sub(1, Ordering::SeqCst);
        self.room.made();
    }
}
