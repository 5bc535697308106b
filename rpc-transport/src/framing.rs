//! Messages in a stream of bytes: the standard stream framing of Cap'n Proto.
//!
//! On the wire a message is a segment table followed by its segments:
//!
//! | bytes | content |
//! |---|---|
//! | 4 | the number of segments minus one, little-endian |
//! | 4 for each segment | its length in words of eight bytes, little-endian |
//! | 0 or 4 | zeros, so that the table fills whole words |
//! | 8 for each word | the segments, one behind the other |
//!
//! [`FramedReader`] and [`FramedWriter`] do this over any [`Read`] and
//! [`Write`]; the byte transports of this crate are built from them.
//!
//! [`Read`]: std::io::Read
//! [`Write`]: std::io::Write

mod reader;
mod source;
#[cfg(test)]
mod tests;
mod writer;
#[cfg(test)]
mod writer_fd_tests;

pub use reader::FramedReader;
pub use writer::FramedWriter;
pub(crate) use writer::SendFds;

/// The bytes of one number in the segment table.
const NUMBER: usize = 4;

/// The bytes of one word.
const WORD: usize = 8;
