//! The thread that accepts connections.

use std::sync::Arc;

use super::Shared;
use super::peers::Phase;
use crate::error::Result;
use crate::network::{Accepted, VatNetwork};
use crate::transport::Transport;

impl<N: VatNetwork> Shared<N> {
    /// The loop of the accepting thread.
    pub(super) fn accept(self: &Arc<Self>) {
        loop {
            match self.network.accept() {
                Ok(Some(Accepted { peer, transport })) => {
                    if let Err(error) = self.accepted(peer, transport) {
                        tracing::warn!(%error, "a vat that came could not be served");
                    }
                }
                Ok(None) => return,
                Err(error) => tracing::warn!(%error, "accepting failed"),
            }
        }
    }

    fn accepted(self: &Arc<Self>, peer: N::VatId, transport: Transport) -> Result<()> {
        let connection = self.begin(&peer, transport)?;
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
