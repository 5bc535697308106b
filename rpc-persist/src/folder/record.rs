//! The bytes of a record's file.
//!
//! ```text
//! MAGIC                                8 bytes
//! SHA-256 of MAGIC, the key and the rest   32
//! 1 if there is an owner, otherwise 0       1
//! the length of the owner's name            8, least significant byte first
//! the length of the kind                    8, likewise
//! the owner's name, the kind, the state
//! ```
//!
//! The checksum covers everything, so that a file that it fits is not damaged. It covers
//! the key, too, so that a file that was renamed counts as damaged.

use std::fmt;

use capnp_threads_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::reference::Owner;
use crate::store::{Key, Record};

const MAGIC: &[u8; 8] = b"capnpref";
const CHECKSUM_BYTES: usize = 32;

/// The longest file. What is longer is damaged, and reading all of it might take more
/// memory than there is.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// A file that is not as it was written, and how that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged(&'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What to write.
///
/// # Errors
/// It would be too long.
pub(crate) fn encode(key: &Key, record: &Record) -> Result<Vec<u8>> {
    let owner = record.owner.as_ref().map(Owner::name);
    let mut body = vec![u8::from(owner.is_some())];
    let owner = owner.unwrap_or_default();
    body.extend((owner.len() as u64).to_le_bytes());
    body.extend((record.kind.len() as u64).to_le_bytes());
    body.extend(owner.as_bytes());
    body.extend(record.kind.as_bytes());
    body.extend(&record.state);
    let bytes = [&MAGIC[..], &checksum(key, &body), &body].concat();
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::failed(format!("more than {MAX_BYTES} bytes cannot be saved at once")));
    }
    Ok(bytes)
}

/// What was written.
pub(crate) fn decode(key: &Key, bytes: &[u8]) -> Result<Record, Damaged> {
    let body = checked(key, bytes)?;
    parse(body).ok_or(Damaged("its parts do not fit"))
}

fn checked<'a>(key: &Key, bytes: &'a [u8]) -> Result<&'a [u8], Damaged> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Damaged("it is too long"));
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damaged("it does not begin as a record"))?;
    let (expected, body) =
        rest.split_at_checked(CHECKSUM_BYTES).ok_or(Damaged("it has no checksum"))?;
    if checksum(key, body) == *expected {
        Ok(body)
    } else {
        Err(Damaged("its checksum does not fit"))
    }
}

fn checksum(key: &Key, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    hash.update(key.0);
    hash.update(body);
    hash.finalize().into()
}

/// The file whose content is this, whatever that is.
#[cfg(any(test, fuzzing))]
pub(crate) fn with_checksum(key: &Key, body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &checksum(key, body), body].concat()
}

fn parse(body: &[u8]) -> Option<Record> {
    let (sealed, rest) = body.split_first()?;
    let (owner, rest) = rest.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (owner, rest) = rest.split_at_checked(length(*owner)?)?;
    let (kind, state) = rest.split_at_checked(length(*kind)?)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let owner = match sealed {
        0 if owner.is_empty() => None,
        1 => Some(Owner::new(text(owner)?)),
        _ => return None,
    };
    Some(Record { owner, kind: text(kind)?, state: state.to_vec() })
}

fn length(bytes: [u8; 8]) -> Option<usize> {
    u64::from_le_bytes(bytes).try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: Key = Key([7; 32]);

    fn records() -> [Record; 4] {
        let record = |owner: Option<&str>, kind: &str, state: &[u8]| Record {
            owner: owner.map(Owner::new),
            kind: kind.into(),
            state: state.into(),
        };
        [
            record(Some("alice"), "counter", &[0, 1, 2, 255]),
            record(None, "counter", &[]),
            record(Some(""), "", b"state"),
            record(None, "käse", &[9; 1000]),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for record in records() {
            assert_eq!(decode(&KEY, &encode(&KEY, &record).unwrap()), Ok(record));
        }
    }

    #[test]
    fn no_bit_can_change_unnoticed() {
        for record in records() {
            let mut bytes = encode(&KEY, &record).unwrap();
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                decode(&KEY, &bytes).unwrap_err();
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn nothing_can_be_missing_or_added_unnoticed() {
        for record in records() {
            let mut bytes = encode(&KEY, &record).unwrap();
            for length in 0..bytes.len() {
                decode(&KEY, &bytes[..length]).unwrap_err();
                decode(&KEY, &bytes[length + 1..]).unwrap_err();
            }
            bytes.push(0);
            decode(&KEY, &bytes).unwrap_err();
        }
    }

    #[test]
    fn a_record_under_another_key_is_damaged() {
        for record in records() {
            let bytes = encode(&KEY, &record).unwrap();
            assert_eq!(decode(&Key([8; 32]), &bytes), Err(Damaged("its checksum does not fit")));
        }
    }

    #[test]
    fn what_the_checksum_fits_need_not_make_sense() {
        let with_checksum = |body: &[u8]| with_checksum(&KEY, body);
        let lengths = |sealed: u8, owner: u64, kind: u64| {
            [&[sealed][..], &owner.to_le_bytes(), &kind.to_le_bytes(), b"ab"].concat()
        };
        for body in [
            &[][..],
            &[1],
            &lengths(2, 1, 1),
            // For nobody, and for somebody.
            &lengths(0, 1, 1),
            &lengths(1, 3, 0),
            &lengths(1, u64::MAX, 1),
            &lengths(1, 1, u64::MAX),
            &[&lengths(1, 1, 1)[..17], &[0xff, b'k']].concat(),
        ] {
            decode(&KEY, &with_checksum(body)).unwrap_err();
        }
        decode(&KEY, &with_checksum(&lengths(1, 1, 1))).unwrap();
    }

    #[test]
    fn a_record_that_is_too_long_is_not_written() {
        let state = vec![0; usize::try_from(MAX_BYTES).unwrap()];
        let record = Record { owner: None, kind: String::new(), state };
        assert!(encode(&KEY, &record).unwrap_err().reason().contains("67108864"));
    }
}
