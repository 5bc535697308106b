//! The turn to read: who has it, and what becomes of it.
//!
//! # State model of the turn
//!
//! ```text
//!         ┌──── claimed by a guest or a worker, standby disarmed ───► Taken
//! Free ───┤                                                            │  │
//!   ▲ ▲   └──── claimed by the receive thread, which was woken ──► Taken  │
//!   │ │                                                             │     │
//!   │ └─────────── nothing more is there, standby armed ────────────┘     │
//!   │                                                the stream is over ──┴──► Over
//!   └── the send thread, standby armed ── Left ◄── left by a guest or a worker ── Taken
//!                                          └───────────── claimed ──────────────► Taken
//! Taken ── something was read that is not worked off, receive thread called ──► Handed
//!                                     Handed ── claimed by the receive thread ──► Taken
//! ```
//!
//! Free means that the standby is armed: the receive thread wakes when something comes.
//! Arming and disarming it costs a system call each and wakes nobody. The thread that
//! makes the turn free arms the standby afterwards, and a thread that claims the turn
//! disarms it afterwards. So whatever overtakes what, the last of these operations behind
//! the last release of the turn is an arming. At worst the receive thread wakes for nothing.
//!
//! Note [left to read]
//!
//! A thread that makes many calls takes the turn for each answer that it waits for, and a
//! worker for each call. Arming and disarming the standby each time are two system calls, and
//! what comes meanwhile wakes the receive thread, which takes away the work that a thread is
//! about to do. So while threads come back soon (Note [spinning]) they *leave* the turn, and
//! nobody stands by. The send thread watches meanwhile (Note [turns]). It arms the standby when
//! it finds that nobody has had the turn for an interval; and before it writes, since it may
//! have to wait there until the peer has been read from. So what comes waits for a millisecond
//! at the most, and until that thread runs, for somebody who reads it.
//!
//! The turn is not left while a thread is parked that would have read, had the turn been free;
//! nor where no send thread watches.

use super::super::standing::Standing;
use super::super::turns::Watched;
use super::{Reading, StandsBy};
use crate::deadline::Deadline;
use crate::sync::Parker;
use crate::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Who has the turn.
pub(super) struct Owner {
    state: AtomicU8,
    /// The number of times that the turn was left.
    leaves: AtomicUsize,
    /// That number when the send thread looked last and found the turn left.
    seen: AtomicUsize,
    /// The number of threads that are parked because they did not get the turn.
    parked: AtomicUsize,
}

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const OVER: u8 = 2;
const LEFT: u8 = 3;
const HANDED: u8 = 4;

/// The right to read. Dropping it makes the turn free, hands it to the receive thread, or ends it
/// with the stream.
pub(super) struct Turn<'a> {
    pub(super) reading: &'a Reading,
    pub(super) next: Next,
    /// The number of messages that were read the last time.
    pub(super) messages: u32,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// More, later.
    Later,
    /// More, for whoever takes the turn that this thread keeps or leaves.
    Kept,
    /// The rest of what was read, for the resident.
    Rest,
    /// Nothing: the stream is over.
    Nothing,
}

impl Owner {
    pub(super) fn nobody() -> Self {
        Owner::in_state(FREE)
    }

    /// Whoever [begins](Reading::begin) to read.
    pub(super) fn somebody() -> Self {
        Owner::in_state(TAKEN)
    }

    /// The resident, before anybody else.
    pub(super) fn resident() -> Self {
        Owner::in_state(HANDED)
    }

    fn in_state(state: u8) -> Self {
        Owner {
            state: AtomicU8::new(state),
            leaves: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OVER
    }

    fn is_left(&self) -> bool {
        self.state.load(Ordering::SeqCst) == LEFT
    }

    fn is_wanted(&self) -> bool {
        self.parked.load(Ordering::SeqCst) > 0
    }
}

impl Reading {
    /// Claims the turn for the receive thread, or for an attendant.
    pub(super) fn claim_as_resident(&self) -> Option<Turn<'_>> {
        self.claim_from(&[FREE, LEFT, HANDED]).map(|(turn, _)| turn)
    }

    /// Claims the turn for another thread than the receive thread.
    pub(super) fn claim_elsewhere(&self) -> Option<Turn<'_>> {
        let (turn, before) = self.claim_from(&[FREE, LEFT])?;
        if before != LEFT {
            self.standby_is(Standing::disarm);
        }
        Some(turn)
    }

    /// Claims the turn from one of these. Returns from which.
    fn claim_from(&self, from: &[u8]) -> Option<(Turn<'_>, u8)> {
        let taken = |owner| from.contains(&owner).then_some(TAKEN);
        let claimed = self.owner.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken);
        let before = claimed.ok()?;
        if before == LEFT {
            self.spinning.came_back(self.sending.written());
        }
        Some((self.kept_turn(), before))
    }

    /// The turn that this thread has kept.
    pub(super) fn kept_turn(&self) -> Turn<'_> {
        Turn { reading: self, next: Next::Later, messages: 0 }
    }

    /// Parks a thread that has not got the turn; returns at once where it may get it now.
    pub(super) fn park_without_turn(&self, parker: &Parker, deadline: Deadline) -> bool {
        // Pairs with `Turn::leave`: whoever leaves the turn looks for the parked afterwards.
        self.owner.parked.fetch_add(1, Ordering::SeqCst);
        let is_left = self.owner.is_left();
        let gets_it = is_left && self.is_for_guests();
        if is_left && !gets_it {
            self.see_to_left_turn();
        }
        let late = !gets_it && parker.park(deadline);
        self.owner.parked.fetch_sub(1, Ordering::SeqCst);
        late
    }

    /// Makes a turn free that was left.
    fn see_to_left_turn(&self) {
        let state = &self.owner.state;
        if state.compare_exchange(LEFT, FREE, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.standby_is(Standing::arm);
        }
    }

    /// Looks whether the turn was left and nobody has had it since the last look. Returns whether
    /// it is still left.
    fn look_at_left_turn(&self) -> bool {
        if !self.owner.is_left() {
            return false;
        }
        let leaves = self.owner.leaves.load(Ordering::SeqCst);
        if self.owner.seen.swap(leaves, Ordering::SeqCst) != leaves {
            return true;
        }
        self.spinning.left_in_vain();
        self.see_to_left_turn();
        false
    }
}

impl Watched for Reading {
    fn look(&self) -> bool {
        self.look_at_left_turn() | self.asides.look()
    }

    fn see_to_it(&self) {
        self.see_to_left_turn();
        self.asides.take_over_all();
    }
}

impl Turn<'_> {
    /// Gives the turn back; leaves it, if somebody is likely to claim it soon. Whoever has read
    /// nothing does not leave it: others may do the same again and again.
    pub(super) fn leave(mut self) {
        let Reading { owner, spinning, sending, stands_by, .. } = self.reading;
        let may = self.next == Next::Later
            && self.messages > 0
            && *stands_by == StandsBy::OwnThread
            && !owner.is_wanted();
        if !may || !spinning.leaves(self.messages, sending.written()) {
            return;
        }
        self.next = Next::Kept;
        owner.leaves.fetch_add(1, Ordering::SeqCst);
        owner.state.store(LEFT, Ordering::SeqCst);
        if !sending.leave_watched() || owner.is_wanted() {
            self.reading.see_to_left_turn();
        }
    }

    /// Leaves the turn taken, for this thread to come back to.
    pub(super) fn keep(mut self) -> bool {
        self.next = Next::Kept;
        true
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Within a process, what is left is still to be read, and calls the resident.
        let here = self.reading.standing.descriptor().is_none();
        let state = match self.next {
            Next::Rest if !here => HANDED,
            Next::Later | Next::Rest => FREE,
            Next::Nothing => OVER,
            Next::Kept => return,
        };
        self.reading.owner.state.store(state, Ordering::SeqCst);
        if state == HANDED {
            self.reading.call_resident();
        } else {
            self.reading.standby_is(Standing::arm);
        }
    }
}
