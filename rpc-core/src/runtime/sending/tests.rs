//! Tests of who writes, and when.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::thread;

use super::*;
use crate::cap::effects;
use crate::deadline::Deadline;
use crate::limits::Limits;
use crate::protocol::{Offers, Outbox, Settings};
use crate::runtime::exceptions::{Detail, TraceEncoder};
use crate::runtime::receiving::Receiving;
use crate::transport::{FrameLimits, MessageReader, PeerDescription};
use crate::work::executor::{Executor, Job};
use crate::work::pool::{Pool, PoolConfig};
use crate::work::role::Pace;
use crate::work::waiting::{self, Waiters};

/// Tells how many messages it was given with one call.
struct Counted(mpsc::Sender<usize>);

impl MessageWriter for Counted {
    fn write(&mut self, batch: &mut Vec<Frame>) -> Result<(), TransportError> {
        let _ = self.0.send(std::mem::take(batch).len());
        Ok(())
    }

    fn try_write(&mut self, batch: &mut Vec<Frame>) -> Result<bool, TransportError> {
        self.write(batch).map(|()| true)
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}

struct Nobody;

impl TransportControl for Nobody {
    fn shutdown(&self) {}

    fn peer(&self) -> PeerDescription {
        PeerDescription::default()
    }
}

impl Outbox for Nobody {
    fn push(&self, _: wire::Message) {}

    fn disconnected(&self) {}
}

struct Out {
    sending: Arc<Sending>,
    machine: Arc<Machine>,
    writes: mpsc::Receiver<usize>,
}

impl Out {
    /// One with a send thread, unless that is not started.
    fn new() -> Self {
        let out = Out::shared();
        out.sending.allow_leaving(out.machine.room());
        out
    }

    /// One without a thread that watches.
    fn shared() -> Self {
        Out::with_encoder(TraceEncoder::default())
    }

    fn with_encoder(encoder: TraceEncoder) -> Self {
        let (counted, writes) = mpsc::channel();
        let exceptions = ExceptionEncoder::new(Detail::Hidden, encoder, &Limits::default());
        let sending = Sending::new(Box::new(Counted(counted)), Arc::new(Nobody), exceptions);
        let machine = Machine::new(Settings::default(), Offers::default(), Arc::new(Nobody));
        Out { sending: Arc::new(sending), machine, writes }
    }

    fn send(&self) {
        self.send_message(wire::Message::Release(wire::Release { id: 1, count: 1 }));
    }

    fn send_message(&self, message: wire::Message) {
        self.machine.room().queued(message.size_estimate());
        self.sending.push(message);
        self.sending.wake(&self.machine);
    }

    /// How many messages came with each write.
    fn written(&self) -> Vec<usize> {
        self.writes.try_iter().collect()
    }
}

fn wait_for_a_moment() {
    let nothing = Mutex::new(Waiters::default());
    let late = Deadline::after(std::time::Duration::ZERO);
    assert!(waiting::park(&nothing, |waiters| waiters, late, |_, _| None::<()>).is_none());
}

#[test]
fn what_a_thread_queues_is_written_together_when_it_waits() {
    role::set_pace(Pace::Busy);
    let out = Out::new();
    (0..5).for_each(|_| out.send());
    assert!(out.written().is_empty());
    wait_for_a_moment();
    assert_eq!(out.written(), [5]);
    assert_eq!(out.machine.room().bytes(), 0);
    // The thread has left nothing more.
    wait_for_a_moment();
    assert!(out.written().is_empty());
}

#[test]
fn much_is_written_at_once() {
    role::set_pace(Pace::Busy);
    let out = Out::new();
    (0..2 * MUCH).for_each(|_| out.send());
    assert_eq!(out.written(), [MUCH, MUCH]);
    out.send();
    assert!(out.written().is_empty());
    wait_for_a_moment();
    assert_eq!(out.written(), [1]);
}

#[test]
fn who_turns_to_another_connection_writes_first() {
    role::set_pace(Pace::Busy);
    let [first, second] = [Out::new(), Out::new()];
    first.send();
    second.send();
    assert_eq!((first.written(), second.written()), (vec![1], vec![]));
    wait_for_a_moment();
    assert_eq!((first.written(), second.written()), (vec![], vec![1]));
}

#[test]
fn what_a_thread_left_is_written_by_the_one_that_holds_more() {
    role::set_pace(Pace::Busy);
    let out = Out::new();
    out.send();
    let held = out.sending.hold(&out.machine);
    out.send();
    drop(held);
    assert_eq!(out.written(), [2]);
}

#[test]
fn what_a_thread_leaves_that_does_something_else_is_written_by_the_send_thread() {
    let out = Out::new();
    let (sending, machine) = (Arc::clone(&out.sending), Arc::clone(&out.machine));
    let send_thread = thread::spawn(move || sending.run(&machine));
    role::set_pace(Pace::Busy);
    for _ in 0..20 {
        out.send();
        // This thread waits in a way that the library knows nothing of.
        assert_eq!(out.writes.recv(), Ok(1));
    }
    out.sending.end();
    send_thread.join().unwrap();
}

#[test]
fn a_worker_writes_what_it_has_left_when_no_other_job_waits() {
    let pool = Pool::new("leaves".into(), PoolConfig::default());
    let out = Out::new();
    let (sending, machine) = (Arc::clone(&out.sending), Arc::clone(&out.machine));
    let (done, is_done) = mpsc::channel();
    let queued = Out { sending, machine, writes: mpsc::channel().1 };
    let job = Job::closure(move || {
        role::set_pace(Pace::Busy);
        (0..3).for_each(|_| queued.send());
        let was_left = queued.sending.queue.is_due();
        role::set_pace(Pace::Calm);
        queued.send();
        done.send((was_left, queued.sending.queue.is_due())).unwrap();
    });
    assert!(pool.spawn(job).is_ok());
    assert_eq!(is_done.recv(), Ok((true, false)));
    assert_eq!(out.written(), [4]);
    // A job of other code's, which others may wait behind.
    let (sending, machine) = (Arc::clone(&out.sending), Arc::clone(&out.machine));
    let queued = Out { sending, machine, writes: mpsc::channel().1 };
    let job = Job::closure(move || {
        role::set_pace(Pace::Busy);
        queued.send();
    });
    assert!(pool.spawn(job).is_ok());
    assert_eq!(out.writes.recv(), Ok(1));
}

/// Attendants do not watch.
#[test]
fn nothing_is_left_where_connections_share_their_threads() {
    role::set_pace(Pace::Busy);
    let out = Out::shared();
    out.send();
    assert!(!out.sending.queue.is_due());
    out.sending.attend(&out.machine);
    assert_eq!(out.written(), [1]);
}

/// A thread that waits may hold a lock that the encoder takes.
#[test]
fn an_error_is_encoded_by_the_resident_if_the_application_has_an_encoder() {
    let (tell, told) = mpsc::channel();
    let encoder = TraceEncoder::default();
    let encode = move |_: &Error| {
        tell.send(()).unwrap();
        String::new()
    };
    encoder.set(Some(Arc::new(encode)));
    let out = Out::with_encoder(encoder);
    let failed = || {
        wire::Message::Return(wire::Return {
            answer: 1,
            release_params: false,
            no_finish_needed: false,
            outcome: wire::ReturnKind::Exception(Error::failed("no")),
        })
    };
    let held = out.sending.hold(&out.machine);
    out.send();
    out.send_message(failed());
    out.send();
    drop(held);
    // What is in front of it is written at once.
    assert_eq!((out.written(), told.try_iter().count()), (vec![1], 0));
    out.sending.attend(&out.machine);
    assert_eq!((out.written(), told.try_iter().count()), (vec![2], 1));
    assert_eq!(out.machine.room().bytes(), 0);
}

#[test]
fn what_is_held_back_is_left_to_others_before_code_of_the_application_runs() {
    // The send thread, which watches …
    let out = Out::new();
    let (sending, machine) = (Arc::clone(&out.sending), Arc::clone(&out.machine));
    let send_thread = thread::spawn(move || sending.run(&machine));
    let held = out.sending.hold(&out.machine);
    out.send();
    let soon = std::time::Duration::from_secs(60);
    let mut written = None;
    effects::application(|| written = Some(out.writes.recv_timeout(soon)));
    assert_eq!(written, Some(Ok(1)));
    out.send();
    drop(held);
    assert_eq!(out.writes.recv_timeout(soon), Ok(1));
    out.sending.end();
    send_thread.join().unwrap();
    // … or attendants.
    let out = Out::shared();
    out.sending.has_resident(Resident::Attendants, out.machine.room());
    let held = out.sending.hold(&out.machine);
    out.send();
    effects::application(|| out.sending.attend(&out.machine));
    assert_eq!(out.written(), [1]);
    // The same holds for what the code itself sends.
    effects::application(|| {
        out.send();
        out.sending.attend(&out.machine);
    });
    assert_eq!(out.written(), [1]);
    out.send();
    out.sending.attend(&out.machine);
    assert!(out.written().is_empty());
    drop(held);
    assert_eq!(out.written(), [1]);
}

/// Whose reader tells whether something had been written before it was asked.
struct Asked {
    writes: Arc<Mutex<mpsc::Receiver<usize>>>,
    told: mpsc::Sender<Option<usize>>,
}

impl MessageReader for Asked {
    fn read(&mut self) -> Result<Option<Frame>, TransportError> {
        let _ = self.told.send(self.writes.lock().try_recv().ok());
        Ok(None)
    }

    fn has_buffered(&self) -> bool {
        false
    }

    fn set_limits(&mut self, _: FrameLimits) {}
}

/// It has passed on to one connection what it received from another.
#[test]
fn the_thread_that_reads_writes_what_it_has_left_before_it_reads_on() {
    role::set_pace(Pace::Busy);
    let [from, to] = [Out::new(), Out::new()];
    let (receiving, entrance, _inbox) = Receiving::new(&Limits::default());
    to.send();
    let (told, is_told) = mpsc::channel();
    let reader = Asked { writes: Arc::new(Mutex::new(to.writes)), told };
    receiving.read(Box::new(reader), &entrance, &from.machine, &from.sending);
    assert_eq!(is_told.recv(), Ok(Some(1)));
}

/// No send thread watches, so only the coordinator itself can have written it.
#[test]
fn a_coordinator_writes_what_it_has_left_before_it_waits_for_more() {
    let [from, to] = [Out::new(), Out::new()];
    let (receiving, entrance, inbox) = Receiving::new(&Limits::default());
    let Out { sending, machine, writes } = to;
    let queued = Out { sending, machine, writes: mpsc::channel().1 };
    let coordinator = thread::spawn(move || {
        role::set_pace(Pace::Busy);
        queued.send();
        receiving.coordinate(&inbox, true, &from.machine, &from.sending);
    });
    let soon = std::time::Duration::from_secs(60);
    let written = writes.recv_timeout(soon);
    // Nobody is left to read, and the coordinator ends.
    drop(entrance);
    coordinator.join().unwrap();
    assert_eq!(written, Ok(1));
}
