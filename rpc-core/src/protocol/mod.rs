//! The protocol machine: one connection's state and what each message does to
//! it. No threads, no input or output, no clock.
//!
//! Note [locks]
//!
//! - Each connection has one *order lock*. [`Machine::transact`] takes it and
//!   gives a [`Txn`]; whatever needs the lock is a method of that. What is queued
//!   inside one transaction stands in the outbox in that order, so choosing a
//!   target, changing an entry and queueing the message are one step.
//! - Nothing waits under it: the outbox takes messages without bound, and whoever
//!   has to wait for room does so before.
//! - No application code runs under it; see Note [effects].
//! - Two order locks are never held at once. What another connection has to do
//!   is an effect.
//! - Leaf locks (a promise, a call, a mailbox, a slot) may be taken under it, one
//!   at a time, and nothing is taken under a leaf lock.
//! - The tables are concurrent maps: what looks, counts or dumps needs no lock at
//!   all.

mod answer;
pub(crate) mod border;
mod connection;
mod descriptors;
mod dest;
mod embargo;
mod ending;
mod export;
mod held;
mod import;
mod incoming;
mod outgoing;
mod question;
mod releases;
pub(crate) mod remote_promise;
mod rest;
mod snapshot;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crossbeam_queue::SegQueue;

pub(crate) use self::dest::Dest;
pub(crate) use self::rest::Unused;
pub use self::snapshot::{Exported, Snapshot};

use self::answer::Answer;
use self::border::Border;
use self::embargo::Embargo;
use self::export::Export;
use self::held::{Held, Load};
use self::import::Import;
use self::question::Question;
use self::releases::Released;
use self::table::{IdPool, Table};
use crate::cap::client::Client;
use crate::cap::effects::{self, Effect, LockScope};
use crate::error::Error;
use crate::flow::FlowControl;
use crate::ids::{AnswerId, EmbargoId, ExportId, ImportId, QuestionId, Serial};
use crate::limits::Limits;
use crate::wire;
use crate::work::room::Room;

/// One connection as the protocol sees it.
pub(crate) struct Machine {
    settings: Settings,
    order: Mutex<Order>,
    questions: Table<QuestionId, Question>,
    answers: Table<AnswerId, Answer>,
    exports: Table<ExportId, Export>,
    imports: Table<ImportId, Import>,
    embargoes: Table<EmbargoId, Embargo>,
    releases: SegQueue<Released>,
    room: Arc<Room>,
    load: Load,
    has_border: bool,
    /// Until the end of the connection. The lock is a leaf.
    border: Mutex<Option<Arc<dyn Border>>>,
    outbox: Arc<dyn Outbox>,
    /// The same as the phase tells, for those who look without the lock.
    resting: AtomicBool,
    activity: AtomicUsize,
}

/// What does not change while a connection lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// The windows of streams.
    pub(crate) flow: FlowSource,
    /// How many file descriptors may travel with a message, by the limits and by
    /// what the transport can do.
    pub(crate) fds: usize,
}

/// What the peer gets when it asks without having a capability, and who is asked
/// about what it saves.
#[derive(Default)]
pub(crate) struct Offers {
    /// What it is answered if it does not say what it asks for.
    pub(crate) bootstrap: Option<Client>,
    /// What is called with the name if it asks for something by name.
    pub(crate) restorer: Option<Client>,
    /// What certain calls go to instead of crossing.
    pub(crate) border: Option<Arc<dyn Border>>,
}

/// Where the windows of a connection's streams come from.
#[derive(Clone, Default)]
pub(crate) struct FlowSource {
    pub(crate) control: FlowControl,
    /// How much the transport buffers, if it can tell.
    pub(crate) transport: Option<Arc<dyn Fn() -> Option<u64> + Send + Sync>>,
}

impl std::fmt::Debug for FlowSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.control.fmt(f)
    }
}

/// Where messages leave the machine.
pub(crate) trait Outbox: Send + Sync {
    /// Queues a message. Called under the order lock: must not wait, nor call
    /// back.
    fn push(&self, message: wire::Message);

    /// This side rests, behind what was pushed: see Note [rest]. Called as `push`.
    fn push_rest(&self) {}

    /// Messages may have been pushed by `machine`. Called after each step, without
    /// a lock. Must not wait.
    fn wake(&self, machine: &Machine) {
        let _ = machine;
    }

    /// Nothing will be pushed any more, and every table is empty. Called without
    /// a lock.
    fn disconnected(&self);
}

/// What only the holder of the order lock may touch.
struct Order {
    phase: Phase,
    question_ids: IdPool,
    export_ids: IdPool,
    embargo_ids: IdPool,
    /// Which export a capability already is, by its address.
    exported: HashMap<usize, ExportId>,
    offers: Offers,
    /// What the peer has sent and is not delivered yet: Note [flow limit].
    held: Held,
    next_serial: u64,
    pipelines: Pipelines,
}

/// Questions of which only the pipeline is wanted: Note [pipeline only].
#[derive(Default)]
struct Pipelines {
    asked: u32,
    peer: Peer,
}

/// Whether the peer does without a Return where none is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Peer {
    #[default]
    TakesHints,
    Answers,
}

#[derive(Clone, Debug)]
enum Phase {
    Live,
    /// Nothing begins here until the peer has said something: see Note [rest].
    Resting,
    /// Why every call fails from now on.
    Dead(Error),
    /// The same, of a connection that was not used when it ended.
    DeadUnused(Error),
}

/// A step of one connection, with its order lock held.
pub(crate) struct Txn<'m> {
    machine: &'m Arc<Machine>,
    order: MutexGuard<'m, Order>,
    effects: Vec<Effect>,
    /// Messages that must come right after the one that is being made.
    trailing: Vec<wire::Message>,
    /// The file descriptors that came with the message that is being received. What
    /// nobody takes is closed after the transaction.
    arrived: wire::Attached,
}

/// Why a connection must end: what the peer is told.
pub(crate) struct Abort(pub(crate) Error);

impl Abort {
    fn new(reason: impl Into<String>) -> Self {
        Abort(Error::failed(reason))
    }
}

impl Machine {
    pub(crate) fn new(
        settings: Settings,
        mut offers: Offers,
        outbox: Arc<dyn Outbox>,
    ) -> Arc<Self> {
        let border = offers.border.take();
        let room = Room::new(
            settings.limits.questions as usize,
            usize::try_from(settings.limits.queued_bytes).unwrap_or(usize::MAX),
        );
        Arc::new(Machine {
            settings,
            order: Mutex::new(Order {
                phase: Phase::Live,
                question_ids: IdPool::default(),
                export_ids: IdPool::default(),
                embargo_ids: IdPool::default(),
                exported: HashMap::new(),
                offers,
                held: Held::default(),
                next_serial: 0,
                pipelines: Pipelines::default(),
            }),
            questions: Table::new(),
            answers: Table::new(),
            exports: Table::new(),
            imports: Table::new(),
            embargoes: Table::new(),
            releases: SegQueue::new(),
            room,
            load: Load::new(u64::MAX),
            has_border: border.is_some(),
            border: Mutex::new(border),
            outbox,
            resting: AtomicBool::new(false),
            activity: AtomicUsize::new(0),
        })
    }

    /// Makes one step, then what it left to be done.
    ///
    /// Must not be called under a lock.
    pub(crate) fn transact<R>(self: &Arc<Self>, step: impl FnOnce(&mut Txn<'_>) -> R) -> R {
        let scope = LockScope::enter(self.address());
        let order = self.order.lock();
        self.step(scope, order, step)
    }

    /// As [`transact`](Self::transact), or nothing if somebody else makes a step
    /// right now.
    fn try_transact<R>(self: &Arc<Self>, step: impl FnOnce(&mut Txn<'_>) -> R) -> Option<R> {
        // Asked before the scope is entered: this thread may be the holder.
        let order = self.order.try_lock()?;
        let scope = LockScope::enter(self.address());
        Some(self.step(scope, order, step))
    }

    fn step<'m, R>(
        self: &'m Arc<Self>,
        scope: LockScope,
        order: MutexGuard<'m, Order>,
        step: impl FnOnce(&mut Txn<'_>) -> R,
    ) -> R {
        let mut txn = Txn {
            machine: self,
            order,
            effects: Vec::new(),
            trailing: Vec::new(),
            arrived: wire::Attached::default(),
        };
        let result = step(&mut txn);
        txn.process_releases();
        txn.check_backlog();
        let Txn { order, effects, trailing, arrived, .. } = txn;
        debug_assert!(trailing.is_empty());
        drop(order);
        drop(scope);
        drop(arrived);
        self.outbox.wake(self);
        effects::defer_all(effects);
        self.flush_releases();
        result
    }

    /// Whether no call of the peer's is outstanding. More may come at any moment.
    pub(crate) fn is_quiet(&self) -> bool {
        self.answers.len() == 0
    }

    /// How many calls are under way, in both directions together.
    pub(crate) fn calls_under_way(&self) -> usize {
        self.questions.len() + self.answers.len()
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }
}

impl Txn<'_> {
    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Queues a message for the peer, if it is still there.
    fn send(&mut self, message: wire::Message) {
        if let Phase::Live | Phase::Resting = self.order.phase {
            tracing::trace!(?message, "send");
            self.machine.activity.fetch_add(1, Ordering::Relaxed);
            self.machine.room.queued(message.size_estimate());
            self.machine.outbox.push(message);
        }
    }

    /// Queues a message, and what must come right after it.
    fn send_with_trailing(&mut self, message: wire::Message) {
        self.send(message);
        for message in std::mem::take(&mut self.trailing) {
            self.send(message);
        }
    }

    /// Ends the connection when a peer asks for more than it reads.
    fn check_backlog(&mut self) {
        let limit = self.limits().backlog_bytes;
        let queued = self.machine.room.bytes() as u64;
        if queued > limit && self.dead().is_none() {
            self.abort(Error::overloaded(format!(
                "{queued} bytes are queued for a peer that does not read them; \
                 the limit is {limit} (Limits::backlog_bytes)"
            )));
        }
    }

    fn serial(&mut self) -> Serial {
        self.order.next_serial += 1;
        Serial(self.order.next_serial)
    }

    /// Why every call fails, if the connection has ended.
    fn dead(&self) -> Option<Error> {
        match &self.order.phase {
            Phase::Live | Phase::Resting => None,
            Phase::Dead(error) | Phase::DeadUnused(error) => Some(error.clone()),
        }
    }

    fn limits(&self) -> &Limits {
        &self.machine.settings.limits
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("snapshot", &self.snapshot()).finish_non_exhaustive()
    }
}
