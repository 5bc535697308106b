//! Both sides of a membrane, and its policy.

use std::sync::{Arc, Mutex};

use capnp_threads_core::membrane::Membrane;
use capnp_threads_core::{FromClient, Promise, Result, Vat};
use rpc_schema::test_capnp::test_membrane::{self, thing};
use rpc_tests::support::objects::{self, Intercepts, TestMembrane, Thing};
use rpc_tests::support::{Event, Pair};

/// What is seen of the object inside.
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

impl Inside {
    pub fn new(vat: &Vat) -> Arc<Self> {
        Arc::new(Inside {
            vat: vat.clone(),
            waits: Event::new(),
            gave_up: Event::new(),
            seen: Mutex::default(),
            made: Mutex::default(),
        })
    }

    /// The object.
    pub fn client(self: &Arc<Self>) -> test_membrane::Client {
        self.vat.export(TestMembrane(Arc::clone(self)))
    }
}

impl objects::Inside for Inside {
    fn export(self: &Arc<Self>, thing: Thing) -> thing::Client {
        let thing: thing::Client = self.vat.export(thing);
        *self.made.lock().unwrap() = Some(thing.clone());
        thing
    }

    fn given(&self, thing: &thing::Client) {
        *self.seen.lock().unwrap() = Some(thing.clone());
    }

    fn waits(&self) {
        self.waits.set();
    }

    fn cancelled(&self) {
        self.gave_up.set();
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
        let vat = Vat::new();
        let (bootstrap, inside, membrane) = behind_a_membrane(&vat);
        World { outside: bootstrap, inside, membrane, vat, pair: None }
    }

    /// The outside is at the other end of a connection.
    pub fn remote() -> World {
        let mut made = None;
        let pair = Pair::new(|vat| {
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
    pub fn each(test: impl Fn(&World)) {
        for world in [World::local(), World::remote()] {
            test(&world);
            world.finish();
        }
    }

    pub fn outside_thing(&self) -> thing::Client {
        self.vat.export(Thing("outside"))
    }

    /// The call that gives an inside thing out.
    pub fn make_thing(&self) -> Promise<test_membrane::make_thing_results::Owned> {
        self.outside.make_thing_request().send()
    }

    pub fn loopback(
        &self,
        thing: &thing::Client,
    ) -> Promise<test_membrane::loopback_results::Owned> {
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
    let inside = Inside::new(vat);
    let membrane = Membrane::new(Intercepts::new(vat));
    (membrane.wrap(&inside.client()), inside, membrane)
}

pub fn pass_through(thing: &thing::Client) -> Result<String> {
    Ok(thing.pass_through_request().call()?.get()?.get_text()?.to_string()?)
}

pub fn intercept(thing: &thing::Client) -> Result<String> {
    Ok(thing.intercept_request().call()?.get()?.get_text()?.to_string()?)
}
