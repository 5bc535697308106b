//! The concurrent maps of which a connection's tables consist, and the pools from which
//! ids are taken.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Count, Map, Tally};

/// One table of a connection, or of what else has many entries at times.
///
/// Changes are made under the order lock; looking up, counting and dumping work without it.
/// Where there is no such lock, `C` is [`Shared`](crate::sync::Shared). Looking into an empty table takes no
/// lock of the map, so that tables for what is rare cost little. A guard of the underlying
/// map never outlives the method that took it: two of them on one thread could
/// wait for each other.
pub(crate) struct Table<K: Eq + Hash, V, C = Tally> {
    map: Map<K, V>,
    /// The number of entries. Counting the map's own entries would take a lock for each
    /// shard.
    count: C,
    /// The greatest number of entries since memory was last given back.
    peak: AtomicUsize,
}

/// Number of entries for which a table may keep memory.
const KEPT: usize = 64;

impl<K: Eq + Hash + Copy + Ord, V, C: Count> Table<K, V, C> {
    pub(crate) fn new() -> Self {
        // A few shards are enough: all writers of one connection hold its order lock.
        Table { map: Map::with_shards(4), count: C::default(), peak: AtomicUsize::new(0) }
    }

    /// Adds an entry and returns what it replaces.
    pub(crate) fn insert(&self, key: K, value: V) -> Option<V> {
        let replaced = self.map.insert(key, value);
        self.count_one_more(replaced.is_none());
        replaced
    }

    /// Adds an entry, unless there is one with this key. Returns what was not added.
    pub(crate) fn insert_new(&self, key: K, value: V) -> Option<V> {
        let refused = self.map.insert_new(key, value);
        self.count_one_more(refused.is_none());
        refused
    }

    fn count_one_more(&self, added: bool) {
        if added {
            self.count.add_one();
            let count = self.len();
            if count > self.peak.load(Ordering::SeqCst) {
                self.peak.fetch_max(count, Ordering::SeqCst);
            }
        }
    }

    pub(crate) fn remove(&self, key: K) -> Option<V> {
        self.remove_if(key, |_| true)
    }

    /// Removes an entry for which `condition` holds, which must not touch this table.
    pub(crate) fn remove_if(&self, key: K, condition: impl FnOnce(&V) -> bool) -> Option<V> {
        if self.is_empty() {
            return None;
        }
        let value = self.map.remove_if(key, condition)?;
        self.count.take_one();
        let left = self.len();
        let peak = self.peak.load(Ordering::SeqCst);
        if peak > KEPT && 8 * left <= peak {
            self.give_memory_back(left);
        }
        Some(value)
    }

    #[cfg(all(test, not(rpc_model)))]
    fn capacity(&self) -> usize {
        self.map.capacity()
    }

    fn give_memory_back(&self, left: usize) {
        self.map.shrink();
        self.peak.store(left, Ordering::SeqCst);
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        !self.is_empty() && self.map.contains(key)
    }

    /// Runs `step` on one entry. `step` must not touch this table.
    pub(crate) fn with<R>(&self, key: K, step: impl FnOnce(&mut V) -> R) -> Option<R> {
        if self.is_empty() { None } else { self.map.with(key, step) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count.get()
    }

    /// Takes everything out, in the order of the ids.
    pub(crate) fn take_all(&self) -> Vec<(K, V)> {
        let mut keys = Vec::new();
        self.for_each(|key: K, _| keys.push(key));
        keys.sort_unstable();
        let all = keys.into_iter().filter_map(|key| Some((key, self.remove(key)?))).collect();
        self.give_memory_back(0);
        all
    }

    /// Looks at every entry, in no particular order.
    pub(crate) fn for_each(&self, look: impl FnMut(K, &V)) {
        if !self.is_empty() {
            self.map.for_each(look);
        }
    }
}

impl<K: Eq + Hash + fmt::Debug, V, C: Count> fmt::Debug for Table<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.count.get())
    }
}

/// The ids that are free. The lowest one is used first, so that ids stay low, and the
/// tables of both sides small.
#[derive(Debug, Default)]
pub(crate) struct IdPool {
    /// This id and all above it are free.
    next: u32,
    /// The ranges of free ids below: the id behind each range, and its first id. They
    /// neither touch each other nor `next`. So there are no more of them than ids in use.
    free: BTreeMap<u32, u32>,
    in_use: usize,
}

impl IdPool {
    /// Takes the lowest free id; `None` when all 2^30 are taken. Higher ids have a
    /// meaning of their own at level 3.
    pub(crate) fn allocate(&mut self) -> Option<u32> {
        let id = if let Some(mut range) = self.free.first_entry() {
            let first = *range.get();
            *range.get_mut() += 1;
            if range.get() == range.key() {
                range.remove();
            }
            first
        } else if self.next < 1 << 30 {
            self.next += 1;
            self.next - 1
        } else {
            return None;
        };
        self.in_use += 1;
        Some(id)
    }

    /// Gives back an id that [`allocate`](Self::allocate) handed out.
    pub(crate) fn release(&mut self, id: u32) {
        let above = self.free.range(id + 1..).next().map(|(_, first)| *first);
        // An id that is given back twice makes `in_use` wrong.
        debug_assert!(id < self.next, "id {id} was never handed out");
        debug_assert!(above.is_none_or(|first| first > id), "id {id} is free already");
        self.in_use = self.in_use.saturating_sub(1);
        let first = self.free.remove(&id).unwrap_or(id);
        if id + 1 == self.next {
            self.next = first;
        } else if above == Some(id + 1) {
            // The range above begins earlier now.
            if let Some((_, begins)) = self.free.range_mut(id + 1..).next() {
                *begins = first;
            }
        } else {
            self.free.insert(id + 1, first);
        }
    }

    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests;
