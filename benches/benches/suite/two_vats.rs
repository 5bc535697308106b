//! What a call costs without threads and sockets: two vats on one thread, which also
//! encodes, copies and decodes each message.

use benches::service::Echo;
use capnp_threads_core::bench::TwoVats;
use capnp_threads_core::{Concurrency, Vat};
use criterion::{Criterion, Throughput};
use rpc_schema::echo_capnp::echo;

pub(crate) fn two_vats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two vats on one thread");
    group.throughput(Throughput::Elements(1));
    let vat = Vat::new();
    let (vats, client) =
        TwoVats::new::<echo::Client, _>(Echo::new(&vat, Concurrency::Serial)).unwrap();
    group.bench_function("ping", |bencher| {
        bencher.iter(|| {
            let promise = client.ping_request().send();
            vats.settle().unwrap();
            promise.try_response().unwrap().unwrap()
        });
    });
    group.finish();
}
