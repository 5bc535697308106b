//! How observers learn that a call is over.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use capnp_threads_core::interceptors::{InterceptedCall, Interceptor, Verdict, intercept};
use capnp_threads_core::untyped::{Ending, Payload};
use capnp_threads_core::{Concurrency, Error, ErrorKind, FromClient, Vat};
use rpc_schema::test_capnp::{test_interface, test_tail_callee, test_tail_caller};

use super::Site;
use rpc_tests::support::objects::{
    CallOrder, Foo, Interface, TailCallee, TailCaller, answer_foo, any, call_foo, foo, foo_request,
    leave_open,
};
use rpc_tests::support::{Event, Pair, Watchdog, until};

/// Tells how each call ends.
fn observer() -> (impl Interceptor, Receiver<Ending>) {
    let (give, endings) = channel();
    let observe = move |call: &InterceptedCall<'_>| {
        let give = give.clone();
        call.on_answer(move |ending| give.send(ending).unwrap());
        Ok(Verdict::Pass)
    };
    (observe, endings)
}

#[test]
fn an_interceptor_learns_of_results_and_errors() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (observe, endings) = observer();
        let (pair, client) = site.pair::<test_interface::Client, _>(observe, Interface);
        call_foo(&client).unwrap();
        let ending = endings.recv().unwrap();
        let Ending::Returned(results) = ending else { panic!("{site:?}: {ending:?}") };
        assert!(results.size_in_words() > 0, "{site:?}");
        let reader = results.open();
        let content = Payload::content(&reader).unwrap();
        let returned: test_interface::foo_results::Reader<'_> = content.get_as().unwrap();
        assert_eq!(returned.get_x().unwrap(), "foo", "{site:?}");
        drop(reader);
        client.foo_request().call().map(drop).unwrap_err();
        let ending = endings.recv().unwrap();
        let Ending::Failed(error) = ending else { panic!("{site:?}: {ending:?}") };
        assert_eq!(error.reason(), "foo takes 123 and true", "{site:?}");
        // An unknown method, which the object does not have.
        client.bar_request().call().map(drop).unwrap_err();
        let ending = endings.recv().unwrap();
        let Ending::Failed(error) = ending else { panic!("{site:?}: {ending:?}") };
        assert_eq!(error.kind(), ErrorKind::Unimplemented, "{site:?}");
        drop((client, results));
        pair.finish();
    }
}

#[test]
fn an_interceptor_learns_of_a_cancellation_when_the_method_has_ended() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (observe, endings) = observer();
        let (running, go_on) = (Event::new(), Event::new());
        let (started, wait) = (running.clone(), go_on.clone());
        let method = move |_: test_interface::FooParams, results: test_interface::FooResults| {
            started.set();
            wait.wait();
            until("the cancellation", || results.is_cancelled());
            Ok(())
        };
        let (pair, client) = site.pair::<test_interface::Client, _>(observe, Foo::new(method));
        let call = foo_request(&client).send();
        running.wait();
        drop(call);
        if matches!(site, Site::Object | Site::Incoming) {
            // It still takes what a call takes.
            assert!(endings.try_recv().is_err(), "{site:?}");
        }
        go_on.set();
        let ending = endings.recv().unwrap();
        assert!(matches!(ending, Ending::Cancelled), "{site:?}: {ending:?}");
        drop(client);
        pair.finish();
    }
}

/// The caller gives it up, but has not lost interest: whether it was sent to a peer or not.
#[test]
fn an_interceptor_learns_that_the_time_of_a_call_was_over() {
    let _watchdog = Watchdog::start();
    let method = |_: test_interface::FooParams, results: test_interface::FooResults| {
        until("the cancellation", || results.is_cancelled());
        Ok(())
    };
    let (observe, endings) = observer();
    let vat = Vat::new();
    let local: test_interface::Client = intercept(&vat.export(Foo::new(method)), observe);
    let (observe, endings_there) = observer();
    let (pair, client) =
        Site::Reference.pair::<test_interface::Client, _>(observe, Foo::new(method));
    for (client, endings) in [(local, endings), (client, endings_there)] {
        let call = foo_request(&client).send_timeout(Duration::from_millis(1));
        let ending = endings.recv().unwrap();
        let Ending::Failed(error) = ending else { panic!("{ending:?}") };
        assert!(error.is_timeout(), "{error}");
        drop(call);
    }
    pair.finish();
}

#[test]
fn an_interceptor_learns_of_a_lost_connection() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let (observe, endings) = observer();
        let running = Event::new();
        let started = running.clone();
        let method = move |_: test_interface::FooParams, results: test_interface::FooResults| {
            leave_open(results, (), || {});
            started.set();
            Ok(())
        };
        let (pair, client) = site.pair::<test_interface::Client, _>(observe, Foo::new(method));
        let call = foo_request(&client).send();
        running.wait();
        pair.server.close();
        call.wait().map(drop).unwrap_err();
        match (site, endings.recv().unwrap()) {
            (Site::Object | Site::Incoming, Ending::Cancelled) => {}
            (Site::Reference | Site::Outgoing, Ending::Failed(error)) => {
                assert_eq!(error.kind(), ErrorKind::Disconnected);
            }
            (site, ending) => panic!("{site:?}: {ending:?}"),
        }
        drop((client, call));
        pair.end();
    }
}

#[test]
fn an_interceptor_learns_of_a_tail_call() {
    let _watchdog = Watchdog::start();
    for site in [Site::Object, Site::Incoming] {
        let (observe, endings) = observer();
        let (pair, client) = site.pair::<test_tail_caller::Client, _>(observe, TailCaller);
        let callee: test_tail_callee::Client =
            pair.client_vat.export(TailCallee(|| Vat::new().export(CallOrder::default())));
        let mut request = client.foo_request();
        request.get().set_callee(callee);
        let answer = request.call().unwrap();
        let ending = endings.recv().unwrap();
        assert!(matches!(ending, Ending::TailCalled), "{site:?}: {ending:?}");
        drop((client, answer));
        pair.finish();
    }
}

#[test]
fn an_interceptor_learns_of_what_others_decide() {
    let _watchdog = Watchdog::start();
    let (observe, endings) = observer();
    let (pair, client) = Site::Reference.pair::<test_interface::Client, _>(observe, Interface);
    let refuse = |_: &InterceptedCall<'_>| Err(Error::failed("behind"));
    // The order is that of the wrapping.
    let outer = capnp_threads_core::interceptors::intercept(&client, refuse);
    call_foo(&outer).unwrap_err();
    assert!(endings.try_recv().is_err());
    call_foo(&client).unwrap();
    assert!(matches!(endings.recv().unwrap(), Ending::Returned(_)));
    drop((client, outer));
    pair.finish();
}

/// The logger of the guide: an object that passes every call on and learns how it ends.
#[test]
fn an_object_that_passes_calls_on_learns_how_they_end() {
    let _watchdog = Watchdog::start();
    let (give, endings) = channel();
    let pair = Pair::new(|vat| {
        let target = foo(vat, answer_foo);
        any(vat, Concurrency::Serial, move |call| {
            let (method, give) = (call.method().to_string(), give.clone());
            call.forward_and(target.as_client(), move |ending| {
                give.send((method, ending)).unwrap();
            });
        })
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    let (method, ending) = endings.recv().unwrap();
    assert_eq!(method, "test.capnp:TestInterface.foo");
    assert!(matches!(ending, Ending::Returned(_)), "{ending:?}");
    client.foo_request().call().map(drop).unwrap_err();
    let (_, ending) = endings.recv().unwrap();
    assert!(matches!(ending, Ending::Failed(_)), "{ending:?}");
    drop(client);
    pair.finish();
}

/// Whoever drops a call unanswered ends it, and a second answer is nothing new.
#[test]
fn an_observer_is_told_once() {
    let _watchdog = Watchdog::start();
    let (give, endings) = channel();
    let pair = Pair::new(|vat| {
        any(vat, Concurrency::Serial, move |call| {
            for _ in 0..2 {
                let give = give.clone();
                call.on_answer(move |ending| give.send(ending).unwrap());
            }
        })
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap_err();
    for _ in 0..2 {
        assert!(matches!(endings.recv().unwrap(), Ending::Failed(_)));
    }
    drop(client);
    pair.finish();
    until("the observers to go", || endings.recv().is_err());
}
