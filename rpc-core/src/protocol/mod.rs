//! The protocol machine: one connection's state and what each message does to
//! it. No threads, no input or output, no clock.
//!
//! Note [locks]
//!
//! - Each connection has one *order lock*. [`Machine::transact`] takes it and makes a
//!   [`Txn`]; every function that needs the lock is a method of that type. Messages
//!   stand in the outbox in the order of their transactions, so choosing a target,
//!   changing an entry and queueing the message are one step.
//! - Nothing waits under it: the outbox takes messages without bound, and a thread that
//!   has to wait for room does so before it takes the lock.
//! - No application code runs under it; see Note [effects]. A subscriber of `tracing` is
//!   the exception: it sees events in the order of the transactions, and must neither
//!   wait nor call this library.
//!   So is a network that introduces vats to each other, see Note [handoff].
//! - Two order locks are never held at once. Work for another connection is an effect.
//! - Leaf locks (a promise, a call, a mailbox, a slot) may be taken under it, one
//!   at a time, and nothing is taken under a leaf lock.
//! - The tables are concurrent maps: looking, counting and dumping need no order lock.

mod answer;
pub(crate) mod border;
mod connection;
pub(crate) mod costs;
mod counted;
mod descriptors;
mod dest;
mod draining;
mod embargo;
mod ending;
mod export;
pub(crate) mod handoff;
mod held;
pub(crate) mod idle;
mod import;
mod in_hand;
mod incoming;
mod join;
pub(crate) mod named;
mod outgoing;
mod pool;
mod probe;
mod question;
mod releases;
pub(crate) mod remote_promise;
pub(crate) mod snapshot;
pub(crate) mod table;

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use crate::log::tell;
use crate::sync::atomic::AtomicBool;
#[cfg(feature = "metrics")]
use crate::sync::atomic::Ordering;
use crate::sync::{Count, Mutex, MutexGuard, Shared, Tally};
use crossbeam_queue::SegQueue;
use foldhash::fast::RandomState;

pub(crate) use self::dest::Dest;

use self::answer::Answer;
use self::counted::Counter;
use self::embargo::Embargo;
use self::export::Export;
use self::handoff::Neighbour;
use self::handoff::ability::Ability;
use self::handoff::meetings::Provided;
use self::handoff::provide::Provide;
use self::held::{Held, Load};
use self::import::Import;
use self::join::Gatherings;
use self::named::Hosted;
use self::pool::IdPool;
use self::question::Question;
use self::releases::Released;
use self::table::Table;
use crate::budget::{Budget, Charge, Kind, Places};
use crate::cap::client::Client;
use crate::cap::delivery::Delivery;
use crate::cap::effects::{self, Effect, Effects, LockScope};
use crate::cap::roster::Roster;
use crate::cap::watch::Endings;
use crate::deadline::TimeLimit;
use crate::error::Error;
use crate::flow::FlowControl;
use crate::ids::{AnswerId, EmbargoId, ExportId, ImportId, QuestionId, Serial};
use crate::limits::Limits;
use crate::transport::PeerDescription;
use crate::wire;
use crate::work::origin::Origin;
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
    /// What this side has provided at the peer.
    provides: Table<QuestionId, Weak<Provide>>,
    /// For what is provided there, or is about to be.
    may_provide: Arc<Places>,
    /// What the peer has provided here.
    provisions: Table<AnswerId, Provided>,
    /// For that part of them which is kept.
    kept_provisions: Arc<Places>,
    /// For the Accepts that wait here: those of the peer, and this vat's own for what the peer
    /// has sent home.
    accepts: Arc<Places>,
    releases: SegQueue<Released>,
    room: Arc<Room>,
    load: Load,
    /// The deliveries of the peer that are about to be handed over: Note [in hand].
    in_hand: Counter,
    budget: Arc<Budget>,
    has_border: bool,
    /// Whether the border may delay the peer's calls.
    may_pause: bool,
    /// The network that the peer is in, if it introduces vats to each other.
    neighbour: Option<Arc<dyn Neighbour>>,
    /// Whether the peer has said that it knows no handoffs.
    refused_handoffs: AtomicBool,
    /// Whether the peer has said that it knows no Joins.
    refused_joins: AtomicBool,
    /// The joins of the peer whose parts wait for each other.
    gatherings: Arc<Gatherings>,
    /// The Joins of the peer that have no answer yet.
    joins: Counter,
    /// Present until the end of the connection. The lock is a leaf.
    border: Mutex<Option<Arc<dyn Border>>>,
    outbox: Arc<dyn Outbox>,
    /// Whether the phase is `Idle`, for threads that look without the lock.
    idle: AtomicBool,
    /// The number of calls of the peer that have no outcome yet, changed under the order lock.
    /// Threads wait until there are none.
    running_calls: Shared,
    /// Those who are told when the tables are empty: Note [ending].
    endings: Endings,
    /// The number of messages of the peer that have arrived, changed under the order lock.
    heard: Tally,
    /// That of this side that were queued, likewise.
    said: Tally,
    #[cfg(feature = "metrics")]
    traffic: Traffic,
}

/// The bytes of a connection's messages so far.
#[cfg(feature = "metrics")]
#[derive(Default)]
struct Traffic {
    sent: crate::sync::atomic::AtomicU64,
    received: crate::sync::atomic::AtomicU64,
}

/// The settings of a connection, which do not change while it lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// How long a call may take if nobody has said otherwise.
    pub(crate) call_timeout: TimeLimit,
    pub(crate) limits: Limits,
    /// How long a Join of the peer may take.
    pub(crate) join_patience: TimeLimit,
    /// The windows of streams.
    pub(crate) flow: FlowSource,
    /// Maximum number of file descriptors that travel with a message, by the limits and
    /// by the transport.
    pub(crate) fds: usize,
    /// Whom the peer's calls are counted for: Note [shares].
    pub(crate) origin: Origin,
    /// Who the peer is, for objects that ask who calls them.
    pub(crate) peer: PeerDescription,
}

/// What the peer gets when it asks for a capability without having one, and what
/// handles its saves.
#[derive(Default)]
pub(crate) struct Offers {
    /// The answer to a request without a name.
    pub(crate) bootstrap: Option<Client>,
    /// What is called with the name when the peer asks for a capability by name.
    pub(crate) restorer: Option<Client>,
    /// Where certain calls go instead of crossing the connection.
    pub(crate) border: Option<Arc<dyn Border>>,
    /// What introduces the peer to others, and others to it.
    pub(crate) neighbour: Option<Arc<dyn Neighbour>>,
}

/// Where the windows of a connection's streams come from.
#[derive(Clone, Default)]
pub(crate) struct FlowSource {
    pub(crate) control: FlowControl,
    /// Returns how much the transport buffers, if the transport knows.
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

    /// Queues the statement that this side is idle: see Note [idle]. Called under the
    /// rules of `push`.
    fn push_idle(&self) {}

    /// Makes sure that messages which `machine` may have pushed are sent. Called after
    /// each step, without a lock. Must not wait.
    fn wake(&self, machine: &Machine) {
        let _ = machine;
    }

    /// The application's handle on the connection: see
    /// [`Connection::handle`](crate::cap::connection::Connection::handle).
    fn handle(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// Called without a lock when nothing more will be pushed and every table is empty.
    fn disconnected(&self);
}

/// Keeps certain calls from crossing a connection unchanged: see Note [realm gateway].
pub(crate) trait Border: Send + Sync {
    /// Whether this delivery must not cross the connection unchanged.
    fn stops(&self, delivery: &Delivery) -> bool;

    /// Takes a delivery that is about to leave for `target`, which the peer of
    /// `machine` hosts, or will resolve.
    ///
    /// Must not be called under a lock.
    fn outwards(self: Arc<Self>, machine: &Arc<Machine>, target: Client, delivery: Delivery);

    /// Whether [`inwards`](Self::inwards) may return [`Onward::Paused`].
    fn pauses(&self) -> bool {
        false
    }

    /// Takes a delivery that the peer of `machine` has sent for `target`. What is `kept` is
    /// dropped once the delivery is on its way.
    ///
    /// Must not be called under a lock.
    fn inwards(
        self: Arc<Self>,
        machine: &Arc<Machine>,
        target: Client,
        delivery: Delivery,
        kept: Option<Hosted>,
    ) -> Onward;
}

/// Whether what the peer has sent is delivered any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    GoesOn,
    /// The border delays a call. It calls
    /// [`go_on_releasing`](Machine::go_on_releasing) when the call has left.
    Paused,
}

/// A call at the border that is delayed: Note [flow limit].
pub(crate) trait Pause: Send + Sync {
    /// Lets the call go on now: something behind it must be delivered.
    ///
    /// Must not be called under a lock.
    fn cut_short(self: Arc<Self>);
}

/// The state that only the holder of the order lock may touch.
struct Order {
    phase: Phase,
    question_ids: IdPool,
    export_ids: IdPool,
    embargo_ids: IdPool,
    /// The exports of capabilities, by the capability's address.
    exported: HashMap<usize, ExportId, RandomState>,
    /// What is provided of the fields of answers, by the address of the call's cell.
    provided_fields: BTreeSet<(usize, AnswerId)>,
    /// The number of exports that are vines.
    vines: usize,
    /// Whether the peer, as a host, knows handoffs.
    ability: Ability,
    /// Whether the peer has answered a Join.
    knows_joins: bool,
    offers: Offers,
    /// What the peer has sent and has not been delivered yet: Note [flow limit].
    held: Held,
    next_serial: u64,
    pipelines: Pipelines,
    new_calls: NewCalls,
    /// The peer's calls that it has finished and whose outcomes questions of this side have taken.
    /// Such a call is in no table any more; but it came over this connection, and ends with it.
    /// Otherwise a peer could leave calls behind that only it would have ended, with whoever waits
    /// for them here. They go on where the connection ends because it is not used: with empty
    /// tables, nothing that they wait for is the peer's.
    taken: Arc<Roster>,
}

/// What becomes of calls that the peer makes from now on: see Note [draining].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum NewCalls {
    #[default]
    Taken,
    Refused,
}

/// Questions of which only the pipeline is wanted: Note [pipeline only].
#[derive(Default)]
struct Pipelines {
    asked: u32,
    returns: UnwantedReturns,
}

/// Whether the peer leaves out the Return where none is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UnwantedReturns {
    #[default]
    LeftOut,
    Sent,
}

/// The state of a connection:
///
/// ```text
/// Live ──declared idle──► Idle ──a message of the peer──► Live
/// Live ──ended──► Dead
/// Idle ──ended──► DeadUnused
/// ```
#[derive(Clone, Debug)]
enum Phase {
    Live,
    /// This side begins nothing until a message of the peer arrives: see Note [idle].
    Idle,
    /// The connection has ended: every call fails with this error.
    Dead(Error),
    /// The connection was unused when it ended: every call fails with this error.
    DeadUnused(Error),
}

/// A step of one connection, with its order lock held.
pub(crate) struct Txn<'m> {
    machine: &'m Arc<Machine>,
    order: MutexGuard<'m, Order>,
    effects: Effects,
    /// Messages that must come right after the one that is being made.
    trailing: Vec<wire::Message>,
    /// The file descriptors that came with the message that is being received. Those
    /// that no capability takes are closed after the transaction.
    arrived: wire::Attached,
}

/// The error with which a connection must end, and which the peer is told.
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
        let neighbour = offers.neighbour.take();
        let room = Room::new(
            settings.origin,
            settings.limits.questions as usize,
            usize::try_from(settings.limits.queued_bytes).unwrap_or(usize::MAX),
        );
        let budget = Budget::new(settings.limits.budget_bytes);
        let kept_provisions = Places::new(settings.limits.provisions as usize);
        let accepts = Places::new(settings.limits.accepts as usize);
        let may_provide = handoff::introducing::places_at_host(&settings.limits);
        Arc::new(Machine {
            settings,
            order: Mutex::new(Order {
                phase: Phase::Live,
                question_ids: IdPool::default(),
                export_ids: IdPool::default(),
                embargo_ids: IdPool::default(),
                exported: HashMap::default(),
                provided_fields: BTreeSet::new(),
                vines: 0,
                ability: Ability::default(),
                knows_joins: false,
                offers,
                held: Held::default(),
                next_serial: 0,
                pipelines: Pipelines::default(),
                new_calls: NewCalls::default(),
                taken: Arc::default(),
            }),
            questions: Table::new(),
            answers: Table::new(),
            exports: Table::new(),
            imports: Table::new(),
            embargoes: Table::new(),
            provides: Table::new(),
            may_provide,
            provisions: Table::new(),
            kept_provisions,
            accepts,
            releases: SegQueue::new(),
            room,
            load: Load::new(u64::MAX),
            in_hand: Counter::default(),
            budget,
            has_border: border.is_some(),
            may_pause: border.as_ref().is_some_and(|border| border.pauses()),
            neighbour,
            refused_handoffs: AtomicBool::new(false),
            refused_joins: AtomicBool::new(false),
            gatherings: Arc::default(),
            joins: Counter::default(),
            border: Mutex::new(border),
            outbox,
            idle: AtomicBool::new(false),
            running_calls: Shared::default(),
            said: Tally::default(),
            endings: Endings::default(),
            heard: Tally::default(),
            #[cfg(feature = "metrics")]
            traffic: Traffic::default(),
        })
    }

    /// Makes one step, then runs its effects.
    ///
    /// Must not be called under a lock.
    pub(crate) fn transact<R>(self: &Arc<Self>, step: impl FnOnce(&mut Txn<'_>) -> R) -> R {
        let scope = LockScope::enter(self.address());
        let order = self.order.lock();
        self.step(scope, order, step)
    }

    /// As [`transact`](Self::transact), but does nothing if another thread is making a
    /// step.
    fn try_transact<R>(self: &Arc<Self>, step: impl FnOnce(&mut Txn<'_>) -> R) -> Option<R> {
        // The lock is tried before the scope is entered, because this thread may be its
        // holder.
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
            effects: Effects::default(),
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

    /// The number of calls that are under way, in both directions together.
    pub(crate) fn calls_under_way(&self) -> usize {
        self.questions.len() + self.answers.len()
    }

    /// The number of calls of this side that are under way.
    pub(crate) fn questions_under_way(&self) -> usize {
        self.questions.len()
    }

    /// That of the calls that come over this connection.
    pub(crate) fn origin(&self) -> Origin {
        self.settings.origin
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// How long a call over the connection may take if nobody has said otherwise.
    pub(crate) fn call_timeout(&self) -> TimeLimit {
        self.settings.call_timeout
    }
}

impl Txn<'_> {
    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Queues a message for the peer, unless the connection has ended.
    fn send(&mut self, message: wire::Message) {
        if let Phase::Live | Phase::Idle = self.order.phase {
            tell!(TRACE, ?message, "send");
            self.machine.said.add_one();
            self.machine.room.queued(message.size_estimate());
            #[cfg(feature = "metrics")]
            self.machine.traffic.sent.fetch_add(message.size_estimate() as u64, Ordering::Relaxed);
            self.machine.outbox.push(message);
        }
    }

    /// Queues a message, and the messages that must come right after it.
    fn send_with_trailing(&mut self, message: wire::Message) {
        self.send(message);
        for message in std::mem::take(&mut self.trailing) {
            self.send(message);
        }
    }

    /// Ends the connection if the peer does not read what it asks for.
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

    /// Takes a part of the budget, or ends the connection: Note [budget].
    fn charge(&self, kind: Kind, bytes: u64) -> Result<Charge, Abort> {
        self.machine.budget.charge(kind, bytes).map_err(Abort)
    }

    fn serial(&mut self) -> Serial {
        self.order.next_serial += 1;
        Serial(self.order.next_serial)
    }

    /// The error with which every call fails, if the connection has ended.
    fn dead(&self) -> Option<Error> {
        match &self.order.phase {
            Phase::Live | Phase::Idle => None,
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
