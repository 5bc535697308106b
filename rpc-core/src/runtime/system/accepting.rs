//! The thread that accepts connections.

use std::sync::Arc;

use super::peers::{Phase, Slot};
use super::{Admission, Shared};
use crate::cap::client::Client;
use crate::error::{Error, Result};
use crate::runtime::serving::accept_all;
use crate::transport::network::{Accepted, VatNetwork};
use crate::transport::{PeerDescription, Transport};

impl<N: VatNetwork> Shared<N> {
    /// The loop of the accepting thread.
    pub(super) fn accept(self: &Arc<Self>) {
        accept_all(
            &self.door,
            || self.network.accept(),
            |Accepted { peer, transport }| self.accepted(peer, transport),
        );
    }

    fn accepted(self: &Arc<Self>, peer: N::VatId, transport: Transport) -> Result<()> {
        let description = transport.control.peer();
        let admitted = self.door.admit(&description).and_then(|place| {
            match self.admit_caller(&peer, description) {
                // This vat reaches for the peer itself, and theirs is the connection that
                // counts.
                Err(refused) if self.is_reaching(&peer) => {
                    Ok((place, Admission::new().bootstrap(Client::broken(refused))))
                }
                admission => Ok((place, admission?)),
            }
        });
        let (place, admission) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                self.door.refuse(transport, &error);
                return Ok(());
            }
        };
        let connection = self.begin(&peer, transport, admission)?;
        self.door.watch_over(&connection, place);
        let old = {
            let mut peers = self.peers.lock();
            if peers.phase == Phase::Closed {
                drop(peers);
                connection.close();
                return Ok(());
            }
            peers.put(&peer, connection.clone()).1
        };
        self.peers_changed();
        if let Some(old) = old {
            old.close();
        }
        self.watch(peer, &connection);
        Ok(())
    }

    /// # Errors
    /// The peer is refused, or there is nothing for it.
    fn admit_caller(&self, peer: &N::VatId, description: PeerDescription) -> Result<Admission> {
        let admission = self.admit(peer, description)?;
        if admission.bootstrap.is_none() && self.settings.refuses() {
            return Err(Error::failed("this vat has nothing to offer to you"));
        }
        Ok(admission)
    }

    fn is_reaching(&self, peer: &N::VatId) -> bool {
        matches!(self.peers.lock().table.get(peer), Some(Slot::Connecting(_)))
    }
}
