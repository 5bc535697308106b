//! Promises that a peer resolves.
//!
//! # State model
//!
//! ```text
//! Remote(destination) ──Return, Resolve or disconnect──► Resolved(target)
//! ```
//!
//! - **Remote**: calls are sent to the destination: an import that is a promise,
//!   or the field of a question's results.
//! - **Resolved**: calls go to the target. If calls had been sent to the
//!   destination and the target is not behind the same peer, the target is an
//!   embargo, see Note [embargo].
//!
//! The state changes only under the order lock of the promise's connection. So finding
//! the promise Remote and queueing the call are one step, and so are resolving the
//! promise and queueing the Disembargo. The promise's own lock is a leaf that lets
//! other threads look at the state without the order lock.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::cap::capability::{Capability, Standing};
use crate::cap::client::Client;
use crate::cap::connection::{self, Connection};
use crate::cap::delivery::Delivery;
use crate::cap::effects::{self, Effect};
use crate::cap::stream::{Stream, StreamSlot};
use crate::cap::watch::{self, WatchKey, Watcher};
use crate::protocol::{Dest, Machine};
use crate::sync::Mutex;

pub(crate) struct RemotePromise {
    machine: Arc<Machine>,
    state: Mutex<State>,
    /// The target once it stays what it is, for those who look without the lock.
    settled: OnceLock<Client>,
    stream: StreamSlot,
}

struct State {
    phase: Phase,
    watchers: Vec<Watcher>,
}

enum Phase {
    Remote(Dest),
    Resolved(Client),
}

impl RemotePromise {
    pub(crate) fn new(machine: Arc<Machine>, dest: Dest) -> Arc<Self> {
        Arc::new(RemotePromise {
            machine,
            state: Mutex::new(State { phase: Phase::Remote(dest), watchers: Vec::new() }),
            settled: OnceLock::new(),
            stream: StreamSlot::default(),
        })
    }

    /// The connection whose peer resolves the promise.
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Where the promise leads now. The answer stays true only under the machine's
    /// order lock.
    pub(crate) fn location(&self) -> Result<Client, Dest> {
        match &self.state.lock().phase {
            Phase::Remote(dest) => Err(dest.clone()),
            Phase::Resolved(target) => Ok(target.clone()),
        }
    }

    /// Resolves the promise, under its machine's order lock. Returns the effects that
    /// tell its watchers and drop what is no longer needed.
    pub(crate) fn resolve(self: &Arc<Self>, target: Client) -> Vec<Effect> {
        let (before, watchers) = {
            let mut state = self.state.lock();
            if matches!(state.phase, Phase::Resolved(_)) {
                return Vec::new();
            }
            let before = std::mem::replace(&mut state.phase, Phase::Resolved(target.clone()));
            (before, std::mem::take(&mut state.watchers))
        };
        drop(before);
        // A window belongs to a path, and the path stays the same only behind the same
        // peer. Elsewhere a new window begins, while the old one drains.
        if let Some(stream) = self.stream.get()
            && target.connection().is_some_and(|other| connection::is_same(other, &*self.machine))
        {
            target.adopt_stream(stream);
        }
        // See Note [cycles]: the target was published first.
        let settled = match target.circle_to(&Client::of(Arc::clone(self))) {
            None => target,
            Some(error) => {
                let broken = Client::broken(error);
                let resolved = Phase::Resolved(broken.clone());
                let before = std::mem::replace(&mut self.state.lock().phase, resolved);
                drop(before);
                broken
            }
        };
        // Nobody else resolves it.
        let _ = self.settled.set(settled);
        watchers.into_iter().map(Effect::Notify).collect()
    }
}

impl Capability for RemotePromise {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        // Resolved promises stay resolved: no need for the order lock.
        if let Some(target) = self.resolved() {
            return Err((target, delivery));
        }
        let machine = Arc::clone(&self.machine);
        match machine.border_for(&delivery) {
            Some(border) => {
                border.outwards(&machine, Client::of(self), delivery);
                Ok(())
            }
            None => machine.deliver_through(&self, delivery),
        }
    }

    fn connection(&self) -> Option<&dyn Connection> {
        Some(&*self.machine)
    }

    fn stream(&self) -> Arc<Stream> {
        self.stream.get_or_make(|| self.machine.flow_controller())
    }

    fn adopt_stream(&self, stream: Arc<Stream>) {
        self.stream.adopt(stream);
    }

    fn standing(&self) -> Standing {
        Standing::Pending
    }

    fn resolved(&self) -> Option<Client> {
        if let Some(target) = self.settled.get() {
            return Some(target.clone());
        }
        match &self.state.lock().phase {
            Phase::Resolved(target) => Some(target.clone()),
            Phase::Remote(_) => None,
        }
    }

    fn watch(&self, watcher: Watcher) -> Result<(), Watcher> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Resolved(_) => Err(watcher),
            Phase::Remote(_) => {
                state.watchers.push(watcher);
                Ok(())
            }
        }
    }

    fn unwatch(&self, key: &WatchKey<'_>) {
        watch::take_off(&mut self.state.lock().watchers, key);
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("promise of a peer")
    }
}

impl Drop for RemotePromise {
    fn drop(&mut self) {
        // The phase holds the same one.
        drop(self.settled.take());
        // Chains of promises are taken apart one by one, see Note [effects].
        let nothing = Phase::Resolved(Client::null());
        if let Phase::Resolved(target) = std::mem::replace(&mut self.state.get_mut().phase, nothing)
            && target.is_promise()
        {
            effects::defer(Effect::drop(target));
        }
    }
}
