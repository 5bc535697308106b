//! Disks that fail, and disks that forget: every step of a store is one at which the disk
//! may be full or broken, or the power may be lost.
//!
//! After a power loss, a disk has what was synchronised. Of the rest it may have anything:
//! of the names that were given and taken away since the folder was synchronised any part,
//! of the bytes that were written since the file was synchronised any beginning, or the
//! right number of other bytes. This is less than file systems promise. The tests make all
//! of these disks, after each step, and open the store.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::FolderStore;
use super::files::Change;
use crate::quota::Quotas;
use crate::reference::Owner;
use crate::store::{Key, Record, SturdyStore};

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// Called before each step. Notes it, or fails it.
pub(super) fn about_to(change: Change<'_>) -> io::Result<()> {
    DISK.with_borrow_mut(|disk| disk.as_mut().map_or(Ok(()), |disk| disk.about_to(change)))
}

/// What the disk would have after a power loss.
#[derive(Default)]
struct Disk {
    folder: PathBuf,
    /// The names that last, with the file that each is for.
    names: BTreeMap<String, usize>,
    /// What has happened to the names since.
    renamed: Vec<NameChange>,
    files: Vec<File>,
    /// The names as the program sees them.
    seen: BTreeMap<String, usize>,
    steps: usize,
    /// The step that fails, and how.
    fails: Option<(usize, ErrorKind)>,
    /// For each step, what the disk may have before it.
    moments: Vec<Moment>,
    /// What must be there if the power is lost now.
    due: BTreeMap<u8, Due>,
}

#[derive(Clone)]
enum NameChange {
    Given(String, usize),
    Taken(String),
    Moved(String, String, usize),
}

#[derive(Clone, Default)]
struct File {
    /// What lasts.
    synced: Vec<u8>,
    /// What has been written since.
    written: Option<Vec<u8>>,
}

/// What is known of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// `put` has returned.
    There,
    /// `remove` has returned.
    Gone,
    /// Something has begun or failed.
    Either,
}

#[derive(Clone)]
struct Moment {
    names: BTreeMap<String, usize>,
    renamed: Vec<NameChange>,
    files: Vec<File>,
    due: BTreeMap<u8, Due>,
    step: String,
}

impl Disk {
    fn name(&self, path: &Path) -> Option<String> {
        let name = path.file_name()?.to_str()?.to_owned();
        (path.parent() == Some(&self.folder)).then_some(name)
    }

    fn note(&mut self, step: String) {
        self.moments.push(Moment {
            names: self.names.clone(),
            renamed: self.renamed.clone(),
            files: self.files.clone(),
            due: self.due.clone(),
            step,
        });
    }

    fn about_to(&mut self, change: Change<'_>) -> io::Result<()> {
        self.note(format!("before step {}, {change:?}", self.steps));
        self.steps += 1;
        let failed = self.fails.filter(|(step, _)| step + 1 == self.steps).map(|(_, kind)| kind);
        match change {
            Change::Write(path, content) => {
                // A file that cannot be written whole may be there in part.
                let content =
                    if failed.is_some() { &content[..content.len() / 2] } else { content };
                if failed.is_some() {
                    fs::write(path, content)?;
                }
                let Some(name) = self.name(path) else { panic!("a file elsewhere: {path:?}") };
                let file = *self.seen.entry(name.clone()).or_insert_with(|| {
                    self.files.push(File::default());
                    self.renamed.push(NameChange::Given(name, self.files.len() - 1));
                    self.files.len() - 1
                });
                self.files[file].written = Some(content.to_owned());
            }
            _ if failed.is_some() => {}
            Change::Sync(path) => {
                let file = self.seen[&self.name(path).unwrap()];
                let file = &mut self.files[file];
                file.synced = file.written.take().unwrap_or_default();
            }
            Change::Rename(from, to) => {
                let [from, to] = [from, to].map(|path| self.name(path).unwrap());
                let file = self.seen.remove(&from).unwrap();
                self.seen.insert(to.clone(), file);
                self.renamed.push(NameChange::Moved(from, to, file));
            }
            Change::Remove(path) => {
                let name = self.name(path).unwrap();
                if self.seen.remove(&name).is_some() {
                    self.renamed.push(NameChange::Taken(name));
                }
            }
            Change::SyncFolder(path) if path == self.folder => {
                self.names = self.seen.clone();
                self.renamed.clear();
            }
            Change::CreateFolder(path) => assert_eq!(path, self.folder),
            Change::SyncFolder(_) => {}
        }
        failed.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Moment {
    /// Every set of files that the disk may have.
    fn disks(&self) -> Vec<BTreeMap<String, Vec<u8>>> {
        let mut disks = Vec::new();
        for lasting in 0..1_u32 << self.renamed.len() {
            let mut names = self.names.clone();
            for (number, change) in self.renamed.iter().enumerate() {
                if lasting & 1 << number == 0 {
                    continue;
                }
                match change {
                    NameChange::Given(name, file) => names.insert(name.clone(), *file),
                    NameChange::Taken(name) => names.remove(name),
                    NameChange::Moved(from, to, file) => {
                        names.remove(from);
                        names.insert(to.clone(), *file)
                    }
                };
            }
            let mut some: Vec<BTreeMap<String, Vec<u8>>> = vec![BTreeMap::new()];
            for (name, file) in &names {
                let contents = self.files[*file].contents();
                some = some
                    .into_iter()
                    .flat_map(|files| {
                        contents.iter().map(move |content| {
                            let mut files = files.clone();
                            files.insert(name.clone(), content.clone());
                            files
                        })
                    })
                    .collect();
            }
            disks.extend(some);
        }
        disks
    }
}

impl File {
    fn contents(&self) -> Vec<Vec<u8>> {
        let Some(written) = &self.written else { return vec![self.synced.clone()] };
        let (length, half) = (written.len(), written.len() / 2);
        let torn = [&written[..half], &vec![0; length - half]].concat();
        vec![
            self.synced.clone(),
            Vec::new(),
            written[..half].to_owned(),
            written[..length.saturating_sub(1)].to_owned(),
            torn,
            vec![0; length],
            written.clone(),
        ]
    }
}

fn record(key: u8) -> Record {
    Record { owner: Some(Owner::new("alice")), kind: "kind".into(), state: vec![key; 40] }
}

fn due(key: u8, due: Due) {
    DISK.with_borrow_mut(|disk| disk.as_mut().unwrap().due.insert(key, due));
}

fn put(store: &FolderStore, key: u8) -> bool {
    due(key, Due::Either);
    let put = store.put(&Key([key; 32]), &record(key), &Quotas::default());
    if put.is_ok() {
        due(key, Due::There);
    }
    put.is_ok()
}

fn remove(store: &FolderStore, key: u8) -> bool {
    due(key, Due::Either);
    let removed = store.remove(&Key([key; 32]));
    if let Ok(found) = removed {
        assert!(found);
        due(key, Due::Gone);
    }
    removed.is_ok()
}

/// Opens a new store and uses it, on a disk where one step fails, or none.
fn use_store(fails: Option<(usize, ErrorKind)>) -> Disk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let disk = Disk { folder: path.clone(), fails, ..Disk::default() };
    DISK.with_borrow_mut(|there| *there = Some(disk));
    let mut known = BTreeMap::new();
    // What could not be opened can be opened afterwards.
    let store = FolderStore::open(&path).or_else(|_| FolderStore::open(&path)).unwrap();
    for key in [1, 2] {
        known.insert(key, put(&store, key));
    }
    for key in [1, 2] {
        if known[&key] && remove(&store, key) {
            known.insert(key, false);
            break;
        }
    }
    known.insert(3, put(&store, 3));
    drop(store);
    let mut disk = DISK.with_borrow_mut(Option::take).unwrap();
    disk.note("at the end".into());
    if fails.is_none() {
        assert_eq!(known, BTreeMap::from([(1, false), (2, true), (3, true)]));
    }
    // What the program can see without a power loss: nothing but what was promised, and
    // nothing that is damaged.
    let names = fs::read_dir(&path).unwrap();
    let files = names.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    check(&files.collect(), &disk.due, "without a power loss");
    disk
}

/// Opens a store on a disk that has these files, and compares it with what must be there.
fn check(files: &BTreeMap<String, Vec<u8>>, due: &BTreeMap<u8, Due>, when: &str) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let store = FolderStore::open(folder.path())
        .unwrap_or_else(|error| panic!("{when}: {error}, with {:?}", files.keys()));
    assert!(store.damaged().is_empty(), "{when}: {:?}", store.damaged());
    let mut count = 0;
    for (key, due) in due {
        let found = store.get(&Key([*key; 32])).unwrap();
        count += u64::from(found.is_some());
        match (due, found) {
            (Due::There | Due::Either, Some(found)) => assert_eq!(found, record(*key), "{when}"),
            (Due::Gone | Due::Either, None) => {}
            (due, found) => {
                panic!(
                    "{when}: record {key} is to be {due:?}, but {} is found",
                    match found {
                        None => "nothing",
                        Some(_) => "it",
                    }
                )
            }
        }
    }
    assert_eq!(store.len(), count, "{when}");
    store.put(&Key([9; 32]), &record(9), &Quotas::default()).unwrap();
}

#[test]
fn what_was_saved_is_there_after_a_power_loss_at_any_step() {
    let disk = use_store(None);
    assert!(disk.steps > 15, "only {} steps", disk.steps);
    let mut disks = 0;
    for moment in &disk.moments {
        for files in moment.disks() {
            check(&files, &moment.due, &moment.step);
            disks += 1;
        }
    }
    assert!(disks > 50, "only {disks} disks");
}

#[test]
fn a_step_that_fails_loses_nothing_that_was_saved() {
    let steps = use_store(None).steps;
    for step in 0..steps {
        let disk = use_store(Some((step, ErrorKind::StorageFull)));
        // Then the power is lost, too.
        let last = disk.moments.last().unwrap();
        for files in last.disks() {
            check(&files, &last.due, &format!("step {step} has failed, {}", last.step));
        }
    }
}
