//! Whether two capabilities are the same object, whichever vat hosts it (level 4).
//!
//! Note [join]
//!
//! Two references may have come to this vat by different ways, and then they look different:
//! two imports of one peer, imports of two peers, or an object of this vat and an import of a
//! vat that stands in for it. To compare them, both are resolved. What is then known here is
//! answered here:
//!
//! - the same object, the same import of the same connection, or two null capabilities: the
//!   same;
//! - two objects of this vat, or one and null: not the same.
//!
//! Everything else is for those to say who know more: a Join is sent for each. A vat that
//! stands in for another one passes the Join on, so it arrives where the object is, or at
//! whatever does not let Joins through: a membrane, an interceptor, a capability that is
//! connected anew. These answer for themselves: they are not what they wrap. A peer may stand in
//! for what is null, so it is asked about that, too; if it knows no Joins, its word that it hosts
//! the capability is enough. There are two forms of Join.
//!
//! **By parts**, if both are imports of the same connection. The peer gets one Join for each,
//! with the `JoinKeyPart` of `rpc-twoparty.capnp`. When all have come, it compares what they
//! are for as if it had been asked itself, and says so to all (`protocol/join/gathering.rs`).
//!
//! **By nonce**, in all other cases. Each Join holds the same 32 random bytes. Whoever hosts the
//! object answers with 32 bytes of its own: a hash of a secret of its process, of the nonce, and
//! of a number that no other object has had there. Equal answers mean the same object, and a
//! host has nothing to remember. Nobody can make up an answer: only who can send the same nonce
//! to the object gets it, and who can do that has the capability. Nor do answers to different
//! nonces have anything in common, so they tell nobody by which name an object is known
//! elsewhere.
//!
//! So the answer is as good as those who stand between this vat and the object. A vat can say of
//! a capability that it has given away that it is one to which it can send messages, and may
//! still treat calls on it as it likes. It cannot make it be taken for one that it does not have.

mod comparing;
pub(crate) mod number;
mod results;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub(crate) use self::comparing::compare;
pub(crate) use self::results::{is_same, part_answered};

use super::client::Client;
use super::pending::Pending;
use crate::deadline::Deadline;
use crate::error::Result;

impl Client {
    /// Whether this and another client refer to the same object, in whichever vat it is.
    /// Blocks until both are resolved and, where this vat does not know the answer, until the
    /// vats that host them have said it.
    ///
    /// While the answer is `true` for equal clients (`==`), clients that are not equal may be
    /// the same object, too: that is known only to others. What stands behind a membrane, an
    /// interceptor, or a capability that reconnects is the same as itself alone, and not as
    /// what is behind it. Null is the same as null.
    ///
    /// The answer is given by the vats through which the two capabilities have come. A vat
    /// cannot make its capability be taken for another one that it does not have, but it may
    /// pass calls on as it likes. So after `true`, call the one that comes from the vat that
    /// you trust.
    ///
    /// ```
    /// use capnp_threads_core::{FromClient, Result, Vat};
    /// # use rpc_schema::echo_capnp::echo;
    /// # struct Echo;
    /// # impl echo::Server for Echo {
    /// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> { Ok(()) }
    /// # }
    ///
    /// # fn main() -> Result<()> {
    /// # let vat = Vat::new();
    /// let one: echo::Client = vat.export(Echo);
    /// let other: echo::Client = vat.export(Echo);
    /// assert!(one.same_object(&one.clone())?);
    /// assert!(!one.same_object(&other)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// One of the two is broken, or a connection was lost; `unimplemented` if a peer that
    /// would have to answer does not know the question (level 4 of the protocol); `overloaded`
    /// if it is asked too much at once; or this thread must not wait.
    pub fn same_object(&self, other: &Client) -> Result<bool> {
        self.compare(other).0.wait().and_then(|answer| results::is_same(&answer))
    }

    /// As [`same_object`](Self::same_object), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// The errors of [`same_object`](Self::same_object), and when time is up one that [is a
    /// timeout](crate::Error::is_timeout).
    pub fn same_object_timeout(&self, other: &Client, timeout: Duration) -> Result<bool> {
        self.same_object_before(other, Deadline::after(timeout))
    }

    /// As [`same_object_timeout`](Self::same_object_timeout), until a point in time.
    ///
    /// # Errors
    /// As [`same_object_timeout`](Self::same_object_timeout).
    pub fn same_object_deadline(&self, other: &Client, deadline: Instant) -> Result<bool> {
        self.same_object_before(other, Deadline::at(deadline))
    }

    fn same_object_before(&self, other: &Client, deadline: Deadline) -> Result<bool> {
        let answer = self.compare(other).0.end_before(deadline)?;
        results::is_same(&answer)
    }

    /// Begins to find out what [`same_object`](Self::same_object) returns. Does not block.
    pub fn compare(&self, other: &Client) -> Comparison {
        Comparison(compare(vec![self.clone(), other.clone()]))
    }
}

/// The question whether two capabilities are the same object, which may not be answered yet.
/// See [`Client::same_object`].
///
/// Dropping the last copy gives the question up, and tells those who were asked.
///
/// ```
/// use capnp_threads_core::Client;
/// use capnp_threads_core::untyped::Comparison;
///
/// let comparison: Comparison = Client::null().compare(&Client::null());
/// assert_eq!(comparison.wait(), Ok(true));
/// ```
#[derive(Clone)]
#[must_use = "dropping a comparison gives it up; wait for it, or use on_answer"]
pub struct Comparison(Pending);

impl Comparison {
    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// Those of [`Client::same_object`].
    pub fn wait(&self) -> Result<bool> {
        results::is_same(&self.0.wait()?)
    }

    /// Blocks until the answer is there, but no longer than `timeout`. The question stays open
    /// when time is up.
    ///
    /// # Errors
    /// Those of [`Client::same_object_timeout`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        results::is_same(&self.0.wait_timeout(timeout)?)
    }

    /// As [`wait_timeout`](Self::wait_timeout), until a point in time.
    ///
    /// # Errors
    /// Those of [`Client::same_object_timeout`].
    pub fn wait_deadline(&self, deadline: Instant) -> Result<bool> {
        results::is_same(&self.0.wait_deadline(deadline)?)
    }

    /// The answer, if it is there. Never blocks.
    pub fn try_answer(&self) -> Option<Result<bool>> {
        let outcome = self.0.try_result()?;
        Some(outcome.and_then(|answer| results::is_same(&answer)))
    }

    /// Runs a closure with the answer on a worker, once it is there. The comparison need not
    /// be kept.
    pub fn on_answer(&self, closure: impl FnOnce(Result<bool>) + Send + 'static) {
        self.0.on_resolve(|outcome| closure(outcome.and_then(|answer| results::is_same(&answer))));
    }
}

impl Future for Comparison {
    type Output = Result<bool>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<bool>> {
        let outcome = Pin::new(&mut self.0).poll(context);
        outcome.map(|outcome| outcome.and_then(|answer| results::is_same(&answer)))
    }
}

impl fmt::Debug for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Comparison").field(&self.try_answer()).finish()
    }
}
