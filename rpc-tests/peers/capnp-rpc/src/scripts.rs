//! Scripts of calls, drawn at random from a seed, whose every result is known beforehand.
//!
//! The same as `src/conformance/client/script.rs` does with this project's own client: a
//! script has references to objects that number the calls which they get, the server's and
//! its own, promises of its own, and what the server's `echo` makes of them. Calls through
//! one reference arrive in order. Between two references to one object there is no order, so
//! the script waits for the answers of one before it goes on with the other.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use capnp::Error;
use capnp::capability::{Promise, RemotePromise, Response};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};

use crate::bulk::tables;
use crate::generated::test_capnp::{test_call_order, test_more_stuff};
use crate::harness::{
    Context, Failure, Number, Outcome, check, check_eq, failure, sequence, with_server,
};
use crate::ours::{OurCallOrder, OurPromise, ours};

/// How long a script may take. It is as long as several behaviours.
const DEADLINE: Duration = Duration::from_secs(200);

/// How many steps a script has.
const STEPS: u32 = 150;

/// How many references a script has at the most.
const REFERENCES: usize = 12;

const BROKEN: &str = "the script broke this promise";

/// What was done, for whoever reads a failure.
type Steps = Rc<RefCell<Vec<String>>>;

/// Runs the scripts of some seeds, and prints what comes of each.
pub(crate) async fn run_all(address: &str, seeds: &[String]) -> ExitCode {
    for seed in seeds {
        let steps = Steps::default();
        let line = match run_one(address, seed, &steps).await {
            Ok(()) => format!("ok {seed}"),
            Err(Failure::Failed(reason) | Failure::Skipped(reason)) => {
                let reason = reason.replace('\n', " ");
                format!("FAIL {seed}: {reason}\n{}", steps.borrow().join("\n"))
            }
        };
        let failed = line.starts_with("FAIL");
        if writeln!(io::stdout(), "{line}").is_err() || failed {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn run_one(address: &str, seed: &str, steps: &Steps) -> Outcome {
    let Ok(number) = seed.parse() else {
        return Err(Failure::Failed("a seed is a number".into()));
    };
    let steps = steps.clone();
    with_server(address, DEADLINE, |c| Box::pin(run(c, number, steps))).await
}

async fn run(c: Rc<Context>, seed: u64, steps: Steps) -> Outcome {
    let control = c.control()?;
    // The first call settles what the bootstrap itself takes.
    tables(&control).await?;
    let before = tables(&control).await?;
    Script::new(&c, seed, steps).run().await?;
    c.ping().await?;
    while tables(&control).await? != before {}
    Ok(())
}

struct Reference {
    id: u32,
    cap: test_call_order::Client,
    leads_to: Place,
}

/// What a reference leads to, as far as the script knows by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Object(usize),
    Promise(usize),
    Broken,
}

#[derive(Default)]
struct Object {
    /// The number of its next call.
    next: u32,
    /// Through which reference it was called last.
    caller: Option<u32>,
}

struct ScriptPromise {
    state: PromiseState,
    /// Through which reference it is called until it is resolved.
    caller: Option<u32>,
    /// Whether the crate knows that it is resolved.
    is_known: Rc<Cell<bool>>,
    is_exported: bool,
}

enum PromiseState {
    Open(OurPromise<test_call_order::Client>),
    Resolved(Place),
}

struct Call {
    answer: oneshot::Receiver<Answer>,
    /// What was called when it was made.
    target: Place,
    expected: Expected,
}

type Answer = Result<u32, Error>;

/// Polls calls in the order in which they were made, whichever of them has been woken: the crate
/// delivers a call of an object of this side when the call is polled, not when it is made.
struct Caller(mpsc::UnboundedSender<(Number, oneshot::Sender<Answer>)>);

impl Caller {
    fn new() -> Self {
        let (sender, mut made) = mpsc::unbounded();
        let mut open: Vec<(Number, Option<oneshot::Sender<Answer>>)> = Vec::new();
        tokio::task::spawn_local(std::future::poll_fn(move |cx| {
            let more = loop {
                match made.poll_next_unpin(cx) {
                    Poll::Ready(Some((call, answer))) => open.push((call, Some(answer))),
                    Poll::Ready(None) => break Poll::Ready(()),
                    Poll::Pending => break Poll::Pending,
                }
            };
            open.retain_mut(|(call, answer)| {
                let Poll::Ready(n) = call.poll_unpin(cx) else { return true };
                if let Some(answer) = answer.take() {
                    // Nobody waits for it if this fails.
                    let _ = answer.send(n);
                }
                false
            });
            more
        }));
        Self(sender)
    }

    fn call(&self, call: Number) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel();
        // Without the task, the answer is canceled.
        let _ = self.0.unbounded_send((call, sender));
        answer
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The promise that was called is not resolved.
    Unknown,
    Number(u32),
    Failure,
}

/// An `echo` that was not looked at yet.
struct Echo {
    answer: Promise<Response<test_more_stuff::echo_results::Owned>, Error>,
    leads_to: Place,
    /// The reference that was pipelined from it.
    id: u32,
}

struct Script<'c> {
    c: &'c Context,
    random: Random,
    steps: Steps,
    theirs: test_more_stuff::Client,
    caller: Caller,
    references: Vec<Reference>,
    objects: Vec<Object>,
    promises: Vec<ScriptPromise>,
    calls: Vec<Call>,
    echoes: Vec<Echo>,
    next_id: u32,
    /// How many calls were canceled.
    canceled: u32,
    /// How many of them had begun.
    begun_and_canceled: u32,
}

impl<'c> Script<'c> {
    fn new(c: &'c Context, seed: u64, steps: Steps) -> Self {
        Self {
            c,
            random: Random(seed),
            steps,
            theirs: c.theirs(),
            caller: Caller::new(),
            references: Vec::new(),
            objects: Vec::new(),
            promises: Vec::new(),
            calls: Vec::new(),
            echoes: Vec::new(),
            next_id: 0,
            canceled: 0,
            begun_and_canceled: 0,
        }
    }

    async fn run(mut self) -> Outcome {
        self.new_object_of_ours();
        for _ in 0..STEPS {
            match self.random.below(22) {
                0 => self.new_object_of_theirs(),
                1 => self.new_object_of_ours(),
                2 => self.new_promise(),
                3..6 => self.echo(),
                6 => self.read_echo().await?,
                7 => self.forget_echo(),
                8 => self.resolve_a_promise().await?,
                9 => self.drop_reference(),
                10 => self.settle_all().await?,
                11 => self.call_back().await?,
                12 => self.cancel().await?,
                13 => self.turn().await,
                _ => self.call().await?,
            }
        }
        while self.open_promise().is_some() {
            self.resolve_a_promise().await?;
        }
        self.settle_all().await
    }

    fn note(&self, step: impl Display) {
        self.steps.borrow_mut().push(step.to_string());
    }

    /// Lets the connection send and receive.
    async fn turn(&self) {
        self.note("turn");
        tokio::task::yield_now().await;
    }

    // ---- References

    fn add(&mut self, cap: test_call_order::Client, leads_to: Place) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.references.push(Reference { id, cap, leads_to });
        if self.references.len() > REFERENCES {
            self.references.remove(0);
        }
        id
    }

    fn new_object(&mut self) -> Place {
        self.objects.push(Object::default());
        Place::Object(self.objects.len() - 1)
    }

    fn new_object_of_theirs(&mut self) {
        let cap = self.c.objects().test_call_order_request().send().pipeline.get_object();
        let place = self.new_object();
        let id = self.add(cap, place);
        self.note(format_args!("reference {id}: new object of theirs, {place}"));
    }

    fn new_object_of_ours(&mut self) {
        let place = self.new_object();
        let id = self.add(capnp_rpc::new_client(OurCallOrder::default()), place);
        self.note(format_args!("reference {id}: new object of ours, {place}"));
    }

    fn new_promise(&mut self) {
        let promise = OurPromise::<test_call_order::Client>::new();
        let (cap, is_known) = (promise.cap.clone(), promise.is_known.clone());
        let state = PromiseState::Open(promise);
        self.promises.push(ScriptPromise { state, caller: None, is_known, is_exported: false });
        let place = Place::Promise(self.promises.len() - 1);
        let id = self.add(cap, place);
        self.note(format_args!("reference {id}: new promise of ours, {place}"));
    }

    fn drop_reference(&mut self) {
        if self.references.len() > 1 {
            let index = self.random.index(self.references.len());
            let dropped = self.references.remove(index);
            self.note(format_args!("drop reference {}", dropped.id));
        }
    }

    /// What a place is by now.
    fn now(&self, mut place: Place) -> Place {
        while let Place::Promise(index) = place {
            match self.promises[index].state {
                PromiseState::Open(_) => break,
                PromiseState::Resolved(next) => place = next,
            }
        }
        place
    }

    /// Whether the crate takes a reference for a promise of ours that is not resolved.
    ///
    /// Such a promise is sent only once. The crate describes whatever it has exported before as
    /// `senderHosted`, and resolves it nevertheless, for which both this project's library and
    /// the C++ one end the connection.
    fn promise_of_ours(&self, leads_to: Place) -> Option<usize> {
        match leads_to {
            Place::Promise(index) if !self.promises[index].is_known.get() => Some(index),
            Place::Promise(_) | Place::Object(_) | Place::Broken => None,
        }
    }

    // ---- Echoes

    fn echo(&mut self) {
        let reference = &self.references[self.random.index(self.references.len())];
        let (from, leads_to) = (reference.id, reference.leads_to);
        if let Some(index) = self.promise_of_ours(leads_to)
            && std::mem::replace(&mut self.promises[index].is_exported, true)
        {
            return;
        }
        let mut request = self.theirs.echo_request();
        request.get().set_cap(reference.cap.clone());
        let RemotePromise { promise, pipeline } = request.send();
        let id = self.add(pipeline.get_cap(), leads_to);
        self.note(format_args!("reference {id}: echo of reference {from}"));
        self.echoes.push(Echo { answer: promise, leads_to, id });
    }

    fn take_echo(&mut self) -> Option<Echo> {
        if self.echoes.is_empty() {
            return None;
        }
        let index = self.random.index(self.echoes.len());
        Some(self.echoes.swap_remove(index))
    }

    /// Waits for an echo, and goes on with the capability in its results instead of the one
    /// that was pipelined.
    async fn read_echo(&mut self) -> Outcome {
        let Some(echo) = self.take_echo() else { return Ok(()) };
        let cap = echo.answer.await?.get()?.get_cap()?;
        self.references.retain(|reference| reference.id != echo.id);
        let id = self.add(cap, echo.leads_to);
        self.note(format_args!("reference {id}: result of the echo for reference {}", echo.id));
        Ok(())
    }

    /// What was pipelined stays. If that is gone, too, this cancels the call.
    fn forget_echo(&mut self) {
        if let Some(echo) = self.take_echo() {
            self.note(format_args!("forget the echo for reference {}", echo.id));
        }
    }

    // ---- Promises

    fn open_promise(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.promises.len())
            .filter(|index| matches!(self.promises[*index].state, PromiseState::Open(_)))
            .collect();
        if open.is_empty() { None } else { Some(open[self.random.index(open.len())]) }
    }

    async fn resolve_a_promise(&mut self) -> Outcome {
        let Some(index) = self.open_promise() else { return Ok(()) };
        // Only with what leads to an object: open promises would make the script's own
        // book-keeping the hard part.
        let targets: Vec<(u32, test_call_order::Client, usize)> = self
            .references
            .iter()
            .filter(|reference| self.promise_of_ours(reference.leads_to).is_none())
            .filter_map(|reference| match self.now(reference.leads_to) {
                Place::Object(object) => Some((reference.id, reference.cap.clone(), object)),
                Place::Promise(_) | Place::Broken => None,
            })
            .collect();
        if targets.is_empty() || self.random.below(5) == 0 {
            self.note(format_args!("reject promise {index}"));
            self.close(index, Place::Broken, |promise| promise.reject(BROKEN))?;
            for call in queued(&mut self.calls, index) {
                call.expected = Expected::Failure;
            }
            return Ok(());
        }
        let (id, cap, object) = targets[self.random.index(targets.len())].clone();
        self.settle(object).await?;
        self.note(format_args!("fulfil promise {index} with reference {id}"));
        self.close(index, Place::Object(object), |promise| promise.fulfil(cap))?;
        // What waited is delivered.
        let caller = self.promises[index].caller;
        let object = &mut self.objects[object];
        for call in queued(&mut self.calls, index) {
            call.expected = Expected::Number(object.next);
            object.next += 1;
            object.caller = caller;
        }
        Ok(())
    }

    fn close(
        &mut self,
        index: usize,
        place: Place,
        resolve: impl FnOnce(OurPromise<test_call_order::Client>) -> Outcome,
    ) -> Outcome {
        let resolved = PromiseState::Resolved(place);
        match std::mem::replace(&mut self.promises[index].state, resolved) {
            PromiseState::Open(promise) => resolve(promise),
            PromiseState::Resolved(_) => Ok(()),
        }
    }

    // ---- Calls

    async fn call(&mut self) -> Outcome {
        let reference = &self.references[self.random.index(self.references.len())];
        let (id, cap, place) = (reference.id, reference.cap.clone(), self.now(reference.leads_to));
        let expected = match place {
            Place::Broken => Expected::Failure,
            Place::Promise(index) => {
                let caller = &mut self.promises[index].caller;
                if caller.is_some_and(|caller| caller != id) {
                    // Its calls are queued: nobody can wait for them now.
                    return Ok(());
                }
                *caller = Some(id);
                Expected::Unknown
            }
            Place::Object(index) => {
                if self.objects[index].caller.is_some_and(|caller| caller != id) {
                    self.settle(index).await?;
                }
                let object = &mut self.objects[index];
                object.caller = Some(id);
                object.next += 1;
                Expected::Number(object.next - 1)
            }
        };
        self.note(format_args!("call reference {id}, {place}"));
        let answer = self.caller.call(sequence(&cap, 0));
        self.calls.push(Call { answer, target: place, expected });
        Ok(())
    }

    /// Waits for the calls of one object.
    async fn settle(&mut self, object: usize) -> Outcome {
        self.note(format_args!("settle object {object}"));
        self.settle_where(|place| place == Place::Object(object)).await
    }

    /// Waits for all calls that can be answered by now.
    async fn settle_all(&mut self) -> Outcome {
        self.note("settle");
        self.settle_where(|_| true).await
    }

    async fn settle_where(&mut self, which: impl Fn(Place) -> bool) -> Outcome {
        let mut open = Vec::new();
        for call in std::mem::take(&mut self.calls) {
            if call.expected == Expected::Unknown || !which(self.now(call.target)) {
                open.push(call);
                continue;
            }
            let answer = async { call.answer.await.map_err(|e| Error::failed(e.to_string()))? };
            match call.expected {
                Expected::Unknown => {}
                Expected::Number(expected) => {
                    let n = answer.await?;
                    check!(n == expected, "a call of {} is {n}, not {expected}", call.target);
                }
                Expected::Failure => {
                    let error = failure(answer).await?;
                    check!(error.extra.contains(BROKEN), "{error}");
                }
            }
        }
        self.calls = open;
        Ok(())
    }

    // ---- The rest

    async fn call_back(&self) -> Outcome {
        self.note("callFoo");
        let (probe, cap) = ours();
        let mut request = self.theirs.call_foo_request();
        request.get().set_cap(cap);
        let response = request.send().promise.await?;
        check_eq!(response.get()?.get_s()?.to_str()?, "bar");
        check_eq!(probe.calls.get(), 1);
        Ok(())
    }

    async fn cancel(&mut self) -> Outcome {
        let expects = self.random.below(2) == 0;
        let begins = self.random.below(2) == 0;
        let method = if expects { "expectCancel" } else { "neverReturn" };
        self.note(format_args!("{method}{}, canceled", if begins { ", begun" } else { "" }));
        let (probe, cap) = ours();
        if expects {
            let mut request = self.theirs.expect_cancel_request();
            request.get().set_cap(cap);
            self.send_and_drop(request.send(), begins).await?;
        } else {
            let mut request = self.theirs.never_return_request();
            request.get().set_cap(cap);
            self.send_and_drop(request.send(), begins).await?;
        }
        probe.dropped.clone().wait().await;
        self.canceled += 1;
        self.begun_and_canceled += u32::from(begins);
        // Each question asks again over the connection, until the deadline.
        loop {
            let seen = self.c.control()?.cancellations_request().send().promise.await?;
            let seen = seen.get()?.get_count();
            check!(seen <= self.canceled, "{seen} of {} were canceled", self.canceled);
            if seen >= self.begun_and_canceled {
                return Ok(());
            }
        }
    }

    async fn send_and_drop<C>(&self, call: C, begins: bool) -> Outcome {
        if begins {
            // An answer of the same object: the method has begun. Otherwise it may never begin.
            self.theirs.get_null_request().send().promise.await?;
        }
        drop(call);
        Ok(())
    }
}

/// The calls that wait in a promise, in order.
fn queued(calls: &mut [Call], promise: usize) -> impl Iterator<Item = &mut Call> {
    calls.iter_mut().filter(move |call| {
        call.expected == Expected::Unknown && call.target == Place::Promise(promise)
    })
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Object(index) => write!(f, "object {index}"),
            Place::Promise(index) => write!(f, "promise {index}"),
            Place::Broken => f.write_str("what is broken"),
        }
    }
}

/// Numbers that depend on nothing but the seed (the generator `SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// An index into something with `len` entries, which is not empty.
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}
