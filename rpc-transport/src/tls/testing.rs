//! Certificates, made when a test runs.
#![allow(clippy::unwrap_used)]

use std::net::TcpStream;

use capnp_threads_core::transport::Transport;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};

use super::{Authorities, Certificate, TlsClient, TlsServer};

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        // Those of one name would be taken for one.
        let name = key
            .public_key_raw()
            .iter()
            .fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn believed(&self) -> Authorities {
        Authorities::from_pem(self.pem.as_bytes()).unwrap()
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The texts of a certificate and of its key.
    pub(crate) fn issue_pem(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("{name} of ours"));
        params.subject_alt_names.push(SanType::URI("spiffe://ours/test".try_into().unwrap()));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let (chain, key) = self.issue_pem(name, change);
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    pub(crate) fn issue(&self, name: &str) -> Certificate {
        self.issue_with(name, |_| ())
    }
}

/// A server at `localhost` and a client that believe each other.
pub(crate) fn both() -> (TlsServer, TlsClient) {
    let ours = Authority::new();
    let (server, client) = (ours.issue("localhost"), ours.issue("alice"));
    (
        TlsServer::mutual(&server, &ours.believed()).unwrap(),
        TlsClient::mutual(&ours.believed(), &client).unwrap(),
    )
}

/// Two connected transports: the client's and the server's.
pub(crate) fn pair() -> (Transport, Transport) {
    let (server, client) = both();
    let listener = server.listen(("127.0.0.1", 0)).unwrap();
    let stream = TcpStream::connect(listener.local_addr()).unwrap();
    let here = client.transport(stream, "localhost").unwrap();
    (here, listener.accept().unwrap())
}
