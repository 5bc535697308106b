//! Transports over Unix sockets. They carry file descriptors, too.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use capnp_threads_core::transport::{PeerDescription, Transport};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::accept::{Closer, Gate};
use crate::socket;

#[cfg(test)]
mod fd_tests;
#[cfg(test)]
mod tests;

/// Connects to the server that listens at `path`. Blocks while more clients are
/// waiting than the server's backlog holds.
///
/// # Errors
/// Nobody listens there, or the path is not accessible.
pub fn connect(path: impl AsRef<Path>) -> io::Result<Transport> {
    connect_within(path.as_ref(), None)
}

/// As [`connect`], but waits at most for `timeout`.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if the server's backlog stayed full; otherwise as
/// for [`connect`].
pub fn connect_timeout(path: impl AsRef<Path>, timeout: Duration) -> io::Result<Transport> {
    connect_within(path.as_ref(), Some(timeout))
}

fn connect_within(path: &Path, timeout: Option<Duration>) -> io::Result<Transport> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    // Unlike TCP, a Unix socket that has to wait cannot be asked whether it has
    // connected since; the system knows this limit instead.
    socket.set_write_timeout(timeout)?;
    loop {
        match socket.connect(&address) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    socket.set_write_timeout(None)?;
    Ok(socket::transport_with_fds(socket.into(), describe(Some(path))))
}

/// Makes a transport of a stream that is connected already. The stream is made
/// blocking and loses its time limits, which would end it in the middle of a
/// message.
///
/// # Errors
/// The stream is not connected any more.
pub fn from_stream(stream: UnixStream) -> io::Result<Transport> {
    let peer = stream.peer_addr()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok(socket::transport_with_fds(OwnedFd::from(stream), describe(peer.as_pathname())))
}

/// Two connected transports, for example for a parent and a child process.
///
/// # Errors
/// The system is out of file descriptors.
pub fn pair() -> io::Result<(Transport, Transport)> {
    let (left, right) = UnixStream::pair()?;
    Ok((from_stream(left)?, from_stream(right)?))
}

fn describe(path: Option<&Path>) -> PeerDescription {
    PeerDescription::from_address(match path {
        Some(path) => format!("unix:{}", path.display()),
        None => "unix:unnamed".to_owned(),
    })
}

/// Waits for clients. Dropping it removes the socket's file.
pub struct Listener {
    /// The file that we made, if we did. It is dropped before the socket is
    /// closed: the open socket keeps the file's inode from being used again, and
    /// nobody finds a file at which nobody listens.
    _file: Option<SocketFile>,
    inner: UnixListener,
    gate: Gate,
}

impl Listener {
    /// Listens at `path`.
    ///
    /// A socket at which nobody listens, as a server leaves behind that was
    /// killed, is replaced; anything else that exists there is left alone. Do not
    /// start two servers for one path at the same moment: if both find the same
    /// remains, one may replace the other's new socket.
    ///
    /// Who may connect is up to the permissions of the directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if something is there that is in use or is no
    /// socket; or the path is too long or not accessible.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let inner = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)?
            }
            outcome => outcome?,
        };
        let id = FileId::of(path)?;
        Self::new(inner, Some(SocketFile { path: path.to_owned(), id }))
    }

    /// Uses a socket that listens already, for example one that was inherited
    /// from a supervisor, and makes it non-blocking. Its file is not removed in
    /// the end.
    ///
    /// # Errors
    /// The system is out of file descriptors.
    pub fn from_std(inner: UnixListener) -> io::Result<Self> {
        Self::new(inner, None)
    }

    fn new(inner: UnixListener, file: Option<SocketFile>) -> io::Result<Self> {
        inner.set_nonblocking(true)?;
        Ok(Listener { _file: file, inner, gate: Gate::new()? })
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] after a [`Closer`] closed this listener.
    /// Every other error concerns one connection, or a lack of resources that
    /// may pass: report it and call this again. After a lack of resources the
    /// next call pauses for 100 ms first, so that a loop does not spin.
    pub fn accept(&self) -> io::Result<Transport> {
        let (stream, _) = self.gate.accept(self.inner.as_fd(), || self.inner.accept())?;
        from_stream(stream)
    }

    /// The path of the socket; `None` if it has none.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn local_path(&self) -> io::Result<Option<PathBuf>> {
        Ok(self.inner.local_addr()?.as_pathname().map(Path::to_owned))
    }

    /// A handle that closes this listener from any thread.
    pub fn closer(&self) -> Closer {
        self.gate.closer()
    }
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// A socket's file, removed with it unless another server has taken its place.
struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if FileId::of(&self.path).is_ok_and(|id| id == self.id) {
            // A file that cannot be removed is found stale by the next server.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket at `path` if nobody listens at it.
fn remove_stale(path: &Path) -> io::Result<()> {
    let in_use =
        |what| io::Error::new(io::ErrorKind::AddrInUse, format!("{}: {what}", path.display()));
    let id = FileId::of(path)?;
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(in_use("there is a file of this name that is no socket"));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server whose backlog is full is alive, and not to be waited for.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => return Err(in_use("another server is listening there")),
    }
    if FileId::of(path)? != id {
        return Err(in_use("another server has just taken this address"));
    }
    fs::remove_file(path)
}
