//! What calls cost, measured: the work, the programs that do it, and a baseline
//! without any protocol.
//!
//! | to run | what it does |
//! |---|---|
//! | `cargo bench` | criterion suites, each about one thing |
//! | `cargo bench -- --test` | runs every one of them once, to see that it works |
//! | `cargo bench -p benches --bench cost` | counts the allocations and the instructions of a call |
//! | `cargo run --release -p benches --bin load -- server ADDR` | serves `echo.capnp` |
//! | `cargo run --release -p benches --bin load -- client ADDR` | loads such a server and prints the [`figures`] |
//! | `cargo run --release -p benches --bin compare` | does that with several implementations side by side |
//! | `cargo run --release -p benches --bin many` | measures many threads, calls, exports and connections |
//! | `cargo run --release -p benches --bin endpoints` | measures [`endpoints`] against raw sockets |
//!
//! Other implementations that serve and load the same interface and print the
//! same figures are in `peers/`. Calls that stay in a process are measured in
//! [`within`]. What a run measured can be [kept](record) and [drawn](plot).

pub mod cli;
pub mod cpu;
pub mod endpoints;
pub mod figures;
pub mod link;
pub mod load;
pub mod plot;
pub mod raw;
pub mod record;
pub mod service;
pub mod table;
pub mod within;

/// Why a measurement could not be made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A measurement, or why it could not be made.
pub type Result<T, E = Failure> = std::result::Result<T, E>;
