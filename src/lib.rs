#![doc = include_str!("../README.md")]
//!
//! # What is where
//!
//! The root has what most programs name; everything else is in the module of its
//! subject.
//!
//! | to | use |
//! |---|---|
//! | serve, and end in an orderly way, with one call | [`serve()`]; [`serving`], [`health`] |
//! | connect, and stay connected, with one call | [`connect`]; [`connecting`] |
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
//! | read and write bytes through a capability | [`bytes`] |
//! | have iterators reach through a capability | [`items`] |
//! | let people call a server by hand without its schema | [`mod@description`] |
//! | push data along | [`typed::StreamingRequest`], [`flow`] |
//! | recognise one's own objects | [`typed::unwrap_server`], [`typed::ServerSet`] |
//! | stand between two sides, take back what was given | [`membrane`] |
//! | log, limit or delay calls on their way | [`interceptors`] |
//! | outlive a connection, be told that a peer is gone, make calls again | [`reconnect`], [`Client::on_disconnect`] |
//! | tell many listeners something, of whom some are slow | [`outbox`] |
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
//! | `metrics` | [`interceptors::CallMetrics`](interceptors) and `Vat::record_metrics`: counters and histograms for the recorder of the crate `metrics` |
//! | `persist` | the module `persist`: references to objects that outlive connections and processes, with a store in a folder |
//! | `signals` | `SIGINT` and `SIGTERM` end servers in an orderly way, see [`serving`]; on Unix |
//! | `tls` | the module `transport::tls`: connections that are encrypted, to peers that prove who they are; and keys for endpoints |

#![forbid(unsafe_code)]
// What can grow says so, and what cannot says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

pub mod bytes;
pub mod connecting;
pub mod description;
pub mod health;
mod inlet;
pub mod items;
pub mod serving;

/// The interface of [`bytes`].
#[rustfmt::skip]
pub mod byte_stream_capnp {
    include!("generated/byte_stream_capnp.rs");
}

/// The interface of [`description`](mod@description).
#[rustfmt::skip]
pub mod description_capnp {
    include!("generated/description_capnp.rs");
}

/// The interfaces of [`items`].
#[rustfmt::skip]
pub mod items_capnp {
    include!("generated/items_capnp.rs");
}

/// The interface of [`health`].
#[rustfmt::skip]
pub mod health_capnp {
    include!("generated/health_capnp.rs");
}

pub use capnp_threads_core::typed::TypedFulfiller as Fulfiller;
pub use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Connection, Detached, Error, ErrorKind, FromClient, Limits,
    Params, Promise, Request, Response, Result, ResultExt, Results, RpcSystem, ServeConfig,
    Timeout, Vat, promise_client,
};

pub use connecting::connect;
pub use serving::serve;

#[doc(inline)]
pub use capnp_threads_core::{
    capnp, describe, fd, flow, interceptors, membrane, message, network, offer, outbox, reconnect,
    typed, untyped, vat,
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
