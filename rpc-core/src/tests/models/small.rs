//! What is small enough for every interleaving to be tried.

use std::sync::Arc;

use crate::cap::client::Client;
use crate::cap::local_promise::LocalPromise;
use crate::cap::watch::{Observer, Watcher};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, explore_all, thread};
use crate::work::origin::Origin;
use crate::work::room::{Asker, Room};
use crate::work::waiting::{self, Waiters};

#[derive(Default)]
struct State {
    things: usize,
    waiters: Waiters,
}

impl State {
    fn take(state: &Mutex<State>) {
        let taken = waiting::park(
            state,
            |state| &mut state.waiters,
            Deadline::NEVER,
            |state, _| {
                state.things = state.things.checked_sub(1)?;
                Some(())
            },
        );
        assert_eq!(taken, Some(()));
    }

    fn give(state: &Mutex<State>) {
        let mut guard = state.lock();
        guard.things += 1;
        let called = guard.waiters.call_first();
        drop(guard);
        called.wake_now();
    }
}

/// No call is lost, whether it comes before the thread looks, before it sleeps or afterwards.
#[test]
fn a_thread_that_waits_is_woken() {
    explore_all(|| {
        let state = Arc::new(Mutex::new(State::default()));
        let taker = Arc::clone(&state);
        let taker = thread::spawn(move || State::take(&taker));
        State::give(&state);
        taker.join().unwrap();
        assert!(state.lock().waiters.is_empty());
    });
}

#[test]
fn a_place_that_is_given_back_goes_to_whoever_waits() {
    explore_all(|| {
        let room = Room::new(Origin::LOCAL, 1, 10);
        let taken = room.try_take().unwrap();
        let other = Arc::clone(&room);
        let other = thread::spawn(move || {
            drop(other.wait(Asker::Application, Deadline::NEVER).unwrap());
        });
        drop(taken);
        other.join().unwrap();
        assert!(room.try_take().is_some());
    });
}

#[test]
fn whoever_waits_for_a_place_hears_of_the_end() {
    explore_all(|| {
        let room = Room::new(Origin::LOCAL, 1, 10);
        let taken = room.try_take().unwrap();
        let other = Arc::clone(&room);
        let other = thread::spawn(move || {
            other.wait(Asker::Application, Deadline::NEVER).map(drop).unwrap_err();
        });
        room.close(Error::disconnected("the end"));
        other.join().unwrap();
        drop(taken);
    });
}

#[derive(Default)]
struct Told(AtomicUsize);

impl Observer for Told {
    fn tell(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whoever begins to watch a promise while it resolves is told, or refused, and not both.
#[test]
fn a_promise_tells_who_watches_it() {
    explore_all(|| {
        let promise = LocalPromise::new(None);
        let told = Arc::new(Told::default());
        let (watched, observer) = (Arc::clone(&promise), Arc::clone(&told));
        let watching = thread::spawn(move || {
            let observer: Arc<dyn Observer> = observer;
            let watcher = Watcher::Observer(Arc::downgrade(&observer));
            Client::of(watched).watch(watcher).is_err()
        });
        promise.resolve(Client::null());
        let refused = watching.join().unwrap();
        assert_eq!(told.0.load(Ordering::SeqCst) + usize::from(refused), 1);
    });
}
