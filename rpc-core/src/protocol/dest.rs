//! Places behind a connection that messages can be sent to.

use std::fmt;
use std::sync::{Arc, Weak};

use super::Machine;
use super::import::ImportRef;
use super::question::QuestionRef;
use crate::cap::capability::Capability;
use crate::cap::client::Client;
use crate::cap::connection::Connection;
use crate::cap::delivery::Delivery;
use crate::cap::effects::{self, Effect};
use crate::cap::stream::{Stream, StreamSlot};
use crate::error::Error;
use crate::protocol::remote_promise::RemotePromise;
use crate::sync::Mutex;
use crate::wire::{self, Path};

/// What a message to the peer may have as its target. Holds what it names.
#[derive(Clone)]
pub(crate) enum Dest {
    Import(Arc<ImportRef>),
    Answer(Arc<QuestionRef>, Path),
}

impl Dest {
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        match self {
            Dest::Import(import) => import.machine(),
            Dest::Answer(question, _) => question.machine(),
        }
    }

    /// As a message names it.
    pub(crate) fn target(&self) -> wire::Target {
        match self {
            Dest::Import(import) => wire::Target::ImportedCap(import.id().0),
            Dest::Answer(question, path) => {
                wire::Target::PromisedAnswer(promised_answer(question, path))
            }
        }
    }

    /// As a descriptor names it: it is the receiver's.
    pub(crate) fn descriptor(&self) -> wire::Descriptor {
        match self {
            Dest::Import(import) => wire::Descriptor::ReceiverHosted(import.id().0),
            Dest::Answer(question, path) => {
                wire::Descriptor::ReceiverAnswer(promised_answer(question, path))
            }
        }
    }
}

fn promised_answer(question: &QuestionRef, path: &Path) -> wire::PromisedAnswer {
    wire::PromisedAnswer { question: question.id().0, path: Some(path.clone()) }
}

// Note [described path]
//
// When we tell a peer what a promise turned out to be, in a Resolve or in the
// results of a Return, and that is a promise of the peer's own, the peer may have
// calls under way to us which will come back to it through that promise. It sends
// a Disembargo after them and lifts its embargo when that returns. This works
// only if all the calls before the Disembargo took the same way: through the
// place that we described, even if the promise at that place has moved on in the
// meantime and we know a shorter way. (Otherwise calls on the short way overtake
// those on the long one; the protocol calls it the Tribble 4-way race.)
//
// So what stands for a capability that was described is fixed in that moment:
// - a promise of the peer's becomes `Pinned` to the place that was named. When
//   that is a field of results and the Return says that the peer hosts it, the
//   place is exchanged for what the Return named: the peer has done to its answer
//   what this note says, so the way is the same, and the question can be finished;
// - a promise that we exported becomes the export's `ExportSlot`, which its own
//   Resolve pins in turn;
// - everything else cannot move.
//
// What is pinned holds an entry of the peer's, which may hold one of ours: when
// A's promise was described as a field of B's results, and that field turned out
// to be A's own, while another field of the same results is A's promise, the two
// vats keep each other's entries until the connection ends, even if nobody else
// has them. This lies in the protocol: each side counts what the other one holds,
// and no message tells that nothing but the circle holds it.

/// A capability that always is whatever the peer has behind one place. To us it
/// looks settled.
pub(crate) struct Pinned {
    machine: Arc<Machine>,
    target: wire::Target,
    state: Mutex<State>,
    stream: StreamSlot,
}

struct State {
    place: Place,
    /// The promise that is, or was, at that place.
    promise: Weak<RemotePromise>,
}

enum Place {
    There(Dest),
    /// What has the same behind it, so that the place could be given up.
    Elsewhere(Client),
}

impl Pinned {
    pub(super) fn new(dest: Dest, promise: &Arc<RemotePromise>) -> Arc<Self> {
        Arc::new(Pinned {
            machine: Arc::clone(dest.machine()),
            target: dest.target(),
            state: Mutex::new(State {
                place: Place::There(dest),
                promise: Arc::downgrade(promise),
            }),
            stream: StreamSlot::default(),
        })
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// The place as a message names it.
    pub(super) fn target(&self) -> &wire::Target {
        &self.target
    }

    /// The place, or what is used instead.
    pub(crate) fn dest(&self) -> Result<Dest, Client> {
        match &self.state.lock().place {
            Place::There(dest) => Ok(dest.clone()),
            Place::Elsewhere(client) => Err(client.clone()),
        }
    }

    /// The promise that is, or was, at that place, if anybody still has it.
    pub(crate) fn promise(&self) -> Option<Arc<RemotePromise>> {
        self.state.lock().promise.upgrade()
    }

    /// There is a new promise for that place.
    pub(super) fn stand_for(&self, promise: &Arc<RemotePromise>) {
        self.state.lock().promise = Arc::downgrade(promise);
    }

    /// Gives the place up. From now on calls go to `client`, which must be behind
    /// the same peer, or fail every call.
    pub(crate) fn give_up(&self, client: Client) {
        if let Some(stream) = self.stream.get() {
            client.adopt_stream(stream);
        }
        let before = std::mem::replace(&mut self.state.lock().place, Place::Elsewhere(client));
        drop(before);
    }

    /// Gives the place up if it is a field of results that have come.
    #[cfg(test)]
    pub(crate) fn give_up_field(&self) {
        if let Ok(Dest::Answer(question, _)) = self.dest()
            && question.has_returned()
        {
            self.give_up(Client::null());
        }
    }
}

impl Capability for Pinned {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        match (self.dest(), delivery) {
            (Ok(dest), delivery) => {
                match self.machine.border_for(&delivery) {
                    Some(border) => {
                        let machine = Arc::clone(&self.machine);
                        border.outwards(&machine, Client::of(self), delivery);
                    }
                    None => self.machine.deliver_to(dest, delivery),
                }
                Ok(())
            }
            // The calls before it have left towards the same peer, or failed.
            (Err(client), Delivery::Disembargo(echo)) if client.connection().is_none() => {
                self.machine.transact(|txn| txn.return_disembargo(&self.target, echo));
                Ok(())
            }
            (Err(client), delivery) => Err((client, delivery)),
        }
    }

    fn connection(&self) -> Option<&dyn Connection> {
        Some(&*self.machine)
    }

    fn stream(&self) -> Arc<Stream> {
        self.stream.get_or_make(|| self.machine.flow_controller())
    }

    fn adopt_stream(&self, stream: Arc<Stream>) {
        self.stream.adopt(stream);
    }

    fn resolved(&self) -> Option<Client> {
        self.dest().err()
    }

    fn leads_to(&self) -> Option<Client> {
        let there = self.dest().is_ok();
        let promise = if there { self.promise().map(Client::of) } else { None };
        promise.or_else(|| self.resolved())
    }

    fn break_circle(&self, error: &Error) {
        self.give_up(Client::broken(error.clone()));
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pinned to a peer")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Chains are taken apart one by one, see Note [effects].
        let gone = Place::Elsewhere(Client::null());
        let before = std::mem::replace(&mut self.state.get_mut().place, gone);
        if let Place::Elsewhere(client) = before {
            effects::defer(Effect::drop(client));
        }
    }
}
