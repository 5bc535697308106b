//! Questions: what we asked the peer.
//!
//! # State model
//!
//! ```text
//!            ┌──Return──► Returned ──last reference dropped: Finish──► gone
//! Asked ─────┤
//!            └──last reference dropped: Finish──► Finished ──Return──► gone
//! ```
//!
//! - **Asked**: the call was sent. Pipelined fields name it as their target.
//! - **Returned**: the fields are resolved and nobody has a reason to send more
//!   to it, except for paths that were described to the peer and must not change
//!   (see Note [described path]); usually there is none and the Finish follows in
//!   the same transaction. When the Return said `noFinishNeeded`, the entry is
//!   gone at once.
//! - **Finished**: nobody wanted the result. The Finish said so and gave up the
//!   results' capabilities; when the Return comes nothing of it is imported, and
//!   only then is the id free.
//!
//! An id is used again only after both messages. [`QuestionRef`]s count who can
//! still name the question.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::Machine;
use super::releases::Released;
use super::room::Permit;
use crate::call::CallCell;
use crate::ids::{ExportId, QuestionId, Serial};
use crate::remote_promise::RemotePromise;
use crate::wire::Path;

/// One question.
pub(crate) struct Question {
    pub(crate) serial: Serial,
    pub(crate) state: State,
    /// Held for its drop.
    pub(crate) _permit: Option<Permit>,
}

pub(crate) enum State {
    Asked(Asked),
    Returned,
    Finished {
        /// As in [`Asked`].
        params: Vec<ExportId>,
    },
}

/// What a question that waits for its Return knows.
#[derive(Default)]
pub(crate) struct Asked {
    /// Whom to tell; nobody for a bootstrap, of which only the field counts.
    pub(crate) cell: Option<Arc<CallCell>>,
    pub(crate) fields: BTreeMap<Path, Field>,
    /// What the parameters exported, once for each descriptor: the Return may
    /// give them back.
    pub(crate) params: Vec<ExportId>,
}

/// A pipelined field.
#[derive(Default)]
pub(crate) struct Field {
    /// The same path gives the same promise as long as somebody has it.
    pub(crate) node: Weak<RemotePromise>,
    /// Whether anything was sent through it, also through a promise that is
    /// gone since. See Note [embargo].
    pub(crate) called: bool,
}

/// The right to name a question in messages. When the last one is dropped the
/// question is finished.
pub(crate) struct QuestionRef {
    machine: Arc<Machine>,
    id: QuestionId,
    serial: Serial,
}

impl QuestionRef {
    pub(super) fn new(machine: Arc<Machine>, id: QuestionId, serial: Serial) -> Arc<Self> {
        Arc::new(QuestionRef { machine, id, serial })
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    pub(crate) fn id(&self) -> QuestionId {
        self.id
    }

    pub(crate) fn serial(&self) -> Serial {
        self.serial
    }
}

impl Drop for QuestionRef {
    fn drop(&mut self) {
        self.machine.released(Released::Question(self.id, self.serial));
    }
}
