//! The settings of a system, and its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ended::Ended;
use super::idle::Idler;
use super::{Handle, Peer, RpcSystem, Shared};
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::error::{Error, Result};
use crate::flow::FlowControl;
use crate::limits::Limits;
use crate::runtime::exceptions::TraceEncoder;
use crate::runtime::offer::Restorer;
use crate::runtime::serving::{AcceptLimits, Door};
use crate::runtime::vat::Vat;
use crate::sync::Mutex;
use crate::transport::network::VatNetwork;

/// What a vat offers to a peer that it knows by id, or `None` for nothing.
type Factory<Id> = Box<dyn Fn(&Peer<'_, Id>) -> Option<Client> + Send + Sync>;

/// Settings of an [`RpcSystem`] that is about to start.
pub struct RpcSystemBuilder<N: VatNetwork> {
    vat: Vat,
    network: N,
    settings: Settings<N::VatId>,
    flow_limit: u64,
}

pub(super) struct Settings<Id> {
    pub(super) accept: AcceptLimits,
    pub(super) bootstrap: Option<Factory<Id>>,
    pub(super) restorer: Option<Arc<dyn Restorer>>,
    pub(super) gateway: Option<Client>,
    pub(super) limits: Limits,
    pub(super) flow: FlowControl,
    pub(super) debug: bool,
    pub(super) trace_encoder: TraceEncoder,
    pub(super) close_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
}

impl<Id> Settings<Id> {
    /// Whether a peer to which the factory offers nothing has no business here.
    pub(super) fn refuses(&self) -> bool {
        self.bootstrap.is_some() && self.restorer.is_none()
    }
}

impl<N: VatNetwork> RpcSystemBuilder<N> {
    pub(super) fn new(vat: Vat, network: N) -> Self {
        RpcSystemBuilder {
            vat,
            network,
            settings: Settings {
                accept: AcceptLimits::default(),
                bootstrap: None,
                restorer: None,
                gateway: None,
                limits: Limits::default(),
                flow: FlowControl::default(),
                debug: false,
                trace_encoder: TraceEncoder::default(),
                close_timeout: Duration::from_secs(1),
                idle_timeout: None,
            },
            flow_limit: u64::MAX,
        }
    }

    /// Offers the same bootstrap capability to every peer.
    #[must_use]
    pub fn bootstrap(self, client: impl FromClient) -> Self {
        let client = client.into_client();
        self.bootstrap_factory(move |_| Some(client.clone()))
    }

    /// Decides for each peer which bootstrap capability it is offered. The closure is
    /// called once for each connection, when it begins, and must not block.
    ///
    /// `None` refuses a peer that has connected to this vat, unless a
    /// [restorer](Self::restorer) offers it something else: it is told so with an Abort,
    /// and its connection ends. To let peers in without offering them anything, offer a
    /// [broken client](Client::broken). On a connection that this vat makes, `None` offers
    /// nothing.
    #[must_use]
    pub fn bootstrap_factory(
        mut self,
        factory: impl Fn(&Peer<'_, N::VatId>) -> Option<Client> + Send + Sync + 'static,
    ) -> Self {
        self.settings.bootstrap = Some(Box::new(factory));
        self
    }

    /// Offers capabilities by name to every peer; see
    /// [`ConnConfig::restorer`](crate::ConnConfig::restorer).
    #[must_use]
    pub fn restorer(mut self, restorer: impl Restorer) -> Self {
        self.settings.restorer = Some(Arc::new(restorer));
        self
    }

    /// Puts a gateway between this vat and every peer, for a network that is another
    /// realm; see [`ConnConfig::realm_gateway`](crate::ConnConfig::realm_gateway).
    #[must_use]
    pub fn realm_gateway(mut self, gateway: impl FromClient) -> Self {
        self.settings.gateway = Some(gateway.into_client());
        self
    }

    /// Sets how many vats may connect to this one, and how long they may keep silent.
    #[must_use]
    pub fn accept_limits(mut self, limits: AcceptLimits) -> Self {
        self.settings.accept = limits;
        self
    }

    /// Sets how much each connection may hold.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Sets how much may be on its way in streams; see
    /// [`ConnConfig::flow_control`](crate::ConnConfig::flow_control).
    #[must_use]
    pub fn flow_control(mut self, flow: FlowControl) -> Self {
        self.settings.flow = flow;
        self
    }

    /// Sets how many words of calls each peer may have under way here; see
    /// [`ConnConfig::flow_limit`](crate::ConnConfig::flow_limit) and
    /// [`RpcSystem::set_flow_limit`].
    #[must_use]
    pub fn flow_limit(mut self, words: u64) -> Self {
        self.flow_limit = words;
        self
    }

    /// Sets whether peers are told internal detail of errors; see
    /// [`ConnConfig::debug_mode`](crate::ConnConfig::debug_mode).
    #[must_use]
    pub fn debug_mode(mut self, on: bool) -> Self {
        self.settings.debug = on;
        self
    }

    /// Sets what makes the traces of errors that are sent; see
    /// [`ConnConfig::trace_encoder`](crate::ConnConfig::trace_encoder).
    #[must_use]
    pub fn trace_encoder(self, encoder: impl Fn(&Error) -> String + Send + Sync + 'static) -> Self {
        self.settings.trace_encoder.set(Some(Arc::new(encoder)));
        self
    }

    /// Closes connections as [`RpcSystem::close_idle`] does, once nothing was sent or
    /// received for at least this long. Default: connections stay.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// Sets how long the end of a connection may take; see
    /// [`ConnConfig::close_timeout`](crate::ConnConfig::close_timeout). The same timeout
    /// bounds how long [`bootstrap`](RpcSystem::bootstrap) waits for a peer to agree to the
    /// closing of an idle connection.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.close_timeout = timeout;
        self
    }

    /// Starts the system: from now on it accepts connections.
    ///
    /// # Errors
    /// The system has no thread to give, or a limit lets nobody in, or nothing through.
    pub fn start(self) -> Result<RpcSystem<N>> {
        self.settings.limits.check()?;
        let shared = Arc::new(Shared {
            vat: self.vat,
            network: self.network,
            door: Door::open(self.settings.accept.clone())?,
            flow_limit: Mutex::new(self.flow_limit),
            settings: self.settings,
            peers: Mutex::default(),
            acceptor: Mutex::new(None),
            idler: Mutex::new(None),
        });
        // What has begun ends with this if the rest cannot begin.
        let system = RpcSystem { handle: Arc::new(Handle(Arc::clone(&shared))) };
        if let Some(timeout) = shared.settings.idle_timeout {
            *shared.idler.lock() = Some(Idler::start(&shared, timeout)?);
        }
        let accepting = Arc::clone(&shared);
        *shared.acceptor.lock() = Some(Ended::start("rpc-accept", move || accepting.accept())?);
        Ok(system)
    }
}

impl<N: VatNetwork> fmt::Debug for RpcSystemBuilder<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcSystemBuilder")
            .field("vat", &self.vat)
            .field("limits", &self.settings.limits)
            .finish_non_exhaustive()
    }
}
