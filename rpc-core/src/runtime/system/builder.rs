//! The settings of a system, and its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, Authorizer};
use super::ended::Ended;
use super::handoffs::Handoffs;
use super::idle::Idler;
use super::{Handle, Peer, RpcSystem, Shared};
use crate::budget::Places;
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::cap::interceptor::Interceptors;
use crate::error::{Error, Result};
use crate::flow::FlowControl;
use crate::limits::Limits;
use crate::protocol::handoff::{Acceptance, EarlyCalls};
use crate::runtime::common::{Common, common_setters};
use crate::runtime::exceptions::Detail;
use crate::runtime::offer::Restorer;
use crate::runtime::serving::{AcceptLimits, Door};
use crate::runtime::vat::Vat;
use crate::sync::Mutex;
use crate::transport::network::VatNetwork;

/// Settings of an [`RpcSystem`] that is about to start.
pub struct RpcSystemBuilder<N: VatNetwork> {
    vat: Vat,
    network: N,
    pub(super) settings: Settings<N::VatId>,
}

pub(super) struct Settings<Id> {
    pub(super) accept: AcceptLimits,
    pub(super) authorizer: Option<Authorizer<Id>>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) handoffs: Handoffs,
    /// The settings of each connection.
    pub(super) common: Common,
}

impl<Id> Settings<Id> {
    /// Whether a peer to which the factory offers nothing has no business here.
    pub(super) fn refuses(&self) -> bool {
        self.authorizer.is_some() && self.common.restorer.is_none()
    }
}

impl<N: VatNetwork> RpcSystemBuilder<N> {
    pub(super) fn new(vat: Vat, network: N) -> Self {
        RpcSystemBuilder {
            vat,
            network,
            settings: Settings {
                accept: AcceptLimits::default(),
                authorizer: None,
                idle_timeout: None,
                handoffs: Handoffs::default(),
                common: Common::default(),
            },
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
        self,
        factory: impl Fn(&Peer<'_, N::VatId>) -> Option<Client> + Send + Sync + 'static,
    ) -> Self {
        self.authorizer(move |peer| {
            Ok(Admission { bootstrap: factory(peer), ..Admission::default() })
        })
    }

    /// Sets how many vats may connect to this one, and how long they may keep silent.
    #[must_use]
    pub fn accept_limits(mut self, limits: AcceptLimits) -> Self {
        self.settings.accept = limits;
        self
    }

    /// Closes connections as [`RpcSystem::close_idle`] does, once nothing was sent or
    /// received for at least this long. While a connection is about to be closed,
    /// [`RpcSystem::bootstrap`] waits for the peer to agree, at most for the
    /// [close timeout](Self::close_timeout). Default: connections stay.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// Sets whether capabilities are handed off, if the network introduces its vats to each
    /// other: whoever is given a capability that a third vat hosts connects to that vat,
    /// instead of calling through the one that gave it. Applies to what this vat gives away,
    /// to what it is given, and to what it hosts. Default: they are.
    ///
    /// What a [membrane](crate::membrane) or another wrapper controls is never handed off. A
    /// promise of a third vat is before it resolves, unless this vat could receive a file
    /// descriptor with it and pass that on ([`Limits::message_fds_sent`]).
    #[must_use]
    pub fn hand_off(mut self, on: bool) -> Self {
        self.settings.handoffs.allowed = on;
        self
    }

    /// Sets when this vat connects to the host of a capability that a third vat gave to it:
    /// at once, or when the capability is first called, passed on or waited for. Before that,
    /// the capability is lost if the vat that gave it ends. Default: when it is used.
    #[must_use]
    pub fn accept_at_once(mut self, on: bool) -> Self {
        let acceptance = if on { Acceptance::Eager } else { Acceptance::Lazy };
        self.settings.handoffs.acceptance = acceptance;
        self
    }

    /// Sets whether calls of a capability that a third vat gave to this one are sent to its host
    /// right behind the question for the capability. Otherwise they wait for the answer, which
    /// takes one round trip more, and go through the vat that gave it if the host refuses. With
    /// this, they fail then, and a host of another implementation that knows no handoffs may end
    /// the connection. Default: they wait.
    #[must_use]
    pub fn call_before_accepted(mut self, on: bool) -> Self {
        let early_calls = if on { EarlyCalls::Follow } else { EarlyCalls::Wait };
        self.settings.handoffs.early_calls = early_calls;
        self
    }

    /// Sets how long a vat that comes for a capability may wait here until that is provided,
    /// and how long this vat waits for the host of a capability that it was given. A vat that
    /// has waited in vain calls the capability through the vat that has introduced it.
    /// Default: 30 seconds.
    #[must_use]
    pub fn introduction_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handoffs.patience = timeout;
        self
    }

    common_setters!(settings.common);

    /// Starts the system: from now on it accepts connections.
    ///
    /// # Errors
    /// The system has no thread to give, or a limit lets nobody in, or nothing through.
    pub fn start(self) -> Result<RpcSystem<N>> {
        self.settings.common.limits.check()?;
        let shared = Arc::new(Shared {
            vat: self.vat,
            network: self.network,
            introduced: Places::new(self.settings.accept.connections as usize),
            door: Door::open(self.settings.accept.clone())?,
            flow_limit: Mutex::new(self.settings.common.flow_limit),
            settings: self.settings,
            peers: Mutex::default(),
            meetings: Arc::default(),
            acceptor: Mutex::new(None),
            idler: Mutex::new(None),
        });
        // Dropping this ends what has begun, if the rest cannot begin.
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
            .field("limits", &self.settings.common.limits)
            .finish_non_exhaustive()
    }
}
