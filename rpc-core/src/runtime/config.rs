//! How a connection behaves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Supervisor;
use super::common::{Common, common_setters};
use super::exceptions::Detail;
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::cap::interceptor::Interceptors;
use crate::error::Error;
use crate::flow::FlowControl;
use crate::limits::Limits;
use crate::protocol::handoff::Neighbour;
use crate::runtime::offer::{BootstrapFactory, Restorer};
use crate::transport::PeerDescription;

type Bootstrap = Box<dyn FnOnce(&Supervisor, &PeerDescription) -> Option<Client> + Send>;
type Action = Box<dyn FnOnce(&Supervisor, Client) + Send>;

/// What a connection offers to the peer, does with it, and may hold.
///
/// ```
/// use capnp_threads_core::{ConnConfig, Limits};
///
/// let mut limits = Limits::default();
/// limits.questions = 1024;
/// let config = ConnConfig::new().limits(limits).debug_mode(true);
/// ```
pub struct ConnConfig {
    pub(super) common: Common,
    pub(super) bootstrap: Option<Bootstrap>,
    pub(super) action: Option<Action>,
    /// What introduces the peer to others, and others to it.
    pub(super) neighbour: Option<Arc<dyn Neighbour>>,
}

impl ConnConfig {
    /// Defaults: no bootstrap capability, no action, [`Limits::default`], no internal
    /// detail for peers, a close timeout of one second.
    pub fn new() -> Self {
        Self::with_common(Common::default())
    }

    pub(super) fn with_common(common: Common) -> Self {
        ConnConfig { common, bootstrap: None, action: None, neighbour: None }
    }

    /// Offers a capability, of any type, as this side's bootstrap capability.
    #[must_use]
    pub fn bootstrap(self, client: impl FromClient) -> Self {
        let client = client.into_client();
        self.bootstrap_with(|_| Some(client))
    }

    /// Makes the bootstrap capability when the connection starts; `None` offers
    /// nothing. The supervisor given to the closure lives as long as the connection.
    /// The closure must not block, because nothing is served before it returns; it can
    /// return a promise instead.
    #[must_use]
    pub fn bootstrap_with(
        mut self,
        make: impl FnOnce(&Supervisor) -> Option<Client> + Send + 'static,
    ) -> Self {
        self.bootstrap = Some(Box::new(move |supervisor, _| make(supervisor)));
        self
    }

    /// Lets a factory decide what to offer, once it is known who the peer is. One
    /// factory, in an `Arc`, can serve any number of connections.
    #[must_use]
    pub fn bootstrap_factory(mut self, factory: impl BootstrapFactory) -> Self {
        self.bootstrap = Some(Box::new(move |_, peer| factory.bootstrap_for(peer)));
        self
    }

    /// Runs an action with the peer's bootstrap capability, on a thread of its own.
    /// When the action returns, the connection is closed; when the connection ends
    /// first, the action's supervisor tells it to stop.
    #[must_use]
    pub fn with_bootstrap(
        mut self,
        action: impl FnOnce(&Supervisor, Client) + Send + 'static,
    ) -> Self {
        self.action = Some(Box::new(action));
        self
    }

    common_setters!(common);
}

impl Default for ConnConfig {
    fn default() -> Self {
        ConnConfig::new()
    }
}

impl fmt::Debug for ConnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnConfig")
            .field("common", &self.common)
            .field("bootstrap", &self.bootstrap.is_some())
            .field("action", &self.action.is_some())
            .field("neighbour", &self.neighbour.is_some())
            .finish()
    }
}
