//! What the capnpc crate prints for the conformance schemas, committed so that
//! building needs no schema compiler. `rpc-tests/tests/schemas.rs` compares it.
#![allow(warnings, clippy::all, clippy::pedantic, clippy::restriction)]

#[rustfmt::skip]
pub(crate) mod test_capnp;
#[rustfmt::skip]
pub(crate) mod test_control_capnp;
#[rustfmt::skip]
pub(crate) mod test_values_capnp;
