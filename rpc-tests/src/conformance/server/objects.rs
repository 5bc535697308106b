//! The objects that answer at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use capnp_threads_core::{Error, Result};
use parking_lot::Mutex;
use rpc_schema::test_capnp::{
    test_call_order, test_extends, test_extends2, test_handle, test_interface, test_streaming,
    test_tail_callee, test_tail_caller,
};

use super::state::{ConnectionState, HandleCount, counted};
use crate::conformance::foo;

/// The plain `TestInterface`.
pub(super) struct Interface;

impl test_interface::Server for Interface {
    fn foo(
        &self,
        params: test_interface::FooParams,
        mut results: test_interface::FooResults,
    ) -> Result<()> {
        let params = params.get()?;
        if (params.get_i(), params.get_j()) != (123, true) {
            return Err(Error::failed("foo takes 123 and true"));
        }
        results.get().set_x("foo");
        Ok(())
    }

    fn baz(&self, params: test_interface::BazParams, _: test_interface::BazResults) -> Result<()> {
        foo::require_full_message(params.get()?.get_s()?)
    }
}

/// The `TestExtends`, which is a `TestExtends2` as well.
pub(super) struct Extends {
    pub(super) accepts: Accepts,
}

/// What `foo` of a [`Extends`] may be called with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepts {
    OwnFoo,
    /// The bootstrap object is a `TestInterface` and a `TestExtends`.
    EitherFoo,
}

impl test_interface::Server for Extends {
    fn foo(
        &self,
        params: test_interface::FooParams,
        mut results: test_interface::FooResults,
    ) -> Result<()> {
        let params = params.get()?;
        let x = match (params.get_i(), params.get_j()) {
            (321, false) => "bar",
            (123, true) if self.accepts == Accepts::EitherFoo => "foo",
            _ => return Err(Error::failed("foo of TestExtends takes 321 and false")),
        };
        results.get().set_x(x);
        Ok(())
    }

    fn baz(&self, params: test_interface::BazParams, _: test_interface::BazResults) -> Result<()> {
        foo::require_full_message(params.get()?.get_s()?)
    }
}

impl test_extends::Server for Extends {
    fn grault(
        &self,
        _: test_extends::GraultParams,
        mut results: test_extends::GraultResults,
    ) -> Result<()> {
        results.set(foo::full_message()?)
    }
}

impl test_extends2::Server for Extends {}

/// Counts the calls that arrive.
#[derive(Default)]
pub(super) struct CallOrder {
    next: AtomicU32,
}

impl test_call_order::Server for CallOrder {
    fn get_call_sequence(
        &self,
        _: test_call_order::GetCallSequenceParams,
        mut results: test_call_order::GetCallSequenceResults,
    ) -> Result<()> {
        results.get().set_n(self.next.fetch_add(1, Ordering::SeqCst));
        Ok(())
    }
}

pub(super) struct TailCallee {
    pub(super) state: Arc<ConnectionState>,
}

impl test_tail_callee::Server for TailCallee {
    fn foo(
        &self,
        params: test_tail_callee::FooParams,
        mut results: test_tail_callee::FooResults,
    ) -> Result<()> {
        let params = params.get()?;
        let mut result = results.get();
        result.set_i(params.get_i().cast_unsigned());
        result.set_t(params.get_t()?);
        result.set_c(counted::<test_call_order::Client, _>(&self.state, CallOrder::default()));
        Ok(())
    }
}

pub(super) struct TailCaller;

impl test_tail_caller::Server for TailCaller {
    fn foo(
        &self,
        params: test_tail_caller::FooParams,
        results: test_tail_caller::FooResults,
    ) -> Result<()> {
        let params = params.get()?;
        let mut request = params.get_callee()?.foo_request();
        request.get().set_i(params.get_i());
        request.get().set_t("from TestTailCaller");
        results.tail_call(request);
        Ok(())
    }
}

/// Adds up.
#[derive(Default)]
pub(super) struct Streaming {
    totals: Mutex<Totals>,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    i: u32,
    j: u32,
}

impl test_streaming::Server for Streaming {
    fn do_stream_i(&self, params: test_streaming::DoStreamIParams) -> Result<()> {
        let i = params.get()?.get_i();
        let mut totals = self.totals.lock();
        totals.i = totals.i.wrapping_add(i);
        Ok(())
    }

    fn do_stream_j(&self, params: test_streaming::DoStreamJParams) -> Result<()> {
        let j = params.get()?.get_j();
        let mut totals = self.totals.lock();
        totals.j = totals.j.wrapping_add(j);
        Ok(())
    }

    fn finish_stream(
        &self,
        _: test_streaming::FinishStreamParams,
        mut results: test_streaming::FinishStreamResults,
    ) -> Result<()> {
        let totals = *self.totals.lock();
        let mut result = results.get();
        result.set_total_i(totals.i);
        result.set_total_j(totals.j);
        Ok(())
    }
}

/// An object that is counted while it lives.
pub(super) struct Handle {
    _count: HandleCount,
}

impl Handle {
    pub(super) fn new(state: &Arc<ConnectionState>) -> Self {
        Handle { _count: HandleCount::new(state) }
    }
}

impl test_handle::Server for Handle {}
