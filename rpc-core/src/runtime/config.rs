//! How a connection behaves.

use std::fmt;
use std::time::Duration;

use super::Supervisor;
use crate::client::Client;
use crate::flow::FlowControl;
use crate::limits::Limits;
use crate::protocol::Detail;
use crate::typed::FromClient;

type Bootstrap = Box<dyn FnOnce(&Supervisor) -> Option<Client> + Send>;
type Action = Box<dyn FnOnce(&Supervisor, Client) + Send>;

/// What a connection offers, needs and may hold.
///
/// ```
/// use rpc_core::{ConnConfig, Limits};
///
/// let mut limits = Limits::default();
/// limits.questions = 1024;
/// let config = ConnConfig::new().limits(limits).debug_mode(true);
/// ```
pub struct ConnConfig {
    pub(super) limits: Limits,
    pub(super) detail: Detail,
    pub(super) bootstrap: Option<Bootstrap>,
    pub(super) action: Option<Action>,
    pub(super) close_timeout: Duration,
    pub(super) flow: FlowControl,
    pub(super) flow_limit: u64,
}

impl ConnConfig {
    /// Defaults: no bootstrap capability, no action, [`Limits::default`], no
    /// internal detail for peers, one second to say goodbye.
    pub fn new() -> Self {
        ConnConfig {
            limits: Limits::default(),
            detail: Detail::Hidden,
            bootstrap: None,
            action: None,
            close_timeout: Duration::from_secs(1),
            flow: FlowControl::default(),
            flow_limit: u64::MAX,
        }
    }

    /// Offers a capability, of any type, to the peer that asks for the bootstrap
    /// capability.
    #[must_use]
    pub fn bootstrap(self, client: impl FromClient) -> Self {
        let client = client.into_client();
        self.bootstrap_with(|_| Some(client))
    }

    /// Makes the capability to offer when the connection starts. The supervisor
    /// lives as long as the connection. Must not block: nothing is served before
    /// it returns; a promise can be offered instead. `None` offers nothing.
    #[must_use]
    pub fn bootstrap_with(
        mut self,
        make: impl FnOnce(&Supervisor) -> Option<Client> + Send + 'static,
    ) -> Self {
        self.bootstrap = Some(Box::new(make));
        self
    }

    /// Runs an action with the peer's bootstrap capability, on a thread of its
    /// own. When it returns the connection is closed; when the connection ends
    /// first, the action's supervisor tells it to stop.
    #[must_use]
    pub fn with_bootstrap(
        mut self,
        action: impl FnOnce(&Supervisor, Client) + Send + 'static,
    ) -> Self {
        self.action = Some(Box::new(action));
        self
    }

    /// Sets how much the connection may hold.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether exceptions that are sent to the peer contain internal detail,
    /// such as what a method panicked with. Useful while developing; such detail
    /// may be confidential. Default: `false`.
    #[must_use]
    pub fn debug_mode(mut self, on: bool) -> Self {
        self.detail = if on { Detail::Shown } else { Detail::Hidden };
        self
    }

    /// How much may be on its way in a stream to a capability of the peer.
    /// Default: what the operating system buffers for the socket.
    #[must_use]
    pub fn flow_control(mut self, flow: FlowControl) -> Self {
        self.flow = flow;
        self
    }

    /// How many words (of eight bytes) of the peer's calls may be under way: while
    /// those that were delivered and are not over are more, further calls wait, in
    /// the order in which they came. One call passes in any case. Nothing but calls
    /// waits, but a method that waits for the peer, while the peer waits for another
    /// call to be taken, waits for ever: the limit must leave room for as many calls
    /// as call each other back. Default: no limit. See
    /// [`Connection::set_flow_limit`](crate::Connection::set_flow_limit).
    #[must_use]
    pub fn flow_limit(mut self, words: u64) -> Self {
        self.flow_limit = words;
        self
    }

    /// How long a connection that ends may take to write what is still queued, and
    /// to wait for the peer to end its side, too. A peer that does neither read nor
    /// close cannot hold it longer. Default: one second.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }
}

impl Default for ConnConfig {
    fn default() -> Self {
        ConnConfig::new()
    }
}

impl fmt::Debug for ConnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnConfig")
            .field("limits", &self.limits)
            .field("detail", &self.detail)
            .field("bootstrap", &self.bootstrap.is_some())
            .field("action", &self.action.is_some())
            .field("close_timeout", &self.close_timeout)
            .field("flow", &self.flow)
            .field("flow_limit", &self.flow_limit)
            .finish()
    }
}
