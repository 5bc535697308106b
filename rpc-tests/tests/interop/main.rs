//! This library and others: what each shows the other over sockets, and that both
//! mean the same schemas.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod behaviours;
mod conformance;
mod differential;
mod peers;
mod schemas;
