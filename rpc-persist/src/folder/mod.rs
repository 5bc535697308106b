//! A store in a folder, with a file for each record.
//!
//! A file is written under another name, synchronised and then renamed, so that a record
//! is there whole or not at all. A failure concerns one record, and leaves nothing in
//! memory or on the disk that later calls would have to recover from.
//!
//! | file | content |
//! |---|---|
//! | `version` | [`VERSION`], in every folder that is a store |
//! | `lock` | nothing; the process that uses the store holds a lock on it |
//! | 64 hexadecimal digits, a [`Key`] | the [record](record) of that key |
//! | the name of a record or `version`, then `.new` | what was being written when the process ended |
//!
//! Databases in one file did worse. After a failed write, redb (2.6 and 4.6) has to be
//! closed and opened again. When files were damaged on purpose, it panicked on one in
//! eighty (2.6) or one in twenty (4.6), although it was told to check them first.
//! `SQLite` recovers and does not panic, but it read other records than had been written
//! from half of the damaged files, without an error: records would need a checksum of
//! their own there, too.

#[cfg(test)]
mod faults;
mod files;
pub(crate) mod record;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use capnp_threads_core::log::tell;
use capnp_threads_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use self::record::Damaged;
use crate::quota::{Accounts, Quotas};
use crate::store::{Key, Record, SturdyStore};

const VERSION: &[u8] = b"capnp-threads saved references 1\n";

/// A store in a folder, which survives crashes of the program and of the machine: what
/// was saved is on the disk, whole, when saving returns. One process at a time uses the
/// folder.
///
/// Each record is a file with a checksum. If a file is damaged, restoring its reference
/// fails, and nothing else does. While the disk is full, saving fails as `overloaded`;
/// it works again as soon as there is room. Revoking needs no room.
///
/// The folder does not contain references, but it contains the states of objects and
/// the names of owners. A new folder is accessible for its user only.
///
/// ```
/// use capnp_threads_core::{Result, Vat};
/// use capnp_threads_persist::{FolderStore, Persistence};
///
/// fn open() -> Result<Persistence> {
///     let store = FolderStore::open("/var/lib/greeter/references")?;
///     Ok(Persistence::builder(&Vat::new(), store).build())
/// }
/// ```
pub struct FolderStore {
    folder: PathBuf,
    accounts: Mutex<Accounts>,
    damaged: Vec<PathBuf>,
    /// Locked for as long as it is open.
    _lock: files::Lock,
}

impl FolderStore {
    /// Opens the store in a folder. If the folder is empty, or is not there but its
    /// parent is, this makes a new store. Blocks while it reads all records.
    ///
    /// # Errors
    /// `overloaded` when the store is in use already; `failed` when the folder is not
    /// accessible, or is not a store and not empty.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let folder = path.as_ref();
        let cannot = |error: io::Error| {
            let reason = format!("the store {} cannot be opened: {error}", folder.display());
            Error::new(kind_of(&error), reason)
        };
        files::create_folder(folder).map_err(cannot)?;
        let contents = Contents::read(folder).map_err(cannot)?;
        contents.require_store(folder)?;
        let lock = files::lock(&folder.join("lock")).map_err(cannot)?.ok_or_else(|| {
            Error::overloaded(format!("the store {} is in use already", folder.display()))
        })?;
        // Somebody may have been quicker.
        let contents = Contents::read(folder).map_err(cannot)?;
        contents.require_store(folder)?;
        if contents.version.is_none() {
            files::create(folder, "version", VERSION).map_err(cannot)?;
        }
        for path in contents.unfinished {
            files::remove(&path).map_err(cannot)?;
        }
        let mut store = FolderStore {
            folder: folder.to_owned(),
            accounts: Mutex::default(),
            damaged: Vec::new(),
            _lock: lock,
        };
        for key in contents.keys {
            match store.read(&key) {
                Ok(Some(record)) => store.accounts.get_mut().add(&record),
                Ok(None) => {}
                Err(Unreadable::Damaged(why)) => {
                    let path = store.path(&key);
                    tell!(ERROR, path = %path.display(), %why, "a saved reference is damaged");
                    store.damaged.push(path);
                }
                Err(Unreadable::Io(error)) => return Err(cannot(error)),
            }
        }
        Ok(store)
    }

    /// How many references it has, damaged ones not counted.
    pub fn len(&self) -> u64 {
        self.accounts.lock().total().references
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The files that were damaged when the store was opened. References to them cannot
    /// be restored or revoked. The files take up room until somebody removes them.
    pub fn damaged(&self) -> &[PathBuf] {
        &self.damaged
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(name_of(key))
    }

    fn read(&self, key: &Key) -> Result<Option<Record>, Unreadable> {
        // One byte more than there may be.
        let Some(bytes) = files::read(&self.path(key), record::MAX_BYTES + 1)? else {
            return Ok(None);
        };
        record::decode(key, &bytes).map(Some).map_err(Unreadable::Damaged)
    }

    /// Logs what went wrong, and says so without telling the peer what is where.
    fn failed(&self, told: &str, error: &io::Error) -> Error {
        tell!(ERROR, store = %self.folder.display(), %error, "{told}");
        let kind = kind_of(error);
        let reason = match kind {
            ErrorKind::Overloaded => format!("{told}: out of disk space or file descriptors"),
            _ => told.to_owned(),
        };
        Error::new(kind, reason).with_internal(error.to_string())
    }
}

impl SturdyStore for FolderStore {
    fn put(&self, key: &Key, record: &Record, quotas: &Quotas) -> Result<()> {
        const TOLD: &str = "a reference could not be saved";
        let bytes = record::encode(key, record)?;
        let there = self.path(key).try_exists().map_err(|error| self.failed(TOLD, &error))?;
        if there {
            return Err(Error::failed("there is a record of this key already"));
        }
        self.accounts.lock().reserve(record, quotas)?;
        files::create(&self.folder, &name_of(key), &bytes).map_err(|error| {
            self.accounts.lock().subtract(record);
            self.failed(TOLD, &error)
        })
    }

    fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.read(key).map_err(|unreadable| match unreadable {
            Unreadable::Io(error) => self.failed("a saved reference could not be read", &error),
            Unreadable::Damaged(why) => {
                let path = self.path(key);
                tell!(ERROR, path = %path.display(), %why, "a saved reference is damaged");
                Error::failed("what the reference stands for is damaged, and lost")
                    .with_internal(format!("{}: {why}", path.display()))
            }
        })
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        let Some(record) = self.get(key)? else { return Ok(false) };
        let told = |error| self.failed("a saved reference may not be forgotten for good", &error);
        let removed = files::remove(&self.path(key)).map_err(told)?;
        if removed {
            self.accounts.lock().subtract(&record);
        }
        files::sync_folder(&self.folder).map_err(told)?;
        Ok(removed)
    }
}

impl fmt::Debug for FolderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderStore").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Why a file gave no record.
enum Unreadable {
    Io(io::Error),
    Damaged(Damaged),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Unreadable::Io(error)
    }
}

/// What is in a folder.
#[derive(Default)]
struct Contents {
    /// What the file `version` says.
    version: Option<Vec<u8>>,
    keys: Vec<Key>,
    unfinished: Vec<PathBuf>,
    /// Something that stores do not make.
    foreign: Option<PathBuf>,
}

impl Contents {
    fn read(folder: &Path) -> io::Result<Self> {
        let mut contents = Contents::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == "version" {
                contents.version = files::read(&path, VERSION.len() as u64 + 1)?;
            } else if let Some(key) = key_of(name) {
                contents.keys.push(key);
            } else if is_unfinished(name) {
                contents.unfinished.push(path);
            } else if name != "lock" {
                contents.foreign = Some(path);
            }
        }
        Ok(contents)
    }

    /// That the folder is a store, or may become one.
    fn require_store(&self, folder: &Path) -> Result<()> {
        let folder = folder.display();
        match &self.version {
            Some(version) if version == VERSION => Ok(()),
            Some(_) => Err(Error::failed(format!(
                "the store {folder} is of another version, or its file `version` is damaged"
            ))),
            None if self.keys.is_empty() && self.foreign.is_none() => Ok(()),
            None => Err(Error::failed(format!(
                "{folder} is not a store: it has other files, and none that is called `version`"
            ))),
        }
    }
}

fn is_unfinished(name: &str) -> bool {
    let whole = name.strip_suffix(".new");
    whole.is_some_and(|whole| whole == "version" || key_of(whole).is_some())
}

fn name_of(key: &Key) -> String {
    let digits = key.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn key_of(name: &str) -> Option<Key> {
    let digits: Vec<u8> = name
        .bytes()
        .map(|digit| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    if rest.is_empty() { bytes.try_into().ok().map(Key) } else { None }
}

/// What an error means to whoever saves or restores. The kinds that errors of sockets
/// become do not fit: a file that ends too soon is damaged, and connecting again does not
/// help.
fn kind_of(error: &io::Error) -> ErrorKind {
    use rustix::io::Errno;
    match error.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::FileTooLarge
        | io::ErrorKind::OutOfMemory => ErrorKind::Overloaded,
        _ => match Errno::from_io_error(error) {
            // Descriptors.
            Some(Errno::MFILE | Errno::NFILE) => ErrorKind::Overloaded,
            _ => ErrorKind::Failed,
        },
    }
}
