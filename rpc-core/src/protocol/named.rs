//! What the peer names in its messages: capabilities of its own, and places of this side.
//!
//! Note [held references]
//!
//! A peer that sends a place of this side back has perhaps called it before, and the flow
//! limit may be holding some of these calls back (Note [flow limit]). Calls through the
//! reference come after them, whoever makes them. So while anything is held back, a promise
//! stands for the place, and is resolved at its turn in the queue, behind everything that
//! came before it. It then leads along the path of the place, which the earlier calls took,
//! and not to the capability that was there when the reference arrived: the place may have
//! been described to the peer in the meantime (Note [described path]).
//!
//! - A reference in the parameters of a call is seen only by that call, which waits in the
//!   same queue.
//! - A reference in a Return or a Resolve is seen at once. A method whose call is counted
//!   may wait for it. So when it is called, or waited for, everything in front of it is
//!   delivered, whatever the limit is. A peer alone cannot bring this about.
//! - The outcome of a question that is the outcome of a call which came back
//!   (`takeFromOtherQuestion`) waits in the queue, too, because calls that are pipelined on
//!   that call may be in front of it. This side asked for the outcome, so they are
//!   delivered at once.
//!
//! While nothing is held back, there is nothing to wait for: the earlier calls were handed
//! over in the order in which they came.

use std::sync::Arc;

use super::descriptors::view::View;
use super::handoff::{Earlier, Introduced};
use super::held::Item;
use super::{Machine, Txn};
use crate::cap::call::CallCell;
use crate::cap::client::Client;
use crate::cap::delivery::Route;
use crate::cap::effects::Effect;
use crate::cap::local_promise::LocalPromise;
use crate::error::Error;
use crate::ids::{AnswerId, ExportId};
use crate::wire::{Hint, Path, PromisedAnswer};

/// Maximum length of a path to a field. Whoever reads a message follows no more pointers behind
/// each other, so nothing lies deeper in results. A place that is named by a longer path would
/// only make messages larger, to other peers, than these may allow.
const MAX_PATH: usize = 64;

/// What a descriptor of the peer names.
pub(super) enum Named {
    /// A capability of the peer: reached by the same path as the promise that resolves to
    /// it.
    Theirs(Client),
    /// A capability of this vat, or of one for which it stands in: calls that went through
    /// the peer must come back first. See Note [embargo].
    Ours(Hosted),
    /// A capability of a third vat: see Note [handoff].
    Introduced(Introduced),
    /// Such a capability, and its vine, for which a promise stands already.
    Deferred(Client, Client),
    /// A capability of a third vat that this vat has passed on to the peer, and the vine that
    /// has come back.
    Reflected(Client, Hosted),
}

/// A place of this side: the target of a message of the peer, or a capability in one.
pub(crate) struct Hosted {
    /// The target as long as no further message is received: Note [in hand].
    pub(super) now: Route,
    /// The target later on: it may be described to the peer in the meantime, and then this
    /// must take the same path as later calls, see Note [described path]. `None` if that makes
    /// no difference.
    later: Option<Route>,
}

impl Hosted {
    pub(super) fn client(client: Client) -> Self {
        Hosted { now: Route::Client(client), later: None }
    }

    /// A field of an answer.
    pub(super) fn field(cell: &Arc<CallCell>, path: &Path) -> Self {
        let now = match cell.pipelined_here(path) {
            Ok(client) => Route::Client(client),
            Err(_) => Route::Field(Arc::clone(cell), path.clone()),
        };
        Hosted { now, later: Some(Route::Field(Arc::clone(cell), path.clone())) }
    }

    /// A field of an answer that has been described to the peer.
    pub(super) fn described_field(cell: &Arc<CallCell>, path: &Path) -> Self {
        let route = || Route::Field(Arc::clone(cell), path.clone());
        Hosted { now: route(), later: Some(route()) }
    }

    /// The target, now that it is later. This must be dropped only when the delivery is on
    /// its way, because it may be what keeps a call from being cancelled. If the delivery is
    /// delayed until even later, the target has to be looked up again.
    ///
    /// Must not be called under a lock.
    pub(crate) fn target(&self) -> Client {
        match &self.later {
            // The call was finished before there were results that could have been
            // described: the place is unchanged.
            Some(Route::Field(cell, _)) if cell.is_cancelled() => self.now.clone().client(),
            _ => self.later().clone().client(),
        }
    }

    pub(super) fn later(&self) -> &Route {
        self.later.as_ref().unwrap_or(&self.now)
    }
}

/// The condition for delivering what is held back in front of a reference.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There is room.
    Room,
    /// There is room, or somebody waits for the reference.
    Demand,
}

impl Machine {
    /// Resolves a promise to the path of a place, behind everything that had to take the
    /// path before.
    ///
    /// Must not be called under a lock.
    pub(super) fn lead(self: &Arc<Self>, promise: &Arc<LocalPromise>, place: Hosted) {
        let way = place.target();
        let target = self.transact(|txn| txn.unpinned(way));
        promise.resolve(target);
        drop(place);
    }
}

impl Txn<'_> {
    pub(super) fn export_place(&self, id: u32) -> Option<Hosted> {
        self.machine.exports.with(ExportId(id), |entry| Hosted {
            now: Route::Client(entry.target()),
            later: entry.changing_way().map(Route::Client),
        })
    }

    pub(super) fn field_place(&self, answer: &PromisedAnswer) -> Result<Hosted, Error> {
        let Some(path) = &answer.path else {
            return Err(Error::unimplemented("a pipelined call with an unknown operation"));
        };
        let id = AnswerId(answer.question);
        if path.len() > MAX_PATH {
            return Err(Error::failed(format!(
                "pipelined on question {id} by a path of {} pointers; nothing lies so deep",
                path.len()
            )));
        }
        let cell = self.machine.answers.with(id, |entry| Arc::clone(entry.cell()));
        let cell = cell.ok_or_else(|| {
            Error::failed(format!("pipelined on question {id}, which is not outstanding"))
        })?;
        if cell.hint() == Hint::NoPipelining {
            return Err(Error::failed(format!(
                "pipelined on question {id}, which was asked with noPromisePipelining"
            )));
        }
        Ok(Hosted::field(&cell, path))
    }

    /// The capability that is at a place now.
    pub(super) fn settled_now(&mut self, place: &mut Hosted) -> Client {
        if let Route::Client(client) = &place.now {
            return client.clone();
        }
        // The target can be looked up only under another lock, but must be looked up
        // before the peer finishes the call. A promise stands in for it until right after
        // this transaction.
        let promise = LocalPromise::new(None);
        let client = Client::of(Arc::clone(&promise));
        let route = std::mem::replace(&mut place.now, Route::Client(client.clone()));
        self.effect(Effect::Resolve(promise, route));
        client
    }

    /// The capability that stands for one in a message: see Note [held references].
    pub(super) fn reference(&mut self, named: Named) -> Client {
        match named {
            Named::Theirs(client) => client.shortened(),
            Named::Ours(place) => self.behind_held(place, Turn::Room),
            Named::Introduced(introduced) => self.deferred(introduced, Earlier::None),
            Named::Deferred(client, _) => client,
            Named::Reflected(whole, _) => self.behind_held(Hosted::client(whole), Turn::Room),
        }
    }

    /// As [`reference`](Self::reference), for a message that is not held back.
    pub(super) fn reference_at_once(&mut self, named: Named) -> Client {
        match named {
            Named::Theirs(client) => client.shortened(),
            Named::Ours(place) => self.behind_held(place, Turn::Demand),
            Named::Introduced(introduced) => self.deferred(introduced, Earlier::None),
            Named::Deferred(client, _) => client,
            Named::Reflected(whole, _) => self.behind_held(Hosted::client(whole), Turn::Demand),
        }
    }

    fn behind_held(&mut self, place: Hosted, turn: Turn) -> Client {
        let mut place = place;
        let now = self.settled_now(&mut place).shortened();
        if self.order.held.is_open() || now.is_null_or_broken() {
            return now;
        }
        let promise = LocalPromise::new(None);
        let place = self.hold(Item::Lead(Arc::clone(&promise), place));
        if turn == Turn::Demand {
            let machine = Arc::downgrade(self.machine);
            promise.on_demand(move || {
                if let Some(machine) = machine.upgrade() {
                    machine.deliver_held(place);
                }
            });
        }
        Client::of(promise)
    }

    /// Ends an embargo whose Disembargo has come back from the peer.
    pub(super) fn lift(&mut self, promise: Arc<LocalPromise>, place: Hosted) {
        if self.order.held.is_open() {
            return self.lead(promise, place);
        }
        self.hold(Item::Lead(promise, place));
        self.deliver_all_held();
    }

    /// Resolves a promise to the path of a place, right after this transaction.
    pub(super) fn lead(&mut self, promise: Arc<LocalPromise>, place: Hosted) {
        let machine = Arc::clone(self.machine);
        self.effect(Effect::Do(Box::new(move || machine.lead(&promise, place))));
    }

    /// Exchanges a path that is pinned to a place of the peer for the promise at that
    /// place, if there still is one. For calls that come after all those that had to
    /// take the path: they are sent to the same place, and when the promise resolves,
    /// it waits for what was sent there.
    pub(super) fn unpinned(&mut self, way: Client) -> Client {
        let target = way.shortened();
        let View::Pinned(pinned) = self.view(&target) else { return way };
        match pinned.promise() {
            Some(promise) if self.is_own(promise.machine()) => match promise.location() {
                Err(dest) => {
                    self.mark_called(&dest);
                    Client::of(promise)
                }
                Ok(_) => way,
            },
            _ => way,
        }
    }
}
