//! `TestMembrane`: the objects, which know nothing of any membrane.

use std::sync::Arc;

use capnp_threads_core::{Request, Result, Results};
use rpc_schema::test_capnp::test_membrane::{self, result, thing};

use super::more_stuff::until_cancelled;
use super::state::{ConnectionState, counted};

pub(super) struct Membrane {
    pub(super) state: Arc<ConnectionState>,
}

impl test_membrane::Server for Membrane {
    fn make_thing(
        &self,
        _: test_membrane::MakeThingParams,
        mut results: test_membrane::MakeThingResults,
    ) -> Result<()> {
        results.get().set_thing(counted::<thing::Client, _>(&self.state, Thing));
        Ok(())
    }

    fn call_pass_through(
        &self,
        params: test_membrane::CallPassThroughParams,
        results: test_membrane::CallPassThroughResults,
    ) -> Result<()> {
        let params = params.get()?;
        let request = params.get_thing()?.pass_through_request();
        answer_with(request, results, params.get_tail_call());
        Ok(())
    }

    fn call_intercept(
        &self,
        params: test_membrane::CallInterceptParams,
        results: test_membrane::CallInterceptResults,
    ) -> Result<()> {
        let params = params.get()?;
        let request = params.get_thing()?.intercept_request();
        answer_with(request, results, params.get_tail_call());
        Ok(())
    }

    fn loopback(
        &self,
        params: test_membrane::LoopbackParams,
        mut results: test_membrane::LoopbackResults,
    ) -> Result<()> {
        results.get().set_thing(params.get()?.get_thing()?);
        Ok(())
    }

    fn wait_forever(
        &self,
        _: test_membrane::WaitForeverParams,
        results: test_membrane::WaitForeverResults,
    ) -> Result<()> {
        until_cancelled(&self.state, results, ());
        Ok(())
    }
}

/// Returns what another call returns, as a tail call or as a copy.
fn answer_with<P: 'static>(
    request: Request<P, result::Owned>,
    results: Results<result::Owned>,
    tail_call: bool,
) {
    if tail_call {
        return results.tail_call(request);
    }
    let results = results.defer();
    request.send().on_resolve(move |response| {
        results.answer(|mut results| results.set(response?.get()?));
    });
}

struct Thing;

impl thing::Server for Thing {
    fn pass_through(
        &self,
        _: thing::PassThroughParams,
        mut results: thing::PassThroughResults,
    ) -> Result<()> {
        results.get().set_text("inside");
        Ok(())
    }

    fn intercept(
        &self,
        _: thing::InterceptParams,
        mut results: thing::InterceptResults,
    ) -> Result<()> {
        results.get().set_text("inside");
        Ok(())
    }
}
