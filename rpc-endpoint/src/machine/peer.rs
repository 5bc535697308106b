//! The states of one peer and the steps between them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use super::fifo::Fifo;
use super::ids::Ids;
use super::intake::Intake;
use super::outbox::{Outbox, Piece};
use super::streams::Streams;
use crate::error::Unreached;
use crate::parameters::Dialect;
use crate::wire::{Control, DialectTerms, FIRST_CONNECTION, Stamp};

mod application;
mod incoming;
mod time;

/// What a peer may do. Times are in milliseconds, here and in all steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) max_message: u32,
    pub(crate) max_connections: usize,
    pub(crate) max_events: usize,
    pub(crate) receive_queue: u32,
    /// Bytes that may be held for the peer.
    pub(crate) max_held: u64,
    pub(crate) heartbeat: u64,
    pub(crate) patience: u64,
    /// Whether a silent peer of an older dialect is asked for a sign of life.
    pub(crate) probes_older: bool,
    pub(crate) linger: u64,
}

/// What is held for a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Open incoming connections.
    pub(crate) connections: usize,
    /// Bytes of messages that are incomplete, or wait to be received.
    pub(crate) bytes: u64,
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
    /// Somebody else seems to claim the peer's address; the text says why.
    Contested(&'static str),
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
    Refused(Unreached),
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
    /// Units of messages that wait to be received and that no credit limits.
    unread: i64,
    /// Units of all messages that wait to be received.
    all_unread: i64,
    /// Openings and closings that wait to be received.
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
    Invalid(Unreached),
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
    /// What the peer created.
    created: Ids,
    /// Bytes of all incomplete messages.
    assembled: u64,
    /// The next connection that we create.
    next_out: u32,
    /// The longest message that the peer accepts.
    their_max_message: u32,
    /// When the peer last said where it stands.
    stamp: Stamp,
    /// The peer knows probes.
    can_probe: bool,
    /// It was told that somebody else claims the address.
    is_contested: bool,
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
            created: Ids::new(),
            assembled: 0,
            next_out: FIRST_CONNECTION,
            their_max_message,
            stamp,
            can_probe: terms.dialect() >= Dialect::Versioned,
            is_contested: false,
            heard: now,
            asked: None,
            asked_since_tick: false,
        }
    }

    /// The last connection that we created, 0 if none.
    fn last_out(&self) -> u32 {
        if self.next_out == FIRST_CONNECTION { 0 } else { self.next_out - 1 }
    }

    /// The last connection that the peer created, 0 if none.
    fn last_in(&self) -> u32 {
        self.created.last()
    }
}

fn outbox_for(terms: DialectTerms) -> Outbox {
    match terms {
        DialectTerms::Multiplexed(terms) => Outbox::Streams(Streams::new(terms.window)),
        _ => Outbox::Fifo(Fifo::default()),
    }
}

/// What is held.
impl Peer {
    pub(crate) fn held(&self) -> Held {
        let unread = u64::try_from(self.all_unread).unwrap_or(0);
        match &self.state {
            State::Valid(live) | State::Closing(live, _) => {
                Held { connections: live.incoming.len(), bytes: unread + live.assembled }
            }
            _ => Held { connections: 0, bytes: unread },
        }
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
            all_unread: 0,
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
            State::Valid(live) | State::Closing(live, _)
                if age(terms, live) > Some(Ordering::Equal) =>
            {
                let reason = if is_restarted(terms, live) { RESTARTED } else { REDIALLED };
                self.fail(reason.to_owned(), out);
                Inbound::Gone
            }
            State::Valid(live) => {
                // A late dial is none of a peer that has lost us. Of any other, the peer
                // that is connected may be dead without our knowing.
                let is_late = age(terms, live).is_some() && !is_restarted(terms, live);
                if live.can_probe && !is_late && live.asked.is_none() {
                    live.asked = Some(now);
                    live.asked_since_tick = true;
                    self.outbox.urgent(Piece::Control(Control::Probe));
                }
                if is_restarted(terms, live) && !std::mem::replace(&mut live.is_contested, true) {
                    out.push(Output::Contested(OLDER));
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
    pub(crate) fn dial_failed(&mut self, error: Unreached, out: &mut Vec<Output>) -> Dialled {
        if let State::Init { waiting: Some(_), .. } = self.state {
            return self.dial_crossed(out);
        }
        self.dial_given_up(error, out);
        Dialled::Done
    }

    /// Our dial failed, and so did waiting for the peer's.
    pub(crate) fn dial_given_up(&mut self, error: Unreached, out: &mut Vec<Output>) {
        let State::Init { .. } = self.state else { return };
        out.push(Output::Leave);
        self.state = State::Invalid(error);
        out.push(Output::Wake);
    }

    /// Whether the peer has left or is to leave the registry.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, State::Invalid(_) | State::Closed | State::Failed(_))
    }

    /// Whether our dial is still undecided.
    pub(crate) fn is_init(&self) -> bool {
        matches!(self.state, State::Init { .. })
    }
}

const REDIALLED: &str = "the peer dialled anew";
const RESTARTED: &str = "the peer dialled anew with a later incarnation: it was restarted, or \
                         another network claims its address";
const OLDER: &str = "a dial has an earlier incarnation than the peer that is connected: the peer \
                     was restarted and its clock went back, or another network claims its address";

/// How old a dial is compared with the peer's connection, if both say so.
fn age(terms: DialectTerms, live: &Live) -> Option<Ordering> {
    match terms {
        DialectTerms::Multiplexed(terms) if live.dialect == Dialect::Multiplexed => {
            Some(terms.stamp.cmp(&live.stamp))
        }
        _ => None,
    }
}

/// Whether a dial comes from another incarnation than the peer's connection.
fn is_restarted(terms: DialectTerms, live: &Live) -> bool {
    let DialectTerms::Multiplexed(terms) = terms else { return false };
    live.dialect == Dialect::Multiplexed && terms.stamp.incarnation != live.stamp.incarnation
}

#[cfg(test)]
impl Peer {
    /// Whether a dial of the peer waits for how ours ends.
    pub(crate) fn has_waiting_dial(&self) -> bool {
        matches!(self.state, State::Init { waiting: Some(_), .. })
    }
}
