//! Whether both ways to read a frame agree.

use super::super::decode::{by_accessors, decode_within};
use crate::wire::Message;
use crate::wire::message::Message as Frame;

/// Reads a frame, of which `received` makes copies, in the short way, and if that goes, by the
/// accessors, which must say the same. Returns the message if the frame could be read in the
/// short one.
///
/// # Errors
/// What the two say, if they differ.
pub(crate) fn read_alike(received: impl Fn() -> Frame) -> Result<Option<Message>, String> {
    if super::read(&received()).is_none() {
        return Ok(None);
    }
    // A frame that names no capabilities may be read where none may be named.
    let [short, long] = [decode_within, by_accessors].map(|way| way(received(), 0));
    let (mut short, mut long) = match (short, long) {
        (Ok(short), Ok(long)) => (short, long),
        (short, long) => return Err(format!("{short:?}, but {long:?}")),
    };
    let said = [&mut short, &mut long].map(|message| {
        let fds = message.take_fds();
        format!("{message:?} with {fds:?}")
    });
    if said[0] == said[1] { Ok(Some(short)) } else { Err(said.join(", but ")) }
}
