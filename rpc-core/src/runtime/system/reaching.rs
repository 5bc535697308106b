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
        {
            let mut peers = shared.peers.lock();
            if let Some(Slot::Connecting) = peers.table.get(self.peer) {
                peers.remove(self.peer);
            }
        }
        shared.peers_changed();
    }
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
            // Looking at a connection and preparing to wait run the effects that this
            // thread has noted, and these may be application code. So neither happens
            // under the lock.
            match self.look_for(peer)? {
                Known::Nobody => break,
                Known::Connecting => self.wait_while_connecting(peer)?,
                Known::Up(connection) => {
                    if connection.failure().is_none() {
                        return Ok(Some(connection));
                    }
                    self.forget(peer, connection.number());
                    ended = Some(connection);
                }
            }
        }
        // Whatever happens here, the threads that wait for the outcome are told.
        let attempt = Attempt { shared: Some(self), peer };
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
                (_, Some(Slot::Up(existing))) => return Ok(Some(existing.clone())),
                (made, _) => {
                    peers.remove(peer);
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
        outcome
    }

    /// What the table holds for a peer. If it holds nothing, the calling thread is now
    /// the one that connects to the peer.
    fn look_for(&self, peer: &N::VatId) -> Result<Known> {
        let mut peers = self.peers.lock();
        if peers.phase == Phase::Closed {
            return Err(shutting_down());
        }
        Ok(match peers.table.get(peer) {
            Some(Slot::Connecting) => Known::Connecting,
            Some(Slot::Up(connection)) => Known::Up(connection.clone()),
            None => {
                peers.table.insert(peer.clone(), Slot::Connecting);
                Known::Nobody
            }
        })
    }

    fn wait_while_connecting(&self, peer: &N::VatId) -> Result<()> {
        effects::catch_up();
        let look = |peers: &mut Peers<N::VatId>, _| {
            let connecting = matches!(peers.table.get(peer), Some(Slot::Connecting));
            (peers.phase == Phase::Closed || !connecting).then_some(())
        };
        waiting::wait(&self.peers, |peers| &mut peers.waiters, Deadline::NEVER, look).map(drop)
    }

    /// Waits for the connection of a peer whose attempt was faster: it is about to be
    /// accepted.
    fn wait_for_crossed(&self, attempt: Attempt<'_, N>) -> Result<Option<Connection>> {
        let peer = attempt.peer;
        effects::catch_up();
        let deadline = Deadline::after(CROSSED_TIMEOUT);
        let look = |peers: &mut Peers<N::VatId>, look: Look| match peers.table.get(peer) {
            Some(Slot::Up(connection)) => Some(Ok(Some(connection.clone()))),
            Some(Slot::Connecting) if look.late => {
                peers.remove(peer);
                Some(Err(Error::disconnected("the peer's own attempt did not arrive")))
            }
            Some(Slot::Connecting) if peers.phase == Phase::Open => None,
            _ => Some(Err(Error::disconnected("the peer is gone"))),
        };
        let found = waiting::wait(&self.peers, |peers| &mut peers.waiters, deadline, look)?;
        attempt.end();
        self.peers_changed();
        // The last look always finds something.
        found.unwrap_or_else(|| Err(Error::disconnected("the peer is gone")))
    }

    fn own_bootstrap(&self, own: &N::VatId) -> Client {
        let nothing = || Error::failed("this vat offers no bootstrap capability to itself");
        let admission = self.admit(own, PeerDescription::default());
        let offered = admission.and_then(|admission| admission.bootstrap.ok_or_else(nothing));
        offered.unwrap_or_else(Client::broken)
    }
}
