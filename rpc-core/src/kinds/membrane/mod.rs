//! Membranes: barriers that capabilities cannot be carried around.
//!
//! A membrane stands between an inside and an outside. Whatever capability passes
//! through it, in parameters or in results, is replaced by a wrapper of the same
//! membrane; a wrapper that passes back is replaced by what it wraps. So nothing
//! that the two sides exchange leads past the membrane, and its
//! [policy](MembranePolicy) sees every call from one side to the other.
//!
//! A wrapped promise is a promise: it resolves when what it wraps does, to that
//! in the same membrane, or to the thing itself if it turns out to be of the side
//! that looks at it. Calls through a membrane keep their order and are passed on
//! at once, those that are pipelined on other calls through it as well.

mod crossing;
mod wrapped;

use std::fmt;
use std::sync::Arc;

use crate::cap::client::Client;
use crate::cap::crossing::{Crossing, Direction};
use crate::cap::from_client::FromClient;
use crate::cap::payload::Payload;
use crate::error::{Error, Result};

use self::crossing::Shared;

/// What may pass a membrane.
///
/// The methods run on whichever thread brings a call, often one that serves a
/// connection: they must decide at once and not wait. A panic fails the call.
///
/// Treat both directions alike: a promise that crosses may turn out to be of the
/// side that it came to, and calls on it then do not cross any more.
pub trait MembranePolicy: Send + Sync + 'static {
    /// What becomes of a call that comes from outside and is for `target`, which
    /// is inside. `target` is not wrapped: calling it bypasses the membrane.
    ///
    /// # Errors
    /// What the call fails with instead of passing.
    fn inbound_call(&self, interface_id: u64, method_id: u16, target: &Client) -> Result<Passage> {
        let _ = (interface_id, method_id, target);
        Ok(Passage::Through)
    }

    /// What becomes of a call that comes from inside and is for `target`, which
    /// is outside and not wrapped.
    ///
    /// # Errors
    /// What the call fails with instead of passing.
    fn outbound_call(&self, interface_id: u64, method_id: u16, target: &Client) -> Result<Passage> {
        let _ = (interface_id, method_id, target);
        Ok(Passage::Through)
    }

    /// Whether a call through a promise, if it is to be anything but passed
    /// through, waits until it is known where the promise leads, and is decided
    /// about again: it may turn out not to cross the membrane. By default it does.
    fn waits_for_promises(&self) -> bool {
        true
    }

    /// Whether the file descriptors of capabilities pass. By default they do not:
    /// what is done with one is seen by nobody, and cannot be revoked.
    fn passes_fds(&self) -> bool {
        false
    }
}

/// A policy that others hold, too.
impl<P: MembranePolicy + ?Sized> MembranePolicy for Arc<P> {
    fn inbound_call(&self, interface_id: u64, method_id: u16, target: &Client) -> Result<Passage> {
        (**self).inbound_call(interface_id, method_id, target)
    }

    fn outbound_call(&self, interface_id: u64, method_id: u16, target: &Client) -> Result<Passage> {
        (**self).outbound_call(interface_id, method_id, target)
    }

    fn waits_for_promises(&self) -> bool {
        (**self).waits_for_promises()
    }

    fn passes_fds(&self) -> bool {
        (**self).passes_fds()
    }
}

/// What a policy decides about a call that could cross its membrane.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Passage {
    /// It goes through, and what it carries is wrapped and unwrapped.
    Through,
    /// It goes, as it is, to this capability of the caller's side. Use
    /// [`Membrane::carry_in`] and [`Membrane::carry_out`] to have that one bring
    /// things to the other side.
    Redirect(Client),
}

/// Lets everything pass, until it is revoked.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no content")]
pub struct Transparent;

impl MembranePolicy for Transparent {}

/// A barrier between two sides, with a policy. Cloning gives another handle on
/// the same membrane.
///
/// ```
/// use capnp_threads_core::{Error, Membrane, MembranePolicy, Passage, Client, Result, new_client};
/// use rpc_schema::greeter_capnp::greeter;
/// # struct Greeter;
/// # impl greeter::Server for Greeter {
/// #     fn greet(&self, _: greeter::GreetParams, _: greeter::GreetResults) -> Result<()> {
/// #         Ok(())
/// #     }
/// # }
///
/// /// Lets nothing in but greetings.
/// struct GreetingsOnly;
///
/// impl MembranePolicy for GreetingsOnly {
///     fn inbound_call(&self, interface: u64, _method: u16, _target: &Client) -> Result<Passage> {
///         use capnp_threads_core::capnp::traits::HasTypeId;
///         if interface == greeter::Client::TYPE_ID {
///             Ok(Passage::Through)
///         } else {
///             Err(Error::failed("only greetings, please"))
///         }
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let inside: greeter::Client = new_client(Greeter);
/// let membrane = Membrane::new(GreetingsOnly);
/// let outside: greeter::Client = membrane.wrap(&inside);
/// outside.greet_request().call()?;
/// membrane.revoke(Error::failed("no more greetings today"));
/// assert!(outside.greet_request().call().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Membrane {
    shared: Arc<Shared>,
}

impl Membrane {
    /// A membrane of its own.
    pub fn new(policy: impl MembranePolicy) -> Self {
        Membrane { shared: Shared::new(Arc::new(policy), None) }
    }

    /// Another passage through the same barrier: what went in by one of them
    /// comes out by the other as itself, and the other way round. Each has its
    /// own policy and is revoked alone.
    #[must_use]
    pub fn sibling(&self, policy: impl MembranePolicy) -> Self {
        Membrane { shared: Shared::new(Arc::new(policy), Some(&self.shared)) }
    }

    /// What stands outside for a capability that is inside. The same one while
    /// it exists; and if `inner` itself stands for something outside, that.
    #[must_use]
    pub fn wrap<C: FromClient>(&self, inner: &C) -> C {
        C::from_client(self.crossing(Direction::Out).client(inner.as_client()))
    }

    /// What stands inside for a capability that is outside.
    #[must_use]
    pub fn wrap_reverse<C: FromClient>(&self, outer: &C) -> C {
        C::from_client(self.crossing(Direction::In).client(outer.as_client()))
    }

    /// Content from outside as it is to be seen inside.
    #[must_use]
    pub fn carry_in(&self, content: &Payload) -> Payload {
        self.crossing(Direction::In).payload(content)
    }

    /// Content from inside as it is to be seen outside.
    #[must_use]
    pub fn carry_out(&self, content: &Payload) -> Payload {
        self.crossing(Direction::Out).payload(content)
    }

    fn crossing(&self, direction: Direction) -> Crossing {
        Crossing::new(Arc::clone(&self.shared) as _, direction)
    }

    /// Ends every way through it: all its wrappers, in both directions, let go of
    /// what they wrap and fail from now on with `error`, and so do the calls that
    /// are under way through it, which are cancelled behind it. Promises resolve
    /// to that error.
    ///
    /// What went in and was put back to where it came from is not affected, nor
    /// are calls that were redirected. Only the first time counts.
    pub fn revoke(&self, error: Error) {
        self.shared.revoke(&error);
    }

    /// Why it was revoked, if it was.
    pub fn revoked(&self) -> Option<Error> {
        self.shared.revoked()
    }
}

impl fmt::Debug for Membrane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membrane")
            .field("revoked", &self.revoked().map(|error| error.to_string()))
            .finish_non_exhaustive()
    }
}

/// Makes a capability that can be taken back, and the means to do so. Everything
/// that is reached through it is taken back with it: this is a [`Membrane`] that
/// lets everything pass.
pub fn revocable<C: FromClient>(client: &C) -> (C, Revoker) {
    let membrane = Membrane::new(Transparent);
    (membrane.wrap(client), Revoker { membrane })
}

/// Takes a [revocable] capability back. Dropping it does not, unless
/// [`on_drop`](Self::on_drop) says so.
#[derive(Clone, Debug)]
pub struct Revoker {
    membrane: Membrane,
}

impl Revoker {
    /// Makes every call fail with `error`, now and later; see
    /// [`Membrane::revoke`].
    pub fn revoke(&self, error: Error) {
        self.membrane.revoke(error);
    }

    /// Whether the capability was taken back.
    pub fn is_revoked(&self) -> bool {
        self.membrane.revoked().is_some()
    }

    /// A guard that takes the capability back when it is dropped.
    #[must_use = "dropping the guard revokes the capability"]
    pub fn on_drop(self) -> RevokeOnDrop {
        RevokeOnDrop { revoker: self }
    }
}

/// Takes a revocable capability back when it is dropped: see
/// [`Revoker::on_drop`].
#[derive(Debug)]
pub struct RevokeOnDrop {
    revoker: Revoker,
}

impl Drop for RevokeOnDrop {
    fn drop(&mut self) {
        self.revoker.revoke(Error::failed("the capability was revoked"));
    }
}
