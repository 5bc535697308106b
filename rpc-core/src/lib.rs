//! Cap'n Proto RPC for programs made of OS threads.
//!
//! A capability is a value that any thread may hold, clone, call and drop: clients
//! are `Send + Sync`, a call may block the thread that makes it, and there is
//! neither an async runtime nor an event loop.
//!
//! ```
//! use capnp_threads_core::transport::Transport;
//! use capnp_threads_core::{ConnConfig, Result, Vat};
//! use rpc_schema::greeter_capnp::greeter;
//!
//! struct Greeter;
//!
//! impl greeter::Server for Greeter {
//!     fn greet(&self, params: greeter::GreetParams, mut results: greeter::GreetResults) -> Result<()> {
//!         let name = params.get()?.get_name()?.to_str()?;
//!         results.get().set_greeting(format!("Hello, {name}!"));
//!         Ok(())
//!     }
//! }
//!
//! /// Offers a greeter to the peer until the connection ends.
//! fn serve(vat: &Vat, transport: Transport) -> Result<()> {
//!     let greeter: greeter::Client = vat.export(Greeter);
//!     vat.connect(transport, ConnConfig::new().bootstrap(greeter))?.join()
//! }
//!
//! /// Calls the peer's greeter.
//! fn call(vat: &Vat, transport: Transport) -> Result<String> {
//!     let connection = vat.connect(transport, ConnConfig::new())?;
//!     let greeter: greeter::Client = connection.bootstrap();
//!     let mut request = greeter.greet_request();
//!     request.get().set_name("threads");
//!     let response = request.call()?;
//!     Ok(response.get()?.get_greeting()?.to_string()?)
//! }
//! # // Objects can be called without a connection, too.
//! # fn main() -> Result<()> {
//! #     let greeter: greeter::Client = Vat::new().export(Greeter);
//! #     let mut request = greeter.greet_request();
//! #     request.get().set_name("threads");
//! #     assert_eq!(request.call()?.get()?.get_greeting()?, "Hello, threads!");
//! #     Ok(())
//! # }
//! ```
//!
//! # What is where
//!
//! | to | use |
//! |---|---|
//! | have workers and connections | [`Vat`], [`Connection`], [`ConnConfig`] |
//! | serve everybody who connects | [`Vat::serve`], [`ServeConfig`], [`AcceptLimits`] |
//! | limit what a peer may make a connection hold | [`Limits`], [`PoolConfig`] |
//! | call objects | generated clients, made of [`Request`], [`Promise`], [`Response`]; see [`typed`] |
//! | serve objects | generated `Server` traits, with [`Params`] and [`Results`]; [`Concurrency`] |
//! | answer later | [`DeferredResults`] |
//! | promise a capability | [`promise_client`] |
//! | control what crosses a border, revoke what was given | [`Membrane`], [`revocable`] |
//! | outlive a connection | [`auto_reconnect`], [`lazy_auto_reconnect`] |
//! | recognise one's own objects | [`unwrap_server`], [`ServerSet`], [`Brand`] |
//! | stream data | [`StreamingRequest`], [`FlowControl`] |
//! | offer something else to each peer | [`BootstrapFactory`], [`Restorer`] |
//! | keep references that outlive a connection | the crate `rpc-persist`; [`ConnConfig::realm_gateway`] |
//! | know why something failed | [`Error`], [`ErrorKind`] |
//! | end with a connection, or an object | [`Supervisor`], [`OwnedSupervisor`], [`StopToken`] |
//! | work without types | [`Client`], [`Payload`], [`Pending`], [`Dispatch`], [`IncomingCall`] |
//! | write a transport | [`transport`], [`message`] |
//! | print messages | [`mod@describe`] |
//!
//! Transports are in the crate `capnp-threads-transport`, the code generator is in
//! `capnp-threads-codegen`. The guide and a description of the architecture are in the
//! folder `docs` of the repository.
//!
//! # Inside
//!
//! `protocol` is the machine: a connection's tables and what each message does to them,
//! without threads, input or output. `runtime` is the shell around it: vats, and the
//! threads of connections. `work` has the workers and the way to wait. `cap` has
//! capabilities, calls and promises; its `effects` run, once no lock is held, what a
//! transaction left to be done. `kinds` has further kinds of capability, and `wire` the
//! messages as plain values. The rules of locking are at the head of `protocol`; a type
//! that has states describes them above it.

#![forbid(unsafe_code)]
// What can grow says so, and what cannot says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod brand;
mod budget;
mod cap;
pub mod capnp;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod deadline;
mod error;
pub mod fd;
mod flow;
#[doc(hidden)]
pub mod generated;
pub mod ids;
mod kinds;
mod limits;
mod network;
mod panics;
mod protocol;
mod runtime;
mod sync;
#[cfg(test)]
mod tests;
pub mod transport;
pub mod typed;
mod wire;
mod work;

pub use brand::Brand;
pub use cap::client::Client;
pub use cap::hook;
pub use cap::incoming_call::IncomingCall;
pub use cap::object::{Concurrency, Dispatch};
pub use cap::payload::{Payload, PayloadBuilder};
pub use cap::pending::Pending;
pub use cap::promise::{Fulfiller, promise};
pub use error::{Error, ErrorKind, Result, Timeout};
pub use fd::SharedFd;
pub use flow::{AdaptiveWindow, FixedWindow, FlowControl, FlowController, VariableWindow};
pub use kinds::membrane::{
    Membrane, MembranePolicy, Passage, RevokeOnDrop, Revoker, Transparent, revocable,
};
pub use kinds::reconnect::{ReconnectControl, auto_reconnect, lazy_auto_reconnect};
pub use limits::Limits;
pub use network::{Accepted, Listen, Reached, VatNetwork};
pub use protocol::snapshot::{Exported, Snapshot};
pub use runtime::offer::{BootstrapFactory, NamedExports, ObjectId, Restorer};
pub use runtime::{
    AcceptLimits, ConnConfig, Connection, OwnedSupervisor, Peer, RpcSystem, RpcSystemBuilder,
    ServeConfig, StopToken, Supervisor, Vat, VatConfig,
};
pub use typed::{
    DeferredResults, Detached, FromClient, FromServer, ObjectConfig, Params, Promise, Request,
    Response, Results, ServerSet, StreamingRequest, TypedFulfiller, new_client, new_client_with_fd,
    promise_client, unwrap_server,
};
pub use wire::message;
pub use wire::print as describe;
pub use work::pool::PoolConfig;
