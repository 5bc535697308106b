#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use rustls::sign::SingleCertAndKey;

use super::*;
use crate::testing::{self, TemporaryDirectory};
use crate::tls::testing::Authority;
use rpc_testing::message;

fn local() -> Address {
    "127.0.0.1:0".parse().unwrap()
}

fn vat_behind(transport: &Transport) -> VatId {
    transport.control.peer().vat().unwrap()
}

/// Connects with any configuration, and returns why that does not work: as the client sees
/// it. Servers have to count the failure.
fn refusal(client: &TlsClient, listener: &Listener) -> String {
    let before = listener.failed_handshakes();
    let stream = TcpStream::connect(listener.local_addr()).unwrap();
    let error = match client.transport(stream, "localhost") {
        Err(error) => error.to_string(),
        Ok(mut transport) => transport.reader.read().unwrap_err().to_string(),
    };
    while listener.failed_handshakes() == before {
        thread::yield_now();
    }
    error
}

#[test]
fn each_vat_knows_the_other_and_needs_no_authority() {
    let (here, there) = (VatKey::generate().unwrap(), VatKey::generate().unwrap());
    assert_ne!(here.id(), there.id());
    let listener = there.listen(&local()).unwrap();
    let address = there.address(listener.local_addr());
    let address: Address = address.to_string().parse().unwrap();
    let client = here.connect_timeout(&address, Duration::from_secs(60)).unwrap();
    let server = listener.accept().unwrap();
    assert_eq!(vat_behind(&client), there.id());
    assert_eq!(vat_behind(&server), here.id());
    assert_eq!(server.control.peer().identity.unwrap().certificates, Vec::<Vec<u8>>::new());
    testing::check_connected(client, server);
    // A vat can also reach itself.
    let client = there.connect(&address).unwrap();
    assert_eq!(vat_behind(&client), there.id());
}

#[test]
fn whoever_has_taken_the_address_of_a_vat_is_found_out() {
    let [here, wanted, thief] = [(); 3].map(|()| VatKey::generate().unwrap());
    let listener = thief.listen(&local()).unwrap();
    let error = here.connect(&wanted.address(listener.local_addr())).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let text = error.to_string();
    assert!(text.contains(&format!("{}, and not {}", thief.id(), wanted.id())), "{text}");
    // The thief learns nothing, not even whom it could have served.
    assert!(here.connect(&thief.address(listener.local_addr())).is_ok());
    assert_eq!(vat_behind(&listener.accept().unwrap()), here.id());
    assert_eq!(listener.failed_handshakes(), 1);
}

#[test]
fn showing_the_key_of_another_vat_is_not_having_it() {
    let [here, victim, eve] = [(); 3].map(|()| VatKey::generate().unwrap());
    let eve_as_victim = victim.impostor(&eve);
    // As a server.
    let listener = eve_as_victim.listen(&local()).unwrap();
    let error = here.connect(&victim.address(listener.local_addr())).err().unwrap();
    assert!(error.to_string().contains("BadSignature"), "{error}");
    // As a client.
    let listener = here.listen(&local()).unwrap();
    let client = TlsClient::vat(&eve_as_victim, here.id()).unwrap();
    let error = refusal(&client, &listener);
    assert!(error.contains("alert"), "{error}");
    // Eve may come as herself.
    let client = eve.connect(&here.address(listener.local_addr())).unwrap();
    let server = listener.accept().unwrap();
    assert_eq!(vat_behind(&server), eve.id());
    testing::check_connected(client, server);
}

/// A configuration for clients, with whatever it shows.
fn client_with(
    shows: impl FnOnce() -> Option<Arc<dyn rustls::client::ResolvesClientCert>>,
) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::expecting(None)));
    let mut config = match shows() {
        Some(resolver) => config.with_client_cert_resolver(resolver),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config
}

#[test]
fn peers_without_the_key_of_a_vat_are_refused() {
    let (vat, ours) = (VatKey::generate().unwrap(), Authority::new());
    let listener = vat.listen(&local()).unwrap();
    let certificate = || SingleCertAndKey::from(Arc::clone(&ours.issue("localhost").0));
    let other_kind = || {
        let key = Arc::clone(&ours.issue("localhost").0.key);
        let shown = CertificateDer::from(key.public_key().unwrap().to_vec());
        AlwaysResolvesClientRawPublicKeys::new(Arc::new(CertifiedKey::new(vec![shown], key)))
    };
    let named = TlsClient::new(&ours.believed()).unwrap();
    for client in [
        // Nobody.
        TlsClient::from_rustls(Arc::new(client_with(|| None))),
        // A certificate.
        TlsClient::from_rustls(Arc::new(client_with(|| Some(Arc::new(certificate()))))),
        // A key, but of P-256.
        TlsClient::from_rustls(Arc::new(client_with(|| Some(Arc::new(other_kind()))))),
        // One that wants a certificate from this side.
        named,
    ] {
        let error = refusal(&client, &listener);
        assert!(error.contains("handshake failed") || error.contains("alert"), "{error}");
    }
    assert_eq!(listener.failed_handshakes(), 4);
}

#[test]
fn peers_that_did_not_agree_on_the_protocol_of_vats_are_refused() {
    let (vat, other) = (VatKey::generate().unwrap(), VatKey::generate().unwrap());
    let listener = vat.listen(&local()).unwrap();
    let shows = || -> Option<Arc<dyn rustls::client::ResolvesClientCert>> {
        Some(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&other.certified))))
    };
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = client_with(shows);
        config.alpn_protocols = protocols;
        let client = TlsClient::from_rustls(Arc::new(config));
        refusal(&client, &listener);
    }
    assert_eq!(listener.failed_handshakes(), 2);
    // Nor is a server believed that does not know the protocol.
    let server = TlsServer::vat(&vat).unwrap().protocols::<&str>([]);
    let listener = server.listen(("127.0.0.1", 0)).unwrap();
    let error = other.connect(&vat.address(listener.local_addr())).err().unwrap();
    assert!(error.to_string().contains("another protocol"), "{error}");
}

#[test]
fn a_vat_and_a_certificate_do_not_go_together() {
    let (vat, ours) = (VatKey::generate().unwrap(), Authority::new());
    let server = TlsServer::new(&ours.issue("localhost")).unwrap();
    let listener = server.listen(("127.0.0.1", 0)).unwrap();
    assert!(vat.connect(&vat.address(listener.local_addr())).is_err());
    for address in ["127.0.0.1:1", "unix:/nowhere"] {
        let error = vat.connect(&address.parse().unwrap()).err().unwrap();
        assert!(error.to_string().contains("write tls:VATID@host:port"), "{error}");
    }
    let other = VatKey::generate().unwrap().address(listener.local_addr());
    let error = vat.listen(&other).err().unwrap();
    assert!(error.to_string().contains("is of another vat"), "{error}");
    assert!(vat.listen(&"unix:/nowhere".parse().unwrap()).is_err());
}

#[test]
fn a_key_is_the_same_when_it_is_read_again() {
    let directory = TemporaryDirectory::new("vat-key");
    let path = directory.file("key");
    let key = VatKey::create(&path).unwrap();
    assert_eq!(VatKey::load(&path).unwrap().id(), key.id());
    assert_eq!(VatKey::load_or_create(&path).unwrap().id(), key.id());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap(), *key.to_pem());
    let names = || fs::read_dir(directory.file("")).unwrap().count();
    assert_eq!(names(), 1);
    let error = VatKey::create(&path).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(VatKey::load(&path).unwrap().id(), key.id());
    assert_eq!(names(), 1);
    let seed = fs::read_to_string(&path).unwrap();
    let printed = format!("{key:?}");
    assert_eq!(printed, format!("VatKey({})", key.id()));
    assert!(!printed.contains(seed.lines().nth(1).unwrap()));
}

#[test]
fn programs_that_make_a_key_at_once_have_the_same() {
    let directory = TemporaryDirectory::new("vat-keys");
    let path = directory.file("key");
    let making: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || VatKey::load_or_create(path).unwrap().id())
        })
        .collect();
    let ids: Vec<_> = making.into_iter().map(|thread| thread.join().unwrap()).collect();
    let expected = VatKey::load(&path).unwrap().id();
    assert_eq!(ids, vec![expected; 8]);
}

#[test]
fn a_key_to_which_others_have_access_is_refused() {
    let directory = TemporaryDirectory::new("vat-key-modes");
    let path = directory.file("key");
    VatKey::create(&path).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = VatKey::load(&path).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
        let text = error.to_string();
        assert!(text.contains("chmod 600") && text.contains("vat-key-modes"), "{text}");
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        VatKey::load(&path).unwrap();
    }
}

#[test]
fn what_is_no_key_is_refused_and_the_file_left_alone() {
    let directory = TemporaryDirectory::new("no-vat-key");
    let private = |name: &str, text: &str| {
        let path = directory.file(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (_, other_kind) = Authority::new().issue_pem("localhost", |_| ());
    for (text, reason) in [
        ("", "no private key can be read"),
        (&*other_kind, "not one of Ed25519"),
        (&*"x".repeat(20_000), "too long"),
        (
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n",
            "not one of Ed25519",
        ),
    ] {
        let path = private("key", text);
        for outcome in [VatKey::load(&path), VatKey::load_or_create(&path)] {
            let error = outcome.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let error = VatKey::load(directory.file("")).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let error = VatKey::load(directory.file("missing")).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(VatKey::create(directory.file("no/such/folder")).is_err());
}

#[test]
fn the_keys_of_other_programs_are_understood() {
    // RFC 8410, section 10.3, without the public key and with it.
    let text = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    let id = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    let key = VatKey::from_pem(text.as_bytes()).unwrap();
    assert_eq!((key.id().to_string(), &**key.to_pem()), (id.to_owned(), text));
    // What rcgen writes has the public key.
    let theirs = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = VatKey::from_pem(theirs.serialize_pem().as_bytes()).unwrap();
    assert_eq!(&key.id().public_key()[..], theirs.public_key_raw());
}

#[test]
fn calls_are_written_in_place() {
    let (here, there) = (VatKey::generate().unwrap(), VatKey::generate().unwrap());
    let listener = there.listen(&local()).unwrap();
    let mut client = here.connect(&there.address(listener.local_addr())).unwrap();
    assert!(client.writer.try_write(&mut vec![message(0, &[4])]).unwrap());
    assert!(listener.accept().unwrap().reader.read().unwrap().is_some());
}
