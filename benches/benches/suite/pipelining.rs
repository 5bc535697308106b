//! Calls that do not wait for each other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use benches::figures::CHAIN_DEPTH;
use benches::link::{Kind, Link};
use capnp_threads_core::Concurrency;
use criterion::{Criterion, Throughput};
use rpc_schema::echo_capnp::echo;

pub(crate) fn outstanding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outstanding");
    group.throughput(Throughput::Elements(1));
    for window in [16, 128, 1024] {
        group.bench_function(window.to_string(), |bencher| {
            let link = Link::new(Kind::Unix, Concurrency::Serial).unwrap();
            bencher.iter_custom(|calls| calls_with(link.echo(), calls, window));
        });
    }
    group.finish();
}

fn calls_with(echo: &echo::Client, calls: u64, window: usize) -> Duration {
    let start = Instant::now();
    let mut outstanding = VecDeque::with_capacity(window);
    for _ in 0..calls {
        if outstanding.len() == window {
            let oldest: capnp_threads_core::Promise<_> = outstanding.pop_front().unwrap();
            oldest.wait().unwrap();
        }
        outstanding.push_back(echo.ping_request().send());
    }
    for promise in outstanding {
        promise.wait().unwrap();
    }
    start.elapsed()
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
