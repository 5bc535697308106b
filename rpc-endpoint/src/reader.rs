//! From bytes in the socket to steps of a link.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;

use super::deadline::Deadline;
use super::link::Link;
use super::parameters::Dialect;
use super::socket::Socket;
use super::wire::{self, Control, Header, WireError};

/// The longest head of a frame, in bytes.
const LONGEST_HEAD: usize = 12;

/// What is set aside for a piece of a message without any of it having arrived, in bytes.
const FIRST_STEP: usize = 64 << 10;

/// The reading side of a socket.
pub(super) struct Input {
    socket: Arc<Socket>,
    waiting: Waiting,
    heard: Option<Arc<AtomicBool>>,
}

/// Whether a read waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Until then.
    Until(Deadline),
    /// No: it takes what is there, and fails with `WouldBlock` if that is nothing.
    No,
    /// No, and such a read was made. Others fail, so that a peer that goes on sending keeps no
    /// reader.
    Over,
}

impl Input {
    /// To be used in a handshake.
    pub(super) fn until(socket: Arc<Socket>, deadline: Deadline) -> BufReader<Self> {
        let input = Input { socket, waiting: Waiting::Until(deadline), heard: None };
        BufReader::with_capacity(64 << 10, input)
    }

    pub(super) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }
}

impl Read for Input {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = match self.waiting {
            Waiting::Until(deadline) => self.socket.read(room, deadline.remaining())?,
            Waiting::No => {
                let count = self.socket.read_now(room)?;
                self.waiting = Waiting::Over;
                count
            }
            Waiting::Over => return Err(io::ErrorKind::WouldBlock.into()),
        };
        if let Some(heard) = &self.heard
            && count > 0
        {
            heard.store(true, Ordering::SeqCst);
        }
        Ok(count)
    }
}

/// Reads frames and makes the steps of them.
///
/// It may stop within a frame, when nothing more is there, and go on there later.
pub(super) struct Reader {
    dialect: Dialect,
    input: BufReader<Input>,
    /// The beginning of a head that is not complete.
    head: Vec<u8>,
    /// The piece of a message whose head was read.
    piece: Option<Piece>,
    /// Incomplete messages by their connection.
    started: HashMap<u32, Vec<u8>>,
}

struct Piece {
    lcid: u32,
    /// How much of it is still to be read.
    rest: usize,
    more: bool,
    is_wanted: bool,
    /// The message so far; empty if it is not wanted.
    message: Vec<u8>,
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Everything that was taken from the socket is worked off.
    Clean,
    /// More has to be read first. Only if the reader does not wait.
    Within,
    /// The application has to receive something first. There may be more that was taken from
    /// the socket.
    Paused,
    /// Nothing more is wanted, or the stream is over.
    Over,
}

impl Reader {
    /// For a socket whose handshake is done.
    pub(super) fn new(dialect: Dialect, mut input: BufReader<Input>, link: &Link) -> Self {
        input.get_mut().heard = Some(link.heard.clone());
        Reader { dialect, input, head: Vec::new(), piece: None, started: HashMap::new() }
    }

    /// Whether the next reads wait for bytes. Where they do not, one is made from the socket.
    pub(super) fn wait(&mut self, waits: bool) {
        let waiting = if waits { Waiting::Until(Deadline::NEVER) } else { Waiting::No };
        self.input.get_mut().waiting = waiting;
    }

    /// Makes steps until it comes to a stop.
    pub(super) fn read(&mut self, link: &Arc<Link>) -> Result<Progress, WireError> {
        let waits = matches!(self.input.get_ref().waiting, Waiting::Until(_));
        match self.work_off(link, waits) {
            Err(WireError::Io(error)) if !waits && error.kind() == io::ErrorKind::WouldBlock => {
                Ok(if self.is_between_frames() { Progress::Clean } else { Progress::Within })
            }
            outcome => outcome,
        }
    }

    fn is_between_frames(&self) -> bool {
        self.head.is_empty() && self.piece.is_none()
    }

    fn work_off(&mut self, link: &Arc<Link>, waits: bool) -> Result<Progress, WireError> {
        loop {
            if self.piece.is_some() {
                self.read_piece(link)?;
            } else if let Some(stop) = link.stop_of_reading(waits) {
                return Ok(stop);
            } else {
                let Some(header) = self.read_head()? else { return Ok(Progress::Over) };
                self.begin(link, header);
            }
            if self.is_between_frames() && self.input.buffer().is_empty() {
                return Ok(Progress::Clean);
            }
        }
    }

    /// The next head; `None` at the end of the stream.
    fn read_head(&mut self) -> Result<Option<Header>, WireError> {
        if self.head.is_empty() && self.input.buffer().len() >= LONGEST_HEAD {
            return wire::read_header(&mut self.input, self.dialect);
        }
        loop {
            let mut word = [0; 4];
            let missing = word.len() - self.head.len() % word.len();
            let count = match self.input.read(&mut word[..missing]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            if count == 0 {
                return if self.head.is_empty() { Ok(None) } else { Err(WireError::Truncated) };
            }
            self.head.extend_from_slice(&word[..count]);
            match wire::read_header(&mut &self.head[..], self.dialect) {
                Err(WireError::Truncated) => {}
                outcome => {
                    self.head.clear();
                    return outcome;
                }
            }
        }
    }

    fn begin(&mut self, link: &Arc<Link>, header: Header) {
        match header {
            Header::Control(control) => {
                if let Control::Close { lcid } = control {
                    self.started.remove(&lcid);
                    self.started.give_back(KEPT);
                }
                link.control(control);
            }
            Header::Data { lcid, length, more } => {
                let is_wanted = link.data(lcid, length, more);
                let message = if is_wanted { self.started.remove(&lcid) } else { None };
                // Every system that this runs on has 32 bits or more.
                let rest = usize::try_from(length).unwrap_or(usize::MAX);
                let message = message.unwrap_or_default();
                self.piece = Some(Piece { lcid, rest, more, is_wanted, message });
            }
        }
    }

    fn read_piece(&mut self, link: &Arc<Link>) -> Result<(), WireError> {
        let Some(piece) = &mut self.piece else { return Ok(()) };
        if piece.is_wanted {
            // Memory is only set aside for what has arrived, so that a peer cannot occupy more
            // by announcing much.
            piece.message.try_reserve(piece.rest.min(FIRST_STEP)).map_err(io::Error::from)?;
            let before = piece.message.len();
            let read = self.input.by_ref().take(piece.rest as u64).read_to_end(&mut piece.message);
            piece.rest -= piece.message.len() - before;
            read?;
        } else {
            while piece.rest > 0 {
                let there = match self.input.fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    outcome => outcome?.len().min(piece.rest),
                };
                if there == 0 {
                    break;
                }
                self.input.consume(there);
                piece.rest -= there;
            }
        }
        if piece.rest > 0 {
            return Err(WireError::Truncated);
        }
        let Some(Piece { lcid, more, is_wanted, message, .. }) = self.piece.take() else {
            return Ok(());
        };
        if is_wanted && more {
            self.started.insert(lcid, message);
        } else {
            self.started.give_back(KEPT);
            if is_wanted {
                link.deliver(lcid, message);
            }
        }
        Ok(())
    }
}
