//! Scripts of calls, drawn at random from a seed, whose every result is known
//! beforehand: whoever serves them, results and order are the same.
//!
//! A script has references to objects that number the calls which they get: the
//! server's, this side's, promises of either, and what the server's `echo` makes
//! of them before and after it returned. Calls through one reference arrive in
//! order. Between two references to one object there is no order, so the script
//! waits for the answers of one before it goes on with the other.

use std::fmt::Write;

use capnp_threads_core::typed::TypedFulfiller;
use capnp_threads_core::untyped::Pending;
use capnp_threads_core::{Error, Promise, promise_client};
use capnp_threads_transport::Address;
use rpc_schema::test_capnp::{
    test_call_order, test_interface, test_more_stuff, test_pipeline, test_tail_caller,
};
use rpc_schema::test_control_capnp::test_objects;

use super::context::{
    Context, Failure, SequencePromise, ServerFacts, check, send_extends_foo, sequence,
};
use super::ours::Ours;
use crate::support::objects::CallOrder;

/// How many steps a script has.
const STEPS: u32 = 150;

/// How many references a script has at the most.
const REFERENCES: usize = 12;

const BROKEN: &str = "the script broke this promise";

/// Runs the script of a seed against a server, over a connection of its own, and
/// compares every result with what it must be.
///
/// # Errors
/// What is not as it must be, and the steps until then.
pub fn run_script(address: &Address, seed: u64) -> Result<(), String> {
    let server = ServerFacts::ask(address)?;
    let mut steps = String::new();
    let outcome = Context::run(address, &server, |context| {
        let mut script = Script::new(context, seed);
        let outcome = script.run();
        steps = std::mem::take(&mut script.steps);
        outcome
    });
    outcome.map_err(|failure| match failure {
        Failure::Failed(reason) | Failure::Skipped(reason) => {
            format!("seed {seed}: {reason}\n{steps}")
        }
    })
}

struct Script<'c> {
    context: &'c Context,
    random: Random,
    theirs: test_more_stuff::Client,
    references: Vec<Reference>,
    objects: Vec<Object>,
    promises: Vec<OurPromise>,
    calls: Vec<Call>,
    echoes: Vec<Echo>,
    held: Option<Ours>,
    next_reference: u32,
    /// What was done, for whoever reads a failure.
    steps: String,
}

#[derive(Clone)]
struct Reference {
    id: u32,
    client: test_call_order::Client,
    leads_to: Place,
    way: Way,
    /// The call that it was pipelined on, if the script ever has to wait for it.
    made_by: Option<Pending>,
}

/// Whether calls through a reference take a way over the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is an object of this side's.
    Direct,
    Remote,
}

/// What a reference leads to, as far as the script knows by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Object(usize),
    Promise(usize),
    Broken,
}

struct Object {
    /// The number of its next call.
    next: u32,
    /// Through which reference it was called last.
    caller: Option<u32>,
}

struct OurPromise {
    state: PromiseState,
    /// Through which reference it is called until it is resolved.
    caller: Option<u32>,
}

enum PromiseState {
    Open(TypedFulfiller<test_call_order::Client>),
    Resolved(Place),
}

struct Call {
    promise: SequencePromise,
    /// What was called when it was made.
    target: Place,
    expected: Expected,
}

#[derive(Clone, Copy)]
enum Expected {
    /// The promise that was called is not resolved.
    Unknown,
    Number(u32),
    Failure,
}

/// An `echo` that the script has not looked at yet.
struct Echo {
    promise: Promise<test_more_stuff::echo_results::Owned>,
    leads_to: Place,
    /// The reference that was pipelined from it.
    id: u32,
}

impl<'c> Script<'c> {
    fn new(context: &'c Context, seed: u64) -> Self {
        Script {
            context,
            random: Random(seed),
            theirs: context.theirs(),
            references: Vec::new(),
            objects: Vec::new(),
            promises: Vec::new(),
            calls: Vec::new(),
            echoes: Vec::new(),
            held: None,
            next_reference: 0,
            steps: String::new(),
        }
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.new_object_of_ours();
        for _ in 0..STEPS {
            match self.random.below(20) {
                0 => self.new_object_of_theirs(),
                1 => self.new_object_of_ours(),
                2 => self.new_promise(),
                3..6 => self.echo()?,
                6 => self.read_echo()?,
                7 => self.resolve_a_promise()?,
                8 => self.drop_reference(),
                9 => self.settle_all()?,
                10 => self.something_else()?,
                _ => self.call()?,
            }
        }
        while let Some(open) = self.open_promise() {
            self.resolve(open)?;
        }
        self.settle_all()?;
        if self.held.is_some() {
            self.context.hold_nothing_of_ours()?;
        }
        Ok(())
    }

    fn note(&mut self, step: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.steps, "{step}");
    }

    // ---- References

    fn add(&mut self, client: test_call_order::Client, leads_to: Place, way: Way) -> u32 {
        let id = self.next_reference;
        self.next_reference += 1;
        self.references.push(Reference { id, client, leads_to, way, made_by: None });
        if self.references.len() > REFERENCES {
            self.references.remove(0);
        }
        id
    }

    /// Adds what a call is going to return.
    fn add_pipelined<R: 'static>(
        &mut self,
        client: test_call_order::Client,
        leads_to: Place,
        call: &Promise<R>,
    ) -> u32 {
        let id = self.add(client, leads_to, Way::Remote);
        if !self.context.orders_nested_pipelines()
            && let Some(reference) = self.references.last_mut()
        {
            reference.made_by = Some(call.as_pending().clone());
        }
        id
    }

    fn new_object(&mut self) -> Place {
        self.objects.push(Object { next: 0, caller: None });
        Place::Object(self.objects.len() - 1)
    }

    fn new_object_of_theirs(&mut self) {
        let objects: test_objects::Client = self.context.objects();
        let promise = objects.test_call_order_request().send();
        let client = promise.pipeline().get_object();
        let place = self.new_object();
        let id = self.add_pipelined(client, place, &promise);
        self.note(format_args!("reference {id}: new object of theirs, {place:?}"));
    }

    fn new_object_of_ours(&mut self) {
        let client = self.context.export(CallOrder::default());
        let place = self.new_object();
        let id = self.add(client, place, Way::Direct);
        self.note(format_args!("reference {id}: new object of ours, {place:?}"));
    }

    fn new_promise(&mut self) {
        let (client, fulfiller) = promise_client();
        self.promises.push(OurPromise { state: PromiseState::Open(fulfiller), caller: None });
        let place = Place::Promise(self.promises.len() - 1);
        let id = self.add(client, place, Way::Remote);
        self.note(format_args!("reference {id}: new promise of ours, {place:?}"));
    }

    fn drop_reference(&mut self) {
        if self.references.len() > 1 {
            let index = self.random.index(self.references.len());
            let dropped = self.references.remove(index);
            self.note(format_args!("drop reference {}", dropped.id));
        }
    }

    fn any_reference(&mut self) -> Option<Reference> {
        if self.references.is_empty() {
            return None;
        }
        let index = self.random.index(self.references.len());
        Some(self.references[index].clone())
    }

    /// What a place is by now.
    fn place(&self, place: Place) -> Place {
        let mut place = place;
        while let Place::Promise(index) = place {
            match self.promises[index].state {
                PromiseState::Open(_) => return place,
                PromiseState::Resolved(next) => place = next,
            }
        }
        place
    }

    // ---- Echoes

    fn echo(&mut self) -> Result<(), Failure> {
        let Some(reference) = self.any_reference() else { return Ok(()) };
        if let Some(call) = &reference.made_by {
            call.wait_deadline(self.context.deadline())?;
        }
        let mut request = self.theirs.echo_request();
        request.get().set_cap(reference.client);
        let promise = request.send();
        let client = promise.pipeline().get_cap();
        let id = self.add_pipelined(client, reference.leads_to, &promise);
        self.note(format_args!("reference {id}: echo of reference {}", reference.id));
        self.echoes.push(Echo { promise, leads_to: reference.leads_to, id });
        Ok(())
    }

    /// Waits for an echo, and goes on with the capability in its results instead
    /// of the one that was pipelined.
    fn read_echo(&mut self) -> Result<(), Failure> {
        if self.echoes.is_empty() {
            return Ok(());
        }
        let index = self.random.index(self.echoes.len());
        let echo = self.echoes.swap_remove(index);
        let client = self.context.wait(&echo.promise)?.get()?.get_cap()?;
        let old = self.references.iter().position(|reference| reference.id == echo.id);
        if let Some(old) = old {
            self.references.remove(old);
        }
        let id = self.add(client, echo.leads_to, Way::Remote);
        self.note(format_args!("reference {id}: result of the echo for reference {}", echo.id));
        Ok(())
    }

    // ---- Promises

    fn open_promise(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.promises.len())
            .filter(|index| matches!(self.promises[*index].state, PromiseState::Open(_)))
            .collect();
        if open.is_empty() {
            return None;
        }
        Some(open[self.random.index(open.len())])
    }

    fn resolve_a_promise(&mut self) -> Result<(), Failure> {
        match self.open_promise() {
            Some(index) => self.resolve(index),
            None => Ok(()),
        }
    }

    fn resolve(&mut self, index: usize) -> Result<(), Failure> {
        // To something that is not this promise, and whose place is known: other
        // open promises would make the script's own book-keeping the hard part.
        let may_be_remote = self.context.keeps_described_paths();
        let targets: Vec<Reference> = self
            .references
            .iter()
            .filter(|reference| matches!(self.place(reference.leads_to), Place::Object(_)))
            .filter(|reference| may_be_remote || reference.way == Way::Direct)
            .cloned()
            .collect();
        if targets.is_empty() || self.random.below(5) == 0 {
            self.note(format_args!("reject promise {index}"));
            let Some(fulfiller) = self.close(index, Place::Broken) else { return Ok(()) };
            fulfiller.reject(Error::failed(BROKEN));
            self.expect_of_queued(index, None);
            return Ok(());
        }
        let target = targets[self.random.index(targets.len())].clone();
        let place = self.place(target.leads_to);
        let Place::Object(object) = place else { return Ok(()) };
        self.settle(object)?;
        self.note(format_args!("fulfill promise {index} with reference {}", target.id));
        let Some(fulfiller) = self.close(index, place) else { return Ok(()) };
        fulfiller.fulfill(target.client);
        self.expect_of_queued(index, Some(object));
        Ok(())
    }

    fn close(
        &mut self,
        index: usize,
        place: Place,
    ) -> Option<TypedFulfiller<test_call_order::Client>> {
        let resolved = PromiseState::Resolved(place);
        match std::mem::replace(&mut self.promises[index].state, resolved) {
            PromiseState::Open(fulfiller) => Some(fulfiller),
            PromiseState::Resolved(_) => None,
        }
    }

    /// The calls that waited in a promise are delivered: says what they return.
    fn expect_of_queued(&mut self, promise: usize, object: Option<usize>) {
        let mut any = false;
        for call in &mut self.calls {
            if call.target == Place::Promise(promise) && matches!(call.expected, Expected::Unknown)
            {
                call.expected = match object {
                    None => Expected::Failure,
                    Some(object) => {
                        any = true;
                        let object = &mut self.objects[object];
                        object.next += 1;
                        Expected::Number(object.next - 1)
                    }
                };
            }
        }
        if let (true, Some(object)) = (any, object) {
            self.objects[object].caller = self.promises[promise].caller;
        }
    }

    // ---- Calls

    fn call(&mut self) -> Result<(), Failure> {
        let Some(reference) = self.any_reference() else { return Ok(()) };
        let place = self.place(reference.leads_to);
        let expected = match place {
            Place::Broken => Expected::Failure,
            Place::Promise(promise) => {
                let promise = &mut self.promises[promise];
                if promise.caller.is_some_and(|caller| caller != reference.id) {
                    // Its calls are queued: nobody can wait for them now.
                    return Ok(());
                }
                promise.caller = Some(reference.id);
                Expected::Unknown
            }
            Place::Object(index) => {
                if self.objects[index].caller.is_some_and(|caller| caller != reference.id) {
                    self.settle(index)?;
                }
                let object = &mut self.objects[index];
                object.caller = Some(reference.id);
                object.next += 1;
                Expected::Number(object.next - 1)
            }
        };
        self.note(format_args!("call reference {}, which is {place:?}", reference.id));
        let promise = sequence(&reference.client, 0);
        self.calls.push(Call { promise, target: place, expected });
        Ok(())
    }

    /// Waits for the calls of one object.
    fn settle(&mut self, object: usize) -> Result<(), Failure> {
        self.note(format_args!("settle object {object}"));
        self.settle_where(|place| place == Place::Object(object))
    }

    /// Waits for all calls that can be answered by now.
    fn settle_all(&mut self) -> Result<(), Failure> {
        self.note(format_args!("settle"));
        self.settle_where(|_| true)
    }

    fn settle_where(&mut self, which: impl Fn(Place) -> bool) -> Result<(), Failure> {
        let mut open = Vec::new();
        for call in std::mem::take(&mut self.calls) {
            if matches!(call.expected, Expected::Unknown) || !which(self.place(call.target)) {
                open.push(call);
                continue;
            }
            match call.expected {
                Expected::Unknown => {}
                Expected::Number(expected) => {
                    let n = self.context.wait(&call.promise)?.get()?.get_n();
                    check!(
                        n == expected,
                        "a call of {:?} arrived as {n}, not as {expected}",
                        call.target
                    );
                }
                Expected::Failure => {
                    let error = self.context.failure(&call.promise)?;
                    check!(error.reason().contains(BROKEN), "{error}");
                }
            }
        }
        self.calls = open;
        Ok(())
    }

    // ---- The rest of the interfaces

    fn something_else(&mut self) -> Result<(), Failure> {
        let c = self.context;
        match self.random.below(7) {
            6 => {
                self.note(format_args!("expectCancel, cancelled"));
                let ours = c.ours();
                let mut request = self.theirs.expect_cancel_request();
                request.get().set_cap(ours.object.clone());
                let call = request.send();
                if self.random.below(2) == 0 {
                    // Then the server has it; otherwise it may never begin.
                    c.check_foo(&c.theirs())?;
                }
                drop((call, ours.object));
                ours.probe.wait_dropped()?;
            }
            0 => {
                self.note(format_args!("callFoo"));
                let ours = c.ours();
                let mut request = self.theirs.call_foo_request();
                request.get().set_cap(ours.object.clone());
                check!(c.wait(&request.send())?.get()?.get_s()? == "bar");
                check!(ours.probe.calls() == 1, "called {} times", ours.probe.calls());
            }
            1 => {
                self.note(format_args!("getCap, pipelined"));
                let ours = c.ours();
                let mut request = c.theirs::<test_pipeline::Client>().get_cap_request();
                request.get().set_n(234);
                request.get().set_in_cap(ours.object.clone());
                let cap: test_interface::Client = request.send().pipeline().get_out_box().get_cap();
                c.expect_x(&send_extends_foo(&cap), "bar")?;
            }
            2 => {
                self.note(format_args!("hold"));
                let ours = c.ours();
                let mut request = self.theirs.hold_request();
                request.get().set_cap(ours.object.clone());
                c.wait(&request.send())?;
                self.held = Some(ours);
            }
            3 => {
                self.note(format_args!("getHeld, callHeld"));
                if let Some(ours) = &self.held {
                    let before = ours.probe.calls();
                    let response = c.wait(&self.theirs.get_held_request().send())?;
                    c.check_foo(&response.get()?.get_cap()?)?;
                    let response = c.wait(&self.theirs.call_held_request().send())?;
                    check!(response.get()?.get_s()? == "bar");
                    check!(ours.probe.calls() == before + 2, "called {}", ours.probe.calls());
                } else {
                    c.failure(&self.theirs.call_held_request().send())?;
                }
            }
            4 => {
                self.note(format_args!("failures"));
                c.failure(&self.theirs.throw_exception_request().send())?;
                c.failure(&c.theirs::<test_interface::Client>().bar_request().send())?;
                let null = self.theirs.get_null_request().send().pipeline().get_null_cap();
                c.failure(&sequence(&null.cast_to(), 0))?;
            }
            _ => {
                self.note(format_args!("tail call"));
                let callee = c.objects().test_tail_callee_request().send().pipeline().get_object();
                let mut request = c.theirs::<test_tail_caller::Client>().foo_request();
                request.get().set_i(7);
                request.get().set_callee(callee);
                let promise = request.send();
                c.expect_sequence(&[sequence(&promise.pipeline().get_c(), 0)], 0)?;
                check!(c.wait(&promise)?.get()?.get_i() == 7);
            }
        }
        Ok(())
    }
}

/// Numbers that depend on nothing but the seed (the generator `SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// An index into something with `len` entries, which is not empty.
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}
