//! What one thread does: anything, at random.

use std::collections::VecDeque;
use std::thread;

use capnp_threads_core::typed::TypedFulfiller;
use capnp_threads_core::{
    Client, Error, ErrorKind, FromClient, Promise, Result, Vat, promise_client,
};
use rpc_schema::test_capnp::{
    test_call_order, test_interface, test_more_stuff, test_pipeline, test_streaming,
};

use crate::desk::Desk;
use crate::ledger::{Ledger, number, same};
use rpc_tests::support::Random;
use rpc_tests::support::objects::{call_foo, foo_request};

/// References that one thread keeps at the most.
const BAG: usize = 6;

/// The steps of [`Mix::Answered`].
const ANSWERED: [usize; 9] = [0, 1, 2, 11, 12, 14, 15, 16, 17];

/// Which failures a worker accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// None that it did not ask for.
    Nothing,
    /// That a connection has ended, or a vat, whose workers take nothing more.
    Ends,
}

impl Accepts {
    fn accepts(self, error: &Error) -> bool {
        let ended = matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Overloaded);
        self == Accepts::Ends && ended
    }
}

/// Which steps a worker makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    Everything,
    /// Only those whose calls are answered without any thread of the application
    /// doing something for it. Such threads can share a few questions.
    Answered,
}

/// A reference to an object that notes the order of its calls.
pub struct Reference {
    client: test_call_order::Client,
    id: u32,
    next: u32,
    /// Calls that nobody has waited for yet.
    waiting: VecDeque<(u32, OrderedCall)>,
    /// The means to say what the reference will be.
    later: Option<(TypedFulfiller<test_call_order::Client>, Target)>,
    end: End,
}

type OrderedCall = Promise<test_call_order::get_call_sequence_results::Owned>;

/// What a promise will be.
enum Target {
    Client(test_call_order::Client),
    Nothing,
}

/// What is at the end of a reference.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Object,
    /// A promise that is broken on purpose.
    Broken,
}

impl Reference {
    fn new(ledger: &Ledger, client: test_call_order::Client) -> Self {
        Reference {
            client,
            id: ledger.reference(),
            next: 0,
            waiting: VecDeque::new(),
            later: None,
            end: End::Object,
        }
    }

    fn call(&mut self) {
        let mut request = self.client.get_call_sequence_request();
        request.get().set_expected(number(self.id, self.next));
        self.waiting.push_back((self.next, request.send()));
        self.next += 1;
    }

    /// Says what the reference is, if that was left for later.
    fn fulfill(&mut self) {
        match self.later.take() {
            Some((fulfiller, Target::Client(client))) => fulfiller.fulfill(client),
            Some((fulfiller, Target::Nothing)) => {
                fulfiller.reject(Error::failed("rejected on purpose"));
            }
            None => {}
        }
    }

    /// Waits for all but `rest` of the calls that were made.
    fn wait(&mut self, rest: usize) -> Result<()> {
        if self.waiting.len() > rest {
            self.fulfill();
        }
        let mut lost = Ok(());
        while self.waiting.len() > rest
            && let Some((call, promise)) = self.waiting.pop_front()
        {
            match (promise.wait(), self.end) {
                (Ok(response), End::Object) => {
                    assert_eq!(response.get()?.get_n(), number(self.id, call), "a wrong answer");
                }
                (Ok(_), End::Broken) => panic!("a promise that was broken answered"),
                (Err(error), End::Broken) if error.kind() == ErrorKind::Failed => {
                    assert!(error.reason().contains("on purpose"), "{error}");
                }
                (Err(error), _) => lost = Err(error),
            }
        }
        lost
    }
}

/// One thread's share of a round.
pub struct Worker {
    ledger: Ledger,
    random: Random,
    vat: Vat,
    /// The object that it does everything with, usually a peer's.
    desk: test_more_stuff::Client,
    accepts: Accepts,
    mix: Mix,
    /// Where new references would be kept.
    bag: Vec<Reference>,
}

impl Worker {
    pub fn new(
        ledger: &Ledger,
        seed: u64,
        vat: &Vat,
        desk: test_more_stuff::Client,
        accepts: Accepts,
    ) -> Self {
        Worker {
            ledger: ledger.clone(),
            random: Random::new(seed),
            vat: vat.clone(),
            desk,
            accepts,
            mix: Mix::Everything,
            bag: Vec::new(),
        }
    }

    pub fn with_mix(self, mix: Mix) -> Self {
        Worker { mix, ..self }
    }

    /// Makes so many steps. After each, `look` gets the number of steps that were
    /// made by all threads of the round.
    pub fn run(mut self, steps: usize, look: impl Fn(u64)) {
        for _ in 0..steps {
            self.step();
            look(self.ledger.step());
        }
        while let Some(reference) = self.bag.pop() {
            self.end(reference);
        }
    }

    fn step(&mut self) {
        let kind = match self.mix {
            Mix::Everything => self.random.below(18),
            Mix::Answered => ANSWERED[self.random.below(ANSWERED.len())],
        };
        let outcome = match kind {
            0 => self.call(),
            1 => self.call_back(),
            2 => self.call_back_when_resolved(),
            3..=5 => self.ordered_calls(),
            6 => self.reference_to_what_is_there(),
            7 => return self.reference_to_what_is_here(),
            8 => return self.reference_to_a_promise(),
            9 => self.copy_and_drop(),
            10 => return self.exchange(),
            11 => self.stream(),
            12 => self.pipeline(),
            13 => self.cancel(),
            14 => self.hold(),
            15 => self.fail(),
            16 => self.come_back(),
            _ => return self.leave_a_closure(),
        };
        self.judge(outcome, || format!("step of kind {kind}"));
    }

    fn judge(&self, outcome: Result<()>, what: impl Fn() -> String) {
        if let Err(error) = outcome {
            assert!(self.accepts.accepts(&error), "{}: {error}", what());
        }
    }

    /// Nobody needs a reference any more.
    fn end(&self, mut reference: Reference) {
        self.judge(reference.wait(0), || "the end of a reference".to_owned());
        reference.fulfill();
    }

    fn keep(&mut self, reference: Reference) {
        if self.bag.len() >= BAG {
            let oldest = self.bag.remove(0);
            self.end(oldest);
        }
        self.bag.push(reference);
    }

    fn reference(&self, client: test_call_order::Client) -> Reference {
        let reference = Reference::new(&self.ledger, client);
        if self.accepts == Accepts::Ends {
            self.ledger.allow_gaps(reference.id);
        }
        reference
    }

    /// An object of this side.
    fn own(&self) -> Client {
        Desk::serial(&self.vat, &self.ledger)
    }

    fn own_foo(&self) -> test_interface::Client {
        test_interface::Client::from_client(self.own())
    }

    fn pause(&mut self) {
        for _ in 0..self.random.below(8) {
            thread::yield_now();
        }
    }

    // ---- Steps

    /// A call whose answer depends on what it was given.
    fn call(&mut self) -> Result<()> {
        let text = format!("{:x}", self.random.draw()).repeat(1 + self.random.below(200));
        let mut request = self.desk.method_with_defaults_request();
        request.get().set_a(&text);
        let response = request.call()?;
        assert_eq!(response.get()?.get_d()?.to_str()?, format!("{text} 123 foo"));
        Ok(())
    }

    fn call_back(&mut self) -> Result<()> {
        let mut request = self.desk.call_foo_request();
        request.get().set_cap(self.own_foo());
        assert_eq!(request.call()?.get()?.get_s()?, "bar");
        Ok(())
    }

    fn call_back_when_resolved(&mut self) -> Result<()> {
        let (promise, fulfiller) = promise_client::<test_interface::Client>();
        let mut request = self.desk.call_foo_when_resolved_request();
        request.get().set_cap(promise);
        let call = request.send();
        self.pause();
        fulfiller.fulfill(self.own_foo());
        assert_eq!(call.wait()?.get()?.get_s()?, "bar");
        Ok(())
    }

    fn ordered_calls(&mut self) -> Result<()> {
        if self.bag.is_empty() {
            return self.reference_to_what_is_there();
        }
        let index = self.random.below(self.bag.len());
        let calls = 1 + self.random.below(4);
        let (fulfills, rest) = (self.random.one_in(2), self.random.below(4));
        let reference = &mut self.bag[index];
        for _ in 0..calls {
            reference.call();
        }
        if fulfills {
            reference.fulfill();
        }
        // Whoever does not know yet what it is would wait for itself.
        if reference.later.is_none() { reference.wait(rest) } else { Ok(()) }
    }

    /// A new object of the peer's, called before it is known.
    fn reference_to_what_is_there(&mut self) -> Result<()> {
        let call = self.desk.get_handle_request().send();
        let mut reference = self.reference(call.pipeline().get_handle().cast_to());
        for _ in 0..self.random.below(4) {
            reference.call();
        }
        if self.random.one_in(2) {
            // The same object, from the results.
            let handle = call.wait().and_then(|response| Ok(response.get()?.get_handle()?));
            reference.client = match handle {
                Ok(handle) => handle.cast_to(),
                Err(error) => {
                    self.keep(reference);
                    return Err(error);
                }
            };
            reference.call();
        }
        self.keep(reference);
        Ok(())
    }

    /// What the peer returns turns out to be an object of this side: calls that
    /// went to the peer come back, and those that need not go must not overtake
    /// them.
    fn reference_to_what_is_here(&mut self) {
        let own = test_call_order::Client::from_client(self.own());
        let reference = self.echoed(own);
        self.keep(reference);
    }

    /// The same, with a promise that is fulfilled later, also by another thread.
    fn reference_to_a_promise(&mut self) {
        let (promise, fulfiller) = promise_client::<test_call_order::Client>();
        let known = self.bag.iter().position(|reference| reference.later.is_none());
        let (target, end) = match (self.random.below(5), known) {
            (0, _) => {
                let there = self.desk.get_handle_request().send();
                let there = there.pipeline().get_handle();
                (Target::Client(there.cast_to()), End::Object)
            }
            (1, Some(index)) => {
                let other = &self.bag[index];
                (Target::Client(other.client.clone()), other.end)
            }
            (2, _) => (Target::Nothing, End::Broken),
            _ => (Target::Client(test_call_order::Client::from_client(self.own())), End::Object),
        };
        let mut reference = match self.random.below(3) {
            0 => self.reference(promise),
            _ => self.echoed(promise),
        };
        reference.end = end;
        reference.later = Some((fulfiller, target));
        if self.random.one_in(2) {
            reference.fulfill();
            reference.call();
        }
        self.keep(reference);
    }

    /// A reference that leads to the peer and back.
    fn echoed(&mut self, cap: test_call_order::Client) -> Reference {
        let mut request = self.desk.echo_request();
        request.get().set_cap(cap);
        let call = request.send();
        let mut reference = self.reference(call.pipeline().get_cap());
        for _ in 0..self.random.below(5) {
            reference.call();
        }
        if self.random.one_in(2)
            && let Ok(response) = call.wait()
            && let Ok(cap) = response.get().and_then(|results| Ok(results.get_cap()?))
        {
            reference.client = cap;
            reference.call();
        }
        reference
    }

    fn copy_and_drop(&mut self) -> Result<()> {
        if self.bag.is_empty() {
            return Ok(());
        }
        let index = self.random.below(self.bag.len());
        // The copy goes on where the original was.
        let copy = self.bag[index].client.clone();
        self.bag[index].client = copy;
        self.bag[index].call();
        let index = self.random.below(self.bag.len());
        let mut dropped = self.bag.swap_remove(index);
        if self.random.one_in(2) {
            return dropped.wait(0);
        }
        // Every call that has not been waited for is cancelled.
        self.ledger.allow_gaps(dropped.id);
        if self.random.one_in(2) {
            dropped.fulfill();
        }
        while let Some(call) = dropped.waiting.pop_back() {
            drop(call);
            self.pause();
        }
        Ok(())
    }

    /// Goes on with what another thread began.
    fn exchange(&mut self) {
        let other = self.ledger.take();
        if let Some(reference) = self.bag.pop() {
            self.ledger.give(reference);
        }
        if let Some(mut reference) = other {
            if self.accepts == Accepts::Ends {
                self.ledger.allow_gaps(reference.id);
            }
            reference.call();
            self.keep(reference);
        }
    }

    fn stream(&mut self) -> Result<()> {
        let handle = self.desk.get_handle_request().send().pipeline().get_handle();
        let stream: test_streaming::Client = handle.cast_to();
        let (mut i, mut j) = (0, 0);
        for _ in 0..self.random.below(20) {
            let value = u32::try_from(self.random.below(1000)).unwrap();
            if self.random.one_in(2) {
                let mut request = stream.do_stream_i_request();
                request.get().set_i(value);
                request.send()?;
                i += value;
            } else {
                let mut request = stream.do_stream_j_request();
                request.get().set_j(value);
                request.send()?;
                j += value;
            }
        }
        if self.random.one_in(4) {
            // What is in flight arrives without this thread.
            return Ok(());
        }
        let response = stream.finish_stream_request().call()?;
        let totals = response.get()?;
        assert_eq!((totals.get_total_i(), totals.get_total_j()), (i, j));
        Ok(())
    }

    fn pipeline(&mut self) -> Result<()> {
        let desk: test_pipeline::Client = self.desk.clone().cast_to();
        let mut request = desk.get_cap_request();
        request.get().set_n(234);
        request.get().set_in_cap(self.own_foo());
        let call = request.send();
        let pipelined = call.pipeline().get_out_box().get_cap();
        let first = foo_request(&pipelined).send();
        assert_eq!(call.wait()?.get()?.get_s()?, "bar");
        call_foo(&pipelined)?;
        assert_eq!(first.wait()?.get()?.get_x()?, "foo");
        Ok(())
    }

    /// Calls that nobody answers, given up at any moment.
    fn cancel(&mut self) -> Result<()> {
        // The peer's methods wait for what never comes, until they are interrupted.
        let (promise, fulfiller) = promise_client::<test_interface::Client>();
        let mut request = self.desk.call_foo_request();
        request.get().set_cap(promise.clone());
        let calling = request.send();
        let mut request = self.desk.call_foo_when_resolved_request();
        request.get().set_cap(promise);
        let resolving = request.send();
        let mut request = self.desk.expect_cancel_request();
        request.get().set_cap(self.own_foo());
        let silent = request.send();
        let mut request = self.desk.never_return_request();
        request.get().set_cap(self.own_foo());
        let endless = request.send();
        let copy = endless.pipeline().get_cap_copy();
        let outcome = match self.random.below(3) {
            0 => Ok(()),
            1 => {
                let unwanted = foo_request(&copy).send();
                self.pause();
                drop(unwanted);
                Ok(())
            }
            // The call never returns, but its pipeline is there.
            _ => call_foo(&copy),
        };
        self.pause();
        drop((calling, resolving));
        self.pause();
        drop((silent, endless, fulfiller));
        self.pause();
        drop(copy);
        outcome
    }

    /// Uses what any of the threads has left with the peer.
    fn hold(&mut self) -> Result<()> {
        if self.random.one_in(2) {
            let mut request = self.desk.hold_request();
            request.get().set_cap(self.own_foo());
            drop(request.call()?);
        }
        match self.desk.call_held_request().call() {
            Ok(response) => assert_eq!(response.get()?.get_s()?, "bar"),
            Err(error) if error.reason().contains("nothing is held") => return Ok(()),
            Err(error) => return Err(error),
        }
        let cap = self.desk.get_held_request().call()?.get()?.get_cap()?;
        call_foo(&cap)?;
        let mut reference = self.reference(cap.cast_to());
        reference.call();
        self.keep(reference);
        Ok(())
    }

    fn fail(&mut self) -> Result<()> {
        let Err(error) = self.desk.throw_exception_request().call() else {
            panic!("it should have failed");
        };
        if self.accepts.accepts(&error) {
            return Err(error);
        }
        assert!(error.reason().contains("test exception"), "{error}");
        Ok(())
    }

    /// An object that went to the peer and back is the same object.
    fn come_back(&mut self) -> Result<()> {
        let own = self.own();
        let mut request = self.desk.echo_request();
        request.get().set_cap(test_call_order::Client::from_client(own.clone()));
        let call = request.send();
        let pipelined = call.pipeline().get_cap();
        if self.random.one_in(2) {
            let mut reference = self.reference(pipelined.clone());
            reference.call();
            reference.wait(0)?;
        }
        let cap = call.wait()?.get()?.get_cap()?;
        assert!(same(cap.as_client(), &own)?, "another object came back");
        assert!(same(pipelined.as_client(), &own)?, "another object came back");
        Ok(())
    }

    fn leave_a_closure(&mut self) {
        self.ledger.closure_begins();
        let ledger = self.ledger.clone();
        let accepts = self.accepts;
        foo_request(&self.desk.clone().cast_to()).send().on_resolve(move |outcome| {
            if let Err(error) = outcome
                && !accepts.accepts(&error)
            {
                ledger.complain(format!("a closure got {error}"));
            }
            ledger.closure_ran();
        });
    }
}

/// Ends what threads have left for each other.
pub fn clear_exchange(ledger: &Ledger, vat: &Vat, accepts: Accepts) {
    let worker =
        Worker::new(ledger, 0, vat, test_more_stuff::Client::from_client(Client::null()), accepts);
    while let Some(reference) = ledger.take() {
        worker.end(reference);
    }
}
