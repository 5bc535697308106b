//! Wrappers: what stands on one side of a membrane for a capability of the other side.
//!
//! # State model
//!
//! ```text
//! NotYet ──watched, or a call or a stream waits──► Watching ──promise resolved──► Told
//!
//! NotYet, Watching, Told ──revoked──► Told, with an error in place of the capability
//! ```
//!
//! - `NotYet`: the wrapper will not be told when the promise that it wraps resolves. A
//!   wrapper of a settled capability stays so until it is revoked.
//! - `Watching`: the wrapper will be told.
//! - `Told`: the waiting calls, the stream and the watchers have gone on.
//!
//! A wrapper of a settled capability is settled. A wrapper of a promise is *pending* as
//! long as the promise is, as long as calls wait in the wrapper for the promise (see
//! `hold`), and as long as it has a stream that it has not passed on. What it resolves
//! to is found by following the promise and wrapping what the promise has resolved to
//! ([`Client::shortened`]). A revoked wrapper has an error in `State::inner`, and is
//! settled, whatever it wrapped before.

use std::fmt;
use std::sync::{Arc, Weak};

use super::Passage;
use super::crossing::Shared;
use crate::cap::call::{CallCell, Sink};
use crate::cap::capability::{Capability, Standing};
use crate::cap::client::Client;
use crate::cap::crossing::{Barrier, Crossing, Heading};
use crate::cap::delivery::{CallRequest, Delivery, JoinRequest, Tail};
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::LocalPromise;
use crate::cap::sameness::number::Number;
use crate::cap::stream::{Stream, StreamSlot};
use crate::cap::watch::{self, Observer, WatchKey, Watcher};
use crate::error::Error;
use crate::fd::SharedFd;
use crate::flow::FixedWindow;
use crate::sync::Mutex;
use crate::wire::Hint;

pub(super) struct Wrapped {
    this: Weak<Wrapped>,
    membrane: Arc<Shared>,
    /// From the side of what this wraps to the side of its holders.
    heading: Heading,
    /// The address of what this wraps.
    address: usize,
    /// The number of wrappers behind this one.
    depth: usize,
    state: Mutex<State>,
    stream: StreamSlot,
    number: Number,
}

struct State {
    /// What this wraps, or the error with which the membrane was revoked.
    inner: Result<Client, Error>,
    /// What this had resolved to at the last look, if to something else; kept so that the
    /// next look finds the same wrapper.
    became: Client,
    watch: Watch,
    watchers: Vec<Watcher>,
    /// The queue in which calls wait for the promise that this wraps. While calls wait,
    /// the queue keeps this wrapper alive.
    held: Weak<LocalPromise>,
    /// The promise that stands for the wrapped capability on its own side while calls wait.
    passed_back: Weak<LocalPromise>,
}

/// Whether the wrapper has been told that the promise has resolved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    NotYet,
    Watching,
    Told,
}

/// Where a wrapper leads.
enum Inside {
    /// To the capability behind it.
    Wraps(Client),
    /// Nowhere yet: calls or a stream that wait in it have not been passed on.
    Waits,
    Fails(Error),
}

impl Wrapped {
    /// Maximum number of membranes through which one capability may lead.
    pub(super) const MAX_DEPTH: usize = 64;

    pub(super) fn too_deep() -> Error {
        Error::failed(format!("a capability leads through more than {} membranes", Self::MAX_DEPTH))
    }

    pub(super) fn new(
        membrane: Arc<Shared>,
        heading: Heading,
        inner: Client,
        depth: usize,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Wrapped {
            this: Weak::clone(this),
            membrane,
            heading,
            address: inner.address(),
            depth,
            state: Mutex::new(State {
                inner: Ok(inner),
                became: Client::null(),
                watch: Watch::NotYet,
                watchers: Vec::new(),
                held: Weak::new(),
                passed_back: Weak::new(),
            }),
            stream: StreamSlot::default(),
            number: Number::default(),
        })
    }

    pub(super) fn membrane(&self) -> &Arc<Shared> {
        &self.membrane
    }

    pub(super) fn heading(&self) -> Heading {
        self.heading
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// What this wraps.
    pub(super) fn inner(&self) -> Result<Client, Error> {
        self.state.lock().inner.clone()
    }

    /// The wrapped capability, for its own side: behind the calls that wait here.
    pub(super) fn passed_back(&self) -> Client {
        let (inner, held, known) = {
            let state = self.state.lock();
            (state.inner.clone(), state.held.upgrade(), state.passed_back.upgrade())
        };
        let inner = inner.unwrap_or_else(Client::broken);
        let Some(held) = held.filter(|held| held.resolved().is_none()) else { return inner };
        let promise = known.unwrap_or_else(|| {
            let promise = LocalPromise::new(None);
            self.state.lock().passed_back = Arc::downgrade(&promise);
            let watcher = Watcher::Promise(Arc::clone(&promise), inner);
            if let Err(Watcher::Promise(promise, inner)) = held.watch(watcher) {
                // The calls were let go just now. Nothing waits in the promise.
                promise.resolve(inner);
            }
            promise
        });
        Client::of(promise)
    }

    fn inside(&self) -> Inside {
        let (inner, held, watch) = {
            let state = self.state.lock();
            (state.inner.clone(), state.held.upgrade(), state.watch)
        };
        let streams = || watch == Watch::Watching && self.stream.get().is_some();
        match inner {
            Err(error) => Inside::Fails(error),
            Ok(_) if held.is_some_and(|held| held.resolved().is_none()) || streams() => {
                Inside::Waits
            }
            Ok(inner) => Inside::Wraps(inner),
        }
    }

    fn keep(&self, became: &Client) {
        let mut state = self.state.lock();
        if state.inner.is_ok() && state.became.address() != became.address() {
            let before = std::mem::replace(&mut state.became, became.clone());
            drop(state);
            drop(before);
        }
    }

    // ---- Calls

    /// Lets a call through: makes another call, whose outcome becomes that of the first
    /// one.
    fn pass(&self, inner: Client, call: CallRequest) {
        if let Err(error) = self.membrane.register(&call.cell) {
            return Delivery::Call(call).fail(&error);
        }
        let crossing = Crossing::new(Arc::clone(&self.membrane) as _, self.heading);
        let (cell, interest) = CallCell::new(Sink::Here, Hint::None, call.cell.origin());
        let fields = call.cell.take_across(interest, &crossing);
        let inwards = Crossing::new(Arc::clone(&self.membrane) as _, self.heading.opposite());
        let params = inwards.payload(&call.params);
        drop(call.params);
        let passed = CallRequest {
            interface: call.interface,
            method: call.method,
            params,
            cell: Arc::clone(&cell),
            permit: call.permit,
            // The outcome has to come back to the membrane.
            tail: Tail::No,
        };
        inner.deliver(Delivery::Call(passed));
        call.cell.hand_over_across(fields, &cell, &crossing);
    }

    /// Returns the queue in which a call waits until the promise that this wraps has
    /// resolved.
    fn hold(self: &Arc<Self>, inner: &Client, delivery: Delivery) -> (Client, Delivery) {
        let held = {
            let mut state = self.state.lock();
            match state.held.upgrade() {
                Some(held) => held,
                None if state.watch == Watch::Told => {
                    // The promise has resolved just now.
                    drop(state);
                    return (Client::of(Arc::clone(self)), delivery);
                }
                None => {
                    let held = LocalPromise::new(None);
                    held.keep_until_resolved(Arc::clone(self) as _);
                    state.held = Arc::downgrade(&held);
                    held
                }
            }
        };
        self.watch_inner(inner);
        (Client::of(held), delivery)
    }

    /// Answers whether this is the same as something else: a wrapper is a capability of its
    /// own, whatever it wraps.
    fn ask_same(self: Arc<Self>, join: JoinRequest) -> Result<(), (Client, Delivery)> {
        if let Some(next) = self.resolved() {
            return Err((next, Delivery::Join(join)));
        }
        match self.inner() {
            Err(error) => Delivery::Join(join).fail(&error),
            Ok(inner) if inner.is_promise() => {
                return Err(self.hold(&inner, Delivery::Join(join)));
            }
            Ok(_) => join.answer(&self.number),
        }
        Ok(())
    }

    // ---- Resolution

    /// Makes sure that this wrapper is told when the promise behind it resolves.
    fn watch_inner(&self, inner: &Client) {
        {
            let mut state = self.state.lock();
            if state.watch != Watch::NotYet {
                return;
            }
            state.watch = Watch::Watching;
        }
        if let Err(watcher) = inner.watch(Watcher::Observer(Weak::clone(&self.this) as _)) {
            // The promise has resolved already. This is deferred because the thread may
            // hold locks.
            effects::defer(Effect::Notify(watcher));
        }
    }

    /// Releases what this wraps, for good.
    pub(super) fn revoke(self: &Arc<Self>, error: &Error) {
        let (before, became) = {
            let mut state = self.state.lock();
            let before = std::mem::replace(&mut state.inner, Err(error.clone()));
            (before, std::mem::take(&mut state.became))
        };
        Arc::clone(self).tell();
        if let Ok(inner) = before {
            inner.unwatch(&WatchKey::Observer(Arc::as_ptr(self).cast()));
            effects::defer(Effect::drop_foreign((inner, became)));
        }
    }
}

impl Capability for Wrapped {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        let delivery = match delivery {
            Delivery::Join(join) => return self.ask_same(join),
            other => other,
        };
        let Some(call) = delivery.call_or_answer(&self.number) else { return Ok(()) };
        if let Some(next) = self.resolved() {
            return Err((next, Delivery::Call(call)));
        }
        let (inner, held) = {
            let state = self.state.lock();
            (state.inner.clone(), state.held.upgrade())
        };
        let inner = match inner {
            Ok(inner) => inner,
            Err(error) => {
                Delivery::Call(call).fail(&error);
                return Ok(());
            }
        };
        if let Some(held) = held {
            // A call that would pass at once must not overtake those that wait.
            return Err((Client::of(held), Delivery::Call(call)));
        }
        let inward = self.heading.opposite();
        let decision = match self.membrane.decide(inward, call.interface, call.method, &inner) {
            Ok(Passage::Through) => Ok(Passage::Through),
            decision => match self.membrane.waits_for_promises() {
                Ok(true) if inner.is_promise() => {
                    return Err(self.hold(&inner, Delivery::Call(call)));
                }
                Ok(_) => decision,
                Err(error) => Err(error),
            },
        };
        match decision {
            Ok(Passage::Through) => {
                self.pass(inner, call);
                Ok(())
            }
            Ok(Passage::Redirect(target)) => Err((target, Delivery::Call(call))),
            Err(error) => {
                Delivery::Call(call).fail(&error);
                Ok(())
            }
        }
    }

    fn behind(&self) -> Option<Client> {
        Some(self.inner().unwrap_or_else(Client::broken))
    }

    /// A wrapper has a stream of its own: a call that is refused does not end the
    /// stream of what is behind the wrapper.
    fn stream(&self) -> Arc<Stream> {
        if let Some(stream) = self.stream.get() {
            return stream;
        }
        let innermost = self.inner().ok().map(|inner| inner.innermost());
        let controller = match innermost.as_ref().and_then(Client::connection) {
            Some(connection) => connection.flow_controller(),
            None => Box::new(FixedWindow::DEFAULT),
        };
        let stream = Stream::new(controller);
        self.adopt_stream(Arc::clone(&stream));
        // Another thread may have been faster, here or at what this has resolved to by
        // now.
        match self.stream.get() {
            Some(stream) => stream,
            None => self.resolved().map_or(stream, |next| next.stream()),
        }
    }

    /// Takes over a stream here, or at what this has resolved to by now.
    fn adopt_stream(&self, stream: Arc<Stream>) {
        {
            let state = self.state.lock();
            if state.watch != Watch::Told {
                self.stream.adopt(stream);
                let inner = state.inner.clone();
                drop(state);
                if let Ok(inner) = inner
                    && inner.is_promise()
                {
                    self.watch_inner(&inner);
                }
                return;
            }
        }
        if let Some(next) = self.resolved() {
            next.adopt_stream(stream);
        }
    }

    fn standing(&self) -> Standing {
        match self.inside() {
            Inside::Wraps(inner) if !inner.is_promise() => Standing::Settled,
            Inside::Fails(_) => Standing::Settled,
            Inside::Waits | Inside::Wraps(_) => Standing::Pending,
        }
    }

    fn resolved(&self) -> Option<Client> {
        let mut client = match self.inside() {
            Inside::Waits => return None,
            Inside::Fails(error) => return Some(Client::broken(error)),
            Inside::Wraps(inner) => inner,
        };
        if client.kind_as::<Wrapped>().is_none() && client.next_resolved().is_none() {
            return None;
        }
        // Promises behind this wrapper may lead to further wrappers, and so on.
        let mut wrappers = vec![self.this.upgrade()?];
        loop {
            if let Some(wrapped) = client.clone().into_kind_as::<Wrapped>() {
                if wrappers.len() > Self::MAX_DEPTH {
                    return Some(Client::broken(Self::too_deep()));
                }
                client = match wrapped.inside() {
                    Inside::Waits => break,
                    Inside::Fails(error) => Client::broken(error),
                    Inside::Wraps(inner) => {
                        wrappers.push(wrapped);
                        inner
                    }
                };
            } else if let Some(next) = client.next_resolved() {
                client = next;
            } else {
                break;
            }
        }
        while let Some(wrapped) = wrappers.pop() {
            client = if client.address() == wrapped.address {
                Client::of(wrapped)
            } else {
                wrapped.membrane.cross_settled(client, wrapped.heading)
            };
        }
        if client.address() == std::ptr::from_ref(self) as usize {
            return None;
        }
        self.keep(&client);
        Some(client)
    }

    fn leads_to(&self) -> Option<Client> {
        // Everything that is sent to this wrapper goes on to what it wraps, whichever
        // side that is on.
        self.inner().ok()
    }

    fn watch(&self, watcher: Watcher) -> Result<(), Watcher> {
        let inner = match self.inner() {
            Ok(inner) if inner.is_promise() => inner,
            _ => return Err(watcher),
        };
        self.watch_inner(&inner);
        let mut state = self.state.lock();
        if state.watch == Watch::Told || state.inner.is_err() {
            return Err(watcher);
        }
        state.watchers.push(watcher);
        Ok(())
    }

    fn unwatch(&self, key: &WatchKey<'_>) {
        watch::take_off(&mut self.state.lock().watchers, key);
    }

    fn fd(&self) -> Option<SharedFd> {
        if !self.membrane.passes_fds() {
            return None;
        }
        self.inner().ok()?.fd()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner() {
            Ok(inner) => write!(f, "behind a membrane: {inner:?}"),
            Err(error) => write!(f, "revoked, {error}"),
        }
    }
}

impl Observer for Wrapped {
    /// Called when what this wraps has resolved, or when the wrapper is revoked: passes
    /// on what waits, and tells the watchers. Must not be called under a lock.
    fn tell(self: Arc<Self>) {
        let next = match self.inner() {
            Ok(inner) => Arc::clone(&self.membrane).cross(&inner, self.heading),
            Err(error) => Client::broken(error),
        };
        self.keep(&next);
        let (mut released, mut streaming) = (None, None);
        // Repeated until nothing waits. Under the same lock the wrapper becomes Told,
        // so that nothing more can come.
        let watchers = loop {
            let (held, stream) = {
                let mut state = self.state.lock();
                let held = state.held.upgrade().filter(|held| !is(released.as_ref(), held));
                let stream = self.stream.get().filter(|stream| !is(streaming.as_ref(), stream));
                if held.is_none() && stream.is_none() {
                    state.watch = Watch::Told;
                    break std::mem::take(&mut state.watchers);
                }
                (held, stream)
            };
            if let Some(stream) = stream {
                next.adopt_stream(Arc::clone(&stream));
                streaming = Some(stream);
            }
            if let Some(held) = held {
                held.resolve(next.clone());
                released = Some(held);
            }
        };
        for watcher in watchers {
            effects::defer(Effect::Notify(watcher));
        }
    }
}

/// Whether `found` is what was found before.
fn is<T>(before: Option<&Arc<T>>, found: &Arc<T>) -> bool {
    before.is_some_and(|before| Arc::ptr_eq(before, found))
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        let this: *const Wrapped = self;
        self.membrane.forget((self.address, self.heading), this);
        let state = self.state.get_mut();
        let became = std::mem::take(&mut state.became);
        let gone = Err(Error::failed("the wrapper is gone"));
        let inner = std::mem::replace(&mut state.inner, gone);
        if became.address() != 0 {
            effects::defer(Effect::drop_foreign(became));
        }
        if let Ok(inner) = inner {
            if state.watch == Watch::Watching {
                inner.unwatch(&WatchKey::Observer(this.cast()));
            }
            // Chains are taken apart one by one, see Note [effects].
            if inner.is_promise() || inner.kind_as::<Wrapped>().is_some() {
                effects::defer(Effect::drop_foreign(inner));
            }
        }
        // Watchers may hold closures of the application.
        if !state.watchers.is_empty() {
            effects::defer(Effect::drop_foreign(std::mem::take(&mut state.watchers)));
        }
    }
}
