//! Waiting for what comes over a transport within this process.
//!
//! # State model
//!
//! ```text
//!              ┌──disarmed──────────────────────────────────────────┐
//!              ▼                                                    │
//!          Disarmed ──armed──► Armed, nothing to read ──it comes──► Called
//!              ▲  │                                                 ▲  │
//!              │  └──armed while there is something to read─────────┘  │
//!              └───────────────the resident runs, and disarms──────────┘
//! ```
//!
//! One thread, the *resident*, sleeps here, and wakes only when there is something to read
//! while this is armed. Whoever arms this and whoever brings something say first what they
//! have to say, and look afterwards at what the other one says. So one of the two sees both,
//! and calls the resident. Neither takes a lock if there is nobody to call.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use super::atomic::{AtomicBool, Ordering};
use super::{Mutex, Parker, Unparker};
use crate::deadline::Deadline;

/// Where a connection learns that something has come over a transport within this process,
/// in place of a descriptor.
///
/// There is one for each direction. The transport says [whether there is something to
/// read](Self::set), and [tells](Self::tell) it afterwards. A thread that waits for an answer
/// then reads itself; and because both directions know each other, it makes the steps of the
/// other side, too, if that side's reader [has this](crate::transport::MessageReader::arrivals).
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use capnp_threads_core::transport::Arrivals;
///
/// /// A direction of a transport: numbers on their way, in place of messages.
/// struct Direction {
///     queue: Mutex<Vec<u64>>,
///     arrivals: Arc<Arrivals>,
/// }
///
/// impl Direction {
///     fn bring(&self, number: u64) {
///         if let Ok(mut queue) = self.queue.lock() {
///             queue.push(number);
///             self.arrivals.set(true);
///         }
///         self.arrivals.tell();
///     }
/// }
///
/// let (there, back) = Arrivals::pair();
/// let directions = [there, back].map(|arrivals| Direction { queue: Mutex::default(), arrivals });
/// directions[0].bring(1);
/// ```
pub struct Arrivals {
    /// Whether there is something to read.
    readable: AtomicBool,
    /// Whether the resident is to be called for it.
    armed: AtomicBool,
    /// The resident, while it sleeps.
    resident: Mutex<Option<Unparker>>,
    /// The other direction.
    other: Weak<Arrivals>,
    /// What reads that one, of a type that the runtime knows.
    reader_of_other: OnceLock<Weak<dyn Any + Send + Sync>>,
}

impl Arrivals {
    /// Those of both directions between two sides. Nothing has come yet.
    pub fn pair() -> (Arc<Self>, Arc<Self>) {
        let mut one = None;
        let other = Arc::new_cyclic(|other| {
            let made = Arc::new(Arrivals::new(Weak::clone(other)));
            let back = Arc::downgrade(&made);
            one = Some(made);
            Arrivals::new(back)
        });
        // The closure has run, once.
        (one.unwrap_or_else(|| Arc::clone(&other)), other)
    }

    fn new(other: Weak<Arrivals>) -> Self {
        Arrivals {
            readable: AtomicBool::new(false),
            armed: AtomicBool::new(true),
            resident: Mutex::new(None),
            other,
            reader_of_other: OnceLock::new(),
        }
    }

    /// Says whether a read would find something, which may be the end of the stream; also in
    /// what the reader has taken out of a queue already. To be called under the lock under
    /// which a reader looks, so that it stays true. Does not wait.
    pub fn set(&self, readable: bool) {
        // Reading costs much less than writing.
        if self.is_readable() != readable {
            self.readable.store(readable, Ordering::SeqCst);
        }
    }

    /// Calls whoever reads when something has come, after [`set`](Self::set). To be called
    /// without a lock. Does not wait.
    pub fn tell(&self) {
        if self.armed.load(Ordering::SeqCst) && self.is_readable() {
            self.call();
        }
    }

    /// What was [set](Self::set) last. A reader that has the turn need not look more closely where
    /// this is `false`: whoever adds something says so, and tells.
    pub fn is_readable(&self) -> bool {
        self.readable.load(Ordering::SeqCst)
    }

    /// Lets the resident be called from now on. Calls it if there is something to read.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
        if self.is_readable() {
            self.call();
        }
    }

    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    fn call(&self) {
        let resident = self.resident.lock().take();
        if let Some(resident) = resident {
            resident.unpark();
        }
    }

    /// Waits, as the resident, until there is something to read while this is armed. It is
    /// disarmed then.
    pub(crate) fn wait(&self, parker: &Parker) {
        loop {
            {
                let mut resident = self.resident.lock();
                if self.is_readable() && self.armed.swap(false, Ordering::SeqCst) {
                    *resident = None;
                    return;
                }
                *resident = Some(parker.unparker());
            }
            parker.park(Deadline::NEVER);
        }
    }

    /// Sets what reads this direction, once.
    pub(crate) fn set_reader(&self, reader: Weak<dyn Any + Send + Sync>) {
        if let Some(other) = self.other.upgrade() {
            let _ = other.reader_of_other.set(reader);
        }
    }

    /// What reads the other direction, if it is of this type.
    pub(crate) fn reader_of_other<R: Any + Send + Sync>(&self) -> Option<Arc<R>> {
        self.reader_of_other.get()?.upgrade()?.downcast().ok()
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").field("readable", &self.is_readable()).finish_non_exhaustive()
    }
}
