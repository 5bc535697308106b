//! One endpoint of ours: its peers, and what waits for its application.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use parking_lot::Mutex;

use super::address::{ConnectionId, EndpointAddress, EndpointId};
use super::dial;
use super::error::{ConnectError, ConnectErrorCode, SendError};
use super::event::Event;
use super::inbox::{Delivery, Ending, Entry, Events, Inbox};
use super::link::{Arrival, Link};
use super::machine::Peer;
use super::network::Shared;
use super::parameters::ConnectHints;
use super::wire::{DialectTerms, FIRST_CONNECTION};

pub(super) struct Local {
    pub(super) network: Arc<Shared>,
    pub(super) id: EndpointId,
    pub(super) address: EndpointAddress,
    /// The links that are alive, by the peer's address.
    links: DashMap<EndpointAddress, Arc<Link>>,
    /// Incoming connections that nobody has claimed and whose end was not
    /// received.
    pub(super) claimable: DashMap<ConnectionId, Arc<Inbox>>,
    pub(super) events: Events,
    is_closed: AtomicBool,
    /// Numbers links from 1.
    next_link: AtomicU32,
    /// Connections to itself.
    own: Mutex<Own>,
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
            claimable: DashMap::new(),
            events: Events::default(),
            is_closed: AtomicBool::new(false),
            next_link: AtomicU32::new(1),
            own: Mutex::new(Own::default()),
        })
    }

    /// Opens a connection to another endpoint.
    pub(super) fn connect(
        self: &Arc<Self>,
        to: &EndpointAddress,
        hints: ConnectHints,
    ) -> Result<(Arc<Link>, u32), ConnectError> {
        let timeout = hints.timeout.unwrap_or(self.network.parameters.connect_timeout);
        let deadline = Instant::now() + timeout;
        loop {
            let (link, is_new) = self.find_or_create(to)?;
            if is_new {
                let dialect = hints.dialect.unwrap_or(self.network.parameters.dialect);
                dial::spawn(&link, dialect, deadline);
            }
            if let Some(lcid) = link.connect(deadline)? {
                return Ok((link, lcid));
            }
        }
    }

    fn find_or_create(
        self: &Arc<Self>,
        to: &EndpointAddress,
    ) -> Result<(Arc<Link>, bool), ConnectError> {
        self.check_open()?;
        let (link, is_new) = match self.links.entry(to.clone()) {
            Place::Occupied(place) => (place.get().clone(), false),
            Place::Vacant(place) => {
                let peer = Peer::dialling(self.network.rules);
                let link = Link::new(self.clone(), to.clone(), self.next_id(), peer, None);
                place.insert(link.clone());
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

    /// A dial for this endpoint arrived. Returns the link if it is accepted, with
    /// the reply as the first that is to be written.
    pub(super) fn arrive(
        self: &Arc<Self>,
        from: &EndpointAddress,
        terms: DialectTerms,
        socket: &Arc<TcpStream>,
        deadline: Instant,
    ) -> Option<Arc<Link>> {
        let ticket = self.network.next_ticket();
        loop {
            let now = self.network.now();
            let (link, is_new) = match self.links.entry(from.clone()) {
                Place::Occupied(place) => (place.get().clone(), false),
                Place::Vacant(place) => {
                    let rules = self.network.rules;
                    let reply = self.network.reply_to(terms);
                    let peer = Peer::accepting(rules, terms, reply, now);
                    let socket = Some(socket.clone());
                    let link = Link::new(self.clone(), from.clone(), self.next_id(), peer, socket);
                    place.insert(link.clone());
                    (link, true)
                }
            };
            if self.is_closed() {
                link.shut_down();
                return None;
            }
            if is_new {
                return Some(link);
            }
            let we_yield = self.address > *from;
            match link.arrive(we_yield, ticket, terms, socket, deadline) {
                Arrival::Accepted => return Some(link),
                Arrival::Crossed => return None,
                Arrival::Gone => {}
            }
        }
    }

    /// Whether there are so many peers that one more is not welcome.
    pub(super) fn is_full_for(&self, from: &EndpointAddress) -> bool {
        let limit = self.network.parameters.max_peers;
        // A peer that was reported as lost may not have left the registry yet.
        self.links.len() >= limit
            && !self.links.contains_key(from)
            && self.links().iter().filter(|link| !link.is_dead()).count() >= limit
    }

    fn next_id(&self) -> u32 {
        self.next_link.fetch_add(1, Ordering::Relaxed)
    }

    /// A link is dead.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        self.links.remove_if(&link.address, |_, other| Arc::ptr_eq(other, link));
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.links.iter().map(|entry| entry.value().clone()).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn check_open(&self) -> Result<(), ConnectError> {
        if self.is_closed() {
            return Err(ConnectError::failed("the endpoint is closed"));
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
    pub(super) fn event(&self, entry: Entry) -> Option<Event> {
        Some(match entry {
            Entry::Opened(inbox) => {
                inbox.event_taken();
                Event::ConnectionOpened { connection: inbox.connection, from: inbox.from.clone() }
            }
            Entry::Message(inbox) => {
                let message = inbox.take_announced()?;
                inbox.message_taken(message.len());
                Event::Received { connection: inbox.connection, message }
            }
            Entry::Closed(inbox) => {
                inbox.event_taken();
                if inbox.is_claimed() {
                    return None;
                }
                self.claimable.remove(&inbox.connection);
                Event::ConnectionClosed { connection: inbox.connection }
            }
            Entry::Lost { peer, reason, connections, .. } => {
                for connection in connections {
                    self.claimable.remove(&connection);
                }
                Event::ConnectionLost { peer, reason }
            }
            Entry::NetworkFailed(reason) => Event::NetworkFailed { reason },
            Entry::EndpointClosed => Event::EndpointClosed,
        })
    }

    pub(super) fn claim(&self, connection: ConnectionId) -> Option<Arc<Inbox>> {
        let (_, inbox) = self.claimable.remove(&connection)?;
        inbox.claim().then_some(inbox)
    }
}

/// Connections to itself.
impl Local {
    pub(super) fn connect_to_itself(&self) -> Result<Arc<Inbox>, ConnectError> {
        let mut own = self.own.lock();
        if own.is_closed {
            return Err(ConnectError::failed("the endpoint is closed"));
        }
        let lcid = FIRST_CONNECTION.checked_add(own.count).ok_or_else(|| {
            ConnectError::new(ConnectErrorCode::Failed, "all connection ids have been used")
        })?;
        own.count += 1;
        let connection = ConnectionId::new(0, lcid);
        let inbox = Inbox::new(connection, self.address.clone(), None);
        own.open.insert(connection, inbox.clone());
        self.claimable.insert(connection, inbox.clone());
        self.events.push(Entry::Opened(inbox.clone()));
        Ok(inbox)
    }

    pub(super) fn send_to_itself(
        &self,
        inbox: &Arc<Inbox>,
        is_closed: &AtomicBool,
        message: Vec<u8>,
    ) -> Result<(), SendError> {
        let own = self.own.lock();
        if is_closed.load(Ordering::Relaxed) {
            return Err(SendError::Closed);
        }
        if own.is_closed {
            return Err(SendError::Failed("the endpoint was closed".to_owned()));
        }
        if inbox.push(message) == Delivery::Announce {
            self.events.push(Entry::Message(inbox.clone()));
        }
        Ok(())
    }

    pub(super) fn close_to_itself(&self, inbox: &Arc<Inbox>, is_closed: &AtomicBool) {
        let mut own = self.own.lock();
        if is_closed.swap(true, Ordering::Relaxed) || own.is_closed {
            return;
        }
        own.open.remove(&inbox.connection);
        if inbox.end(Ending::Closed) == Delivery::Announce {
            self.events.push(Entry::Closed(inbox.clone()));
        }
    }
}
