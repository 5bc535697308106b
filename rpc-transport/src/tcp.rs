//! Transports over TCP.
//!
//! Every socket gets `TCP_NODELAY`: a batch of messages is handed over in one
//! piece, so that there is nothing to gain from waiting for more. The other
//! options are in [`TcpOptions`]; the functions of this module use its default.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use capnp_threads_core::transport::{PeerDescription, Transport};
#[cfg(all(feature = "tls", unix))]
use rustix::fd::BorrowedFd;
use rustix::fd::{AsFd, OwnedFd};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::accept::{self, Closer, Gate};
use crate::{failure, socket};

#[cfg(test)]
mod tests;

/// Connects to a server, like `TcpOptions::new().connect(server)`.
///
/// # Errors
/// As for [`TcpOptions::connect`].
pub fn connect(server: impl ToSocketAddrs) -> io::Result<Transport> {
    TcpOptions::new().connect(server)
}

/// Connects to a server, like `TcpOptions::new().connect_timeout(server, timeout)`.
///
/// # Errors
/// As for [`TcpOptions::connect_timeout`].
pub fn connect_timeout(server: impl ToSocketAddrs, timeout: Duration) -> io::Result<Transport> {
    TcpOptions::new().connect_timeout(server, timeout)
}

/// Makes a transport of a stream that is connected already, like
/// `TcpOptions::new().transport(stream)`.
///
/// # Errors
/// As for [`TcpOptions::transport`].
pub fn from_stream(stream: TcpStream) -> io::Result<Transport> {
    TcpOptions::new().transport(stream)
}

/// How sockets are set up. What is not mentioned stays as the operating system
/// has it.
///
/// ```
/// use std::time::Duration;
/// use capnp_threads_transport::TcpOptions;
///
/// # fn main() -> std::io::Result<()> {
/// let options = TcpOptions::new().keepalive(Duration::from_secs(60), Duration::from_secs(10), 3);
/// let listener = options.listen("127.0.0.1:0")?;
/// let client = options.connect_timeout(listener.local_addr()?, Duration::from_secs(10))?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TcpOptions {
    keepalive: Option<TcpKeepalive>,
    user_timeout: Option<Duration>,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
    backlog: Option<u16>,
}

/// Connections that wait to be accepted, unless [`TcpOptions::backlog`] says
/// otherwise. Systems lower it to their own limit.
const BACKLOG: u16 = 1024;

/// Stands for no timeout where one must be given. Systems give up earlier by
/// themselves.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The most that Linux accepts for both times of keepalive, in seconds.
const MOST_KEEPALIVE_SECONDS: u64 = 32_767;

/// The most probes that Linux accepts.
const MOST_KEEPALIVE_PROBES: u32 = 127;

/// The longest user timeout that Linux accepts, a little less than 2^31 milliseconds.
const MOST_USER_TIMEOUT: Duration = Duration::from_secs(2_147_483);

impl TcpOptions {
    /// The defaults: nothing but `TCP_NODELAY`.
    pub fn new() -> Self {
        TcpOptions::default()
    }

    /// Asks a silent peer for a sign of life after `idle`, then every `interval`,
    /// and ends the connection with an error after `probes` of them went
    /// unanswered. Without it, a peer that vanished without a word while nothing
    /// is being sent to it is never noticed.
    ///
    /// Systems count in whole seconds: fractions are rounded up, and what is less or
    /// more than they accept becomes the least and the most, which is 1 second and 9
    /// hours, and 1 and 127 probes.
    pub fn keepalive(mut self, idle: Duration, interval: Duration, probes: u32) -> Self {
        let seconds = |time: Duration| {
            let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
            Duration::from_secs(seconds.clamp(1, MOST_KEEPALIVE_SECONDS))
        };
        let keepalive = TcpKeepalive::new().with_time(seconds(idle));
        let keepalive = keepalive.with_interval(seconds(interval));
        self.keepalive = Some(keepalive.with_retries(probes.clamp(1, MOST_KEEPALIVE_PROBES)));
        self
    }

    /// Ends the connection with an error when the peer's system has not
    /// acknowledged what was sent for this long (`TCP_USER_TIMEOUT`, in
    /// milliseconds, at least 1). This includes a peer that has stopped reading.
    ///
    /// Systems other than Linux do not know this option; there, connecting and
    /// accepting fail with [`io::ErrorKind::Unsupported`].
    pub fn user_timeout(mut self, timeout: Duration) -> Self {
        // To systems, 0 would mean that there is no limit of ours.
        self.user_timeout = Some(timeout.clamp(Duration::from_millis(1), MOST_USER_TIMEOUT));
        self
    }

    /// The size of the system's send buffer in bytes, instead of letting the
    /// system adapt it.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// The size of the system's receive buffer in bytes, instead of letting the
    /// system adapt it.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// How many connections may wait to be accepted: 1024 unless set. Systems
    /// lower it to their own limit.
    pub fn backlog(mut self, connections: u16) -> Self {
        self.backlog = Some(connections);
        self
    }

    /// Connects to a server. If its name stands for several addresses they are
    /// tried in turn. Blocks for as long as the system keeps trying, which can
    /// be minutes.
    ///
    /// # Errors
    /// The name is unknown, or what the attempt at the last address met, which the error
    /// names. [`io::ErrorKind::ConnectionRefused`] if nobody listens there.
    pub fn connect(&self, server: impl ToSocketAddrs) -> io::Result<Transport> {
        self.connect_within(server, None)
    }

    /// Connects to a server within `timeout`, in which the attempts at the
    /// addresses that its name stands for share. Looking the name up is not
    /// limited.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if the last address did not answer in time;
    /// otherwise as for [`connect`](Self::connect).
    pub fn connect_timeout(
        &self,
        server: impl ToSocketAddrs,
        timeout: Duration,
    ) -> io::Result<Transport> {
        self.connect_within(server, Some(timeout))
    }

    fn connect_within(
        &self,
        server: impl ToSocketAddrs,
        timeout: Option<Duration>,
    ) -> io::Result<Transport> {
        try_each(server, timeout, |address, timeout| self.connect_to(address, timeout))
    }

    /// As [`connect`](Self::connect) or [`connect_timeout`](Self::connect_timeout), but
    /// returns the socket, which blocks, and its address.
    #[cfg(all(feature = "tls", unix))]
    pub(crate) fn connect_socket(
        &self,
        server: impl ToSocketAddrs,
        timeout: Option<Duration>,
    ) -> io::Result<(OwnedFd, SocketAddr)> {
        try_each(server, timeout, |address, timeout| {
            Ok((self.connect_stream(address, timeout)?.into(), address))
        })
    }

    fn connect_to(&self, address: SocketAddr, timeout: Duration) -> io::Result<Transport> {
        let connect = || self.set_up(connected(self.socket(address)?, address, timeout)?, address);
        connect().map_err(|error| failure::connecting(address, error))
    }

    /// Connects to one address within `timeout`, for protocols other than that of a
    /// [`Transport`].
    ///
    /// # Errors
    /// As for [`connect_timeout`](Self::connect_timeout).
    pub fn connect_stream(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let connect = || {
            let socket = connected(self.socket(address)?, address, timeout)?;
            self.set_options(&socket)?;
            Ok(socket.into())
        };
        connect().map_err(|error| failure::connecting(address, error))
    }

    /// A socket that is neither connected nor listening. The sizes of buffers
    /// only take full effect when they are set on it.
    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        self.set_buffers(&socket)?;
        Ok(socket)
    }

    fn set_buffers(&self, socket: &Socket) -> io::Result<()> {
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }

    /// Sets what concerns one connection.
    fn set_options(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = &self.keepalive {
            socket.set_tcp_keepalive(keepalive)?;
        }
        if let Some(timeout) = self.user_timeout {
            set_user_timeout(socket, timeout)?;
        }
        Ok(())
    }

    fn set_up(&self, socket: Socket, peer: SocketAddr) -> io::Result<Transport> {
        self.set_options(&socket)?;
        Ok(socket::transport(socket.into(), PeerDescription::from_socket(peer)))
    }

    /// Makes a transport of a stream that is connected already. The stream is
    /// made blocking and loses its time limits, which would end it in the middle
    /// of a message.
    ///
    /// # Errors
    /// The stream is not connected any more, or is connected to itself, or an option
    /// cannot be set.
    pub fn transport(&self, stream: TcpStream) -> io::Result<Transport> {
        let peer = stream.peer_addr()?;
        if stream.local_addr()? == peer {
            return Err(failure::connecting(peer, itself()));
        }
        let socket = self.prepare(stream)?;
        Ok(socket::transport(socket, PeerDescription::from_socket(peer)))
    }

    /// Sets up a stream that is connected already.
    pub(crate) fn prepare(&self, stream: TcpStream) -> io::Result<OwnedFd> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        let socket = Socket::from(OwnedFd::from(stream));
        self.set_buffers(&socket)?;
        self.set_options(&socket)?;
        Ok(socket.into())
    }

    /// Listens at an address; port 0 lets the system choose a port. If the name
    /// stands for several addresses, the first that works is taken.
    ///
    /// # Errors
    /// The name is unknown, or no address is one of this machine that is free.
    pub fn listen(&self, address: impl ToSocketAddrs) -> io::Result<Listener> {
        let mut failed = no_address();
        for address in address.to_socket_addrs()? {
            match self.listen_at(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = failure::listening(address, error),
            }
        }
        Err(failed)
    }

    /// Listens at a port of every address of this machine, IPv6 and IPv4 alike,
    /// as far as it has both.
    ///
    /// # Errors
    /// The port is taken.
    pub fn listen_everywhere(&self, port: u16) -> io::Result<Listener> {
        let listener = self.listen_at((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                return Err(error);
            }
            self.listen_at((Ipv4Addr::UNSPECIFIED, port).into())
        });
        listener.map_err(|error| failure::listening(format_args!("*:{port}"), error))
    }

    fn listen_at(&self, address: SocketAddr) -> io::Result<Listener> {
        let socket = self.socket(address)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            // What this is without being set differs between systems.
            socket.set_only_v6(false)?;
        }
        // Connections of a predecessor that linger in TIME_WAIT do not matter.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(self.backlog.unwrap_or(BACKLOG).into())?;
        Listener::new(socket.into(), self.clone())
    }
}

/// Tries the addresses for which a name stands in turn. They share the time.
fn try_each<T>(
    server: impl ToSocketAddrs,
    timeout: Option<Duration>,
    connect: impl Fn(SocketAddr, Duration) -> io::Result<T>,
) -> io::Result<T> {
    let addresses: Vec<SocketAddr> = server.to_socket_addrs()?.collect();
    let start = Instant::now();
    let mut failure = no_address();
    for (index, address) in addresses.iter().enumerate() {
        let share = timeout.map_or(FOREVER, |timeout| {
            let attempts = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            timeout.saturating_sub(start.elapsed()) / attempts
        });
        match connect(*address, share) {
            Ok(connected) => return Ok(connected),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

// Note [connected to itself]
//
// The system chooses the port from which a socket connects. If it chooses the very port
// to which the socket is to connect, and nobody listens there, TCP takes the dial for one
// of two that cross, and connects the socket to itself. What is sent would come back, and
// a client would be answered by itself.

/// Connects a socket to somebody else.
fn connected(socket: Socket, to: SocketAddr, timeout: Duration) -> io::Result<Socket> {
    socket.connect_timeout(&to.into(), timeout)?;
    // See Note [connected to itself].
    let own = socket.local_addr()?.as_socket();
    // A connection that is lost already has no peer's address, and is not one to itself.
    if socket.peer_addr().is_ok_and(|peer| peer.as_socket() == own) {
        return Err(itself());
    }
    Ok(socket)
}

fn itself() -> io::Error {
    let reason = "nobody listens there, and the socket was connected to itself";
    io::Error::new(io::ErrorKind::ConnectionRefused, reason)
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name stands for no address")
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(socket: &Socket, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_user_timeout(_: &Socket, _: Duration) -> io::Result<()> {
    let reason = "this system has no TCP_USER_TIMEOUT; leave TcpOptions::user_timeout out";
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}

/// Waits for clients.
///
/// ```
/// use capnp_threads_transport::tcp;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = tcp::Listener::bind("127.0.0.1:0")?;
/// let client = tcp::connect(listener.local_addr()?)?;
/// let server = listener.accept()?;
/// # drop((client, server));
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    inner: TcpListener,
    gate: Gate,
    options: TcpOptions,
}

impl Listener {
    /// Listens at an address, like `TcpOptions::new().listen(address)`.
    ///
    /// # Errors
    /// As for [`TcpOptions::listen`].
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        TcpOptions::new().listen(address)
    }

    /// Uses a socket that listens already, for example one that was inherited
    /// from a supervisor, and makes it non-blocking.
    ///
    /// # Errors
    /// The system is out of file descriptors.
    pub fn from_std(inner: TcpListener, options: TcpOptions) -> io::Result<Self> {
        Self::new(inner, options)
    }

    fn new(inner: TcpListener, options: TcpOptions) -> io::Result<Self> {
        inner.set_nonblocking(true)?;
        Ok(Listener { inner, gate: Gate::new()?, options })
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] after a [`Closer`] closed this listener.
    /// Every other error concerns one connection, or a lack of resources that
    /// may pass: report it and call this again. After a lack of resources the
    /// next call pauses for 100 ms first, so that a loop does not spin.
    pub fn accept(&self) -> io::Result<Transport> {
        let (stream, peer) = self.accept_socket()?;
        self.options.set_up(stream, peer)
    }

    /// Waits for the next client, for protocols other than that of a [`Transport`].
    /// Returns its socket, which blocks, and its address.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_stream(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self.accept_socket()?;
        self.options.set_options(&socket)?;
        Ok((socket.into(), peer))
    }

    fn accept_socket(&self) -> io::Result<(Socket, SocketAddr)> {
        let (stream, peer) = self.gate.accept(self.inner.as_fd(), || self.inner.accept())?;
        Ok((taken(stream)?, peer))
    }

    /// Takes a client that has come, if there is one, with its socket set up.
    #[cfg(all(feature = "tls", unix))]
    pub(crate) fn accept_now(&self) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
        match self.inner.accept() {
            Ok((stream, peer)) => {
                let socket = taken(stream)?;
                self.options.set_options(&socket)?;
                Ok(Some((socket.into(), peer)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is readable when a client has come, and what is when the listener was closed.
    #[cfg(all(feature = "tls", unix))]
    pub(crate) fn readiness(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.inner.as_fd(), self.gate.wake())
    }

    /// The address with the port that the system chose.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// A handle that closes this listener from any thread.
    pub fn closer(&self) -> Closer {
        self.gate.closer()
    }
}

/// The socket of a client that was taken.
fn taken(stream: TcpStream) -> io::Result<Socket> {
    // Some systems hand the listener's mode down. Buffer sizes are handed down by all.
    stream.set_nonblocking(false)?;
    Ok(OwnedFd::from(stream).into())
}

accept::listens!(Listener);
