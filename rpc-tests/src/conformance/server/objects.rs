//! The objects that only the server has.

use std::sync::Arc;

use capnp_threads_core::{Error, Result};
use rpc_schema::test_capnp::{
    test_call_order, test_extends, test_extends2, test_handle, test_interface, test_tail_callee,
};

use super::state::{ConnectionState, HandleCount, counted};
use crate::support::objects::{CallOrder, TailCallee, full_message, require_full_message};

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
        require_full_message(params.get()?.get_s()?)
    }
}

impl test_extends::Server for Extends {
    fn grault(
        &self,
        _: test_extends::GraultParams,
        mut results: test_extends::GraultResults,
    ) -> Result<()> {
        results.set(full_message()?)
    }
}

impl test_extends2::Server for Extends {}

/// A `TestTailCallee`, which gives counted objects out.
pub(super) fn tail_callee(state: &Arc<ConnectionState>) -> test_tail_callee::Client {
    let own = Arc::clone(state);
    let callee =
        TailCallee(move || counted::<test_call_order::Client, _>(&own, CallOrder::default()));
    counted(state, callee)
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
