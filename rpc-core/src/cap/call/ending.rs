//! How a call ends, for those who only look on.
//!
//! Note [endings]
//!
//! A call ends in one of four ways ([`Ending`]), and an observer is told exactly once. The
//! outcome is known where the call's cell is completed; but a tail call to the vat that
//! made the call has no outcome here, so its observers are told when it leaves. A call
//! that is cancelled is over when its method has ended and not before: until then it takes
//! what a call takes. A cell that is dropped before it is completed was cancelled.
//!
//! Observers are the application's. They run as effects, while no lock is held.

use std::sync::Arc;

use super::{CallCell, Demand, WhenDone};
use crate::cap::effects::{self, Effect};
use crate::cap::payload::{Outcome, Payload};
use crate::error::Error;
use crate::work::executor::{Executor, Job};

/// How a call ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// It was answered with results.
    Returned(Payload),
    /// It was answered with an error, or could not be carried out; the error's kind is
    /// `disconnected` if a connection was lost.
    Failed(Error),
    /// The caller lost interest, or was disconnected, before the call was answered. If its
    /// method runs, the call is over when that has answered in vain.
    Cancelled,
    /// It was answered by another call of the vat that made it: a tail call whose results
    /// never come to this vat.
    TailCalled,
}

impl Ending {
    fn of(outcome: &Outcome, demand: Demand) -> Self {
        match (outcome, demand) {
            (Err(error), Demand::Cancelled) if error.is_timeout() => Ending::Failed(error.clone()),
            (_, Demand::Cancelled) => Ending::Cancelled,
            (Ok(payload), Demand::Wanted) => Ending::Returned(payload.clone()),
            (Err(error), Demand::Wanted) => Ending::Failed(error.clone()),
        }
    }
}

/// A closure that is told how a call ended.
pub(super) struct Observer {
    told: Option<Box<dyn FnOnce(Ending) + Send>>,
    place: Place,
}

/// Where an observer runs.
enum Place {
    Worker(Arc<dyn Executor>),
    /// On the thread that ends the call, as code of the application.
    Here,
    /// On that thread, and at once: as the log is told.
    #[cfg(feature = "metrics")]
    AtOnce,
}

impl Observer {
    /// Whether it may be told in the middle of the call's end, while the results are still
    /// there.
    pub(super) fn is_told_at_once(&self) -> bool {
        match self.place {
            #[cfg(feature = "metrics")]
            Place::AtOnce => true,
            _ => false,
        }
    }

    pub(super) fn tell_outcome(self, outcome: &Outcome, demand: Demand) {
        self.tell(Ending::of(outcome, demand));
    }

    fn tell(mut self, ending: Ending) {
        self.run(ending);
    }

    fn run(&mut self, ending: Ending) {
        let Some(told) = self.told.take() else { return };
        let step = move || told(ending);
        match &self.place {
            Place::Worker(executor) => effects::spawn_or_run(&**executor, Job::closure(step)),
            Place::Here => effects::defer(Effect::Run(Job::closure(step))),
            // Its panic has been logged, and nothing depends on it.
            #[cfg(feature = "metrics")]
            Place::AtOnce => drop(crate::panics::caught("a recorder of metrics", step)),
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.run(Ending::Cancelled);
    }
}

impl CallCell {
    /// Runs a closure when the call is over: on a worker of `executor` or, if there is
    /// none, on the thread that ends the call. See Note [endings].
    ///
    /// Must not be called under a lock.
    pub(crate) fn observe(
        &self,
        executor: Option<Arc<dyn Executor>>,
        told: Box<dyn FnOnce(Ending) + Send>,
    ) {
        let place = executor.map_or(Place::Here, Place::Worker);
        self.watch(WhenDone::Observer(Observer { told: Some(told), place }));
    }

    /// As [`observe`](Self::observe), for a closure that is as harmless as a subscriber of
    /// the log.
    #[cfg(feature = "metrics")]
    pub(crate) fn observe_at_once(&self, told: Box<dyn FnOnce(Ending) + Send>) {
        self.watch(WhenDone::Observer(Observer { told: Some(told), place: Place::AtOnce }));
    }

    /// Records that the call leaves as a tail call to the vat that made it. Returns the step
    /// that tells the observers. For use under the order lock: the peer may finish the call
    /// as soon as that is free.
    pub(crate) fn tail_called(&self) -> Option<Box<dyn FnOnce() + Send>> {
        let is_observer = |listener: &mut WhenDone| listener.observes();
        let observers: Vec<_> = self.state.lock().when_done.extract_if(.., is_observer).collect();
        if observers.is_empty() {
            return None;
        }
        Some(Box::new(move || {
            for observer in observers {
                if let WhenDone::Observer(observer) = observer {
                    observer.tell(Ending::TailCalled);
                }
            }
        }))
    }
}
