//! Bytes that flow through a capability: [`Read`] and [`Write`] on one side or both.
//!
//! The interface is `ByteStream` of the C++ implementation (`byte-stream.capnp`). A write
//! returns when the stream's [window](crate::flow) has room for more; what the other side
//! has not read fills the window. So a slow reader holds its writer up, and neither holds
//! more than a window.
//!
//! | to | use |
//! |---|---|
//! | write to a stream | [`ByteWriter`] |
//! | be written to, and read that | [`pipe`] |
//! | be written to, and write that elsewhere, such as to a file | [`sink`] |
//! | send all that something has | [`send_all`] |
//!
//! ```
//! use std::io::{Read, Write};
//!
//! use capnp_threads::bytes::{self, ByteWriter};
//! use capnp_threads::{Result, Vat};
//!
//! # fn main() -> Result<()> {
//! // The one side gives a stream away, and reads what is written to it.
//! let (stream, mut reader) = bytes::pipe(Vat::global());
//! // The other one writes.
//! let writing = std::thread::spawn(move || -> Result<()> {
//!     let mut writer = ByteWriter::new(stream);
//!     writeln!(writer, "as to a file")?;
//!     writer.end()
//! });
//! let mut text = String::new();
//! reader.read_to_string(&mut text)?;
//! assert_eq!(text, "as to a file\n");
//! writing.join().unwrap()
//! # }
//! ```

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

use capnp_threads_core::capnp::traits::HasTypeId;
use capnp_threads_core::untyped::Payload;

use crate::byte_stream_capnp::byte_stream;
use crate::inlet::{Kind, Next, Outlet, Part, inlet};
use crate::{Error, FromClient, Result, Vat};

pub use crate::byte_stream_capnp::byte_stream::Client as ByteStream;

/// Maximum number of bytes that are sent with one call.
const CHUNK: usize = 64 << 10;

/// Writes to a stream. What was written has been sent, and perhaps not arrived:
/// [`flush`](Write::flush) waits until it has. [`end`](Self::end) says that it was all; a
/// stream whose writer is dropped without that was cut off.
///
/// An error of the other side is reported by a later write, flush or end, and ends the
/// stream.
///
/// ```
/// use std::io::Write;
///
/// use capnp_threads::bytes::{self, ByteWriter};
///
/// # fn main() -> capnp_threads::Result<()> {
/// let mut writer = ByteWriter::new(bytes::sink(capnp_threads::Vat::global(), std::io::sink()));
/// writeln!(writer, "as to a file")?;
/// writer.end()
/// # }
/// ```
#[derive(Debug)]
pub struct ByteWriter {
    stream: ByteStream,
}

impl ByteWriter {
    /// Writes to this stream.
    pub fn new(stream: ByteStream) -> Self {
        ByteWriter { stream }
    }

    /// Says that there is no more, and waits until the other side has taken all of it.
    ///
    /// # Errors
    /// The stream has failed.
    pub fn end(self) -> Result<()> {
        self.stream.end_request().call().map(drop)
    }
}

impl Write for ByteWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        if !chunk.is_empty() {
            let mut request = self.stream.write_request();
            request.get().set_bytes(chunk);
            request.send()?;
        }
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.stream.as_client().finish_stream()?)
    }
}

/// Sends everything that `from` has to a stream, and ends the stream. Returns the number of
/// bytes.
///
/// # Errors
/// Reading failed, and the stream is cut off; or the stream has failed.
pub fn send_all(mut from: impl Read, to: ByteStream) -> Result<u64> {
    let mut writer = ByteWriter::new(to);
    // Chunks as large as a message may be cost the fewest calls.
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        writer.write_all(buffer.get(..length).unwrap_or_default())?;
        sent += length as u64;
    }
    writer.end()?;
    Ok(sent)
}

// ---- Into a writer of this process

/// A stream that writes to `to`, in this vat. When it is ended, `to` is flushed and dropped;
/// if it is cut off, `to` is dropped.
pub fn sink(vat: &Vat, to: impl Write + Send + 'static) -> ByteStream {
    vat.export(Sink(Mutex::new(Some(Box::new(to)))))
}

struct Sink(Mutex<Option<Box<dyn Write + Send>>>);

impl Sink {
    fn with<R>(&self, work: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<R>) -> Result<R> {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let to = to.as_deref_mut().ok_or_else(|| Error::failed("the stream was ended before"))?;
        Ok(work(to)?)
    }
}

impl byte_stream::Server for Sink {
    fn write(&self, params: byte_stream::WriteParams) -> Result<()> {
        self.with(|to| to.write_all(params.get()?.get_bytes().map_err(Error::from)?))
    }

    fn end(&self, _: byte_stream::EndParams, _: byte_stream::EndResults) -> Result<()> {
        self.with(|to| to.flush())?;
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(())
    }
}

// ---- Into a reader of this process

/// A stream of this vat, and what reads from it.
pub fn pipe(vat: &Vat) -> (ByteStream, ByteReader) {
    let kind = Kind { interface: ByteStream::TYPE_ID, name: "byte stream", takes: "bytes" };
    let (client, outlet) = inlet(vat, kind);
    (ByteStream::from_client(client), ByteReader { outlet })
}

/// Reads what is written to a stream: see [`pipe`].
///
/// At the end of a stream that was cut off, reading fails with
/// [`io::ErrorKind::UnexpectedEof`]. When the reader is dropped before the end, whoever
/// writes is told.
///
/// ```
/// use std::io::Read;
///
/// use capnp_threads::bytes;
///
/// # fn main() -> capnp_threads::Result<()> {
/// let (stream, mut reader) = bytes::pipe(capnp_threads::Vat::global());
/// let sending = std::thread::spawn(move || bytes::send_all(&b"all of it"[..], stream));
/// let mut all = Vec::new();
/// reader.read_to_end(&mut all)?;
/// assert_eq!(all, b"all of it");
/// assert_eq!(sending.join().unwrap()?, 9);
/// # Ok(())
/// # }
/// ```
pub struct ByteReader {
    outlet: Outlet,
}

/// Copies as much as there is room for of what was not read before. Returns how much that
/// is, and whether it was the rest.
fn copy(part: &Part, into: &mut [u8]) -> Result<(usize, bool)> {
    let reader = part.params().open();
    let content = Payload::content(&reader)?;
    let bytes = content.get_as::<byte_stream::write_params::Reader<'_>>()?.get_bytes()?;
    let rest = bytes.get(part.read..).unwrap_or_default();
    let length = rest.len().min(into.len());
    if let (Some(into), Some(from)) = (into.get_mut(..length), rest.get(..length)) {
        into.copy_from_slice(from);
    }
    Ok((length, length == rest.len()))
}

impl Read for ByteReader {
    /// Waits until there is something to read, as calls wait: a worker's place is given
    /// away, and a cancellation ends the wait if the method allows that.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let mut part = match self.outlet.next()? {
                Next::Part(part) => part,
                Next::End => return Ok(0),
                Next::CutOff => {
                    let reason = "the stream was cut off: its writer is gone";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
            };
            match copy(&part, into) {
                Ok((length, true)) => {
                    part.answer(Ok(()));
                    // A write may bring nothing.
                    if length > 0 {
                        return Ok(length);
                    }
                }
                Ok((length, false)) => {
                    part.read += length;
                    self.outlet.put_back(part);
                    return Ok(length);
                }
                Err(error) => {
                    part.answer(Err(error.clone()));
                    return Err(error.into());
                }
            }
        }
    }
}

impl fmt::Debug for ByteReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteReader").field("writes", &self.outlet.waiting()).finish_non_exhaustive()
    }
}
