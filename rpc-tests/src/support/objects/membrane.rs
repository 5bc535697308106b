//! `TestMembrane`, and a membrane's policy.

use std::sync::Arc;

use capnp_threads_core::capnp::traits::HasTypeId;
use capnp_threads_core::membrane::{MembranePolicy, Passage};
use capnp_threads_core::{Client, FromClient, Request, Result, Results, Vat};
use rpc_schema::test_capnp::test_membrane::{self, result, thing};

use super::leave_open;

/// The object inside, which knows nothing of any membrane.
#[derive(Debug)]
pub struct TestMembrane<I>(pub Arc<I>);

/// What a [`TestMembrane`] is part of.
pub trait Inside: Send + Sync + 'static {
    /// Makes a capability of a thing that is given out.
    fn export(self: &Arc<Self>, thing: Thing) -> thing::Client;

    /// Something was given to `loopback`.
    fn given(&self, thing: &thing::Client) {
        let _ = thing;
    }

    /// `waitForever` was called.
    fn waits(&self) {}

    /// That call was cancelled.
    fn cancelled(&self) {}
}

impl<I: Inside> test_membrane::Server for TestMembrane<I> {
    fn make_thing(
        &self,
        _: test_membrane::MakeThingParams,
        mut results: test_membrane::MakeThingResults,
    ) -> Result<()> {
        results.get().set_thing(self.0.export(Thing("inside")));
        Ok(())
    }

    fn call_pass_through(
        &self,
        params: test_membrane::CallPassThroughParams,
        results: test_membrane::CallPassThroughResults,
    ) -> Result<()> {
        let params = params.get()?;
        answer_with(params.get_thing()?.pass_through_request(), results, params.get_tail_call());
        Ok(())
    }

    fn call_intercept(
        &self,
        params: test_membrane::CallInterceptParams,
        results: test_membrane::CallInterceptResults,
    ) -> Result<()> {
        let params = params.get()?;
        answer_with(params.get_thing()?.intercept_request(), results, params.get_tail_call());
        Ok(())
    }

    fn loopback(
        &self,
        params: test_membrane::LoopbackParams,
        mut results: test_membrane::LoopbackResults,
    ) -> Result<()> {
        let thing = params.get()?.get_thing()?;
        self.0.given(&thing);
        results.get().set_thing(thing);
        Ok(())
    }

    fn wait_forever(
        &self,
        _: test_membrane::WaitForeverParams,
        results: test_membrane::WaitForeverResults,
    ) -> Result<()> {
        let inside = Arc::clone(&self.0);
        leave_open(results, (), move || inside.cancelled());
        self.0.waits();
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

/// Says where it is.
#[derive(Debug)]
pub struct Thing(pub &'static str);

impl thing::Server for Thing {
    fn pass_through(
        &self,
        _: thing::PassThroughParams,
        mut results: thing::PassThroughResults,
    ) -> Result<()> {
        results.get().set_text(self.0);
        Ok(())
    }

    fn intercept(
        &self,
        _: thing::InterceptParams,
        mut results: thing::InterceptResults,
    ) -> Result<()> {
        results.get().set_text(self.0);
        Ok(())
    }
}

/// The policy that the schema prescribes: things of its own answer `intercept`.
#[derive(Debug)]
pub struct Intercepts {
    inbound: Client,
    outbound: Client,
}

impl Intercepts {
    /// The ordinal of `TestMembrane.Thing.passThrough`.
    pub const PASS_THROUGH: u16 = 0;
    /// The ordinal of `TestMembrane.Thing.intercept`.
    pub const INTERCEPT: u16 = 1;

    /// One whose things are of this vat.
    pub fn new(vat: &Vat) -> Self {
        let thing = |place| vat.export::<thing::Client, _>(Thing(place)).into_client();
        Intercepts { inbound: thing("inbound"), outbound: thing("outbound") }
    }
}

impl MembranePolicy for Intercepts {
    fn inbound_call(&self, interface: u64, method: u16, _: &Client) -> Result<Passage> {
        Ok(instead(interface, method, &self.inbound))
    }

    fn outbound_call(&self, interface: u64, method: u16, _: &Client) -> Result<Passage> {
        Ok(instead(interface, method, &self.outbound))
    }
}

fn instead(interface: u64, method: u16, thing: &Client) -> Passage {
    if (interface, method) == (thing::Client::TYPE_ID, Intercepts::INTERCEPT) {
        Passage::Redirect(thing.clone())
    } else {
        Passage::Through
    }
}
