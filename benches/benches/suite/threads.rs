//! Many threads on one connection, each of which waits for its own calls.

use benches::link::{Kind, Link};
use benches::load::calls_by_threads;
use capnp_threads_core::Concurrency;
use criterion::{Criterion, Throughput};

pub(crate) fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("threads");
    group.throughput(Throughput::Elements(1));
    for threads in [1, 8, 64] {
        group.bench_function(threads.to_string(), |bencher| {
            let link = Link::new(Kind::Unix, Concurrency::Serial).unwrap();
            bencher.iter_custom(|calls| {
                calls_by_threads(link.echo(), usize::try_from(calls).unwrap(), threads).unwrap()
            });
        });
    }
    group.finish();
}
