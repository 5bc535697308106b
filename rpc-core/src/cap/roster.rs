//! Calls under way that may have to end together.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::call::CallCell;
use crate::sync::Mutex;

/// The calls that have entered and are not over. A call leaves as soon as it is over, so
/// that nothing of it is kept: Note [memory peak].
///
/// The lock is a leaf, and nothing is dropped under it but the memory of calls.
#[derive(Default)]
pub(crate) struct Roster {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// The number of the next call.
    next: u64,
    calls: BTreeMap<u64, Weak<CallCell>>,
}

/// Takes a call off its roster when dropped.
struct Leaving {
    roster: Arc<Roster>,
    number: u64,
}

impl Roster {
    /// Enters a call, which stays until it is over.
    pub(crate) fn enter(self: &Arc<Self>, cell: &Arc<CallCell>) {
        let number = {
            let mut entries = self.entries.lock();
            let number = entries.next;
            entries.next += 1;
            entries.calls.insert(number, Arc::downgrade(cell));
            number
        };
        let leaving = Leaving { roster: Arc::clone(self), number };
        cell.tell_when_done(Box::new(move |_| drop(leaving)));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().calls.len()
    }

    /// Takes all calls off, in the order in which they entered.
    pub(crate) fn take_all(&self) -> Vec<Arc<CallCell>> {
        let calls = std::mem::take(&mut self.entries.lock().calls);
        calls.into_values().filter_map(|cell| cell.upgrade()).collect()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.roster.entries.lock().calls.remove(&self.number);
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests {
    use super::*;
    use crate::cap::call::Sink;
    use crate::error::Error;
    use crate::wire::Hint;
    use crate::work::origin::Origin;

    #[test]
    fn a_call_that_is_over_leaves_nothing_behind() {
        let roster = Arc::<Roster>::default();
        let mut calls: Vec<_> = (0..1_000)
            .map(|_| {
                let call = CallCell::new(Sink::Here, Hint::None, Origin::LOCAL);
                roster.enter(&call.0);
                call
            })
            .collect();
        assert_eq!(roster.entries.lock().calls.len(), 1_000);
        let last = calls.pop();
        let (dropped, ended) = calls.split_at(500);
        ended.iter().for_each(|(cell, _)| cell.complete(Err(Error::failed("over"))));
        assert_eq!(roster.entries.lock().calls.len(), 1 + dropped.len());
        drop(calls);
        assert_eq!(roster.entries.lock().calls.len(), 1);
        assert!(roster.take_all().first().zip(last).is_some_and(|(a, b)| Arc::ptr_eq(a, &b.0)));
    }

    #[test]
    fn a_call_that_is_over_already_does_not_stay() {
        let roster = Arc::<Roster>::default();
        let (cell, _interest) = CallCell::new(Sink::Here, Hint::None, Origin::LOCAL);
        cell.complete(Err(Error::failed("over")));
        roster.enter(&cell);
        assert_eq!(roster.entries.lock().calls.len(), 0);
    }
}
