//! Conformance, interoperation, simulation and stress tests.

pub mod peers;
