//! For whom a thread works.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a call came from: a connection, or this process. Workers are shared out among
/// origins, see Note [shares].
///
/// A call that a method makes has the origin of the method's own call. Otherwise a peer
/// could take workers under another name.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin(u64);

impl Origin {
    /// Threads of the application, and its closures.
    pub(crate) const LOCAL: Origin = Origin(0);

    /// The origin of a new connection's calls.
    pub(crate) fn connection() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Origin(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Origin::LOCAL => f.write_str("this process"),
            Origin(number) => write!(f, "connection {number}"),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::sync::thread_local! {
    static CURRENT: Cell<Origin> = const { Cell::new(Origin::LOCAL) };
}

/// The origin of the calls that this thread makes.
pub(crate) fn current() -> Origin {
    CURRENT.try_with(Cell::get).unwrap_or_default()
}

/// Sets the origin of the calls that this thread makes.
pub(super) fn set(origin: Origin) {
    let _ = CURRENT.try_with(|current| current.set(origin));
}

/// While this exists, the thread works for an origin in the middle of other work.
pub(crate) struct OnBehalf {
    before: Origin,
}

impl OnBehalf {
    pub(crate) fn begin(origin: Origin) -> Self {
        let before = current();
        set(origin);
        OnBehalf { before }
    }
}

impl Drop for OnBehalf {
    fn drop(&mut self) {
        set(self.before);
    }
}
