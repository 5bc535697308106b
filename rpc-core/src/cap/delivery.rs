//! What travels to a capability, and how it finds its way there.

use std::sync::Arc;

use crate::cap::call::CallCell;
use crate::cap::client::Client;
use crate::cap::connection::{self, Connection};
use crate::cap::effects::{self, Effect};
use crate::cap::payload::Payload;
use crate::error::Error;
use crate::wire::Path;
use crate::work::room::Permit;

/// Something on its way to a capability. Deliveries to one capability arrive in
/// the order in which they were handed over.
pub(crate) enum Delivery {
    Call(CallRequest),
    /// A disembargo that a peer sent: it follows the calls before it, and turns
    /// into a message to that peer where they leave towards it. See
    /// Note [embargo].
    Disembargo(Echo),
}

/// A call that no object and no connection has taken yet.
pub(crate) struct CallRequest {
    pub(crate) interface: u64,
    pub(crate) method: u16,
    pub(crate) params: Payload,
    /// Where the outcome goes.
    pub(crate) cell: Arc<CallCell>,
    /// The place among the questions that an application thread waited for.
    pub(crate) permit: Option<Permit>,
    pub(crate) tail: Tail,
}

/// Whether the caller of this call only passes its outcome on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// The outcome comes back to this vat.
    No,
    /// If the call leads to the peer that waits for the outcome, the outcome
    /// stays there. See Note [tail calls].
    Allowed,
}

impl Delivery {
    /// Gives up: there is nothing at the end of the way.
    pub(crate) fn fail(self, error: &Error) {
        match self {
            // Not right here: calls may wait in the fields of this one, others in
            // theirs, and so on.
            Delivery::Call(call) => {
                effects::defer(Effect::Complete(call.cell, Err(error.clone())));
            }
            Delivery::Disembargo(echo) => echo.refuse(),
        }
    }

    /// Whether nobody wants this any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Delivery::Call(call) => call.cell.is_cancelled(),
            Delivery::Disembargo(_) => false,
        }
    }
}

/// A capability, or the way to one that only a lock we may not hold now can
/// tell.
pub(crate) enum Route {
    Client(Client),
    /// The field of a call's results.
    Field(Arc<CallCell>, Path),
}

impl Route {
    /// The capability. Takes locks.
    pub(crate) fn client(self) -> Client {
        match self {
            Route::Client(client) => client,
            Route::Field(cell, path) => cell.pipelined(&path),
        }
    }
}

/// A Disembargo that the peer sent to be returned. It goes the way of the calls
/// before it, and is returned where they leave towards the peer.
pub(crate) struct Echo {
    connection: Arc<dyn Connection>,
    embargo: u32,
}

impl Echo {
    /// `connection` is the one that it came from and has to go back to.
    pub(crate) fn new(connection: Arc<dyn Connection>, embargo: u32) -> Self {
        Echo { connection, embargo }
    }

    pub(crate) fn is_from(&self, other: &dyn Connection) -> bool {
        connection::is_same(&*self.connection, other)
    }

    pub(crate) fn embargo(&self) -> u32 {
        self.embargo
    }

    /// The way does not lead back to the peer, which therefore should not have
    /// asked.
    pub(crate) fn refuse(self) {
        self.connection.refuse_disembargo(self.embargo);
    }
}
