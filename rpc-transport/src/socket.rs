//! What TCP and Unix sockets have in common.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rpc_core::transport::{PeerDescription, Transport, TransportControl};
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};

use crate::framing::{FramedReader, FramedWriter};

/// Makes a transport of a connected, blocking stream socket.
pub(crate) fn transport(socket: OwnedFd, peer: PeerDescription) -> Transport {
    let socket = Socket(Arc::new(socket));
    Transport {
        reader: Box::new(FramedReader::new(socket.clone())),
        writer: Box::new(FramedWriter::with_finish(socket.clone(), |socket| {
            Ok(rustix::net::shutdown(&*socket.0, Shutdown::Write)?)
        })),
        control: Arc::new(Control { socket, peer }),
    }
}

/// One of several users of a socket, which is closed when the last one is gone.
#[derive(Clone)]
struct Socket(Arc<OwnedFd>);

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&*self.0, room)?)
    }
}

/// A peer that is gone must be an error and not a signal, also in programs that
/// changed what SIGPIPE does.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
/// These systems have no such flag. The standard library and socket2 set an option
/// of the same effect on every socket that they make.
#[cfg(target_vendor = "apple")]
pub(crate) const SEND_FLAGS: SendFlags = SendFlags::empty();

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&*self.0, bytes, SEND_FLAGS)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut ancillary = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(&*self.0, slices, &mut ancillary, SEND_FLAGS)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Control {
    socket: Socket,
    peer: PeerDescription,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        // It fails only where there is nothing to shut down: on a socket that is
        // not connected any more, whose users have returned with an error or
        // with the end of the stream.
        let _ = rustix::net::shutdown(&*self.socket.0, Shutdown::Both);
    }

    fn peer(&self) -> PeerDescription {
        self.peer.clone()
    }

    fn send_buffer(&self) -> Option<u64> {
        let bytes = rustix::net::sockopt::socket_send_buffer_size(&*self.socket.0).ok()?;
        u64::try_from(bytes).ok()
    }
}
