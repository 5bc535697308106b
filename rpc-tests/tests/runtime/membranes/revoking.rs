//! What revoking ends, and what it leaves alone.

use std::sync::{Arc, Barrier, Mutex};

use capnp_threads_core::membrane::{Membrane, Transparent, revocable};
use capnp_threads_core::{Client, Concurrency, Error, FromClient, Vat, promise_client};
use rpc_schema::test_capnp::test_membrane::thing;
use rpc_schema::test_capnp::test_more_stuff;

use rpc_tests::support::objects::{Thing, any, foo_request};

use super::objects::{Inside, World, pass_through};
use rpc_tests::support::{Blocked, Census, Watchdog, until};

const REASON: &str = "foobar";

fn reason<T>(result: capnp_threads_core::Result<T>) -> String {
    result.map(drop).unwrap_err().reason().to_owned()
}

#[test]
fn revoke_ends_everything_that_crosses_and_calls_in_flight() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let made = world.make_thing().wait().unwrap();
        let inner = made.get().unwrap().get_thing().unwrap();
        let outside = world.outside_thing();
        let back = world.loopback(&outside).wait().unwrap();
        let back = back.get().unwrap().get_thing().unwrap();
        let seen = world.inside.seen.lock().unwrap().take().unwrap();
        let call = world.outside.wait_forever_request().send();
        world.inside.waits.wait();

        world.membrane.revoke(Error::failed(REASON));
        // Inside the call was cancelled.
        world.inside.gave_up.wait();
        assert_eq!(reason(call.wait()), REASON);
        assert_eq!(reason(pass_through(&inner)), REASON);
        assert_eq!(reason(pass_through(&seen)), REASON);
        assert_eq!(reason(world.make_thing().wait()), REASON);
        // This one does not cross it any more.
        assert_eq!(pass_through(&back).unwrap(), "outside");
        assert_eq!(world.membrane.revoked().unwrap().reason(), REASON);
        world.membrane.revoke(Error::failed("another time"));
        assert_eq!(reason(pass_through(&inner)), REASON);
    });
}

/// They are told why, and not that what they wait for was cancelled.
#[test]
fn revoke_ends_calls_that_are_pipelined_on_calls_in_flight() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let object = any(&vat, Concurrency::Serial, move |call| keep.lock().unwrap().push(call));
    let membrane = Membrane::new(Transparent);
    let client = membrane.wrap(&test_more_stuff::Client::from_client(object));
    let first = client.never_return_request().send();
    until("the call to arrive", || !kept.lock().unwrap().is_empty());
    let field = first.pipeline().get_cap_copy();
    let calls = [(); 3].map(|()| foo_request(&field).send());
    // Only the field keeps the first call alive.
    drop(first);
    membrane.revoke(Error::failed(REASON));
    for call in calls {
        assert_eq!(reason(call.wait()), REASON);
    }
    // It keeps the object, which keeps it.
    let kept = std::mem::take(&mut *kept.lock().unwrap());
    assert_eq!(kept.len(), 1);
}

/// Also promises, at once: for who waits for them, and for a peer.
#[test]
fn revoke_resolves_promises() {
    let _watchdog = Watchdog::start();
    World::each(|world| {
        let membrane = &world.membrane;
        let (promise, _fulfiller) = promise_client::<thing::Client>();
        let wrapped = membrane.wrap(&promise);
        let again = wrapped.clone();
        let waiting = Blocked::spawn(move || again.as_client().resolve().unwrap_err());
        // Waits for the promise, because it would be intercepted.
        let call = wrapped.intercept_request().send();
        // It is a parameter of a call, too.
        let held = world.loopback(&wrapped).wait();
        membrane.revoke(Error::failed(REASON));
        assert_eq!(waiting.join().reason(), REASON);
        assert_eq!(reason(call.wait()), REASON);
        assert_eq!(wrapped.as_client().failure().unwrap().reason(), REASON);
        drop(held);
        assert_eq!(reason(pass_through(&membrane.wrap(&promise))), REASON);
    });
}

/// The wrappers let go of what they wrap.
#[test]
fn revoke_drops_what_is_behind() {
    struct Counts(#[allow(dead_code)] rpc_tests::support::Counted);
    impl thing::Server for Counts {}
    let _watchdog = Watchdog::start();
    let (vat, census) = (Vat::new(), Census::new());
    let (thing, revoker) = revocable(&vat.export::<thing::Client, _>(Counts(census.count())));
    assert_eq!(census.alive(), 1);
    assert!(!revoker.is_revoked());
    revoker.revoke(Error::failed(REASON));
    until("the object to be dropped", || census.alive() == 0);
    assert!(revoker.is_revoked());
    assert_eq!(reason(pass_through(&thing)), REASON);
    let (thing, revoker) = revocable(&vat.export::<thing::Client, _>(Counts(census.count())));
    let guard = revoker.on_drop();
    assert!(thing.as_client().failure().is_none());
    drop(guard);
    assert!(thing.as_client().failure().unwrap().reason().contains("revoked"));
    until("the object to be dropped", || census.alive() == 0);
}

/// What a revoked membrane has cancelled on the one side says on the other one why.
#[test]
fn what_is_broken_behind_a_revoked_membrane_tells_that_it_was_revoked() {
    let membrane = Membrane::new(Transparent);
    let broken = || thing::Client::from_client(Client::broken(Error::failed("cancelled")));
    let before = membrane.wrap(&broken());
    assert_eq!(reason(pass_through(&before)), "cancelled");
    membrane.revoke(Error::failed(REASON));
    assert_eq!(reason(pass_through(&membrane.wrap(&broken()))), REASON);
    assert_eq!(reason(pass_through(&before)), "cancelled");
}

/// Whatever crosses while another thread revokes either returned or fails.
#[test]
fn revoking_while_many_call_leaves_nobody_waiting() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    for _ in 0..50 {
        let membrane = Membrane::new(Transparent);
        let client = membrane.wrap(&Inside::new(&vat).client());
        let thing: thing::Client = vat.export(Thing("outside"));
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..20 {
                        let mut request = client.loopback_request();
                        request.get().set_thing(thing.clone());
                        let pipelined = request.send().pipeline().get_thing();
                        if let Err(error) = pass_through(&pipelined) {
                            assert_eq!(error.reason(), REASON);
                        }
                        // These never return, but for being revoked.
                        if reason_of_waiting(&client) == REASON {
                            return;
                        }
                    }
                });
            }
            start.wait();
            membrane.revoke(Error::failed(REASON));
        });
    }
}

fn reason_of_waiting(client: &rpc_schema::test_capnp::test_membrane::Client) -> String {
    reason(client.wait_forever_request().call())
}
