//! The bytes of the three dialects, apart from what they mean.
//!
//! Every number is an unsigned one of 32 bits, the highest byte first, unless it
//! says otherwise. `docs/endpoints.md` has the whole protocol.

mod frame;
mod handshake;

pub(crate) use frame::{Control, FIRST_CONNECTION, Header, MAX_FRAGMENT, read_header};
pub(crate) use handshake::{
    DialectTerms, Hello, Introduction, MIN_WINDOW, Reply, Stamp, Terms, WireLimits, encode_hello,
    encode_reply, read_introduction, read_reply,
};

use std::io::{self, Read};

use thiserror::Error;

#[cfg(test)]
mod tests;

/// Why bytes could not be understood.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The stream ended inside of something.
    #[error("the peer closed the socket in the middle of a message")]
    Truncated,
    /// The peer broke the rules.
    #[error("the peer broke the protocol: {0}")]
    Violation(String),
}

impl WireError {
    pub(crate) fn violation(what: &(impl ToString + ?Sized)) -> Self {
        WireError::Violation(what.to_string())
    }
}

/// Reads exactly as much as there is room.
pub(crate) fn read_exact(input: &mut impl Read, room: &mut [u8]) -> Result<(), WireError> {
    input.read_exact(room).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => WireError::Truncated,
        _ => WireError::Io(error),
    })
}

pub(crate) fn read_u32(input: &mut impl Read) -> Result<u32, WireError> {
    let mut bytes = [0; 4];
    read_exact(input, &mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

pub(crate) fn read_u64(input: &mut impl Read) -> Result<u64, WireError> {
    let mut bytes = [0; 8];
    read_exact(input, &mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Like [`read_u32`], but the stream may have ended before.
fn read_u32_or_end(input: &mut impl Read) -> Result<Option<u32>, WireError> {
    let mut bytes = [0; 4];
    let count = loop {
        match input.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome?,
        }
    };
    if count == 0 {
        return Ok(None);
    }
    read_exact(input, &mut bytes[count..])?;
    Ok(Some(u32::from_be_bytes(bytes)))
}

/// Appends `length` bytes to `buffer`. Memory is only set aside for what has
/// arrived, so that a peer cannot occupy more by announcing much.
pub(crate) fn read_payload(
    input: &mut impl Read,
    length: u32,
    buffer: &mut Vec<u8>,
) -> Result<(), WireError> {
    /// What is set aside without any of it having arrived.
    const FIRST_STEP: usize = 64 << 10;
    let length = usize::try_from(length).map_err(|error| WireError::violation(&error))?;
    buffer.try_reserve(length.min(FIRST_STEP)).map_err(io::Error::from)?;
    let read = input.by_ref().take(length as u64).read_to_end(buffer)?;
    if read < length { Err(WireError::Truncated) } else { Ok(()) }
}

fn push(bytes: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
}
