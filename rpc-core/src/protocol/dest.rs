//! Places behind a connection that messages can be sent to.

use std::sync::Arc;

use super::Machine;
use super::import::ImportRef;
use super::question::QuestionRef;
use crate::delivery::Delivery;
use crate::flow::StreamSlot;
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
pub(crate) struct Pinned(Dest, StreamSlot);

impl Pinned {
    pub(super) fn new(dest: Dest) -> Arc<Self> {
        Arc::new(Pinned(dest, StreamSlot::default()))
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        self.0.machine()
    }

    pub(crate) fn stream(&self) -> &StreamSlot {
        &self.1
    }

    pub(super) fn dest(&self) -> &Dest {
        &self.0
    }

    /// Sends a call to it. Must not be called under a lock.
    pub(crate) fn dispatch(&self, delivery: Delivery) {
        self.machine().deliver_to(self.0.clone(), delivery);
    }
}
