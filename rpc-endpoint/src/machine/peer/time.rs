//! Writing, and the passing of time.

use super::{HangUp, Output, Peer, State};
use crate::machine::outbox::Piece;
use crate::parameters::Dialect;
use crate::wire::Control;

impl Peer {
    /// Whether [`take`](Self::take) has something to give.
    pub(crate) fn has_work(&self) -> bool {
        self.outbox.has_work()
    }

    /// Whether the socket has served: nothing more is to be written.
    pub(crate) fn is_written(&self) -> bool {
        match self.hang_up {
            None => false,
            Some(HangUp::Now) => true,
            Some(HangUp::Written) => self.outbox.is_empty(),
        }
    }

    /// Whether the socket has served in the other direction, too.
    pub(crate) fn is_cut(&self) -> bool {
        self.hang_up == Some(HangUp::Now)
    }

    /// Moves what is to be written next to `pieces`, about `budget` bytes.
    pub(crate) fn take(&mut self, budget: usize, now: u64, pieces: &mut Vec<Piece>) {
        self.outbox.take(budget, pieces);
        if let State::Closing(_, written @ None) = &mut self.state
            && pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Control(Control::CloseSocket { .. })))
        {
            *written = Some(now);
        }
    }

    /// Time has passed. `heard` says whether anything came from the peer since
    /// the last time, or could not because we did not read.
    pub(crate) fn tick(&mut self, now: u64, heard: bool, out: &mut Vec<Output>) {
        if let State::Closing(_, Some(written)) = self.state
            && now.saturating_sub(written) >= self.rules.linger
        {
            self.fail("the peer did not answer that the socket may be closed".to_owned(), out);
            return;
        }
        let (State::Valid(live) | State::Closing(live, _)) = &mut self.state else { return };
        if !std::mem::take(&mut live.asked_since_tick) && heard {
            live.heard = now;
            live.asked = None;
        }
        match live.asked {
            Some(asked) if now.saturating_sub(asked) >= self.rules.patience => {
                let silence = now.saturating_sub(live.heard);
                self.fail(format!("the peer gave no sign of life for {silence} ms"), out);
            }
            None if (live.dialect == Dialect::Multiplexed
                || live.can_probe && self.rules.probes_older)
                && now.saturating_sub(live.heard) >= self.rules.heartbeat =>
            {
                live.asked = Some(now);
                self.outbox.urgent(Piece::Control(Control::Probe));
            }
            _ => {}
        }
    }
}
