//! What the threads around the protocol promise: when what runs where, who may
//! wait, and how everything ends.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod cancelling;
mod closing;
mod drops;
mod flow_limit;
mod identity;
mod limits;
mod panics;
mod pitfalls;
mod pool;
mod promises;
mod reconnecting;
mod serving;
mod waiting;
