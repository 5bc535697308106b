//! A table of things that are due at certain times.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::memory::GiveBack;

/// Number of things for which an empty table keeps memory.
const KEPT: usize = 16;

/// Things, each with a number and the time at which it is due.
#[derive(Debug)]
pub(super) struct Timetable<T> {
    due: BTreeMap<(Instant, u64), T>,
    times: HashMap<u64, Instant>,
}

impl<T> Default for Timetable<T> {
    fn default() -> Self {
        Timetable { due: BTreeMap::new(), times: HashMap::new() }
    }
}

impl<T> Timetable<T> {
    /// Enters something; it replaces what has the same number.
    pub(super) fn enter(&mut self, number: u64, time: Instant, thing: T) -> Option<T> {
        let before = self.remove(number);
        self.due.insert((time, number), thing);
        self.times.insert(number, time);
        before
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let time = self.times.remove(&number)?;
        self.times.give_back(KEPT);
        self.due.remove(&(time, number))
    }

    /// Takes out one of the things that are due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(u64, T)> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, number), thing) = entry.remove_entry();
        self.times.remove(&number);
        self.times.give_back(KEPT);
        Some((number, thing))
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((time, _), _)| *time)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn things_come_out_when_they_are_due_and_not_after_they_were_removed() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut table = Timetable::default();
        for (number, seconds) in [(1, 3), (2, 1), (3, 2), (4, 1)] {
            table.enter(number, start + second * seconds, number);
        }
        assert_eq!(table.next(), Some(start + second));
        assert_eq!(table.take_due(start), None);
        assert_eq!(table.take_due(start + second), Some((2, 2)));
        assert_eq!(table.remove(4), Some(4));
        assert_eq!(table.take_due(start + second), None);
        // What is entered again has a new time.
        assert_eq!(table.enter(3, start + second * 5, 30), Some(3));
        assert_eq!(table.take_due(start + second * 4), Some((1, 1)));
        assert_eq!(table.take_due(start + second * 4), None);
        assert_eq!(table.take_due(start + second * 9), Some((3, 30)));
        assert!(table.due.is_empty() && table.times.is_empty());
        assert_eq!(table.remove(3), None);
    }
}
