//! Where jobs run.

use crate::error::Error;

/// A piece of work that an [`Executor`] runs.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Where jobs run. A vat's worker pool is one; tests inject others.
pub trait Executor: Send + Sync + 'static {
    /// Runs a job on another thread, soon. Does not wait.
    ///
    /// # Errors
    /// Gives the job back when there is no room for it.
    fn spawn(&self, job: Job) -> Result<(), Job>;

    /// What callers are told whose calls find no room.
    fn refusal(&self) -> Error {
        Error::overloaded(
            "all workers of the callee are busy and its queue is full; try again later",
        )
    }
}
