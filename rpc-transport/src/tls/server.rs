//! Servers.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capnp_threads_core::transport::{PeerDescription, Transport};
use rustls::server::{
    NoServerSessionStorage, ServerConfig, ServerConnection, ServerSessionMemoryCache,
    WebPkiClientVerifier,
};

use super::certificate::{Authorities, Certificate};
use super::handshake::{Describe, Handshake};
use super::listener::Listener;
use super::{HANDSHAKE_TIMEOUT, describe, provider, unusable};
use crate::socket::Socket;
use crate::{TcpOptions, addr, tcp};

/// The handshakes of a listener at once, unless it is set.
const HANDSHAKES: usize = 256;

/// Accepts clients over TLS.
///
/// ```
/// use capnp_threads_transport::Transport;
/// use capnp_threads_transport::tls::{Certificate, TlsServer};
///
/// fn accept_one() -> std::io::Result<Transport> {
///     let own = Certificate::from_pem_files("chain.pem", "key.pem")?;
///     TlsServer::new(&own)?.listen("0.0.0.0:7000")?.accept()
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    tcp: TcpOptions,
    pub(super) handshake_timeout: Duration,
    pub(super) handshakes: usize,
    pub(super) describe: Describe,
    /// Whether clients say something before the first message.
    pub(super) expects_first: bool,
}

impl TlsServer {
    /// Shows everybody a certificate, and does not ask who the clients are.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if rustls cannot use this.
    pub fn new(own: &Certificate) -> io::Result<Self> {
        let resolver = rustls::sign::SingleCertAndKey::from(Arc::clone(&own.0));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        Ok(Self::from_rustls(Arc::new(config)))
    }

    /// As [`new`](Self::new), and accepts only clients with a certificate of one of the
    /// authorities.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn mutual(own: &Certificate, clients: &Authorities) -> io::Result<Self> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&clients.0), provider())
                .build()
                .map_err(unusable)?;
        let resolver = rustls::sign::SingleCertAndKey::from(Arc::clone(&own.0));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(resolver));
        Ok(Self::from_rustls(Arc::new(config)))
    }

    /// Uses a configuration that was made with rustls. Everything that this module says of
    /// versions and of what is verified is then up to that configuration.
    pub fn from_rustls(config: Arc<ServerConfig>) -> Self {
        TlsServer {
            config,
            tcp: TcpOptions::new(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            handshakes: HANDSHAKES,
            describe,
            expects_first: false,
        }
    }

    /// Sets the protocols of which a client has to offer one, the best first (ALPN). The one
    /// that was chosen is in [`PeerDescription::protocol`]. Clients that do not offer any are
    /// let in. Default: what clients offer is ignored.
    pub fn protocols<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        let protocols = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec());
        Arc::make_mut(&mut self.config).alpn_protocols = protocols.collect();
        self
    }

    /// Sets how many sessions are kept, in memory, so that the next connection of a client
    /// needs less computing; 0 to have everything proved anew each time. The certificate of
    /// a client whose session is resumed is not verified again; it may have expired since,
    /// by up to a day. Default: 256.
    pub fn resumption(mut self, sessions: usize) -> Self {
        let config = Arc::make_mut(&mut self.config);
        if sessions == 0 {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.session_storage = ServerSessionMemoryCache::new(sessions);
        }
        self
    }

    /// Sets the options of sockets. Default: those of [`TcpOptions::new`].
    pub fn tcp_options(mut self, options: TcpOptions) -> Self {
        self.tcp = options;
        self
    }

    /// Sets how long a client may take for its handshake. Default: 10 seconds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Sets how many handshakes may be under way at a listener. If one more client comes,
    /// the one that has taken longest is let go. At least 1. Default: 256.
    pub fn handshakes(mut self, most: usize) -> Self {
        self.handshakes = most.max(1);
        self
    }

    /// Listens at an address; port 0 lets the system choose a port. A thread of the
    /// listener makes the handshakes, all at once.
    ///
    /// # Errors
    /// As for [`TcpOptions::listen`]; or the system has no thread to give.
    pub fn listen(&self, address: impl ToSocketAddrs) -> io::Result<Listener> {
        self.listen_on(self.tcp.listen(address)?)
    }

    pub(super) fn listen_at(&self, host: &str, port: u16) -> io::Result<Listener> {
        self.listen_on(addr::listen_tcp(host, port, &self.tcp)?)
    }

    /// Listens on a socket that listens already, for example at every address of this
    /// machine, or an inherited one. The options of its sockets are those with which it was
    /// made.
    ///
    /// # Errors
    /// The system has no thread or no descriptor to give.
    pub fn listen_on(&self, listener: tcp::Listener) -> io::Result<Listener> {
        Listener::new(listener, self.clone())
    }

    /// Makes a transport of a stream that a client has connected. Blocks for the handshake.
    /// The stream is made blocking and loses its time limits.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the client is not whom it has to be, or the
    /// handshake fails otherwise; [`io::ErrorKind::TimedOut`] if it takes too long.
    pub fn transport(&self, stream: TcpStream) -> io::Result<Transport> {
        let peer = stream.peer_addr()?;
        let socket = self.tcp.prepare(stream)?;
        let deadline = Instant::now().checked_add(self.handshake_timeout);
        Ok(self.begin(socket, peer)?.finish_by(deadline)?.into_transport())
    }

    pub(super) fn begin(&self, socket: OwnedFd, peer: SocketAddr) -> io::Result<Handshake> {
        let tls = ServerConnection::new(Arc::clone(&self.config)).map_err(unusable)?;
        let peer = PeerDescription::from_socket(peer);
        let handshake = Handshake::new(Socket::new(socket), tls, peer, self.describe);
        Ok(if self.expects_first { handshake.expecting_first() } else { handshake })
    }
}
