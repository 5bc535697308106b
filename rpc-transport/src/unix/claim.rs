//! The right to listen at a path, which one server has at a time.
//!
//! Note [one server for a path]
//!
//! A server that was killed leaves its socket behind, which its successor has to remove
//! before it can bind its own. Two successors that look at the same moment both find
//! remains. The slower one would then remove the socket that the faster one has bound
//! since, and both would believe that they are reached at the path. Likewise a server
//! that has bound its socket, but does not listen yet, looks like remains.
//!
//! So a server locks a file beside the socket first. The system gives the lock up with
//! the process, however that ends; the file alone means nothing. Its owner removes it
//! while holding the lock, so whoever gets the lock looks once more whether the file
//! that is locked is the one that others will find.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::fork::Owner;

/// A path that is listened at. Dropping it removes the socket's file, unless another
/// server has taken its place, and lets others have the path.
pub(super) struct Claim {
    path: PathBuf,
    /// The socket that was bound.
    file: FileId,
    /// A child that was forked must not remove what its parent uses.
    owner: Owner,
    /// Given up last.
    _lock: Lock,
}

impl Claim {
    /// Binds `path` and listens there.
    pub(super) fn take(path: &Path) -> io::Result<(UnixListener, Self)> {
        let lock = Lock::take(path)?;
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)?
            }
            outcome => outcome?,
        };
        let file = FileId::at(path)?;
        let owner = Owner::this_process();
        Ok((listener, Claim { path: path.to_owned(), file, owner, _lock: lock }))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let is_ours = FileId::at(&self.path).is_ok_and(|file| file == self.file);
        if is_ours && self.owner.is_this_process() {
            // A file that cannot be removed is found stale by the next server.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file that is locked, and removed before it is unlocked.
pub(super) struct Lock {
    path: PathBuf,
    file: File,
    owner: Owner,
}

impl Lock {
    pub(super) fn take(socket: &Path) -> io::Result<Self> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        let flags = OFlags::CREATE | OFlags::RDWR;
        // Whoever may write to the directory may put something else there.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        loop {
            let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
            let file = File::from(file);
            let metadata = file.metadata()?;
            if !metadata.is_file() || metadata.len() > 0 {
                let what = format!("{} is not the lock of a server", path.display());
                return Err(in_use(&what));
            }
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(in_use("another server is listening there")),
                Err(error) => return Err(error.into()),
            }
            if FileId::at(&path).is_ok_and(|found| found == FileId::of(&metadata)) {
                return Ok(Lock { path, file, owner: Owner::this_process() });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let metadata = self.file.metadata();
        let ours = metadata.is_ok_and(|metadata| {
            FileId::at(&self.path).is_ok_and(|found| found == FileId::of(&metadata))
        });
        if ours && self.owner.is_this_process() {
            // One that stays is locked by the next server as well as a new one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }

    fn at(path: &Path) -> io::Result<Self> {
        Ok(FileId::of(&fs::symlink_metadata(path)?))
    }
}

fn in_use(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, what)
}

/// Removes the socket at `path` if nobody listens at it.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(in_use("there is a file of this name that is no socket"));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server whose backlog is full is alive, and not to be waited for.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => return Err(in_use("another server is listening there")),
    }
    // One that does not know the lock may have been faster.
    if FileId::at(path)? != FileId::of(&found) {
        return Err(in_use("another server has just taken this address"));
    }
    fs::remove_file(path)
}
