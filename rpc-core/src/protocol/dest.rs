//! Places behind a connection to which messages can be sent.

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

/// A possible target of a message to the peer. Keeps alive what it names.
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

    /// The target as a message names it.
    pub(crate) fn target(&self) -> wire::Target {
        match self {
            Dest::Import(import) => wire::Target::ImportedCap(import.id().0),
            Dest::Answer(question, path) => {
                wire::Target::PromisedAnswer(promised_answer(question, path))
            }
        }
    }

    /// The place as a descriptor names it: as one of the receiver.
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
// A Resolve, or the results of a Return, may tell a peer that a promise has resolved to
// a promise of the peer's own. Then the peer may have calls under way to this side that
// will come back to it through that promise. It sends a Disembargo after them and lifts
// its embargo when the Disembargo returns. This works only if all the calls before the
// Disembargo took the same path: through the place that was described, even if the
// promise at that place has resolved further in the meantime and a shorter path is
// known. (Otherwise calls on the short path would overtake those on the long one; the
// protocol calls this the Tribble 4-way race.)
//
// So what stands for a capability is fixed at the moment in which it is described:
// - a promise of the peer becomes `Pinned` to the place that was named. If the place is
//   a field of results, and the Return says that the peer hosts that field, the place
//   is exchanged for what the Return named: the peer has treated its answer as this
//   note says, so the path is the same, and the question can be finished;
// - a promise that this side exported becomes the export's `ExportSlot`, which its own
//   Resolve pins in turn;
// - everything else cannot move.
//
// A pinned capability keeps an entry of the peer alive, which may keep one of this side
// alive. Suppose that A's promise was described as a field of B's results, that this
// field resolved to a capability of A, and that another field of the same results is
// A's promise. Then the two vats keep each other's entries until the connection ends,
// even if nothing else refers to them. This is a property of the protocol: each side
// counts what the other one holds, and no message says that only the circle holds it.

/// A capability that stands for whatever the peer has behind one place. To this side it
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
    /// A capability with the same target, so that the place could be given up.
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

    /// The place as a message names it, given up or not.
    pub(super) fn target(&self) -> &wire::Target {
        &self.target
    }

    /// The place, or the capability that is used instead.
    pub(crate) fn dest(&self) -> Result<Dest, Client> {
        match &self.state.lock().place {
            Place::There(dest) => Ok(dest.clone()),
            Place::Elsewhere(client) => Err(client.clone()),
        }
    }

    /// The promise that is, or was, at that place, if it is still referred to.
    pub(crate) fn promise(&self) -> Option<Arc<RemotePromise>> {
        self.state.lock().promise.upgrade()
    }

    /// Sets the promise that stands for that place now.
    pub(super) fn stand_for(&self, promise: &Arc<RemotePromise>) {
        self.state.lock().promise = Arc::downgrade(promise);
    }

    /// Gives the place up. From now on calls go to `client`, which must be behind the
    /// same peer, or be broken.
    pub(crate) fn give_up(&self, client: Client) {
        if let Some(stream) = self.stream.get() {
            client.adopt_stream(stream);
        }
        let before = std::mem::replace(&mut self.state.lock().place, Place::Elsewhere(client));
        drop(before);
    }

    /// Gives the place up if it is a field of results that have arrived.
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
