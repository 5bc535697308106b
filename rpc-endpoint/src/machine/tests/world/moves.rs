//! What the network and the threads of endpoints do.

use std::rc::Rc;

use super::super::super::Piece;
use super::super::super::peer::{Dialled, HangUp, Inbound, Output, Peer};
use super::{Arriving, Event, Item, Key, PeerRef, RULES, World};
use crate::address::EndpointAddress;
use crate::error::Unreached;
use crate::wire::{Control, DialectTerms, Stamp, Terms};

impl World {
    /// Cuts a pipe; some of what is under way is lost.
    pub(in super::super) fn cut(&mut self, which: usize) {
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
    pub(in super::super) fn advance(&mut self) -> bool {
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
        let is_woken = |peer: &PeerRef, seen| peer.borrow().wakes > seen;
        let connecting: Vec<_> = (0..self.connecting.len())
            .filter(|i| is_woken(&self.connecting[*i].peer, self.connecting[*i].seen))
            .collect();
        let arriving: Vec<_> = (0..self.arriving.len())
            .filter(|i| is_woken(&self.arriving[*i].peer, self.arriving[*i].seen))
            .collect();
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
    pub(in super::super) fn expire(&mut self) -> bool {
        if self.dial_again() {
            assert!(self.disturbed, "a dial waited for one that does not come");
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

    pub(in super::super) fn tick(&mut self) {
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

    pub(super) fn deliver(&mut self, pipe: usize, side: usize) {
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
                let Some(peer) = self.pipes[pipe].dialler.take() else { return };
                let mut out = Vec::new();
                let next = peer.borrow_mut().peer.dial_crossed(&mut out);
                peer.borrow_mut().yielded = next == Dialled::TheirTurn;
                self.perform(&peer, out);
            }
            Item::Invalid => {
                assert!(self.disturbed);
                self.dial_failed(pipe, Unreached::failed("invalid"));
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
                    self.dial_failed(pipe, Unreached::failed("the end"));
                }
            }
        }
    }

    pub(super) fn dial_failed(&mut self, pipe: usize, error: Unreached) {
        let Some(peer) = self.pipes[pipe].dialler.take() else { return };
        let mut out = Vec::new();
        let next = peer.borrow_mut().peer.dial_failed(error, &mut out);
        peer.borrow_mut().yielded = next == Dialled::TheirTurn;
        self.perform(&peer, out);
    }

    pub(super) fn arrive(
        &mut self,
        pipe: usize,
        ticket: u64,
        to: usize,
        from: EndpointAddress,
        terms: DialectTerms,
    ) {
        if self.pipes[pipe].is_broken {
            // Whoever has waited with it gives up.
            if let Some(peer) = self.ends[to].registry.get(&from) {
                peer.borrow_mut().peer.inbound_gave_up(ticket);
            }
            return;
        }
        if self.ends[to].is_closed {
            self.reply(pipe, Item::Invalid);
            return;
        }
        let Some(peer) = self.ends[to].registry.get(&from).cloned() else {
            let reply = self.serial.to_be_bytes();
            let peer = Peer::accepting(RULES, terms, reply.to_vec(), self.now);
            let peer = self.new_cell(to, from.clone(), peer);
            self.ends[to].registry.insert(from, peer.clone());
            self.attach(&peer, pipe, 1);
            return;
        };
        let we_yield = self.ends[to].address > from;
        let (now, mut out) = (self.now, Vec::new());
        let reply = self.serial.to_be_bytes();
        let answer = peer.borrow_mut().peer.inbound(we_yield, ticket, terms, &reply, now, &mut out);
        if answer == Inbound::Accepted {
            self.attach(&peer, pipe, 1);
        }
        self.perform(&peer, out);
        match answer {
            Inbound::Accepted => {}
            Inbound::Crossed => self.reply(pipe, Item::Crossed),
            Inbound::Wait => {
                let seen = peer.borrow().wakes;
                self.arriving.push(Arriving { pipe, ticket, to, from, terms, peer, seen });
            }
            Inbound::Gone => {
                self.arrive(pipe, ticket, to, from, terms);
            }
        }
    }

    pub(super) fn reply(&mut self, pipe: usize, item: Item) {
        if !self.pipes[pipe].is_broken {
            self.pipes[pipe].to[0].push_back(item);
        }
    }

    pub(super) fn attach(&mut self, peer: &PeerRef, pipe: usize, side: usize) {
        peer.borrow_mut().pipe = Some((pipe, side));
        self.pipes[pipe].readers[side] = Some(peer.clone());
    }

    pub(super) fn hang_up(&mut self, pipe: usize, side: usize) {
        let pipe = &mut self.pipes[pipe];
        pipe.to[side].clear();
        if !pipe.is_broken {
            pipe.to[1 - side].push_back(Item::Fin);
        }
        pipe.is_broken = true;
    }

    pub(super) fn write(&mut self, peer: &PeerRef) {
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
            Piece::Reply(serial) => Item::Accepted(answered(terms, &serial)),
            piece => Item::Piece(piece),
        }));
        if peer.borrow().peer.is_written() {
            peer.borrow_mut().shut = true;
            queue.push_back(Item::Fin);
        }
    }

    pub(super) fn read(&mut self, peer: &PeerRef, piece: Piece) {
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

    pub(super) fn step(&mut self, peer: &PeerRef, step: impl FnOnce(&mut Peer, &mut Vec<Output>)) {
        let mut out = Vec::new();
        step(&mut peer.borrow_mut().peer, &mut out);
        self.perform(peer, out);
    }

    pub(super) fn perform(&mut self, peer: &PeerRef, out: Vec<Output>) {
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
                Output::Contested(_) => continue,
                Output::Wake => {
                    peer.borrow_mut().wakes += 1;
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
}

/// The terms of the one who accepts, which differ from the dialler's in when they
/// were said.
fn answered(terms: DialectTerms, serial: &[u8]) -> DialectTerms {
    match terms {
        DialectTerms::Multiplexed(terms) => {
            let serial = u64::from_be_bytes(serial.try_into().unwrap());
            let stamp = Stamp { serial, ..terms.stamp };
            DialectTerms::Multiplexed(Terms { stamp, ..terms })
        }
        older => older,
    }
}
