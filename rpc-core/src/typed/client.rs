//! Where typed clients come from: connections, promises, messages.

use std::marker::PhantomData;
use std::time::Duration;

use capnp::private::capability::ClientHook;

use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::cap::hook::{self, Hook};
use crate::cap::promise::Fulfiller;
use crate::error::{Error, Result};
use crate::runtime::Connection;
use crate::runtime::offer::ObjectId;

impl Connection {
    /// The peer's bootstrap capability. Does not wait for the peer: the capability can
    /// be called at once, and fails every call if the peer offers none.
    ///
    /// May wait for room among the outstanding questions, as a call does.
    pub fn bootstrap<C: FromClient>(&self) -> C {
        C::from_client(self.bootstrap_client())
    }

    /// As [`bootstrap`](Self::bootstrap), but waits for room no longer than `timeout`.
    /// Like `bootstrap`, this does not wait for the peer: calls on the capability have
    /// deadlines of their own.
    ///
    /// # Errors
    /// The connection has ended, or there was no room in time: then the error [is a
    /// timeout](Error::is_timeout), and nothing was sent.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use capnp_threads_core::{Connection, Result};
    /// # use rpc_schema::echo_capnp::echo;
    /// fn ping(connection: &Connection) -> Result<()> {
    ///     let echo: echo::Client = connection.bootstrap_timeout(Duration::from_secs(1))?;
    ///     echo.ping_request().call_timeout(Duration::from_secs(1))?;
    ///     Ok(())
    /// }
    /// ```
    pub fn bootstrap_timeout<C: FromClient>(&self, timeout: Duration) -> Result<C> {
        self.bootstrap_client_timeout(timeout).map(C::from_client)
    }

    /// The capability that the peer offers under a name, as servers of the protocol's
    /// first releases do. Does not wait for the peer: the capability can be called at
    /// once, and fails every call if the peer offers nothing under this name, or
    /// nothing by name at all.
    ///
    /// May wait for room among the outstanding questions, as a call does.
    ///
    /// ```
    /// # use capnp_threads_core::Connection;
    /// # use rpc_schema::greeter_capnp::greeter;
    /// fn greeter(connection: &Connection) -> greeter::Client {
    ///     connection.restore("greeter")
    /// }
    /// ```
    pub fn restore<C: FromClient>(&self, object: impl Into<ObjectId>) -> C {
        C::from_client(self.restore_client(object))
    }

    /// As [`restore`](Self::restore), but waits for room no longer than `timeout`.
    ///
    /// # Errors
    /// As [`bootstrap_timeout`](Self::bootstrap_timeout).
    pub fn restore_timeout<C: FromClient>(
        &self,
        object: impl Into<ObjectId>,
        timeout: Duration,
    ) -> Result<C> {
        self.restore_client_timeout(object, timeout).map(C::from_client)
    }
}

/// Makes a promise for a capability of type `C`, and the fulfiller that resolves it;
/// see [`promise`](crate::untyped::promise()).
pub fn promise_client<C: FromClient>() -> (C, TypedFulfiller<C>) {
    let (client, fulfiller) = crate::cap::promise::promise();
    (C::from_client(client), TypedFulfiller { fulfiller, client: PhantomData })
}

/// Resolves a promise of type `C`. Dropping the fulfiller breaks the promise.
#[derive(Debug)]
pub struct TypedFulfiller<C> {
    fulfiller: Fulfiller,
    client: PhantomData<fn(C)>,
}

impl<C: FromClient> TypedFulfiller<C> {
    /// Resolves the promise; see [`Fulfiller::fulfill`].
    pub fn fulfill(self, target: C) {
        self.fulfiller.fulfill(target.into_client());
    }

    /// Makes every call on the promise fail.
    pub fn reject(self, error: Error) {
        self.fulfiller.reject(error);
    }
}

// What generated clients are made of. They hold a `Hook`, because the capnp crate wants a
// reference to a hook.

/// Makes a generated client's hook of one that came out of a message.
pub fn client_from_hook(hook: &dyn ClientHook) -> Hook {
    Hook::new(hook::client_of(hook))
}

/// Makes a generated client's hook of an untyped client.
pub fn hook_from_client(client: Client) -> Hook {
    Hook::new(client)
}

/// Makes a hook that can be put into a message of a generated client's hook.
pub fn hook_of(hook: Hook) -> Box<dyn ClientHook> {
    Box::new(hook)
}
