//! Making capabilities and letting go of them.

use benches::link::{Kind, Link};
use benches::service::Echo;
use capnp_threads_core::{Concurrency, Vat};
use criterion::Criterion;

pub(crate) fn capabilities(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("capabilities");
    group.bench_function("next_and_drop", |bencher| {
        let link = Link::new(Kind::Unix, Concurrency::Serial).unwrap();
        // The client is dropped with the response: the import is released, the
        // peer's export goes, and with it the object.
        bencher.iter(|| {
            let response = link.echo().next_request().call().unwrap();
            response.get().unwrap().get_echo().unwrap()
        });
    });
    group.bench_function("pipelined_and_drop", |bencher| {
        let link = Link::new(Kind::Unix, Concurrency::Serial).unwrap();
        // The last reference goes before the call returns: it is cancelled. The
        // ping keeps the calls from piling up.
        bencher.iter(|| {
            drop(link.echo().next_request().send().pipeline().get_echo());
            link.echo().ping_request().call().unwrap()
        });
    });
    group.bench_function("create_and_drop", |bencher| {
        let vat = Vat::new();
        bencher.iter(|| Echo::client(&vat, Concurrency::Serial));
    });
    group.bench_function("clone_and_drop", |bencher| {
        let echo = Echo::client(&Vat::new(), Concurrency::Serial);
        bencher.iter(|| echo.clone());
    });
    group.finish();
}
