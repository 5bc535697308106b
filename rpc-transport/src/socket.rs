//! What TCP and Unix sockets have in common.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use capnp_threads_core::fd::SharedFd;
#[cfg(feature = "tls")]
use capnp_threads_core::transport::Descriptor;
use capnp_threads_core::transport::{Credentials, PeerDescription, Transport, TransportControl};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown,
};

use crate::fork::Owner;
use crate::framing::{FramedReader, FramedWriter};

/// Makes a transport of a connected, blocking stream socket.
pub(crate) fn transport(socket: OwnedFd, peer: PeerDescription) -> Transport {
    let socket = Socket(Arc::new(socket));
    Transport {
        reader: Box::new(FramedReader::new(socket.clone()).polling(Arc::clone(&socket.0) as _)),
        writer: Box::new(FramedWriter::with_finish(socket.clone(), finish).writing_now(write_now)),
        control: Arc::new(Control { socket, peer, owner: Owner::this_process() }),
    }
}

/// The same of a Unix socket, which carries file descriptors, too.
pub(crate) fn transport_with_fds(socket: OwnedFd, peer: PeerDescription) -> Transport {
    let peer = peer.with_credentials(credentials(&socket));
    let socket = Socket(Arc::new(socket));
    let writer = FramedWriter::with_finish(socket.clone(), finish).writing_now(write_now);
    Transport {
        reader: Box::new(
            FramedReader::new(socket.clone())
                .polling(Arc::clone(&socket.0) as _)
                .receiving_fds(receive_with_fds),
        ),
        writer: Box::new(writer.sending_fds(MAX_FDS, send_with_fds)),
        control: Arc::new(Control { socket, peer, owner: Owner::this_process() }),
    }
}

/// Which process is at the other end of a Unix socket.
#[cfg(target_os = "linux")]
fn credentials(socket: &OwnedFd) -> Option<Credentials> {
    let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
    Some(Credentials {
        pid: u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0),
        uid: peer.uid.as_raw(),
        gid: peer.gid.as_raw(),
    })
}

#[cfg(not(target_os = "linux"))]
fn credentials(_: &OwnedFd) -> Option<Credentials> {
    None
}

// The writer gives its stream away in the end.
#[allow(clippy::needless_pass_by_value)]
fn finish(socket: Socket) -> io::Result<()> {
    Ok(rustix::net::shutdown(&*socket.0, Shutdown::Write)?)
}

/// One of several users of a socket, which is closed when the last one is gone.
#[derive(Clone)]
pub(crate) struct Socket(Arc<OwnedFd>);

/// What a transport needs that encrypts.
#[cfg(feature = "tls")]
impl Socket {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Socket(Arc::new(socket))
    }

    /// Of a socket that has other users, too.
    pub(crate) fn shared(socket: Arc<OwnedFd>) -> Self {
        Socket(socket)
    }

    /// What is readable when there is something to receive.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Arc::clone(&self.0) as _
    }

    /// Waits for bytes.
    pub(crate) fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&*self.0, room)?)
    }

    /// Takes the bytes that are there, or fails with `WouldBlock`.
    pub(crate) fn receive_now(&self, room: &mut [u8]) -> io::Result<usize> {
        let (count, _) = rustix::net::recv(&*self.0, room, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    /// Sends what there is room for, or fails with `WouldBlock`.
    pub(crate) fn send_now(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send_slices(self, slices, SEND_FLAGS | SendFlags::DONTWAIT)
    }

    pub(crate) fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        Ok(rustix::net::shutdown(&*self.0, how)?)
    }
}

impl Socket {
    /// The bytes that the system takes before a write waits.
    pub(crate) fn send_buffer(&self) -> Option<u64> {
        let bytes = rustix::net::sockopt::socket_send_buffer_size(&*self.0).ok()?;
        u64::try_from(bytes).ok()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&*self.0, room)?)
    }
}

/// A peer that is gone must be an error and not a signal, also in programs that
/// changed what SIGPIPE does.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
/// These systems have no such flag. The standard library and socket2 set an option
/// of the same effect on every socket that they make.
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: SendFlags = SendFlags::empty();

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&*self.0, bytes, SEND_FLAGS)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send_slices(self, slices, SEND_FLAGS)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send_slices(socket: &Socket, slices: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
    if let [bytes] = slices {
        return Ok(rustix::net::send(&*socket.0, bytes, flags)?);
    }
    let mut ancillary = SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(&*socket.0, slices, &mut ancillary, flags)?)
}

fn write_now(socket: &mut Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    send_slices(socket, slices, SEND_FLAGS | SendFlags::DONTWAIT)
}

/// How many file descriptors Linux takes at once. Other systems take more.
const MAX_FDS: usize = 253;

const FDS_SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

fn send_with_fds(
    socket: &mut Socket,
    slices: &[IoSlice<'_>],
    fds: &[SharedFd],
) -> io::Result<usize> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(rustix::net::sendmsg(&*socket.0, slices, &mut ancillary, SEND_FLAGS)?)
}

/// Other programs that this one starts in the same moment must not inherit what
/// arrives.
#[cfg(not(target_vendor = "apple"))]
const RECEIVE_FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
/// These systems have no such flag: it is done one by one, a moment later.
#[cfg(target_vendor = "apple")]
const RECEIVE_FLAGS: RecvFlags = RecvFlags::empty();

/// What does not fit in the space that is given for `most` is closed by the
/// system, as is what goes beyond the process's own limit.
fn receive_with_fds(
    socket: &mut Socket,
    room: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    most: usize,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let needed = rustix::cmsg_space!(ScmRights(most.min(MAX_FDS)));
    let mut ancillary = RecvAncillaryBuffer::new(&mut space[..needed]);
    let slices = &mut [IoSliceMut::new(room)];
    let received = rustix::net::recvmsg(&*socket.0, slices, &mut ancillary, RECEIVE_FLAGS)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            // For alignment, there is room for a few more than asked for.
            fds.extend(rights.take(most));
        }
    }
    #[cfg(target_vendor = "apple")]
    for fd in fds {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(received.bytes)
}

struct Control {
    socket: Socket,
    peer: PeerDescription,
    owner: Owner,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        if !self.owner.is_this_process() {
            return;
        }
        // It fails only where there is nothing to shut down: on a socket that is
        // not connected any more, whose users have returned with an error or
        // with the end of the stream.
        let _ = rustix::net::shutdown(&*self.socket.0, Shutdown::Both);
    }

    fn peer(&self) -> PeerDescription {
        self.peer.clone()
    }

    fn send_buffer(&self) -> Option<u64> {
        self.socket.send_buffer()
    }
}
