//! What a call costs without threads and sockets: two vats on one thread, which also
//! encodes, copies and decodes each message.

use benches::within::TwoVatsLink;
use criterion::{Criterion, Throughput};

pub(crate) fn two_vats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two vats on one thread");
    group.throughput(Throughput::Elements(1));
    let mut vats = TwoVatsLink::new().unwrap();
    group.bench_function("ping", |bencher| bencher.iter(|| vats.ping().unwrap()));
    group.finish();
}
