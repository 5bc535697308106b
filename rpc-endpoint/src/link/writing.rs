//! Who writes to the peer's socket.
//!
//! Note [writing in place]
//!
//! Waking another thread is most of what a short message costs. So a thread that sends a
//! message writes it itself if nobody else writes to this peer, nothing waits to be written in
//! front of it, and the thread is likely to wait next (`pace.rs`). Messages that come one
//! behind the other are better written together: these are the writing thread's work.
//!
//! Who writes in place never waits for the socket. What the socket does not take at once, and
//! what others have queued meanwhile, is left to the writing thread, which is woken then. So a
//! send that could not block before does not block now, and what is behind a message that is
//! half written waits for the writing thread, as it would if that had begun it. The order on
//! the socket is the order in which pieces are taken out of the machine, because one thread has
//! the pen.
//!
//! A write that fails ends the peer, whoever writes. The send has succeeded all the same: its
//! message was queued, and the loss is told as every other is.
//!
//! # State model of the pen
//!
//! ```text
//!            nothing to write        a message is sent, and nothing was queued
//! Thread ────────────────────► Free ────────────────────────────────────► Sender
//!   ▲                          │  ▲          everything is written         │   │
//!   │      something is queued │  └────────────────────────────────────────┘   │
//!   ├──────────────────────────┘                                               │
//!   └──────────────────────────── Left ◄───────────────────────────────────────┘
//!             goes on                        the socket is full
//! ```
//!
//! It begins, and ends, as the thread's. While a sender has it, the thread sleeps, whatever is
//! queued: the sender looks when it gives the pen back. So the thread never ends the socket's
//! output before a message that was sent is written.

use std::mem;
use std::sync::Arc;

use super::{Link, State};
use crate::pace::Pace;
use crate::writer::Writer;

/// How many bytes the writing thread writes before it looks for something more urgent.
const BUDGET: usize = 128 << 10;

/// The longest message, in bytes, that is written in place: a longer one is worth waking a
/// thread, which copies it while the sender goes on.
const LONGEST_IN_PLACE: usize = 64 << 10;

/// Whose the writer is.
pub(super) enum Pen {
    /// The writing thread's: it writes, has not begun, or has ended.
    Thread,
    /// Nobody's. Nothing of a message is left in it.
    Free(Box<Writer>),
    /// A thread's that sends, and does not wait.
    Sender,
    /// To be taken by the writing thread, for the rest of what a sender has begun.
    Left(Box<Writer>),
}

/// The right to write in place. Dropping it gives the pen back.
pub(crate) struct InPlace<'a> {
    link: &'a Arc<Link>,
    /// Present until it is dropped.
    writer: Option<Box<Writer>>,
}

impl Link {
    /// Makes the writing thread go on if there is something for it to do.
    pub(super) fn wake_writer(&self, state: &State) {
        let is_due = match &state.pen {
            Pen::Left(_) => true,
            Pen::Free(_) => state.peer.has_work() || state.peer.is_written(),
            Pen::Thread | Pen::Sender => false,
        };
        if is_due {
            self.work.notify_one();
        }
    }

    /// Waits until the writing thread has something to write, and takes it; `None` if there
    /// will be nothing more. The writer is one of which everything is written.
    pub(crate) fn next_batch(&self, writer: Box<Writer>) -> Option<Box<Writer>> {
        let mut state = self.state.lock();
        state.pen = Pen::Free(writer);
        let writer = loop {
            match mem::replace(&mut state.pen, Pen::Thread) {
                Pen::Left(writer) => break writer,
                Pen::Free(mut writer) if state.peer.has_work() => {
                    self.take(&mut state, &mut writer);
                    break writer;
                }
                Pen::Free(_) if state.peer.is_written() => return None,
                other => state.pen = other,
            }
            self.work.wait(&mut state);
        };
        #[cfg(test)]
        self.batches.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Some(writer)
    }

    /// Takes the pen, with the message of `length` bytes that was just queued, if this thread
    /// may write it in place. `waited` says whether something was to be written before.
    pub(super) fn claim_pen<'a>(
        self: &'a Arc<Self>,
        state: &mut State,
        waited: bool,
        length: usize,
        pace: Pace,
    ) -> Option<InPlace<'a>> {
        let may = !waited && length <= LONGEST_IN_PLACE && state.peer.has_work();
        if !may || !matches!(state.pen, Pen::Free(_)) || !pace.allows() {
            return None;
        }
        match mem::replace(&mut state.pen, Pen::Sender) {
            Pen::Free(mut writer) => {
                self.take(state, &mut writer);
                Some(InPlace { link: self, writer: Some(writer) })
            }
            other => {
                state.pen = other;
                None
            }
        }
    }

    fn take(&self, state: &mut State, writer: &mut Writer) {
        let now = self.local.network.now();
        state.peer.take(BUDGET, now, writer.pieces());
        if state.senders > 0 {
            self.room.notify_all();
        }
    }
}

impl InPlace<'_> {
    /// Writes what the socket takes at once, without the lock.
    pub(crate) fn write(mut self) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = writer.write_now() {
            writer.clear();
            self.link.broken(&error);
            if let Some(writer) = &self.writer {
                writer.socket().shut();
            }
        }
    }
}

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let mut state = self.link.state.lock();
        state.pen = if writer.has_rest() { Pen::Left(writer) } else { Pen::Free(writer) };
        self.link.wake_writer(&state);
    }
}

#[cfg(test)]
impl Link {
    /// How many batches the writing thread was given.
    pub(crate) fn batches(&self) -> usize {
        self.batches.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Whether nobody writes, and nothing can be written.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        matches!(state.pen, Pen::Free(_)) && !state.peer.has_work()
    }

    /// Queues a message, and takes the pen for it as a send does that may.
    pub(crate) fn begin_in_place(
        self: &Arc<Self>,
        lcid: u32,
        message: Vec<u8>,
    ) -> Option<InPlace<'_>> {
        let mut state = self.state.lock();
        let waited = state.peer.has_work();
        let length = message.len();
        assert_eq!(state.peer.send(lcid, &Arc::new(message), usize::MAX), Ok(()));
        self.claim_pen(&mut state, waited, length, Pace::Last)
    }
}
