//! One handshake, step by step.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use capnp_threads_core::transport::PeerDescription;
use rustix::event::PollFlags;
use rustls::Connection;

use super::opened::{First, Opened};
use super::session::{decrypt, send_encrypted};
use super::waiting;
use crate::socket::Socket;

/// Looks at the session when its handshake is over, and describes the peer.
pub(super) type Describe = fn(&Connection, PeerDescription) -> io::Result<PeerDescription>;

/// A handshake that is under way. rustls bounds what it keeps of the peer's messages.
pub(super) struct Handshake {
    socket: Socket,
    tls: Connection,
    peer: PeerDescription,
    describe: Describe,
    /// What the peer has to say before the first message.
    first: Option<First>,
}

/// What has to come for a handshake to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Done,
    Wants(PollFlags),
}

impl AsFd for Handshake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Handshake {
    pub(super) fn new(
        socket: Socket,
        tls: impl Into<Connection>,
        peer: PeerDescription,
        describe: Describe,
    ) -> Self {
        Handshake { socket, tls: tls.into(), peer, describe, first: None }
    }

    /// Does not end before the peer has said something.
    pub(super) fn expecting_first(mut self) -> Self {
        self.first = Some(First::default());
        self
    }

    pub(super) fn peer(&self) -> &PeerDescription {
        &self.peer
    }

    /// Goes as far as it can without waiting.
    ///
    /// # Errors
    /// The handshake has failed. The peer was told why, as far as it could be.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        loop {
            let is_everything_sent = send_encrypted(&mut self.tls, &self.socket)?;
            if self.is_over()? {
                return Ok(if is_everything_sent {
                    Step::Done
                } else {
                    Step::Wants(PollFlags::OUT)
                });
            }
            match self.tls.read_tls(&mut Arrived(&self.socket)) {
                Ok(0) => {
                    let reason = "the peer ended the connection during the TLS handshake";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
                Ok(_) => decrypt(&mut self.tls, &self.socket).map_err(failed)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let out = if is_everything_sent { PollFlags::empty() } else { PollFlags::OUT };
                    return Ok(Step::Wants(PollFlags::IN | out));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_over(&mut self) -> io::Result<bool> {
        if self.tls.is_handshaking() {
            return Ok(false);
        }
        self.first.as_mut().map_or(Ok(true), |first| first.take_from(&mut self.tls))
    }

    /// Makes the handshake on this thread.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline came first; otherwise it has failed.
    pub(super) fn finish_by(mut self, deadline: Option<Instant>) -> io::Result<Opened> {
        while let Step::Wants(what) = self.step()? {
            if !waiting::wait(&self.socket, what, deadline)? {
                return Err(late());
            }
        }
        self.open()
    }

    /// The connection, after [`Step::Done`].
    ///
    /// # Errors
    /// The peer is not whom it has to be.
    pub(super) fn open(self) -> io::Result<Opened> {
        let Handshake { socket, tls, peer, describe, first } = self;
        let peer = describe(&tls, peer)?;
        Ok(Opened::new(socket, tls, peer, first))
    }
}

pub(super) fn late() -> io::Error {
    let reason = "the peer did not complete the TLS handshake in time";
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

fn failed(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the TLS handshake failed: {error}"))
}

/// What has arrived at a socket.
struct Arrived<'a>(&'a Socket);

impl io::Read for Arrived<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.receive_now(room)
    }
}
