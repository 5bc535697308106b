//! Calls of the peer that wait because too many are under way already.
//!
//! Note [flow limit]
//!
//! The parameters of calls that were delivered here and are not over yet are
//! counted, in words, each call once, wherever it is passed on to. While they are
//! more than the flow limit, further calls wait. What is held back is the delivery:
//! the target was looked up when the call arrived ([`Found`]), so that a Release or a
//! Finish behind it changes nothing. No other kind of message waits, and nobody waits for
//! the calls: neither the thread that reads nor the one that takes messages in. A
//! peer that goes on sending calls is bounded by `Limits::held_back_bytes`.
//!
//! All of them wait in one queue, and leave it in the order in which they came. With
//! them wait
//! - a Disembargo that is to be returned: it travels as a call does;
//! - the end of an embargo of ours: it says that all calls which went through the
//!   peer have come back, and some of these may be waiting. Calls in front of the
//!   embargo could be what a method waits for that is counted, so everything up to
//!   there is delivered, limit or not.
//!
//! # State model
//!
//! ```text
//! Open ──call over the limit──► Holding ⇄ Releasing ──queue seen empty──► Open
//! ```
//!
//! - **Open**: deliveries leave right after the transaction that they came in.
//! - **Holding**: whatever comes joins the queue.
//! - **Releasing**: one thread takes deliveries out of the queue, each in a
//!   transaction of its own, and hands them over without the lock. Whatever comes
//!   now still joins the queue, so nothing is overtaken. It goes back to Holding when
//!   the limit is reached.
//!
//! Whoever ends a call, and finds that something is held back, releases. The one
//! takes words away and then looks at the queue, the other adds to the queue and
//! then looks at the words: one of them sees the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Abort, Machine, Txn};
use crate::cap::call::CallCell;
use crate::cap::client::Client;
use crate::cap::delivery::{Delivery, Route};
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::LocalPromise;
use crate::error::Error;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What is known without the order lock.
pub(super) struct Load {
    limit: AtomicU64,
    /// Words of the calls that were delivered and are not over.
    words: AtomicU64,
    /// How many deliveries wait.
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

    /// Whether one more call may be delivered. One always may, however large it is
    /// and however low the limit.
    fn has_room(&self) -> bool {
        let words = self.words();
        words == 0 || words <= self.limit.load(Ordering::SeqCst)
    }
}

/// What waits, guarded by the order lock.
#[derive(Default)]
pub(super) struct Held {
    queue: BTreeMap<u64, Item>,
    next_place: u64,
    /// Everything up to this place is delivered whatever the limit is.
    forced: u64,
    bytes: u64,
    phase: Phase,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    /// Open if the queue is empty, Holding otherwise.
    #[default]
    Resting,
    Releasing,
}

/// What the peer has named as the target of a message.
pub(super) struct Found {
    /// Where it leads as long as nothing else is received.
    pub(super) now: Route,
    /// Where it leads later: what it stands for may be described to the peer in the
    /// meantime, and then this call must go the same way as those that come after,
    /// see Note [described path].
    pub(super) later: Route,
}

impl Found {
    pub(super) fn client(client: Client) -> Self {
        Found { now: Route::Client(client.clone()), later: Route::Client(client) }
    }

    /// Where to, now that it is later. What else it held must go only when the delivery
    /// is on its way: it may be what keeps a call wanted.
    fn take(self) -> (Client, Route) {
        match self.later {
            // It was finished before there were any results that could have been
            // described: the place is still what it was.
            Route::Field(cell, path) if cell.is_cancelled() => {
                (self.now.client(), Route::Field(cell, path))
            }
            later => (later.client(), self.now),
        }
    }
}

enum Item {
    Delivery {
        target: Found,
        delivery: Delivery,
        words: u64,
        cancelling: Cancelling,
    },
    /// An embargo is over, and this is what was behind it.
    Lift(Arc<LocalPromise>, Client),
}

/// What becomes of a call that is cancelled while it waits.
#[derive(PartialEq, Eq)]
enum Cancelling {
    /// It goes no further.
    Early,
    /// It arrives nevertheless: for peers that require the early cancellation
    /// workaround.
    Late,
}

impl Item {
    fn bytes(&self) -> u64 {
        match self {
            Item::Delivery { words, .. } => 8 * words,
            Item::Lift(..) => 0,
        }
    }
}

impl Held {
    fn is_open(&self) -> bool {
        self.queue.is_empty() && self.phase == Phase::Resting
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
    /// Sets how many words of calls may be under way before further ones wait.
    /// [`release_held`](Self::release_held) must follow.
    pub(crate) fn set_flow_limit(&self, words: u64) {
        self.load.limit.store(words, Ordering::SeqCst);
    }

    /// A call that was delivered, of so many words, is over.
    pub(crate) fn call_is_over(self: &Arc<Self>, words: u64) {
        self.load.words.fetch_sub(words, Ordering::SeqCst);
        if self.load.held() > 0 {
            effects::defer(Effect::ReleaseHeld(Arc::clone(self) as _));
        }
    }

    /// Delivers what was held back, as far as the limit allows, unless another thread
    /// is at it.
    ///
    /// Must not be called under a lock.
    // The methods themselves are for one lifetime only.
    #[allow(clippy::redundant_closure_for_method_calls)]
    pub(crate) fn release_held(self: &Arc<Self>) {
        if self.load.held() == 0 || !self.transact(|txn| txn.begin_to_release()) {
            return;
        }
        while let Some(item) = self.transact(|txn| txn.next_held()) {
            match item {
                Item::Lift(promise, target) => promise.resolve(target),
                Item::Delivery { target, delivery, cancelling, .. } => {
                    if let Delivery::Call(call) = &delivery {
                        call.cell.left_queue();
                    }
                    if delivery.is_cancelled() && cancelling == Cancelling::Early {
                        delivery.fail(&Error::failed("the call was cancelled"));
                    } else {
                        let (target, kept) = target.take();
                        match self.border_for(&delivery) {
                            Some(border) => border.inwards(self, target, delivery),
                            None => target.deliver(delivery),
                        }
                        drop(kept);
                    }
                }
            }
        }
    }

    /// Nobody wants a call any more that waits, or waited, at this place.
    ///
    /// Must not be called under a lock.
    pub(crate) fn withdraw_held(self: &Arc<Self>, place: u64) {
        let gone = self.transact(|txn| txn.take_held(place));
        if let Some(Item::Delivery { delivery, .. }) = gone {
            delivery.fail(&Error::failed("the call was cancelled"));
        }
        // It may have been all that waited in front of a Disembargo.
        self.release_held();
    }
}

impl Txn<'_> {
    /// Has something delivered that the peer has sent: right after this transaction,
    /// or when there is room for it. `words` is the size of a call.
    pub(super) fn hand_over(
        &mut self,
        target: Found,
        delivery: Delivery,
        words: u64,
    ) -> Result<(), Abort> {
        let free = words == 0 || self.machine.load.has_room();
        if self.order.held.is_open() && free {
            self.count(&delivery, words);
            self.deliver_inwards(target.now, delivery);
            return Ok(());
        }
        self.hold(Item::Delivery { target, delivery, words, cancelling: Cancelling::Early });
        let (bytes, limit) = (self.order.held.bytes, self.limits().held_back_bytes);
        if bytes > limit {
            return Err(Abort(Error::overloaded(format!(
                "{bytes} bytes of calls wait for earlier ones to be answered; the limit is {limit} \
                 (Limits::held_back_bytes)"
            ))));
        }
        Ok(())
    }

    /// An embargo is over, as far as the peer is concerned.
    pub(super) fn lift(&mut self, promise: Arc<LocalPromise>, target: Client) {
        if self.order.held.is_open() {
            return self.effect(Effect::Resolve(promise, Route::Client(target)));
        }
        self.hold(Item::Lift(promise, target));
        self.order.held.forced = self.order.held.next_place;
    }

    fn hold(&mut self, mut item: Item) {
        if let Item::Delivery { target, .. } = &mut item
            && let Route::Field(cell, path) = &target.now
        {
            // Only another lock can tell what it is; but that must be had before the
            // peer finishes the call. A promise stands in until right after this
            // transaction.
            let promise = LocalPromise::new(None);
            let route = Route::Field(Arc::clone(cell), path.clone());
            self.effect(Effect::Resolve(Arc::clone(&promise), route));
            target.now = Route::Client(Client::of(promise));
        }
        let held = &mut self.order.held;
        held.next_place += 1;
        held.bytes += item.bytes();
        if let Item::Delivery { delivery: Delivery::Call(call), .. } = &item {
            call.cell.held_by(Arc::downgrade(self.machine) as _, held.next_place);
        }
        held.queue.insert(held.next_place, item);
        self.machine.load.held.fetch_add(1, Ordering::SeqCst);
        // Looked at after it is here: see the state model.
        self.effect(Effect::ReleaseHeld(Arc::clone(self.machine) as _));
    }

    /// The caller has finished a call, and is one of those that do so although they
    /// want it to arrive: if it waits, it goes on waiting.
    pub(super) fn let_arrive(&mut self, cell: &CallCell) {
        if let Some(place) = cell.goes_on_waiting()
            && let Some(Item::Delivery { cancelling, .. }) = self.order.held.queue.get_mut(&place)
        {
            *cancelling = Cancelling::Late;
        }
    }

    fn count(&self, delivery: &Delivery, words: u64) {
        if let Delivery::Call(call) = delivery {
            self.machine.load.words.fetch_add(words, Ordering::SeqCst);
            call.cell.counts_as(words);
        }
    }

    fn begin_to_release(&mut self) -> bool {
        let ready = self.order.held.phase == Phase::Resting && self.may_release();
        if ready {
            self.order.held.phase = Phase::Releasing;
        }
        ready
    }

    fn may_release(&self) -> bool {
        let held = &self.order.held;
        held.queue.first_key_value().is_some_and(|(place, item)| {
            *place <= held.forced || item.bytes() == 0 || self.machine.load.has_room()
        })
    }

    fn next_held(&mut self) -> Option<Item> {
        if !self.may_release() {
            self.order.held.phase = Phase::Resting;
            return None;
        }
        let place = self.order.held.queue.first_key_value().map(|(place, _)| *place)?;
        let item = self.take_held(place)?;
        if let Item::Delivery { delivery, words, .. } = &item {
            self.count(delivery, *words);
        }
        Some(item)
    }

    fn take_held(&mut self, place: u64) -> Option<Item> {
        let item = self.order.held.remove(place)?;
        self.machine.load.held.fetch_sub(1, Ordering::SeqCst);
        Some(item)
    }

    /// The connection has ended: nothing is delivered any more.
    pub(super) fn drop_held(&mut self, error: &Error) {
        let places: Vec<u64> = self.order.held.queue.keys().copied().collect();
        for place in places {
            match self.take_held(place) {
                Some(Item::Delivery { target, delivery, .. }) => {
                    if let Delivery::Call(call) = &delivery {
                        let cell = Arc::clone(&call.cell);
                        self.effect(Effect::Complete(cell, Err(error.clone())));
                    }
                    self.effect(Effect::drop((target.now, target.later, delivery)));
                }
                Some(Item::Lift(promise, target)) => {
                    let broken = Route::Client(Client::broken(error.clone()));
                    self.effect(Effect::Resolve(promise, broken));
                    self.effect(Effect::drop(target));
                }
                None => {}
            }
        }
    }
}
