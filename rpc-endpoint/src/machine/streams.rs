//! The order of the multiplexed dialect: control first, then fragments of each
//! connection in turn, as far as their credit goes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;

use super::outbox::Piece;
use crate::wire::{Control, MAX_FRAGMENT};

// Note [credit]
//
// The receiver of a connection allows its sender a number of units in advance.
// A fragment costs its length and FRAGMENT_COST more, so that many small messages
// occupy no more memory than one long one. A fragment shorter than it could be
// is sent only if it has SHORTEST bytes; the receiver has then handed out all that
// it wants to, because it does so when half of the window (which is at least
// MIN_WINDOW) is free, and less than SHORTEST of it is with the sender.
//
// The receiver counts a whole message that waits in its inbox against the window, but
// not the fragments of a message that is still incomplete. So every message can be
// completed, whatever its length, and a connection occupies at most one window and one
// message.

/// What a fragment costs besides its length.
pub(super) const FRAGMENT_COST: u32 = 16;

/// The shortest fragment in bytes that is not the end of a message.
const SHORTEST: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Streams {
    /// Goes first: replies, openings, credit, probes and acks.
    pub(super) urgent: VecDeque<Piece>,
    streams: HashMap<u32, Stream>,
    /// Those that can send something, in turn. Each at most once.
    ready: VecDeque<u32>,
    last: Option<Control>,
    /// The credit of a new connection.
    window: u32,
}

#[derive(Debug, Default)]
struct Stream {
    messages: VecDeque<Arc<Vec<u8>>>,
    /// How much of the first message was taken.
    offset: usize,
    /// What was not taken yet of all messages, and a few bytes for each.
    bytes: usize,
    credit: u64,
    /// It ends after its messages.
    closing: bool,
    /// It is in `ready`.
    is_ready: bool,
}

impl Stream {
    fn rest(&self) -> Option<usize> {
        self.messages.front().map(|message| message.len() - self.offset)
    }

    fn can_send(&self) -> bool {
        match self.rest() {
            None => self.closing,
            Some(rest) => self.credit >= u64::from(FRAGMENT_COST) + rest.min(SHORTEST) as u64,
        }
    }
}

impl Streams {
    pub(super) fn new(window: u32) -> Self {
        Streams {
            urgent: VecDeque::new(),
            streams: HashMap::new(),
            ready: VecDeque::new(),
            last: None,
            window,
        }
    }

    pub(super) fn created(&mut self, lcid: u32) {
        self.urgent.push_back(Piece::Control(Control::Created { lcid }));
        let credit = self.window.into();
        self.streams.insert(lcid, Stream { credit, ..Stream::default() });
    }

    pub(super) fn message(&mut self, lcid: u32, message: Arc<Vec<u8>>) {
        self.change(lcid, |stream| {
            stream.bytes += FRAGMENT_COST as usize + message.len();
            stream.messages.push_back(message);
        });
    }

    pub(super) fn close(&mut self, lcid: u32) {
        self.change(lcid, |stream| stream.closing = true);
    }

    pub(super) fn credit(&mut self, lcid: u32, units: u32) {
        self.change(lcid, |stream| stream.credit = stream.credit.saturating_add(units.into()));
    }

    fn change(&mut self, lcid: u32, change: impl FnOnce(&mut Stream)) {
        let Some(stream) = self.streams.get_mut(&lcid) else { return };
        change(stream);
        if !stream.is_ready && stream.can_send() {
            stream.is_ready = true;
            self.ready.push_back(lcid);
        }
    }

    pub(super) fn last(&mut self, control: Control) {
        self.last = Some(control);
    }

    pub(super) fn withdraw_close_socket(&mut self) -> bool {
        self.last.take_if(|last| matches!(last, Control::CloseSocket { .. })).is_some()
    }

    pub(super) fn waiting(&self, lcid: u32) -> usize {
        self.streams.get(&lcid).map_or(0, |stream| stream.bytes)
    }

    pub(super) fn drop_all(&mut self) {
        self.streams.clear();
        self.ready.clear();
    }

    /// Each stream that can send counts as one piece.
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.ready.len()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.urgent.is_empty() || !self.ready.is_empty() || self.is_lasts_turn()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.last.is_none() && self.is_idle()
    }

    fn is_lasts_turn(&self) -> bool {
        self.last.is_some() && self.urgent.is_empty() && self.is_idle()
    }

    fn is_idle(&self) -> bool {
        self.ready.is_empty()
            && self.streams.values().all(|stream| stream.messages.is_empty() && !stream.closing)
    }

    pub(super) fn take(&mut self, budget: usize, pieces: &mut Vec<Piece>) {
        pieces.extend(self.urgent.drain(..));
        let mut taken = 0;
        while taken < budget
            && let Some(lcid) = self.ready.pop_front()
        {
            let Some(stream) = self.streams.get_mut(&lcid) else { continue };
            stream.is_ready = false;
            let piece = fragment(lcid, stream);
            if let Piece::Data { range, .. } = &piece {
                taken += range.len();
                if stream.can_send() {
                    stream.is_ready = true;
                    self.ready.push_back(lcid);
                }
            } else {
                self.streams.remove(&lcid);
            }
            taken += FRAGMENT_COST as usize;
            pieces.push(piece);
        }
        self.urgent.give_back(KEPT);
        self.ready.give_back(KEPT);
        self.streams.give_back(KEPT);
        if self.is_lasts_turn() {
            pieces.extend(self.last.take().map(Piece::Control));
        }
    }
}

/// What a stream that can send sends next.
fn fragment(lcid: u32, stream: &mut Stream) -> Piece {
    let Some(message) = stream.messages.front() else {
        return Piece::Control(Control::Close { lcid });
    };
    let rest = message.len() - stream.offset;
    let affordable = stream.credit.saturating_sub(FRAGMENT_COST.into());
    let affordable = usize::try_from(affordable).unwrap_or(usize::MAX);
    let length = rest.min(MAX_FRAGMENT as usize).min(affordable);
    let range = stream.offset..stream.offset + length;
    let message = message.clone();
    stream.credit -= u64::from(FRAGMENT_COST) + length as u64;
    stream.bytes -= length;
    stream.offset += length;
    let more = length < rest;
    if !more {
        stream.bytes -= FRAGMENT_COST as usize;
        stream.messages.pop_front();
        stream.messages.give_back(KEPT);
        stream.offset = 0;
    }
    Piece::Data { lcid, more, message, range }
}
