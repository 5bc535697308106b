//! One endpoint of ours: its peers, and what waits for its application.

use crate::KEPT;
use capnp_threads_core::memory::GiveBack;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use super::address::{ConnectionId, EndpointAddress, EndpointId};
use super::census::Place;
use super::claimable::Claimable;
use super::deadline::Deadline;
use super::dial;
use super::error::{ConnectErrorCode, SendError, Unreached};
use super::event::Event;
use super::inbox::{self, Delivery, Ending, Events, Inbox};
use super::link::{Arrival, Link};
use super::machine::Peer;
use super::network::Shared;
use super::parameters::ConnectHints;
use super::socket::Socket;
use super::wire::{DialectTerms, FIRST_CONNECTION};

pub(super) struct Local {
    pub(super) network: Arc<Shared>,
    pub(super) id: EndpointId,
    pub(super) address: EndpointAddress,
    /// The links that are alive, by the peer's address.
    links: DashMap<EndpointAddress, Arc<Link>>,
    /// Incoming connections that nobody has claimed and whose end was not
    /// received.
    pub(super) claimable: Claimable,
    pub(super) events: Events,
    is_closed: AtomicBool,
    /// How many threads wait for something that a peer may bring, and do not read.
    waiting: AtomicUsize,
    /// A guest has left, perhaps with the standby of its link disarmed, since a thread looked
    /// last that began to wait.
    pub(super) is_unarmed: AtomicBool,
    /// Numbers links from 1.
    next_link: AtomicU32,
    /// Connections to itself.
    own: Mutex<Own>,
}

/// A thread that waits and does not read.
pub(super) struct Waiting(Arc<Local>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Own {
    /// How many there have been.
    count: u32,
    open: HashMap<ConnectionId, Arc<Inbox>>,
    is_closed: bool,
}

impl Local {
    pub(super) fn new(network: Arc<Shared>, id: EndpointId, address: EndpointAddress) -> Arc<Self> {
        Arc::new(Local {
            network,
            id,
            address,
            links: DashMap::new(),
            claimable: Claimable::default(),
            events: Events::default(),
            is_closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            is_unarmed: AtomicBool::new(false),
            next_link: AtomicU32::new(1),
            own: Mutex::new(Own::default()),
        })
    }

    /// Opens a connection to another endpoint.
    pub(super) fn connect(
        self: &Arc<Self>,
        to: &EndpointAddress,
        hints: ConnectHints,
    ) -> Result<(Arc<Link>, u32), Unreached> {
        let timeout = hints.timeout.unwrap_or(self.network.parameters.connect_timeout);
        let deadline = Deadline::after(timeout);
        loop {
            let (link, is_new) = self.find_or_create(to)?;
            if is_new {
                let dialect = hints.dialect.unwrap_or(self.network.parameters.dialect);
                dial::spawn(&link, dialect, deadline);
            }
            match link.connect(deadline) {
                Ok(Some(lcid)) => return Ok((link, lcid)),
                Ok(None) => {}
                // The dial was that of somebody who had less time.
                Err(error)
                    if !is_new
                        && error.code == ConnectErrorCode::Timeout
                        && !deadline.has_passed() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn find_or_create(
        self: &Arc<Self>,
        to: &EndpointAddress,
    ) -> Result<(Arc<Link>, bool), Unreached> {
        self.check_open()?;
        let (link, is_new) = match self.links.entry(to.clone()) {
            Entry::Occupied(entry) => (entry.get().clone(), false),
            Entry::Vacant(entry) => {
                let peer = Peer::dialling(self.network.rules);
                let link = Link::new(self.clone(), to.clone(), self.next_id(), peer, None);
                entry.insert(link.clone());
                self.network.census.peer_came();
                (link, true)
            }
        };
        // See Note [closing an endpoint].
        if let Err(error) = self.check_open() {
            link.shut_down();
            return Err(error);
        }
        Ok((link, is_new))
    }

    /// A dial for this endpoint arrived. Returns the link if it is accepted, which then
    /// occupies the place, with the reply as the first that is to be written.
    pub(super) fn arrive(
        self: &Arc<Self>,
        from: &EndpointAddress,
        terms: DialectTerms,
        socket: &Arc<Socket>,
        place: Place,
        deadline: Deadline,
    ) -> Option<Arc<Link>> {
        let ticket = self.network.next_ticket();
        loop {
            let now = self.network.now();
            let (link, is_new) = match self.links.entry(from.clone()) {
                Entry::Occupied(entry) => (entry.get().clone(), false),
                Entry::Vacant(entry) => {
                    let rules = self.network.rules;
                    let reply = self.network.reply_to(terms);
                    let peer = Peer::accepting(rules, terms, reply, now);
                    let socket = Some(socket.clone());
                    let link = Link::new(self.clone(), from.clone(), self.next_id(), peer, socket);
                    entry.insert(link.clone());
                    self.network.census.peer_came();
                    (link, true)
                }
            };
            if self.is_closed() {
                link.shut_down();
                return None;
            }
            let we_yield = self.address > *from;
            let arrival = if is_new {
                Arrival::Accepted
            } else {
                link.arrive(we_yield, ticket, terms, socket, deadline)
            };
            match arrival {
                Arrival::Accepted => {
                    link.occupy(place);
                    // It may have left in the meantime.
                    if link.is_dead() {
                        link.vacate();
                    }
                    return Some(link);
                }
                Arrival::Crossed => return None,
                Arrival::Gone => {}
            }
        }
    }

    fn next_id(&self) -> u32 {
        self.next_link.fetch_add(1, Ordering::Relaxed)
    }

    /// A link is dead.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        if self.links.remove_if(&link.address, |_, other| Arc::ptr_eq(other, link)).is_some() {
            self.network.census.peer_left();
            if self.links.capacity() > KEPT.max(4 * self.links.len()) {
                self.links.shrink_to_fit();
            }
        }
        link.vacate();
    }

    /// Whether so much waits to be written to a peer that what can be left out should be.
    pub(super) fn is_backed_up(&self, peer: &EndpointAddress) -> bool {
        let link = self.links.get(peer).map(|link| link.clone());
        link.is_some_and(|link| link.is_backed_up())
    }

    /// Gives a peer up at once; `false` if there is none.
    pub(super) fn drop_peer(&self, address: &EndpointAddress, reason: &str) -> bool {
        let link = self.links.get(address).map(|link| link.clone());
        let Some(link) = link else { return false };
        let is_alive = !link.is_dead();
        link.drop_peer(reason);
        is_alive
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.links.iter().map(|entry| entry.value().clone()).collect()
    }

    // Note [waiting beside guests]
    //
    // A thread that waits and does not read is counted before it looks at the flag that a guest
    // has left, and a guest sets the flag before it looks at the count. So one of the two arms.
    // The guest does all this, and makes the turn free, under the lock of the turn, under which
    // the other thread finds out whether there is something to arm.

    /// A thread is about to wait for what a peer may bring, and does not read. See Note
    /// [reading for oneself].
    pub(super) fn begin_waiting(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if self.is_unarmed.swap(false, Ordering::SeqCst) {
            self.links().iter().for_each(|link| link.arm());
        }
        Waiting(self.clone())
    }

    /// Whether a thread waits that does not read.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// The link, if there is one and no other.
    pub(super) fn only_link(&self) -> Option<Arc<Link>> {
        let mut links = self.links.iter();
        let only = links.next()?.value().clone();
        links.next().is_none().then_some(only)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn check_open(&self) -> Result<(), Unreached> {
        if self.is_closed() {
            return Err(Unreached::failed("the endpoint is closed"));
        }
        Ok(())
    }

    // Note [closing an endpoint]
    //
    // The flag is set before the links are shut down, and looked at after a link
    // was put into the registry: either the link is seen here, or the flag there.

    /// Closes the endpoint; does not wait for anybody.
    pub(super) fn close(self: &Arc<Self>) {
        if self.is_closed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.network.forget(self);
        for link in self.links() {
            link.shut_down();
        }
        let own = {
            let mut own = self.own.lock();
            own.is_closed = true;
            std::mem::take(&mut own.open)
        };
        for inbox in own.values() {
            inbox.end(Ending::EndpointClosed);
        }
        self.events.finish();
        self.claimable.clear();
    }
}

/// Receiving.
impl Local {
    /// What the application gets for an entry, if it is of any interest to it.
    pub(super) fn event(&self, entry: inbox::Entry) -> Option<Event> {
        Some(match entry {
            inbox::Entry::Opened(inbox) => {
                inbox.event_taken();
                Event::ConnectionOpened { connection: inbox.connection, from: inbox.from.clone() }
            }
            inbox::Entry::Message(inbox) => {
                let message = inbox.take_announced()?;
                inbox.message_taken(message.len());
                Event::Received { connection: inbox.connection, message }
            }
            inbox::Entry::Closed(inbox) => {
                inbox.event_taken();
                if inbox.is_claimed() {
                    return None;
                }
                self.claimable.remove(inbox.connection);
                Event::ConnectionClosed { connection: inbox.connection }
            }
            inbox::Entry::Lost { peer, reason, connections, .. } => {
                for connection in connections {
                    self.claimable.remove(connection);
                }
                Event::ConnectionLost { peer, reason }
            }
            inbox::Entry::NetworkFailed(reason) => Event::NetworkFailed { reason },
            inbox::Entry::EndpointClosed => Event::EndpointClosed,
        })
    }

    pub(super) fn claim(&self, connection: ConnectionId) -> Option<Arc<Inbox>> {
        let inbox = self.claimable.remove(connection)?;
        inbox.claim().then_some(inbox)
    }
}

/// Connections to itself.
impl Local {
    pub(super) fn connect_to_itself(&self) -> Result<Arc<Inbox>, Unreached> {
        let mut own = self.own.lock();
        if own.is_closed {
            return Err(Unreached::failed("the endpoint is closed"));
        }
        let lcid = FIRST_CONNECTION.checked_add(own.count).ok_or_else(|| {
            Unreached::new(ConnectErrorCode::Failed, "all connection ids have been used")
        })?;
        own.count += 1;
        let connection = ConnectionId::new(0, lcid);
        let inbox = Inbox::new(connection, self.address.clone(), None);
        own.open.insert(connection, inbox.clone());
        self.claimable.insert(connection, inbox.clone());
        self.events.push(inbox::Entry::Opened(inbox.clone()));
        Ok(inbox)
    }

    pub(super) fn send_to_itself(
        &self,
        inbox: &Arc<Inbox>,
        is_closed: &AtomicBool,
        message: Vec<u8>,
    ) -> Result<(), SendError> {
        let own = self.own.lock();
        if is_closed.load(Ordering::SeqCst) {
            return Err(SendError::Closed);
        }
        if own.is_closed {
            return Err(SendError::Failed("the endpoint was closed".to_owned()));
        }
        if inbox.push(message) == Delivery::Announce {
            self.events.push(inbox::Entry::Message(inbox.clone()));
        }
        Ok(())
    }

    pub(super) fn close_to_itself(&self, inbox: &Arc<Inbox>, is_closed: &AtomicBool) {
        let mut own = self.own.lock();
        if is_closed.swap(true, Ordering::SeqCst) || own.is_closed {
            return;
        }
        own.open.remove(&inbox.connection);
        own.open.give_back(KEPT);
        if inbox.end(Ending::Closed) == Delivery::Announce {
            self.events.push(inbox::Entry::Closed(inbox.clone()));
        }
    }
}
