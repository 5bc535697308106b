//! Places behind a connection to which messages can be sent.

use std::fmt;
use std::sync::{Arc, Weak};

use super::Machine;
use super::import::ImportRef;
use super::question::QuestionRef;
use crate::cap::capability::Capability;
use crate::cap::client::Client;
use crate::cap::connection::{self, Connection};
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

    /// The path to the place; empty for an import.
    pub(super) fn path(&self) -> &[u16] {
        match self {
            Dest::Import(_) => &[],
            Dest::Answer(_, path) => path,
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
    wire::PromisedAnswer::new(question.id().0, path)
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
// - a promise of the peer becomes `Pinned` to the place that was named;
// - a promise that this side exported becomes the export's `ExportSlot`, which its own
//   Resolve pins in turn;
// - everything else cannot move.
// While calls are on their way to a place, it is not described in this way everywhere: Note [in
// hand].
//
// A place that is a field of results is given up when the Return says what it is, so that
// the question can be finished. (Suppose that A's promise was described as a field of B's
// results, and B's promise as a field of A's. Then each vat would keep the other's
// question, and so its own answer, until the connection ends, even if nothing else refers
// to them: no message says that only such a circle holds them.) Order is kept as follows:
// - If the peer hosts the field, it has treated its answer as this note says, so the path
//   is the same.
// - If this side hosts it, the Return has led to an embargo, because something may have
//   been sent to the place. Later calls wait behind the embargo, and a Disembargo of the
//   peer waits behind them: Note [turned disembargoes].

// Note [turned disembargoes]
//
// A Disembargo of the peer names a promise of this side that, as the peer was told, is one
// of the peer's own. The peer wants to know when its earlier calls on the promise have come
// back to it. Suppose that the promise of the peer has since resolved to a capability of
// this side, and its place was given up. Then the earlier calls may wait behind the embargo
// of that place. The Disembargo waits behind them, also in the next embargo, if another
// place that was given up is behind the first one. When it has left all embargoes, so have
// the earlier calls, and it is returned: the peer's later calls come by a message, or by a
// place where the earlier ones have arrived.
//
// An embargo waits for a Disembargo of this side, which may wait behind an embargo of the
// peer, and so on. Each of these is for a promise to which the promise before it has
// resolved. So they wait for each other in a circle only if the promises form one, and such
// a circle is broken: Note [cycles].

/// A capability that stands for whatever the peer has behind one place, until the place is
/// given up. To this side it looks settled.
pub(crate) struct Pinned {
    machine: Arc<Machine>,
    target: wire::Target,
    state: Mutex<State>,
    stream: StreamSlot,
}

struct State {
    place: Pin,
    /// The promise that is, or was, at that place.
    promise: Weak<RemotePromise>,
}

enum Pin {
    There(Dest),
    /// A capability with the same target, so that the place could be given up.
    Elsewhere(Client),
}

impl Pinned {
    pub(super) fn new(dest: Dest, promise: &Arc<RemotePromise>) -> Arc<Self> {
        Arc::new(Pinned {
            machine: Arc::clone(dest.machine()),
            target: dest.target(),
            state: Mutex::new(State { place: Pin::There(dest), promise: Arc::downgrade(promise) }),
            stream: StreamSlot::default(),
        })
    }

    /// The place as a message names it, given up or not.
    pub(super) fn target(&self) -> &wire::Target {
        &self.target
    }

    /// The place, or the capability that is used instead.
    pub(crate) fn dest(&self) -> Result<Dest, Client> {
        match &self.state.lock().place {
            Pin::There(dest) => Ok(dest.clone()),
            Pin::Elsewhere(client) => Err(client.clone()),
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

    /// Gives the place up. From now on calls go to `client`. For use under the order lock,
    /// unless `client` is broken.
    pub(crate) fn give_up(&self, client: Client) {
        // As for the promise itself: see `RemotePromise::resolve`.
        if let Some(stream) = self.stream.get()
            && client.connection().is_some_and(|other| connection::is_same(other, &*self.machine))
        {
            client.adopt_stream(stream);
        }
        let before = std::mem::replace(&mut self.state.lock().place, Pin::Elsewhere(client));
        drop(before);
    }

    /// Sends a delivery to the place, or gives it back with the capability that replaces
    /// the place.
    ///
    /// Must not be called under a lock.
    pub(super) fn send(&self, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        match self.machine.deliver_pinned(self, delivery) {
            Err((client, Delivery::Disembargo(echo))) => {
                Err((client, Delivery::Disembargo(echo.turned(&self.target))))
            }
            other => other,
        }
    }
}

impl Capability for Pinned {
    fn accept(self: Arc<Self>, delivery: Delivery) -> Result<(), (Client, Delivery)> {
        if self.dest().is_ok()
            && let Some(border) = self.machine.border_for(&delivery)
        {
            let machine = Arc::clone(&self.machine);
            border.outwards(&machine, Client::of(self), delivery);
            return Ok(());
        }
        self.send(delivery)
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
        let gone = Pin::Elsewhere(Client::null());
        let before = std::mem::replace(&mut self.state.get_mut().place, gone);
        if let Pin::Elsewhere(client) = before {
            effects::defer(Effect::drop(client));
        }
    }
}
