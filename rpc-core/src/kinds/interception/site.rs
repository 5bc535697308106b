//! Interceptors in front of one capability.
//!
//! # State model
//!
//! ```text
//! Open ──call delayed──► Held ──the first in the queue is released, or gone──► Passing
//! Passing ──the first in the queue is delayed──► Held
//! Passing ──queue seen empty──► Open
//! ```
//!
//! - **Open**: nothing waits. Each call passes the interceptors on its own thread, and goes
//!   on to the capability.
//! - **Held**: the first call in the queue is delayed. Every other one joins the queue, most
//!   of them before the interceptors are asked about them.
//! - **Passing**: one thread takes calls out of the queue, one by one, and lets them pass the
//!   interceptors. Those that come now still join the queue.
//!
//! Two calls that come to an Open site at the same time, on two threads, may both be
//! delayed. Then both wait in the queue, and neither order is wrong.
//!
//! The lock is a leaf, and nothing is dropped under it. Interceptors are asked without it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::cap::call::{Delays, Queue};
use crate::cap::capability::Capability;
use crate::cap::client::Client;
use crate::cap::delivery::{CallRequest, Delivery, cancelled};
use crate::cap::effects::{self, Effect};
use crate::cap::interceptor::{Chain, Decision, Delay, Interceptor, Released, Side};
use crate::cap::sameness::number::Number;
use crate::cap::stream::{Stream, StreamSlot};
use crate::fd::SharedFd;
use crate::flow::FixedWindow;
use crate::sync::Mutex;

pub(crate) struct Site {
    this: Weak<Site>,
    inner: Client,
    side: Side,
    chain: Chain,
    line: Mutex<Line>,
    stream: StreamSlot,
    number: Number,
}

#[derive(Default)]
struct Line {
    queue: BTreeMap<u64, Waiting>,
    next_place: u64,
    phase: Phase,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Held,
    Passing,
}

struct Waiting {
    call: CallRequest,
    /// Where the call goes next.
    target: Client,
    turn: Turn,
}

enum Turn {
    /// The interceptors have not been asked.
    New,
    /// It is delayed. Then the interceptors from this number on are asked.
    Delayed(usize),
    Released(usize, Released),
}

impl Site {
    pub(super) fn new(
        inner: Client,
        side: Side,
        interceptors: Vec<Arc<dyn Interceptor>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Site {
            this: Weak::clone(this),
            inner,
            side,
            chain: Chain::new(side, interceptors),
            line: Mutex::default(),
            stream: StreamSlot::default(),
            number: Number::default(),
        })
    }

    fn new_place(&self) -> u64 {
        let mut line = self.line.lock();
        line.next_place += 1;
        line.next_place
    }

    /// Puts a call at a place in the queue.
    fn enter(self: &Arc<Self>, place: u64, waiting: Waiting) {
        let cell = Arc::clone(&waiting.call.cell);
        // The cell is told first: see `LocalPromise::accept`.
        cell.queued_in(Queue::Delayed(Weak::clone(&self.this) as _), place);
        {
            let mut line = self.line.lock();
            line.queue.insert(place, waiting);
            if line.phase == Phase::Open {
                line.phase = Phase::Held;
            }
        }
        if cell.is_unwanted() {
            // The thread that cancelled the call may have looked before the call was in
            // the queue.
            Arc::clone(self).withdraw(place);
        }
    }

    /// Makes a call at this place wait for its release.
    fn hold(self: &Arc<Self>, place: u64, delay: Delay, waiting: Waiting) {
        self.enter(place, waiting);
        // Whoever may release the call keeps the site.
        let this = Arc::clone(self);
        delay.on_release(Box::new(move |how| this.released(place, how)));
    }

    fn released(self: &Arc<Self>, place: u64, how: Released) {
        let unused = {
            let mut line = self.line.lock();
            match line.queue.get_mut(&place) {
                Some(Waiting { turn, .. }) => match turn {
                    Turn::Delayed(next) => {
                        *turn = Turn::Released(*next, how);
                        None
                    }
                    Turn::New | Turn::Released(..) => Some(how),
                },
                // It was cancelled.
                None => Some(how),
            }
        };
        drop(unused);
        self.go_on();
    }

    /// Lets pass what can, unless another thread is doing so.
    fn go_on(self: &Arc<Self>) {
        {
            let mut line = self.line.lock();
            if line.phase != Phase::Held {
                return;
            }
            line.phase = Phase::Passing;
        }
        while let Some((place, waiting)) = self.next() {
            let Waiting { call, target, turn } = waiting;
            call.cell.left_queue();
            if call.cell.is_unwanted() {
                Delivery::Call(call).fail(&cancelled());
                continue;
            }
            let decision = match turn {
                Turn::New => self.chain.decide(&call, target),
                Turn::Released(next, how) => self.chain.resume(next, how, &call, target),
                Turn::Delayed(_) => continue,
            };
            match decision {
                Decision::Deliver(target) => target.deliver(Delivery::Call(call)),
                Decision::Refuse(error) => Delivery::Call(call).fail(&error),
                Decision::Delay { delay, target, next } => {
                    let turn = Turn::Delayed(next);
                    self.hold(place, delay, Waiting { call, target, turn });
                }
            }
        }
    }

    /// Takes the first call out, if it may go on; otherwise ends `Passing`.
    fn next(&self) -> Option<(u64, Waiting)> {
        let mut line = self.line.lock();
        let Some(first) = line.queue.first_entry() else {
            line.phase = Phase::Open;
            return None;
        };
        if matches!(first.get().turn, Turn::Delayed(_)) {
            line.phase = Phase::Held;
            return None;
        }
        Some(first.remove_entry())
    }
}

impl Delays for Site {
    fn withdraw(self: Arc<Self>, place: u64) {
        let gone = self.line.lock().queue.remove(&place);
        if let Some(waiting) = gone {
            Delivery::Call(waiting.call).fail(&cancelled());
            // It may have been all that the others waited for.
            self.go_on();
        }
    }
}

impl Capability for Site {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        let delivery = match (self.side, delivery) {
            // It is the object's.
            (Side::Incoming, join @ Delivery::Join(_)) => return Err((self.inner.clone(), join)),
            (_, other) => other,
        };
        let Some(call) = delivery.call_or_answer(&self.number) else { return Ok(()) };
        let target = self.inner.clone();
        if self.line.lock().phase != Phase::Open {
            let place = self.new_place();
            self.enter(place, Waiting { call, target, turn: Turn::New });
            // The queue may have become empty in the meantime.
            self.go_on();
            return Ok(());
        }
        match self.chain.decide(&call, target) {
            Decision::Deliver(target) => Err((target, Delivery::Call(call))),
            Decision::Refuse(error) => {
                Delivery::Call(call).fail(&error);
                Ok(())
            }
            Decision::Delay { delay, target, next } => {
                let place = self.new_place();
                self.hold(place, delay, Waiting { call, target, turn: Turn::Delayed(next) });
                Ok(())
            }
        }
    }

    fn behind(&self) -> Option<Client> {
        Some(self.inner.clone())
    }

    fn object(&self) -> Option<Client> {
        match self.side {
            Side::Incoming => Some(self.inner.clone()),
            Side::Outgoing => None,
        }
    }

    /// The interceptors have a stream of their own: a call that is refused does not end the
    /// stream of what is behind them.
    fn stream(&self) -> Arc<Stream> {
        self.stream.get_or_make(|| match self.inner.innermost().connection() {
            Some(connection) => connection.flow_controller(),
            None => Box::new(FixedWindow::DEFAULT),
        })
    }

    fn adopt_stream(&self, stream: Arc<Stream>) {
        self.stream.adopt(stream);
    }

    fn fd(&self) -> Option<SharedFd> {
        self.inner.fd()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            // For people it is the object.
            Side::Incoming => self.inner.describe(f),
            Side::Outgoing => write!(f, "intercepted {:?}", self.inner),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Chains are taken apart one by one, see Note [effects].
        effects::defer(Effect::drop(std::mem::take(&mut self.inner)));
    }
}
