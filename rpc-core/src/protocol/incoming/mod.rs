//! What the peer sends, with one function for each kind of message.

mod calls;
mod resolve;
mod returns;

use std::sync::Arc;

use super::descriptors::exporting::exported;
use super::{Abort, Machine, Txn};
use crate::error::{Error, ErrorKind};
use crate::ids::ExportId;
use crate::log::tell;
use crate::sync::atomic::Ordering;
use crate::wire;

impl Machine {
    /// Handles one message of the peer. An error in it ends the connection with
    /// an Abort.
    pub(crate) fn receive(self: &Arc<Self>, mut message: wire::Message) {
        tell!(TRACE, ?message, "receive");
        let arrived = message.take_fds();
        self.transact(|txn| {
            txn.arrived = arrived;
            if txn.dead().is_some() {
                return;
            }
            txn.wake_up();
            txn.machine.activity.fetch_add(1, Ordering::Relaxed);
            txn.machine.heard.store(true, Ordering::Relaxed);
            if let Err(Abort(error)) = txn.receive(message).and_then(|()| txn.check_held()) {
                txn.abort(error);
            }
        });
    }
}

impl Txn<'_> {
    fn receive(&mut self, message: wire::Message) -> Result<(), Abort> {
        match message {
            wire::Message::Unimplemented(echoed) => self.receive_unimplemented(echoed),
            wire::Message::Abort(error) => {
                self.receive_abort(&error);
                Ok(())
            }
            wire::Message::Bootstrap(bootstrap) => self.receive_bootstrap(bootstrap),
            wire::Message::Call(call) => self.receive_call(call),
            wire::Message::Return(ret) => self.receive_return(ret),
            wire::Message::Finish(finish) => self.receive_finish(&finish),
            wire::Message::Resolve(resolve) => self.receive_resolve(resolve),
            wire::Message::Release(release) => {
                self.release_export(ExportId(release.id), release.count)
            }
            wire::Message::Disembargo(disembargo) => self.receive_disembargo(&disembargo),
            unknown @ wire::Message::Unknown(_) => {
                self.send(unknown);
                Ok(())
            }
        }
    }

    /// Handles an echo of a message of this side that the peer does not know.
    fn receive_unimplemented(&mut self, echoed: Option<Box<wire::Message>>) -> Result<(), Abort> {
        match echoed.map(|message| *message) {
            // A peer of level 0 has no use for promises: it never calls what the
            // Resolve exported, so that export is released.
            Some(wire::Message::Resolve(wire::Resolve { resolution: Ok(descriptor), .. })) => {
                match exported(&descriptor) {
                    Some(id) => self.release_export(id, 1),
                    None => Ok(()),
                }
            }
            Some(wire::Message::Resolve(_) | wire::Message::Unimplemented(_)) => Ok(()),
            _ => Err(Abort(Error::unimplemented(
                "the peer does not implement a message that this side cannot do without",
            ))),
        }
    }

    fn receive_abort(&mut self, error: &Error) {
        tell!(DEBUG, %error, "the peer ended the connection");
        let reason = Error::received(
            ErrorKind::Disconnected,
            format!("the peer ended the connection: {}", error.reason()),
            error.trace().to_owned(),
            error.details().map(|(id, data)| (id, data.to_vec())).collect(),
        );
        self.disconnect(reason);
    }
}
