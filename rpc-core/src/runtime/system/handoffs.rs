//! The vats of a system introduce each other, if their network can: Note [handoff].

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Shared;
use super::peers::Slot;
use crate::budget::{Place, Places};
use crate::cap::effects::{self, Effect};
use crate::deadline::{Deadline, TimeLimit};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::panics;
use crate::protocol::Machine;
use crate::protocol::handoff::meetings::{Key, Meetings, Shown};
use crate::protocol::handoff::{Acceptance, EarlyCalls, Found, Neighbour, Seeker};
use crate::runtime::connection::Connection;
use crate::sync::Mutex;
use crate::transport::introductions::{Completion, Introduced, Introduction, Introductions};
use crate::transport::network::VatNetwork;
use crate::wire::Token;
use crate::work::executor::Job;

/// Maximum number of hosts that a vat is looking for at once because of one peer. Others wait
/// in line.
const MAX_LOOKING: usize = 16;

/// Number of hosts among which none is looked for that counts no more.
const KEPT: usize = 16;

/// How a system hands capabilities off.
#[derive(Clone, Debug)]
pub(super) struct Handoffs {
    /// Whether capabilities are given away, and taken from others, at all.
    pub(super) allowed: bool,
    pub(super) acceptance: Acceptance,
    pub(super) early_calls: EarlyCalls,
    pub(super) patience: Duration,
}

impl Default for Handoffs {
    fn default() -> Self {
        Handoffs {
            allowed: true,
            acceptance: Acceptance::Lazy,
            early_calls: EarlyCalls::Wait,
            patience: Duration::from_secs(30),
        }
    }
}

/// A connection of a system, as the other ones see it.
struct Neighbourly<N: VatNetwork> {
    shared: Weak<Shared<N>>,
    peer: N::VatId,
    meetings: Arc<Meetings>,
    settings: Handoffs,
    /// The lock is a leaf.
    search: Mutex<Search<N::VatId>>,
}

/// The hosts that are looked for because of one peer.
struct Search<Id> {
    /// Those who look for a host, until there is an outcome.
    seekers: HashMap<Id, Seekers>,
    /// The hosts for which nobody has begun to look.
    line: VecDeque<Id>,
    /// The number of jobs that look.
    looking: usize,
    /// The hosts that are looked for, and those to which this vat is connected because it has
    /// looked for them. Some are not any more.
    introduced: HashMap<Id, Weak<Counted>>,
    /// The number of entries at which those are removed that count no more.
    sweep_at: usize,
    /// For these hosts: those of the peer, and those of all peers.
    places: [Arc<Places>; 2],
    /// Whether the connection to the peer has ended.
    ended: bool,
}

/// Those who look for one host.
struct Seekers {
    counted: Arc<Counted>,
    sought: Vec<Sought>,
}

/// A host in the count of those that are introduced. Whoever looks for it, and the connection
/// that was found, has a reference until its end.
struct Counted {
    _places: [Place; 2],
    /// The number of the connection that has a reference, which has one only.
    connection: Mutex<Option<u64>>,
}

/// Who looks for a host, and what has to be shown there.
type Sought = (Token, Box<dyn Seeker>);

/// A job that looks for one host. Dropped before its end, it finds nothing.
struct Look<N: VatNetwork> {
    by: Arc<Neighbourly<N>>,
    /// Until those who look for it were told.
    host: Option<N::VatId>,
    /// Until the attempt is over, whoever still looks.
    counted: Arc<Counted>,
}

impl<N: VatNetwork> Drop for Look<N> {
    fn drop(&mut self) {
        let mut search = self.by.search.lock();
        let unfound = self.host.take().and_then(|host| search.seekers.remove(&host));
        search.looking -= 1;
        let next = search.next();
        drop(search);
        drop(unfound);
        if let Some((host, counted)) = next {
            Neighbourly::begin_to_look(&self.by, host, counted);
        }
    }
}

impl<Id: Clone + Eq + Hash> Search<Id> {
    fn new(places: [Arc<Places>; 2]) -> Self {
        Search {
            seekers: HashMap::new(),
            line: VecDeque::new(),
            looking: 0,
            introduced: HashMap::new(),
            sweep_at: KEPT,
            places,
            ended: false,
        }
    }

    /// Enters somebody who looks for a host.
    ///
    /// # Errors
    /// Too many hosts are introduced, or the connection has ended. Whoever looks for this one is
    /// given back.
    fn enter(&mut self, host: &Id, sought: Sought) -> std::result::Result<(), (Sought, Error)> {
        if self.ended {
            return Err((sought, introducer_gone()));
        }
        if let Some(others) = self.seekers.get_mut(host) {
            others.sought.push(sought);
            return Ok(());
        }
        let counted = match self.count(host) {
            Ok(counted) => counted,
            Err(error) => return Err((sought, error)),
        };
        self.line.push_back(host.clone());
        self.seekers.insert(host.clone(), Seekers { counted, sought: vec![sought] });
        Ok(())
    }

    /// Counts a host, unless it is counted.
    fn count(&mut self, host: &Id) -> Result<Arc<Counted>> {
        if let Some(counted) = self.introduced.get(host).and_then(Weak::upgrade) {
            return Ok(counted);
        }
        let full = |why| move || Error::overloaded(format!("too many vats are introduced {why}"));
        let [of_peer, of_all] = &self.places;
        let places = [
            of_peer.take().ok_or_else(full("by this peer (Limits::introduced)"))?,
            of_all.take().ok_or_else(full("to this one (AcceptLimits::connections)"))?,
        ];
        let counted = Arc::new(Counted { _places: places, connection: Mutex::new(None) });
        if self.introduced.len() >= self.sweep_at {
            self.introduced.retain(|_, counted| counted.strong_count() > 0);
            self.sweep_at = KEPT.max(2 * self.introduced.len());
        }
        self.introduced.insert(host.clone(), Arc::downgrade(&counted));
        Ok(counted)
    }

    /// The host for which one more job has to look now.
    fn next(&mut self) -> Option<(Id, Arc<Counted>)> {
        if self.looking >= MAX_LOOKING {
            return None;
        }
        // Those who have looked for a host may have been told already.
        let still = |host: &Id| self.seekers.get(host).map(|seekers| Arc::clone(&seekers.counted));
        let next = std::iter::from_fn(|| self.line.pop_front())
            .find_map(|host| still(&host).map(|counted| (host, counted)))?;
        self.looking += 1;
        Some(next)
    }

    /// Lets nobody look any more, and returns those who have.
    fn end(&mut self) -> HashMap<Id, Seekers> {
        self.ended = true;
        self.line.clear();
        std::mem::take(&mut self.seekers)
    }
}

fn gone() -> Error {
    Error::disconnected("this vat is shutting down")
}

fn introducer_gone() -> Error {
    Error::disconnected("the connection to the vat that has introduced the host has ended")
}

impl<N: VatNetwork> Neighbourly<N> {
    /// Asks the network something.
    fn ask<R>(
        &self,
        ask: impl FnOnce(&dyn Introductions<N::VatId>, &Shared<N>) -> Result<R>,
    ) -> Result<R> {
        let shared = self.shared.upgrade().ok_or_else(gone)?;
        let asked = panics::caught("a network's introductions", || {
            let network = shared.network.introductions();
            let network = network.ok_or_else(|| Error::failed("the network introduces nobody"))?;
            ask(network, &shared)
        });
        // This may be the last reference to the network, and a lock may be held.
        effects::defer(Effect::drop_foreign(shared));
        asked.unwrap_or_else(|panicked| {
            Err(Error::failed("the network panicked").with_internal(panicked.message))
        })
    }

    /// Looks for a host on a worker, which may wait. If there is none, nothing is found.
    fn begin_to_look(this: &Arc<Self>, host: N::VatId, counted: Arc<Counted>) {
        let look = Look { by: Arc::clone(this), host: Some(host), counted };
        if let Some(shared) = this.shared.upgrade() {
            let executor = shared.vat.executor();
            effects::defer(Effect::drop_foreign(shared));
            effects::spawn_or_run(&*executor, Job::closure(move || look.run()));
        }
    }

    /// What is found at the end of an attempt to reach a host.
    fn found(
        &self,
        reached: &Result<Option<Connection>>,
        host: &N::VatId,
        completion: &Token,
    ) -> Result<Found> {
        match reached {
            Ok(Some(connection)) => Ok(Found::Host(connection.machine() as _, completion.clone())),
            Ok(None) => Ok(Found::Here(self.shown_by(host, completion)?)),
            Err(error) => Err(error.clone()),
        }
    }

    /// What a vat shows to this one, which may be this one.
    fn shown_by(&self, recipient: &N::VatId, completion: &Token) -> Result<Shown> {
        self.ask(|network, shared| {
            let Completion { introducer, key, uses } =
                network.complete_third_party(recipient, completion)?;
            let introducer = match introducer {
                None => None,
                Some(introducer) => {
                    let connection = shared.up_to(&introducer).ok_or_else(|| {
                        Error::disconnected("the vat that has introduced you is not connected")
                    })?;
                    Some(Arc::downgrade(connection.machine().room()))
                }
            };
            Ok(Shown { key: key.into(), introducer, uses })
        })
    }
}

impl Counted {
    /// Counts the host until the end of a connection that was found.
    fn until_end_of(self: &Arc<Self>, connection: &Connection) {
        let number = connection.number();
        if self.connection.lock().replace(number) != Some(number) {
            let counted = Arc::clone(self);
            connection.on_end(Box::new(move || drop(counted)));
        }
    }
}

impl<N: VatNetwork> Look<N> {
    fn run(mut self) {
        let (Some(shared), Some(host)) = (self.by.shared.upgrade(), self.host.clone()) else {
            return;
        };
        loop {
            let reached = shared.reach(&host);
            // Whoever comes from now on finds the connection, or begins another search.
            let seekers = self.by.search.lock().seekers.remove(&host);
            let Some(Seekers { sought, .. }) = seekers else {
                self.host = None;
                return;
            };
            if let Ok(Some(connection)) = &reached {
                self.counted.until_end_of(connection);
            }
            let mut again = Vec::new();
            for (completion, seeker) in sought {
                let found = self.by.found(&reached, &host, &completion);
                again.extend(seeker.found(found).map(|seeker| (completion, seeker)));
            }
            let connection = match reached {
                Ok(Some(connection)) if !again.is_empty() => connection,
                _ => {
                    self.host = None;
                    return;
                }
            };
            // The connection ends because it was not used, unless the peer wakes it.
            let deadline = Deadline::after(shared.settings.common.close_timeout);
            let woken = effects::blocking(|| connection.wait_until_awake(deadline));
            match woken {
                Ok(true) => {}
                // The peer neither agreed nor woke the connection.
                Ok(false) => connection.close(),
                Err(_) => return,
            }
            let mut search = self.by.search.lock();
            if search.ended {
                drop(search);
                return;
            }
            let counted = Arc::clone(&self.counted);
            let seekers = search.seekers.entry(host.clone());
            let seekers = seekers.or_insert_with(|| Seekers { counted, sought: Vec::new() });
            seekers.sought.extend(again);
        }
    }
}

impl<N: VatNetwork> Neighbour for Neighbourly<N> {
    fn introduce_to(&self, host: &dyn Neighbour) -> Option<Introduction> {
        let host = (host as &dyn Any).downcast_ref::<Self>()?;
        if !self.shared.ptr_eq(&host.shared) || self.peer == host.peer {
            return None;
        }
        self.ask(|network, _| Ok(network.introduce(&self.peer, &host.peer))).ok().flatten()
    }

    fn forward(&self, introducer: &dyn Neighbour, contact: &Token) -> Option<Token> {
        let introducer = (introducer as &dyn Any).downcast_ref::<Self>()?;
        if !self.shared.ptr_eq(&introducer.shared) {
            return None;
        }
        let forward = |network: &dyn Introductions<N::VatId>| {
            network.forward_contact(&introducer.peer, contact, &self.peer)
        };
        self.ask(|network, _| Ok(forward(network))).ok().flatten()
    }

    fn reach(self: Arc<Self>, contact: Token, seeker: Box<dyn Seeker>) {
        let found = self.ask(|network, shared| {
            let Introduced { host, completion } =
                network.connect_to_introduced(&self.peer, &contact)?;
            Ok((shared.up_to(&host), host, completion))
        });
        let (up, host, completion) = match found {
            Ok(found) => found,
            Err(error) => return drop(seeker.found(Err(error))),
        };
        let seeker = match up {
            None => Some(seeker),
            Some(connection) => {
                let host = connection.machine() as _;
                seeker.found(Ok(Found::Host(host, completion.clone())))
            }
        };
        let Some(seeker) = seeker else { return };
        let (entered, next) = {
            let mut search = self.search.lock();
            (search.enter(&host, (completion, seeker)), search.next())
        };
        if let Err(((_, seeker), error)) = entered {
            drop(seeker.found(Err(error)));
        }
        if let Some((host, counted)) = next {
            Self::begin_to_look(&self, host, counted);
        }
    }

    fn awaited(&self, awaited: &Token) -> Result<Key> {
        self.ask(|network, _| Ok(network.await_third_party(&self.peer, awaited)?.into()))
    }

    fn shown(&self, completion: &Token) -> Result<Shown> {
        self.shown_by(&self.peer, completion)
    }

    fn meetings(&self) -> &Arc<Meetings> {
        &self.meetings
    }

    fn acceptance(&self) -> Acceptance {
        self.settings.acceptance
    }

    fn early_calls(&self) -> EarlyCalls {
        self.settings.early_calls
    }

    fn patience(&self) -> TimeLimit {
        Some(self.settings.patience)
    }

    fn ended(&self) {
        let seekers = self.search.lock().end();
        for (_, seeker) in seekers.into_values().flat_map(|seekers| seekers.sought) {
            drop(seeker.found(Err(introducer_gone())));
        }
    }
}

impl<N: VatNetwork> Shared<N> {
    /// What the connection to a peer knows of the network, if that introduces anybody.
    pub(super) fn neighbour(
        self: &Arc<Self>,
        peer: &N::VatId,
        limits: &Limits,
    ) -> Option<Arc<dyn Neighbour>> {
        let introduces =
            panics::caught("a network's introductions", || self.network.introductions().is_some());
        if !self.settings.handoffs.allowed || !introduces.unwrap_or(false) {
            return None;
        }
        let places = Places::new(limits.introduced as usize);
        Some(Arc::new(Neighbourly {
            shared: Arc::downgrade(self),
            peer: peer.clone(),
            meetings: Arc::clone(&self.meetings),
            settings: self.settings.handoffs.clone(),
            search: Mutex::new(Search::new([places, Arc::clone(&self.introduced)])),
        }))
    }

    /// The connection to a peer, if there is one that has not ended.
    fn up_to(&self, peer: &N::VatId) -> Option<Connection> {
        let connection = match self.peers.lock().table.get(peer) {
            Some(Slot::Up(connection)) => Some(connection.clone()),
            Some(Slot::Connecting(_)) | None => None,
        };
        connection.filter(|connection| !connection.machine().room().is_closed())
    }
}

impl Connection {
    fn machine(&self) -> Arc<Machine> {
        self.inner().machine()
    }
}

#[allow(clippy::unwrap_used)]
#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Seeker for Nobody {
        fn found(self: Box<Self>, _: Result<Found>) -> Option<Box<dyn Seeker>> {
            None
        }
    }

    fn seeker() -> Sought {
        (Token::of_bytes(b"completion").unwrap(), Box::new(Nobody))
    }

    /// A dial goes on, and counts, though nobody waits for it.
    #[test]
    fn whoever_looks_is_let_go_at_the_end_of_a_connection() {
        let places = [MAX_LOOKING + 2, MAX_LOOKING + 2].map(Places::new);
        let mut search: Search<usize> = Search::new(places.clone());
        for host in 0..MAX_LOOKING + 2 {
            assert!(search.enter(&host, seeker()).is_ok());
        }
        let (first, counted) = search.next().unwrap();
        assert_eq!(first, 0);
        let entered = search.enter(&(MAX_LOOKING + 2), seeker());
        assert!(entered.is_err_and(|(_, error)| error.reason().contains("Limits::introduced")));
        assert_eq!(search.end().len(), MAX_LOOKING + 2);
        assert!(search.next().is_none());
        assert_eq!(places.each_ref().map(|places| places.taken()), [1, 1]);
        drop(counted);
        assert_eq!(places.each_ref().map(|places| places.taken()), [0, 0]);
        let entered = search.enter(&0, seeker());
        assert!(entered.is_err_and(|(_, error)| error.reason().contains("has ended")));
    }

    /// The host was looked for once more meanwhile, by somebody who was told with the others.
    #[test]
    fn who_was_told_already_does_not_hold_up_the_line() {
        let mut search: Search<usize> = Search::new([Places::new(9), Places::new(9)]);
        for host in 0..2 {
            assert!(search.enter(&host, seeker()).is_ok());
        }
        search.seekers.remove(&0);
        assert_eq!(search.next().map(|(host, _)| host), Some(1));
        assert!(search.next().is_none());
        assert_eq!(search.looking, 1);
    }
}
