//! What the log is told, and what it can do to others.

use std::sync::mpsc;
use std::time::Duration;

use capnp_threads_core::vat::PoolConfig;
use capnp_threads_core::{Concurrency, ConnConfig, Error, FromClient as _};
use capnp_threads_transport::tcp;
use rpc_schema::test_capnp::test_interface;
use rpc_testing::log::Events;
use tracing::Level;

use rpc_tests::support::objects::{answer_foo, call_foo, foo, foo_request, foo_with};
use rpc_tests::support::{Event, LONG, Pair, Watchdog, Wire, alone, vat, vat_with_pool};

/// For a process of its own.
fn subscribe(act: impl Fn(String) + Send + Sync + 'static) {
    tracing::subscriber::set_global_default(Events::new(Level::TRACE, act)).unwrap();
}

/// Events come from the middle of steps, under the order lock, and from every thread of a
/// connection. None of these may be ended by a log that fails.
#[test]
fn a_log_that_panics_at_every_event_stops_nothing() {
    if !alone("logs::a_log_that_panics_at_every_event_stops_nothing") {
        return;
    }
    let _watchdog = Watchdog::start();
    subscribe(|_| panic!("on purpose"));
    for wire in Wire::ALL {
        let pair = Pair::configured(
            |vat| foo(vat, answer_foo).into_client(),
            wire,
            |config| config,
            |config| config,
        );
        let foo: test_interface::Client = pair.bootstrap();
        for _ in 0..10 {
            call_foo(&foo).unwrap();
        }
        drop(foo);
        pair.finish();
    }
    let pair = Pair::new(|vat| foo(vat, |_, _| panic!("this, too")).into_client());
    let foo: test_interface::Client = pair.bootstrap();
    let error = call_foo(&foo).unwrap_err();
    assert!(error.reason().contains("panicked"), "{error}");
    pair.server.abort(Error::failed("enough"));
    let error = call_foo(&foo).unwrap_err();
    assert!(error.reason().contains("enough"), "{error}");
    drop(foo);
    pair.end();
}

#[test]
fn a_warning_names_the_peer_that_calls_wait_for() {
    if !alone("logs::a_warning_names_the_peer_that_calls_wait_for") {
        return;
    }
    let _watchdog = Watchdog::start();
    let (told, tell) = mpsc::channel();
    subscribe(move |event| {
        // Nobody listens any more at the end.
        let _ = told.send(event);
    });
    // Somebody who does not answer in time.
    let (asked, go) = (Event::new(), Event::new());
    let (is_asked, hold) = (asked.clone(), go.clone());
    let far_vat = vat("lo1f");
    let far = foo_with(&far_vat, Concurrency::Serial, (), move |params, results| {
        is_asked.set();
        hold.wait();
        answer_foo(params, results)
    });
    let listener = tcp::Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let here = tcp::connect(address).unwrap();
    let there = far_vat.connect(listener.accept().unwrap(), ConnConfig::new().bootstrap(far));

    let mut pool = PoolConfig::default();
    pool.patience = Duration::from_millis(1);
    let near_vat = vat_with_pool("lo1n", pool);
    let connection = near_vat.connect(here, ConnConfig::new()).unwrap();
    let far: test_interface::Client = connection.bootstrap();
    let near = foo_with(&near_vat, Concurrency::Serial, (), move |params, results| {
        call_foo(&far).unwrap();
        answer_foo(params, results)
    });
    let calls = [(); 3].map(|()| foo_request(&near).send());
    asked.wait();
    let wanted = format!("which waits for an answer of {address}");
    loop {
        let event = tell.recv_timeout(LONG).expect("no warning names the peer");
        if event.contains(&wanted) {
            assert!(event.starts_with("WARN") && event.contains("2 calls wait behind"), "{event}");
            break;
        }
    }
    go.set();
    for call in calls {
        call.wait().unwrap();
    }
    drop((near, there));
    assert!(near_vat.shutdown(LONG).unwrap());
    assert!(far_vat.shutdown(LONG).unwrap());
}
