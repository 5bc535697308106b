//! One call at a time, with nothing in it.

use benches::link::{Kind, Link};
use capnp_threads_core::Concurrency;
use criterion::Criterion;

pub(crate) fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("null_call");
    for kind in Kind::ALL {
        for (name, concurrency) in
            [("worker", Concurrency::Serial), ("inline", Concurrency::Inline)]
        {
            group.bench_function(format!("{kind}/{name}"), |bencher| {
                let link = Link::new(kind, concurrency).unwrap();
                bencher.iter(|| link.echo().ping_request().call().unwrap());
            });
        }
    }
    // Without a connection: what is left is the object's mailbox and its worker.
    group.bench_function("local", |bencher| {
        let vat = capnp_threads_core::Vat::new();
        let echo = benches::service::Echo::client(&vat, Concurrency::Serial);
        bencher.iter(|| echo.ping_request().call().unwrap());
    });
    group.finish();
}
