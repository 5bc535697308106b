//! Cap'n Proto RPC for programs made of OS threads.

#![forbid(unsafe_code)]

pub mod capnp;
pub mod client;
pub mod error;
pub mod hook;
pub mod message;
pub mod payload;
pub mod transport;
pub mod typed;

#[rustfmt::skip]
#[allow(warnings, clippy::all, clippy::pedantic)]
#[path = "generated/rpc_capnp.rs"]
pub(crate) mod rpc_capnp;

pub use client::Client;
pub use error::{Error, ErrorKind, Result};
pub use typed::{
    DeferredResults, Detached, FromClient, FromServer, Params, Promise, Request, Response, Results,
    StreamingRequest, new_client, unwrap_server,
};
