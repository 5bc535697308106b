//! Conformance, interoperation, simulation and stress tests.

#[cfg(doctest)]
mod book;
pub mod conformance;
pub mod peers;
