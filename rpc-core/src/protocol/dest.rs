//! Places behind a connection that messages can be sent to.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Machine;
use super::import::ImportRef;
use super::question::QuestionRef;
use crate::delivery::Delivery;
use crate::error::Error;
use crate::flow::StreamSlot;
use crate::remote_promise::RemotePromise;
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
// - a promise of the peer's becomes `Pinned` to the place that was named;
// - a promise that we exported becomes the export's `ExportSlot`, which its own
//   Resolve pins in turn;
// - everything else cannot move.

/// A capability that always is whatever the peer has behind one place. To us it
/// looks settled.
pub(crate) struct Pinned {
    machine: Arc<Machine>,
    target: wire::Target,
    /// The promise that is, or was, at that place.
    promise: Weak<RemotePromise>,
    /// The place, or why it is not used any more: see Note [cycles].
    dest: Mutex<Result<Dest, Error>>,
    stream: StreamSlot,
}

impl Pinned {
    pub(crate) fn new(dest: Dest, promise: Weak<RemotePromise>) -> Arc<Self> {
        Arc::new(Pinned {
            machine: Arc::clone(dest.machine()),
            target: dest.target(),
            promise,
            dest: Mutex::new(Ok(dest)),
            stream: StreamSlot::default(),
        })
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    pub(crate) fn stream(&self) -> &StreamSlot {
        &self.stream
    }

    /// The place as a message names it.
    pub(super) fn target(&self) -> &wire::Target {
        &self.target
    }

    pub(crate) fn dest(&self) -> Result<Dest, Error> {
        self.dest.lock().clone()
    }

    /// The promise that is, or was, at that place, if anybody still has it.
    pub(crate) fn promise(&self) -> Option<Arc<RemotePromise>> {
        self.promise.upgrade()
    }

    /// The place is part of a circle: from now on calls fail, and the place is
    /// given up.
    pub(crate) fn cut(&self, error: Error) {
        let before = std::mem::replace(&mut *self.dest.lock(), Err(error));
        drop(before);
    }

    /// Sends a delivery to it. Must not be called under a lock.
    pub(crate) fn dispatch(&self, delivery: Delivery) {
        match (self.dest(), delivery) {
            (Ok(dest), delivery) => self.machine.deliver_to(dest, delivery),
            // The calls before it went here, or failed here: it may return.
            (Err(_), Delivery::Disembargo(echo)) => {
                self.machine.transact(|txn| txn.return_disembargo(&self.target, echo));
            }
            (Err(error), call @ Delivery::Call(_)) => call.fail(&error),
        }
    }
}
