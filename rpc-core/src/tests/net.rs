//! Vats, links and messages under way, all in the hands of the test.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use capnp::Word;
use capnp::message::ReaderSegments;

use super::actor::{Actor, Jobs};
use super::content;
use super::line::line;
use super::neighbours::{Neighbourhood, VatNumber};
use crate::cap::client::Client;
use crate::cap::object::Concurrency;
use crate::cap::payload::Payload;
use crate::cap::pending::Pending;
use crate::error::Error;
use crate::fd::SharedFd;
use crate::limits::Limits;
use crate::protocol::snapshot::Snapshot;
use crate::protocol::{Machine, Offers, Outbox, Settings};
use crate::sync::Mutex;
use crate::typed::Pipeline;
use crate::wire;
use crate::wire::message::Message as Frame;

/// Which interface and method the tests call; nothing here depends on it.
pub(super) const INTERFACE: u64 = 0xfeed_beef_feed_beef;
pub(super) const METHOD: u16 = 7;

/// After so many messages a test that waits for silence gives up.
const MANY: usize = 3_000;

/// Limits at which nothing ever waits: no other thread could end the wait.
pub(super) fn limits() -> Limits {
    Limits {
        questions: u32::MAX,
        queued_bytes: u64::MAX,
        backlog_bytes: u64::MAX,
        ..Limits::default()
    }
}

/// What a machine has sent and has not been delivered yet.
#[derive(Default)]
pub(super) struct Wire {
    queue: Mutex<VecDeque<Item>>,
    between: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

enum Item {
    Message(wire::Message),
    Idle,
    End,
}

impl Outbox for Wire {
    fn push(&self, message: wire::Message) {
        self.queue.lock().push_back(Item::Message(message));
    }

    fn push_idle(&self) {
        self.queue.lock().push_back(Item::Idle);
    }

    fn wake(&self, _: &Machine) {
        let step = self.between.lock().take();
        if let Some(step) = step {
            step();
        }
    }

    fn disconnected(&self) {
        self.queue.lock().push_back(Item::End);
    }
}

/// One side of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End(pub(super) usize);

struct Side {
    machine: Arc<Machine>,
    wire: Arc<Wire>,
    /// The other machine, unless the test itself is the peer.
    peer: Option<End>,
    /// How much it had sent and received when it was checked last.
    checked: AtomicUsize,
}

/// A few vats in one process. A vat is no more than the set of the machines and
/// objects that the test treats as being in one place.
#[derive(Default)]
pub(super) struct Net {
    pub(super) jobs: Arc<Jobs>,
    sides: Vec<Side>,
    actors: Vec<Actor>,
    calls: Vec<Arc<Settled>>,
    /// The network whose vats introduce each other.
    network: Option<Arc<Neighbourhood>>,
    /// What was delivered, to be printed with a failure.
    journal: Vec<String>,
    journal_off: bool,
}

/// Two machines, of which the second offers an object, and the first has it.
pub(super) fn pair() -> (Net, [End; 2], Actor, Client) {
    let mut net = Net::new();
    let (server, client) = net.object("server");
    let (a, b) = net.link(None, Some(client));
    let remote = net.bootstrapped(a);
    (net, [a, b], server, remote)
}

impl Net {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// What is delivered is not written down, which takes most of the time.
    pub(super) fn keep_no_journal(&mut self) {
        self.journal_off = true;
    }

    /// Writes something down among what is delivered.
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if !self.journal_off {
            self.journal.push(text());
        }
    }

    pub(super) fn print_journal(&self) {
        for line in &self.journal {
            eprintln!("{line}");
        }
    }

    // ---- Making

    /// An object that runs when the jobs are run.
    pub(super) fn object(&mut self, name: &'static str) -> (Actor, Client) {
        self.object_with(name, Concurrency::Serial)
    }

    pub(super) fn object_with(
        &mut self,
        name: &'static str,
        concurrency: Concurrency,
    ) -> (Actor, Client) {
        let actor = Actor::new(name);
        self.actors.push(actor.clone());
        let client = actor.client(&self.jobs, concurrency);
        (actor, client)
    }

    /// An object that a file descriptor belongs to.
    pub(super) fn object_with_fd(&mut self, name: &'static str, fd: SharedFd) -> (Actor, Client) {
        let actor = Actor::new(name);
        self.actors.push(actor.clone());
        let client = actor.client_with_fd(&self.jobs, fd);
        (actor, client)
    }

    /// Links two vats, each with what it offers the other.
    pub(super) fn link(&mut self, ours: Option<Client>, theirs: Option<Client>) -> (End, End) {
        self.link_with(limits(), ours, theirs)
    }

    pub(super) fn link_with(
        &mut self,
        limits: Limits,
        ours: Option<Client>,
        theirs: Option<Client>,
    ) -> (End, End) {
        let (near, far) = (End(self.sides.len()), End(self.sides.len() + 1));
        self.side(limits.clone(), ours, Some(far), None);
        self.side(limits, theirs, Some(near), None);
        (near, far)
    }

    /// Links two vats of a network whose vats introduce each other.
    pub(super) fn link_in(
        &mut self,
        network: &Arc<Neighbourhood>,
        vats: [VatNumber; 2],
        ours: Option<Client>,
        theirs: Option<Client>,
    ) -> (End, End) {
        self.link_in_with([limits(), limits()], network, vats, [ours, theirs])
    }

    /// As [`link_in`](Self::link_in), with the limits of both sides.
    pub(super) fn link_in_with(
        &mut self,
        [near_limits, far_limits]: [Limits; 2],
        network: &Arc<Neighbourhood>,
        [one, other]: [VatNumber; 2],
        [ours, theirs]: [Option<Client>; 2],
    ) -> (End, End) {
        self.network = Some(Arc::clone(network));
        let (near, far) = (End(self.sides.len()), End(self.sides.len() + 1));
        self.side(near_limits, ours, Some(far), Some((one, other)));
        self.side(far_limits, theirs, Some(near), Some((other, one)));
        (near, far)
    }

    /// One side of a link in a network, whose other side is the test.
    pub(super) fn raw_side_in(
        &mut self,
        network: &Arc<Neighbourhood>,
        vats: (VatNumber, VatNumber),
        bootstrap: Option<Client>,
    ) -> End {
        self.raw_side_in_with(limits(), network, vats, bootstrap)
    }

    pub(super) fn raw_side_in_with(
        &mut self,
        limits: Limits,
        network: &Arc<Neighbourhood>,
        vats: (VatNumber, VatNumber),
        bootstrap: Option<Client>,
    ) -> End {
        self.network = Some(Arc::clone(network));
        self.side(limits, bootstrap, None, Some(vats));
        End(self.sides.len() - 1)
    }

    /// One side of a link whose other side is the test.
    pub(super) fn raw_side(&mut self, limits: Limits, bootstrap: Option<Client>) -> End {
        self.side(limits, bootstrap, None, None);
        End(self.sides.len() - 1)
    }

    /// `vats` are that of this side and that of its peer, if there is a network.
    fn side(
        &mut self,
        limits: Limits,
        bootstrap: Option<Client>,
        peer: Option<End>,
        vats: Option<(VatNumber, VatNumber)>,
    ) {
        let wire = Arc::new(Wire::default());
        let outbox = Arc::clone(&wire) as Arc<dyn Outbox>;
        let network = self.network.as_ref().zip(vats);
        let passes_fds = network.is_none_or(|(network, _)| network.passes_fds());
        let fds = if passes_fds { limits.message_fds_sent as usize } else { 0 };
        let settings = Settings { limits, fds, ..Settings::default() };
        let neighbour = network.map(|(network, (own, peer))| network.door(own, peer));
        let offers = Offers { bootstrap, neighbour, ..Offers::default() };
        let machine = Machine::new(settings, offers, outbox);
        if let Some((network, (own, peer))) = network {
            network.enter(own, peer, &machine);
        }
        let checked = AtomicUsize::new(usize::MAX);
        self.sides.push(Side { machine, wire, peer, checked });
    }

    // ---- Calling

    /// Starts a call.
    pub(super) fn call(&mut self, client: &Client, label: u64, caps: &[Client]) -> Call {
        self.call_payload(client, content::params(label, caps))
    }

    pub(super) fn call_payload(&mut self, client: &Client, params: Payload) -> Call {
        let label = content::label(&params);
        let pending = client.call(INTERFACE, METHOD, params);
        self.made(label, pending)
    }

    /// Starts a call whose fields are not called before it has returned.
    pub(super) fn call_without_pipeline(
        &mut self,
        client: &Client,
        label: u64,
        caps: &[Client],
    ) -> Call {
        let params = content::params(label, caps);
        let pending = client.call_without_pipeline(INTERFACE, METHOD, params);
        self.made(label, pending)
    }

    /// Starts a call of which only the fields are wanted.
    pub(super) fn call_for_fields(
        &mut self,
        client: &Client,
        label: u64,
        caps: &[Client],
    ) -> Pipeline {
        let params = content::params(label, caps);
        let pipeline = client.call_pipeline_only(INTERFACE, METHOD, params);
        self.check();
        pipeline
    }

    fn made(&mut self, label: u64, pending: Pending) -> Call {
        let settled = Settled::new(label);
        self.calls.push(Arc::clone(&settled));
        settled.watch(&pending);
        self.check();
        Call { pending: Some(pending), settled }
    }

    /// Asks for what the other side of a link offers.
    pub(super) fn bootstrap(&mut self, end: End) -> Client {
        let client = self.machine(end).bootstrap(None);
        self.check();
        client
    }

    /// As [`bootstrap`](Self::bootstrap), and waits for the answer.
    pub(super) fn bootstrapped(&mut self, end: End) -> Client {
        let client = self.bootstrap(end);
        self.settle();
        client
    }

    // ---- Steps

    pub(super) fn machine(&self, end: End) -> &Arc<Machine> {
        &self.sides[end.0].machine
    }

    pub(super) fn snapshot(&self, end: End) -> Snapshot {
        self.machine(end).snapshot()
    }

    /// How many messages are under way from this end.
    pub(super) fn queued(&self, from: End) -> usize {
        self.sides[from.0].wire.queue.lock().len()
    }

    /// Delivers the oldest message that an end sent, and returns it. Does not
    /// run what objects have to do.
    pub(super) fn deliver_one(&mut self, from: End) -> String {
        let to = self.sides[from.0].peer.unwrap();
        let Some(item) = self.pop(from) else { panic!("nothing is under way from {from:?}") };
        self.check();
        let text = match item {
            Item::Idle => {
                self.machine(to).peer_is_idle();
                "idle".to_owned()
            }
            Item::End => {
                self.machine(to).disconnect(Error::disconnected("the peer closed the connection"));
                "end".to_owned()
            }
            Item::Message(message) => {
                let mut text = String::new();
                if !self.journal_off {
                    text = line(&message);
                    self.journal.push(format!("{} -> {}: {text}", from.0, to.0));
                }
                self.machine(to).receive(message);
                text
            }
        };
        self.check();
        text
    }

    /// As [`deliver_one`](Self::deliver_one), and requires it to be this.
    #[track_caller]
    pub(super) fn deliver(&mut self, from: End, expected: &str) {
        assert_eq!(self.deliver_one(from), expected);
    }

    /// As [`deliver`](Self::deliver), and then runs what objects have to do.
    #[track_caller]
    pub(super) fn step(&mut self, from: End, expected: &str) {
        self.deliver(from, expected);
        self.run();
    }

    /// Takes the oldest that an end sent, in the form in which its peer would see
    /// it.
    fn pop(&self, from: End) -> Option<Item> {
        let side = &self.sides[from.0];
        let item = side.wire.queue.lock().pop_front()?;
        Some(match item {
            Item::Message(message) => {
                side.machine.room().sent(message.size_estimate());
                Item::Message(transmit(message))
            }
            Item::Idle | Item::End => item,
        })
    }

    /// Takes everything that an end sent, without delivering it.
    pub(super) fn take_sent(&mut self, from: End) -> Vec<wire::Message> {
        let sent = std::iter::from_fn(|| self.pop(from))
            .filter_map(|item| match item {
                Item::Message(message) => Some(message),
                Item::Idle | Item::End => None,
            })
            .collect();
        self.check();
        sent
    }

    /// Gives a message to an end, as if its peer had sent it.
    pub(super) fn inject(&mut self, to: End, message: wire::Message) {
        self.note(|| format!("test -> {}: {}", to.0, line(&message)));
        self.machine(to).receive(message);
        self.check();
    }

    /// Does this between the next step of a machine and what follows from that step, as
    /// another thread might.
    pub(super) fn between(&self, end: End, step: impl FnOnce(&Arc<Machine>) + Send + 'static) {
        let side = &self.sides[end.0];
        let machine = Arc::clone(&side.machine);
        *side.wire.between.lock() = Some(Box::new(move || step(&machine)));
    }

    /// Runs what objects have to do, until there is nothing.
    pub(super) fn run(&mut self) {
        while self.jobs.run_one() {
            self.check();
        }
    }

    /// Delivers and runs everything until nothing is under way.
    #[track_caller]
    pub(super) fn settle(&mut self) {
        for _ in 0..MANY {
            self.run();
            let busy = (0..self.sides.len())
                .map(End)
                .find(|end| self.sides[end.0].peer.is_some() && self.queued(*end) > 0);
            let Some(end) = busy else {
                (0..self.sides.len()).for_each(|side| self.check_side(side));
                return;
            };
            self.deliver_one(end);
        }
        panic!("messages go round in circles");
    }

    /// Delivers and runs everything that these ends send, and what follows from it, and leaves
    /// alone what others have sent.
    pub(super) fn settle_only(&mut self, ends: &[End]) {
        self.run();
        while let Some(end) = ends.iter().find(|end| self.queued(**end) > 0) {
            self.deliver_one(*end);
            self.run();
        }
    }

    /// How many ends there are, which are numbered from 0 on.
    pub(super) fn ends(&self) -> usize {
        self.sides.len()
    }

    /// Sets how many words of its peer's calls an end may have under way.
    pub(super) fn set_flow_limit(&self, end: End, words: u64) {
        self.machine(end).set_flow_limit(words);
        self.machine(end).release_held();
        self.check();
    }

    /// The transport at one end fails: what it has sent still arrives.
    pub(super) fn cut(&mut self, end: End) {
        self.machine(end).disconnect(Error::disconnected("the link was cut"));
        self.check();
    }

    // ---- Checking

    /// What must hold between any two steps. Looks at the machines that have sent or
    /// received something since the last look: looking takes most of a walk's time.
    #[track_caller]
    pub(super) fn check(&self) {
        for (number, side) in self.sides.iter().enumerate() {
            let activity = side.machine.activity();
            if side.checked.swap(activity, Ordering::Relaxed) != activity {
                self.check_side(number);
            }
        }
    }

    #[track_caller]
    fn check_side(&self, number: usize) {
        if let Err(problem) = self.sides[number].machine.check() {
            panic!("side {number}: {problem}");
        }
    }

    /// What must hold of two sides when nothing is under way between them.
    #[track_caller]
    pub(super) fn check_agreement(&self) {
        for (number, side) in self.sides.iter().enumerate() {
            let Some(peer) = side.peer else { continue };
            if side.machine.failure().is_some() || self.machine(peer).failure().is_some() {
                continue;
            }
            let (ours, theirs) = (side.machine.holdings(), self.machine(peer).holdings());
            assert_eq!(ours.exports, theirs.imports, "exports of side {number}");
            assert_eq!(ours.questions, theirs.answers, "questions of side {number}");
        }
    }

    /// Whether nothing is left in any table.
    pub(super) fn is_empty(&self) -> bool {
        self.sides.iter().all(|side| side.machine.snapshot().is_empty())
    }

    /// Breaks circles through fields of results that stay with a peer, which nothing else
    /// breaks: Note [tail calls].
    pub(super) fn give_up_kept_fields(&self) {
        for side in &self.sides {
            side.machine.give_up_kept_fields();
        }
    }

    /// The end of a test that has dropped all its references: requires that
    /// nothing is left anywhere.
    #[track_caller]
    pub(super) fn finish(mut self) {
        if let Err(problem) = self.find_remains() {
            panic!("{problem}");
        }
    }

    /// Lets everything come to an end and takes the net apart.
    ///
    /// # Errors
    /// What is left.
    pub(super) fn find_remains(&mut self) -> Result<(), String> {
        self.settle();
        self.check_agreement();
        for (number, side) in self.sides.iter().enumerate() {
            let snapshot = side.machine.snapshot();
            let held = snapshot.queued_bytes > 0 || snapshot.budget_bytes > 0;
            let held = held || snapshot.accepts > 0;
            if !snapshot.is_empty() || held {
                return Err(format!("side {number} still holds {snapshot:?}"));
            }
        }
        if self.network.as_ref().is_some_and(|network| !network.is_empty()) {
            return Err("something is still provided, or somebody waits".to_owned());
        }
        if self.jobs.len() > 0 {
            return Err(format!("{} jobs are left", self.jobs.len()));
        }
        for call in &self.calls {
            call.check()?;
        }
        let machines: Vec<Weak<Machine>> =
            self.sides.drain(..).map(|side| Arc::downgrade(&side.machine)).collect();
        for (number, machine) in machines.iter().enumerate() {
            if machine.strong_count() > 0 {
                return Err(format!("something still refers to machine {number}"));
            }
        }
        for actor in &self.actors {
            if actor.drops() != 1 {
                return Err(format!("{} was dropped {} times", actor.name(), actor.drops()));
            }
        }
        Ok(())
    }

    /// Breaks the circles that a test has left that failed: a test may want one to fail, and
    /// what such a one left would be taken for a leak.
    fn take_apart(&mut self) {
        for actor in &self.actors {
            actor.let_go();
        }
        for side in &self.sides {
            side.machine.disconnect(Error::disconnected("the test has failed"));
            // Not while it is locked: what a message holds may have something to send.
            let queue = std::mem::take(&mut *side.wire.queue.lock());
            let between = side.wire.between.lock().take();
            drop((queue, between));
        }
        // Of those that are dropped, others may come.
        while self.jobs.len() > 0 {
            drop(self.jobs.take());
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_journal();
            self.take_apart();
        }
    }
}

impl Machine {
    /// What the peer offers, for those who need not wait for room.
    pub(crate) fn bootstrap(self: &Arc<Self>, object: Option<Payload>) -> Client {
        self.try_bootstrap(object, Ok(None)).unwrap()
    }
}

/// A message as it arrives at the other side of a link.
pub(super) fn transmit(message: wire::Message) -> wire::Message {
    wire::decode(frame(message)).unwrap()
}

/// A message to which nothing is done.
pub(crate) fn ignored() -> wire::Message {
    wire::Message::Unimplemented(Some(Box::new(wire::Message::Unimplemented(None))))
}

/// A message as bytes that were received.
pub(crate) fn frame(message: wire::Message) -> Frame {
    received(&wire::encode(message).unwrap())
}

/// A frame that was built, as one that was received.
pub(crate) fn received(frame: &Frame) -> Frame {
    let mut words = Vec::new();
    let mut lengths = Vec::new();
    copy(frame, &mut words, &mut lengths);
    let mut received = Frame::from_segments(words, &lengths).unwrap();
    received.set_fds(frame.fds().to_vec());
    received
}

pub(super) fn copy(frame: &Frame, words: &mut Vec<Word>, lengths: &mut Vec<u32>) {
    for index in 0..u32::try_from(frame.len()).unwrap() {
        let segment = frame.get_segment(index).unwrap();
        let start = words.len();
        words.resize(start + segment.len() / 8, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        Word::words_to_bytes_mut(&mut words[start..]).copy_from_slice(segment);
        lengths.push(u32::try_from(segment.len() / 8).unwrap());
    }
}

/// A call that a test made.
pub(super) struct Call {
    /// Present until drop.
    pending: Option<Pending>,
    settled: Arc<Settled>,
}

impl Call {
    pub(super) fn result(&self) -> Option<Result<Payload, Error>> {
        self.pending.as_ref().unwrap().try_result()
    }

    /// The results; the call must have succeeded.
    #[track_caller]
    pub(super) fn ok(&self) -> Payload {
        match self.result() {
            Some(Ok(payload)) => payload,
            other => panic!("call {} should have succeeded: {other:?}", self.settled.label),
        }
    }

    /// The error; the call must have failed.
    #[track_caller]
    pub(super) fn error(&self) -> Error {
        match self.result() {
            Some(Err(error)) => error,
            other => panic!("call {} should have failed: {other:?}", self.settled.label),
        }
    }

    #[track_caller]
    pub(super) fn assert_open(&self) {
        assert!(self.result().is_none(), "call {} should be open", self.settled.label);
    }

    /// The capability that the results will have, or have, in a field.
    pub(super) fn pipelined(&self, field: u16) -> Client {
        self.pending.as_ref().unwrap().pipelined(&[field])
    }

    /// The capability that a reader of the results finds in a field.
    #[track_caller]
    pub(super) fn cap(&self, field: u16) -> Client {
        content::cap(&self.ok(), field)
    }

    /// Does this when the call is settled, where the library tells of it.
    pub(super) fn when_settled(&self, then: impl FnOnce() + Send + 'static) {
        *self.settled.done.lock() = Some(Box::new(then));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.result().is_none() {
            self.settled.wakes.fetch_add(CANCELLED, Ordering::SeqCst);
        }
        drop(self.pending.take());
    }
}

/// Added to the number of wake-ups of a call that was cancelled.
const CANCELLED: usize = 1 << 16;
const SETTLED_LATE: usize = CANCELLED + 1;

struct Settled {
    label: u64,
    wakes: AtomicUsize,
    done: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Settled {
    fn new(label: u64) -> Arc<Self> {
        Arc::new(Settled { label, wakes: AtomicUsize::new(0), done: Mutex::default() })
    }

    fn watch(self: &Arc<Self>, pending: &Pending) {
        let waker = Waker::from(Arc::clone(self));
        let mut future = pending.clone();
        let polled = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(_) = polled {
            self.wake_by_ref();
        }
    }

    /// Settled once, or cancelled and not more than once.
    fn check(&self) -> Result<(), String> {
        match self.wakes.load(Ordering::SeqCst) {
            1 | CANCELLED | SETTLED_LATE => Ok(()),
            wakes => Err(format!("call {} was settled {} times", self.label, wakes % CANCELLED)),
        }
    }
}

impl Wake for Settled {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        let then = self.done.lock().take();
        if let Some(then) = then {
            then();
        }
    }
}
