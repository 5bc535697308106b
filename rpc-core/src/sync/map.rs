//! A map that many threads use at once.

use std::hash::Hash;

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;

/// Its internal locks are held only during a call of one of its methods.
///
/// Keys are ids. A peer chooses some of them, so their hashes are seeded at random.
pub(crate) struct Map<K: Eq + Hash, V>(DashMap<K, V, RandomState>);

impl<K: Eq + Hash + Copy, V> Map<K, V> {
    pub(crate) fn with_shards(shards: usize) -> Self {
        Map(DashMap::with_hasher_and_shard_amount(RandomState::default(), shards))
    }

    /// Adds an entry, unless there is one with this key. Returns what was not added.
    pub(crate) fn insert_new(&self, key: K, value: V) -> Option<V> {
        match self.0.entry(key) {
            Entry::Occupied(_) => Some(value),
            Entry::Vacant(place) => {
                drop(place.insert(value));
                None
            }
        }
    }

    /// Removes an entry for which `condition` holds, which must not touch this map.
    pub(crate) fn remove_if(&self, key: K, condition: impl FnOnce(&V) -> bool) -> Option<V> {
        self.0.remove_if(&key, |_, value| condition(value)).map(|(_, value)| value)
    }

    /// Gives back memory that the present entries do not need.
    pub(crate) fn shrink(&self) {
        self.0.shrink_to_fit();
    }

    /// The number of entries for which memory is set aside.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.0.contains_key(&key)
    }

    /// Looks at, or changes, one entry. `step` must not touch this map.
    pub(crate) fn with<R>(&self, key: K, step: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.0.get_mut(&key).map(|mut entry| step(&mut entry))
    }

    /// Looks at every entry, in no particular order. `look` must not touch this map.
    pub(crate) fn for_each(&self, mut look: impl FnMut(K, &V)) {
        for entry in &self.0 {
            look(*entry.key(), entry.value());
        }
    }
}
