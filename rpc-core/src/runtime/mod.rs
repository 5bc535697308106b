//! The shell around the protocol machine: threads, queues, workers, shutdown.

mod config;
mod connection;
mod exceptions;
mod idle;
#[cfg(all(test, rpc_model))]
mod models;
pub(crate) mod offer;
mod receiving;
mod sending;
mod supervisor;
mod system;
mod turns;
mod vat;

pub use self::config::ConnConfig;
pub use self::connection::Connection;
pub use self::supervisor::{OwnedSupervisor, StopToken, Supervisor};
pub use self::system::{Peer, RpcSystem, RpcSystemBuilder};
pub use self::vat::{Vat, VatConfig};

/// Work for a worker.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Where jobs run. A vat's worker pool is one; tests inject others.
pub trait Executor: Send + Sync + 'static {
    /// Runs a job on some other thread, soon. Does not wait.
    ///
    /// # Errors
    /// Gives the job back when there is no room for it.
    fn spawn(&self, job: Job) -> Result<(), Job>;
}

/// Runs a closure of the application on a worker or, when there is none to be
/// had, right here.
pub(crate) fn spawn_or_run(executor: &dyn Executor, job: Job) {
    if let Err(job) = executor.spawn(job) {
        tracing::warn!("no worker is free: a closure runs on the thread that triggered it");
        crate::cap::effects::defer(crate::cap::effects::Effect::Run(job));
    }
}
