//! What becomes of the events of a vat's endpoint.

use crate::KEPT;
use capnp_threads_core::log::tell;
use capnp_threads_core::memory::GiveBack;
use std::sync::Arc;
use std::time::Duration;

use super::hello::{self, Hello, Kind};
use super::session::{Progress, Session};
use super::{Arrived, Phase, SHUTTING_DOWN, Shared};
use crate::deadline::Deadline;
use crate::handle::Incoming;
use crate::inbox::{Entry, Inbox};
use crate::{ConnectHints, EndpointAddress};

/// How many addresses are remembered at which a vat was not found.
const MAX_WRONG: usize = 16;

impl Shared {
    /// The thread that receives them.
    pub(super) fn receive_events(self: &Arc<Self>) {
        // Ends with the endpoint. What sessions wait for is more, and more urgent, so reading is
        // left to them.
        let local = self.endpoint.local();
        while let Ok(Some(entry)) = local.events.pop(Deadline::NEVER, None, || None) {
            match entry {
                Entry::Opened(inbox) => inbox.event_taken(),
                Entry::Message(inbox) => {
                    // Only the first of a connection comes this way.
                    if let Some(message) = inbox.take_announced() {
                        inbox.message_taken(message.len());
                        self.half_arrived(&inbox, &message);
                    }
                }
                Entry::Closed(inbox) => self.half_ended(&inbox),
                Entry::Lost { link, reason, connections, .. } => {
                    for connection in connections {
                        self.endpoint.local().claimable.remove(connection);
                    }
                    self.link_lost(link, &reason);
                }
                Entry::NetworkFailed(reason) => tell!(ERROR, reason, "the network failed"),
                Entry::EndpointClosed => self.all_lost(),
            }
        }
    }

    /// A connection was opened, and this is its first message.
    fn half_arrived(self: &Arc<Self>, inbox: &Arc<Inbox>, message: &[u8]) {
        inbox.announce_end();
        let Some(inbox) = self.endpoint.local().claim(inbox.connection) else { return };
        let from = inbox.from.clone();
        // What is not taken further is dropped here, with what still comes of it.
        let incoming = Incoming::of(inbox);
        match hello::decode(message) {
            Err(error) => self.note(|| format!("{from} opened what is no half of a vat: {error}")),
            Ok(hello) => {
                if let Err(refusal) = self.bring_together(&hello, incoming, &from) {
                    tell!(DEBUG, %from, refusal, "a vat was refused");
                    self.refuse(&hello, &from, &refusal);
                }
            }
        }
    }

    /// # Errors
    /// What to tell a vat that is not welcome.
    fn bring_together(
        self: &Arc<Self>,
        hello: &Hello,
        incoming: Incoming,
        from: &EndpointAddress,
    ) -> Result<(), String> {
        let connection = incoming.connection();
        if !self.is_proved(&hello.from, from) {
            self.note(|| format!("a vat was refused: {from} says that it is {}", hello.from));
            return match &hello.kind {
                Kind::Half => Err("this is the key of another vat".to_owned()),
                // Nor is it told anything.
                Kind::Refusal(_) => Ok(()),
            };
        }
        let mut state = self.state.lock();
        if let Kind::Refusal(reason) = &hello.kind {
            if let Some(known) = state.peers.get_mut(&*hello.from)
                && let Some(session) = &known.session
                && hello.answers == session.serial
            {
                if !known.wrong.contains(from) && known.wrong.len() < MAX_WRONG {
                    known.wrong.push(from.clone());
                }
                session.over(&format!("refused at {from}: {reason}"));
            }
            return Ok(());
        }
        if hello.to != *self.id {
            return Err(format!("this is the vat {}", self.id));
        }
        if hello.from == *self.id {
            return Err(format!("this vat itself is {}", self.id));
        }
        let name: Arc<str> = hello.from.as_str().into();
        let known = state.known(&name);
        if from.parts().is_some() {
            known.wrong.retain(|address| address != from);
            known.address = Some(from.clone());
        }
        // See Note [halves].
        let session = known.session.clone().filter(|session| {
            let is_alone = matches!(session.progress(), Progress::Alone | Progress::LeavingAlone);
            is_alone && (hello.answers == 0 || hello.answers == session.serial)
        });
        let session = match session {
            Some(session) => session,
            None if hello.answers != 0 => return Ok(()),
            None if state.phase == Phase::ShutDown => return Err(SHUTTING_DOWN.to_owned()),
            None => {
                let place = self.places.take(connection.heavyweight())?;
                let session = Session::new(self, name.clone(), from.clone());
                let old = state.known(&name).session.replace(session.clone());
                if let Some(old) = old {
                    // Nobody needs to accept one that is over.
                    state.arrived.retain(|other| !Arc::ptr_eq(&other.session, &old));
                    self.replaced(&old, from);
                }
                let (session, from) = (session.clone(), from.clone());
                state.arrived.push_back(Arrived { session: session.clone(), from, place });
                session
            }
        };
        session.arrived(Arc::new(incoming), hello.serial);
        state.theirs.insert(connection, session);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// A vat has begun another session, as it does after a restart.
    fn replaced(&self, old: &Arc<Session>, from: &EndpointAddress) {
        // What is still to come of one that is closed on this side comes.
        if old.progress() == Progress::Leaving {
            return;
        }
        if let Some(other) = old.came_from()
            && other != *from
        {
            let vat = &old.peer;
            self.note(|| {
                format!("the vat {vat}, last at {other}, begins anew at {from}: it has moved, or two vats have one id")
            });
        }
        old.over("the vat has begun anew");
    }

    /// Tells a vat that its half is not wanted. It is told nothing if that would have to
    /// wait, or if much waits to be read by it already.
    pub(super) fn refuse(&self, refused: &Hello, to: &EndpointAddress, reason: &str) {
        if self.endpoint.local().is_backed_up(to) {
            return;
        }
        let refusal = Hello {
            kind: Kind::Refusal(reason.to_owned()),
            serial: self.next_serial(),
            answers: refused.serial,
            to: refused.from.clone(),
            from: refused.to.clone(),
        };
        let told = self
            .endpoint
            .connect(to, ConnectHints::new().timeout(Duration::ZERO))
            .map_err(|error| error.to_string())
            .and_then(|connection| {
                let bytes = hello::encode(&refusal);
                connection.try_send(&[&bytes]).map_err(|error| error.to_string())
            });
        if let Err(error) = told {
            tell!(DEBUG, %to, error, "a vat could not be told that it is refused");
        }
    }

    fn note(&self, text: impl FnOnce() -> String) {
        self.endpoint.local().network.notes.add(text);
    }

    fn half_ended(&self, inbox: &Arc<Inbox>) {
        inbox.event_taken();
        self.endpoint.local().claimable.remove(inbox.connection);
        let session = {
            let mut state = self.state.lock();
            let session = state.theirs.remove(&inbox.connection);
            state.theirs.give_back(KEPT);
            session
        };
        if let Some(session) = session {
            session.their_end(inbox.connection);
        }
    }

    fn link_lost(&self, link: u32, reason: &str) {
        let mut lost: Vec<Arc<Session>> = Vec::new();
        {
            let mut state = self.state.lock();
            for known in state.peers.values_mut() {
                lost.extend(known.session.take_if(|session| session.depends_on(link)));
            }
            lost.extend(state.theirs.values().filter(|session| session.depends_on(link)).cloned());
            state.theirs.retain(|connection, _| connection.heavyweight() != link);
            state.theirs.give_back(KEPT);
        }
        self.changed.notify_all();
        for session in lost {
            session.over(reason);
        }
    }

    /// The endpoint is closed.
    fn all_lost(&self) {
        let state = {
            let mut state = self.state.lock();
            let phase = Phase::ShutDown;
            std::mem::replace(&mut *state, super::State { phase, ..super::State::default() })
        };
        self.changed.notify_all();
        let sessions = state.peers.into_values().filter_map(|known| known.session);
        for session in sessions.chain(state.theirs.into_values()) {
            session.over("the endpoint of this vat is closed");
        }
    }
}
