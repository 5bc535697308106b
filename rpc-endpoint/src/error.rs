//! What can go wrong, as values.

use thiserror::Error;

/// Why an endpoint could not be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot connect: {reason}")]
#[non_exhaustive]
pub struct ConnectError {
    /// What kind of failure it was, for programs.
    pub code: ConnectErrorCode,
    /// What happened, for people.
    pub reason: String,
}

/// The kinds of [`ConnectError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorCode {
    /// There is no such host, nobody listens there, or no such endpoint.
    NotFound,
    /// This process or system is out of descriptors, threads or memory.
    InsufficientResources,
    /// The time ran out.
    Timeout,
    /// Anything else: a malformed address, a broken handshake, an endpoint of
    /// our own that is closed.
    Failed,
}

impl ConnectError {
    pub(super) fn new(code: ConnectErrorCode, reason: &(impl ToString + ?Sized)) -> Self {
        ConnectError { code, reason: reason.to_string() }
    }

    pub(super) fn failed(reason: &(impl ToString + ?Sized)) -> Self {
        Self::new(ConnectErrorCode::Failed, reason)
    }

    pub(super) fn timeout() -> Self {
        Self::new(ConnectErrorCode::Timeout, "the time ran out")
    }
}

/// Why a message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// This connection was closed by this program.
    #[error("cannot send: the connection was closed by this program")]
    Closed,
    /// The peer is gone, its socket broke, the endpoint was closed, or the
    /// message is too long for the peer. Only in the last case the connection
    /// can still be used.
    #[error("cannot send: {0}")]
    Failed(String),
}

/// Why [`try_send`](super::Connection::try_send) did not send.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// So much is waiting to be sent that [`send`](super::Connection::send) would
    /// block.
    #[error("cannot send now: what was sent before still waits for the peer")]
    Full,
    /// It cannot be sent at all.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// The endpoint is closed, and [`EndpointClosed`](super::Event::EndpointClosed)
/// was received: there is nothing more to receive, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("cannot receive: the endpoint is closed")]
#[non_exhaustive]
pub struct ReceiveError;

/// Why an endpoint could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NewEndpointError {
    /// The network is closed, or all endpoint ids have been used.
    #[error("cannot make an endpoint: {0}")]
    Failed(String),
}
