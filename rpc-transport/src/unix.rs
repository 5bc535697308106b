//! Transports over Unix sockets, which carry file descriptors, too.
//!
//! A socket has a path, or on Linux a name in the abstract namespace, where no file is
//! needed and nothing is left behind.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capnp_threads_core::transport::{PeerDescription, Transport};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::accept::{self, Closer, Gate};
use crate::{failure, socket};

mod claim;
#[cfg(test)]
mod fd_tests;
#[cfg(test)]
mod tests;

use self::claim::Claim;

/// Connects to the server that listens at `path`. Blocks while more clients wait than
/// the server's backlog holds.
///
/// # Errors
/// [`io::ErrorKind::ConnectionRefused`] if nobody listens there, whether or not there is
/// a file of this name; otherwise, the path is not accessible.
pub fn connect(path: impl AsRef<Path>) -> io::Result<Transport> {
    connect_to(Name::Path(path.as_ref()), None)
}

/// As [`connect`], but waits no longer than `timeout`.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if the server's backlog stayed full; otherwise as for
/// [`connect`].
pub fn connect_timeout(path: impl AsRef<Path>, timeout: Duration) -> io::Result<Transport> {
    connect_to(Name::Path(path.as_ref()), Some(timeout))
}

/// As [`connect`], to a name in the abstract namespace.
///
/// # Errors
/// As for [`connect`]; [`io::ErrorKind::Unsupported`] on systems other than Linux.
pub fn connect_abstract(name: impl AsRef<str>) -> io::Result<Transport> {
    connect_to(Name::Abstract(name.as_ref()), None)
}

/// As [`connect_timeout`], to a name in the abstract namespace.
///
/// # Errors
/// As for [`connect_timeout`]; [`io::ErrorKind::Unsupported`] on systems other than
/// Linux.
pub fn connect_abstract_timeout(name: impl AsRef<str>, timeout: Duration) -> io::Result<Transport> {
    connect_to(Name::Abstract(name.as_ref()), Some(timeout))
}

/// What a socket is called.
#[derive(Clone, Copy)]
enum Name<'a> {
    Path(&'a Path),
    Abstract(&'a str),
}

impl Name<'_> {
    fn address(self) -> io::Result<SockAddr> {
        match self {
            Name::Path(path) => SockAddr::unix(path),
            Name::Abstract(_) if !cfg!(any(target_os = "linux", target_os = "android")) => {
                let reason = "this system has no abstract sockets; use a path";
                Err(io::Error::new(io::ErrorKind::Unsupported, reason))
            }
            // An address that begins with a NUL is an abstract one, and one that has
            // nothing behind it asks for any.
            Name::Abstract("") => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is missing"))
            }
            Name::Abstract(name) => SockAddr::unix(format!("\0{name}")),
        }
    }
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Path(path) => write!(f, "unix:{}", path.display()),
            Name::Abstract(name) => write!(f, "unix-abstract:{name}"),
        }
    }
}

fn connect_to(name: Name<'_>, timeout: Option<Duration>) -> io::Result<Transport> {
    let socket = connected(name, timeout).map_err(|error| match error.kind() {
        // A server that is gone is the same to its clients, whether it has removed its
        // file or not.
        io::ErrorKind::NotFound => {
            let reason = io::Error::new(io::ErrorKind::ConnectionRefused, error);
            failure::connecting(name, reason)
        }
        _ => failure::connecting(name, error),
    })?;
    Ok(socket::transport_with_fds(socket.into(), PeerDescription::from_address(name.to_string())))
}

fn connected(name: Name<'_>, timeout: Option<Duration>) -> io::Result<Socket> {
    let address = name.address()?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let start = Instant::now();
    loop {
        // Unlike TCP, a Unix socket that had to wait cannot be asked later whether it has
        // connected. It obeys this limit instead.
        let rest = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        socket.set_nonblocking(rest == Some(Duration::ZERO))?;
        socket.set_write_timeout(rest.and_then(system_limit))?;
        match socket.connect(&address) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(None)?;
    Ok(socket)
}

/// Systems count this limit in microseconds, take 0 for none, and do not accept every
/// long one.
fn system_limit(rest: Duration) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    (rest < LONGEST).then(|| rest.max(Duration::from_micros(1)))
}

/// Makes a transport of a stream that is connected. The stream is made blocking and
/// loses its time limits, which would end it in the middle of a message.
///
/// # Errors
/// The stream is not connected any more.
pub fn from_stream(stream: UnixStream) -> io::Result<Transport> {
    let peer = describe(&stream.peer_addr()?);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok(socket::transport_with_fds(OwnedFd::from(stream), peer))
}

/// Two connected transports, for example for a parent and the program that it starts.
///
/// # Errors
/// The system is out of file descriptors.
pub fn pair() -> io::Result<(Transport, Transport)> {
    let (left, right) = UnixStream::pair()?;
    Ok((from_stream(left)?, from_stream(right)?))
}

fn describe(address: &SocketAddr) -> PeerDescription {
    PeerDescription::from_address(match (address.as_pathname(), abstract_name(address)) {
        (Some(path), _) => Name::Path(path).to_string(),
        (None, Some(name)) => Name::Abstract(&name).to_string(),
        (None, None) => "unix:unnamed".to_owned(),
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name(address: &SocketAddr) -> Option<String> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    Some(String::from_utf8_lossy(address.as_abstract_name()?).into_owned())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name(_: &SocketAddr) -> Option<String> {
    None
}

/// Waits for clients. Dropping it removes the socket's file.
///
/// ```
/// use capnp_threads_transport::unix;
///
/// # fn main() -> std::io::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("unix-listener-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("socket");
/// let listener = unix::Listener::bind(&path)?;
/// let client = unix::connect(&path)?;
/// let server = listener.accept()?;
/// # drop((client, server, listener));
/// # std::fs::remove_dir(folder)?;
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    /// The right to the path, if this listener has taken it. It is given up before the
    /// socket is closed: the open socket keeps the file's inode from being used again,
    /// and nobody finds a file at which nobody listens.
    _claim: Option<Claim>,
    inner: UnixListener,
    gate: Gate,
}

impl Listener {
    /// Listens at `path`. Of any number of programs that do so at once, one succeeds and
    /// can be reached.
    ///
    /// A socket at which nobody listens, as a server that was killed leaves behind, is
    /// replaced. Anything else that is there is left alone.
    ///
    /// As long as it listens, it holds a lock on a file beside the socket, whose name has
    /// `.lock` at the end. Servers that do not use this crate do not know that lock: do
    /// not start one for the same path at the same moment.
    ///
    /// The permissions of the directory decide who may connect.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if the path is in use, or belongs to a file that is no
    /// socket; otherwise, it is too long or not accessible.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let listen = || {
            let (inner, claim) = Claim::take(path)?;
            Self::new(inner, Some(claim))
        };
        listen().map_err(|error| failure::listening(Name::Path(path), error))
    }

    /// Listens at a name in the abstract namespace. Every program of this machine may
    /// connect, unless it is in another network namespace.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if somebody listens there, and
    /// [`io::ErrorKind::Unsupported`] on systems other than Linux.
    pub fn bind_abstract(name: impl AsRef<str>) -> io::Result<Self> {
        /// Connections that wait to be accepted, as with the standard library.
        const BACKLOG: i32 = 128;
        let name = Name::Abstract(name.as_ref());
        let listen = || {
            let address = name.address()?;
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&address)?;
            socket.listen(BACKLOG)?;
            Self::new(OwnedFd::from(socket).into(), None)
        };
        listen().map_err(|error| failure::listening(name, error))
    }

    /// Uses a socket that listens already, and makes it non-blocking. Its file is not
    /// removed in the end. See [`addr::Listener::inherited`](crate::Listener::inherited)
    /// for sockets that a supervisor has handed over.
    ///
    /// # Errors
    /// The system is out of file descriptors.
    pub fn from_std(inner: UnixListener) -> io::Result<Self> {
        Self::new(inner, None)
    }

    fn new(inner: UnixListener, claim: Option<Claim>) -> io::Result<Self> {
        inner.set_nonblocking(true)?;
        Ok(Listener { _claim: claim, inner, gate: Gate::new()? })
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] after a [`Closer`] closed this listener. Every
    /// other error concerns one client, or a lack of resources that may pass: report it
    /// and call this again. After a lack of resources the next call pauses for 100 ms
    /// first, so that a loop does not spin.
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

    /// The name of the socket in the abstract namespace; `None` if it has none.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn local_abstract_name(&self) -> io::Result<Option<String>> {
        Ok(abstract_name(&self.inner.local_addr()?))
    }

    /// A handle that closes this listener from any thread.
    pub fn closer(&self) -> Closer {
        self.gate.closer()
    }
}

accept::listens!(Listener);
