//! File descriptors that travel with capabilities.
//!
//! The protocol machine moves them about and never uses one. Transports that can
//! carry them say so in [`MessageWriter::max_fds`]; what else travels with a
//! message is not affected by whether they do.
//!
//! [`MessageWriter::max_fds`]: crate::transport::MessageWriter::max_fds

use std::sync::Arc;

/// A file descriptor of the operating system's, closed when it is dropped.
#[cfg(unix)]
pub use std::os::fd::OwnedFd;

/// What stands for a file descriptor on systems that have none.
#[cfg(not(unix))]
#[derive(Debug)]
pub enum OwnedFd {}

/// A file descriptor with several owners, closed when the last one drops it.
///
/// It can be used wherever `AsFd` is asked for; `try_clone` makes an `OwnedFd` of
/// it, and that a `File` or a `UnixStream`.
pub type SharedFd = Arc<OwnedFd>;
