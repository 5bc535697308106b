//! What vats with real threads promise: when what runs where, who may wait, what a
//! peer is told, and how everything ends.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod accepting;
mod admission;
mod callers;
mod cancelling;
mod closing;
mod connection;
mod deadlines;
mod drops;
mod endpoints;
mod exceptions;
mod file_descriptors;
mod flow_limit;
mod forked;
mod identity;
mod inherited;
mod kept_jobs;
mod limits;
mod logs;
mod membranes;
mod offers;
mod out_of_descriptors;
mod own_calls;
mod panics;
mod persistence;
mod pitfalls;
mod plugins;
mod pool;
mod promises;
mod realms;
mod reconnecting;
mod serving;
mod system;
mod typed;
mod waiting;
