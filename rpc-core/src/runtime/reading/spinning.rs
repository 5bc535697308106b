//! When a thread that reads spins before it sleeps, and leaves the turn unguarded.
//!
//! Note [spinning]
//!
//! To fall asleep and to be woken takes 10 to 50 µs where a processor has nothing else to
//! do, and a peer on the same machine often answers sooner. So the thread that has the turn
//! to read (Note [reading in turns]) looks again and again for a while before it sleeps, and
//! in between lets other threads have its processor. It does so only where that has been
//! worth it:
//!
//! # State model of the habit
//!
//! ```text
//!   Sleeps { short } ──SHORT_WAITS short ones in a row──► Spins ◄─┐
//!     ▲          ▲  │                                       │  └──┘ something came meanwhile
//!     │          └──┘ a longer wait: none in a row          │
//!     └───────────────────── in vain ───────────────────────┘
//! ```
//!
//! - **Sleeps**: the waits are timed. A short one is one of at most twice the time for which
//!   the thread would spin: being woken is part of it.
//! - **Spins**: something came within that time whenever the thread waited.
//!
//! After it was in vain a thread *rests* for eight waits, which are not even timed. It rests
//! twice as long each further time, up to a limit; half as long after [`HITS`] times in
//! a row in which it was worth it. So what is spun in vain is little beside what there is to
//! wait for, also where others need the processor: a thread that has let another one have it
//! may be gone for milliseconds. A worker that nobody calls any more has spun in vain once.
//!
//! A thread with this habit also leaves the turn (Note [left to read]), and rests from that in
//! the same way where nobody has taken the turn again in time: half as long as a thread spins,
//! a tenth of that for each message that was read last, with which it may be busy now, and
//! a microsecond for each KiB that was written meanwhile, as by a thread that streams.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::sync::{Level, Mutex, Parker, Polled, Spin, Stopwatch};

/// Number of short waits in a row after which spinning is tried.
const SHORT_WAITS: u32 = 4;

/// How often a thread rests for which something was in vain for the first time.
const FIRST_REST: u32 = 8;

/// How often it rests at the most: from spinning, which costs processor time, and from leaving
/// the turn, which costs others a moment.
const LONGEST_REST: u32 = 4096;
const LONGEST_REST_FROM_LEAVING: u32 = 256;

/// The longest time for which a thread spins.
const LONGEST: Duration = Duration::from_millis(10);

/// For how long a turn may be left for each KiB that is written meanwhile.
const FOR_A_KIB: Duration = Duration::from_micros(1);

/// Number of times in a row in which something could be read, and no message came of it, that
/// are in vain: whoever sends bytes one by one does not keep a processor busy.
const FRAGMENTS: usize = 16;

/// Number of times in a row in which something was worth it that halve the next rest.
const HITS: u32 = 64;

/// How the threads that read from a connection wait. Used by whoever has the turn.
pub(super) struct Spinning {
    most: Duration,
    state: Mutex<State>,
    /// Number of times in a row in which a thread has read no whole message. Set by whoever has
    /// the turn.
    fragments: Level,
}

struct State {
    habit: Habit,
    spinning: Rests,
    leaving: Rests,
    left: Option<Left>,
}

/// What is known of a turn that was left.
struct Left {
    watch: Stopwatch,
    /// For how long it may be left, if nothing is written meanwhile.
    most: Duration,
    /// How much had been written on the connection, in bytes. It wraps around.
    written: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Sleeps { short: u32 },
    Spins,
}

/// When to rest from what was in vain.
struct Rests {
    longest: u32,
    /// How often it is still to be left undone.
    left: u32,
    /// How often it will be the next time.
    next: u32,
    /// Number of times in a row in which it was worth it, since they last counted.
    hits: u32,
}

/// What a thread does that begins to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Sleep,
    SleepAndTime,
    Spin,
}

/// What came of spinning.
enum Spun {
    Readable,
    /// The thread is to look for something else, or its time is over.
    Ended,
    InVain,
}

impl Spinning {
    /// Threads spin for so long at the most, or for [`LONGEST`]; never, if that is zero.
    pub(super) fn new(most: Duration) -> Self {
        let most = most.min(LONGEST);
        // A model has no time, and tries everything.
        let habit = if cfg!(rpc_model) { Habit::Spins } else { Habit::Sleeps { short: 0 } };
        Spinning::with_habit(most, habit)
    }

    fn with_habit(most: Duration, habit: Habit) -> Self {
        Spinning { most, state: Mutex::new(State::new(habit)), fragments: Level::new(0) }
    }

    /// Notes that the thread leaves the turn, having read so many messages, when so many bytes
    /// were written on the connection. Returns whether it may.
    pub(super) fn leaves(&self, messages: u32, written: usize) -> bool {
        let mut state = self.state.lock();
        let may = !self.most.is_zero() && state.may_leave();
        if may {
            let most = self.most / 2 + (self.most / 20).saturating_mul(messages);
            state.left = Some(Left { watch: Stopwatch::start(), most, written });
        }
        may
    }

    /// Notes that somebody has the turn that was left, now that so many bytes were written.
    pub(super) fn came_back(&self, written: usize) {
        let mut state = self.state.lock();
        if let Some(left) = state.left.take() {
            let kib = written.wrapping_sub(left.written) / 1024;
            let most = left.most + FOR_A_KIB.saturating_mul(u32::try_from(kib).unwrap_or(u32::MAX));
            state.leaving.note(!left.watch.has_passed(most));
        }
    }

    /// Notes that the turn was left for so long that somebody had to see to it.
    pub(super) fn left_in_vain(&self) {
        let mut state = self.state.lock();
        if state.left.take().is_some() {
            state.leaving.note(false);
        }
    }

    /// Notes how many messages came of what could be read.
    pub(super) fn has_read(&self, messages: u32) {
        let fragments = self.fragments.get();
        if messages > 0 {
            if fragments > 0 {
                self.fragments.set(0);
            }
        } else if fragments + 1 < FRAGMENTS {
            self.fragments.set(fragments + 1);
        } else {
            self.spun_in_vain();
        }
    }

    /// Ends the habit of spinning, if threads have it.
    fn spun_in_vain(&self) {
        self.fragments.set(0);
        let mut state = self.state.lock();
        if state.habit == Habit::Spins {
            state.spun_in_vain();
        }
    }

    /// Waits until something can be read, the thread is unparked, or the deadline comes.
    /// `sleep` sleeps until then.
    pub(super) fn wait(
        &self,
        parker: &Parker,
        deadline: Deadline,
        is_readable: impl Fn() -> bool,
        sleep: impl FnOnce() -> Polled,
    ) -> Polled {
        // Whoever only looks tells nothing of how long others wait.
        if self.most.is_zero() || deadline.has_passed() {
            return sleep();
        }
        let plan = self.state.lock().plan();
        match plan {
            Plan::Sleep => sleep(),
            Plan::SleepAndTime => {
                let watch = Stopwatch::start();
                let polled = sleep();
                let is_short = polled == Polled::Readable && !watch.has_passed(2 * self.most);
                self.state.lock().slept(is_short);
                polled
            }
            Plan::Spin => match self.spin(parker, deadline, is_readable) {
                Some(Spun::Readable) => {
                    self.state.lock().spinning.note(true);
                    Polled::Readable
                }
                Some(Spun::InVain) => {
                    self.spun_in_vain();
                    sleep()
                }
                Some(Spun::Ended) | None => sleep(),
            },
        }
    }

    /// Returns `None` where as many others spin as may.
    fn spin(
        &self,
        parker: &Parker,
        deadline: Deadline,
        is_readable: impl Fn() -> bool,
    ) -> Option<Spun> {
        let mut spin = Spin::begin()?;
        let watch = Stopwatch::start();
        loop {
            if parker.is_unparked() || deadline.has_passed() {
                return Some(Spun::Ended);
            }
            // Also where something has come meanwhile: another thread had the processor.
            if watch.has_passed(self.most) {
                return Some(Spun::InVain);
            }
            if is_readable() {
                return Some(Spun::Readable);
            }
            spin.pause();
        }
    }
}

impl State {
    fn new(habit: Habit) -> Self {
        let (spinning, leaving) = (Rests::new(LONGEST_REST), Rests::new(LONGEST_REST_FROM_LEAVING));
        State { habit, spinning, leaving, left: None }
    }

    fn plan(&mut self) -> Plan {
        if self.spinning.rests() {
            return Plan::Sleep;
        }
        match self.habit {
            Habit::Sleeps { .. } => Plan::SleepAndTime,
            Habit::Spins => Plan::Spin,
        }
    }

    fn slept(&mut self, is_short: bool) {
        self.habit = match self.habit {
            Habit::Sleeps { short } if is_short && short + 1 < SHORT_WAITS => {
                Habit::Sleeps { short: short + 1 }
            }
            Habit::Sleeps { .. } if is_short => Habit::Spins,
            _ => Habit::Sleeps { short: 0 },
        };
    }

    fn spun_in_vain(&mut self) {
        self.habit = Habit::Sleeps { short: 0 };
        self.spinning.note(false);
    }

    fn may_leave(&mut self) -> bool {
        self.habit == Habit::Spins && !self.leaving.rests()
    }
}

impl Rests {
    fn new(longest: u32) -> Self {
        Rests { longest, left: 0, next: FIRST_REST, hits: 0 }
    }

    /// Whether it is left undone this time.
    fn rests(&mut self) -> bool {
        let rests = self.left > 0;
        self.left = self.left.saturating_sub(1);
        rests
    }

    /// Notes whether it was worth it.
    fn note(&mut self, was_worth_it: bool) {
        if !was_worth_it {
            self.hits = 0;
            self.left = self.next;
            self.next = (2 * self.next).min(self.longest);
            return;
        }
        self.hits += 1;
        if self.hits == HITS {
            self.hits = 0;
            self.next = (self.next / 2).max(FIRST_REST);
        }
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    const NEVER: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(3600);

    fn spins() -> State {
        State::new(Habit::Spins)
    }

    #[test]
    fn a_thread_spins_after_short_waits_in_a_row() {
        let mut state = State::new(Habit::Sleeps { short: 0 });
        for is_short in [true, true, true, false, true, true, true] {
            assert_eq!(state.plan(), Plan::SleepAndTime);
            state.slept(is_short);
        }
        assert_eq!(state.plan(), Plan::SleepAndTime);
        state.slept(true);
        assert_eq!(state.plan(), Plan::Spin);
    }

    #[test]
    fn a_thread_that_spun_in_vain_rests_and_longer_each_time() {
        let mut state = spins();
        for rest in [8, 16, 32] {
            state.spun_in_vain();
            assert!((0..rest).all(|_| state.plan() == Plan::Sleep));
            for _ in 0..SHORT_WAITS {
                assert_eq!(state.plan(), Plan::SleepAndTime);
                state.slept(true);
            }
            assert_eq!(state.plan(), Plan::Spin);
        }
        (0..2 * HITS).for_each(|_| state.spinning.note(true));
        state.spun_in_vain();
        assert!((0..16).all(|_| state.plan() == Plan::Sleep));
        assert_eq!(state.plan(), Plan::SleepAndTime);
        (0..20).for_each(|_| state.spun_in_vain());
        assert_eq!(state.spinning.left, LONGEST_REST);
    }

    #[test]
    fn a_thread_that_sleeps_does_not_leave_the_turn() {
        let may = |habit| Spinning::with_habit(LONG, habit).leaves(0, 0);
        assert!(may(Habit::Spins) && !may(Habit::Sleeps { short: 3 }));
        assert!(!Spinning::with_habit(NEVER, Habit::Spins).leaves(0, 0));
    }

    #[test]
    fn who_comes_back_late_leaves_the_turn_less_often() {
        let spinning = Spinning::with_habit(LONG, Habit::Spins);
        assert!(spinning.leaves(0, 0));
        spinning.came_back(0);
        assert!(spinning.leaves(0, 0));
        spinning.state.lock().left.as_mut().into_iter().for_each(|left| left.most = NEVER);
        spinning.came_back(0);
        assert!((0..FIRST_REST).all(|_| !spinning.leaves(0, 0)));
        assert!(spinning.leaves(1, 0));
        let left = spinning.state.lock().left.take();
        assert!(left.is_some_and(|left| left.most == LONG / 2 + LONG / 20));
        // Nothing is noted of a turn that was not left.
        spinning.came_back(0);
        assert!(spinning.leaves(0, 0));
    }

    #[test]
    fn who_has_written_much_meanwhile_does_not_come_back_late() {
        let spinning = Spinning::with_habit(LONG, Habit::Spins);
        let is_late = |written: usize, later: usize| {
            assert!(spinning.leaves(0, written));
            spinning.state.lock().left.as_mut().into_iter().for_each(|left| left.most = NEVER);
            spinning.came_back(written.wrapping_add(later));
            std::mem::take(&mut spinning.state.lock().leaving.left) > 0
        };
        // Four million seconds, in four million KiB.
        assert!(!is_late(7, usize::MAX / 2) && !is_late(usize::MAX, usize::MAX / 2));
        assert!(is_late(7, 0) && is_late(7, 1023));
    }

    #[test]
    fn a_turn_that_others_had_to_see_to_was_left_in_vain() {
        let spinning = Spinning::with_habit(LONG, Habit::Spins);
        assert!(spinning.leaves(1, 0));
        spinning.left_in_vain();
        assert!((0..FIRST_REST).all(|_| !spinning.leaves(1, 0)));
        spinning.left_in_vain();
        assert!(spinning.leaves(1, 0), "nothing was left");
    }

    #[test]
    fn nobody_spins_beyond_a_deadline_or_without_limit() {
        let spinning = Spinning::new(Duration::MAX);
        assert_eq!(spinning.most, LONGEST);
        spinning.state.lock().habit = Habit::Spins;
        assert!(spinning.leaves(u32::MAX, 0));
        let soon = Deadline::after(Duration::from_millis(1));
        let spinning = Spinning::with_habit(LONG, Habit::Spins);
        for _ in 0..2 {
            let polled = spinning.wait(&Parker::new(), soon, || false, || Polled::Late);
            assert_eq!(polled, Polled::Late);
        }
        assert_eq!(spinning.state.lock().plan(), Plan::Spin, "it was not in vain");
    }

    #[test]
    fn bytes_that_are_no_message_end_the_habit() {
        let spinning = Spinning::with_habit(LONG, Habit::Spins);
        (1..FRAGMENTS).for_each(|_| spinning.has_read(0));
        spinning.has_read(1);
        (1..FRAGMENTS).for_each(|_| spinning.has_read(0));
        assert_eq!(spinning.state.lock().plan(), Plan::Spin);
        spinning.has_read(0);
        assert_eq!(spinning.state.lock().plan(), Plan::Sleep);
    }

    #[test]
    fn a_thread_that_spins_looks_until_something_is_there_or_it_is_unparked() {
        let (spinning, parker) = (Spinning::with_habit(LONG, Habit::Spins), Parker::new());
        let looks = Cell::new(0);
        let look = |found_at| {
            looks.set(looks.get() + 1);
            looks.get() == found_at
        };
        let asleep = || unreachable!("it does not sleep");
        assert_eq!(spinning.wait(&parker, Deadline::NEVER, || look(3), asleep), Polled::Readable);
        assert_eq!(looks.get(), 3);
        let unparked = || {
            parker.unparker().unpark();
            false
        };
        assert_eq!(
            spinning.wait(&parker, Deadline::NEVER, unparked, || Polled::Unparked),
            Polled::Unparked
        );
        // Its time is over at once.
        let in_vain = Spinning::with_habit(Duration::from_nanos(1), Habit::Spins);
        assert_eq!(
            in_vain.wait(&Parker::new(), Deadline::NEVER, || false, || Polled::Late),
            Polled::Late
        );
        assert_eq!(in_vain.state.lock().plan(), Plan::Sleep);
    }
}
