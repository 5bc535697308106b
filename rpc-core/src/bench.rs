//! Two vats on one thread, for the benchmarks of this workspace.
//!
//! One thread makes the steps of both protocol machines and runs the methods, and every
//! message is encoded, copied once and decoded, as between two processes. What a call
//! costs beyond this is the cost of threads and sockets.

use std::cell::Cell;
use std::sync::Arc;

use capnp::Word;

use crate::cap::calling::wait_for_room;
use crate::cap::client::Client;
use crate::cap::object::{Concurrency, LocalObject};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::protocol::{Machine, Offers, Outbox, Settings};
use crate::sync::{Level, Mutex};
use crate::typed::{FromServer, dispatch_of};
use crate::wire::{self, message};
use crate::work::executor::{Executor, Job, Refused};

/// A vat that calls and a vat that serves one object, linked to each other. Nothing
/// moves but in [`settle`](TwoVats::settle).
#[derive(Debug)]
pub struct TwoVats {
    caller: Side,
    server: Side,
    jobs: Arc<Jobs>,
    running: Spare<Job>,
}

struct Side {
    machine: Arc<Machine>,
    sent: Arc<Sent>,
    moving: Spare<wire::Message>,
    frames: Cell<Vec<message::Message>>,
}

/// The messages that one machine has sent and the other one has not received.
#[derive(Default)]
struct Sent(Queue<wire::Message>);

/// The methods that are to run.
#[derive(Default)]
struct Jobs(Queue<Job>);

/// What one thread adds and takes out again.
struct Queue<T> {
    items: Mutex<Vec<T>>,
    /// Their number, for looking without the lock.
    len: Level,
}

/// An empty list that changes places with a full one, so that its memory is used again.
struct Spare<T>(Cell<Vec<T>>);

impl TwoVats {
    /// Links two vats, one of which serves `server`. Returns the other one's client of
    /// it, too.
    ///
    /// # Errors
    /// The link does not work.
    pub fn new<C, S>(server: S) -> Result<(TwoVats, C)>
    where
        C: FromServer<S>,
        S: Send + Sync + 'static,
    {
        let jobs = Arc::new(Jobs::default());
        let executor = Arc::clone(&jobs) as Arc<dyn Executor>;
        let dispatch = dispatch_of::<C, S>(server);
        let object = Client::of(LocalObject::new(dispatch, Concurrency::Serial, executor));
        let (caller, server) = (Side::new(None), Side::new(Some(object)));
        let vats = TwoVats { caller, server, jobs, running: Spare::new() };
        let machine = &vats.caller.machine;
        let client = machine
            .try_bootstrap(None, wait_for_room(machine.room(), Deadline::NEVER))
            .map_err(|_| Error::failed("a link that was just made has ended"))?;
        vats.settle()?;
        Ok((vats, C::from_client(client)))
    }

    /// Delivers every message and runs every method until nothing is left.
    ///
    /// # Errors
    /// A message could not be encoded or decoded.
    pub fn settle(&self) -> Result<()> {
        loop {
            let moved = self.caller.deliver_to(&self.server)?
                | self.running.each(&self.jobs.0, |job| {
                    job.run();
                    Ok(())
                })?
                | self.server.deliver_to(&self.caller)?;
            if !moved {
                return Ok(());
            }
        }
    }
}

impl Side {
    fn new(bootstrap: Option<Client>) -> Self {
        let sent = Arc::new(Sent::default());
        let outbox = Arc::clone(&sent) as Arc<dyn Outbox>;
        let offers = Offers { bootstrap, ..Offers::default() };
        let machine = Machine::new(Settings::default(), offers, outbox);
        Side { machine, sent, moving: Spare::new(), frames: Cell::default() }
    }

    /// Returns whether there was something to deliver.
    fn deliver_to(&self, other: &Side) -> Result<bool> {
        let (mut bytes, mut frames) = (0, self.frames.take());
        let moved = self.moving.each(&self.sent.0, |message| {
            bytes += message.size_estimate();
            wire::encode_into(message, &mut frames)?;
            for frame in &frames {
                other.machine.receive(received(frame)?);
            }
            frames.clear();
            Ok(())
        });
        self.frames.set(frames);
        if bytes > 0 {
            self.machine.room().sent(bytes);
        }
        moved
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { items: Mutex::default(), len: Level::new(0) }
    }
}

impl<T> Queue<T> {
    fn push(&self, item: T) {
        let mut items = self.items.lock();
        items.push(item);
        self.len.set(items.len());
    }

    /// Exchanges everything for an empty list.
    fn swap(&self, empty: &mut Vec<T>) {
        let mut items = self.items.lock();
        std::mem::swap(empty, &mut items);
        self.len.set(0);
    }
}

impl<T> Spare<T> {
    fn new() -> Self {
        Spare(Cell::new(Vec::new()))
    }

    /// Takes everything out of `queue`, in order, and returns whether there was something.
    fn each(&self, queue: &Queue<T>, mut step: impl FnMut(T) -> Result<()>) -> Result<bool> {
        if queue.len.get() == 0 {
            return Ok(false);
        }
        let mut taken = self.0.take();
        queue.swap(&mut taken);
        let any = !taken.is_empty();
        let done = taken.drain(..).try_for_each(&mut step);
        self.0.set(taken);
        done.map(|()| any)
    }
}

/// What is understood of a frame. Nothing of it stays in the frame's own memory.
fn received(frame: &message::Message) -> Result<wire::Message> {
    let mut segments = frame.segments();
    if let (Some(only), None) = (segments.next(), segments.next())
        && let Some(message) = wire::decode_segment(only)
    {
        return Ok(message);
    }
    let mut words = Vec::with_capacity(frame.size_in_words());
    let mut lengths = Vec::new();
    for segment in frame.segments() {
        let start = words.len();
        words.resize(start + segment.len() / 8, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        Word::words_to_bytes_mut(&mut words[start..]).copy_from_slice(segment);
        lengths.push(u32::try_from(segment.len() / 8).map_err(|_| Error::failed("too long"))?);
    }
    let copy = message::Message::from_segments(words, &lengths);
    wire::decode(copy.ok_or_else(|| Error::failed("the segments do not fit their lengths"))?)
}

impl Outbox for Sent {
    fn push(&self, message: wire::Message) {
        self.0.push(message);
    }

    fn disconnected(&self) {}
}

impl Executor for Jobs {
    fn spawn(&self, job: Job) -> std::result::Result<(), Refused> {
        self.0.push(job);
        Ok(())
    }
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Spare<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spare")
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent").field("messages", &self.0.len.get()).finish()
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("queued", &self.0.len.get()).finish()
    }
}
