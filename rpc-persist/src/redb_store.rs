//! A store in one file.

use std::fmt;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use capnp_threads_core::{Error, Result};
use redb::{Database, TableDefinition, TableError};

use crate::reference::Owner;
use crate::store::{Key, Record, SturdyStore};

/// Owner, kind and state by key.
type Value = (Option<&'static str>, &'static str, &'static [u8]);

const REFERENCES: TableDefinition<'static, &[u8; 32], Value> = TableDefinition::new("references-1");

/// A store in one file, which survives crashes of the program and of the machine:
/// what was saved is on the disk, whole, when saving returns. One process at a time
/// uses the file.
///
/// Not all of it is secret: references themselves are not in it, but the states of
/// objects, and the names of owners, are. On Unix a new file is readable for its
/// user only.
pub struct RedbStore {
    path: PathBuf,
    database: Database,
}

impl RedbStore {
    /// Opens the store in a file, or makes a new one. After a crash this takes as
    /// long as reading the file.
    ///
    /// # Errors
    /// `overloaded` when another process uses the file; `failed` when it is not
    /// accessible or no such store.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let what = || format!("the store {}", path.display());
        let file = options.open(path).map_err(|error| {
            let error = Error::from(error);
            Error::new(error.kind(), format!("{} cannot be opened: {}", what(), error.reason()))
        })?;
        let database = Database::builder().create_file(file).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                Error::overloaded(format!("{} is in use by another process", what()))
            }
            error => Error::failed(format!("{} cannot be opened: {error}", what())),
        })?;
        Ok(RedbStore { path: path.to_owned(), database })
    }

    /// How many references it has.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn len(&self) -> Result<u64> {
        use redb::ReadableTableMetadata;
        let reading = self.database.begin_read().map_err(|error| self.broken(error))?;
        match reading.open_table(REFERENCES) {
            Ok(table) => table.len().map_err(|error| self.broken(error)),
            Err(TableError::TableDoesNotExist(_)) => Ok(0),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Whether it has none.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    fn broken(&self, error: impl Into<redb::Error>) -> Error {
        let error: redb::Error = error.into();
        tracing::error!(path = %self.path.display(), %error, "the store of saved references failed");
        let told = "the store of saved references failed";
        match error {
            redb::Error::Io(io) => Error::new(Error::from(io).kind(), told),
            error => Error::failed(told).with_internal(error.to_string()),
        }
    }
}

/// As the database fails.
#[allow(clippy::result_large_err)]
impl RedbStore {
    /// A transaction that is on the disk, whole, when its commit returns, whatever
    /// those who choose the content of records try.
    fn begin_write(&self) -> Result<redb::WriteTransaction, redb::Error> {
        let mut writing = self.database.begin_write()?;
        writing.set_durability(redb::Durability::Immediate);
        writing.set_two_phase_commit(true);
        Ok(writing)
    }

    fn put_record(&self, key: &Key, record: &Record) -> Result<(), redb::Error> {
        let writing = self.begin_write()?;
        let owner = record.owner.as_ref().map(Owner::name);
        writing.open_table(REFERENCES)?.insert(&key.0, (owner, &*record.kind, &*record.state))?;
        Ok(writing.commit()?)
    }

    fn get_record(&self, key: &Key) -> Result<Option<Record>, redb::Error> {
        let reading = self.database.begin_read()?;
        let table = match reading.open_table(REFERENCES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(table.get(&key.0)?.map(|found| {
            let (owner, kind, state) = found.value();
            Record { owner: owner.map(Owner::new), kind: kind.to_owned(), state: state.to_owned() }
        }))
    }

    fn remove_record(&self, key: &Key) -> Result<bool, redb::Error> {
        let writing = self.begin_write()?;
        let removed = writing.open_table(REFERENCES)?.remove(&key.0)?.is_some();
        writing.commit()?;
        Ok(removed)
    }
}

impl SturdyStore for RedbStore {
    fn put(&self, key: &Key, record: &Record) -> Result<()> {
        self.put_record(key, record).map_err(|error| self.broken(error))
    }

    fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.get_record(key).map_err(|error| self.broken(error))
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        self.remove_record(key).map_err(|error| self.broken(error))
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(owner: Option<&str>) -> Record {
        Record { owner: owner.map(Owner::new), kind: "kind".into(), state: vec![1, 2, 3] }
    }

    #[test]
    fn records_are_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let keys = [Key([1; 32]), Key([2; 32]), Key([3; 32])];
        let store = RedbStore::open(&path).unwrap();
        assert!(store.is_empty().unwrap());
        assert_eq!(store.get(&keys[0]).unwrap(), None);
        store.put(&keys[0], &record(Some("alice"))).unwrap();
        store.put(&keys[1], &record(None)).unwrap();
        drop(store);

        let store = RedbStore::open(&path).unwrap();
        assert_eq!(store.get(&keys[0]).unwrap(), Some(record(Some("alice"))));
        assert_eq!(store.get(&keys[1]).unwrap(), Some(record(None)));
        assert_eq!(store.get(&keys[2]).unwrap(), None);
        assert!(store.remove(&keys[0]).unwrap() && !store.remove(&keys[0]).unwrap());
        assert_eq!(store.len().unwrap(), 1);
        drop(store);
        assert_eq!(RedbStore::open(&path).unwrap().get(&keys[0]).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_no_store_or_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        assert!(RedbStore::open(&path).unwrap_err().reason().contains("text"));
        RedbStore::open(folder.path().join("no/folder")).unwrap_err();
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_is_for_its_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        drop(RedbStore::open(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    }
}
