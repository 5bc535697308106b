//! Watchers, which are told when a promise resolves, or a connection ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::client::Client;
use super::connection::Connection;
use super::effects;
use super::local_promise::LocalPromise;
use crate::ids::{ExportId, Serial};
use crate::memory::GiveBack;
use crate::sync::Mutex;
use crate::work::event::Event;
use crate::work::executor::{Executor, Job};

/// A party that is told when a promise resolves.
pub(crate) enum Watcher {
    /// An export: the peer to which the promise was exported is owed a Resolve.
    Export(ExportWatcher),
    /// A part of this library that may be dropped before the promise resolves.
    Observer(Weak<dyn Observer>),
    /// A thread.
    Thread(Arc<Event>),
    /// A closure of the application.
    Closure(Arc<dyn Executor>, Job),
    /// A promise that resolves to this capability, but only when the watched promise
    /// has resolved.
    Promise(Arc<LocalPromise>, Client),
}

/// Number of watchers for which a promise keeps memory.
const KEPT: usize = 16;

/// Takes the watcher with this key off a list.
pub(crate) fn take_off(watchers: &mut Vec<Watcher>, key: &WatchKey<'_>) {
    watchers.retain(|watcher| !watcher.is(key));
    watchers.give_back(KEPT);
}

/// A part of this library that waits for a promise, or for the end of a connection, and
/// goes on then.
pub(crate) trait Observer: Send + Sync {
    /// Tells that it has resolved, or ended. Must not be called under a lock.
    fn tell(self: Arc<Self>);
}

/// The export, and its connection, that wait for a promise.
#[derive(Clone)]
pub(crate) struct ExportWatcher {
    pub(crate) connection: Weak<dyn Connection>,
    pub(crate) id: ExportId,
    pub(crate) serial: Serial,
}

/// Identifies a watcher that may be dropped before the promise resolves.
pub(crate) enum WatchKey<'a> {
    Export(&'a ExportWatcher),
    /// The address of an observer.
    Observer(*const ()),
}

impl ExportWatcher {
    fn is_same(&self, other: &ExportWatcher) -> bool {
        self.serial == other.serial && self.connection.ptr_eq(&other.connection)
    }
}

impl Watcher {
    /// Must not be called under a lock.
    pub(crate) fn notify(self) {
        match self {
            Watcher::Export(export) => {
                if let Some(connection) = export.connection.upgrade() {
                    connection.resolve_export(export.id, export.serial);
                }
            }
            Watcher::Observer(observer) => {
                if let Some(observer) = observer.upgrade() {
                    observer.tell();
                }
            }
            Watcher::Thread(event) => event.set(),
            Watcher::Closure(executor, job) => effects::spawn_or_run(&*executor, job),
            Watcher::Promise(promise, target) => promise.resolve(target),
        }
    }

    /// Whether this is the watcher with this key.
    fn is(&self, key: &WatchKey<'_>) -> bool {
        match (self, key) {
            (Watcher::Export(own), WatchKey::Export(export)) => own.is_same(export),
            (Watcher::Observer(own), WatchKey::Observer(observer)) => {
                std::ptr::addr_eq(own.as_ptr(), *observer)
            }
            _ => false,
        }
    }
}

/// Those who are told when a connection has ended. The lock is a leaf.
#[derive(Default)]
pub(crate) struct Endings {
    state: Mutex<Ending>,
}

enum Ending {
    /// The observers, by address.
    Ahead(BTreeMap<usize, Weak<dyn Observer>>),
    Over,
}

impl Default for Ending {
    fn default() -> Self {
        Ending::Ahead(BTreeMap::new())
    }
}

impl Endings {
    /// Enters an observer. Returns `false` if the connection has ended.
    pub(super) fn enter(&self, observer: Weak<dyn Observer>) -> bool {
        match &mut *self.state.lock() {
            Ending::Ahead(observers) => {
                observers.insert(observer.as_ptr().cast::<()>() as usize, observer);
                true
            }
            Ending::Over => false,
        }
    }

    /// Takes an observer off.
    pub(super) fn leave(&self, observer: *const ()) {
        let mut state = self.state.lock();
        let gone = match &mut *state {
            Ending::Ahead(observers) => observers.remove(&(observer as usize)),
            Ending::Over => None,
        };
        drop(state);
        drop(gone);
    }

    /// Takes all observers off, for good. They are to be told when what was sent over the
    /// connection has failed.
    pub(crate) fn end(&self) -> Vec<Watcher> {
        match std::mem::replace(&mut *self.state.lock(), Ending::Over) {
            Ending::Ahead(observers) => observers.into_values().map(Watcher::Observer).collect(),
            Ending::Over => Vec::new(),
        }
    }
}
