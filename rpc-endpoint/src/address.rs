//! Who an endpoint is, and which connection is meant.

use std::fmt;
use std::sync::Arc;

/// The address of an endpoint: `host:port:endpoint-id`.
///
/// It is split at the last two colons, so that `::1:7113:0` is endpoint 0 at port
/// 7113 of the host `::1`. Two endpoints share one TCP connection if each names
/// the other by the very text by which the other names itself; `localhost` and
/// `127.0.0.1` are different peers.
///
/// Any text can be made into an address; one that cannot be split fails when it
/// is connected to. Addresses are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointAddress(Arc<str>);

/// What an [`EndpointAddress`] consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressParts<'a> {
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
        Some(AddressParts { host, port: number(port)?, endpoint: number(endpoint)? })
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
            assert_eq!(address.parts().unwrap(), AddressParts { host, port, endpoint });
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
