//! Where saved references are kept.

use std::collections::HashMap;
use std::fmt;

use capnp_threads_core::{Error, Result};
use parking_lot::Mutex;

use crate::quota::{Accounts, Quotas};
use crate::reference::Owner;

/// Keeps what saved references stand for.
///
/// What a method has done must last when it returns: the reference is given away
/// then. Methods may block. Several run at once. An error must not be the end: once its
/// cause is gone, methods work again.
pub trait SturdyStore: Send + Sync + 'static {
    /// Keeps a record under a key that has none, unless that would be more than the
    /// quotas allow for the record's owner or in all.
    ///
    /// # Errors
    /// `overloaded` if it would be too much, or if there is no room on the disk;
    /// otherwise what prevented it. The store is as it was.
    fn put(&self, key: &Key, record: &Record, quotas: &Quotas) -> Result<()>;

    /// Finds a record.
    ///
    /// # Errors
    /// The record could not be read, or is not what was put there.
    fn get(&self, key: &Key) -> Result<Option<Record>>;

    /// Forgets a record. Returns whether there was one.
    ///
    /// # Errors
    /// It may not be forgotten for good.
    fn remove(&self, key: &Key) -> Result<bool>;
}

impl<T: SturdyStore + ?Sized> SturdyStore for std::sync::Arc<T> {
    fn put(&self, key: &Key, record: &Record, quotas: &Quotas) -> Result<()> {
        (**self).put(key, record, quotas)
    }

    fn get(&self, key: &Key) -> Result<Option<Record>> {
        (**self).get(key)
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        (**self).remove(key)
    }
}

/// What a record is found by: a hash of the reference, from which nobody can make the
/// reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "its length is that of the hash")]
pub struct Key(pub [u8; 32]);

/// What a saved reference stands for.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores make it")]
pub struct Record {
    /// Whom the reference is sealed for; `None` for whoever has it.
    pub owner: Option<Owner>,
    /// The name of what makes the object again.
    pub kind: String,
    /// What the object is made from.
    pub state: Vec<u8>,
}

impl Record {
    /// How many bytes the record counts for: those of the owner's name, the kind and
    /// the state.
    pub fn size(&self) -> u64 {
        let owner = self.owner.as_ref().map_or(0, |owner| owner.name().len());
        (owner + self.kind.len() + self.state.len()) as u64
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("owner", &self.owner)
            .field("kind", &self.kind)
            .field("state", &format_args!("{} bytes", self.state.len()))
            .finish()
    }
}

/// A store in memory, gone with the process; for tests.
///
/// ```
/// use capnp_threads_core::Vat;
/// use capnp_threads_persist::{MemoryStore, Persistence};
///
/// let persistence = Persistence::builder(&Vat::new(), MemoryStore::new()).build();
/// # let _ = persistence;
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    records: HashMap<Key, Record>,
    accounts: Accounts,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::default()
    }
}

impl SturdyStore for MemoryStore {
    fn put(&self, key: &Key, record: &Record, quotas: &Quotas) -> Result<()> {
        let Kept { records, accounts } = &mut *self.0.lock();
        if records.contains_key(key) {
            return Err(Error::failed("there is a record of this key already"));
        }
        accounts.reserve(record, quotas)?;
        records.insert(*key, record.clone());
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.0.lock().records.get(key).cloned())
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        let Kept { records, accounts } = &mut *self.0.lock();
        let removed = records.remove(key);
        if let Some(record) = &removed {
            accounts.subtract(record);
        }
        Ok(removed.is_some())
    }
}
