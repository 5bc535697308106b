//! Cap'n Proto RPC for programs made of OS threads.

#![forbid(unsafe_code)]

pub mod client;
pub mod describe;
pub mod error;
pub mod hook;
pub mod message;
pub mod payload;
pub mod transport;

#[allow(warnings, clippy::all, clippy::pedantic)]
#[path = "generated/rpc_capnp.rs"]
pub(crate) mod rpc_capnp;

pub use error::{Error, ErrorKind, Result};
