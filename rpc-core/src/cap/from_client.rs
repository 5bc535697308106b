//! The trait of clients of all types.

use std::time::Duration;

use super::client::Client;
use crate::error::Result;

/// Every kind of client: the generated ones, and the untyped [`Client`].
///
/// Nothing is checked when a client changes its type: if the object does not implement
/// the interface, calls on it fail with `unimplemented`.
pub trait FromClient: Clone + Send + Sync + 'static {
    /// The same capability with this type.
    fn from_client(client: Client) -> Self;

    /// The same capability without a type.
    fn into_client(self) -> Client;

    /// The capability without its type, by reference.
    fn as_client(&self) -> &Client;

    /// Whether this and another client refer to the same object, in whichever vat it is. Blocks
    /// if that has to be asked: see [`Client::same_object`], where there are also variants with
    /// a time limit, and one that does not block.
    ///
    /// # Errors
    /// Those of [`Client::same_object`].
    fn same_object<C: FromClient>(&self, other: &C) -> Result<bool> {
        self.as_client().same_object(other.as_client())
    }

    /// The same capability, with a time limit for each call that is made through the
    /// returned client: see [`Client::with_timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use capnp_threads_core::{FromClient, Result, Vat};
    /// # use rpc_schema::echo_capnp::echo;
    /// # struct Echo;
    /// # impl echo::Server for Echo {
    /// #     fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> { Ok(()) }
    /// # }
    ///
    /// # fn main() -> Result<()> {
    /// # let vat = Vat::new();
    /// let echo = vat.export::<echo::Client, _>(Echo).with_timeout(Duration::from_secs(5));
    /// // Each of them fails after five seconds without an answer.
    /// let ping = echo.ping_request().send();
    /// echo.ping_request().call()?;
    /// ping.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    fn with_timeout(&self, timeout: Duration) -> Self {
        Self::from_client(self.as_client().with_timeout(timeout))
    }
}

impl FromClient for Client {
    fn from_client(client: Client) -> Self {
        client
    }

    fn into_client(self) -> Client {
        self
    }

    fn as_client(&self) -> &Client {
        self
    }
}
