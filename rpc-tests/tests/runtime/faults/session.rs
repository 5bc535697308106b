//! What the two vats of a session do, and what is known of it afterwards.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use capnp::traits::HasTypeId;
use capnp_threads_core::reconnect::CarriedOut;
use capnp_threads_core::typed::FromServer;
use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{Client, Concurrency, Error, FromClient, Result, Vat, promise_client};
use rpc_schema::test_capnp::{
    test_call_order, test_handle, test_interface, test_more_stuff, test_streaming,
    test_tail_callee, test_tail_caller,
};
use rpc_tests::support::objects::{
    Calling, Host, Interface, MoreStuff, Streaming, TailCallee, TailCaller,
};
use rpc_tests::support::{Census, Counted, until};

/// Notes which calls were carried out.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Inner>);

#[derive(Default)]
struct Inner {
    census: Census,
    carried_out: Mutex<BTreeMap<u32, u32>>,
    /// The calls that ended so that this is known of them.
    ended: Mutex<Vec<(u32, Known)>>,
    arrived: Mutex<Vec<u32>>,
    next: AtomicU32,
}

/// What the outcome of a call says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Done,
    NotDone,
}

impl Ledger {
    /// The number of a new call.
    fn number(&self) -> u32 {
        self.0.next.fetch_add(1, Ordering::SeqCst)
    }

    fn end<T>(&self, number: u32, outcome: &Result<T>) {
        let known = match outcome.as_ref().map_err(Error::carried_out) {
            Ok(_) => Known::Done,
            Err(CarriedOut::No) => Known::NotDone,
            // An error that the callee has answered with may be its vat's.
            Err(_) => return,
        };
        self.0.ended.lock().unwrap().push((number, known));
    }

    /// What must hold of a session that is over, whatever became of it: nothing is left,
    /// nothing was carried out twice or out of order, what was answered was carried out,
    /// and what failed without having begun was not.
    pub(super) fn check(&self, what: &str) {
        until("objects to be dropped", || self.0.census.alive() == 0);
        let carried_out = self.0.carried_out.lock().unwrap();
        for (number, times) in &*carried_out {
            assert_eq!(*times, 1, "{what}: call {number} was carried out {times} times");
        }
        for (number, known) in &*self.0.ended.lock().unwrap() {
            match (known, carried_out.contains_key(number)) {
                (Known::Done, false) => panic!("{what}: call {number} was answered, but not done"),
                (Known::NotDone, true) => panic!("{what}: call {number} was done after all"),
                _ => {}
            }
        }
        let arrived = self.0.arrived.lock().unwrap();
        assert!(arrived.is_sorted(), "{what}: {arrived:?} is no order");
    }
}

impl Host for Ledger {
    const CALLING: Calling = Calling::WaitsWhileWanted;

    fn arrive(&self, number: u32) -> u32 {
        *self.0.carried_out.lock().unwrap().entry(number).or_default() += 1;
        self.0.arrived.lock().unwrap().push(number);
        number
    }

    fn handle(&self) -> test_handle::Client {
        test_handle::Client::from_client(Client::from_dispatch(Object::new(self)))
    }
}

/// Has every interface that is called here.
pub(super) struct Object {
    ledger: Ledger,
    more_stuff: MoreStuff<Ledger>,
    streaming: Streaming,
    _counted: Counted,
}

impl Object {
    fn new(ledger: &Ledger) -> Arc<Self> {
        Arc::new(Object {
            ledger: ledger.clone(),
            more_stuff: MoreStuff::with_host(ledger.clone()),
            streaming: Streaming::default(),
            _counted: ledger.0.census.count(),
        })
    }

    pub(super) fn on(vat: &Vat, ledger: &Ledger) -> Client {
        vat.export_dispatch_with(Object::new(ledger), Concurrency::Serial)
    }
}

impl Dispatch for Object {
    fn dispatch(&self, call: IncomingCall) {
        const INTERFACE: u64 = test_interface::Client::TYPE_ID;
        const STREAMING: u64 = test_streaming::Client::TYPE_ID;
        const CALLER: u64 = test_tail_caller::Client::TYPE_ID;
        const CALLEE: u64 = test_tail_callee::Client::TYPE_ID;
        match call.interface_id() {
            INTERFACE => <test_interface::Client as FromServer<_>>::dispatch(&Interface, call),
            STREAMING => test_streaming::Client::dispatch(&self.streaming, call),
            CALLER => <test_tail_caller::Client as FromServer<_>>::dispatch(&TailCaller, call),
            CALLEE => {
                let ledger = self.ledger.clone();
                let made = move || {
                    let made = Client::from_dispatch(Object::new(&ledger));
                    test_call_order::Client::from_client(made)
                };
                test_tail_callee::Client::dispatch(&TailCallee(made), call);
            }
            _ => test_more_stuff::Client::dispatch(&self.more_stuff, call),
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// What a session works with. Errors end it; the ledger knows more.
pub(super) struct Side {
    pub(super) ledger: Ledger,
    pub(super) vat: Vat,
    pub(super) desk: test_more_stuff::Client,
}

impl Side {
    fn own(&self) -> Client {
        Object::on(&self.vat, &self.ledger)
    }

    /// Makes calls through each of these references, in this order, and waits for them.
    fn call(&self, through: &[&test_call_order::Client]) -> Result<()> {
        let calls: Vec<_> = through
            .iter()
            .map(|client| {
                let number = self.ledger.number();
                let mut request = client.get_call_sequence_request();
                request.get().set_expected(number);
                (number, request.send())
            })
            .collect();
        let mut all = Ok(());
        for (number, call) in calls {
            let outcome = call.wait();
            self.ledger.end(number, &outcome);
            all = all.and(outcome.map(drop));
        }
        all
    }
}

pub(super) fn calls(side: &Side) -> Result<()> {
    let order: test_call_order::Client = side.desk.clone().cast_to();
    side.call(&[&order])?;
    side.call(&[&order; 5])?;
    let text = "x".repeat(300);
    let mut request = side.desk.method_with_defaults_request();
    request.get().set_a(&text);
    assert_eq!(request.call()?.get()?.get_d()?, format!("{text} 123 foo").as_str());
    side.call(&[&order])
}

pub(super) fn call_backs(side: &Side) -> Result<()> {
    for _ in 0..2 {
        let mut request = side.desk.call_foo_request();
        request.get().set_cap(test_interface::Client::from_client(side.own()));
        assert_eq!(request.call()?.get()?.get_s()?, "bar");
    }
    Ok(())
}

pub(super) fn promises(side: &Side) -> Result<()> {
    let (promise, fulfiller) = promise_client::<test_interface::Client>();
    let mut request = side.desk.call_foo_when_resolved_request();
    request.get().set_cap(promise);
    let call = request.send();
    fulfiller.fulfill(test_interface::Client::from_client(side.own()));
    let handle = side.desk.get_handle_request().send();
    let order: test_call_order::Client = handle.pipeline().get_handle().cast_to();
    side.call(&[&order, &order])?;
    assert_eq!(call.wait()?.get()?.get_s()?, "bar");
    Ok(())
}

/// Calls that go to the peer and back, and then those that need not.
pub(super) fn embargo(side: &Side) -> Result<()> {
    let own = test_call_order::Client::from_client(side.own());
    let mut request = side.desk.echo_request();
    request.get().set_cap(own);
    let echo = request.send();
    let pipelined = echo.pipeline().get_cap();
    side.call(&[&pipelined, &pipelined])?;
    let returned = echo.wait()?.get()?.get_cap()?;
    side.call(&[&pipelined, &returned, &pipelined])
}

pub(super) fn tail_call(side: &Side) -> Result<()> {
    let caller: test_tail_caller::Client = side.desk.clone().cast_to();
    let mut request = caller.foo_request();
    request.get().set_i(7);
    request.get().set_callee(test_tail_callee::Client::from_client(side.own()));
    let call = request.send();
    let made = call.pipeline().get_c();
    side.call(&[&made, &made])?;
    let response = call.wait()?;
    assert_eq!(response.get()?.get_i(), 7);
    side.call(&[&response.get()?.get_c()?])
}

pub(super) fn stream(side: &Side) -> Result<()> {
    let stream: test_streaming::Client = side.desk.clone().cast_to();
    for value in 0..6 {
        let mut request = stream.do_stream_i_request();
        request.get().set_i(value);
        request.send()?;
    }
    assert_eq!(stream.finish_stream_request().call()?.get()?.get_total_i(), 15);
    Ok(())
}

pub(super) type Session = fn(&Side) -> Result<()>;
