//! Saving across the border between two realms.
//!
//! Inside, references and owners are those of `capnp_threads_persist`. Outside, both are
//! texts.

use std::any::Any;
use std::sync::{Arc, Mutex};

use capnp::text;
use capnp_threads_core::typed::new_client;
use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{
    Client, Concurrency, ConnConfig, Error, ErrorKind, FromClient, Result, RpcSystem, Vat,
};
use capnp_threads_persist::persistent_capnp::{persistent, realm_gateway};
use capnp_threads_persist::sturdy_capnp::{owner, sturdy_ref};
use capnp_threads_persist::{Owner, SturdyRef};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};
use rpc_tests::support::{Event, Pair, Watchdog, Wire};

type Inside = persistent::Client<sturdy_ref::Owned, owner::Owned>;
type Outside = persistent::Client<text::Owned, text::Owned>;
type Gateway = realm_gateway::Client<sturdy_ref::Owned, text::Owned, owner::Owned, text::Owned>;

/// Something of the realm inside: its reference repeats one byte.
struct InsideObject(u8, Arc<Mutex<Vec<String>>>);

impl persistent::Server<sturdy_ref::Owned, owner::Owned> for InsideObject {
    fn save(
        &self,
        params: persistent::SaveParams<sturdy_ref::Owned, owner::Owned>,
        mut results: persistent::SaveResults<sturdy_ref::Owned, owner::Owned>,
    ) -> Result<()> {
        let owner = Owner::read(params.get()?.get_seal_for()?)?;
        self.1.lock().unwrap().push(format!("inside {} saved for {}", self.0, owner.name()));
        reference(self.0).write(results.get().init_sturdy_ref());
        Ok(())
    }
}

/// Something of the realm outside.
struct OutsideObject(&'static str, Arc<Mutex<Vec<String>>>);

impl persistent::Server<text::Owned, text::Owned> for OutsideObject {
    fn save(
        &self,
        params: persistent::SaveParams<text::Owned, text::Owned>,
        mut results: persistent::SaveResults<text::Owned, text::Owned>,
    ) -> Result<()> {
        let owner = params.get()?.get_seal_for()?.to_str()?;
        self.1.lock().unwrap().push(format!("outside {} saved for {owner}", self.0));
        results.get().set_sturdy_ref(self.0)?;
        Ok(())
    }
}

/// Translates by rule: what is `x` outside is `x` for 32 bytes inside, and
/// `alice` inside is `citizen alice` outside.
struct Translator(Arc<Mutex<Vec<String>>>);

impl realm_gateway::Server<sturdy_ref::Owned, text::Owned, owner::Owned, text::Owned>
    for Translator
{
    fn import(
        &self,
        params: realm_gateway::ImportParams<
            sturdy_ref::Owned,
            text::Owned,
            owner::Owned,
            text::Owned,
        >,
        mut results: realm_gateway::ImportResults<sturdy_ref::Owned, owner::Owned>,
    ) -> Result<()> {
        let params = params.get()?;
        let owner = Owner::read(params.get_params()?.get_seal_for()?)?;
        self.0.lock().unwrap().push(format!("import for {}", owner.name()));
        if owner.name() == "nobody" {
            return Err(Error::overloaded("not today"));
        }
        let mut request = params.get_cap()?.save_request();
        request.get().set_seal_for(&*format!("citizen {}", owner.name()))?;
        let response = request.call()?;
        let there = response.get()?.get_sturdy_ref()?.to_str()?.as_bytes()[0];
        reference(there).write(results.get().init_sturdy_ref());
        Ok(())
    }

    fn export(
        &self,
        params: realm_gateway::ExportParams<
            sturdy_ref::Owned,
            text::Owned,
            owner::Owned,
            text::Owned,
        >,
        mut results: realm_gateway::ExportResults<text::Owned, text::Owned>,
    ) -> Result<()> {
        let params = params.get()?;
        let owner = params.get_params()?.get_seal_for()?.to_str()?;
        self.0.lock().unwrap().push(format!("export for {owner}"));
        let mut request = params.get_cap()?.save_request();
        Owner::new(format!("foreign {owner}")).write(request.get().init_seal_for());
        let response = request.call()?;
        let here = SturdyRef::read(response.get()?.get_sturdy_ref()?)?;
        results.get().set_sturdy_ref(&*format!("ref {}", here.as_bytes()[0]))?;
        Ok(())
    }
}

fn reference(byte: u8) -> SturdyRef {
    SturdyRef::from_bytes(&[byte; 32]).unwrap()
}

/// A gateway, and what it and the objects have been asked.
struct Border {
    log: Arc<Mutex<Vec<String>>>,
    gateway: Gateway,
}

impl Border {
    fn new() -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let translator = Translator(Arc::clone(&log));
        let gateway = Vat::global().export_with(translator, Concurrency::Concurrent);
        Border { log, gateway }
    }

    fn inside(&self, byte: u8) -> Client {
        let object: Inside = new_client(InsideObject(byte, Arc::clone(&self.log)));
        object.into_client()
    }

    fn outside(&self, name: &'static str) -> Client {
        let object: Outside = new_client(OutsideObject(name, Arc::clone(&self.log)));
        object.into_client()
    }

    /// What was asked since this was called before.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// Saves with an owner of the realm inside.
fn save_inside(client: &Client, owner: &str) -> Result<SturdyRef> {
    capnp_threads_persist::save(client, Some(&Owner::new(owner)))
}

/// Saves with an owner of the realm outside.
fn save_outside(client: &Client, owner: &str) -> Result<String> {
    let mut request = Outside::from_client(client.clone()).save_request();
    request.get().set_seal_for(owner)?;
    Ok(request.call()?.get()?.get_sturdy_ref()?.to_string()?)
}

/// Two vats; the one that is named has the gateway.
fn connected(
    wire: Wire,
    of_client: Option<Gateway>,
    of_server: Option<Gateway>,
    offered: Client,
) -> Pair {
    let with = |gateway: Option<Gateway>| {
        move |config: ConnConfig| match gateway {
            Some(gateway) => config.realm_gateway(gateway),
            None => config,
        }
    };
    Pair::configured(|_| offered, wire, with(of_client), with(of_server))
}

#[test]
fn what_is_outside_is_imported() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let border = Border::new();
        let pair = connected(wire, Some(border.gateway.clone()), None, border.outside("x"));
        let object: Client = pair.bootstrap();
        object.resolve().unwrap();
        assert_eq!(save_inside(&object, "alice").unwrap(), reference(b'x'));
        assert_eq!(border.log(), ["import for alice", "outside x saved for citizen alice"]);
        drop(object);
        pair.finish();
    }
}

#[test]
fn what_is_inside_is_exported() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let border = Border::new();
        let pair = connected(wire, None, Some(border.gateway.clone()), border.inside(7));
        let object: Client = pair.bootstrap();
        assert_eq!(save_outside(&object, "bob").unwrap(), "ref 7");
        assert_eq!(border.log(), ["export for bob", "inside 7 saved for foreign bob"]);
        drop(object);
        pair.finish();
    }
}

#[test]
fn two_realms_meet_between_their_gateways() {
    let _watchdog = Watchdog::start();
    let (ours, theirs) = (Border::new(), Border::new());
    let gateways = (Some(ours.gateway.clone()), Some(theirs.gateway.clone()));
    let pair = connected(Wire::Memory, gateways.0, gateways.1, theirs.inside(7));
    let object: Client = pair.bootstrap();
    // "ref 7" begins with an r.
    assert_eq!(save_inside(&object, "alice").unwrap(), reference(b'r'));
    assert_eq!(ours.log(), ["import for alice"]);
    assert_eq!(
        theirs.log(),
        ["export for citizen alice", "inside 7 saved for foreign citizen alice"]
    );
    drop(object);
    pair.finish();
}

#[test]
fn a_vat_between_two_realms_translates_on_both_sides() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let behind = connected(Wire::Memory, Some(border.gateway.clone()), None, border.outside("x"));
    let middle: Client = behind.bootstrap();
    let front = connected(Wire::Memory, None, Some(border.gateway.clone()), middle);
    let object: Client = front.bootstrap();
    assert_eq!(save_outside(&object, "bob").unwrap(), format!("ref {}", b'x'));
    assert_eq!(
        border.log(),
        ["export for bob", "import for foreign bob", "outside x saved for citizen foreign bob"]
    );
    drop(object);
    front.end();
    behind.end();
}

#[test]
fn a_pipelined_save_of_what_is_outside_waits_and_is_imported() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let (promise, fulfiller) = capnp_threads_core::untyped::promise();
    let pair = connected(Wire::Memory, Some(border.gateway.clone()), None, promise);
    // Neither the bootstrap request nor what it returns has been resolved.
    let object: Client = pair.bootstrap();
    let mut request = Inside::from_client(object.clone()).save_request();
    Owner::new("alice").write(request.get().init_seal_for());
    let saving = request.send();
    // The gateway hears of it only when it is known where the object is.
    object.call(0, 0, capnp_threads_core::untyped::PayloadBuilder::for_params().finish(Vec::new()));
    assert_eq!(border.log(), [""; 0]);
    fulfiller.fulfill(border.outside("y"));
    let response = saving.wait().unwrap();
    let saved = response.get().unwrap().get_sturdy_ref().unwrap();
    assert_eq!(SturdyRef::read(saved).unwrap(), reference(b'y'));
    assert_eq!(border.log(), ["import for alice", "outside y saved for citizen alice"]);
    drop((object, saving, response));
    pair.finish();
}

/// Gives back what it is given, as a promise that is resolved at an event.
struct Echo(Event);

impl test_call_order::Server for Echo {}

impl test_more_stuff::Server for Echo {
    fn echo(
        &self,
        params: test_more_stuff::EchoParams,
        mut results: test_more_stuff::EchoResults,
    ) -> Result<()> {
        let (promise, fulfiller) = capnp_threads_core::promise_client();
        let back = params.get()?.get_cap()?;
        let event = self.0.clone();
        std::thread::spawn(move || {
            event.wait();
            fulfiller.fulfill(back);
        });
        results.get().set_cap(promise);
        Ok(())
    }
}

#[test]
fn a_promise_that_comes_back_is_saved_as_our_own() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let event = Event::new();
    let echo: test_more_stuff::Client = new_client(Echo(event.clone()));
    let gateway = Some(border.gateway.clone());
    let pair = connected(Wire::Memory, gateway, None, echo.into_client());
    let echo: test_more_stuff::Client = pair.bootstrap();
    let mut request = echo.echo_request();
    request.get().set_cap(test_call_order::Client::from_client(border.inside(3)));
    let returned = request.send();
    let early = returned.pipeline().get_cap().into_client();
    let response = returned.wait().unwrap();
    let late = response.get().unwrap().get_cap().unwrap().into_client();
    let savings: Vec<_> = [early, late]
        .into_iter()
        .map(|client| {
            let mut request = Inside::from_client(client).save_request();
            Owner::new("alice").write(request.get().init_seal_for());
            request.send()
        })
        .collect();
    assert_eq!(border.log(), [""; 0]);
    event.set();
    for saving in savings {
        let response = saving.wait().unwrap();
        let saved = response.get().unwrap().get_sturdy_ref().unwrap();
        assert_eq!(SturdyRef::read(saved).unwrap(), reference(3));
    }
    assert_eq!(border.log(), ["inside 3 saved for alice"; 2]);
    drop((echo, returned, response));
    pair.finish();
}

#[test]
fn a_peer_that_saves_its_own_by_way_of_us_is_let_be() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let event = Event::new();
    let echo: test_more_stuff::Client = new_client(Echo(event.clone()));
    // This time the vat that echoes has the gateway.
    let gateway = Some(border.gateway.clone());
    let pair = connected(Wire::Memory, None, gateway, echo.into_client());
    let echo: test_more_stuff::Client = pair.bootstrap();
    let mut request = echo.echo_request();
    request.get().set_cap(test_call_order::Client::from_client(border.outside("z")));
    let returned = request.send();
    // Sent before it is known that the object is here.
    let promise = returned.pipeline().get_cap().into_client();
    let mut request = Outside::from_client(promise).save_request();
    request.get().set_seal_for("bob").unwrap();
    let saving = request.send();
    returned.wait().unwrap();
    event.set();
    let response = saving.wait().unwrap();
    assert_eq!(response.get().unwrap().get_sturdy_ref().unwrap(), "z");
    assert_eq!(border.log(), ["outside z saved for bob"]);
    drop((echo, returned, response, saving));
    pair.finish();
}

#[test]
fn a_promise_of_ours_is_exported_when_it_is_known() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let (promise, fulfiller) = capnp_threads_core::untyped::promise();
    let gateway = Some(border.gateway.clone());
    let pair = connected(Wire::Memory, None, gateway, promise);
    let object: Client = pair.bootstrap();
    let saving: Vec<_> = (0..3)
        .map(|_| {
            let mut request = Outside::from_client(object.clone()).save_request();
            request.get().set_seal_for("bob").unwrap();
            request.send()
        })
        .collect();
    rpc_tests::support::until("the saves to arrive", || pair.server.snapshot().answers >= 3);
    assert_eq!(border.log(), [""; 0]);
    fulfiller.fulfill(border.inside(9));
    for saving in saving {
        let response = saving.wait().unwrap();
        assert_eq!(response.get().unwrap().get_sturdy_ref().unwrap(), "ref 9");
    }
    drop(object);
    pair.finish();
}

/// An object with methods of its own that tells when it goes.
struct Other(#[allow(dead_code)] rpc_tests::support::Counted);

impl test_interface::Server for Other {
    fn foo(
        &self,
        _: test_interface::FooParams,
        mut results: test_interface::FooResults,
    ) -> Result<()> {
        results.get().set_x("foo");
        Ok(())
    }
}

#[test]
fn a_save_that_waits_can_be_cancelled_and_keeps_nothing() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let census = rpc_tests::support::Census::new();
    let (promise, fulfiller) = capnp_threads_core::untyped::promise();
    let gateway = Some(border.gateway.clone());
    let pair = connected(Wire::Memory, gateway.clone(), gateway, promise);
    let object: Client = pair.bootstrap();
    for _ in 0..100 {
        let mut request = Inside::from_client(object.clone()).save_request();
        Owner::new("alice").write(request.get().init_seal_for());
        drop(request.send());
    }
    let other: test_interface::Client = new_client(Other(census.count()));
    fulfiller.fulfill(other.into_client());
    object.resolve().unwrap();
    let other = test_interface::Client::from_client(object.clone());
    assert_eq!(other.foo_request().call().unwrap().get().unwrap().get_x().unwrap(), "foo");
    drop((object, other));
    pair.finish();
    rpc_tests::support::until("the object to go", || census.alive() == 0);
    assert_eq!(border.log(), [""; 0]);
}

/// Never answers, and tells when nobody waits for it any more.
struct Silent {
    called: Event,
    cancelled: Event,
    held: Mutex<Vec<IncomingCall>>,
}

impl Dispatch for Silent {
    fn dispatch(&self, call: IncomingCall) {
        let cancelled = self.cancelled.clone();
        call.on_cancel(move || cancelled.set());
        self.held.lock().unwrap().push(call);
        self.called.set();
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[test]
fn a_save_that_waits_keeps_the_call_it_waits_for_no_longer_than_itself() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let (called, cancelled) = (Event::new(), Event::new());
    let silent = Arc::new(Silent {
        called: called.clone(),
        cancelled: cancelled.clone(),
        held: Mutex::default(),
    });
    let kept = Arc::clone(&silent);
    let gateway = Some(border.gateway.clone());
    let pair = connected(Wire::Memory, None, gateway, Client::from_dispatch(silent));
    let object: test_more_stuff::Client = pair.bootstrap();
    let returned = object.echo_request().send();
    let promise = returned.pipeline().get_cap().into_client();
    let mut request = Outside::from_client(promise).save_request();
    request.get().set_seal_for("bob").unwrap();
    let saving = request.send();
    called.wait();
    rpc_tests::support::until("the save to arrive", || pair.server.snapshot().answers >= 2);
    drop(returned);
    assert!(!cancelled.is_set());
    drop(saving);
    cancelled.wait();
    kept.held.lock().unwrap().clear();
    drop((object, kept));
    pair.finish();
    assert_eq!(border.log(), [""; 0]);
}

#[test]
fn a_save_of_a_promise_that_breaks_fails_as_it_does() {
    let _watchdog = Watchdog::start();
    for gateways in [(true, false), (false, true), (true, true)] {
        let border = Border::new();
        let gateway = |there: bool| there.then(|| border.gateway.clone());
        let (promise, fulfiller) = capnp_threads_core::untyped::promise();
        let pair = connected(Wire::Memory, gateway(gateways.0), gateway(gateways.1), promise);
        let object: Client = pair.bootstrap();
        let mut request = Outside::from_client(object.clone()).save_request();
        request.get().set_seal_for("bob").unwrap();
        let saving = request.send();
        fulfiller.reject(Error::overloaded("it broke"));
        let error = saving.wait().map(|_| ()).unwrap_err();
        assert_eq!(error, Error::overloaded("it broke"));
        drop((object, saving));
        pair.finish();
    }
}

#[test]
fn a_connection_that_ends_fails_the_saves_that_wait() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let gateway = Some(border.gateway.clone());
    let (promise, _fulfiller) = capnp_threads_core::untyped::promise();
    let pair = connected(Wire::Memory, gateway.clone(), gateway, promise);
    let object: Client = pair.bootstrap();
    let mut request = Inside::from_client(object).save_request();
    Owner::new("alice").write(request.get().init_seal_for());
    let saving = request.send();
    pair.client.close();
    let error = saving.wait().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    pair.end();
}

#[test]
fn what_the_gateway_fails_with_is_what_the_save_fails_with() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let gateway = Some(border.gateway.clone());
    let pair = connected(Wire::Memory, gateway, None, border.outside("x"));
    let object: Client = pair.bootstrap();
    assert_eq!(save_inside(&object, "nobody").unwrap_err(), Error::overloaded("not today"));
    assert_eq!(save_inside(&object, "alice").unwrap(), reference(b'x'));
    drop(object);
    pair.finish();
}

#[test]
fn a_system_has_one_gateway_for_every_peer() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let listener = "127.0.0.1:0".parse::<Address>().unwrap().listen().unwrap();
    let network = SocketNetwork::listening(listener).unwrap();
    let server = RpcSystem::builder(&Vat::new(), network)
        .bootstrap(border.inside(5))
        .realm_gateway(border.gateway.clone())
        .start()
        .unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    for _ in 0..2 {
        let client = RpcSystem::builder(&Vat::new(), SocketNetwork::client()).start().unwrap();
        let object: Client = client.bootstrap(&name);
        assert_eq!(save_outside(&object, "bob").unwrap(), "ref 5");
    }
}

#[test]
fn saves_and_resolutions_that_race_all_find_their_object() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let event = Event::new();
    event.set();
    let echo: test_more_stuff::Client = new_client(Echo(event));
    let gateway = Some(border.gateway.clone());
    let pair = connected(Wire::Memory, gateway, None, echo.into_client());
    let echo: test_more_stuff::Client = pair.bootstrap();
    std::thread::scope(|scope| {
        for byte in 0..4 {
            let (echo, border) = (&echo, &border);
            scope.spawn(move || {
                let own = test_call_order::Client::from_client(border.inside(byte));
                for _ in 0..100 {
                    let mut request = echo.echo_request();
                    request.get().set_cap(own.clone());
                    let returned = request.send();
                    let promise = returned.pipeline().get_cap().into_client();
                    assert_eq!(save_inside(&promise, "alice").unwrap(), reference(byte));
                    let returned = returned.wait().unwrap();
                    let promise = returned.get().unwrap().get_cap().unwrap().into_client();
                    assert_eq!(save_inside(&promise, "alice").unwrap(), reference(byte));
                }
            });
        }
    });
    assert!(border.log().iter().all(|line| line.starts_with("inside")));
    drop(echo);
    pair.finish();
}

#[test]
fn everything_else_crosses_the_border_as_it_is() {
    let _watchdog = Watchdog::start();
    let border = Border::new();
    let census = rpc_tests::support::Census::new();
    let other: test_interface::Client = new_client(Other(census.count()));
    let gateway = Some(border.gateway.clone());
    let pair = connected(Wire::Memory, gateway.clone(), gateway, other.into_client());
    let object: test_interface::Client = pair.bootstrap();
    assert_eq!(object.foo_request().call().unwrap().get().unwrap().get_x().unwrap(), "foo");
    // Even a save of what is not behind the border.
    assert_eq!(save_inside(&border.inside(1), "alice").unwrap(), reference(1));
    assert_eq!(border.log(), ["inside 1 saved for alice"]);
    drop(object);
    pair.finish();
}
