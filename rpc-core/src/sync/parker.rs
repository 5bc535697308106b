//! How one thread sleeps until another one wakes it.

use crossbeam_utils::sync as crossbeam;

use crate::deadline::Deadline;

/// Where one thread sleeps.
pub(crate) struct Parker(crossbeam::Parker);

/// What wakes the thread of a [`Parker`].
#[derive(Clone)]
pub(crate) struct Unparker(crossbeam::Unparker);

impl Parker {
    pub(crate) fn new() -> Self {
        Parker(crossbeam::Parker::new())
    }

    pub(crate) fn unparker(&self) -> Unparker {
        Unparker(self.0.unparker().clone())
    }

    /// Sleeps until the thread is unparked or the deadline comes. Returns at once if
    /// the thread was unparked since it slept last, and may return without a reason.
    /// Returns whether the deadline has come.
    pub(crate) fn park(&self, deadline: Deadline) -> bool {
        match deadline.time() {
            None => self.0.park(),
            Some(time) => self.0.park_deadline(time),
        }
        deadline.has_passed()
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        self.0.unpark();
    }
}
