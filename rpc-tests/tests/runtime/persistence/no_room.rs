//! A store whose disk is full, or whose process has no descriptors left, fails and
//! works again as soon as there is room, without being opened again.
//!
//! The system is told to allow the process less. Only a process of its own can be
//! treated like that, and one that does not take the signal about it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use capnp_threads_core::{ErrorKind, Result};
use capnp_threads_persist::{FolderStore, Key, Owner, Quotas, Record, SturdyStore};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const FOLDER: &str = "NO_ROOM_TEST_FOLDER";

#[test]
fn a_store_works_again_as_soon_as_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    // A signal that is ignored stays so in the program that the shell becomes.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "persistence::no_room::in_a_process_of_its_own",
            "--ignored",
            "--nocapture",
        ])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{printed}\n{complaints}", output.status);
    assert!(printed.contains("all was seen"), "{printed}\n{complaints}");
}

#[test]
#[ignore = "run by the test above"]
fn in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let mut checked = Checked::new(&folder);
    for _ in 0..10 {
        checked.save();
    }
    // Nothing can be written; then the beginning of a record; then all but its end.
    for bytes in [0, 1, 50, Checked::FILE_BYTES - 1] {
        with_less(Resource::Fsize, bytes, || checked.cannot_save_but_everything_else());
        checked.save();
    }
    with_less(Resource::Fsize, Checked::FILE_BYTES, || checked.save());
    // No file can be opened; then one at a time.
    with_less(Resource::Nofile, descriptors(), || {
        checked.cannot_save();
        checked.cannot_restore();
    });
    with_less(Resource::Nofile, descriptors() + 1, || checked.save());
    checked.all_is_there();
    checked.reopen();
    println!("all was seen");
}

/// How many descriptors the process has, if no thread opens one meanwhile.
fn descriptors() -> u64 {
    // The next one would have this number, as all below are in use.
    use std::os::fd::AsRawFd;
    u64::try_from(File::open("/dev/null").unwrap().as_raw_fd()).unwrap()
}

fn with_less(resource: Resource, amount: u64, run: impl FnOnce()) {
    let before = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(amount), maximum: before.maximum }).unwrap();
    run();
    setrlimit(resource, before).unwrap();
}

/// A store, and what should be in it.
struct Checked {
    folder: PathBuf,
    store: Option<FolderStore>,
    saved: Vec<u8>,
    next: u8,
}

impl Checked {
    /// How long the files of the records are.
    const FILE_BYTES: u64 = 8 + 32 + 1 + 8 + 8 + 5 + 4 + 100;

    fn new(folder: &Path) -> Self {
        let store = Some(FolderStore::open(folder).unwrap());
        Checked { folder: folder.to_owned(), store, saved: Vec::new(), next: 0 }
    }

    fn record(key: u8) -> Record {
        Record { owner: Some(Owner::new("alice")), kind: "kind".into(), state: vec![key; 100] }
    }

    fn store(&self) -> &FolderStore {
        self.store.as_ref().unwrap()
    }

    fn file(&self, key: u8) -> PathBuf {
        self.folder.join(format!("{key:02x}").repeat(32))
    }

    fn try_to_save(&mut self) -> Result<u8> {
        let key = self.next;
        self.next += 1;
        let saved = self.store().put(&Key([key; 32]), &Self::record(key), &Quotas::default());
        saved.map(|()| key)
    }

    fn save(&mut self) {
        let key = self.try_to_save().unwrap();
        assert_eq!(fs::metadata(self.file(key)).unwrap().len(), Self::FILE_BYTES);
        self.saved.push(key);
    }

    fn cannot_save(&mut self) {
        for _ in 0..3 {
            let error = self.try_to_save().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error:?}");
            assert_eq!(self.store().len(), self.saved.len() as u64);
            assert!(!self.file(self.next - 1).exists());
        }
    }

    fn cannot_save_but_everything_else(&mut self) {
        self.cannot_save();
        // Nothing but the records, the version and the lock.
        assert_eq!(fs::read_dir(&self.folder).unwrap().count(), self.saved.len() + 2);
        self.all_is_there();
        let revoked = self.saved.remove(0);
        assert!(self.store().remove(&Key([revoked; 32])).unwrap());
        self.all_is_there();
    }

    fn cannot_restore(&self) {
        let error = self.store().get(&Key([self.saved[0]; 32])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error:?}");
    }

    fn all_is_there(&self) {
        for key in 0..self.next {
            let expected = self.saved.contains(&key).then(|| Self::record(key));
            assert_eq!(self.store().get(&Key([key; 32])).unwrap(), expected);
        }
        assert_eq!(self.store().len(), self.saved.len() as u64);
    }

    fn reopen(&mut self) {
        self.store = None;
        let store = FolderStore::open(&self.folder).unwrap();
        assert!(store.damaged().is_empty());
        self.store = Some(store);
        self.all_is_there();
        self.save();
    }
}
