//! Promises that are resolved in this process.
//!
//! # State model
//!
//! ```text
//! Pending ──resolve──► Draining(target) ──queue seen empty──► Resolved(target)
//! ```
//!
//! - **Pending**: the target is not known yet. Deliveries wait in the queue.
//! - **Draining**: the target is known. One thread, the one that resolved the promise,
//!   takes deliveries out of the queue and hands them to the target without holding the
//!   lock. Deliveries that come now still queue behind.
//! - **Resolved**: the queue was seen empty under the lock, and deliveries that come
//!   now go to the target directly. The target is published, and watchers are told.
//!
//! So what was delivered earlier arrives earlier, wherever the target is and however
//! many connections are on the way, and no two locks are held at once. An embargo, the
//! field of a call that this vat is still answering, and a promise of the application
//! are all of this one type.
//!
//! The lock is a leaf: under it, only this promise's own fields are touched.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use super::call::{CallCell, Interest, Queue};
use super::capability::{Capability, Standing};
use super::client::Client;
use super::connection::Connection;
use super::delivery::{Delivery, cancelled};
use super::effects::{self, Effect};
use super::stream::{Stream, StreamSlot};
use super::watch::{self, WatchKey, Watcher};
use crate::error::Error;
use crate::flow::FixedWindow;
use crate::sync::Mutex;

/// A promise for a capability that is resolved in this process.
pub(crate) struct LocalPromise {
    state: Mutex<State>,
    stream: StreamSlot,
}

struct State {
    phase: Phase,
    /// The deliveries that wait, by their places in the queue. A call that is cancelled
    /// is found by its place.
    queue: BTreeMap<u64, Delivery>,
    next_place: u64,
    watchers: Vec<Watcher>,
    /// Keeps the call alive to which this field belongs, until the promise is resolved.
    parent: Option<Interest>,
    /// What will resolve the promise, such as a wrapper, if nothing else keeps that alive.
    resolver: Option<Arc<dyn Any + Send + Sync>>,
    /// The capability behind the promise, if it is an embargo: see Note [embargo].
    embargo: Option<Ahead>,
    /// The step that is taken when the promise is first waited for.
    on_demand: Option<Box<dyn OnDemand>>,
    /// Keeps this promise alive while something waits in its queue, even when
    /// every client was dropped.
    retained: Option<Arc<LocalPromise>>,
}

/// The connection to which an embargo belongs, and the capability behind it.
struct Ahead {
    connection: Weak<dyn Connection>,
    /// For the search for circles, see Note [cycles]. In the end, the embargo may lead
    /// there by another path.
    target: Client,
}

/// A step that is taken when a promise is first waited for.
pub(crate) trait OnDemand: Any + Send {
    /// Takes it. Called without a lock.
    fn begin(self: Box<Self>);
}

struct Closure<F>(F);

impl<F: FnOnce() + Send + 'static> OnDemand for Closure<F> {
    fn begin(self: Box<Self>) {
        (self.0)();
    }
}

enum Phase {
    Pending,
    Draining(Client),
    Resolved(Client),
}

impl LocalPromise {
    /// A promise that is not resolved yet. `parent` is the call to which the promise
    /// belongs as a field, if there is one.
    pub(crate) fn new(parent: Option<Interest>) -> Arc<Self> {
        Arc::new(LocalPromise {
            state: Mutex::new(State {
                phase: Phase::Pending,
                queue: BTreeMap::new(),
                next_place: 0,
                watchers: Vec::new(),
                parent,
                resolver: None,
                embargo: None,
                on_demand: None,
                retained: None,
            }),
            stream: StreamSlot::default(),
        })
    }

    /// Keeps `resolver` alive until the promise is resolved, which it may be already. Only one
    /// resolver can be kept: the last one.
    pub(crate) fn keep_until_resolved(&self, resolver: Arc<dyn Any + Send + Sync>) {
        let mut state = self.state.lock();
        let not_kept = match state.phase {
            Phase::Resolved(_) => Some(resolver),
            Phase::Pending | Phase::Draining(_) => state.resolver.replace(resolver),
        };
        drop(state);
        drop(not_kept);
    }

    /// An embargo of a connection, in front of `target`.
    pub(crate) fn before_embargoed(connection: Weak<dyn Connection>, target: Client) -> Arc<Self> {
        let promise = Self::new(None);
        promise.state.lock().embargo = Some(Ahead { connection, target });
        promise
    }

    /// Sets a step that is taken when a call or a watcher first waits for the promise. The
    /// step is dropped when the promise resolves. It runs while no lock is held.
    pub(crate) fn on_demand(&self, step: impl FnOnce() + Send + 'static) {
        self.takes_on_demand(Closure(step));
    }

    /// As [`on_demand`](Self::on_demand), for a step that [`before_demand`](Self::before_demand)
    /// finds.
    pub(crate) fn takes_on_demand(&self, step: impl OnDemand) {
        self.state.lock().on_demand = Some(Box::new(step));
    }

    /// Looks at the step of this kind that the promise would take; `None` if there is none, or
    /// somebody has waited for the promise. `look` must take no lock.
    pub(crate) fn before_demand<D: OnDemand, R>(&self, look: impl FnOnce(&D) -> R) -> Option<R> {
        let state = self.state.lock();
        let step: &dyn Any = state.on_demand.as_deref()?;
        step.downcast_ref().map(look)
    }

    /// Takes the step that waits for somebody to need the promise.
    ///
    /// Must not be called under a lock.
    pub(crate) fn demand(&self) {
        let on_demand = self.state.lock().on_demand.take();
        begin_step(on_demand);
    }

    /// The call to which this field belongs, while neither is resolved.
    pub(crate) fn parent(&self) -> Option<Arc<CallCell>> {
        self.state.lock().parent.as_ref().map(|parent| Arc::clone(parent.cell()))
    }

    /// Removes a call that was cancelled while it waited, if it is still in the queue.
    pub(crate) fn withdraw(&self, place: u64) {
        let mut state = self.state.lock();
        let gone = state.queue.remove(&place);
        let retained = if state.queue.is_empty() { state.retained.take() } else { None };
        drop(state);
        if let Some(delivery) = gone {
            delivery.fail(&cancelled());
        }
        drop(retained);
    }

    /// Resolves the promise; see the state model. Only the first resolution counts. A
    /// promise that would resolve to itself, directly or through others, is rejected
    /// instead.
    ///
    /// Must not be called under a lock.
    pub(crate) fn resolve(self: &Arc<Self>, target: Client) {
        let mut target = target.shortened();
        {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Pending) {
                drop(state);
                drop(target);
                return;
            }
            state.phase = Phase::Draining(target.clone());
        }
        // Note [cycles]: first publish where this promise leads, then follow that path.
        // Of several threads that close a circle together, at least one sees it.
        if let Some(error) = target.circle_to(&Client::of(Arc::clone(self))) {
            target = Client::broken(error);
            let draining = Phase::Draining(target.clone());
            let before = std::mem::replace(&mut self.state.lock().phase, draining);
            drop(before);
        }
        if let Some(stream) = self.stream.get() {
            target.adopt_stream(stream);
        }
        loop {
            let batch = {
                let mut state = self.state.lock();
                if state.queue.is_empty() {
                    state.phase = Phase::Resolved(target);
                    let watchers = std::mem::take(&mut state.watchers);
                    let parent = state.parent.take();
                    let resolver = state.resolver.take();
                    let retained = state.retained.take();
                    let (embargo, on_demand) = (state.embargo.take(), state.on_demand.take());
                    drop(state);
                    for watcher in watchers {
                        effects::defer(Effect::Notify(watcher));
                    }
                    drop((parent, resolver, retained, embargo, on_demand));
                    return;
                }
                std::mem::take(&mut state.queue)
            };
            for delivery in batch.into_values() {
                if let Some(cell) = delivery.cell() {
                    cell.left_queue();
                }
                if delivery.is_cancelled() {
                    delivery.fail(&cancelled());
                } else {
                    target.clone().deliver(delivery);
                }
            }
        }
    }
}

impl Capability for LocalPromise {
    fn accept(self: Arc<Self>, mut delivery: Delivery) -> Result<(), (Client, Delivery)> {
        let cell = delivery.cell().cloned();
        let place = {
            let mut state = self.state.lock();
            if let Phase::Resolved(target) = &state.phase {
                return Err((target.clone(), delivery));
            }
            let embargo = state.embargo.as_ref().map(|ahead| &ahead.connection);
            match delivery {
                Delivery::Disembargo(echo) if !echo.waits_in(embargo) => {
                    drop(state);
                    echo.give_back();
                    return Ok(());
                }
                other => delivery = other,
            }
            state.next_place += 1;
            state.next_place
        };
        // A cell has a lock of its own. The cell is told before the call is in the
        // queue: a thread that takes the call on to another queue tells it, too, and
        // must do so later.
        if let Some(cell) = &cell {
            cell.queued_in(Queue::Promise(Arc::downgrade(&self)), place);
        }
        let on_demand = {
            let mut state = self.state.lock();
            if let Phase::Resolved(target) = &state.phase {
                let target = target.clone();
                drop(state);
                if let Some(cell) = &cell {
                    cell.left_queue();
                }
                return Err((target, delivery));
            }
            state.queue.insert(place, delivery);
            if state.retained.is_none() {
                state.retained = Some(Arc::clone(&self));
            }
            state.on_demand.take()
        };
        begin_step(on_demand);
        if let Some(cell) = cell {
            if cell.is_cancelled() {
                // The thread that cancelled the call may have looked before the call
                // was in the queue.
                self.withdraw(place);
            } else if cell.waits_for_itself(&self) {
                let error = Error::failed("the call waits for its own results").not_begun();
                effects::defer(Effect::Complete(cell, Err(error)));
            }
        }
        Ok(())
    }

    fn stream(&self) -> Arc<Stream> {
        self.stream.get_or_make(|| Box::new(FixedWindow::DEFAULT))
    }

    fn adopt_stream(&self, stream: Arc<Stream>) {
        self.stream.adopt(stream);
    }

    fn standing(&self) -> Standing {
        Standing::Pending
    }

    fn resolved(&self) -> Option<Client> {
        match &self.state.lock().phase {
            Phase::Resolved(target) => Some(target.clone()),
            Phase::Pending | Phase::Draining(_) => None,
        }
    }

    fn leads_to(&self) -> Option<Client> {
        let state = self.state.lock();
        match &state.phase {
            Phase::Draining(target) | Phase::Resolved(target) => Some(target.clone()),
            Phase::Pending => state.embargo.as_ref().map(|ahead| ahead.target.clone()),
        }
    }

    fn watch(&self, watcher: Watcher) -> Result<(), Watcher> {
        let on_demand = {
            let mut state = self.state.lock();
            if let Phase::Resolved(_) = state.phase {
                return Err(watcher);
            }
            state.watchers.push(watcher);
            state.on_demand.take()
        };
        begin_step(on_demand);
        Ok(())
    }

    fn unwatch(&self, key: &WatchKey<'_>) {
        watch::take_off(&mut self.state.lock().watchers, key);
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("promise")
    }
}

fn begin_step(step: Option<Box<dyn OnDemand>>) {
    if let Some(step) = step {
        effects::defer(Effect::Do(Box::new(move || step.begin())));
    }
}

impl Drop for LocalPromise {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        // Chains of promises are taken apart one by one, see Note [effects].
        if let Phase::Draining(target) | Phase::Resolved(target) =
            std::mem::replace(&mut state.phase, Phase::Pending)
            && target.is_promise()
        {
            effects::defer(Effect::drop(target));
        }
        if let Some(ahead) = state.embargo.take() {
            effects::defer(Effect::drop(ahead));
        }
        if let Some(parent) = state.parent.take() {
            // This may cancel a call whose own target is the field of another call.
            effects::defer(Effect::drop(parent));
        }
        if let Some(resolver) = state.resolver.take() {
            effects::defer(Effect::drop_foreign(resolver));
        }
        // Watchers may hold closures of the application.
        if !state.watchers.is_empty() {
            effects::defer(Effect::drop_foreign(std::mem::take(&mut state.watchers)));
        }
    }
}
