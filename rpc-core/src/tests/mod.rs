//! Tests of the protocol machine, with vats that the test moves step by step.
//!
//! There is no thread, socket, clock or sleep in here. Two or more vats live in
//! one process; each link between two of them is a pair of machines, and what one
//! sends waits until the test delivers it ([`net`]). Objects record the calls that
//! they get and do with them what the test says; they run when the test runs
//! their jobs ([`actor`]). Or the test is the peer itself, writes messages by hand
//! and reads what comes back ([`raw`]). Or a model says what is done and what must be
//! sent ([`replays`]). Or nobody knows what happens next ([`walk`]). After every step the tables of every
//! machine are checked, and at the end nothing may be left anywhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cloned_ref_to_slice_refs,
    clippy::collapsible_if,
    clippy::drop_non_drop,
    clippy::option_option,
    clippy::redundant_pattern_matching
)]

mod actor;
mod budget;
mod cancelled;
#[cfg(not(rpc_model))]
mod circles;
pub(crate) mod content;
mod line;
mod membranes;
#[cfg(rpc_model)]
mod models;
mod neighbours;
pub(crate) mod net;
mod places;
mod probes;
mod raw;
#[cfg(all(test, not(rpc_model)))]
mod replays;
#[cfg(all(test, not(rpc_model)))]
mod replays_promised;
mod resolve;

mod draining;
mod embargoes;
#[cfg(unix)]
mod fds;
mod flow_limit;
pub mod fuzzed;
mod handoff_chains;
mod handoff_limits;
mod handoff_outcomes;
mod handoff_peers;
mod handoff_promises;
mod handoff_waits;
mod handoffs;
mod held_references;
mod hints;
mod in_hand;
mod joins;
#[cfg(not(rpc_model))]
mod late;
mod long;
mod stale;
mod tables;
mod tail_calls;
mod taken;
mod unused;
pub(crate) mod walk;
#[cfg(all(test, not(rpc_model)))]
mod woken;
