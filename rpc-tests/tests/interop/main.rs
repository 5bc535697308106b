//! This library and others: what each shows the other over sockets, and that both
//! mean the same schemas.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod behaviours;
mod conformance;
mod differential;
#[cfg(target_os = "linux")]
mod handoffs;
mod joins;
mod peers;
mod schemas;
mod without_level_3;
