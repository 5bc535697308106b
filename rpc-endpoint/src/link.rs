//! One peer of one endpoint: the state machine, with what others wait for.
//!
//! # Locks
//!
//! They are taken in this order, and what comes later is never held while taking
//! what comes earlier:
//!
//! 1. the state of one link. Never two links at a time.
//! 2. a shard of a registry (the endpoints of a network, the links and the
//!    claims of an endpoint). No reference into a registry outlives the statement
//!    that made it, so that no link is ever locked under a shard.
//! 3. one of these, which are leaves: the turn to read, the events of an endpoint, an inbox, the
//!    sockets that linger or are half open, what encrypts a socket, the places of peers that have dialled, the
//!    count of threads.
//!
//! The lock of an endpoint's connections to itself is taken before 3 and with
//! nothing else.
//!
//! What the machine puts out is done before the link is unlocked: this makes a
//! step and its consequences one, and keeps events in order. Nothing that is done
//! then waits for anybody.

mod reading;
mod writing;

pub(super) use reading::Guest;

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::address::{ConnectionId, EndpointAddress};
use super::census::Place;
use super::deadline::{self, Deadline};
use super::error::{SendError, TrySendError, Unreached};
use super::inbox::{Delivery, Ending, Entry, Inbox};
use super::local::Local;
use super::machine::{Connect, Dialled, HangUp, Held, Inbound, Output, Peer, Refusal};
use super::pace::Pace;
use super::reader::Progress;
use super::socket::Socket;
use super::wire::{Control, DialectTerms, Terms};
use reading::Reading;
use writing::{InPlace, Pen};

pub(super) struct Link {
    pub(super) address: EndpointAddress,
    /// The upper half of its connections' ids.
    pub(super) id: u32,
    pub(super) local: Arc<Local>,
    state: Mutex<State>,
    /// A dial was decided, or the peer was left, or came back.
    changed: Condvar,
    /// There is something for the writing thread to do, which may have the pen.
    work: Condvar,
    /// There is room for messages to send.
    room: Condvar,
    /// There is room for messages to receive.
    resumed: Condvar,
    reading: Reading,
    /// Bytes came since somebody last asked.
    pub(super) heard: Arc<AtomicBool>,
    /// How many batches the writing thread was given.
    #[cfg(test)]
    batches: std::sync::atomic::AtomicUsize,
    /// The place that the peer occupies because it has dialled.
    place: Mutex<Option<Place>>,
}

struct State {
    peer: Peer,
    socket: Option<Arc<Socket>>,
    pen: Pen,
    inboxes: HashMap<u32, Arc<Inbox>>,
    /// The reader waits for the application.
    is_paused: bool,
    /// How many wait for room.
    senders: usize,
    /// What the census knows of.
    counted: Held,
}

/// What a dial of the peer came to.
pub(super) enum Arrival {
    Accepted,
    Crossed,
    /// The link is dead; there may be another.
    Gone,
}

impl Link {
    pub(super) fn new(
        local: Arc<Local>,
        address: EndpointAddress,
        id: u32,
        peer: Peer,
        socket: Option<Arc<Socket>>,
    ) -> Arc<Self> {
        let state = State {
            peer,
            socket,
            pen: Pen::Thread,
            inboxes: HashMap::new(),
            is_paused: false,
            senders: 0,
            counted: Held::default(),
        };
        Arc::new(Link {
            address,
            id,
            local,
            state: Mutex::new(state),
            changed: Condvar::new(),
            work: Condvar::new(),
            room: Condvar::new(),
            resumed: Condvar::new(),
            reading: Reading::default(),
            heard: Arc::new(AtomicBool::new(false)),
            #[cfg(test)]
            batches: std::sync::atomic::AtomicUsize::new(0),
            place: Mutex::default(),
        })
    }

    /// The peer has dialled, and occupies a place as long as it stays.
    pub(super) fn occupy(&self, place: Place) {
        let old = self.place.lock().replace(place);
        drop(old);
    }

    /// The peer has left.
    pub(super) fn vacate(&self) {
        let place = self.place.lock().take();
        drop(place);
    }

    /// The host from which the peer has dialled, if it occupies a place for that.
    pub(super) fn host(&self) -> Option<IpAddr> {
        self.place.lock().as_ref().map(Place::host)
    }

    /// Takes one step of the machine with all its consequences.
    fn step<R>(self: &Arc<Self>, step: impl FnOnce(&mut Peer, &mut Vec<Output>) -> R) -> R {
        self.step_in(&mut self.state.lock(), step)
    }

    fn step_in<R>(
        self: &Arc<Self>,
        state: &mut MutexGuard<'_, State>,
        step: impl FnOnce(&mut Peer, &mut Vec<Output>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let result = step(&mut state.peer, &mut out);
        for output in out {
            self.perform(state, output);
        }
        self.count(state);
        self.wake_writer(state);
        result
    }

    /// Tells the census what is held for the peer now.
    fn count(&self, state: &mut State) {
        let held = state.peer.held();
        if held != state.counted {
            self.local.network.census.change(state.counted, held);
            state.counted = held;
        }
    }

    /// Drops the peer if more is held for it than it may have.
    fn check_share(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) {
        if let Some(objection) = self.local.network.census.objection(state.counted) {
            self.step_in(state, |peer, out| peer.drop_by(&objection, out));
        }
    }

    fn perform(self: &Arc<Self>, state: &mut State, output: Output) {
        let local = &self.local;
        match output {
            Output::Opened(lcid) => {
                let connection = ConnectionId::new(self.id, lcid);
                let inbox = Inbox::new(connection, self.address.clone(), Some(self.clone()));
                state.inboxes.insert(lcid, inbox.clone());
                local.claimable.insert(connection, inbox.clone());
                local.events.push(Entry::Opened(inbox));
            }
            Output::Closed(lcid) => {
                let Some(inbox) = state.inboxes.remove(&lcid) else { return };
                state.inboxes.give_back(KEPT);
                match inbox.end(Ending::Closed) {
                    Delivery::Announce => local.events.push(Entry::Closed(inbox)),
                    Delivery::Direct | Delivery::Unwanted => state.peer.event_taken(),
                }
            }
            Output::Lost(reason) => {
                let connections = end_all(state, &Ending::Lost(reason.clone()));
                let peer = self.address.clone();
                local.events.push(Entry::Lost { peer, link: self.id, reason, connections });
            }
            Output::Contested(reason) => {
                let (peer, here) = (&self.address, &local.address);
                local.network.notes.add(|| format!("{here} has {peer} as a peer: {reason}"));
            }
            Output::Leave => local.forget(self),
            Output::Wake => {
                self.changed.notify_all();
                self.room.notify_all();
                self.resumed.notify_all();
            }
            Output::HangUp(how) => {
                let Some(socket) = &state.socket else { return };
                match how {
                    HangUp::Written => local.network.linger(socket),
                    HangUp::Now => socket.shut(),
                }
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Messages that nobody will receive any more.
        let counted = self.state.get_mut().counted;
        self.local.network.census.change(counted, Held::default());
    }
}

/// Ends all incoming connections; says which ones were not claimed.
fn end_all(state: &mut State, end: &Ending) -> Vec<ConnectionId> {
    let inboxes = std::mem::take(&mut state.inboxes).into_values();
    let unclaimed = inboxes.filter(|inbox| inbox.end(end.clone()) == Delivery::Announce);
    unclaimed.map(|inbox| inbox.connection).collect()
}

/// Beginning.
impl Link {
    /// Opens a connection, waiting for dials and closings to be decided; `None`
    /// if the link is dead and another is to be looked for.
    pub(super) fn connect(self: &Arc<Self>, deadline: Deadline) -> Result<Option<u32>, Unreached> {
        let mut state = self.state.lock();
        loop {
            match self.step_in(&mut state, Peer::connect) {
                Connect::Connected(lcid) => return Ok(Some(lcid)),
                Connect::Gone => return Ok(None),
                Connect::Refused(error) => return Err(error),
                Connect::Wait => {
                    let _waiting = self.local.begin_waiting();
                    if !deadline::wait(deadline, &self.changed, &mut state) {
                        return Err(Unreached::timeout());
                    }
                }
            }
        }
    }

    /// What to tell a peer that is about to be dialled; `None` if there is no need
    /// to any more.
    pub(super) fn dial_terms(&self) -> Option<Terms> {
        // See Note [stamps].
        let state = self.state.lock();
        state.peer.is_init().then(|| self.local.network.terms_of_dial())
    }

    /// Our dial was accepted. Whether the socket is used.
    pub(super) fn dial_accepted(
        self: &Arc<Self>,
        terms: DialectTerms,
        socket: &Arc<Socket>,
    ) -> bool {
        let now = self.local.network.now();
        let mut state = self.state.lock();
        if !state.peer.is_init() {
            return false;
        }
        state.socket = Some(socket.clone());
        self.step_in(&mut state, |peer, out| peer.dial_accepted(terms, now, out))
    }

    /// Our dial crossed one of the peer, which is waited for until a deadline.
    /// Whether it is decided what becomes of the link.
    pub(super) fn dial_crossed(self: &Arc<Self>, deadline: Deadline) -> Dialled {
        let mut state = self.state.lock();
        self.step_in(&mut state, Peer::dial_crossed);
        self.await_their_turn(&mut state, deadline)
    }

    /// Our dial failed. One of the peer that waits takes its place, until a
    /// deadline.
    pub(super) fn dial_failed(self: &Arc<Self>, error: &Unreached, deadline: Deadline) {
        let mut state = self.state.lock();
        let next = self.step_in(&mut state, |peer, out| peer.dial_failed(error.clone(), out));
        if next == Dialled::TheirTurn {
            self.await_their_turn(&mut state, deadline);
            self.step_in(&mut state, |peer, out| peer.dial_given_up(error.clone(), out));
        }
    }

    pub(super) fn dial_given_up(self: &Arc<Self>, error: &Unreached) {
        self.step(|peer, out| peer.dial_given_up(error.clone(), out));
    }

    fn await_their_turn(&self, state: &mut MutexGuard<'_, State>, deadline: Deadline) -> Dialled {
        while state.peer.is_init() {
            if !deadline::wait(deadline, &self.changed, state) {
                return Dialled::TheirTurn;
            }
        }
        Dialled::Done
    }

    /// The peer has dialled. Waits until it is decided what becomes of it.
    pub(super) fn arrive(
        self: &Arc<Self>,
        we_yield: bool,
        ticket: u64,
        terms: DialectTerms,
        socket: &Arc<Socket>,
        deadline: Deadline,
    ) -> Arrival {
        let network = &self.local.network;
        let mut state = self.state.lock();
        loop {
            let now = network.now();
            // See Note [stamps].
            let reply = network.reply_to(terms);
            let answer = self.step_in(&mut state, |peer, out| {
                peer.inbound(we_yield, ticket, terms, &reply, now, out)
            });
            match answer {
                Inbound::Accepted => {
                    state.socket = Some(socket.clone());
                    return Arrival::Accepted;
                }
                Inbound::Crossed => return Arrival::Crossed,
                Inbound::Gone => return Arrival::Gone,
                Inbound::Wait => {
                    if !deadline::wait(deadline, &self.changed, &mut state) {
                        state.peer.inbound_gave_up(ticket);
                        return Arrival::Crossed;
                    }
                }
            }
        }
    }
}

/// What the application does.
impl Link {
    /// Sends a message, waiting for room if `may_wait`. See Note [writing in place].
    pub(super) fn send(
        self: &Arc<Self>,
        lcid: u32,
        is_closed: &AtomicBool,
        message: Vec<u8>,
        may_wait: bool,
        pace: Pace,
    ) -> Result<(), TrySendError> {
        let message = Arc::new(message);
        let limit = self.local.network.parameters.send_queue;
        let mut state = self.state.lock();
        loop {
            if is_closed.load(Ordering::SeqCst) {
                return Err(SendError::Closed.into());
            }
            let waited = state.peer.has_work();
            match state.peer.send(lcid, &message, limit.max(1)) {
                Ok(()) => {
                    let pen = self.claim_pen(&mut state, waited, message.len(), pace);
                    self.wake_writer(&state);
                    drop(state);
                    pen.into_iter().for_each(InPlace::write);
                    return Ok(());
                }
                Err(Refusal::Full) if may_wait => {
                    state.senders += 1;
                    let _waiting = self.local.begin_waiting();
                    self.room.wait(&mut state);
                    state.senders -= 1;
                }
                Err(Refusal::Full) => return Err(TrySendError::Full),
                Err(Refusal::Closed) => return Err(SendError::Closed.into()),
                Err(Refusal::Failed(reason)) => return Err(SendError::Failed(reason).into()),
            }
        }
    }

    /// Closes a connection; those that wait for room on it give up.
    pub(super) fn close(self: &Arc<Self>, lcid: u32, is_closed: &AtomicBool) {
        let mut state = self.state.lock();
        if !is_closed.swap(true, Ordering::SeqCst) {
            self.step_in(&mut state, |peer, out| peer.close(lcid, out));
            self.room.notify_all();
        }
    }

    /// Gives the peer up at once, with all connections in both directions.
    pub(super) fn drop_peer(self: &Arc<Self>, reason: &str) {
        self.step(|peer, out| peer.drop_by(reason, out));
    }

    /// Whether so much waits to be written that what can be left out should be.
    pub(super) fn is_backed_up(&self) -> bool {
        self.state.lock().peer.is_backed_up()
    }

    /// The endpoint is closed.
    pub(super) fn shut_down(self: &Arc<Self>) {
        let mut state = self.state.lock();
        self.step_in(&mut state, Peer::shut_down);
        end_all(&mut state, &Ending::EndpointClosed);
    }

    pub(super) fn message_taken(self: &Arc<Self>, lcid: u32, length: usize) {
        let mut state = self.state.lock();
        self.step_in(&mut state, |peer, _| peer.message_taken(lcid, length));
        self.resume(&state);
    }

    pub(super) fn event_taken(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.peer.event_taken();
        self.resume(&state);
    }

    fn resume(&self, state: &State) {
        if state.is_paused && !state.peer.must_pause() {
            self.resumed.notify_one();
        }
    }
}

/// What the threads of the socket do.
impl Link {
    /// Why nothing more is to be read now. Waits for the application before if `waits`.
    pub(super) fn stop_of_reading(&self, waits: bool) -> Option<Progress> {
        let mut state = self.state.lock();
        while state.peer.must_pause() {
            if !waits {
                return Some(Progress::Paused);
            }
            state.is_paused = true;
            self.resumed.wait(&mut state);
            state.is_paused = false;
        }
        state.peer.is_cut().then_some(Progress::Over)
    }

    /// Waits until more may be read.
    fn wait_to_read(&self) {
        let _ = self.stop_of_reading(true);
    }

    pub(super) fn control(self: &Arc<Self>, control: Control) {
        let mut state = self.state.lock();
        self.step_in(&mut state, |peer, out| peer.control(control, out));
        if let Control::Created { .. } = control {
            self.check_share(&mut state);
        }
    }

    /// Whether a piece of a message whose head arrived is wanted.
    pub(super) fn data(self: &Arc<Self>, lcid: u32, length: u32, more: bool) -> bool {
        let mut state = self.state.lock();
        let is_wanted = self.step_in(&mut state, |peer, out| peer.data(lcid, length, more, out));
        self.check_share(&mut state);
        is_wanted
    }

    /// A whole message arrived.
    pub(super) fn deliver(self: &Arc<Self>, lcid: u32, message: Vec<u8>) {
        let mut state = self.state.lock();
        let length = message.len();
        if !state.peer.message_arrived(lcid, length) {
            return;
        }
        // The machine knows the connection as open, so that it has an inbox.
        let Some(inbox) = state.inboxes.get(&lcid).cloned() else { return };
        match inbox.push(message) {
            Delivery::Announce => self.local.events.push(Entry::Message(inbox)),
            Delivery::Direct => {}
            Delivery::Unwanted => {
                self.step_in(&mut state, |peer, _| peer.message_taken(lcid, length));
            }
        }
        self.count(&mut state);
    }

    pub(super) fn broken(self: &Arc<Self>, reason: &(impl ToString + ?Sized)) {
        self.step(|peer, out| peer.broken(reason.to_string(), out));
    }

    /// Whether the peer has left the registry, or is about to leave it.
    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().peer.is_dead()
    }

    pub(super) fn tick(self: &Arc<Self>) {
        let now = self.local.network.now();
        let mut state = self.state.lock();
        let heard = self.heard.swap(false, Ordering::SeqCst) || state.is_paused;
        self.step_in(&mut state, |peer, out| peer.tick(now, heard, out));
    }

    #[cfg(test)]
    pub(super) fn has_waiting_dial(&self) -> bool {
        self.state.lock().peer.has_waiting_dial()
    }

    /// The socket, for tests that harm it.
    #[cfg(test)]
    pub(super) fn socket(&self) -> Option<Arc<Socket>> {
        self.state.lock().socket.clone()
    }
}
