//! The programs that users see first do what is said of them: the examples, and what the
//! README and the guide have the reader make.
//!
//! Cargo builds the examples along with the tests of this package, but not with
//! `--test programs` alone: build them first then.
//!
//! What some tests need may be missing: then they say so and pass, unless the
//! environment has `REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod examples;
mod guide;
mod process;
