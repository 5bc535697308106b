//! A network of vats for tests, in which each vat can introduce those that it knows.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::deadline::TimeLimit;
use crate::error::Error;
use crate::protocol::Machine;
use crate::protocol::handoff::meetings::{Key, Meetings, Shown};
use crate::protocol::handoff::{Acceptance, EarlyCalls, Found, Introduction, Neighbour, Seeker};
use crate::sync::Mutex;
use crate::transport::introductions::Uses;
use crate::wire::Token;

/// The number of a vat in its network.
pub(super) type VatNumber = u8;

/// How often a host was found, in all networks: a test of handoffs without any would be no
/// test.
pub(super) static FOUND: AtomicU64 = AtomicU64::new(0);

/// How often a contact was passed on, and how often a vat was told that it is the host, in all
/// networks.
pub(super) static FORWARDED: AtomicU64 = AtomicU64::new(0);
pub(super) static AT_HOME: AtomicU64 = AtomicU64::new(0);

/// What is provided under a nonce that is this, or a greater number, in one byte, may be
/// fetched once.
pub(super) const ONCE: u8 = 200;

/// The last byte of a token that was passed on.
const PASSED_ON: u8 = 0xff;

/// The size of the number in a token.
const NONCE: usize = 8;

/// The network.
#[derive(Default)]
pub(super) struct Neighbourhood {
    /// The machines by their own vat and that of the peer.
    links: Mutex<HashMap<(VatNumber, VatNumber), Weak<Machine>>>,
    meetings: Mutex<HashMap<VatNumber, Arc<Meetings>>>,
    nonce: AtomicU64,
    /// Whether nobody can be introduced.
    pub(super) closed: AtomicBool,
    pub(super) eager: AtomicBool,
    /// Whether contacts are passed on.
    pub(super) forwards: AtomicBool,
    /// Whether calls follow an Accept at once.
    pub(super) pipelines: AtomicBool,
    /// Whether the links that are made from now on pass file descriptors.
    pub(super) passing_fds: AtomicBool,
    /// How many contacts were passed on.
    pub(super) forwarded: AtomicU64,
    /// Whether those who look for a host have to wait until the test lets one go on.
    pub(super) slow: AtomicBool,
    looking: Mutex<VecDeque<Box<dyn FnOnce() + Send>>>,
    /// How long anybody waits. Walks have no clock.
    pub(super) patience: Mutex<TimeLimit>,
}

/// One connection in the network.
struct Door {
    network: Arc<Neighbourhood>,
    own: VatNumber,
    peer: VatNumber,
    meetings: Arc<Meetings>,
}

impl Neighbourhood {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What the machine of a vat gets whose peer is another one.
    pub(super) fn door(self: &Arc<Self>, own: VatNumber, peer: VatNumber) -> Arc<dyn Neighbour> {
        let meetings = Arc::clone(self.meetings.lock().entry(own).or_default());
        Arc::new(Door { network: Arc::clone(self), own, peer, meetings })
    }

    /// Enters the machine that got this.
    pub(super) fn enter(&self, own: VatNumber, peer: VatNumber, machine: &Arc<Machine>) {
        self.links.lock().insert((own, peer), Arc::downgrade(machine));
    }

    pub(super) fn passes_fds(&self) -> bool {
        self.passing_fds.load(Ordering::SeqCst)
    }

    /// Lets the one that has looked for its host the longest go on.
    pub(super) fn find_one(&self) -> bool {
        let next = self.looking.lock().pop_front();
        next.is_some_and(|next| {
            next();
            true
        })
    }

    /// Whether nothing is provided anywhere, and nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.looking.lock().is_empty()
            && self.meetings.lock().values().all(|meetings| meetings.is_empty())
    }

    /// How many have come to a vat and wait.
    pub(super) fn waiting_at(&self, vat: VatNumber) -> usize {
        self.meetings.lock().get(&vat).map_or(0, |meetings| meetings.hosts_that_wait())
    }

    /// As if the time were over for all who have come somewhere and wait.
    pub(super) fn end_waits(&self) {
        let all: Vec<_> = self.meetings.lock().values().cloned().collect();
        all.into_iter().for_each(|meetings| meetings.end_waits());
    }

    fn machine(&self, own: VatNumber, peer: VatNumber) -> Option<Arc<Machine>> {
        let machine = self.links.lock().get(&(own, peer)).and_then(Weak::upgrade)?;
        (!machine.room().is_closed()).then_some(machine)
    }
}

impl Door {
    /// Tells a seeker what is found. If it has to look once more, the test lets it.
    fn tell(self: Arc<Self>, contact: Token, seeker: Box<dyn Seeker>) {
        if let Some(seeker) = seeker.found(self.find(&contact)) {
            let network = Arc::clone(&self.network);
            network.looking.lock().push_back(Box::new(move || self.tell(contact, seeker)));
        }
    }

    /// Called without a lock.
    fn find(&self, contact: &Token) -> Result<Found, Error> {
        let Contact { host, introducer, nonce, passed_on } = Contact::read(contact)?;
        let (sender, completion) = match passed_on {
            None => (introducer, token(&[&[introducer], &nonce])),
            Some((first, by)) => (by, token(&[&[introducer], &nonce, &[first, PASSED_ON]])),
        };
        if sender != self.peer {
            return Err(Error::failed("the contact is of somebody else"));
        }
        if host == self.own {
            AT_HOME.fetch_add(1, Ordering::SeqCst);
            return Ok(Found::Here(self.shown_by(self.own, &completion)?));
        }
        let machine = self.network.machine(self.own, host);
        let machine = machine.ok_or_else(|| Error::disconnected("the host is not reached"))?;
        FOUND.fetch_add(1, Ordering::SeqCst);
        Ok(Found::Host(machine as _, completion))
    }

    fn shown_by(&self, recipient: VatNumber, completion: &Token) -> Result<Shown, Error> {
        let [introducer, rest @ ..] = &*read(completion)? else { return Err(malformed()) };
        let machine = self.network.machine(self.own, *introducer);
        let machine = machine.ok_or_else(|| Error::disconnected("the introducer is gone"))?;
        let (nonce, first) = match rest.split_at_checked(NONCE) {
            // A network for more than tests would want a proof.
            Some((nonce, &[first, PASSED_ON])) => (nonce, first),
            _ => (rest, recipient),
        };
        let key = [&[*introducer, first], nonce].concat().into();
        let introducer = Some(Arc::downgrade(machine.room()));
        let uses = if matches!(nonce, [ONCE..=u8::MAX]) { Uses::Once } else { Uses::Any };
        Ok(Shown { key, introducer, uses })
    }
}

/// The way to a host.
struct Contact {
    host: VatNumber,
    introducer: VatNumber,
    nonce: Vec<u8>,
    /// Whom it was made for, and who has passed it on last.
    passed_on: Option<(VatNumber, VatNumber)>,
}

impl Contact {
    fn read(contact: &Token) -> Result<Self, Error> {
        let [host, introducer, rest @ ..] = &*read(contact)? else { return Err(malformed()) };
        let (nonce, passed_on) = match rest.split_at_checked(NONCE) {
            Some((nonce, &[first, by, PASSED_ON])) => (nonce, Some((first, by))),
            _ => (rest, None),
        };
        let (host, introducer, nonce) = (*host, *introducer, nonce.to_vec());
        Ok(Contact { host, introducer, nonce, passed_on })
    }

    fn token(self) -> Token {
        let Contact { host, introducer, nonce, passed_on } = self;
        let passed_on = passed_on.map(|(first, by)| vec![first, by, PASSED_ON]);
        token(&[&[host, introducer], &nonce, &passed_on.unwrap_or_default()])
    }
}

fn token(parts: &[&[u8]]) -> Token {
    Token::of_bytes(&parts.concat()).unwrap()
}

fn read(token: &Token) -> Result<Vec<u8>, Error> {
    token.bytes().ok_or_else(malformed)
}

fn malformed() -> Error {
    Error::failed("a malformed token")
}

impl Neighbour for Door {
    fn introduce_to(&self, host: &dyn Neighbour) -> Option<Introduction> {
        let host = (host as &dyn Any).downcast_ref::<Door>()?;
        if self.network.closed.load(Ordering::SeqCst) || self.peer == host.peer {
            return None;
        }
        assert_eq!(self.own, host.own, "an introduction between two vats");
        let nonce = self.network.nonce.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        Some(Introduction {
            contact: token(&[&[host.peer, self.own], &nonce]),
            awaited: token(&[&[self.peer], &nonce]),
        })
    }

    fn forward(&self, introducer: &dyn Neighbour, contact: &Token) -> Option<Token> {
        let introducer = (introducer as &dyn Any).downcast_ref::<Door>()?;
        let network = &self.network;
        let off = |flag: &AtomicBool| !flag.load(Ordering::SeqCst);
        if network.closed.load(Ordering::SeqCst) || off(&network.forwards) {
            return None;
        }
        let contact = Contact::read(contact).ok()?;
        if contact.nonce.len() != NONCE {
            return None;
        }
        assert_eq!(contact.passed_on.map_or(contact.introducer, |(_, by)| by), introducer.peer);
        FORWARDED.fetch_add(1, Ordering::SeqCst);
        network.forwarded.fetch_add(1, Ordering::SeqCst);
        let first = contact.passed_on.map_or(self.own, |(first, _)| first);
        Some(Contact { passed_on: Some((first, self.own)), ..contact }.token())
    }

    fn reach(self: Arc<Self>, contact: Token, seeker: Box<dyn Seeker>) {
        let network = Arc::clone(&self.network);
        let find = move || self.tell(contact, seeker);
        if network.slow.load(Ordering::SeqCst) {
            network.looking.lock().push_back(Box::new(find));
        } else {
            find();
        }
    }

    fn awaited(&self, awaited: &Token) -> Result<Key, Error> {
        let [recipient, nonce @ ..] = &*read(awaited)? else { return Err(malformed()) };
        Ok([&[self.peer, *recipient], nonce].concat().into())
    }

    fn shown(&self, completion: &Token) -> Result<Shown, Error> {
        self.shown_by(self.peer, completion)
    }

    fn meetings(&self) -> &Arc<Meetings> {
        &self.meetings
    }

    fn acceptance(&self) -> Acceptance {
        if self.network.eager.load(Ordering::SeqCst) { Acceptance::Eager } else { Acceptance::Lazy }
    }

    fn early_calls(&self) -> EarlyCalls {
        let follow = self.network.pipelines.load(Ordering::SeqCst);
        if follow { EarlyCalls::Follow } else { EarlyCalls::Wait }
    }

    fn patience(&self) -> TimeLimit {
        *self.network.patience.lock()
    }

    fn ended(&self) {}
}
