//! Endpoints that are connected by pipes whose every move is decided by dice.

mod moves;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::super::Piece;
use super::super::peer::{Connect, Peer, Refusal, Rules};
use crate::address::EndpointAddress;
use crate::parameters::Dialect;
use crate::trace::{Dice, Trace};
use crate::wire::{DialectTerms, Stamp, Terms};

/// Who created it on which pipe, and its number there.
pub(super) type Key = (usize, usize, u32);

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) trace: Trace<Key>,
    pub(super) ends: Vec<End>,
    pipes: Vec<Pipe>,
    /// Connects that wait for a peer to change.
    connecting: Vec<Connecting>,
    /// Dials that arrived and wait.
    arriving: Vec<Arriving>,
    /// Connections that can be sent on.
    pub(super) open: Vec<(Key, PeerRef)>,
    now: u64,
    serial: u64,
    value: u64,
    /// Something happened that may cost connections.
    pub(super) disturbed: bool,
    pub(super) lost: usize,
    log: Vec<String>,
}

pub(super) struct End {
    address: EndpointAddress,
    registry: BTreeMap<EndpointAddress, PeerRef>,
    pub(super) is_closed: bool,
    events: VecDeque<Event>,
    dialect: Dialect,
}

type PeerRef = Rc<RefCell<Cell>>;

/// A peer with what a shell has around it.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Cell {
    peer: Peer,
    owner: usize,
    address: EndpointAddress,
    /// The pipe and its side once connected.
    pipe: Option<(usize, usize)>,
    /// Its writer has ended.
    shut: bool,
    /// How often those who wait were woken.
    wakes: usize,
    heard: bool,
    /// Dialled, and now it is the other's turn.
    yielded: bool,
    was_lost: bool,
    assembling: HashMap<u32, Vec<u8>>,
}

enum Event {
    Opened(Key, PeerRef),
    Received(Key, PeerRef, Vec<u8>),
    Closed(Key, PeerRef),
    Lost(Vec<Key>),
    EndpointClosed,
}

#[derive(Debug)]
enum Item {
    Hello { to: usize, from: EndpointAddress, terms: DialectTerms },
    Accepted(DialectTerms),
    Crossed,
    Invalid,
    Piece(Piece),
    Fin,
}

struct Pipe {
    /// What travels to side 0 and to side 1.
    to: [VecDeque<Item>; 2],
    readers: [Option<PeerRef>; 2],
    dialler: Option<PeerRef>,
    is_broken: bool,
    terms: DialectTerms,
}

struct Connecting {
    from: usize,
    to: usize,
    peer: PeerRef,
    /// The peer's wakes when it began to wait.
    seen: usize,
}

struct Arriving {
    pipe: usize,
    ticket: u64,
    to: usize,
    from: EndpointAddress,
    terms: DialectTerms,
    peer: PeerRef,
    seen: usize,
}

const RULES: Rules = Rules {
    max_message: 1 << 20,
    max_connections: 1000,
    max_events: 40,
    receive_queue: 64 << 10,
    max_held: 4 << 20,
    heartbeat: 1000,
    patience: 1000,
    probes_older: false,
    linger: 1000,
};

impl World {
    pub(super) fn new(dice: Dice, count: usize) -> Self {
        let mut world = World {
            dice,
            trace: Trace::new(),
            ends: Vec::new(),
            pipes: Vec::new(),
            connecting: Vec::new(),
            arriving: Vec::new(),
            open: Vec::new(),
            now: 0,
            serial: 0,
            value: 0,
            disturbed: false,
            lost: 0,
            log: Vec::new(),
        };
        for _ in 0..count {
            world.new_end();
        }
        world
    }

    pub(super) fn new_end(&mut self) {
        let dialects = [Dialect::Original, Dialect::Versioned, Dialect::Multiplexed];
        let dialect = dialects[self.dice.below(3)];
        let address = EndpointAddress::new("host", 1, u32::try_from(self.ends.len()).unwrap());
        self.log.push(format!("endpoint {address} dials in {dialect:?}"));
        self.ends.push(End {
            address,
            registry: BTreeMap::new(),
            is_closed: false,
            events: VecDeque::new(),
            dialect,
        });
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.log.push(what());
    }

    pub(super) fn print_log(&self) {
        for line in &self.log {
            println!("{line}");
        }
    }

    // What applications do.

    pub(super) fn connect(&mut self, from: usize, to: usize) {
        if from == to || self.ends[from].is_closed {
            return;
        }
        self.note(|| format!("{from} connects to {to}"));
        let peer = self.find_or_dial(from, to);
        self.go_on_connecting(Connecting { from, to, peer, seen: 0 });
    }

    fn find_or_dial(&mut self, from: usize, to: usize) -> PeerRef {
        let address = self.ends[to].address.clone();
        if let Some(peer) = self.ends[from].registry.get(&address) {
            return peer.clone();
        }
        let peer = self.new_cell(from, address.clone(), Peer::dialling(RULES));
        self.ends[from].registry.insert(address, peer.clone());
        self.dial(&peer);
        peer
    }

    fn dial(&mut self, peer: &PeerRef) {
        let (from, address) = (peer.borrow().owner, peer.borrow().address.clone());
        let to = self.ends.iter().position(|end| end.address == address).unwrap();
        peer.borrow_mut().yielded = false;
        let terms = self.terms(self.ends[from].dialect);
        let hello = Item::Hello { to, from: self.ends[from].address.clone(), terms };
        self.pipes.push(Pipe {
            to: [VecDeque::new(), VecDeque::from([hello])],
            readers: [None, None],
            dialler: Some(peer.clone()),
            is_broken: false,
            terms,
        });
    }

    /// Dials again where the peer's dial was expected, see Note [dialling again];
    /// `false` if that is nowhere.
    pub(super) fn dial_again(&mut self) -> bool {
        let mut all = self.ends.iter().flat_map(|end| end.registry.values());
        let yielded = |peer: &&PeerRef| peer.borrow().yielded && peer.borrow().peer.is_init();
        let Some(peer) = all.find(yielded).cloned() else { return false };
        self.note(|| "a dial is repeated".to_owned());
        self.dial(&peer);
        true
    }

    fn new_cell(&self, owner: usize, address: EndpointAddress, peer: Peer) -> PeerRef {
        let _ = self;
        Rc::new(RefCell::new(Cell {
            peer,
            owner,
            address,
            pipe: None,
            shut: false,
            wakes: 0,
            heard: false,
            yielded: false,
            was_lost: false,
            assembling: HashMap::new(),
        }))
    }

    fn terms(&mut self, dialect: Dialect) -> DialectTerms {
        self.serial += 1;
        match dialect {
            Dialect::Original => DialectTerms::Original,
            Dialect::Versioned => DialectTerms::Versioned,
            Dialect::Multiplexed => DialectTerms::Multiplexed(Terms {
                stamp: Stamp { incarnation: 1, serial: self.serial },
                window: RULES.receive_queue,
                max_message: RULES.max_message,
            }),
        }
    }

    fn go_on_connecting(&mut self, mut connecting: Connecting) {
        loop {
            if self.ends[connecting.from].is_closed {
                return;
            }
            let mut out = Vec::new();
            let answer = connecting.peer.borrow_mut().peer.connect(&mut out);
            let Connecting { from, to, peer, .. } = &connecting;
            let (from, to) = (*from, *to);
            let owner = peer.clone();
            self.perform(&owner, out);
            match answer {
                Connect::Connected(lcid) => {
                    let (pipe, side) = owner.borrow().pipe.unwrap();
                    let key = (pipe, side, lcid);
                    self.note(|| format!("{from} is connected to {to} as {key:?}"));
                    self.trace.connected(key, from, to);
                    self.open.push((key, owner));
                    return;
                }
                Connect::Wait => {
                    connecting.seen = connecting.peer.borrow().wakes;
                    self.connecting.push(connecting);
                    return;
                }
                Connect::Gone => connecting.peer = self.find_or_dial(from, to),
                Connect::Refused(_) => {
                    self.note(|| format!("{from} could not connect to {to}"));
                    assert!(self.disturbed, "a connect failed");
                    return;
                }
            }
        }
    }

    pub(super) fn send(&mut self, which: usize) {
        let (key, peer) = self.open[which].clone();
        self.value += 1;
        let mut message = self.value.to_be_bytes().to_vec();
        if self.dice.one_in(10) {
            message.resize(8 + self.dice.below(300 << 10), 7);
        }
        let limit = 16 << 10;
        let answer = peer.borrow_mut().peer.send(key.2, &Arc::new(message), limit);
        match answer {
            Ok(()) => {
                let value = self.value;
                self.trace.sent(&key, value);
            }
            Err(Refusal::Full) => {}
            Err(Refusal::Failed(_)) => assert!(self.disturbed, "{key:?} failed"),
            Err(Refusal::Closed) => panic!("{key:?} is closed"),
        }
    }

    pub(super) fn close(&mut self, which: usize) {
        let (key, peer) = self.open.swap_remove(which);
        self.note(|| format!("{key:?} is closed"));
        self.trace.closed(&key);
        self.step(&peer, |peer, out| peer.close(key.2, out));
    }

    pub(super) fn close_end(&mut self, end: usize) {
        if std::mem::replace(&mut self.ends[end].is_closed, true) {
            return;
        }
        self.disturbed = true;
        self.note(|| format!("{end} is closed"));
        let peers: Vec<_> = self.ends[end].registry.values().cloned().collect();
        for peer in peers {
            self.step(&peer, Peer::shut_down);
        }
        self.ends[end].events.push_back(Event::EndpointClosed);
        self.open.retain(|(_, peer)| peer.borrow().owner != end);
    }

    /// The application takes an event; `false` if there is none.
    pub(super) fn receive(&mut self, end: usize) -> bool {
        let Some(event) = self.ends[end].events.pop_front() else { return false };
        match event {
            Event::Opened(key, peer) => {
                peer.borrow_mut().peer.event_taken();
                self.trace.opened(end, &key);
            }
            Event::Received(key, peer, message) => {
                peer.borrow_mut().peer.message_taken(key.2, message.len());
                let value = u64::from_be_bytes(message[..8].try_into().unwrap());
                assert!(message[8..].iter().all(|byte| *byte == 7));
                self.trace.received(end, &key, value);
            }
            Event::Closed(key, peer) => {
                peer.borrow_mut().peer.event_taken();
                self.trace.ended(end, &key);
            }
            Event::Lost(keys) => {
                self.trace.lost(end, &keys);
                self.lost += 1;
            }
            Event::EndpointClosed => self.trace.endpoint_closed(end),
        }
        true
    }

    // What must hold when nothing moves any more.

    pub(super) fn check_rest(&self) {
        assert!(self.connecting.is_empty(), "somebody connects for ever");
        assert!(self.arriving.is_empty(), "a dial waits for ever");
        for key in self.trace.keys() {
            let (from, to) = self.trace.ends_of(key);
            if !self.disturbed {
                assert!(!self.ends[from].is_closed && !self.ends[to].is_closed);
                self.trace.check_complete(key);
            }
        }
        for end in &self.ends {
            for peer in end.registry.values() {
                assert!(!peer.borrow().peer.is_dead(), "a dead peer in a registry");
            }
        }
    }

    pub(super) fn check_nothing_left(&self) {
        for (index, end) in self.ends.iter().enumerate() {
            let left = end.registry.values().map(|peer| format!("{:?}", peer.borrow().peer));
            let left: Vec<_> = left.collect();
            assert!(left.is_empty(), "{index} has {left:?}");
        }
    }
}

impl Cell {
    /// An incoming connection.
    fn key(&self, lcid: u32) -> Key {
        let (pipe, side) = self.pipe.unwrap();
        (pipe, 1 - side, lcid)
    }
}
