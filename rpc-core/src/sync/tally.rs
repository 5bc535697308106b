//! What is written under a lock, and read without it.
//!
//! An ordinary step of an atomic costs as much as half of taking a lock. What no two threads
//! write at once needs none: its writers hold a lock, and those who look without it see an older
//! value at worst. So none of these may be one half of "say first, look afterwards", by which two
//! threads find each other: whoever waits for such a number needs a [`Shared`] one.

use super::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A number that only the holder of a certain lock changes. It wraps around.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicUsize);

/// A number that only the holder of a certain lock sets.
#[derive(Debug)]
pub(crate) struct Level(AtomicUsize);

/// Whether something is so, which only the holder of a certain lock sets.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

/// A number of things that come and go.
pub(crate) trait Count: Default {
    fn add_one(&self);
    fn take_one(&self);
    fn get(&self) -> usize;
}

/// A [`Count`] that any thread changes at any time.
#[derive(Debug, Default)]
pub(crate) struct Shared(AtomicUsize);

/// A mark that is set once. A thread that does not see it yet has to look more closely.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicBool);

/// Changed only under the lock.
impl Count for Tally {
    fn add_one(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Release);
    }

    fn take_one(&self) {
        self.0.store(self.get().wrapping_sub(1), Ordering::Release);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Count for Shared {
    fn add_one(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Level {
    pub(crate) fn new(level: usize) -> Self {
        Level(AtomicUsize::new(level))
    }

    /// Must only be called under the lock.
    pub(crate) fn set(&self, level: usize) {
        self.0.store(level, Ordering::Release);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Flag {
    /// Must only be called under the lock.
    pub(crate) fn set(&self, is_so: bool) {
        self.0.store(is_so, Ordering::Release);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Mark {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether this thread sees the mark.
    pub(crate) fn is_seen(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
