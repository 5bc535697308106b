#![doc = include_str!("../README.md")]
//!
//! # What is where
//!
//! The root has what most programs name; everything else is in the module of its
//! subject.
//!
//! | to | use |
//! |---|---|
//! | have workers and connections | [`Vat`], [`Connection`], [`ConnConfig`]; [`vat`] |
//! | connect to other programs | [`transport`], for example [`transport::tcp`] |
//! | serve everybody who connects | [`Vat::serve`], [`ServeConfig`], [`vat::AcceptLimits`] |
//! | reach vats by name | [`RpcSystem`], [`network`] |
//! | call objects | generated clients, made of [`Request`], [`Promise`], [`Response`]; [`typed`] |
//! | serve objects | generated `Server` traits, with [`Params`] and [`Results`]; [`Concurrency`] |
//! | answer later | [`typed::DeferredResults`] |
//! | promise a capability | [`promise_client`], [`Fulfiller`] |
//! | read a response on another thread | [`Detached`] |
//! | know why something failed | [`Error`], [`ErrorKind`] |
//! | limit what a peer can make a connection hold | [`Limits`] |
//! | push data along | [`typed::StreamingRequest`], [`flow`] |
//! | recognise one's own objects | [`typed::unwrap_server`], [`typed::ServerSet`] |
//! | stand between two sides, take back what was given | [`membrane`] |
//! | outlive a connection | [`reconnect`] |
//! | offer something else to each peer, or objects by name | [`offer`] |
//! | end threads with a connection or an object | [`vat::Supervisor`], [`vat::StopToken`] |
//! | work without types | [`Client`], [`untyped`] |
//! | pass file descriptors | [`fd`] |
//! | print messages | [`transport::tap`], [`mod@describe`] |
#![cfg_attr(feature = "persist", doc = "| keep references that outlive processes | [`persist`] |")]
#![cfg_attr(
    feature = "endpoint",
    doc = "| have one socket for each pair of many parties | [`endpoint`] |"
)]
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `endpoint` | the module `endpoint`: many parties over one socket for each pair of them, and networks of vats on top |
//! | `persist` | the module `persist`: references to objects that outlive connections and processes, with a store in a folder |
//! | `tls` | the module `transport::tls`: connections that are encrypted, to peers that prove who they are |

#![forbid(unsafe_code)]
// What can grow says so, and what cannot says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

pub use capnp_threads_core::typed::TypedFulfiller as Fulfiller;
pub use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, Detached, Error, ErrorKind, FromClient, Limits,
    Params, Promise, Request, Response, Result, ResultExt, Results, RpcSystem, ServeConfig,
    Timeout, Vat, promise_client,
};

#[doc(inline)]
pub use capnp_threads_core::{
    capnp, describe, fd, flow, membrane, message, network, offer, reconnect, typed, untyped, vat,
};
#[cfg(feature = "endpoint")]
pub use capnp_threads_endpoint as endpoint;
#[cfg(feature = "persist")]
pub use capnp_threads_persist as persist;
pub use capnp_threads_transport as transport;

// For generated code only.
#[doc(hidden)]
pub use capnp_threads_core::generated;

/// What most programs import: `use capnp_threads::prelude::*`.
///
/// [`FromClient`] is among it because turning a typed client into an untyped one and
/// back are its methods.
pub mod prelude {
    pub use crate::typed::{AnyPointerExt, CapabilityListExt};
    pub use crate::{Client, ConnConfig, Connection, Error, FromClient, Result, ResultExt, Vat};
}
