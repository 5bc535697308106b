//! Streams of bytes, for protocols whose messages are not Cap'n Proto's.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capnp_threads_core::transport::{PeerDescription, VatId};
use parking_lot::Mutex;
use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::ServerConnection;

use super::handshake::Handshake;
use super::opened::Opened;
use super::session::Bytes;
use super::{TlsClient, TlsServer, VatKey, unusable};
use crate::socket::Socket;

/// A stream of bytes over TLS between two vats that have shown each other their keys.
///
/// One thread reads and another one writes; both may wait. Any may call
/// [`shut_down`](Self::shut_down).
pub struct Stream {
    bytes: Bytes,
    /// Held while a thread reads, and waits for what is to be read.
    reader: Mutex<super::session::TlsReader>,
    peer: PeerDescription,
}

impl Stream {
    fn new(opened: Opened) -> Self {
        let (bytes, reader, peer) = opened.into_bytes();
        Stream { bytes, reader: Mutex::new(reader), peer }
    }

    /// The vat at the other end.
    pub fn vat(&self) -> Option<VatId> {
        self.peer.vat()
    }

    /// Waits for bytes; 0 at the end that the peer has announced.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline came first; otherwise the stream is
    /// broken, or was cut off.
    pub fn read(&self, room: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        self.reader.lock().read_by(room, deadline)
    }

    /// Writes everything, and waits until the system has taken it.
    ///
    /// # Errors
    /// The stream is broken.
    pub fn write_all(&self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.bytes.write_all(slices)
    }

    /// Writes as much as the system takes at once. Returns how many bytes were taken, and
    /// whether the system has everything. What was taken and encrypted, but is not with the
    /// system yet, goes there with the next write, if only of nothing.
    ///
    /// # Errors
    /// The stream is broken.
    pub fn write_now(&self, slices: &[IoSlice<'_>]) -> io::Result<(usize, bool)> {
        self.bytes.write_now(slices)
    }

    /// Tells the peer that nothing more is written. Waits until the system has taken it.
    ///
    /// # Errors
    /// The stream is broken.
    pub fn finish(&self) -> io::Result<()> {
        self.bytes.finish()
    }

    /// Ends both directions: threads that read or write return soon. Does not wait.
    pub fn shut_down(&self) {
        self.bytes.shut_down();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// For other protocols.
impl VatKey {
    /// Makes a stream of a connected TCP socket, as the side that has dialled, and proves to
    /// be this vat to `peer` alone. `protocol` is what both sides have to name (ALPN). Waits
    /// for the handshake.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it is another vat that answers, or the handshake
    /// fails otherwise; [`io::ErrorKind::TimedOut`] if it takes too long.
    pub fn connect_stream(
        &self,
        socket: Arc<OwnedFd>,
        peer: VatId,
        protocol: &'static [u8],
        timeout: Duration,
    ) -> io::Result<Stream> {
        let config = TlsClient::vat_config(protocol, self, peer)?;
        let name = ServerName::try_from("unnamed.invalid").map_err(unusable)?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(unusable)?;
        let at = PeerDescription::default();
        let handshake = Handshake::new(Socket::shared(socket), tls, at, super::vat::describe_any);
        finish(handshake, protocol, timeout)
    }

    /// Makes a stream of a connected TCP socket, as the side that was dialled, and lets any
    /// vat in that has a key. Waits for the handshake.
    ///
    /// # Errors
    /// As for [`connect_stream`](Self::connect_stream).
    pub fn accept_stream(
        &self,
        socket: Arc<OwnedFd>,
        protocol: &'static [u8],
        timeout: Duration,
    ) -> io::Result<Stream> {
        let config = TlsServer::vat_config(protocol, self)?;
        let tls = ServerConnection::new(Arc::new(config)).map_err(unusable)?;
        let at = PeerDescription::default();
        let handshake = Handshake::new(Socket::shared(socket), tls, at, super::vat::describe_any);
        finish(handshake, protocol, timeout)
    }
}

fn finish(handshake: Handshake, protocol: &[u8], timeout: Duration) -> io::Result<Stream> {
    let opened = handshake.finish_by(Instant::now().checked_add(timeout))?;
    if opened.peer().protocol.as_deref() != Some(protocol) {
        let reason = "the peer is connected for another protocol";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(Stream::new(opened))
}
