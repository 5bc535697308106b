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
//! /// Offers a greeter to the peer, until one of the two has enough.
//! fn serve(vat: &Vat, transport: Transport) -> Result<()> {
//!     let greeter: greeter::Client = vat.export(Greeter);
//!     vat.connect(transport, ConnConfig::new().bootstrap(greeter))?.join()
//! }
//!
//! /// Has the peer's greeter greet somebody.
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
//! | limit what a peer may make a connection hold | [`Limits`], [`PoolConfig`] |
//! | call objects | generated clients, made of [`Request`], [`Promise`], [`Response`]; see [`typed`] |
//! | serve objects | generated `Server` traits, with [`Params`] and [`Results`]; [`Concurrency`] |
//! | answer later | [`DeferredResults`] |
//! | promise a capability | [`promise_client`] |
//! | stand between two sides, take back what was given | [`Membrane`], [`revocable`] |
//! | outlive a connection | [`auto_reconnect`], [`lazy_auto_reconnect`] |
//! | recognise one's own objects | [`unwrap_server`], [`ServerSet`], [`Brand`] |
//! | push data along | [`StreamingRequest`], [`FlowControl`] |
//! | offer something else to each peer | [`BootstrapFactory`], [`Restorer`] |
//! | keep references that outlive a connection | the crate `rpc-persist`; [`ConnConfig::realm_gateway`] |
//! | know why something failed | [`Error`], [`ErrorKind`] |
//! | end with a connection, or an object | [`Supervisor`], [`OwnedSupervisor`], [`StopToken`] |
//! | work without types | [`Client`], [`Payload`], [`Pending`], [`Dispatch`], [`IncomingCall`] |
//! | bring a transport along | [`transport`], [`message`] |
//! | print messages | [`mod@describe`] |
//!
//! Transports are in the crate `rpc-transport`, the code generator is in
//! `rpc-codegen`. The guide and a description of how this works inside are in the
//! folder `docs` of the repository.
//!
//! # Inside
//!
//! `protocol` is the machine: a connection's tables and what each message does to
//! them, without threads, input or output. `runtime` is the shell around it: the
//! threads of a connection and the workers of a vat. `wire` has the messages as
//! plain values. `effects` runs what is left to be done once no lock is held. The
//! rules of locking stand at the head of `protocol`, the states of everything that
//! has any above its type.

#![forbid(unsafe_code)]

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod brand;
mod cap;
pub mod capnp;
#[doc(hidden)]
pub mod data;
mod deadline;
mod error;
pub mod fd;
mod flow;
#[doc(hidden)]
pub mod generated;
pub mod ids;
mod kinds;
mod limits;
mod network;
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
pub use error::{Error, ErrorKind, Result};
pub use fd::SharedFd;
pub use flow::{AdaptiveWindow, FixedWindow, FlowControl, FlowController, VariableWindow};
pub use kinds::membrane::{
    Membrane, MembranePolicy, Passage, RevokeOnDrop, Revoker, Transparent, revocable,
};
pub use kinds::reconnect::{ReconnectControl, auto_reconnect, lazy_auto_reconnect};
pub use limits::Limits;
pub use network::{Accepted, Reached, VatNetwork};
pub use protocol::{Exported, Snapshot};
pub use runtime::offer::{BootstrapFactory, NamedExports, ObjectId, Restorer};
pub use runtime::{
    ConnConfig, Connection, OwnedSupervisor, Peer, RpcSystem, RpcSystemBuilder, StopToken,
    Supervisor, Vat, VatConfig,
};
pub use typed::{
    DeferredResults, Detached, FromClient, FromServer, ObjectConfig, Params, Promise, Request,
    Response, Results, ServerSet, StreamingRequest, TypedFulfiller, new_client, new_client_with_fd,
    promise_client, unwrap_server,
};
pub use wire::message;
pub use wire::print as describe;
pub use work::executor::{Executor, Job};
pub use work::pool::PoolConfig;
