//! Being told that the peer behind a capability is gone.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use capnp_threads_core::reconnect::lazy_auto_reconnect;
use capnp_threads_core::untyped::DisconnectGuard;
use capnp_threads_core::vat::PoolConfig;
use capnp_threads_core::{Client, Error, ErrorKind, FromClient, Result, Vat, promise_client};
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use rpc_tests::support::objects::{Keeper, answer_foo, call_foo, foo, foo_request};
use rpc_tests::support::{Event, LONG, Pair, Watchdog, Wire, until, vat_with_pool};

type Foo = test_interface::Client;

/// A notice that sends what it is told.
fn watched(client: &impl FromClient) -> (DisconnectGuard, Receiver<Error>) {
    let (tell, told) = mpsc::channel();
    // The receiver is gone when a test has ended.
    let guard = client.as_client().on_disconnect(move |error| drop(tell.send(error)));
    (guard, told)
}

fn assert_told(told: &Receiver<Error>) {
    assert_eq!(told.recv_timeout(LONG).unwrap().kind(), ErrorKind::Disconnected);
    // The closure is gone, so it cannot run again.
    assert!(told.recv().is_err());
}

fn server() -> Pair {
    Pair::new(|vat| foo(vat, answer_foo).into_client())
}

#[test]
fn whoever_holds_a_capability_is_told_once_when_its_peer_is_gone() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let bootstrap = |vat: &Vat| foo(vat, answer_foo).into_client();
        let pair = Pair::configured(bootstrap, wire, |config| config, |config| config);
        let client: Foo = pair.bootstrap();
        call_foo(&client).unwrap();
        let watched: Vec<_> = (0..20).map(|_| watched(&client)).collect();
        pair.server.close();
        for (_guard, told) in &watched {
            assert_told(told);
        }
        // Calls have failed by then, and so do those that are made in the closure.
        assert_eq!(call_foo(&client).unwrap_err().kind(), ErrorKind::Disconnected);
        pair.end();
    }
}

#[test]
fn a_server_is_told_that_a_client_is_gone_whose_capability_it_holds() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let guards = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&guards);
    let pair = Pair::new(move |vat| Watching { tell: Mutex::new(tell), kept }.client(vat));
    let more: test_more_stuff::Client = pair.bootstrap();
    let mut request = more.call_foo_request();
    request.get().set_cap(foo(&pair.client_vat, answer_foo));
    request.call().unwrap();
    pair.client.close();
    assert_eq!(told.recv_timeout(LONG).unwrap(), ErrorKind::Disconnected);
    guards.lock().unwrap().clear();
    pair.end();
}

/// Watches what it is given.
struct Watching {
    tell: Mutex<mpsc::Sender<ErrorKind>>,
    kept: Arc<Mutex<Vec<DisconnectGuard>>>,
}

impl Watching {
    fn client(self, vat: &Vat) -> Client {
        let client: test_more_stuff::Client = vat.export(self);
        client.into_client()
    }
}

impl test_more_stuff::Server for Watching {
    fn call_foo(
        &self,
        params: test_more_stuff::CallFooParams,
        _: test_more_stuff::CallFooResults,
    ) -> Result<()> {
        let tell = self.tell.lock().unwrap().clone();
        let cap = params.get()?.get_cap()?;
        let guard = cap.as_client().on_disconnect(move |error| tell.send(error.kind()).unwrap());
        self.kept.lock().unwrap().push(guard);
        Ok(())
    }
}

impl rpc_schema::test_capnp::test_call_order::Server for Watching {}

#[test]
fn a_notice_that_is_withdrawn_never_comes_and_leaves_nothing_behind() {
    let _watchdog = Watchdog::start();
    let pair = server();
    let client: Foo = pair.bootstrap();
    call_foo(&client).unwrap();
    let (withdrawn, nothing) = watched(&client);
    let (_kept, told) = watched(&client);
    drop(withdrawn);
    assert!(nothing.recv().is_err(), "the closure is dropped with the guard");
    pair.client.close();
    assert_told(&told);
    pair.end();
}

/// The notice waits for the only worker, which withdraws it.
#[test]
fn a_notice_that_is_withdrawn_before_its_closure_runs_never_comes() {
    let _watchdog = Watchdog::start();
    let mut pool = PoolConfig::default();
    (pool.max_workers, pool.callers_run) = (1, false);
    let vat = vat_with_pool("alone", pool);
    let (give, take) = mpsc::channel();
    let client = foo(&vat, move |_, _| {
        let (guard, told) = watched(&Client::broken(Error::disconnected("gone")));
        drop(guard);
        give.send(told).unwrap();
        Ok(())
    });
    foo_request(&client).call().unwrap();
    assert!(take.recv().unwrap().recv().is_err());
    drop(client);
    assert!(vat.shutdown(LONG).unwrap());
}

#[test]
fn the_guard_may_be_dropped_in_the_closure() {
    let _watchdog = Watchdog::start();
    let pair = server();
    let client: Foo = pair.bootstrap();
    call_foo(&client).unwrap();
    let (own, ended) = (Arc::new(Mutex::new(None)), Event::new());
    let (inside, tell) = (Arc::clone(&own), ended.clone());
    let again = client.clone();
    let guard = client.as_client().on_disconnect(move |_| {
        drop(inside.lock().unwrap().take());
        // A call in the closure finds the end, and so does another notice.
        assert!(call_foo(&again).is_err());
        let inner = tell.clone();
        let next = again.as_client().on_disconnect(move |_| inner.set());
        tell.wait();
        drop(next);
    });
    *own.lock().unwrap() = Some(guard);
    pair.server.close();
    ended.wait();
    pair.end();
}

#[test]
fn what_is_gone_already_is_told_at_once() {
    let _watchdog = Watchdog::start();
    let broken = Client::broken(Error::failed("it broke"));
    let (_guard, told) = watched(&broken);
    assert_eq!(told.recv_timeout(LONG).unwrap().reason(), "it broke");

    let pair = server();
    let client: Foo = pair.bootstrap();
    call_foo(&client).unwrap();
    pair.client.close();
    let (_guard, told) = watched(&client);
    assert_told(&told);
    pair.end();
}

#[test]
fn objects_of_this_process_are_never_gone() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let local: Foo = foo(&vat, answer_foo);
    let (guard, told) = watched(&local);
    let (null, nothing) = watched(&Client::null());
    // A promise that turns out to be such an object.
    let (promised, fulfiller) = promise_client::<Foo>();
    let (of_promise, from_promise) = watched(&promised);
    fulfiller.fulfill(local.clone());
    call_foo(&promised).unwrap();
    assert!(vat.shutdown(LONG).unwrap());
    drop((guard, null, of_promise));
    for told in [told, nothing, from_promise] {
        assert!(told.recv().is_err(), "it is dropped unused");
    }
}

#[test]
fn a_promise_is_watched_as_what_it_turns_out_to_be() {
    let _watchdog = Watchdog::start();
    let pair = server();
    let client: Foo = pair.bootstrap();
    let (promised, fulfiller) = promise_client::<Foo>();
    let (_guard, told) = watched(&promised);
    fulfiller.fulfill(client.clone());
    call_foo(&promised).unwrap();
    assert!(told.try_recv().is_err());
    pair.server.close();
    assert_told(&told);
    pair.end();

    // One that breaks, and one of a peer that is never answered.
    let (promised, fulfiller) = promise_client::<Foo>();
    let (_guard, told) = watched(&promised);
    fulfiller.reject(Error::failed("never mind"));
    assert_eq!(told.recv_timeout(LONG).unwrap().reason(), "never mind");

    let pair = Pair::new(Keeper::client);
    let more: test_more_stuff::Client = pair.bootstrap();
    let never = more.never_return_request().send().pipeline().get_cap_copy();
    let (_guard, told) = watched(&never);
    pair.server.close();
    assert_told(&told);
    pair.end();
}

#[test]
fn a_capability_that_is_connected_anew_stands_for_its_present_connection() {
    let _watchdog = Watchdog::start();
    let pairs: Arc<Mutex<Vec<Pair>>> = Arc::default();
    let made = Arc::clone(&pairs);
    let (client, control) = lazy_auto_reconnect(move || -> Result<Foo> {
        let pair = server();
        let client = pair.bootstrap();
        made.lock().unwrap().push(pair);
        Ok(client)
    });
    let (_guard, told) = watched(&client);
    assert_told(&told);
    for generation in 1..=2 {
        until("an answer", || call_foo(&client).is_ok());
        assert_eq!(control.generation(), generation);
        let (_guard, told) = watched(&client);
        let pair = pairs.lock().unwrap().pop().unwrap();
        pair.server.close();
        assert_told(&told);
        pair.end();
    }
    drop((client, control));
}
