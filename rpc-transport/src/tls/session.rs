//! A TLS session that a reader, a writer and a control share.
//!
//! # Rules of the lock
//!
//! The session's state of both directions is behind one lock, because rustls keeps it in
//! one place. It is a leaf: no other lock is taken under it. Under it bytes are encrypted
//! and decrypted, 64 KiB at most, and handed to the socket as far as that takes them at
//! once. **Nobody waits for the socket under it**:
//!
//! - The reader waits for bytes without the lock, takes them into a buffer of its own, and
//!   takes the lock to decrypt them.
//! - A writer that finds the socket full gives the lock up, waits until the socket takes
//!   more, and takes the lock again.
//!
//! What was encrypted is sent in that order, because only the holder of the lock sends.
//! What the socket does not take stays in the session, before everything that is encrypted
//! later, and no more is encrypted until it is gone. The reader sends nothing but the alert
//! that says why it gives up.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{
    MessageWriter, PeerDescription, Transport, TransportControl, TransportError,
};
use parking_lot::Mutex;
use rustix::event::PollFlags;
use rustix::net::Shutdown;
use rustls::Connection;

use super::waiting;
use crate::fork::Owner;
use crate::framing::{FramedReader, FramedWriter};
use crate::socket::Socket;

/// The memory, in bytes, into which a new reader takes what has come.
const FIRST_INCOMING: usize = 4 << 10;

/// The most that a reader takes at once: a few records, whose greatest length is a little
/// above 16 KiB.
const LARGEST_INCOMING: usize = 64 << 10;

/// Makes a transport of a session whose handshake is over.
pub(super) fn transport(socket: Socket, mut tls: Connection, peer: PeerDescription) -> Transport {
    let (first, is_over) = first_bytes(&mut tls);
    let (Bytes(session), reader) = bytes(socket, tls);
    let mut reader = FramedReader::new(reader).starting_with(first);
    if !is_over {
        reader = reader.polling_with(
            session.socket.descriptor(),
            TlsReader::read_now,
            TlsReader::is_ahead,
        );
    }
    let writer = TlsWriter(Arc::clone(&session));
    Transport {
        reader: Box::new(reader),
        writer: Box::new(Writer {
            framed: FramedWriter::with_finish(writer, finish).writing_now(write_now),
            session: Arc::clone(&session),
        }),
        control: Arc::new(Control { session, peer, owner: Owner::this_process() }),
    }
}

/// The two directions of a session whose handshake is over, without messages.
pub(super) fn bytes(socket: Socket, tls: Connection) -> (Bytes, TlsReader) {
    let session =
        Arc::new(Session { socket, tls: Mutex::new(tls), was_shut_down: AtomicBool::new(false) });
    let reader =
        TlsReader { session: Arc::clone(&session), incoming: Incoming::default(), is_ahead: false };
    (Bytes(session), reader)
}

/// What came with the end of the handshake, of which the socket does not tell any more; and
/// whether the stream is over already.
fn first_bytes(tls: &mut Connection) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    // An end and a failure are met again by the first read.
    let outcome = tls.reader().read_to_end(&mut bytes);
    (bytes, !outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
}

struct Session {
    socket: Socket,
    tls: Mutex<Connection>,
    /// This side ended both directions: what the reader meets then is the end.
    was_shut_down: AtomicBool,
}

/// Sends what was encrypted, as far as the socket takes it at once. Returns whether that
/// was everything.
pub(super) fn send_encrypted(tls: &mut Connection, socket: &Socket) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut AtOnce(socket)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// A socket that fails with `WouldBlock` instead of waiting.
struct AtOnce<'a>(&'a Socket);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_now(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_now(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts what has come, as far as it goes.
///
/// # Errors
/// The peer broke the rules of TLS, or has ended the session with an alert. It is told, if
/// the socket takes that at once.
pub(super) fn decrypt(tls: &mut Connection, socket: &Socket) -> io::Result<()> {
    tls.process_new_packets().map(drop).map_err(|error| {
        // If this fails as well, the first error is the one that matters.
        let _ = send_encrypted(tls, socket);
        io::Error::new(io::ErrorKind::InvalidData, error)
    })
}

impl Session {
    fn wait_until_writable(&self) -> io::Result<()> {
        waiting::wait(&self.socket, PollFlags::OUT, None).map(drop)
    }

    /// Sends all that was encrypted.
    fn flush(&self) -> io::Result<()> {
        while !send_encrypted(&mut self.tls.lock(), &self.socket)? {
            self.wait_until_writable()?;
        }
        Ok(())
    }

    /// Encrypts and sends as much as goes without waiting; 0 if what was encrypted before
    /// is not gone yet. What is counted is gone, or will go next.
    fn send_some(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut tls = self.tls.lock();
        let mut sent = 0;
        let mut slices: Vec<IoSlice<'_>> = slices.to_vec();
        let mut rest = slices.as_mut_slice();
        while send_encrypted(&mut tls, &self.socket)? && !rest.is_empty() {
            let taken = tls.writer().write_vectored(rest)?;
            sent += taken;
            IoSlice::advance_slices(&mut rest, taken);
        }
        Ok(sent)
    }

    fn is_everything_sent(&self) -> bool {
        !self.tls.lock().wants_write()
    }

    /// Tells the peer that nothing more comes.
    fn finish(&self) -> io::Result<()> {
        self.tls.lock().send_close_notify();
        self.flush()?;
        self.socket.shut_down(Shutdown::Write)
    }

    fn shut_down(&self) {
        self.was_shut_down.store(true, Ordering::SeqCst);
        {
            // The peer learns that it is this side which ends the stream, unless there is
            // no room even for that. If the stream is broken, there is nobody to tell.
            let mut tls = self.tls.lock();
            tls.send_close_notify();
            let _ = send_encrypted(&mut tls, &self.socket);
        }
        // It fails only on a socket that is not connected any more, whose users have
        // returned.
        let _ = self.socket.shut_down(Shutdown::Both);
    }
}

/// What has come and is not decrypted yet.
#[derive(Default)]
struct Incoming {
    /// Empty until something is to be read.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The socket had no more when this was filled.
    was_last: bool,
}

impl Incoming {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes more from the socket, by `receive`. `false` at the end of the stream.
    fn fill(&mut self, receive: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<bool> {
        let was_full = self.end == self.bytes.len();
        if was_full && self.bytes.len() < LARGEST_INCOMING {
            let size = (2 * self.bytes.len()).max(FIRST_INCOMING);
            match self.bytes.try_reserve_exact(size - self.bytes.len()) {
                Ok(()) => self.bytes.resize(size, 0),
                Err(error) if self.bytes.is_empty() => return Err(error.into()),
                // What there is goes on being enough.
                Err(_) => {}
            }
        }
        self.start = 0;
        self.end = 0;
        self.end = receive(&mut self.bytes)?;
        self.was_last = (1..self.bytes.len()).contains(&self.end);
        Ok(self.end > 0)
    }

    /// Hands a piece to the session.
    fn feed(&mut self, tls: &mut Connection) -> io::Result<()> {
        let mut piece = &self.bytes[self.start..self.end];
        match tls.read_tls(&mut piece)? {
            // What comes behind the end is nobody's.
            0 => self.start = self.end,
            count => self.start += count,
        }
        Ok(())
    }

    /// Whether another read has something to return of what was received. If not, all of it
    /// is a part of a record, and the socket will be readable.
    fn has_more(&mut self, tls: &mut Connection) -> bool {
        loop {
            // A failure, and the end, are met again by the next read.
            let Ok(state) = tls.process_new_packets() else { return true };
            if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                return true;
            }
            if self.is_empty() {
                return false;
            }
            if self.feed(tls).is_err() {
                return true;
            }
        }
    }
}

/// The stream of decrypted bytes. A read brings those of several records, if they are
/// there.
pub(super) struct TlsReader {
    session: Arc<Session>,
    incoming: Incoming,
    /// There was more to be had without receiving anything, when the last read was over.
    is_ahead: bool,
}

impl TlsReader {
    /// Reads what can be had without waiting; `None` if that is nothing, and more has to
    /// be received first.
    fn read_received(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        let TlsReader { session, incoming, is_ahead } = self;
        let mut tls = session.tls.lock();
        *is_ahead = false;
        loop {
            match tls.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return if session.was_shut_down.load(Ordering::SeqCst) {
                        Ok(Some(0))
                    } else {
                        Err(cut_off())
                    };
                }
                outcome => {
                    *is_ahead = incoming.has_more(&mut tls);
                    return outcome.map(Some);
                }
            }
            if incoming.is_empty() {
                return Ok(None);
            }
            incoming.feed(&mut tls)?;
            decrypt(&mut tls, &session.socket)?;
        }
    }

    fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// Takes more from the socket, by `receive`. What is known of the end of the stream
    /// afterwards, the session tells with the next read.
    fn take_in(
        &mut self,
        receive: impl FnOnce(&Socket, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let session = &self.session;
        if !self.incoming.fill(|bytes| receive(&session.socket, bytes))? {
            // The session tells an end that was announced from one that was not.
            session.tls.lock().read_tls(&mut io::empty())?;
        }
        Ok(())
    }

    /// Reads without waiting. Once it has found nothing, it is called again when the socket
    /// was readable.
    fn read_now(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(count) = self.read_received(room)? {
                return Ok(count);
            }
            if std::mem::take(&mut self.incoming.was_last) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.take_in(Socket::receive_now)?;
        }
    }

    /// Waits for bytes, no longer than until a deadline.
    pub(super) fn read_by(
        &mut self,
        room: &mut [u8],
        deadline: Option<Instant>,
    ) -> io::Result<usize> {
        loop {
            if let Some(count) = self.read_received(room)? {
                return Ok(count);
            }
            if deadline.is_some() && !waiting::wait(&self.session.socket, PollFlags::IN, deadline)?
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.take_in(Socket::receive)?;
        }
    }
}

impl Read for TlsReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.read_by(room, None)
    }
}

fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the stream was cut off: it ended without the peer's close_notify, so that messages \
         may be missing; the peer's process may have died, or somebody on the way ended the \
         connection",
    )
}

/// What another protocol than that of messages does with a session, besides reading.
pub(super) struct Bytes(Arc<Session>);

impl Bytes {
    pub(super) fn write_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut writer = TlsWriter(Arc::clone(&self.0));
        // Also removes empty slices.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let written = writer.write_vectored(slices)?;
            IoSlice::advance_slices(&mut slices, written);
        }
        writer.flush()
    }

    /// As much as goes without waiting; and whether that was everything.
    pub(super) fn write_now(&self, slices: &[IoSlice<'_>]) -> io::Result<(usize, bool)> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = self.0.send_some(slices)?;
        Ok((count, count == length && self.0.is_everything_sent()))
    }

    pub(super) fn finish(&self) -> io::Result<()> {
        self.0.finish()
    }

    pub(super) fn shut_down(&self) {
        self.0.shut_down();
    }
}

struct TlsWriter(Arc<Session>);

impl Write for TlsWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let sent = self.0.send_some(slices)?;
            if sent > 0 || slices.iter().all(|slice| slice.is_empty()) {
                return Ok(sent);
            }
            self.0.wait_until_writable()?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn write_now(writer: &mut TlsWriter, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match writer.0.send_some(slices)? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        sent => Ok(sent),
    }
}

// The framing gives its stream away in the end.
#[allow(clippy::needless_pass_by_value)]
fn finish(writer: TlsWriter) -> io::Result<()> {
    writer.0.finish()
}

/// Also counts what was taken and encrypted, but not sent yet: without that, nobody would
/// come back for it.
struct Writer {
    framed: FramedWriter<TlsWriter>,
    session: Arc<Session>,
}

impl MessageWriter for Writer {
    fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
        self.framed.write(batch)
    }

    fn try_write(&mut self, batch: &mut Vec<Message>) -> Result<bool, TransportError> {
        Ok(self.framed.try_write(batch)? && self.session.is_everything_sent())
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        self.framed.finish()
    }
}

struct Control {
    session: Arc<Session>,
    peer: PeerDescription,
    owner: Owner,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        if self.owner.is_this_process() {
            self.session.shut_down();
        }
    }

    fn peer(&self) -> PeerDescription {
        self.peer.clone()
    }

    fn send_buffer(&self) -> Option<u64> {
        self.session.socket.send_buffer()
    }
}
