//! Many threads that use everything at once, and peers that break the rules.
//!
//! The threads share one connection, many connections through one vat, connections
//! that end at any moment, or endpoints. In the end nothing may be left of it: no
//! entry in a table, no object, no thread.
//!
//! Each round is told by its seed; `STRESS_SEED` repeats one, as far as the
//! system's scheduler goes along. `STRESS_THREADS`, `STRESS_STEPS` and
//! `STRESS_SECONDS` make a test larger and longer.
#![cfg(unix)]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod desk;
mod endpoints;
mod held;
mod hostile;
mod killed;
mod ledger;
mod many_connections;
mod one_connection;
mod scarce;
mod settings;
mod worker;
