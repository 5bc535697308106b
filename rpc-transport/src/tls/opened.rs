//! A connection between its handshake and its first message.
//!
//! Vats of a network say something to each other in between, which is preceded by its length
//! (two bytes, big-endian).

use std::io::{self, Read, Write};
use std::time::Instant;

use capnp_threads_core::transport::{PeerDescription, Transport};
use rustix::event::PollFlags;
use rustls::Connection;

use super::session::{self, Bytes, TlsReader, decrypt, send_encrypted};
use super::waiting;
use crate::socket::Socket;

/// The greatest length of what is said, in bytes.
pub(super) const LONGEST: usize = 1024;

/// The peer has proved who it is.
pub(super) struct Opened {
    socket: Socket,
    tls: Connection,
    peer: PeerDescription,
    first: Option<First>,
}

impl Opened {
    pub(super) fn new(
        socket: Socket,
        tls: Connection,
        peer: PeerDescription,
        first: Option<First>,
    ) -> Self {
        Opened { socket, tls, peer, first }
    }

    pub(super) fn peer(&self) -> &PeerDescription {
        &self.peer
    }

    /// What the peer has said during the handshake. Empty if it was not waited for.
    pub(super) fn take_first(&mut self) -> Vec<u8> {
        self.first.take().map(First::into_content).unwrap_or_default()
    }

    /// Says something. Does not wait.
    ///
    /// # Errors
    /// The connection is broken, or the peer has not read what was sent before.
    pub(super) fn say(&mut self, content: &[u8]) -> io::Result<()> {
        // Everybody who calls this keeps to the bound.
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
        self.tls.writer().write_all(&[&length, content].concat())?;
        if send_encrypted(&mut self.tls, &self.socket)? {
            Ok(())
        } else {
            Err(io::Error::other("the peer does not read"))
        }
    }

    /// Waits for what the peer says.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline came first; otherwise the connection is
    /// broken, or the peer breaks the rules.
    pub(super) fn hear(&mut self, deadline: Option<Instant>) -> io::Result<Vec<u8>> {
        let mut first = First::default();
        while !first.take_from(&mut self.tls)? {
            if !waiting::wait(&self.socket, PollFlags::IN, deadline)? {
                let reason = "the peer did not answer in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => {
                    let reason = "the peer ended the connection before it had answered";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
                Ok(_) => decrypt(&mut self.tls, &self.socket)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(first.into_content())
    }

    pub(super) fn into_bytes(self) -> (Bytes, TlsReader, PeerDescription) {
        let (bytes, reader) = session::bytes(self.socket, self.tls);
        (bytes, reader, self.peer)
    }

    pub(super) fn into_transport(self) -> Transport {
        session::transport(self.socket, self.tls, self.peer)
    }
}

/// What the peer says before its first message, as far as it has come.
#[derive(Default)]
pub(super) struct First {
    bytes: Vec<u8>,
}

/// The bytes of the length.
const HEAD: usize = 2;

impl First {
    /// Takes what was decrypted, and no byte behind the end. Returns whether that is
    /// everything.
    ///
    /// # Errors
    /// It is too long, or the peer has ended the stream.
    pub(super) fn take_from(&mut self, tls: &mut Connection) -> io::Result<bool> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                return Ok(true);
            }
            let start = self.bytes.len();
            self.bytes.try_reserve(missing)?;
            self.bytes.resize(start + missing, 0);
            let outcome = tls.reader().read(&mut self.bytes[start..]);
            self.bytes.truncate(start + outcome.as_ref().map_or(0, |count| *count));
            match outcome {
                Ok(0) => {
                    let reason = "the peer ended the connection without saying what it wants";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn missing(&self) -> io::Result<usize> {
        let [high, low, content @ ..] = &self.bytes[..] else { return Ok(HEAD - self.bytes.len()) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length > LONGEST {
            let reason = format!("the peer says {length} bytes before its first message");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(length - content.len())
    }

    fn into_content(mut self) -> Vec<u8> {
        self.bytes.drain(..HEAD.min(self.bytes.len()));
        self.bytes
    }
}
