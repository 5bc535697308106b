//! The program does what the guide says of it, against real servers.
//!
//! The schema compiler has to be installed, which the program runs; other
//! implementations may be missing, unless the environment has `REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod call;
mod described;
mod guide;
mod keys;
mod peers;
mod support;
mod tap;
mod trace;
