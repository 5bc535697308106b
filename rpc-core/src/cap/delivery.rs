//! What travels to a capability, and its route.

use std::sync::{Arc, Weak};

use crate::budget::Charge;
use crate::cap::call::CallCell;
use crate::cap::client::Client;
use crate::cap::connection::{self, Connection};
use crate::cap::effects::{self, Effect};
use crate::cap::payload::Payload;
use crate::cap::sameness::number::{Answer, NULL, Number};
use crate::error::Error;
use crate::wire::{self, JoinKey, Nonce, Path};
use crate::work::room::Permit;

/// A call, a disembargo or a question on its way to a capability. Deliveries to one capability
/// arrive in the order in which they were handed over.
pub(crate) enum Delivery {
    Call(CallRequest),
    /// A disembargo that a peer sent. It follows the calls before it, and becomes a
    /// message to that peer where these calls leave towards the peer. See
    /// Note [embargo].
    Disembargo(Echo),
    /// A disembargo of a recipient for the Accept that it has sent to the host: it follows
    /// the calls before it to the host. See Note [handoff].
    Lift(Lift),
    /// The question whether it is the same as other capabilities. No order is kept between
    /// this and anything else. See Note [join].
    Join(JoinRequest),
}

/// The end of an embargo, on its way through an introducer. Where its way ends, the calls before
/// it have arrived, or have left: then it goes on to the host, or to the vine of another vat.
pub(crate) struct Lift {
    /// What was provided at the host; `None` if another vat has provided it.
    provided: Option<Arc<dyn Embargoed>>,
    embargo: wire::AcceptEmbargo,
}

/// What an introducer has provided at a host, where calls may wait behind an embargo.
pub(crate) trait Embargoed: Send + Sync {
    /// Tells the host that an embargo ends. Must not be called under a lock.
    fn lift(self: Arc<Self>, embargo: wire::AcceptEmbargo);
}

impl Lift {
    pub(crate) fn new(provided: Option<Arc<dyn Embargoed>>, embargo: wire::AcceptEmbargo) -> Self {
        Lift { provided, embargo }
    }

    /// The embargo, if it leads to the vine of another vat.
    pub(crate) fn at_vine(&self) -> Option<&wire::AcceptEmbargo> {
        self.provided.is_none().then_some(&self.embargo)
    }
}

impl Drop for Lift {
    fn drop(&mut self) {
        if let Some(provided) = self.provided.take() {
            let embargo = std::mem::take(&mut self.embargo);
            effects::defer(Effect::Do(Box::new(move || provided.lift(embargo))));
        }
    }
}

/// A Join on its way to a capability.
pub(crate) struct JoinRequest {
    pub(crate) key: JoinKey,
    /// The cell that gets the answer.
    pub(crate) cell: Arc<CallCell>,
}

impl JoinRequest {
    /// Answers for a capability of this vat.
    pub(crate) fn answer(self, number: &Number) {
        self.answer_by(|nonce| number.answer_to(nonce));
    }

    fn answer_by(self, name: impl FnOnce(&Nonce) -> Result<Answer, Error>) {
        let answer = match &self.key {
            JoinKey::Nonce(nonce) => name(nonce).map(|name| Payload::of_bytes(&name)),
            // All parts are sent to the host of an import.
            JoinKey::Part(_) => Err(Error::failed("what is to be compared has moved meanwhile")),
        };
        effects::defer(Effect::Complete(self.cell, answer));
    }
}

/// A call that no object and no connection has taken yet.
pub(crate) struct CallRequest {
    pub(crate) interface: u64,
    pub(crate) method: u16,
    pub(crate) params: Payload,
    /// The cell that gets the outcome.
    pub(crate) cell: Arc<CallCell>,
    /// The place among the questions for which an application thread has waited.
    pub(crate) permit: Option<Permit>,
    pub(crate) tail: Tail,
}

/// Whether the caller only passes the outcome on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// The outcome comes back to this vat.
    No,
    /// If the call leads to the peer that waits for the outcome, the outcome stays with
    /// that peer. See Note [tail calls].
    Allowed,
}

impl Tail {
    /// The error of a call that failed on its way to an object.
    pub(crate) fn failed(self, error: Error) -> Error {
        match self {
            Tail::No => error.not_begun(),
            // The method that passed the call on has begun.
            Tail::Allowed => error.answered(),
        }
    }
}

impl Delivery {
    /// Fails the delivery: it leads nowhere, and no method has begun to run for it.
    pub(crate) fn fail(self, error: &Error) {
        match self {
            // This is deferred: calls may wait in this call's fields, other calls in
            // the fields of those, and so on.
            Delivery::Call(call) => {
                let error = call.tail.failed(error.clone());
                effects::defer(Effect::Complete(call.cell, Err(error)));
            }
            Delivery::Disembargo(echo) => echo.refuse(),
            // The calls before it have failed.
            Delivery::Lift(lift) => drop(lift),
            Delivery::Join(join) => {
                effects::defer(Effect::Complete(join.cell, Err(error.clone())));
            }
        }
    }

    /// Answers for null, at which this has arrived.
    pub(crate) fn answer_for_null(self) {
        match self {
            Delivery::Join(join) => join.answer_by(|_| Ok(NULL)),
            other => other.fail(&Error::failed("called a null capability")),
        }
    }

    /// The call. A Join is answered as by a capability of this vat with this number. Anything
    /// else is refused: no peer was told that the capability which it has reached is one of its
    /// own.
    pub(crate) fn call_or_answer(self, number: &Number) -> Option<CallRequest> {
        match self {
            Delivery::Call(call) => Some(call),
            Delivery::Join(join) => {
                join.answer(number);
                None
            }
            other @ (Delivery::Disembargo(_) | Delivery::Lift(_)) => {
                other.fail(&cancelled());
                None
            }
        }
    }

    /// Whether the delivery is no longer wanted.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cell().is_some_and(|cell| cell.is_cancelled())
    }

    /// Whether the delivery need not reach its object any more.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.cell().is_some_and(|cell| cell.is_unwanted())
    }

    /// What gets the answer, and is told where this waits.
    pub(crate) fn cell(&self) -> Option<&Arc<CallCell>> {
        match self {
            Delivery::Call(call) => Some(&call.cell),
            Delivery::Join(join) => Some(&join.cell),
            Delivery::Disembargo(_) | Delivery::Lift(_) => None,
        }
    }
}

/// The outcome of a call that is not wanted any more.
#[track_caller]
pub(crate) fn cancelled() -> Error {
    Error::failed("the call was cancelled")
}

/// A capability, or the path to one that can be looked up only under a lock that this
/// thread may not take now.
#[derive(Clone)]
pub(crate) enum Route {
    Client(Client),
    /// The field of a call's results.
    Field(Arc<CallCell>, Path),
}

impl Route {
    /// Looks the capability up. Takes locks.
    pub(crate) fn client(self) -> Client {
        match self {
            Route::Client(client) => client,
            Route::Field(cell, path) => cell.pipelined(&path),
        }
    }
}

/// A Disembargo that the peer sent and that has to be returned. It takes the path of
/// the calls before it, and is returned where they leave towards the peer.
pub(crate) struct Echo {
    connection: Arc<dyn Connection>,
    embargo: u32,
    /// The place of the peer that was given up for a capability of this side:
    /// Note [turned disembargoes].
    turned: Option<wire::Target>,
    /// What the peer is charged while this waits.
    _charge: Charge,
}

impl Echo {
    /// `connection` is the one over which the Disembargo came and has to go back.
    pub(crate) fn new(connection: Arc<dyn Connection>, embargo: u32, charge: Charge) -> Self {
        Echo { connection, embargo, turned: None, _charge: charge }
    }

    /// Records a place of the peer that this has passed and that was given up. The first
    /// such place counts.
    pub(crate) fn turned(self, place: &wire::Target) -> Self {
        Echo { turned: Some(self.turned.unwrap_or_else(|| place.clone())), ..self }
    }

    /// Whether this has to wait in a promise, as calls do. If the promise is an embargo,
    /// `embargo` is the connection to which it belongs.
    pub(crate) fn waits_in(&self, embargo: Option<&Weak<dyn Connection>>) -> bool {
        let own =
            |other: &Weak<dyn Connection>| connection::is_same(other.as_ptr(), &*self.connection);
        self.turned.is_none() || embargo.is_some_and(own)
    }

    /// Returns this to the peer if the path has led back there, and refuses it otherwise.
    ///
    /// Must not be called under a lock.
    pub(crate) fn give_back(self) {
        match self.turned {
            Some(place) => self.connection.return_disembargo(place, self.embargo),
            None => self.connection.refuse_disembargo(self.embargo),
        }
    }

    pub(crate) fn is_from(&self, other: &dyn Connection) -> bool {
        connection::is_same(&*self.connection, other)
    }

    pub(crate) fn embargo(&self) -> u32 {
        self.embargo
    }

    /// Ends the path of the Disembargo. If the path has not led back to the peer, the peer
    /// should not have sent it.
    ///
    /// Must not be called under a lock.
    pub(crate) fn refuse(self) {
        self.give_back();
    }
}
