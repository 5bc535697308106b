//! What a connection of the RPC system sees of a session: a stream of bytes each
//! way, cut into messages of the endpoint wherever it is convenient. A message
//! without any bytes says that its sender is idle.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use capnp_threads_core::message::Message;
use capnp_threads_core::transport::{
    FrameLimits, MessageReader, MessageWriter, PeerDescription, Received, Transport,
    TransportControl, TransportError,
};
use capnp_threads_transport::framing::{FramedReader, FramedWriter};

use super::places::Place;
use super::session::Session;
use crate::deadline::Deadline;
use crate::handle::{Connection, Incoming, IncomingError};
use crate::pace::Pace;

/// The most that is sent as one message of the endpoint, in bytes.
const LARGEST_PIECE: usize = 64 << 10;

/// The place is kept by all three parts.
pub(super) fn transport(
    session: &Arc<Session>,
    peer: PeerDescription,
    place: Option<Place>,
) -> Transport {
    let place = place.map(Arc::new);
    let send_buffer = session.shared.send_queue as u64;
    let pieces = |session: &Arc<Session>| Pieces { session: session.clone(), ours: None };
    Transport {
        reader: Box::new(Reader(FramedReader::new(Chunks {
            session: session.clone(),
            theirs: None,
            chunk: Vec::new(),
            taken: 0,
            is_over: false,
            _place: place.clone(),
        }))),
        writer: Box::new(Writer {
            framed: FramedWriter::new(pieces(session)).writing_now(Pieces::write_now),
            session: session.clone(),
            _place: place.clone(),
        }),
        control: Arc::new(Control { session: session.clone(), peer, send_buffer, _place: place }),
    }
}

struct Reader(FramedReader<Chunks>);

impl MessageReader for Reader {
    fn read(&mut self) -> Result<Option<Message>, TransportError> {
        self.0.read()
    }

    fn read_next(&mut self) -> Result<Received, TransportError> {
        if self.0.is_between_messages() && self.0.inner_mut().take_idle()? {
            return Ok(Received::Idle);
        }
        Ok(self.0.read()?.map_or(Received::End, Received::Message))
    }

    fn has_buffered(&self) -> bool {
        self.0.has_buffered()
    }

    fn set_limits(&mut self, limits: FrameLimits) {
        self.0.set_limits(limits);
    }
}

/// Their half, as bytes.
struct Chunks {
    session: Arc<Session>,
    theirs: Option<Arc<Incoming>>,
    chunk: Vec<u8>,
    taken: usize,
    is_over: bool,
    _place: Option<Arc<Place>>,
}

impl Chunks {
    /// Whether the next chunk says that the peer is idle, which it then does not say
    /// to anybody else. Waits for it. Only of use between two messages.
    fn take_idle(&mut self) -> io::Result<bool> {
        Ok(self.taken == self.chunk.len() && self.fetch()? && self.chunk.is_empty())
    }

    /// Waits for the next chunk; `false` at the end.
    fn fetch(&mut self) -> io::Result<bool> {
        if self.is_over {
            return Ok(false);
        }
        // A long one is not kept while nothing comes.
        self.chunk = Vec::new();
        self.taken = 0;
        let next = match self.theirs()? {
            None => None,
            Some(theirs) => match theirs.receive() {
                Ok(next) => next,
                Err(IncomingError::EndpointClosed) => {
                    return Err(io::Error::other("the endpoint of this vat is closed"));
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
            },
        };
        self.is_over = next.is_none();
        self.chunk = next.unwrap_or_default();
        Ok(!self.is_over)
    }

    fn theirs(&mut self) -> io::Result<Option<Arc<Incoming>>> {
        if self.theirs.is_none() {
            // Ours is opened here, too, or a peer that is not written to would never
            // hear of us. Theirs can also be read when ours is closed; and if ours
            // could not be opened, theirs does not come, and why is told then.
            let _ = self.session.ours();
            let deadline = Deadline::after(self.session.shared.connect_timeout);
            self.theirs = self.session.theirs(deadline)?;
        }
        Ok(self.theirs.clone())
    }
}

impl Read for Chunks {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.chunk.len() {
            // One without bytes is of no interest here.
            if room.is_empty() || !self.fetch()? {
                return Ok(0);
            }
        }
        let rest = &self.chunk[self.taken..];
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.session.stop_reading();
    }
}

struct Writer {
    framed: FramedWriter<Pieces>,
    session: Arc<Session>,
    _place: Option<Arc<Place>>,
}

impl MessageWriter for Writer {
    fn write(&mut self, batch: &mut Vec<Message>) -> Result<(), TransportError> {
        self.framed.write(batch)
    }

    fn try_write(&mut self, batch: &mut Vec<Message>) -> Result<bool, TransportError> {
        self.framed.try_write(batch)
    }

    fn can_declare_idle(&self) -> bool {
        true
    }

    fn declare_idle(&mut self) -> Result<(), TransportError> {
        self.session.ours()?.send_at(Vec::new(), Pace::Last).map_err(io::Error::from)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        self.framed.finish()
    }
}

/// Our half, as bytes. Dropping it closes the half.
struct Pieces {
    session: Arc<Session>,
    ours: Option<Arc<Connection>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (piece, pace) = gather(slices);
        let count = piece.len();
        if count > 0 {
            let ours = match &self.ours {
                Some(ours) => ours,
                None => self.ours.insert(self.session.ours()?),
            };
            ours.send_at(piece, pace)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pieces {
    /// As `write_vectored`, but fails where that would wait.
    fn write_now(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.ours.is_none() {
            self.ours = self.session.ours_now();
        }
        let Some(ours) = &self.ours else { return Err(io::ErrorKind::WouldBlock.into()) };
        let (piece, pace) = gather(slices);
        let count = piece.len();
        ours.try_send_at(piece, pace)?;
        Ok(count)
    }
}

/// As much of the slices as is sent in one message. Whoever writes has gathered what is to be
/// written, and a message without everything is not the last.
fn gather(slices: &[IoSlice<'_>]) -> (Vec<u8>, Pace) {
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let mut piece = Vec::with_capacity(total.min(LARGEST_PIECE));
    for slice in slices {
        let room = LARGEST_PIECE - piece.len();
        piece.extend_from_slice(&slice[..room.min(slice.len())]);
    }
    let pace = if piece.len() < total { Pace::Busy } else { Pace::Last };
    (piece, pace)
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.session.finish();
    }
}

struct Control {
    session: Arc<Session>,
    peer: PeerDescription,
    send_buffer: u64,
    _place: Option<Arc<Place>>,
}

impl TransportControl for Control {
    fn shutdown(&self) {
        self.session.shut_down();
    }

    fn peer(&self) -> PeerDescription {
        self.peer.clone()
    }

    fn send_buffer(&self) -> Option<u64> {
        Some(self.send_buffer)
    }
}
