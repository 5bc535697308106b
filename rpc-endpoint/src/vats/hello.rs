//! The first message of a half, which says whose it is.
//!
//! All numbers are unsigned and big-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | `52504331` |
//! | 4 | 0: the sender's half of a connection; 1: it refuses |
//! | 8 | serial: the number of this half, above 0, different for each of this sender |
//! | 8 | answers: the serial of the receiver's half that this one belongs to, or 0 if none was known |
//! | 4 + n | to: the id of the vat that it is meant for, after its length |
//! | 4 + n | from: the id of the sender; in a refusal, the id that the sender was taken for |
//! | 4 + n | the reason, in a refusal only |
//!
//! What follows is ignored.

use std::io::Read;

use super::id::{MAX_ID, is_valid};
use crate::wire::{WireError, read_payload, read_u32, read_u64};

const MAGIC: u32 = 0x5250_4331;

/// The longest reason, in bytes.
const MAX_REASON: usize = 1024;

/// The content of the first message of a half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) kind: Kind,
    pub(crate) serial: u64,
    /// The serial of the half that this one answers; 0 if it answers none.
    pub(crate) answers: u64,
    pub(crate) to: String,
    pub(crate) from: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Half,
    Refusal(String),
}

pub(crate) fn encode(hello: &Hello) -> Vec<u8> {
    let (number, reason) = match &hello.kind {
        Kind::Half => (0_u32, None),
        Kind::Refusal(reason) => (1, Some(reason)),
    };
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&MAGIC.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&hello.serial.to_be_bytes());
    bytes.extend_from_slice(&hello.answers.to_be_bytes());
    push_text(&mut bytes, &hello.to, MAX_ID);
    push_text(&mut bytes, &hello.from, MAX_ID);
    if let Some(reason) = reason {
        push_text(&mut bytes, reason, MAX_REASON);
    }
    bytes
}

/// Appends a text, or as much of it as fits.
fn push_text(bytes: &mut Vec<u8>, text: &str, limit: usize) {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    // Not longer than the limit, which fits.
    let length = u32::try_from(text.len()).unwrap_or_default();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// # Errors
/// These are not the bytes of one.
pub(crate) fn decode(mut bytes: &[u8]) -> Result<Hello, WireError> {
    let input = &mut bytes;
    if read_u32(input)? != MAGIC {
        return Err(WireError::violation("it does not begin as a half of a connection of vats"));
    }
    let number = read_u32(input)?;
    let (serial, answers) = (read_u64(input)?, read_u64(input)?);
    let (to, from) = (read_text(input, MAX_ID)?, read_text(input, MAX_ID)?);
    let kind = match number {
        0 => Kind::Half,
        1 => Kind::Refusal(read_text(input, MAX_REASON)?),
        _ => return Err(WireError::violation(&format!("a half of an unknown kind, {number}"))),
    };
    if serial == 0 || !is_valid(&from) {
        return Err(WireError::violation("a half without a number, or whose sender has no name"));
    }
    Ok(Hello { kind, serial, answers, to, from })
}

fn read_text(input: &mut impl Read, limit: usize) -> Result<String, WireError> {
    let length = read_u32(input)?;
    if usize::try_from(length).map_or(true, |length| length > limit) {
        return Err(WireError::violation(&format!("a text of {length} bytes")));
    }
    let mut text = Vec::new();
    read_payload(input, length, &mut text)?;
    String::from_utf8(text).map_err(|error| WireError::violation(&error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hello(kind: Kind) -> Hello {
        Hello { kind, serial: 7, answers: 1 << 40, to: "bob".into(), from: "alice".into() }
    }

    #[test]
    fn the_bytes_of_a_half() {
        let bytes = encode(&hello(Kind::Half));
        let expected =
            b"RPC1\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\x01\0\0\0\0\0\0\0\0\x03bob\0\0\0\x05alice";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn halves_are_read_as_they_are_written() {
        for kind in [Kind::Half, Kind::Refusal("I am not bob".into())] {
            let mut bytes = encode(&hello(kind.clone()));
            assert_eq!(decode(&bytes).unwrap(), hello(kind));
            for end in 0..bytes.len() {
                assert!(decode(&bytes[..end]).is_err(), "{end}");
            }
            bytes.extend_from_slice(b"of a later version");
            assert!(decode(&bytes).is_ok());
        }
    }

    #[test]
    fn what_is_no_half_is_refused() {
        let good = encode(&hello(Kind::Half));
        for (place, byte) in [(0, 1), (7, 2), (15, 0), (24, 1), (28, 0xff)] {
            let mut bytes = good.clone();
            bytes[place] = byte;
            assert!(decode(&bytes).is_err(), "{place}");
        }
    }

    #[test]
    fn a_name_that_is_no_id_is_refused() {
        for from in ["", "a@b", "a\0b", "a\nb"] {
            let hello = Hello { from: from.to_owned(), ..hello(Kind::Half) };
            assert!(decode(&encode(&hello)).is_err(), "{from:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let long = hello(Kind::Refusal("é".repeat(MAX_REASON)));
        let Kind::Refusal(reason) = decode(&encode(&long)).unwrap().kind else { panic!() };
        assert_eq!(reason, "é".repeat(MAX_REASON / 2));
    }
}
