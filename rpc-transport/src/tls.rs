//! Transports over TLS, which nobody on the way can read or change, and which prove who the
//! peer is.
//!
//! A server has a [`Certificate`], and a client the [`Authorities`] that it believes. If the
//! server believes some, too, both sides know who is at the other end: see
//! [`PeerDescription::identity`].
//!
//! ```no_run
//! use capnp_threads_transport::tls::{Authorities, Certificate, TlsClient, TlsServer};
//!
//! # fn main() -> std::io::Result<()> {
//! // The server, which wants to know its clients.
//! let own = Certificate::from_pem_files("server.pem", "server.key")?;
//! let staff = Authorities::from_pem_file("staff.pem")?;
//! let listener = TlsServer::mutual(&own, &staff)?.listen("0.0.0.0:7000")?;
//!
//! // A client.
//! let own = Certificate::from_pem_files("alice.pem", "alice.key")?;
//! let ours = Authorities::from_pem_file("ca.pem")?;
//! let transport = TlsClient::mutual(&ours, &own)?.connect("server.example", 7000)?;
//! # Ok(())
//! # }
//! ```
//!
//! The protocol is TLS 1.3 alone, by rustls with the cryptography of ring. Data is never
//! sent before the handshake is over (0-RTT), because somebody could send it again. A stream
//! ends in order only where the peer says so (`close_notify`); otherwise reading fails with
//! an error that says that the stream was cut off.
//!
//! A connection has no thread and no descriptor more than one without TLS, and threads that
//! call write to the socket themselves. The two directions take turns at encrypting and
//! decrypting.

mod certificate;
mod client;
mod handshake;
mod identity;
mod key_file;
mod listener;
mod network;
mod opened;
#[cfg(test)]
mod openssl_tests;
#[cfg(test)]
mod recorded_tests;
mod server;
mod session;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod vat;
mod waiting;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use capnp_threads_core::transport::PeerDescription;
/// The version of rustls for [`TlsServer::from_rustls`] and [`TlsClient::from_rustls`].
pub use rustls;
use rustls::Connection;
use rustls::crypto::CryptoProvider;

pub use self::certificate::{Authorities, Certificate};
pub use self::client::TlsClient;
pub use self::listener::Listener;
pub use self::network::{NotAVat, TlsNetwork, TlsVat};
pub use self::server::TlsServer;
pub use self::stream::Stream;
pub use self::vat::VatKey;

/// How long a handshake may take, unless it is set.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What certificates prove of the peer.
#[expect(clippy::unnecessary_wraps, reason = "other ways to describe a peer can refuse it")]
fn describe(tls: &Connection, peer: PeerDescription) -> io::Result<PeerDescription> {
    let chain = tls.peer_certificates().filter(|chain| !chain.is_empty());
    Ok(peer
        .with_identity(chain.map(identity::of_certificates))
        .with_protocol(tls.alpn_protocol().map(<[u8]>::to_vec)))
}

fn unusable(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("TLS cannot be set up so: {error}"))
}
