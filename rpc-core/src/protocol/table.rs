//! The concurrent maps of which a connection's tables consist.

use std::fmt;
use std::hash::Hash;

use crate::ids::{AnswerId, EmbargoId, ExportId, ImportId, QuestionId};
use crate::sync::{Count, Level, Map, Mutex, Tally};

/// One table of a connection, or of what else has many entries at times.
///
/// Changes are made under the order lock; looking up, counting and dumping work without it.
/// Where there is no such lock, `C` is [`Shared`](crate::sync::Shared); keys that only grow end up
/// in the map there. Looking into an empty table takes no lock of its own, so that tables for what
/// is rare cost little. No guard of such a lock outlives the method that took it: two of them on
/// one thread could wait for each other.
///
/// Both sides use the lowest ids first, so nearly all entries lie in a list, at the place of
/// their key. A peer may choose other ids: what lies too far out for the list is in a map, and
/// stays there. What lies far out when most entries are gone gets there, too, so that the list
/// can be made shorter.
pub(crate) struct Table<K: Eq + Hash, V, C = Tally> {
    near: Mutex<Near<V>>,
    far: Map<K, V>,
    /// The number of entries. Counting them would take the locks.
    count: C,
    /// The number of those in the map.
    far_count: C,
    /// The greatest number of entries since memory was last given back. Where several threads
    /// write, one of them may be missed: then it is given back later.
    peak: Level,
}

/// Entries at the places of their keys.
struct Near<V> {
    places: Vec<Option<V>>,
    used: usize,
}

/// What an entry is found by.
pub(crate) trait Key: Eq + Hash + Copy + Ord {
    /// Its place in a list of all keys.
    fn place(self) -> usize;

    /// The key that has this place.
    fn at(place: usize) -> Self;
}

macro_rules! keys {
    ($($id:ident),*) => {
        $(impl Key for $id {
            fn place(self) -> usize {
                self.0.place()
            }

            fn at(place: usize) -> Self {
                $id(u32::at(place))
            }
        })*
    };
}

keys!(AnswerId, EmbargoId, ExportId, ImportId, QuestionId);

impl Key for u32 {
    fn place(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }

    fn at(place: usize) -> Self {
        // Only places of keys are asked for.
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

impl Key for u64 {
    fn place(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }

    fn at(place: usize) -> Self {
        // Only places of keys are asked for.
        u64::try_from(place).unwrap_or(u64::MAX)
    }
}

/// Number of entries for which a table may keep memory. Calls come in bursts of hundreds.
const KEPT: usize = 256;

/// Number of places beyond twice the entries that the list may have. So a peer that chooses its
/// ids badly makes it no longer than one that chooses them well.
const SLACK: usize = 16;

impl<V> Near<V> {
    /// The place for this key, unless the list would have to be too long.
    fn place(&mut self, index: usize) -> Option<&mut Option<V>> {
        if index >= self.places.len() {
            if index >= 2 * self.used + SLACK {
                return None;
            }
            self.places.resize_with(index + 1, || None);
        }
        self.places.get_mut(index)
    }

    fn entry(&mut self, index: usize) -> Option<&mut V> {
        self.places.get_mut(index)?.as_mut()
    }

    /// Takes out what lies beyond this place.
    fn cut_off(&mut self, end: usize) -> impl Iterator<Item = (usize, V)> {
        let first = end.min(self.places.len());
        let beyond = self.places.split_off(first);
        self.used -= beyond.iter().flatten().count();
        let last = self.places.iter().rposition(Option::is_some);
        self.places.truncate(last.map_or(0, |last| last + 1));
        self.places.shrink_to_fit();
        beyond
            .into_iter()
            .enumerate()
            .filter_map(move |(index, entry)| Some((first + index, entry?)))
    }
}

impl<K: Key, V, C: Count> Table<K, V, C> {
    pub(crate) fn new() -> Self {
        Table {
            near: Mutex::new(Near { places: Vec::new(), used: 0 }),
            // A few shards are enough: all writers of one connection hold its order lock.
            far: Map::with_shards(4),
            count: C::default(),
            far_count: C::default(),
            peak: Level::new(0),
        }
    }

    /// Adds an entry and returns what it replaces.
    pub(crate) fn insert(&self, key: K, value: V) -> Option<V> {
        let mut left = Some(value);
        self.with(key, |entry| left.take().map(|value| std::mem::replace(entry, value)))
            .unwrap_or_else(|| self.insert_new(key, left?))
    }

    /// Adds an entry, unless there is one with this key. Returns what was not added.
    pub(crate) fn insert_new(&self, key: K, value: V) -> Option<V> {
        if self.has_far() && self.far.contains(key) {
            return Some(value);
        }
        let mut near = self.near.lock();
        if let Some(place) = near.place(key.place()) {
            if place.is_some() {
                return Some(value);
            }
            *place = Some(value);
            near.used += 1;
            drop(near);
        } else {
            drop(near);
            let refused = self.far.insert_new(key, value);
            if refused.is_some() {
                return refused;
            }
            self.far_count.add_one();
        }
        self.count.add_one();
        let count = self.len();
        if count > self.peak.get() {
            self.peak.set(count);
        }
        None
    }

    pub(crate) fn remove(&self, key: K) -> Option<V> {
        self.remove_if(key, |_| true)
    }

    /// Removes an entry for which `condition` holds, which must not touch this table.
    pub(crate) fn remove_if(&self, key: K, condition: impl FnOnce(&V) -> bool) -> Option<V> {
        if self.is_empty() {
            return None;
        }
        let value = self.take_if(key, condition)?;
        self.count.take_one();
        let left = self.len();
        let peak = self.peak.get();
        if peak > KEPT && 8 * left <= peak {
            self.give_memory_back(left);
        }
        Some(value)
    }

    fn take_if(&self, key: K, condition: impl FnOnce(&V) -> bool) -> Option<V> {
        {
            let mut near = self.near.lock();
            if let Some(place) = near.places.get_mut(key.place())
                && let Some(entry) = place
            {
                if !condition(entry) {
                    return None;
                }
                let value = place.take();
                near.used -= 1;
                return value;
            }
        }
        if !self.has_far() {
            return None;
        }
        let value = self.far.remove_if(key, condition)?;
        self.far_count.take_one();
        Some(value)
    }

    #[cfg(all(test, not(rpc_model)))]
    fn capacity(&self) -> usize {
        self.near.lock().places.capacity() + self.far.capacity()
    }

    fn give_memory_back(&self, left: usize) {
        {
            let mut near = self.near.lock();
            let far = near.cut_off(2 * left + SLACK);
            // Still under the lock, so that nobody finds a key in neither.
            for (place, entry) in far {
                let refused = self.far.insert_new(K::at(place), entry);
                debug_assert!(refused.is_none(), "a key is in both");
                self.far_count.add_one();
            }
        }
        self.far.shrink();
        self.peak.set(left);
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.with(key, |_| ()).is_some()
    }

    /// Runs `step` on one entry. `step` must not touch this table.
    pub(crate) fn with<R>(&self, key: K, step: impl FnOnce(&mut V) -> R) -> Option<R> {
        if self.is_empty() {
            return None;
        }
        {
            let mut near = self.near.lock();
            if let Some(entry) = near.entry(key.place()) {
                return Some(step(entry));
            }
        }
        if self.has_far() { self.far.with(key, step) } else { None }
    }

    fn has_far(&self) -> bool {
        self.far_count.get() > 0
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

    /// Looks at every entry, in no particular order. `look` must not touch this table.
    pub(crate) fn for_each(&self, mut look: impl FnMut(K, &V)) {
        if self.is_empty() {
            return;
        }
        for (place, entry) in self.near.lock().places.iter().enumerate() {
            if let Some(entry) = entry {
                look(K::at(place), entry);
            }
        }
        self.far.for_each(look);
    }
}

impl<K: Eq + Hash + fmt::Debug, V, C: Count> fmt::Debug for Table<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.count.get())
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests;
