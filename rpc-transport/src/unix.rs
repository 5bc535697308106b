//! Transports over Unix sockets.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rpc_core::transport::{PeerDescription, Transport};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::accept::{Closer, Gate};
use crate::socket;

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
    Ok(socket::transport(socket.into(), describe(Some(path))))
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
    Ok(socket::transport(OwnedFd::from(stream), describe(peer.as_pathname())))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::testing::{self, Blocked, TemporaryDirectory};

    #[test]
    fn messages_pass_both_ways() {
        let directory = TemporaryDirectory::new("round-trip");
        let path = directory.file("socket");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(listener.local_path().unwrap().unwrap(), path);
        let client = connect(&path).unwrap();
        assert_eq!(client.control.peer().address, format!("unix:{}", path.display()));
        let server = listener.accept().unwrap();
        assert_eq!(server.control.peer().address, "unix:unnamed");
        testing::check_connected(client, server);
        let (left, right) = pair().unwrap();
        testing::check_connected(left, right);
    }

    #[test]
    fn shutdown_wakes_whoever_waits() {
        let (left, right) = pair().unwrap();
        testing::check_shutdown_wakes_the_reader(left, right);
        let (left, right) = pair().unwrap();
        testing::check_shutdown_wakes_the_writer(left, right);
    }

    #[test]
    fn a_lost_peer_is_noticed() {
        let (left, right) = pair().unwrap();
        testing::check_a_lost_peer_is_noticed(left, right);
    }

    #[test]
    fn dropping_a_listener_removes_its_file() {
        let directory = TemporaryDirectory::new("drop");
        let path = directory.file("socket");
        drop(Listener::bind(&path).unwrap());
        assert!(!path.exists());
        assert_eq!(connect(&path).err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn dropping_a_listener_leaves_the_file_of_its_successor() {
        let directory = TemporaryDirectory::new("successor");
        let path = directory.file("socket");
        let first = Listener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = Listener::bind(&path).unwrap();
        drop(first);
        let client = connect(&path).unwrap();
        testing::check_connected(client, second.accept().unwrap());
    }

    #[test]
    fn remains_of_a_dead_server_are_replaced() {
        let directory = TemporaryDirectory::new("stale");
        let path = directory.file("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        assert_eq!(connect(&path).err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        let listener = Listener::bind(&path).unwrap();
        let client = connect(&path).unwrap();
        testing::check_connected(client, listener.accept().unwrap());
    }

    #[test]
    fn whatever_is_in_use_or_no_socket_is_left_alone() {
        let directory = TemporaryDirectory::new("in-use");
        let path = directory.file("socket");
        let listener = Listener::bind(&path).unwrap();
        let failure = Listener::bind(&path).err().unwrap();
        assert_eq!(failure.kind(), io::ErrorKind::AddrInUse);
        assert!(failure.to_string().contains("another server is listening"), "{failure}");
        // The attempt has left a client behind that is gone already.
        assert!(listener.accept().unwrap().reader.read().unwrap().is_none());
        let client = connect(&path).unwrap();
        testing::check_connected(client, listener.accept().unwrap());

        let file = directory.file("file");
        fs::write(&file, "precious").unwrap();
        let failure = Listener::bind(&file).err().unwrap();
        assert!(failure.to_string().contains("no socket"), "{failure}");
        assert_eq!(fs::read(&file).unwrap(), b"precious");

        let datagrams = directory.file("datagrams");
        let _other = UnixDatagram::bind(&datagrams).unwrap();
        assert_eq!(Listener::bind(&datagrams).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert!(datagrams.exists());
    }

    #[test]
    fn a_server_with_a_full_backlog_is_in_use() {
        let directory = TemporaryDirectory::new("backlog");
        let path = directory.file("socket");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let mut clients = Vec::new();
        let limit = Duration::from_millis(1);
        let failure = loop {
            match connect_timeout(&path, limit) {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
        };
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
        assert!(!clients.is_empty());
        assert_eq!(Listener::bind(&path).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        // Once it accepts, there is room again, and no time limit is left over.
        let listener = Listener::from_std(OwnedFd::from(socket).into()).unwrap();
        let server = listener.accept().unwrap();
        testing::check_connected(clients.remove(0), server);
    }

    #[test]
    fn a_stream_with_a_time_limit_becomes_one_without() {
        let (left, right) = UnixStream::pair().unwrap();
        left.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        left.set_nonblocking(true).unwrap();
        let (left, right) = (from_stream(left).unwrap(), from_stream(right).unwrap());
        testing::check_shutdown_wakes_the_reader(left, right);
    }

    #[test]
    fn closing_wakes_a_thread_that_accepts() {
        let directory = TemporaryDirectory::new("close");
        let listener = Listener::bind(directory.file("socket")).unwrap();
        let closer = listener.closer();
        let accepting = Blocked::spawn(move || listener.accept().err().unwrap().kind());
        closer.close();
        assert_eq!(accepting.join(), io::ErrorKind::NotConnected);
    }
}
