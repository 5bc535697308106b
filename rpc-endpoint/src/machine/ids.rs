//! Which connections a peer has created so far.

use std::collections::BTreeMap;

use crate::wire::FIRST_CONNECTION;

// Note [ids need only be new]
//
// The Haskell implementation numbers connections under a lock and writes outside of it.
// With several threads, "created 1029" may be written before "created 1026", and a
// message, or the end of a connection, after what another thread wrote about the same
// connection or socket. So ids may come in any order. One that was used stays used: what
// comes for a connection after its end is dropped, and is no reason to drop the peer.

/// Ids that were created, from [`FIRST_CONNECTION`] up.
#[derive(Debug)]
pub(super) struct Ids {
    /// Above all that were created.
    next: u64,
    /// Those below that were not, as ranges: the first of each, and the one behind it.
    missing: BTreeMap<u32, u32>,
}

/// The most ranges of missing ids that are remembered. An honest peer has about as many
/// as it has threads that connect.
const MAX_RANGES: usize = 1024;

impl Ids {
    pub(super) fn new() -> Self {
        Ids { next: FIRST_CONNECTION.into(), missing: BTreeMap::new() }
    }

    /// The greatest id so far; 0 if there is none.
    pub(super) fn last(&self) -> u32 {
        match u32::try_from(self.next - 1) {
            Ok(last) if last >= FIRST_CONNECTION => last,
            _ => 0,
        }
    }

    /// Whether a connection of this id was created.
    pub(super) fn contains(&self, id: u32) -> bool {
        id >= FIRST_CONNECTION && u64::from(id) < self.next && self.range_of(id).is_none()
    }

    /// Notes that a connection was created; `false` if its id is not new.
    pub(super) fn insert(&mut self, id: u32) -> bool {
        if id < FIRST_CONNECTION {
            return false;
        }
        if u64::from(id) >= self.next {
            if u64::from(id) > self.next
                && let Ok(first) = u32::try_from(self.next)
            {
                self.note_missing(first, id);
            }
            self.next = u64::from(id) + 1;
            return true;
        }
        let Some((first, end)) = self.range_of(id) else { return false };
        self.missing.remove(&first);
        self.note_missing(first, id);
        self.note_missing(id + 1, end);
        true
    }

    fn range_of(&self, id: u32) -> Option<(u32, u32)> {
        let (first, end) = self.missing.range(..=id).next_back()?;
        (id < *end).then_some((*first, *end))
    }

    fn note_missing(&mut self, first: u32, end: u32) {
        if first < end {
            self.missing.insert(first, end);
        }
        if self.missing.len() > MAX_RANGES {
            // The oldest count as used from now on.
            self.missing.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::trace::Dice;

    #[test]
    fn ids_are_new_once_in_whatever_order_they_come() {
        for seed in 0..50 {
            let (mut dice, mut ids, mut model) = (Dice::new(seed), Ids::new(), HashSet::new());
            for _ in 0..500 {
                let id = 1000 + u32::try_from(dice.below(400)).unwrap_or_default();
                assert_eq!(ids.contains(id), model.contains(&id), "{id} in {seed}");
                let is_new = id >= FIRST_CONNECTION && model.insert(id);
                assert_eq!(ids.insert(id), is_new, "{id} in {seed}");
                assert_eq!(ids.last(), model.iter().copied().max().unwrap_or(0));
            }
        }
    }

    #[test]
    fn what_is_missing_is_bounded() {
        let mut ids = Ids::new();
        let gaps = (FIRST_CONNECTION..).step_by(2).take(10 * MAX_RANGES);
        for id in gaps {
            assert!(ids.insert(id + 1));
            assert!(ids.missing.len() <= MAX_RANGES);
        }
        assert!(!ids.insert(FIRST_CONNECTION), "it was forgotten, and counts as used");
        assert!(ids.insert(ids.last() - 1));
        assert!(ids.insert(u32::MAX));
        assert!(!ids.insert(u32::MAX));
        assert_eq!(ids.last(), u32::MAX);
        assert!(ids.insert(u32::MAX - 1));
    }
}
