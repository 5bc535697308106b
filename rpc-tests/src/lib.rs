//! Conformance, interoperation, simulation and stress tests, and what they share.

#[cfg(target_os = "linux")]
pub mod attacks;
#[cfg(any(doctest, test))]
mod book;
pub mod conformance;
pub mod fuzzed;
pub mod peers;
#[cfg(target_os = "linux")]
pub mod soak;
pub mod support;

// Tests that bound memory count it.
#[cfg(all(test, target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: attacks::memory::Counting = attacks::memory::Counting;
