//! Calls, promises and mailboxes within one vat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use shuttle::rand::{Rng, thread_rng};

use super::{Held, World, all_succeed, call, calls, content};
use crate::cap::calling::{Call, Time};
use crate::cap::local_promise::LocalPromise;
use crate::cap::object::Concurrency;
use crate::cap::promise::promise;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::sync::{explore, thread};
use crate::tests::actor::acknowledge;
use crate::tests::net::{INTERFACE, METHOD};
use crate::wire::Hint;
use crate::work::executor::{Executor, Job, Refused};
use crate::work::pool::{Pool, PoolConfig};

#[test]
fn a_call_is_answered_while_others_wait_pipeline_and_lose_interest() {
    explore(|| {
        let world = World::default();
        let (target, result) = world.witness();
        let held = Held::default();
        let own = held.clone();
        let (_, client) = world.object(Concurrency::Serial, move |call| own.put(call));
        let pending = call(&client, 0, &[]);
        let (waits, gives_up) = (pending.clone(), pending.clone());
        world.spawn(move || drop(gives_up));
        let waiter = thread::spawn(move || waits.wait().map(drop));
        world.spawn(move || {
            held.take().respond(Ok(content::results(0, &[result])));
        });
        let field = pending.pipelined(&[0]);
        drop(pending);
        all_succeed(&calls(&field, 1, 3));
        assert!(waiter.join().unwrap().is_ok());
        target.assert_saw(1, 3);
        drop((field, client));
        world.finish();
    });
}

#[test]
fn a_call_that_nobody_wants_any_more_ends_whatever_comes_first() {
    explore(|| {
        let world = World::default();
        let (target, result) = world.witness();
        let hooks = Arc::new(AtomicUsize::new(0));
        let cancelled = Arc::new(AtomicBool::new(false));
        let (hook, seen_cancelled) = (Arc::clone(&hooks), Arc::clone(&cancelled));
        // Does not run if the call is cancelled before.
        let (_, client) = world.object(Concurrency::Serial, move |call| {
            let hook = Arc::clone(&hook);
            call.on_cancel(move || {
                hook.fetch_add(1, Ordering::SeqCst);
            });
            seen_cancelled.store(call.is_cancelled(), Ordering::SeqCst);
            call.respond(Ok(content::results(0, &[result.clone()])));
        });
        let pending = call(&client, 0, &[]);
        let field = pending.pipelined(&[0]);
        world.spawn(move || {
            let piped = calls(&field, 1, 2);
            drop((field, piped));
        });
        world.spawn(move || drop(pending));
        world.settle();
        let (ran, cancelled) = (hooks.load(Ordering::SeqCst), cancelled.load(Ordering::SeqCst));
        assert!(ran <= 1 && (ran == 1 || !cancelled), "the hook ran {ran} times");
        let seen = target.seen();
        assert!(seen.is_sorted() && seen.len() <= 2, "{seen:?}");
        drop(client);
        assert_eq!(Arc::strong_count(&hooks), 1, "the hook has gone");
        world.finish();
    });
}

/// The method waits for a call that is not answered before it gives up.
#[test]
fn a_method_that_waits_hears_that_its_call_is_cancelled() {
    explore(|| {
        let world = World::default();
        let held = Held::default();
        let own = held.clone();
        let (_, never) = world.object(Concurrency::Serial, move |call| own.put(call));
        let ends = Arc::new(AtomicUsize::new(0));
        let end = Arc::clone(&ends);
        let (_, client) = world.object(Concurrency::Serial, move |incoming| {
            incoming.allow_cancellation();
            if call(&never, 0, &[]).wait().is_err() {
                end.fetch_add(1, Ordering::SeqCst);
            }
        });
        let pending = call(&client, 0, &[]);
        drop(client);
        let unwanted = pending.clone();
        world.spawn(move || drop(unwanted));
        // Begun, so that it runs to its end.
        let kept = held.take();
        drop(pending);
        world.settle();
        assert_eq!(ends.load(Ordering::SeqCst), 1);
        drop((kept, held));
        world.finish();
    });
}

#[test]
fn a_pipeline_that_is_given_out_early_takes_the_calls_in_order() {
    explore(|| {
        let world = World::default();
        let (target, result) = world.witness();
        let held = Held::default();
        let own = held.clone();
        let (_, client) = world.object(Concurrency::Serial, move |call| own.put(call));
        let pending = call(&client, 0, &[]);
        let callers = [1, 2].map(|caller| {
            let pending = pending.clone();
            thread::spawn(move || all_succeed(&calls(&pending.pipelined(&[0]), caller, 2)))
        });
        let answer = held.take();
        answer.set_pipeline(content::results(0, &[result.clone()]));
        answer.respond(Ok(content::results(0, &[result])));
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        target.assert_saw(1, 2);
        target.assert_saw(2, 2);
        drop((client, pending));
        world.finish();
    });
}

#[test]
fn calls_through_a_promise_arrive_in_order_while_it_is_resolved() {
    explore(|| {
        let world = World::default();
        let (target, object) = world.witness();
        let (outer, resolve_outer) = promise();
        let (inner, resolve_inner) = promise();
        world.spawn(move || resolve_outer.fulfill(inner));
        world.spawn(move || resolve_inner.fulfill(object));
        let callers = [1, 2].map(|caller| {
            let promised = outer.clone();
            thread::spawn(move || {
                let made = calls(&promised, caller, 2);
                // What is resolved is shorter, but not faster.
                let rest = promised.resolve().unwrap();
                let last = call(&rest, caller * 100 + 2, &[]);
                all_succeed(&made);
                all_succeed(&[last]);
            })
        });
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        target.assert_saw(1, 3);
        target.assert_saw(2, 3);
        drop(outer);
        world.finish();
    });
}

#[test]
fn calls_that_wait_in_a_promise_are_cancelled_or_arrive() {
    explore(|| {
        let world = World::default();
        let (target, object) = world.witness();
        let (promised, fulfiller) = promise();
        let caller = thread::spawn(move || {
            let mut made = calls(&promised, 1, 4);
            drop(promised);
            let unwanted = made.remove(1);
            drop(unwanted);
            all_succeed(&made);
        });
        fulfiller.fulfill(object);
        caller.join().unwrap();
        let seen = target.seen();
        assert!([&[100, 101, 102, 103][..], &[100, 102, 103]].contains(&&*seen), "{seen:?}");
        world.finish();
    });
}

/// The call goes from one queue to the next while it is cancelled.
#[test]
fn a_call_that_is_cancelled_between_two_promises_waits_in_neither() {
    explore(|| {
        let world = World::default();
        let (param, client) = world.witness();
        let (outer, resolve_outer) = promise();
        let (inner, resolve_inner) = promise();
        let pending = call(&outer, 0, &[client]);
        world.spawn(move || resolve_outer.fulfill(inner));
        world.spawn(move || drop(pending));
        world.settle();
        assert_eq!(param.0.drops.load(Ordering::SeqCst), 1, "nobody has the parameters");
        drop((outer, resolve_inner));
        world.finish();
    });
}

#[test]
fn a_promise_that_is_given_up_fails_every_call() {
    explore(|| {
        let world = World::default();
        let (promised, fulfiller) = promise();
        world.spawn(move || drop(fulfiller));
        for pending in calls(&promised, 1, 3) {
            assert!(pending.wait().is_err());
        }
        assert!(promised.resolve().is_err());
        world.finish();
    });
}

#[test]
fn two_promises_that_are_resolved_to_each_other_at_once_fail() {
    explore(|| {
        let world = World::default();
        let (one, resolve_one) = promise();
        let (two, resolve_two) = promise();
        let pending = call(&one, 1, &[]);
        world.spawn(move || resolve_one.fulfill(two));
        world.spawn(move || resolve_two.fulfill(one));
        assert!(pending.wait().is_err());
        drop(pending);
        world.finish();
    });
}

#[test]
fn a_promise_nobody_refers_to_any_more_is_freed() {
    explore(|| {
        let world = World::default();
        let (_, object) = world.witness();
        let promised = LocalPromise::new(None);
        let client = crate::cap::client::Client::of(Arc::clone(&promised));
        let weak = Arc::downgrade(&promised);
        let pending = call(&client, 1, &[]);
        world.spawn(move || drop(client));
        world.spawn(move || drop(pending));
        promised.resolve(object);
        drop(promised);
        world.settle();
        assert_eq!(weak.strong_count(), 0);
        world.finish();
    });
}

#[test]
fn a_mailbox_runs_each_call_once_and_one_at_a_time() {
    for concurrency in [Concurrency::Serial, Concurrency::Inline] {
        explore(move || {
            let world = World::default();
            let (target, client) = world.object(concurrency, crate::tests::actor::acknowledge);
            let callers = [1, 2, 3].map(|caller| {
                let client = client.clone();
                thread::spawn(move || all_succeed(&calls(&client, caller, 2)))
            });
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            (1..=3).for_each(|caller| target.assert_saw(caller, 2));
            drop(client);
            world.finish();
        });
    }
}

/// Has a worker for every other job.
#[derive(Default)]
struct Busy {
    world: World,
    asked: AtomicUsize,
}

impl Executor for Busy {
    fn spawn(&self, job: Job) -> Result<(), Refused> {
        if self.asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return Err(Refused { job, error: Error::overloaded("busy") });
        }
        self.world.spawn(move || job.run());
        Ok(())
    }
}

#[test]
fn a_call_that_no_worker_is_there_for_is_answered_all_the_same() {
    struct Answers;
    impl crate::cap::object::Dispatch for Answers {
        fn dispatch(&self, call: crate::cap::incoming_call::IncomingCall) {
            crate::tests::actor::acknowledge(call);
        }

        fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
            self
        }
    }
    for concurrency in [Concurrency::Serial, Concurrency::Concurrent] {
        explore(move || {
            let busy = Arc::new(Busy::default());
            let executor = Arc::clone(&busy) as Arc<dyn Executor>;
            let object =
                crate::cap::object::LocalObject::new(Arc::new(Answers), concurrency, executor);
            let client = crate::cap::client::Client::of(object);
            let callers = [1, 2, 3].map(|caller| {
                let client = client.clone();
                thread::spawn(move || {
                    for pending in calls(&client, caller, 2) {
                        if let Err(error) = pending.wait() {
                            assert_eq!(error.kind(), Error::overloaded("").kind());
                        }
                    }
                })
            });
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            busy.world.settle();
        });
    }
}

/// Threads that run their own calls (Note [own calls]), and one that leaves its calls to
/// workers, of which there may be too few.
#[test]
fn callers_and_workers_run_each_call_once_and_in_turn() {
    explore(|| {
        let world = World::default();
        let pool = Pool::new(
            "model".to_owned(),
            PoolConfig {
                max_workers: thread_rng().gen_range(1..=2),
                // Looking for what is stuck is not part of the model.
                patience: std::time::Duration::MAX,
                ..PoolConfig::default()
            },
        );
        let concurrency = match thread_rng().gen_range(0..3) {
            0 => Concurrency::Concurrent,
            _ => Concurrency::Serial,
        };
        let callers = Arc::new(std::sync::Mutex::new(Vec::new()));
        let known = Arc::clone(&callers);
        let (object, client) = world.object_on(Arc::clone(&pool) as _, concurrency, move |call| {
            let caller = content::label(call.params()) / 100;
            for (thread, own) in &*known.lock().unwrap() {
                assert!(
                    *thread != thread::current().id() || *own == caller,
                    "a thread that waits runs a call of another one"
                );
            }
            shuttle::thread::yield_now();
            acknowledge(call);
        });
        for caller in 1..=2 {
            let (client, callers) = (client.clone(), Arc::clone(&callers));
            world.spawn(move || {
                callers.lock().unwrap().push((thread::current().id(), caller));
                for number in 0..2 {
                    let params = content::params(caller * 100 + number, &[]);
                    let (interface_id, method_id) = (INTERFACE, METHOD);
                    let call = Call { interface_id, method_id, params, hint: Hint::None };
                    client.finish(call, Time::Default).unwrap();
                }
            });
        }
        all_succeed(&calls(&client, 3, 2));
        world.settle();
        assert!(pool.close(Deadline::NEVER));
        match concurrency {
            Concurrency::Concurrent => assert_eq!(object.seen().len(), 6),
            _ => (1..=3).for_each(|caller| object.assert_saw(caller, 2)),
        }
        drop(client);
        world.finish();
    });
}
