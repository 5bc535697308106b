//! What an introducer sends to a host behind a Provide, once it is known that the host knows what
//! that is: `ability.rs`.

use super::ability::{Ability, Follower};
use crate::ids::Serial;
use crate::protocol::Txn;
use crate::sync::atomic::Ordering;
use crate::wire::{self, Context, Target};

impl Txn<'_> {
    /// Notes that a Provide or an Accept is about to be sent.
    pub(super) fn sends_what_may_be_unknown(&mut self) {
        let serial = self.serial();
        if let Ability::Unsure { first, .. } = &mut self.order.ability {
            first.get_or_insert(serial);
        }
    }

    /// Sends what follows a Provide, when it may be sent.
    pub(super) fn follow(&mut self, follower: Follower) {
        if self.machine.refused_handoffs.load(Ordering::SeqCst) || self.dead().is_some() {
            return;
        }
        match (&mut self.order.ability, follower) {
            (Ability::Unsure { followers, asked, .. }, follower) => {
                followers.push(follower);
                if !std::mem::replace(asked, true) {
                    // Without a free id, so much is asked already that the next answer will do.
                    self.ask_for_a_sign(None);
                }
            }
            (Ability::Able, Follower::Finish(id, _place)) => self.send_finish(id, false),
            // It may have been taken back, or have ended with the connection.
            (Ability::Able, Follower::Lift(id, _)) if !self.machine.provides.contains(id) => {}
            (Ability::Able, Follower::Lift(id, embargo)) => {
                let answer = wire::PromisedAnswer { question: id.0, path: Some(Box::new([])) };
                self.send(wire::Message::Disembargo(wire::Disembargo {
                    target: Target::PromisedAnswer(answer),
                    context: Context::Accept(embargo),
                }));
            }
        }
    }

    /// A question was answered that has this serial number.
    pub(in crate::protocol) fn answered(&mut self, serial: Serial) {
        if let Ability::Unsure { first: Some(first), .. } = self.order.ability
            && serial > first
        {
            self.is_able();
        }
    }

    /// The peer knows handoffs, unless it has said otherwise.
    pub(in crate::protocol) fn is_able(&mut self) {
        if self.machine.refused_handoffs.load(Ordering::SeqCst) {
            self.order.ability = Ability::default();
            return;
        }
        if let Ability::Unsure { followers, .. } =
            std::mem::replace(&mut self.order.ability, Ability::Able)
        {
            for follower in followers {
                self.follow(follower);
            }
        }
    }
}

#[cfg(test)]
impl crate::protocol::Machine {
    /// As if the peer had shown that it knows handoffs.
    pub(crate) fn hears_of_handoffs(self: &std::sync::Arc<Self>) {
        self.transact(|txn| {
            txn.is_able();
        });
    }
}
