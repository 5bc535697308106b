//! The way out of a connection: the send queue and the threads that write.
//!
//! Note [in place]
//!
//! The send thread is the resident of the queue's turn (Note [turns]). A thread that
//! has queued a message and is about to wait, for an answer or for its next job, writes
//! the message itself: that saves a wake-up and costs the thread nothing. Such a thread
//! never waits for the transport: what the transport does not take at once is left to
//! the send thread.
//!
//! A thread that goes on to queue more writes all of it together, when it is about to wait
//! or when much waits to be written (Note [left to write]). It is not known beforehand what
//! a thread will do. So a thread writes in place once, and again only after it has waited or
//! taken up another job: see [`Pace`](crate::work::role::Pace). While several calls are
//! under way there always is more to come from a thread that makes calls, and it leaves the
//! first one, too; a worker behind whose job no other waits writes what it and others have
//! left. Long messages are worth a system call of their own in any case. Threads that serve
//! a connection know what is to come: they hold everything back until they have worked off
//! what had arrived, and then write it.
//!
//! Nothing is left where connections share their threads, since no thread watches then: what
//! is not written in place goes to an attendant at once.
//!
//! An error is put into words by the application's trace encoder, if it has set one. That runs on
//! the send thread or on an attendant only: a thread that writes in place may be one that waits,
//! and hold a lock that the encoder takes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock, Weak};

use super::attendants::Summons;
use super::connection;
use super::exceptions::{ExceptionEncoder, Place};
use super::turns::{KEPT, Turn, TurnQueue, Watched};
use crate::error::Error;
use crate::log::tell;
use crate::memory::GiveBack;
use crate::panics;
use crate::protocol::Machine;
use crate::sync::{Level, Mutex};
use crate::transport::{MessageWriter, TransportControl, TransportError};
use crate::wire;
use crate::wire::message::Message as Frame;
use crate::work::event::Event;
use crate::work::left::{self, Leavings};
use crate::work::role;
use crate::work::room::Room;

/// Maximum number of messages that are written with one call.
const MAX_BATCH: usize = 512;

/// Maximum number of calls under way, in both directions, with which working on several
/// at once gains nothing.
pub(super) const FEW_CALLS: usize = 4;

/// Greatest number of messages that are written without waiting for more.
const MUCH: usize = 32;

/// Least number of them.
const LITTLE: usize = 8;

/// Minimum number of bytes with which writing them together with others saves nothing.
const LARGE: usize = 16 << 10;

pub(super) struct Sending {
    queue: TurnQueue<Outgoing, Box<Writing>>,
    /// Present until the connection has ended.
    control: Mutex<Option<Arc<dyn TransportControl>>>,
    /// The error that ended writing, if one did.
    failure: Mutex<Option<Error>>,
    /// Set when nothing more will be written.
    done: Event,
    /// Present once there is a resident.
    leaving: OnceLock<Leaving>,
    /// The bytes that were written. Set by whoever has the turn; wraps around.
    written: Level,
}

/// The right to write.
type WriteTurn<'q> = Turn<'q, Outgoing, Box<Writing>>;

/// What a thread needs that leaves messages (Note [left to write]), or holds them back.
struct Leaving {
    here: Weak<dyn Leavings>,
    room: Arc<Room>,
    resident: Resident,
}

/// Who writes what nobody else writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resident {
    /// The send thread, which watches what is left.
    Thread,
    /// Attendants, who have to be called.
    Attendants,
}

enum Outgoing {
    Message(wire::Message),
    /// This side is idle.
    Idle,
    /// Nothing comes after this.
    End,
}

struct Writing {
    writer: Box<dyn MessageWriter>,
    exceptions: ExceptionEncoder,
    /// Encoded messages. A message that is half written is with the writer.
    batch: Vec<Frame>,
    /// The size for which the batch was counted, including what the writer has of it.
    bytes: usize,
    next: Next,
    integrity: Integrity,
    /// The error of a message that could not be encoded; the peer will be told.
    unencodable: Option<Error>,
    /// Whether the writer has panicked in place; the send thread tells so.
    panicked: Panicked,
}

/// What comes behind the batch.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Messages,
    Idle,
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Panicked {
    No,
    Yes,
}

/// What a write that failed has left of the stream of messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Integrity {
    Whole,
    Broken,
}

impl Sending {
    pub(super) fn new(
        writer: Box<dyn MessageWriter>,
        control: Arc<dyn TransportControl>,
        exceptions: ExceptionEncoder,
    ) -> Self {
        let writing = Writing {
            writer,
            exceptions,
            batch: Vec::new(),
            bytes: 0,
            next: Next::Messages,
            integrity: Integrity::Whole,
            unencodable: None,
            panicked: Panicked::No,
        };
        Sending {
            queue: TurnQueue::new(Box::new(writing)),
            control: Mutex::new(Some(control)),
            failure: Mutex::new(None),
            done: Event::default(),
            leaving: OnceLock::new(),
            written: Level::new(0),
        }
    }

    /// Queues a message. [`wake`](Self::wake) must follow. Does not wait.
    pub(super) fn push(&self, message: wire::Message) {
        self.queue.push(Outgoing::Message(message));
    }

    /// Queues the statement that this side is idle. The rules of [`push`](Self::push)
    /// hold.
    pub(super) fn push_idle(&self) {
        self.queue.push(Outgoing::Idle);
    }

    /// Makes sure that what was pushed will be written. Does not wait.
    pub(super) fn wake(&self, machine: &Machine) {
        if left::holds(self.address(), || self.leaving.get().map(|leaving| &leaving.here)) {
            return;
        }
        if !self.queue.is_due() {
            return;
        }
        if machine.room().bytes() >= LARGE
            || ((machine.calls_under_way() <= FEW_CALLS || role::is_worker()) && role::has_time())
        {
            let turn = self.queue.claim();
            turn.into_iter().for_each(|turn| self.write_in_place(turn, machine.room()));
        } else if self.watched().is_some_and(|leaving| left::note(&leaving.here)) {
            let much = much(machine.questions_under_way());
            let turn = self.queue.claim_or_leave(much);
            turn.into_iter().for_each(|turn| self.write_in_place(turn, machine.room()));
        } else {
            self.queue.claim().into_iter().for_each(Turn::hand_over);
        }
    }

    /// Lets threads leave what they queue. For a connection with a send thread.
    pub(super) fn allow_leaving(self: &Arc<Self>, room: &Arc<Room>) {
        self.has_resident(Resident::Thread, room);
    }

    fn has_resident(self: &Arc<Self>, resident: Resident, room: &Arc<Room>) {
        let here: Weak<Self> = Arc::downgrade(self);
        // Done once, before anything is pushed.
        let _ = self.leaving.set(Leaving { here, room: Arc::clone(room), resident });
    }

    /// What a thread needs that leaves messages; `None` if nobody watches them.
    fn watched(&self) -> Option<&Leaving> {
        self.leaving.get().filter(|leaving| leaving.resident == Resident::Thread)
    }

    /// Lets the send thread watch what is left elsewhere: Note [left to read].
    pub(super) fn watch(&self, watched: Weak<dyn Watched>) {
        self.queue.watch(watched);
    }

    /// Leaves that to the send thread. Returns whether it watches. Does not wait.
    pub(super) fn leave_watched(&self) -> bool {
        self.watched().is_some() && self.queue.leave_watched()
    }

    /// The bytes that were written so far, by estimate. It wraps around.
    pub(super) fn written(&self) -> usize {
        self.written.get()
    }

    /// Notes that so many more were written. For whoever has the turn.
    fn note_written(&self, bytes: usize) {
        self.written.set(self.written.get().wrapping_add(bytes));
    }

    /// Declares that nothing more will be pushed. Does not wait.
    pub(super) fn end(&self) {
        self.queue.push(Outgoing::End);
        if let Some(turn) = self.queue.claim() {
            turn.hand_over();
        }
    }

    /// Lets go of the transport and of what is queued, when no thread writes any more. A
    /// reference to the connection may outlive it for long.
    pub(super) fn close(&self) {
        let left = self.queue.close();
        let control = self.control.lock().take();
        let _ = panics::caught("the drop of a transport", || drop((left, control)));
    }

    /// The event that everything was written, or that the rest cannot be.
    pub(super) fn done(&self) -> &Event {
        &self.done
    }

    /// Why writing failed, if it did.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }

    /// Holds back what this thread pushes until the guard is dropped.
    pub(super) fn hold<'a>(&'a self, machine: &'a Machine) -> Hold<'a> {
        left::hold(Some(self.address()));
        Hold { sending: self, machine }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    fn write_in_place(&self, mut turn: WriteTurn<'_>, room: &Room) {
        let Turn { taken, consumer, .. } = &mut turn;
        let bytes = consumer.as_mut().and_then(|writing| {
            writing.collect(taken, Place::Anywhere);
            writing.try_write()
        });
        let Some(bytes) = bytes else { return turn.hand_over() };
        self.note_written(bytes);
        // What is left goes to the send thread, as does what was queued in the meantime: that comes
        // from threads that are busy.
        drop(turn.finish());
        room.sent(bytes);
    }

    /// What the send thread does, until the end.
    pub(super) fn run(&self, machine: &Arc<Machine>) {
        let ran = connection::guarded("the send thread", machine, || self.write_all(machine));
        // It may have panicked while it watched.
        self.queue.resident_is_gone();
        if ran.is_err() {
            self.shut_down_transport();
        }
        self.done.set();
    }

    /// Lets attendants do what the send thread would do (Note [shared threads]): they call
    /// [`attend`](Self::attend).
    pub(super) fn share(self: &Arc<Self>, summons: Summons, room: &Arc<Room>) {
        self.queue.share(summons);
        self.has_resident(Resident::Attendants, room);
    }

    /// Does what the send thread would do now. Nothing is called for after the end.
    pub(super) fn attend(&self, machine: &Arc<Machine>) {
        let ran = connection::guarded("a thread that sends", machine, || {
            self.queue.take_over().is_some_and(|turn| self.write_from(turn, machine))
        });
        if ran.is_err() {
            self.shut_down_transport();
        }
        if ran.unwrap_or(true) {
            self.done.set();
        }
    }

    fn write_all(&self, machine: &Arc<Machine>) {
        while !self.write_from(self.queue.wait(), machine) {}
    }

    /// Writes what waits, until nothing does. Returns whether nothing will follow.
    fn write_from<'q>(&'q self, mut turn: WriteTurn<'q>, machine: &Arc<Machine>) -> bool {
        loop {
            let over = self.write(&mut turn, machine);
            match turn.finish() {
                Err(more) if !over => turn = more,
                _ => return over,
            }
        }
    }

    /// Writes a batch of what waits. Returns whether nothing will follow.
    fn write(&self, turn: &mut WriteTurn<'_>, machine: &Arc<Machine>) -> bool {
        let Turn { taken, consumer, .. } = turn;
        // The connection has ended.
        let Some(writing) = consumer else { return true };
        writing.collect(taken, Place::Resident);
        if let Some(error) = writing.unencodable.take() {
            // Content is checked before it is queued.
            machine.abort(error.with_internal("encoding failed"));
        }
        let next = std::mem::take(&mut writing.next);
        if let Err(error) = writing.write(next) {
            self.fail(&error);
        }
        let bytes = writing.written();
        self.note_written(bytes);
        machine.room().sent(bytes);
        next == Next::End
    }

    /// Records that the stream is broken in this direction. The connection is not ended
    /// here: what has arrived is read first, because there may be calls in it, and an
    /// Abort that tells why. Then the receive thread finds the stream broken, too, and
    /// ends the connection.
    fn fail(&self, error: &TransportError) {
        tell!(DEBUG, %error, "writing failed");
        *self.failure.lock() = Some(Error::disconnected(error.to_string()));
        self.shut_down_transport();
    }

    fn shut_down_transport(&self) {
        let control = self.control.lock().clone();
        if let Some(control) = control {
            connection::shut_down_transport(&*control);
        }
    }
}

/// How many messages are written without waiting for more. Half of the calls that this side
/// waits for: so the peer works on one half while this side makes the other one.
fn much(questions: usize) -> usize {
    match questions {
        0 => MUCH,
        _ => (questions / 2).clamp(LITTLE, MUCH),
    }
}

impl Leavings for Sending {
    fn write(&self) {
        if let Some(leaving) = self.leaving.get()
            && let Some(turn) = self.queue.claim()
        {
            self.write_in_place(turn, &leaving.room);
        }
    }

    fn leave(&self) {
        let turn = match self.watched() {
            // Nothing is so much that it would be claimed.
            Some(_) => self.queue.claim_or_leave(usize::MAX),
            None => self.queue.claim(),
        };
        turn.into_iter().for_each(Turn::hand_over);
    }
}

impl Writing {
    /// Encodes as much of what was taken as fits into one batch, and may be encoded in such a
    /// place.
    fn collect(&mut self, taken: &mut VecDeque<Outgoing>, place: Place) {
        while self.next == Next::Messages
            && self.batch.len() < MAX_BATCH
            && let Some(outgoing) = taken.pop_front()
        {
            let mut message = match outgoing {
                Outgoing::Message(message) => message,
                Outgoing::Idle => {
                    self.next = Next::Idle;
                    return;
                }
                Outgoing::End => {
                    self.next = Next::End;
                    return;
                }
            };
            let bytes = message.size_estimate();
            if let Some(error) = message.error_mut() {
                let Some(encoded) = self.exceptions.encode(error, place) else {
                    taken.push_front(Outgoing::Message(message));
                    return;
                };
                *error = encoded;
            }
            self.bytes += bytes;
            if let Err(error) = wire::encode_into(message, &mut self.batch) {
                self.unencodable = Some(error);
            }
        }
    }

    /// Writes what can be written of the batch without waiting. Returns how much that was if
    /// nothing is left of it.
    fn try_write(&mut self) -> Option<usize> {
        if self.integrity == Integrity::Broken
            || self.next != Next::Messages
            || self.unencodable.is_some()
        {
            return None;
        }
        let Writing { writer, batch, .. } = self;
        match panics::caught("a transport's writer", || writer.try_write(batch)) {
            Ok(Ok(true)) => Some(self.written()),
            // An error will come up again when the send thread writes.
            Ok(_) => None,
            Err(_) => {
                self.panicked = Panicked::Yes;
                None
            }
        }
    }

    /// Writes the batch and what follows it.
    fn write(&mut self, next: Next) -> Result<(), TransportError> {
        if self.integrity == Integrity::Broken {
            return Ok(());
        }
        let Writing { writer, batch, .. } = self;
        let write = || {
            writer.write(batch)?;
            match next {
                Next::Messages => {}
                Next::Idle => writer.declare_idle()?,
                Next::End => {
                    if let Err(error) = writer.finish() {
                        tell!(DEBUG, %error, "the peer was gone before the end of the stream");
                    }
                }
            }
            Ok(())
        };
        let written = match self.panicked {
            Panicked::Yes => None,
            Panicked::No => panics::caught("a transport's writer", write).ok(),
        };
        let written = written.unwrap_or_else(|| {
            let error = io::Error::other("the transport's writer panicked");
            Err(TransportError::Io(error))
        });
        if written.is_err() {
            self.integrity = Integrity::Broken;
        }
        written
    }

    /// Clears the batch, which is written or never will be. Returns the size for which
    /// it was counted.
    fn written(&mut self) -> usize {
        self.batch.clear();
        self.batch.give_back(KEPT);
        std::mem::take(&mut self.bytes)
    }
}

/// Holds back what a thread pushes; writes it when dropped.
pub(super) struct Hold<'a> {
    sending: &'a Sending,
    machine: &'a Machine,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        left::hold(None);
        if let Some(turn) = self.sending.queue.claim() {
            self.sending.write_in_place(turn, self.machine.room());
        }
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests;
