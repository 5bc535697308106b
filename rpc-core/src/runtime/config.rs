//! How a connection behaves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Supervisor;
use super::exceptions::{Detail, TraceEncoder};
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::error::Error;
use crate::flow::FlowControl;
use crate::limits::Limits;
use crate::runtime::offer::{BootstrapFactory, Restorer};
use crate::transport::PeerDescription;

type Bootstrap = Box<dyn FnOnce(&Supervisor, &PeerDescription) -> Option<Client> + Send>;
type Action = Box<dyn FnOnce(&Supervisor, Client) + Send>;

/// What a connection offers, needs and may hold.
///
/// ```
/// use capnp_threads_core::{ConnConfig, Limits};
///
/// let mut limits = Limits::default();
/// limits.questions = 1024;
/// let config = ConnConfig::new().limits(limits).debug_mode(true);
/// ```
pub struct ConnConfig {
    pub(super) limits: Limits,
    pub(super) detail: Detail,
    pub(super) trace_encoder: TraceEncoder,
    pub(super) bootstrap: Option<Bootstrap>,
    pub(super) restorer: Option<Arc<dyn Restorer>>,
    pub(super) gateway: Option<Client>,
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
            trace_encoder: TraceEncoder::default(),
            bootstrap: None,
            restorer: None,
            gateway: None,
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
        self.bootstrap = Some(Box::new(move |supervisor, _| make(supervisor)));
        self
    }

    /// Decides what to offer once it is known who the peer is. One factory, in an
    /// `Arc`, can serve any number of connections.
    #[must_use]
    pub fn bootstrap_factory(mut self, factory: impl BootstrapFactory) -> Self {
        self.bootstrap = Some(Box::new(move |_, peer| factory.bootstrap_for(peer)));
        self
    }

    /// Offers capabilities by name, beside the bootstrap capability; see
    /// [`Restorer`].
    #[must_use]
    pub fn restorer(mut self, restorer: impl Restorer) -> Self {
        self.restorer = Some(Arc::new(restorer));
        self
    }

    /// Puts a capability of the interface `RealmGateway` (of `persistent.capnp`)
    /// between this vat and a peer whose saved references look different: one that is
    /// in another *realm*.
    ///
    /// From then on no call of `Persistent.save` crosses the connection as it is. A
    /// save of what the peer hosts becomes a call of the gateway's `import`, with a
    /// capability that can be saved past the gateway; a save that the peer makes of
    /// something on this side becomes a call of its `export`. A promise is saved when
    /// it is known which side it is on; what turns out to be of the side that saves it
    /// is saved as it is.
    #[must_use]
    pub fn realm_gateway(mut self, gateway: impl FromClient) -> Self {
        self.gateway = Some(gateway.into_client());
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

    /// Makes the trace of every error that is sent to the peer: text that tells
    /// people where it happened. Without an encoder an error is sent with the
    /// [trace](Error::trace) that it has, which may come from another peer.
    ///
    /// The encoder sees the error with what peers are not told, such as
    /// [`Error::internal`] and [`Error::location`]; what it returns is told. It
    /// runs on the thread that writes to the peer and must not block. Traces are
    /// cut after 64 KiB.
    ///
    /// ```
    /// use capnp_threads_core::{ConnConfig, Error};
    ///
    /// let config = ConnConfig::new().trace_encoder(|error: &Error| match error.location() {
    ///     Some(here) => format!("{here}\n{}", error.trace()),
    ///     None => error.trace().to_owned(),
    /// });
    /// ```
    #[must_use]
    pub fn trace_encoder(self, encoder: impl Fn(&Error) -> String + Send + Sync + 'static) -> Self {
        self.trace_encoder.set(Some(Arc::new(encoder)));
        self
    }

    /// Uses an encoder that may be changed later.
    pub(super) fn shared_trace_encoder(mut self, encoder: TraceEncoder) -> Self {
        self.trace_encoder = encoder;
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
            .field("trace_encoder", &self.trace_encoder)
            .field("bootstrap", &self.bootstrap.is_some())
            .field("restorer", &self.restorer.is_some())
            .field("gateway", &self.gateway)
            .field("action", &self.action.is_some())
            .field("close_timeout", &self.close_timeout)
            .field("flow", &self.flow)
            .field("flow_limit", &self.flow_limit)
            .finish()
    }
}
