//! What can go wrong, as values.

use std::fmt;

use thiserror::Error;

use super::address::EndpointAddress;
use super::handle::IncomingError;
use super::vats::InvalidVatId;

/// Has `Debug` print what `Display` does, because that is how an error is printed that
/// `main` returns.
macro_rules! printed_for_people {
    ($($error:ty),*) => { $(
        impl fmt::Debug for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )* };
}

printed_for_people! {
    ConnectError, IncomingError, InvalidVatId, NewEndpointError, ReceiveError, SendError,
    TrySendError
}

/// Why an endpoint could not be connected to.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("cannot connect to {to}: {reason}")]
#[non_exhaustive]
pub struct ConnectError {
    /// The kind of failure, for programs.
    pub code: ConnectErrorCode,
    /// The endpoint that was to be reached.
    pub to: EndpointAddress,
    /// What happened, for people.
    pub reason: String,
}

/// The kinds of [`ConnectError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorCode {
    /// There is no such host or port, nobody listens there, or there is no such endpoint.
    NotFound,
    /// This process or system is out of descriptors, threads or memory.
    InsufficientResources,
    /// The time ran out.
    Timeout,
    /// Anything else: a malformed address, a broken handshake, or an endpoint of this
    /// program that is closed.
    Failed,
}

/// A [`ConnectError`] before it is said which endpoint was to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreached {
    pub(crate) code: ConnectErrorCode,
    pub(crate) reason: String,
}

impl Unreached {
    pub(crate) fn new(code: ConnectErrorCode, reason: &(impl ToString + ?Sized)) -> Self {
        Unreached { code, reason: reason.to_string() }
    }

    pub(crate) fn failed(reason: &(impl ToString + ?Sized)) -> Self {
        Self::new(ConnectErrorCode::Failed, reason)
    }

    pub(crate) fn timeout() -> Self {
        Self::new(ConnectErrorCode::Timeout, "the time ran out")
    }

    pub(crate) fn at(self, to: &EndpointAddress) -> ConnectError {
        ConnectError { code: self.code, to: to.clone(), reason: self.reason }
    }
}

/// Why a message could not be sent.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// This program has closed the connection.
    #[error("cannot send: the connection was closed by this program")]
    Closed,
    /// The peer is gone, its socket broke, the endpoint was closed, or the message is too
    /// long for the peer. Only in the last case can the connection still be used.
    #[error("cannot send: {0}")]
    Failed(String),
}

/// Why [`try_send`](super::Connection::try_send) did not send.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// So much waits to be sent that [`send`](super::Connection::send) would block.
    #[error("cannot send now: earlier messages still wait for the peer")]
    Full,
    /// It cannot be sent at all.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Why there is nothing more to receive, ever.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The endpoint is closed, and its last event,
    /// [`EndpointClosed`](super::Event::EndpointClosed), was received.
    #[error("cannot receive: the endpoint is closed")]
    Closed,
    /// The endpoint belongs to the process from which this one was forked.
    #[error("cannot receive: the endpoint belongs to the process from which this one was forked")]
    Forked,
}

/// Why an endpoint could not be made.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NewEndpointError {
    /// The network is closed, all endpoint ids have been used, or the network belongs to
    /// the process from which this one was forked.
    #[error("cannot make an endpoint: {0}")]
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_main_returns_are_printed_for_people() {
        let error = Unreached::timeout().at(&"127.0.0.1:1:0".into());
        assert_eq!(format!("{error:?}"), "cannot connect to 127.0.0.1:1:0: the time ran out");
        let Err(error) = crate::EndpointVat::new("a@b") else { panic!("it is no id") };
        assert_eq!(format!("{error:?}"), error.to_string());
    }
}
