//! What a transport has proved about the peer.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Who the peer is, as a transport has proved with keys. What is here is not merely claimed:
/// the peer has shown that it has the private key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Identity {
    /// The vat, if it has shown the key that is its id.
    pub vat: Option<VatId>,
    /// The certificates that the peer has sent, in DER, its own first. An authority that
    /// this side trusts has vouched for it. Empty for a peer that has sent none.
    pub certificates: Vec<Vec<u8>>,
    /// The DNS names that the peer's certificate is for.
    pub dns_names: Vec<String>,
    /// The URIs that the peer's certificate is for, such as those of SPIFFE.
    pub uris: Vec<String>,
    /// The common name of the certificate's subject, if there is exactly one.
    pub common_name: Option<String>,
}

impl Identity {
    /// Of a vat that has shown its key.
    pub fn of_vat(vat: VatId) -> Self {
        Identity { vat: Some(vat), ..Identity::default() }
    }
}

/// The id of a vat: its public key of Ed25519.
///
/// As text, the 32 bytes of the key are 64 hexadecimal digits in lower case. Every id has
/// one text.
///
/// ```
/// use capnp_threads_core::transport::VatId;
///
/// let text = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/// let id: VatId = text.parse()?;
/// assert_eq!(id.to_string(), text);
/// # Ok::<(), capnp_threads_core::transport::ParseVatIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VatId([u8; 32]);

impl VatId {
    /// The id of whoever has the private key to this public key.
    pub const fn from_public_key(key: [u8; 32]) -> Self {
        VatId(key)
    }

    /// The public key.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for VatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a [`VatId`].
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not the id of a vat, which has 64 hexadecimal digits in lower case")]
pub struct ParseVatIdError {
    text: String,
}

impl fmt::Debug for ParseVatIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VatId {
    type Err = ParseVatIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.as_bytes()).map(VatId).ok_or_else(|| {
            // Somebody else may have written it, at any length.
            let text = text.chars().take(100).collect();
            ParseVatIdError { text }
        })
    }
}

fn parse(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut key = [0; 32];
    if text.len() != 2 * key.len() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.chunks(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_one_text() {
        let mut key = [0; 32];
        key.iter_mut().zip(0x79..).for_each(|(byte, value)| *byte = value);
        let id = VatId::from_public_key(key);
        let text = id.to_string();
        assert!(text.starts_with("797a7b") && text.ends_with("9798"), "{text}");
        assert_eq!(text.parse::<VatId>().unwrap(), id);
        let long = "0".repeat(1000);
        let others =
            ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace('7', "g")];
        for other in others.into_iter().chain([&*long, &*"ä".repeat(32)]) {
            let error = format!("{:?}", other.parse::<VatId>().unwrap_err());
            assert!(error.contains("64 hexadecimal digits") && error.len() < 700, "{error}");
        }
    }
}
