//! What the peer sends, with one function for each kind of message.

mod calls;
mod resolve;
mod returns;

use std::sync::Arc;

use super::descriptors::exporting::exported;
use super::question::{self, Asked};
use super::{Abort, Machine, Txn};
use crate::error::{Error, ErrorKind};
use crate::ids::{ExportId, QuestionId};
use crate::log::tell;
use crate::sync::Count;
#[cfg(feature = "metrics")]
use crate::sync::atomic::Ordering;
use crate::wire;

/// A question whose message the peer does not know.
pub(super) enum Refused {
    /// This waits for its answer.
    Open(Asked),
    GivenUp,
}

impl Machine {
    /// Handles one message of the peer. An error in it ends the connection with
    /// an Abort.
    pub(crate) fn receive(self: &Arc<Self>, mut message: wire::Message) {
        tell!(TRACE, ?message, "receive");
        #[cfg(feature = "metrics")]
        self.traffic.received.fetch_add(message.size_estimate() as u64, Ordering::Relaxed);
        let arrived = message.take_fds();
        self.transact(|txn| {
            txn.arrived = arrived;
            if txn.dead().is_some() {
                return;
            }
            txn.wake_up();
            txn.machine.heard.add_one();
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
            wire::Message::Disembargo(disembargo) => self.receive_disembargo(disembargo),
            unknown @ wire::Message::Unknown(_) => {
                self.send(unknown);
                Ok(())
            }
            wire::Message::Provide(provide) => self.receive_provide(provide),
            wire::Message::Accept(accept) => self.receive_accept(accept),
            wire::Message::Join(join) => self.receive_join(join),
        }
    }

    /// Tells the peer that a message is not known here, as it is where no vat is introduced
    /// to another.
    pub(super) fn echo(&mut self, message: wire::Message) -> Result<(), Abort> {
        let frame = wire::encode(message).map_err(Abort)?;
        self.send(wire::Message::Unknown(Box::new(frame)));
        Ok(())
    }

    /// Forgets a question whose message the peer does not know: there will be no Return, and
    /// the peer knows nothing that a Finish could end. `None`, and the question goes on, if it
    /// was not sent by such a message.
    pub(super) fn take_refused(
        &mut self,
        id: QuestionId,
        sent_so: impl Fn(&Asked) -> bool,
    ) -> Option<Refused> {
        let refused = self.machine.questions.with(id, |entry| match &mut entry.state {
            question::State::Asked(asked) if sent_so(asked) => {
                Some(Refused::Open(std::mem::take(asked)))
            }
            question::State::Finished { .. } => Some(Refused::GivenUp),
            question::State::Asked(_) | question::State::Returned => None,
        })??;
        self.forget_question(id);
        Some(refused)
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
            Some(wire::Message::Provide(provide)) => {
                self.provide_refused(QuestionId(provide.question));
                Ok(())
            }
            Some(wire::Message::Accept(accept)) => {
                self.accept_refused(QuestionId(accept.question));
                Ok(())
            }
            Some(wire::Message::Join(join)) => {
                self.join_refused(QuestionId(join.question));
                Ok(())
            }
            // What such a Disembargo would have lifted is not known to the peer.
            Some(
                wire::Message::Resolve(_)
                | wire::Message::Unimplemented(_)
                | wire::Message::Disembargo(wire::Disembargo {
                    context: wire::Context::Accept(_),
                    ..
                }),
            ) => Ok(()),
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
