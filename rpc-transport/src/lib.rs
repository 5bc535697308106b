//! Blocking transports for thread-native Cap'n Proto RPC.
//!
//! A [`Transport`] is what a connection needs from the network: a reader and a
//! writer of whole messages and a handle that ends both. This crate makes them
//! from TCP and Unix sockets, from pipes to child processes, and within one
//! process. Programs that learn at run time where to connect to can leave the
//! choice to an [`Address`].
//!
//! | module | what it connects |
//! |---|---|
//! | [`tcp`] | processes on different machines |
//! | [`unix`] | processes on one machine |
//! | [`halves`] | any stream to read from and any stream to write to |
//! | [`memory`] | threads of one process, without serialising anything |
//! | `tls` | processes that prove who they are, with the feature of this name |
//! | [`framing`] | what one's own byte streams are wrapped in |
//! | [`introducing`] | what networks put into messages to introduce their vats |
//!
//! [`tap`] shows what goes over any of them. Many parties that talk with each other
//! over one socket for each pair are in the crate `capnp-threads-endpoint`.
//!
//! Systems that are not like Unix have TCP, memory and pipes. There, only a connection's
//! receive thread reads and only its send thread writes.

#![forbid(unsafe_code)]
// What can grow says so, and what cannot says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod accept;
pub mod addr;
mod failure;
pub mod fork;
pub mod framing;
pub mod halves;
pub mod introducing;
pub mod memory;
mod network;
pub mod pipe;
mod polling;
#[cfg(unix)]
mod socket;
#[cfg(not(unix))]
#[path = "socket_elsewhere.rs"]
mod socket;
pub mod tap;
pub mod tcp;
#[cfg(test)]
mod testing;
#[cfg(all(feature = "tls", unix))]
pub mod tls;
#[cfg(unix)]
pub mod unix;
#[cfg(test)]
mod writing_now_tests;

pub use accept::Closer;
pub use addr::{Address, Listener};
pub use capnp_threads_core::transport::{
    Credentials, FrameLimits, Identity, MessageReader, MessageWriter, PeerDescription, Received,
    Transport, TransportControl, TransportError, VatId,
};
pub use failure::is_exhaustion;
pub use network::{SocketNetwork, SocketVat};
pub use tcp::TcpOptions;
