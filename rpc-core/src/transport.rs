//! What a connection needs from the network: three handles on one two-way stream of
//! whole messages.
//!
//! The receive thread and the threads that read in its place take turns with the reader,
//! the send thread and the threads that write in its place take turns with the writer, and
//! any thread may use the control. Implementations are in `capnp-threads-transport`.

mod identity;
pub(crate) mod introductions;
pub(crate) mod network;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;

pub use self::identity::{Identity, ParseVatIdError, VatId};
pub use crate::fd::Descriptor;
pub use crate::sync::Arrivals;
use crate::wire::message::Message;

/// A connected, blocking, two-way stream of messages.
#[expect(
    clippy::exhaustive_structs,
    reason = "transports make it, and what wraps one takes it apart"
)]
pub struct Transport {
    /// Used by one thread at a time.
    pub reader: Box<dyn MessageReader>,
    /// Used by one thread at a time, and at the same time as the reader.
    pub writer: Box<dyn MessageWriter>,
    /// Used by any thread at any time.
    pub control: Arc<dyn TransportControl>,
}

/// The receiving half.
pub trait MessageReader: Send + 'static {
    /// Waits for the next whole message. `None` means that the stream has ended, at the
    /// end of a message.
    ///
    /// # Errors
    /// The stream ended in another way. After an error no further message can be read.
    fn read(&mut self) -> Result<Option<Message>, TransportError>;

    /// Waits as [`read`](Self::read) does, and also reports when the peer is idle, in
    /// order with the messages, if this transport can carry that.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read).
    fn read_next(&mut self) -> Result<Received, TransportError> {
        Ok(self.read()?.map_or(Received::End, Received::Message))
    }

    /// Whether [`read`](Self::read) would return at once because a whole
    /// message is already buffered. If there is a [`descriptor`](Self::descriptor), this must
    /// be `true` whenever more may be had although that is not readable: a thread that stops
    /// reading where this is `false` waits for the descriptor. Otherwise it may be `false`
    /// when the reader is not sure.
    fn has_buffered(&self) -> bool;

    /// The descriptor that is readable when more of the stream has come. Threads that wait
    /// for an answer then read themselves, and the receive thread need not be woken for
    /// them. The default, `None`, leaves all reading to the receive thread.
    fn descriptor(&self) -> Option<Descriptor> {
        None
    }

    /// What tells that more of the stream has come, where that is another thread of this
    /// process: the same as a [`descriptor`](Self::descriptor), of which there is none then.
    /// A reader that wraps another one may pass this on if it also passes on
    /// [`try_read_next`](Self::try_read_next), and adds no messages of its own.
    fn arrivals(&self) -> Option<Arc<Arrivals>> {
        None
    }

    /// Reads as [`read_next`](Self::read_next) does, but does not wait; `None` if what has
    /// come does not complete a message. It is called only if there is a
    /// [`descriptor`](Self::descriptor), and after `None` only when that was readable
    /// since, or at the beginning if something was [buffered](Self::has_buffered); or if
    /// there are [`arrivals`](Self::arrivals), at any time.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read).
    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        self.read_next().map(Some)
    }

    /// Shows the next message to `look`, once, if all of it is buffered as one segment, nothing
    /// came with it, and it is within the [limits](Self::set_limits). If `look` says that it has
    /// taken it, the message counts as read. Returns whether it does. So a message that is
    /// understood where it lies need not be copied first. It may be called before each message
    /// that is read in any of the other ways. The default shows nothing.
    fn look_at_next(&mut self, look: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let _ = look;
        false
    }

    /// Sets what this reader accepts from now on.
    fn set_limits(&mut self, limits: FrameLimits);
}

/// What comes out of a transport.
#[expect(clippy::large_enum_variant, reason = "nearly all are messages")]
#[derive(Debug)]
#[non_exhaustive]
pub enum Received {
    /// A whole message.
    Message(Message),
    /// The peer [is idle](MessageWriter::declare_idle).
    Idle,
    /// The stream has ended, at the end of a message.
    End,
}

/// The sending half.
pub trait MessageWriter: Send + 'static {
    /// Writes all messages, in order, and removes them from `batch`. Waits until the
    /// operating system has taken every byte.
    ///
    /// # Errors
    /// The stream is broken. How much of the batch the peer got is unknown.
    fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError>;

    /// Writes as much of `batch` as can be written without waiting, in order, and
    /// removes from it what was written. Returns whether that was everything. Otherwise
    /// the next batch given to [`write`](Self::write) begins with what is left of this
    /// one, and that `write` also completes a message that is half written.
    ///
    /// The default writes nothing. It is for transports that cannot tell whether a
    /// write would wait.
    ///
    /// # Errors
    /// The errors of [`write`](Self::write). After an error here `write` is called as
    /// well, and fails, too.
    fn try_write(&mut self, batch: &mut Vec<Message>) -> Result<bool, TransportError> {
        Ok(batch.is_empty())
    }

    /// The number of file descriptors that can be sent with one message; if a message
    /// has more, the others do not travel. 0 for a transport that carries none.
    fn max_fds(&self) -> usize {
        0
    }

    /// Whether this writer can tell the peer that this side is idle.
    fn can_declare_idle(&self) -> bool {
        false
    }

    /// Tells the peer that this side has nothing under way and will begin nothing until
    /// it hears from the peer. A peer that has nothing under way either may then end
    /// the connection. Only called if [`can_declare_idle`](Self::can_declare_idle) returns `true`.
    ///
    /// # Errors
    /// The errors of [`write`](Self::write).
    fn declare_idle(&mut self) -> Result<(), TransportError> {
        Ok(())
    }

    /// Tells the peer that no more messages will follow. The reader is not affected. Does
    /// not wait for the peer if everything was written before.
    ///
    /// # Errors
    /// The stream is broken already.
    fn finish(&mut self) -> Result<(), TransportError>;
}

/// The operations on a transport that any thread may use.
pub trait TransportControl: Send + Sync + 'static {
    /// Ends both directions: a thread that is blocked in a read or a write returns
    /// soon, whatever the peer does. Calling this twice is harmless.
    fn shutdown(&self);

    /// Who the peer is, as far as the transport knows.
    fn peer(&self) -> PeerDescription;

    /// The number of bytes that the operating system takes before writing has to wait;
    /// `None` where that is not known. May change over time. Must not wait.
    fn send_buffer(&self) -> Option<u64> {
        None
    }
}

/// Limits on what is accepted from a peer. The size of a message is checked before
/// memory is allocated for it.
///
/// ```
/// use capnp_threads_core::transport::{FrameLimits, Transport};
///
/// /// Takes no message of more than a megabyte.
/// fn restrict(transport: &mut Transport) {
///     let mut limits = FrameLimits::default();
///     limits.max_words = (1 << 20) / 8;
///     transport.reader.set_limits(limits);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameLimits {
    /// Maximum size of a message with all its segments, in words of eight bytes.
    pub max_words: u64,
    /// Maximum number of segments in one message.
    pub max_segments: u32,
    /// Maximum number of file descriptors that come with one message. The others are
    /// closed.
    pub max_fds: u32,
    /// Maximum number of received file descriptors that are open at once, of all
    /// messages together. The others are closed. A transport within one process does
    /// not count them, because it opens none.
    pub max_open_fds: u32,
}

impl Default for FrameLimits {
    /// The limits of current implementations: 8 Mi words (64 MiB) in 512 segments. 16
    /// file descriptors with a message, and 128 at once.
    fn default() -> Self {
        FrameLimits { max_words: 8 << 20, max_segments: 512, max_fds: 16, max_open_fds: 128 }
    }
}

/// Who is on the other side, for logs and for deciding what to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerDescription {
    /// The peer's address as its transport prints it, like `127.0.0.1:7000`.
    pub address: String,
    /// The peer's end of the connection, if it is an Internet socket.
    pub socket: Option<SocketAddr>,
    /// The peer's process, where the operating system reports it: on Linux, for Unix
    /// sockets.
    pub credentials: Option<Credentials>,
    /// What the peer has proved with keys, over transports that have any.
    pub identity: Option<Arc<Identity>>,
    /// The protocol that both sides agreed on before the first message (ALPN), over
    /// transports that can.
    pub protocol: Option<Vec<u8>>,
}

/// A process of this machine, with its user and group, as the operating system vouches
/// for them. They are those of the time when the connection was made: since then the
/// process may have handed its socket to another one, and the id of a process that has
/// ended may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "transports make it")]
pub struct Credentials {
    /// The process; 0 if it is in a namespace that cannot be seen from here.
    pub pid: u32,
    /// The process's effective user.
    pub uid: u32,
    /// The process's effective group.
    pub gid: u32,
}

impl PeerDescription {
    /// Describes a peer of which only an address is known.
    pub fn from_address(address: impl Into<String>) -> Self {
        PeerDescription { address: address.into(), ..PeerDescription::default() }
    }

    /// Describes a peer at an Internet address.
    pub fn from_socket(socket: SocketAddr) -> Self {
        PeerDescription { socket: Some(socket), ..Self::from_address(socket.to_string()) }
    }

    /// Adds the credentials of the peer's process.
    #[must_use]
    pub fn with_credentials(self, credentials: Option<Credentials>) -> Self {
        PeerDescription { credentials, ..self }
    }

    /// Adds what the peer has proved with keys.
    #[must_use]
    pub fn with_identity(self, identity: Option<Identity>) -> Self {
        PeerDescription { identity: identity.map(Arc::new), ..self }
    }

    /// Adds the protocol that was agreed on.
    #[must_use]
    pub fn with_protocol(self, protocol: Option<Vec<u8>>) -> Self {
        PeerDescription { protocol, ..self }
    }

    /// The vat that the peer has proved to be.
    pub fn vat(&self) -> Option<VatId> {
        self.identity.as_ref()?.vat
    }
}

impl fmt::Display for PeerDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Why a stream of messages ended. `Debug` prints it for people, too, because that is how
/// an error is printed that `main` returns.
#[derive(Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The operating system reported a failure.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),

    /// The stream ended in the middle of a message.
    #[error("the peer closed the connection in the middle of a message")]
    Truncated,

    /// A message is larger than [`FrameLimits::max_words`].
    #[error(
        "the peer sent a message of {words} words, the limit is {limit}; \
         raise Limits::message_words if such messages are expected"
    )]
    TooLarge {
        /// The size that the segment table announced.
        words: u64,
        /// The size that would have been accepted.
        limit: u64,
    },

    /// A message has more segments than [`FrameLimits::max_segments`].
    #[error("the peer sent a message of {segments} segments, the limit is {limit}")]
    TooManySegments {
        /// The number that the segment table announced.
        segments: u64,
        /// The number that would have been accepted.
        limit: u32,
    },
}

impl fmt::Debug for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TransportError {
    /// Whether the peer broke the rules of the stream, so that it should be told with
    /// an Abort. Otherwise the stream itself is gone.
    pub fn is_peer_fault(&self) -> bool {
        matches!(self, TransportError::TooLarge { .. } | TransportError::TooManySegments { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_main_returns_is_printed_for_people() {
        let error = TransportError::TooLarge { words: 9, limit: 8 };
        assert_eq!(format!("{error:?}"), error.to_string());
    }
}
