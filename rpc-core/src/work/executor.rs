//! Where jobs run.

use std::fmt;
use std::sync::{Arc, Weak};

use super::origin::Origin;
use super::progress::{self, Progress};
use crate::error::Error;

/// A piece of work that an [`Executor`] runs.
pub(crate) struct Job {
    origin: Origin,
    work: Work,
    /// What led to this job, and may lead to the next one.
    came_by: Option<Weak<dyn Progress>>,
}

enum Work {
    Closure(Box<dyn FnOnce() + Send>),
    Calls(Arc<dyn Calls>),
}

/// An object with calls that wait for a worker.
pub(crate) trait Calls: Send + Sync {
    /// Runs calls on this thread: the first call of the origin or, if the object handles
    /// one call at a time, all that there are.
    fn run(self: Arc<Self>, origin: Origin);

    /// Runs one call on the thread that made it, and leaves all others to workers. Returns
    /// `false`, and has run nothing, if this job is not for that call.
    fn run_own(self: Arc<Self>, origin: Origin, call: usize) -> bool;

    /// Answers with an error the calls that no worker is going to run for this origin.
    ///
    /// Must not be called under a lock.
    fn refuse(self: Arc<Self>, origin: Origin, error: &Error);

    /// The object's name for people.
    ///
    /// Must not be called under a lock: the name may come from the application.
    fn name(&self) -> String;

    /// The number of calls that have begun, for an object that handles one at a time.
    fn begun(&self) -> u64;

    /// The number of calls that wait.
    fn waiting(&self) -> usize;
}

/// A job that an executor did not take.
pub(crate) struct Refused {
    pub(crate) job: Job,
    /// The reason, for the caller.
    pub(crate) error: Error,
}

/// Where jobs run. A vat's worker pool is one; tests inject others.
pub(crate) trait Executor: Send + Sync + 'static {
    /// Runs a job on another thread, soon. Does not wait. Must not be called under a
    /// lock.
    ///
    /// # Errors
    /// Gives the job back when there is no room for it.
    fn spawn(&self, job: Job) -> Result<(), Refused>;
}

impl Job {
    /// Runs a closure of the application's.
    pub(crate) fn closure(run: impl FnOnce() + Send + 'static) -> Self {
        Job { origin: Origin::LOCAL, work: Work::Closure(Box::new(run)), came_by: None }
    }

    /// Runs calls of an object for this origin.
    pub(crate) fn calls(object: Arc<dyn Calls>, origin: Origin) -> Self {
        Job { origin, work: Work::Calls(object), came_by: progress::made_here() }
    }

    pub(crate) fn run(self) {
        match self.work {
            Work::Closure(closure) => closure(),
            Work::Calls(object) => object.run(self.origin),
        }
    }

    /// Runs the call with this address, as [`Calls::run_own`] does.
    pub(super) fn run_own(&self, call: usize) -> bool {
        match &self.work {
            Work::Closure(_) => false,
            Work::Calls(object) => Arc::clone(object).run_own(self.origin, call),
        }
    }

    /// Answers the calls with an error. (A closure is dropped.)
    ///
    /// Must not be called under a lock.
    pub(super) fn refuse(self, error: &Error) {
        if let Work::Calls(object) = self.work {
            object.refuse(self.origin, error);
        }
    }

    /// What led to this job.
    pub(super) fn came_by(&self) -> Option<Weak<dyn Progress>> {
        self.came_by.clone()
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// The object whose calls this runs.
    pub(super) fn object(&self) -> Option<&Arc<dyn Calls>> {
        match &self.work {
            Work::Closure(_) => None,
            Work::Calls(object) => Some(object),
        }
    }
}

impl Refused {
    /// Answers the calls with the reason. (A closure is dropped.)
    ///
    /// Must not be called under a lock.
    pub(crate) fn tell(self) {
        self.job.refuse(&self.error);
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("origin", &self.origin).finish_non_exhaustive()
    }
}
