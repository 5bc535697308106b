//! The thread that accepts connections.

use std::sync::Arc;

use super::Shared;
use super::peers::Phase;
use crate::error::{Error, Result};
use crate::runtime::serving::accept_all;
use crate::transport::Transport;
use crate::transport::network::{Accepted, VatNetwork};

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
            let admission = self.admit(&peer, description)?;
            if admission.bootstrap.is_none() && self.settings.refuses() {
                return Err(Error::failed("this vat has nothing to offer to you"));
            }
            Ok((place, admission))
        });
        let (place, admission) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                self.door.refuse(transport, &error);
                return Ok(());
            }
        };
        let connection = self.begin(transport, admission)?;
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
}
