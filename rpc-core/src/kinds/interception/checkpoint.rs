//! Interceptors at a connection.
//!
//! Calls that peers make pass in the order in which they came. If one is delayed, what
//! the peer sends after it is held back as the flow limit holds calls back: Note [flow
//! limit]. That note says what order has to be kept besides that of calls, and what has to
//! be delivered whatever the limit is. If a delayed call stands in front of something of
//! the latter kind, its delay is cut short.
//!
//! A call that leaves is put to the interceptors by the thread that makes it, or that
//! passes it on. If it is delayed, the thread waits, as it waits for room on the
//! connection: a promise behind the same client could resolve in the meantime, and later
//! calls would take a shorter way. Threads that must not wait fail the call instead.

use std::sync::{Arc, Weak};

use crate::cap::call::{Delays, Queue};
use crate::cap::client::Client;
use crate::cap::delivery::{CallRequest, Delivery, cancelled};
use crate::cap::effects::{self, Effect};
use crate::cap::interceptor::{Chain, Decision, Delay, Interceptors, Released, Side};
use crate::deadline::Deadline;
use crate::error::{Error, Timeout};
use crate::protocol::border::deliver_past_border;
use crate::protocol::named::Hosted;
use crate::protocol::{Border, Machine, Onward, Pause};
use crate::sync::Mutex;
use crate::work::event::Event;
use crate::work::role;

/// The interceptors of one connection.
pub(crate) struct Checkpoint {
    incoming: Option<Chain>,
    outgoing: Option<Chain>,
    /// What stops calls behind the interceptors: a gateway.
    next: Option<Arc<dyn Border>>,
}

impl Checkpoint {
    /// The border with these interceptors in front of another one.
    pub(crate) fn border(
        interceptors: &Interceptors,
        next: Option<Arc<dyn Border>>,
    ) -> Option<Arc<dyn Border>> {
        if interceptors.is_empty() {
            return next;
        }
        Some(Arc::new(Checkpoint {
            incoming: interceptors.chain(Side::Incoming),
            outgoing: interceptors.chain(Side::Outgoing),
            next,
        }))
    }

    /// The next border, if it stops this.
    fn next_for(&self, delivery: &Delivery) -> Option<Arc<dyn Border>> {
        self.next.clone().filter(|next| next.stops(delivery))
    }

    // ---- Outwards

    fn leave(&self, machine: &Arc<Machine>, target: Client, call: CallRequest) {
        let Some(chain) = &self.outgoing else {
            return self.leave_for(machine, &target.clone(), target, Delivery::Call(call));
        };
        let mut decision = chain.decide(&call, target.clone());
        loop {
            match decision {
                Decision::Deliver(to) => {
                    return self.leave_for(machine, &target, to, Delivery::Call(call));
                }
                Decision::Refuse(error) => return Delivery::Call(call).fail(&error),
                Decision::Delay { delay, target, next } => match wait_here(delay, &call) {
                    Ok(how) => decision = chain.resume(next, how, &call, target),
                    Err(error) => return Delivery::Call(call).fail(&error),
                },
            }
        }
    }

    /// `first` is where the call was about to leave.
    fn leave_for(&self, machine: &Arc<Machine>, first: &Client, to: Client, delivery: Delivery) {
        if to.address() != first.address() {
            // The other capability may be in front of any border.
            return to.deliver(delivery);
        }
        match self.next_for(&delivery) {
            Some(next) => next.outwards(machine, to, delivery),
            None => deliver_past_border(to, delivery),
        }
    }

    // ---- Inwards

    /// `first` is what was at the place that the peer has called, and that is kept.
    fn pass_inwards(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        call: CallRequest,
        first: Client,
        decision: Decision,
        kept: Option<Hosted>,
    ) -> Onward {
        match decision {
            Decision::Deliver(target) => {
                // The interceptors may have taken their time, and meanwhile the place may have been
                // described to the peer, whose later calls take another way (Note [described
                // path]).
                let target = match &kept {
                    Some(place) if target.address() == first.address() => place.target(),
                    _ => target,
                };
                let delivery = Delivery::Call(call);
                match self.next_for(&delivery) {
                    Some(next) => return next.inwards(machine, target, delivery, kept),
                    None => target.deliver(delivery),
                }
            }
            Decision::Refuse(error) => Delivery::Call(call).fail(&error),
            Decision::Delay { delay, target, next } => {
                let delayed = Delayed { call, first, target, next, kept };
                Paused::begin(self, machine, delayed, delay);
                return Onward::Paused;
            }
        }
        drop(kept);
        Onward::GoesOn
    }
}

impl Border for Checkpoint {
    fn stops(&self, delivery: &Delivery) -> bool {
        matches!(delivery, Delivery::Call(_))
    }

    fn pauses(&self) -> bool {
        self.incoming.as_ref().is_some_and(Chain::decides)
    }

    fn outwards(self: Arc<Self>, machine: &Arc<Machine>, target: Client, delivery: Delivery) {
        match delivery {
            Delivery::Call(call) => self.leave(machine, target, call),
            other @ (Delivery::Disembargo(_) | Delivery::Lift(_) | Delivery::Join(_)) => {
                deliver_past_border(target, other);
            }
        }
    }

    fn inwards(
        self: Arc<Self>,
        machine: &Arc<Machine>,
        target: Client,
        delivery: Delivery,
        kept: Option<Hosted>,
    ) -> Onward {
        match delivery {
            Delivery::Call(call) => {
                let first = target.clone();
                let decision = match &self.incoming {
                    Some(chain) => chain.decide(&call, target),
                    None => Decision::Deliver(target),
                };
                self.pass_inwards(machine, call, first, decision, kept)
            }
            other @ (Delivery::Disembargo(_) | Delivery::Lift(_) | Delivery::Join(_)) => {
                target.deliver(other);
                Onward::GoesOn
            }
        }
    }
}

/// A call of a peer that is delayed. The connection delivers nothing else meanwhile.
///
/// ```text
/// Waits ──released, cut short, or cancelled──► Over
/// ```
struct Paused {
    checkpoint: Arc<Checkpoint>,
    machine: Arc<Machine>,
    /// `None` once this is over. The lock is a leaf.
    delayed: Mutex<Option<Delayed>>,
}

struct Delayed {
    call: CallRequest,
    /// What was at the place that the peer has called.
    first: Client,
    target: Client,
    /// The first interceptor that was not asked yet.
    next: usize,
    /// That place. Also what may keep the call from being cancelled before it is on its way.
    kept: Option<Hosted>,
}

impl Paused {
    fn begin(checkpoint: &Arc<Checkpoint>, machine: &Arc<Machine>, delayed: Delayed, delay: Delay) {
        let cell = Arc::clone(&delayed.call.cell);
        let this = Arc::new(Paused {
            checkpoint: Arc::clone(checkpoint),
            machine: Arc::clone(machine),
            delayed: Mutex::new(None),
        });
        let known: Weak<Paused> = Arc::downgrade(&this);
        // The cell is told first: see `LocalPromise::accept`.
        cell.queued_in(Queue::Delayed(Weak::clone(&known) as _), 0);
        *this.delayed.lock() = Some(delayed);
        // Whoever may release the call keeps this.
        let released = Arc::clone(&this);
        delay.on_release(Box::new(move |how| released.go_on(how)));
        machine.is_paused_by(known as _);
        if cell.is_unwanted() {
            // The thread that cancelled the call may have looked before this knew it.
            this.withdraw(0);
        }
    }

    fn go_on(&self, how: Released) {
        let Some(Delayed { call, first, target, next, kept }) = self.delayed.lock().take() else {
            return drop(how);
        };
        call.cell.left_queue();
        let in_hand = self.machine.takes_in_hand();
        let onward = if call.cell.is_unwanted() {
            Delivery::Call(call).fail(&cancelled());
            Onward::GoesOn
        } else {
            let decision = match &self.checkpoint.incoming {
                Some(chain) => chain.resume(next, how, &call, target),
                None => Decision::Deliver(target),
            };
            self.checkpoint.pass_inwards(&self.machine, call, first, decision, kept)
        };
        drop(in_hand);
        if onward == Onward::GoesOn {
            self.resume();
        }
    }

    /// Lets the connection deliver what comes next. This is an effect: the thread may be in
    /// the middle of delivering what came before.
    fn resume(&self) {
        let machine = Arc::clone(&self.machine);
        effects::defer(Effect::Do(Box::new(move || machine.go_on_releasing())));
    }
}

impl Delays for Paused {
    fn withdraw(self: Arc<Self>, _place: u64) {
        let gone = self.delayed.lock().take();
        if let Some(delayed) = gone {
            Delivery::Call(delayed.call).fail(&cancelled());
            drop((delayed.first, delayed.target, delayed.kept));
            self.resume();
        }
    }
}

impl Pause for Paused {
    fn cut_short(self: Arc<Self>) {
        self.go_on(Released::Pass);
    }
}

/// Waits on this thread until a call that is about to leave is released.
///
/// # Errors
/// The call is over, or this thread must not wait.
fn wait_here(delay: Delay, call: &CallRequest) -> Result<Released, Error> {
    if !effects::may_run() || !role::may_wait() {
        return Err(Error::overloaded(
            "an interceptor delays the call, and the thread that makes it must not wait; \
             intercept the capability itself, or the calls that lead to this one",
        ));
    }
    #[derive(Default)]
    struct Ended {
        event: Event,
        how: Mutex<Option<Released>>,
    }
    let ended = Arc::new(Ended::default());
    let released = Arc::clone(&ended);
    delay.on_release(Box::new(move |how| {
        *released.how.lock() = Some(how);
        released.event.set();
    }));
    let over = Arc::clone(&ended);
    call.cell.tell_when_done(Box::new(move |_| over.event.set()));
    effects::catch_up();
    let deadline = call.cell.deadline().map_or(Deadline::NEVER, Deadline::at);
    let in_time = ended.event.wait(deadline)?;
    let how = ended.how.lock().take();
    match how {
        Some(how) => Ok(how),
        // The outcome is there already, and this one does not count.
        None if in_time => Err(cancelled()),
        None => Err(Error::timed_out(
            Timeout::NeverSent,
            "the time for the call was over while an interceptor delayed it",
        )),
    }
}
