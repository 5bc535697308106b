//! How a dialler introduces itself and what it is answered.

use std::io::Read;

use super::{WireError, push, read_exact, read_u32, read_u64};
use crate::address::{EndpointAddress, EndpointId};
use crate::parameters::Dialect;

/// The version numbers with which a handshake may begin.
const VERSION_0: u32 = 0;
/// One of a range that is ours; the lower half counts versions.
pub(crate) const VERSION_MULTIPLEXED: u32 = 0x4d55_0001;
const OURS: u32 = 0x4d55_0000;
const OURS_MASK: u32 = 0xffff_0000;

const ACCEPTED: u32 = 0;
const INVALID: u32 = 1;
const CROSSED: u32 = 2;
const HOST_MISMATCH: u32 = 3;
const UNSUPPORTED_VERSION: u32 = u32::MAX;

/// The bytes of [`Terms`].
const TERMS: u32 = 24;

/// What may be added to a handshake of our dialect in later versions, in bytes.
const MAX_ADDITION: u32 = 1024;

/// A dialler's introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Which endpoint it wants.
    pub(crate) endpoint: EndpointId,
    /// Its own address; `None` if it cannot be dialled.
    pub(crate) from: Option<EndpointAddress>,
    /// In which dialect it speaks.
    pub(crate) kind: DialectTerms,
}

/// A dialect, with what its handshake says besides addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialectTerms {
    Original,
    Versioned,
    Multiplexed(Terms),
}

impl DialectTerms {
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            DialectTerms::Original => Dialect::Original,
            DialectTerms::Versioned => Dialect::Versioned,
            DialectTerms::Multiplexed(_) => Dialect::Multiplexed,
        }
    }
}

/// What each side of the multiplexed dialect tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) stamp: Stamp,
    /// The credit of each connection towards the sender when it is opened.
    pub(crate) window: u32,
    /// The longest message that the sender accepts, in bytes.
    pub(crate) max_message: u32,
}

/// When something was said by a node: later is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// Greater after each restart.
    pub(crate) incarnation: u64,
    /// Counts the dials of one incarnation.
    pub(crate) serial: u64,
}

/// What a dialler is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Terms come with it in the multiplexed dialect only.
    Accepted(Option<Terms>),
    /// There is no such endpoint.
    Invalid,
    /// A dial in the other direction is preferred, or there is a connection.
    Crossed,
    /// The dialler's claimed host is not the one that it dials from.
    HostMismatch { claimed: String, numeric: String, resolved: String },
    /// A handshake of this version may follow on the same socket.
    UnsupportedVersion(u32),
}

/// The most that is read of a handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireLimits {
    /// Bytes of an address.
    pub(crate) max_address: u32,
    /// Newer dialects are not understood.
    pub(crate) newest: Dialect,
}

/// What a server makes of the first bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Introduction {
    Hello(Hello),
    /// A version that is not known here; its handshake was skipped. The dialler
    /// is to be told to use this one.
    Unsupported(u32),
}

/// The bytes with which to dial. An address is at most as long as a `u32` tells.
pub(crate) fn encode_hello(hello: &Hello) -> Vec<u8> {
    let address = hello.from.as_ref().map_or(&b""[..], |from| from.as_str().as_bytes());
    let length = u32::try_from(address.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    match hello.kind {
        DialectTerms::Original => {}
        DialectTerms::Versioned => push(&mut bytes, &[VERSION_0, 8 + length]),
        DialectTerms::Multiplexed(_) => {
            push(&mut bytes, &[VERSION_MULTIPLEXED, 8 + length + TERMS]);
        }
    }
    push(&mut bytes, &[hello.endpoint, length]);
    bytes.extend_from_slice(address);
    if let DialectTerms::Multiplexed(terms) = hello.kind {
        push_terms(&mut bytes, terms);
    }
    bytes
}

/// Reads what a dialler begins with.
///
/// See Note [telling the dialects apart].
pub(crate) fn read_introduction(
    input: &mut impl Read,
    limits: WireLimits,
) -> Result<Introduction, WireError> {
    let first = read_u32(input)?;
    let second = read_u32(input)?;
    if first & OURS_MASK == OURS && first != OURS {
        if second > 8 + limits.max_address + TERMS + MAX_ADDITION {
            return Err(WireError::violation(&format!("a handshake of {second} bytes")));
        }
        if first != VERSION_MULTIPLEXED || limits.newest < Dialect::Multiplexed {
            skip(input, second)?;
            let ours = limits.newest >= Dialect::Multiplexed;
            let version = if ours { VERSION_MULTIPLEXED } else { VERSION_0 };
            return Ok(Introduction::Unsupported(version));
        }
        return read_multiplexed(&mut input.take(second.into()), limits);
    }
    if second < 8 {
        // Too short for a version's handshake, and possibly all there is.
        return read_original(first, second, &[], input, limits);
    }
    let mut next = [0; 8];
    read_exact(input, &mut next)?;
    let third = u32::from_be_bytes([next[0], next[1], next[2], next[3]]);
    let fourth = u32::from_be_bytes([next[4], next[5], next[6], next[7]]);
    if fourth != second - 8 {
        return read_original(first, second, &next, input, limits);
    }
    check_address_length(fourth, limits)?;
    if first != VERSION_0 || limits.newest < Dialect::Versioned {
        skip(input, fourth)?;
        return Ok(Introduction::Unsupported(VERSION_0));
    }
    let from = read_text(input, fourth)?;
    Ok(Introduction::Hello(Hello {
        endpoint: third,
        from: address(from),
        kind: DialectTerms::Versioned,
    }))
}

// Note [telling the dialects apart]
//
// The original dialect begins with the number of an endpoint and the length of an
// address, the later ones with a version and the length of what follows, which is
// the number of an endpoint and the length of an address. So a version is told by
// its second number being 8 more than its fourth. In the original dialect there
// are the bytes 5 to 8 of an address in that place, which are printable: as a
// number, more than any address is long. Our own dialect has a version that no
// network numbers its endpoints up to.

fn read_original(
    endpoint: EndpointId,
    length: u32,
    start: &[u8],
    input: &mut impl Read,
    limits: WireLimits,
) -> Result<Introduction, WireError> {
    check_address_length(length, limits)?;
    let from = read_text(&mut start.chain(input), length)?;
    let kind = DialectTerms::Original;
    Ok(Introduction::Hello(Hello { endpoint, from: address(from), kind }))
}

/// Reads what follows the version and the length of it all.
fn read_multiplexed<R: Read>(
    input: &mut std::io::Take<R>,
    limits: WireLimits,
) -> Result<Introduction, WireError> {
    let endpoint = read_u32(input)?;
    let length = read_u32(input)?;
    check_address_length(length, limits)?;
    let from = read_text(input, length)?;
    let terms = read_terms(input)?;
    let rest = u32::try_from(input.limit()).unwrap_or(u32::MAX);
    skip(input, rest)?;
    let kind = DialectTerms::Multiplexed(terms);
    Ok(Introduction::Hello(Hello { endpoint, from: address(from), kind }))
}

fn check_address_length(length: u32, limits: WireLimits) -> Result<(), WireError> {
    if length > limits.max_address {
        let limit = limits.max_address;
        return Err(WireError::violation(&format!(
            "an address of {length} bytes, the limit is {limit}"
        )));
    }
    Ok(())
}

fn address(text: String) -> Option<EndpointAddress> {
    if text.is_empty() { None } else { Some(text.into()) }
}

fn read_text(input: &mut impl Read, length: u32) -> Result<String, WireError> {
    let mut bytes = Vec::new();
    super::read_payload(input, length, &mut bytes)?;
    String::from_utf8(bytes).map_err(|_| WireError::violation("an address that is not text"))
}

fn skip(input: &mut impl Read, length: u32) -> Result<(), WireError> {
    let mut rest = input.take(length.into());
    std::io::copy(&mut rest, &mut std::io::sink())?;
    if rest.limit() > 0 { Err(WireError::Truncated) } else { Ok(()) }
}

/// The bytes of a reply.
pub(crate) fn encode_reply(reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    match reply {
        Reply::Accepted(None) => push(&mut bytes, &[ACCEPTED]),
        Reply::Accepted(Some(terms)) => {
            push(&mut bytes, &[ACCEPTED, TERMS]);
            push_terms(&mut bytes, *terms);
        }
        Reply::Invalid => push(&mut bytes, &[INVALID]),
        Reply::Crossed => push(&mut bytes, &[CROSSED]),
        Reply::HostMismatch { claimed, numeric, resolved } => {
            push(&mut bytes, &[HOST_MISMATCH]);
            for text in [claimed, numeric, resolved] {
                push(&mut bytes, &[u32::try_from(text.len()).unwrap_or(u32::MAX)]);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        Reply::UnsupportedVersion(version) => push(&mut bytes, &[UNSUPPORTED_VERSION, *version]),
    }
    bytes
}

/// Reads the reply to a dial in `dialect`.
pub(crate) fn read_reply(
    input: &mut impl Read,
    dialect: Dialect,
    limits: WireLimits,
) -> Result<Reply, WireError> {
    Ok(match read_u32(input)? {
        ACCEPTED if dialect == Dialect::Multiplexed => {
            let length = read_u32(input)?;
            if length > TERMS + MAX_ADDITION {
                return Err(WireError::violation(&format!("terms of {length} bytes")));
            }
            let mut input = input.take(length.into());
            let terms = read_terms(&mut input)?;
            let rest = u32::try_from(input.limit()).unwrap_or(u32::MAX);
            skip(&mut input, rest)?;
            Reply::Accepted(Some(terms))
        }
        ACCEPTED => Reply::Accepted(None),
        INVALID => Reply::Invalid,
        CROSSED => Reply::Crossed,
        HOST_MISMATCH if dialect >= Dialect::Versioned => {
            let mut texts = [String::new(), String::new(), String::new()];
            for text in &mut texts {
                let length = read_u32(input)?;
                check_address_length(length, limits)?;
                *text = read_text(input, length)?;
            }
            let [claimed, numeric, resolved] = texts;
            Reply::HostMismatch { claimed, numeric, resolved }
        }
        UNSUPPORTED_VERSION if dialect >= Dialect::Versioned => {
            Reply::UnsupportedVersion(read_u32(input)?)
        }
        unknown => return Err(WireError::violation(&format!("the reply {unknown} to a dial"))),
    })
}

fn push_terms(bytes: &mut Vec<u8>, terms: Terms) {
    bytes.extend_from_slice(&terms.stamp.incarnation.to_be_bytes());
    bytes.extend_from_slice(&terms.stamp.serial.to_be_bytes());
    push(bytes, &[terms.window, terms.max_message]);
}

/// The least window: smaller ones would stall messages, see Note [credit].
pub(crate) const MIN_WINDOW: u32 = 64 << 10;

fn read_terms(input: &mut impl Read) -> Result<Terms, WireError> {
    let stamp = Stamp { incarnation: read_u64(input)?, serial: read_u64(input)? };
    let (window, max_message) = (read_u32(input)?, read_u32(input)?);
    if window < MIN_WINDOW {
        return Err(WireError::violation(&format!("a window of {window} units")));
    }
    Ok(Terms { stamp, window, max_message })
}
