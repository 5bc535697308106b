//! The threads of a connection.
//!
//! ```text
//!  socket ──► receive thread ──► bounded queue ──► coordinator ──► mailboxes ──► workers
//!  socket ◄── send thread ◄── send queue ◄── coordinator, workers, application threads
//! ```
//!
//! - The *receive thread* reads and decodes what no other thread reads in its turn (Note
//!   [reading in turns]). It waits for input, and for room in its queue; for nothing else.
//! - The *coordinator* makes one transaction of each message, and then runs the effects
//!   of that transaction. It never waits for other threads. See `receiving.rs`.
//! - The *send thread* encodes and writes everything that is queued, in one go, as far
//!   as other threads have not written it in place. See `sending.rs`.
//!
//! Connections may share these threads, see `attendants.rs`.
//!
//! # The end
//!
//! The thread that notices the end empties the tables (Note [ending]) and tells the
//! coordinator, whose last task is to end the other two threads. For a bounded time, the
//! send thread writes what is queued and ends the stream, and the receive thread reads
//! until the peer has ended its own stream. Then the transport is shut down and both
//! threads are joined.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::threads::Threads;
use super::attendants::Attendants;
use super::common::Common;
use super::config::ConnConfig;
use super::exceptions::ExceptionEncoder;
use super::keepalive::Keepalive;
use super::receiving::Receiving;
use super::sending::Sending;
use super::snapshot::ConnectionSnapshot;
use super::steps::Steps;
use super::supervisor::Supervisor;
use crate::cap::calling::wait_for_room;
use crate::cap::client::Client;
use crate::cap::connection;
use crate::cap::effects;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::{Concurrency, LocalObject};
use crate::cap::payload::Payload;
use crate::deadline::{Deadline, TimeLimit};
use crate::error::{Error, Result};
use crate::kinds::gateway::Gateway;
use crate::kinds::interception::checkpoint::Checkpoint;
use crate::panics::{self, Panicked};
use crate::protocol::idle::Unused;
use crate::protocol::snapshot::{Exported, Snapshot};
use crate::protocol::table::Table;
use crate::protocol::{FlowSource, Machine, Offers, Outbox, Settings};
use crate::runtime::offer::{ObjectId, RestorerObject};
use crate::sync::Mutex;
use crate::transport::{FrameLimits, PeerDescription, Transport, TransportControl};
use crate::wire;
use crate::work::event::Event;
use crate::work::executor::Executor;
use crate::work::home::OwnThread;
use crate::work::origin::Introduction;
use crate::work::pool::Pool;
use crate::work::role::{self, Role};

/// How long a peer's question whether capabilities are the same may take.
const JOIN_PATIENCE: TimeLimit = Some(Duration::from_secs(30));

/// The connections of a vat that have not ended.
pub(super) type Registry = Table<u64, Arc<Shared>, crate::sync::Shared>;

/// A connection to another vat. Cloning gives another handle on the same
/// connection; when the last handle is dropped the connection is closed. So a handle has to
/// be kept, and the compiler warns where one is not:
///
/// ```compile_fail
/// # #![deny(unused_must_use)]
/// # use capnp_threads_core::{Connection, Result};
/// # fn offer(connect: impl Fn() -> Result<Connection>) -> Result<()> {
/// connect()?;
/// # Ok(())
/// # }
/// ```
///
/// ```
/// # #![deny(unused_must_use)]
/// # use capnp_threads_core::{Connection, Result};
/// # fn offer(connect: impl Fn() -> Result<Connection>) -> Result<()> {
/// let connection = connect()?;
/// connection.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "dropping the last handle on a connection closes it"]
pub struct Connection {
    handle: Arc<Handle>,
}

/// Closes the connection when the application drops its last handle.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What can be seen of a connection from outside.
pub(super) struct Seen {
    /// Whether the peer has sent anything.
    pub(super) heard: bool,
    /// A number that changes whenever something is sent or received.
    pub(super) activity: usize,
    /// Whether calls are under way, in either direction.
    pub(super) is_busy: bool,
}

/// A closure of this library that runs when a connection has ended.
type AtEnd = Box<dyn FnOnce() + Send>;

pub(super) struct Shared {
    number: u64,
    since: Instant,
    machine: Arc<Machine>,
    steps: Arc<Steps>,
    supervisor: Supervisor,
    peer: PeerDescription,
    /// Lets warnings name the peer.
    _introduction: Introduction,
    /// Present until the connection has ended.
    control: Mutex<Option<Arc<dyn TransportControl>>>,
    can_declare_idle: bool,
    close_timeout: Duration,
    /// Set when the connection is over and its threads are joined, all but the
    /// coordinator.
    closed: Event,
    coordinator: Mutex<Option<OwnThread<JoinHandle<()>>>>,
    /// What to do at the end; `None` once the connection has ended.
    at_end: Mutex<Option<Vec<AtEnd>>>,
}

impl Connection {
    /// The peer's bootstrap capability. Does not wait for the peer: the capability can
    /// be called at once, and fails every call if the peer offers none.
    pub fn bootstrap_client(&self) -> Client {
        self.shared().bootstrap(None)
    }

    /// As [`bootstrap_client`](Self::bootstrap_client), but waits for room no longer than
    /// `timeout`.
    ///
    /// # Errors
    /// The connection has ended, or there was no room in time: then the error [is a
    /// timeout](Error::is_timeout), and nothing was sent.
    pub fn bootstrap_client_timeout(&self, timeout: Duration) -> Result<Client> {
        self.shared().bootstrap_before(None, Deadline::after(timeout))
    }

    /// The capability that the peer offers under a name. Does not wait for the peer, as
    /// [`bootstrap_client`](Self::bootstrap_client) does not.
    pub fn restore_client(&self, object: impl Into<ObjectId>) -> Client {
        let object: ObjectId = object.into();
        self.shared().bootstrap(Some(object.payload().clone()))
    }

    /// As [`restore_client`](Self::restore_client), but waits for room no longer than
    /// `timeout`.
    ///
    /// # Errors
    /// As [`bootstrap_client_timeout`](Self::bootstrap_client_timeout).
    pub fn restore_client_timeout(
        &self,
        object: impl Into<ObjectId>,
        timeout: Duration,
    ) -> Result<Client> {
        let object: ObjectId = object.into();
        self.shared().bootstrap_before(Some(object.payload().clone()), Deadline::after(timeout))
    }

    /// The number by which the log and [`Vat::snapshot`](super::Vat::snapshot) know the
    /// connection. No other connection of this process has the same.
    pub fn id(&self) -> u64 {
        connection::Connection::number(&*self.shared().machine)
    }

    /// Who the peer is, as far as the transport knows.
    pub fn peer(&self) -> PeerDescription {
        self.shared().peer()
    }

    /// The supervisor of the threads that end with this connection.
    pub fn supervisor(&self) -> &Supervisor {
        &self.shared().supervisor
    }

    /// How much the connection holds right now.
    pub fn snapshot(&self) -> Snapshot {
        self.shared().machine.snapshot()
    }

    /// Changes how many words of the peer's calls may be under way, see
    /// [`ConnConfig::flow_limit`]. Calls that were held back and now fit into the limit
    /// are delivered before this returns. Does not wait.
    pub fn set_flow_limit(&self, words: u64) {
        self.note_flow_limit(words);
        self.apply_flow_limit();
    }

    /// The first half of [`set_flow_limit`](Self::set_flow_limit), for use under a
    /// lock.
    pub(super) fn note_flow_limit(&self, words: u64) {
        self.shared().machine.set_flow_limit(words);
    }

    /// The second half of [`set_flow_limit`](Self::set_flow_limit).
    pub(super) fn apply_flow_limit(&self) {
        self.shared().machine.release_held();
    }

    /// The capabilities of this side that the peer holds, to find out what keeps an
    /// object alive; [`Vat::export_named`](super::Vat::export_named) gives objects
    /// names to tell them apart by. While calls are under way, the list may be out of
    /// date when it is returned.
    pub fn exports(&self) -> Vec<Exported> {
        self.shared().machine.exported()
    }

    /// Checks that the connection's tables are sound.
    ///
    /// # Errors
    /// A description of what is not sound, which is a defect of this library.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.shared().machine.check()
    }

    /// Ends the connection: everything that waits for the peer fails with
    /// `disconnected`, the peer's calls are cancelled, and messages that are queued are
    /// still written, as far as the close timeout allows. Does not wait for the end.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Ends the connection as [`close`](Self::close) does, and tells the peer that it
    /// is at fault.
    pub fn abort(&self, error: Error) {
        self.shared().machine.abort(error);
    }

    /// Why the connection has ended; `None` while it has not.
    pub fn failure(&self) -> Option<Error> {
        self.shared().machine.failure()
    }

    /// Waits until the connection has ended and its threads are gone. Does not
    /// end it.
    ///
    /// # Errors
    /// This thread is one of those that would have to end first, or this process was forked
    /// from the one that has the threads.
    pub fn join(&self) -> Result<()> {
        self.shared().machine.room().home().check()?;
        effects::blocking(|| self.shared().join_before(Deadline::NEVER)).map(|_| ())
    }

    /// Waits as [`join`](Self::join) does, but no longer than `timeout`. Returns
    /// whether the connection has ended.
    ///
    /// # Errors
    /// This thread is one of those that would have to end first, or this process was forked
    /// from the one that has the threads.
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        self.shared().machine.room().home().check()?;
        let deadline = Deadline::after(timeout);
        effects::blocking(|| self.shared().join_before(deadline))
    }

    /// The peer's bootstrap capability; an error if the connection is unused and is
    /// about to end, or has ended.
    pub(super) fn try_bootstrap(&self) -> std::result::Result<Client, Unused> {
        self.shared().try_bootstrap(None)
    }

    /// Ends the connection if nothing is going on over it, or begins to end it: then
    /// it declares this side idle, see Note [idle]. Returns whether it did one of the two.
    pub(super) fn end_if_unused(&self) -> bool {
        self.shared().end_if_unused()
    }

    /// Waits until this side is no longer idle, or until `deadline`. Returns whether it
    /// is no longer idle.
    pub(super) fn wait_until_awake(&self, deadline: Deadline) -> bool {
        let Shared { machine, steps, .. } = self.shared();
        steps.wait(|| !machine.is_idle(), deadline)
    }

    /// A number that changes whenever something is sent or received.
    pub(super) fn activity(&self) -> usize {
        self.shared().machine.activity()
    }

    /// Runs a closure of this library when the connection has ended; at once if it has
    /// ended already.
    pub(super) fn on_end(&self, closure: AtEnd) {
        self.shared().on_end(closure);
    }

    /// A number that is greater than those of the vat's earlier connections.
    pub(super) fn number(&self) -> u64 {
        self.shared().number
    }

    /// Keeps the connection open until something other than the drop of its last handle
    /// ends it.
    pub(super) fn keep_until_end(&self) {
        let handle = self.clone();
        self.on_end(Box::new(move || drop(handle)));
    }

    /// The connection itself, without a handle that keeps it open.
    pub(super) fn inner(&self) -> Arc<Shared> {
        Arc::clone(&self.handle.0)
    }

    /// As [`inner`](Self::inner), without keeping what is left of a connection that has
    /// ended.
    pub(super) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.handle.0)
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }
}

impl IncomingCall {
    /// The connection over which the call came: to call the caller's bootstrap
    /// capability, or to end the connection. `None` where [`caller`](Self::caller) is,
    /// and when the application has dropped its last handle, so that the connection is
    /// ending.
    pub fn connection(&self) -> Option<Connection> {
        Connection::over(&*self.came_over()?)
    }
}

impl Connection {
    /// A handle on the connection over which a call came; `None` if the application has
    /// dropped its last one.
    pub(crate) fn over(connection: &dyn connection::Connection) -> Option<Connection> {
        Some(Connection { handle: connection.handle()?.downcast().ok()? })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer().address)
            .field("snapshot", &self.snapshot())
            .field("failure", &self.failure())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Waits for room where this thread may.
    fn bootstrap(&self, object: Option<Payload>) -> Client {
        self.try_bootstrap(object).unwrap_or_else(|_| Client::broken(closing()))
    }

    fn bootstrap_before(&self, object: Option<Payload>, deadline: Deadline) -> Result<Client> {
        let permit = wait_for_room(self.machine.room(), deadline)?;
        let client = self.machine.try_bootstrap(object, Ok(permit)).map_err(|_| closing())?;
        match client.failure() {
            Some(error) => Err(error),
            None => Ok(client),
        }
    }

    fn try_bootstrap(&self, object: Option<Payload>) -> std::result::Result<Client, Unused> {
        let deadline = self.machine.call_timeout().map_or(Deadline::NEVER, Deadline::after);
        let permit = wait_for_room(self.machine.room(), deadline);
        self.machine.try_bootstrap(object, permit)
    }

    /// The connection as the protocol sees it.
    pub(super) fn machine(&self) -> Arc<Machine> {
        Arc::clone(&self.machine)
    }

    /// See [`Connection::end_if_unused`].
    pub(super) fn end_if_unused(&self) -> bool {
        if self.can_declare_idle {
            self.machine.declare_idle()
        } else {
            self.machine.end_if_unused()
        }
    }

    /// See [`Vat::snapshot`](super::Vat::snapshot).
    pub(super) fn look_at(&self) -> ConnectionSnapshot {
        ConnectionSnapshot {
            id: connection::Connection::number(&*self.machine),
            peer: self.peer(),
            age: self.since.elapsed(),
            tables: self.machine.snapshot(),
            exports: self.machine.exported(),
        }
    }

    /// Who the peer is, as far as the transport knows.
    pub(super) fn peer(&self) -> PeerDescription {
        self.peer.clone()
    }

    /// Refuses the calls that the peer makes from now on: Note [draining].
    pub(super) fn refuse_new_calls(&self) {
        self.machine.drain();
    }

    /// Waits until every call that was accepted is answered, or until `deadline`. Returns
    /// whether all are. The answer stays true only if new calls are refused.
    pub(super) fn wait_until_answered(&self, deadline: Deadline) -> bool {
        self.steps.wait(|| self.machine.owes_nothing(), deadline)
    }

    /// Ends the connection and tells the peer that this vat is about to end.
    pub(super) fn end_drained(&self) {
        let reason = "the server is shutting down; try another server";
        self.machine.abort_unlogged(Error::disconnected(reason));
    }

    /// How long the end of the connection may take.
    pub(super) fn close_timeout(&self) -> Duration {
        self.close_timeout
    }

    /// What the peer has done so far.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            heard: self.machine.has_heard(),
            activity: self.machine.activity(),
            is_busy: self.machine.calls_under_way() > 0,
        }
    }

    /// Ends the connection and tells the peer why, but not the log.
    pub(super) fn abort_unlogged(&self, error: Error) {
        self.machine.abort_unlogged(error);
    }

    pub(super) fn close(&self) {
        self.machine.disconnect(Error::disconnected("the connection was closed by this side"));
    }

    fn on_end(&self, closure: AtEnd) {
        let mut at_end = self.at_end.lock();
        if let Some(closures) = &mut *at_end {
            closures.push(closure);
        } else {
            drop(at_end);
            closure();
        }
    }

    /// Waits until a connection that has ended is closed, which takes no longer than its
    /// close timeout. Threads that it supervises may go on.
    pub(super) fn wait_until_closed(&self) {
        self.closed.park(Deadline::NEVER);
    }

    pub(super) fn join_before(&self, deadline: Deadline) -> bool {
        if !self.closed.park(deadline) {
            return false;
        }
        if !self.supervisor.join(deadline) {
            return false;
        }
        let coordinator = self.coordinator.lock().take();
        if let Some(coordinator) = coordinator.and_then(OwnThread::take) {
            // The coordinator has nothing left to do. A panic of its thread must not
            // become a panic of this one.
            let _ = coordinator.join();
        }
        true
    }
}

/// The error of a connection that this side is about to close because it is unused.
fn closing() -> Error {
    Error::disconnected("the connection is not used and is being closed; make a new one")
}

/// The way out as the machine sees it. It is also told of the connection's end.
struct Outlet {
    /// Set before the threads run. The reference is weak: the connection ends when the
    /// application drops its last one.
    handle: Arc<OnceLock<Weak<Handle>>>,
    steps: Arc<Steps>,
    sending: Arc<Sending>,
    receiving: Arc<Receiving>,
    supervisor: Supervisor,
}

impl Outbox for Outlet {
    fn push(&self, message: wire::Message) {
        self.sending.push(message);
    }

    fn push_idle(&self) {
        self.sending.push_idle();
    }

    fn wake(&self, machine: &Machine) {
        self.steps.made();
        self.sending.wake(machine);
    }

    fn handle(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.handle.get()?.upgrade()? as _)
    }

    fn disconnected(&self) {
        self.sending.end();
        self.supervisor.stop();
        self.receiving.end();
    }
}

/// Starts a connection. `attendants` are those with which other connections are shared;
/// without them the connection has threads of its own.
pub(super) fn start(
    transport: Transport,
    config: ConnConfig,
    pool: &Arc<Pool>,
    attendants: Option<&Arc<Attendants>>,
    registry: &Arc<Registry>,
    number: u64,
    name: String,
) -> Result<Connection> {
    let Transport { mut reader, writer, control } = transport;
    let ConnConfig { common, bootstrap, action, neighbour } = config;
    let Common {
        limits,
        detail,
        trace_encoder,
        restorer,
        gateway,
        close_timeout,
        call_timeout,
        keepalive,
        spin,
        flow,
        flow_limit,
        interceptors,
    } = common;
    let exceptions = ExceptionEncoder::new(detail, trace_encoder, &limits);
    // The reference is weak: otherwise clients that outlive the connection would keep
    // its socket open.
    let buffer = Arc::downgrade(&control);
    let flow = FlowSource {
        control: flow,
        transport: Some(Arc::new(move || buffer.upgrade()?.send_buffer())),
    };
    let frame_limits = FrameLimits {
        max_words: limits.message_words,
        max_segments: limits.message_segments,
        max_fds: limits.message_fds_received,
        max_open_fds: limits.open_fds,
    };
    let asked = panics::catch(|| {
        reader.set_limits(frame_limits);
        (writer.max_fds(), writer.can_declare_idle(), control.peer())
    });
    let (max_fds, can_declare_idle, peer) = asked.map_err(|panicked| {
        Error::failed("the transport panicked").with_internal(panicked.message)
    })?;
    let fds = max_fds.min(limits.message_fds_sent as usize).min(wire::MAX_FDS);
    let supervisor = Supervisor::new();
    let peer_now = peer.clone();
    let offered = panics::catch(|| bootstrap.and_then(|make| make(&supervisor, &peer)));
    let offers = Offers {
        neighbour,
        bootstrap: offered.map_err(|panicked| {
            Error::failed("the bootstrap factory panicked").with_internal(panicked.message)
        })?,
        restorer: restorer.map(|restorer| {
            let object = Arc::new(RestorerObject { restorer, peer });
            let executor = Arc::clone(pool) as Arc<dyn Executor>;
            Client::of(LocalObject::new(object, Concurrency::Concurrent, executor))
        }),
        border: Checkpoint::border(
            &interceptors,
            gateway.map(|gateway| Gateway::new(gateway) as _),
        ),
    };
    let sending = Arc::new(Sending::new(writer, Arc::clone(&control), exceptions));
    let (receiving, entrance, inbox) = Receiving::new(&limits);
    let receiving = Arc::new(receiving);
    let steps = Arc::new(Steps::default());
    let handle = Arc::new(OnceLock::new());
    let outlet = Outlet {
        handle: Arc::clone(&handle),
        steps: Arc::clone(&steps),
        sending: Arc::clone(&sending),
        receiving: Arc::clone(&receiving),
        supervisor: supervisor.clone(),
    };
    let introduction = Introduction::of(&peer_now);
    let origin = introduction.origin();
    let peer = peer_now.clone();
    let settings =
        Settings { call_timeout, limits, join_patience: JOIN_PATIENCE, flow, fds, origin, peer };
    let machine = Machine::new(settings, offers, Arc::new(outlet));
    machine.set_flow_limit(flow_limit);

    let shared = Arc::new(Shared {
        number,
        since: Instant::now(),
        machine: Arc::clone(&machine),
        steps,
        supervisor: supervisor.clone(),
        peer: peer_now,
        _introduction: introduction,
        control: Mutex::new(Some(Arc::clone(&control))),
        can_declare_idle,
        close_timeout,
        closed: Event::default(),
        coordinator: Mutex::new(None),
        at_end: Mutex::new(Some(Vec::new())),
    });

    // From here on, dropping `connection` ends the connection, whatever goes wrong.
    let connection = Connection { handle: Arc::new(Handle(Arc::clone(&shared))) };
    // It was made just now, so it is not set yet.
    let _ = handle.set(Arc::downgrade(&connection.handle));

    let coordinating = Arc::downgrade(&receiving);
    let threads = Threads {
        shared: Arc::clone(&shared),
        reader,
        entrance,
        spin,
        sending,
        receiving,
        inbox,
        control,
        pool: Arc::downgrade(pool),
        registry: Arc::clone(registry),
    };
    match attendants {
        Some(attendants) => threads.start_shared(attendants, &name)?,
        None => threads.start_own(&name)?,
    }

    if let Some(interval) = keepalive {
        let keepalive = Keepalive::begin(&machine, interval, move |error| {
            if let Some(coordinating) = coordinating.upgrade() {
                coordinating.give_up(error);
            }
        });
        connection.on_end(Box::new(move || drop(keepalive)));
    }

    if let Some(action) = action {
        let closing = CloseAfter(Arc::downgrade(&shared));
        let (work, bootstrapping) = (supervisor.clone(), Arc::clone(&shared));
        supervisor.spawn(format!("{name}-action"), move |_| {
            let _closing = closing;
            let bootstrap = bootstrapping.bootstrap(None);
            drop(bootstrapping);
            action(&work, bootstrap);
        })?;
    }
    Ok(connection)
}

/// Closes a connection when its action returns, or panics.
struct CloseAfter(Weak<Shared>);

impl Drop for CloseAfter {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.close();
        }
    }
}

/// Runs the work of one of a connection's threads. If it panics, the connection ends with
/// a reason, because nothing does the thread's work any more.
///
/// # Errors
/// The work panicked.
pub(super) fn guarded<R>(
    thread: &str,
    machine: &Arc<Machine>,
    work: impl FnOnce() -> R,
) -> std::result::Result<R, Panicked> {
    panics::caught(thread, work).inspect_err(|panicked| {
        let error = Error::disconnected(format!("{thread} of the connection panicked"))
            .with_internal(panicked.message.clone());
        let _ = panics::caught("the end of a connection", || machine.disconnect(error));
    })
}

/// Shuts a transport down. Its control is a plug-in.
pub(super) fn shut_down_transport(control: &dyn TransportControl) {
    let _ = panics::caught("a transport's shutdown", || control.shutdown());
}

pub(super) fn spawn(
    name: String,
    role: Role,
    work: impl FnOnce() + Send + 'static,
) -> Result<OwnThread<JoinHandle<()>>> {
    let in_role = move || {
        role::assume(role);
        work();
    };
    let started = std::thread::Builder::new().name(name).spawn(in_role);
    started.map(OwnThread::new).map_err(|error| {
        Error::overloaded(format!("no thread could be started for a connection: {error}"))
    })
}

mod threads;

#[cfg(all(test, not(rpc_model)))]
mod tests;
