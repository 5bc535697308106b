//! What becomes of capabilities that cross.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use capnp_threads_core::membrane::{Membrane, MembranePolicy, Passage, Transparent};
use capnp_threads_core::typed::{new_client, unwrap_server};
use capnp_threads_core::{Client, Error, ErrorKind, FromClient, Result, Vat, promise_client};
use rpc_schema::test_capnp::test_membrane::thing;
use rpc_tests::support::Watchdog;
use rpc_tests::support::objects::{Intercepts, Thing};

use super::objects::{Inside, World, intercept, pass_through};

fn assert_texts(thing: &thing::Client, through: &str, intercepted: &str) {
    assert_eq!(pass_through(thing).unwrap(), through);
    assert_eq!(intercept(thing).unwrap(), intercepted);
}

#[test]
fn inside_an_object_is_called_through_the_membrane() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let thing = world.make_thing().wait().unwrap().get().unwrap().get_thing().unwrap();
        assert_texts(&thing, "inside", "inbound");
    });
}

#[test]
fn promise_inside_is_called_through_the_membrane_before_and_after_it_resolves() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let call = world.make_thing();
        let thing = call.pipeline().get_thing();
        assert_texts(&thing, "inside", "inbound");
        let resolved = thing::Client::from_client(thing.as_client().resolve().unwrap());
        assert_texts(&resolved, "inside", "inbound");
        let read = call.wait().unwrap().get().unwrap().get_thing().unwrap();
        assert_eq!(read.as_client(), resolved.as_client());
        assert_texts(&read, "inside", "inbound");
    });
}

/// With and without a tail call inside.
#[test]
fn outside_an_object_is_called_through_the_membrane() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let outside = world.outside_thing();
        for tail_call in [false, true] {
            let mut request = world.outside.call_pass_through_request();
            request.get().set_thing(outside.clone());
            request.get().set_tail_call(tail_call);
            let response = request.call().unwrap();
            assert_eq!(response.get().unwrap().get_text().unwrap(), "outside");
            let mut request = world.outside.call_intercept_request();
            request.get().set_thing(outside.clone());
            request.get().set_tail_call(tail_call);
            let response = request.call().unwrap();
            assert_eq!(response.get().unwrap().get_text().unwrap(), "outbound");
        }
    });
}

#[test]
fn in_and_out_unwraps() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let outside = world.outside_thing();
        let back = world.loopback(&outside).wait().unwrap();
        let back = back.get().unwrap().get_thing().unwrap();
        assert_texts(&back, "outside", "outside");
        assert_eq!(back.as_client(), outside.as_client());
        // Inside it was another one.
        let seen = world.inside.seen.lock().unwrap().take().unwrap();
        assert_eq!(pass_through(&seen).unwrap(), "outside");
        assert_eq!(intercept(&seen).unwrap(), "outbound");
    });
}

/// The other way round: what came out goes back in, and is the same object there.
#[test]
fn out_and_in_unwraps() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let response = world.make_thing().wait().unwrap();
        let thing = response.get().unwrap().get_thing().unwrap();
        let back = world.loopback(&thing).wait().unwrap();
        let back = back.get().unwrap().get_thing().unwrap();
        assert_eq!(back.as_client(), thing.as_client());
        assert_texts(&back, "inside", "inbound");
        let seen = world.inside.seen.lock().unwrap().take().unwrap();
        let made = world.inside.made.lock().unwrap().take().unwrap();
        assert_eq!(seen.as_client(), made.as_client());
        assert!(unwrap_server::<Thing>(&seen).is_some());
        assert!(unwrap_server::<Thing>(&thing).is_none(), "nobody sees through a membrane");
    });
}

/// Calls through the promise do not cross the membrane in the end: those that
/// would be intercepted wait until that is known.
#[test]
fn promise_to_outside_is_not_intercepted() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let outside = world.outside_thing();
        let call = world.loopback(&outside);
        let thing = call.pipeline().get_thing();
        assert_texts(&thing, "outside", "outside");
        let resolved = thing.as_client().resolve().unwrap();
        assert_eq!(&resolved, outside.as_client());
    });
}

/// The same where the promise is one that the outside passed in.
#[test]
fn promise_that_went_in_and_out_is_itself() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let (promise, fulfiller) = promise_client::<thing::Client>();
        let call = world.loopback(&promise);
        let pipelined = call.pipeline().get_thing();
        let intercepted = pipelined.intercept_request().send();
        let back = call.wait().unwrap().get().unwrap().get_thing().unwrap();
        assert!(back.as_client().is_unresolved());
        let passed = back.pass_through_request().send();
        let outside = world.outside_thing();
        fulfiller.fulfill(outside.clone());
        assert_eq!(intercepted.wait().unwrap().get().unwrap().get_text().unwrap(), "outside");
        assert_eq!(passed.wait().unwrap().get().unwrap().get_text().unwrap(), "outside");
        for client in [back, pipelined, promise] {
            assert_eq!(&client.as_client().resolve().unwrap(), outside.as_client());
        }
    });
}

#[test]
fn null_and_broken_capabilities_are_the_same_on_both_sides() {
    let membrane = Membrane::new(Transparent);
    assert!(membrane.wrap(&Client::null()).is_null());
    let broken = Client::broken(Error::failed("on purpose"));
    assert_eq!(membrane.wrap(&broken), broken);
}

/// Identity of what resolves.
#[test]
fn what_a_promise_resolves_to_is_the_same_as_that_wrapped() {
    let _watchdog = Watchdog::start();
    let membrane = Membrane::new(Transparent);
    let thing: thing::Client = new_client(Thing("inside"));
    let wrapped = membrane.wrap(&thing);
    assert_eq!(wrapped.as_client(), membrane.wrap(&thing).as_client());
    assert_ne!(wrapped.as_client(), thing.as_client());
    let (promise, fulfiller) = promise_client::<thing::Client>();
    let first = membrane.wrap(&promise);
    let second = membrane.wrap(&promise);
    assert_eq!(first.as_client(), second.as_client());
    assert!(first.as_client().is_unresolved());
    assert_ne!(first.as_client(), wrapped.as_client());
    let identity = first.as_client().identity();
    fulfiller.fulfill(thing.clone());
    assert!(!first.as_client().is_unresolved());
    assert_eq!(first.as_client(), wrapped.as_client());
    assert_eq!(second.as_client().resolve().unwrap(), *wrapped.as_client());
    assert_ne!(first.as_client().identity(), identity);
    assert_eq!(first.as_client().identity(), wrapped.as_client().identity());
    assert_eq!(membrane.wrap_reverse(&first).as_client(), thing.as_client());
    // To null.
    let (promise, fulfiller) = promise_client::<thing::Client>();
    let wrapped = membrane.wrap(&promise);
    fulfiller.fulfill(thing::Client::from_client(Client::null()));
    assert!(wrapped.as_client().is_null());
}

#[test]
fn siblings_undo_what_each_other_did_and_strangers_do_not() {
    let membrane = Membrane::new(Transparent);
    let sibling = membrane.sibling(Transparent);
    let stranger = Membrane::new(Transparent);
    let thing = Client::from_dispatch(Arc::new(Nothing));
    let wrapped = membrane.wrap(&thing);
    assert_eq!(sibling.wrap_reverse(&wrapped), thing);
    let twice = stranger.wrap_reverse(&wrapped);
    assert_ne!(twice, thing);
    assert_eq!(stranger.wrap(&twice), wrapped);
    sibling.revoke(Error::failed("on purpose"));
    assert_eq!(membrane.wrap_reverse(&wrapped), thing, "each is revoked alone");
}

struct Nothing;

impl capnp_threads_core::untyped::Dispatch for Nothing {
    fn dispatch(&self, _: capnp_threads_core::untyped::IncomingCall) {}

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// However often somebody has a capability wrapped that gets around a membrane,
/// that comes to an end.
#[test]
fn a_capability_does_not_lead_through_membranes_without_end() {
    let _watchdog = Watchdog::start();
    let membrane = Membrane::new(Transparent);
    let mut client = Client::from_dispatch(Arc::new(Nothing));
    let mut layers = 0;
    while client.failure().is_none() {
        client = membrane.wrap(&client);
        layers += 1;
    }
    assert!((10..1000).contains(&layers), "{layers}");
    assert!(client.failure().unwrap().reason().contains("membranes"));
    // With promises in between, which are resolved only when all of it is there.
    let (bottom, fulfiller) = capnp_threads_core::untyped::promise();
    let mut fulfillers = Vec::new();
    let mut last = membrane.wrap(&bottom);
    for _ in 0..10_000 {
        let (promise, next) = capnp_threads_core::untyped::promise();
        fulfillers.push((next, last));
        last = membrane.wrap(&promise);
    }
    fulfiller.fulfill(Client::from_dispatch(Arc::new(Nothing)));
    for (fulfiller, target) in fulfillers.into_iter().rev() {
        fulfiller.fulfill(target);
    }
    assert!(last.failure().unwrap().reason().contains("membranes"));
}

#[test]
fn a_promise_that_becomes_itself_behind_a_membrane_fails() {
    let _watchdog = Watchdog::start();
    let membrane = Membrane::new(Transparent);
    for reverse in [false, true] {
        let (promise, fulfiller) = promise_client::<thing::Client>();
        let wrapped =
            if reverse { membrane.wrap_reverse(&promise) } else { membrane.wrap(&promise) };
        let call = promise.pass_through_request().send();
        fulfiller.fulfill(wrapped.clone());
        assert_eq!(call.wait().map(drop).unwrap_err().reason(), "a promise was resolved to itself");
        assert!(pass_through(&wrapped).is_err());
    }
}

/// Counts what it is asked, and fails or panics.
#[derive(Default)]
struct Fails {
    asked: AtomicUsize,
}

impl MembranePolicy for Fails {
    fn inbound_call(&self, interface: u64, method: u16, target: &Client) -> Result<Passage> {
        use capnp_threads_core::capnp::traits::HasTypeId;
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!(interface, thing::Client::TYPE_ID);
        assert_eq!(method, Intercepts::INTERCEPT, "only intercept may pass");
        // What it sees is inside.
        assert!(unwrap_server::<Thing>(target).is_some());
        Err(Error::unimplemented("not here"))
    }
}

#[test]
fn what_a_policy_refuses_fails_alone_and_so_does_a_panic() {
    let _watchdog = Watchdog::start();
    let policy = Arc::new(Fails::default());
    let membrane = Membrane::new(Arc::clone(&policy));
    let thing: thing::Client = membrane.wrap(&new_client::<thing::Client, _>(Thing("inside")));
    let error = intercept(&thing).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Unimplemented, "not here"));
    let error = pass_through(&thing).unwrap_err();
    assert_eq!(error.reason(), "the policy of a membrane panicked");
    assert_eq!(policy.asked.load(Ordering::SeqCst), 2);
    assert_eq!(intercept(&thing).unwrap_err().reason(), "not here");
}

/// Asked about calls through promises at once.
struct Impatient(Client);

impl MembranePolicy for Impatient {
    fn inbound_call(&self, _: u64, method: u16, _: &Client) -> Result<Passage> {
        Ok(if method == Intercepts::PASS_THROUGH {
            Passage::Through
        } else {
            Passage::Redirect(self.0.clone())
        })
    }

    fn waits_for_promises(&self) -> bool {
        false
    }
}

#[test]
fn a_policy_need_not_wait_for_promises() {
    let _watchdog = Watchdog::start();
    let instead: thing::Client = new_client(Thing("instead"));
    let membrane = Membrane::new(Impatient(instead.into_client()));
    let (promise, fulfiller) = promise_client::<thing::Client>();
    let wrapped = membrane.wrap(&promise);
    let passed = wrapped.pass_through_request().send();
    assert_eq!(intercept(&wrapped).unwrap(), "instead");
    fulfiller.fulfill(new_client(Thing("inside")));
    assert_eq!(passed.wait().unwrap().get().unwrap().get_text().unwrap(), "inside");
}

/// A call that waits in a wrapper keeps alive what will let it go, and gives
/// everything up when it is cancelled.
#[test]
fn calls_that_wait_for_a_promise_go_on_without_the_wrapper() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let membrane = Membrane::new(Intercepts::new(&vat));
    let (promise, fulfiller) = promise_client::<thing::Client>();
    let wrapped = membrane.wrap(&promise);
    let call = wrapped.intercept_request().send();
    let cancelled = wrapped.intercept_request().send();
    drop((wrapped, promise, cancelled));
    fulfiller.fulfill(vat.export(Thing("inside")));
    assert_eq!(call.wait().unwrap().get().unwrap().get_text().unwrap(), "inbound");
    // Nobody else wants the call that would never return.
    let inside = Inside::new(&vat);
    let outside = membrane.wrap(&inside.client());
    let call = outside.wait_forever_request().send();
    let field = call.as_pending().pipelined(&[0]);
    let waiting = thing::Client::from_client(field).intercept_request().send();
    inside.waits.wait();
    drop(call);
    assert!(!inside.gave_up.is_set());
    drop(waiting);
    inside.gave_up.wait();
}

#[cfg(unix)]
#[test]
fn file_descriptors_pass_only_if_the_policy_says_so() {
    struct PassesFds;
    impl MembranePolicy for PassesFds {
        fn passes_fds(&self) -> bool {
            true
        }
    }
    let (_reader, writer) = std::io::pipe().unwrap();
    let thing: thing::Client =
        capnp_threads_core::typed::new_client_with_fd(Thing("inside"), writer);
    assert!(thing.as_client().fd().is_some());
    assert!(Membrane::new(Transparent).wrap(&thing).as_client().fd().is_none());
    assert!(Membrane::new(PassesFds).wrap(&thing).as_client().fd().is_some());
}
