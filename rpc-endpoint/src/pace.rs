//! When a thread that sends is likely to send more at once.
//!
//! What is sent one behind the other is written together, by the writing thread. What is
//! sent by a thread that waits next should be written at once, by that thread (Note [writing in
//! place]). It is not known beforehand what a thread will do. So a thread writes in place once,
//! and again after it has received something behind which nothing else waited: then it is about
//! to wait, for the answer to what it sends now.

use std::cell::Cell;

thread_local! {
    /// Whether this thread is likely to wait next.
    static IS_QUIET: Cell<bool> = const { Cell::new(true) };
}

/// What is known of the thread that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nothing but what it did before.
    Unknown,
    /// It has joined messages itself, and sends nothing more for now.
    Last,
    /// It sends more at once.
    Busy,
}

impl Pace {
    /// Whether this thread writes in place. It is asked when it could.
    pub(crate) fn allows(self) -> bool {
        match self {
            // A thread whose variables are gone is not slower than others.
            Pace::Unknown => IS_QUIET.try_with(|quiet| quiet.replace(false)).unwrap_or(false),
            Pace::Last => true,
            Pace::Busy => false,
        }
    }
}

/// This thread has received something. `waits` says whether more waits to be received.
pub(crate) fn received(waits: bool) {
    // Without its variables, a thread leaves writing to others.
    let _ = IS_QUIET.try_with(|quiet| quiet.set(!waits));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_writes_once_and_again_when_it_has_received_the_last() {
        assert!(Pace::Unknown.allows());
        assert!(!Pace::Unknown.allows());
        received(true);
        assert!(!Pace::Unknown.allows());
        received(false);
        assert!(Pace::Last.allows());
        assert!(!Pace::Busy.allows());
        assert!(Pace::Unknown.allows());
        assert!(!Pace::Unknown.allows());
    }
}
