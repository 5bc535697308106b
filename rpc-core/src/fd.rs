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

/// A descriptor that can be waited for. It stays open as long as this exists.
#[cfg(all(unix, not(rpc_model)))]
pub type Descriptor = Arc<dyn std::os::fd::AsFd + Send + Sync>;

/// Stands for a descriptor on systems that have none.
#[cfg(all(not(unix), not(rpc_model)))]
pub type Descriptor = Arc<OwnedFd>;

/// What a model has in place of a descriptor: Note [models].
#[cfg(rpc_model)]
pub type Descriptor = Arc<crate::sync::Signal>;

/// A file descriptor with several owners, closed when the last one drops it.
///
/// It can be used wherever `AsFd` is required. `try_clone` makes an `OwnedFd` of it,
/// which can become a `File` or a `UnixStream`.
pub type SharedFd = Arc<OwnedFd>;
