//! What workers have set aside, as the send thread looks after it: Note [kept jobs].

use std::sync::Arc;

use crate::sync::Mutex;
use crate::work::progress::SetAside;

/// The places where something was set aside. Under the lock only that of a place is taken: what is
/// taken over is taken over without it.
#[derive(Default)]
pub(super) struct Asides(Mutex<Vec<Entry>>);

struct Entry {
    place: Arc<dyn SetAside>,
    /// Which time it was, if something was there at the last look.
    seen: Option<u64>,
}

impl Asides {
    /// Adds a place, in which something is.
    pub(super) fn enter(&self, place: Arc<dyn SetAside>) {
        let mut entries = self.0.lock();
        if !entries.iter().any(|entry| Arc::ptr_eq(&entry.place, &place)) {
            entries.push(Entry { place, seen: None });
        }
    }

    /// Removes a place.
    pub(super) fn forget(&self, place: &Arc<dyn SetAside>) {
        self.0.lock().retain(|entry| !Arc::ptr_eq(&entry.place, place));
    }

    /// Takes over what was there at the last look. Returns whether anything else is there.
    pub(super) fn look(&self) -> bool {
        let mut late = Vec::new();
        let more = {
            let mut entries = self.0.lock();
            entries.retain_mut(|Entry { place, seen }| {
                let times = place.times();
                if times.is_some() && times == *seen {
                    late.extend(times.map(|time| (Arc::clone(place), time)));
                    return false;
                }
                *seen = times;
                times.is_some()
            });
            !entries.is_empty()
        };
        late.into_iter().for_each(|(place, time)| place.take_over(time));
        more
    }

    /// Takes over everything.
    pub(super) fn take_over_all(&self) {
        let entries = std::mem::take(&mut *self.0.lock());
        for Entry { place, .. } in entries {
            if let Some(time) = place.times() {
                place.take_over(time);
            }
        }
    }
}

/// A connection may end while a destructor runs, and nobody looks any more.
impl Drop for Asides {
    fn drop(&mut self) {
        self.take_over_all();
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests {
    use super::*;

    /// Where something may lie, and what was taken over.
    #[derive(Default)]
    struct Place {
        there: Mutex<Option<u64>>,
        taken: Mutex<Vec<u64>>,
    }

    impl SetAside for Place {
        fn times(&self) -> Option<u64> {
            *self.there.lock()
        }

        fn take_over(&self, time: u64) {
            if self.there.lock().take_if(|there| *there == time).is_some() {
                self.taken.lock().push(time);
            }
        }
    }

    impl Place {
        fn enter(self: &Arc<Self>, asides: &Asides, time: u64) {
            *self.there.lock() = Some(time);
            asides.enter(Arc::clone(self) as _);
        }

        fn taken(&self) -> Vec<u64> {
            std::mem::take(&mut *self.taken.lock())
        }
    }

    #[test]
    fn what_lies_there_at_two_looks_is_taken_over() {
        let (asides, place) = (Asides::default(), Arc::new(Place::default()));
        place.enter(&asides, 1);
        assert!(asides.look() && place.taken().is_empty());
        // It was taken back, and something else was set aside meanwhile.
        place.enter(&asides, 2);
        assert!(asides.look() && place.taken().is_empty());
        assert!(!asides.look());
        assert_eq!(place.taken(), [2]);
        place.enter(&asides, 3);
        *place.there.lock() = None;
        assert!(!asides.look() && place.taken().is_empty());
        // The place is not known any more, until something is set aside again.
        *place.there.lock() = Some(4);
        assert!(!asides.look() && !asides.look() && place.taken().is_empty());
        place.enter(&asides, 5);
        asides.take_over_all();
        assert_eq!(place.taken(), [5]);
        assert!(!asides.look());
    }

    #[test]
    fn what_lies_there_when_nobody_will_look_is_taken_over() {
        let (asides, place) = (Asides::default(), Arc::new(Place::default()));
        place.enter(&asides, 1);
        drop(asides);
        assert_eq!(place.taken(), [1]);
    }
}
