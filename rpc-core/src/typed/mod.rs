//! The typed surface: what generated code is made of, and what its users call.
//!
//! For every interface of a schema there is one set of types:
//!
//! - `foo::Client`, a capability with a method `bar_request` for every method of
//!   the interface and of those it extends. It is `Clone + Send + Sync`.
//! - `foo::Server`, the trait that objects implement. Its methods take `&self`,
//!   may block, and answer by returning; see [`Results`]. The trait is object
//!   safe.
//! - `foo::BarParams` and `foo::BarResults`, the arguments of a server's methods:
//!   [`Params`] and [`Results`] of the method's structs.
//!
//! A call goes from a [`Request`] to a [`Promise`] to a [`Response`]. While the
//! promise is open its [`pipeline`](Promise::pipeline) gives capabilities that
//! the response will hold; calls to them are sent at once.
//!
//! ```
//! use capnp_threads_core::Error;
//! use capnp_threads_core::typed::new_client;
//! use rpc_schema::calculator_capnp::calculator::value;
//!
//! struct Number(f64);
//!
//! impl value::Server for Number {
//!     fn read(&self, _: value::ReadParams, mut results: value::ReadResults) -> Result<(), Error> {
//!         results.get().set_value(self.0);
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Error> {
//! let client: value::Client = new_client(Number(4.0));
//! let promise = client.read_request().send();
//! assert_eq!(promise.wait()?.get()?.get_value(), 4.0);
//! # Ok(())
//! # }
//! ```
//!
//! # What may change threads
//!
//! Clients, promises, pipelines, [`Detached`] content and [`DeferredResults`] may. A
//! value that reads or builds a message ([`Request`], [`Response`], [`Params`],
//! [`Results`]) stays on its thread, because the capnp crate's readers and builders do.
//! Each such type has a method that makes a value for other threads.

mod client;
mod content;
mod export;
mod pipeline;
mod places;
mod promise;
mod request;
mod server;
mod server_set;

pub use crate::cap::from_client::FromClient;
pub use crate::cap::interface::{Described, Interface};
pub use crate::cap::pipeline::Pipeline;
pub use client::{TypedFulfiller, promise_client};
pub use content::{Content, Detached, Response};
#[cfg(feature = "bench")]
pub(crate) use export::dispatch_of;
pub use export::{FromServer, ObjectConfig, new_client, new_client_with_fd, unwrap_server};
pub use pipeline::{FromTypelessPipeline, NoPipeline, Pipelined};
pub use places::{AnyPointerExt, CapabilityListExt};
pub use promise::Promise;
pub use request::{Request, StreamingRequest};
pub use server::{DeferredResults, Params, Results};
pub use server_set::ServerSet;

// For generated code only: see `crate::generated`.
#[doc(hidden)]
pub use client::{client_from_hook, hook_from_client, hook_of};
#[doc(hidden)]
pub use server::{run, run_streaming};
