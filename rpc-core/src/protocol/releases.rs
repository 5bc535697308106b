//! How dropping a reference turns into a message.
//!
//! Note [releases]
//!
//! The last reference to an import or a question may be dropped anywhere: by an
//! application thread, in the middle of a transaction, inside another drop. So dropping
//! takes no lock that could be held already. It pushes a report to a queue of the
//! connection and then *tries* to take the order lock to work the queue off. If another
//! thread holds the lock, that thread works the queue off before it unlocks, and looks
//! once more afterwards. (A thread that is in a transaction of another connection
//! leaves this until the transaction is over.) One of the two threads always sees the
//! report: the one that drops pushes and then tries the lock; the holder unlocks and
//! then looks at the queue. Both have a fence between the two steps.
//!
//! Under the lock the report is only a hint: an entry is removed if no references to it
//! exist at that time.

use std::sync::Arc;

use super::question;
use super::{Machine, Txn};
use crate::budget::Place;
use crate::cap::effects::{self, Effect, LockScope};
use crate::error::Error;
use crate::ids::{ImportId, QuestionId, Serial};
use crate::sync::atomic::{Ordering, fence};
use crate::wire;

/// The report that the last reference to an entry was dropped.
#[derive(Debug)]
pub(crate) enum Released {
    Import(ImportId),
    Question(QuestionId, Serial),
    /// With its place among what may be provided.
    Provide(QuestionId, Place),
}

impl Machine {
    /// Reports a drop. Never waits, takes no lock that is held, and runs no application
    /// code.
    pub(super) fn released(self: &Arc<Self>, what: Released) {
        self.releases.push(what);
        match LockScope::current() {
            None => self.flush_releases(),
            // The transaction that this thread is in works the reports off at its end.
            Some(owner) if owner == self.address() => {}
            // This thread is in a transaction of another connection, and must not take
            // a second lock.
            Some(_) => effects::defer(Effect::FlushReleases(Arc::clone(self) as _)),
        }
    }

    /// Works the reports off unless another thread is going to.
    pub(crate) fn flush_releases(self: &Arc<Self>) {
        loop {
            fence(Ordering::SeqCst);
            if self.releases.is_empty() || self.try_transact(|_| ()).is_none() {
                return;
            }
        }
    }
}

impl Txn<'_> {
    /// Works the reports off. This is the end of every transaction.
    pub(super) fn process_releases(&mut self) {
        let releases = &self.machine.releases;
        // Looking is cheaper than taking nothing out. What is missed here is seen after the
        // transaction: Note [releases].
        while let Some(released) = if releases.is_empty() { None } else { releases.pop() } {
            match released {
                Released::Import(id) => self.import_released(id),
                Released::Question(id, serial) => self.question_released(id, serial),
                Released::Provide(id, place) => self.provide_released(id, place),
            }
        }
    }

    fn import_released(&mut self, id: ImportId) {
        let machine = self.machine;
        let gone = machine.imports.with(id, |import| import.handle.strong_count() == 0);
        if gone != Some(true) {
            // The entry is referred to again, or was reported twice.
            return;
        }
        if let Some(import) = machine.imports.remove(id) {
            self.send(wire::Message::Release(wire::Release { id: id.0, count: import.refs }));
        }
    }

    fn question_released(&mut self, id: QuestionId, serial: Serial) {
        let machine = self.machine;
        let state = machine.questions.with(id, |question| {
            (question.serial == serial)
                .then(|| std::mem::replace(&mut question.state, question::State::Returned))
        });
        match state.flatten() {
            // Answered with `noFinishNeeded`, or gone with the connection.
            None => {}
            Some(question::State::Asked(asked))
                if matches!(
                    asked.results_to,
                    question::ResultsTo::SentElsewhere | question::ResultsTo::Unwanted
                ) =>
            {
                // No results have come to this side, or will.
                self.send_finish(id, true);
                self.forget_question(id);
                if let Some(cell) = asked.cell {
                    self.effect(Effect::drop(cell));
                }
            }
            Some(question::State::Asked(asked)) => {
                let finish = self.finish_of(&asked);
                if finish == question::Finish::Sent {
                    self.send_finish(id, true);
                }
                if let Some(vine) = asked.vine {
                    self.effect(Effect::drop(vine));
                }
                let params = asked.params;
                // Nothing waits for the question any more, and some peers send no
                // Return for a question that was finished first.
                let permit = machine.questions.with(id, |question| {
                    question.state = question::State::Finished { params, finish };
                    question.permit.take()
                });
                drop(permit);
                if let Some(cell) = asked.cell {
                    self.effect(Effect::drop(cell));
                }
            }
            Some(question::State::Returned) => {
                // The results' capabilities were imported, and have counts of their
                // own.
                self.send_finish(id, false);
                self.forget_question(id);
            }
            Some(finished @ question::State::Finished { .. }) => {
                machine.questions.with(id, |question| question.state = finished);
            }
        }
    }

    /// Ends a question for which the time is over, as an exception of the peer's would,
    /// and finishes it. Does nothing if it is not waiting for its results here: the first
    /// of this and the Return decides.
    pub(super) fn give_up_question(&mut self, id: QuestionId, serial: Serial, error: &Error) {
        let asked = self.machine.questions.with(id, |question| match &mut question.state {
            question::State::Asked(asked)
                if question.serial == serial && asked.results_to == question::ResultsTo::Caller =>
            {
                let mut asked = std::mem::take(asked);
                let params = std::mem::take(&mut asked.params);
                let finish = self.finish_of(&asked);
                question.state = question::State::Finished { params, finish };
                Some((asked, finish, question.permit.take()))
            }
            _ => None,
        });
        if let Some((asked, finish, permit)) = asked.flatten() {
            if finish == question::Finish::Sent {
                self.send_finish(id, true);
            }
            drop(permit);
            self.settle_with(asked, Err(error.clone()));
        }
    }

    /// When a question is finished that has no Return yet: now, unless the peer may not know it.
    fn finish_of(&self, asked: &question::Asked) -> question::Finish {
        let is_known = match asked.sent {
            question::Sent::Join => self.order.knows_joins,
            question::Sent::Other => asked.vine.is_none() || self.order.ability.is_able(),
        };
        if is_known { question::Finish::Sent } else { question::Finish::Owed }
    }

    pub(super) fn send_finish(&mut self, id: QuestionId, release_results: bool) {
        self.send(wire::Message::Finish(wire::Finish {
            question: id.0,
            release_results,
            // The peer delivers a call before a Finish can cancel it, and the peer
            // decides what may be cancelled.
            early_cancellation_workaround: false,
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Machine, Outbox, Settings};
    use crate::sync::Mutex;
    use crate::wire::Message;

    #[derive(Default)]
    struct Sent(Mutex<Vec<Message>>);

    impl Outbox for Sent {
        fn push(&self, message: Message) {
            self.0.lock().push(message);
        }

        fn disconnected(&self) {}
    }

    impl Sent {
        fn finishes(&self) -> usize {
            self.0.lock().iter().filter(|message| matches!(message, Message::Finish(_))).count()
        }
    }

    /// Drops the only reference to a question while the order lock is held, and then
    /// looks at the connection.
    fn finishes_after(look: impl FnOnce(&Arc<Machine>)) -> usize {
        let sent = Arc::new(Sent::default());
        let outbox = Arc::clone(&sent) as Arc<dyn Outbox>;
        let machine = Machine::new(Settings::default(), crate::protocol::Offers::default(), outbox);
        let client = machine.bootstrap(None);
        let order = machine.order.lock();
        drop(client);
        drop(order);
        assert_eq!(sent.finishes(), 0);
        look(&machine);
        sent.finishes()
    }

    #[test]
    fn who_only_looks_works_the_reports_off_too() {
        assert_eq!(finishes_after(|machine| assert_eq!(machine.failure(), None)), 1);
        assert_eq!(finishes_after(|machine| assert_eq!(machine.check(), Ok(()))), 1);
    }
}
