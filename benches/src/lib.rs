//! Benchmarks and the load program.
