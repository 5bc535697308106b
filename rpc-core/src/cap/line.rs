//! A line of items that may leave it before their turn.

use std::collections::VecDeque;

use crate::memory::GiveBack;

/// Number of items for which an empty line keeps memory.
const KEPT: usize = 16;

/// Items in the order of their places.
///
/// An item that leaves early is taken out at once. Its place may stay behind, but there are
/// never more empty places than items. The memory of a line follows its length.
pub(crate) struct Line<T> {
    /// Places ascend. Neither the first nor the last one is empty.
    places: VecDeque<(u64, Option<T>)>,
    empty: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line { places: VecDeque::new(), empty: 0 }
    }
}

impl<T> Line<T> {
    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.empty
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts an item at a place, which must be free. Places are given out in ascending
    /// order, but threads that come at the same time may take them in another order.
    pub(crate) fn insert(&mut self, place: u64, item: T) {
        let behind = self.places.iter().rev().take_while(|(other, _)| *other > place).count();
        self.places.insert(self.places.len() - behind, (place, Some(item)));
    }

    /// The first item.
    pub(crate) fn first(&self) -> Option<&T> {
        self.places.front()?.1.as_ref()
    }

    /// All items, from the first one on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|(_, item)| item.as_ref())
    }

    /// Takes the first item.
    pub(crate) fn take_first(&mut self) -> Option<T> {
        let (_, item) = self.places.pop_front()?;
        self.tidy();
        item
    }

    /// Takes the last item.
    pub(crate) fn take_last(&mut self) -> Option<T> {
        let (_, item) = self.places.pop_back()?;
        self.tidy();
        item
    }

    /// Whether an item waits at a place.
    pub(crate) fn has(&self, place: u64) -> bool {
        let at = self.places.binary_search_by_key(&place, |(place, _)| *place);
        at.is_ok_and(|at| self.places.get(at).is_some_and(|(_, item)| item.is_some()))
    }

    /// Takes the item at a place, if it still waits there.
    pub(crate) fn take(&mut self, place: u64) -> Option<T> {
        let at = self.places.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        let item = self.places.get_mut(at)?.1.take()?;
        self.empty += 1;
        self.tidy();
        Some(item)
    }

    /// Takes all items, with their places.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = (u64, T)> + use<T> {
        self.empty = 0;
        let all = std::mem::take(&mut self.places);
        all.into_iter().filter_map(|(place, item)| Some((place, item?)))
    }

    fn tidy(&mut self) {
        while let Some((_, None)) = self.places.front() {
            self.places.pop_front();
            self.empty -= 1;
        }
        while let Some((_, None)) = self.places.back() {
            self.places.pop_back();
            self.empty -= 1;
        }
        if self.empty > self.len() {
            self.places.retain(|(_, item)| item.is_some());
            self.empty = 0;
        }
        self.places.give_back(KEPT);
    }

    /// The number of places for which memory is set aside.
    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.places.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_the_order_of_their_places() {
        let mut line = Line::default();
        for place in [0, 2, 1, 5, 4, 3] {
            line.insert(place, place);
        }
        assert!(line.has(1));
        assert_eq!(line.take(1), Some(1));
        assert!(!line.has(1) && !line.has(9));
        assert_eq!(line.take(1), None, "it has left");
        assert_eq!(line.take(9), None, "it never came");
        assert_eq!(line.take_last(), Some(5));
        let rest: Vec<_> = std::iter::from_fn(|| line.take_first()).collect();
        assert_eq!(rest, [0, 2, 3, 4]);
        assert!(line.is_empty());
    }

    #[test]
    fn those_who_leave_early_leave_nothing_behind() {
        let mut line = Line::default();
        line.insert(0, 0);
        // The last one stays, or its place would go with the end of the line.
        for place in 1..10_000 {
            line.insert(place, place);
            line.insert(100_000 + place, place);
            assert_eq!(line.take(place), Some(place));
            assert_eq!(line.take(100_000 + place), Some(place));
            assert_eq!(line.len(), 1);
            assert!(line.capacity() <= KEPT, "{} places for one item", line.capacity());
        }
        line.insert(200_000, 1);
        for place in 10_000..20_000 {
            line.insert(place, place);
        }
        for place in 10_000..20_000 {
            assert_eq!(line.take(place), Some(place));
            assert!(line.places.len() <= 2 * line.len(), "the empty places were not swept");
        }
        assert_eq!((line.take_first(), line.take_first()), (Some(0), Some(1)));
        assert!(line.capacity() <= KEPT);
    }

    #[test]
    fn the_memory_of_a_long_line_is_given_back() {
        let mut line = Line::default();
        (0..10_000).for_each(|place| line.insert(place, place));
        assert!(line.capacity() >= 10_000);
        while line.take_first().is_some() {
            assert!(line.capacity() <= KEPT.max(8 * line.len() + 8));
        }
        assert!(line.capacity() <= KEPT);
    }
}
