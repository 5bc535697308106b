//! Where saved references are kept.

use std::collections::HashMap;
use std::fmt;

use capnp_threads_core::Result;
use parking_lot::Mutex;

use crate::reference::Owner;

/// Keeps what saved references stand for.
///
/// What a method has done must last when it returns: the reference is given away
/// then. Methods may block. Several run at once.
pub trait SturdyStore: Send + Sync + 'static {
    /// Keeps a record.
    ///
    /// # Errors
    /// It could not be kept. Nothing has changed.
    fn put(&self, key: &Key, record: &Record) -> Result<()>;

    /// Finds a record.
    ///
    /// # Errors
    /// The store could not be read.
    fn get(&self, key: &Key) -> Result<Option<Record>>;

    /// Forgets a record. Returns whether there was one.
    ///
    /// # Errors
    /// It could not be forgotten.
    fn remove(&self, key: &Key) -> Result<bool>;
}

impl<T: SturdyStore + ?Sized> SturdyStore for std::sync::Arc<T> {
    fn put(&self, key: &Key, record: &Record) -> Result<()> {
        (**self).put(key, record)
    }

    fn get(&self, key: &Key) -> Result<Option<Record>> {
        (**self).get(key)
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        (**self).remove(key)
    }
}

/// What a reference is found by: a hash of it, of which nobody can make the
/// reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "its length is that of the hash")]
pub struct Key(pub [u8; 32]);

/// What a saved reference stands for.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores make it")]
pub struct Record {
    /// Whom it is sealed for; `None` for whoever has it.
    pub owner: Option<Owner>,
    /// What makes the object again.
    pub kind: String,
    /// Of what it is made.
    pub state: Vec<u8>,
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

/// A store that is gone with the process; for tests.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<HashMap<Key, Record>>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::default()
    }
}

impl SturdyStore for MemoryStore {
    fn put(&self, key: &Key, record: &Record) -> Result<()> {
        self.0.lock().insert(*key, record.clone());
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.0.lock().get(key).cloned())
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        Ok(self.0.lock().remove(key).is_some())
    }
}
