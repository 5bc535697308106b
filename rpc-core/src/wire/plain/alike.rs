//! Whether both ways to read a frame agree.

use super::super::decode::{by_accessors, decode_segment, decode_within};
use crate::wire::Message;
use crate::wire::message::Message as Frame;

/// Reads a frame, of which `received` makes copies, in the short way, once where it lies, and if
/// that goes, by the accessors, which must say the same. Returns the message if the frame could
/// be read in the short one.
///
/// # Errors
/// What the two say, if they differ.
pub(crate) fn read_alike(received: impl Fn() -> Frame) -> Result<Option<Message>, String> {
    let frame = received();
    let Some(segment) = frame.only_segment() else { return Ok(None) };
    let in_place = decode_segment(segment);
    if super::read(segment).is_none() {
        return match in_place {
            None => Ok(None),
            Some(message) => Err(format!("only where it lies: {message:?}")),
        };
    }
    let Some(mut in_place) = in_place else { return Err("not where it lies".into()) };
    // A frame that names no capabilities may be read where none may be named.
    let [short, long] = [decode_within, by_accessors].map(|way| way(received(), 0));
    let (mut short, mut long) = match (short, long) {
        (Ok(short), Ok(long)) => (short, long),
        (short, long) => return Err(format!("{short:?}, but {long:?}")),
    };
    let said = [&mut short, &mut long, &mut in_place].map(|message| {
        let fds = message.take_fds();
        format!("{message:?} with {fds:?}")
    });
    let agree = said[0] == said[1] && said[0] == said[2];
    if agree { Ok(Some(short)) } else { Err(said.join(", but ")) }
}
