//! Vats whose steps are made by threads, under the scheduler of Note [models].
//!
//! What the tests of [`super`] decide, the scheduler decides here: who goes on, down
//! to a single lock. Objects run on threads, one for each job; what a machine sends
//! is delivered by a thread, one for each direction of a link, as a coordinator does.
//! As there, nothing may be left at the end: [`World::finish`].

mod calls;
mod handoffs;
mod links;
mod mailboxes;
mod small;
mod waits;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::content;
use super::neighbours::{Neighbourhood, VatNumber};
use super::net::{INTERFACE, METHOD, limits, transmit};
use crate::cap::client::Client;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::cap::pending::Pending;
use crate::error::Error;
use crate::limits::Limits;
use crate::protocol::{Machine, Offers, Outbox, Settings};
use crate::sync::{Condvar, Mutex, thread};
use crate::wire;
use crate::work::executor::{Executor, Job, Refused};

/// What is under way, and what was made.
#[derive(Clone, Default)]
struct World(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Jobs and messages that are not done with.
    under_way: Mutex<usize>,
    nothing: Condvar,
    objects: std::sync::Mutex<Vec<Object>>,
    sides: std::sync::Mutex<Vec<Side>>,
    coordinators: std::sync::Mutex<Vec<Handle>>,
}

type Handle = thread::JoinHandle<()>;

impl World {
    fn begin(&self) {
        *self.0.under_way.lock() += 1;
    }

    fn end(&self) {
        let mut under_way = self.0.under_way.lock();
        *under_way -= 1;
        if *under_way == 0 {
            self.0.nothing.notify_all();
        }
    }

    /// Runs something on a thread of its own.
    fn spawn(&self, body: impl FnOnce() + Send + 'static) {
        self.begin();
        let world = self.clone();
        thread::spawn(move || {
            body();
            world.end();
        });
    }

    /// Waits until every thread has ended and every message was received.
    fn settle(&self) {
        let mut under_way = self.0.under_way.lock();
        while *under_way > 0 {
            self.0.nothing.wait(&mut under_way);
        }
    }

    /// An object that does this with each call.
    fn object(
        &self,
        concurrency: Concurrency,
        script: impl Fn(IncomingCall) + Send + Sync + 'static,
    ) -> (Object, Client) {
        self.object_on(Arc::new(self.clone()), concurrency, script)
    }

    /// The same, on an executor of its own.
    fn object_on(
        &self,
        executor: Arc<dyn Executor>,
        concurrency: Concurrency,
        script: impl Fn(IncomingCall) + Send + Sync + 'static,
    ) -> (Object, Client) {
        let object = Object::default();
        let server = Server { object: object.clone(), concurrency, script: Box::new(script) };
        self.0.objects.lock().unwrap().push(object.clone());
        let local = LocalObject::new(Arc::new(server), concurrency, executor);
        (object, Client::of(local))
    }

    /// An object that only answers.
    fn witness(&self) -> (Object, Client) {
        self.object(Concurrency::Serial, super::actor::acknowledge)
    }

    /// Links two vats, each with what it offers.
    fn link(&self, ours: Option<Client>, theirs: Option<Client>) -> (Arc<Machine>, Arc<Machine>) {
        self.link_with(limits(), ours, theirs)
    }

    fn link_with(
        &self,
        limits: Limits,
        ours: Option<Client>,
        theirs: Option<Client>,
    ) -> (Arc<Machine>, Arc<Machine>) {
        self.link_between(limits, None, [ours, theirs])
    }

    /// Links two vats of a network whose vats introduce each other.
    fn link_in(
        &self,
        network: &Arc<Neighbourhood>,
        vats: [VatNumber; 2],
        offered: [Option<Client>; 2],
    ) -> (Arc<Machine>, Arc<Machine>) {
        self.link_between(limits(), Some((network, vats)), offered)
    }

    fn link_between(
        &self,
        limits: Limits,
        vats: Option<(&Arc<Neighbourhood>, [VatNumber; 2])>,
        [ours, theirs]: [Option<Client>; 2],
    ) -> (Arc<Machine>, Arc<Machine>) {
        let vats = vats.map(|(network, [one, other])| (network, [(one, other), (other, one)]));
        let wires = [(); 2].map(|()| {
            Arc::new(Wire { world: self.clone(), queue: Mutex::default(), there: Condvar::new() })
        });
        let sides = [(0, ours), (1, theirs)].map(|(number, bootstrap)| {
            let wire: &Arc<Wire> = &wires[number];
            let settings = Settings { limits: limits.clone(), ..Settings::default() };
            let door = vats.map(|(network, vats)| (network, vats[number]));
            let neighbour = door.map(|(network, (own, peer))| network.door(own, peer));
            let offers = Offers { bootstrap, neighbour, ..Offers::default() };
            let outbox = Arc::clone(wire) as Arc<dyn Outbox>;
            let machine = Machine::new(settings, offers, outbox);
            if let Some((network, (own, peer))) = door {
                network.enter(own, peer, &machine);
            }
            Side { machine, wire: Arc::clone(wire) }
        });
        for (from, to) in [(0, 1), (1, 0)] {
            let from = sides[from].clone();
            let to = Arc::clone(&sides[to].machine);
            let handle = thread::Builder::new().spawn(move || from.deliver(&to)).unwrap();
            self.0.coordinators.lock().unwrap().push(handle);
        }
        let machines = (Arc::clone(&sides[0].machine), Arc::clone(&sides[1].machine));
        self.0.sides.lock().unwrap().extend(sides);
        machines
    }

    /// The end of a model that has dropped all its references and does not make calls
    /// any more: requires that nothing is left anywhere.
    fn finish(self) {
        self.settle();
        let sides = std::mem::take(&mut *self.0.sides.lock().unwrap());
        for side in &sides {
            assert_eq!(side.machine.check(), Ok(()));
            let snapshot = side.machine.snapshot();
            assert!(snapshot.is_empty() && snapshot.queued_bytes == 0, "left: {snapshot:?}");
            side.wire.push_item(None);
        }
        let coordinators = std::mem::take(&mut *self.0.coordinators.lock().unwrap());
        coordinators.into_iter().for_each(|coordinator| coordinator.join().unwrap());
        self.settle();
        for side in sides {
            let machine = Arc::downgrade(&side.machine);
            drop(side);
            assert_eq!(machine.strong_count(), 0, "something still refers to a machine");
        }
        for object in &*self.0.objects.lock().unwrap() {
            assert_eq!(object.0.drops.load(Ordering::SeqCst), 1, "each object is dropped once");
            assert_eq!(*object.0.wrong.lock().unwrap(), None::<&str>);
        }
    }
}

impl Executor for World {
    fn spawn(&self, job: Job) -> Result<(), Refused> {
        World::spawn(self, move || job.run());
        Ok(())
    }
}

/// What a machine has sent and its peer has not received.
struct Wire {
    world: World,
    /// `None` is the end of the model.
    queue: Mutex<VecDeque<Option<Item>>>,
    there: Condvar,
}

enum Item {
    Message(wire::Message),
    End,
}

impl Wire {
    fn push_item(&self, item: Option<Item>) {
        self.world.begin();
        self.queue.lock().push_back(item);
        self.there.notify_one();
    }
}

impl Outbox for Wire {
    fn push(&self, message: wire::Message) {
        self.push_item(Some(Item::Message(message)));
    }

    fn disconnected(&self) {
        self.push_item(Some(Item::End));
    }
}

#[derive(Clone)]
struct Side {
    machine: Arc<Machine>,
    wire: Arc<Wire>,
}

impl Side {
    /// What a coordinator does.
    fn deliver(self, to: &Arc<Machine>) {
        crate::work::role::serve();
        loop {
            let item = {
                let mut queue = self.wire.queue.lock();
                loop {
                    match queue.pop_front() {
                        Some(item) => break item,
                        None => self.wire.there.wait(&mut queue),
                    }
                }
            };
            let over = item.is_none();
            match item {
                Some(Item::Message(message)) => {
                    self.machine.room().sent(message.size_estimate());
                    to.receive(transmit(message));
                }
                Some(Item::End) => to.disconnect(Error::disconnected("the peer has gone")),
                None => {}
            }
            self.wire.world.end();
            if over {
                return;
            }
        }
    }
}

/// A test's hold on an object; it does not keep the object alive.
#[derive(Clone, Default)]
struct Object(Arc<Seen>);

#[derive(Default)]
struct Seen {
    labels: std::sync::Mutex<Vec<u64>>,
    running: AtomicUsize,
    drops: AtomicUsize,
    /// What was seen that must not be. Panics would become answers.
    wrong: std::sync::Mutex<Option<&'static str>>,
}

impl Object {
    /// The labels of the calls that arrived, in order.
    fn seen(&self) -> Vec<u64> {
        self.0.labels.lock().unwrap().clone()
    }

    /// The labels of the calls that this caller has made, in order. A caller numbers
    /// its calls on from a hundred times its own number.
    fn seen_of(&self, caller: u64) -> Vec<u64> {
        let mut labels = self.seen();
        labels.retain(|label| label / 100 == caller);
        labels
    }

    /// Whether all these calls of a caller came, once and in order.
    fn assert_saw(&self, caller: u64, calls: u64) {
        let expected: Vec<_> = (0..calls).map(|call| caller * 100 + call).collect();
        assert_eq!(self.seen_of(caller), expected, "of {:?}", self.seen());
    }
}

struct Server {
    object: Object,
    concurrency: Concurrency,
    script: Box<dyn Fn(IncomingCall) + Send + Sync>,
}

impl Dispatch for Server {
    fn dispatch(&self, call: IncomingCall) {
        let seen = &self.object.0;
        seen.labels.lock().unwrap().push(content::label(call.params()));
        if seen.running.fetch_add(1, Ordering::SeqCst) > 0
            && self.concurrency != Concurrency::Concurrent
        {
            *seen.wrong.lock().unwrap() = Some("two calls ran at once");
        }
        (self.script)(call);
        seen.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.object.0.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// Makes a call.
fn call(client: &Client, label: u64, caps: &[Client]) -> Pending {
    client.call(INTERFACE, METHOD, content::params(label, caps))
}

/// Makes so many calls, one after the other, without waiting in between.
fn calls(client: &Client, caller: u64, count: u64) -> Vec<Pending> {
    (0..count).map(|number| call(client, caller * 100 + number, &[])).collect()
}

/// Waits for them; all must succeed.
fn all_succeed(calls: &[Pending]) {
    for call in calls {
        if let Err(error) = call.wait() {
            panic!("a call failed: {error}");
        }
    }
}

/// What a method keeps until the test wants it.
#[derive(Clone, Default)]
struct Held(Arc<(Mutex<VecDeque<IncomingCall>>, Condvar)>);

impl Held {
    fn put(&self, call: IncomingCall) {
        self.0.0.lock().push_back(call);
        self.0.1.notify_one();
    }

    fn take(&self) -> IncomingCall {
        let mut calls = self.0.0.lock();
        loop {
            match calls.pop_front() {
                Some(call) => return call,
                None => self.0.1.wait(&mut calls),
            }
        }
    }
}
