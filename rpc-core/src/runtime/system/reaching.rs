//! Connecting to a peer, unless there is a connection.

use std::sync::Arc;
use std::time::Duration;

use super::peers::{Known, Peers, Phase, Slot};
use super::{Admission, Shared};
use crate::cap::client::Client;
use crate::cap::effects;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::log::tell;
use crate::panics::{self, Panicked};
use crate::protocol::idle::Unused;
use crate::runtime::connection::Connection;
use crate::transport::PeerDescription;
use crate::transport::network::{Reached, VatNetwork};
use crate::work::waiting::{self, Look};

/// Maximum wait for the connection of a peer whose own attempt was faster than ours.
const CROSSED_TIMEOUT: Duration = Duration::from_secs(10);

fn shutting_down() -> Error {
    Error::disconnected("this vat is shutting down and makes no more connections")
}

/// While this exists, its thread is the one that connects to a peer.
struct Attempt<'a, N: VatNetwork> {
    /// `None` when the attempt is over.
    shared: Option<&'a Shared<N>>,
    peer: &'a N::VatId,
    number: u64,
}

impl<N: VatNetwork> Attempt<'_, N> {
    /// The thread itself enters the outcome into the table.
    fn end(mut self) {
        self.shared = None;
    }
}

/// The thread panics, or must not wait any longer.
impl<N: VatNetwork> Drop for Attempt<'_, N> {
    fn drop(&mut self) {
        let Some(shared) = self.shared else { return };
        shared.peers.lock().give_up(self.peer, self.number);
        shared.peers_changed();
    }
}

/// What comes of an attempt.
enum Tried {
    /// A connection; `None` for this vat itself.
    Reached(Option<Connection>),
    /// The peer's own connection was faster and has ended since. That says nothing of whether
    /// the peer can be reached.
    CameAndWent,
}

/// The error of an attempt to connect that panicked.
fn of(panicked: Panicked) -> Error {
    tell!(ERROR, message = panicked.message, "connecting to a peer panicked");
    Error::failed("connecting to the peer panicked").with_internal(panicked.message)
}

impl<N: VatNetwork> Shared<N> {
    pub(super) fn bootstrap(self: &Arc<Self>, peer: &N::VatId) -> Result<Client> {
        loop {
            let Some(connection) = self.reach(peer)? else { return Ok(self.own_bootstrap(peer)) };
            match connection.try_bootstrap() {
                Ok(client) => return Ok(client),
                Err(Unused::Ended) => {}
                Err(Unused::Idle) => {
                    let deadline = Deadline::after(self.settings.common.close_timeout);
                    if !effects::blocking(|| connection.wait_until_awake(deadline))? {
                        // The peer neither agreed nor woke the connection.
                        connection.close();
                    }
                }
            }
        }
    }

    /// The connection to a peer, which is made if there is none; `None` for this vat
    /// itself.
    pub(super) fn reach(self: &Arc<Self>, peer: &N::VatId) -> Result<Option<Connection>> {
        let mut ended = None;
        loop {
            let number = loop {
                // Looking at a connection and preparing to wait run the effects that this
                // thread has noted, and these may be application code. So neither happens
                // under the lock.
                match self.look_for(peer)? {
                    Known::Nobody(number) => break number,
                    Known::Connecting => self.wait_while_connecting(peer)?,
                    Known::Up(connection) => {
                        if connection.failure().is_none() {
                            return Ok(Some(connection));
                        }
                        self.forget(peer, connection.number());
                        ended = Some(connection);
                    }
                }
            };
            // Whatever happens here, the threads that wait for the outcome are told.
            let attempt = Attempt { shared: Some(self), peer, number };
            match self.try_to_reach(attempt, ended.take())? {
                Tried::Reached(reached) => return Ok(reached),
                Tried::CameAndWent => {}
            }
        }
    }

    /// Connects to a peer. `ended` is a connection to it that has ended.
    fn try_to_reach(
        self: &Arc<Self>,
        attempt: Attempt<'_, N>,
        mut ended: Option<Connection>,
    ) -> Result<Tried> {
        let (peer, number) = (attempt.peer, attempt.number);
        let made = loop {
            let reached = effects::blocking(|| panics::catch(|| self.network.connect(peer)));
            match reached.and_then(|reached| reached.unwrap_or_else(|panicked| Err(of(panicked)))) {
                Ok(Reached::Peer(transport)) => {
                    // Whether the peer may call is another matter than whether it is called.
                    let admission = self.admit(peer, transport.control.peer());
                    let admission = admission.unwrap_or_else(|refused| {
                        Admission::new().bootstrap(Client::broken(refused))
                    });
                    break self.begin(peer, transport, admission).map(Some);
                }
                Ok(Reached::Oneself) => break Ok(None),
                Ok(Reached::Crossed) => {}
                Err(error) => break Err(error),
            }
            // The connection that crossed with this attempt may be the one that has
            // ended here. Then the network will notice its end soon.
            match ended.take() {
                None => return self.wait_for_crossed(attempt),
                Some(connection) => {
                    let connection = connection.inner();
                    if let Err(error) = effects::blocking(|| connection.wait_until_closed()) {
                        break Err(error);
                    }
                }
            }
        };
        attempt.end();
        let outcome = {
            let mut peers = self.peers.lock();
            match (made, peers.table.get(peer)) {
                (Ok(Some(connection)), _) if peers.phase == Phase::Open => {
                    let (current, old) = peers.put(peer, connection);
                    drop(peers);
                    self.peers_changed();
                    if let Some(old) = old {
                        old.close();
                    }
                    Ok(Some(current))
                }
                // The peer has connected to this vat in the meantime.
                (_, Some(Slot::Up(existing))) => return Ok(Tried::Reached(Some(existing.clone()))),
                (made, _) => {
                    peers.give_up(peer, number);
                    drop(peers);
                    self.peers_changed();
                    if let Ok(Some(connection)) = &made {
                        // The system has ended meanwhile.
                        connection.close();
                        return Err(shutting_down());
                    }
                    made
                }
            }
        };
        if let Ok(Some(connection)) = &outcome {
            self.watch(peer.clone(), connection);
        }
        outcome.map(Tried::Reached)
    }

    /// What the table holds for a peer. If it holds nothing, the calling thread is now
    /// the one that connects to the peer.
    fn look_for(&self, peer: &N::VatId) -> Result<Known> {
        let mut peers = self.peers.lock();
        if peers.phase == Phase::Closed {
            return Err(shutting_down());
        }
        Ok(match peers.table.get(peer) {
            Some(Slot::Connecting(_)) => Known::Connecting,
            Some(Slot::Up(connection)) => Known::Up(connection.clone()),
            None => Known::Nobody(peers.begin(peer)),
        })
    }

    fn wait_while_connecting(&self, peer: &N::VatId) -> Result<()> {
        effects::catch_up();
        let look = |peers: &mut Peers<N::VatId>, _| {
            let connecting = matches!(peers.table.get(peer), Some(Slot::Connecting(_)));
            (peers.phase == Phase::Closed || !connecting).then_some(())
        };
        waiting::wait(&self.peers, |peers| &mut peers.waiters, Deadline::NEVER, look).map(drop)
    }

    /// Waits for the connection of a peer whose attempt was faster: it is about to be
    /// accepted, or was.
    fn wait_for_crossed(&self, attempt: Attempt<'_, N>) -> Result<Tried> {
        let (peer, number) = (attempt.peer, attempt.number);
        effects::catch_up();
        let deadline = Deadline::after(CROSSED_TIMEOUT);
        let look = |peers: &mut Peers<N::VatId>, look: Look| {
            if let Some(Slot::Up(connection)) = peers.table.get(peer) {
                return Some(Ok(Tried::Reached(Some(connection.clone()))));
            }
            if peers.phase != Phase::Open {
                return Some(Err(shutting_down()));
            }
            if !peers.is_begun(peer, number) {
                return Some(Ok(Tried::CameAndWent));
            }
            let late = || Err(Error::disconnected("the peer's own attempt did not arrive"));
            look.late.then(late)
        };
        let found = waiting::wait(&self.peers, |peers| &mut peers.waiters, deadline, look)?;
        // The last look always finds something. An attempt that is late is ended by its drop.
        found.unwrap_or(Ok(Tried::CameAndWent))
    }

    fn own_bootstrap(&self, own: &N::VatId) -> Client {
        let nothing = || Error::failed("this vat offers no bootstrap capability to itself");
        let admission = self.admit(own, PeerDescription::default());
        let offered = admission.and_then(|admission| admission.bootstrap.ok_or_else(nothing));
        offered.unwrap_or_else(Client::broken)
    }
}
