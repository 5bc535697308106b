//! The parker, in every interleaving of its thread with those that unpark it.
//!
//! A thread that sleeps when nobody is going to unpark it any more is a deadlock, which the
//! scheduler finds.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use super::atomic::{AtomicUsize, Ordering};
use super::thread;
use super::{Parker, Polled, Signal, Unparker, explore, explore_all, explore_chances};
use crate::deadline::Deadline;

/// What other threads do for the one that sleeps: each adds one, and unparks it.
#[derive(Clone, Default)]
struct Done(Arc<AtomicUsize>);

impl Done {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn add(&self, sleeper: &Unparker) {
        self.0.fetch_add(1, Ordering::SeqCst);
        sleeper.unpark();
    }
}

/// Runs `sleeper` on a thread, with as many others that unpark it once each.
fn unparked_by(others: usize, sleeper: impl FnOnce(&Parker, &Done) + Send + 'static) {
    let (parker, done) = (Parker::new(), Done::default());
    let (unparker, own) = (parker.unparker(), done.clone());
    let sleeper = thread::spawn(move || sleeper(&parker, &own));
    let others: Vec<_> = (1..others)
        .map(|_| {
            let (unparker, done) = (unparker.clone(), done.clone());
            thread::spawn(move || done.add(&unparker))
        })
        .collect();
    done.add(&unparker);
    sleeper.join().unwrap();
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// In a model it passes at any moment.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(1))
}

fn park_until(parker: &Parker, done: &Done, count: usize) {
    while done.count() < count {
        assert!(!parker.park(Deadline::NEVER));
    }
}

#[test]
fn a_thread_that_parks_learns_of_every_unpark() {
    for others in [1, 2] {
        explore_all(move || {
            unparked_by(others, move |parker, done| park_until(parker, done, others));
        });
    }
}

/// Unparks a thread twice, one after the other.
fn unparked_twice(sleeper: impl FnOnce(&Parker, &Done) + Send + 'static) {
    let (parker, done) = (Parker::new(), Done::default());
    let (unparker, own) = (parker.unparker(), done.clone());
    let sleeper = thread::spawn(move || sleeper(&parker, &own));
    done.add(&unparker);
    done.add(&unparker);
    sleeper.join().unwrap();
}

fn poll_until(parker: &Parker, done: &Done, count: usize) {
    let signal = Arc::<Signal>::default();
    while done.count() < count {
        assert_eq!(parker.poll(&signal, Deadline::NEVER, 0), Polled::Unparked);
    }
}

#[test]
fn a_thread_that_polls_learns_of_every_unpark() {
    explore_all(|| unparked_by(1, |parker, done| poll_until(parker, done, 1)));
    explore_all(|| unparked_twice(|parker, done| poll_until(parker, done, 2)));
    // There are 603,269 interleavings of these.
    explore(|| unparked_by(2, |parker, done| poll_until(parker, done, 2)));
}

/// A ring that comes late wakes the thread without a reason at most.
#[test]
fn a_thread_that_polls_and_then_parks_learns_of_both_unparks() {
    explore_all(|| {
        unparked_twice(|parker, done| {
            poll_until(parker, done, 1);
            park_until(parker, done, 2);
        });
    });
}

/// Whatever the thread does between two sleeps, it finds out that it was unparked meanwhile.
#[test]
fn a_thread_that_runs_finds_out_that_it_was_unparked() {
    for others in [1, 2] {
        explore_all(move || {
            unparked_by(others, move |parker, done| {
                let mut seen = 0;
                while seen < others {
                    // A thread that reads looks in between.
                    let is_unparked = parker.is_unparked();
                    let was_unparked = parker.was_unparked();
                    assert!(was_unparked || !is_unparked, "it stays unparked until it looks");
                    if !was_unparked {
                        assert!(!parker.park(Deadline::NEVER));
                    }
                    let now = done.count();
                    assert!(now > seen || !was_unparked, "it was unparked for something");
                    seen = now;
                }
            });
        });
    }
}

/// A reader that polls, beside a thread that sends to it once and unparks it once.
fn polled_beside_something_to_read(sends_first: bool, deadline: Deadline) {
    let (parker, done, signal) = (Parker::new(), Done::default(), Arc::<Signal>::default());
    let (unparker, own, line) = (parker.unparker(), done.clone(), Arc::clone(&signal));
    let reader = thread::spawn(move || {
        let (mut read, mut unparked) = (false, false);
        // The thread looks at what it was unparked for only when it is told so.
        while !(read && unparked) {
            match parker.poll(&line, deadline, 0) {
                Polled::Readable => {
                    assert!(!std::mem::replace(&mut read, true), "there is nothing to read");
                    line.set_readable(false);
                }
                Polled::Unparked => unparked |= own.count() == 1,
                Polled::Late => assert_ne!(deadline, Deadline::NEVER),
                Polled::Unable => unreachable!("there is a bell"),
            }
        }
    });
    if sends_first {
        signal.set_readable(true);
    }
    done.add(&unparker);
    if !sends_first {
        signal.set_readable(true);
    }
    reader.join().unwrap();
}

#[test]
fn a_thread_that_polls_learns_of_what_there_is_to_read_and_of_the_unpark() {
    for sends_first in [true, false] {
        explore_all(move || polled_beside_something_to_read(sends_first, Deadline::NEVER));
        explore(move || polled_beside_something_to_read(sends_first, soon()));
    }
}

/// The deadline of one sleep has nothing to do with the next one.
#[test]
fn a_thread_whose_time_is_over_is_still_unparked_later() {
    explore_chances(2, || {
        unparked_by(1, |parker, done| {
            let late = parker.park(soon());
            assert!(late || done.count() == 1, "nobody has woken it");
            park_until(parker, done, 1);
        });
    });
    explore_chances(1, || {
        unparked_by(1, |parker, done| {
            let signal = Arc::<Signal>::default();
            let polled = parker.poll(&signal, soon(), 0);
            assert!(polled == Polled::Late || done.count() == 1, "nobody has woken it");
            park_until(parker, done, 1);
        });
    });
}
