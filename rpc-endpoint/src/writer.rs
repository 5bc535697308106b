//! From pieces to bytes in the socket.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;

use super::machine::Piece;
use super::parameters::Dialect;
use super::socket::{AtOnce, Socket};
use super::wire::Header;

/// Messages up to this length are copied to be written together.
const SHORT: usize = 4 << 10;

/// The memory, in bytes, that a writer keeps between batches.
const KEPT_BYTES: usize = 16 << 10;

/// Writes a batch of pieces with as few calls of the system as possible.
///
/// It is empty, or has a batch that is not written yet, or a part of one: then the rest is what
/// has to be written next.
pub(crate) struct Writer {
    dialect: Dialect,
    socket: Arc<Socket>,
    pieces: Vec<Piece>,
    /// What the batch is in bytes, but for long messages. Empty until the batch is begun.
    bytes: Vec<u8>,
    /// After how many of `bytes` which piece is inserted.
    long: Vec<(usize, usize)>,
    /// How much of the batch the system has.
    written: usize,
}

impl Writer {
    pub(crate) fn new(dialect: Dialect, socket: Arc<Socket>) -> Self {
        Writer {
            dialect,
            socket,
            pieces: Vec::new(),
            bytes: Vec::new(),
            long: Vec::new(),
            written: 0,
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Where the next batch is put; only while there is none.
    pub(crate) fn pieces(&mut self) -> &mut Vec<Piece> {
        debug_assert!(!self.has_rest());
        &mut self.pieces
    }

    /// Whether there is something that is not written.
    pub(crate) fn has_rest(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Writes everything, and waits until the system has taken it.
    pub(crate) fn write_all(&mut self) -> io::Result<()> {
        self.begin();
        let mut slices = self.slices();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, self.written);
        self.socket.write_all(rest)?;
        self.clear();
        Ok(())
    }

    /// Writes as much as the system takes at once.
    pub(crate) fn write_now(&mut self) -> io::Result<()> {
        self.begin();
        let mut slices = self.slices();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, self.written);
        match self.socket.write_now(rest)? {
            AtOnce::Everything => self.clear(),
            AtOnce::Taken(count) => self.written += count,
        }
        Ok(())
    }

    /// Forgets what is not written.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.pieces.give_back(KEPT);
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.long.clear();
        self.long.give_back(KEPT);
        self.written = 0;
    }

    /// Encodes the batch, once. Every piece has bytes, so that there are none before.
    fn begin(&mut self) {
        if !self.bytes.is_empty() {
            return;
        }
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Reply(reply) => self.bytes.extend_from_slice(reply),
                Piece::Control(control) => {
                    Header::Control(*control).encode(self.dialect, &mut self.bytes);
                }
                Piece::Data { lcid, more, message, range } => {
                    // The machine lets no longer message through.
                    let length = u32::try_from(range.len()).unwrap_or(u32::MAX);
                    let header = Header::Data { lcid: *lcid, length, more: *more };
                    header.encode(self.dialect, &mut self.bytes);
                    if range.len() <= SHORT {
                        self.bytes.extend_from_slice(&message[range.clone()]);
                    } else {
                        self.long.push((self.bytes.len(), index));
                    }
                }
            }
        }
    }

    /// The batch, in order.
    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.long.len() + 1);
        let mut start = 0;
        for (end, index) in &self.long {
            slices.push(IoSlice::new(&self.bytes[start..*end]));
            if let Piece::Data { message, range, .. } = &self.pieces[*index] {
                slices.push(IoSlice::new(&message[range.clone()]));
            }
            start = *end;
        }
        slices.push(IoSlice::new(&self.bytes[start..]));
        slices
    }
}
