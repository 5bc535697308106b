//! Behaviours of docs/conformance.md that need a real peer, or one that says what a
//! test wants, and that are not among those of the conformance programs.

mod files;
mod keepalive;
mod peers;
mod promises;
mod reconnecting;
mod scripted;
mod shutdown;
mod streams;
