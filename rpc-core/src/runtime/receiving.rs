//! The way into a connection: the receive thread and the coordinator.
//!
//! The *coordinator's* work is to make one transaction of each message, and then to run
//! the effects of that transaction. It never waits for other threads. While much is
//! under way, and at the end, the coordinator thread does this work, so that reading
//! and decoding go on beside it. While little is under way, the thread that reads works off
//! what it has read: it would only wait for the next message, and a wake-up is saved. That
//! is the receive thread here, where threads do not take turns at reading; where they do, see
//! `reading.rs`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::attendants::Summons;
use super::connection;
use super::sending::{FEW_CALLS, Sending};
use crate::cap::effects::Rest;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::limits::Limits;
use crate::panics;
use crate::protocol::{Machine, costs};
use crate::sync::Mutex;
use crate::transport::{MessageReader, Received, TransportError};
use crate::wire;
use crate::work::left;
use crate::work::role::{self, Pace};
use crate::work::waiting::{self, Waiters};
use crate::work::waking::Batch;

/// Maximum number of messages that are worked off before the messages to be sent in
/// response are written, and the threads that they concern are woken.
pub(super) const MAX_HELD: usize = 128;

pub(super) struct Receiving {
    /// To the coordinator, as long as the receive thread has the [`Entrance`]: whoever
    /// keeps an ended connection must not keep the queue.
    to_coordinator: flume::WeakSender<Incoming>,
    /// The number of messages that the coordinator thread has not worked off. Only the
    /// receive thread adds to it. So when the receive thread reads zero, nothing is
    /// before the message that it holds.
    behind: AtomicUsize,
    /// The size of these messages in bytes.
    bytes: AtomicUsize,
    most_bytes: usize,
    /// The receive thread, while these are too many.
    full: Mutex<Waiters>,
    /// Maximum number of capabilities that a message may name.
    most_named: usize,
    /// The connection has ended: the coordinator thread sees it off.
    ended: AtomicBool,
    /// Why the coordinator is to end the connection, if somebody else has found that.
    given_up: Mutex<Option<Error>>,
    /// Nothing more is taken in.
    refuses: AtomicBool,
    /// What calls the coordinator, if that is not a thread of its own.
    summons: OnceLock<Summons>,
}

/// Where the receive thread puts what it has read.
pub(super) struct Entrance(flume::Sender<Incoming>);

/// What the coordinator thread takes its work from.
pub(super) struct Inbox(flume::Receiver<Incoming>);

/// What the coordinator is told.
pub(super) enum Incoming {
    Message(wire::Message),
    /// The peer is idle.
    Idle,
    /// The peer said something that cannot be understood.
    Malformed(Error),
    /// The stream is over, regularly or not.
    End(Error),
    /// Look whether the connection has ended.
    Wake,
    /// Effects of earlier messages.
    Rest(Rest),
}

/// Whether the receive thread still reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    GoesOn,
    Over,
}

impl Receiving {
    pub(super) fn new(limits: &Limits) -> (Self, Entrance, Inbox) {
        let (to_coordinator, incoming) = flume::bounded(limits.received_messages as usize);
        let receiving = Receiving {
            to_coordinator: to_coordinator.downgrade(),
            behind: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            most_bytes: usize::try_from(limits.budget_bytes / 8).unwrap_or(usize::MAX),
            full: Mutex::default(),
            most_named: costs::most_named(limits.budget_bytes),
            ended: AtomicBool::new(false),
            given_up: Mutex::new(None),
            refuses: AtomicBool::new(false),
            summons: OnceLock::new(),
        };
        (receiving, Entrance(to_coordinator), Inbox(incoming))
    }

    /// Lets attendants do what the coordinator thread would do (Note [shared threads]).
    pub(super) fn share(&self, summons: Summons) {
        // Done once, before anything is passed on.
        let _ = self.summons.set(summons);
    }

    fn call_coordinator(&self) {
        if let Some(summons) = self.summons.get() {
            summons.call();
        }
    }

    /// Lets the coordinator end the connection: what that leads to of the application's must
    /// not run on this thread. Does not wait.
    pub(super) fn give_up(&self, error: Error) {
        *self.given_up.lock() = Some(error);
        self.wake_coordinator();
    }

    fn wake_coordinator(&self) {
        // When the queue is full the coordinator does not sleep, and looks.
        if let Some(to_coordinator) = self.to_coordinator.upgrade() {
            let _ = to_coordinator.try_send(Incoming::Wake);
        }
        self.call_coordinator();
    }

    /// The connection has ended. Does not wait.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake_coordinator();
        self.call_reader();
    }

    /// Takes nothing more in, and drops what waits. The receive thread, if it waits for
    /// room, goes on, and ends.
    pub(super) fn refuse(&self, inbox: &Inbox) {
        self.refuses.store(true, Ordering::SeqCst);
        drop(inbox.0.drain());
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// What the receive thread does, until the stream is over.
    pub(super) fn read(
        &self,
        mut reader: Box<dyn MessageReader>,
        entrance: &Entrance,
        machine: &Arc<Machine>,
        sending: &Sending,
    ) {
        let work = || self.read_all(&mut *reader, entrance, machine, sending);
        if connection::guarded("the receive thread", machine, work).is_err() {
            // Nobody has to wait for what was still to be read.
            let end = Incoming::End(Error::disconnected("the receive thread panicked"));
            self.pass_on(entrance, end);
        }
        let _ = panics::caught("the drop of a transport's reader", || drop(reader));
    }

    fn read_all(
        &self,
        reader: &mut dyn MessageReader,
        entrance: &Entrance,
        machine: &Arc<Machine>,
        sending: &Sending,
    ) {
        loop {
            left::write();
            let mut event = next(reader, self.most_named);
            if let Incoming::Message(message) = event {
                if machine.calls_under_way() <= FEW_CALLS
                    && !reader.has_buffered()
                    && self.behind.load(Ordering::SeqCst) == 0
                {
                    role::set_pace(Pace::Calm);
                    let _held = sending.hold(machine);
                    machine.receive(message);
                    continue;
                }
                event = Incoming::Message(message);
            }
            let last = event.is_last();
            if !self.pass_on(entrance, event) || last {
                return;
            }
        }
    }

    /// Waits for room in the queue. Returns whether the coordinator thread will take
    /// the event.
    pub(super) fn pass_on(&self, entrance: &Entrance, event: Incoming) -> bool {
        if self.bytes.load(Ordering::SeqCst) > self.most_bytes {
            waiting::park(
                &self.full,
                |waiters| waiters,
                Deadline::NEVER,
                |_, _| (self.has_room() || self.has_ended()).then_some(()),
            );
            // The thread may be in the middle of another wait (Note [reading in turns]),
            // and this one has taken for itself whatever unparked it.
            waiting::this_thread().unpark();
        }
        if self.refuses.load(Ordering::SeqCst) {
            return false;
        }
        self.bytes.fetch_add(event.size(), Ordering::SeqCst);
        self.behind.fetch_add(1, Ordering::SeqCst);
        // Waits while the queue is full, and whoever filled it has called the coordinator.
        let taken = entrance.0.send(event).is_ok();
        self.call_coordinator();
        taken
    }

    /// As [`pass_on`](Self::pass_on), for a thread that must not wait.
    ///
    /// # Errors
    /// There is no room in the queue. The event is handed back.
    pub(super) fn try_pass_on(&self, entrance: &Entrance, event: Incoming) -> Result<(), Incoming> {
        if self.bytes.load(Ordering::SeqCst) > self.most_bytes {
            return Err(event);
        }
        if self.refuses.load(Ordering::SeqCst) {
            return Ok(());
        }
        let bytes = event.size();
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.behind.fetch_add(1, Ordering::SeqCst);
        if let Err(flume::TrySendError::Full(event)) = entrance.0.try_send(event) {
            self.bytes.fetch_sub(bytes, Ordering::SeqCst);
            self.behind.fetch_sub(1, Ordering::SeqCst);
            return Err(event);
        }
        self.call_coordinator();
        Ok(())
    }

    /// Whether the coordinator thread has worked off all that it was given. That lasts as
    /// long as the caller, which has the right to read, passes nothing on.
    pub(super) fn has_caught_up(&self) -> bool {
        self.behind.load(Ordering::SeqCst) == 0
    }

    /// The next message or the end, if it is there.
    pub(super) fn next_now(&self, reader: &mut dyn MessageReader) -> Option<Incoming> {
        if let Some(found) = looked_at(reader) {
            return Some(found);
        }
        let read = panics::caught("a transport's reader", || reader.try_read_next());
        let read = match read {
            Ok(read) => read.transpose()?,
            Err(_) => return Some(Incoming::End(reader_panicked())),
        };
        Some(understood(read, self.most_named))
    }

    /// Whether a receive thread that had to wait goes on: half of the bytes are gone.
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) <= self.most_bytes / 2
    }

    /// Counts a message as worked off.
    fn worked_off(&self, bytes: usize) {
        let had_room = self.has_room();
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if !had_room && self.has_room() {
            self.call_reader();
        }
        self.behind.fetch_sub(1, Ordering::SeqCst);
    }

    fn call_reader(&self) {
        let called = self.full.lock().call_all();
        called.wake_now();
    }

    /// What the coordinator thread does, until the connection has ended. An attendant does
    /// not wait for more, and ends earlier.
    pub(super) fn coordinate(
        &self,
        inbox: &Inbox,
        waits: bool,
        machine: &Arc<Machine>,
        sending: &Sending,
    ) -> Input {
        let mut input = Input::GoesOn;
        while !self.has_ended() {
            let given_up = self.given_up.lock().take();
            if let Some(error) = given_up {
                machine.disconnect(error);
                break;
            }
            // What came last may have been passed on: Note [left to write].
            left::write();
            let first = if waits { inbox.0.recv().ok() } else { inbox.0.try_recv().ok() };
            // When the receive thread has gone, the last that it has sent was the end.
            let Some(first) = first else { break };
            role::set_pace(Pace::Busy);
            // The batch ends first: the threads that it has noted do something while this writes.
            let _held = sending.hold(machine);
            let _batch = Batch::begin();
            for event in std::iter::once(first).chain(inbox.0.try_iter()).take(MAX_HELD) {
                if event.is_last() {
                    input = Input::Over;
                }
                let bytes = event.size();
                match event {
                    Incoming::Message(message) => machine.receive(message),
                    Incoming::Rest(rest) => rest.run(),
                    Incoming::Idle => machine.peer_is_idle(),
                    Incoming::Malformed(error) => machine.abort(error),
                    Incoming::End(error) => {
                        machine.disconnect(sending.failure().unwrap_or(error));
                    }
                    Incoming::Wake => continue,
                }
                self.worked_off(bytes);
            }
        }
        input
    }
}

impl Inbox {
    /// Takes out what the coordinator thread has not taken. Returns how many events that were.
    #[cfg(test)]
    pub(super) fn drain(&self) -> usize {
        self.0.drain().count()
    }

    /// Reads on until the peer has ended its side, too, and ignores what arrives.
    ///
    /// Closing a socket that holds unread data resets the connection, and the peer
    /// loses what it has not read yet: perhaps the calls made before the end, perhaps
    /// the Abort that tells it why. And while its own writes block, a peer may never
    /// get to reading what this side still sends.
    pub(super) fn read_to_the_end(&self, deadline: Deadline) {
        loop {
            let next = match deadline.time() {
                Some(deadline) => self.0.recv_deadline(deadline).ok(),
                None => self.0.recv().ok(),
            };
            match next {
                // Others depend on what has happened before the end.
                Some(Incoming::Rest(rest)) => rest.run(),
                Some(event) if !event.is_last() => {}
                _ => return,
            }
        }
    }
}

impl Incoming {
    /// The memory that the event takes, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Incoming::Message(message) => message.size_estimate(),
            _ => 0,
        }
    }

    pub(super) fn is_last(&self) -> bool {
        match self {
            Incoming::Message(_) | Incoming::Idle | Incoming::Wake | Incoming::Rest(_) => false,
            Incoming::Malformed(_) | Incoming::End(_) => true,
        }
    }
}

/// The next message, if it can be read where it lies.
fn looked_at(reader: &mut dyn MessageReader) -> Option<Incoming> {
    let mut found = None;
    let looked = panics::caught("a transport's reader", || {
        reader.look_at_next(&mut |segment| {
            found = wire::decode_segment(segment);
            found.is_some()
        })
    });
    match looked {
        Ok(true) => found.map(Incoming::Message),
        Ok(false) => None,
        Err(_) => Some(Incoming::End(reader_panicked())),
    }
}

fn next(reader: &mut dyn MessageReader, most_named: usize) -> Incoming {
    let read = panics::caught("a transport's reader", || reader.read_next());
    let Ok(read) = read else { return Incoming::End(reader_panicked()) };
    understood(read, most_named)
}

fn reader_panicked() -> Error {
    Error::disconnected("the transport's reader panicked")
}

fn understood(read: Result<Received, TransportError>, most_named: usize) -> Incoming {
    match read {
        Ok(Received::Message(frame)) => match wire::decode_within(frame, most_named) {
            Ok(message) => Incoming::Message(message),
            Err(error) => Incoming::Malformed(error),
        },
        Ok(Received::Idle) => Incoming::Idle,
        Ok(Received::End) => Incoming::End(Error::disconnected("the peer closed the connection")),
        Err(error) if error.is_peer_fault() => {
            Incoming::Malformed(Error::failed(error.to_string()))
        }
        Err(error) => Incoming::End(Error::disconnected(error.to_string())),
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests;
