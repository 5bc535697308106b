//! What travels once two endpoints are connected.

use std::io::Read;

use super::{WireError, push, read_u32, read_u32_or_end};
use crate::parameters::Dialect;

/// Lightweight connections are numbered from here; lower numbers are control
/// words.
pub(crate) const FIRST_CONNECTION: u32 = 1024;

/// The longest piece of a message in the multiplexed dialect, in bytes.
pub(crate) const MAX_FRAGMENT: u32 = 64 << 10;

/// In the multiplexed dialect: more of this message follows.
const MORE: u32 = 1 << 31;

const CREATED: u32 = 0;
const CLOSE: u32 = 1;
const CLOSE_SOCKET: u32 = 2;
const CLOSE_ENDPOINT: u32 = 3;
const PROBE: u32 = 4;
const PROBE_ACK: u32 = 5;
const CREDIT: u32 = 6;

/// In the original dialect, of which only the releases 0.5.0 and 0.5.1 know probes.
const ORIGINAL_PROBE: u32 = 3;
const ORIGINAL_PROBE_ACK: u32 = 4;

/// A message about connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// The sender opened a connection.
    Created { lcid: u32 },
    /// The sender will not use a connection any more.
    Close { lcid: u32 },
    /// The sender has no use for the socket; `last_in` is the last connection that
    /// it has seen created, 0 if none.
    CloseSocket { last_in: u32 },
    /// The sending endpoint is no more. Not in the original dialect.
    CloseEndpoint,
    /// Asks for an ack. In the original dialect, only some releases do.
    Probe,
    /// Answers a probe.
    ProbeAck,
    /// The receiver of a connection allows `units` more on it. Only in the
    /// multiplexed dialect.
    Credit { lcid: u32, units: u32 },
}

/// The start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// All of it.
    Control(Control),
    /// `length` bytes of a message follow; with `more`, they are not its last.
    Data { lcid: u32, length: u32, more: bool },
}

impl Header {
    /// Appends the header's bytes. `more` has no place in the older dialects.
    pub(crate) fn encode(&self, dialect: Dialect, bytes: &mut Vec<u8>) {
        match *self {
            Header::Control(control) => control.encode(dialect, bytes),
            Header::Data { lcid, length, more } => {
                push(bytes, &[lcid, if more { length | MORE } else { length }]);
            }
        }
    }
}

impl Control {
    fn encode(self, dialect: Dialect, bytes: &mut Vec<u8>) {
        let is_original = dialect == Dialect::Original;
        match self {
            Control::Created { lcid } => push(bytes, &[CREATED, lcid]),
            Control::Close { lcid } => push(bytes, &[CLOSE, lcid]),
            Control::CloseSocket { last_in } => push(bytes, &[CLOSE_SOCKET, last_in]),
            Control::CloseEndpoint => push(bytes, &[CLOSE_ENDPOINT]),
            Control::Probe if is_original => push(bytes, &[ORIGINAL_PROBE]),
            Control::Probe => push(bytes, &[PROBE]),
            Control::ProbeAck if is_original => push(bytes, &[ORIGINAL_PROBE_ACK]),
            Control::ProbeAck => push(bytes, &[PROBE_ACK]),
            Control::Credit { lcid, units } => push(bytes, &[CREDIT, lcid, units]),
        }
    }
}

/// Reads the next header; `None` if the stream ended before it.
pub(crate) fn read_header(
    input: &mut impl Read,
    dialect: Dialect,
) -> Result<Option<Header>, WireError> {
    let Some(word) = read_u32_or_end(input)? else { return Ok(None) };
    if word >= FIRST_CONNECTION {
        let length = read_u32(input)?;
        let fragments = dialect == Dialect::Multiplexed;
        let more = fragments && length & MORE != 0;
        let length = if fragments { length & !MORE } else { length };
        if fragments && length > MAX_FRAGMENT {
            return Err(WireError::violation(&format!("a fragment of {length} bytes")));
        }
        return Ok(Some(Header::Data { lcid: word, length, more }));
    }
    let control = match word {
        CREATED => Control::Created { lcid: read_u32(input)? },
        CLOSE => Control::Close { lcid: read_u32(input)? },
        CLOSE_SOCKET => Control::CloseSocket { last_in: read_u32(input)? },
        ORIGINAL_PROBE if dialect == Dialect::Original => Control::Probe,
        ORIGINAL_PROBE_ACK if dialect == Dialect::Original => Control::ProbeAck,
        CLOSE_ENDPOINT if dialect >= Dialect::Versioned => Control::CloseEndpoint,
        PROBE if dialect >= Dialect::Versioned => Control::Probe,
        PROBE_ACK if dialect >= Dialect::Versioned => Control::ProbeAck,
        CREDIT if dialect == Dialect::Multiplexed => {
            Control::Credit { lcid: read_u32(input)?, units: read_u32(input)? }
        }
        unknown => return Err(WireError::violation(&format!("the control word {unknown}"))),
    };
    Ok(Some(Header::Control(control)))
}
