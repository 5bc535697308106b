//! Files that are there whole or not at all, and last when a function has returned.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process;

use rustix::fs::{FlockOperation, flock};

/// One step by which the disk changes. A function of this file is made of several.
#[cfg_attr(not(test), expect(dead_code, reason = "tests look at them"))]
#[derive(Debug)]
pub(super) enum Change<'a> {
    /// A file is created, or emptied, and then written.
    Write(&'a Path, &'a [u8]),
    /// What is in a file is made to last.
    Sync(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
    CreateFolder(&'a Path),
    /// The names in a folder are made to last.
    SyncFolder(&'a Path),
}

/// Where tests let a step fail, and note what the disk may have forgotten after a power
/// loss.
#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "in tests it fails")]
fn about_to(_: Change<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use super::faults::about_to;

/// Creates a file that is new. If that fails, nothing is left of it.
pub(super) fn create(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let path = folder.join(name);
    let unfinished = folder.join(format!("{name}.new"));
    let created = write(&unfinished, content)
        .and_then(|()| rename(&unfinished, &path))
        .and_then(|()| sync_folder(folder));
    if created.is_err() {
        // Whichever there is. What cannot be removed now takes up room until the store
        // is opened again; a whole file under its own name will be found then, as if
        // it had been created and nobody had been told.
        let _ = remove(&unfinished);
        let _ = remove(&path);
    }
    created
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    about_to(Change::Write(path, content))?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    about_to(Change::Sync(path))?;
    file.sync_all()
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    about_to(Change::Rename(from, to))?;
    fs::rename(from, to)
}

/// What is in a file, but no more than so many bytes of it; none if there is no file.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Removes a file, for good once its folder is [synchronised](sync_folder). Returns
/// whether there was one.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    about_to(Change::Remove(path))?;
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the names in a folder last.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    about_to(Change::SyncFolder(folder))?;
    File::open(folder)?.sync_all()
}

/// Creates a folder for its user only, unless it is there.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    about_to(Change::CreateFolder(path))?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
            Some(parent) => sync_folder(parent),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A file that is locked by this process until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    process: u32,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would not unlock it while a child that was just forked, and is
        // about to run another program, has it open too. A child that goes on instead
        // leaves the lock to its parent.
        if self.process == process::id() {
            let _ = flock(&self.file, FlockOperation::NonBlockingUnlock);
        }
    }
}

/// Locks a file, which is created if it is not there; none if it is locked already, by this
/// process or another.
pub(super) fn lock(path: &Path) -> io::Result<Option<Lock>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { file, process: process::id() })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_when_it_is_dropped_even_while_a_child_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path).unwrap().unwrap();
        let of_child = held.file.try_clone().unwrap();
        assert!(lock(&path).unwrap().is_none());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
        drop(of_child);
    }
}
