//! How objects become callable, and how they are found behind their clients.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::brand::Brand;
use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::interceptor::{Interceptor, Interceptors};
use crate::cap::interface::Described;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::fd::{OwnedFd, SharedFd};
use crate::kinds::interception::in_front_of_object;
use crate::runtime::Vat;

/// Clients of an interface that objects of type `S` implement.
///
/// Generated for every `S` that implements the interface's `Server` trait.
pub trait FromServer<S: ?Sized>: Described {
    /// Finds the method that a call asks for and runs it.
    fn dispatch(server: &S, call: IncomingCall);
}

/// Makes an object of this process callable, as `C::from_server` does, with `C`
/// inferred from the context.
///
/// The object lives until its last client is gone, here and at every peer that was
/// given one, and is dropped on the thread that drops the last client.
pub fn new_client<C, S>(server: S) -> C
where
    C: FromServer<S>,
    S: Send + Sync + 'static,
{
    C::from_client(Client::from_dispatch(served::<C, S>(server, ObjectConfig::new())))
}

/// As [`new_client`], with a file descriptor that travels with the capability; see
/// [`Vat::export_with_fd`].
pub fn new_client_with_fd<C, S>(server: S, fd: impl Into<OwnedFd>) -> C
where
    C: FromServer<S>,
    S: Send + Sync + 'static,
{
    C::from_client(Client::from_dispatch(served::<C, S>(server, ObjectConfig::new().fd(fd))))
}

/// How an object is made callable: see [`Vat::export_configured`].
///
/// ```
/// use capnp_threads_core::typed::ObjectConfig;
/// use capnp_threads_core::{Concurrency, Vat};
/// # use rpc_schema::echo_capnp::echo;
/// # struct Echo;
/// # impl echo::Server for Echo {}
///
/// let config = ObjectConfig::new().name("the echo").concurrency(Concurrency::Concurrent);
/// let echo: echo::Client = Vat::new().export_configured(Echo, config);
/// assert!(format!("{echo:?}").contains("the echo"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ObjectConfig {
    concurrency: Concurrency,
    name: Option<Arc<str>>,
    brand: Option<Brand>,
    fd: Option<SharedFd>,
    interceptors: Interceptors,
}

impl ObjectConfig {
    /// One call at a time, without a name, a brand or a file descriptor.
    pub fn new() -> Self {
        ObjectConfig::default()
    }

    /// Sets how many calls run at once.
    #[must_use]
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Gives the object a name that appears in logs, in the `Debug` output of its
    /// clients, in [`Connection::exports`](crate::Connection::exports) and in what errors
    /// tell this process. Peers do not see the name, except on a connection in debug mode.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds an [interceptor](crate::interceptors) in front of the object: it sees every call
    /// of the object, wherever it comes from. Calls for the object wait, in order, behind one
    /// that is delayed.
    #[must_use]
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors = self.interceptors.incoming(interceptor);
        self
    }

    /// Puts a mark on the object by which it is recognised: see [`Client::brand`].
    #[must_use]
    pub fn brand(mut self, brand: &Brand) -> Self {
        self.brand = Some(brand.clone());
        self
    }

    /// Adds a file descriptor that travels with the capability: see
    /// [`Vat::export_with_fd`].
    // There is no descriptor elsewhere that this could be called with.
    #[cfg_attr(not(unix), expect(unreachable_code, unused_mut))]
    #[must_use]
    pub fn fd(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.fd = Some(Arc::new(fd.into()));
        self
    }
}

impl Vat {
    /// Makes an object callable that runs in this vat, one call at a time.
    pub fn export<C, S>(&self, server: S) -> C
    where
        C: FromServer<S>,
        S: Send + Sync + 'static,
    {
        self.export_with(server, Concurrency::default())
    }

    /// As [`export`](Self::export), with a choice of how many calls run at once.
    pub fn export_with<C, S>(&self, server: S, concurrency: Concurrency) -> C
    where
        C: FromServer<S>,
        S: Send + Sync + 'static,
    {
        self.export_configured(server, ObjectConfig::new().concurrency(concurrency))
    }

    /// As [`export`](Self::export), with a name for people: see
    /// [`ObjectConfig::name`].
    pub fn export_named<C, S>(&self, name: impl Into<Arc<str>>, server: S) -> C
    where
        C: FromServer<S>,
        S: Send + Sync + 'static,
    {
        self.export_configured(server, ObjectConfig::new().name(name))
    }

    /// As [`export`](Self::export), with every option.
    pub fn export_configured<C, S>(&self, server: S, config: ObjectConfig) -> C
    where
        C: FromServer<S>,
        S: Send + Sync + 'static,
    {
        let concurrency = config.concurrency;
        let interceptors = config.interceptors.clone().into_incoming();
        let server = served::<C, S>(server, config);
        let object = LocalObject::new(server, concurrency, self.executor());
        C::from_client(in_front_of_object(&object, interceptors))
    }

    /// As [`export`](Self::export), with a file descriptor, such as a `File` or a
    /// `UnixStream`, that belongs to the capability. A peer that is sent the capability
    /// over a connection that carries file descriptors, as Unix sockets do, gets a copy
    /// of the descriptor and finds it with [`Client::fd`]. Other peers get the
    /// capability alone.
    ///
    /// The descriptor is closed when the last client is gone; a peer's copy, when the
    /// last client at that peer is gone.
    pub fn export_with_fd<C, S>(&self, server: S, fd: impl Into<OwnedFd>) -> C
    where
        C: FromServer<S>,
        S: Send + Sync + 'static,
    {
        self.export_configured(server, ObjectConfig::new().fd(fd))
    }
}

/// What runs the methods of a server for a client of type `C`.
#[cfg(feature = "bench")]
pub(crate) fn dispatch_of<C, S>(server: S) -> Arc<dyn Dispatch>
where
    C: FromServer<S>,
    S: Send + Sync + 'static,
{
    served::<C, S>(server, ObjectConfig::new())
}

fn served<C, S>(server: S, config: ObjectConfig) -> Arc<dyn Dispatch>
where
    C: FromServer<S>,
    S: Send + Sync + 'static,
{
    C::interface().make_known();
    Arc::new(Served::<C, S> { server: Arc::new(server), config, client: PhantomData })
}

/// The object of type `S` behind a client, if the client was made in this process by
/// [`new_client`] or `from_server`, from the object or from an `Arc` of it.
///
/// `None` if the object is of another type or in another process, and for a promise
/// that has not resolved to it yet.
pub fn unwrap_server<S: Send + Sync + 'static>(client: &impl FromClient) -> Option<Arc<S>> {
    server_of(&*client.as_client().local_dispatch()?)
}

/// The object of type `S` to which calls are dispatched here.
pub(super) fn server_of<S: Send + Sync + 'static>(dispatch: &dyn Dispatch) -> Option<Arc<S>> {
    let server = dispatch.as_any();
    if let Some(server) = server.downcast_ref::<Arc<S>>() {
        return Some(Arc::clone(server));
    }
    server.downcast_ref::<Arc<Arc<S>>>().map(|server| Arc::clone(&**server))
}

/// An object together with the interface through which it is called.
struct Served<C, S> {
    server: Arc<S>,
    config: ObjectConfig,
    client: PhantomData<fn() -> C>,
}

impl<C, S> Dispatch for Served<C, S>
where
    C: FromServer<S>,
    S: Send + Sync + 'static,
{
    fn dispatch(&self, call: IncomingCall) {
        C::dispatch(&self.server, call);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        &self.server
    }

    fn ends_with_answer(&self) -> bool {
        true
    }

    fn fd(&self) -> Option<SharedFd> {
        self.config.fd.clone()
    }

    fn brand(&self) -> Option<&Brand> {
        self.config.brand.as_ref()
    }

    fn name(&self) -> Option<&str> {
        Some(self.config.name.as_deref().unwrap_or(C::interface().name()))
    }

    fn method_name(&self, interface_id: u64, method_id: u16) -> Option<String> {
        Some(C::interface().method(interface_id, method_id).to_string())
    }
}

impl<C, S> fmt::Debug for Served<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("type", &std::any::type_name::<S>()).finish()
    }
}
