//! Behaviours of docs/conformance.md that need a real peer, or one that says what a
//! test wants, and that are not among those of the conformance programs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod files;
mod peers;
mod promises;
mod reconnecting;
mod scripted;
mod shutdown;
mod streams;
