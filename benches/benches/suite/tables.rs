//! What a connection's tables could be made of: the look-ups of one call, with
//! other entries in the table, under a lock that is held anyway.
//!
//! One question is inserted and looked at when its call is sent; when it has
//! returned it is looked at twice and removed. Both times the order lock is taken,
//! for each candidate alike: choosing and queueing are one step in any case.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use dashmap::DashMap;
use parking_lot::Mutex;

/// About as large as an entry of the question table.
type Entry = [u64; 16];

trait Table {
    fn insert(&mut self, id: u32, entry: Entry);
    fn with<R>(&mut self, id: u32, look: impl FnOnce(&mut Entry) -> R) -> Option<R>;
    fn remove(&mut self, id: u32) -> Option<Entry>;
}

impl<S: BuildHasher + Clone> Table for DashMap<u32, Entry, S> {
    fn insert(&mut self, id: u32, entry: Entry) {
        DashMap::insert(self, id, entry);
    }
    fn with<R>(&mut self, id: u32, look: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        // Through a shared reference, as the connection does it: with the shard's
        // lock.
        let table = &*self;
        table.get_mut(&id).map(|mut entry| look(&mut entry))
    }
    fn remove(&mut self, id: u32) -> Option<Entry> {
        DashMap::remove(self, &id).map(|(_, entry)| entry)
    }
}

impl<S: BuildHasher> Table for HashMap<u32, Entry, S> {
    fn insert(&mut self, id: u32, entry: Entry) {
        HashMap::insert(self, id, entry);
    }
    fn with<R>(&mut self, id: u32, look: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.get_mut(&id).map(look)
    }
    fn remove(&mut self, id: u32) -> Option<Entry> {
        HashMap::remove(self, &id)
    }
}

/// Entries by their ids, which are small because they are handed out again.
struct Slab(Vec<Option<Entry>>);

impl Table for Slab {
    fn insert(&mut self, id: u32, entry: Entry) {
        let id = id as usize;
        if id >= self.0.len() {
            self.0.resize_with(id + 1, || None);
        }
        self.0[id] = Some(entry);
    }
    fn with<R>(&mut self, id: u32, look: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.0.get_mut(id as usize)?.as_mut().map(look)
    }
    fn remove(&mut self, id: u32) -> Option<Entry> {
        self.0.get_mut(id as usize)?.take()
    }
}

/// Multiplies. Not for numbers that a peer chooses.
#[derive(Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

pub(crate) fn tables(criterion: &mut Criterion) {
    let shards = 4;
    for others in [0, 128, 4096] {
        measure(criterion, "dashmap", others, DashMap::with_shard_amount(shards));
        let cheap = BuildHasherDefault::<Multiply>::default();
        let table = DashMap::with_hasher_and_shard_amount(cheap.clone(), shards);
        measure(criterion, "dashmap_cheap_hash", others, table);
        measure(criterion, "hashmap", others, HashMap::<_, _, RandomState>::default());
        measure(criterion, "hashmap_cheap_hash", others, HashMap::with_hasher(cheap));
        measure(criterion, "slab", others, Slab(Vec::new()));
    }
}

fn measure(criterion: &mut Criterion, name: &str, others: u32, mut table: impl Table) {
    for id in 0..others {
        table.insert(id, [u64::from(id); 16]);
    }
    let table = Mutex::new(table);
    let mut group = criterion.benchmark_group("tables");
    group.bench_function(BenchmarkId::new(name, others), |bencher| {
        bencher.iter(|| {
            let id = black_box(others);
            {
                let mut sending = table.lock();
                sending.insert(id, [7; 16]);
                sending.with(id, |entry| entry[0] += 1);
            }
            let mut returned = table.lock();
            returned.with(id, |entry| entry[1] += 1);
            returned.with(id, |entry| entry[2] += 1);
            returned.remove(id)
        });
    });
    group.finish();
}
