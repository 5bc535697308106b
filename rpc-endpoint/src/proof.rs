//! Who is at the other end of a socket, in networks that have a key.
//!
//! Without a key, nothing is proved: what peers say of themselves is believed.

use std::io;

use capnp_threads_transport::VatId;

use super::deadline::Deadline;
use super::network::Shared;
use super::socket::Socket;

/// Of this protocol within TLS (ALPN).
#[cfg(feature = "tls")]
const PROTOCOL: &[u8] = b"capnp-endpoint/1";

#[cfg_attr(
    not(feature = "tls"),
    allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "there are no keys then")
)]
impl Shared {
    /// The vat that this network proves to be.
    pub(super) fn vat(&self) -> Option<VatId> {
        #[cfg(feature = "tls")]
        return self.parameters.key.as_ref().map(capnp_threads_transport::tls::VatKey::id);
        #[cfg(not(feature = "tls"))]
        None
    }

    /// Makes sure that a socket leads to the vat that the dialled address names.
    ///
    /// # Errors
    /// It leads to somebody else, or one of the two has no key and the other one needs it.
    pub(super) fn prove_dialled(
        &self,
        socket: &Socket,
        expected: Option<VatId>,
        deadline: Deadline,
    ) -> io::Result<()> {
        let wrong = |reason| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        #[cfg(feature = "tls")]
        if let Some(key) = &self.parameters.key {
            let Some(vat) = expected else {
                return wrong(
                    "the address names no vat, and this network has a key; write \
                     VATID@host:port:endpoint",
                );
            };
            let timeout = deadline.remaining().unwrap_or(std::time::Duration::MAX);
            return socket
                .protect(|socket| key.connect_stream(socket, vat, PROTOCOL, timeout))
                .map(drop);
        }
        let _ = (socket, deadline);
        if expected.is_some() {
            return wrong(
                "the address names a vat; to reach it, this network needs Parameters::key",
            );
        }
        Ok(())
    }

    /// Finds out which vat has dialled. `None` in a network without a key.
    ///
    /// # Errors
    /// It has no key, or not in time.
    pub(super) fn prove_dialler(
        &self,
        socket: &Socket,
        deadline: Deadline,
    ) -> io::Result<Option<VatId>> {
        #[cfg(feature = "tls")]
        if let Some(key) = &self.parameters.key {
            let timeout = deadline.remaining().unwrap_or(std::time::Duration::MAX);
            let stream = socket.protect(|socket| key.accept_stream(socket, PROTOCOL, timeout))?;
            return Ok(stream.vat());
        }
        let _ = (socket, deadline);
        Ok(None)
    }
}
