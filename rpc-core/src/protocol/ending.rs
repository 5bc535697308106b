//! The end of a connection.
//!
//! Note [ending]
//!
//! First the connection is marked as dead, so that nothing new gets into the tables.
//! Then the tables are emptied: every question, every imported promise and every
//! embargo fails with `disconnected`. Calls of the peer are cancelled, also those whose
//! outcomes this side has taken, and calls that were pipelined on them fail, too; calls that
//! were held back are not delivered. (If the connection was not used, Note [idle], then the peer
//! has no part any more in the calls whose outcomes were taken: they go on.) What was in the
//! tables is dropped after the lock is released. Only then do those who watch for the end,
//! and the threads, learn that the connection is over.

use std::sync::Arc;

use super::{Machine, Phase, Txn, answer, import, question};
use crate::cap::client::Client;
use crate::cap::delivery::Route;
use crate::cap::effects::Effect;
use crate::error::{Error, ErrorKind};
use crate::log::tell;
use crate::wire;

impl Machine {
    /// Ends the connection and tells the peer why, as the last message.
    pub(crate) fn abort(self: &Arc<Self>, error: Error) {
        self.transact(|txn| txn.abort(error));
    }

    /// Ends the connection and tells the peer why, but not the log.
    pub(crate) fn abort_unlogged(self: &Arc<Self>, error: Error) {
        self.transact(|txn| txn.abort_unlogged(error));
    }

    /// Ends the connection without telling the peer.
    pub(crate) fn disconnect(self: &Arc<Self>, error: Error) {
        self.transact(|txn| txn.disconnect(error));
    }

    /// Why the connection has ended; `None` while it has not.
    pub(crate) fn failure(self: &Arc<Self>) -> Option<Error> {
        // This takes a transaction although it only looks: a thread that drops a
        // reference while the lock is held relies on the holder, see Note [releases].
        self.transact(|txn| txn.dead())
    }
}

impl Txn<'_> {
    pub(super) fn abort(&mut self, error: Error) {
        if self.dead().is_some() {
            return;
        }
        let peer = &self.machine.settings.peer;
        tell!(WARN, %peer, %error, "ending the connection with Abort");
        self.abort_unlogged(error);
    }

    fn abort_unlogged(&mut self, error: Error) {
        if self.dead().is_some() {
            return;
        }
        self.send(wire::Message::Abort(error.clone()));
        let reason = Error::new(
            ErrorKind::Disconnected,
            format!("the connection was ended with Abort: {}", error.reason()),
        );
        self.disconnect(reason);
    }

    /// Empties the tables, see Note [ending]. Does nothing the second time.
    pub(super) fn disconnect(&mut self, error: Error) {
        if self.dead().is_some() {
            return;
        }
        let machine = self.machine;
        self.order.phase = match self.order.phase {
            Phase::Idle => Phase::DeadUnused(error.clone()),
            _ => Phase::Dead(error.clone()),
        };
        self.end_idle();
        machine.room.close(error.clone());

        for (id, entry) in machine.questions.take_all() {
            self.free_question(id);
            match entry.state {
                question::State::Asked(asked) => {
                    self.settle_with(asked, Err(error.clone().unanswered()));
                }
                question::State::Returned | question::State::Finished { .. } => {}
            }
        }
        for (_, import) in machine.imports.take_all() {
            if let import::Kind::Promised { node, .. } = import.kind {
                self.resolve_node(node.upgrade(), Client::broken(error.clone()));
            }
        }
        for (id, embargo) in machine.embargoes.take_all() {
            self.order.embargo_ids.release(id.0);
            let broken = Route::Client(Client::broken(error.clone()));
            self.effect(Effect::Resolve(embargo.promise, broken));
            self.effect(Effect::drop(embargo.target));
        }
        for (_, answer) in machine.answers.take_all() {
            if let answer::State::Running = answer.state {
                // The call is cancelled even if fields of its results are still
                // referred to: a method to which the peer gave such a field may be
                // waiting for this call.
                self.effect(Effect::Cancel(Arc::clone(answer.cell())));
                self.effect(Effect::Complete(Arc::clone(answer.cell()), Err(error.clone())));
            }
            let left = answer.left_table(&machine.running_calls, &machine.budget);
            self.effect(Effect::drop(left));
        }
        if let Phase::Dead(_) = self.order.phase {
            for call in self.order.taken.take_all() {
                self.effect(Effect::Cancel(Arc::clone(&call)));
                self.effect(Effect::Complete(call, Err(error.clone())));
            }
        }
        self.end_handoffs();
        self.drop_held(&error);
        for (id, export) in machine.exports.take_all() {
            self.order.export_ids.release(id.0);
            self.bury_export(id, export);
        }
        let offers = std::mem::take(&mut self.order.offers);
        let border = machine.border.lock().take();
        self.effect(Effect::drop_foreign((offers, border)));
        for watcher in machine.endings.end() {
            self.effect(Effect::Notify(watcher));
        }
        self.effect(Effect::Disconnected(Arc::clone(machine) as _));
    }
}
