//! Who is told when a promise resolves.

use std::sync::{Arc, Weak};

use crate::cap::client::Client;
use crate::cap::effects;
use crate::cap::local_promise::LocalPromise;
use crate::ids::{ExportId, Serial};
use crate::kinds::gateway::Saves;
use crate::kinds::membrane::Wrapped;
use crate::protocol::Machine;
use crate::work::event::Event;
use crate::work::executor::{Executor, Job};

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
            Watcher::Closure(executor, job) => effects::spawn_or_run(&*executor, job),
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
