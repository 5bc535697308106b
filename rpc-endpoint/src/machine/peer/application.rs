//! What the application does with a peer.

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use std::sync::Arc;

use super::{Connect, HangUp, Live, Output, Peer, Refusal, State};
use crate::error::Unreached;
use crate::machine::intake::{Intake, units};
use crate::parameters::Dialect;
use crate::wire::Control;

/// What an endpoint that is closed says last.
fn farewell(live: &Live) -> Control {
    match live.dialect {
        Dialect::Original => Control::CloseSocket { last_in: live.last_in() },
        Dialect::Versioned | Dialect::Multiplexed => Control::CloseEndpoint,
    }
}

impl Peer {
    /// Opens a connection to the peer.
    pub(crate) fn connect(&mut self, out: &mut Vec<Output>) -> Connect {
        if let State::Closing(..) = &self.state
            && self.outbox.withdraw_close_socket()
        {
            self.reopen(out);
        }
        match &mut self.state {
            State::Init { .. } | State::Closing(..) => Connect::Wait,
            State::Valid(live) => {
                let lcid = live.next_out;
                let Some(next) = lcid.checked_add(1) else {
                    return Connect::Refused(Unreached::failed(
                        "all connection ids have been used; close all connections to the peer",
                    ));
                };
                live.next_out = next;
                live.outgoing.insert(lcid);
                self.outbox.created(lcid);
                Connect::Connected(lcid)
            }
            State::Invalid(error) => Connect::Refused(error.clone()),
            State::Closed | State::Failed(_) => Connect::Gone,
        }
    }

    /// Sends a message if less than `limit` bytes wait in front of it.
    pub(crate) fn send(
        &mut self,
        lcid: u32,
        message: &Arc<Vec<u8>>,
        limit: usize,
    ) -> Result<(), Refusal> {
        match &self.state {
            State::Valid(live) if live.outgoing.contains(&lcid) => {
                let longest = live.their_max_message;
                if u32::try_from(message.len()).map_or(true, |length| length > longest) {
                    return Err(Refusal::Failed(format!(
                        "the message has {} bytes, the peer accepts {longest}",
                        message.len()
                    )));
                }
                if self.outbox.waiting(lcid) >= limit {
                    return Err(Refusal::Full);
                }
                self.outbox.message(lcid, message.clone());
                Ok(())
            }
            State::Failed(reason) => Err(Refusal::Failed(reason.clone())),
            _ => Err(Refusal::Closed),
        }
    }

    /// Closes a connection to the peer after what was sent on it.
    pub(crate) fn close(&mut self, lcid: u32, out: &mut Vec<Output>) {
        let State::Valid(live) = &mut self.state else { return };
        if live.outgoing.remove(&lcid) {
            live.outgoing.give_back(KEPT);
            self.outbox.close(lcid);
            self.close_if_unused(out);
        }
    }

    /// Gives the peer up at once, with all connections in both directions.
    pub(crate) fn drop_by(&mut self, reason: &str, out: &mut Vec<Output>) {
        match &self.state {
            // Whoever waits for the dial is told.
            State::Init { .. } => self.dial_given_up(Unreached::failed(reason), out),
            State::Valid(_) | State::Closing(..) => self.fail(reason.to_owned(), out),
            State::Invalid(_) | State::Closed | State::Failed(_) => {}
        }
    }

    /// The endpoint is closed.
    pub(crate) fn shut_down(&mut self, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Init { .. } => {}
            State::Valid(live) => {
                self.outbox.last(farewell(live));
                self.end_socket(HangUp::Written, out);
            }
            State::Closing(live, _) => {
                // A CloseSocket that was written is farewell enough.
                if self.outbox.withdraw_close_socket() {
                    self.outbox.last(farewell(live));
                }
                self.end_socket(HangUp::Written, out);
            }
            State::Invalid(_) | State::Closed | State::Failed(_) => return,
        }
        out.push(Output::Leave);
        self.state = State::Failed("the endpoint was closed".to_owned());
        out.push(Output::Wake);
    }

    /// A message, or only the news of one, was received by the application.
    pub(crate) fn message_taken(&mut self, lcid: u32, length: usize) {
        let units = units(length);
        self.all_unread -= units;
        let Some(intake) = self.intake(lcid) else {
            self.unread -= units;
            return;
        };
        intake.change_unread(-units);
        if let Some(units) = intake.grant() {
            self.outbox.grant(lcid, units);
        }
    }

    /// An opening or closing was received by the application.
    pub(crate) fn event_taken(&mut self) {
        self.events = self.events.saturating_sub(1);
    }

    /// Whether so much waits to be written that what can be left out should be.
    pub(crate) fn is_backed_up(&self) -> bool {
        /// Pieces that wait, about.
        const MANY: usize = 1024;
        self.outbox.len() > MANY
    }

    /// Whether nothing more is to be read for now.
    pub(crate) fn must_pause(&self) -> bool {
        let (State::Valid(live) | State::Closing(live, _)) = &self.state else { return false };
        let queue = i64::from(self.rules.receive_queue);
        // In the multiplexed dialect, these are messages of closed connections.
        let limit = if live.dialect == Dialect::Multiplexed { queue * 16 } else { queue };
        // Incomplete messages alone would not become fewer by waiting.
        let is_full = self.all_unread > 0 && self.held().bytes >= self.rules.max_held;
        self.unread >= limit || is_full || self.events >= self.rules.max_events
    }

    /// The intake that limits a connection by credit.
    fn intake(&mut self, lcid: u32) -> Option<&mut Intake> {
        match &mut self.state {
            State::Valid(live) if live.dialect == Dialect::Multiplexed => {
                live.incoming.get_mut(&lcid)
            }
            _ => None,
        }
    }
}
