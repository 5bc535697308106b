//! Conformance, interoperation, simulation and stress tests.

#[cfg(doctest)]
mod book;
