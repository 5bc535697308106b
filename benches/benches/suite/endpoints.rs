//! Messages of endpoints beside the same bytes over a socket, and lightweight
//! connections.

use benches::endpoints::{Carrier, Echo, Pair};
use capnp_threads_endpoint::Dialect;
use criterion::{BenchmarkId, Criterion, Throughput};

pub(crate) fn round_trips(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("endpoint_round_trip");
    for size in [8, 4 << 10, 256 << 10] {
        group.throughput(Throughput::Bytes(2 * size as u64));
        for carrier in Carrier::ALL {
            group.bench_function(BenchmarkId::new(carrier.to_string(), size), |bencher| {
                let mut echo = Echo::new(carrier, size).unwrap();
                bencher.iter(|| echo.round_trip().unwrap());
            });
        }
    }
    group.finish();
}

/// Opening a connection, until the other side knows it, and closing it. Another
/// one keeps the socket.
pub(crate) fn opening(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("endpoint_connection");
    for dialect in [Dialect::Multiplexed, Dialect::Versioned, Dialect::Original] {
        group.bench_function(Carrier::Endpoints(dialect).to_string(), |bencher| {
            let pair = Pair::new(dialect).unwrap();
            let _first = pair.open().unwrap();
            bencher.iter(|| pair.open().unwrap());
        });
    }
    group.finish();
}
