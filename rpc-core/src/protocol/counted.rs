//! Counting things of a connection that come and go.

use std::sync::Arc;

use crate::sync::{Count, Shared};

/// The number of things of one kind that exist.
#[derive(Default)]
pub(crate) struct Counter(Arc<Shared>);

/// One thing, which counts until this is dropped.
pub(crate) struct Counted(Arc<Shared>);

impl Counter {
    /// Counts one more thing.
    pub(super) fn one_more(&self) -> Counted {
        self.0.add_one();
        Counted(Arc::clone(&self.0))
    }

    /// The number of things now.
    pub(super) fn count(&self) -> usize {
        self.0.get()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.take_one();
    }
}
