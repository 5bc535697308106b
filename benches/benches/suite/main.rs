//! What the parts of a call cost, each by itself, with both sides in one process.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod calls;
mod capabilities;
mod endpoints;
mod payloads;
mod pipelining;
mod tables;
mod threads;
mod two_vats;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = suite;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = calls::calls, pipelining::outstanding, pipelining::chain, threads::threads,
        payloads::echo, capabilities::capabilities, tables::tables,
        endpoints::round_trips, endpoints::opening,
        two_vats::two_vats
}
criterion_main!(suite);
