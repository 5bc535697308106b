//! Panics of methods, and of what else the application gives the library to run.

use std::sync::Mutex;

use capnp_threads_core::untyped::Payload;
use capnp_threads_core::vat::Supervisor;
use capnp_threads_core::{Concurrency, ConnConfig, Error, ErrorKind, FromClient};
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{self, answer_foo, call_foo, foo, foo_request, foo_with};
use rpc_tests::support::{Event, LONG, Pair, Watchdog, Wire};

fn panicking(debug: bool) -> (Pair, test_interface::Client) {
    let pair = Pair::configured(
        |vat| foo(vat, |_, _| panic!("on purpose: {}", 42)).into_client(),
        Wire::Memory,
        |config| config,
        |config| config.debug_mode(debug),
    );
    let client = pair.bootstrap();
    (pair, client)
}

#[test]
fn a_panic_is_an_exception_that_tells_no_detail() {
    let _watchdog = Watchdog::start();
    let (pair, client) = panicking(false);
    for _ in 0..3 {
        let error = call_foo(&client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.reason(), "the method panicked");
    }
    drop(client);
    pair.finish();
}

#[test]
fn in_debug_mode_a_panic_tells_its_message() {
    let _watchdog = Watchdog::start();
    let (pair, client) = panicking(true);
    assert_eq!(
        call_foo(&client).unwrap_err().reason(),
        "the method panicked: test.capnp:TestInterface.foo: on purpose: 42"
    );
    drop(client);
    pair.finish();
}

#[test]
fn a_panic_of_an_inline_method_leaves_the_connection_alive() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| {
        let method = |params: test_interface::FooParams, results| match params.get()?.get_i() {
            0 => panic!("on purpose"),
            _ => answer_foo(params, results),
        };
        foo_with(vat, Concurrency::Inline, (), method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    assert_eq!(client.foo_request().call().unwrap_err().reason(), "the method panicked");
    call_foo(&client).unwrap();
    drop(client);
    pair.finish();
}

/// A method has another call in its hands when it panics: that call is not the
/// one which the panic answers.
#[test]
fn a_panic_answers_the_call_that_panicked_and_drops_others() {
    let _watchdog = Watchdog::start();
    let kept = Mutex::new(None);
    let pair = Pair::new(|vat| {
        objects::any(vat, Concurrency::Serial, move |call| {
            let Some(_other) = kept.lock().unwrap().take() else {
                *kept.lock().unwrap() = Some(call);
                return;
            };
            panic!("on purpose");
        })
    });
    let client: test_interface::Client = pair.bootstrap();
    let first = foo_request(&client).send();
    let second = foo_request(&client).send();
    assert_eq!(second.wait().unwrap_err().reason(), "the method panicked");
    assert_eq!(
        first.wait().unwrap_err().reason(),
        "the object dropped the call without answering it"
    );
    drop((client, first, second));
    pair.finish();
}

#[test]
fn a_method_that_panics_after_it_deferred_is_said_to_have_panicked() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| {
        let method = |_, results: test_interface::FooResults| {
            let _deferred = results.defer();
            panic!("on purpose")
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    assert_eq!(call_foo(&client).unwrap_err().reason(), "the method panicked");
    drop(client);
    pair.finish();
}

#[test]
fn an_answer_that_panics_elsewhere_fails_the_call() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| {
        let method = |_, results: test_interface::FooResults| {
            let deferred = results.defer();
            std::thread::spawn(move || deferred.answer(|_| panic!("on purpose")));
            Ok(())
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap_err();
    drop(client);
    pair.finish();
}

#[test]
fn closures_that_panic_leave_the_workers_alive() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| foo(vat, answer_foo).into_client());
    let client: test_interface::Client = pair.bootstrap();
    let called = Event::new();
    for round in 0..3 {
        let done = called.clone();
        foo_request(&client).send().on_resolve(move |response| {
            response.unwrap();
            if round == 2 {
                done.set();
            }
            panic!("on purpose");
        });
    }
    called.wait();
    call_foo(&client).unwrap();
    drop(client);
    pair.finish();
}

/// A waker is called where the outcome comes in: on the coordinator.
#[test]
fn a_waker_that_panics_leaves_the_connection_alive() {
    struct Panics(Event);
    impl std::task::Wake for Panics {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.set();
            panic!("on purpose");
        }
    }
    let _watchdog = Watchdog::start();
    let go = Event::new();
    let hold = go.clone();
    let pair = Pair::new(move |vat| {
        let method = move |params, results| {
            hold.wait();
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let woken = Event::new();
    let waker = std::sync::Arc::new(Panics(woken.clone())).into();
    let mut call = foo_request(&client).send().as_pending().clone();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(std::pin::Pin::new(&mut call).poll(&mut context).is_pending());
    go.set();
    woken.wait();
    assert!(call.wait().is_ok());
    call_foo(&client).unwrap();
    drop((client, call));
    pair.finish();
}

#[test]
fn an_action_that_panics_closes_its_connection() {
    let _watchdog = Watchdog::start();
    let action = |_: &Supervisor, client: capnp_threads_core::Client| {
        call_foo(&test_interface::Client::from_client(client)).unwrap();
        panic!("on purpose");
    };
    let pair = Pair::configured(
        |vat| foo(vat, answer_foo).into_client(),
        Wire::Memory,
        |config: ConnConfig| config.with_bootstrap(action),
        |config| config,
    );
    assert!(pair.client.join_timeout(LONG).unwrap());
    assert!(pair.server.join_timeout(LONG).unwrap());
    pair.end();
}

/// Answering a call that has been given to somebody else is not possible, but a
/// payload that cannot be sent is: the call fails, and only the call.
#[test]
fn results_that_are_too_large_fail_the_call() {
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(
        |vat| {
            objects::any(vat, Concurrency::Serial, |call| {
                if call.method_id() == 0 {
                    let mut builder = capnp_threads_core::untyped::PayloadBuilder::for_results();
                    builder
                        .content()
                        .initn_as::<capnp_threads_core::capnp::data::Builder<'_>>(1 << 20);
                    call.respond(Ok(builder.finish(Vec::new())));
                } else {
                    call.respond(Ok(Payload::empty().clone()));
                }
            })
        },
        Wire::Memory,
        |config| config,
        |config| {
            let mut limits = capnp_threads_core::Limits::default();
            limits.message_words = 1 << 10;
            config.limits(limits)
        },
    );
    let client: test_interface::Client = pair.bootstrap();
    let error: Error = foo_request(&client).call().unwrap_err();
    assert!(error.reason().contains("exceed the limit"), "{error}");
    client.bar_request().call().unwrap();
    drop(client);
    pair.finish();
}
