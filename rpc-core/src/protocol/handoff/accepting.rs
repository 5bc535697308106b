//! The recipient: it goes to the host when the capability is used, and otherwise keeps the
//! vine.
//!
//! # State model
//!
//! Of a capability that came with a contact, which is a promise of this process:
//!
//! ```text
//! Deferred ──used──► Reaching ──connected: Accept sent──► Asked ──Return──► the host's capability
//!                        ├──this vat is the host──► Asked   │
//!                        └──not reached in time──► the vine ◄┴──refused, not answered in time,
//!                                                              or connection ended
//! ```
//!
//! - **Deferred**: nothing has happened. Calling the capability, waiting for it and passing it
//!   on use it, unless the contact can be passed on (`forwarding.rs`). With
//!   [`Acceptance::Eager`], it is used at once.
//! - **Reaching**: the network looks for the host, for as long as its patience lasts. Calls wait
//!   in the promise.
//! - **Asked**: the host has been asked. The question keeps the vine until the Return. If
//!   there is none when the network's patience ends, the question is finished.
//!
//! Calls wait in the promise until it has resolved, so none is lost if the host does not give
//! the capability away. That costs one round trip to the host, once. With
//! [`EarlyCalls::Follow`], the promise resolves to the field of the Accept as soon as that is
//! sent. The host delivers the calls when it answers the Accept, and they fail if it does not.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock, Weak};

use super::forwarding::Unaccepted;
use super::meetings::Shown;
use super::{
    Acceptance, Earlier, EarlyCalls, Found, Host, Introduced, Neighbour, NotAsked, Seeker,
};
use crate::cap::call::{CallCell, Sink};
use crate::cap::client::Client;
use crate::cap::effects::{self, Effect};
use crate::cap::local_promise::{LocalPromise, OnDemand};
use crate::cap::payload::cap_of;
use crate::cap::pending::Pending;
use crate::cap::watch::{Observer, Watcher};
use crate::deadline::{Deadline, TimeLimit};
use crate::error::Error;
use crate::ids::QuestionId;
use crate::log::tell;
use crate::protocol::import::ImportRef;
use crate::protocol::incoming::Refused;
use crate::protocol::question;
use crate::protocol::{Machine, Txn};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::wire::{self, AcceptEmbargo, Context, Hint, Target, Token};
use crate::work::timer::{self, Expire, Ticket};

/// Waits for the answer to an Accept. Owned by the promise that it will resolve.
struct Asked {
    promise: Weak<LocalPromise>,
    /// What the host returns.
    result: Client,
    vine: Client,
    /// Ends the wait for a host that does not answer.
    end: OnceLock<Ticket>,
}

impl Observer for Asked {
    fn tell(self: Arc<Self>) {
        if let Some(promise) = self.promise.upgrade() {
            promise.resolve(self.result.clone());
        }
    }
}

impl Expire for Asked {
    fn expire(self: Arc<Self>) {
        tell!(DEBUG, "a host does not answer; using the vine of a capability of a third vat");
        if let Some(promise) = self.promise.upgrade() {
            promise.resolve(self.vine.clone());
        }
    }
}

/// Resolves a promise when the host has answered or, if it does not answer in time, to the
/// vine.
///
/// Must not be called under a lock.
fn resolve_with(promise: &Arc<LocalPromise>, result: Client, vine: Client, patience: TimeLimit) {
    let promised = Arc::downgrade(promise);
    let asked = Arc::new(Asked { promise: promised, result, vine, end: OnceLock::new() });
    let observer: Arc<dyn Observer> = Arc::clone(&asked) as _;
    if asked.result.watch(Watcher::Observer(Arc::downgrade(&observer))).is_err() {
        return asked.tell();
    }
    promise.keep_until_resolved(Arc::clone(&asked) as _);
    let Some(time) = patience.and_then(|patience| Deadline::after(patience).time()) else {
        return;
    };
    let expire: Arc<dyn Expire> = Arc::clone(&asked) as _;
    match timer::at(time, Arc::downgrade(&expire)) {
        Ok(ticket) => drop(asked.end.set(ticket)),
        // Without a thread that would end the wait, there is none.
        Err(_) => asked.expire(),
    }
}

/// What the promise for a capability keeps that nobody has used.
pub(super) struct Deferred {
    introduced: Introduced,
    earlier: Earlier,
    /// The connection to the introducer.
    neighbour: Arc<dyn Neighbour>,
    promise: Weak<LocalPromise>,
}

impl Deferred {
    /// What of this can be passed on, unless earlier calls of this vat would be overtaken.
    pub(super) fn unaccepted(&self) -> Option<Unaccepted> {
        let Introduced { vine, contact, .. } = &self.introduced;
        (self.earlier == Earlier::None).then(|| Unaccepted {
            vine: vine.clone(),
            contact: contact.clone(),
            neighbour: Arc::clone(&self.neighbour),
        })
    }
}

impl OnDemand for Deferred {
    fn begin(self: Box<Self>) {
        let Deferred { introduced, earlier, neighbour, promise } = *self;
        GiveUp::in_time(&promise, &introduced.vine, neighbour.patience());
        let contact = introduced.contact.clone();
        let by = Arc::clone(&neighbour);
        let reaching = Reaching { introduced, earlier, by, promise, result: None };
        neighbour.reach(contact, Box::new(reaching));
    }
}

/// Ends the search for a host. If it is found later, it is asked nevertheless, and the answer is
/// not wanted.
struct GiveUp {
    promise: Weak<LocalPromise>,
    vine: Client,
    end: OnceLock<Ticket>,
}

impl GiveUp {
    /// Lets a promise resolve to the vine if its host is not found in time. Owned by the
    /// promise, until there is something else that ends its wait.
    ///
    /// Must not be called under a lock.
    fn in_time(promise: &Weak<LocalPromise>, vine: &Client, patience: TimeLimit) {
        let Some(time) = patience.and_then(|patience| Deadline::after(patience).time()) else {
            return;
        };
        let Some(promise) = promise.upgrade() else { return };
        let promised = Arc::downgrade(&promise);
        let give_up = GiveUp { promise: promised, vine: vine.clone(), end: OnceLock::new() };
        let give_up = Arc::new(give_up);
        promise.keep_until_resolved(Arc::clone(&give_up) as _);
        let expire: Arc<dyn Expire> = Arc::clone(&give_up) as _;
        match timer::at(time, Arc::downgrade(&expire)) {
            Ok(ticket) => drop(give_up.end.set(ticket)),
            // Without a thread that would end the search, there is no time for it.
            Err(_) => give_up.expire(),
        }
    }
}

impl Expire for GiveUp {
    fn expire(self: Arc<Self>) {
        tell!(DEBUG, "a host is not found; using the vine of a capability of a third vat");
        if let Some(promise) = self.promise.upgrade() {
            promise.resolve(self.vine.clone());
        }
    }
}

/// A capability that was used and whose host is being looked for. Whatever becomes of this,
/// the promise leads somewhere.
struct Reaching {
    introduced: Introduced,
    earlier: Earlier,
    /// The connection to the introducer.
    by: Arc<dyn Neighbour>,
    /// The promise, until it is certain that it leads somewhere.
    promise: Weak<LocalPromise>,
    /// What the host will return, once it is asked.
    result: Option<Client>,
}

impl Seeker for Reaching {
    fn found(mut self: Box<Self>, found: Result<Found, Error>) -> Option<Box<dyn Seeker>> {
        // If nobody refers to the promise any more, nobody wants the capability.
        if self.promise.strong_count() == 0 {
            return None;
        }
        let failed = match found {
            Ok(Found::Host(host, completion)) => match self.accept(host, completion) {
                Ok(result) => {
                    self.result = Some(result);
                    return None;
                }
                Err(NotAsked::Unused) => return Some(self),
                Err(NotAsked::Failed(error)) => error,
            },
            Ok(Found::Here(shown)) => match self.take_here(shown) {
                Ok(()) => return None,
                Err(error) => error,
            },
            Err(error) => error,
        };
        tell!(DEBUG, error = %failed, "using the vine of a capability of a third vat");
        None
    }
}

impl Reaching {
    fn accept(&self, host: Arc<dyn Host>, completion: Token) -> Result<Client, NotAsked> {
        let embargo = self.embargo();
        if embargo.is_some() {
            self.may_lift().map_err(NotAsked::Failed)?;
        }
        let result = host.accept(completion, embargo.clone(), &self.introduced)?;
        // If the connection has ended since, the question is given up.
        self.lift_behind_earlier(embargo).map_err(NotAsked::Failed)?;
        Ok(result)
    }

    /// This vat itself hosts the capability: it comes to itself for it.
    ///
    /// # Errors
    /// It does not wait for what cannot come.
    fn take_here(&mut self, shown: Shown) -> Result<(), Error> {
        let embargo = self.embargo();
        self.lift_behind_earlier(embargo.clone())?;
        let Some(introducer) = self.introduced.vine.kind_as::<ImportRef>() else {
            return Ok(());
        };
        let introducer = introducer.machine();
        let (origin, place) = (introducer.settings.origin, introducer.accepts.take());
        let Some(promise) = std::mem::take(&mut self.promise).upgrade() else { return Ok(()) };
        let (cell, interest) = CallCell::new(Sink::Here, Hint::None, origin);
        let (pending, promised) = (Pending::new(interest), Arc::downgrade(&promise));
        let vine = self.introduced.vine.clone();
        let charge = Arc::clone(&self.introduced.charge);
        pending.when_done(move |outcome| {
            drop(charge);
            let Some(promise) = promised.upgrade() else { return };
            let target = if outcome.is_ok() { cap_of(outcome, &[]) } else { vine };
            effects::defer(Effect::Do(Box::new(move || promise.resolve(target))));
        });
        // Whoever drops the promise waits no more.
        promise.keep_until_resolved(Arc::new(pending));
        self.by.meetings().come(shown, embargo, &cell, place).tell();
        if let Some(patience) = self.by.patience() {
            cell.ends_after(patience);
        }
        Ok(())
    }

    fn embargo(&self) -> Option<AcceptEmbargo> {
        match self.earlier {
            Earlier::None => None,
            Earlier::Calls => Some(new_embargo()),
        }
    }

    /// Whether an embargo can be lifted. If the connection has ended by which the capability has
    /// come, nobody lifts it; and the host does not learn of that if the capability was passed on.
    ///
    /// # Errors
    /// It cannot.
    fn may_lift(&self) -> Result<(), Error> {
        let vine = self.introduced.vine.kind_as::<ImportRef>();
        vine.and_then(|vine| vine.machine().failure()).map_or(Ok(()), Err)
    }

    /// Sends the end of an embargo after the earlier calls.
    ///
    /// # Errors
    /// As of [`may_lift`](Self::may_lift).
    fn lift_behind_earlier(&self, embargo: Option<AcceptEmbargo>) -> Result<(), Error> {
        let vine = self.introduced.vine.kind_as::<ImportRef>();
        let (Some(embargo), Some(vine)) = (embargo, vine) else { return Ok(()) };
        let target = Target::ImportedCap(vine.id().0);
        vine.machine().transact(|txn| {
            if let Some(error) = txn.dead() {
                return Err(error);
            }
            let context = Context::Accept(embargo);
            txn.send(wire::Message::Disembargo(wire::Disembargo { target, context }));
            Ok(())
        })
    }
}

impl Drop for Reaching {
    fn drop(&mut self) {
        let Some(promise) = self.promise.upgrade() else { return };
        let (vine, patience) = (self.introduced.vine.clone(), self.by.patience());
        let (result, early_calls) = (self.result.take(), self.by.early_calls());
        effects::defer(Effect::Do(Box::new(move || match (result, early_calls) {
            (None, _) => promise.resolve(vine),
            (Some(result), EarlyCalls::Wait) => resolve_with(&promise, result, vine, patience),
            (Some(result), EarlyCalls::Follow) => {
                // The Accept must not be finished while calls depend on it, even if nobody
                // refers to the capability any more.
                let kept = Watcher::Promise(LocalPromise::new(None), result.clone());
                drop(result.watch(kept));
                promise.resolve(result);
            }
        })));
    }
}

/// A name that no other embargo of the same provision has. It is no secret: only the
/// introducer can lift an embargo.
fn new_embargo() -> AcceptEmbargo {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::SeqCst);
    let [one, other] = [(); 2].map(|()| RandomState::new().hash_one(count));
    [one.to_le_bytes(), other.to_le_bytes()].concat().into()
}

impl Host for Machine {
    fn accept(
        self: Arc<Self>,
        completion: Token,
        embargo: Option<AcceptEmbargo>,
        introduced: &Introduced,
    ) -> Result<Client, NotAsked> {
        self.transact(|txn| txn.send_accept(completion, embargo, introduced))
    }
}

impl Txn<'_> {
    /// The capability that stands for one of a third vat.
    pub(in crate::protocol) fn deferred(
        &mut self,
        introduced: Introduced,
        earlier: Earlier,
    ) -> Client {
        let machine = self.machine;
        let Some(neighbour) = machine.neighbour.clone() else {
            return introduced.vine;
        };
        let promise = LocalPromise::new(None);
        let acceptance = neighbour.acceptance();
        let weak = Arc::downgrade(&promise);
        promise.takes_on_demand(Deferred { introduced, earlier, neighbour, promise: weak });
        if acceptance == Acceptance::Eager {
            let promise = Arc::clone(&promise);
            self.effect(Effect::Do(Box::new(move || promise.demand())));
        }
        Client::of(promise)
    }

    /// Asks this peer, the host, for a capability.
    ///
    /// # Errors
    /// Nothing was asked.
    fn send_accept(
        &mut self,
        completion: Token,
        embargo: Option<AcceptEmbargo>,
        introduced: &Introduced,
    ) -> Result<Client, NotAsked> {
        if self.unused().is_some() {
            return Err(NotAsked::Unused);
        }
        if let Some(error) = self.dead() {
            return Err(NotAsked::Failed(error));
        }
        if self.machine.refused_handoffs.load(Ordering::SeqCst) {
            return Err(NotAsked::Failed(Error::unimplemented("the host knows no handoffs")));
        }
        self.sends_what_may_be_unknown();
        let asked = question::Asked {
            vine: Some(introduced.vine.clone()),
            _charge: Some(Arc::clone(&introduced.charge)),
            ..question::Asked::default()
        };
        // It takes no place among the questions: an introducer could fill them with what it
        // does not provide, and the application would wait before it calls the host.
        let question = self
            .ask(asked, None)
            .ok_or_else(|| NotAsked::Failed(Error::overloaded("no question id is free")))?;
        let field = self.question_field(&question, &[]).unwrap_or_default();
        self.send(wire::Message::Accept(wire::Accept {
            question: question.id().0,
            provision: Some(completion),
            embargo,
        }));
        Ok(field)
    }

    /// The host does not know what an Accept is.
    pub(in crate::protocol) fn accept_refused(&mut self, id: QuestionId) {
        self.machine.refused_handoffs.store(true, Ordering::SeqCst);
        let refused = self.take_refused(id, |asked| asked.vine.is_some());
        if let Some(Refused::Open(asked)) = refused {
            let error = Error::unimplemented("the host knows no handoffs");
            self.settle_with(asked, Err(error));
        }
    }
}
