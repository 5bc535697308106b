//! What a peer of a system is admitted to.

use super::{Peer, RpcSystemBuilder};
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::error::Result;
use crate::limits::Limits;
use crate::transport::network::VatNetwork;

/// Decides what a vat offers to a peer, or refuses it.
pub(super) type Authorizer<Id> = Box<dyn Fn(&Peer<'_, Id>) -> Result<Admission> + Send + Sync>;

/// What one peer gets: a bootstrap capability, and how much its connection may hold.
///
/// ```
/// use capnp_threads_core::Limits;
/// use capnp_threads_core::network::Admission;
/// # use rpc_schema::greeter_capnp::greeter;
///
/// # fn admit(greeter: greeter::Client) -> Admission {
/// let mut limits = Limits::default();
/// limits.budget_bytes = 16 << 20;
/// Admission::new().bootstrap(greeter).limits(limits)
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Admission {
    pub(super) bootstrap: Option<Client>,
    pub(super) limits: Option<Limits>,
}

impl Admission {
    /// Offers nothing, and has the limits of the system.
    pub fn new() -> Self {
        Admission::default()
    }

    /// Offers a bootstrap capability.
    pub fn bootstrap(mut self, client: impl FromClient) -> Self {
        self.bootstrap = Some(client.into_client());
        self
    }

    /// Sets how much the connection may hold, in place of what
    /// [`RpcSystemBuilder::limits`] says.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }
}

impl<N: VatNetwork> RpcSystemBuilder<N> {
    /// Decides for each peer, before anything of it is read, whether it is served, with which
    /// bootstrap capability and within which limits. The closure sees the name that the peer
    /// has in the network, and what its transport knows and has proved of it: address, user,
    /// certificates, the id of the vat. It is called once for each connection, when it begins,
    /// and must not block. It takes the place of
    /// [`bootstrap_factory`](Self::bootstrap_factory).
    ///
    /// An error refuses a peer that has connected to this vat: it is told the error with an
    /// Abort, and its connection ends; so does an admission that offers nothing, unless a
    /// [restorer](Self::restorer) offers something else. On a connection that this vat makes,
    /// or reaches for while the peer makes it, both offer nothing to the peer, which may still
    /// be called.
    ///
    /// ```
    /// # use capnp_threads_core::network::{Admission, RpcSystemBuilder, VatNetwork};
    /// # use capnp_threads_core::Error;
    /// # use rpc_schema::greeter_capnp::greeter;
    /// # fn settings<N: VatNetwork>(
    /// #     builder: RpcSystemBuilder<N>,
    /// #     friends: Vec<capnp_threads_core::transport::VatId>,
    /// #     greeter: greeter::Client,
    /// # ) -> RpcSystemBuilder<N> {
    /// builder.authorizer(move |peer| match peer.description.vat() {
    ///     Some(vat) if friends.contains(&vat) => Ok(Admission::new().bootstrap(greeter.clone())),
    ///     _ => Err(Error::failed("this vat serves its friends only")),
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn authorizer(
        mut self,
        authorizer: impl Fn(&Peer<'_, N::VatId>) -> Result<Admission> + Send + Sync + 'static,
    ) -> Self {
        self.settings.authorizer = Some(Box::new(authorizer));
        self
    }
}
