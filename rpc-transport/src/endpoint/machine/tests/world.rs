//! Endpoints that are connected by pipes whose every move is decided by dice.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::super::Piece;
use super::super::peer::{Connect, Dialled, HangUp, Inbound, Output, Peer, Refusal, Rules};
use crate::endpoint::address::EndPointAddress;
use crate::endpoint::error::ConnectError;
use crate::endpoint::parameters::Dialect;
use crate::endpoint::trace::{Dice, Trace};
use crate::endpoint::wire::{Control, DialectTerms, Stamp, Terms};

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
    address: EndPointAddress,
    registry: BTreeMap<EndPointAddress, PeerRef>,
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
    address: EndPointAddress,
    /// The pipe and its side once connected.
    pipe: Option<(usize, usize)>,
    /// Its writer has ended.
    shut: bool,
    woken: bool,
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
    EndPointClosed,
}

#[derive(Debug)]
enum Item {
    Hello { to: usize, from: EndPointAddress, terms: DialectTerms },
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
}

struct Arriving {
    pipe: usize,
    ticket: u64,
    to: usize,
    from: EndPointAddress,
    terms: DialectTerms,
    peer: PeerRef,
}

const RULES: Rules = Rules {
    max_message: 1 << 20,
    max_connections: 1000,
    max_events: 40,
    receive_queue: 64 << 10,
    heartbeat: 1000,
    patience: 1000,
    linger: 1000,
};

impl World {
    pub(super) fn new(seed: u64, count: usize) -> Self {
        let mut world = World {
            dice: Dice::new(seed),
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
        let address = EndPointAddress::new("host", 1, u32::try_from(self.ends.len()).unwrap());
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
        self.go_on_connecting(Connecting { from, to, peer });
    }

    fn find_or_dial(&mut self, from: usize, to: usize) -> PeerRef {
        let address = self.ends[to].address.clone();
        if let Some(peer) = self.ends[from].registry.get(&address) {
            return peer.clone();
        }
        let peer = self.new_cell(from, address.clone(), Peer::dialling(RULES));
        self.ends[from].registry.insert(address, peer.clone());
        let terms = self.terms(self.ends[from].dialect);
        let hello = Item::Hello { to, from: self.ends[from].address.clone(), terms };
        self.pipes.push(Pipe {
            to: [VecDeque::new(), VecDeque::from([hello])],
            readers: [None, None],
            dialler: Some(peer.clone()),
            is_broken: false,
            terms,
        });
        peer
    }

    fn new_cell(&self, owner: usize, address: EndPointAddress, peer: Peer) -> PeerRef {
        let _ = self;
        Rc::new(RefCell::new(Cell {
            peer,
            owner,
            address,
            pipe: None,
            shut: false,
            woken: false,
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
            let Connecting { from, to, peer } = &connecting;
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
                    connecting.peer.borrow_mut().woken = false;
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
        self.ends[end].events.push_back(Event::EndPointClosed);
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
            Event::EndPointClosed => self.trace.endpoint_closed(end),
        }
        true
    }

    // What the network does.

    /// Cuts a pipe; some of what is under way is lost.
    pub(super) fn cut(&mut self, which: usize) {
        if self.pipes.is_empty() {
            return;
        }
        let which = which % self.pipes.len();
        self.disturbed = true;
        self.note(|| format!("pipe {which} is cut"));
        for side in 0..2 {
            let queue = &mut self.pipes[which].to[side];
            let keep = self.dice.below(queue.len() + 1);
            queue.truncate(keep);
            if !matches!(queue.back(), Some(Item::Fin)) {
                queue.push_back(Item::Fin);
            }
        }
        self.pipes[which].is_broken = true;
    }

    /// Moves one thing that can move; `false` if nothing can.
    pub(super) fn advance(&mut self) -> bool {
        let mut moves: Vec<(usize, usize)> = Vec::new();
        for (index, pipe) in self.pipes.iter().enumerate() {
            for side in 0..2 {
                let paused = pipe.readers[side]
                    .as_ref()
                    .is_some_and(|reader| reader.borrow().peer.must_pause());
                if !pipe.to[side].is_empty() && !paused {
                    moves.push((index, side));
                }
            }
        }
        let writers: Vec<PeerRef> = self
            .pipes
            .iter()
            .flat_map(|pipe| pipe.readers.iter().flatten())
            .filter(|peer| {
                let cell = peer.borrow();
                !cell.shut && (cell.peer.has_work() || cell.peer.is_written())
            })
            .cloned()
            .collect();
        let woken = |peer: &PeerRef| peer.borrow().woken;
        let connecting: Vec<_> =
            (0..self.connecting.len()).filter(|i| woken(&self.connecting[*i].peer)).collect();
        let arriving: Vec<_> =
            (0..self.arriving.len()).filter(|i| woken(&self.arriving[*i].peer)).collect();
        let total = moves.len() + writers.len() + connecting.len() + arriving.len();
        if total == 0 {
            return false;
        }
        let mut choice = self.dice.below(total);
        if choice < moves.len() {
            self.deliver(moves[choice].0, moves[choice].1);
            return true;
        }
        choice -= moves.len();
        if choice < writers.len() {
            self.write(&writers[choice]);
            return true;
        }
        choice -= writers.len();
        if choice < connecting.len() {
            let connecting = self.connecting.swap_remove(connecting[choice]);
            self.go_on_connecting(connecting);
            return true;
        }
        let arriving = self.arriving.swap_remove(arriving[choice - connecting.len()]);
        self.arrive(arriving.pipe, arriving.ticket, arriving.to, arriving.from, arriving.terms);
        true
    }

    /// Lets the deadline of somebody who waits pass; `false` if nobody waits.
    pub(super) fn expire(&mut self) -> bool {
        let dialler = self.pipes.iter().find_map(|pipe| {
            let dialler = pipe.dialler.as_ref()?;
            let cell = dialler.borrow();
            (cell.yielded && cell.peer.is_init()).then(|| dialler.clone())
        });
        if let Some(peer) = dialler {
            assert!(self.disturbed, "a dial waits for one that does not come");
            self.note(|| "a dial is given up".to_owned());
            self.step(&peer, |peer, out| peer.dial_given_up(ConnectError::timeout(), out));
            return true;
        }
        if let Some(arriving) = self.arriving.pop() {
            self.note(|| format!("the arrival on {} is given up", arriving.pipe));
            arriving.peer.borrow_mut().peer.inbound_gave_up(arriving.ticket);
            self.reply(arriving.pipe, Item::Crossed);
            return true;
        }
        false
    }

    pub(super) fn tick(&mut self) {
        self.now += 400;
        let peers: Vec<_> =
            self.pipes.iter().flat_map(|pipe| pipe.readers.iter().flatten()).cloned().collect();
        for peer in peers {
            let now = self.now;
            let paused = peer.borrow().peer.must_pause();
            let heard = std::mem::take(&mut peer.borrow_mut().heard) || paused;
            self.step(&peer, |peer, out| peer.tick(now, heard, out));
        }
    }

    fn deliver(&mut self, pipe: usize, side: usize) {
        let item = self.pipes[pipe].to[side].pop_front().unwrap();
        match item {
            Item::Hello { to, from, terms } => {
                self.serial += 1;
                let ticket = self.serial;
                self.arrive(pipe, ticket, to, from, terms);
            }
            Item::Accepted(terms) => {
                let Some(peer) = self.pipes[pipe].dialler.take() else { return };
                let (now, mut out) = (self.now, Vec::new());
                if peer.borrow_mut().peer.dial_accepted(terms, now, &mut out) {
                    self.attach(&peer, pipe, side);
                } else {
                    self.hang_up(pipe, side);
                }
                self.perform(&peer, out);
            }
            Item::Crossed => {
                let Some(peer) = self.pipes[pipe].dialler.clone() else { return };
                let mut out = Vec::new();
                let next = peer.borrow_mut().peer.dial_crossed(&mut out);
                peer.borrow_mut().yielded = next == Dialled::TheirTurn;
                self.perform(&peer, out);
            }
            Item::Invalid => {
                assert!(self.disturbed);
                self.dial_failed(pipe, ConnectError::failed("invalid"));
            }
            Item::Piece(piece) => {
                if let Some(peer) = self.pipes[pipe].readers[side].clone() {
                    peer.borrow_mut().heard = true;
                    self.read(&peer, piece);
                }
            }
            Item::Fin => {
                if let Some(peer) = self.pipes[pipe].readers[side].clone() {
                    self.step(&peer, |peer, out| peer.broken("the end".to_owned(), out));
                } else if side == 0 {
                    self.dial_failed(pipe, ConnectError::failed("the end"));
                }
            }
        }
    }

    fn dial_failed(&mut self, pipe: usize, error: ConnectError) {
        let Some(peer) = self.pipes[pipe].dialler.clone() else { return };
        if peer.borrow().yielded {
            return;
        }
        let mut out = Vec::new();
        let next = peer.borrow_mut().peer.dial_failed(error, &mut out);
        peer.borrow_mut().yielded = next == Dialled::TheirTurn;
        self.perform(&peer, out);
    }

    fn arrive(
        &mut self,
        pipe: usize,
        ticket: u64,
        to: usize,
        from: EndPointAddress,
        terms: DialectTerms,
    ) {
        if self.pipes[pipe].is_broken {
            return;
        }
        if self.ends[to].is_closed {
            self.reply(pipe, Item::Invalid);
            return;
        }
        let Some(peer) = self.ends[to].registry.get(&from).cloned() else {
            let reply = Vec::new();
            let peer = Peer::accepting(RULES, terms, reply, self.now);
            let peer = self.new_cell(to, from.clone(), peer);
            self.ends[to].registry.insert(from, peer.clone());
            self.attach(&peer, pipe, 1);
            return;
        };
        let we_yield = self.ends[to].address > from;
        let (now, mut out) = (self.now, Vec::new());
        let answer = peer.borrow_mut().peer.inbound(we_yield, ticket, terms, &[], now, &mut out);
        if answer == Inbound::Accepted {
            self.attach(&peer, pipe, 1);
        }
        self.perform(&peer, out);
        match answer {
            Inbound::Accepted => {}
            Inbound::Crossed => self.reply(pipe, Item::Crossed),
            Inbound::Wait => {
                peer.borrow_mut().woken = false;
                self.arriving.push(Arriving { pipe, ticket, to, from, terms, peer });
            }
            Inbound::Gone => {
                self.arrive(pipe, ticket, to, from, terms);
            }
        }
    }

    fn reply(&mut self, pipe: usize, item: Item) {
        if !self.pipes[pipe].is_broken {
            self.pipes[pipe].to[0].push_back(item);
        }
    }

    fn attach(&mut self, peer: &PeerRef, pipe: usize, side: usize) {
        peer.borrow_mut().pipe = Some((pipe, side));
        self.pipes[pipe].readers[side] = Some(peer.clone());
    }

    fn hang_up(&mut self, pipe: usize, side: usize) {
        let pipe = &mut self.pipes[pipe];
        pipe.to[side].clear();
        if !pipe.is_broken {
            pipe.to[1 - side].push_back(Item::Fin);
        }
        pipe.is_broken = true;
    }

    fn write(&mut self, peer: &PeerRef) {
        let (pipe, side) = peer.borrow().pipe.unwrap();
        let mut pieces = Vec::new();
        let budget = 1 + self.dice.below(100 << 10);
        peer.borrow_mut().peer.take(budget, self.now, &mut pieces);
        if self.pipes[pipe].is_broken {
            peer.borrow_mut().shut = true;
            self.step(peer, |peer, out| peer.broken("cannot write".to_owned(), out));
            return;
        }
        let terms = self.pipes[pipe].terms;
        let queue = &mut self.pipes[pipe].to[1 - side];
        queue.extend(pieces.into_iter().map(|piece| match piece {
            Piece::Reply(_) => Item::Accepted(terms),
            piece => Item::Piece(piece),
        }));
        if peer.borrow().peer.is_written() {
            peer.borrow_mut().shut = true;
            queue.push_back(Item::Fin);
        }
    }

    fn read(&mut self, peer: &PeerRef, piece: Piece) {
        match piece {
            Piece::Reply(_) => unreachable!("a reply is no piece of a stream"),
            Piece::Control(control) => {
                if let Control::Close { lcid } = control {
                    peer.borrow_mut().assembling.remove(&lcid);
                }
                self.step(peer, |peer, out| peer.control(control, out));
            }
            Piece::Data { lcid, more, message, range } => {
                let mut out = Vec::new();
                let length = u32::try_from(range.len()).unwrap();
                let wanted = peer.borrow_mut().peer.data(lcid, length, more, &mut out);
                self.perform(peer, out);
                if !wanted {
                    return;
                }
                let mut cell = peer.borrow_mut();
                cell.assembling.entry(lcid).or_default().extend_from_slice(&message[range]);
                if more {
                    return;
                }
                let message = cell.assembling.remove(&lcid).unwrap();
                if cell.peer.message_arrived(lcid, message.len()) {
                    let key = cell.key(lcid);
                    self.ends[cell.owner].events.push_back(Event::Received(
                        key,
                        peer.clone(),
                        message,
                    ));
                }
            }
        }
    }

    fn step(&mut self, peer: &PeerRef, step: impl FnOnce(&mut Peer, &mut Vec<Output>)) {
        let mut out = Vec::new();
        step(&mut peer.borrow_mut().peer, &mut out);
        self.perform(peer, out);
    }

    fn perform(&mut self, peer: &PeerRef, out: Vec<Output>) {
        let owner = peer.borrow().owner;
        for output in out {
            let event = match output {
                Output::Opened(lcid) => Event::Opened(peer.borrow().key(lcid), peer.clone()),
                Output::Closed(lcid) => Event::Closed(peer.borrow().key(lcid), peer.clone()),
                Output::Lost(reason) => {
                    self.note(|| format!("{owner} lost a peer: {reason}"));
                    assert!(self.disturbed, "{reason}");
                    let mut cell = peer.borrow_mut();
                    assert!(!std::mem::replace(&mut cell.was_lost, true), "lost twice");
                    let (pipe, side) = cell.pipe.unwrap();
                    let of_it = |key: &&Key| key.0 == pipe && key.1 != side;
                    Event::Lost(self.trace.keys().filter(of_it).copied().collect())
                }
                Output::Leave => {
                    let address = peer.borrow().address.clone();
                    let removed = self.ends[owner].registry.remove(&address);
                    assert!(removed.is_some_and(|other| Rc::ptr_eq(&other, peer)));
                    continue;
                }
                Output::Wake => {
                    peer.borrow_mut().woken = true;
                    continue;
                }
                Output::HangUp(how) => {
                    let place = peer.borrow().pipe;
                    if let (HangUp::Now, Some((pipe, side))) = (how, place) {
                        peer.borrow_mut().shut = true;
                        self.hang_up(pipe, side);
                    }
                    continue;
                }
            };
            if !self.ends[owner].is_closed {
                self.ends[owner].events.push_back(event);
            }
        }
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
