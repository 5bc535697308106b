//! Capabilities.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::brand::Brand;
use crate::cap::call::{CallCell, Sink};
use crate::cap::delivery::{CallRequest, Delivery, Tail};
use crate::cap::effects;
use crate::cap::local_promise::LocalPromise;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::cap::payload::Payload;
use crate::cap::pending::Pending;
use crate::cap::pipeline::Pipeline;
use crate::cap::stream::Stream;
use crate::cap::watch::{WatchKey, Watcher};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::SharedFd;
use crate::flow::FixedWindow;
use crate::kinds::gateway;
use crate::kinds::membrane::Wrapped;
use crate::kinds::reconnect::Reconnecting;
use crate::protocol::remote_promise::RemotePromise;
use crate::protocol::{ExportSlot, ImportRef, Machine, Pinned};
use crate::wire::Hint;
use crate::work::event::Event;
use crate::work::executor::Job;
use crate::work::role;
use crate::work::room::{Permit, Room};

/// A capability: a reference to an object, here or elsewhere, known or only
/// promised, that any thread may hold, clone, call and drop.
///
/// Calls through one client, and through its clones after they were made, arrive
/// in the order in which they were made, also while a promise resolves
/// underneath. Dropping the last client that refers to an object lets its owner
/// drop the object. Clones are cheap.
///
/// Generated clients wrap one of these.
#[derive(Clone)]
pub struct Client(Kind);

#[derive(Clone)]
enum Kind {
    /// Nothing: the null pointer.
    Null,
    /// Something that failed.
    Broken(Error),
    /// An object of this process.
    Local(Arc<LocalObject>),
    /// An object of a peer.
    Import(Arc<ImportRef>),
    /// A promise of a peer.
    Remote(Arc<RemotePromise>),
    /// A promise of this process.
    Promise(Arc<LocalPromise>),
    /// What stands for something on the other side of a membrane.
    Wrapped(Arc<Wrapped>),
    /// What is connected anew when it was disconnected.
    Reconnecting(Arc<Reconnecting>),
    /// Whatever a peer has behind one destination, for good: see
    /// Note [described path].
    Pinned(Arc<Pinned>),
    /// What calls that a peer sends to an exported promise take, never seen by
    /// the application: see Note [described path].
    Slot(Arc<ExportSlot>),
}

// Note [cycles]
//
// A promise that is resolved to itself, by way of whatever other promises, fails.
// Who resolves a promise says first where it leads, and then follows that: of
// several threads that close a circle together, at least one sees it.
//
// A circle may lead through a peer: a promise of ours becomes a promise of the
// peer's, which becomes ours. Here it shows when the peer's promise turns out to
// be what we have described to the peer as being that promise itself: something
// pinned to its own place. Whatever is sent there would come back for ever, so
// the places that the circle leads through are given up, too: calls fail when
// they come by, and the two vats do not keep each other's promises alive. (A
// circle through three vats looks like a chain to each of them. One that leads
// through a pipeline given out early shows when the call is answered; until then
// what is sent there goes round.)

/// The most promises that one may be chained through before the chain is taken
/// for a circle.
const MAX_CHAIN: usize = 1 << 16;

impl Client {
    /// The null capability. Calls on it fail.
    pub fn null() -> Self {
        Client(Kind::Null)
    }

    /// A capability whose calls all fail with `error`.
    pub fn broken(error: Error) -> Self {
        Client(Kind::Broken(error))
    }

    /// Makes an object of this process callable. It runs in the vat of the
    /// current worker thread, or in the process-wide default vat, one call at a
    /// time.
    pub fn from_dispatch(server: Arc<dyn Dispatch>) -> Self {
        Self::from_dispatch_with(server, Concurrency::default())
    }

    /// As [`from_dispatch`](Self::from_dispatch), with a choice of how many
    /// calls run at once.
    pub fn from_dispatch_with(server: Arc<dyn Dispatch>, concurrency: Concurrency) -> Self {
        let executor = role::current_executor();
        Self::from_object(LocalObject::new(server, concurrency, executor))
    }

    pub(crate) fn from_object(object: Arc<LocalObject>) -> Self {
        Client(Kind::Local(object))
    }

    pub(crate) fn from_import(import: Arc<ImportRef>) -> Self {
        Client(Kind::Import(import))
    }

    pub(crate) fn from_remote(promise: Arc<RemotePromise>) -> Self {
        Client(Kind::Remote(promise))
    }

    pub(crate) fn from_promise(promise: Arc<LocalPromise>) -> Self {
        Client(Kind::Promise(promise))
    }

    pub(crate) fn from_wrapped(wrapped: Arc<Wrapped>) -> Self {
        Client(Kind::Wrapped(wrapped))
    }

    pub(crate) fn from_reconnecting(reconnecting: Arc<Reconnecting>) -> Self {
        Client(Kind::Reconnecting(reconnecting))
    }

    pub(crate) fn from_pinned(pinned: Arc<Pinned>) -> Self {
        Client(Kind::Pinned(pinned))
    }

    pub(crate) fn from_slot(slot: Arc<ExportSlot>) -> Self {
        Client(Kind::Slot(slot))
    }

    /// Whether it is the null capability; `false` for a promise that has not
    /// resolved to it yet.
    pub fn is_null(&self) -> bool {
        matches!(self.shortened().0, Kind::Null)
    }

    /// Why all calls fail, if it is known already that they do.
    pub fn failure(&self) -> Option<Error> {
        match self.shortened().0 {
            Kind::Broken(error) => Some(error),
            _ => None,
        }
    }

    /// Whether it may still turn out to be something else.
    pub fn is_unresolved(&self) -> bool {
        self.shortened().is_promise()
    }

    /// A number that equal clients share while they exist.
    pub fn identity(&self) -> usize {
        self.shortened().address()
    }

    /// The object behind it, if it is one of this process and known by now.
    pub fn local_dispatch(&self) -> Option<Arc<dyn Dispatch>> {
        match self.shortened().0 {
            Kind::Local(object) => object.server().cloned(),
            _ => None,
        }
    }

    /// The mark of the object behind it, if that is one of this process that has
    /// one, and known by now.
    pub fn brand(&self) -> Option<Brand> {
        self.local_dispatch()?.brand().cloned()
    }

    /// The file descriptor that belongs to it: the one that an object of this
    /// process was [made callable with](crate::Vat::export_with_fd), or that the
    /// peer sent with one of its own.
    ///
    /// `None` if there is none, if the connection does not carry file descriptors
    /// or too many went at once (see [`Limits`](crate::Limits)), and for a promise
    /// that is not resolved yet: [`resolve`](Self::resolve) it first. The
    /// descriptor stays open until everybody who has it has dropped it, also when
    /// the capability is gone.
    pub fn fd(&self) -> Option<SharedFd> {
        match &self.shortened().0 {
            Kind::Local(object) => object.fd().cloned(),
            Kind::Import(import) => import.fd().cloned(),
            Kind::Wrapped(wrapped) => wrapped.fd(),
            _ => None,
        }
    }

    /// Starts a call and returns at once, except that an application thread
    /// waits here while its connection has as many questions outstanding, or as
    /// many bytes queued, as [`Limits`](crate::Limits) allow.
    ///
    /// Failures, also of the sending itself, are the call's outcome.
    pub fn call(&self, interface_id: u64, method_id: u16, params: Payload) -> Pending {
        self.call_with(interface_id, method_id, params, Hint::None)
    }

    /// Starts a call of which only the pipeline is of interest: what the results are
    /// going to hold can be called, and nobody is told what they are. The callee is
    /// told so, and sends none.
    ///
    /// The call is over when everything that was made of the pipeline is dropped.
    /// Until then it counts among the outstanding questions, for which this may wait
    /// as [`call`](Self::call) does.
    pub fn call_pipeline_only(
        &self,
        interface_id: u64,
        method_id: u16,
        params: Payload,
    ) -> Pipeline {
        Pipeline::new(self.call_with(interface_id, method_id, params, Hint::OnlyPipeline))
    }

    /// As [`call`](Self::call), without the possibility to call what the results are
    /// going to hold before they are there, which makes it easier for the callee. For
    /// methods whose results hold no capabilities.
    ///
    /// The callee is told by a hint (`noPromisePipelining`) that not all peers are up
    /// to: the C++ implementation (1.x) gives up a call with it that a method passes
    /// on, as a tail call, to an object of a third vat or of the caller's.
    pub fn call_without_pipeline(
        &self,
        interface_id: u64,
        method_id: u16,
        params: Payload,
    ) -> Pending {
        self.call_with(interface_id, method_id, params, Hint::NoPipelining)
    }

    fn call_with(&self, interface_id: u64, method_id: u16, params: Payload, hint: Hint) -> Pending {
        let (cell, interest) = CallCell::new(Sink::Here, hint);
        let target = self.shortened();
        let permit = match target.wait_for_room() {
            Ok(permit) => permit,
            Err(error) => {
                cell.complete(Err(error));
                return Pending::new(interest);
            }
        };
        let request = CallRequest {
            interface: interface_id,
            method: method_id,
            params,
            cell,
            permit,
            tail: Tail::No,
        };
        target.dispatch(Delivery::Call(request));
        Pending::new(interest)
    }

    /// Makes a streaming call: sends it, and returns when the stream's window has
    /// room for another one, usually at once. What it returns in the end is not
    /// told, and it is not cancelled when the client is dropped.
    ///
    /// On a thread that serves a connection this does not wait.
    ///
    /// # Errors
    /// What an earlier call of the stream failed with. This one was not sent, or
    /// was sent in vain.
    pub fn call_streaming(&self, interface_id: u64, method_id: u16, params: Payload) -> Result<()> {
        let stream = self.stream();
        let in_flight = stream.send(8 * params.size_in_words() as u64)?;
        let pending = self.call(interface_id, method_id, params);
        pending.keep_until_done(move |outcome| in_flight.answered(outcome.as_ref().err()));
        if stream.has_room() || !role::may_wait() {
            return Ok(());
        }
        effects::catch_up();
        stream.wait_for_room()
    }

    /// Waits until every streaming call that was made through this capability
    /// was answered. A call that is not streaming does that too, and tells what
    /// the callee makes of it.
    ///
    /// # Errors
    /// What a call of the stream failed with, or that this thread must not wait.
    pub fn finish_stream(&self) -> Result<()> {
        let stream = self.stream();
        effects::catch_up();
        stream.wait_until_empty()
    }

    pub(crate) fn stream(&self) -> Arc<Stream> {
        let client = self.shortened();
        let remote = |machine: &Arc<Machine>| machine.flow_controller();
        match &client.0 {
            Kind::Import(import) => import.stream().get_or_make(|| remote(import.machine())),
            Kind::Remote(promise) => promise.stream().get_or_make(|| remote(promise.machine())),
            Kind::Pinned(pinned) => pinned.stream().get_or_make(|| remote(pinned.machine())),
            Kind::Promise(promise) => {
                promise.stream().get_or_make(|| Box::new(FixedWindow::DEFAULT))
            }
            Kind::Local(object) => object.stream().get_or_make(|| Box::new(FixedWindow::DEFAULT)),
            Kind::Wrapped(wrapped) => wrapped.stream(),
            // Each generation has its own.
            Kind::Reconnecting(reconnecting) => reconnecting.current().0.stream(),
            // Calls fail at once, and so does the stream.
            Kind::Null | Kind::Broken(_) | Kind::Slot(_) => {
                Stream::new(Box::new(FixedWindow::DEFAULT))
            }
        }
    }

    /// Goes on with the stream of a promise that has resolved to this.
    pub(crate) fn adopt_stream(&self, stream: Arc<Stream>) {
        match &self.0 {
            Kind::Import(import) => import.stream().adopt(stream),
            Kind::Remote(promise) => promise.stream().adopt(stream),
            Kind::Pinned(pinned) => pinned.stream().adopt(stream),
            Kind::Promise(promise) => promise.stream().adopt(stream),
            Kind::Local(object) => object.stream().adopt(stream),
            Kind::Wrapped(wrapped) => wrapped.adopt_stream(stream),
            Kind::Null | Kind::Broken(_) | Kind::Slot(_) | Kind::Reconnecting(_) => {}
        }
    }

    /// Waits until it is known what this is, and returns that: never a promise.
    ///
    /// # Errors
    /// The promise failed, or this thread must not wait.
    pub fn resolve(&self) -> Result<Client> {
        self.resolve_before(Deadline::NEVER)
    }

    /// As [`resolve`](Self::resolve), but fails with `overloaded` after
    /// `deadline`.
    ///
    /// # Errors
    /// Also when the deadline has passed.
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
                    return match client.0 {
                        Kind::Broken(error) => Err(error),
                        _ => Ok(client),
                    };
                }
            }
            effects::catch_up();
            if !event.wait(deadline)? {
                return Err(Error::overloaded("the promise was not resolved in time"));
            }
        }
    }

    /// Waits until a little more is known about what this is, and returns that: what
    /// the promise has resolved to, which may be another promise. `None` if this is no
    /// promise any more.
    ///
    /// # Errors
    /// This thread must not wait.
    pub fn more_resolved(&self) -> Result<Option<Client>> {
        let client = self.shortened();
        if !client.is_promise() {
            return Ok(None);
        }
        let event = Arc::new(Event::default());
        // Otherwise it has resolved just now.
        if client.watch(Watcher::Thread(Arc::clone(&event))).is_ok() {
            effects::catch_up();
            event.wait(Deadline::NEVER)?;
        }
        Ok(Some(client.shortened()))
    }

    /// Runs a closure on a worker with what [`more_resolved`](Self::more_resolved)
    /// would return; at once with `None` if this is no promise any more.
    pub fn on_more_resolved(&self, closure: impl FnOnce(Option<Client>) + Send + 'static) {
        let client = self.shortened();
        let executor = role::current_executor();
        if !client.is_promise() {
            return effects::spawn_or_run(&*executor, Box::new(move || closure(None)));
        }
        let again = client.clone();
        let job: Job = Box::new(move || closure(Some(again.shortened())));
        if let Err(Watcher::Closure(executor, job)) = client.watch(Watcher::Closure(executor, job))
        {
            effects::spawn_or_run(&*executor, job);
        }
    }

    /// Runs a closure on a worker once this is resolved, at once if it is.
    pub fn on_resolved(&self, closure: impl FnOnce(Result<Client>) + Send + 'static) {
        let client = self.shortened();
        let executor = role::current_executor();
        let again = client.clone();
        let job: Job = Box::new(move || {
            let now = again.shortened();
            match now.0 {
                _ if now.is_promise() => now.on_resolved(closure),
                Kind::Broken(error) => closure(Err(error)),
                _ => closure(Ok(now)),
            }
        });
        if let Err(Watcher::Closure(executor, job)) = client.watch(Watcher::Closure(executor, job))
        {
            effects::spawn_or_run(&*executor, job);
        }
    }

    // ---- For the rest of the library

    /// Follows promises that are resolved to what they stand for.
    pub(crate) fn shortened(&self) -> Client {
        let mut client = self.clone();
        while let Some(next) = client.next_resolved() {
            client = next;
        }
        client
    }

    /// One step of [`shortened`](Self::shortened).
    pub(crate) fn next_resolved(&self) -> Option<Client> {
        match &self.0 {
            Kind::Wrapped(wrapped) => wrapped.resolved(),
            Kind::Promise(promise) => promise.resolved(),
            Kind::Remote(promise) => promise.resolved(),
            Kind::Slot(slot) => Some(slot.target()),
            Kind::Pinned(pinned) => pinned.dest().err(),
            _ => None,
        }
    }

    /// If following this, also through promises that are about to resolve, leads
    /// to the promise `end`: the error that `end` fails with. See Note [cycles].
    pub(crate) fn circle_to(&self, end: &Client) -> Option<Error> {
        if !self.leads_to(end, |_| ()) {
            return None;
        }
        let error = Error::failed("a promise was resolved to itself");
        self.leads_to(end, |pinned| pinned.give_up(Client::broken(error.clone())));
        Some(error)
    }

    /// Gives up the field of results that this leads through, if it does.
    #[cfg(test)]
    pub(crate) fn give_up_described_field(&self) {
        if let Kind::Pinned(pinned) = self.shortened().0 {
            pinned.give_up_field();
        }
    }

    fn leads_to(&self, end: &Client, passed: impl Fn(&Pinned)) -> bool {
        let end = end.address();
        let mut client = self.clone();
        for _ in 0..MAX_CHAIN {
            if client.is_promise() && client.address() == end {
                return true;
            }
            let next = match &client.0 {
                Kind::Promise(promise) => promise.next(),
                // What is sent there comes by here, on whichever side it stays.
                Kind::Wrapped(wrapped) => wrapped.inner().ok(),
                Kind::Reconnecting(reconnecting) => reconnecting.connected(),
                Kind::Pinned(pinned) => {
                    let there = pinned.dest().is_ok();
                    let next = if there { pinned.promise().map(Client::from_remote) } else { None };
                    let next = next.or_else(|| client.next_resolved());
                    passed(pinned);
                    next
                }
                _ => client.next_resolved(),
            };
            match next {
                Some(next) => client = next,
                None => return false,
            }
        }
        true
    }

    /// The capability that both are going to be, as soon as neither is a promise any
    /// more: for two embargoes in front of one object, which are lifted one by one.
    ///
    /// Must not be called under a lock.
    pub(crate) fn behind(self, first: Client) -> Client {
        let first = first.shortened();
        match first.0 {
            Kind::Broken(_) => first,
            _ if first.is_promise() => {
                let both = LocalPromise::new(None);
                let client = Client::from_promise(Arc::clone(&both));
                if let Err(Watcher::Promise(both, target)) =
                    first.watch(Watcher::Promise(both, self))
                {
                    // It was resolved just now.
                    both.resolve(target);
                }
                client
            }
            _ => self,
        }
    }

    pub(crate) fn is_promise(&self) -> bool {
        match &self.0 {
            Kind::Promise(_) | Kind::Remote(_) | Kind::Slot(_) => true,
            Kind::Wrapped(wrapped) => wrapped.is_pending(),
            _ => false,
        }
    }

    /// Where this very reference lives in memory.
    pub(crate) fn address(&self) -> usize {
        match &self.0 {
            Kind::Null | Kind::Broken(_) => 0,
            Kind::Local(object) => Arc::as_ptr(object) as usize,
            Kind::Import(import) => Arc::as_ptr(import) as usize,
            Kind::Remote(promise) => Arc::as_ptr(promise) as usize,
            Kind::Promise(promise) => Arc::as_ptr(promise) as usize,
            Kind::Wrapped(wrapped) => Arc::as_ptr(wrapped) as usize,
            Kind::Reconnecting(reconnecting) => Arc::as_ptr(reconnecting) as usize,
            Kind::Pinned(pinned) => Arc::as_ptr(pinned) as usize,
            Kind::Slot(slot) => Arc::as_ptr(slot) as usize,
        }
    }

    /// The connection that a call would be sent over now.
    pub(crate) fn machine(&self) -> Option<&Arc<Machine>> {
        match &self.0 {
            Kind::Import(import) => Some(import.machine()),
            Kind::Remote(promise) => Some(promise.machine()),
            Kind::Pinned(pinned) => Some(pinned.machine()),
            _ => None,
        }
    }

    /// What is behind membranes and connected to now.
    pub(crate) fn innermost(&self) -> Client {
        let mut client = self.shortened();
        // A capability that is connected to itself leads nowhere.
        for _ in 0..MAX_CHAIN {
            let next = match &client.0 {
                Kind::Wrapped(wrapped) => wrapped.inner().unwrap_or_else(Client::broken),
                Kind::Reconnecting(reconnecting) => match reconnecting.connected() {
                    Some(current) => current,
                    None => return client,
                },
                _ => return client,
            };
            client = next.shortened();
        }
        client
    }

    /// Waits for room on the connection that a call would be sent over now, if
    /// any.
    fn wait_for_room(&self) -> Result<Option<Permit>> {
        if matches!(self.0, Kind::Wrapped(_) | Kind::Reconnecting(_)) {
            let room = self
                .innermost()
                .machine()
                .map_or(Ok(None), |machine| wait_for_room(machine.room()));
            // Where the connection has ended the call may take another one.
            return Ok(room.unwrap_or(None));
        }
        self.machine().map_or(Ok(None), |machine| wait_for_room(machine.room()))
    }

    /// Whether calls would fail because a connection has ended.
    pub(crate) fn is_disconnected(&self) -> bool {
        let client = self.innermost();
        match &client.0 {
            Kind::Broken(error) => error.kind() == ErrorKind::Disconnected,
            _ => client.machine().is_some_and(|machine| machine.room().is_closed()),
        }
    }

    pub(crate) fn as_wrapped(&self) -> Option<&Arc<Wrapped>> {
        match &self.0 {
            Kind::Wrapped(wrapped) => Some(wrapped),
            _ => None,
        }
    }

    /// Adds a watcher to a promise; gives it back if this is none, or is
    /// resolved.
    pub(crate) fn watch(&self, watcher: Watcher) -> std::result::Result<(), Watcher> {
        match &self.0 {
            Kind::Promise(promise) => promise.watch(watcher),
            Kind::Remote(promise) => promise.watch(watcher),
            Kind::Wrapped(wrapped) => wrapped.watch(watcher),
            _ => Err(watcher),
        }
    }

    /// Forgets a watcher that is gone.
    pub(crate) fn unwatch(&self, key: &WatchKey<'_>) {
        match &self.0 {
            Kind::Promise(promise) => promise.unwatch(key),
            Kind::Remote(promise) => promise.unwatch(key),
            Kind::Wrapped(wrapped) => wrapped.unwatch(key),
            _ => {}
        }
    }

    /// Takes a delivery to wherever this leads. Never waits.
    ///
    /// Must not be called under a lock.
    pub(crate) fn dispatch(self, delivery: Delivery) {
        let mut client = self;
        let mut delivery = delivery;
        loop {
            if gateway::is_save(&delivery) {
                client = client.shortened();
                if let Some(machine) = client.machine().cloned()
                    && let Some(gateway) = machine.gateway()
                {
                    return gateway.save_outwards(&machine, client, delivery);
                }
            }
            let (next, back) = match client.0 {
                Kind::Null => {
                    return delivery.fail(&Error::failed("called a null capability"));
                }
                Kind::Broken(error) => return delivery.fail(&error),
                Kind::Local(object) => match delivery {
                    Delivery::Call(call) => return object.deliver(call),
                    Delivery::Disembargo(echo) => return echo.refuse(),
                },
                Kind::Import(import) => return import.dispatch(delivery),
                Kind::Pinned(pinned) => return pinned.dispatch(delivery),
                Kind::Slot(slot) => (slot.target(), delivery),
                Kind::Promise(promise) => match promise.accept(delivery) {
                    Ok(()) => return,
                    Err(next) => next,
                },
                Kind::Reconnecting(reconnecting) => match delivery {
                    Delivery::Call(call) => (reconnecting.route(&call.cell), Delivery::Call(call)),
                    Delivery::Disembargo(echo) => return echo.refuse(),
                },
                Kind::Wrapped(wrapped) => match wrapped.accept(delivery) {
                    None => return,
                    Some(next) => next,
                },
                Kind::Remote(promise) => {
                    match promise.machine().clone().deliver_through(&promise, delivery) {
                        Ok(()) => return,
                        Err(next) => next,
                    }
                }
            };
            client = next;
            delivery = back;
        }
    }

    /// As [`dispatch`](Self::dispatch), but what a peer hosts is saved as it is: see
    /// Note [realm gateway].
    pub(crate) fn dispatch_past_gateway(self, delivery: Delivery) {
        match self.0 {
            Kind::Import(import) => import.dispatch(delivery),
            Kind::Pinned(pinned) => pinned.dispatch(delivery),
            kind => Client(kind).dispatch(delivery),
        }
    }

    pub(crate) fn view(&self) -> View<'_> {
        match &self.0 {
            Kind::Null => View::Null,
            Kind::Broken(error) => View::Broken(error),
            Kind::Local(_) | Kind::Reconnecting(_) => View::Local,
            Kind::Import(import) => View::Import(import),
            Kind::Remote(promise) => View::Remote(promise),
            Kind::Promise(_) => View::Promise,
            Kind::Pinned(pinned) => View::Pinned(pinned),
            Kind::Slot(_) => View::Slot,
            Kind::Wrapped(wrapped) if wrapped.is_pending() => View::Wrapped(Standing::Pending),
            Kind::Wrapped(_) => View::Wrapped(Standing::Settled),
        }
    }
}

/// Waits, if this thread acts for the application, until the limits of a connection
/// allow one more question.
///
/// # Errors
/// The connection has ended.
pub(crate) fn wait_for_room(room: &Arc<Room>) -> Result<Option<Permit>> {
    if let Some(permit) = room.try_take() {
        return Ok(Some(permit));
    }
    if !role::may_wait() {
        return Ok(None);
    }
    effects::catch_up();
    room.wait(role::asker()).map(Some)
}

/// What a client is, for those who describe it to a peer.
pub(crate) enum View<'a> {
    Null,
    Broken(&'a Error),
    Local,
    Import(&'a Arc<ImportRef>),
    Remote(&'a Arc<RemotePromise>),
    Promise,
    Pinned(&'a Arc<Pinned>),
    Slot,
    Wrapped(Standing),
}

/// Whether what stands for something else may still become another thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Settled,
    Pending,
}

/// Clients are equal when they refer to the same object, or to the same promise
/// that is not resolved yet. Two broken clients are equal when they fail alike.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.shortened(), other.shortened());
        match (&a.0, &b.0) {
            (Kind::Null, Kind::Null) => true,
            (Kind::Broken(a), Kind::Broken(b)) => a == b,
            (Kind::Null | Kind::Broken(_), _) | (_, Kind::Null | Kind::Broken(_)) => false,
            _ => a.address() == b.address(),
        }
    }
}

impl Eq for Client {}

impl Default for Client {
    fn default() -> Self {
        Client::null()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shortened().0 {
            Kind::Null => f.write_str("Client(null)"),
            Kind::Broken(error) => write!(f, "Client(broken, {error})"),
            Kind::Local(object) => {
                let address = Arc::as_ptr(object);
                match object.server().and_then(|server| server.name()) {
                    Some(name) => write!(f, "Client(local object {name:?} {address:p})"),
                    None => write!(f, "Client(local object {address:p})"),
                }
            }
            Kind::Import(import) => write!(f, "Client({import:?})"),
            Kind::Remote(_) => f.write_str("Client(promise of a peer)"),
            Kind::Promise(_) => f.write_str("Client(promise)"),
            Kind::Pinned(_) => f.write_str("Client(pinned to a peer)"),
            Kind::Slot(_) => f.write_str("Client(exported promise)"),
            Kind::Reconnecting(_) => f.write_str("Client(connected anew when disconnected)"),
            Kind::Wrapped(wrapped) => match wrapped.inner() {
                Ok(inner) => write!(f, "Client(behind a membrane: {inner:?})"),
                Err(error) => write!(f, "Client(revoked, {error})"),
            },
        }
    }
}
