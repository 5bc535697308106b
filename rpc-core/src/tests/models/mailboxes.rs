//! How an object's calls are handed from thread to thread, in every interleaving of a few of
//! them, or in those with few switches: by those who put calls into the mailbox, workers,
//! callers that run their own call, and those who take a call back.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::cap::call::{CallCell, Interest, Sink};
use crate::cap::capability::Capability as _;
use crate::cap::delivery::{CallRequest, Delivery, Tail};
use crate::cap::incoming_call::IncomingCall;
use crate::cap::object::{Concurrency, Dispatch, LocalObject};
use crate::cap::payload::Payload;
use crate::error::Error;
use crate::sync::{explore_all, explore_switches, thread};
use crate::wire::Hint;
use crate::work::executor::{Calls as _, Executor, Job, Refused};
use crate::work::origin::Origin;

/// How many times threads that could go on are made to wait.
const SWITCHES: usize = 3;

/// What ran, and who may run it. All of this is looked at in single steps.
#[derive(Default)]
struct Seen {
    /// The calls that have begun. They are kept: what follows their answers is not the subject.
    calls: std::sync::Mutex<Vec<IncomingCall>>,
    running: AtomicBool,
    overlapped: AtomicBool,
    workers: std::sync::Mutex<Vec<Handle>>,
    /// How many jobs are still left to the test.
    kept: AtomicUsize,
    jobs: std::sync::Mutex<Vec<Job>>,
    refuses: AtomicBool,
}

type Handle = shuttle::thread::JoinHandle<()>;

struct Server(Arc<Seen>);

impl Dispatch for Server {
    fn dispatch(&self, call: IncomingCall) {
        if self.0.running.swap(true, Ordering::SeqCst) {
            self.0.overlapped.store(true, Ordering::SeqCst);
        }
        thread::yield_now();
        self.0.calls.lock().unwrap().push(call);
        self.0.running.store(false, Ordering::SeqCst);
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// Every job gets a worker of its own, but for the first ones.
struct Workers(Arc<Seen>);

impl Executor for Workers {
    fn spawn(&self, job: Job) -> Result<(), Refused> {
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Refused { job, error: Error::overloaded("no worker") });
        }
        if self.0.kept.load(Ordering::SeqCst) > 0 {
            self.0.kept.fetch_sub(1, Ordering::SeqCst);
            self.0.jobs.lock().unwrap().push(job);
            return Ok(());
        }
        let worker = shuttle::thread::spawn(move || job.run());
        self.0.workers.lock().unwrap().push(worker);
        Ok(())
    }
}

#[derive(Clone)]
struct Object {
    seen: Arc<Seen>,
    object: Arc<LocalObject>,
}

/// A call, and whoever wants its outcome.
struct Made {
    number: u16,
    cell: Arc<CallCell>,
    interest: Interest,
}

impl Made {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.cell).addr()
    }
}

impl Object {
    /// The first so many jobs are left to the test.
    fn new(concurrency: Concurrency, kept: usize) -> Self {
        let seen = Arc::new(Seen { kept: AtomicUsize::new(kept), ..Seen::default() });
        let executor = Arc::new(Workers(Arc::clone(&seen)));
        let server = Arc::new(Server(Arc::clone(&seen)));
        let object = LocalObject::new(server, concurrency, executor);
        Object { seen, object }
    }

    /// Makes a call, which goes into the mailbox.
    fn call(&self, origin: Origin, number: u16) -> Made {
        let (made, delivery) = call(origin, number);
        self.accept(delivery);
        made
    }

    fn accept(&self, delivery: Delivery) {
        assert!(Arc::clone(&self.object).accept(delivery).is_ok());
    }

    fn kept(&self) -> Job {
        self.seen.jobs.lock().unwrap().remove(0)
    }

    /// Waits for the workers. All these calls have begun once, in turn, and no other.
    fn finish(&self, calls: &[Made]) {
        self.settle();
        let began = self.seen.calls.lock().unwrap();
        let mut began: Vec<_> = began.iter().map(IncomingCall::method_id).collect();
        let mut made: Vec<_> = calls.iter().map(|call| call.number).collect();
        began.sort_unstable();
        made.sort_unstable();
        assert_eq!(began, made, "each call begins once");
        assert_eq!(self.object.waiting(), 0);
    }

    fn settle(&self) {
        loop {
            let worker = self.seen.workers.lock().unwrap().pop();
            let Some(worker) = worker else { break };
            worker.join().unwrap();
        }
        assert!(!self.seen.overlapped.load(Ordering::SeqCst), "two calls ran at once");
    }
}

fn call(origin: Origin, number: u16) -> (Made, Delivery) {
    let (cell, interest) = CallCell::new(Sink::Here, Hint::None, origin);
    let made = Made { number, cell: Arc::clone(&cell), interest };
    let request = CallRequest {
        interface: 0,
        // By which a call is known again.
        method: number,
        params: Payload::empty().clone(),
        cell,
        permit: None,
        tail: Tail::No,
    };
    (made, Delivery::Call(request))
}

/// A worker that finds nothing more leaves, while another call comes.
#[test]
fn a_call_that_comes_while_the_worker_leaves_is_run() {
    explore_all(|| {
        let object = Object::new(Concurrency::Serial, 0);
        let made = [object.call(Origin::LOCAL, 1), object.call(Origin::LOCAL, 2)];
        object.finish(&made);
    });
}

#[test]
fn two_callers_of_one_object_have_their_calls_run_in_turn() {
    explore_switches(SWITCHES, 0, || {
        let object = Object::new(Concurrency::Serial, 0);
        let other = object.clone();
        let other = thread::spawn(move || other.call(Origin::LOCAL, 2));
        let made = [object.call(Origin::LOCAL, 1), other.join().unwrap()];
        object.finish(&made);
    });
}

/// Each origin has its job; whichever is first runs all calls.
#[test]
fn jobs_of_two_origins_run_every_call_once() {
    explore_switches(SWITCHES, 0, || {
        let origins = [Origin::connection(), Origin::connection()];
        let object = Object::new(Concurrency::Serial, 1);
        let first = object.call(origins[0], 1);
        let job = object.kept();
        let worker = thread::spawn(move || job.run());
        let second = object.call(origins[1], 2);
        worker.join().unwrap();
        object.finish(&[first, second]);
    });
}

/// The thread that made the call takes it while a further call comes, or goes to it too late.
#[test]
fn a_caller_that_runs_its_own_call_leaves_the_others_to_workers() {
    for origins in [[Origin::LOCAL; 2], [Origin::LOCAL, Origin::connection()]] {
        explore_switches(SWITCHES, 0, move || {
            let object = Object::new(Concurrency::Serial, 1);
            let own = object.call(origins[0], 1);
            let (job, address, caller) = (object.kept(), own.address(), object.clone());
            let caller = thread::spawn(move || {
                let calls = Arc::clone(&caller.object);
                if !calls.run_own(origins[0], address) {
                    job.run();
                }
            });
            let second = object.call(origins[1], 2);
            caller.join().unwrap();
            object.finish(&[own, second]);
        });
    }
}

/// The caller takes its own call while a worker, who came for another call, begins with it.
#[test]
fn a_caller_and_a_worker_do_not_begin_the_same_call() {
    explore_all(|| {
        let origins = [Origin::LOCAL, Origin::connection()];
        let object = Object::new(Concurrency::Serial, 2);
        let made = [object.call(origins[0], 1), object.call(origins[1], 2)];
        let (own, other) = (object.kept(), object.kept());
        let worker = thread::spawn(move || other.run());
        let calls = Arc::clone(&object.object);
        if !calls.run_own(origins[0], made[0].address()) {
            own.run();
        }
        worker.join().unwrap();
        object.finish(&made);
    });
}

/// Whoever loses interest takes the call out, or comes too late for that.
#[test]
fn a_call_that_is_taken_back_while_it_goes_into_the_mailbox_does_not_stay() {
    for concurrency in [Concurrency::Serial, Concurrency::Concurrent] {
        explore_switches(SWITCHES, 0, move || {
            let object = Object::new(concurrency, 1);
            let (Made { cell, interest, .. }, delivery) = call(Origin::LOCAL, 1);
            let gone = thread::spawn(move || drop(interest));
            object.accept(delivery);
            gone.join().unwrap();
            assert_eq!(object.object.waiting(), 0, "it stays behind");
            assert!(cell.outcome().is_some(), "nobody has answered it");
            // If it did not even get in, nobody was called for it.
            object.seen.jobs.lock().unwrap().drain(..).for_each(Job::run);
            assert!(object.seen.calls.lock().unwrap().is_empty(), "nobody wants it");
        });
    }
}

/// It begins, or it is cancelled.
#[test]
fn a_call_that_is_taken_back_while_it_begins_does_only_one_of_both() {
    explore_all(|| {
        let object = Object::new(Concurrency::Serial, 1);
        let Made { cell, interest, .. } = object.call(Origin::LOCAL, 1);
        let job = object.kept();
        let worker = thread::spawn(move || job.run());
        drop(interest);
        worker.join().unwrap();
        let began = object.seen.calls.lock().unwrap().len();
        assert_eq!(began, usize::from(cell.outcome().is_none()), "it begins, or is answered");
        assert_eq!(object.object.waiting(), 0);
    });
}

/// A job is refused while another call comes, or while a worker has come for another origin.
#[test]
fn a_call_that_no_worker_comes_for_is_answered() {
    explore_switches(SWITCHES, 0, || {
        let object = Object::new(Concurrency::Serial, 0);
        object.seen.refuses.store(true, Ordering::SeqCst);
        let other = object.clone();
        let other = thread::spawn(move || other.call(Origin::LOCAL, 2));
        let made = [object.call(Origin::LOCAL, 1), other.join().unwrap()];
        assert!(made.iter().all(|call| call.cell.outcome().is_some()), "a call waits for ever");
        assert_eq!(object.object.waiting(), 0);
    });
    explore_switches(SWITCHES, 0, || {
        let origins = [Origin::connection(), Origin::connection()];
        let object = Object::new(Concurrency::Serial, 1);
        let first = object.call(origins[0], 1);
        let job = object.kept();
        object.seen.refuses.store(true, Ordering::SeqCst);
        let worker = thread::spawn(move || job.run());
        let second = object.call(origins[1], 2);
        worker.join().unwrap();
        let began = object.seen.calls.lock().unwrap().len();
        assert!(first.cell.outcome().is_none(), "it has its worker");
        assert_eq!(
            began,
            1 + usize::from(second.cell.outcome().is_none()),
            "it begins, or is answered"
        );
        assert_eq!(object.object.waiting(), 0);
    });
}
