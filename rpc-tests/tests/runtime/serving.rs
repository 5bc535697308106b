//! How objects are called: which calls run when, where, and how they are
//! answered.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use capnp_threads_core::untyped::{IncomingCall, Payload};
use capnp_threads_core::{Concurrency, Error, FromClient};
use rpc_schema::test_capnp::test_interface;

use rpc_tests::support::objects::{
    self, Order, OrderedReference, Sequence, answer_foo, call_foo, foo, foo_request, foo_with,
};
use rpc_tests::support::{Census, Event, Pair, Watchdog, Wire};

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

#[test]
fn a_serial_object_runs_one_call_at_a_time_in_order() {
    let _watchdog = Watchdog::start();
    let running = AtomicUsize::new(0);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let pair = Pair::new(move |vat| {
        let method = move |params: test_interface::FooParams, _| {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
            thread::yield_now();
            notes.lock().unwrap().push(params.get()?.get_i());
            assert_eq!(running.fetch_sub(1, Ordering::SeqCst), 1);
            Ok(())
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let calls: Vec<_> = (0..100)
        .map(|i| {
            let mut request = client.foo_request();
            request.get().set_i(i);
            request.send()
        })
        .collect();
    calls.iter().for_each(|call| drop(call.wait().unwrap()));
    assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<_>>());
    drop((client, calls));
    pair.finish();
}

#[test]
fn a_serial_object_goes_on_when_the_method_has_returned_though_it_answers_later() {
    let _watchdog = Watchdog::start();
    let (give, take) = mpsc::channel();
    let pair = Pair::new(move |vat| {
        let method = move |params: test_interface::FooParams,
                           results: test_interface::FooResults| {
            if params.get()?.get_i() == 0 {
                give.send(results.defer()).unwrap();
                return Ok(());
            }
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let deferred = client.foo_request().send();
    call_foo(&client).unwrap();
    assert!(deferred.try_response().is_none());
    // From a thread that is nobody's.
    let results = take.recv().unwrap();
    thread::spawn(move || {
        results.answer(|mut results| {
            results.get().set_x("later");
            Ok(())
        });
    });
    assert_eq!(deferred.wait().unwrap().get().unwrap().get_x().unwrap(), "later");
    drop((client, deferred));
    pair.finish();
}

#[test]
fn a_concurrent_object_runs_calls_at_once_and_starts_them_in_order() {
    const CALLS: usize = 20;
    let _watchdog = Watchdog::start();
    let all_are_there = Barrier::new(CALLS);
    let pair = Pair::new(|vat| {
        let method = move |params, results| {
            all_are_there.wait();
            answer_foo(params, results)
        };
        foo_with(vat, Concurrency::Concurrent, (), method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    let calls: Vec<_> = (0..CALLS).map(|_| foo_request(&client).send()).collect();
    calls.iter().for_each(|call| drop(call.wait().unwrap()));
    drop((client, calls));
    pair.finish();
}

#[test]
fn methods_run_on_workers_of_the_objects_vat() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let method = move |_, _| {
            tell.send(thread_name()).unwrap();
            Ok(())
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    // Within one process, a thread that calls and waits at once may run the method itself.
    client.foo_request().send().wait().unwrap();
    let name = told.recv().unwrap();
    assert!(name.starts_with(&(pair.server_threads() + "worker-")), "{name}");
    drop(client);
    pair.finish();
}

#[test]
fn an_inline_object_runs_on_whoever_delivers_the_call() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let method = move |params, results| {
            tell.send(thread_name()).unwrap();
            answer_foo(params, results)
        };
        foo_with(vat, Concurrency::Inline, (), method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    let name = told.recv().unwrap();
    let delivers = ["1-receive", "1-coordinator"].map(|thread| pair.server_threads() + thread);
    assert!(delivers.contains(&name), "{name}");
    drop(client);
    pair.finish();
    // Without a connection it is the caller.
    let (tell, told) = mpsc::channel();
    let here = rpc_tests::support::vat("se6");
    let method = move |params, results| {
        tell.send(thread_name()).unwrap();
        answer_foo(params, results)
    };
    let object = foo_with(&here, Concurrency::Inline, (), method);
    call_foo(&object).unwrap();
    assert_eq!(told.recv().unwrap(), thread_name());
}

#[test]
fn an_inline_object_that_calls_itself_does_not_nest() {
    let _watchdog = Watchdog::start();
    let vat = rpc_tests::support::vat("se7");
    let own = Arc::new(Mutex::new(None::<test_interface::Client>));
    let (this, running) = (Arc::clone(&own), AtomicUsize::new(0));
    let (tell, told) = mpsc::channel();
    let method = move |params: test_interface::FooParams, _| {
        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
        let i = params.get()?.get_i();
        if i > 0 {
            let this = this.lock().unwrap().clone().unwrap();
            let mut request = this.foo_request();
            request.get().set_i(i - 1);
            request.send().on_resolve(|outcome| drop(outcome.unwrap()));
        } else {
            tell.send(()).unwrap();
        }
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    };
    let object = foo_with(&vat, Concurrency::Inline, (), method);
    *own.lock().unwrap() = Some(object.clone());
    let mut request = object.foo_request();
    request.get().set_i(10_000);
    request.call().unwrap();
    told.recv().unwrap();
    own.lock().unwrap().take();
}

/// Objects that pass every call on to the next, as a membrane does, inline.
#[test]
fn a_long_chain_of_inline_objects_needs_no_long_stack() {
    let _watchdog = Watchdog::start();
    let vat = rpc_tests::support::vat("se8");
    let mut last = foo(&vat, answer_foo).into_client();
    for _ in 0..20_000 {
        let next = last;
        last = objects::any(&vat, Concurrency::Inline, move |call: IncomingCall| {
            call.forward(&next);
        });
    }
    call_foo(&test_interface::Client::from_client(last)).unwrap();
    assert!(vat.shutdown(rpc_tests::support::LONG).unwrap());
}

#[test]
fn calls_of_one_reference_arrive_in_order_on_every_wire() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let (order, census) = (Order::new(), Census::new());
        let object = Sequence::new(&order, &census);
        let pair = Pair::configured(
            |vat| {
                vat.export::<rpc_schema::test_capnp::test_call_order::Client, _>(object)
                    .into_client()
            },
            wire,
            |config| config,
            |config| config,
        );
        thread::scope(|scope| {
            for reference in 0..8 {
                let mut reference = OrderedReference::new(pair.bootstrap(), reference);
                scope.spawn(move || {
                    let calls: Vec<_> = (0..200).map(|_| reference.send()).collect();
                    calls.iter().for_each(|call| drop(call.wait().unwrap()));
                });
            }
        });
        order.assert_right("");
        assert_eq!(order.arrived(), 1600);
        pair.finish();
        assert_eq!(census.alive(), 0);
    }
}

#[test]
fn an_answer_may_come_from_any_thread_and_only_the_first_counts() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| {
        objects::any(vat, Concurrency::Serial, |call| {
            // The object drops the call on another thread.
            thread::spawn(move || match call.method_id() {
                0 => drop(call),
                _ => call.respond(Ok(Payload::empty().clone())),
            });
        })
    });
    let client: test_interface::Client = pair.bootstrap();
    let error = client.foo_request().call().unwrap_err();
    assert_eq!(error.reason(), "the object dropped the call without answering it");
    client.bar_request().call().unwrap();
    drop(client);
    pair.finish();
}

#[test]
fn deferred_results_answer_once_whatever_the_method_returns() {
    let _watchdog = Watchdog::start();
    let (give, take) = mpsc::channel();
    let pair = Pair::new(move |vat| {
        let method = move |_, results: test_interface::FooResults| {
            give.send(results.defer()).unwrap();
            Err(Error::failed("returned after all"))
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    assert_eq!(call_foo(&client).unwrap_err().reason(), "returned after all");
    take.recv().unwrap().answer(|_| unreachable!("the call has been answered"));
    // Dropped unanswered.
    let call = foo_request(&client).send();
    drop(take.recv().unwrap());
    let error = call.wait().unwrap_err();
    let possible = BTreeSet::from([
        "returned after all",
        "the server deferred the answer to this call and then dropped it unanswered",
    ]);
    assert!(possible.contains(error.reason()), "{error}");
    drop((client, call));
    pair.finish();
}

#[test]
fn an_object_without_a_vat_runs_in_the_one_that_makes_it() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let made = Event::new();
    let done = made.clone();
    let pair = Pair::new(|vat| {
        let method = move |params, results| {
            let tell = tell.lock().unwrap().clone();
            let inner = capnp_threads_core::Client::from_dispatch(Arc::new(Named(tell)));
            // Without waiting: the name says where it runs, and we drop it.
            inner.call(0, 0, Payload::empty().clone()).on_resolve(drop);
            done.set();
            answer_foo(params, results)
        };
        foo(vat, method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    made.wait();
    let name: String = told.recv().unwrap();
    assert!(name.starts_with(&(pair.server_threads() + "worker-")), "{name}");
    drop(client);
    pair.finish();
}

/// Tells on which thread it is called.
struct Named(mpsc::Sender<String>);

impl capnp_threads_core::untyped::Dispatch for Named {
    fn dispatch(&self, call: IncomingCall) {
        self.0.send(thread_name()).unwrap();
        call.respond(Ok(Payload::empty().clone()));
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}
