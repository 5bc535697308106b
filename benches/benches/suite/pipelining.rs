//! Calls that do not wait for each other.

use std::time::Instant;

use benches::figures::CHAIN_DEPTH;
use benches::link::{Kind, Link};
use benches::load::pings;
use capnp_threads_core::Concurrency;
use criterion::{Criterion, Throughput};

pub(crate) fn outstanding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outstanding");
    group.throughput(Throughput::Elements(1));
    for window in [16, 128, 1024] {
        group.bench_function(window.to_string(), |bencher| {
            let link = Link::new(Kind::Unix, Concurrency::Serial).unwrap();
            bencher.iter_custom(|calls| {
                let start = Instant::now();
                pings(link.echo(), usize::try_from(calls).unwrap(), window).unwrap();
                start.elapsed()
            });
        });
    }
    group.finish();
}

pub(crate) fn chain(criterion: &mut Criterion) {
    criterion.bench_function(format!("chain/{CHAIN_DEPTH}").as_str(), |bencher| {
        let link = Link::new(Kind::Unix, Concurrency::Serial).unwrap();
        bencher.iter(|| {
            let mut echo = link.echo().clone();
            for _ in 0..CHAIN_DEPTH {
                echo = echo.next_request().send().pipeline().get_echo();
            }
            echo.ping_request().call().unwrap()
        });
    });
}
