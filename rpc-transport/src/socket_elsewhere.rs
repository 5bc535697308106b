//! TCP sockets on systems that are not like Unix.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use capnp_threads_core::transport::{PeerDescription, Transport, TransportControl};
use rustix::fd::OwnedFd;

use crate::fork::Owner;
use crate::framing::{FramedReader, FramedWriter};

/// Makes a transport of a connected, blocking stream socket.
pub(crate) fn transport(socket: OwnedFd, peer: PeerDescription) -> Transport {
    let socket = Socket(Arc::new(socket.into()));
    Transport {
        reader: Box::new(FramedReader::new(socket.clone())),
        writer: Box::new(FramedWriter::with_finish(socket.clone(), |socket| {
            socket.0.shutdown(Shutdown::Write)
        })),
        control: Arc::new(Control { socket, peer, owner: Owner::this_process() }),
    }
}

/// One of several users of a socket, which is closed when the last one is gone.
#[derive(Clone)]
struct Socket(Arc<socket2::Socket>);

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(room)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self.0).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Control {
    socket: Socket,
    peer: PeerDescription,
    owner: Owner,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        if self.owner.is_this_process() {
            // It fails only where there is nothing to shut down.
            let _ = self.socket.0.shutdown(Shutdown::Both);
        }
    }

    fn peer(&self) -> PeerDescription {
        self.peer.clone()
    }

    fn send_buffer(&self) -> Option<u64> {
        u64::try_from(self.socket.0.send_buffer_size().ok()?).ok()
    }
}
