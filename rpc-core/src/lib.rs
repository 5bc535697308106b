//! Cap'n Proto RPC for programs made of OS threads.

#![forbid(unsafe_code)]

mod call;
pub mod capnp;
mod client;
mod delivery;
pub mod describe;
mod effects;
mod error;
mod flow;
pub mod hook;
pub mod ids;
mod limits;
mod local_promise;
pub mod message;
mod object;
mod payload;
mod pending;
mod promise;
mod protocol;
mod remote_promise;
mod runtime;
pub mod transport;
pub mod typed;
mod watch;
mod wire;

#[rustfmt::skip]
#[allow(warnings, clippy::all, clippy::pedantic)]
#[path = "generated/rpc_capnp.rs"]
pub(crate) mod rpc_capnp;

pub use client::Client;
pub use error::{Error, ErrorKind, Result};
pub use flow::{AdaptiveWindow, FixedWindow, FlowControl, FlowController, VariableWindow};
pub use limits::Limits;
pub use object::{Concurrency, Dispatch, IncomingCall};
pub use payload::{Payload, PayloadBuilder};
pub use pending::Pending;
pub use promise::{Fulfiller, promise};
pub use protocol::Snapshot;
pub use runtime::{
    ConnConfig, Connection, Executor, Job, PoolConfig, StopToken, Supervisor, Vat, VatConfig,
};
pub use typed::{
    DeferredResults, Detached, FromClient, FromServer, Params, Promise, Request, Response, Results,
    StreamingRequest, TypedFulfiller, new_client, promise_client, unwrap_server,
};
