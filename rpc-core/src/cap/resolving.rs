//! Waiting until a capability is resolved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Client;
use super::effects;
use super::watch::Watcher;
use crate::deadline::Deadline;
use crate::error::{Error, Result, Timeout};
use crate::work::event::Event;
use crate::work::executor::Job;
use crate::work::role;

impl Client {
    /// Waits until this is fully resolved, and returns what it has resolved to, which
    /// is never a promise.
    ///
    /// # Errors
    /// The promise failed, or this thread must not wait.
    pub fn resolve(&self) -> Result<Client> {
        self.resolve_before(Deadline::NEVER)
    }

    /// Waits as [`resolve`](Self::resolve) does, but no longer than `timeout`.
    ///
    /// # Errors
    /// The errors of [`resolve`](Self::resolve), and when time is up one that [is a
    /// timeout](Error::is_timeout).
    pub fn resolve_timeout(&self, timeout: Duration) -> Result<Client> {
        self.resolve_before(Deadline::after(timeout))
    }

    /// Waits as [`resolve`](Self::resolve) does, but no longer than until `deadline`.
    ///
    /// # Errors
    /// As [`resolve_timeout`](Self::resolve_timeout).
    pub fn resolve_deadline(&self, deadline: Instant) -> Result<Client> {
        self.resolve_before(Deadline::at(deadline))
    }

    fn resolve_before(&self, deadline: Deadline) -> Result<Client> {
        loop {
            let client = self.shortened();
            let event = Arc::new(Event::default());
            match client.watch(Watcher::Thread(Arc::clone(&event))) {
                Ok(()) => {}
                Err(_) if client.is_promise() => continue,
                Err(_) => {
                    return match client.broken_by() {
                        Some(error) => Err(error.clone()),
                        None => Ok(client),
                    };
                }
            }
            effects::catch_up();
            if !event.wait(deadline)? {
                let reason = "the promise was not resolved in time";
                return Err(Error::timed_out(Timeout::NeverSent, reason));
            }
        }
    }

    /// Waits until the promise resolves one step further, and returns what it has
    /// resolved to, which may be another promise. `None` if this is no longer a
    /// promise.
    ///
    /// # Errors
    /// This thread must not wait.
    pub fn more_resolved(&self) -> Result<Option<Client>> {
        let client = self.shortened();
        if !client.is_promise() {
            return Ok(None);
        }
        let event = Arc::new(Event::default());
        // If watching fails, the promise has resolved just now.
        if client.watch(Watcher::Thread(Arc::clone(&event))).is_ok() {
            effects::catch_up();
            event.wait(Deadline::NEVER)?;
        }
        Ok(Some(client.shortened()))
    }

    /// Runs a closure on a worker with what [`more_resolved`](Self::more_resolved)
    /// would return; at once with `None` if this is no longer a promise.
    pub fn on_more_resolved(&self, closure: impl FnOnce(Option<Client>) + Send + 'static) {
        let client = self.shortened();
        let executor = role::current_executor();
        if !client.is_promise() {
            return effects::spawn_or_run(&*executor, Job::closure(move || closure(None)));
        }
        let again = client.clone();
        let job = Job::closure(move || closure(Some(again.shortened())));
        if let Err(Watcher::Closure(executor, job)) = client.watch(Watcher::Closure(executor, job))
        {
            effects::spawn_or_run(&*executor, job);
        }
    }

    /// Runs a closure on a worker once this is fully resolved; at once if it already
    /// is.
    pub fn on_resolved(&self, closure: impl FnOnce(Result<Client>) + Send + 'static) {
        let client = self.shortened();
        let executor = role::current_executor();
        let again = client.clone();
        let job = Job::closure(move || {
            let now = again.shortened();
            match now.broken_by().cloned() {
                _ if now.is_promise() => now.on_resolved(closure),
                Some(error) => closure(Err(error)),
                None => closure(Ok(now)),
            }
        });
        if let Err(Watcher::Closure(executor, job)) = client.watch(Watcher::Closure(executor, job))
        {
            effects::spawn_or_run(&*executor, job);
        }
    }
}
