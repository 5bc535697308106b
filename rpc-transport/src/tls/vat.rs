//! Vats that know each other by their keys, without an authority.
//!
//! A vat has a key of Ed25519, and [its id](VatId) is the public half. In the handshake both
//! sides show their keys (raw public keys, RFC 7250) and sign what was said so far, which
//! only the owner of a key can do. There are no names and no certificates that expire:
//! whoever knows the id of a vat knows whom it is talking to, whatever the address.
//!
//! Sessions are not resumed, so that every connection proves both keys anew.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use capnp_threads_core::transport::{Identity, PeerDescription, Transport, VatId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ClientConfig, Resumption};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, Connection, DigitallySignedStruct, DistinguishedName, OtherError,
    SignatureScheme,
};
use zeroize::Zeroizing;

use super::certificate::invalid;
use super::handshake::Describe;
use super::{Listener, TlsClient, TlsServer, key_file, provider, unusable};
use crate::Address;

/// What vats agree on before the first message (ALPN), so that nobody can pass the
/// connection of another protocol off as one of theirs.
const PROTOCOL: &[u8] = b"capnp-vat/1";

/// The same in a network, where vats say more before the first message.
const IN_NETWORK: &[u8] = b"capnp-vats/1";

/// The bytes of a seed, from which everything else of a key is computed.
const SEED: usize = 32;

/// What precedes the seed in PKCS#8 (RFC 8410, section 7).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The same where the public key follows the seed (RFC 5958), behind the byte of the length.
const WITH_PUBLIC: [u8; 14] = [2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// What precedes a public key in the form in which it is shown (RFC 8410, section 4).
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// The key of a vat. Clones share it, and printing it prints the id alone.
///
/// ```no_run
/// use capnp_threads_transport::tls::VatKey;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A vat that is reached. The first start makes the file.
/// let key = VatKey::load_or_create("/var/lib/greeter/vat.key")?;
/// let listener = key.listen(&"*:7000".parse()?)?;
/// println!("reach me at tls:{}@greeter.example:7000", key.id());
///
/// // Another one, which knows that address.
/// let key = VatKey::generate()?;
/// # let id = key.id();
/// let transport = key.connect(&format!("tls:{id}@greeter.example:7000").parse()?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct VatKey {
    id: VatId,
    seed: Arc<Zeroizing<[u8; SEED]>>,
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for VatKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VatKey({})", self.id)
    }
}

impl VatKey {
    /// A new key, which is nowhere but in memory.
    ///
    /// # Errors
    /// The system has no random numbers to give.
    pub fn generate() -> io::Result<Self> {
        let mut seed = Zeroizing::new([0; SEED]);
        provider()
            .secure_random
            .fill(&mut *seed)
            .map_err(|_| io::Error::other("the system has no random numbers for a key"))?;
        Self::from_seed(seed)
    }

    /// Reads a key from a text in PEM (PKCS#8), such as `openssl genpkey -algorithm ed25519`
    /// writes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it is none, or of another kind than Ed25519.
    pub fn from_pem(text: &[u8]) -> io::Result<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text)
            .map_err(|error| invalid(format!("no private key can be read: {error}")))?;
        let bytes = key.secret_pkcs8_der();
        let seed = match bytes {
            [0x30, length, rest @ ..] if usize::from(*length) == rest.len() => {
                let seed = rest.strip_prefix(&PKCS8[2..]).filter(|seed| seed.len() == SEED);
                seed.or_else(|| rest.strip_prefix(&WITH_PUBLIC)?.get(..SEED))
            }
            _ => None,
        };
        let seed =
            seed.ok_or_else(|| invalid("the private key is not one of Ed25519".to_owned()))?;
        let mut copy = Zeroizing::new([0; SEED]);
        copy.copy_from_slice(seed);
        Self::from_seed(copy)
    }

    /// The key as a text in PEM (PKCS#8). Whoever has it is this vat.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; PKCS8.len() + SEED]);
        bytes[..PKCS8.len()].copy_from_slice(&PKCS8);
        bytes[PKCS8.len()..].copy_from_slice(&**self.seed);
        key_file::pem("PRIVATE KEY", &*bytes)
    }

    /// Reads a key from a file that nobody but this program's user, or root, can read or
    /// change.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none; [`io::ErrorKind::PermissionDenied`] if
    /// others have access to it, or it belongs to somebody else; otherwise as for
    /// [`from_pem`](Self::from_pem). The error names the file, and says what to do.
    pub fn load(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        key_file::read(path)
            .and_then(|text| Self::from_pem(&text))
            .map_err(|error| key_file::about(path, error))
    }

    /// Makes a new key and a file for it, which nobody but this program's user can read. The
    /// file is there as a whole or not at all.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is a file of this name, which is left alone;
    /// or it cannot be written.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let key = Self::generate()?;
        key_file::write(path, &key.to_pem()).map_err(|error| key_file::about(path, error))?;
        Ok(key)
    }

    /// Reads a key from a file, and makes both if there is no such file. Programs that do so
    /// at once get the same key.
    ///
    /// # Errors
    /// As for [`load`](Self::load) and [`create`](Self::create).
    pub fn load_or_create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        match Self::load(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
        match Self::create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            outcome => outcome,
        }
    }

    fn from_seed(seed: Zeroizing<[u8; SEED]>) -> io::Result<Self> {
        let mut bytes = PKCS8.to_vec();
        bytes.extend_from_slice(&*seed);
        // Whoever gets these bytes wipes them out.
        let der = PrivateKeyDer::Pkcs8(bytes.into());
        let signer = provider().key_provider.load_private_key(der).map_err(unusable)?;
        let public = signer.public_key().and_then(|public| vat_of(public.as_ref()));
        let id = public.ok_or_else(|| unusable("the key has no public key of Ed25519"))?;
        let shown = CertificateDer::from([&PUBLIC[..], id.public_key()].concat());
        let certified = Arc::new(CertifiedKey::new(vec![shown], signer));
        Ok(VatKey { id, seed: Arc::new(seed), certified })
    }

    /// What somebody has who shows the key of this vat, but has only another one.
    #[cfg(test)]
    pub(super) fn impostor(&self, has: &VatKey) -> VatKey {
        let shown = self.certified.cert.clone();
        let certified = CertifiedKey::new(shown, Arc::clone(&has.certified.key));
        VatKey { certified: Arc::new(certified), ..has.clone() }
    }

    /// The id of the vat that has this key.
    pub fn id(&self) -> VatId {
        self.id
    }

    /// The address of the vat that has this key and listens here.
    pub fn address(&self, socket: SocketAddr) -> Address {
        Address::tls(self.id, socket)
    }

    /// Connects, as the vat with this key, to the vat that an address with `tls:` names.
    /// Blocks while the system keeps trying, which can be minutes, and for the handshake.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for another kind of address;
    /// [`io::ErrorKind::InvalidData`] if it is another vat that answers there; otherwise as
    /// for [`TlsClient::connect`].
    pub fn connect(&self, address: &Address) -> io::Result<Transport> {
        self.connect_within(address, None)
    }

    /// As [`connect`](Self::connect), within `timeout`. Looking the name up is not limited.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_timeout(&self, address: &Address, timeout: Duration) -> io::Result<Transport> {
        self.connect_within(address, Some(timeout))
    }

    fn connect_within(
        &self,
        address: &Address,
        timeout: Option<Duration>,
    ) -> io::Result<Transport> {
        let Address::Tls { vat, host, port } = address else {
            return Err(no_vat_named(address));
        };
        TlsClient::vat(self, *vat)?.connect_to((&**host, *port), host, timeout)
    }

    /// Listens, as the vat with this key, for vats that have keys. The address is one of
    /// TCP, or this vat's own with `tls:`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for another kind of address, or that of another vat;
    /// otherwise as for [`TlsServer::listen`].
    pub fn listen(&self, address: &Address) -> io::Result<Listener> {
        let (host, port) = self.where_to_listen(address)?;
        TlsServer::vat(self)?.listen_at(host, port)
    }

    pub(super) fn where_to_listen<'a>(&self, address: &'a Address) -> io::Result<(&'a str, u16)> {
        match address {
            Address::Tls { vat, .. } if *vat != self.id => {
                let reason = format!("{address} is of another vat; this one is {}", self.id);
                Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
            }
            Address::Tcp { host, port } | Address::Tls { host, port, .. } => Ok((host, *port)),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("vats with keys listen at TCP ports, and not at {address}"),
            )),
        }
    }
}

fn no_vat_named(address: &Address) -> io::Error {
    let reason = format!("{address} names no vat; write tls:VATID@host:port");
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

impl TlsClient {
    /// Connects as the vat with this key, to `peer` alone. The name of the server is of no
    /// matter.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if rustls cannot use this.
    pub fn vat(own: &VatKey, peer: VatId) -> io::Result<Self> {
        Self::vat_for(PROTOCOL, describe, own, peer)
    }

    pub(super) fn vat_in_network(own: &VatKey, peer: VatId) -> io::Result<Self> {
        Self::vat_for(IN_NETWORK, describe_in_network, own, peer)
    }

    fn vat_for(protocol: &[u8], describe: Describe, own: &VatKey, peer: VatId) -> io::Result<Self> {
        let config = Self::vat_config(protocol, own, peer)?;
        let mut client = Self::from_rustls(Arc::new(config));
        client.describe = describe;
        client.is_named = false;
        Ok(client)
    }

    pub(super) fn vat_config(
        protocol: &[u8],
        own: &VatKey,
        peer: VatId,
    ) -> io::Result<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::expecting(Some(peer))))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                Arc::clone(&own.certified),
            )));
        config.alpn_protocols = vec![protocol.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl TlsServer {
    /// Accepts, as the vat with this key, all vats that have keys. Which of them are served
    /// is decided later, by [`PeerDescription::vat`].
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if rustls cannot use this.
    pub fn vat(own: &VatKey) -> io::Result<Self> {
        Self::vat_for(PROTOCOL, describe, own)
    }

    pub(super) fn vat_in_network(own: &VatKey) -> io::Result<Self> {
        let mut server = Self::vat_for(IN_NETWORK, describe_in_network, own)?;
        server.expects_first = true;
        Ok(server)
    }

    fn vat_for(protocol: &[u8], describe: Describe, own: &VatKey) -> io::Result<Self> {
        let mut server = Self::from_rustls(Arc::new(Self::vat_config(protocol, own)?));
        server.describe = describe;
        Ok(server)
    }

    pub(super) fn vat_config(protocol: &[u8], own: &VatKey) -> io::Result<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(Verifier::expecting(None)))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(
                &own.certified,
            ))));
        config.alpn_protocols = vec![protocol.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// The vat whose public key this is, in the form in which keys are shown.
fn vat_of(public: &[u8]) -> Option<VatId> {
    let key = public.strip_prefix(&PUBLIC)?;
    Some(VatId::from_public_key(key.try_into().ok()?))
}

/// Describes a peer whose key was verified.
fn describe(tls: &Connection, peer: PeerDescription) -> io::Result<PeerDescription> {
    describe_for(PROTOCOL, tls, peer)
}

fn describe_in_network(tls: &Connection, peer: PeerDescription) -> io::Result<PeerDescription> {
    describe_for(IN_NETWORK, tls, peer)
}

fn describe_for(
    protocol: &[u8],
    tls: &Connection,
    peer: PeerDescription,
) -> io::Result<PeerDescription> {
    let peer = describe_any(tls, peer)?;
    if peer.protocol.as_deref() != Some(protocol) {
        return Err(invalid("the peer is connected for another protocol".to_owned()));
    }
    Ok(peer)
}

/// Whatever the protocol.
pub(super) fn describe_any(tls: &Connection, peer: PeerDescription) -> io::Result<PeerDescription> {
    let vat = tls.peer_certificates().and_then(|shown| vat_of(shown.first()?));
    let vat = vat.ok_or_else(|| invalid("the peer has not shown the key of a vat".to_owned()))?;
    let protocol = tls.alpn_protocol().map(<[u8]>::to_vec);
    Ok(peer.with_identity(Some(Identity::of_vat(vat))).with_protocol(protocol))
}

/// Accepts the keys of vats: of one, or of all.
#[derive(Debug)]
struct Verifier {
    expected: Option<VatId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn expecting(expected: Option<VatId>) -> Self {
        Verifier { expected, algorithms: provider().signature_verification_algorithms }
    }

    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let Some(vat) = vat_of(shown) else {
            return Err(
                Refused("what the peer has shown is not the key of a vat".to_owned()).into()
            );
        };
        match self.expected {
            Some(expected) if expected != vat => Err(Refused(format!(
                "the vat that answers is {vat}, and not {expected}; somebody else may have taken \
                 its address, or it has a new key"
            ))
            .into()),
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// Why a key is not accepted.
struct Refused(String);

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        CertificateError::Other(OtherError(Arc::new(refused))).into()
    }
}

/// These come with TLS 1.2 alone, which no configuration of this module allows.
fn too_old() -> rustls::Error {
    rustls::PeerIncompatible::Tls12NotOfferedOrEnabled.into()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
