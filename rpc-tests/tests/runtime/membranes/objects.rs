//! Both sides of a membrane, and its policy.

use std::sync::{Arc, Mutex};

use capnp_threads_core::capnp::traits::HasTypeId;
use capnp_threads_core::{
    Client, Membrane, MembranePolicy, Passage, Request, Result, Results, Vat, VatConfig,
};
use rpc_schema::test_capnp::test_membrane::{self, result, thing};

use rpc_tests::support::{Event, Pair};

/// `TestMembrane`, which knows nothing of any membrane.
pub struct Inside {
    vat: Vat,
    /// Set when somebody waits for ever, and when that one gives up.
    pub waits: Event,
    pub gave_up: Event,
    /// What was passed in last.
    pub seen: Mutex<Option<thing::Client>>,
    /// What was made last.
    pub made: Mutex<Option<thing::Client>>,
}

/// Says where it is.
pub struct Thing(pub &'static str);

pub const PASS_THROUGH: u16 = 0;
pub const INTERCEPT: u16 = 1;

impl Inside {
    pub fn new(vat: &Vat) -> Self {
        Inside {
            vat: vat.clone(),
            waits: Event::new(),
            gave_up: Event::new(),
            seen: Mutex::default(),
            made: Mutex::default(),
        }
    }
}

impl test_membrane::Server for Inside {
    fn make_thing(
        &self,
        _: test_membrane::MakeThingParams,
        mut results: test_membrane::MakeThingResults,
    ) -> Result<()> {
        let thing: thing::Client = self.vat.export(Thing("inside"));
        *self.made.lock().unwrap() = Some(thing.clone());
        results.get().set_thing(thing);
        Ok(())
    }

    fn call_pass_through(
        &self,
        params: test_membrane::CallPassThroughParams,
        results: test_membrane::CallPassThroughResults,
    ) -> Result<()> {
        let params = params.get()?;
        answer_with(params.get_thing()?.pass_through_request(), results, params.get_tail_call())
    }

    fn call_intercept(
        &self,
        params: test_membrane::CallInterceptParams,
        results: test_membrane::CallInterceptResults,
    ) -> Result<()> {
        let params = params.get()?;
        answer_with(params.get_thing()?.intercept_request(), results, params.get_tail_call())
    }

    fn loopback(
        &self,
        params: test_membrane::LoopbackParams,
        mut results: test_membrane::LoopbackResults,
    ) -> Result<()> {
        let thing = params.get()?.get_thing()?;
        *self.seen.lock().unwrap() = Some(thing.clone());
        results.get().set_thing(thing);
        Ok(())
    }

    fn wait_forever(
        &self,
        params: test_membrane::WaitForeverParams,
        results: test_membrane::WaitForeverResults,
    ) -> Result<()> {
        let (results, gave_up) = (results.defer(), self.gave_up.clone());
        params.on_cancel(move || {
            drop(results);
            gave_up.set();
        });
        self.waits.set();
        Ok(())
    }
}

fn answer_with<P: 'static>(
    request: Request<P, result::Owned>,
    mut results: Results<result::Owned>,
    tail_call: bool,
) -> Result<()> {
    if tail_call {
        results.tail_call(request);
        return Ok(());
    }
    results.set(request.call()?.get()?)
}

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

/// Replaces `intercept` by things of its own.
pub struct Intercepts {
    inbound: thing::Client,
    outbound: thing::Client,
}

impl Intercepts {
    pub fn new(vat: &Vat) -> Self {
        Intercepts {
            inbound: vat.export(Thing("inbound")),
            outbound: vat.export(Thing("outbound")),
        }
    }
}

fn instead(interface: u64, method: u16, thing: &thing::Client) -> Passage {
    if interface == thing::Client::TYPE_ID && method == INTERCEPT {
        use capnp_threads_core::FromClient as _;
        Passage::Redirect(thing.as_client().clone())
    } else {
        Passage::Through
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

/// An object behind a membrane, as somebody outside sees it.
pub struct World {
    pub outside: test_membrane::Client,
    pub inside: Arc<Inside>,
    pub membrane: Membrane,
    pub vat: Vat,
    pair: Option<Pair>,
}

impl World {
    /// All of it in one process.
    pub fn local() -> World {
        let vat = Vat::with_config(VatConfig::default());
        let (bootstrap, inside, membrane) = behind_a_membrane(&vat);
        World { outside: bootstrap, inside, membrane, vat, pair: None }
    }

    /// The outside is at the other end of a connection.
    pub fn remote(name: &str) -> World {
        let mut made = None;
        let pair = Pair::new(name, |vat| {
            use capnp_threads_core::FromClient as _;
            let (bootstrap, inside, membrane) = behind_a_membrane(vat);
            made = Some((inside, membrane));
            bootstrap.into_client()
        });
        let (inside, membrane) = made.unwrap();
        World {
            outside: pair.bootstrap(),
            inside,
            membrane,
            vat: pair.client_vat.clone(),
            pair: Some(pair),
        }
    }

    /// Runs a test in both.
    pub fn each(name: &str, test: impl Fn(&World)) {
        for world in [World::local(), World::remote(name)] {
            test(&world);
            world.finish();
        }
    }

    pub fn outside_thing(&self) -> thing::Client {
        self.vat.export(Thing("outside"))
    }

    /// The call that gives an inside thing out.
    pub fn make_thing(
        &self,
    ) -> capnp_threads_core::Promise<test_membrane::make_thing_results::Owned> {
        self.outside.make_thing_request().send()
    }

    pub fn loopback(
        &self,
        thing: &thing::Client,
    ) -> capnp_threads_core::Promise<test_membrane::loopback_results::Owned> {
        let mut request = self.outside.loopback_request();
        request.get().set_thing(thing.clone());
        request.send()
    }

    /// Drops everything, and checks that nothing is left anywhere.
    pub fn finish(self) {
        let World { outside, inside, membrane, pair, .. } = self;
        *inside.seen.lock().unwrap() = None;
        *inside.made.lock().unwrap() = None;
        drop(outside);
        drop(membrane);
        if let Some(pair) = pair {
            pair.finish();
        }
    }
}

fn behind_a_membrane(vat: &Vat) -> (test_membrane::Client, Arc<Inside>, Membrane) {
    let inside = Arc::new(Inside::new(vat));
    let membrane = Membrane::new(Intercepts::new(vat));
    let client: test_membrane::Client = vat.export(Arc::clone(&inside));
    (membrane.wrap(&client), inside, membrane)
}

pub fn pass_through(thing: &thing::Client) -> Result<String> {
    Ok(thing.pass_through_request().call()?.get()?.get_text()?.to_string()?)
}

pub fn intercept(thing: &thing::Client) -> Result<String> {
    Ok(thing.intercept_request().call()?.get()?.get_text()?.to_string()?)
}
