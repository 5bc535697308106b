//! A set of objects that recognises its own.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::export::{FromServer, ObjectConfig, server_of};
use crate::brand::Brand;
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::error::Result;
use crate::runtime::Vat;

/// Makes objects callable and finds, for a client that comes back, the object to which
/// it leads. No other object is mistaken for one of the set, whatever its type is.
///
/// A set does not keep its objects alive: each is dropped with its last client. Cloning
/// gives another handle on the same set.
///
/// ```
/// use capnp_threads_core::typed::ServerSet;
/// use capnp_threads_core::{Result, Vat};
/// use rpc_schema::greeter_capnp::guest;
///
/// struct Guest {
///     seat: u32,
/// }
///
/// impl guest::Server for Guest {}
///
/// # fn main() -> Result<()> {
/// let guests = ServerSet::new(&Vat::new());
/// let client: guest::Client = guests.add(Guest { seat: 7 });
/// assert_eq!(guests.local_server(&client).map(|guest| guest.seat), Some(7));
/// # Ok(())
/// # }
/// ```
pub struct ServerSet<S> {
    vat: Vat,
    brand: Brand,
    server: PhantomData<fn(S) -> S>,
}

impl<S: Send + Sync + 'static> ServerSet<S> {
    /// A set without objects. The objects that are added will run in `vat`.
    pub fn new(vat: &Vat) -> Self {
        ServerSet { vat: vat.clone(), brand: Brand::new(), server: PhantomData }
    }

    /// Makes an object callable, one call at a time.
    pub fn add<C: FromServer<S>>(&self, server: S) -> C {
        self.add_with(server, ObjectConfig::new())
    }

    /// Makes an object callable as `config` says, but always with the brand of this
    /// set.
    pub fn add_with<C: FromServer<S>>(&self, server: S, config: ObjectConfig) -> C {
        self.vat.export_configured(server, config.brand(&self.brand))
    }

    /// The object to which a client leads, if it is one of this set and this is known
    /// by now. It is not known while the client is an unresolved promise, nor while earlier
    /// calls are still on their way by a detour. Does not wait.
    pub fn local_server(&self, client: &impl FromClient) -> Option<Arc<S>> {
        self.find(client.as_client())
    }

    /// As [`local_server`](Self::local_server), but waits until it is known where the
    /// client leads: `None` means that the client does not lead to an object of this
    /// set.
    ///
    /// # Errors
    /// The promise failed, or this thread must not wait.
    pub fn wait_for_local_server(&self, client: &impl FromClient) -> Result<Option<Arc<S>>> {
        Ok(self.find(&client.as_client().resolve()?))
    }

    fn find(&self, client: &Client) -> Option<Arc<S>> {
        let dispatch = client.local_dispatch()?;
        if dispatch.brand() != Some(&self.brand) {
            return None;
        }
        server_of(&*dispatch)
    }
}

impl<S> Clone for ServerSet<S> {
    fn clone(&self) -> Self {
        ServerSet { vat: self.vat.clone(), brand: self.brand.clone(), server: PhantomData }
    }
}

impl<S> fmt::Debug for ServerSet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSet").field("brand", &self.brand).finish_non_exhaustive()
    }
}
