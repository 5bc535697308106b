//! Tokens of introductions, for [networks](capnp_threads_core::network::VatNetwork) whose
//! vats introduce each other.
//!
//! There are two kinds, and a network has one of them:
//!
//! - [`keyed`]: the connections prove who the peers are. Tokens hold no secret, and are of use
//!   to nobody but the vat that they were made for.
//! - [`bearer`]: nothing proves who a peer is. Whoever knows the secret in a token gets the
//!   capability, once.
//!
//! Tokens of either kind expire, by the clock of the vat that reads them. Then the vat that
//! was introduced calls through the one that has introduced it.
//!
//! # The form of tokens
//!
//! Every token is bytes, and begins with two that say what it is: the kind (1: keyed, 2:
//! bearer) and the role (0: contact, 1: awaited, 2: completion). Then come the fields, in the
//! order of the tables of [`keyed`] and [`bearer`]: an id of a vat takes 32 bytes, a nonce 16, a
//! digest 32, and an expiry 8, which are a number of seconds since 1970. Numbers are big-endian.
//! Texts come last; where a text has several parts, zero bytes are in between.

pub mod bearer;
pub mod keyed;

use std::time::{Duration, SystemTime};

use capnp_threads_core::network::Token;
use capnp_threads_core::{Error, Result};

/// Where a network without keys lets the secrets of introductions travel, which whoever sees
/// them can use. What is sent in other networks names who may use it.
///
/// ```
/// use capnp_threads_transport::SocketNetwork;
/// use capnp_threads_transport::introducing::Introduce;
///
/// let network = SocketNetwork::client().introducing(Introduce::OnThisMachine);
/// # drop(network);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Introduce {
    /// Nowhere: vats are not introduced to each other.
    Nobody,
    /// Over Unix sockets and loopback addresses: vats are introduced to each other if all of
    /// them are on this machine.
    OnThisMachine,
    /// Anywhere. For networks in which nobody else sees what is sent, and in which a vat may
    /// be told by another one to connect to any address.
    Anywhere,
}

impl Introduce {
    /// Whether a peer may take part, which is on this machine or not.
    pub fn with(self, peer_is_here: bool) -> bool {
        match self {
            Introduce::Nobody => false,
            Introduce::OnThisMachine => peer_is_here,
            Introduce::Anywhere => true,
        }
    }

    /// Whether a peer may be sent to an address, or may send this vat there. An address of
    /// this machine means another machine to a peer that is not here.
    pub fn leads(self, peer_is_here: bool, address_is_here: bool) -> bool {
        self.with(peer_is_here && address_is_here) && (peer_is_here || !address_is_here)
    }
}

/// Whether a host, as it stands in an address, is this machine wherever it is looked up.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The error for who asks for more than [`Introduce`] allows.
pub fn not_here() -> Error {
    Error::failed("this network introduces nobody over connections like this one")
}

/// Bytes that nobody else has drawn.
type Nonce = [u8; 16];

fn nonce() -> Result<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(|error| {
        Error::failed("the system has no random bytes").with_internal(error.to_string())
    })?;
    Ok(nonce)
}

/// The end of an introduction, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expiry(u64);

impl Expiry {
    fn after(lifetime: Duration) -> Self {
        Expiry(now().saturating_add(lifetime.as_secs()))
    }

    fn check(self) -> Result<()> {
        if now() <= self.0 {
            return Ok(());
        }
        Err(Error::failed("this introduction has expired, or a clock is wrong"))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The most bytes of places in a contact. Those that do not fit are left out.
const MAX_PLACES: usize = 2048;

/// As many of these places as fit into a contact.
fn fitting(places: impl IntoIterator<Item = String>) -> String {
    let fitting = places.into_iter().scan(0, |length, place| {
        *length += place.len() + 1;
        (*length <= MAX_PLACES).then_some(place)
    });
    fitting.collect::<Vec<_>>().join("\0")
}

/// What tokens are for.
#[derive(Clone, Copy)]
enum Role {
    Contact = 0,
    Awaited = 1,
    Completion = 2,
}

#[derive(Clone, Copy)]
enum Form {
    Keyed = 1,
    Bearer = 2,
}

fn token(form: Form, role: Role, fields: &[&[u8]]) -> Result<Token> {
    Token::of_bytes(&[&[form as u8, role as u8][..], &fields.concat()].concat())
}

/// The fields of a token that somebody else may have made.
struct Fields {
    bytes: Vec<u8>,
    read: usize,
}

impl Fields {
    fn of(token: &Token, form: Form, role: Role) -> Result<Self> {
        let bytes = token.bytes().unwrap_or_default();
        if bytes.get(..2) != Some(&[form as u8, role as u8]) {
            return Err(malformed());
        }
        Ok(Fields { bytes, read: 2 })
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH]> {
        let (array, _) = self.bytes[self.read..].split_first_chunk().ok_or_else(malformed)?;
        self.read += LENGTH;
        Ok(*array)
    }

    fn expiry(&mut self) -> Result<Expiry> {
        self.array().map(|bytes| Expiry(u64::from_be_bytes(bytes)))
    }

    /// The last field.
    fn text(self) -> Result<String> {
        String::from_utf8(self.bytes[self.read..].to_vec()).map_err(|_| malformed())
    }

    /// The last field of a contact.
    fn places(self) -> Result<Vec<String>> {
        Ok(self.text()?.split('\0').map(str::to_owned).collect())
    }

    fn end(self) -> Result<()> {
        if self.read == self.bytes.len() { Ok(()) } else { Err(malformed()) }
    }
}

fn malformed() -> Error {
    Error::failed("this is no token of this network")
}

#[cfg(test)]
mod tests;
