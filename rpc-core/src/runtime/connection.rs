//! The threads of a connection.
//!
//! ```text
//!  socket ──► receive thread ──► bounded queue ──► coordinator ──► mailboxes ──► workers
//!  socket ◄── send thread ◄── send queue ◄── coordinator, workers, application threads
//! ```
//!
//! - The *receive thread* reads and decodes. It waits for input, and for room in
//!   its queue; nothing else.
//! - The *coordinator* makes one transaction of each message, and then does what
//!   that left to be done. It never waits for anybody.
//! - The *send thread* encodes and writes everything that is queued at once.
//!
//! # The end
//!
//! Whoever notices the end empties the tables (Note [ending]) and thereby tells
//! the coordinator, whose last work it is to see the others off: for a bounded
//! time the send thread writes what is queued and ends the stream, and the receive
//! thread reads until the peer has ended its own; then the transport is shut down
//! and both are joined.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::config::ConnConfig;
use super::pool::Pool;
use super::queue::SendQueue;
use super::role::{self, Role};
use super::supervisor::Supervisor;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::message::Message as Frame;
use crate::protocol::{FlowSource, Machine, Outbox, Settings, Snapshot, Unused};
use crate::transport::{
    FrameLimits, MessageReader, MessageWriter, PeerDescription, Received, Transport,
    TransportControl, TransportError,
};
use crate::watch::Event;
use crate::wire;

/// How many messages are written with one call at the most.
const MAX_BATCH: usize = 512;

/// The connections of a vat that have not ended.
pub(super) type Registry = DashMap<u64, Arc<Shared>>;

/// A connection to another vat. Cloning gives another handle on the same
/// connection; when the last handle is dropped the connection is closed.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

/// Closes the connection when the application has lost sight of it.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Part of this library that wants to know when a connection has ended.
type AtEnd = Box<dyn FnOnce() + Send>;

pub(super) struct Shared {
    number: u64,
    machine: Arc<Machine>,
    supervisor: Supervisor,
    control: Arc<dyn TransportControl>,
    can_rest: bool,
    /// Everything is over and joined, but for the coordinator itself.
    closed: Event,
    coordinator: Mutex<Option<JoinHandle<()>>>,
    /// What to do at the end; absent after it.
    at_end: Mutex<Option<Vec<AtEnd>>>,
}

impl Connection {
    /// The peer's bootstrap capability, without waiting for it: it can be called
    /// at once. Fails every call if the peer offers none.
    pub fn bootstrap_client(&self) -> Client {
        self.shared().machine.bootstrap()
    }

    /// Who the peer is, as far as the transport knows.
    pub fn peer(&self) -> PeerDescription {
        self.shared().control.peer()
    }

    /// Work that is bound to this connection's life.
    pub fn supervisor(&self) -> &Supervisor {
        &self.shared().supervisor
    }

    /// How much the connection holds right now.
    pub fn snapshot(&self) -> Snapshot {
        self.shared().machine.snapshot()
    }

    /// Checks that the connection's tables are sound.
    ///
    /// # Errors
    /// Says what is not. That is a defect of this library.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.shared().machine.check()
    }

    /// Ends the connection: whatever waits for the peer fails with
    /// `disconnected`, the peer's calls are cancelled, what is queued is still
    /// written, as far as the close timeout allows. Does not wait for that.
    pub fn close(&self) {
        self.shared().close();
    }

    /// As [`close`](Self::close), telling the peer that it is at fault.
    pub fn abort(&self, error: Error) {
        self.shared().machine.abort(error);
    }

    /// Why the connection has ended, once it has.
    pub fn failure(&self) -> Option<Error> {
        self.shared().machine.failure()
    }

    /// Waits until the connection has ended and its threads are gone. Does not
    /// end it.
    ///
    /// # Errors
    /// This thread is one of those that would have to end first.
    pub fn join(&self) -> Result<()> {
        role::blocking(|| self.shared().join_before(None)).map(|_| ())
    }

    /// As [`join`](Self::join), no longer than `timeout`. Returns whether the
    /// connection has ended.
    ///
    /// # Errors
    /// This thread is one of those that would have to end first.
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now().checked_add(timeout);
        role::blocking(|| self.shared().join_before(deadline))
    }

    /// The peer's bootstrap capability, or nothing if nobody uses the connection
    /// and it is about to end, or has.
    pub(super) fn try_bootstrap(&self) -> std::result::Result<Client, Unused> {
        self.shared().machine.try_bootstrap()
    }

    /// Ends the connection if nothing is going on over it, or begins to: then this
    /// side rests, see Note [rest]. Returns whether it does either.
    pub(super) fn end_if_unused(&self) -> bool {
        let Shared { machine, can_rest, .. } = self.shared();
        if *can_rest { machine.rest() } else { machine.end_if_unused() }
    }

    /// Waits until this side does not rest any more, but no longer than until
    /// `deadline`. Returns whether that is so.
    pub(super) fn wait_until_awake(&self, deadline: Option<Instant>) -> bool {
        self.shared().machine.wait_until_awake(deadline)
    }

    /// Differs after something was sent or received.
    pub(super) fn activity(&self) -> usize {
        self.shared().machine.activity()
    }

    /// Waits until no call of the peer's is outstanding, but no longer than until
    /// `deadline`. Returns whether there is none. More may come at any moment.
    pub(super) fn wait_until_quiet(&self, deadline: Option<Instant>) -> bool {
        self.shared().machine.wait_until_quiet(deadline)
    }

    /// Runs a closure of this library's when the connection has ended, at once if
    /// it has.
    pub(super) fn on_end(&self, closure: AtEnd) {
        self.shared().on_end(closure);
    }

    /// Greater than those of the connections of its vat that began before it.
    pub(super) fn number(&self) -> u64 {
        self.shared().number
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
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

    pub(super) fn join_before(&self, deadline: Option<Instant>) -> bool {
        if !self.closed.wait(deadline) {
            return false;
        }
        if !self.supervisor.join(deadline) {
            return false;
        }
        let coordinator = self.coordinator.lock().take();
        if let Some(coordinator) = coordinator {
            // It has nothing left to do, and its panics would be ours.
            let _ = coordinator.join();
        }
        true
    }
}

/// What the send thread is told.
enum Outgoing {
    Message(wire::Message),
    /// This side rests.
    Rest,
    /// Nothing comes after this.
    End,
}

/// What the coordinator is told.
enum Incoming {
    Message(wire::Message),
    /// The peer rests.
    Rest,
    /// The peer said something that cannot be understood.
    Malformed(Error),
    /// The stream is over, regularly or not.
    End(Error),
    /// Look whether the connection has ended.
    Wake,
}

/// The send queue, as the machine sees it.
struct Queue {
    outgoing: Arc<SendQueue<Outgoing>>,
    coordinator: flume::Sender<Incoming>,
    ended: AtomicBool,
    supervisor: Supervisor,
}

impl Outbox for Queue {
    fn push(&self, message: wire::Message) {
        self.outgoing.push(Outgoing::Message(message));
    }

    fn push_rest(&self) {
        self.outgoing.push(Outgoing::Rest);
    }

    fn wake(&self) {
        self.outgoing.wake();
    }

    fn disconnected(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.outgoing.push(Outgoing::End);
        self.outgoing.wake();
        self.supervisor.stop();
        // When the queue is full the coordinator does not sleep, and looks.
        let _ = self.coordinator.try_send(Incoming::Wake);
    }
}

pub(super) fn start(
    transport: Transport,
    config: ConnConfig,
    pool: &Arc<Pool>,
    registry: &Arc<Registry>,
    number: u64,
    name: String,
) -> Result<Connection> {
    let Transport { mut reader, writer, control } = transport;
    let ConnConfig { limits, detail, bootstrap, action, close_timeout, flow } = config;
    // Weak, or clients that outlive the connection would keep its socket open.
    let buffer = Arc::downgrade(&control);
    let flow = FlowSource {
        control: flow,
        transport: Some(Arc::new(move || buffer.upgrade()?.send_buffer())),
    };
    reader.set_limits(FrameLimits {
        max_words: limits.message_words,
        max_segments: limits.message_segments,
        max_fds: limits.message_fds_received,
        max_open_fds: limits.open_fds,
    });
    let fds = writer.max_fds().min(limits.message_fds_sent as usize).min(wire::MAX_FDS);
    let supervisor = Supervisor::new();
    let bootstrap = bootstrap.and_then(|make| make(&supervisor));
    let outgoing = Arc::new(SendQueue::new());
    let (received, incoming) = flume::bounded(limits.received_messages.max(1) as usize);
    let queue = Arc::new(Queue {
        outgoing: Arc::clone(&outgoing),
        coordinator: received.clone(),
        ended: AtomicBool::new(false),
        supervisor: supervisor.clone(),
    });
    let machine = Machine::new(
        Settings { limits, detail, flow, fds },
        bootstrap,
        Arc::clone(&queue) as Arc<dyn Outbox>,
    );
    let sent = Arc::new(Event::default());

    let shared = Arc::new(Shared {
        number,
        machine: Arc::clone(&machine),
        supervisor: supervisor.clone(),
        control: Arc::clone(&control),
        can_rest: writer.can_rest(),
        closed: Event::default(),
        coordinator: Mutex::new(None),
        at_end: Mutex::new(Some(Vec::new())),
    });

    // All three serve the connection. What a broken stream leaves to be done is
    // done by the send thread, and must not wait there either.
    let role = Role::Coordinator(Arc::downgrade(pool));
    let sender = Sender {
        machine: Arc::clone(&machine),
        queue: outgoing,
        writer,
        control: Arc::clone(&control),
        done: Arc::clone(&sent),
    };
    let send_thread = spawn(format!("{name}-send"), role.clone(), move || sender.run())?;
    let receive_thread = match spawn(format!("{name}-receive"), role.clone(), move || {
        receive(reader, &received);
    }) {
        Ok(thread) => thread,
        Err(error) => {
            // The send thread goes with the machine.
            machine.disconnect(error.clone());
            return Err(error);
        }
    };
    let coordinator = Coordinator {
        shared: Arc::clone(&shared),
        queue,
        incoming,
        threads: [send_thread, receive_thread],
        sent,
        close_timeout,
        registry: Arc::clone(registry),
        number,
    };
    registry.insert(number, Arc::clone(&shared));
    match spawn(format!("{name}-coordinator"), role, move || coordinator.run()) {
        Ok(thread) => *shared.coordinator.lock() = Some(thread),
        Err(error) => {
            registry.remove(&number);
            machine.disconnect(error.clone());
            control.shutdown();
            return Err(error);
        }
    }

    // From here on, whatever goes wrong, dropping this ends the connection.
    let connection = Connection { handle: Arc::new(Handle(Arc::clone(&shared))) };
    if let Some(action) = action {
        let closing = CloseAfter(Arc::downgrade(&shared));
        let work = supervisor.clone();
        supervisor.spawn(format!("{name}-action"), move |_| {
            let _closing = closing;
            let bootstrap = machine.bootstrap();
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

fn spawn(name: String, role: Role, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let in_role = move || {
        role::assume(role);
        work();
    };
    std::thread::Builder::new().name(name).spawn(in_role).map_err(|error| {
        Error::overloaded(format!("no thread could be started for a connection: {error}"))
    })
}

/// The receive thread.
fn receive(mut reader: Box<dyn MessageReader>, coordinator: &flume::Sender<Incoming>) {
    loop {
        let (event, more) = match reader.read_next() {
            Ok(Received::Message(frame)) => match wire::decode(frame) {
                Ok(message) => (Incoming::Message(message), true),
                Err(error) => (Incoming::Malformed(error), false),
            },
            Ok(Received::Rest) => (Incoming::Rest, true),
            Ok(Received::End) => {
                (Incoming::End(Error::disconnected("the peer closed the connection")), false)
            }
            Err(error) if error.is_peer_fault() => {
                (Incoming::Malformed(Error::failed(error.to_string())), false)
            }
            Err(error) => (Incoming::End(Error::disconnected(error.to_string())), false),
        };
        if coordinator.send(event).is_err() || !more {
            return;
        }
    }
}

/// What follows a batch of messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Messages,
    Rest,
    End,
}

/// The send thread.
struct Sender {
    machine: Arc<Machine>,
    queue: Arc<SendQueue<Outgoing>>,
    writer: Box<dyn MessageWriter>,
    control: Arc<dyn TransportControl>,
    done: Arc<Event>,
}

impl Sender {
    fn run(mut self) {
        let mut batch: Vec<Frame> = Vec::new();
        let mut taken = VecDeque::new();
        let mut broken = None;
        loop {
            if taken.is_empty() {
                self.queue.take(&mut taken);
            }
            let mut bytes = 0;
            let next = self.collect(&mut taken, &mut batch, &mut bytes);
            if broken.is_none()
                && !batch.is_empty()
                && let Err(error) = self.writer.write(&mut batch)
            {
                self.fail(&error);
                broken = Some(error);
            }
            batch.clear();
            self.machine.room().sent(bytes);
            match next {
                Next::Messages => {}
                Next::Rest => {
                    if broken.is_none()
                        && let Err(error) = self.writer.rest()
                    {
                        self.fail(&error);
                        broken = Some(error);
                    }
                }
                Next::End => break,
            }
        }
        if broken.is_none()
            && let Err(error) = self.writer.finish()
        {
            tracing::debug!(%error, "the peer was gone before the end of the stream");
        }
        self.done.set();
    }

    /// Encodes what was taken, as far as it fits into one batch. Returns what comes
    /// behind that.
    fn collect(
        &self,
        taken: &mut VecDeque<Outgoing>,
        batch: &mut Vec<Frame>,
        bytes: &mut usize,
    ) -> Next {
        while batch.len() < MAX_BATCH
            && let Some(outgoing) = taken.pop_front()
        {
            let message = match outgoing {
                Outgoing::Message(message) => message,
                Outgoing::Rest => return Next::Rest,
                Outgoing::End => return Next::End,
            };
            *bytes += message.size_estimate();
            match wire::encode(message) {
                Ok(frame) => batch.push(frame),
                // Content is made sure of before it is queued.
                Err(error) => self.machine.abort(error.with_internal("encoding failed")),
            }
        }
        Next::Messages
    }

    fn fail(&self, error: &TransportError) {
        tracing::debug!(%error, "writing failed");
        self.machine.disconnect(Error::disconnected(error.to_string()));
        self.control.shutdown();
    }
}

/// Whether the receive thread still reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    GoesOn,
    Over,
}

/// The coordinator thread.
struct Coordinator {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    incoming: flume::Receiver<Incoming>,
    threads: [JoinHandle<()>; 2],
    sent: Arc<Event>,
    close_timeout: Duration,
    registry: Arc<Registry>,
    number: u64,
}

impl Coordinator {
    fn run(self) {
        let machine = &self.shared.machine;
        let mut reading = Reading::GoesOn;
        while !self.queue.ended.load(Ordering::SeqCst) {
            match self.incoming.recv() {
                Ok(Incoming::Message(message)) => machine.receive(message),
                Ok(Incoming::Rest) => machine.peer_rests(),
                Ok(Incoming::Malformed(error)) => {
                    reading = Reading::Over;
                    machine.abort(error);
                }
                Ok(Incoming::End(error)) => {
                    reading = Reading::Over;
                    machine.disconnect(error);
                }
                Ok(Incoming::Wake) => {}
                Err(_) => machine.disconnect(Error::disconnected("the receive thread is gone")),
            }
        }
        self.see_off(reading);
    }

    /// Reads on until the peer has ended its side, too, and forgets what it says.
    ///
    /// A socket that is closed with something unread in it resets the connection,
    /// and the peer loses what it has not read yet: perhaps the calls that were
    /// made before the end, perhaps the Abort that tells it why. And a peer that is
    /// not read from may not come to reading what we still send.
    fn read_to_the_end(&self, deadline: Option<Instant>) {
        loop {
            let next = match deadline {
                Some(deadline) => self.incoming.recv_deadline(deadline).ok(),
                None => self.incoming.recv().ok(),
            };
            match next {
                Some(Incoming::Message(_) | Incoming::Rest | Incoming::Wake) => {}
                Some(Incoming::Malformed(_) | Incoming::End(_)) | None => return,
            }
        }
    }

    fn see_off(self, reading: Reading) {
        let deadline = Instant::now().checked_add(self.close_timeout);
        if reading == Reading::GoesOn {
            self.read_to_the_end(deadline);
        }
        // Nobody may be held up by a queue that is not read any more.
        drop(self.incoming);
        if !self.sent.wait(deadline) {
            tracing::debug!("the peer does not read: closing without the rest");
        }
        self.shared.control.shutdown();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of a connection panicked");
            }
        }
        self.registry.remove(&self.number);
        let at_end = self.shared.at_end.lock().take();
        for closure in at_end.into_iter().flatten() {
            closure();
        }
        self.shared.closed.set();
    }
}
