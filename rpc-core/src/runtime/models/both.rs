//! Two sides of a connection within one process, whose threads make each other's steps, under
//! the scheduler of Note [models].
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};

use super::super::exceptions::{Detail, ExceptionEncoder, TraceEncoder};
use super::super::reading::{Reading, Waits};
use super::super::receiving::{Inbox, Receiving};
use super::super::sending::Sending;
use super::pool;
use super::reading::NoControl;
use crate::cap::calling::{Call, Time};
use crate::cap::client::Client;
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::limits::Limits;
use crate::protocol::{Machine, Offers, Outbox, Settings};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Arrivals, Mutex, Parker, explore};
use crate::tests::content;
use crate::transport::{FrameLimits, MessageReader, MessageWriter, Received, TransportError};
use crate::wire::message::Message as Frame;
use crate::wire::{self, Hint};
use crate::work::executor::Executor;
use crate::work::origin::Origin;
use crate::work::pool::Pool;

/// The resident, somebody who brings something, and a guest that has read before and leaves.
#[test]
fn the_resident_is_called_for_what_nobody_else_reads() {
    explore(|| {
        let (arrivals, _other) = Arrivals::pair();
        let resident = {
            let arrivals = Arc::clone(&arrivals);
            thread::spawn(move || arrivals.wait(&Parker::new()))
        };
        let brings = {
            let arrivals = Arc::clone(&arrivals);
            thread::spawn(move || {
                arrivals.set(true);
                arrivals.tell();
            })
        };
        arrivals.disarm();
        arrivals.arm();
        brings.join().unwrap();
        resident.join().unwrap();
    });
}

/// One direction: frames, and the end in place of one.
struct Lane {
    frames: Mutex<VecDeque<Option<Frame>>>,
    reading: Mutex<()>,
    arrivals: Arc<Arrivals>,
}

impl Lane {
    fn new(arrivals: Arc<Arrivals>) -> Arc<Self> {
        Arc::new(Lane { frames: Mutex::default(), reading: Mutex::default(), arrivals })
    }

    fn push(&self, more: impl Iterator<Item = Option<Frame>>) {
        {
            let mut frames = self.frames.lock();
            frames.extend(more);
            self.arrivals.set(!frames.is_empty());
        }
        self.arrivals.tell();
    }
}

struct Reader(Arc<Lane>);

impl MessageReader for Reader {
    fn read(&mut self) -> Result<Option<Frame>, TransportError> {
        unreachable!("threads take turns")
    }

    fn has_buffered(&self) -> bool {
        false
    }

    fn arrivals(&self) -> Option<Arc<Arrivals>> {
        Some(Arc::clone(&self.0.arrivals))
    }

    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        let _alone = self.0.reading.try_lock().expect("one thread reads at a time");
        let mut frames = self.0.frames.lock();
        // The end is there for ever.
        let next = if let Some(None) = frames.front() { Some(None) } else { frames.pop_front() };
        self.0.arrivals.set(!frames.is_empty());
        Ok(next.map(|frame| frame.map_or(Received::End, Received::Message)))
    }

    fn set_limits(&mut self, _: FrameLimits) {}
}

struct Writer(Arc<Lane>);

impl MessageWriter for Writer {
    fn write(&mut self, batch: &mut Vec<Frame>) -> Result<(), TransportError> {
        self.0.push(batch.drain(..).map(Some));
        Ok(())
    }

    /// Leaves something to the send thread now and then.
    fn try_write(&mut self, batch: &mut Vec<Frame>) -> Result<bool, TransportError> {
        let count = if thread_rng().gen_range(0..4) > 0 { batch.len() } else { 0 };
        self.0.push(batch.drain(..count).map(Some));
        Ok(batch.is_empty())
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        self.0.push(std::iter::once(None));
        Ok(())
    }
}

struct Outlet {
    sending: Arc<Sending>,
    receiving: Arc<Receiving>,
}

impl Outbox for Outlet {
    fn push(&self, message: wire::Message) {
        self.sending.push(message);
    }

    fn wake(&self, machine: &Machine) {
        self.sending.wake(machine);
    }

    fn disconnected(&self) {
        self.sending.end();
        self.receiving.end();
    }
}

type Handle = shuttle::thread::JoinHandle<()>;

/// One side, with the threads that send and receive. Nothing that it does is left to a
/// coordinator but the end.
struct Side {
    machine: Arc<Machine>,
    sending: Arc<Sending>,
    receiving: Arc<Receiving>,
    inbox: Inbox,
    sends: Handle,
    receives: Handle,
}

impl Side {
    fn new(incoming: &Arc<Lane>, outgoing: &Arc<Lane>, bootstrap: Option<Client>) -> Self {
        let exceptions =
            ExceptionEncoder::new(Detail::Hidden, TraceEncoder::default(), &Limits::default());
        let writer = Box::new(Writer(Arc::clone(outgoing)));
        let sending = Arc::new(Sending::new(writer, Arc::new(NoControl), exceptions));
        let (receiving, entrance, inbox) = Receiving::new(&Limits::default());
        let receiving = Arc::new(receiving);
        let outlet = Outlet { sending: Arc::clone(&sending), receiving: Arc::clone(&receiving) };
        let settings = Settings { origin: Origin::connection(), ..Settings::default() };
        let offers = Offers { bootstrap, ..Offers::default() };
        let machine = Machine::new(settings, offers, Arc::new(outlet));
        let reading = Reading::new(
            Box::new(Reader(Arc::clone(incoming))),
            Waits { shared: None, spin: Duration::ZERO },
            entrance,
            Arc::clone(&receiving),
            Arc::clone(&sending),
            Arc::clone(&machine),
            Weak::new(),
        );
        let reading = reading.ok().expect("it can be waited for");
        let (own, with) = (Arc::clone(&sending), Arc::clone(&machine));
        Side {
            machine,
            receiving,
            inbox,
            sends: thread::spawn(move || own.run(&with)),
            receives: thread::spawn(move || reading.stand_by()),
            sending,
        }
    }

    /// Waits until nobody sends or receives any more here.
    fn end(self) {
        let Side { machine, sending, receiving, inbox, sends, receives } = self;
        receives.join().unwrap();
        // The coordinator would do this.
        if receiving.has_ended() {
            inbox.read_to_the_end(Deadline::NEVER);
        } else {
            assert_eq!(inbox.drain(), 1, "the end comes once, and nothing else was left over");
            receiving.coordinate(&inbox, false, &machine, &sending);
        }
        if !receiving.has_ended() {
            machine.disconnect(Error::disconnected("the other side has ended"));
        }
        sends.join().unwrap();
        assert_eq!(machine.calls_under_way(), 0);
    }
}

/// A method of an object that handles one call at a time.
type Method = Box<dyn Fn(&IncomingCall) + Send + Sync>;

struct Object {
    method: Method,
    running: Mutex<()>,
}

impl Dispatch for Object {
    fn dispatch(&self, call: IncomingCall) {
        let alone = self.running.try_lock().expect("one call at a time");
        (self.method)(&call);
        drop(alone);
        call.respond_at_end(Ok(content::results(0, &[])));
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn ends_with_answer(&self) -> bool {
        true
    }
}

fn object(pool: &Arc<Pool>, method: impl Fn(&IncomingCall) + Send + Sync + 'static) -> Client {
    let object = Object { method: Box::new(method), running: Mutex::default() };
    let executor = Arc::clone(pool) as Arc<dyn Executor>;
    Client::of(LocalObject::new(Arc::new(object), Concurrency::Serial, executor))
}

/// Calls, and waits for the answer.
fn call(client: &Client, caps: &[Client], time: Time) -> Result<(), Error> {
    call_as(0, client, caps, time)
}

/// Calls with a number.
fn call_as(number: u64, client: &Client, caps: &[Client], time: Time) -> Result<(), Error> {
    let params = content::params(number, caps);
    let call = Call { interface_id: 1, method_id: 1, params, hint: Hint::None };
    client.finish(call, time).map(drop)
}

/// Two sides whose bootstrap objects have these methods, and what threads do with both.
fn connected(
    near: impl Fn(&IncomingCall) + Send + Sync + 'static,
    far: impl Fn(&IncomingCall) + Send + Sync + 'static,
    uses: impl FnOnce(&Side, &Side) -> Vec<Handle>,
) {
    let (to_near, to_far) = Arrivals::pair();
    let (to_near, to_far) = (Lane::new(to_near), Lane::new(to_far));
    let (near_pool, far_pool) = (pool(2), pool(2));
    let (near_object, far_object) = (object(&near_pool, near), object(&far_pool, far));
    let near = Side::new(&to_near, &to_far, Some(near_object));
    let far = Side::new(&to_far, &to_near, Some(far_object));
    uses(&near, &far).into_iter().for_each(|user| user.join().unwrap());
    near.machine.check().unwrap();
    far.machine.check().unwrap();
    near.machine.disconnect(Error::disconnected("enough"));
    far.end();
    near.end();
    assert!(near_pool.close(Deadline::NEVER) && far_pool.close(Deadline::NEVER));
}

fn caller(machine: &Arc<Machine>, calls: usize) -> Handle {
    let machine = Arc::clone(machine);
    thread::spawn(move || {
        let client = machine.bootstrap(None);
        for _ in 0..calls {
            call(&client, &[], Time::Default).unwrap();
        }
    })
}

/// How often a method ran on a thread that has made a call, and how often elsewhere.
#[derive(Default)]
struct Ran {
    on_caller: AtomicUsize,
    elsewhere: AtomicUsize,
}

impl Ran {
    fn note(&self, callers: &OnceLock<Vec<ThreadId>>) {
        let own = callers.get().is_some_and(|ids| ids.contains(&thread::current().id()));
        let counter = if own { &self.on_caller } else { &self.elsewhere };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn callers_run_their_own_calls_or_workers_do_and_every_answer_comes() {
    let ran = Arc::new(Ran::default());
    let noted = Arc::clone(&ran);
    explore(move || {
        let callers: Arc<OnceLock<Vec<ThreadId>>> = Arc::default();
        let (ran, known) = (Arc::clone(&noted), Arc::clone(&callers));
        connected(
            |_| {},
            move |_| ran.note(&known),
            |near, _| {
                let made = [caller(&near.machine, 2), caller(&near.machine, 2)];
                callers.set(made.iter().map(|made| made.thread().id()).collect()).unwrap();
                made.into()
            },
        );
    });
    let ran = [&ran.on_caller, &ran.elsewhere].map(|counter| counter.load(Ordering::SeqCst));
    assert!(ran[0] > 0 && ran[1] > 0, "{ran:?}");
}

/// What a thread takes for its own call, by a number, may be that of another thread which has
/// got the number since.
#[test]
fn nobody_runs_the_call_of_another_thread() {
    explore(|| {
        let callers: Arc<OnceLock<Vec<ThreadId>>> = Arc::default();
        let known = Arc::clone(&callers);
        connected(
            |_| {},
            move |asked| {
                let caller = usize::try_from(content::label(asked.params())).unwrap();
                let ids = known.get().map_or(&[][..], |ids| ids);
                let here = ids.iter().position(|id| *id == thread::current().id());
                assert!(here.is_none_or(|here| here == caller), "{here:?} runs one of {caller}");
            },
            |near, _| {
                let client = near.machine.bootstrap(None);
                let made = (0..3).map(|number| {
                    let client = client.clone();
                    thread::spawn(move || {
                        for _ in 0..2 {
                            call_as(number, &client, &[], Time::Default).unwrap();
                        }
                    })
                });
                let made: Vec<_> = made.collect();
                callers.set(made.iter().map(|made| made.thread().id()).collect()).unwrap();
                made
            },
        );
    });
}

#[test]
fn threads_of_both_sides_call_at_once() {
    explore(|| {
        connected(
            |_| {},
            |_| {},
            |near, far| vec![caller(&near.machine, 2), caller(&far.machine, 2)],
        );
    });
}

#[test]
fn a_method_that_calls_back_is_answered() {
    explore(|| {
        let back: Arc<OnceLock<Weak<Machine>>> = Arc::default();
        let machine = Arc::clone(&back);
        connected(
            |_| {},
            move |_| {
                let machine = machine.get().and_then(Weak::upgrade).unwrap();
                call(&machine.bootstrap(None), &[], Time::Default).unwrap();
            },
            |near, far| {
                back.set(Arc::downgrade(&far.machine)).unwrap();
                vec![caller(&near.machine, 1), caller(&near.machine, 1)]
            },
        );
    });
}

/// In a model the deadline passes at any moment.
#[test]
fn a_call_that_is_given_up_keeps_nobody_from_reading() {
    explore(|| {
        connected(
            |_| {},
            |_| {},
            |near, _| {
                let machine = Arc::clone(&near.machine);
                let gives_up = thread::spawn(move || {
                    let client = machine.bootstrap(None);
                    let time = Time::Until(Deadline::after(Duration::from_secs(1)));
                    let outcome = call(&client, &[], time);
                    assert!(outcome.is_ok() || outcome.is_err_and(|error| error.is_timeout()));
                    call(&client, &[], Time::Default).unwrap();
                });
                vec![gives_up, caller(&near.machine, 1)]
            },
        );
    });
}

#[test]
fn a_side_that_ends_in_the_middle_leaves_nobody_waiting() {
    explore(|| {
        connected(
            |_| {},
            |_| {},
            |near, far| {
                let (machine, ends) = (Arc::clone(&near.machine), Arc::clone(&far.machine));
                let calls = thread::spawn(move || {
                    let client = machine.bootstrap(None);
                    // Nobody here sees the connection off: the wait may be for ever.
                    let time = Time::Until(Deadline::after(Duration::from_secs(1)));
                    let _ = call(&client, &[], time);
                });
                let ends = thread::spawn(move || ends.disconnect(Error::disconnected("enough")));
                vec![calls, ends]
            },
        );
    });
}
