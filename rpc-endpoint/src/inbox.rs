//! Where what arrived waits until the application takes it.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::address::{ConnectionId, EndpointAddress};
use super::deadline::{self, Deadline};
use super::error::ReceiveError;
use super::link::{Guest, Link};
use super::local::{Local, Waiting};
use super::pace;
use super::standby::{Guests, Polled};

/// What waits at one endpoint, in order.
#[derive(Default)]
pub(super) struct Events {
    state: Mutex<EventsState>,
    available: Condvar,
}

#[derive(Default)]
struct EventsState {
    queue: VecDeque<Entry>,
    /// The last entry was queued.
    is_finished: bool,
    /// The last entry was taken.
    is_over: bool,
    guests: Guests,
}

impl EventsState {
    fn called(&self, available: &Condvar) {
        available.notify_one();
        self.guests.call();
    }
}

/// Something that waits. A message waits in the inbox of its connection; here is
/// only its place in the order.
pub(super) enum Entry {
    Opened(Arc<Inbox>),
    Message(Arc<Inbox>),
    Closed(Arc<Inbox>),
    Lost { peer: EndpointAddress, link: u32, reason: String, connections: Vec<ConnectionId> },
    NetworkFailed(String),
    EndpointClosed,
}

impl Events {
    /// Adds an entry, unless the endpoint is closed.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.state.lock();
        if !state.is_finished {
            state.queue.push_back(entry);
            state.called(&self.available);
        }
    }

    /// Adds the last entry.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        if !mem::replace(&mut state.is_finished, true) {
            state.queue.push_back(Entry::EndpointClosed);
            state.called(&self.available);
        }
    }

    /// How many entries wait.
    pub(super) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Forgets what nobody will take.
    pub(super) fn clear(&self) {
        let forgotten = mem::take(&mut self.state.lock().queue);
        // What it refers to may be dropped with it, outside of the lock.
        drop(forgotten);
    }

    /// Waits for the next entry; `None` if there was none in time. Reads meanwhile from the
    /// socket of the link that `link` names, if any: Note [reading for oneself]. Without `local`, the
    /// endpoint, it is not counted as waiting, and what comes may be late.
    pub(super) fn pop(
        &self,
        deadline: Deadline,
        local: Option<&Arc<Local>>,
        link: impl Fn() -> Option<Arc<Link>>,
    ) -> Result<Option<Entry>, ReceiveError> {
        let mut attendance = Attendance::Undecided(local);
        let mut state = self.state.lock();
        loop {
            if state.is_over {
                return Err(ReceiveError::Closed);
            }
            if let Some(entry) = state.queue.pop_front() {
                state.queue.give_back(KEPT);
                if let Entry::EndpointClosed = entry {
                    state.is_over = true;
                    self.available.notify_all();
                    state.guests.call();
                }
                pace::received(!state.queue.is_empty());
                return Ok(Some(entry));
            }
            if !attendance.wait(
                deadline,
                &self.available,
                &mut state,
                |state| &mut state.guests,
                &link,
            ) {
                return Ok(None);
            }
        }
    }
}

/// The messages of one incoming connection.
pub(super) struct Inbox {
    pub(super) connection: ConnectionId,
    pub(super) from: EndpointAddress,
    /// To tell what was taken; `None` for a connection of an endpoint to itself.
    link: Option<Arc<Link>>,
    state: Mutex<InboxState>,
    available: Condvar,
}

struct InboxState {
    messages: VecDeque<Vec<u8>>,
    owner: Owner,
    end: Option<Ending>,
    guests: Guests,
    /// The end needs a place among the endpoint's events whoever the owner is.
    announces_end: bool,
}

impl InboxState {
    fn next_message(&mut self) -> Option<Vec<u8>> {
        let message = self.messages.pop_front();
        self.messages.give_back(KEPT);
        message
    }
}

/// Who takes the messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Whoever receives the endpoint's events.
    Receiver,
    /// The one who claimed the connection.
    Claimant,
    /// The one who claimed it has left.
    Nobody,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Closed,
    Lost(String),
    EndpointClosed,
}

/// What is to be done with something that was put into an inbox.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It needs a place among the endpoint's events.
    Announce,
    /// It is waited for at the inbox.
    Direct,
    /// It is not wanted and was not kept.
    Unwanted,
}

/// What a claimant gets.
pub(super) enum Taken {
    Message(Vec<u8>),
    End(Ending),
    TimedOut,
}

impl Inbox {
    pub(super) fn new(
        connection: ConnectionId,
        from: EndpointAddress,
        link: Option<Arc<Link>>,
    ) -> Arc<Self> {
        let state = InboxState {
            messages: VecDeque::new(),
            owner: Owner::Receiver,
            end: None,
            guests: Guests::default(),
            announces_end: false,
        };
        Arc::new(Inbox {
            connection,
            from,
            link,
            state: Mutex::new(state),
            available: Condvar::new(),
        })
    }

    pub(super) fn push(&self, message: Vec<u8>) -> Delivery {
        let mut state = self.state.lock();
        if state.owner == Owner::Nobody {
            return Delivery::Unwanted;
        }
        state.messages.push_back(message);
        self.delivery(&state)
    }

    /// No more messages come.
    pub(super) fn end(&self, end: Ending) -> Delivery {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        let delivery = self.delivery(&state);
        if state.announces_end { Delivery::Announce } else { delivery }
    }

    /// Has the end announced even if the connection has, or had, a claimant. To be called
    /// before the connection is claimed.
    pub(super) fn announce_end(&self) {
        self.state.lock().announces_end = true;
    }

    /// Makes the claimant get this end after what has arrived.
    pub(super) fn fail(&self, end: Ending) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        self.available.notify_all();
        state.guests.call();
    }

    fn delivery(&self, state: &InboxState) -> Delivery {
        self.available.notify_one();
        state.guests.call();
        match state.owner {
            Owner::Receiver => Delivery::Announce,
            Owner::Claimant => Delivery::Direct,
            Owner::Nobody => Delivery::Unwanted,
        }
    }

    /// Takes what an announced message is; `None` if the connection was claimed
    /// since.
    pub(super) fn take_announced(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        if state.owner == Owner::Receiver { state.next_message() } else { None }
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.state.lock().owner != Owner::Receiver
    }

    /// Makes the messages go to a claimant; `false` if there was one before.
    pub(super) fn claim(&self) -> bool {
        let mut state = self.state.lock();
        let is_free = state.owner == Owner::Receiver;
        if is_free {
            state.owner = Owner::Claimant;
        }
        is_free
    }

    /// Waits for what the claimant gets next.
    pub(super) fn take(&self, deadline: Deadline) -> Taken {
        let link = || self.link.clone();
        let mut attendance = Attendance::Undecided(self.link.as_ref().map(|link| &link.local));
        let mut state = self.state.lock();
        loop {
            if let Some(message) = state.next_message() {
                pace::received(!state.messages.is_empty());
                return Taken::Message(message);
            }
            if let Some(end) = &state.end {
                self.available.notify_all();
                return Taken::End(end.clone());
            }
            if !attendance.wait(
                deadline,
                &self.available,
                &mut state,
                |state| &mut state.guests,
                &link,
            ) {
                return Taken::TimedOut;
            }
        }
    }

    /// Forgets the messages and those that may still come. Who waits for one gets
    /// the end.
    pub(super) fn abandon(&self) {
        let messages = {
            let mut state = self.state.lock();
            state.owner = Owner::Nobody;
            state.end.get_or_insert(Ending::Closed);
            state.guests.call();
            mem::take(&mut state.messages)
        };
        self.available.notify_all();
        for message in messages {
            self.message_taken(message.len());
        }
    }

    /// Tells the peer that there is room again.
    pub(super) fn message_taken(&self, length: usize) {
        if let Some(link) = &self.link {
            link.message_taken(self.connection.lightweight(), length);
        }
    }

    pub(super) fn event_taken(&self) {
        if let Some(link) = &self.link {
            link.event_taken();
        }
    }
}

/// What a thread does while it waits.
enum Attendance<'a> {
    /// It was not decided yet.
    Undecided(Option<&'a Arc<Local>>),
    /// It reads.
    Guest(Guest),
    /// It sleeps until somebody else brings something. It is counted if that comes from a peer.
    Sleeper { _waiting: Option<Waiting> },
}

impl Attendance<'_> {
    /// Waits for something to change, by reading if this thread can; `false` if the deadline has
    /// passed. The lock is released meanwhile, and perhaps before anything changes.
    ///
    /// The turn is taken, and given back, without the lock: it has a lock of its own.
    fn wait<S>(
        &mut self,
        deadline: Deadline,
        available: &Condvar,
        state: &mut MutexGuard<'_, S>,
        guests: impl Fn(&mut S) -> &mut Guests,
        link: &impl Fn() -> Option<Arc<Link>>,
    ) -> bool {
        match self {
            Attendance::Undecided(local) => {
                if deadline.has_passed() {
                    return false;
                }
                let local = *local;
                *self =
                    MutexGuard::unlocked(state, || match link().and_then(|link| link.guest()) {
                        Some(guest) => Attendance::Guest(guest),
                        None => Attendance::Sleeper { _waiting: local.map(Local::begin_waiting) },
                    });
            }
            Attendance::Guest(guest) => {
                guests(state).add(guest.bell());
                let polled = MutexGuard::unlocked(state, || guest.wait(deadline));
                // What it brings itself needs no bell.
                guests(state).remove(guest.bell());
                let goes_on = match polled {
                    Polled::Readable => MutexGuard::unlocked(state, || guest.read()),
                    Polled::Called if deadline.has_passed() => return false,
                    Polled::Called => true,
                    Polled::Unable => false,
                };
                if !goes_on {
                    let local = guest.link().local.clone();
                    MutexGuard::unlocked(state, || {
                        let counted = local.begin_waiting();
                        *self = Attendance::Sleeper { _waiting: Some(counted) };
                    });
                }
            }
            Attendance::Sleeper { .. } => return deadline::wait(deadline, available, state),
        }
        true
    }
}
