//! Calls with data in them, both ways.

use benches::link::{Kind, Link};
use capnp_threads_core::Concurrency;
use criterion::{BenchmarkId, Criterion, Throughput};

pub(crate) fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("echo");
    for kind in [Kind::Memory, Kind::Unix] {
        for size in [1, 64, 1 << 10, 64 << 10, 1 << 20] {
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(kind.to_string(), size), |bencher| {
                let link = Link::new(kind, Concurrency::Serial).unwrap();
                let data = vec![7; size];
                bencher.iter(|| {
                    let mut request = link.echo().echo_request();
                    request.get().set_data(&data);
                    let response = request.call().unwrap();
                    assert_eq!(response.get().unwrap().get_data().unwrap().len(), size);
                });
            });
        }
    }
    group.finish();
}
