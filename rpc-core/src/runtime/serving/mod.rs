//! Serving every peer that connects.

mod door;
mod limits;
mod pace;
mod timetable;

use std::fmt;
use std::time::Instant;

pub(super) use self::door::Door;
pub use self::limits::AcceptLimits;
use self::pace::{Backoff, Throttle};
use super::config::ConnConfig;
use super::vat::Vat;
use crate::cap::effects;
use crate::cap::from_client::FromClient;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::log::tell;
use crate::panics;
use crate::transport::network::Listen;
use crate::transport::{PeerDescription, Transport};
use crate::work::role;

type Configure = Box<dyn Fn(&PeerDescription) -> Result<ConnConfig> + Send + Sync>;

/// What peers that connect to a vat get, and how many may connect.
///
/// ```
/// use capnp_threads_core::vat::AcceptLimits;
/// use capnp_threads_core::{ConnConfig, Error, ServeConfig};
/// # use rpc_schema::greeter_capnp::greeter;
///
/// # fn configs(greeter: greeter::Client, admin: greeter::Client) {
/// // Everybody gets the same.
/// let config = ServeConfig::bootstrap(greeter.clone());
///
/// // It depends on who comes.
/// let config = ServeConfig::new(move |peer| match peer.credentials {
///     Some(process) if process.uid == 0 => Ok(ConnConfig::new().bootstrap(admin.clone())),
///     Some(_) => Ok(ConnConfig::new().bootstrap(greeter.clone())),
///     None => Err(Error::failed("come over a Unix socket")),
/// });
/// # }
/// ```
pub struct ServeConfig {
    configure: Configure,
    limits: AcceptLimits,
}

impl ServeConfig {
    /// Decides for each peer how its connection behaves, or refuses the peer with an
    /// error, which it is told. The closure must not block: nobody else is let in before
    /// it returns.
    pub fn new(
        configure: impl Fn(&PeerDescription) -> Result<ConnConfig> + Send + Sync + 'static,
    ) -> Self {
        ServeConfig { configure: Box::new(configure), limits: AcceptLimits::default() }
    }

    /// Offers the same bootstrap capability to everybody, over connections with default
    /// settings.
    pub fn bootstrap(client: impl FromClient) -> Self {
        let client = client.into_client();
        Self::new(move |_| Ok(ConnConfig::new().bootstrap(client.clone())))
    }

    /// Sets how many peers may be connected, and how long they may keep silent.
    #[must_use]
    pub fn accept_limits(mut self, limits: AcceptLimits) -> Self {
        self.limits = limits;
        self
    }
}

impl fmt::Debug for ServeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeConfig").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Vat {
    /// Accepts everybody who connects to a listener, until the listener is closed or the
    /// vat is shut down. Connections go on until their peers, or the vat, end them.
    ///
    /// Nothing that goes wrong with a peer ends this, nor does a lack of file descriptors
    /// or threads. When accepting fails, the next attempt is made after a pause, which
    /// grows up to a second if attempts keep failing. The log reports this, but not every
    /// time. A thread of its own enforces the [`AcceptLimits`].
    ///
    /// # Errors
    /// The limits let nobody in; the system has no thread to give; the vat was shut down
    /// before; this thread must not wait.
    pub fn serve(&self, listener: &(impl Listen + ?Sized), config: ServeConfig) -> Result<()> {
        let ServeConfig { configure, limits } = config;
        if !role::may_wait() {
            // With the error that says why.
            return effects::blocking(|| ());
        }
        self.check_process()?;
        let door = Door::open(limits)?;
        let serving = self.begin_serving(listener.closing());
        if serving.is_ok() {
            accept_all(
                &door,
                || effects::blocking(|| listener.next_peer())?,
                |transport| self.welcome(&door, &configure, transport),
            );
        }
        door.close();
        serving.map(drop)
    }

    fn welcome(
        &self,
        door: &std::sync::Arc<Door>,
        configure: &Configure,
        transport: Transport,
    ) -> Result<()> {
        let peer = transport.control.peer();
        let admitted = door.admit(&peer).and_then(|place| {
            let config = panics::catch(|| configure(&peer)).unwrap_or_else(|panicked| {
                Err(Error::failed("the server failed to decide what to offer")
                    .with_internal(panicked.message))
            })?;
            Ok((place, config))
        });
        let (place, config) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                door.refuse(transport, &error);
                return Ok(());
            }
        };
        let connection = self.connect(transport, config)?;
        connection.keep_until_end();
        door.watch_over(&connection, place);
        Ok(())
    }
}

/// The loop of a thread that accepts: hands every peer to `enter`, until `accept` says
/// that there will be no more, or the door is closed.
pub(super) fn accept_all<T>(
    door: &Door,
    mut accept: impl FnMut() -> Result<Option<T>>,
    mut enter: impl FnMut(T) -> Result<()>,
) {
    let mut backoff = Backoff::default();
    let mut failures = Throttle::default();
    loop {
        let entered = match panics::caught("accepting", &mut accept) {
            Ok(Ok(Some(peer))) => {
                panics::caught("letting a peer in", || enter(peer)).unwrap_or(Ok(()))
            }
            Ok(Ok(None)) => return,
            Ok(Err(error)) => Err(error),
            Err(panicked) => {
                Err(Error::failed("accepting panicked").with_internal(panicked.message))
            }
        };
        let Err(error) = entered else {
            backoff.succeeded();
            continue;
        };
        if let Some(before) = failures.pass(Instant::now()) {
            tell!(WARN, %error, before, "a peer could not be accepted, nor others before it");
        }
        if door.wait_until_closed(Deadline::after(backoff.failed())) {
            return;
        }
    }
}
