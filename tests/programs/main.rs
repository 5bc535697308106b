//! The programs that users see first do what is said of them: the examples, and what the
//! README and the guide have the reader make.
//!
//! Cargo builds the examples along with the tests of this package, but not with
//! `--test programs` alone: build them first then.
//!
//! What some tests need may be missing: then they say so and pass, unless the
//! environment has `REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bytes;
mod connecting;
mod counted;
mod describing;
mod examples;
/// What the examples of downloads and uploads speak.
#[allow(unreachable_pub, missing_docs, dead_code, reason = "not all of it is used here")]
#[rustfmt::skip]
#[path = "../../examples/support/generated/files_capnp.rs"]
mod files_capnp;
mod guide;
mod items;
mod observing;
mod resuming;
mod serving;
