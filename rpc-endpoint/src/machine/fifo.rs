//! The order of the original and the versioned dialect: as it was asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;

use super::outbox::Piece;
use crate::wire::Control;

/// What one frame counts besides its message, in bytes.
const FRAME: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Fifo {
    /// Goes first: the reply to the peer's dial, probes and acks.
    pub(super) urgent: VecDeque<Piece>,
    pieces: VecDeque<Piece>,
    /// Of the messages in `pieces`.
    bytes: usize,
}

impl Fifo {
    pub(super) fn created(&mut self, lcid: u32) {
        self.pieces.push_back(Piece::Control(Control::Created { lcid }));
    }

    pub(super) fn message(&mut self, lcid: u32, message: Arc<Vec<u8>>) {
        self.bytes += FRAME + message.len();
        let range = 0..message.len();
        self.pieces.push_back(Piece::Data { lcid, more: false, message, range });
    }

    pub(super) fn close(&mut self, lcid: u32) {
        self.pieces.push_back(Piece::Control(Control::Close { lcid }));
    }

    pub(super) fn last(&mut self, control: Control) {
        self.pieces.push_back(Piece::Control(control));
    }

    pub(super) fn withdraw_close_socket(&mut self) -> bool {
        let waits = matches!(self.pieces.back(), Some(Piece::Control(Control::CloseSocket { .. })));
        if waits {
            self.pieces.pop_back();
        }
        waits
    }

    pub(super) fn waiting(&self, _: u32) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.pieces.len()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.pieces.is_empty()
    }

    pub(super) fn take(&mut self, budget: usize, pieces: &mut Vec<Piece>) {
        pieces.extend(self.urgent.drain(..));
        let mut taken = 0;
        while taken < budget
            && let Some(piece) = self.pieces.pop_front()
        {
            taken += FRAME;
            if let Piece::Data { message, .. } = &piece {
                taken += message.len();
                self.bytes -= FRAME + message.len();
            }
            pieces.push(piece);
        }
        self.urgent.give_back(KEPT);
        self.pieces.give_back(KEPT);
    }
}
