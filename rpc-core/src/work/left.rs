//! What a thread has queued and has left to be written.
//!
//! Note [left to write]
//!
//! To wake another thread for each message costs more than to write it, and to write each
//! by itself costs more than to write several at once. A thread that makes many calls does
//! nothing else until it waits, and a worker that runs what is in a mailbox answers many. So
//! such a thread leaves what it queues where it is, notes where that is, and writes all of it
//! at the moment when it would sleep: in a wait, and before it takes what may not have come
//! yet, from a socket or from the thread that reads. (Such a thread passes on to other
//! connections what it receives for them.) It also writes before that when much has come together,
//! and before it leaves something on another connection.
//!
//! The thread may do something else instead: compute, take a lock, end. So the send thread
//! watches meanwhile (Note [turns]), and nothing that was left waits for longer than a
//! millisecond.
//!
//! A thread that works off what a connection has received *holds back* what it queues there, and
//! writes it at the end. If code of the application runs before that, such as a destructor, it
//! leaves what it holds back to others first, and holds nothing back meanwhile: the code may take
//! its time, or depend on what the peer does when it has that.

use std::cell::{Cell, RefCell};
use std::sync::Weak;

/// A way out on which threads leave messages.
pub(crate) trait Leavings: Send + Sync {
    /// Writes what was left, if nobody has done so. Does not wait.
    ///
    /// Must not be called under a lock.
    fn write(&self);

    /// Lets the resident write what waits, soon, unless somebody else does. Does not wait.
    ///
    /// Must not be called under a lock.
    fn leave(&self);
}

crate::sync::thread_local! {
    /// Where this thread has left something.
    static LEFT: RefCell<Option<Weak<dyn Leavings>>> = const { RefCell::new(None) };
    /// The way out on which this thread holds back what it queues: its address, or 0.
    static HOLDS: Cell<usize> = const { Cell::new(0) };
    /// Where this thread holds something back.
    static HELD: RefCell<Option<Weak<dyn Leavings>>> = const { RefCell::new(None) };
}

/// Notes that this thread is leaving something here. Returns `false` if it cannot note it any
/// more, because it is ending.
///
/// Must not be called under a lock.
pub(crate) fn note(here: &Weak<dyn Leavings>) -> bool {
    let before = LEFT.try_with(|left| {
        let mut left = left.borrow_mut();
        match &mut *left {
            Some(noted) if Weak::ptr_eq(noted, here) => None,
            noted => noted.replace(Weak::clone(here)),
        }
    });
    let Ok(before) = before else { return false };
    before.into_iter().for_each(|elsewhere| write_at(&elsewhere));
    true
}

/// Begins to hold back what this thread queues on a way out with this address, or ends that.
pub(crate) fn hold(address: Option<usize>) {
    HOLDS.with(|holds| holds.set(address.unwrap_or(0)));
    if address.is_none() {
        HELD.with(RefCell::take);
    }
}

/// Whether this thread holds back what it queues on the way out with this address. Something is
/// about to be held back then; `here` is where.
pub(crate) fn holds<'a>(
    address: usize,
    here: impl FnOnce() -> Option<&'a Weak<dyn Leavings>>,
) -> bool {
    if HOLDS.try_with(Cell::get) != Ok(address) {
        return false;
    }
    // A thread that holds something back is not ending.
    HELD.with(|held| {
        let mut held = held.borrow_mut();
        if held.is_none() {
            *held = here().cloned();
        }
    });
    true
}

/// While this exists, this thread holds nothing back.
pub(crate) struct NotHeld {
    holds: usize,
}

impl NotHeld {
    /// Leaves what is held back to others. Does not wait.
    ///
    /// Must not be called under a lock.
    pub(crate) fn begin() -> Self {
        let holds = HOLDS.try_with(Cell::take).unwrap_or(0);
        let held = HELD.try_with(|held| held.borrow().as_ref().and_then(Weak::upgrade));
        if let Ok(Some(held)) = held {
            held.leave();
        }
        NotHeld { holds }
    }
}

impl Drop for NotHeld {
    fn drop(&mut self) {
        if self.holds != 0 {
            HOLDS.with(|holds| holds.set(self.holds));
        }
    }
}

/// Writes what this thread has left. Does not wait.
///
/// Must not be called under a lock.
pub(crate) fn write() {
    // A thread that is ending has left nothing that the send thread does not find.
    let left = LEFT.try_with(|left| left.borrow_mut().take());
    if let Ok(Some(left)) = left {
        write_at(&left);
    }
}

fn write_at(left: &Weak<dyn Leavings>) {
    if let Some(left) = left.upgrade() {
        left.write();
    }
}
