//! Which process this is.
//!
//! Everything that uses a connection makes sure, each time, that its process was not forked
//! from the one that made it. Asking the system would be a system call each time.

use std::process;
#[cfg(unix)]
use std::sync::LazyLock;

/// The id of this process, as [`std::process::id`] tells it. It costs a system call only in
/// a process that was forked from one that had called this before.
///
/// On Unix, a fork is noticed by a handler of `pthread_atfork`. A program that calls the
/// system's `clone` or `_Fork` past the C library, and goes on in the child with what it
/// inherited, is not noticed.
///
/// ```
/// assert_eq!(capnp_threads_core::process::id(), std::process::id());
/// ```
#[must_use]
pub fn id() -> u32 {
    #[cfg(unix)]
    if let Some((guard, id)) = &*KNOWN
        && !guard.clone().detected_fork()
    {
        return *id;
    }
    process::id()
}

/// The id of the process that asked first, and what detects that this is another one. `None`
/// where the C library has no memory for the handler.
#[cfg(unix)]
static KNOWN: LazyLock<Option<(forkguard::atfork::Guard, u32)>> = LazyLock::new(|| {
    // Made first: a fork in between is noticed.
    let guard = forkguard::atfork::Guard::try_new().ok()?;
    Some((guard, process::id()))
});
