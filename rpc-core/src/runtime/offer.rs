//! What a vat offers to a peer that holds none of its capabilities yet: a bootstrap
//! capability, which may depend on who the peer is, and capabilities by name.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use capnp::any_pointer;
use dashmap::DashMap;

use crate::cap::client::Client;
use crate::cap::from_client::FromClient;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::Dispatch;
use crate::cap::payload::{Payload, PayloadBuilder};
use crate::error::{Error, Result};
use crate::transport::PeerDescription;

/// Decides which bootstrap capability a peer gets.
///
/// Closures are factories, too:
///
/// ```
/// use capnp_threads_core::transport::PeerDescription;
/// use capnp_threads_core::{ConnConfig, Error, FromClient, Vat};
/// # use rpc_schema::greeter_capnp::greeter;
/// # struct Greeter { uid: u32 }
/// # impl greeter::Server for Greeter {}
///
/// # let vat = Vat::new();
/// let exporter = vat.clone();
/// let config = ConnConfig::new().bootstrap_factory(move |peer: &PeerDescription| {
///     // The operating system says who is at the other end of a Unix socket.
///     let Some(credentials) = peer.credentials else {
///         return Some(capnp_threads_core::Client::broken(Error::failed("use the Unix socket")));
///     };
///     let greeter: greeter::Client = exporter.export(Greeter { uid: credentials.uid });
///     Some(greeter.into_client())
/// });
/// ```
pub trait BootstrapFactory: Send + Sync + 'static {
    /// The capability for this peer; `None` to offer nothing, a
    /// [broken](Client::broken) one to say why.
    ///
    /// Called once for each connection, when it begins, whether or not the peer will ask
    /// for the capability. Must not block, because nothing is served before this returns;
    /// it can return a promise instead.
    fn bootstrap_for(&self, peer: &PeerDescription) -> Option<Client>;
}

impl<F> BootstrapFactory for F
where
    F: Fn(&PeerDescription) -> Option<Client> + Send + Sync + 'static,
{
    fn bootstrap_for(&self, peer: &PeerDescription) -> Option<Client> {
        self(peer)
    }
}

impl<T: BootstrapFactory + ?Sized> BootstrapFactory for Arc<T> {
    fn bootstrap_for(&self, peer: &PeerDescription) -> Option<Client> {
        (**self).bootstrap_for(peer)
    }
}

/// Finds the capabilities that a peer asks for by name. Peers of the protocol's first
/// releases do that, and so do peers with a saved reference. The protocol calls the
/// name `deprecatedObjectId`: in a new design, let the bootstrap capability have a
/// method that does the same.
///
/// [`NamedExports`] is a restorer; so is every closure of this form.
pub trait Restorer: Send + Sync + 'static {
    /// The capability that the peer asks for.
    ///
    /// Runs on a worker, where it may block. Several calls may run at once.
    ///
    /// # Errors
    /// The error that the peer is told. It should not reveal whether a name exists that
    /// this peer may not use.
    fn restore(&self, object: &ObjectId, peer: &PeerDescription) -> Result<Client>;
}

impl<F> Restorer for F
where
    F: Fn(&ObjectId, &PeerDescription) -> Result<Client> + Send + Sync + 'static,
{
    fn restore(&self, object: &ObjectId, peer: &PeerDescription) -> Result<Client> {
        self(object, peer)
    }
}

impl<T: Restorer + ?Sized> Restorer for Arc<T> {
    fn restore(&self, object: &ObjectId, peer: &PeerDescription) -> Result<Client> {
        (**self).restore(object, peer)
    }
}

/// The name by which a peer asks for an object: whatever the two vats have agreed on,
/// often a text. A name cannot hold capabilities. Cloning is cheap.
#[derive(Clone)]
pub struct ObjectId(Payload);

impl ObjectId {
    /// A name of any type.
    ///
    /// ```
    /// use capnp_threads_core::offer::ObjectId;
    ///
    /// let id = ObjectId::build(|content| Ok(content.set_as::<capnp::data::Owned>(&[1u8, 2][..])?))?;
    /// let len = id.read(|content| Ok(content.get_as::<capnp::data::Reader<'_>>()?.len()))?;
    /// assert_eq!(len, 2);
    /// # Ok::<(), capnp_threads_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// The closure's error.
    pub fn build(
        build: impl FnOnce(&mut any_pointer::Builder<'_>) -> Result<()>,
    ) -> Result<ObjectId> {
        let mut builder = PayloadBuilder::for_object_id();
        build(&mut builder.content())?;
        Ok(ObjectId(builder.finish(Vec::new())))
    }

    /// Reads the name.
    ///
    /// # Errors
    /// The closure's error, or one that says that the name is malformed.
    pub fn read<R>(&self, read: impl FnOnce(any_pointer::Reader<'_>) -> Result<R>) -> Result<R> {
        let reader = self.0.open();
        read(Payload::content(&reader)?)
    }

    /// The name as a text.
    ///
    /// # Errors
    /// The name is not a text, or not valid UTF-8.
    pub fn text(&self) -> Result<String> {
        self.read(|content| Ok(content.get_as::<capnp::text::Reader<'_>>()?.to_string()?))
    }

    pub(crate) fn payload(&self) -> &Payload {
        &self.0
    }
}

/// A name that is a text.
impl From<&str> for ObjectId {
    fn from(name: &str) -> Self {
        let mut builder = PayloadBuilder::for_object_id();
        // A text holds no capability that could be missing.
        if let Err(error) = builder.content().set_as::<capnp::text::Owned>(name) {
            unreachable!("a text could not be copied: {error}");
        }
        ObjectId(builder.finish(Vec::new()))
    }
}

impl From<&ObjectId> for ObjectId {
    fn from(id: &ObjectId) -> Self {
        id.clone()
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Ok(text) => write!(f, "ObjectId({text:?})"),
            Err(_) => write!(f, "ObjectId({} words)", self.0.size_in_words()),
        }
    }
}

/// Capabilities under names that are texts. Cloning gives another handle on the
/// same names.
///
/// ```
/// use capnp_threads_core::offer::NamedExports;
/// use capnp_threads_core::{ConnConfig, Vat};
/// # use rpc_schema::greeter_capnp::greeter;
/// # struct Greeter;
/// # impl greeter::Server for Greeter {}
///
/// let vat = Vat::new();
/// let exports = NamedExports::new();
/// let greeter: greeter::Client = vat.export(Greeter);
/// exports.export("greeter", greeter);
/// let config = ConnConfig::new().restorer(exports.clone());
/// ```
#[derive(Clone, Default)]
pub struct NamedExports(Arc<DashMap<String, Client>>);

impl NamedExports {
    /// No names.
    pub fn new() -> Self {
        NamedExports::default()
    }

    /// Gives a capability a name. A peer that was given another capability under this
    /// name before keeps that one.
    pub fn export(&self, name: impl Into<String>, client: impl FromClient) {
        let before = self.0.insert(name.into(), client.into_client());
        drop(before);
    }

    /// Takes a name away. A peer that was given the capability keeps it. Returns
    /// whether the name was in use.
    pub fn remove(&self, name: &str) -> bool {
        // The capability is dropped after the map's lock is released.
        let before = self.0.remove(name);
        before.is_some()
    }
}

impl Restorer for NamedExports {
    fn restore(&self, object: &ObjectId, _: &PeerDescription) -> Result<Client> {
        let name = object.text()?;
        let found = self.0.get(&name).map(|client| client.clone());
        found.ok_or_else(|| Error::failed(format!("nothing is exported under the name {name:?}")))
    }
}

impl fmt::Debug for NamedExports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|entry| entry.key().clone())).finish()
    }
}

/// A restorer as an object, so that it runs as methods do, and its panics are caught as
/// theirs are.
pub(crate) struct RestorerObject {
    pub(crate) restorer: Arc<dyn Restorer>,
    pub(crate) peer: PeerDescription,
}

impl Dispatch for RestorerObject {
    fn dispatch(&self, call: IncomingCall) {
        let object = ObjectId(call.params().clone());
        let restored = self.restorer.restore(&object, &self.peer);
        call.respond(restored.map(Payload::of_capability));
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
