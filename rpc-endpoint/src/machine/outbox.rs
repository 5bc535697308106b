//! What waits to be written to one peer, and in which order.

use std::ops::Range;
use std::sync::Arc;

use super::fifo::Fifo;
use super::streams::Streams;
use crate::wire::Control;

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The reply to a dial.
    Reply(Vec<u8>),
    Control(Control),
    /// A part of a message, in the older dialects all of it.
    Data {
        lcid: u32,
        more: bool,
        message: Arc<Vec<u8>>,
        range: Range<usize>,
    },
}

/// The queue of either kind of dialect.
#[derive(Debug)]
pub(super) enum Outbox {
    Fifo(Fifo),
    Streams(Streams),
}

macro_rules! either {
    ($self:ident, $queue:ident => $what:expr) => {
        match $self {
            Outbox::Fifo($queue) => $what,
            Outbox::Streams($queue) => $what,
        }
    };
}

impl Outbox {
    /// Adds what goes before everything that is not urgent. At most one probe and
    /// one ack wait at a time: one answers all.
    pub(super) fn urgent(&mut self, piece: Piece) {
        let urgent = either!(self, queue => &mut queue.urgent);
        let once = matches!(piece, Piece::Control(Control::Probe | Control::ProbeAck));
        if !(once && urgent.contains(&piece)) {
            urgent.push_back(piece);
        }
    }

    /// Allows the peer to send more on a connection. What it was allowed before and was
    /// not told yet is added: a peer that sends, but does not read, cannot pile these up.
    pub(super) fn grant(&mut self, lcid: u32, units: u32) {
        let urgent = either!(self, queue => &mut queue.urgent);
        let waiting = urgent.iter_mut().find_map(|piece| match piece {
            Piece::Control(Control::Credit { lcid: other, units }) if *other == lcid => Some(units),
            _ => None,
        });
        match waiting {
            Some(waiting) => *waiting = waiting.saturating_add(units),
            None => urgent.push_back(Piece::Control(Control::Credit { lcid, units })),
        }
    }

    /// How many pieces wait, about.
    pub(super) fn len(&self) -> usize {
        either!(self, queue => queue.len())
    }

    pub(super) fn created(&mut self, lcid: u32) {
        either!(self, queue => queue.created(lcid));
    }

    pub(super) fn message(&mut self, lcid: u32, message: Arc<Vec<u8>>) {
        either!(self, queue => queue.message(lcid, message));
    }

    /// Closes a connection after its last message.
    pub(super) fn close(&mut self, lcid: u32) {
        either!(self, queue => queue.close(lcid));
    }

    /// Adds what comes after everything else.
    pub(super) fn last(&mut self, control: Control) {
        either!(self, queue => queue.last(control));
    }

    /// Takes a `CloseSocket` back that has not been written; `false` if there is
    /// none.
    pub(super) fn withdraw_close_socket(&mut self) -> bool {
        either!(self, queue => queue.withdraw_close_socket())
    }

    /// More may be sent on a connection.
    pub(super) fn credit(&mut self, lcid: u32, units: u32) {
        match self {
            Outbox::Fifo(_) => {}
            Outbox::Streams(streams) => streams.credit(lcid, units),
        }
    }

    /// Bytes of messages that wait in front of a new message on a connection.
    pub(super) fn waiting(&self, lcid: u32) -> usize {
        either!(self, queue => queue.waiting(lcid))
    }

    /// Whether there is something to take.
    pub(super) fn has_work(&self) -> bool {
        either!(self, queue => queue.has_work())
    }

    /// Whether nothing waits, not even for credit.
    pub(super) fn is_empty(&self) -> bool {
        either!(self, queue => queue.is_empty())
    }

    /// Moves what is to be written next to `pieces`, until it has about `budget`
    /// bytes.
    pub(super) fn take(&mut self, budget: usize, pieces: &mut Vec<Piece>) {
        either!(self, queue => queue.take(budget, pieces));
    }

    /// Forgets messages that only the peer's credit could set in motion.
    pub(super) fn drop_what_needs_credit(&mut self) {
        if let Outbox::Streams(streams) = self {
            streams.drop_all();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Outbox::Fifo(Fifo::default());
    }
}
