//! Taking no more calls.
//!
//! Note [draining]
//!
//! A vat that is about to end takes no more calls of its peers, but answers those that it
//! has. From one transaction on, every Call and Bootstrap that arrives is answered with an
//! error by which the caller knows that another server may do it, see
//! [`Error::is_draining`]. A call that arrived before has begun, even if it still waits in
//! a mailbox or behind the flow limit. What a begun call needs of the peer goes on as
//! before: calls of this side, their Returns, Resolves, Disembargoes. A peer that calls
//! back in order to answer such a call is refused like any other.
//!
//! When nothing is owed any more, the connection ends with the same error as an Abort. It
//! stands behind the last Return, so no answer is lost, and whoever waits for a call that
//! was not answered in time learns the reason, too.

use std::sync::Arc;

use super::{Machine, NewCalls, Txn};
use crate::error::Error;
use crate::sync::Count;

impl Machine {
    /// Refuses the calls that the peer makes from now on.
    pub(crate) fn drain(self: &Arc<Self>) {
        self.transact(|txn| txn.order.new_calls = NewCalls::Refused);
    }

    /// Whether every call of the peer that was taken has its outcome.
    pub(crate) fn owes_nothing(&self) -> bool {
        self.running_calls.get() == 0
    }
}

impl Txn<'_> {
    /// The error that answers a new call.
    pub(super) fn refusal(&self) -> Option<Error> {
        match self.order.new_calls {
            NewCalls::Taken => None,
            NewCalls::Refused => Some(Error::draining()),
        }
    }
}
