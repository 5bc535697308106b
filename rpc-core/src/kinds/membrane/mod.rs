//! Membranes: barriers past which capabilities cannot be passed.
//!
//! A membrane stands between an inside and an outside. Every capability that passes
//! through it, in parameters or in results, is replaced by a wrapper of the same
//! membrane; a wrapper that passes back is replaced by what it wraps. So nothing that
//! the two sides exchange leads past the membrane, and its [policy](MembranePolicy)
//! sees every call from one side to the other.
//!
//! A wrapped promise is a promise: it resolves when the promise behind it does, to a
//! wrapper of what that has resolved to, or to the capability itself if it turns out to
//! belong to the side that holds the wrapper. Calls through a membrane keep their order
//! and are passed on at once, including those that are pipelined on other calls through
//! it.

mod crossing;
mod wrapped;

use std::fmt;
use std::sync::Arc;

use crate::cap::client::Client;
use crate::cap::crossing::{Crossing, Heading};
use crate::cap::from_client::FromClient;
use crate::cap::payload::Payload;
use crate::error::{Error, Result};

use self::crossing::Shared;

/// Decides what may pass a membrane.
///
/// The methods run on the thread that delivers a call, often one that serves a
/// connection: they must decide without waiting. As long as they run, calls behind this one wait,
/// and so may some in front of it that came at the same time and have not begun. A panic fails the
/// call.
///
/// Treat both directions alike: a promise that crosses may resolve to a capability of
/// the side to which it came, and then calls on it no longer cross.
pub trait MembranePolicy: Send + Sync + 'static {
    /// Decides about a call from outside on `target`, which is inside. `target` is not
    /// wrapped: calling it bypasses the membrane.
    ///
    /// # Errors
    /// What the call fails with instead of passing.
    fn inbound_call(&self, interface_id: u64, method_id: u16, target: &Client) -> Result<Passage> {
        let _ = (interface_id, method_id, target);
        Ok(Passage::Through)
    }

    /// Decides about a call from inside on `target`, which is outside and not wrapped.
    ///
    /// # Errors
    /// What the call fails with instead of passing.
    fn outbound_call(&self, interface_id: u64, method_id: u16, target: &Client) -> Result<Passage> {
        let _ = (interface_id, method_id, target);
        Ok(Passage::Through)
    }

    /// Whether a call on a promise that would be redirected or refused waits until the
    /// promise is resolved; then the policy is asked again, if the call crosses the
    /// membrane at all. The default is `true`.
    fn waits_for_promises(&self) -> bool {
        true
    }

    /// Whether the file descriptors of capabilities pass. By default they do not: the
    /// membrane cannot see what is done with a descriptor, nor revoke it.
    ///
    /// Asked once, when the membrane is made.
    fn passes_fds(&self) -> bool {
        false
    }
}

/// A policy that is shared.
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
    /// The call goes through, and the capabilities that it carries are wrapped and
    /// unwrapped.
    Through,
    /// The call goes unchanged to this capability of the caller's side. That capability
    /// can use [`Membrane::carry_in`] and [`Membrane::carry_out`] to bring content to
    /// the other side.
    Redirect(Client),
}

/// The policy that lets everything pass.
///
/// ```
/// use capnp_threads_core::membrane::{Membrane, Transparent};
/// use capnp_threads_core::{Error, Vat};
/// # use rpc_schema::echo_capnp::echo;
/// # struct Echo;
/// # impl echo::Server for Echo {}
///
/// let object: echo::Client = Vat::new().export(Echo);
/// let membrane = Membrane::new(Transparent);
/// let given = membrane.wrap(&object);
/// membrane.revoke(Error::failed("the time is over"));
/// assert_eq!(given.ping_request().call().unwrap_err().reason(), "the time is over");
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no content")]
pub struct Transparent;

impl MembranePolicy for Transparent {}

/// A barrier between two sides, with a policy. Cloning gives another handle on
/// the same membrane.
///
/// ```
/// use capnp_threads_core::membrane::{Membrane, MembranePolicy, Passage};
/// use capnp_threads_core::typed::new_client;
/// use capnp_threads_core::{Client, Error, Result};
/// use rpc_schema::greeter_capnp::greeter;
/// # struct Greeter;
/// # impl greeter::Server for Greeter {
/// #     fn greet(&self, _: greeter::GreetParams, _: greeter::GreetResults) -> Result<()> {
/// #         Ok(())
/// #     }
/// # }
///
/// /// Lets only greetings in.
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
    /// A membrane around a barrier of its own.
    pub fn new(policy: impl MembranePolicy) -> Self {
        Membrane { shared: Shared::new(Arc::new(policy), None) }
    }

    /// Another membrane around the same barrier: what passed one of them in one
    /// direction passes the other back as itself. Each has its own policy and is
    /// revoked separately.
    #[must_use]
    pub fn sibling(&self, policy: impl MembranePolicy) -> Self {
        Membrane { shared: Shared::new(Arc::new(policy), Some(&self.shared)) }
    }

    /// The wrapper that stands outside for a capability that is inside. It is the same
    /// wrapper while it exists. If `inner` itself is a wrapper of a capability outside,
    /// this returns that capability.
    #[must_use]
    pub fn wrap<C: FromClient>(&self, inner: &C) -> C {
        C::from_client(self.crossing(Heading::Out).client(inner.as_client()))
    }

    /// The wrapper that stands inside for a capability that is outside.
    #[must_use]
    pub fn wrap_reverse<C: FromClient>(&self, outer: &C) -> C {
        C::from_client(self.crossing(Heading::In).client(outer.as_client()))
    }

    /// Content from outside in the form for the inside.
    #[must_use]
    pub fn carry_in(&self, content: &Payload) -> Payload {
        self.crossing(Heading::In).payload(content)
    }

    /// Content from inside in the form for the outside.
    #[must_use]
    pub fn carry_out(&self, content: &Payload) -> Payload {
        self.crossing(Heading::Out).payload(content)
    }

    fn crossing(&self, heading: Heading) -> Crossing {
        Crossing::new(Arc::clone(&self.shared) as _, heading)
    }

    /// Ends everything that leads through the membrane: all its wrappers, in both
    /// directions, release what they wrap and fail from now on with `error`. Calls that
    /// are under way through it fail with `error`, too, and are cancelled behind it.
    /// Promises resolve to that error.
    ///
    /// A capability that went in and came back to where it came from is not affected,
    /// nor are calls that were redirected. Only the first revocation counts.
    pub fn revoke(&self, error: Error) {
        self.shared.revoke(&error);
    }

    /// The error with which the membrane was revoked, if it was.
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

/// Makes a capability that can be revoked, and its revoker. Everything that is reached
/// through the capability is revoked with it: this is a [`Membrane`] that lets
/// everything pass.
pub fn revocable<C: FromClient>(client: &C) -> (C, Revoker) {
    let membrane = Membrane::new(Transparent);
    (membrane.wrap(client), Revoker { membrane })
}

/// Revokes a [revocable] capability. Dropping the revoker does not revoke it; see
/// [`on_drop`](Self::on_drop).
#[derive(Clone, Debug)]
pub struct Revoker {
    membrane: Membrane,
}

impl Revoker {
    /// Makes every call fail with `error`, from now on; see [`Membrane::revoke`].
    pub fn revoke(&self, error: Error) {
        self.membrane.revoke(error);
    }

    /// Whether the capability was revoked.
    pub fn is_revoked(&self) -> bool {
        self.membrane.revoked().is_some()
    }

    /// A guard that revokes the capability when it is dropped.
    #[must_use = "dropping the guard revokes the capability"]
    pub fn on_drop(self) -> RevokeOnDrop {
        RevokeOnDrop { revoker: self }
    }
}

/// Revokes a revocable capability when it is dropped: see [`Revoker::on_drop`].
#[derive(Debug)]
pub struct RevokeOnDrop {
    revoker: Revoker,
}

impl Drop for RevokeOnDrop {
    fn drop(&mut self) {
        self.revoker.revoke(Error::failed("the capability was revoked"));
    }
}
