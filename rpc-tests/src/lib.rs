//! Conformance, interoperation, simulation and stress tests.
