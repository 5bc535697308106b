//! What is small enough for every interleaving to be tried.

use std::sync::Arc;
use std::time::Duration;

use crate::cap::client::Client;
use crate::cap::local_promise::LocalPromise;
use crate::cap::watch::{Observer, Watcher};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::protocol::{Machine, Offers, Outbox, Settings};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, explore_all, explore_switches, thread};
use crate::wire;
use crate::work::executor::{Executor as _, Job};
use crate::work::origin::Origin;
use crate::work::pool::{Pool, PoolConfig};
use crate::work::room::{Asker, Room};
use crate::work::waiting::{self, Waiters};

#[derive(Default)]
struct State {
    things: usize,
    waiters: Waiters,
}

impl State {
    fn take(state: &Mutex<State>) {
        assert!(Self::take_before(state, Deadline::NEVER));
    }

    fn take_before(state: &Mutex<State>, deadline: Deadline) -> bool {
        let taken = waiting::park(
            state,
            |state| &mut state.waiters,
            deadline,
            |state, _| {
                state.things = state.things.checked_sub(1)?;
                Some(())
            },
        );
        taken.is_some()
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

/// Each call is for one of them, and the other one stays in the list.
#[test]
fn two_threads_that_wait_are_woken_by_a_call_each() {
    explore_switches(3, 0, || {
        let state = Arc::new(Mutex::new(State::default()));
        let takers = [(); 2].map(|()| {
            let taker = Arc::clone(&state);
            thread::spawn(move || State::take(&taker))
        });
        State::give(&state);
        State::give(&state);
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert!(state.lock().waiters.is_empty());
    });
}

/// The thread is called while it gives up: it has the thing, or the thing is still there.
#[test]
fn a_thread_whose_time_is_over_leaves_the_list() {
    explore_switches(3, 2, || {
        let state = Arc::new(Mutex::new(State::default()));
        let taker = Arc::clone(&state);
        let taker = thread::spawn(move || State::take_before(&taker, soon()));
        State::give(&state);
        let taken = taker.join().unwrap();
        let state = state.lock();
        assert!(state.waiters.is_empty());
        assert_eq!(state.things, usize::from(!taken));
    });
}

/// In a model it passes at any moment.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(1))
}

/// What is given to a thread that gives up goes to the one behind it.
#[test]
fn a_place_that_is_given_to_a_thread_that_gives_up_is_not_lost() {
    explore_switches(2, 2, || {
        let room = Room::new(Origin::LOCAL, 1, 10);
        let taken = room.try_take().unwrap();
        let hasty = Arc::clone(&room);
        let hasty = thread::spawn(move || drop(hasty.wait(Asker::Application, soon())));
        let patient = Arc::clone(&room);
        let patient = thread::spawn(move || {
            drop(patient.wait(Asker::Application, Deadline::NEVER).unwrap());
        });
        drop(taken);
        hasty.join().unwrap();
        patient.join().unwrap();
        assert_eq!(room.in_line(), 0);
        assert!(room.try_take().is_some());
    });
}

/// Bytes leave the queue while a thread comes to wait for that.
#[test]
fn whoever_waits_for_bytes_to_leave_goes_on_when_they_have() {
    explore_all(|| {
        let room = Room::new(Origin::LOCAL, 2, 10);
        room.queued(10);
        let other = Arc::clone(&room);
        let other = thread::spawn(move || {
            drop(other.wait(Asker::Application, Deadline::NEVER).unwrap());
        });
        room.sent(10);
        other.join().unwrap();
        assert_eq!(room.questions(), 0);
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

/// Remembers the questions that were asked and not finished.
#[derive(Default)]
struct Asked {
    /// A single step of whoever looks.
    questions: std::sync::Mutex<Vec<u32>>,
}

impl Outbox for Asked {
    fn push(&self, message: wire::Message) {
        match message {
            wire::Message::Bootstrap(asked) => {
                let mut questions = self.questions.lock().unwrap();
                assert!(!questions.contains(&asked.question), "an id is used twice at once");
                questions.push(asked.question);
            }
            wire::Message::Finish(finish) => {
                self.questions.lock().unwrap().retain(|question| *question != finish.question);
            }
            _ => {}
        }
    }

    fn disconnected(&self) {}
}

/// One thread asks, while another gives up what it has asked for, and the answer to that comes.
#[test]
fn an_id_is_used_again_only_when_both_sides_are_done_with_it() {
    explore_switches(3, 0, || {
        let asked = Arc::new(Asked::default());
        let outbox = Arc::clone(&asked) as Arc<dyn Outbox>;
        let machine = Machine::new(Settings::default(), Offers::default(), outbox);
        let first = machine.bootstrap(None);
        let (own, answers) = (Arc::clone(&machine), Arc::clone(&machine));
        let asks = thread::spawn(move || own.bootstrap(None));
        let answered = thread::spawn(move || {
            let outcome = wire::ReturnKind::Exception(Error::failed("no"));
            answers.receive(wire::Message::Return(wire::Return {
                answer: 0,
                release_params: false,
                no_finish_needed: false,
                outcome,
            }));
        });
        drop(first);
        let second = asks.join().unwrap();
        answered.join().unwrap();
        assert_eq!(machine.check(), Ok(()));
        assert_eq!(asked.questions.lock().unwrap().len(), 1, "the second is under way");
        drop(second);
        assert_eq!(machine.check(), Ok(()));
    });
}

fn pool(max_workers: usize) -> Arc<Pool> {
    // Looking for what is stuck is not part of the models.
    let config = PoolConfig { max_workers, patience: Duration::MAX, ..PoolConfig::default() };
    Pool::new("model".to_owned(), config)
}

/// A job comes while the worker of the one before it looks for more, or leaves.
#[test]
fn a_worker_takes_what_comes_or_another_one_does() {
    explore_switches(3, 2, || {
        let pool = pool(1);
        let ran = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for _ in 0..2 {
            let ran = Arc::clone(&ran);
            let job = Job::closure(move || {
                ran.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            });
            assert!(pool.spawn(job).is_ok());
        }
        assert!(pool.close(Deadline::NEVER));
        assert_eq!(ran.load(std::sync::atomic::Ordering::SeqCst), 2);
    });
}

/// A job that comes while the pool closes is run, or refused.
#[test]
fn a_pool_that_closes_runs_what_it_has_taken() {
    explore_switches(3, 2, || {
        let pool = pool(1);
        let ran = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (own, outer) = (Arc::clone(&ran), Arc::clone(&pool));
        let user = thread::spawn(move || {
            let job = Job::closure(move || own.store(true, std::sync::atomic::Ordering::SeqCst));
            outer.spawn(job).is_ok()
        });
        assert!(pool.close(Deadline::NEVER));
        let taken = user.join().unwrap();
        assert_eq!(ran.load(std::sync::atomic::Ordering::SeqCst), taken);
    });
}
