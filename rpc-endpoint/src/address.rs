//! Who an endpoint is, and which connection is meant.

use std::fmt;
use std::sync::Arc;

use capnp_threads_transport::VatId;

/// The address of an endpoint: `host:port:endpoint-id`, or `VATID@host:port:endpoint-id` in
/// a network that has a key, where nobody else can have that address.
///
/// It is split at the last two colons, so that `::1:7113:0` is endpoint 0 at port
/// 7113 of the host `::1`. Two endpoints share one TCP connection if each names
/// the other by the very text by which the other names itself; `localhost` and
/// `127.0.0.1` are different peers.
///
/// Any text can be made into an address; one that cannot be split fails when it
/// is connected to. Addresses are ordered by their bytes.
///
/// ```
/// use capnp_threads_endpoint::EndpointAddress;
///
/// let address = EndpointAddress::from("localhost:7113:4");
/// assert_eq!(address.parts().unwrap().port, 7113);
/// assert!(EndpointAddress::from("nonsense").parts().is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointAddress(Arc<str>);

/// What an [`EndpointAddress`] consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressParts<'a> {
    /// The vat whose address it is, if its network has a key.
    pub vat: Option<VatId>,
    /// A name or an IP address, without brackets.
    pub host: &'a str,
    /// The TCP port.
    pub port: u16,
    /// Which endpoint behind that port.
    pub endpoint: EndpointId,
}

/// The number of an endpoint within its network, counted from 0.
pub type EndpointId = u32;

impl EndpointAddress {
    /// Puts an address together.
    pub fn new(host: &str, port: u16, endpoint: EndpointId) -> Self {
        EndpointAddress(format!("{host}:{port}:{endpoint}").into())
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Splits the address; `None` if it does not have three parts, or if the port or
    /// the endpoint's id is not a number.
    pub fn parts(&self) -> Option<AddressParts<'_>> {
        let (rest, endpoint) = self.0.rsplit_once(':')?;
        let (host, port) = rest.rsplit_once(':')?;
        let (vat, host) = split_vat(host);
        Some(AddressParts { vat, host, port: number(port)?, endpoint: number(endpoint)? })
    }

    /// Puts an address together, of a vat if it has a key.
    pub(crate) fn of(vat: Option<VatId>, host: &str, port: u16, endpoint: EndpointId) -> Self {
        Self::nowhere(vat, &format!("{host}:{port}:{endpoint}"))
    }

    /// An address in which only the vat has a meaning.
    pub(crate) fn nowhere(vat: Option<VatId>, name: &str) -> Self {
        match vat {
            Some(vat) => Self::from(format!("{vat}@{name}")),
            None => Self::from(name),
        }
    }

    /// The vat whose address it is, also where there is nothing to dial. In a network with a
    /// key, the peers of links have proved it.
    pub(crate) fn vat(&self) -> Option<VatId> {
        split_vat(&self.0).0
    }

    /// The address without the vat.
    pub(crate) fn place(&self) -> &str {
        split_vat(&self.0).1
    }
}

fn split_vat(text: &str) -> (Option<VatId>, &str) {
    let split = text.split_once('@');
    match split.and_then(|(vat, rest)| Some((vat.parse().ok()?, rest))) {
        Some((vat, rest)) => (Some(vat), rest),
        None => (None, text),
    }
}

/// `parse` alone would take a sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl From<&str> for EndpointAddress {
    fn from(text: &str) -> Self {
        EndpointAddress(text.into())
    }
}

impl From<String> for EndpointAddress {
    fn from(text: String) -> Self {
        EndpointAddress(text.into())
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// An incoming lightweight connection, as its receiving endpoint names it.
///
/// It is made of the number of the TCP connection, which the receiver counts from
/// 1 anew for each TCP connection, and the number of the lightweight connection
/// on it, which the sender counts from 1024. A connection of an endpoint to
/// itself has 0 for the former.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Puts an id together.
    pub fn new(heavyweight: u32, lightweight: u32) -> Self {
        ConnectionId(u64::from(heavyweight) << 32 | u64::from(lightweight))
    }

    /// The id as one number: `heavyweight << 32 | lightweight`.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Which TCP connection; 0 for the endpoint itself.
    pub fn heavyweight(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or_default()
    }

    /// Which lightweight connection of that TCP connection.
    pub fn lightweight(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or_default()
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.heavyweight(), self.lightweight())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_the_last_two_colons() {
        for (text, host, port, endpoint) in [
            ("127.0.0.1:7113:0", "127.0.0.1", 7113, 0),
            ("::1:7113:0", "::1", 7113, 0),
            ("fe80::1%2:1:4294967295", "fe80::1%2", 1, u32::MAX),
            ("some.host:65535:7", "some.host", 65535, 7),
            (":1:2", "", 1, 2),
        ] {
            let address = EndpointAddress::from(text);
            assert_eq!(address.parts().unwrap(), AddressParts { vat: None, host, port, endpoint });
            assert_eq!(EndpointAddress::new(host, port, endpoint), address);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_has_not_three_parts_is_no_address() {
        let wrong = ["", "host", "host:1", "host:1:", "host::1", "host:http:0", "host:65536:0"];
        for text in wrong.into_iter().chain(["host:1:-1", "host:+1:1", "host:1:4294967296"]) {
            assert_eq!(EndpointAddress::from(text).parts(), None, "{text}");
        }
    }

    #[test]
    fn an_address_may_be_that_of_a_vat() {
        let vat = VatId::from_public_key([0xa5; 32]);
        let text = format!("{vat}@::1:7113:0");
        let address = EndpointAddress::from(&*text);
        let parts = AddressParts { vat: Some(vat), host: "::1", port: 7113, endpoint: 0 };
        assert_eq!(address.parts(), Some(parts));
        assert_eq!((address.vat(), address.place()), (Some(vat), "::1:7113:0"));
        assert_eq!(EndpointAddress::of(Some(vat), "::1", 7113, 0), address);
        // What is no id is part of a host's name.
        let short = EndpointAddress::from(&text[1..]);
        assert_eq!((short.vat(), short.parts().unwrap().vat), (None, None));
        let nowhere = EndpointAddress::nowhere(Some(vat), "undialable-7");
        assert_eq!((nowhere.parts(), nowhere.vat()), (None, Some(vat)));
    }

    #[test]
    fn addresses_are_ordered_by_their_bytes() {
        assert!(EndpointAddress::from("a:10:0") < EndpointAddress::from("a:9:0"));
        assert!(EndpointAddress::from("a:1:0") < EndpointAddress::from("a:1:00"));
    }

    #[test]
    fn a_connection_id_has_two_halves() {
        let id = ConnectionId::new(3, 1024);
        assert_eq!((id.heavyweight(), id.lightweight()), (3, 1024));
        assert_eq!(id.as_u64(), 3 << 32 | 1024);
        assert_eq!(id.to_string(), "3/1024");
    }
}
