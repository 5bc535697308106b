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
    pub(super) limits: Limits,
    pub(super) detail: Detail,
    pub(super) trace_encoder: TraceEncoder,
    pub(super) bootstrap: Option<Bootstrap>,
    pub(super) restorer: Option<Arc<dyn Restorer>>,
    pub(super) gateway: Option<Client>,
    pub(super) action: Option<Action>,
    pub(super) close_timeout: Duration,
    pub(super) call_timeout: Option<Duration>,
    pub(super) flow: FlowControl,
    pub(super) flow_limit: u64,
}

impl ConnConfig {
    /// Defaults: no bootstrap capability, no action, [`Limits::default`], no internal
    /// detail for peers, a close timeout of one second.
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
            call_timeout: None,
            flow: FlowControl::default(),
            flow_limit: u64::MAX,
        }
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

    /// Offers capabilities by name, beside the bootstrap capability; see
    /// [`Restorer`].
    #[must_use]
    pub fn restorer(mut self, restorer: impl Restorer) -> Self {
        self.restorer = Some(Arc::new(restorer));
        self
    }

    /// Puts a capability of the interface `RealmGateway` (of `persistent.capnp`)
    /// between this vat and a peer in another *realm*: one whose saved references have
    /// a different form.
    ///
    /// From then on no call of `Persistent.save` crosses the connection as it is. When
    /// this side saves a capability that the peer hosts, the gateway's `import` is
    /// called instead, with a capability whose `save` bypasses the gateway. When the
    /// peer saves a capability of this side, the gateway's `export` is called. A
    /// promise is saved once it is known which side it resolves to; a capability that
    /// turns out to be hosted by the side that saves it is saved without the gateway.
    #[must_use]
    pub fn realm_gateway(mut self, gateway: impl FromClient) -> Self {
        self.gateway = Some(gateway.into_client());
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

    /// Makes the trace of every error that is sent to the peer: text that tells people
    /// where the error happened. Without an encoder an error is sent with the
    /// [trace](Error::trace) that it already has, which may come from another peer.
    ///
    /// The encoder also sees what peers are not told, such as [`Error::internal`] and
    /// [`Error::location`]; the peer is told everything that the encoder returns. The
    /// encoder runs on the thread that writes to the peer and must not block. Traces
    /// are cut after 64 KiB.
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

    /// Uses an encoder that can be replaced later.
    pub(super) fn shared_trace_encoder(mut self, encoder: TraceEncoder) -> Self {
        self.trace_encoder = encoder;
        self
    }

    /// Sets how much may be on its way in a stream to a capability of the peer.
    /// Default: as much as the operating system buffers for the socket.
    #[must_use]
    pub fn flow_control(mut self, flow: FlowControl) -> Self {
        self.flow = flow;
        self
    }

    /// Limits the peer's calls that are under way, in words of eight bytes. While the
    /// calls that were delivered and have not finished exceed this, further calls wait,
    /// in the order in which they came. One call passes in any case, however large it
    /// is. Messages other than calls are not held back. A method that waits for the
    /// peer waits for ever if the peer, in turn, waits for a call that is held back
    /// here: so the limit must leave room for as many calls as call each other back.
    /// Default: no limit. See
    /// [`Connection::set_flow_limit`](crate::Connection::set_flow_limit).
    #[must_use]
    pub fn flow_limit(mut self, words: u64) -> Self {
        self.flow_limit = words;
        self
    }

    /// Sets how long each call of this side over the connection may take, unless its
    /// caller or [its client](crate::Client::with_timeout) allows another time. It
    /// includes the wait for room, also that of
    /// [`Connection::bootstrap`](crate::Connection::bootstrap). When the time is over the
    /// call fails with an error that [is a timeout](crate::Error::is_timeout), even if
    /// nobody waits for it, and the peer is told that it is cancelled. A streaming call
    /// that is not answered in time ends its stream.
    ///
    /// Calls that are passed on for a peer are not limited, and of a call [for its pipeline
    /// only](crate::Request::send_pipeline_only) just the wait for room is.
    /// [`Duration::MAX`] stands for no limit. Default: that of the vat,
    /// [`VatConfig::call_timeout`](crate::vat::VatConfig::call_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// use capnp_threads_core::ConnConfig;
    ///
    /// let config = ConnConfig::new().call_timeout(Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }

    /// The same, with a default for what was not set.
    pub(super) fn or_call_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.call_timeout = self.call_timeout.or(timeout);
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
            .field("call_timeout", &self.call_timeout)
            .field("flow", &self.flow)
            .field("flow_limit", &self.flow_limit)
            .finish()
    }
}
