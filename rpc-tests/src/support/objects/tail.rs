//! `TestTailCallee` and `TestTailCaller`.

use capnp_threads_core::Result;
use rpc_schema::test_capnp::{test_call_order, test_tail_callee, test_tail_caller};

/// Does what the schema says, with what a closure makes for each call as the
/// capability that it returns.
pub struct TailCallee<F>(pub F);

impl<F: Fn() -> test_call_order::Client + Send + Sync + 'static> test_tail_callee::Server
    for TailCallee<F>
{
    fn foo(
        &self,
        params: test_tail_callee::FooParams,
        mut results: test_tail_callee::FooResults,
    ) -> Result<()> {
        let params = params.get()?;
        let mut result = results.get();
        result.set_i(params.get_i().cast_unsigned());
        result.set_t(params.get_t()?);
        result.set_c((self.0)());
        Ok(())
    }
}

/// Does what the schema says.
#[derive(Debug)]
pub struct TailCaller;

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
