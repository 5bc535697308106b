//! Where interceptors stand: in front of one capability, or at a connection.

pub(crate) mod checkpoint;
mod concurrency;
#[cfg(feature = "metrics")]
mod metrics;
mod rate;
mod site;

use std::sync::{Arc, Weak};

pub use self::concurrency::ConcurrencyLimit;
#[cfg(feature = "metrics")]
pub use self::metrics::CallMetrics;
pub use self::rate::RateLimit;
pub(crate) use self::site::Site;
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::cap::interceptor::{Interceptor, Side};
use crate::cap::object::{Front, LocalObject};
use crate::sync::Mutex;

/// The same capability behind an interceptor, which sees every call that is made through
/// the returned client, its clones, and what peers were given of them. Calls keep their
/// order, also behind one that is delayed.
///
/// What is returned is a capability of its own: it is not equal to the one behind it, it is
/// settled even if that is a promise, and a peer that is sent it calls it by way of this
/// vat. What comes out of its calls is not intercepted; a
/// [membrane](crate::membrane) is for that.
///
/// ```
/// use capnp_threads_core::interceptors::{InterceptedCall, Verdict, intercept};
/// use capnp_threads_core::{Error, Result};
/// use rpc_schema::echo_capnp::echo;
///
/// /// An echo that only pings.
/// fn pings_only(echo: &echo::Client) -> echo::Client {
///     intercept(echo, |call: &InterceptedCall<'_>| match call.method().name() {
///         Some("ping") => Ok(Verdict::Pass),
///         _ => Err(Error::unimplemented("only pings, please")),
///     })
/// }
/// # struct Echo;
/// # impl echo::Server for Echo {
/// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> { Ok(()) }
/// # }
/// # fn main() -> Result<()> {
/// # let echo: echo::Client = capnp_threads_core::Vat::new().export(Echo);
/// let echo = pings_only(&echo);
/// echo.ping_request().call()?;
/// assert!(echo.next_request().call().is_err());
/// # Ok(())
/// # }
/// ```
pub fn intercept<C: FromClient>(client: &C, interceptor: impl Interceptor) -> C {
    C::from_client(in_front_of(client.as_client(), Side::Outgoing, vec![Arc::new(interceptor)]))
}

/// Puts interceptors in front of an object for all who call it, and returns the object as
/// they do.
pub(crate) fn in_front_of_object(
    object: &Arc<LocalObject>,
    interceptors: Vec<Arc<dyn Interceptor>>,
) -> Client {
    if !interceptors.is_empty() {
        object.stand_behind(Outside { interceptors, site: Mutex::default() });
    }
    object.as_called()
}

/// The interceptors in front of an object.
struct Outside {
    interceptors: Vec<Arc<dyn Interceptor>>,
    /// Where they stand, while somebody refers to it. The lock is a leaf.
    site: Mutex<Weak<Site>>,
}

impl Front for Outside {
    fn of(&self, object: Client) -> Client {
        let mut known = self.site.lock();
        if let Some(site) = known.upgrade() {
            drop(known);
            return Client::of(site);
        }
        let site = Site::new(object, Side::Incoming, self.interceptors.clone());
        *known = Arc::downgrade(&site);
        drop(known);
        Client::of(site)
    }
}

/// The capability that stands in front of another one.
pub(crate) fn in_front_of(
    client: &Client,
    side: Side,
    interceptors: Vec<Arc<dyn Interceptor>>,
) -> Client {
    let inner = client.clone();
    if inner.is_null() || inner.failure().is_some() {
        return inner;
    }
    Client::of(Site::new(inner, side, interceptors))
}
