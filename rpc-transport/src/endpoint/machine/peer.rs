//! The states of one peer and the steps between them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::fifo::Fifo;
use super::intake::{Intake, units};
use super::outbox::{Outbox, Piece};
use super::streams::Streams;
use crate::endpoint::error::ConnectError;
use crate::endpoint::parameters::Dialect;
use crate::endpoint::wire::{Control, DialectTerms, FIRST_CONNECTION, Stamp};

/// What a peer may do. Times are in milliseconds, here and in all steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) max_message: u32,
    pub(crate) max_connections: usize,
    pub(crate) max_events: usize,
    pub(crate) receive_queue: u32,
    pub(crate) heartbeat: u64,
    pub(crate) patience: u64,
    pub(crate) linger: u64,
}

/// What is to be done after a step, in this order, before anybody else may step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// An incoming connection is open.
    Opened(u32),
    /// It ended well.
    Closed(u32),
    /// Every connection is gone.
    Lost(String),
    /// Remove the peer from the registry.
    Leave,
    /// What others wait for may have happened.
    Wake,
    /// Give the socket up.
    HangUp(HangUp),
}

/// How to give a socket up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HangUp {
    /// When the outbox was written, but do not wait for that too long.
    Written,
    Now,
}

/// The answer to who wants a connection to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Connect {
    /// Here it is.
    Connected(u32),
    /// Ask again when woken.
    Wait,
    /// This peer is dead; look for another in the registry.
    Gone,
    Refused(ConnectError),
}

/// The answer to a dial of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// The socket is this peer's now.
    Accepted,
    Crossed,
    /// Ask again when woken.
    Wait,
    /// This peer is dead; look for another in the registry.
    Gone,
}

/// What becomes of our own dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// The peer is decided; nothing more to do.
    Done,
    /// A dial of the peer is expected instead. Give up after a while.
    TheirTurn,
}

/// Why a message is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not now.
    Full,
    /// The connection is closed.
    Closed,
    Failed(String),
}

/// One TCP connection, or the attempt at one.
#[derive(Debug)]
pub(crate) struct Peer {
    state: State,
    rules: Rules,
    outbox: Outbox,
    hang_up: Option<HangUp>,
    /// Units of messages that wait to be received and that no credit limits, and
    /// openings and closings that do.
    unread: i64,
    events: usize,
}

#[derive(Debug)]
enum State {
    /// Our dial is under way.
    Init {
        /// We are told, or have decided, to wait for the peer's dial instead.
        yielded: bool,
        /// The newest dial of the peer that waits for how ours ends.
        waiting: Option<u64>,
    },
    /// Our dial was refused.
    Invalid(ConnectError),
    Valid(Live),
    /// A `CloseSocket` is queued, or was written at a time.
    Closing(Live, Option<u64>),
    Closed,
    Failed(String),
}

#[derive(Debug)]
struct Live {
    dialect: Dialect,
    outgoing: HashSet<u32>,
    incoming: BTreeMap<u32, Intake>,
    /// The last connection that the peer created, 0 if none.
    last_in: u32,
    /// The next connection that we create.
    next_out: u32,
    /// The longest message that the peer accepts.
    their_max_message: u32,
    /// When the peer last said where it stands.
    stamp: Stamp,
    /// When bytes of the peer were last seen.
    heard: u64,
    /// When the peer was asked for a sign of life that did not come yet.
    asked: Option<u64>,
    /// Bytes may have come since the last tick, but before the question.
    asked_since_tick: bool,
}

impl Live {
    fn new(terms: DialectTerms, now: u64) -> Self {
        let (stamp, their_max_message) = match terms {
            DialectTerms::Multiplexed(terms) => (terms.stamp, terms.max_message),
            _ => (Stamp::default(), u32::MAX),
        };
        Live {
            dialect: terms.dialect(),
            outgoing: HashSet::new(),
            incoming: BTreeMap::new(),
            last_in: 0,
            next_out: FIRST_CONNECTION,
            their_max_message,
            stamp,
            heard: now,
            asked: None,
            asked_since_tick: false,
        }
    }

    /// The last connection that we created, 0 if none.
    fn last_out(&self) -> u32 {
        if self.next_out == FIRST_CONNECTION { 0 } else { self.next_out - 1 }
    }
}

fn outbox_for(terms: DialectTerms) -> Outbox {
    match terms {
        DialectTerms::Multiplexed(terms) => Outbox::Streams(Streams::new(terms.window)),
        _ => Outbox::Fifo(Fifo::default()),
    }
}

/// Beginning.
impl Peer {
    /// A peer that is about to be dialled.
    pub(crate) fn dialling(rules: Rules) -> Self {
        Peer {
            state: State::Init { yielded: false, waiting: None },
            rules,
            outbox: Outbox::Fifo(Fifo::default()),
            hang_up: None,
            unread: 0,
            events: 0,
        }
    }

    /// A peer whose dial is accepted with `reply`.
    pub(crate) fn accepting(rules: Rules, terms: DialectTerms, reply: Vec<u8>, now: u64) -> Self {
        let mut peer = Self::dialling(rules);
        peer.begin(terms, now);
        peer.outbox.urgent(Piece::Reply(reply));
        peer
    }

    fn begin(&mut self, terms: DialectTerms, now: u64) {
        self.outbox = outbox_for(terms);
        self.state = State::Valid(Live::new(terms, now));
    }

    /// A dial of the peer has introduced itself. `we_yield` says that its address
    /// is the smaller one. Of several dials that have to wait, the one with the
    /// greatest `ticket` stays.
    pub(crate) fn inbound(
        &mut self,
        we_yield: bool,
        ticket: u64,
        terms: DialectTerms,
        reply: &[u8],
        now: u64,
        out: &mut Vec<Output>,
    ) -> Inbound {
        match &mut self.state {
            State::Init { yielded: false, waiting } => {
                if !we_yield || waiting.is_some_and(|other| other > ticket) {
                    return Inbound::Crossed;
                }
                if waiting.replace(ticket) != Some(ticket) {
                    // The one that was replaced asks again and learns of it.
                    out.push(Output::Wake);
                }
                Inbound::Wait
            }
            State::Init { yielded: true, .. } => {
                self.begin(terms, now);
                self.outbox.urgent(Piece::Reply(reply.to_vec()));
                out.push(Output::Wake);
                Inbound::Accepted
            }
            State::Valid(live) | State::Closing(live, _) if is_newer(terms, live) => {
                self.fail("the peer dialled anew".to_owned(), out);
                Inbound::Gone
            }
            State::Valid(live) => {
                if live.dialect == Dialect::Versioned && live.asked.is_none() {
                    live.asked = Some(now);
                    live.asked_since_tick = true;
                    self.outbox.urgent(Piece::Control(Control::Probe));
                }
                Inbound::Crossed
            }
            State::Closing(..) => Inbound::Wait,
            State::Invalid(_) | State::Closed | State::Failed(_) => Inbound::Gone,
        }
    }

    /// A dial of the peer does not wait any longer.
    pub(crate) fn inbound_gave_up(&mut self, ticket: u64) {
        if let State::Init { waiting, .. } = &mut self.state {
            waiting.take_if(|waiting| *waiting == ticket);
        }
    }

    /// Our dial was accepted; `false` if there is no use for it any more.
    pub(crate) fn dial_accepted(
        &mut self,
        terms: DialectTerms,
        now: u64,
        out: &mut Vec<Output>,
    ) -> bool {
        let State::Init { .. } = self.state else { return false };
        self.begin(terms, now);
        out.push(Output::Wake);
        true
    }

    /// Our dial was answered that there is another.
    pub(crate) fn dial_crossed(&mut self, out: &mut Vec<Output>) -> Dialled {
        let State::Init { yielded, .. } = &mut self.state else { return Dialled::Done };
        *yielded = true;
        out.push(Output::Wake);
        Dialled::TheirTurn
    }

    /// Our dial failed.
    pub(crate) fn dial_failed(&mut self, error: ConnectError, out: &mut Vec<Output>) -> Dialled {
        if let State::Init { waiting: Some(_), .. } = self.state {
            return self.dial_crossed(out);
        }
        self.dial_given_up(error, out);
        Dialled::Done
    }

    /// Our dial failed, and so did waiting for the peer's.
    pub(crate) fn dial_given_up(&mut self, error: ConnectError, out: &mut Vec<Output>) {
        let State::Init { .. } = self.state else { return };
        out.push(Output::Leave);
        self.state = State::Invalid(error);
        out.push(Output::Wake);
    }

    /// Whether our dial is still undecided.
    pub(crate) fn is_init(&self) -> bool {
        matches!(self.state, State::Init { .. })
    }
}

fn is_newer(terms: DialectTerms, live: &Live) -> bool {
    match terms {
        DialectTerms::Multiplexed(terms) => {
            live.dialect == Dialect::Multiplexed && terms.stamp > live.stamp
        }
        _ => false,
    }
}

/// What an endpoint that is closed says last.
fn farewell(live: &Live) -> Control {
    match live.dialect {
        Dialect::Original => Control::CloseSocket { last_in: live.last_in },
        Dialect::Versioned | Dialect::Multiplexed => Control::CloseEndPoint,
    }
}

/// What the application does.
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
                    return Connect::Refused(ConnectError::failed(
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
            self.outbox.close(lcid);
            self.close_if_unused(out);
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
        let Some(intake) = self.intake(lcid) else {
            self.unread -= units;
            return;
        };
        intake.change_unread(-units);
        if let Some(units) = intake.grant() {
            self.outbox.urgent(Piece::Control(Control::Credit { lcid, units }));
        }
    }

    /// An opening or closing was received by the application.
    pub(crate) fn event_taken(&mut self) {
        self.events = self.events.saturating_sub(1);
    }

    /// Whether nothing more is to be read for now.
    pub(crate) fn must_pause(&self) -> bool {
        let (State::Valid(live) | State::Closing(live, _)) = &self.state else { return false };
        let queue = i64::from(self.rules.receive_queue);
        // In the multiplexed dialect, these are messages of closed connections.
        let limit = if live.dialect == Dialect::Multiplexed { queue * 16 } else { queue };
        self.unread >= limit || self.events >= self.rules.max_events
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

/// What the peer does.
impl Peer {
    /// A control frame arrived.
    pub(crate) fn control(&mut self, control: Control, out: &mut Vec<Output>) {
        match control {
            Control::Created { lcid } => self.peer_created(lcid, out),
            Control::Close { lcid } => self.peer_closed(lcid, out),
            Control::CloseSocket { last_in } => self.peer_closes_socket(last_in, out),
            Control::CloseEndPoint => self.peer_closed_endpoint(out),
            Control::Probe => {
                if let State::Valid(_) | State::Closing(..) = self.state {
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
        if lcid < FIRST_CONNECTION || lcid <= live.last_in {
            let last = live.last_in;
            self.violation(&format!("connection {lcid} was created after {last}"), out);
        } else if live.incoming.len() >= self.rules.max_connections {
            let limit = self.rules.max_connections;
            self.violation(&format!("more than {limit} connections"), out);
        } else {
            live.last_in = lcid;
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
            None => self.violation(&format!("connection {lcid} was closed, but not open"), out),
        }
    }

    fn peer_closes_socket(&mut self, last_in: u32, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Valid(live) => {
                let agreed = live.outgoing.is_empty() && last_in >= live.last_out();
                let reply = Control::CloseSocket { last_in: live.last_in };
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
            self.violation(&format!("data on connection {lcid}, which is not open"), out);
            return false;
        };
        let total = intake.fragment(length, more);
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
                self.outbox.urgent(Piece::Control(Control::Credit { lcid, units }));
            }
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
        true
    }

    /// The socket broke, ended, or brought nonsense.
    pub(crate) fn broken(&mut self, reason: String, out: &mut Vec<Output>) {
        match &self.state {
            State::Valid(_) | State::Closing(..) => self.fail(reason, out),
            _ => self.end_socket(HangUp::Now, out),
        }
    }

    fn violation(&mut self, what: &str, out: &mut Vec<Output>) {
        self.fail(format!("the peer broke the protocol: {what}"), out);
    }

    fn fail(&mut self, reason: String, out: &mut Vec<Output>) {
        if let State::Valid(_) = self.state {
            out.push(Output::Lost(reason.clone()));
        }
        out.push(Output::Leave);
        self.outbox.clear();
        self.end_socket(HangUp::Now, out);
        self.state = State::Failed(reason);
        out.push(Output::Wake);
    }

    fn end_socket(&mut self, how: HangUp, out: &mut Vec<Output>) {
        if self.hang_up != Some(HangUp::Now) && self.hang_up != Some(how) {
            self.hang_up = Some(how);
            out.push(Output::HangUp(how));
        }
    }

    fn close_if_unused(&mut self, out: &mut Vec<Output>) {
        let State::Valid(live) = &mut self.state else { return };
        if !live.outgoing.is_empty() || !live.incoming.is_empty() {
            return;
        }
        self.outbox.last(Control::CloseSocket { last_in: live.last_in });
        // Nobody can wait for Valid now, but a dial may for the end of Closing.
        if let State::Valid(live) = std::mem::replace(&mut self.state, State::Closed) {
            self.state = State::Closing(live, None);
        }
        out.push(Output::Wake);
    }

    fn reopen(&mut self, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closing(live, _) => self.state = State::Valid(live),
            other => self.state = other,
        }
        out.push(Output::Wake);
    }
}

/// Writing and the passing of time.
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
            None if live.dialect == Dialect::Multiplexed
                && now.saturating_sub(live.heard) >= self.rules.heartbeat =>
            {
                live.asked = Some(now);
                self.outbox.urgent(Piece::Control(Control::Probe));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
impl Peer {
    /// Whether a dial of the peer waits for how ours ends.
    pub(crate) fn has_waiting_dial(&self) -> bool {
        matches!(self.state, State::Init { waiting: Some(_), .. })
    }

    /// Whether the peer has left or is to leave the registry.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, State::Invalid(_) | State::Closed | State::Failed(_))
    }
}
