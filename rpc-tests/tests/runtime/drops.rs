//! What happens when references go away.

use std::sync::mpsc;
use std::thread::{self, ThreadId};

use capnp_threads_core::{Client, Concurrency, ConnConfig, Error, FromClient, Vat};
use rpc_schema::echo_capnp::echo;
use rpc_schema::test_capnp::{test_handle, test_interface, test_more_stuff, test_pipeline};

use rpc_tests::support::objects::{self, Keeper, call_foo, plain};
use rpc_tests::support::raw::{self, Cap, Outcome, RawPeer, Target};
use rpc_tests::support::{Census, Counted, LONG, Pair, Watchdog, Wire, until, vat};

fn keeper_with_handles(vat: &Vat, census: &Census) -> Client {
    let keeper: test_more_stuff::Client = vat.export(Keeper::with_handles(census));
    keeper.into_client()
}

fn handle(keeper: &test_more_stuff::Client) -> test_handle::Client {
    let response = keeper.get_handle_request().call().unwrap();
    response.get().unwrap().get_handle().unwrap()
}

#[test]
fn the_last_release_drops_the_object_though_nothing_else_happens() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(|vat| keeper_with_handles(vat, &census));
    let keeper: test_more_stuff::Client = pair.bootstrap();
    let handle = handle(&keeper);
    assert_eq!(census.alive(), 1);
    drop(handle);
    until("the object to go", || census.alive() == 0);
    drop(keeper);
    pair.finish();
}

/// Tells on which thread it is dropped.
struct DroppedOn(mpsc::Sender<ThreadId>);

impl Drop for DroppedOn {
    fn drop(&mut self) {
        // A test that has failed does not listen.
        let _ = self.0.send(thread::current().id());
    }
}

/// A thread that waits for an answer reads what comes before it. Its application may hold
/// a lock that a destructor takes.
#[test]
fn no_destructor_runs_on_a_thread_that_waits_for_an_answer() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let pair = Pair::configured(Keeper::client, wire, |config| config, |config| config);
        let keeper: test_more_stuff::Client = pair.bootstrap();
        let (drops, dropped) = mpsc::channel();
        for turn in 0..50 {
            let held = DroppedOn(drops.clone());
            let object =
                objects::foo_with(&pair.client_vat, Concurrency::Serial, held, objects::answer_foo);
            let mut request = keeper.hold_request();
            request.get().set_cap(object);
            // The server lets go of the object that it held, and then answers.
            request.call().unwrap();
            if turn > 0 {
                assert_ne!(dropped.recv_timeout(LONG).unwrap(), thread::current().id());
            }
        }
        drop(keeper);
        pair.end();
    }
}

/// Three vats in a row; the middle one offers what it got from the last.
#[test]
fn a_release_may_release_on_another_connection() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let back = Pair::new(|vat| keeper_with_handles(vat, &census));
    let keeper: test_more_stuff::Client = back.bootstrap();
    let front = Pair::new(move |_| keeper.into_client());
    let keeper: test_more_stuff::Client = front.bootstrap();
    let handle = handle(&keeper);
    assert_eq!(census.alive(), 1);
    drop(handle);
    until("the object to go", || census.alive() == 0);
    drop(keeper);
    front.finish();
    back.finish();
}

/// Every object holds the next one: dropping the first drops them all, and must
/// not need a stack as deep as there are objects.
#[test]
fn a_long_chain_of_objects_goes_without_a_long_stack() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let vat = vat("dr4");
    let mut chain = None;
    for _ in 0..20_000 {
        let held = (chain.take(), census.count());
        chain = Some(objects::foo_with(&vat, Concurrency::Serial, held, objects::answer_foo));
    }
    drop(chain);
    assert_eq!(census.alive(), 0);
    assert!(vat.shutdown(LONG).unwrap());
}

/// The peer gets an object, passes it as the next one's content, and so on.
#[test]
fn a_long_chain_of_fields_fails_without_a_long_stack() {
    let _watchdog = Watchdog::start();
    let (promise, fulfiller) = capnp_threads_core::promise_client::<test_pipeline::Client>();
    let mut calls = Vec::new();
    let mut cap = promise.into_client();
    for _ in 0..20_000 {
        let echo: echo::Client = echo::Client::from_client(cap);
        let call = echo.next_request().send();
        cap = call.pipeline().get_echo().into_client();
        calls.push(call);
    }
    fulfiller.reject(Error::failed("on purpose"));
    for call in calls {
        assert_eq!(call.wait().unwrap_err().reason(), "on purpose");
    }
    call_foo(&test_interface::Client::from_client(cap)).unwrap_err();
}

#[test]
fn a_long_chain_of_fields_is_cancelled_without_a_long_stack() {
    let _watchdog = Watchdog::start();
    let (promise, fulfiller) = capnp_threads_core::promise_client::<echo::Client>();
    let mut last = promise;
    for _ in 0..20_000 {
        last = last.next_request().send().pipeline().get_echo();
    }
    drop(last);
    drop(fulfiller);
}

/// A field of a call that waits in a promise is all that keeps the call alive;
/// a Release of it must not cancel the call in the middle of the connection's
/// transaction.
#[test]
fn a_release_may_cancel_a_call_of_the_same_connection() {
    let _watchdog = Watchdog::start();
    let vat = vat("dr5");
    let (promise, fulfiller) = capnp_threads_core::promise_client::<test_more_stuff::Client>();
    let held: test_more_stuff::Client = vat.export(Keeper::new());
    let mut request = held.hold_request();
    request.get().set_cap(promise.cast_to());
    request.call().unwrap();
    let (mut peer, connection) =
        RawPeer::connect(&vat, ConnConfig::new().bootstrap(held.into_client()));
    let keeper = peer.bootstrapped(0);
    // The promise, by its id, and a call that waits in it.
    peer.call(1, &Target::Import(keeper), raw::GET_HELD, &[]);
    let Outcome::Results(caps) = peer.outcome(1) else { panic!() };
    let [Cap::SenderPromise(promise)] = caps[..] else { panic!("{caps:?}") };
    peer.call(2, &Target::Import(promise), raw::GET_HELD, &[]);
    // The field of its results, exported, and then all that is left of the call.
    peer.call(3, &Target::Import(keeper), raw::ECHO, &[Cap::ReceiverAnswer(2, vec![0])]);
    let Outcome::Results(caps) = peer.outcome(3) else { panic!() };
    let [Cap::SenderPromise(field)] = caps[..] else { panic!("{caps:?}") };
    peer.finish(3, false);
    peer.finish(2, true);
    peer.sync(4);
    peer.release(field, 1);
    peer.sync(5);
    drop(fulfiller);
    peer.end();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}

struct PanicsWhenDropped {
    _counted: Counted,
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn a_drop_that_panics_leaves_the_connection_alive() {
    let _watchdog = Watchdog::start();
    let census = Census::new();
    let pair = Pair::new(Keeper::client);
    let keeper: test_more_stuff::Client = pair.bootstrap();
    // The server's last reference is released by the coordinator of our side.
    let mut request = keeper.hold_request();
    let held = PanicsWhenDropped { _counted: census.count() };
    request.get().set_cap(objects::foo_with(
        &pair.client_vat,
        Concurrency::Serial,
        held,
        objects::answer_foo,
    ));
    request.call().unwrap();
    let again = plain(&pair.client_vat, &census);
    let mut request = keeper.hold_request();
    request.get().set_cap(again);
    request.call().unwrap();
    until("the object to go", || census.alive() == 1);
    keeper.call_held_request().call().unwrap();
    drop(keeper);
    // The server still holds the second object.
    pair.end();
    assert_eq!(census.alive(), 0);
}
