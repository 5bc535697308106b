//! Questions: this side's calls to the peer.
//!
//! # State model
//!
//! ```text
//!         ┌──Return──► Returned ──last reference dropped: Finish──► gone
//!         ├──Return(noFinishNeeded)───────────────────────────────► gone
//! Asked ──┤
//!         ├──last reference dropped, or time over: Finish──► Finished ──Return──► gone
//!         ├──the same, of what the peer may not know──► Finished ──Return: Finish──► gone
//!         │                                                └──echo──► gone
//!         └──last reference dropped, results stay with the peer: Finish─────────► gone
//!
//! Asked ──Return(resultsSentElsewhere)──► Asked
//! Asked, Returned, Finished ──connection ended──► gone
//! ```
//!
//! - **Asked**: the call was sent. Pipelined fields name it as their target. Where the
//!   results stay is in [`ResultsTo`]. If this side has asked for it (Note [tail calls]), a
//!   Return that says so changes only that.
//! - **Returned**: the fields are resolved. Nothing more is sent to the question, and the
//!   Finish follows in the same transaction, unless another thread holds a reference to
//!   the question for a moment.
//! - **Finished**: the result was no longer wanted, or did not come in time, and then the
//!   fields are broken: Note [deadlines]. The Finish said so and gave up the results'
//!   capabilities. When the Return comes, nothing of it is imported, and only
//!   then is the id free. Some implementations end the connection when they get a Finish for
//!   what they have echoed as unimplemented. So that of an Accept or a Join is owed until the
//!   Return, as long as nothing shows that the peer knows such messages.
//!
//! A question of which only the pipeline is wanted is Asked until its Finish, which
//! ends it: Note [pipeline only].
//!
//! An id is used again only after both messages. The [`QuestionRef`] is shared by
//! everything that may still name the question.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::Machine;
use super::dest::Pinned;
use super::releases::Released;
use crate::budget::Charge;
use crate::cap::call::CallCell;
use crate::cap::client::Client;
use crate::ids::{ExportId, QuestionId, Serial};
use crate::protocol::remote_promise::RemotePromise;
use crate::sync::Mark;
use crate::wire::Path;
use crate::work::room::Permit;

/// One question.
pub(crate) struct Question {
    pub(crate) serial: Serial,
    pub(crate) state: State,
    /// The question's place among those that are outstanding, until the Return or the
    /// cancellation.
    pub(crate) permit: Option<Permit>,
}

pub(crate) enum State {
    Asked(Asked),
    Returned,
    Finished {
        /// As in [`Asked`].
        params: Vec<ExportId>,
        finish: Finish,
    },
}

/// Whether the Finish of a question that is not wanted any more was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Sent,
    /// It follows the Return.
    Owed,
}

/// The message by which a question was asked, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sent {
    #[default]
    Other,
    Join,
}

/// The destination of a question's results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResultsTo {
    /// Here.
    #[default]
    Caller,
    /// They stay with the peer: Note [tail calls].
    Yourself,
    /// They stay with the peer, which has said that they exist.
    SentElsewhere,
    /// They stay with the peer, which does not say when they exist:
    /// Note [pipeline only].
    Unwanted,
}

// Note [pipeline only]
//
// A question of which only the pipeline is wanted says `onlyPromisePipeline`. It gets
// no Return, so its Finish alone ends it, and says releaseResultCaps for whatever the
// peer may have exported. A peer that does not know the hint returns nevertheless,
// perhaps after the Finish was sent. So that such a Return is not taken for that of
// another question, these questions have ids of their own, from 2^31 on, which are not
// used twice. After the first such Return, and when the ids are used up, ordinary
// questions are asked instead.
//
// On the other side, a call that came with the hint keeps its outcome in its cell,
// where pipelined calls find it, until the Finish. Its fields are never resolved at the
// caller, as with tail calls, and so can make circles that nothing takes apart.

// Note [tail calls]
//
// If a call of the peer is answered by a call to the same peer, the results need not
// travel: this side sends its Call with sendResultsTo.yourself, and right behind it a
// Return that says takeFromOtherQuestion. The peer connects the two. This side's
// question gets a Return, too, which only says that the results were sent elsewhere.
// The question stays open beyond that, because calls that the peer has pipelined on its
// own question still come to this side, and go back as pipelined calls on this side's
// question (that is the described path of the answer). This side never learns what the
// question's fields resolve to: a promise for a field stays a promise. The question
// ends when the peer finishes its own. When the peer finishes early, this side does so,
// too: so cancelling goes through.
//
// A promise for such a field keeps this side's question open, and with it the peer's answer
// and all capabilities in its results. (The peer may have sent the field to this side
// before it knew where its call had gone.) If the results hold a field of other results,
// which have stayed on this side, and these hold the first promise, the two calls keep each
// other until the connection ends, even if nothing else refers to them: each side sees one
// half of the circle, and no message says what a field of such results is. Where results
// travel, the Return takes such a circle apart (Note [described path]).
//
// On the other side, a call that came with sendResultsTo.yourself keeps its
// outcome in its cell, for the one question that takes it (`ResultsTo::Yourself` in
// `answer.rs`).

/// The state of a question that waits for its Return.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) results_to: ResultsTo,
    pub(crate) sent: Sent,
    /// The call that is told; `None` for a bootstrap request, of which only the field
    /// is used.
    pub(crate) cell: Option<Arc<CallCell>>,
    pub(crate) fields: BTreeMap<Path, Field>,
    /// The exports in the parameters, one for each descriptor: the Return may release
    /// them.
    pub(crate) params: Vec<ExportId>,
    /// Of an Accept: what leads to the capability if the host does not give it away. See
    /// Note [handoff].
    pub(crate) vine: Option<Client>,
    /// What it costs the introducer.
    pub(crate) _charge: Option<Arc<Charge>>,
}

/// A pipelined field.
#[derive(Default)]
pub(crate) struct Field {
    /// The promise for the field. While it is referred to, the same path gives the same
    /// promise.
    pub(crate) node: Weak<RemotePromise>,
    /// Whether anything was sent through the field, even through a promise that has
    /// since been dropped. See Note [embargo].
    pub(crate) called: bool,
    /// What stands for it where it was described: Note [described path].
    pub(crate) pinned: Weak<Pinned>,
}

impl Field {
    /// Lets `client` take the field's place wherever the field was described.
    pub(crate) fn give_up_place(&self, client: Client) -> Client {
        if let Some(pinned) = self.pinned.upgrade() {
            pinned.give_up(client.clone());
        }
        client
    }
}

/// The first id of a question of which only the pipeline is wanted.
pub(super) const FIRST_PIPELINE_ONLY: u32 = 1 << 31;

impl QuestionId {
    /// Whether only the pipeline is wanted: Note [pipeline only].
    pub(super) fn is_pipeline_only(self) -> bool {
        self.0 >= FIRST_PIPELINE_ONLY
    }
}

/// The right to name a question in messages. When the last one is dropped the
/// question is finished.
pub(crate) struct QuestionRef {
    machine: Arc<Machine>,
    id: QuestionId,
    serial: Serial,
    /// Whether the question is in no table any more.
    forgotten: Mark,
}

impl QuestionRef {
    pub(super) fn new(machine: Arc<Machine>, id: QuestionId, serial: Serial) -> Arc<Self> {
        Arc::new(QuestionRef { machine, id, serial, forgotten: Mark::default() })
    }

    /// Notes that the question with this serial, if it is this one, is in no table any more.
    pub(super) fn forget(&self, serial: Serial) {
        if self.serial == serial {
            self.forgotten.set();
        }
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
        if !self.forgotten.is_seen() {
            self.machine.released(Released::Question(self.id, self.serial));
        }
    }
}
