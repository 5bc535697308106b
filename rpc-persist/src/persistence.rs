//! Saving objects and restoring them.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::sturdy_capnp::{restorer, sturdy_ref};
use capnp_threads_core::offer::ObjectId;
use capnp_threads_core::transport::PeerDescription;
use capnp_threads_core::typed::{AnyPointerExt, FromServer};
use capnp_threads_core::{Client, Concurrency, Error, FromClient, Result, Vat};

use crate::quota::Quotas;
use crate::reference::{Owner, SturdyRef};
use crate::savable::{Savable, SavableObject, Saver};
use crate::store::{Record, SturdyStore};

/// Makes an object from its state.
type Maker = Box<dyn Fn(&Persistence, &[u8]) -> Result<Client> + Send + Sync>;

/// Saves objects of a vat and restores them. Clones are handles of the same one.
///
/// ```
/// use capnp_threads_core::{FromClient, Result, Vat};
/// use capnp_threads_persist::{MemoryStore, Owner, Persistence, Savable};
/// use rpc_schema::greeter_capnp::greeter;
///
/// struct Greeter;
///
/// impl greeter::Server for Greeter {}
///
/// impl Savable for Greeter {
///     fn kind(&self) -> &str {
///         "greeter"
///     }
///
///     fn state(&self) -> Result<Vec<u8>> {
///         Ok(Vec::new())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let persistence = Persistence::builder(&Vat::new(), MemoryStore::new())
///     .kind("greeter", |persistence, _state| {
///         let greeter: greeter::Client = persistence.export(Greeter);
///         Ok(greeter.into_client())
///     })
///     .build();
/// let greeter: greeter::Client = persistence.export(Greeter);
/// let alice = Owner::new("alice");
/// let reference = capnp_threads_persist::save(&greeter, Some(&alice))?;
/// let again: greeter::Client = persistence.restore(&reference, Some(&alice))?;
/// # drop(again);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Persistence(Arc<Shared>);

struct Shared {
    vat: Vat,
    store: Box<dyn SturdyStore>,
    kinds: HashMap<String, Maker>,
    unsealed: Unsealed,
    quotas: Quotas,
}

/// Whether objects may be saved for nobody in particular. Whoever has such a reference
/// can restore it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it answers a question with yes or no")]
pub enum Unsealed {
    /// Saving without an owner fails.
    #[default]
    Refused,
    /// Saving without an owner works.
    Allowed,
}

/// Builds a [`Persistence`].
pub struct PersistenceBuilder(Shared);

impl PersistenceBuilder {
    /// Sets how objects of one kind are made from their state. The closure usually
    /// [exports](Persistence::export) a new object; it may block.
    ///
    /// The closure is called each time that a reference is restored. If all restored
    /// references are to lead to one object, the closure has to remember that object.
    #[must_use]
    pub fn kind(
        mut self,
        kind: impl Into<String>,
        make: impl Fn(&Persistence, &[u8]) -> Result<Client> + Send + Sync + 'static,
    ) -> Self {
        self.0.kinds.insert(kind.into(), Box::new(make));
        self
    }

    /// Sets whether objects may be saved without an owner. Default: they may not.
    #[must_use]
    pub fn unsealed(mut self, unsealed: Unsealed) -> Self {
        self.0.unsealed = unsealed;
        self
    }

    /// Sets how much may be saved for each owner, and for all of them. What exceeds
    /// this fails as `overloaded`.
    #[must_use]
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.0.quotas = quotas;
        self
    }

    /// The finished [`Persistence`].
    pub fn build(self) -> Persistence {
        Persistence(Arc::new(self.0))
    }
}

impl Persistence {
    /// Starts building what saves objects of `vat` in `store`.
    pub fn builder(vat: &Vat, store: impl SturdyStore) -> PersistenceBuilder {
        PersistenceBuilder(Shared {
            vat: vat.clone(),
            store: Box::new(store),
            kinds: HashMap::new(),
            unsealed: Unsealed::default(),
            quotas: Quotas::default(),
        })
    }

    /// Exports an object that can be saved: it answers the methods of `Persistent` as
    /// well as its own.
    pub fn export<C, S>(&self, server: S) -> C
    where
        C: FromServer<S>,
        S: Savable,
    {
        self.export_with(server, Concurrency::default())
    }

    /// As [`export`](Self::export), with a choice of how many calls run at once.
    /// An object that can be saved must not be [`Concurrency::Inline`], because saving
    /// blocks.
    pub fn export_with<C, S>(&self, server: S, concurrency: Concurrency) -> C
    where
        C: FromServer<S>,
        S: Savable,
    {
        let server = Arc::new(server);
        let saver = Saver { object: Arc::clone(&server), persistence: self.clone() };
        let object = SavableObject::<C, S> { server, saver, client: PhantomData };
        C::from_client(self.0.vat.export_dispatch_with(Arc::new(object), concurrency))
    }

    /// Saves an object, as `Persistent.save` does. Blocks until it is on the disk.
    ///
    /// # Errors
    /// `overloaded` when that would be more than the
    /// [quotas](PersistenceBuilder::quotas) allow, or when the disk is full. `failed`
    /// when there is no owner although there [has to be
    /// one](PersistenceBuilder::unsealed), when no [`kind`](PersistenceBuilder::kind)
    /// restores such objects, or when the store cannot keep it. Also whatever
    /// [`Savable::state`] fails with.
    pub fn save(
        &self,
        object: &(impl Savable + ?Sized),
        owner: Option<&Owner>,
    ) -> Result<SturdyRef> {
        if owner.is_none() && self.0.unsealed == Unsealed::Refused {
            return Err(Error::failed("say for whom to save this: set `sealFor`"));
        }
        let kind = object.kind();
        if !self.0.kinds.contains_key(kind) {
            return Err(Error::failed(format!(
                "objects of the kind {kind:?} could not be restored: see PersistenceBuilder::kind"
            )));
        }
        let state = object.state()?;
        let reference = SturdyRef::random()?;
        let record = Record { owner: owner.cloned(), kind: kind.to_owned(), state };
        self.0.store.put(&reference.key(), &record, &self.0.quotas)?;
        Ok(reference)
    }

    /// Restores what was saved. Blocks while the object is made. `owner` must be who the
    /// application knows the caller to be, not who the caller claims to be.
    ///
    /// # Errors
    /// There is no such reference, or it is sealed for somebody else; the error does
    /// not tell which. Or its record is damaged, or the object cannot be made any more.
    pub fn restore<C: FromClient>(
        &self,
        reference: &SturdyRef,
        owner: Option<&Owner>,
    ) -> Result<C> {
        let record = self.find(reference, owner)?.ok_or_else(|| {
            Error::failed("there is no such reference, or it is sealed for somebody else")
        })?;
        let make = self.0.kinds.get(&record.kind).ok_or_else(|| {
            Error::failed(format!("nothing makes objects of the kind {:?} any more", record.kind))
        })?;
        Ok(C::from_client(make(self, &record.state)?))
    }

    /// Makes a reference useless for ever. Whoever restored the object before keeps it.
    /// Returns whether there was such a reference of this owner's.
    ///
    /// # Errors
    /// The store failed; whether the reference is useless is not certain.
    pub fn revoke(&self, reference: &SturdyRef, owner: Option<&Owner>) -> Result<bool> {
        Ok(self.find(reference, owner)?.is_some() && self.0.store.remove(&reference.key())?)
    }

    fn find(&self, reference: &SturdyRef, owner: Option<&Owner>) -> Result<Option<Record>> {
        let record = self.0.store.get(&reference.key())?;
        // What is sealed for nobody is for everybody.
        Ok(record.filter(|record| record.owner.is_none() || record.owner.as_ref() == owner))
    }

    /// A capability that restores and revokes for an owner: whoever has it is treated as
    /// that owner. Give it to those who have proved who they are, for example from a
    /// [bootstrap factory](capnp_threads_core::offer::BootstrapFactory) that knows the peer, or
    /// from a method that has checked a password.
    pub fn restorer(&self, owner: Option<Owner>) -> restorer::Client {
        let server = OwnRestorer { persistence: self.clone(), owner };
        self.0.vat.export_with(server, Concurrency::Concurrent)
    }

    /// Restores for peers that name the reference in their bootstrap request. `owner`
    /// tells who a peer is, or refuses it.
    ///
    /// The peer makes an [`ObjectId`] of its [`SturdyRef`] and calls
    /// [`Connection::restore`](capnp_threads_core::Connection::restore).
    pub fn restorer_by(
        &self,
        owner: impl Fn(&PeerDescription) -> Result<Option<Owner>> + Send + Sync + 'static,
    ) -> impl capnp_threads_core::offer::Restorer {
        let persistence = self.clone();
        move |object: &ObjectId, peer: &PeerDescription| {
            let owner = owner(peer)?;
            let reference = object
                .read(|content| SturdyRef::read(content.get_as::<sturdy_ref::Reader<'_>>()?))?;
            persistence.restore::<Client>(&reference, owner.as_ref())
        }
    }
}

impl fmt::Debug for Persistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Persistence")
            .field("vat", &self.0.vat)
            .field("kinds", &self.0.kinds.keys().collect::<Vec<_>>())
            .field("unsealed", &self.0.unsealed)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PersistenceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersistenceBuilder")
            .field("kinds", &self.0.kinds.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

struct OwnRestorer {
    persistence: Persistence,
    owner: Option<Owner>,
}

impl restorer::Server for OwnRestorer {
    fn restore(
        &self,
        params: restorer::RestoreParams,
        mut results: restorer::RestoreResults,
    ) -> Result<()> {
        let reference = SturdyRef::read(params.get()?.get_ref()?)?;
        let object: Client = self.persistence.restore(&reference, self.owner.as_ref())?;
        results.get().init_object().set_client(object);
        Ok(())
    }

    fn revoke(&self, params: restorer::RevokeParams, _: restorer::RevokeResults) -> Result<()> {
        let reference = SturdyRef::read(params.get()?.get_ref()?)?;
        self.persistence.revoke(&reference, self.owner.as_ref())?;
        Ok(())
    }
}
