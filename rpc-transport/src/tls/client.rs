//! Clients.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capnp_threads_core::transport::{PeerDescription, Transport};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::pki_types::ServerName;

use super::certificate::{Authorities, Certificate};
use super::handshake::{Describe, Handshake};
use super::opened::Opened;
use super::{HANDSHAKE_TIMEOUT, describe, provider, unusable};
use crate::socket::Socket;
use crate::{TcpOptions, failure};

/// Connects to servers over TLS. Clones share what is kept for resuming sessions.
///
/// ```
/// use capnp_threads_transport::Transport;
/// use capnp_threads_transport::tls::{Authorities, TlsClient};
///
/// fn connect() -> std::io::Result<Transport> {
///     let authorities = Authorities::from_pem_file("authorities.pem")?;
///     TlsClient::new(&authorities)?.connect("greeter.example", 7000)
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    tcp: TcpOptions,
    handshake_timeout: Duration,
    pub(super) describe: Describe,
    /// Whether servers are known by their names.
    pub(super) is_named: bool,
}

impl TlsClient {
    /// Believes servers whose certificate is for the name by which they are called, and
    /// was issued by one of the authorities. Servers do not learn who this client is.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if rustls cannot use this.
    pub fn new(authorities: &Authorities) -> io::Result<Self> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(Arc::clone(&authorities.0))
            .with_no_client_auth();
        Ok(Self::from_rustls(Arc::new(config)))
    }

    /// As [`new`](Self::new), and shows servers a certificate if they ask for one.
    ///
    /// Whether the server accepts it shows after this side's handshake: reading fails if it
    /// does not.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn mutual(authorities: &Authorities, own: &Certificate) -> io::Result<Self> {
        let resolver = rustls::sign::SingleCertAndKey::from(Arc::clone(&own.0));
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(Arc::clone(&authorities.0))
            .with_client_cert_resolver(Arc::new(resolver));
        Ok(Self::from_rustls(Arc::new(config)))
    }

    /// Uses a configuration that was made with rustls. Everything that this module says of
    /// versions and of what is verified is then up to that configuration.
    pub fn from_rustls(config: Arc<ClientConfig>) -> Self {
        TlsClient {
            config,
            tcp: TcpOptions::new(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            describe,
            is_named: true,
        }
    }

    /// Offers protocols to the server, the best first (ALPN). The one that it chose is in
    /// [`PeerDescription::protocol`]; a server that knows none of them ends the handshake,
    /// unless it does not know ALPN. Default: none are offered.
    pub fn protocols<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        let protocols = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec());
        Arc::make_mut(&mut self.config).alpn_protocols = protocols.collect();
        self
    }

    /// Sets of how many servers a session is kept, in memory, so that the next connection
    /// needs less computing; 0 to prove everything anew each time. The peer is then
    /// described as it was at the first connection. Default: 256.
    pub fn resumption(mut self, servers: usize) -> Self {
        Arc::make_mut(&mut self.config).resumption = match servers {
            0 => Resumption::disabled(),
            servers => Resumption::in_memory_sessions(servers),
        };
        self
    }

    /// Sets the options of sockets. Default: those of [`TcpOptions::new`].
    pub fn tcp_options(mut self, options: TcpOptions) -> Self {
        self.tcp = options;
        self
    }

    /// Sets how long a handshake may take, when the socket is connected. Default: 10
    /// seconds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Connects to a server by its name or address, which its certificate must be for.
    /// Blocks while the system keeps trying, which can be minutes, and for the handshake.
    ///
    /// # Errors
    /// As for [`TcpOptions::connect`]; [`io::ErrorKind::InvalidData`] if the server is not
    /// whom it has to be, or the handshake fails otherwise; [`io::ErrorKind::TimedOut`] if
    /// it takes too long.
    pub fn connect(&self, host: &str, port: u16) -> io::Result<Transport> {
        self.connect_to((host, port), host, None)
    }

    /// As [`connect`](Self::connect), within `timeout`. Looking the name up is not limited.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_timeout(
        &self,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> io::Result<Transport> {
        self.connect_to((host, port), host, Some(timeout))
    }

    /// Connects to a server whose certificate is for another name than that of the address.
    ///
    /// # Errors
    /// As for [`connect_timeout`](Self::connect_timeout).
    pub fn connect_to(
        &self,
        address: impl ToSocketAddrs,
        name: &str,
        timeout: Option<Duration>,
    ) -> io::Result<Transport> {
        self.open(address, name, timeout).map(Opened::into_transport)
    }

    pub(super) fn open(
        &self,
        address: impl ToSocketAddrs,
        name: &str,
        timeout: Option<Duration>,
    ) -> io::Result<Opened> {
        let name = self.server_name(name)?;
        let start = Instant::now();
        let (socket, address) = self.tcp.connect_socket(address, timeout)?;
        let rest = timeout.map_or(self.handshake_timeout, |timeout| {
            timeout.saturating_sub(start.elapsed()).min(self.handshake_timeout)
        });
        self.shake_hands(socket, PeerDescription::from_socket(address), name, rest)
            .map_err(|error| failure::connecting(address, error))
    }

    /// Makes a transport of a stream that is connected already. `name` is what the server's
    /// certificate must be for. The stream is made blocking and loses its time limits.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn transport(&self, stream: TcpStream, name: &str) -> io::Result<Transport> {
        let name = self.server_name(name)?;
        let peer = stream.peer_addr()?;
        let socket = self.tcp.prepare(stream)?;
        self.shake_hands(socket, PeerDescription::from_socket(peer), name, self.handshake_timeout)
            .map(Opened::into_transport)
            .map_err(|error| failure::connecting(peer, error))
    }

    fn shake_hands(
        &self,
        socket: OwnedFd,
        peer: PeerDescription,
        name: ServerName<'static>,
        timeout: Duration,
    ) -> io::Result<Opened> {
        let deadline = Instant::now().checked_add(timeout);
        self.begin(socket, peer, name)?.finish_by(deadline)
    }

    pub(super) fn begin(
        &self,
        socket: OwnedFd,
        peer: PeerDescription,
        name: ServerName<'static>,
    ) -> io::Result<Handshake> {
        let tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(unusable)?;
        Ok(Handshake::new(Socket::new(socket), tls, peer, self.describe))
    }

    fn server_name(&self, name: &str) -> io::Result<ServerName<'static>> {
        // The scope of a link-local address is of this machine alone.
        let bare = name.split_once('%').map_or(name, |(address, _)| address);
        let name = if self.is_named { bare } else { "unnamed.invalid" };
        ServerName::try_from(name.to_owned()).map_err(|_| {
            let reason = format!("{name:?} is neither a DNS name nor an IP address");
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })
    }
}
