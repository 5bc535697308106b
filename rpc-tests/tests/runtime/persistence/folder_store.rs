//! A store in a folder: what it keeps, what it refuses, and what becomes of damage.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use capnp_threads_core::{ErrorKind, Result};
use capnp_threads_persist::{FolderStore, Key, Owner, Quota, Quotas, Record, SturdyStore};

fn record(owner: Option<&str>, state: &[u8]) -> Record {
    Record { owner: owner.map(Owner::new), kind: "kind".into(), state: state.into() }
}

fn put(store: &FolderStore, key: u8, record: &Record) -> Result<()> {
    store.put(&Key([key; 32]), record, &Quotas::default())
}

/// The file of a key that is one byte over and over.
fn file(folder: &Path, key: u8) -> PathBuf {
    folder.join(format!("{key:02x}").repeat(32))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn records_are_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let keys = [Key([1; 32]), Key([2; 32]), Key([3; 32])];
    let store = FolderStore::open(folder.path()).unwrap();
    assert!(store.is_empty());
    assert_eq!(store.get(&keys[0]).unwrap(), None);
    put(&store, 1, &record(Some("alice"), b"state")).unwrap();
    put(&store, 2, &record(None, b"")).unwrap();
    drop(store);

    let store = FolderStore::open(folder.path()).unwrap();
    assert_eq!(store.get(&keys[0]).unwrap(), Some(record(Some("alice"), b"state")));
    assert_eq!(store.get(&keys[1]).unwrap(), Some(record(None, b"")));
    assert_eq!(store.get(&keys[2]).unwrap(), None);
    assert!(store.remove(&keys[0]).unwrap() && !store.remove(&keys[0]).unwrap());
    assert_eq!(store.len(), 1);
    drop(store);
    assert_eq!(FolderStore::open(folder.path()).unwrap().get(&keys[0]).unwrap(), None);
}

#[test]
fn a_key_is_not_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    put(&store, 1, &record(None, b"first")).unwrap();
    put(&store, 1, &record(None, b"second")).unwrap_err();
    assert_eq!(store.get(&Key([1; 32])).unwrap(), Some(record(None, b"first")));
    assert_eq!(store.len(), 1);
}

#[test]
fn quotas_hold_after_opening_again_and_end_with_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut quotas = Quotas::default();
    quotas.owner = Quota { references: 2, bytes: 1 << 20 };
    let alices = record(Some("alice"), b"state");
    let store = FolderStore::open(folder.path()).unwrap();
    for key in [1, 2] {
        store.put(&Key([key; 32]), &alices, &quotas).unwrap();
    }
    drop(store);
    let store = FolderStore::open(folder.path()).unwrap();
    let error = store.put(&Key([3; 32]), &alices, &quotas).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(!file(folder.path(), 3).exists());
    store.put(&Key([4; 32]), &record(Some("bob"), b""), &quotas).unwrap();
    store.remove(&Key([1; 32])).unwrap();
    store.put(&Key([3; 32]), &alices, &quotas).unwrap();
}

#[test]
fn a_store_is_used_once_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    let error = FolderStore::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    drop(store);
    FolderStore::open(folder.path()).unwrap();
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text"), "x").unwrap();
    let error = FolderStore::open(folder.path()).unwrap_err();
    assert!(error.reason().contains("not a store"), "{error}");
    assert_eq!(names(folder.path()), ["text"]);
    let error = FolderStore::open(folder.path().join("text")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    FolderStore::open(folder.path().join("no/folder")).unwrap_err();
}

#[test]
fn a_new_store_is_for_its_user_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = FolderStore::open(&path).unwrap();
    put(&store, 1, &record(None, b"state")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path) & 0o077, 0);
    for name in names(&path) {
        assert_eq!(mode(&path.join(&name)) & 0o077, 0, "{name}");
    }
}

#[test]
fn what_was_being_written_when_the_process_ended_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    put(&store, 1, &record(None, b"state")).unwrap();
    drop(store);
    let unfinished = file(folder.path(), 2).with_extension("new");
    fs::copy(file(folder.path(), 1), unfinished).unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    assert_eq!(store.get(&Key([2; 32])).unwrap(), None);
    assert_eq!(store.len(), 1);
    assert_eq!(names(folder.path()), [&"01".repeat(32)[..], "lock", "version"]);
}

/// A folder with a few records, one of which is going to be damaged.
struct Victim {
    folder: tempfile::TempDir,
    intact: Vec<u8>,
}

/// The key of the record that is damaged.
const DAMAGED: u8 = 7;

impl Victim {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        for key in 5..10 {
            put(&store, key, &record(Some("alice"), &[key; 40])).unwrap();
        }
        let intact = fs::read(file(folder.path(), DAMAGED)).unwrap();
        Victim { folder, intact }
    }

    fn file(&self) -> PathBuf {
        file(self.folder.path(), DAMAGED)
    }

    /// That the damaged record cannot be had, and everything else can, from a store
    /// that was open all the time and from one that is opened now.
    fn check(store: &FolderStore, what: &str) {
        let error = store.get(&Key([DAMAGED; 32])).map(|_| ()).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Failed, "{what}: {error}");
        store.remove(&Key([DAMAGED; 32])).expect_err(what);
        for key in (5..10).filter(|key| *key != DAMAGED) {
            let found = store.get(&Key([key; 32])).expect(what);
            assert_eq!(found, Some(record(Some("alice"), &[key; 40])), "{what}");
        }
    }

    fn check_reopened(&self, what: &str) {
        let store = FolderStore::open(self.folder.path()).expect(what);
        assert_eq!(store.damaged(), [self.file()], "{what}");
        assert_eq!(store.len(), 4, "{what}");
        Self::check(&store, what);
        put(&store, 20, &record(None, b"new")).expect(what);
        assert!(store.remove(&Key([20; 32])).expect(what));
    }
}

#[test]
fn a_record_with_any_byte_changed_is_refused_alone() {
    let victim = Victim::new();
    let store = FolderStore::open(victim.folder.path()).unwrap();
    for index in 0..victim.intact.len() {
        for bits in [1, 0x80, 0xff] {
            let mut bytes = victim.intact.clone();
            bytes[index] ^= bits;
            fs::write(victim.file(), &bytes).unwrap();
            Victim::check(&store, &format!("byte {index} ^ {bits}"));
        }
    }
    drop(store);
    for index in (0..victim.intact.len()).step_by(7) {
        let mut bytes = victim.intact.clone();
        bytes[index] ^= 1;
        fs::write(victim.file(), &bytes).unwrap();
        victim.check_reopened(&format!("byte {index}"));
    }
}

#[test]
fn a_record_of_any_other_length_is_refused_alone() {
    let victim = Victim::new();
    let store = FolderStore::open(victim.folder.path()).unwrap();
    let full = victim.intact.len() as u64;
    // The last is far more than there is memory for, and takes up none on the disk.
    let lengths = (0..full).chain([full + 1, full + 4096, 1 << 20, 1 << 40]);
    for length in lengths.clone() {
        fs::write(victim.file(), &victim.intact).unwrap();
        OpenOptions::new().write(true).open(victim.file()).unwrap().set_len(length).unwrap();
        Victim::check(&store, &format!("length {length}"));
    }
    drop(store);
    for length in lengths.filter(|length| length % 7 == 0) {
        fs::write(victim.file(), &victim.intact).unwrap();
        OpenOptions::new().write(true).open(victim.file()).unwrap().set_len(length).unwrap();
        victim.check_reopened(&format!("length {length}"));
    }
}

#[test]
fn a_record_in_anothers_place_is_refused() {
    let victim = Victim::new();
    fs::copy(file(victim.folder.path(), 5), victim.file()).unwrap();
    victim.check_reopened("the file of another record");
    fs::write(victim.file(), &victim.intact).unwrap();
    let store = FolderStore::open(victim.folder.path()).unwrap();
    assert!(store.damaged().is_empty());
    assert_eq!(store.len(), 5);
}

#[test]
fn a_damaged_version_is_refused_until_it_is_mended() {
    let victim = Victim::new();
    let path = victim.folder.path().join("version");
    let version = fs::read(&path).unwrap();
    for length in 0..version.len() {
        fs::write(&path, &version[..length]).unwrap();
        let error = FolderStore::open(victim.folder.path()).expect_err("a shorter version");
        assert_eq!(error.kind(), ErrorKind::Failed);
    }
    for index in 0..version.len() {
        let mut bytes = version.clone();
        bytes[index] ^= 1;
        fs::write(&path, bytes).unwrap();
        FolderStore::open(victim.folder.path()).expect_err("another version");
    }
    fs::remove_file(&path).unwrap();
    FolderStore::open(victim.folder.path()).expect_err("no version");
    fs::write(&path, version).unwrap();
    assert_eq!(FolderStore::open(victim.folder.path()).unwrap().len(), 5);
}
