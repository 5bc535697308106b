//! Objects to be called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use capnp_threads_core::{
    Client, Concurrency, Dispatch, Error, FromClient, IncomingCall, Result, Vat,
};
use rpc_schema::test_capnp::{test_call_order, test_handle, test_interface, test_more_stuff};

use super::{Census, Counted};

/// An object whose `foo` is a closure, and which may hold what else is to live
/// as long as it does.
pub struct Foo<F, H = ()> {
    foo: F,
    _held: H,
}

impl<F, H> test_interface::Server for Foo<F, H>
where
    F: Fn(test_interface::FooParams, test_interface::FooResults) -> Result<()>
        + Send
        + Sync
        + 'static,
    H: Send + Sync + 'static,
{
    fn foo(
        &self,
        params: test_interface::FooParams,
        results: test_interface::FooResults,
    ) -> Result<()> {
        (self.foo)(params, results)
    }
}

/// An object of `vat` with this `foo`, one call at a time.
pub fn foo<F>(vat: &Vat, method: F) -> test_interface::Client
where
    F: Fn(test_interface::FooParams, test_interface::FooResults) -> Result<()>
        + Send
        + Sync
        + 'static,
{
    foo_with(vat, Concurrency::Serial, (), method)
}

/// As [`foo`], which owns something and has a choice of concurrency.
pub fn foo_with<F, H>(
    vat: &Vat,
    concurrency: Concurrency,
    held: H,
    method: F,
) -> test_interface::Client
where
    F: Fn(test_interface::FooParams, test_interface::FooResults) -> Result<()>
        + Send
        + Sync
        + 'static,
    H: Send + Sync + 'static,
{
    vat.export_with(Foo { foo: method, _held: held }, concurrency)
}

/// An object that answers `foo` as the schema says and is counted while it
/// lives.
pub fn plain(vat: &Vat, census: &Census) -> test_interface::Client {
    foo_with(vat, Concurrency::Serial, census.count(), answer_foo)
}

/// The answer that the schema prescribes.
pub fn answer_foo(
    params: test_interface::FooParams,
    mut results: test_interface::FooResults,
) -> Result<()> {
    let params = params.get()?;
    if params.get_i() != 123 || !params.get_j() {
        return Err(Error::failed("foo takes 123 and true"));
    }
    results.get().set_x("foo");
    Ok(())
}

/// Calls `foo` as the schema says.
pub fn foo_request(
    client: &test_interface::Client,
) -> capnp_threads_core::Request<
    test_interface::foo_params::Owned,
    test_interface::foo_results::Owned,
> {
    let mut request = client.foo_request();
    request.get().set_i(123);
    request.get().set_j(true);
    request
}

/// Calls `foo` and waits for the right answer.
pub fn call_foo(client: &test_interface::Client) -> Result<()> {
    let response = foo_request(client).call()?;
    let x = response.get()?.get_x()?;
    if x == "foo" { Ok(()) } else { Err(Error::failed(format!("foo returned {x:?}"))) }
}

/// An object without a schema: whatever is called, the closure gets it.
struct Any<F>(F);

impl<F: Fn(IncomingCall) + Send + Sync + 'static> Dispatch for Any<F> {
    fn dispatch(&self, call: IncomingCall) {
        (self.0)(call);
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// An object of `vat` that leaves every call to a closure.
pub fn any(
    vat: &Vat,
    concurrency: Concurrency,
    method: impl Fn(IncomingCall) + Send + Sync + 'static,
) -> Client {
    vat.export_dispatch_with(Arc::new(Any(method)), concurrency)
}

/// Checks that the calls of each reference arrive in the order in which they
/// were made. A call carries the number of its reference and its own.
#[derive(Clone, Default)]
pub struct Order(Arc<Mutex<OrderState>>);

#[derive(Default)]
struct OrderState {
    next: HashMap<u16, u16>,
    arrived: u64,
    wrong: Vec<String>,
}

/// One reference to an object that is called with consecutive numbers.
pub struct OrderedReference {
    pub client: test_call_order::Client,
    reference: u16,
    next: u16,
}

impl OrderedReference {
    pub fn new(client: test_call_order::Client, reference: u16) -> Self {
        OrderedReference { client, reference, next: 0 }
    }

    /// The next call.
    pub fn send(
        &mut self,
    ) -> capnp_threads_core::Promise<test_call_order::get_call_sequence_results::Owned> {
        let client = self.client.clone();
        self.send_through(&client)
    }

    /// The next call, through another client of the same reference.
    pub fn send_through(
        &mut self,
        client: &test_call_order::Client,
    ) -> capnp_threads_core::Promise<test_call_order::get_call_sequence_results::Owned> {
        let mut request = client.get_call_sequence_request();
        request.get().set_expected(u32::from(self.reference) << 16 | u32::from(self.next));
        self.next = self.next.wrapping_add(1);
        request.send()
    }
}

impl Order {
    pub fn new() -> Self {
        Order::default()
    }

    pub fn arrived(&self) -> u64 {
        self.0.lock().unwrap().arrived
    }

    /// Fails if any call has been overtaken so far.
    pub fn assert_right(&self, how: &str) {
        let wrong = &self.0.lock().unwrap().wrong;
        assert!(wrong.is_empty(), "{how}: {wrong:?}");
    }

    /// Notes the arrival of a call.
    pub fn arrive(&self, number: u32) -> u32 {
        let (reference, number) =
            (u16::try_from(number >> 16).unwrap(), u16::try_from(number & 0xffff).unwrap());
        let mut state = self.0.lock().unwrap();
        state.arrived += 1;
        let next = state.next.entry(reference).or_default();
        let expected = *next;
        *next = number.wrapping_add(1);
        if number != expected {
            state
                .wrong
                .push(format!("reference {reference}: {number} arrived instead of {expected}"));
        }
        u32::from(expected)
    }
}

/// An object that checks the order of its calls and is counted.
pub struct Sequence {
    order: Order,
    _counted: Counted,
}

impl Sequence {
    pub fn new(order: &Order, census: &Census) -> Self {
        Sequence { order: order.clone(), _counted: census.count() }
    }

    pub fn order(&self) -> &Order {
        &self.order
    }
}

impl test_call_order::Server for Sequence {
    fn get_call_sequence(
        &self,
        params: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(self.order.arrive(params.get()?.get_expected()));
        Ok(())
    }
}

/// An object that keeps a capability, returns what it is given, and waits for
/// what it calls.
pub struct Keeper {
    held: Mutex<Option<test_interface::Client>>,
    pub order: Order,
    /// Counts the handles that it gives out.
    handles: Census,
}

struct Handle(#[allow(dead_code)] Counted);

impl test_handle::Server for Handle {}

impl Keeper {
    pub fn new() -> Self {
        Keeper { held: Mutex::default(), order: Order::new(), handles: Census::new() }
    }

    /// One whose handles are counted.
    pub fn with_handles(census: &Census) -> Self {
        Keeper { handles: census.clone(), ..Keeper::new() }
    }

    pub fn client(vat: &Vat) -> Client {
        let client: test_more_stuff::Client =
            vat.export_with(Keeper::new(), Concurrency::Concurrent);
        client.into_client()
    }
}

impl Default for Keeper {
    fn default() -> Self {
        Keeper::new()
    }
}

impl test_call_order::Server for Keeper {
    fn get_call_sequence(
        &self,
        params: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(self.order.arrive(params.get()?.get_expected()));
        Ok(())
    }
}

impl test_more_stuff::Server for Keeper {
    fn call_foo(
        &self,
        params: test_more_stuff::CallFooParams,
        mut results: test_more_stuff::CallFooResults,
    ) -> Result<()> {
        call_foo(&params.get()?.get_cap()?)?;
        results.get().set_s("bar");
        Ok(())
    }

    fn call_foo_when_resolved(
        &self,
        params: test_more_stuff::CallFooWhenResolvedParams,
        mut results: test_more_stuff::CallFooWhenResolvedResults,
    ) -> Result<()> {
        let resolved = params.get()?.get_cap()?.as_client().resolve()?;
        call_foo(&test_interface::Client::from_client(resolved))?;
        results.get().set_s("bar");
        Ok(())
    }

    fn hold(
        &self,
        params: test_more_stuff::HoldParams,
        _: test_more_stuff::HoldResults,
    ) -> Result<()> {
        let cap = params.get()?.get_cap()?;
        let before = self.held.lock().unwrap().replace(cap);
        drop(before);
        Ok(())
    }

    fn call_held(
        &self,
        _: test_more_stuff::CallHeldParams,
        mut results: test_more_stuff::CallHeldResults,
    ) -> Result<()> {
        let held = self.held.lock().unwrap().clone();
        call_foo(&held.ok_or_else(|| Error::failed("nothing is held"))?)?;
        results.get().set_s("bar");
        Ok(())
    }

    fn get_held(
        &self,
        _: test_more_stuff::GetHeldParams,
        mut results: test_more_stuff::GetHeldResults,
    ) -> Result<()> {
        let held = self.held.lock().unwrap().clone();
        results.get().set_cap(held.ok_or_else(|| Error::failed("nothing is held"))?);
        Ok(())
    }

    fn get_handle(
        &self,
        _: test_more_stuff::GetHandleParams,
        mut results: test_more_stuff::GetHandleResults,
    ) -> Result<()> {
        results.get().set_handle(capnp_threads_core::new_client(Handle(self.handles.count())));
        Ok(())
    }

    fn echo(
        &self,
        params: test_more_stuff::EchoParams,
        mut results: test_more_stuff::EchoResults,
    ) -> Result<()> {
        results.get().set_cap(params.get()?.get_cap()?);
        Ok(())
    }
}
