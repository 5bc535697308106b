//! The shell around the protocol machine: threads, queues and shutdown.

mod attendants;
mod common;
mod config;
mod connection;
mod draining;
mod exceptions;
pub(crate) mod keepalive;
#[cfg(all(test, rpc_model))]
mod models;
pub mod offer;
mod reading;
mod receiving;
mod sending;
mod serving;
mod snapshot;
mod standing;
mod steps;
mod supervisor;
mod system;
mod turns;
mod vat;

pub use self::config::ConnConfig;
pub use self::connection::Connection;
pub use self::serving::{AcceptLimits, ServeConfig};
pub use self::snapshot::{ConnectionSnapshot, VatSnapshot};
pub use self::supervisor::{OwnedSupervisor, StopToken, Supervisor};
pub use self::system::{Admission, Peer, RpcSystem, RpcSystemBuilder};
pub use self::vat::{ConnectionThreads, Vat, VatConfig};
