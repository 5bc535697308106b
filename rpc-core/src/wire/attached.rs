//! The file descriptors that travel with capabilities.
//!
//! On the wire, a capability descriptor may name one of the file descriptors that came
//! with its message by index. Each is for one capability: the first that names it. An
//! index beyond the file descriptors that came stands for none, so a sender may send
//! fewer than it meant to. A file descriptor that no capability names is closed.

use crate::fd::SharedFd;

/// The index that names no file descriptor.
pub(super) const NONE: u8 = u8::MAX;

/// Maximum number of file descriptors that capabilities of one message can name.
pub(crate) const MAX_FDS: usize = NONE as usize;

/// File descriptors, each with the index of its capability. Usually there are none,
/// which costs nothing.
///
/// Closing a file descriptor may take time, so this must not be dropped under a lock
/// unless it is empty.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a vector would make every message larger")]
pub(crate) struct Attached(Option<Box<Vec<(usize, SharedFd)>>>);

impl Attached {
    /// The file descriptor of a message that names one capability.
    pub(crate) fn to_only(fd: Option<SharedFd>) -> Self {
        let mut attached = Attached::default();
        if let Some(fd) = fd {
            attached.add(0, fd);
        }
        attached
    }

    /// Adds a file descriptor for a capability that has none yet.
    pub(crate) fn add(&mut self, cap: usize, fd: SharedFd) {
        self.0.get_or_insert_default().push((cap, fd));
    }

    /// Takes the file descriptor of a capability.
    pub(crate) fn take(&mut self, cap: usize) -> Option<SharedFd> {
        let fds = self.0.as_mut()?;
        let at = fds.iter().position(|(owner, _)| *owner == cap)?;
        Some(fds.swap_remove(at).1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|fds| fds.is_empty())
    }

    /// For each file descriptor, its index on the wire and its capability.
    pub(crate) fn indices(&self) -> impl Iterator<Item = (u8, usize)> {
        (0..NONE).zip(self.0.iter().flat_map(|fds| fds.iter()).map(|(owner, _)| *owner))
    }

    /// The file descriptors in the order of their indices on the wire.
    pub(super) fn into_fds(self) -> Vec<SharedFd> {
        self.0.into_iter().flat_map(|fds| *fds).map(|(_, fd)| fd).collect()
    }
}

/// The file descriptors that came with a message, while the message is read. Those that
/// are left in here are closed.
pub(super) struct Arrived(Vec<Option<SharedFd>>);

impl Arrived {
    pub(super) fn new(fds: Vec<SharedFd>) -> Self {
        Arrived(fds.into_iter().map(Some).collect())
    }

    /// Takes the file descriptor at an index, once.
    pub(super) fn claim(&mut self, index: u8) -> Option<SharedFd> {
        self.0.get_mut(usize::from(index))?.take()
    }
}
