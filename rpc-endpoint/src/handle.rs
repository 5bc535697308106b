//! What programs hold.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use capnp_threads_transport::fork::Owner;
use thiserror::Error;

use super::address::{ConnectionId, EndpointAddress};
use super::deadline::Deadline;
use super::error::{
    ConnectError, NewEndpointError, ReceiveError, SendError, TrySendError, Unreached,
};
use super::event::Event;
use super::inbox::{Ending, Inbox, Taken};
use super::link::Link;
use super::local::Local;
use super::network::Shared;
use super::pace::Pace;
use super::parameters::{ConnectHints, Parameters};

/// Endpoints behind one TCP port.
///
/// Dropping it closes it, see [`close`](Self::close).
///
/// ```
/// use capnp_threads_endpoint::{Network, Parameters};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::bind("127.0.0.1", 0, Parameters::default())?;
/// let endpoint = network.new_endpoint()?;
/// assert!(endpoint.address().as_str().starts_with("127.0.0.1:"));
/// # Ok(())
/// # }
/// ```
pub struct Network {
    shared: Arc<Shared>,
}

impl Network {
    /// Listens at a host and port; port 0 lets the system choose one. The host,
    /// or [`Parameters::external_host`], becomes part of the endpoints'
    /// addresses.
    ///
    /// # Errors
    /// The name is unknown, the port is taken, or the system has no room for a
    /// thread. [`io::ErrorKind::InvalidInput`] for an unspecified address, such as
    /// `0.0.0.0`, without an external host.
    pub fn bind(host: &str, port: u16, parameters: Parameters) -> io::Result<Self> {
        Ok(Network { shared: Shared::start(Some((host, port)), parameters)? })
    }

    /// Does not listen: its endpoints can connect to others, and those can then
    /// connect to them, but not before. In the original dialect it cannot connect
    /// at all.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn outbound_only(parameters: Parameters) -> io::Result<Self> {
        Ok(Network { shared: Shared::start(None, parameters)? })
    }

    /// The port in the addresses of the endpoints; `None` if nobody can dial them.
    pub fn port(&self) -> Option<u16> {
        self.shared.port()
    }

    /// Makes an endpoint. Does not block.
    ///
    /// # Errors
    /// The network is closed.
    pub fn new_endpoint(&self) -> Result<Endpoint, NewEndpointError> {
        Ok(Endpoint { local: self.shared.new_local()? })
    }

    /// An endpoint that says that it is at an address.
    #[cfg(test)]
    pub(super) fn endpoint_that_claims(&self, address: EndpointAddress) -> Endpoint {
        Endpoint { local: Local::new(self.shared.clone(), u32::MAX, address) }
    }

    /// Closes all endpoints, and stops listening. Blocks until every socket is
    /// closed: [`Parameters::linger`] at most, however peers behave. Dials of
    /// which the system does not let go end later by themselves. Closing twice is
    /// harmless.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("port", &self.port()).finish_non_exhaustive()
    }
}

/// One party that others connect to.
///
/// May be used by any number of threads at the same time. Dropping it closes it.
pub struct Endpoint {
    local: Arc<Local>,
}

impl Endpoint {
    /// How others name this endpoint.
    pub fn address(&self) -> &EndpointAddress {
        &self.local.address
    }

    /// Opens a connection to an endpoint. The first one dials a TCP connection,
    /// unless the peer has done so; the others share it. An endpoint may connect
    /// to itself.
    ///
    /// Blocks until the peer has answered a dial, and while a TCP connection that
    /// was not needed any more is being closed, but not longer than the hints
    /// say. The peer is not asked about the single connection.
    ///
    /// # Errors
    /// See [`ConnectErrorCode`](super::ConnectErrorCode).
    pub fn connect(
        &self,
        to: &EndpointAddress,
        hints: ConnectHints,
    ) -> Result<Connection, ConnectError> {
        self.open(to, hints).map_err(|unreached| unreached.at(to))
    }

    pub(super) fn open(
        &self,
        to: &EndpointAddress,
        hints: ConnectHints,
    ) -> Result<Connection, Unreached> {
        let route = self.route(to, hints)?;
        Ok(Connection { route, is_closed: AtomicBool::new(false) })
    }

    fn route(&self, to: &EndpointAddress, hints: ConnectHints) -> Result<Route, Unreached> {
        self.local.network.owner.check().map_err(|error| Unreached::failed(&error))?;
        Ok(if *to == self.local.address {
            Route::Own(self.local.clone(), self.local.connect_to_itself()?)
        } else {
            let (link, lcid) = self.local.connect(to, hints)?;
            Route::Peer(link, lcid)
        })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// [`Event::EndpointClosed`] was received before.
    pub fn receive(&self) -> Result<Event, ReceiveError> {
        loop {
            if let Some(event) = self.next(Deadline::NEVER)? {
                return Ok(event);
            }
        }
    }

    /// Waits for the next event for a while; `None` if there was none.
    ///
    /// # Errors
    /// [`Event::EndpointClosed`] was received before.
    pub fn receive_timeout(&self, timeout: Duration) -> Result<Option<Event>, ReceiveError> {
        self.next(Deadline::after(timeout))
    }

    /// `None` if the deadline has passed.
    fn next(&self, deadline: Deadline) -> Result<Option<Event>, ReceiveError> {
        if !self.is_ours() {
            return Err(ReceiveError::Forked);
        }
        while let Some(entry) =
            self.local.events.pop(deadline, Some(&self.local), || self.local.only_link())?
        {
            // What a claimant gets is skipped.
            if let Some(event) = self.local.event(entry) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Takes an incoming connection out of this endpoint's events: its messages
    /// that were not received yet, those that come, and its end, are from now on
    /// received from what is returned. The loss of the peer is reported to both.
    ///
    /// `None` if there is no such connection, its end was received, or it was
    /// claimed before.
    pub fn claim(&self, connection: ConnectionId) -> Option<Incoming> {
        if !self.is_ours() {
            return None;
        }
        self.local.claim(connection).map(Incoming::of)
    }

    /// Closes all connections from and to this endpoint. What was sent before is
    /// still delivered to peers that read it within [`Parameters::linger`]. Does
    /// not block. The last event will be [`Event::EndpointClosed`], without
    /// events for the single connections. Closing twice is harmless.
    pub fn close(&self) {
        if self.is_ours() {
            self.local.close();
        }
    }

    /// Drops a peer at once, with all connections in both directions and the socket that
    /// they share; `false` if it is not connected. What was sent and not delivered yet is
    /// lost. The loss is reported with [`Event::ConnectionLost`], and to the peer, too.
    ///
    /// Does not block, and keeps nobody from connecting anew.
    pub fn drop_peer(&self, peer: &EndpointAddress) -> bool {
        self.is_ours() && self.local.drop_peer(peer, "this program dropped the peer")
    }

    /// Whether it belongs to this process, and not to the one from which it was forked.
    fn is_ours(&self) -> bool {
        self.local.network.owner.is_this_process()
    }

    pub(super) fn local(&self) -> &Arc<Local> {
        &self.local
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if self.is_ours() {
            self.local.close();
            self.local.events.clear();
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", self.address()).finish_non_exhaustive()
    }
}

/// The sending end of a connection.
///
/// May be used by any number of threads at the same time. Dropping it closes it.
pub struct Connection {
    route: Route,
    is_closed: AtomicBool,
}

enum Route {
    Peer(Arc<Link>, u32),
    Own(Arc<Local>, Arc<Inbox>),
}

impl Connection {
    /// Sends the slices as one message. Blocks while more than
    /// [`Parameters::send_queue`] bytes wait for the peer; not on a connection of
    /// an endpoint to itself, whose messages wait without a limit. Returns when
    /// the message is queued.
    ///
    /// # Errors
    /// [`SendError::Closed`] if this connection is closed by this program, also
    /// while it waits; [`SendError::Failed`] if the peer is lost, the endpoint is
    /// closed, or the message is too long.
    pub fn send(&self, slices: &[&[u8]]) -> Result<(), SendError> {
        self.send_vec(slices.concat())
    }

    /// Sends one message without copying it; otherwise like [`send`](Self::send).
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_vec(&self, message: Vec<u8>) -> Result<(), SendError> {
        self.send_at(message, Pace::Unknown)
    }

    /// As [`send_vec`](Self::send_vec), by a thread of which something is known.
    pub(super) fn send_at(&self, message: Vec<u8>, pace: Pace) -> Result<(), SendError> {
        match self.transmit(message, true, pace) {
            Ok(()) => Ok(()),
            Err(TrySendError::Send(error)) => Err(error),
            Err(TrySendError::Full) => unreachable!("whoever may wait is not told to wait"),
        }
    }

    /// Like [`send`](Self::send), but does not block.
    ///
    /// # Errors
    /// [`TrySendError::Full`] if `send` would block; otherwise those of `send`.
    pub fn try_send(&self, slices: &[&[u8]]) -> Result<(), TrySendError> {
        self.try_send_at(slices.concat(), Pace::Unknown)
    }

    /// As [`try_send`](Self::try_send), by a thread of which something is known.
    pub(super) fn try_send_at(&self, message: Vec<u8>, pace: Pace) -> Result<(), TrySendError> {
        self.transmit(message, false, pace)
    }

    fn transmit(&self, message: Vec<u8>, may_wait: bool, pace: Pace) -> Result<(), TrySendError> {
        let checked = self.local().network.owner.check();
        checked.map_err(|error| SendError::Failed(error.to_string()))?;
        match &self.route {
            Route::Peer(link, lcid) => link.send(*lcid, &self.is_closed, message, may_wait, pace),
            Route::Own(local, inbox) => {
                Ok(local.send_to_itself(inbox, &self.is_closed, message)?)
            }
        }
    }

    /// Closes the connection after what was sent. The peer receives everything,
    /// and then learns of it. Does not block. Closing twice is harmless.
    pub fn close(&self) {
        if !self.local().network.owner.is_this_process() {
            return;
        }
        match &self.route {
            Route::Peer(link, lcid) => link.close(*lcid, &self.is_closed),
            Route::Own(local, inbox) => local.close_to_itself(inbox, &self.is_closed),
        }
    }

    fn local(&self) -> &Local {
        match &self.route {
            Route::Peer(link, _) => &link.local,
            Route::Own(local, _) => local,
        }
    }

    /// The upper half of the ids of connections that share its socket.
    pub(super) fn link(&self) -> u32 {
        match &self.route {
            Route::Peer(link, _) => link.id,
            Route::Own(..) => 0,
        }
    }

    /// The endpoint to which it leads.
    pub fn peer(&self) -> &EndpointAddress {
        match &self.route {
            Route::Peer(link, _) => &link.address,
            Route::Own(local, _) => &local.address,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", self.peer()).finish_non_exhaustive()
    }
}

/// The receiving end of a connection that was [claimed](Endpoint::claim).
///
/// When it is dropped, everything that still arrives on the connection is ignored.
pub struct Incoming {
    inbox: Arc<Inbox>,
    owner: Owner,
}

/// Why nothing can be received on a connection.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IncomingError {
    /// The peer is gone.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// This program has closed the endpoint.
    #[error("the endpoint is closed")]
    EndpointClosed,
    /// There was no message in time.
    #[error("nothing was received in time")]
    TimedOut,
}

impl Incoming {
    /// Waits for the next message; `None` if the peer has closed the connection.
    ///
    /// # Errors
    /// [`IncomingError::Lost`] and [`IncomingError::EndpointClosed`].
    pub fn receive(&self) -> Result<Option<Vec<u8>>, IncomingError> {
        self.take(Deadline::NEVER)
    }

    /// Waits for the next message for a while.
    ///
    /// # Errors
    /// [`IncomingError::TimedOut`], and those of [`receive`](Self::receive).
    pub fn receive_timeout(&self, timeout: Duration) -> Result<Option<Vec<u8>>, IncomingError> {
        self.take(Deadline::after(timeout))
    }

    fn take(&self, deadline: Deadline) -> Result<Option<Vec<u8>>, IncomingError> {
        self.owner.check().map_err(|error| IncomingError::Lost(error.to_string()))?;
        match self.inbox.take(deadline) {
            Taken::Message(message) => {
                self.inbox.message_taken(message.len());
                Ok(Some(message))
            }
            Taken::End(Ending::Closed) => Ok(None),
            Taken::End(Ending::Lost(reason)) => Err(IncomingError::Lost(reason)),
            Taken::End(Ending::EndpointClosed) => Err(IncomingError::EndpointClosed),
            Taken::TimedOut => Err(IncomingError::TimedOut),
        }
    }

    pub(super) fn of(inbox: Arc<Inbox>) -> Self {
        Incoming { inbox, owner: Owner::this_process() }
    }

    /// Forgets what has arrived and will arrive; who waits for it gets the end.
    pub(super) fn abandon(&self) {
        self.inbox.abandon();
    }

    /// Makes a loss the end of the connection, unless it has an end already.
    pub(super) fn fail(&self, reason: &str) {
        self.inbox.fail(Ending::Lost(reason.to_owned()));
    }

    /// How the endpoint named it.
    pub fn connection(&self) -> ConnectionId {
        self.inbox.connection
    }

    /// Who opened it.
    pub fn from(&self) -> &EndpointAddress {
        &self.inbox.from
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.owner.is_this_process() {
            self.inbox.abandon();
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("connection", &self.connection())
            .field("from", self.from())
            .finish_non_exhaustive()
    }
}
