//! How many sessions others may have begun.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts the sessions that other vats began, from their first half until the RPC system
/// has let go of their transport: that is how long they cost threads.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    max_of_link: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By the socket over which they came.
    by_link: HashMap<u32, usize>,
}

/// The place of one session. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    link: u32,
}

impl Places {
    pub(super) fn new(max: usize, max_of_link: usize) -> Arc<Self> {
        Arc::new(Places { max, max_of_link, taken: Mutex::default() })
    }

    /// A place for a session whose first half came over a socket.
    ///
    /// # Errors
    /// What to tell a vat for which there is none.
    pub(super) fn take(self: &Arc<Self>, link: u32) -> Result<Place, String> {
        let mut taken = self.taken.lock();
        let of_link = taken.by_link.get(&link).copied().unwrap_or(0);
        if of_link >= self.max_of_link {
            return Err(format!("this vat has {of_link} sessions with your endpoint, its limit"));
        }
        if taken.all >= self.max {
            return Err(format!("this vat has {} sessions, its limit", taken.all));
        }
        taken.all += 1;
        *taken.by_link.entry(link).or_default() += 1;
        Ok(Place { places: self.clone(), link })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.by_link.get_mut(&self.link) {
            *count -= 1;
            if *count == 0 {
                taken.by_link.remove(&self.link);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_for_each_socket() {
        let places = Places::new(3, 2);
        let (first, second) = (places.take(1).unwrap(), places.take(1).unwrap());
        assert!(places.take(1).unwrap_err().contains("2 sessions with your endpoint"));
        let third = places.take(2).unwrap();
        assert!(places.take(3).unwrap_err().contains("3 sessions"));
        drop(first);
        let first = places.take(3).unwrap();
        drop((first, second, third));
        assert!(places.taken.lock().by_link.is_empty());
        assert_eq!(places.taken.lock().all, 0);
    }
}
