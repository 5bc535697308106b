//! The Joins of a peer that wait for each other: Note [join] in `cap/sameness`.
//!
//! # State model
//!
//! Of a join, by the number that the peer has given to it:
//!
//! ```text
//! no entry ──first part──► Incomplete ──last part──► Compared ──answer found──► no entry
//!              Incomplete, Compared ──a part that does not belong to it──► no entry
//!              Incomplete, Compared ──a part is finished, or late───────► no entry
//! ```
//!
//! - **Incomplete**: parts have come, and wait for the others.
//! - **Compared**: all have come, and what they are for is being compared.
//!
//! Whenever an entry goes, each of its parts is answered, the one that was finished excepted,
//! which has been answered already. A part does not belong to a join if it says another number
//! of parts, or if a part with its number has come before.
//!
//! The lock is a leaf. What an operation leaves to be done is done without it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::cap::call::{CallCell, Queue, Queued};
use crate::cap::client::Client;
use crate::cap::delivery::cancelled;
use crate::cap::effects::{self, Effect};
use crate::cap::payload::Outcome;
use crate::cap::pending::Pending;
use crate::cap::sameness;
use crate::error::Error;
use crate::sync::Mutex;
use crate::wire::JoinPart;

/// Number of parts of one join.
const MAX_PARTS: u16 = 64;

/// The joins by parts of one connection.
#[derive(Default)]
pub(crate) struct Gatherings {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    joins: HashMap<u32, Gathering>,
    /// The join of the part that waits at a place.
    places: HashMap<u64, u32>,
    /// The number of places and of joins that there have been.
    numbered: u64,
}

struct Gathering {
    /// Tells apart joins that have the same number one after the other.
    serial: u64,
    count: u16,
    parts: BTreeMap<u16, Part>,
    phase: Phase,
}

enum Phase {
    Incomplete,
    /// Dropping this gives the comparison up.
    Compared {
        _comparison: Pending,
    },
}

struct Part {
    place: u64,
    cell: Arc<CallCell>,
    target: Client,
}

/// Parts that are over, to be answered without the lock.
#[must_use]
struct Ended(Vec<(Arc<CallCell>, Outcome)>, Option<Gathering>);

impl Ended {
    /// Must not be called under a lock.
    fn tell(self) {
        for (cell, outcome) in self.0 {
            cell.left_queue();
            effects::defer(Effect::Complete(cell, outcome));
        }
        // A comparison that is given up, and what was to be compared.
        effects::defer(Effect::drop(self.1));
    }
}

impl Gatherings {
    /// A part has come. It is answered when all parts have come and were compared, or when one
    /// of them is over.
    ///
    /// Must not be called under a lock.
    pub(super) fn come(self: &Arc<Self>, part: JoinPart, cell: Arc<CallCell>, target: Client) {
        if part.count > MAX_PARTS {
            let error = format!("a join of {} parts; at most {MAX_PARTS} are allowed", part.count);
            return cell.complete(Err(Error::failed(error)));
        }
        let place = self.state.lock().number();
        // A cell has a lock of its own, so it is told before it is in the table, and looked
        // at once more afterwards.
        cell.queued_in(Queue::Other(Arc::downgrade(self) as _), place);
        let entered = {
            let mut state = self.state.lock();
            let entry = Part { place, cell: Arc::clone(&cell), target };
            state.enter(part, entry)
        };
        match entered {
            Entered::Waits => {}
            Entered::Refused(ended) => ended.tell(),
            Entered::Complete(serial, targets) => self.begin(part.join, serial, targets),
        }
        if cell.is_cancelled() {
            self.withdraw(place);
        }
    }

    fn begin(self: &Arc<Self>, join: u32, serial: u64, targets: Vec<Client>) {
        let comparison = sameness::compare(targets);
        let kept = {
            let mut state = self.state.lock();
            match state.joins.get_mut(&join).filter(|gathering| gathering.serial == serial) {
                Some(gathering) => {
                    gathering.phase = Phase::Compared { _comparison: comparison.clone() };
                    true
                }
                None => false,
            }
        };
        if kept {
            let this = Arc::downgrade(self);
            comparison.when_done(move |outcome| {
                if let Some(this) = this.upgrade() {
                    this.found(join, serial, outcome);
                }
            });
        }
    }

    fn found(&self, join: u32, serial: u64, outcome: &Outcome) {
        let ended = self.state.lock().end(join, Some(serial), |number, count, part| {
            let same = sameness::is_same(outcome.as_ref().map_err(Clone::clone)?)?;
            Ok(sameness::part_answered(JoinPart { join, count, number }, same, &part.target))
        });
        ended.tell();
    }

    /// The number of joins that wait or are being compared.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().joins.len()
    }

    /// Checks what must hold whenever the lock is free.
    ///
    /// # Errors
    /// A sentence about the first rule that does not hold.
    pub(crate) fn check(&self) -> Result<(), String> {
        let state = self.state.lock();
        let mut parts = 0;
        for (join, gathering) in &state.joins {
            parts += gathering.parts.len();
            if gathering.parts.is_empty() || gathering.parts.len() > usize::from(gathering.count) {
                return Err(format!(
                    "join {join} of {} parts has {}",
                    gathering.count,
                    gathering.parts.len()
                ));
            }
            for part in gathering.parts.values() {
                if state.places.get(&part.place) != Some(join) {
                    return Err(format!("a part of join {join} is not known by its place"));
                }
            }
            let complete = gathering.parts.len() == usize::from(gathering.count);
            if matches!(gathering.phase, Phase::Compared { .. }) && !complete {
                return Err(format!("join {join} is compared, but not complete"));
            }
        }
        if parts != state.places.len() {
            return Err(format!("{parts} parts wait at {} places", state.places.len()));
        }
        Ok(())
    }
}

/// What becomes of a part that comes.
enum Entered {
    Waits,
    /// It was the last one of the join with this serial.
    Complete(u64, Vec<Client>),
    Refused(Ended),
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    fn enter(&mut self, part: JoinPart, entry: Part) -> Entered {
        let JoinPart { join, count, number } = part;
        let fits = self.joins.get(&join).is_none_or(|gathering| {
            gathering.count == count && !gathering.parts.contains_key(&number)
        });
        if !fits {
            let error = || Error::failed(format!("part {number} does not belong to join {join}"));
            let mut ended = self.end(join, None, |_, _, _| Err(error()));
            ended.0.push((entry.cell, Err(error())));
            return Entered::Refused(ended);
        }
        let serial = self.number();
        self.places.insert(entry.place, join);
        let gathering = self.joins.entry(join).or_insert_with(|| Gathering {
            serial,
            count,
            parts: BTreeMap::new(),
            phase: Phase::Incomplete,
        });
        gathering.parts.insert(number, entry);
        if gathering.parts.len() < usize::from(count) {
            return Entered::Waits;
        }
        let targets = gathering.parts.values().map(|part| part.target.clone()).collect();
        Entered::Complete(gathering.serial, targets)
    }

    /// Takes a join out, if it is there with this serial, and answers its parts.
    fn end(
        &mut self,
        join: u32,
        serial: Option<u64>,
        answer: impl Fn(u16, u16, &Part) -> Outcome,
    ) -> Ended {
        let there = self.joins.get(&join).map(|gathering| gathering.serial);
        if there.is_none() || serial.is_some_and(|serial| there != Some(serial)) {
            return Ended(Vec::new(), None);
        }
        let Some(gathering) = self.joins.remove(&join) else { return Ended(Vec::new(), None) };
        let mut ended = Vec::new();
        for (number, part) in &gathering.parts {
            self.places.remove(&part.place);
            let outcome = answer(*number, gathering.count, part);
            ended.push((Arc::clone(&part.cell), outcome));
        }
        Ended(ended, Some(gathering))
    }
}

impl Queued for Gatherings {
    /// A part was finished, or its time is over: its join cannot be answered any more.
    fn withdraw(&self, place: u64) {
        let ended = {
            let mut state = self.state.lock();
            let Some(join) = state.places.get(&place).copied() else { return };
            state.end(join, None, |_, _, part| {
                // Whoever ends this part may know a better reason: see `Delivery::fail`.
                if part.place == place {
                    return Err(cancelled());
                }
                Err(Error::failed("another part of the join was given up"))
            })
        };
        ended.tell();
    }
}
