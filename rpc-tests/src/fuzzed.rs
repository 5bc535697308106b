//! What is true of any bytes that somebody gives a program to read. Each function panics
//! where it is not; the fuzz targets in `fuzz/` look for such bytes, and the tests here give
//! the functions those that are kept in `fuzz/corpus`.
//!
//! Further functions are beside what they look into: in a module `fuzzed` of the packages of
//! the core, the endpoints, saved references and the program.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(target_os = "linux")]
mod bounded;
mod connection;
mod endpoint;

#[cfg(target_os = "linux")]
pub use self::bounded::bounded;
pub use self::connection::connection;
pub use self::endpoint::endpoint;

use capnp_threads_endpoint::{EndpointAddress, EndpointVat};
use capnp_threads_transport::tls::{Authorities, Certificate, TlsVat, VatKey};
use capnp_threads_transport::{Address, VatId};

/// What is read as an address, or as the name of a vat, is printed so that it means the same.
pub fn tls_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Address>() {
        Ok(address) => assert_eq!(address.to_string().parse::<Address>(), Ok(address)),
        Err(error) => assert!(error.to_string().contains("write host:port")),
    }
    match text.parse::<TlsVat>() {
        Ok(vat) => {
            let again: TlsVat = vat.to_string().parse().unwrap();
            assert_eq!((again.id(), again.hints()), (vat.id(), vat.hints()));
            assert!(vat.hints().iter().all(|hint| match hint {
                Address::Tls { vat: of, .. } => *of == vat.id(),
                _ => false,
            }));
        }
        Err(error) => assert!(error.to_string().contains("write tls:VATID@host:port")),
    }
    if let Ok(id) = text.parse::<VatId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(vat) = text.parse::<EndpointVat>() {
        let again: EndpointVat = vat.to_string().parse().unwrap();
        assert_eq!((again.id(), again.hints()), (vat.id(), vat.hints()));
    }
    if let Some(parts) = EndpointAddress::from(text).parts() {
        let again = EndpointAddress::new(parts.host, parts.port, parts.endpoint);
        let again = match parts.vat {
            Some(vat) => EndpointAddress::from(format!("{vat}@{again}")),
            None => again,
        };
        // Numbers may have had zeros in front.
        assert_eq!(again.parts().unwrap(), parts);
    }
}

/// A key that is read is the same when it was written, and nothing else can be read.
pub fn key_file(bytes: &[u8]) {
    if let Ok(key) = VatKey::from_pem(bytes) {
        let again = VatKey::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(again.id(), key.id());
        assert_eq!(*again.to_pem(), *key.to_pem());
    }
    // Of these it is only known that reading them comes to an end.
    let _ = Certificate::from_pem(bytes, bytes);
    let _ = Authorities::from_pem(bytes);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Gives a function everything that is kept for it. Returns how many files there are.
    fn replay(target: &str, function: fn(&[u8])) -> usize {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            // Also where it was cut off, for that is where readers err.
            for end in 0..=bytes.len() {
                let outcome = std::panic::catch_unwind(|| function(&bytes[..end]));
                assert!(outcome.is_ok(), "the first {end} bytes of {}", path.display());
            }
            count += 1;
        }
        count
    }

    /// Gives a function that runs threads everything that is kept for it.
    #[cfg(target_os = "linux")]
    fn replay_live(target: &str, function: fn(&[u8])) {
        let _watchdog = crate::support::Watchdog::start();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        // What is made once is not of the bytes.
        function(&[0]);
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| bounded(function, &bytes));
            assert!(outcome.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 5, "only {count} files are kept for {target}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn connections() {
        // It counts the memory of the process.
        if crate::support::alone("fuzzed::tests::connections") {
            replay_live("connection", connection);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn endpoints() {
        if crate::support::alone("fuzzed::tests::endpoints") {
            replay_live("endpoint", endpoint);
        }
    }

    #[test]
    fn addresses() {
        assert!(replay("tls_address", tls_address) > 10);
    }

    #[test]
    fn keys() {
        assert!(replay("key_file", key_file) > 5);
    }
}
