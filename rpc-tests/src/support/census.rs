//! How many objects there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts objects that were made and dropped.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    made: AtomicU64,
    dropped: AtomicU64,
}

/// One object of a census, which is counted as alive until this is dropped.
#[derive(Debug)]
pub struct Counted(Census);

impl Census {
    /// One without objects.
    pub fn new() -> Self {
        Census::default()
    }

    /// Counts one more object.
    pub fn count(&self) -> Counted {
        self.0.made.fetch_add(1, Ordering::SeqCst);
        Counted(self.clone())
    }

    /// How many objects were made.
    pub fn made(&self) -> u64 {
        self.0.made.load(Ordering::SeqCst)
    }

    /// How many of them were dropped.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::SeqCst)
    }

    /// How many of them were not.
    pub fn alive(&self) -> u64 {
        let dropped = self.dropped();
        self.made().checked_sub(dropped).expect("more were dropped than were made")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}
