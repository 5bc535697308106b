//! Who is told when a promise resolves.

use std::sync::{Arc, Weak};

use crate::cap::client::Client;
use crate::cap::local_promise::LocalPromise;
use crate::error::Error;
use crate::ids::{ExportId, Serial};
use crate::kinds::gateway::Saves;
use crate::kinds::membrane::Wrapped;
use crate::protocol::Machine;
use crate::runtime::{Executor, Job};
use crate::sync::{Condvar, Mutex};
use crate::work::interrupt::{Interrupt, Wake};

/// Somebody who waits for a promise to resolve.
pub(crate) enum Watcher {
    /// A peer to which the promise was exported is owed a Resolve.
    Export(ExportWatcher),
    /// What stands for the promise on the other side of a membrane.
    Wrapped(Weak<Wrapped>),
    /// Saves that wait at a gateway until it is known what they are of.
    Saves(Weak<Saves>),
    /// A thread.
    Thread(Arc<Event>),
    /// A closure of the application.
    Closure(Arc<dyn Executor>, Job),
    /// A promise that is to be this capability, but not before.
    Promise(Arc<LocalPromise>, Client),
}

/// Which export of which connection waits.
#[derive(Clone)]
pub(crate) struct ExportWatcher {
    pub(crate) machine: Weak<Machine>,
    pub(crate) id: ExportId,
    pub(crate) serial: Serial,
}

/// A watcher that may go before the promise resolves.
pub(crate) enum WatchKey<'a> {
    Export(&'a ExportWatcher),
    Wrapped(*const Wrapped),
    Saves(*const Saves),
}

impl ExportWatcher {
    fn is_same(&self, other: &ExportWatcher) -> bool {
        self.serial == other.serial && self.machine.ptr_eq(&other.machine)
    }
}

impl Watcher {
    /// Must not be called under a lock.
    pub(crate) fn notify(self) {
        match self {
            Watcher::Export(export) => {
                if let Some(machine) = export.machine.upgrade() {
                    machine.transact(|txn| txn.resolve_export(export.id, export.serial));
                }
            }
            Watcher::Wrapped(wrapped) => {
                if let Some(wrapped) = wrapped.upgrade() {
                    wrapped.tell();
                }
            }
            Watcher::Saves(saves) => {
                if let Some(saves) = saves.upgrade() {
                    saves.tell();
                }
            }
            Watcher::Thread(event) => event.set(),
            Watcher::Closure(executor, job) => crate::runtime::spawn_or_run(&*executor, job),
            Watcher::Promise(promise, target) => promise.resolve(target),
        }
    }

    /// Whether this is the one that is meant.
    pub(crate) fn is(&self, key: &WatchKey<'_>) -> bool {
        match (self, key) {
            (Watcher::Export(own), WatchKey::Export(export)) => own.is_same(export),
            (Watcher::Wrapped(own), WatchKey::Wrapped(wrapped)) => own.as_ptr() == *wrapped,
            (Watcher::Saves(own), WatchKey::Saves(saves)) => own.as_ptr() == *saves,
            _ => false,
        }
    }
}

/// Something that happens once and that threads wait for.
#[derive(Default)]
pub(crate) struct Event {
    happened: Mutex<bool>,
    condition: Condvar,
}

impl Event {
    pub(crate) fn set(&self) {
        *self.happened.lock() = true;
        self.condition.notify_all();
    }

    /// Waits; `false` when the deadline came first.
    pub(crate) fn wait(&self, deadline: Option<std::time::Instant>) -> bool {
        // Nothing else ends the wait.
        self.wait_while(deadline, || Ok(())).unwrap_or(false)
    }

    /// As [`wait`](Self::wait), unless the wait is to end.
    ///
    /// # Errors
    /// It is.
    pub(crate) fn wait_unless(
        &self,
        deadline: Option<std::time::Instant>,
        interrupt: &Interrupt,
    ) -> Result<bool, Error> {
        self.wait_while(deadline, || interrupt.check())
    }

    fn wait_while(
        &self,
        deadline: Option<std::time::Instant>,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut happened = self.happened.lock();
        while !*happened {
            check()?;
            match deadline {
                None => self.condition.wait(&mut happened),
                Some(deadline) => {
                    if self.condition.wait_until(&mut happened, deadline).timed_out() {
                        return Ok(*happened);
                    }
                }
            }
        }
        Ok(true)
    }
}

impl Wake for Event {
    fn wake(&self) {
        drop(self.happened.lock());
        self.condition.notify_all();
    }
}
