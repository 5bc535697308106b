//! The settings that the connections of a system have in common. A
//! [`ConnConfig`](super::ConnConfig) and an [`RpcSystemBuilder`](super::RpcSystemBuilder)
//! set them with the same methods, which are written down here once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::exceptions::{Detail, TraceEncoder};
use crate::cap::client::Client;
use crate::cap::interceptor::Interceptors;
use crate::flow::FlowControl;
use crate::limits::Limits;
use crate::runtime::offer::Restorer;

/// Settings that any number of connections can have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) limits: Limits,
    pub(super) detail: Detail,
    /// Clones share the encoder.
    pub(super) trace_encoder: TraceEncoder,
    pub(super) restorer: Option<Arc<dyn Restorer>>,
    pub(super) gateway: Option<Client>,
    pub(super) close_timeout: Duration,
    pub(super) call_timeout: Option<Duration>,
    pub(super) keepalive: Option<Duration>,
    pub(super) spin: Duration,
    pub(super) flow: FlowControl,
    pub(super) flow_limit: u64,
    pub(super) interceptors: Interceptors,
}

impl Default for Common {
    fn default() -> Self {
        Common {
            limits: Limits::default(),
            detail: Detail::Hidden,
            trace_encoder: TraceEncoder::default(),
            restorer: None,
            gateway: None,
            close_timeout: Duration::from_secs(1),
            call_timeout: None,
            keepalive: None,
            spin: Duration::from_micros(100),
            flow: FlowControl::default(),
            flow_limit: u64::MAX,
            interceptors: Interceptors::default(),
        }
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common")
            .field("limits", &self.limits)
            .field("detail", &self.detail)
            .field("trace_encoder", &self.trace_encoder)
            .field("restorer", &self.restorer.is_some())
            .field("gateway", &self.gateway)
            .field("close_timeout", &self.close_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("keepalive", &self.keepalive)
            .field("spin", &self.spin)
            .field("flow", &self.flow)
            .field("flow_limit", &self.flow_limit)
            .field("interceptors", &self.interceptors)
            .finish()
    }
}

/// The methods that set what is in a [`Common`], for a type that holds one.
macro_rules! common_setters {
    ($($common:ident).+) => {
        /// Offers capabilities by name, beside the bootstrap capability; see
        /// [`Restorer`].
        #[must_use]
        pub fn restorer(mut self, restorer: impl Restorer) -> Self {
            self.$($common).+.restorer = Some(Arc::new(restorer));
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
            self.$($common).+.gateway = Some(gateway.into_client());
            self
        }

        /// Sets how much a connection may hold.
        #[must_use]
        pub fn limits(mut self, limits: Limits) -> Self {
            self.$($common).+.limits = limits;
            self
        }

        /// Sets whether exceptions that are sent to the peer contain internal detail, such
        /// as what a method panicked with. This is useful during development; such detail
        /// may be confidential. Default: `false`.
        #[must_use]
        pub fn debug_mode(mut self, on: bool) -> Self {
            self.$($common).+.detail = if on { Detail::Shown } else { Detail::Hidden };
            self
        }

        /// Makes the trace of every error that is sent to the peer: text that tells people
        /// where the error happened. Without an encoder an error is sent with the
        /// [trace](Error::trace) that it already has, which may come from another peer.
        ///
        /// The encoder also sees what peers are not told, such as [`Error::internal`] and
        /// [`Error::location`]; the peer is told everything that the encoder returns. The
        /// encoder runs on the connection's send thread, or on one that connections share, and
        /// must not block: other messages wait behind it. Traces are cut after 64 KiB.
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
        pub fn trace_encoder(
            self,
            encoder: impl Fn(&Error) -> String + Send + Sync + 'static,
        ) -> Self {
            self.$($common).+.trace_encoder.set(Some(Arc::new(encoder)));
            self
        }

        /// Sets how much may be on its way in a stream to a capability of the peer.
        /// Default: as much as the operating system buffers for the socket.
        #[must_use]
        pub fn flow_control(mut self, flow: FlowControl) -> Self {
            self.$($common).+.flow = flow;
            self
        }

        /// Limits the peer's calls that are under way, in words of eight bytes. While the
        /// calls that were delivered and have not finished exceed this, further calls wait,
        /// in the order in which they came. One call passes in any case, however large it
        /// is. Messages other than calls are not held back. A method that waits for the
        /// peer waits for ever if the peer, in turn, waits for a call that is held back
        /// here: so the limit must leave room for as many calls as call each other back.
        /// Default: no limit. See
        /// [`Connection::set_flow_limit`](crate::Connection::set_flow_limit) and
        /// [`RpcSystem::set_flow_limit`](crate::RpcSystem::set_flow_limit).
        #[must_use]
        pub fn flow_limit(mut self, words: u64) -> Self {
            self.$($common).+.flow_limit = words;
            self
        }

        /// Adds [interceptors](crate::interceptors), which see every call that crosses the
        /// connection, behind those of the vat
        /// ([`VatConfig::interceptors`](crate::vat::VatConfig::interceptors)).
        ///
        /// A call of the peer's that is delayed makes what the peer sends after it wait, as
        /// the [flow limit](Self::flow_limit) does. If this side is to find out what a
        /// promise of the peer's has become, and the answer is behind the delayed call, the
        /// delay is cut short. A call to the peer that is delayed blocks the thread that
        /// makes it, as a lack of room does; it fails with `overloaded` if that thread must
        /// not wait.
        #[must_use]
        pub fn interceptors(mut self, interceptors: Interceptors) -> Self {
            let common = &mut self.$($common).+;
            common.interceptors = std::mem::take(&mut common.interceptors).and(interceptors);
            self
        }

        /// Sets how long each call of this side over the connection may take, unless its
        /// caller or [its client](crate::Client::with_timeout) allows another time. The
        /// time includes the wait for room, even that of
        /// [`Connection::bootstrap`](crate::Connection::bootstrap). When the time is over the
        /// call fails with an error that [is a timeout](crate::Error::is_timeout), even if
        /// nobody waits for it, and the peer is told that it is cancelled. A streaming call
        /// that is not answered in time ends its stream.
        ///
        /// Calls that are passed on for a peer are not limited. Of a call [for its pipeline
        /// only](crate::Request::send_pipeline_only), only the wait for room is limited.
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
            self.$($common).+.call_timeout = Some(timeout);
            self
        }

        /// Asks a peer that has sent nothing for this long for a sign of life, and ends the
        /// connection when it has sent nothing for another such time. For transports of all
        /// kinds; the peer may be of any implementation, and need not know of this. A
        /// connection on which neither side holds anything is left alone.
        ///
        /// The time must be longer than the largest message takes to arrive. Without this, a
        /// peer that has vanished without a word is noticed when something is sent to it, or
        /// never: see also `TcpOptions::keepalive`, which leaves it to the system. Default:
        /// off.
        #[must_use]
        pub fn keepalive(mut self, interval: Duration) -> Self {
            self.$($common).+.keepalive = Some(interval);
            self
        }

        /// Sets how long a thread that waits for the peer's next message looks for it before
        /// it sleeps, at the most. To be woken takes 10 to 50 µs on many machines, and a
        /// peer on the same machine often answers sooner: then a call takes a fraction of the
        /// time.
        ///
        /// A thread does so only while what it waits for keeps coming within that time. In
        /// between it lets other threads have its processor. `Duration::ZERO` lets threads sleep
        /// at once: for machines on which processor time is dearer than a call's time. It
        /// matters for transports that have a descriptor to wait for, on Linux. Default: 100 µs,
        /// so that a peer that has to be woken is waited for, too; no more than 10 ms.
        ///
        /// So a peer that sends often decides that a thread of this side keeps a processor
        /// busy; as many threads of a process spin at once as it has processors, at the most.
        /// Without it, threads do not leave each other the right to read, either, which they do
        /// while they come back soon.
        #[must_use]
        pub fn spin(mut self, most: Duration) -> Self {
            self.$($common).+.spin = most;
            self
        }

        /// Sets how long a connection that ends may take to write what is still queued, and
        /// to wait for the peer to end its side, too. A peer that neither reads nor closes
        /// cannot hold it longer. Default: one second.
        #[must_use]
        pub fn close_timeout(mut self, timeout: Duration) -> Self {
            self.$($common).+.close_timeout = timeout;
            self
        }
    };
}
pub(super) use common_setters;
