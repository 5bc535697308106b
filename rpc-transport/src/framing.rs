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
//! [`FramedReader`] and [`FramedWriter`] do this over any [`Read`] and [`Write`].
//! The byte transports of this crate are built from them, and use nothing that a
//! transport of one's own cannot use, too.
//!
//! # A fast transport of one's own
//!
//! [`halves::join`](crate::halves::join) makes a transport of any two streams. Four
//! things make it faster, or carry more, where the stream is capable of it:
//!
//! - [`FramedWriter::writing_now`], for streams that can say that a write would have
//!   to wait. Threads that call then write to the stream themselves. This is worth
//!   most: without it, the connection's send thread has to be woken for every
//!   message.
//! - [`TransportControl::send_buffer`], for streams that know how much they take
//!   before a write waits. Streaming calls fill it, and no more.
//! - [`FramedWriter::sending_fds`] and [`FramedReader::receiving_fds`], for streams
//!   that carry file descriptors.
//!
//! - [`FramedReader::polling`], for streams with a descriptor that tells when there is
//!   something to read; [`FramedReader::polling_with`] if they keep bytes of their own.
//!   Threads that wait for an answer then read it themselves.
//!
//! Otherwise reading needs nothing: [`FramedReader`] fetches as many messages with one
//! `read` as are there.
//!
//! ```
//! use std::io::{self, IoSlice, Read, Write};
//! use std::net::Shutdown;
//! use std::os::unix::net::UnixStream;
//! use std::sync::Arc;
//!
//! use capnp_threads_transport::framing::{FramedReader, FramedWriter};
//! use capnp_threads_transport::{PeerDescription, Transport, TransportControl};
//! use rustix::net::{SendAncillaryBuffer, SendFlags};
//!
//! /// A socket that reader, writer and control share.
//! #[derive(Clone)]
//! struct Socket(Arc<UnixStream>);
//!
//! impl Read for Socket {
//!     fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
//!         (&*self.0).read(room)
//!     }
//! }
//!
//! impl Socket {
//!     fn send(&self, slices: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
//!         let mut none = SendAncillaryBuffer::default();
//!         let flags = flags | SendFlags::NOSIGNAL;
//!         Ok(rustix::net::sendmsg(&*self.0, slices, &mut none, flags)?)
//!     }
//!
//!     /// Takes what there is room for, or fails with `WouldBlock`.
//!     fn write_now(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
//!         self.send(slices, SendFlags::DONTWAIT)
//!     }
//! }
//!
//! impl Write for Socket {
//!     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
//!         self.write_vectored(&[IoSlice::new(bytes)])
//!     }
//!
//!     fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
//!         self.send(slices, SendFlags::empty())
//!     }
//!
//!     fn flush(&mut self) -> io::Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! impl TransportControl for Socket {
//!     fn shutdown(&self) {
//!         // It fails where the socket is not connected any more.
//!         let _ = self.0.shutdown(Shutdown::Both);
//!     }
//!
//!     fn peer(&self) -> PeerDescription {
//!         PeerDescription::from_address("a socket of my own")
//!     }
//!
//!     fn send_buffer(&self) -> Option<u64> {
//!         let bytes = rustix::net::sockopt::socket_send_buffer_size(&*self.0).ok()?;
//!         u64::try_from(bytes).ok()
//!     }
//! }
//!
//! fn transport(stream: UnixStream) -> Transport {
//!     let socket = Socket(Arc::new(stream));
//!     let writer = FramedWriter::with_finish(socket.clone(), |socket| {
//!         socket.0.shutdown(Shutdown::Write)
//!     });
//!     Transport {
//!         reader: Box::new(FramedReader::new(socket.clone()).polling(socket.0.clone())),
//!         writer: Box::new(writer.writing_now(Socket::write_now)),
//!         control: Arc::new(socket),
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (here, there) = UnixStream::pair()?;
//! let (mut here, mut there) = (transport(here), transport(there));
//! # let mut message = capnp::message::Builder::new_default();
//! # message.set_root::<capnp::text::Owned>("hello")?;
//! let mut batch = vec![message.into()];
//! assert!(here.writer.try_write(&mut batch)?, "the socket's buffer is empty");
//! assert!(there.reader.read()?.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! [`Read`]: std::io::Read
//! [`Write`]: std::io::Write
//! [`TransportControl::send_buffer`]: crate::TransportControl::send_buffer

mod reader;
mod source;
#[cfg(test)]
mod tests;
mod writer;
#[cfg(test)]
mod writer_fd_tests;

pub use reader::FramedReader;
pub use source::{IsAhead, ReadNow, ReceiveFds};
pub use writer::{FramedWriter, SendFds, WriteNow};

/// The bytes of one number in the segment table.
const NUMBER: usize = 4;

/// The bytes of one word.
const WORD: usize = 8;
