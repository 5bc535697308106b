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
//! | `cargo run --release -p benches --bin tls` | measures handshakes, round trips and a stream over TLS beside plain sockets |
//!
//! Other implementations that serve and load the same interface and print the
//! same figures are in `peers/`; what they share is in `work/`. Calls that stay in a process are measured in
//! [`within`]. What a run measured can be [kept](record) and [drawn](plot).

pub mod endpoints;
pub mod link;
pub mod load;
pub mod plot;
pub mod raw;
pub mod record;
pub mod service;
pub mod table;
pub mod within;

pub use benches_work::{Failure, Result, cli, cpu, figures};
