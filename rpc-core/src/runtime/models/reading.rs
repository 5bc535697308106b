//! Threads that take turns at reading, under the scheduler of Note [models].
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::super::exceptions::{Detail, ExceptionEncoder, TraceEncoder};
use super::super::reading::{Reading, ReadingDuty, Waits};
use super::super::receiving::{Incoming, Input, Receiving};
use super::super::sending::Sending;
use super::attendants::{Nothing, attendants};
use crate::cap::calling::{Call, Time};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::protocol::{Machine, Offers, Outbox, Settings};
use crate::sync::{Condvar, Mutex, Parker, Signal, explore, thread};
use crate::tests::content;
use crate::tests::net::{frame, ignored, received};
use crate::transport::{
    Descriptor, FrameLimits, MessageReader, MessageWriter, PeerDescription, Received,
    TransportControl, TransportError,
};
use crate::wire::message::Message as Frame;
use crate::wire::{self, Hint};
use crate::work::event::Event;
use crate::work::progress::{Hands, OwnQuestion, Prepared, Progress};

/// The number of the connection.
const CONNECTION: u64 = 7;

/// What was sent to the peer and waits for it.
#[derive(Default)]
struct Asked {
    questions: Mutex<VecDeque<Option<u32>>>,
    came: Condvar,
}

impl Asked {
    fn add(&self, question: Option<u32>) {
        self.questions.lock().push_back(question);
        self.came.notify_one();
    }

    fn next(&self) -> Option<u32> {
        let mut questions = self.questions.lock();
        loop {
            match questions.pop_front() {
                Some(question) => return question,
                None => self.came.wait(&mut questions),
            }
        }
    }
}

impl Outbox for Asked {
    fn push(&self, message: wire::Message) {
        match message {
            wire::Message::Bootstrap(asked) => self.add(Some(asked.question)),
            wire::Message::Call(asked) => self.add(Some(asked.question)),
            _ => {}
        }
    }

    fn disconnected(&self) {}
}

/// What the peer has sent: frames, and the end in place of one.
#[derive(Default)]
struct Line {
    frames: Mutex<VecDeque<Option<Frame>>>,
    signal: Arc<Signal>,
    read: Condvar,
    /// Something is sent to the peer meanwhile, which it takes when it has been read from.
    fills: bool,
    /// The reader takes everything in that has come when it is asked for one message.
    is_greedy: bool,
    /// The coordinator has room for one message, and has one to begin with.
    is_narrow: bool,
}

impl Line {
    fn push(&self, frame: Option<Frame>) {
        let mut frames = self.frames.lock();
        frames.push_back(frame);
        self.signal.set_readable(true);
    }

    /// Answers what is asked, until there is nothing more to ask.
    fn answer(&self, asked: &Asked) {
        while let Some(answer) = asked.next() {
            let outcome = wire::ReturnKind::Exception(Error::failed("no"));
            let message = wire::Message::Return(wire::Return {
                answer,
                release_params: false,
                no_finish_needed: true,
                outcome,
            });
            self.push(Some(received(&frame(message))));
        }
        self.push(None);
    }
}

struct Reader {
    line: Arc<Line>,
    reading: Arc<Mutex<()>>,
    /// What was taken in, of which the signal does not tell.
    buffered: VecDeque<Option<Frame>>,
}

impl MessageReader for Reader {
    fn read(&mut self) -> Result<Option<Frame>, TransportError> {
        unreachable!("threads take turns")
    }

    fn has_buffered(&self) -> bool {
        !self.buffered.is_empty()
    }

    fn descriptor(&self) -> Option<Descriptor> {
        Some(Arc::clone(&self.line.signal))
    }

    fn try_read_next(&mut self) -> Result<Option<Received>, TransportError> {
        let _alone = self.reading.try_lock().expect("one thread reads at a time");
        let mut frames = self.line.frames.lock();
        if self.line.is_greedy {
            self.buffered.append(&mut frames);
        }
        let next = self.buffered.pop_front().or_else(|| frames.pop_front());
        self.line.signal.set_readable(!frames.is_empty());
        self.line.read.notify_one();
        Ok(next.map(|frame| frame.map_or(Received::End, Received::Message)))
    }

    fn set_limits(&mut self, _: FrameLimits) {}
}

/// To a peer that takes nothing before all is read that it has sent.
struct Writer(Arc<Line>);

impl MessageWriter for Writer {
    fn write(&mut self, batch: &mut Vec<Frame>) -> Result<(), TransportError> {
        batch.clear();
        let mut frames = self.0.frames.lock();
        while !frames.is_empty() {
            self.0.read.wait(&mut frames);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        Ok(())
    }
}

/// Of a transport that nobody shuts down.
pub(super) struct NoControl;

impl TransportControl for NoControl {
    fn shutdown(&self) {}

    fn peer(&self) -> PeerDescription {
        PeerDescription::default()
    }
}

/// Who reads when no guest does.
#[derive(Clone, Copy)]
enum Stands {
    ReceiveThread,
    Attendants,
}

/// One side of a connection, whose threads read in turns, and a peer that says no.
fn connection(guests: usize, calls: impl Fn(&Arc<Machine>) + Clone + Send + 'static) {
    connection_with(Stands::ReceiveThread, guests, calls);
}

fn connection_with(
    stands: Stands,
    guests: usize,
    calls: impl Fn(&Arc<Machine>) + Clone + Send + 'static,
) {
    connection_over(Line::default(), stands, guests, calls);
}

fn connection_over(
    line: Line,
    stands: Stands,
    guests: usize,
    calls: impl Fn(&Arc<Machine>) + Clone + Send + 'static,
) {
    let (asked, line) = (Arc::new(Asked::default()), Arc::new(line));
    let outbox = Arc::clone(&asked) as Arc<dyn Outbox>;
    let machine = Machine::new(Settings::default(), Offers::default(), outbox);
    let exceptions =
        ExceptionEncoder::new(Detail::Hidden, TraceEncoder::default(), &Limits::default());
    let sending = Arc::new(Sending::new(
        Box::new(Writer(Arc::clone(&line))),
        Arc::new(NoControl),
        exceptions,
    ));
    let mut limits = Limits::default();
    if line.is_narrow {
        limits.budget_bytes = 8;
    }
    let (receiving, entrance, inbox) = Receiving::new(&limits);
    if line.is_narrow {
        let ignored = Incoming::Message(ignored());
        assert!(receiving.try_pass_on(&entrance, ignored).is_ok());
    }
    let (own, buffered) = (Arc::clone(&line), VecDeque::new());
    let reader = Reader { line: own, reading: Arc::default(), buffered };
    let (own, receiving) = (Arc::clone(&machine), Arc::new(receiving));
    let coordinated = Arc::clone(&receiving);
    // It watches the turn that is left: Note [left to read].
    let sends = matches!(stands, Stands::ReceiveThread).then(|| {
        sending.allow_leaving(machine.room());
        let (sending, machine) = (Arc::clone(&sending), Arc::clone(&machine));
        thread::spawn(move || sending.run(&machine))
    });
    let sender = Arc::clone(&sending);
    let (own_sending, own_machine) = (Arc::clone(&sending), Arc::clone(&machine));
    let fill = move || {
        own_sending.push(wire::Message::Release(wire::Release { id: 0, count: 1 }));
        own_sending.wake(&own_machine);
    };
    let fills = line.fills.then(|| thread::spawn(fill.clone()));
    let attendants = match stands {
        Stands::ReceiveThread => None,
        Stands::Attendants => Some(attendants()),
    };
    let member = attendants.as_ref().map(|attendants| attendants.admit(CONNECTION));
    let set = member
        .as_ref()
        .map(|member| (member.standby().unwrap().expect("a model has sets"), CONNECTION));
    let waits = Waits { shared: set, spin: Duration::from_micros(50) };
    let reading =
        Reading::new(Box::new(reader), waits, entrance, receiving, sending, own, Weak::new());
    let reading = reading.ok().expect("there is a descriptor");
    let gone = Arc::new(Event::default());
    let receive = match &member {
        None => Some(thread::spawn(move || reading.stand_by())),
        Some(member) => {
            let duty = Some(Box::new(ReadingDuty::new(Arc::clone(&reading), &gone)) as _);
            let (nothing, idle) = (Box::new(Nothing), Box::new(Nothing));
            let duties = member.enter(nothing, idle, duty).unwrap();
            let duty = duties.reading.expect("there is one");
            // The end of a peer that is gone already calls for an attendant, too.
            duty.call();
            if !line.is_narrow {
                assert_eq!(inbox.drain(), 0, "nothing is read before the connection is complete");
            }
            reading.begin(&duty);
            None
        }
    };
    let inbox = Arc::new(std::sync::Mutex::new(inbox));
    let coordinator = line.is_narrow.then(|| {
        let (own, sending, inbox) = (Arc::clone(&machine), Arc::clone(&sender), Arc::clone(&inbox));
        thread::spawn(move || {
            let inbox = inbox.try_lock().expect("nobody else uses it meanwhile");
            while coordinated.coordinate(&inbox, false, &own, &sending) == Input::GoesOn {
                thread::yield_now();
            }
        })
    });
    let (own, peer) = (Arc::clone(&asked), Arc::clone(&line));
    let peer = thread::spawn(move || peer.answer(&own));
    let guests: Vec<_> = (0..guests)
        .map(|_| {
            let (machine, calls) = (Arc::clone(&machine), calls.clone());
            thread::spawn(move || calls(&machine))
        })
        .collect();
    guests.into_iter().for_each(|guest| guest.join().unwrap());
    fills.into_iter().for_each(|fills| {
        fills.join().unwrap();
        // The last guest may have left the turn, and nobody else claims it.
        fill();
    });
    asked.add(None);
    peer.join().unwrap();
    match (receive, attendants) {
        (Some(receive), _) => {
            receive.join().unwrap();
            sender.end();
            sends.into_iter().for_each(|sends| sends.join().unwrap());
        }
        (_, Some(attendants)) => {
            gone.park(Deadline::NEVER);
            drop(member);
            assert!(attendants.close(Deadline::NEVER));
        }
        _ => unreachable!("somebody stands by"),
    }
    let left = usize::from(coordinator.is_none());
    coordinator.into_iter().for_each(|coordinator| coordinator.join().unwrap());
    let inbox = inbox.try_lock().unwrap();
    assert_eq!(inbox.drain(), left, "the end comes once, and nothing else was left over");
    assert_eq!(machine.calls_under_way(), 0);
    machine.check().unwrap();
}

fn two_calls(machine: &Arc<Machine>) {
    for _ in 0..2 {
        let call = machine.bootstrap(None).call(1, 1, content::params(1, &[]));
        assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Failed);
    }
}

#[test]
fn every_answer_is_read_by_somebody_and_every_thread_gets_its_own() {
    explore(|| connection(2, two_calls));
}

/// The send thread may have to wait until the peer has been read from, and does not watch then.
#[test]
fn every_answer_is_read_while_the_send_thread_waits_for_the_peer() {
    explore(|| {
        let line = Line { fills: true, ..Line::default() };
        connection_over(line, Stands::ReceiveThread, 1, two_calls);
    });
}

#[test]
fn every_answer_is_read_where_connections_share_their_threads() {
    explore(|| connection_with(Stands::Attendants, 2, two_calls));
}

/// A thread that has its answer does not work off what it finds behind it, and nothing tells of
/// that any more.
#[test]
fn what_was_taken_in_with_an_answer_is_left_to_those_who_stand_by() {
    for stands in [Stands::ReceiveThread, Stands::Attendants] {
        explore(move || {
            let line = Line { is_greedy: true, ..Line::default() };
            connection_over(line, stands, 3, finish);
        });
    }
}

/// So threads that wait hand over what finds no room, and may be late meanwhile.
#[test]
fn what_finds_no_room_at_the_coordinator_is_left_to_those_who_stand_by() {
    for stands in [Stands::ReceiveThread, Stands::Attendants] {
        for is_greedy in [false, true] {
            explore(move || {
                let line = Line { is_narrow: true, is_greedy, ..Line::default() };
                connection_over(line, stands, 2, |machine| {
                    let call = machine.bootstrap(None).call(1, 1, content::params(1, &[]));
                    let error = call.wait_timeout(Duration::from_secs(1)).unwrap_err();
                    assert!(error.is_timeout() || error.reason() == "no", "{error}");
                    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Failed);
                });
            });
        }
    }
}

#[test]
fn nothing_is_read_before_the_connection_is_complete() {
    explore(|| {
        let line = Line::default();
        line.push(None);
        connection_over(line, Stands::Attendants, 0, |_| {});
    });
}

#[test]
fn a_guest_that_goes_early_leaves_the_turn_to_attendants() {
    explore(|| {
        connection_with(Stands::Attendants, 2, |machine| {
            let call = machine.bootstrap(None).call(1, 1, content::params(1, &[]));
            // In a model this deadline passes at any moment.
            let error = call.wait_timeout(Duration::from_secs(1)).unwrap_err();
            assert!(error.is_timeout() || error.reason() == "no", "{error}");
            assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Failed);
        });
    });
}

#[test]
fn a_guest_that_goes_early_leaves_the_turn_to_others() {
    explore(|| {
        connection(2, |machine| {
            let call = machine.bootstrap(None).call(1, 1, content::params(1, &[]));
            // In a model this deadline passes at any moment.
            let error = call.wait_timeout(Duration::from_secs(1)).unwrap_err();
            assert!(error.is_timeout() || error.reason() == "no", "{error}");
            assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Failed);
        });
    });
}

#[test]
fn a_guest_is_unparked_by_what_does_not_come_from_the_peer() {
    explore(|| {
        connection(1, |machine| {
            // The peer answers what was asked before; what is asked later fails at once.
            let own = Arc::clone(machine);
            let ends = thread::spawn(move || own.disconnect(Error::disconnected("enough")));
            let call = machine.bootstrap(None).call(1, 1, content::params(1, &[]));
            let error = call.wait().unwrap_err();
            assert!(["enough", "no"].contains(&error.reason()), "{error}");
            ends.join().unwrap();
        });
    });
}

/// A connection that others read from.
struct Busy;

impl Progress for Busy {
    fn prepare(&self) -> bool {
        false
    }

    fn prepare_to_answer(&self) -> bool {
        false
    }

    fn give_up(&self) {}

    fn advance(&self, _: &dyn Fn() -> Option<OwnQuestion>) -> bool {
        false
    }

    fn make(&self, _: &Parker, _: Deadline, _: bool) -> bool {
        false
    }

    fn make_idly(&self, _: &dyn Hands) -> bool {
        false
    }
}

/// Calls, and waits for the answer, with the preparations for that.
fn finish(machine: &Arc<Machine>) {
    let params = content::params(1, &[]);
    let call = Call { interface_id: 1, method_id: 1, params, hint: Hint::None };
    let error = machine.bootstrap(None).finish(call, Time::Default).unwrap_err();
    assert_eq!(error.reason(), "no");
}

#[test]
fn threads_that_prepare_to_read_do_not_keep_each_other_from_it() {
    explore(|| {
        connection(2, |machine| (0..2).for_each(|_| finish(machine)));
    });
}

#[test]
fn a_thread_that_waits_for_something_else_than_it_prepared_for_lets_others_read() {
    explore(|| {
        connection(1, |machine| {
            let answered = Arc::new(Event::default());
            let (own, event) = (Arc::clone(machine), Arc::clone(&answered));
            let other = thread::spawn(move || {
                finish(&own);
                event.set();
            });
            let prepared = Prepared::begin(machine.room().means());
            answered.wait(Deadline::NEVER).unwrap();
            drop(prepared);
            finish(machine);
            other.join().unwrap();
        });
    });
}

#[test]
fn a_thread_that_prepares_for_something_else_lets_others_read_first() {
    explore(|| {
        connection(1, |machine| {
            let outer = Prepared::begin(machine.room().means());
            let inner = Prepared::begin(Some(Arc::new(Busy)));
            let own = Arc::clone(machine);
            // A wait outside of this library.
            thread::spawn(move || finish(&own)).join().unwrap();
            drop((inner, outer));
        });
    });
}
