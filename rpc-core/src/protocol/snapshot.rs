//! Looking at a connection's state, and checking that it is sound.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::handoff::meetings::{Kept, Way};
use super::{Machine, Order, Phase, answer, export, import, question};
use crate::budget::Kind;
use crate::cap::capability::Capability;
use crate::cap::client::Client;
use crate::ids::ExportId;
#[cfg(feature = "metrics")]
use crate::sync::atomic::Ordering;

/// What a connection holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Calls to the peer whose ids are not free yet.
    pub questions: usize,
    /// Calls of the peer that it has not finished.
    pub answers: usize,
    /// Capabilities of this side that the peer holds.
    pub exports: usize,
    /// Capabilities of the peer that this side holds.
    pub imports: usize,
    /// Promises that wait for earlier calls to come back.
    pub embargoes: usize,
    /// Capabilities that one side has provided at the other for a third vat.
    pub provisions: usize,
    /// Capabilities that the peer has come for and that are not there yet, which
    /// [`Limits::accepts`](crate::Limits::accepts) bounds. They are among the `answers`, but for
    /// those that the peer has sent to where they came from.
    pub accepts: usize,
    /// Questions of the peer's whether capabilities are the same, each of which came in several
    /// messages.
    pub joins: usize,
    /// Bytes that the peer makes this side hold, which
    /// [`Limits::budget_bytes`](crate::Limits::budget_bytes) bounds.
    pub budget_bytes: u64,
    /// Bytes queued to be sent.
    pub queued_bytes: usize,
    /// Words of the peer's calls that were delivered and are not over, which the flow
    /// limit bounds.
    pub words_in_flight: u64,
    /// Calls of the peer that the flow limit holds back, and deliveries that must not
    /// overtake them.
    pub held_back: usize,
    /// Bytes of the messages that were sent, roughly. With the feature `metrics`.
    #[cfg(feature = "metrics")]
    pub sent_bytes: u64,
    /// Bytes of the messages that were received, roughly. With the feature `metrics`.
    #[cfg(feature = "metrics")]
    pub received_bytes: u64,
}

impl Snapshot {
    /// Whether every table is empty.
    pub fn is_empty(&self) -> bool {
        let Snapshot { questions, answers, exports, imports, embargoes, .. } = *self;
        let Snapshot { provisions, joins, .. } = *self;
        questions + answers + exports + imports + embargoes + provisions + joins == 0
    }
}

/// One capability of this side that the peer holds; see
/// [`Connection::exports`](crate::Connection::exports).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The capability's id on the wire.
    pub id: ExportId,
    /// The number of times that the capability was sent and has not been released.
    pub references: u32,
    /// A description for people, with the object's name if it has one.
    pub object: String,
}

/// The part of a machine's state that must agree with its peer's when no message is
/// under way: ids, and for capabilities how often they were sent.
#[cfg(any(test, fuzzing))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) questions: std::collections::BTreeSet<u32>,
    pub(crate) answers: std::collections::BTreeSet<u32>,
    pub(crate) exports: std::collections::BTreeMap<u32, u32>,
    pub(crate) imports: std::collections::BTreeMap<u32, u32>,
}

impl Machine {
    /// Counts entries, without the order lock.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            questions: self.questions.len(),
            answers: self.answers.len(),
            exports: self.exports.len(),
            imports: self.imports.len(),
            embargoes: self.embargoes.len(),
            provisions: self.provides.len() + self.provisions.len(),
            accepts: self.accepts.taken(),
            joins: self.gatherings.len(),
            budget_bytes: self.budget.held(),
            queued_bytes: self.room.bytes(),
            words_in_flight: self.load.words(),
            held_back: self.load.held(),
            #[cfg(feature = "metrics")]
            sent_bytes: self.traffic.sent.load(Ordering::Relaxed),
            #[cfg(feature = "metrics")]
            received_bytes: self.traffic.received.load(Ordering::Relaxed),
        }
    }

    /// The capabilities of this side that the peer holds, by id, without the order
    /// lock.
    pub(crate) fn exported(&self) -> Vec<Exported> {
        let mut entries = Vec::new();
        self.exports.for_each(|id, entry| entries.push((id, entry.refs, entry.target())));
        entries.sort_by_key(|(id, ..)| id.0);
        // The description is made when the table is no longer looked at: it may take
        // the locks of promises.
        let told = |(id, references, target): (ExportId, u32, Client)| Exported {
            id,
            references,
            object: format!("{target:?}"),
        };
        entries.into_iter().map(told).collect()
    }

    /// Every entry of which the peer has a counterpart, by its id on the wire.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::default();
        self.questions.for_each(|id, _| {
            holdings.questions.insert(id.0);
        });
        self.answers.for_each(|id, _| {
            holdings.answers.insert(id.0);
        });
        self.provides.for_each(|id, _| {
            holdings.questions.insert(id.0);
        });
        self.provisions.for_each(|id, _| {
            holdings.answers.insert(id.0);
        });
        self.exports.for_each(|id, entry| {
            holdings.exports.insert(id.0, entry.refs);
        });
        self.imports.for_each(|id, entry| {
            holdings.imports.insert(id.0, entry.refs);
        });
        holdings
    }

    /// The number of calls that were finished and whose outcomes this side has taken.
    #[cfg(test)]
    pub(crate) fn taken_calls(self: &Arc<Self>) -> usize {
        self.transact(|txn| txn.order.taken.len())
    }

    /// Resolves the fields of results that stay with the peer to null. Nothing else would
    /// resolve them: Note [tail calls], Note [pipeline only].
    #[cfg(any(test, fuzzing))]
    pub(crate) fn give_up_kept_fields(self: &Arc<Self>) {
        let mut kept = Vec::new();
        self.questions.for_each(|id, entry| {
            if let question::State::Asked(asked) = &entry.state
                && matches!(
                    asked.results_to,
                    question::ResultsTo::SentElsewhere | question::ResultsTo::Unwanted
                )
            {
                kept.push(id);
            }
        });
        self.transact(|txn| {
            for id in kept {
                let fields = self.questions.with(id, |entry| match &mut entry.state {
                    question::State::Asked(asked) => std::mem::take(&mut asked.fields),
                    _ => std::collections::BTreeMap::new(),
                });
                for field in fields.into_iter().flat_map(std::collections::BTreeMap::into_values) {
                    let null = field.give_up_place(Client::null());
                    txn.resolve_node(field.node.upgrade(), null);
                }
            }
        });
    }

    /// Checks what must hold of the tables between any two steps.
    ///
    /// # Errors
    /// A sentence about the first rule that does not hold.
    pub(crate) fn check(self: &Arc<Self>) -> Result<(), String> {
        self.transact(|txn| self.check_tables(&txn.order))
    }

    /// Counts again what the entries of the tables cost.
    fn check_budget(&self) -> Result<(), String> {
        let (mut entries, mut results) = (0, 0);
        self.answers.for_each(|_, entry| {
            entries += entry.cost;
            if let answer::State::Returned { kept: Some(kept), .. } = &entry.state {
                results += kept.bytes();
            }
        });
        self.imports.for_each(|_, entry| entries += entry.charge.bytes());
        self.provisions.for_each(|_, entry| entries += entry.charge.bytes());
        for (kind, found) in [(Kind::Entry, entries), (Kind::Results, results)] {
            let charged = self.budget.held_as(kind);
            if charged != found {
                return Err(format!("{charged} bytes are charged as {kind:?}, not {found}"));
            }
        }
        Ok(())
    }

    fn check_provisions(&self, order: &Order) -> Result<(), String> {
        let mut kept = 0;
        let mut fields = BTreeSet::new();
        self.provisions.for_each(|id, entry| {
            kept += usize::from(entry.is_kept());
            if let Some(Kept { way: Way::Field(cell, _), .. }) = &entry.kept {
                fields.insert((cell.as_ptr().addr(), id));
            }
        });
        if fields != order.provided_fields {
            return Err("other fields are known as provided than are".to_owned());
        }
        let taken = self.kept_provisions.taken();
        if kept != taken {
            return Err(format!("{taken} provisions are counted, but there are {kept}"));
        }
        Ok(())
    }

    fn check_tables(&self, order: &Order) -> Result<(), String> {
        if let Phase::Dead(_) | Phase::DeadUnused(_) = order.phase
            && !self.snapshot().is_empty()
        {
            return Err(format!("a dead connection still holds {:?}", self.snapshot()));
        }
        let mut numbered = 0;
        self.questions.for_each(|id, _| numbered += usize::from(!id.is_pipeline_only()));
        let pools = [
            ("question", order.question_ids.in_use(), numbered),
            ("export", order.export_ids.in_use(), self.exports.len()),
            ("embargo", order.embargo_ids.in_use(), self.embargoes.len()),
        ];
        if self.load.held() != order.held.len() {
            return Err(format!(
                "{} deliveries are held back, but {} are counted",
                order.held.len(),
                self.load.held()
            ));
        }
        self.check_budget()?;
        self.gatherings.check()?;
        self.check_provisions(order)?;
        for (name, taken, entries) in pools {
            if taken != entries {
                return Err(format!(
                    "{taken} {name} ids are taken, but there are {entries} entries"
                ));
            }
        }
        let mut problems = Vec::new();
        let mut keys: HashMap<usize, ExportId> = HashMap::new();
        self.exports.for_each(|id, entry| {
            if entry.refs == 0 {
                problems.push(format!("export {id} has no reference but exists"));
            }
            if let Some(key) = entry.key {
                if order.exported.get(&key) != Some(&id) {
                    problems.push(format!("export {id} would not be found by its capability"));
                }
                if keys.insert(key, id).is_some() {
                    problems.push(format!("export {id} is the second one of its capability"));
                }
                if matches!(entry.kind, export::Kind::Resolved(_)) {
                    problems.push(format!("export {id} is resolved but found as a promise"));
                }
            }
        });
        let mut vines = 0;
        self.exports.for_each(|_, entry| {
            vines += usize::from(matches!(entry.kind, export::Kind::Vine(..)));
        });
        if vines != order.vines {
            problems.push(format!("{} vines are counted, but there are {vines}", order.vines));
        }
        if keys.len() != order.exported.len() {
            problems.push("a capability is known as exported but is not".to_owned());
        }
        self.imports.for_each(|id, entry| {
            if entry.refs == 0 {
                problems.push(format!("import {id} has no reference but exists"));
            }
            if let import::Kind::Promised { node, .. } = &entry.kind
                && let Some(node) = node.upgrade()
                && node.location().is_err()
                && entry.handle.strong_count() == 0
            {
                problems.push(format!("import {id} has a live promise but no handle"));
            }
        });
        self.questions.for_each(|id, entry| {
            if let question::State::Asked(asked) = &entry.state {
                for (path, field) in &asked.fields {
                    if field.node.upgrade().is_some_and(|node| node.resolved().is_some()) {
                        problems.push(format!(
                            "question {id} is open, but its field {path:?} is resolved"
                        ));
                    }
                }
            }
        });
        problems.into_iter().next().map_or(Ok(()), Err)
    }
}
