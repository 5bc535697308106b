//! Where calls wait in front of an object.
//!
//! # State model
//!
//! The mailbox of an object that handles one call at a time:
//!
//! ```text
//! Idle ──call──► Called(origins) ──a worker comes──► Running ──line seen empty──► Idle
//!                Called ──every job was refused──► Idle
//!                Called ──a caller comes, first in line──► Running
//!                Running ──the caller's call is over──► Called(origins of the line)
//! ```
//!
//! - **Called**: there is a job for each origin of which calls wait (Note [shares]).
//!   Whichever gets a worker first runs all calls; the others find nothing to do. So one
//!   origin that gets no worker does not hold up the calls of another.
//! - **Running**: calls are taken out one by one and run, in the order in which they
//!   arrived. A caller that runs its own call (Note [own calls]) takes only this one.
//!
//! A concurrent object has a line for each origin, and each line has as many jobs as
//! calls: a job takes the first call of its own origin. A call that is cancelled leaves
//! its line. Its job is left to the next call.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::delivery::CallRequest;
use super::line::Line;
use crate::memory::GiveBack;
use crate::work::origin::Origin;

/// Number of origins for which a mailbox keeps memory when no call waits.
const KEPT: usize = 4;

pub(super) enum Mailbox {
    OneByOne(OneByOne),
    Concurrent(Concurrent),
}

#[derive(Default)]
pub(super) struct OneByOne {
    calls: Line<CallRequest>,
    worker: Worker,
    /// The origins that have a job, in the state `Called`. Kept beside the state so that
    /// its memory is used again.
    called: Vec<Origin>,
    /// The number of calls that have begun.
    begun: u64,
    /// The address of the call that has begun last.
    current: usize,
}

#[derive(Default, PartialEq, Eq)]
enum Worker {
    #[default]
    Idle,
    Called,
    Running,
}

#[derive(Default)]
pub(super) struct Concurrent {
    lines: BTreeMap<Origin, OfOrigin>,
}

#[derive(Default)]
struct OfOrigin {
    calls: Line<CallRequest>,
    /// The number of jobs that are going to take a call out.
    jobs: usize,
}

/// A call that left the mailbox to begin.
pub(super) struct Taken {
    pub(super) call: CallRequest,
    /// Whether no other call waits.
    pub(super) last: bool,
}

impl Mailbox {
    /// For an object that handles one call at a time.
    pub(super) fn one_by_one() -> Self {
        Mailbox::OneByOne(OneByOne::default())
    }

    pub(super) fn concurrent() -> Self {
        Mailbox::Concurrent(Concurrent::default())
    }

    /// Puts a call of this origin in. Returns whether the call needs another job.
    pub(super) fn insert(&mut self, origin: Origin, place: u64, call: CallRequest) -> bool {
        match self {
            Mailbox::OneByOne(own) => {
                own.calls.insert(place, call);
                if own.worker == Worker::Running || own.called.contains(&origin) {
                    return false;
                }
                own.worker = Worker::Called;
                own.called.push(origin);
                true
            }
            Mailbox::Concurrent(own) => {
                let line = own.of(origin);
                line.calls.insert(place, call);
                let more = line.jobs < line.calls.len();
                line.jobs += usize::from(more);
                more
            }
        }
    }

    /// The first call for a job of this origin. [`next`](Self::next) has to follow, until
    /// it finds nothing.
    pub(super) fn first(&mut self, origin: Origin) -> Option<Taken> {
        match self {
            Mailbox::OneByOne(own) => {
                if own.worker != Worker::Called {
                    return None;
                }
                own.worker = Worker::Running;
                own.called.clear();
                own.called.give_back(KEPT);
                self.next()
            }
            Mailbox::Concurrent(own) => {
                let line = own.of(origin);
                line.jobs = line.jobs.saturating_sub(1);
                let call = line.calls.take_first();
                own.tidy(origin);
                Some(Taken { call: call?, last: true })
            }
        }
    }

    /// The call with this address, for a job of this origin, if it is the one with which
    /// [`first`](Self::first) would begin. [`pass_on`](Self::pass_on) has to follow.
    pub(super) fn first_if(&mut self, origin: Origin, call: usize) -> Option<Taken> {
        let first = match self {
            Mailbox::OneByOne(own) if own.worker == Worker::Called => own.calls.first(),
            Mailbox::OneByOne(_) => None,
            Mailbox::Concurrent(own) => own.of(origin).calls.first(),
        };
        let is_first = first.is_some_and(|first| Arc::as_ptr(&first.cell) as usize == call);
        if is_first { self.first(origin) } else { None }
    }

    /// Ends the run of a caller that has run its own call. Returns the origins that need a
    /// job each.
    pub(super) fn pass_on(&mut self) -> Vec<Origin> {
        let Mailbox::OneByOne(own) = self else { return Vec::new() };
        own.current = 0;
        own.called.extend(own.calls.iter().map(|call| call.cell.origin()));
        own.called.sort_unstable();
        own.called.dedup();
        own.worker = if own.called.is_empty() { Worker::Idle } else { Worker::Called };
        own.called.clone()
    }

    /// A further call for a job that has run one.
    pub(super) fn next(&mut self) -> Option<Taken> {
        let Mailbox::OneByOne(own) = self else { return None };
        let Some(call) = own.calls.take_first() else {
            own.worker = Worker::Idle;
            own.current = 0;
            return None;
        };
        own.begun += 1;
        own.current = Arc::as_ptr(&call.cell) as usize;
        Some(Taken { call, last: own.calls.is_empty() })
    }

    /// Takes a call of this origin out, if it still waits.
    pub(super) fn withdraw(&mut self, origin: Origin, place: u64) -> Option<CallRequest> {
        match self {
            Mailbox::OneByOne(own) => own.calls.take(place),
            Mailbox::Concurrent(own) => {
                let call = own.of(origin).calls.take(place);
                own.tidy(origin);
                call
            }
        }
    }

    /// Takes out the calls that no worker is going to run, because a job of this origin was
    /// refused.
    pub(super) fn refuse(&mut self, origin: Origin) -> Vec<CallRequest> {
        match self {
            Mailbox::OneByOne(own) => own.refuse(origin),
            Mailbox::Concurrent(own) => {
                let line = own.of(origin);
                line.jobs = line.jobs.saturating_sub(1);
                let beyond = line.calls.len().saturating_sub(line.jobs);
                let mut calls: Vec<_> =
                    (0..beyond).filter_map(|_| line.calls.take_last()).collect();
                calls.reverse();
                own.tidy(origin);
                calls
            }
        }
    }

    /// Whether a call of this origin waits at this place.
    pub(super) fn waits_at(&self, origin: Origin, place: u64) -> bool {
        match self {
            Mailbox::OneByOne(own) => own.calls.has(place),
            Mailbox::Concurrent(own) => {
                own.lines.get(&origin).is_some_and(|line| line.calls.has(place))
            }
        }
    }

    /// Whether the call with this address has begun, and no other after it.
    pub(super) fn runs(&self, call: usize) -> bool {
        match self {
            Mailbox::OneByOne(own) => own.current == call,
            Mailbox::Concurrent(_) => false,
        }
    }

    /// The number of calls that have begun, if they are counted.
    pub(super) fn begun(&self) -> u64 {
        match self {
            Mailbox::OneByOne(own) => own.begun,
            Mailbox::Concurrent(_) => 0,
        }
    }

    /// The number of calls that wait for a running method.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Mailbox::OneByOne(own) => own.calls.len(),
            Mailbox::Concurrent(_) => 0,
        }
    }
}

impl OneByOne {
    fn refuse(&mut self, origin: Origin) -> Vec<CallRequest> {
        if self.worker != Worker::Called {
            // The job that runs calls takes those of this origin, too.
            return Vec::new();
        }
        self.called.retain(|other| *other != origin);
        if self.called.is_empty() {
            self.worker = Worker::Idle;
        }
        let mut refused = Vec::new();
        for (place, call) in self.calls.take_all() {
            if call.cell.origin() == origin {
                refused.push(call);
            } else {
                self.calls.insert(place, call);
            }
        }
        refused
    }
}

impl Concurrent {
    fn of(&mut self, origin: Origin) -> &mut OfOrigin {
        self.lines.entry(origin).or_default()
    }

    /// Removes the line of this origin if it is empty, unless there are few lines.
    fn tidy(&mut self, origin: Origin) {
        let is_empty = |line: &OfOrigin| line.jobs == 0 && line.calls.is_empty();
        if self.lines.len() > KEPT && self.lines.get(&origin).is_some_and(is_empty) {
            self.lines.remove(&origin);
        }
    }
}

#[cfg(all(test, not(rpc_model)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cap::call::{CallCell, Sink};
    use crate::cap::delivery::Tail;
    use crate::cap::payload::Payload;
    use crate::wire::Hint;

    fn call(origin: Origin) -> CallRequest {
        let (cell, _interest) = CallCell::new(Sink::Here, Hint::None, origin);
        CallRequest {
            interface: 0,
            method: 0,
            params: Payload::empty().clone(),
            cell,
            permit: None,
            tail: Tail::No,
        }
    }

    #[test]
    fn origins_that_have_no_call_any_more_leave_nothing_behind() {
        let origins: Vec<_> = (0..1_000).map(|_| Origin::connection()).collect();
        let mut mailbox = Mailbox::concurrent();
        for (place, origin) in (0..).zip(&origins) {
            assert!(mailbox.insert(*origin, place, call(*origin)));
        }
        for (place, origin) in (0..).zip(&origins) {
            match place % 3 {
                0 => drop(mailbox.first(*origin).unwrap()),
                1 => assert_eq!(mailbox.refuse(*origin).len(), 1),
                _ => {
                    drop(mailbox.withdraw(*origin, place).unwrap());
                    assert!(mailbox.first(*origin).is_none(), "the job finds nothing");
                }
            }
        }
        let Mailbox::Concurrent(own) = mailbox else { unreachable!() };
        assert!(own.lines.len() <= KEPT, "{} lines are left", own.lines.len());
    }

    #[test]
    fn a_serial_object_forgets_who_has_called_it() {
        let mut mailbox = Mailbox::one_by_one();
        let origins: Vec<_> = (0..1_000).map(|_| Origin::connection()).collect();
        for (place, origin) in (0..).zip(&origins) {
            mailbox.insert(*origin, place, call(*origin));
        }
        assert!(mailbox.first(origins[0]).is_some());
        while mailbox.next().is_some() {}
        let Mailbox::OneByOne(own) = mailbox else { unreachable!() };
        assert!(own.called.capacity() <= KEPT);
    }
}
