//! Which object a client leads to, when that is known, and what it is called.

use std::sync::Arc;

use capnp_threads_core::typed::{ObjectConfig, ServerSet, unwrap_server};
use capnp_threads_core::untyped::Brand;
use capnp_threads_core::{Client, ConnConfig, Error, FromClient, Result, Vat, promise_client};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};

use rpc_tests::support::objects::{
    Keeper, Order, OrderedReference, Sequence, answer_foo, call_foo, foo,
};
use rpc_tests::support::{Blocked, Census, Pair, Watchdog, Wire, until};

type Foo = test_interface::Client;

struct Numbered(u32);

impl test_interface::Server for Numbered {
    fn foo(
        &self,
        params: test_interface::FooParams,
        results: test_interface::FooResults,
    ) -> Result<()> {
        assert_ne!(self.0, 13, "thirteen");
        answer_foo(params, results)
    }
}

#[test]
fn a_set_knows_its_own_objects_and_no_others() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let (ours, theirs) = (ServerSet::new(&vat), ServerSet::<Numbered>::new(&vat));
    let one: Foo = ours.add(Numbered(1));
    let two: Foo = theirs.add(Numbered(2));
    let three: Foo = vat.export(Numbered(3));
    assert_eq!(ours.local_server(&one).unwrap().0, 1);
    assert_eq!(ours.clone().local_server(&one.as_client().clone()).unwrap().0, 1);
    for stranger in [&two, &three, &Foo::from_client(Client::null())] {
        assert!(ours.local_server(stranger).is_none());
        assert!(ours.wait_for_local_server(stranger).unwrap().is_none());
    }
    // They are objects as others are.
    assert_eq!(unwrap_server::<Numbered>(&one).unwrap().0, 1);
    call_foo(&one).unwrap();
    // A set keeps nothing alive.
    let weak = Arc::downgrade(&ours.local_server(&one).unwrap());
    drop(one);
    // The worker that has answered may hold it for a moment.
    until("the object to be dropped", || weak.strong_count() == 0);
}

#[test]
fn a_set_sees_through_promises_when_they_are_resolved() {
    let _watchdog = Watchdog::start();
    let set = ServerSet::new(&Vat::new());
    let one: Foo = set.add(Numbered(1));
    let (inner, fulfill_inner) = promise_client::<Foo>();
    let (outer, fulfill_outer) = promise_client::<Foo>();
    assert!(set.local_server(&outer).is_none());
    let (waiting_set, waiting_for) = (set.clone(), outer.clone());
    let waiting = Blocked::spawn(move || waiting_set.wait_for_local_server(&waiting_for));
    fulfill_outer.fulfill(inner.clone());
    assert!(set.local_server(&outer).is_none());
    fulfill_inner.fulfill(one.clone());
    assert_eq!(waiting.join().unwrap().unwrap().0, 1);
    assert_eq!(set.local_server(&outer).unwrap().0, 1);
    // Broken promises are an error, not a stranger.
    let (broken, fulfiller) = promise_client::<Foo>();
    fulfiller.reject(Error::failed("on purpose"));
    assert_eq!(set.wait_for_local_server(&broken).err().unwrap().reason(), "on purpose");
    assert!(set.local_server(&broken).is_none());
}

/// Also when it comes back from a peer.
#[test]
fn a_set_knows_what_comes_back() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(Keeper::client);
    let set = ServerSet::new(&pair.client_vat);
    let theirs: test_more_stuff::Client = pair.bootstrap();
    let ours: Foo = set.add(Numbered(1));
    let mut request = theirs.hold_request();
    request.get().set_cap(ours.clone());
    request.call().unwrap();
    let call = theirs.get_held_request().send();
    let promise: Foo = call.pipeline().get_cap();
    assert_eq!(set.wait_for_local_server(&promise).unwrap().unwrap().0, 1);
    assert_eq!(promise.as_client(), ours.as_client());
    drop((promise, call, ours, theirs));
    pair.end();
}

/// A promise through which a call went to the peer and back is one of the set only
/// when that call cannot be overtaken any more.
#[test]
fn an_embargo_blocks_identity_look_ups_until_it_is_lifted() {
    let _watchdog = Watchdog::start();
    for wire in [Wire::Memory, Wire::Bytes] {
        let pair = Pair::configured(Keeper::client, wire, |c| c, |c| c);
        let set = ServerSet::new(&pair.client_vat);
        let order = Order::new();
        let census = Census::new();
        let ours: test_call_order::Client = set.add(Sequence::new(&order, &census));
        let theirs: test_more_stuff::Client = pair.bootstrap();
        let mut reference = OrderedReference::new(ours.clone(), 0);
        for round in 0..50 {
            let mut request = theirs.echo_request();
            request.get().set_cap(ours.clone());
            let echo = request.send();
            let promise = echo.pipeline().get_cap();
            let calls: Vec<_> = (0..4).map(|_| reference.send_through(&promise)).collect();
            let found = set.wait_for_local_server(&promise).unwrap().unwrap();
            // The calls have come back, and are in the object's queue at least: this
            // one comes after them.
            let last = reference.send_through(&ours);
            last.wait().unwrap();
            assert_eq!(found.order().arrived(), 5 * (round + 1));
            drop(calls);
        }
        order.assert_right("behind an embargo");
        drop((ours, theirs, reference));
        pair.end();
    }
}

#[test]
fn a_promise_resolves_step_by_step() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let object = foo(&vat, answer_foo);
    let (outer, fulfill_outer) = promise_client::<Foo>();
    let (inner, fulfill_inner) = promise_client::<Foo>();
    let (told, steps) = std::sync::mpsc::channel();
    let (first, second) = (told.clone(), told.clone());
    outer.as_client().on_more_resolved(move |client| {
        let client = client.unwrap();
        let next = client.clone();
        next.on_more_resolved(move |client| second.send(client.unwrap()).unwrap());
        // Only now does the test go on.
        first.send(client).unwrap();
    });
    let again = outer.clone();
    let waiting = Blocked::spawn(move || {
        let first = again.as_client().more_resolved().unwrap().unwrap();
        (first.more_resolved().unwrap(), first)
    });
    fulfill_outer.fulfill(inner.clone());
    assert_eq!(&steps.recv().unwrap(), inner.as_client());
    assert_eq!(outer.as_client(), inner.as_client());
    fulfill_inner.fulfill(object.clone());
    assert_eq!(&steps.recv().unwrap(), object.as_client());
    let (second, first) = waiting.join();
    assert_eq!(first, *object.as_client(), "by now they are all the same");
    if let Some(second) = second {
        assert_eq!(&second, object.as_client());
    }
    // There is nothing more to come.
    assert!(outer.as_client().more_resolved().unwrap().is_none());
    outer.as_client().on_more_resolved(move |client| {
        assert!(client.is_none());
        told.send(Client::null()).unwrap();
    });
    assert!(steps.recv().unwrap().is_null());
}

#[test]
fn brands_are_for_those_who_have_them() {
    let vat = Vat::new();
    let brand = Brand::new();
    let config = ObjectConfig::new().brand(&brand);
    let branded: Foo = vat.export_configured(Numbered(1), config);
    assert_eq!(branded.as_client().brand(), Some(brand.clone()));
    assert_ne!(brand, Brand::new());
    assert!(vat.export::<Foo, _>(Numbered(2)).as_client().brand().is_none());
    // Of somebody else's set, whatever is asked for.
    let set = ServerSet::new(&vat);
    let client: Foo = set.add_with(Numbered(3), ObjectConfig::new().brand(&brand));
    assert_ne!(client.as_client().brand(), Some(brand));
    assert!(set.local_server(&client).is_some());
}

#[test]
fn names_are_for_people_of_this_process() {
    let _watchdog = Watchdog::start();
    let named =
        |vat: &Vat| vat.export_named::<Foo, _>("the thirteenth guest", Numbered(13)).into_client();
    let vat = Vat::new();
    let local = named(&vat);
    assert!(format!("{local:?}").contains("the thirteenth guest"));
    let error = call_foo(&Foo::from_client(local)).unwrap_err();
    assert_eq!(error.reason(), "the method panicked");
    assert!(
        error.internal().starts_with("the thirteenth guest: test.capnp:TestInterface.foo: "),
        "{}",
        error.internal()
    );
    for debug in [false, true] {
        let configure = |config: ConnConfig| config.debug_mode(debug);
        let pair = Pair::configured(named, Wire::Memory, |c| c, configure);
        let client: Foo = pair.bootstrap();
        let error = call_foo(&client).unwrap_err();
        assert_eq!(error.reason().contains("the thirteenth guest"), debug, "{error}");
        let [exported] = &pair.server.exports()[..] else { panic!("one thing is exported") };
        assert!(exported.object.contains("the thirteenth guest"), "{exported:?}");
        assert_eq!(exported.references, 1);
        assert!(pair.client.exports().is_empty());
        drop(client);
        pair.finish();
    }
}
