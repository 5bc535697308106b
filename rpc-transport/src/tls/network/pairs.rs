//! What this vat has with each other vat: the state machine of a pair, without sockets.
//!
//! # State model of a pair
//!
//! ```text
//! our dial:     none ──connect──► quiet ──introduce──► asked ──accepted, crossed, failed──► none
//! the session:  none ──accepted, by either──► here ──over──► none
//! ```
//!
//! The two go on side by side:
//!
//! - A dial is **quiet** until it says hello. Whatever the other vat does until then, it does
//!   not know of it: a dial of theirs that comes is accepted, and ours is given up.
//! - A dial that has **asked** is decided by the other vat. If theirs comes meanwhile, the two
//!   have crossed, and the vat with the smaller id wins. Where that is the other vat, their
//!   dial is accepted, and they answer to ours that it has crossed. Where it is this one,
//!   their dial is *kept* until ours is decided: it is told that it has crossed if ours was
//!   accepted, and takes its place if ours has failed, or if theirs was said after they had
//!   accepted ours.
//!   They may say so of a session that has come and gone on this side in the meantime. The dial
//!   goes on then, and asks again.
//! - A session is **here** until one of its transport's parts says that it is over, or another
//!   one takes its place.
//!
//! # Stamps
//!
//! A dial carries a stamp: when its vat's network was made, and a number that grows. A
//! session is kept with a stamp of the other vat: that of the dial from which it came, or,
//! where this vat has dialled, that of the last dial which they had begun when they accepted.
//! All their dials up to this stamp were decided with the session, also those that are still
//! on their way. A later one means that they have given the session up, as after a restart,
//! and takes its place. Who they are is proved before a stamp is looked at, so that nobody
//! but the owner of a key can make a session end in this way.

use std::collections::BTreeMap;

use capnp_threads_core::transport::VatId;

/// Which dial of a vat. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stamp {
    pub(super) incarnation: u64,
    pub(super) serial: u64,
}

/// All pairs of this vat. `S` is a session, `K` a dial of another vat that can be answered.
#[derive(Clone, Debug)]
pub(super) struct Pairs<S, K> {
    own: VatId,
    /// Of the last dial.
    stamp: Stamp,
    /// How many sessions there were.
    sessions: u64,
    /// Those of which there is something.
    pairs: BTreeMap<VatId, Pair<S, K>>,
}

#[derive(Clone, Debug)]
struct Pair<S, K> {
    dial: Option<Dial<K>>,
    session: Option<Session<S>>,
}

#[derive(Clone, Debug)]
enum Dial<K> {
    Quiet,
    Asked {
        kept: Option<Kept<K>>,
        /// Whether a session has begun since it asked.
        has_met: bool,
    },
}

#[derive(Clone, Debug)]
struct Kept<K> {
    stamp: Stamp,
    dial: K,
}

#[derive(Clone, Debug)]
struct Session<S> {
    number: SessionNumber,
    stamp: Stamp,
    /// Known a little later than the rest.
    session: Option<S>,
}

/// Which session of this vat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionNumber(u64);

/// A session that has begun, and the one in whose place it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun<S> {
    pub(super) number: SessionNumber,
    /// What was here before, and is to be ended.
    pub(super) replaced: Option<S>,
}

/// What becomes of a dial of theirs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<S, K> {
    Accepted(Begun<S>, K),
    /// It is decided with our own. What was kept before it, if anything, has crossed.
    Kept(Option<K>),
    /// Another connection counts.
    Crossed(K),
    /// This vat is connected with a later incarnation of theirs.
    Older(K),
}

/// What becomes of our dial when they have accepted it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<S, K> {
    /// It is a session. What was kept, if anything, has crossed.
    Begun(Begun<S>, Option<K>),
    /// They have dialled again since, and that has been accepted.
    Crossed,
    /// They have dialled again since, and that is to be accepted.
    Theirs(Begun<S>, K),
}

/// What becomes of our dial when they have answered that it has crossed another.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    /// There is a session.
    Here,
    /// One has begun since our dial asked, and is over. The dial goes on.
    Passed,
    /// They mean one that was over before, or none. The dial goes on.
    Unknown,
}

/// What becomes of a pair when our dial has failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure<S, K> {
    /// There is a session nevertheless.
    Crossed,
    /// Their dial takes the place of ours, and is to be accepted.
    Theirs(Begun<S>, K),
    Failed,
}

impl<S, K> Pairs<S, K> {
    pub(super) fn new(own: VatId, incarnation: u64) -> Self {
        let stamp = Stamp { incarnation, serial: 0 };
        Pairs { own, stamp, sessions: 0, pairs: BTreeMap::new() }
    }

    /// Of our last dial, for answers.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// How many vats there is a session with.
    pub(super) fn session_count(&self) -> usize {
        self.pairs.values().filter(|pair| pair.session.is_some()).count()
    }

    /// Begins to dial. `false` if there is a session, or another thread dials.
    pub(super) fn connect(&mut self, peer: VatId) -> bool {
        let pair = self.pairs.entry(peer).or_default();
        if pair.session.is_some() || pair.dial.is_some() {
            return false;
        }
        pair.dial = Some(Dial::Quiet);
        true
    }

    /// Our dial has reached the vat, and is about to say hello. `None` if theirs was accepted
    /// in the meantime; ours is given up then.
    pub(super) fn introduce(&mut self, peer: VatId) -> Option<Stamp> {
        let pair = self.pairs.get_mut(&peer)?;
        if pair.session.is_some() {
            pair.dial = None;
            return None;
        }
        self.stamp.serial += 1;
        // A dial that is repeated keeps theirs.
        let kept = pair.end_dial();
        pair.dial = Some(Dial::Asked { kept, has_met: false });
        Some(self.stamp)
    }

    /// They have dialled.
    pub(super) fn arrived(&mut self, peer: VatId, stamp: Stamp, dial: K) -> Arrival<S, K> {
        let pair = self.pairs.entry(peer).or_default();
        if let Some(session) = &pair.session {
            if stamp.incarnation < session.stamp.incarnation {
                return Arrival::Older(dial);
            }
            if stamp <= session.stamp {
                return Arrival::Crossed(dial);
            }
        }
        match &mut pair.dial {
            Some(Dial::Asked { kept, .. }) if self.own < peer && pair.session.is_none() => {
                match kept {
                    Some(other) if other.stamp > stamp => Arrival::Crossed(dial),
                    _ => Arrival::Kept(kept.replace(Kept { stamp, dial }).map(|kept| kept.dial)),
                }
            }
            _ => Arrival::Accepted(pair.begin(&mut self.sessions, stamp), dial),
        }
    }

    /// They have accepted our dial.
    pub(super) fn accepted(&mut self, peer: VatId, stamp: Stamp) -> Outcome<S, K> {
        let pair = self.pairs.entry(peer).or_default();
        let kept = pair.end_dial();
        if pair.session.as_ref().is_some_and(|session| session.stamp > stamp) {
            // Nothing is kept beside a session.
            return Outcome::Crossed;
        }
        match kept {
            Some(kept) if kept.stamp > stamp => {
                Outcome::Theirs(pair.begin(&mut self.sessions, kept.stamp), kept.dial)
            }
            kept => {
                let begun = pair.begin(&mut self.sessions, stamp);
                Outcome::Begun(begun, kept.map(|kept| kept.dial))
            }
        }
    }

    /// They have answered that our dial has crossed another.
    pub(super) fn crossed(&mut self, peer: VatId) -> Crossing {
        let Some(pair) = self.pairs.get_mut(&peer) else { return Crossing::Unknown };
        if pair.session.is_some() {
            pair.dial = None;
            return Crossing::Here;
        }
        match pair.dial {
            Some(Dial::Asked { has_met: true, .. }) => Crossing::Passed,
            _ => Crossing::Unknown,
        }
    }

    /// Our dial has failed.
    pub(super) fn failed(&mut self, peer: VatId) -> Failure<S, K> {
        let Some(pair) = self.pairs.get_mut(&peer) else { return Failure::Failed };
        let kept = pair.end_dial();
        if pair.session.is_some() {
            return Failure::Crossed;
        }
        if let Some(Kept { stamp, dial }) = kept {
            return Failure::Theirs(pair.begin(&mut self.sessions, stamp), dial);
        }
        self.pairs.remove(&peer);
        Failure::Failed
    }

    /// What a session consists of, so that it can be ended when another takes its place.
    /// Returned if that has happened already.
    pub(super) fn set_session(
        &mut self,
        peer: VatId,
        number: SessionNumber,
        session: S,
    ) -> Option<S> {
        let pair = self.pairs.get_mut(&peer);
        match pair.and_then(|pair| pair.session.as_mut()) {
            Some(current) if current.number == number => current.session.replace(session),
            _ => Some(session),
        }
    }

    /// A session is over. What it consisted of.
    pub(super) fn over(&mut self, peer: VatId, number: SessionNumber) -> Option<S> {
        let pair = self.pairs.get_mut(&peer)?;
        let ended = pair.session.take_if(|session| session.number == number);
        if pair.session.is_none() && pair.dial.is_none() {
            self.pairs.remove(&peer);
        }
        ended?.session
    }

    /// Whether a dial of theirs waits for what becomes of ours.
    #[cfg(test)]
    pub(super) fn has_kept(&self, peer: VatId) -> bool {
        let dial = self.pairs.get(&peer).and_then(|pair| pair.dial.as_ref());
        matches!(dial, Some(Dial::Asked { kept: Some(_), .. }))
    }

    /// Gives up the dials that were kept.
    pub(super) fn shut_down(&mut self) -> Vec<K> {
        let kept = self.pairs.values_mut().filter_map(|pair| match &mut pair.dial {
            Some(Dial::Asked { kept, .. }) => kept.take(),
            Some(Dial::Quiet) | None => None,
        });
        kept.map(|kept| kept.dial).collect()
    }
}

impl<S, K> Default for Pair<S, K> {
    fn default() -> Self {
        Pair { dial: None, session: None }
    }
}

impl<S, K> Pair<S, K> {
    fn begin(&mut self, sessions: &mut u64, stamp: Stamp) -> Begun<S> {
        *sessions += 1;
        if let Some(Dial::Asked { has_met, .. }) = &mut self.dial {
            *has_met = true;
        }
        let number = SessionNumber(*sessions);
        let new = Session { number, stamp, session: None };
        let replaced = self.session.replace(new).and_then(|old| old.session);
        Begun { number, replaced }
    }

    fn end_dial(&mut self) -> Option<Kept<K>> {
        match self.dial.take() {
            Some(Dial::Asked { kept, .. }) => kept,
            Some(Dial::Quiet) | None => None,
        }
    }
}

#[cfg(test)]
mod tests;
