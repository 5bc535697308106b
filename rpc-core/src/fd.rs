//! File descriptors that travel with capabilities.
//!
//! The protocol machine passes them on and never uses one. A transport that can carry
//! them says so in [`MessageWriter::max_fds`]. The rest of a message travels the same
//! way whether or not its transport carries file descriptors.
//!
//! [`MessageWriter::max_fds`]: crate::transport::MessageWriter::max_fds

use std::sync::Arc;

/// A file descriptor of the operating system, closed when it is dropped.
#[cfg(unix)]
pub use std::os::fd::OwnedFd;

/// Stands for a file descriptor on systems that have none.
#[cfg(not(unix))]
#[derive(Debug)]
pub enum OwnedFd {}

/// A file descriptor with several owners, closed when the last one drops it.
///
/// It can be used wherever `AsFd` is required. `try_clone` makes an `OwnedFd` of it,
/// which can become a `File` or a `UnixStream`.
pub type SharedFd = Arc<OwnedFd>;
