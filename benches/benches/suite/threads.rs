//! Many threads on one connection, each of which waits for its own calls.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use benches::link::{Kind, Link};
use capnp_threads_core::Concurrency;
use criterion::{Criterion, Throughput};
use rpc_schema::echo_capnp::echo;

pub(crate) fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("threads");
    group.throughput(Throughput::Elements(1));
    for threads in [1, 8, 64] {
        group.bench_function(threads.to_string(), |bencher| {
            let link = Link::new(Kind::Unix, Concurrency::Serial).unwrap();
            bencher.iter_custom(|calls| calls_by(link.echo(), calls, threads));
        });
    }
    group.finish();
}

/// Shares the calls out; the time for starting the threads does not count.
fn calls_by(echo: &echo::Client, calls: u64, threads: u64) -> Duration {
    let barrier = Barrier::new(usize::try_from(threads).unwrap() + 1);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..threads)
            .map(|index| {
                let share = calls / threads + u64::from(index < calls % threads);
                let (echo, barrier) = (echo.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for _ in 0..share {
                        echo.ping_request().call().unwrap();
                    }
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for caller in callers {
            caller.join().unwrap();
        }
        start.elapsed()
    })
}
