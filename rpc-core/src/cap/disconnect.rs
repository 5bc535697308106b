//! Telling the application that the peer behind a capability is gone.
//!
//! # State model
//!
//! ```text
//! Watching ──calls fail from now on──► Due(error) ──a worker begins──► Over
//!
//! Watching, Due ──guard dropped──► Over
//! ```
//!
//! - **Watching**: the notice stands in one list: that of the promise, while the capability
//!   is one, or else that of the connection over which its calls leave. It stands in none
//!   if the capability turned out to be an object of this process. The lists refer to it
//!   weakly; the guard keeps it alive.
//! - **Due**: a worker is to run the closure.
//! - **Over**: the closure runs, has run, or was withdrawn.
//!
//! The lock is a leaf. The closure is taken out under it and run, or dropped, without it,
//! so that it runs once at the most, and its guard may be dropped in it.

use std::fmt;
use std::sync::{Arc, Weak};

use super::client::Client;
use super::effects;
use super::watch::{Observer, WatchKey, Watcher};
use crate::error::Error;
use crate::sync::Mutex;
use crate::work::executor::{Executor, Job};
use crate::work::role;

type Closure = Box<dyn FnOnce(Error) + Send>;

/// Withdraws a notice when it is dropped: see [`Client::on_disconnect`].
#[must_use = "dropping this withdraws the notice"]
pub struct DisconnectGuard(Arc<Notice>);

impl Client {
    /// Runs a closure on a worker, once, when calls on this fail from now on because the
    /// connection to its peer has ended: with the error with which they fail. So a server
    /// learns that a client is gone without calling it. No thread waits for that.
    ///
    /// - A capability that has failed already leads to the closure at once, and so does a
    ///   promise that breaks, whatever broke it.
    /// - A promise that resolves is watched as what it has resolved to.
    /// - An object of this process, and null, never lead to the closure.
    /// - A capability that is [connected anew](crate::reconnect) stands for the connection
    ///   that it has now. If it has none, the closure runs at once.
    ///
    /// The closure is withdrawn when the guard is dropped: if it does not run yet, it never
    /// will. The guard keeps the capability, and may be dropped in the closure.
    ///
    /// ```
    /// use capnp_threads_core::{Client, Error};
    ///
    /// let gone = Client::broken(Error::disconnected("the peer is gone"));
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let guard = gone.on_disconnect(move |error| tell.send(error).unwrap());
    /// assert_eq!(told.recv().unwrap().reason(), "the peer is gone");
    /// # drop(guard);
    /// ```
    pub fn on_disconnect(&self, closure: impl FnOnce(Error) + Send + 'static) -> DisconnectGuard {
        let notice = Arc::new_cyclic(|this| Notice {
            client: self.clone(),
            executor: role::current_executor(),
            state: Mutex::new(State::Watching(Box::new(closure), List::None)),
            this: Weak::clone(this),
        });
        notice.look();
        DisconnectGuard(notice)
    }
}

impl Drop for DisconnectGuard {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

impl fmt::Debug for DisconnectGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DisconnectGuard").field(&self.0.client).finish()
    }
}

struct Notice {
    client: Client,
    executor: Arc<dyn Executor>,
    state: Mutex<State>,
    this: Weak<Notice>,
}

enum State {
    Watching(Closure, List),
    Due(Closure, Error),
    Over,
}

/// The list in which a notice stands.
#[derive(Clone)]
enum List {
    None,
    OfPromise(Client),
    OfConnection(Client),
}

impl Notice {
    /// Enters the notice where it will be told, or lets it become due.
    fn look(&self) {
        loop {
            let client = self.client.innermost();
            if let Some(error) = client.broken_by() {
                return self.due(error.clone());
            }
            let observer = Weak::clone(&self.this) as Weak<dyn Observer>;
            if client.is_promise() {
                if !self.stands_in(List::OfPromise(client.clone())) {
                    return;
                }
                if client.watch(Watcher::Observer(observer)).is_ok() {
                    return self.leave_if_over();
                }
                // It has resolved just now.
            } else if let Some(connection) = client.connection() {
                if !self.stands_in(List::OfConnection(client.clone())) {
                    return;
                }
                if connection.endings().enter(observer) {
                    return self.leave_if_over();
                }
                let error = connection.room().failure().unwrap_or_else(gone);
                return self.due(error);
            } else if self.client.is_unconnected() {
                return self.due(gone());
            } else {
                self.stands_in(List::None);
                return;
            }
        }
    }

    /// Notes the list in which the notice is about to stand. Returns whether it is wanted.
    fn stands_in(&self, list: List) -> bool {
        let mut state = self.state.lock();
        let State::Watching(_, own) = &mut *state else { return false };
        let before = std::mem::replace(own, list);
        drop(state);
        drop(before);
        true
    }

    /// Leaves the lists, if the guard was dropped before the notice stood there.
    fn leave_if_over(&self) {
        if matches!(*self.state.lock(), State::Over) {
            self.leave(&List::OfPromise(self.client.innermost()));
            self.leave(&List::OfConnection(self.client.innermost()));
        }
    }

    fn leave(&self, list: &List) {
        let this = self.this.as_ptr().cast();
        match list {
            List::None => {}
            List::OfPromise(client) => client.unwatch(&WatchKey::Observer(this)),
            List::OfConnection(client) => {
                if let Some(connection) = client.connection() {
                    connection.endings().leave(this);
                }
            }
        }
    }

    fn due(&self, error: Error) {
        let mut state = self.state.lock();
        let list = match std::mem::replace(&mut *state, State::Over) {
            State::Watching(closure, list) => {
                *state = State::Due(closure, error.not_begun());
                list
            }
            // Of several threads that look, one is first.
            other => {
                *state = other;
                return;
            }
        };
        drop(state);
        drop(list);
        let Some(this) = self.this.upgrade() else { return };
        effects::spawn_or_run(&*self.executor, Job::closure(move || this.run()));
    }

    /// Runs the closure, unless it was withdrawn.
    fn run(&self) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Over);
        if let State::Due(closure, error) = before {
            closure(error);
        }
    }

    fn withdraw(&self) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Over);
        if let State::Watching(_, list) = &before {
            self.leave(list);
        }
        drop(before);
    }
}

impl Observer for Notice {
    fn tell(self: Arc<Self>) {
        self.look();
    }
}

/// The error of a connection that is gone and has left no other.
fn gone() -> Error {
    Error::disconnected("the capability is not connected")
}
