//! Who the peer is, according to its certificate.

use capnp_threads_core::transport::Identity;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// What certificates say that were believed in the handshake, the peer's own first.
pub(super) fn of_certificates(chain: &[CertificateDer<'_>]) -> Identity {
    let mut identity = Identity::default();
    identity.certificates = chain.iter().map(|certificate| certificate.to_vec()).collect();
    // Verifiers of the application's may believe what is no certificate.
    if let Some(Ok(own)) = chain.first().map(EndEntityCert::try_from) {
        identity.dns_names = own.valid_dns_names().map(str::to_owned).collect();
        identity.uris = own.valid_uri_names().map(str::to_owned).collect();
        identity.common_name = common_name(own.subject());
    }
    identity
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The common name in what is inside a Name (RFC 5280, section 4.1.2.4) in DER. `None` if it
/// has none or several, or one that people could take for another.
fn common_name(mut name: &[u8]) -> Option<String> {
    let mut found = None;
    while !name.is_empty() {
        let (mut set, rest) = element(name, SET)?;
        name = rest;
        while !set.is_empty() {
            let (attribute, rest) = element(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = element(attribute, OBJECT_ID)?;
            if kind != COMMON_NAME {
                continue;
            }
            if found.is_some() {
                return None;
            }
            let (text, _) = [UTF8_STRING, PRINTABLE_STRING, IA5_STRING]
                .into_iter()
                .find_map(|tag| element(value, tag))?;
            let text = std::str::from_utf8(text).ok()?;
            if text.is_empty() || text.chars().any(char::is_control) {
                return None;
            }
            found = Some(text.to_owned());
        }
    }
    found
}

/// The content of the element at the front, which must have this tag, and what follows.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match (*length, rest) {
        (short @ 0..=0x7f, rest) => (usize::from(short), rest),
        (0x81, [one, rest @ ..]) => (usize::from(*one), rest),
        (0x82, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    if *first != tag { None } else { rest.split_at_checked(length) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).unwrap();
            let mut bytes = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
            bytes.extend_from_slice(content);
            bytes
        };
        wrap(SET, &wrap(SEQUENCE, &[wrap(OBJECT_ID, kind), wrap(tag, value)].concat()))
    }

    #[test]
    fn there_is_one_common_name_or_none() {
        let organisation = attribute(&[0x55, 0x04, 0x0a], UTF8_STRING, b"CN=eve");
        let alice = attribute(COMMON_NAME, UTF8_STRING, "älice".as_bytes());
        let long = attribute(COMMON_NAME, PRINTABLE_STRING, &[b'a'; 200]);
        for (name, expected) in [
            (vec![], None),
            (organisation.clone(), None),
            (alice.clone(), Some("älice".to_owned())),
            ([organisation.clone(), alice.clone()].concat(), Some("älice".to_owned())),
            (long, Some("a".repeat(200))),
            ([alice.clone(), alice.clone()].concat(), None),
            (attribute(COMMON_NAME, UTF8_STRING, b"al\0ice"), None),
            (attribute(COMMON_NAME, UTF8_STRING, b"\xff"), None),
            (attribute(COMMON_NAME, UTF8_STRING, b""), None),
            (attribute(COMMON_NAME, 0x1e, b"\0a"), None),
            (alice[..alice.len() - 1].to_vec(), None),
        ] {
            assert_eq!(common_name(&name), expected);
        }
    }

    proptest! {
        #[test]
        fn nonsense_has_no_common_name_and_does_no_harm(name: Vec<u8>) {
            let _ = common_name(&name);
        }
    }
}
