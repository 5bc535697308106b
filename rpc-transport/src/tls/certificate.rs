//! Certificates and keys, from files or from memory.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::provider;

/// What this side shows to prove who it is: a certificate, those that lead from it to an
/// authority, and the private key. Clones share them.
///
/// ```
/// use capnp_threads_transport::tls::{Certificate};
///
/// /// What this machine shows.
/// fn own() -> std::io::Result<Certificate> {
///     Certificate::from_pem_files("/etc/greeter/chain.pem", "/etc/greeter/key.pem")
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Certificate(pub(super) Arc<CertifiedKey>);

impl Certificate {
    /// Reads certificates, this side's own first, and a private key (PKCS#8, PKCS#1 or
    /// SEC1) from texts in PEM.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if there is no certificate or no key, a key of a kind
    /// that is not supported, or the key of another certificate. Supported are ECDSA with
    /// P-256 and P-384, Ed25519 and RSA from 2048 bits.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> io::Result<Self> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| invalid(format!("no private key can be read: {error}")))?;
        let certified = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| invalid(format!("the private key cannot be used: {error}")))?;
        Ok(Certificate(Arc::new(certified)))
    }

    /// As [`from_pem`](Self::from_pem), from two files, which may be the same. Keep the
    /// key's where only this program's user can read it.
    ///
    /// # Errors
    /// A file cannot be read; otherwise as for [`from_pem`](Self::from_pem). The error names
    /// the file.
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Self> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let text = read(chain)?;
        let secret = read(key)?;
        Self::from_pem(&text, &secret).map_err(|error| {
            let files = format!("{} with {}: {error}", chain.display(), key.display());
            io::Error::new(error.kind(), files)
        })
    }
}

/// The authorities whose certificates this side believes. Clones share them.
///
/// ```
/// use capnp_threads_transport::tls::{Authorities};
///
/// /// Those of this organisation, and no others.
/// fn ours() -> std::io::Result<Authorities> {
///     Authorities::from_pem_file("/etc/greeter/authorities.pem")
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Authorities(pub(super) Arc<RootCertStore>);

impl Authorities {
    /// Reads certificates of authorities from a text in PEM.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if there is none, or one that is malformed.
    pub fn from_pem(text: &[u8]) -> io::Result<Self> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(text)? {
            store.add(certificate).map_err(|error| {
                invalid(format!("the certificate of an authority is of no use: {error}"))
            })?;
        }
        Ok(Authorities(Arc::new(store)))
    }

    /// As [`from_pem`](Self::from_pem), from a file.
    ///
    /// # Errors
    /// The file cannot be read; otherwise as for [`from_pem`](Self::from_pem). The error
    /// names the file.
    pub fn from_pem_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Self::from_pem(&read(path)?).map_err(|error| named(path, &error))
    }
}

fn certificates(text: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(invalid("there is no certificate in PEM (BEGIN CERTIFICATE)".to_owned()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(invalid(format!("no certificate can be read: {error}"))),
    }
}

/// Reads a file that may hold a secret, of which no copy stays in memory.
fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    fs::read(path).map(Zeroizing::new).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

pub(super) fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
