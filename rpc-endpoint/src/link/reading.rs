//! Who reads from the peer's socket.
//!
//! Note [reading for oneself]
//!
//! The right to read is a *turn*. Whoever has it makes the steps of what it reads, so the
//! order of the bytes is the order of the steps. These have it:
//!
//! - the reading thread, which waits in a read;
//! - a thread of the application that waits to receive what this link may bring (a *guest*),
//!   until it has that: so a message wakes the thread that wants it, and no other.
//!
//! While nobody has it, the reading thread *stands by*: it sleeps until something comes while
//! that is *armed*. Arming and disarming wake nobody, but what a peer answers can come between a
//! guest's last message and its next wait, and would wake the reading thread for nothing. So
//! while guests come and go the standby is not armed, and the reading thread *watches*: it
//! looks after each [`INTERVAL`], and arms when none has come and gone since it looked last.
//! If any other thread of the endpoint waits, a guest that leaves arms at once, and so does a
//! thread that begins to wait (`Local::begin_waiting`). What nobody waits for, such as a probe,
//! may be late by two intervals.
//!
//! The reading thread keeps its turn while the application is busy with what has come. It gives
//! the turn away, between two frames, when a thread has waited since it looked last.
//!
//! # State model of the turn
//!
//! ```text
//!          a thread has waited               a guest takes it
//! Thread ─────────────────────────► Free ───────────────────────► Guest ───► Over
//!   ▲                               │  ▲                          │   │   the stream is over
//!   │        something has come     │  │   it has what it wants   │   │
//!   ├───────────────────────────────┘  └──────────────────────────┘   │
//!   └─────────────────────────────── Left ◄───────────────────────────┘
//!          is called                       the application has to receive something first
//! ```
//!
//! - While the turn is free, the reading thread watches, or the standby is armed or about to be:
//!   who makes the turn free arms it afterwards, who takes the turn disarms it afterwards. So
//!   the last of these operations behind the last release is an arming. At worst the reading
//!   thread wakes for nothing.
//! - What was taken from the socket is worked off before a guest gives the turn back. If it
//!   cannot be, because the application has to receive something first, nobody but the reading
//!   thread gets the turn: it is called, and waits for that.
//! - A guest sleeps until the socket has something, its deadline comes, or its bell rings:
//!   whoever brings what it waits for from elsewhere rings it (`standby.rs`). It reads once
//!   from the socket before it looks whether it has what it waits for, and whether its deadline
//!   has come: so a peer that goes on sending keeps no guest.
//! - Guests make only steps of the machine. These run no code of the application.
//!
//! Sockets that are encrypted are left to the reading thread.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::Link;
use crate::deadline::Deadline;
use crate::reader::{Progress, Reader};
use crate::socket::Socket;
use crate::standby::{Bell, Polled, Standby};
use crate::wire::WireError;

/// After which time the reading thread looks while it watches.
const INTERVAL: Duration = Duration::from_micros(200);

/// The turn to read. Its lock is a leaf.
#[derive(Default)]
pub(super) struct Reading(Mutex<State>);

#[derive(Default)]
struct State {
    turn: Turn,
    /// Absent until a thread has waited, where there is none, and when the reading thread has
    /// ended.
    standby: Option<Arc<Standby>>,
    /// A thread has waited that could not have the turn because the reading thread had it.
    is_wanted: bool,
    /// The standby is armed, or is about to be.
    is_armed: bool,
    /// The reading thread watches: guests need not arm.
    watches: bool,
    /// How often a guest has given the turn back.
    left: u64,
    /// How many frames, or parts of them, guests have read together.
    #[cfg(test)]
    guests_reads: usize,
}

#[derive(Default)]
enum Turn {
    /// The reading thread's. It may not have begun, or have ended.
    #[default]
    Thread,
    Free(Box<Reader>),
    Guest,
    /// To be taken by the reading thread, and by nobody else: the application has to receive
    /// something before it can go on.
    Left(Box<Reader>),
    /// Nothing more is to be read; the reading thread is to end.
    Over,
}

/// What the reading thread finds.
enum Found {
    Turn(Box<Reader>),
    Nothing,
    Over,
}

/// A thread that waits for something and reads meanwhile. Dropping it gives the turn back.
pub(crate) struct Guest {
    link: Arc<Link>,
    standby: Arc<Standby>,
    bell: Arc<Bell>,
    /// Present until the turn is given back.
    reader: Option<Box<Reader>>,
    progress: Progress,
    /// It need not look at the socket once more if its time is over.
    has_read: bool,
}

impl Link {
    /// Takes the turn to read for a thread that waits, if it can be had.
    pub(crate) fn guest(self: &Arc<Self>) -> Option<Guest> {
        let mut state = self.reading.0.lock();
        state.is_wanted |= matches!(state.turn, Turn::Thread);
        let (Turn::Free(_), Some(standby)) = (&state.turn, &state.standby) else { return None };
        // A thread that never reads so has none. Making it waits for nobody.
        let (standby, bell) = (standby.clone(), Bell::own()?);
        let reader = match mem::replace(&mut state.turn, Turn::Guest) {
            Turn::Free(reader) => Some(reader),
            other => {
                state.turn = other;
                return None;
            }
        };
        let was_armed = mem::take(&mut state.is_armed);
        drop(state);
        if was_armed {
            standby.disarm();
        }
        let (link, progress) = (self.clone(), Progress::Clean);
        Some(Guest { link, standby, bell, reader, progress, has_read: false })
    }

    /// What the reading thread does, until the stream is over.
    pub(crate) fn read_all(
        self: &Arc<Self>,
        reader: Reader,
        socket: &Arc<Socket>,
    ) -> Result<(), WireError> {
        let outcome = self.read_in_turn(reader, socket);
        // The application may keep the link, but needs no descriptors for that.
        let standby = self.reading.0.lock().standby.take();
        drop(standby);
        outcome
    }

    fn read_in_turn(
        self: &Arc<Self>,
        reader: Reader,
        socket: &Arc<Socket>,
    ) -> Result<(), WireError> {
        let mut reader = Box::new(reader);
        let mut stood_by = false;
        loop {
            if mem::take(&mut stood_by) {
                // Where it is found that nothing has come, the turn stays here.
                reader.wait(false);
                if self.read_to_a_stop(&mut reader)? == Progress::Over {
                    return Ok(());
                }
                reader.wait(true);
            } else if self.read_to_a_stop(&mut reader)? == Progress::Over {
                return Ok(());
            }
            let Some(standby) = self.take_leave(socket) else { continue };
            match self.stand_by(&standby, reader)? {
                None => return Ok(()),
                Some(found) => reader = found,
            }
            stood_by = true;
        }
    }

    /// Reads until everything is worked off that was taken from the socket, and waits for the
    /// application meanwhile.
    fn read_to_a_stop(self: &Arc<Self>, reader: &mut Reader) -> Result<Progress, WireError> {
        loop {
            match reader.read(self)? {
                Progress::Paused => self.wait_to_read(),
                Progress::Within => reader.wait(true),
                stop => return Ok(stop),
            }
        }
    }

    /// Whether the reading thread is to stand by, and where.
    fn take_leave(&self, socket: &Arc<Socket>) -> Option<Arc<Standby>> {
        let mut state = self.reading.0.lock();
        if !mem::take(&mut state.is_wanted) || !socket.can_be_polled() {
            return None;
        }
        if state.standby.is_none() {
            // Without one, this thread reads for all.
            state.standby = Standby::new(socket).ok().map(Arc::new);
        }
        state.standby.clone()
    }

    /// Gives the turn away, and waits until it is this thread's again; `None` at the end.
    fn stand_by(
        &self,
        standby: &Standby,
        reader: Box<Reader>,
    ) -> Result<Option<Box<Reader>>, WireError> {
        let mut seen = Some(self.reading.give_away(reader));
        standby.arm();
        loop {
            if standby.wait(seen.map(|_| INTERVAL))? {
                match self.reading.take_for_the_thread() {
                    Found::Turn(reader) => return Ok(Some(reader)),
                    Found::Nothing => seen = Some(self.reading.watch()),
                    Found::Over => return Ok(None),
                }
            } else {
                seen = seen.and_then(|seen| self.reading.look(seen));
                if seen.is_none() {
                    self.arm();
                }
            }
        }
    }

    /// Makes the reading thread read what comes, if nobody else does.
    pub(crate) fn arm(&self) {
        if self.reading.has_to_arm() {
            let standby = self.reading.0.lock().standby.clone();
            standby.into_iter().for_each(|standby| standby.arm());
        }
    }
}

impl Reading {
    /// Makes the turn free. The caller has to arm the standby. Returns what it has seen then.
    fn give_away(&self, reader: Box<Reader>) -> u64 {
        let mut state = self.0.lock();
        state.turn = Turn::Free(reader);
        state.is_armed = true;
        state.watches = true;
        state.left
    }

    /// The reading thread was woken for nothing. Returns what it has seen then.
    fn watch(&self) -> u64 {
        let mut state = self.0.lock();
        state.is_armed = false;
        state.watches = true;
        state.left
    }

    /// Whether guests have come and gone since the reading thread looked last, and what it
    /// sees now; otherwise it watches no more.
    fn look(&self, seen: u64) -> Option<u64> {
        let mut state = self.0.lock();
        state.watches = seen != state.left;
        state.watches.then_some(state.left)
    }

    /// Whether the caller has to arm the standby.
    fn has_to_arm(&self) -> bool {
        let mut state = self.0.lock();
        let has_to = matches!(state.turn, Turn::Free(_)) && !state.is_armed;
        state.is_armed |= has_to;
        has_to
    }

    fn take_for_the_thread(&self) -> Found {
        let mut state = self.0.lock();
        match mem::take(&mut state.turn) {
            Turn::Free(reader) | Turn::Left(reader) => Found::Turn(reader),
            Turn::Over => Found::Over,
            other => {
                state.turn = other;
                Found::Nothing
            }
        }
    }
}

impl Guest {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Sleeps until there is something to read, somebody calls, or the deadline comes.
    /// No lock is held.
    ///
    /// Who has next to no time looks at the socket all the same: while guests come and go,
    /// nobody else does.
    pub(crate) fn wait(&self, deadline: Deadline) -> Polled {
        if self.has_read && deadline.has_passed() {
            return Polled::Called;
        }
        self.bell.poll(self.standby.socket(), deadline)
    }

    /// Makes the steps of what one read finds, without waiting; `false` if this thread is not to
    /// read any more for now. No lock is held.
    pub(crate) fn read(&mut self) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        #[cfg(test)]
        {
            self.link.reading.0.lock().guests_reads += 1;
        }
        self.has_read = true;
        reader.wait(false);
        match reader.read(&self.link) {
            Ok(progress) => self.progress = progress,
            Err(error) => {
                self.link.broken(&error);
                self.progress = Progress::Over;
            }
        }
        matches!(self.progress, Progress::Clean | Progress::Within)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Some(mut reader) = self.reader.take() else { return };
        reader.wait(true);
        let turn = match self.progress {
            Progress::Clean | Progress::Within => Turn::Free(reader),
            Progress::Paused => Turn::Left(reader),
            Progress::Over => Turn::Over,
        };
        let is_free = matches!(turn, Turn::Free(_));
        let local = &self.link.local;
        let mut state = self.link.reading.0.lock();
        state.left += 1;
        state.turn = turn;
        // See Note [waiting beside guests].
        local.is_unarmed.store(true, Ordering::SeqCst);
        let arms = is_free && (!state.watches || local.is_waited_for());
        state.is_armed |= arms;
        drop(state);
        if arms {
            self.standby.arm();
        } else if !is_free {
            self.standby.call();
        }
    }
}

#[cfg(test)]
impl Link {
    /// How often guests have read.
    pub(crate) fn guests_reads(&self) -> usize {
        self.reading.0.lock().guests_reads
    }

    /// Whether there are descriptors for guests.
    pub(crate) fn has_standby(&self) -> bool {
        self.reading.0.lock().standby.is_some()
    }

    /// Whether a guest could have the turn.
    pub(crate) fn is_turn_free(&self) -> bool {
        matches!(self.reading.0.lock().turn, Turn::Free(_))
    }

    /// Whether a guest has the turn.
    pub(crate) fn has_guest(&self) -> bool {
        matches!(self.reading.0.lock().turn, Turn::Guest)
    }

    /// Whether a thread has waited for which there was no turn.
    pub(crate) fn is_wanted(&self) -> bool {
        self.reading.0.lock().is_wanted
    }

    /// Whether the reading thread has the turn.
    pub(crate) fn is_reading_within(&self) -> bool {
        matches!(self.reading.0.lock().turn, Turn::Thread)
    }

    /// Whether the reading thread waits for the application.
    pub(crate) fn is_paused(&self) -> bool {
        self.state.lock().is_paused
    }

    /// Whether nothing but the reading thread's looking makes it read.
    pub(crate) fn is_watched(&self) -> bool {
        let state = self.reading.0.lock();
        matches!(state.turn, Turn::Free(_)) && state.watches && !state.is_armed
    }
}
