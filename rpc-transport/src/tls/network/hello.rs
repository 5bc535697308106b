//! What vats of a network say to each other before the first message of a connection.
//!
//! The vat that dials says a *dial*, and the other one answers. All numbers are unsigned and
//! big-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | 0: dial; 1: accepted; 2: crossed; 3: refused |
//! | 8 | incarnation: when the sender's network was made, in microseconds since 1970 |
//! | 8 | serial: in a dial, its number among the dials of this incarnation; otherwise that of the sender's last dial, 0 if there was none |
//! | the rest | text: where the sender is reached, in a dial and where it is accepted; the reason, where it is refused |
//!
//! Where the sender is reached are addresses as in the text of a [`TlsVat`](super::TlsVat),
//! behind its `@`.

use std::io;

use super::pairs::Stamp;

/// The longest text, in bytes.
const LONGEST_TEXT: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) kind: Kind,
    pub(super) stamp: Stamp,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dial,
    Accepted,
    Crossed,
    Refused,
}

pub(super) fn encode(hello: &Hello) -> Vec<u8> {
    let kind = match hello.kind {
        Kind::Dial => 0,
        Kind::Accepted => 1,
        Kind::Crossed => 2,
        Kind::Refused => 3,
    };
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&hello.stamp.incarnation.to_be_bytes());
    bytes.extend_from_slice(&hello.stamp.serial.to_be_bytes());
    let mut end = hello.text.len().min(LONGEST_TEXT);
    while !hello.text.is_char_boundary(end) {
        end -= 1;
    }
    bytes.extend_from_slice(&hello.text.as_bytes()[..end]);
    bytes
}

/// # Errors
/// These are not the bytes of one.
pub(super) fn decode(bytes: &[u8]) -> io::Result<Hello> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let short = || wrong("the peer says too little before its first message");
    let (kind, rest) = bytes.split_first().ok_or_else(short)?;
    let kind = match kind {
        0 => Kind::Dial,
        1 => Kind::Accepted,
        2 => Kind::Crossed,
        3 => Kind::Refused,
        _ => return Err(wrong("the peer says what this version does not know")),
    };
    let (incarnation, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (serial, text) = rest.split_first_chunk().ok_or_else(short)?;
    let stamp = Stamp {
        incarnation: u64::from_be_bytes(*incarnation),
        serial: u64::from_be_bytes(*serial),
    };
    let text = str::from_utf8(text).map_err(|_| wrong("the peer says what is no text"))?;
    Ok(Hello { kind, stamp, text: text.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { incarnation: 1 << 40, serial: 7 };

    #[test]
    fn the_bytes_of_a_dial() {
        let hello = Hello { kind: Kind::Dial, stamp: STAMP, text: "a:1".into() };
        let expected = b"\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\x07a:1";
        assert_eq!(encode(&hello), expected);
    }

    #[test]
    fn what_is_said_is_read_as_it_was_written() {
        for kind in [Kind::Dial, Kind::Accepted, Kind::Crossed, Kind::Refused] {
            for text in ["", "a:1,b:2", "the vat is leaving"] {
                let hello = Hello { kind, stamp: STAMP, text: text.into() };
                assert_eq!(decode(&encode(&hello)).unwrap(), hello);
            }
        }
        let long = Hello { kind: Kind::Refused, stamp: STAMP, text: "é".repeat(LONGEST_TEXT) };
        let bytes = encode(&long);
        assert!(bytes.len() <= crate::tls::opened::LONGEST);
        assert_eq!(decode(&bytes).unwrap().text, "é".repeat(LONGEST_TEXT / 2));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let good = encode(&Hello { kind: Kind::Dial, stamp: STAMP, text: String::new() });
        for end in 0..good.len() {
            assert!(decode(&good[..end]).is_err(), "{end}");
        }
        assert!(decode(&[&[4], &good[1..]].concat()).is_err());
        assert!(decode(&[&good[..], &[0xff]].concat()).is_err());
    }
}
