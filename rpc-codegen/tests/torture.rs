//! Compiles and uses the code of a schema that is hard on generators.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[rustfmt::skip]
#[path = "generated/other_capnp.rs"]
mod other_capnp;
#[rustfmt::skip]
#[path = "generated/torture_capnp.rs"]
mod torture_capnp;

#[path = "torture/capabilities.rs"]
mod capabilities;
#[path = "torture/generics.rs"]
mod generics;
#[path = "torture/inheritance.rs"]
mod inheritance;
#[path = "torture/names.rs"]
mod names;
