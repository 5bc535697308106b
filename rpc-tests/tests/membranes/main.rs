//! Membranes, in process and between vats: what crosses them, what comes back,
//! and what revoking ends.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod crossing;
mod objects;
mod order;
mod revoking;
