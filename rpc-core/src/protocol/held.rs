//! Calls of the peer that are held back because too many are under way already.
//!
//! Note [flow limit]
//!
//! The parameters of calls that were delivered and are not over yet are counted in
//! words. Each call counts once, wherever it is passed on to. While the sum exceeds the
//! flow limit, further calls are held back. Only the delivery is held back: the target
//! was looked up when the call arrived ([`Hosted`]), so that a Release or a Finish
//! behind it changes nothing. Other kinds of messages are not held back, and no thread
//! waits for the calls: neither the one that reads nor the one that takes messages in.
//! `Limits::held_back_bytes` bounds a peer that goes on sending calls.
//!
//! All calls wait in one queue, and leave it in the order in which they came. With them
//! wait
//! - a Disembargo that has to be returned: it travels as a call does. It ends an embargo
//!   of the peer, for which an embargo of this side may wait (Note [turned disembargoes]),
//!   and for that a method whose call is counted. So if there is an embargo of this side,
//!   everything up to the Disembargo is delivered, whatever the limit is;
//! - the end of an embargo of this side: it says that all calls which went through the
//!   peer have come back, and some of these may be in the queue. A method whose call is
//!   counted may be waiting for calls in front of the embargo's end. So everything up
//!   to there is delivered, too;
//! - a reference to a place of this side that the peer sends back: Note [held references].
//!
//! # State model
//!
//! ```text
//! Open ──call over the limit──► Holding ⇄ Releasing ──queue seen empty──► Open
//! ```
//!
//! - **Open**: deliveries leave right after the transaction in which they came.
//! - **Holding**: every delivery joins the queue.
//! - **Releasing**: one thread takes deliveries out of the queue, each in a transaction
//!   of its own, and hands them over without the lock. Deliveries that come now still
//!   join the queue, so nothing is overtaken. The state goes back to Holding when the
//!   limit is reached.
//!
//! The border may delay a call, too ([`Onward::Paused`]). Then the state stays Releasing until
//! the border lets the call go on, so everything behind it waits. If something behind it
//! has to be delivered whatever the limit is, the delay is cut short. On a connection with
//! such a border all deliveries pass the queue.
//!
//! A thread that ends a call, and finds that something is held back, releases. This
//! thread takes words away and then looks at the queue. A thread that holds a call back
//! adds to the queue and then looks at the words. So one of the two sees what the other
//! has done.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::counted::Counted;
use super::handoff::meetings::Lifted;
use super::named::Hosted;
use super::{Abort, Machine, Onward, Pause, Txn};
use crate::cap::call::{CallCell, Interest, Queue};
use crate::cap::delivery::{Delivery, Route, cancelled};
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::LocalPromise;
use crate::cap::roster::Roster;
use crate::error::Error;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The part of the state that is read without the order lock.
pub(super) struct Load {
    limit: AtomicU64,
    /// The words of the calls that were delivered and are not over.
    words: AtomicU64,
    /// The number of deliveries that wait.
    held: AtomicUsize,
}

impl Load {
    pub(super) fn new(limit: u64) -> Self {
        Load { limit: AtomicU64::new(limit), words: AtomicU64::new(0), held: AtomicUsize::new(0) }
    }

    pub(super) fn words(&self) -> u64 {
        self.words.load(Ordering::SeqCst)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Whether one more call may be delivered. If no other is under way, a call always
    /// may, however large it is and however low the limit.
    fn has_room(&self) -> bool {
        self.words() <= self.limit.load(Ordering::SeqCst)
    }
}

/// The deliveries that wait, guarded by the order lock.
#[derive(Default)]
pub(super) struct Held {
    queue: BTreeMap<u64, Item>,
    next_place: u64,
    /// The place up to which everything is delivered, whatever the limit is.
    forced: u64,
    bytes: u64,
    phase: Phase,
    /// The place of the delivery that was taken out last.
    taken: u64,
    /// The call that the border delays, perhaps.
    pause: Option<Weak<dyn Pause>>,
    /// The calls that the peer has finished, but still wants to be delivered.
    arriving: Arc<Roster>,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    /// Open if the queue is empty, Holding otherwise.
    #[default]
    Still,
    Releasing,
}

pub(super) enum Item {
    Delivery {
        target: Hosted,
        delivery: Delivery,
        words: u64,
    },
    /// A promise that leads to a place of this side from here on.
    Lead(Arc<LocalPromise>, Hosted),
    /// The outcome of a call that came back, for the call that asked for it.
    Take(Arc<CallCell>, Interest),
    /// The end of an embargo of what the peer has provided: Note [handoff].
    Lift(Lifted),
}

/// The memory that an [`Item`] other than a delivery takes, roughly.
const ITEM_BYTES: u64 = 256;

impl Item {
    fn is_call(&self) -> bool {
        matches!(self, Item::Delivery { words: 1.., .. })
    }

    fn bytes(&self) -> u64 {
        match self {
            Item::Delivery { words, .. } => 8 * words,
            Item::Lead(..) | Item::Take(..) | Item::Lift(_) => ITEM_BYTES,
        }
    }
}

impl Held {
    pub(super) fn is_open(&self) -> bool {
        self.queue.is_empty() && self.phase == Phase::Still
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn remove(&mut self, place: u64) -> Option<Item> {
        let item = self.queue.remove(&place)?;
        self.bytes -= item.bytes();
        Some(item)
    }
}

impl Machine {
    /// Sets the number of words of calls under way beyond which further calls wait.
    /// [`release_held`](Self::release_held) must follow.
    pub(crate) fn set_flow_limit(&self, words: u64) {
        self.load.limit.store(words, Ordering::SeqCst);
    }

    /// Ends a delivered call of this many words.
    pub(crate) fn call_is_over(self: &Arc<Self>, words: u64) {
        self.load.words.fetch_sub(words, Ordering::SeqCst);
        if self.load.held() > 0 {
            effects::defer(Effect::ReleaseHeld(Arc::clone(self) as _));
        }
    }

    /// Delivers what was held back, as far as the limit allows, unless another thread
    /// is doing so.
    ///
    /// Must not be called under a lock.
    // The methods themselves are for one lifetime only.
    #[allow(clippy::redundant_closure_for_method_calls)]
    pub(crate) fn release_held(self: &Arc<Self>) {
        if self.load.held() == 0 || !self.transact(|txn| txn.begin_to_release()) {
            return;
        }
        self.go_on_releasing();
    }

    /// Goes on delivering, as the one thread that does.
    ///
    /// Must not be called under a lock.
    // The methods themselves are for one lifetime only.
    #[allow(clippy::redundant_closure_for_method_calls)]
    pub(crate) fn go_on_releasing(self: &Arc<Self>) {
        while let Some((item, in_hand)) = self.transact(|txn| txn.next_held()) {
            match item {
                Item::Lead(promise, place) => self.lead(&promise, place),
                Item::Take(cell, other) => cell.take_from(other),
                Item::Lift(lifted) => self.lift(lifted),
                Item::Delivery { target: place, delivery, .. } => {
                    if let Some(cell) = delivery.cell() {
                        cell.left_queue();
                    }
                    if delivery.is_unwanted() {
                        delivery.fail(&cancelled());
                    } else {
                        let target = place.target();
                        let Some(border) = self.border_for(&delivery) else {
                            target.deliver(delivery);
                            drop((in_hand, place));
                            continue;
                        };
                        if border.inwards(self, target, delivery, Some(place)) == Onward::Paused {
                            return;
                        }
                        drop(in_hand);
                    }
                }
            }
        }
    }

    /// Notes the call that the border delays, and cuts the delay short if it must be.
    ///
    /// Must not be called under a lock.
    pub(crate) fn is_paused_by(self: &Arc<Self>, pause: Weak<dyn Pause>) {
        self.transact(|txn| {
            txn.order.held.pause = Some(pause);
            txn.cut_pause_short();
        });
    }

    /// Delivers what is held back up to a place, whatever the limit is.
    ///
    /// Must not be called under a lock.
    pub(super) fn deliver_held(self: &Arc<Self>, place: u64) {
        self.transact(|txn| txn.deliver_held(place));
        self.release_held();
    }

    /// Takes back a cancelled call that waits, or waited, at this place.
    ///
    /// Must not be called under a lock.
    pub(crate) fn withdraw_held(self: &Arc<Self>, place: u64) {
        let gone = self.transact(|txn| txn.take_held(place));
        if let Some(Item::Delivery { delivery, .. }) = gone {
            delivery.fail(&cancelled());
        }
        // The call may have been all that waited in front of a Disembargo.
        self.release_held();
    }
}

impl Txn<'_> {
    /// Hands over a delivery of the peer: right after this transaction, or when there
    /// is room for it. `words` is the size of a call.
    pub(super) fn hand_over(&mut self, target: Hosted, delivery: Delivery, words: u64) {
        let free = words == 0 || self.machine.load.has_room();
        if self.order.held.is_open() && free && !self.machine.may_pause {
            self.count(&delivery, words);
            let in_hand = self.take_in_hand_for(&target.now);
            return self.deliver_inwards(target.now, delivery, in_hand);
        }
        self.hold(Item::Delivery { target, delivery, words });
    }

    /// Notes the effect that delivers what the peer has sent.
    fn deliver_inwards(&mut self, target: Route, delivery: Delivery, in_hand: Option<Counted>) {
        let effect = match (self.machine.border_for(&delivery), target, in_hand) {
            (Some(border), target, in_hand) => {
                let machine = Arc::clone(self.machine);
                Effect::Do(Box::new(move || {
                    // Deliveries that it could delay pass the queue.
                    let _goes_on = border.inwards(&machine, target.client(), delivery, None);
                    drop(in_hand);
                }))
            }
            (None, target, Some(in_hand)) => Effect::Do(Box::new(move || {
                target.client().deliver(delivery);
                drop(in_hand);
            })),
            (None, Route::Client(client), None) => Effect::Deliver(client, delivery),
            (None, Route::Field(cell, path), None) => Effect::DeliverToField(cell, path, delivery),
        };
        self.effect(effect);
    }

    /// Checks how much is held back.
    pub(super) fn check_held(&self) -> Result<(), Abort> {
        let (bytes, limit) = (self.order.held.bytes, self.limits().held_back_bytes);
        // A delivery that only passes the queue is not held back.
        let held = &self.order.held;
        let passes = self.machine.may_pause && held.phase == Phase::Still && held.len() == 1;
        if bytes > limit && !passes {
            return Err(Abort(Error::overloaded(format!(
                "{bytes} bytes of calls wait for earlier ones to be answered; the limit is {limit} \
                 (Limits::held_back_bytes)"
            ))));
        }
        Ok(())
    }

    /// Makes the outcome of a call that came back that of the call which asked for it.
    pub(super) fn take_over(&mut self, cell: Arc<CallCell>, other: Interest) {
        if self.order.held.is_open() {
            return self.effect(Effect::TakeFrom(cell, other));
        }
        self.hold(Item::Take(cell, other));
        self.deliver_all_held();
    }

    /// Lets everything up to a place be delivered, whatever the limit is.
    pub(super) fn deliver_held(&mut self, place: u64) {
        let forced = &mut self.order.held.forced;
        *forced = place.max(*forced);
        self.cut_pause_short();
    }

    /// Ends the delay of a call if something behind it is to be delivered in any case.
    fn cut_pause_short(&mut self) {
        let held = &mut self.order.held;
        let next = held.queue.first_key_value().map_or(u64::MAX, |(place, _)| *place);
        if next.min(held.taken + 1) <= held.forced
            && let Some(pause) = held.pause.take()
        {
            self.effect(Effect::Do(Box::new(move || {
                if let Some(pause) = pause.upgrade() {
                    pause.cut_short();
                }
            })));
        }
    }

    /// Lets everything in the queue be delivered, whatever the limit is.
    pub(super) fn deliver_all_held(&mut self) {
        self.deliver_held(self.order.held.next_place);
    }

    /// Adds an item to the queue, and returns its place there.
    pub(super) fn hold(&mut self, mut item: Item) -> u64 {
        if let Item::Delivery { target, .. } = &mut item {
            self.settled_now(target);
        }
        let held = &mut self.order.held;
        held.next_place += 1;
        held.bytes += item.bytes();
        if let Item::Delivery { delivery, .. } = &item
            && let Some(cell) = delivery.cell()
        {
            let queue = Queue::Held(Arc::downgrade(self.machine) as _);
            cell.queued_in(queue, held.next_place);
        }
        let place = held.next_place;
        held.queue.insert(place, item);
        self.machine.load.held.fetch_add(1, Ordering::SeqCst);
        // The words are looked at after the delivery has joined the queue: see the
        // state model.
        self.effect(Effect::ReleaseHeld(Arc::clone(self.machine) as _));
        place
    }

    /// For callers that finish a call although they want it to be delivered (the early
    /// cancellation workaround): if the call waits for its turn, it goes on waiting, until
    /// the connection ends.
    pub(super) fn let_arrive(&mut self, cell: &Arc<CallCell>) {
        if !cell.arrives_in_any_case() {
            return;
        }
        self.order.held.arriving.enter(cell);
    }

    fn count(&self, delivery: &Delivery, words: u64) {
        if let Delivery::Call(call) = delivery {
            self.machine.load.words.fetch_add(words, Ordering::SeqCst);
            call.cell.counts_as(words);
        }
    }

    fn begin_to_release(&mut self) -> bool {
        let ready = self.order.held.phase == Phase::Still && self.may_release();
        if ready {
            self.order.held.phase = Phase::Releasing;
        }
        ready
    }

    fn may_release(&self) -> bool {
        let held = &self.order.held;
        held.queue.first_key_value().is_some_and(|(place, item)| {
            *place <= held.forced || !item.is_call() || self.machine.load.has_room()
        })
    }

    /// The next item, and what counts it as in hand while it is looked up and handed over.
    fn next_held(&mut self) -> Option<(Item, Option<Counted>)> {
        if !self.may_release() {
            self.order.held.phase = Phase::Still;
            return None;
        }
        let place = self.order.held.queue.first_key_value().map(|(place, _)| *place)?;
        self.order.held.taken = place;
        let item = self.take_held(place)?;
        if let Item::Delivery { delivery, words, .. } = &item {
            self.count(delivery, *words);
        }
        let in_hand = match &item {
            Item::Delivery { target, .. } => self.take_in_hand_for(target.later()),
            Item::Lead(..) | Item::Take(..) | Item::Lift(_) => None,
        };
        Some((item, in_hand))
    }

    fn take_held(&mut self, place: u64) -> Option<Item> {
        let item = self.order.held.remove(place)?;
        self.machine.load.held.fetch_sub(1, Ordering::SeqCst);
        Some(item)
    }

    /// Drops everything that waits, because the connection has ended.
    pub(super) fn drop_held(&mut self, error: &Error) {
        for cell in self.order.held.arriving.take_all() {
            self.effect(Effect::Do(Box::new(move || cell.need_not_arrive())));
        }
        let places: Vec<u64> = self.order.held.queue.keys().copied().collect();
        for place in places {
            match self.take_held(place) {
                Some(Item::Delivery { target, delivery, .. }) => {
                    if let Delivery::Call(call) = &delivery {
                        let cell = Arc::clone(&call.cell);
                        self.effect(Effect::Complete(cell, Err(error.clone())));
                    }
                    self.effect(Effect::drop((target, delivery)));
                }
                // A capability of this side outlives the connection.
                Some(Item::Lead(promise, place)) => self.lead(promise, place),
                Some(Item::Take(cell, other)) => self.effect(Effect::TakeFrom(cell, other)),
                // What was provided is taken back.
                Some(Item::Lift(_)) | None => {}
            }
        }
    }
}
