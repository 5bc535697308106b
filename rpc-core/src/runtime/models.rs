//! The queue of turns, the threads that write, and the workers, under the scheduler of
//! Note [models].
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attendants;
mod both;
mod reading;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::rand::{Rng, thread_rng};

use super::exceptions::{Detail, ExceptionEncoder, TraceEncoder};
use super::sending::Sending;
use super::turns::{Turn, TurnQueue};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::limits::Limits;
use crate::protocol::{Machine, Offers, Outbox, Settings};
use crate::sync::{Mutex, explore, explore_all, thread};
use crate::tests::net::received;
use crate::transport::{MessageWriter, PeerDescription, TransportControl, TransportError};
use crate::wire;
use crate::wire::message::Message as Frame;
use crate::work::event::Event;
use crate::work::executor::{Calls, Executor, Job};
use crate::work::left;
use crate::work::origin::Origin;
use crate::work::pool::{Pool, PoolConfig};
use crate::work::role::{self, Pace};

#[test]
fn whoever_has_the_turn_takes_every_item_in_order_and_once() {
    const ITEMS: usize = 3;
    const PRODUCERS: usize = 2;
    type Seen = std::sync::Mutex<[usize; PRODUCERS]>;
    fn consume(mut turn: Turn<'_, (usize, usize), ()>, seen: &Seen, consuming: &Mutex<()>) {
        loop {
            let alone = consuming.try_lock().expect("only one has the turn");
            for (producer, item) in turn.taken.drain(..) {
                let mut seen = seen.lock().unwrap();
                assert_eq!(item, seen[producer]);
                seen[producer] += 1;
            }
            drop(alone);
            match turn.finish() {
                Ok(()) => return,
                Err(more) => turn = more,
            }
        }
    }
    explore(|| {
        let shared = Arc::new((TurnQueue::new(()), Seen::default(), Mutex::new(())));
        let own = Arc::clone(&shared);
        let resident = thread::spawn(move || {
            let (queue, seen, consuming) = &*own;
            while seen.lock().unwrap()[0] <= ITEMS {
                consume(queue.wait(), seen, consuming);
            }
        });
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let own = Arc::clone(&shared);
                thread::spawn(move || {
                    let (queue, seen, consuming) = &*own;
                    for item in 0..ITEMS {
                        queue.push((producer, item));
                        let turn = if thread_rng().r#gen() {
                            queue.claim()
                        } else {
                            queue.claim_or_leave(2)
                        };
                        let Some(turn) = turn else { continue };
                        if thread_rng().r#gen() {
                            turn.hand_over();
                        } else {
                            consume(turn, seen, consuming);
                        }
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        // The last item is the resident's, so that its loop ends.
        let (queue, seen, _) = &*shared;
        queue.push((0, ITEMS));
        let turn =
            if thread_rng().r#gen() { queue.claim() } else { queue.claim_or_leave(usize::MAX) };
        if let Some(turn) = turn {
            turn.hand_over();
        }
        resident.join().unwrap();
        assert_eq!(*seen.lock().unwrap(), [ITEMS + 1, ITEMS]);
    });
}

/// In every interleaving of the resident and one other thread.
#[test]
fn the_resident_takes_what_is_handed_over_or_left() {
    for leaves in [false, true] {
        explore_all(move || {
            let queue = Arc::new(TurnQueue::new(()));
            let own = Arc::clone(&queue);
            let resident = thread::spawn(move || {
                let mut turn = own.wait();
                assert_eq!(std::mem::take(&mut turn.taken), [0]);
                assert!(turn.finish().is_ok());
            });
            queue.push(0);
            let turn = if leaves { queue.claim_or_leave(1) } else { queue.claim() };
            if let Some(turn) = turn {
                turn.hand_over();
            }
            resident.join().unwrap();
        });
    }
}

/// What a scripted transport was given.
#[derive(Default)]
struct Written {
    ids: std::sync::Mutex<Vec<u32>>,
    ends: AtomicUsize,
    shutdowns: AtomicUsize,
    writing: Mutex<()>,
}

/// Takes some of a batch at once, and breaks after a given number of messages.
struct Scripted {
    written: Arc<Written>,
    left: usize,
    broken: bool,
}

impl Scripted {
    fn take(&mut self, batch: &mut Vec<Frame>, count: usize) -> Result<(), TransportError> {
        let _alone = self.written.writing.try_lock().expect("one thread writes at a time");
        if self.broken {
            return Err(TransportError::Truncated);
        }
        for frame in batch.drain(..count) {
            if self.left == 0 {
                self.broken = true;
                return Err(TransportError::Truncated);
            }
            self.left -= 1;
            let wire::Message::Release(release) = wire::decode(received(&frame)).unwrap() else {
                panic!("nothing else was sent");
            };
            self.written.ids.lock().unwrap().push(release.id);
        }
        Ok(())
    }
}

impl MessageWriter for Scripted {
    fn write(&mut self, batch: &mut Vec<Frame>) -> Result<(), TransportError> {
        self.take(batch, batch.len())
    }

    fn try_write(&mut self, batch: &mut Vec<Frame>) -> Result<bool, TransportError> {
        let count = thread_rng().gen_range(0..=batch.len());
        self.take(batch, count)?;
        Ok(batch.is_empty())
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        self.written.ends.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct Control(Arc<Written>);

impl TransportControl for Control {
    fn shutdown(&self) {
        self.0.shutdowns.fetch_add(1, Ordering::SeqCst);
    }

    fn peer(&self) -> PeerDescription {
        PeerDescription::default()
    }
}

struct NoOutbox;

impl Outbox for NoOutbox {
    fn push(&self, _: wire::Message) {}

    fn disconnected(&self) {}
}

/// A connection's way out, and what was queued on it.
struct Out {
    sending: Arc<Sending>,
    machine: Arc<Machine>,
    /// Locked while a message is queued, as the order lock is.
    queued: Mutex<Vec<u32>>,
}

impl Out {
    fn new(written: &Arc<Written>, left: usize) -> Arc<Self> {
        let exceptions =
            ExceptionEncoder::new(Detail::Hidden, TraceEncoder::default(), &Limits::default());
        let writer = Scripted { written: Arc::clone(written), left, broken: false };
        let control = Arc::new(Control(Arc::clone(written)));
        let sending = Arc::new(Sending::new(Box::new(writer), control, exceptions));
        let machine = Machine::new(Settings::default(), Offers::default(), Arc::new(NoOutbox));
        if thread_rng().r#gen() {
            sending.allow_leaving(machine.room());
        }
        Arc::new(Out { sending, machine, queued: Mutex::default() })
    }

    fn push(&self, id: u32) {
        let message = wire::Message::Release(wire::Release { id, count: 1 });
        let mut queued = self.queued.lock();
        queued.push(id);
        self.machine.room().queued(message.size_estimate());
        self.sending.push(message);
    }

    /// Queues a few messages, as a thread that waits now and then does, or one that
    /// serves a connection.
    fn use_it(&self, first: u32) {
        for id in first..first + 2 {
            if thread_rng().r#gen() {
                role::set_pace(Pace::Calm);
            }
            self.push(id);
            self.sending.wake(&self.machine);
            if thread_rng().r#gen() {
                left::write();
            }
        }
        let held = self.sending.hold(&self.machine);
        for id in first + 2..first + 4 {
            self.push(id);
            self.sending.wake(&self.machine);
        }
        drop(held);
    }
}

/// Two threads send and a third one is the send thread. Returns what was queued.
fn send_all(written: &Arc<Written>, left: usize) -> Vec<u32> {
    let out = Out::new(written, left);
    let own = Arc::clone(&out);
    let resident = thread::spawn(move || own.sending.run(&own.machine));
    let users = [10, 20].map(|first| {
        let own = Arc::clone(&out);
        thread::spawn(move || own.use_it(first))
    });
    users.into_iter().for_each(|user| user.join().unwrap());
    out.sending.end();
    assert!(out.sending.done().park(Deadline::NEVER));
    resident.join().unwrap();
    assert_eq!(out.machine.room().bytes(), 0);
    let broken = written.shutdowns.load(Ordering::SeqCst) > 0;
    assert_eq!(out.sending.failure().is_some(), broken);
    out.queued.lock().clone()
}

#[test]
fn what_is_queued_is_written_in_order_and_once_by_whoever_writes() {
    explore(|| {
        let written = Arc::new(Written::default());
        let queued = send_all(&written, usize::MAX);
        assert_eq!(*written.ids.lock().unwrap(), queued);
        assert_eq!(written.ends.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn the_send_thread_ends_when_a_write_fails_and_nothing_comes_after_the_failure() {
    explore(|| {
        let written = Arc::new(Written::default());
        let left = thread_rng().gen_range(0..8);
        let queued = send_all(&written, left);
        assert_eq!(*written.ids.lock().unwrap(), queued[..left]);
        assert_eq!(written.shutdowns.load(Ordering::SeqCst), 1);
    });
}

fn pool(max_workers: usize) -> Arc<Pool> {
    pool_with(PoolConfig { max_workers, ..PoolConfig::default() })
}

fn pool_with(config: PoolConfig) -> Arc<Pool> {
    // Looking for what is stuck is not part of the models.
    let patience = std::time::Duration::MAX;
    Pool::new("model".to_owned(), PoolConfig { patience, ..config })
}

/// A job that counts itself.
fn counted(count: &Arc<AtomicUsize>) -> Job {
    let count = Arc::clone(count);
    Job::closure(move || {
        count.fetch_add(1, Ordering::SeqCst);
    })
}

fn spawn(pool: &Pool, job: Job) {
    assert!(pool.spawn(job).is_ok(), "the pool is open and its queue has room");
}

#[test]
fn a_closed_pool_has_run_every_job_that_it_took() {
    explore(|| {
        let pool = pool(1);
        let (ran, taken) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let users = [(); 2].map(|()| {
            let (pool, ran, taken) = (Arc::clone(&pool), Arc::clone(&ran), Arc::clone(&taken));
            thread::spawn(move || {
                for _ in 0..2 {
                    if pool.spawn(counted(&ran)).is_ok() {
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        assert!(pool.close(Deadline::NEVER));
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!(ran.load(Ordering::SeqCst), taken.load(Ordering::SeqCst));
    });
}

#[test]
fn a_job_that_waits_for_another_one_lets_it_run() {
    explore(|| {
        let pool = pool(1);
        let users = [(); 2].map(|()| {
            let pool = Arc::clone(&pool);
            let ran = Arc::new(Event::default());
            let own = Arc::clone(&ran);
            let outer = Arc::clone(&pool);
            spawn(
                &pool,
                Job::closure(move || {
                    let (inner, own) = (Arc::new(Event::default()), own);
                    let set = Arc::clone(&inner);
                    spawn(&outer, Job::closure(move || set.set()));
                    inner.wait(Deadline::NEVER).unwrap();
                    own.set();
                }),
            );
            ran
        });
        users.iter().for_each(|ran| assert!(ran.park(Deadline::NEVER)));
        assert!(pool.close(Deadline::NEVER));
    });
}

/// One of two workers is idle when two jobs come: the second one waits in the queue,
/// and has a place as soon as the other worker gives up its own.
#[test]
fn a_place_that_is_given_up_is_taken_also_while_the_idle_have_other_work() {
    explore(|| {
        let pool = pool(2);
        let came = Arc::new(Event::default());
        // Leaves an idle worker behind, unless the worker finds its time over.
        spawn(&pool, Job::closure(|| ()));
        let (own, outer) = (Arc::clone(&came), Arc::clone(&pool));
        spawn(
            &pool,
            Job::closure(move || {
                // This job waits for the next one, which the pool cannot see.
                let waits_for = Arc::clone(&own);
                spawn(&outer, Job::closure(move || assert!(waits_for.park(Deadline::NEVER))));
                let set = Arc::clone(&own);
                spawn(&outer, Job::closure(move || set.set()));
                own.wait(Deadline::NEVER).unwrap();
            }),
        );
        assert!(came.park(Deadline::NEVER));
        assert!(pool.close(Deadline::NEVER));
    });
}

/// Methods that wait for each other's jobs: another method runs meanwhile, and a worker
/// that returns from its wait runs only when that method has ended or waits itself.
#[test]
fn no_more_workers_run_at_once_than_there_may_be() {
    explore(|| {
        let pool = pool(1);
        let running = Arc::new(AtomicUsize::new(0));
        let ended: Vec<_> = (0..2).map(|_| Arc::new(Event::default())).collect();
        for event in &ended {
            let (outer, running, event) =
                (Arc::clone(&pool), Arc::clone(&running), Arc::clone(event));
            let job = move || {
                let alone = || assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                let leave = || assert_eq!(running.fetch_sub(1, Ordering::SeqCst), 1);
                alone();
                let (inner, counted) = (Arc::new(Event::default()), Arc::clone(&running));
                let set = Arc::clone(&inner);
                spawn(
                    &outer,
                    Job::closure(move || {
                        assert_eq!(counted.fetch_add(1, Ordering::SeqCst), 0);
                        shuttle::thread::yield_now();
                        assert_eq!(counted.fetch_sub(1, Ordering::SeqCst), 1);
                        set.set();
                    }),
                );
                leave();
                inner.wait(Deadline::NEVER).unwrap();
                alone();
                shuttle::thread::yield_now();
                leave();
                event.set();
            };
            spawn(&pool, Job::closure(job));
        }
        ended.iter().for_each(|event| assert!(event.park(Deadline::NEVER)));
        assert!(pool.close(Deadline::NEVER));
    });
}

/// An object whose call is over when its method has run, or when it was refused.
struct Object {
    method: Box<dyn Fn() + Send + Sync>,
    over: Event,
}

impl Calls for Object {
    fn run(self: Arc<Self>, _: Origin) {
        (self.method)();
        self.over.set();
    }

    fn run_own(self: Arc<Self>, _: Origin, _: usize) -> bool {
        false
    }

    fn refuse(self: Arc<Self>, _: Origin, _: &Error) {
        self.over.set();
    }

    fn name(&self) -> String {
        String::new()
    }

    fn begun(&self) -> u64 {
        0
    }

    fn waiting(&self) -> usize {
        0
    }
}

/// Calls `method` for an origin. Nothing is to be left behind when it is over.
fn call(pool: &Pool, origin: Origin, method: impl Fn() + Send + Sync + 'static) -> Arc<Object> {
    let object = Arc::new(Object { method: Box::new(method), over: Event::default() });
    if let Err(refused) = pool.spawn(Job::calls(Arc::clone(&object) as _, origin)) {
        refused.tell();
    }
    object
}

/// Methods of two origins make calls that they wait for, and one worker works for the one
/// and then for the other. There are too few workers for all of them.
#[test]
fn every_call_of_every_origin_is_over_at_last() {
    explore(|| {
        let pool = pool_with(PoolConfig {
            max_workers: thread_rng().gen_range(1..=2),
            max_waiting: thread_rng().gen_range(0..=1),
            ..PoolConfig::default()
        });
        let origins = [Origin::connection(), Origin::connection()];
        let callers = [0, 1].map(|caller| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let (own, other) = (origins[caller], origins[1 - caller]);
                let inner = Arc::clone(&pool);
                let outer = call(&pool, own, move || {
                    let asked = call(&inner, own, || ());
                    asked.over.wait(Deadline::NEVER).unwrap();
                    role::work_for(other);
                    shuttle::thread::yield_now();
                });
                let further = call(&pool, own, shuttle::thread::yield_now);
                assert!(outer.over.park(Deadline::NEVER));
                assert!(further.over.park(Deadline::NEVER));
            })
        });
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert!(pool.close(Deadline::NEVER));
    });
}
