//! The concurrent maps of which a connection's tables consist, and the pools from which
//! ids are taken.

use std::fmt;
use std::hash::Hash;

use crate::sync::Map;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// One table of a connection.
///
/// Changes that matter for the order on the wire are made under the order lock;
/// looking up, counting and dumping work without it. A guard of the underlying
/// map never outlives the method that took it: two of them on one thread could
/// wait for each other.
pub(crate) struct Table<K: Eq + Hash, V> {
    map: Map<K, V>,
    /// The number of entries. Counting the map's own entries would take a lock for each
    /// shard.
    count: AtomicUsize,
}

impl<K: Eq + Hash + Copy + Ord, V> Table<K, V> {
    pub(crate) fn new() -> Self {
        // A few shards are enough: all writers of one connection hold its order lock.
        Table { map: Map::with_shards(4), count: AtomicUsize::new(0) }
    }

    /// Adds an entry and returns what it replaces.
    pub(crate) fn insert(&self, key: K, value: V) -> Option<V> {
        let replaced = self.map.insert(key, value);
        if replaced.is_none() {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        replaced
    }

    pub(crate) fn remove(&self, key: K) -> Option<V> {
        let value = self.map.remove(key)?;
        self.count.fetch_sub(1, Ordering::SeqCst);
        Some(value)
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.map.contains(key)
    }

    /// Runs `step` on one entry. `step` must not touch this table.
    pub(crate) fn with<R>(&self, key: K, step: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.map.with(key, step)
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Takes everything out, in the order of the ids.
    pub(crate) fn take_all(&self) -> Vec<(K, V)> {
        let mut keys = Vec::new();
        self.for_each(|key: K, _| keys.push(key));
        keys.sort_unstable();
        keys.into_iter().filter_map(|key| Some((key, self.remove(key)?))).collect()
    }

    /// Looks at every entry, in no particular order.
    pub(crate) fn for_each(&self, look: impl FnMut(K, &V)) {
        if self.len() > 0 {
            self.map.for_each(look);
        }
    }
}

impl<K: Eq + Hash + fmt::Debug, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.count.load(Ordering::SeqCst))
    }
}

/// The ids that are free. Ids that were given back are used first, the last one before
/// the others, so that ids stay low and both sides' tables small.
#[derive(Debug, Default)]
pub(crate) struct IdPool {
    next: u32,
    free: Vec<u32>,
}

impl IdPool {
    /// Takes a free id; `None` when all 2^30 are taken. Higher ids have a meaning of
    /// their own at level 3.
    pub(crate) fn allocate(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        if self.next >= 1 << 30 {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Gives back an id that [`allocate`](Self::allocate) handed out.
    pub(crate) fn release(&mut self, id: u32) {
        // An id that is given back twice makes `in_use` wrong.
        debug_assert!(id < self.next, "id {id} was never handed out");
        self.free.push(id);
    }

    pub(crate) fn in_use(&self) -> usize {
        self.next as usize - self.free.len()
    }
}
