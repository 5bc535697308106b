//! Memory that collections keep beyond what is in them.
//!
//! Note [memory peak]
//!
//! A collection grows with what is put into it, and keeps the memory when this is taken
//! out again. One that lives as long as a connection, an object or a thread would keep
//! the memory of its peak. So whoever takes something out of such a collection
//! calls [`give_back`](GiveBack::give_back). Giving back is rare: a collection has to
//! fall to a quarter of its memory before, and keeps twice what it needs. So its cost for
//! each item is constant.
//!
//! A `Weak` keeps the memory of what it refers to. So a list of them is one of these
//! collections, too, and must not keep those whose owners are gone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

/// A collection that can shrink.
pub trait GiveBack {
    /// Gives back the memory that is neither needed nor among that for `kept` items.
    fn give_back(&mut self, kept: usize);
}

/// The number of items for which a collection should have memory, if that is less than
/// what it has.
fn wanted(capacity: usize, len: usize, kept: usize) -> Option<usize> {
    (capacity > kept.max(len.saturating_mul(4))).then(|| kept.max(2 * len))
}

impl<T> GiveBack for Vec<T> {
    fn give_back(&mut self, kept: usize) {
        if let Some(wanted) = wanted(self.capacity(), self.len(), kept) {
            self.shrink_to(wanted);
        }
    }
}

impl<T> GiveBack for VecDeque<T> {
    fn give_back(&mut self, kept: usize) {
        if let Some(wanted) = wanted(self.capacity(), self.len(), kept) {
            self.shrink_to(wanted);
        }
    }
}

impl<T: Eq + Hash, S: BuildHasher> GiveBack for HashSet<T, S> {
    fn give_back(&mut self, kept: usize) {
        if let Some(wanted) = wanted(self.capacity(), self.len(), kept) {
            self.shrink_to(wanted);
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> GiveBack for HashMap<K, V, S> {
    fn give_back(&mut self, kept: usize) {
        if let Some(wanted) = wanted(self.capacity(), self.len(), kept) {
            self.shrink_to(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_number_of_items() {
        let mut list: Vec<usize> = (0..10_000).collect();
        let mut queue: VecDeque<usize> = (0..10_000).collect();
        let mut map: HashMap<usize, usize> = (0..10_000).map(|item| (item, item)).collect();
        for left in (0..10_000).rev() {
            list.pop();
            queue.pop_front();
            map.remove(&left);
            list.give_back(16);
            queue.give_back(16);
            map.give_back(16);
            // A map rounds up.
            for (capacity, most) in
                [(list.capacity(), 4), (queue.capacity(), 4), (map.capacity(), 8)]
            {
                assert!((left..=most * left.max(16)).contains(&capacity), "{capacity} for {left}");
            }
        }
        assert!(list.capacity() <= 16 && queue.capacity() <= 16 && map.capacity() <= 32);
    }

    #[test]
    fn giving_back_moves_each_item_a_few_times_at_most() {
        let mut queue: VecDeque<usize> = (0..1 << 14).collect();
        let mut moves = 0;
        while let Some(_gone) = queue.pop_front() {
            let before = queue.capacity();
            queue.give_back(16);
            moves += usize::from(queue.capacity() != before) * queue.len();
        }
        assert!(moves <= 1 << 14, "{moves}");
    }
}
