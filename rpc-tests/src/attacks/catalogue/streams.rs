//! The peer's ends of connections, one for each kind.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capnp_threads_endpoint::{Connection, Endpoint, Event, Incoming};
use capnp_threads_transport::tls;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::peer::Stream;

/// For how long a vat says nothing that is not going to say anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

fn silent() -> ! {
    panic!("the vat says nothing, and does not end the connection")
}

/// A Unix socket.
pub(super) struct Socket(UnixStream);

impl Socket {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Socket(stream))
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(room);
        match &read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => silent(),
            _ => read,
        }
    }
}

impl Stream for Socket {
    fn put(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    fn put_fd(&mut self, bytes: &[u8], fd: OwnedFd) {
        let fds = [fd.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let slices = [IoSlice::new(bytes)];
        let sent = rustix::net::sendmsg(&self.0, &slices, &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(bytes.len()), "a small message goes at once");
    }

    fn end(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// TLS.
pub(super) struct Secure(pub(super) tls::Stream);

impl Read for Secure {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(room, Instant::now().checked_add(PATIENCE));
        match &read {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => silent(),
            _ => read,
        }
    }
}

impl Stream for Secure {
    fn put(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(&mut [IoSlice::new(bytes)]);
    }

    fn end(&mut self) {
        let _ = self.0.finish();
    }
}

/// One connection of endpoints in each direction, the first message of each of which has said
/// whose it is.
pub(super) struct Pieces {
    endpoint: Arc<Endpoint>,
    /// The peer's own one.
    to_vat: Connection,
    from_vat: Option<Incoming>,
    piece: Vec<u8>,
    taken: usize,
}

impl Pieces {
    pub(super) fn new(endpoint: Arc<Endpoint>, to_vat: Connection) -> Self {
        Pieces { endpoint, to_vat, from_vat: None, piece: Vec::new(), taken: 0 }
    }

    /// What the vat opens, when it does.
    fn opened(&self) -> Incoming {
        loop {
            match self.endpoint.receive_timeout(PATIENCE) {
                Ok(Some(Event::ConnectionOpened { connection, .. })) => {
                    let incoming = self.endpoint.claim(connection);
                    return incoming.expect("it was opened just now");
                }
                // What was left of another one.
                Ok(Some(_)) => {}
                Ok(None) => silent(),
                Err(error) => panic!("the peer's endpoint fails: {error}"),
            }
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.from_vat.is_none() {
            let incoming = self.opened();
            // Whose it is.
            let _ = incoming.receive_timeout(PATIENCE);
            self.from_vat = Some(incoming);
        }
        let from_vat = self.from_vat.as_ref().expect("it was opened");
        // An empty message says that the vat is idle.
        while self.taken == self.piece.len() {
            match from_vat.receive_timeout(PATIENCE) {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => return Ok(0),
                Err(capnp_threads_endpoint::IncomingError::TimedOut) => silent(),
                Err(error) => return Err(io::Error::other(error)),
            }
            self.taken = 0;
        }
        let count = room.len().min(self.piece.len() - self.taken);
        room[..count].copy_from_slice(&self.piece[self.taken..][..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Stream for Pieces {
    fn put(&mut self, bytes: &[u8]) {
        // A message without bytes would say something else.
        if !bytes.is_empty() {
            let _ = self.to_vat.send(&[bytes]);
        }
    }

    fn end(&mut self) {
        self.to_vat.close();
    }
}
