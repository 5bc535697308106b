//! What the other side of the socket does.

use super::{HangUp, Output, Peer, State};
use crate::machine::intake::{Intake, units};
use crate::machine::outbox::Piece;
use crate::parameters::Dialect;
use crate::wire::{Control, FIRST_CONNECTION};

impl Peer {
    /// A control frame arrived.
    pub(crate) fn control(&mut self, control: Control, out: &mut Vec<Output>) {
        match control {
            Control::Created { lcid } => self.peer_created(lcid, out),
            Control::Close { lcid } => self.peer_closed(lcid, out),
            Control::CloseSocket { last_in } => self.peer_closes_socket(last_in, out),
            Control::CloseEndpoint => self.peer_closed_endpoint(out),
            Control::Probe => {
                if let State::Valid(live) | State::Closing(live, _) = &mut self.state {
                    live.can_probe = true;
                    self.outbox.urgent(Piece::Control(Control::ProbeAck));
                }
            }
            // That it came is what matters.
            Control::ProbeAck => {}
            Control::Credit { lcid, units } => {
                if let State::Valid(live) | State::Closing(live, _) = &self.state
                    && !(FIRST_CONNECTION..live.next_out).contains(&lcid)
                {
                    self.violation(&format!("credit for connection {lcid}"), out);
                } else {
                    // Also when the endpoint is closed, for what is still to go.
                    self.outbox.credit(lcid, units);
                }
            }
        }
    }

    fn peer_created(&mut self, lcid: u32, out: &mut Vec<Output>) {
        if let State::Closing(..) = self.state {
            self.outbox.withdraw_close_socket();
            self.reopen(out);
        }
        let State::Valid(live) = &mut self.state else { return };
        if !live.created.insert(lcid) {
            self.violation(&format!("connection {lcid} was created, whose number is not new"), out);
        } else if live.incoming.len() >= self.rules.max_connections {
            let limit = self.rules.max_connections;
            self.violation(&format!("more than {limit} connections"), out);
        } else {
            live.incoming.insert(lcid, Intake::new(self.rules.receive_queue));
            self.events += 1;
            out.push(Output::Opened(lcid));
        }
    }

    fn peer_closed(&mut self, lcid: u32, out: &mut Vec<Output>) {
        let (State::Valid(live) | State::Closing(live, _)) = &mut self.state else { return };
        match live.incoming.remove(&lcid) {
            Some(intake) if !intake.is_assembling() => {
                // What is unread can not be limited by credit any longer.
                self.unread += intake.unread();
                self.events += 1;
                out.push(Output::Closed(lcid));
                self.close_if_unused(out);
            }
            Some(_) => self.violation(&format!("connection {lcid} ended within a message"), out),
            // See Note [ids need only be new].
            None if live.dialect < Dialect::Multiplexed && live.created.contains(lcid) => {}
            None => self.violation(&format!("connection {lcid} was closed, but not open"), out),
        }
    }

    fn peer_closes_socket(&mut self, last_in: u32, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Valid(live) => {
                let agreed = live.outgoing.is_empty() && last_in >= live.last_out();
                let reply = Control::CloseSocket { last_in: live.last_in() };
                if !self.close_incoming(out) {
                    return;
                }
                if !agreed {
                    self.close_if_unused(out);
                    return;
                }
                out.push(Output::Leave);
                self.outbox.drop_what_needs_credit();
                self.outbox.last(reply);
                self.end_socket(HangUp::Written, out);
                self.state = State::Closed;
            }
            State::Closing(live, _) if last_in >= live.last_out() => {
                out.push(Output::Leave);
                self.outbox.drop_what_needs_credit();
                self.end_socket(HangUp::Written, out);
                self.state = State::Closed;
                out.push(Output::Wake);
            }
            _ => {}
        }
    }

    fn peer_closed_endpoint(&mut self, out: &mut Vec<Output>) {
        let reason = "the peer's endpoint was closed".to_owned();
        match &self.state {
            State::Valid(live) => {
                let is_missed = !live.outgoing.is_empty();
                if !self.close_incoming(out) {
                    return;
                }
                if is_missed {
                    out.push(Output::Lost(reason.clone()));
                }
            }
            State::Closing(..) => {}
            _ => return,
        }
        out.push(Output::Leave);
        self.outbox.clear();
        self.end_socket(HangUp::Written, out);
        self.state = State::Failed(reason);
        out.push(Output::Wake);
    }

    /// A `CloseSocket`, or the end of the endpoint, ends each connection well.
    /// `false` if one of them is not at the end of a message.
    fn close_incoming(&mut self, out: &mut Vec<Output>) -> bool {
        let State::Valid(live) = &mut self.state else { return false };
        let incoming = std::mem::take(&mut live.incoming);
        if incoming.values().any(Intake::is_assembling) {
            self.violation("it left within a message", out);
            return false;
        }
        for (lcid, intake) in incoming {
            self.unread += intake.unread();
            self.events += 1;
            out.push(Output::Closed(lcid));
        }
        true
    }

    /// The head of a piece of a message arrived. Whether the piece, which is to
    /// be read next, is wanted.
    pub(crate) fn data(
        &mut self,
        lcid: u32,
        length: u32,
        more: bool,
        out: &mut Vec<Output>,
    ) -> bool {
        let (State::Valid(live) | State::Closing(live, _)) = &mut self.state else { return false };
        let Some(intake) = live.incoming.get_mut(&lcid) else {
            // See Note [ids need only be new].
            if live.dialect == Dialect::Multiplexed || !live.created.contains(lcid) {
                self.violation(&format!("data on connection {lcid}, which is not open"), out);
            }
            return false;
        };
        live.assembled -= intake.assembled();
        let total = intake.fragment(length, more);
        live.assembled += intake.assembled();
        let assembled = live.assembled;
        if total > self.rules.max_message.into() {
            let limit = self.rules.max_message;
            self.violation(
                &format!("a message of {total} bytes or more, the limit is {limit}"),
                out,
            );
            return false;
        }
        if live.dialect == Dialect::Multiplexed {
            if !intake.pay(length) || more && length == 0 {
                self.violation(&format!("more on connection {lcid} than it had credit for"), out);
                return false;
            }
            if more && let Some(units) = intake.grant() {
                self.outbox.grant(lcid, units);
            }
        }
        if assembled > self.rules.max_held {
            let limit = self.rules.max_held;
            let reason = format!(
                "the peer has sent {assembled} bytes of messages that are incomplete; the limit is \
                 {limit}"
            );
            self.fail(reason, out);
            return false;
        }
        true
    }

    /// A whole message was read that [`data`](Self::data) wanted. Whether it is
    /// to be delivered.
    pub(crate) fn message_arrived(&mut self, lcid: u32, length: usize) -> bool {
        let State::Valid(live) = &mut self.state else { return false };
        match live.incoming.get_mut(&lcid) {
            Some(intake) if live.dialect == Dialect::Multiplexed => {
                intake.change_unread(units(length));
            }
            Some(_) => self.unread += units(length),
            None => return false,
        }
        self.all_unread += units(length);
        true
    }

    /// The socket broke, ended, or brought nonsense.
    pub(crate) fn broken(&mut self, reason: String, out: &mut Vec<Output>) {
        match &self.state {
            State::Valid(_) | State::Closing(..) => self.fail(reason, out),
            _ => self.end_socket(HangUp::Now, out),
        }
    }

    pub(super) fn violation(&mut self, what: &str, out: &mut Vec<Output>) {
        self.fail(format!("the peer broke the protocol: {what}"), out);
    }

    pub(super) fn fail(&mut self, reason: String, out: &mut Vec<Output>) {
        if let State::Valid(_) = self.state {
            out.push(Output::Lost(reason.clone()));
        }
        out.push(Output::Leave);
        self.outbox.clear();
        self.end_socket(HangUp::Now, out);
        self.state = State::Failed(reason);
        out.push(Output::Wake);
    }

    pub(super) fn end_socket(&mut self, how: HangUp, out: &mut Vec<Output>) {
        if self.hang_up != Some(HangUp::Now) && self.hang_up != Some(how) {
            self.hang_up = Some(how);
            out.push(Output::HangUp(how));
        }
    }

    pub(super) fn close_if_unused(&mut self, out: &mut Vec<Output>) {
        let State::Valid(live) = &mut self.state else { return };
        if !live.outgoing.is_empty() || !live.incoming.is_empty() {
            return;
        }
        self.outbox.last(Control::CloseSocket { last_in: live.last_in() });
        // Nobody can wait for Valid now, but a dial may for the end of Closing.
        if let State::Valid(live) = std::mem::replace(&mut self.state, State::Closed) {
            self.state = State::Closing(live, None);
        }
        out.push(Output::Wake);
    }

    pub(super) fn reopen(&mut self, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closing(live, _) => self.state = State::Valid(live),
            other => self.state = other,
        }
        out.push(Output::Wake);
    }
}
