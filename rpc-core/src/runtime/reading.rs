//! Who reads from a connection's socket.
//!
//! Note [reading in turns]
//!
//! The right to read is a *turn*, as the right to write is (Note [turns]). Whoever has it
//! reads, and makes the steps of what was read, so the order of the bytes is the order of
//! the steps. These take it when it is free:
//!
//! - a thread that waits for something that this connection may bring (a *guest*), until it
//!   has that;
//! - a worker that has run what this connection brought, and finds nothing else to do, for
//!   a short time: the next call is then here without waking another thread;
//! - the receive thread, which *stands by*, when something comes and nobody has the turn.
//!
//! What becomes of the turn is in `reading/turn.rs`.
//!
//! A thread that makes a call which it is going to wait for takes the turn before it sends
//! the call, and keeps it until it waits: the answer may come before that, and would wake the
//! receive thread. If the thread does anything else before, it gives the turn back first
//! (Note [progress]).
//!
//! - At every moment something that comes has a thread that will read it, or be told to after
//!   a millisecond (Note [left to read]).
//! - A guest that was unparked or is late reads no more, though more has come, and neither
//!   does a worker that keeps a job (Note [kept jobs]).
//! - Whole messages that were read are worked off before the turn is given back, as far as that
//!   is little; what is more, the receive thread is called for, and nobody else gets the turn
//!   before it. What there is of a further message stays with the reader.
//! - Only the receive thread waits for the coordinator: the message for which there is no room
//!   is left to it, with the turn. A guest that waited would see neither its deadline nor its
//!   answer, and the coordinator may depend on what the guest does then.
//! - A guest is unparked as it is where it sleeps otherwise: by its answer, by a
//!   cancellation, by its deadline, by the end of the connection.
//! - No application code runs on a guest (Note [progress]): effects that would run it, and
//!   everything behind them, go to the coordinator, and so do all later messages until
//!   the coordinator has caught up.
//! - A panic gives the turn back and ends the connection.
//!
//! A transport within this process has no descriptor, but tells of arrivals
//! (`sync/arrivals.rs`). There a thread also makes the steps of the other side, and nobody
//! sleeps with the turn: Note [both sides].
//!
//! A transport that tells of nothing, and a process that has no descriptor left, keep to the
//! receive thread. Where connections share their threads, an attendant does what the receive
//! thread would do (Note [shared threads]).

use std::cell::Cell;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use self::aside::Asides;
use self::spinning::Spinning;
use self::turn::{Next, Owner, Turn};
use super::attendants::{Resident, Summons};
use super::connection;
use super::receiving::{Entrance, Incoming, MAX_HELD, Receiving};
use super::sending::Sending;
use super::standing::{Shared, Standing, Tells};
use crate::cap::effects;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::fd::Descriptor;
use crate::log::tell;
use crate::panics;
use crate::protocol::Machine;
use crate::sync::{Mutex, Parker, Polled};
use crate::transport::MessageReader;
use crate::work::event::Event;
use crate::work::left;
use crate::work::origin::{OnBehalf, Origin};
use crate::work::pool::Pool;
use crate::work::progress::{Hands, Making, OwnQuestion, Progress, SetAside};
use crate::work::role::{InRole, Role};
use crate::work::waiting;
use crate::work::waking::Batch;

/// The bytes of what was read that a thread works off which has something else to do, before it
/// leaves the rest to the receive thread. A reader's buffer full of short messages costs less. In a
/// model there is not as much.
const REST: usize = if cfg!(rpc_model) { STEP } else { 512 << 10 };

/// The number of messages that are worked off before a thread looks for what else there is to do.
const TOGETHER: usize = if cfg!(rpc_model) { 1 } else { MAX_HELD };

/// What a message costs beside its bytes, in bytes.
const STEP: usize = 64;

/// The size in bytes of a message after which a thread that reads looks for what else there is
/// to do: a worker runs one chunk of a stream before it reads the next one, which would
/// otherwise go to another worker.
const LONG: usize = 16 << 10;

/// How long a worker that has nothing else to do waits for more to come.
const LINGER: Duration = Duration::from_millis(20);

/// How long a worker reads that finds no job in what comes. Its vat may want to end.
const MAX_IDLE: Duration = Duration::from_secs(1);

/// The reading side of a connection whose threads take turns.
pub(super) struct Reading {
    owner: Owner,
    standing: Standing,
    spinning: Spinning,
    stands_by: StandsBy,
    /// The transport has taken something in before: its descriptor does not tell of it.
    is_ahead: bool,
    /// Used by whoever has the turn, so that nobody waits for the lock. Absent once the
    /// receive thread has ended.
    source: Mutex<Option<Source>>,
    entrance: Entrance,
    receiving: Arc<Receiving>,
    sending: Arc<Sending>,
    machine: Arc<Machine>,
    pool: Weak<Pool>,
    /// What the send thread looks after for others.
    asides: Asides,
    /// What calls an attendant, where attendants stand by.
    summons: OnceLock<Summons>,
    this: Weak<Reading>,
}

/// What is read.
struct Source {
    reader: Box<dyn MessageReader>,
    /// What was read before, and found no room at the coordinator. Only the receive thread, or
    /// an attendant, gets the turn while there is something here.
    stuck: Option<Box<Incoming>>,
}

/// How a connection waits for what comes.
pub(super) struct Waits {
    /// The set in which other connections are stood by for, too, and the number of this one.
    pub(super) shared: Shared,
    /// How long a thread that reads spins at the most: Note [spinning].
    pub(super) spin: Duration,
}

/// Who reads what nobody else reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StandsBy {
    /// A receive thread, which [stands by](Reading::stand_by).
    OwnThread,
    /// Attendants: Note [shared threads].
    Attendants,
}

/// On whose thread the steps are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The receive thread's, or an attendant's: it may wait for the coordinator.
    Resident,
    /// That of a worker which has nothing else to do.
    Worker,
    /// The application's, which waits for something else.
    Guest,
}

impl Reading {
    /// Prepares reading in turns.
    ///
    /// Where attendants stand by nothing is read before [`begin`](Self::begin), and
    /// the turn is taken.
    ///
    /// # Errors
    /// Gives the reader back if its transport does not allow this.
    pub(super) fn new(
        reader: Box<dyn MessageReader>,
        waits: Waits,
        entrance: Entrance,
        receiving: Arc<Receiving>,
        sending: Arc<Sending>,
        machine: Arc<Machine>,
        pool: Weak<Pool>,
    ) -> Result<Arc<Self>, (Box<dyn MessageReader>, Entrance)> {
        let asked = || Tells::of(&*reader).map(|tells| (tells, reader.has_buffered()));
        let asked = panics::caught("a transport's reader", asked);
        let Some((tells, is_ahead)) = asked.ok().flatten() else {
            return Err((reader, entrance));
        };
        let stands_by = match (&tells, &waits.shared) {
            (Tells::Descriptor(_), Some(_)) => StandsBy::Attendants,
            _ => StandsBy::OwnThread,
        };
        let standing = match Standing::new(tells, waits.shared) {
            Ok(standing) => standing,
            Err(error) => {
                tell!(DEBUG, %error, "only the receive thread of a connection reads");
                return Err((reader, entrance));
            }
        };
        let owner = match stands_by {
            StandsBy::Attendants => Owner::somebody(),
            // Nothing tells of what is there.
            StandsBy::OwnThread if is_ahead => Owner::resident(),
            StandsBy::OwnThread => Owner::nobody(),
        };
        let reading = Arc::new_cyclic(|this| Reading {
            owner,
            standing,
            spinning: Spinning::new(waits.spin),
            stands_by,
            is_ahead,
            source: Mutex::new(Some(Source { reader, stuck: None })),
            entrance,
            receiving,
            sending,
            machine,
            pool,
            asides: Asides::default(),
            summons: OnceLock::new(),
            this: Weak::clone(this),
        });
        let this: Weak<dyn Progress> = Arc::downgrade(&reading) as _;
        reading.machine.room().set_progress(this);
        reading.sending.watch(Arc::downgrade(&reading) as _);
        Ok(reading)
    }

    /// Who has to stand by for this.
    pub(super) fn stands_by(&self) -> StandsBy {
        self.stands_by
    }

    /// What the receive thread does, until the stream is over.
    pub(super) fn stand_by(&self) {
        self.open_to_other();
        if self.is_ahead {
            self.read_what_is_there();
        }
        while !self.owner.is_over() {
            left::write();
            if let Err(error) = self.standing.wait() {
                self.receiving
                    .pass_on(&self.entrance, Incoming::End(Error::disconnected(error.to_string())));
                break;
            }
            self.read_what_is_there();
        }
        self.drop_reader();
    }

    /// Lets attendants, for whom `summons` calls, and others read from now on. (A socket whose
    /// peer is gone may have called for an attendant before that, and is armed anew here.)
    pub(super) fn begin(&self, summons: &Summons) {
        let _ = self.summons.set(summons.clone());
        let mut turn = self.kept_turn();
        if self.is_ahead {
            turn.next = Next::Rest;
        }
    }

    /// Does what the receive thread would do now. Returns whether the stream is over.
    fn attend(&self) -> bool {
        self.read_what_is_there();
        let is_over = self.owner.is_over();
        if is_over {
            self.drop_reader();
        }
        is_over
    }

    /// Reads what is there, as the resident, which was called a while ago. Others may have read
    /// it since, and the reader, which relies on its caller to know, would wait for more.
    fn read_what_is_there(&self) {
        if let Some(mut turn) = self.claim_as_resident()
            && (self.standing.is_readable() || self.has_some_left())
        {
            self.work_off(&mut turn, Whose::Resident, || true);
        }
    }

    /// Whether something was read before, or taken in, and is still to be worked off.
    fn has_some_left(&self) -> bool {
        let source = self.source.lock();
        source.as_ref().is_some_and(|source| source.stuck.is_some() || source.has_buffered())
    }

    fn drop_reader(&self) {
        let source = self.source.lock().take();
        let _ = panics::caught("the drop of a transport's reader", || drop(source));
    }

    fn standby_is(&self, set: impl Fn(&Standing) -> std::io::Result<()>) {
        if let Err(error) = set(&self.standing) {
            // The descriptor is in the set as long as both exist.
            tell!(ERROR, %error, "a connection's socket cannot be waited for");
            self.receiving.give_up(Error::disconnected(error.to_string()));
        }
    }

    /// Calls for the resident, which is to claim the turn that is handed to it.
    fn call_resident(&self) {
        if let Some(summons) = self.summons.get() {
            summons.call();
        } else {
            self.standby_is(Standing::call);
        }
    }

    /// Reads what is there, and makes the steps of it. As soon as `goes_on` says no, which
    /// is asked after some messages, no more is read: more may come as fast as it is worked
    /// off. What has been read is worked off all the same, up to [`REST`].
    fn work_off(&self, turn: &mut Turn<'_>, whose: Whose, goes_on: impl Fn() -> bool) {
        let messages = Cell::new(0_u32);
        self.guarded(turn, || {
            let _serving = InRole::begin(Role::Coordinator(Weak::clone(&self.pool)));
            let _behalf = OnBehalf::begin(Origin::LOCAL);
            let _making = Making::begin(Weak::clone(&self.this) as _);
            let mut source = self.source.lock();
            let Some(source) = &mut *source else { return Next::Nothing };
            let (mut reads_more, mut rest) = (true, REST);
            loop {
                // The batch ends first: Note [waking together].
                let held = self.sending.hold(&self.machine);
                let batch = Batch::begin();
                for _ in 0..TOGETHER {
                    if !reads_more && !source.has_buffered() || !self.has_room_for(whose) {
                        return Next::Later;
                    }
                    if rest == 0 {
                        return Next::Rest;
                    }
                    let next = match source.stuck.take() {
                        Some(stuck) => Some(*stuck),
                        None => self.receiving.next_now(&mut *source.reader),
                    };
                    let Some(event) = next else { return Next::Later };
                    let (last, size) = (event.is_last(), event.size());
                    if let Err(event) = self.take(event, whose) {
                        source.stuck = Some(Box::new(event));
                        return Next::Rest;
                    }
                    if !reads_more {
                        rest = rest.saturating_sub(size + STEP);
                    }
                    if last {
                        return Next::Nothing;
                    }
                    messages.set(messages.get().saturating_add(1));
                    if size >= LONG {
                        break;
                    }
                }
                drop((batch, held));
                reads_more = reads_more && goes_on();
            }
        });
        turn.messages = messages.get();
        self.spinning.has_read(turn.messages);
    }

    /// Whether steps may be made on such a thread now. Within a process, only the resident makes
    /// any before the coordinator has caught up.
    fn has_room_for(&self, whose: Whose) -> bool {
        whose == Whose::Resident
            || self.standing.descriptor().is_some()
            || self.receiving.has_caught_up()
    }

    /// Does something in the turn, which says what comes next.
    fn guarded(&self, turn: &mut Turn<'_>, work: impl FnOnce() -> Next) {
        let done = connection::guarded("a thread that reads", &self.machine, work);
        turn.next = done.unwrap_or_else(|_| {
            // Nobody has to wait for what was still to be read.
            let reason = Error::disconnected("a thread that reads panicked");
            let end = Incoming::End(reason.clone());
            if self.receiving.try_pass_on(&self.entrance, end).is_err() {
                self.receiving.give_up(reason);
            }
            Next::Nothing
        });
    }

    /// Waits until the descriptor is readable: Note [spinning].
    fn wait(&self, parker: &Parker, descriptor: &Descriptor, deadline: Deadline) -> Polled {
        let sleep = || parker.poll(descriptor, deadline, self.machine.room().home().process());
        self.spinning.wait(parker, deadline, || self.standing.is_readable(), sleep)
    }

    /// Whether a thread that waits may read.
    fn is_for_guests(&self) -> bool {
        // The effects of a step must run, and in a forked child the socket and the standby
        // are those of the parent.
        effects::may_run() && waiting::can_make_progress() && self.machine.room().home().is_here()
    }

    /// Makes the step of what was read, or leaves it to the coordinator. (What the
    /// coordinator does not take any more came after the end.)
    ///
    /// # Errors
    /// The coordinator has no room, and this thread must not wait. The event is handed back.
    fn take(&self, event: Incoming, whose: Whose) -> Result<(), Incoming> {
        let Incoming::Message(message) = event else { return self.pass_on(event, whose) };
        // The policy of a membrane is asked in the middle of an effect.
        let asks = whose == Whose::Guest && effects::ask_the_application();
        if asks || !self.receiving.has_caught_up() {
            return self.pass_on(Incoming::Message(message), whose);
        }
        if whose != Whose::Guest {
            self.machine.receive(message);
            return Ok(());
        }
        match effects::borrowed(|| self.machine.receive(message)) {
            Some(rest) => self.pass_on(Incoming::Rest(rest), whose),
            None => Ok(()),
        }
    }

    fn pass_on(&self, event: Incoming, whose: Whose) -> Result<(), Incoming> {
        // Within a process, nothing is in front of this, and there is room at once.
        if whose == Whose::Resident || self.standing.descriptor().is_none() {
            self.receiving.pass_on(&self.entrance, event);
            return Ok(());
        }
        self.receiving.try_pass_on(&self.entrance, event)
    }
}

impl Source {
    fn has_buffered(&self) -> bool {
        let asked = panics::caught("a transport's reader", || self.reader.has_buffered());
        // A read tells what is wrong with it.
        asked.unwrap_or(true)
    }
}

impl Progress for Reading {
    fn prepare(&self) -> bool {
        match self.standing {
            Standing::Descriptor(_) => {
                self.is_for_guests() && self.claim_elsewhere().is_some_and(Turn::keep)
            }
            Standing::Here(_) => self.is_for_guests() && self.prepare_both(),
        }
    }

    fn prepare_to_answer(&self) -> bool {
        match self.standing {
            Standing::Descriptor(_) => false,
            Standing::Here(_) => effects::may_run() && self.prepare_both(),
        }
    }

    fn give_up(&self) {
        match self.standing {
            Standing::Descriptor(_) => drop(self.kept_turn()),
            Standing::Here(_) => self.give_up_both(),
        }
    }

    fn advance(&self, own: &dyn Fn() -> Option<OwnQuestion>) -> bool {
        match self.standing {
            Standing::Descriptor(_) => true,
            Standing::Here(_) => self.advance_both(own),
        }
    }

    fn make(&self, parker: &Parker, deadline: Deadline, prepared: bool) -> bool {
        let Some(descriptor) = self.standing.descriptor() else {
            self.make_steps_of_both(parker, deadline, prepared);
            return false;
        };
        let turn = if prepared {
            let own = self.kept_turn();
            effects::may_run().then_some(own)
        } else if self.is_for_guests() {
            self.claim_elsewhere()
        } else {
            None
        };
        let Some(mut turn) = turn else { return false };
        let is_over = || deadline.has_passed();
        let mut has_read = false;
        while !parker.was_unparked() && turn.next == Next::Later {
            // What came last may have been passed on: Note [left to write].
            left::write();
            match self.wait(parker, descriptor, deadline) {
                // There may always be something, and never what the thread waits for. But a
                // thread that waits again and again, and never for long, reads each time: it
                // may be the only one that does.
                Polled::Readable if has_read && is_over() => break,
                Polled::Readable => {
                    has_read = true;
                    let goes_on = || !parker.is_unparked() && !is_over();
                    self.work_off(&mut turn, Whose::Guest, goes_on);
                }
                Polled::Unparked | Polled::Late => break,
                Polled::Unable => return false,
            }
        }
        turn.leave();
        true
    }

    fn look_after(&self, aside: Arc<dyn SetAside>) -> bool {
        // The resident may look as soon as it is told.
        self.asides.enter(Arc::clone(&aside));
        let is_watched = self.sending.leave_watched();
        if !is_watched {
            self.asides.forget(&aside);
        }
        is_watched
    }

    fn park(&self, parker: &Parker, deadline: Deadline) -> bool {
        self.park_without_turn(parker, deadline)
    }

    fn make_idly(&self, worker: &dyn Hands) -> bool {
        if !self.machine.room().home().is_here() {
            return false;
        }
        // Who calls from this process makes the steps here, too, and needs the turn for that.
        let Some(descriptor) = self.standing.descriptor() else { return false };
        let Some(mut turn) = self.claim_elsewhere() else { return false };
        let end = Deadline::after(MAX_IDLE);
        while turn.next == Next::Later && !end.has_passed() {
            let deadline = Deadline::after(LINGER);
            left::write();
            match waiting::with_parker(|parker| self.wait(parker, descriptor, deadline)) {
                Polled::Readable => {
                    if worker.keep_first(&mut || {
                        let goes_on = || !worker.keeps() && !end.has_passed();
                        self.work_off(&mut turn, Whose::Worker, goes_on);
                    }) {
                        turn.leave();
                        return true;
                    }
                }
                Polled::Unparked => {}
                Polled::Late | Polled::Unable => break,
            }
        }
        false
    }
}

/// The duty of reading. The reading is absent while an attendant works with it, and after the
/// end: so whoever still has the duty keeps no socket open.
pub(super) struct ReadingDuty {
    reading: Mutex<Option<Arc<Reading>>>,
    gone: Arc<Event>,
}

impl ReadingDuty {
    /// `gone` is set when nothing is left to be done.
    pub(super) fn new(reading: Arc<Reading>, gone: &Arc<Event>) -> Self {
        ReadingDuty { reading: Mutex::new(Some(reading)), gone: Arc::clone(gone) }
    }
}

impl Resident for ReadingDuty {
    fn attend(&self) {
        let Some(reading) = self.reading.lock().take() else { return };
        if reading.attend() {
            drop(reading);
            self.gone.set();
        } else {
            *self.reading.lock() = Some(reading);
        }
    }
}

mod aside;
mod both;
mod spinning;
#[cfg(all(test, not(rpc_model), any(target_os = "linux", target_os = "android")))]
mod tests;
mod turn;
