//! The settings of a system, and its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, Authorizer};
use super::ended::Ended;
use super::idle::Idler;
use super::{Handle, Peer, RpcSystem, Shared};
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::error::{Error, Result};
use crate::flow::FlowControl;
use crate::limits::Limits;
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
            door: Door::open(self.settings.accept.clone())?,
            flow_limit: Mutex::new(self.settings.common.flow_limit),
            settings: self.settings,
            peers: Mutex::default(),
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
