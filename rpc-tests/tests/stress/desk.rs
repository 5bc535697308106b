//! The object that everything is done with, on both sides of every connection.

use std::any::Any;
use std::sync::{Arc, Mutex};

use capnp::traits::HasTypeId;
use capnp_threads_core::typed::FromServer;
use capnp_threads_core::{
    Client, Concurrency, DeferredResults, Dispatch, Error, FromClient, IncomingCall, Result, Vat,
};
use rpc_schema::test_capnp::{
    test_call_order, test_handle, test_interface, test_more_stuff, test_pipeline, test_streaming,
};

use crate::ledger::Ledger;
use rpc_tests::support::Counted;
use rpc_tests::support::objects::{answer_foo, call_foo};

/// Has every interface that the tests call.
pub struct Desk {
    ledger: Ledger,
    held: Mutex<Option<test_interface::Client>>,
    streamed: Mutex<(u32, u32)>,
    _counted: Counted,
}

impl Desk {
    fn new(ledger: &Ledger) -> Self {
        Desk {
            ledger: ledger.clone(),
            held: Mutex::default(),
            streamed: Mutex::default(),
            _counted: ledger.census().count(),
        }
    }

    /// One for a single user, whose calls run one after the other.
    pub fn serial(vat: &Vat, ledger: &Ledger) -> Client {
        vat.export_dispatch(Arc::new(Desk::new(ledger)))
    }

    /// One for many users.
    pub fn concurrent(vat: &Vat, ledger: &Ledger) -> Client {
        vat.export_dispatch_with(Arc::new(Desk::new(ledger)), Concurrency::Concurrent)
    }
}

impl Dispatch for Desk {
    fn dispatch(&self, call: IncomingCall) {
        const INTERFACE: u64 = test_interface::Client::TYPE_ID;
        const STREAMING: u64 = test_streaming::Client::TYPE_ID;
        const PIPELINE: u64 = test_pipeline::Client::TYPE_ID;
        match call.interface_id() {
            INTERFACE => <test_interface::Client as FromServer<Desk>>::dispatch(self, call),
            STREAMING => <test_streaming::Client as FromServer<Desk>>::dispatch(self, call),
            PIPELINE => <test_pipeline::Client as FromServer<Desk>>::dispatch(self, call),
            _ => <test_more_stuff::Client as FromServer<Desk>>::dispatch(self, call),
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl test_interface::Server for Desk {
    fn foo(
        &self,
        params: test_interface::FooParams,
        results: test_interface::FooResults,
    ) -> Result<()> {
        answer_foo(params, results)
    }
}

impl test_call_order::Server for Desk {
    fn get_call_sequence(
        &self,
        params: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        let number = params.get()?.get_expected();
        self.ledger.arrive(number);
        results.get().set_n(number);
        Ok(())
    }
}

impl test_streaming::Server for Desk {
    fn do_stream_i(&self, params: test_streaming::DoStreamIParams) -> Result<()> {
        self.streamed.lock().unwrap().0 += params.get()?.get_i();
        Ok(())
    }

    fn do_stream_j(&self, params: test_streaming::DoStreamJParams) -> Result<()> {
        self.streamed.lock().unwrap().1 += params.get()?.get_j();
        Ok(())
    }

    fn finish_stream(
        &self,
        _: test_streaming::FinishStreamParams,
        mut results: test_streaming::FinishStreamResults,
    ) -> Result<()> {
        let (i, j) = *self.streamed.lock().unwrap();
        results.get().set_total_i(i);
        results.get().set_total_j(j);
        Ok(())
    }
}

impl test_pipeline::Server for Desk {
    fn get_cap(
        &self,
        params: test_pipeline::GetCapParams,
        mut results: test_pipeline::GetCapResults,
    ) -> Result<()> {
        call_foo(&params.get()?.get_in_cap()?)?;
        let object = Client::from_dispatch(Arc::new(Desk::new(&self.ledger)));
        results.get().set_s("bar");
        results.get().init_out_box().set_cap(test_interface::Client::from_client(object));
        Ok(())
    }
}

/// Leaves a call open until its caller has lost interest.
fn until_cancelled<R: Send + 'static>(results: DeferredResults<R>) {
    let kept = Arc::new(Mutex::new(None));
    let of_hook = Arc::clone(&kept);
    results.on_cancel(move || {
        let results = of_hook.lock().unwrap().take();
        drop(results);
    });
    // If it is cancelled already, the hook is gone, and so is this with `kept`.
    *kept.lock().unwrap() = Some(results);
}

impl test_more_stuff::Server for Desk {
    fn call_foo(
        &self,
        params: test_more_stuff::CallFooParams,
        mut results: test_more_stuff::CallFooResults,
    ) -> Result<()> {
        params.allow_cancellation();
        call_foo(&params.get()?.get_cap()?)?;
        results.get().set_s("bar");
        Ok(())
    }

    fn call_foo_when_resolved(
        &self,
        params: test_more_stuff::CallFooWhenResolvedParams,
        mut results: test_more_stuff::CallFooWhenResolvedResults,
    ) -> Result<()> {
        results.allow_cancellation();
        let resolved = params.get()?.get_cap()?.as_client().resolve()?;
        call_foo(&test_interface::Client::from_client(resolved))?;
        results.get().set_s("bar");
        Ok(())
    }

    fn never_return(
        &self,
        params: test_more_stuff::NeverReturnParams,
        mut results: test_more_stuff::NeverReturnResults,
    ) -> Result<()> {
        results.get().set_cap_copy(params.get()?.get_cap()?);
        results.set_pipeline()?;
        until_cancelled(results.defer());
        Ok(())
    }

    fn expect_cancel(
        &self,
        _: test_more_stuff::ExpectCancelParams,
        results: test_more_stuff::ExpectCancelResults,
    ) -> Result<()> {
        until_cancelled(results.defer());
        Ok(())
    }

    /// Nothing is held when nothing is given.
    fn hold(
        &self,
        params: test_more_stuff::HoldParams,
        _: test_more_stuff::HoldResults,
    ) -> Result<()> {
        let params = params.get()?;
        let cap = if params.has_cap() { Some(params.get_cap()?) } else { None };
        let before = std::mem::replace(&mut *self.held.lock().unwrap(), cap);
        drop(before);
        Ok(())
    }

    fn call_held(
        &self,
        _: test_more_stuff::CallHeldParams,
        mut results: test_more_stuff::CallHeldResults,
    ) -> Result<()> {
        let held = self.held.lock().unwrap().clone();
        if let Some(held) = held {
            call_foo(&held)?;
        }
        results.get().set_s("bar");
        Ok(())
    }

    fn get_held(
        &self,
        _: test_more_stuff::GetHeldParams,
        mut results: test_more_stuff::GetHeldResults,
    ) -> Result<()> {
        let held = self.held.lock().unwrap().clone();
        if let Some(held) = held {
            results.get().set_cap(held);
        }
        Ok(())
    }

    /// The handle is another desk.
    fn get_handle(
        &self,
        _: test_more_stuff::GetHandleParams,
        mut results: test_more_stuff::GetHandleResults,
    ) -> Result<()> {
        let object = Client::from_dispatch(Arc::new(Desk::new(&self.ledger)));
        results.get().set_handle(test_handle::Client::from_client(object));
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

    fn method_with_defaults(
        &self,
        params: test_more_stuff::MethodWithDefaultsParams,
        mut results: test_more_stuff::MethodWithDefaultsResults,
    ) -> Result<()> {
        let params = params.get()?;
        let (a, b, c) = (params.get_a()?.to_str()?, params.get_b(), params.get_c()?.to_str()?);
        results.get().set_d(format!("{a} {b} {c}"));
        Ok(())
    }

    fn throw_exception(
        &self,
        _: test_more_stuff::ThrowExceptionParams,
        _: test_more_stuff::ThrowExceptionResults,
    ) -> Result<()> {
        Err(Error::failed("test exception"))
    }
}
