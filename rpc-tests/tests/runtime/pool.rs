//! The workers of a vat.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use capnp_threads_core::vat::PoolConfig;
use capnp_threads_core::{Concurrency, ConnConfig, ErrorKind, Vat};
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use rpc_tests::support::objects::{Keeper, answer_foo, call_foo, foo, foo_request, foo_with};
use rpc_tests::support::raw::{self, Cap, Outcome, RawPeer, Said, Target};
use rpc_tests::support::{
    Event, LONG, Watchdog, Wire, settle, threads_named, until, vat, vat_with_pool,
};

fn pool(adjust: impl FnOnce(&mut PoolConfig)) -> PoolConfig {
    let mut pool = PoolConfig::default();
    adjust(&mut pool);
    pool
}

/// An object that calls its counterpart, which calls it, and so on.
fn ping_pong(vat: &Vat, other: Arc<OnceLock<test_interface::Client>>) -> test_interface::Client {
    let method = move |params: test_interface::FooParams, _: test_interface::FooResults| {
        let left = params.get()?.get_i();
        if left > 0 {
            let other = other.get().unwrap();
            let mut request = other.foo_request();
            request.get().set_i(left - 1);
            request.call()?;
        }
        Ok(())
    };
    foo_with(vat, Concurrency::Concurrent, (), method)
}

/// A pool with a hard limit deadlocks when methods call back and forth deeper
/// than there are workers: one that waits must give its place up.
#[test]
fn call_backs_deeper_than_there_are_workers() {
    let _watchdog = Watchdog::start();
    for wire in [Wire::Memory, Wire::Unix] {
        let small = || pool(|pool| pool.max_workers = 1);
        let (left_vat, right_vat) =
            (vat_with_pool("po1l", small()), vat_with_pool("po1r", small()));
        let (left_other, right_other) = (Arc::default(), Arc::default());
        let (here, there) = wire.pair();
        let config = ConnConfig::new().bootstrap(ping_pong(&left_vat, Arc::clone(&left_other)));
        let left = left_vat.connect(here, config).unwrap();
        let config = ConnConfig::new().bootstrap(ping_pong(&right_vat, Arc::clone(&right_other)));
        let right = right_vat.connect(there, config).unwrap();
        left_other.set(left.bootstrap()).ok().unwrap();
        right_other.set(right.bootstrap()).ok().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut request = left_other.get().unwrap().foo_request();
                    request.get().set_i(60);
                    request.call().unwrap();
                });
            }
        });
        left.close();
        assert!(left_vat.shutdown(LONG).unwrap());
        assert!(right_vat.shutdown(LONG).unwrap());
    }
}

#[test]
fn a_full_queue_answers_overloaded_and_recovers() {
    let _watchdog = Watchdog::start();
    let small = pool(|pool| {
        pool.max_workers = 1;
        pool.max_queued = 1;
    });
    let server_vat = vat_with_pool("po2s", small);
    let client_vat = vat("po2c");
    let (go, started) = (Event::new(), Event::new());
    let (hold, begun) = (go.clone(), started.clone());
    // What it blocks on is nothing that the library knows of.
    let method = move |params, results| {
        begun.set();
        hold.wait();
        answer_foo(params, results)
    };
    let object = foo_with(&server_vat, Concurrency::Concurrent, (), method);
    let (here, there) = Wire::Memory.pair();
    let server = server_vat.connect(there, ConnConfig::new().bootstrap(object)).unwrap();
    let client = client_vat.connect(here, ConnConfig::new()).unwrap();
    let foo: test_interface::Client = client.bootstrap();
    let running = foo_request(&foo).send();
    started.wait();
    let queued = foo_request(&foo).send();
    let refused = foo_request(&foo).send();
    let error = refused.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    // What had been accepted was not given up for it.
    assert!(queued.try_response().is_none());
    go.set();
    running.wait().unwrap();
    queued.wait().unwrap();
    call_foo(&foo).unwrap();
    drop((foo, running, queued, refused));
    settle(&client, &server);
    client.close();
    assert!(client_vat.shutdown(LONG).unwrap());
    assert!(server_vat.shutdown(LONG).unwrap());
}

#[test]
fn workers_with_nothing_to_do_go() {
    let _watchdog = Watchdog::start();
    let impatient = pool(|pool| pool.idle_time = Duration::from_millis(1));
    let vat = vat_with_pool("po3", impatient);
    let object = foo(&vat, answer_foo);
    for _ in 0..3 {
        call_foo(&object).unwrap();
        until("the worker to go", || threads_named("po3") == 0);
    }
}

/// A peer calls methods that call it back, and answers nothing. It gets its share of the
/// workers, and the others are served.
#[test]
fn a_peer_that_answers_nothing_leaves_workers_to_other_peers() {
    let _watchdog = Watchdog::start();
    let limited = pool(|pool| {
        pool.max_workers = 4;
        pool.max_waiting = 12;
    });
    let vat = vat_with_pool("po4", limited);
    let mut limits = capnp_threads_core::Limits::default();
    limits.questions = 1000;
    let keeper = Keeper::client(&vat);
    let config = || ConnConfig::new().bootstrap(keeper.clone()).limits(limits.clone());
    let (mut peer, connection) = RawPeer::connect(&vat, config());
    let import = peer.bootstrapped(0);
    let call_foo = |peer: &mut RawPeer, question| {
        peer.call(question, &Target::Import(import), raw::CALL_FOO, &[Cap::SenderHosted(7)]);
    };
    let (mut called, mut refused) = (Vec::new(), 0);
    for question in 1..=50 {
        call_foo(&mut peer, question);
        match peer.receive_until("an answer or a call back", |said| match said {
            Said::Call { question, .. } => Some(Ok(*question)),
            Said::Return { outcome, .. } => Some(Err(outcome.clone())),
            _ => None,
        }) {
            Ok(back) => called.push((question, back)),
            Err(outcome) => {
                let Outcome::Exception(reason) = outcome else { panic!("{outcome:?}") };
                assert!(reason.contains("wait for other calls"), "{reason}");
                refused += 1;
            }
        }
    }
    assert_eq!(called.len() + refused, 50);
    assert!((9..16).contains(&called.len()), "{} workers wait for one peer", called.len());
    // Another peer is served, and a third one.
    for name in ["po4b", "po4c"] {
        let client_vat = capnp_threads_core::Vat::new();
        let (here, there) = Wire::Memory.pair();
        let server = vat.connect(there, config()).unwrap();
        let client = client_vat.connect(here, ConnConfig::new()).unwrap();
        let keeper: test_more_stuff::Client = client.bootstrap();
        keeper.get_handle_request().call().unwrap();
        drop(keeper);
        settle(&client, &server);
        client.close();
        assert!(client_vat.shutdown(LONG).unwrap(), "{name}");
    }
    // When the call-backs are answered, there is room again.
    for (question, back) in called {
        peer.results(back, &[]);
        peer.outcome(question);
    }
    call_foo(&mut peer, 51);
    peer.receive_until("a call back", |said| matches!(said, Said::Call { .. }).then_some(()));
    peer.end();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(vat.shutdown(LONG).unwrap());
}

/// Answers are taken in by the coordinator, not through the pool.
#[test]
fn replies_need_no_worker() {
    let _watchdog = Watchdog::start();
    let tiny = pool(|pool| {
        pool.max_workers = 1;
        pool.max_queued = 0;
    });
    let client_vat = vat_with_pool("po5c", tiny);
    let server_vat = vat("po5s");
    let (here, there) = Wire::Memory.pair();
    let keeper = Keeper::client(&server_vat);
    let server = server_vat.connect(there, ConnConfig::new().bootstrap(keeper)).unwrap();
    let client = client_vat.connect(here, ConnConfig::new()).unwrap();
    let (go, started) = (Event::new(), Event::new());
    let (hold, begun) = (go.clone(), started.clone());
    let busy = foo(&client_vat, move |params, results| {
        begun.set();
        hold.wait();
        answer_foo(params, results)
    });
    let occupied = foo_request(&busy).send();
    started.wait();
    let keeper: test_more_stuff::Client = client.bootstrap();
    keeper.get_handle_request().call().unwrap();
    go.set();
    occupied.wait().unwrap();
    drop((keeper, occupied));
    settle(&client, &server);
    client.close();
    assert!(client_vat.shutdown(LONG).unwrap());
    assert!(server_vat.shutdown(LONG).unwrap());
}
