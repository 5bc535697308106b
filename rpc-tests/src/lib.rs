//! Conformance, interoperation, simulation and stress tests, and what they share.

#[cfg(target_os = "linux")]
pub mod attacks;
#[cfg(any(doctest, test))]
mod book;
pub mod conformance;
pub mod peers;
pub mod support;
