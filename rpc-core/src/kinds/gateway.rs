//! Saving across the border between two realms.
//!
//! Note [realm gateway]
//!
//! The form of saved references is a convention within a realm. On a connection to
//! another realm, a *gateway* translates between the references of both sides: no call
//! of `Persistent.save` crosses the connection unchanged.
//!
//! - Outwards: a save of a capability that the peer hosts becomes
//!   `gateway.import(cap, params)`. Calls on `cap` bypass the gateway, because as a
//!   rule the gateway's first step is to save `cap`.
//! - Inwards: a save by the peer of a capability that this vat or a third one hosts
//!   becomes `gateway.export(cap, params)`. A capability that turns out to be the
//!   peer's own is saved without the gateway: that call only passes through this vat.
//!
//! The side of a promise is known only when the promise is resolved. A save of a
//! promise waits until then, and only the save does: other calls go on.
//!
//! All that the protocol machine knows of this is that such calls are handed to a
//! [`Border`] instead of being delivered.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::cap::client::Client;
use crate::cap::connection::{self, Connection};
use crate::cap::crossing::Heading;
use crate::cap::delivery::{CallRequest, Delivery, Tail};
use crate::cap::effects::{self, Effect};
use crate::cap::incoming_call::IncomingCall;
use crate::cap::local_promise::LocalPromise;
use crate::cap::object::{Concurrency, Dispatch};
use crate::cap::watch::{Observer, WatchKey, Watcher};
use crate::error::Error;
use crate::fd::SharedFd;
use crate::memory::GiveBack;
use crate::protocol::border::deliver_past_border;
use crate::protocol::named::Hosted;
use crate::protocol::{Border, Machine, Onward};
use crate::sync::Mutex;

/// `Persistent.save`
const SAVE: (u64, u16) = (0xc8cb_212f_cd9f_5691, 0);
const REALM_GATEWAY: u64 = 0x84ff_286c_d00a_3ed4;
const IMPORT: u16 = 0;
const EXPORT: u16 = 1;

/// Number of queues for which a gateway without any keeps memory.
const KEPT: usize = 16;

/// The gateway of one connection.
pub(crate) struct Gateway {
    client: Client,
    /// The queues in which saves of promises wait. All saves of one promise share a queue,
    /// however often the peer saves the promise and cancels the save.
    waiting: Mutex<HashMap<(usize, Heading), Weak<Saves>>>,
}

impl Gateway {
    pub(crate) fn new(client: Client) -> Arc<Self> {
        Arc::new(Gateway { client, waiting: Mutex::default() })
    }

    /// Makes a save wait until a promise is resolved.
    fn wait_for(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        promise: Client,
        heading: Heading,
        delivery: Delivery,
    ) {
        let key = (promise.address(), heading);
        // An entry that is found belongs to this promise: entries keep their promises
        // alive, so the address cannot have been used again.
        let known = self.waiting.lock().get(&key).and_then(Weak::upgrade);
        let queue = known.as_ref().and_then(|saves| saves.queue.upgrade());
        if let Some(queue) = queue {
            return Client::of(queue).deliver(delivery);
        }
        // Two threads that come here at the same time make two queues, which does no harm.
        let (queue, saves) = Saves::new(self, machine, promise.clone(), heading);
        let before = self.waiting.lock().insert(key, Weak::clone(&saves));
        drop(before);
        // The queue is kept until the promise is watched: a save that was cancelled at
        // once must not leave a watcher behind.
        Client::of(Arc::clone(&queue)).deliver(delivery);
        if let Err(watcher) = promise.watch(Watcher::Observer(saves)) {
            // The promise has resolved just now.
            effects::defer(Effect::Notify(watcher));
        }
        drop(queue);
    }

    /// Calls the gateway instead. Its results have the form of a save's.
    fn redirect(&self, method: u16, cap: Client, delivery: Delivery) {
        let Delivery::Call(call) = delivery else {
            // A disembargo is no save.
            return self.client.clone().deliver(delivery);
        };
        let CallRequest { params, cell, tail, .. } = call;
        let tail = if method == EXPORT { Tail::Allowed } else { tail };
        match params.behind(cap) {
            Err(error) => cell.complete(Err(error)),
            Ok(params) => self.client.clone().deliver(Delivery::Call(CallRequest {
                interface: REALM_GATEWAY,
                method,
                params,
                cell,
                permit: None,
                tail,
            })),
        }
    }
}

impl Border for Gateway {
    fn stops(&self, delivery: &Delivery) -> bool {
        match delivery {
            Delivery::Call(call) => (call.interface, call.method) == SAVE,
            Delivery::Disembargo(_) | Delivery::Lift(_) | Delivery::Join(_) => false,
        }
    }

    fn outwards(self: Arc<Self>, machine: &Arc<Machine>, target: Client, delivery: Delivery) {
        if target.is_promise() {
            return self.wait_for(machine, target, Heading::Out, delivery);
        }
        let bypass = Client::from_dispatch_with(Arc::new(Bypass(target)), Concurrency::Inline);
        self.redirect(IMPORT, bypass, delivery);
    }

    fn inwards(
        self: Arc<Self>,
        machine: &Arc<Machine>,
        target: Client,
        delivery: Delivery,
        kept: Option<Hosted>,
    ) -> Onward {
        self.take_in(machine, target, delivery);
        drop(kept);
        Onward::GoesOn
    }
}

impl Gateway {
    fn take_in(self: &Arc<Self>, machine: &Arc<Machine>, target: Client, delivery: Delivery) {
        let target = target.shortened();
        if target.is_promise() {
            return self.wait_for(machine, target, Heading::In, delivery);
        }
        if target.is_null_or_broken() {
            return target.deliver(delivery);
        }
        let of_peer = |own: &dyn Connection| connection::is_same(own, &**machine);
        if target.connection().is_some_and(of_peer) {
            return deliver_past_border(target, delivery);
        }
        self.redirect(EXPORT, target, delivery);
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}

/// A capability of another realm whose calls bypass the gateway.
struct Bypass(Client);

impl Dispatch for Bypass {
    fn dispatch(&self, call: IncomingCall) {
        if let Some(delivery) = call.into_delivery() {
            deliver_past_border(self.0.clone(), delivery);
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn fd(&self) -> Option<SharedFd> {
        self.0.fd()
    }
}

/// The saves of a promise that is not resolved yet. Lives as long as a save waits, and
/// keeps the promise alive.
pub(crate) struct Saves {
    gateway: Arc<Gateway>,
    machine: Weak<Machine>,
    promise: Client,
    heading: Heading,
    queue: Weak<LocalPromise>,
}

impl Saves {
    /// Returns the queue, which owns the `Saves`, and the `Saves`.
    fn new(
        gateway: &Arc<Gateway>,
        machine: &Arc<Machine>,
        promise: Client,
        heading: Heading,
    ) -> (Arc<LocalPromise>, Weak<Saves>) {
        let queue = LocalPromise::new(None);
        let saves = Arc::new(Saves {
            gateway: Arc::clone(gateway),
            machine: Arc::downgrade(machine),
            promise,
            heading,
            queue: Arc::downgrade(&queue),
        });
        let known = Arc::downgrade(&saves);
        queue.keep_until_resolved(saves);
        (queue, known)
    }
}

impl Observer for Saves {
    /// Goes on with the saves once the promise is resolved.
    fn tell(self: Arc<Self>) {
        let Some(queue) = self.queue.upgrade() else { return };
        queue.resolve(match self.heading {
            // The saves come to the gateway again, on their way out.
            Heading::Out => self.promise.clone(),
            Heading::In => {
                let inwards = Inwards {
                    gateway: Arc::clone(&self.gateway),
                    machine: Weak::clone(&self.machine),
                    target: self.promise.clone(),
                };
                Client::from_dispatch_with(Arc::new(inwards), Concurrency::Inline)
            }
        });
    }
}

impl Drop for Saves {
    fn drop(&mut self) {
        let this: *const Saves = self;
        let key = (self.promise.address(), self.heading);
        let mut waiting = self.gateway.waiting.lock();
        if waiting.get(&key).is_some_and(|saves| saves.as_ptr() == this) {
            waiting.remove(&key);
            waiting.give_back(KEPT);
        }
        drop(waiting);
        self.promise.unwatch(&WatchKey::Observer(this.cast()));
    }
}

/// What a promise that the peer saves has resolved to.
struct Inwards {
    gateway: Arc<Gateway>,
    machine: Weak<Machine>,
    target: Client,
}

impl Dispatch for Inwards {
    fn dispatch(&self, call: IncomingCall) {
        match self.machine.upgrade() {
            Some(machine) => {
                if let Some(delivery) = call.into_delivery() {
                    self.gateway.take_in(&machine, self.target.clone(), delivery);
                }
            }
            None => call.refuse(Error::disconnected("the connection has ended")),
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
