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
//! The root has what most programs name; everything else is in the module of its
//! subject.
//!
//! | to | use |
//! |---|---|
//! | have workers and connections | [`Vat`], [`Connection`], [`ConnConfig`]; [`vat`] |
//! | serve everybody who connects | [`Vat::serve`], [`ServeConfig`], [`vat::AcceptLimits`] |
//! | reach vats by name | [`RpcSystem`], [`network`] |
//! | limit what a peer may make a connection hold | [`Limits`], [`vat::PoolConfig`] |
//! | call objects | generated clients, made of [`Request`], [`Promise`], [`Response`]; [`typed`] |
//! | serve objects | generated `Server` traits, with [`Params`] and [`Results`]; [`Concurrency`] |
//! | answer later | [`typed::DeferredResults`] |
//! | promise a capability | [`promise_client`] |
//! | control what crosses a border, revoke what was given | [`membrane`] |
//! | log, limit or delay calls on their way | [`interceptors`] |
//! | outlive a connection | [`reconnect`] |
//! | recognise one's own objects | [`typed::unwrap_server`], [`typed::ServerSet`], [`untyped::Brand`] |
//! | push data along | [`typed::StreamingRequest`], [`flow`] |
//! | offer something else to each peer, or objects by name | [`offer`] |
//! | keep references that outlive a connection | the crate `capnp-threads-persist`; [`ConnConfig::realm_gateway`] |
//! | know why something failed | [`Error`], [`ErrorKind`] |
//! | end with a connection, or an object | [`vat::Supervisor`], [`vat::StopToken`] |
//! | work without types | [`Client`], [`untyped`] |
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
pub mod flow;
#[doc(hidden)]
pub mod generated;
pub mod ids;
mod kinds;
mod limits;
#[doc(hidden)]
pub mod log;
#[doc(hidden)]
pub mod memory;
mod panics;
pub mod process;
mod protocol;
mod runtime;
mod sync;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, unused_imports, missing_docs))]
mod tests;
pub mod transport;
pub mod typed;
mod wire;
mod work;

pub use cap::client::Client;
pub use cap::from_client::FromClient;
pub use cap::hook;
pub use cap::object::Concurrency;
pub use error::{Error, ErrorKind, Result, ResultExt, Timeout};
pub use kinds::membrane;
pub use kinds::outbox;
pub use limits::Limits;
pub use runtime::offer;
pub use runtime::{ConnConfig, Connection, RpcSystem, ServeConfig, Vat};
/// What the targets in `fuzz/` call.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use tests::fuzzed;
pub use typed::{Detached, Params, Promise, Request, Response, Results, promise_client};
pub use wire::message;
pub use wire::print as describe;
/// The structs of the protocol's messages, for this project's tools.
#[doc(hidden)]
pub use wire::rpc_capnp;
/// For the threads of the crates on top of this one.
#[doc(hidden)]
pub use work::home::OwnThread;

/// Workers, connections and who may make them, and threads that end with them.
pub mod vat {
    pub use crate::protocol::snapshot::{Exported, Snapshot};
    pub use crate::runtime::{
        AcceptLimits, ConnectionThreads, OwnedSupervisor, StopToken, Supervisor, VatConfig,
    };
    pub use crate::runtime::{ConnectionSnapshot, VatSnapshot};
    pub use crate::work::pool::PoolConfig;
}

/// Where peers come from: listeners for [`Vat::serve`], and networks of vats that reach
/// each other by name, for an [`RpcSystem`].
pub mod network {
    pub use crate::runtime::{Admission, Peer, RpcSystemBuilder};
    pub use crate::transport::introductions::{
        Completion, Introduced, Introduction, Introductions, Uses,
    };
    pub use crate::transport::network::{Accepted, Listen, Reached, VatNetwork};
    pub use crate::wire::Token;
}

/// Capabilities that are made anew when their connection was lost.
pub mod reconnect {
    pub use crate::error::CarriedOut;
    pub use crate::kinds::backoff::Backoff;
    pub use crate::kinds::reconnect::{
        ReconnectControl, auto_reconnect, auto_reconnect_after, lazy_auto_reconnect,
        lazy_auto_reconnect_after,
    };
    pub use crate::kinds::retry::Retry;
}

/// What is asked about calls on their way, and told how they end: for logs, limits and
/// whatever else surrounds calls.
pub mod interceptors {
    pub use crate::cap::call::Ending;
    pub use crate::cap::interceptor::{
        Delay, InterceptedCall, Interceptor, Interceptors, Release, Side, Verdict, delay,
    };
    pub use crate::cap::interface::Method;
    #[cfg(feature = "metrics")]
    pub use crate::kinds::interception::CallMetrics;
    pub use crate::kinds::interception::{ConcurrencyLimit, RateLimit, intercept};
}

/// Calls, objects and promises without generated types.
pub mod untyped {
    pub use crate::brand::Brand;
    pub use crate::cap::call::Ending;
    pub use crate::cap::disconnect::DisconnectGuard;
    pub use crate::cap::incoming_call::IncomingCall;
    pub use crate::cap::interface::Method;
    pub use crate::cap::object::Dispatch;
    pub use crate::cap::payload::{Payload, PayloadBuilder};
    pub use crate::cap::pending::Pending;
    pub use crate::cap::promise::{Fulfiller, promise};
    pub use crate::cap::sameness::Comparison;
}
