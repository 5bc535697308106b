//! Threads that connections share, under the scheduler of Note [models].
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::attendants::{Attendants, Resident};
use super::super::turns::TurnQueue;
use crate::deadline::Deadline;
use crate::sync::{Mutex, explore, thread};
use crate::work::event::Event;
use crate::work::pool::{Pool, PoolConfig};

pub(super) fn attendants() -> Arc<Attendants> {
    Arc::new(Attendants::new("model".into(), &Pool::new("model".into(), PoolConfig::default())))
}

/// A resident without work.
pub(super) struct Nothing;

impl Resident for Nothing {
    fn attend(&self) {}
}

/// Work that is done in the order in which it came.
#[derive(Default)]
struct Desk {
    waiting: Mutex<VecDeque<usize>>,
    done: Mutex<Vec<usize>>,
    all: Event,
}

const ITEMS: usize = 3;

impl Resident for Arc<Desk> {
    fn attend(&self) {
        let mut done = self.done.try_lock().expect("one attendant at a time");
        loop {
            let Some(item) = self.waiting.lock().pop_front() else { break };
            done.push(item);
        }
        if done.len() == ITEMS {
            self.all.set();
        }
    }
}

#[test]
fn whatever_is_called_for_is_attended_to_by_one_at_a_time() {
    explore(|| {
        let attendants = attendants();
        let desks: Vec<Arc<Desk>> = (0..2).map(|_| Arc::default()).collect();
        let member = attendants.admit(1);
        let duties = member
            .enter(Box::new(Arc::clone(&desks[0])), Box::new(Arc::clone(&desks[1])), None)
            .unwrap();
        let helped = duties.coordinating.clone();
        let callers: Vec<_> = desks
            .iter()
            .zip([duties.coordinating, duties.sending])
            .flat_map(|(desk, summons)| {
                (0..ITEMS).map(move |item| (Arc::clone(desk), summons.clone(), item))
            })
            .map(|(desk, summons, item)| {
                thread::spawn(move || {
                    desk.waiting.lock().push_back(item);
                    summons.call();
                })
            })
            .collect();
        // Another thread may do what nobody has begun.
        helped.attend();
        desks.iter().for_each(|desk| assert!(desk.all.park(Deadline::NEVER)));
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        drop(member);
        assert!(attendants.close(Deadline::NEVER));
    });
}

/// The resident of a queue that attendants consume.
struct Consumer {
    queue: Arc<TurnQueue<usize, ()>>,
    seen: Arc<Desk>,
}

fn consume(queue: &TurnQueue<usize, ()>, seen: &Desk) {
    let Some(mut turn) = queue.take_over() else { return };
    loop {
        let mut done = seen.done.try_lock().expect("one has the turn");
        done.extend(turn.taken.drain(..));
        if done.len() == ITEMS {
            seen.all.set();
        }
        drop(done);
        match turn.finish() {
            Ok(()) => return,
            Err(more) => turn = more,
        }
    }
}

impl Resident for Consumer {
    fn attend(&self) {
        consume(&self.queue, &self.seen);
    }
}

#[test]
fn every_turn_that_is_handed_over_is_taken_over() {
    explore(|| {
        let attendants = attendants();
        let (queue, seen) = (Arc::new(TurnQueue::new(())), Arc::new(Desk::default()));
        let consumer = Consumer { queue: Arc::clone(&queue), seen: Arc::clone(&seen) };
        let member = attendants.admit(1);
        let duties = member.enter(Box::new(Nothing), Box::new(consumer), None).unwrap();
        queue.share(duties.sending);
        let producers: Vec<_> = (0..ITEMS)
            .map(|item| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    queue.push(item);
                    if let Some(turn) = queue.claim() {
                        turn.hand_over();
                    }
                })
            })
            .collect();
        assert!(seen.all.park(Deadline::NEVER));
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        drop(member);
        assert!(attendants.close(Deadline::NEVER));
    });
}

#[test]
fn whatever_is_due_is_done_before_the_attendants_have_ended() {
    explore(|| {
        let attendants = attendants();
        let desk = Arc::<Desk>::default();
        let member = attendants.admit(1);
        let duties = member.enter(Box::new(Arc::clone(&desk)), Box::new(Nothing), None).unwrap();
        desk.waiting.lock().push_back(0);
        duties.coordinating.call();
        assert!(attendants.close(Deadline::NEVER));
        assert_eq!(*desk.done.lock(), [0]);
        drop(member);
    });
}

/// Is held up, as by a peer that does not read.
#[derive(Default)]
struct HeldUp {
    begun: Event,
    goes_on: Event,
}

impl Resident for Arc<HeldUp> {
    fn attend(&self) {
        self.begun.set();
        self.goes_on.park(Deadline::NEVER);
    }
}

#[test]
fn one_stays_beside_those_that_are_held_up() {
    explore(|| {
        let attendants = attendants();
        let (held, desk) = (Arc::<HeldUp>::default(), Arc::<Desk>::default());
        let member = attendants.admit(1);
        let duties =
            member.enter(Box::new(Arc::clone(&held)), Box::new(Arc::clone(&desk)), None).unwrap();
        duties.coordinating.call();
        held.begun.park(Deadline::NEVER);
        desk.waiting.lock().extend(0..ITEMS);
        duties.sending.call();
        desk.all.park(Deadline::NEVER);
        for _ in 0..ITEMS {
            thread::yield_now();
            assert!(attendants.number() > 1);
        }
        held.goes_on.set();
        drop(member);
        assert!(attendants.close(Deadline::NEVER));
    });
}
