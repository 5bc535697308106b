//! Endpoints: many parties, one socket for each pair of them.
//!
//! A [`Network`] listens at one TCP port. Its [`Endpoint`]s have addresses
//! `host:port:id` and connect to each other. All the [`Connection`]s between two
//! endpoints, in both directions, share one TCP connection, which is dialled when
//! the first is opened and closed after the last; a connection costs a few bytes
//! and needs no round trip. Each goes one way: to be answered, the other side
//! opens one of its own.
//!
//! ```
//! use capnp_threads_endpoint::{ConnectHints, Event, Network, Parameters};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = Network::bind("127.0.0.1", 0, Parameters::default())?;
//! let (here, there) = (network.new_endpoint()?, network.new_endpoint()?);
//!
//! let connection = here.connect(there.address(), ConnectHints::new())?;
//! connection.send(&[b"hello, ", b"world"])?;
//! connection.close();
//!
//! let Event::ConnectionOpened { from, .. } = there.receive()? else { panic!() };
//! assert_eq!(from, *here.address());
//! let Event::Received { message, .. } = there.receive()? else { panic!() };
//! assert_eq!(message, b"hello, world");
//! let Event::ConnectionClosed { .. } = there.receive()? else { panic!() };
//! # Ok(())
//! # }
//! ```
//!
//! Messages of one connection arrive in order. Among connections there is no
//! order, and a program that is slow to receive on one does not hold up the
//! others, if it [claims](Endpoint::claim) it and both sides speak the
//! [multiplexed dialect](Dialect::Multiplexed). The older dialects are those of
//! the Haskell package network-transport-tcp.
//!
//! Everything here blocks. Peers are not authenticated, and their addresses are what they
//! say; unless the network has a key (`Parameters::key`, with the feature `tls`): then every
//! socket is encrypted, and each address has the id of a vat that has proved it.
//!
//! An [`EndpointNetwork`] makes a network of vats of them, for remote procedure
//! calls.
//!
//! The protocol and the guarantees are described in `docs/endpoints.md`.

#![forbid(unsafe_code)]
// What can grow says so, and what cannot says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod address;
mod answer;
mod census;
mod claimable;
mod deadline;
mod dial;
mod error;
mod event;
/// What the targets in `fuzz/` call.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzed;
mod handle;
mod inbox;
mod link;
mod local;
mod machine;
mod network;
mod notes;
mod pace;
mod parameters;
mod proof;
mod reader;
mod socket;
mod standby;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, unused_imports, missing_docs))]
mod trace;
mod vats;
mod wire;
mod writer;

pub use address::{AddressParts, ConnectionId, EndpointAddress, EndpointId};
pub use error::{
    ConnectError, ConnectErrorCode, NewEndpointError, ReceiveError, SendError, TrySendError,
};
pub use event::Event;
pub use handle::{Connection, Endpoint, Incoming, IncomingError, Network};
pub use parameters::{ConnectHints, Dialect, Parameters};
pub use vats::{EndpointNetwork, EndpointVat, InvalidVatId};

/// Number of items for which a collection that is empty keeps memory. What has grown for more
/// gives back what it does not need: Note [memory peak] in `memory.rs` of `capnp-threads-core`.
const KEPT: usize = 16;
