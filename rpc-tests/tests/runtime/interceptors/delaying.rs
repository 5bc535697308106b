//! Calls that interceptors delay.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capnp_threads_core::interceptors::{InterceptedCall, Interceptors, Verdict, delay, intercept};
use capnp_threads_core::typed::TypedFulfiller;
use capnp_threads_core::{Error, ErrorKind, FromClient, Result, Vat, promise_client};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};

use super::{Site, gate};
use rpc_tests::support::objects::{
    Interface, Keeper, Order, OrderedReference, Sequence, call_foo, foo, foo_request,
};
use rpc_tests::support::{Census, Event, Pair, Watchdog, Wire, until};

#[test]
fn a_call_waits_for_its_release_and_later_ones_behind_it() {
    let _watchdog = Watchdog::start();
    for site in Site::DELAYING {
        let (order, census) = (Order::new(), Census::new());
        let (give, releases) = channel();
        // Only the first one is delayed.
        let first = Mutex::new(Some(give));
        let interceptor = move |_: &InterceptedCall<'_>| match first.lock().unwrap().take() {
            Some(give) => {
                let (delay, release) = delay();
                give.send(release).unwrap();
                Ok(Verdict::Delay(delay))
            }
            None => Ok(Verdict::Pass),
        };
        let (pair, client) =
            site.pair::<test_call_order::Client, _>(interceptor, Sequence::new(&order, &census));
        let mut reference = OrderedReference::new(client, 0);
        let calls: Vec<_> = (0..20).map(|_| reference.send()).collect();
        let release = releases.recv().unwrap();
        // What overtakes would arrive before this.
        let beside: test_call_order::Client =
            pair.server_vat.export(Sequence::new(&order, &census));
        let mut marker = OrderedReference::new(beside, 1);
        marker.send().wait().unwrap();
        assert_eq!(order.arrived(), 1, "{site:?}: only the marker");
        release.pass();
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        order.assert_right(&format!("{site:?}"));
        drop((reference, calls, marker));
        pair.finish();
    }
}

/// Nothing is lost if the release comes before the interceptor has said what it is for.
#[test]
fn a_call_may_be_released_before_it_is_delayed() {
    let _watchdog = Watchdog::start();
    for site in Site::ALL {
        let early = |_: &InterceptedCall<'_>| {
            let (delay, release) = delay();
            release.pass();
            Ok(Verdict::Delay(delay))
        };
        let (pair, client) = site.pair::<test_interface::Client, _>(early, Interface);
        let calls: Vec<_> = (0..500).map(|_| foo_request(&client).send()).collect();
        calls.iter().for_each(|call| drop(call.wait().unwrap()));
        drop((client, calls));
        pair.finish();
    }
}

#[test]
fn a_delayed_call_can_be_refused_redirected_and_forgotten() {
    let _watchdog = Watchdog::start();
    for site in Site::DELAYING {
        let (gate, releases) = gate("foo");
        let (pair, client) = site.pair::<test_interface::Client, _>(gate, Interface);
        let calls: Vec<_> = (0..3).map(|_| foo_request(&client).send()).collect();
        releases.recv().unwrap().refuse(Error::overloaded("no"));
        let other = foo(&pair.server_vat, |_, _| Err(Error::failed("the other")));
        releases.recv().unwrap().redirect(other.into_client());
        drop(releases.recv().unwrap());
        let errors: Vec<_> = calls.iter().map(|call| call.wait().map(drop).unwrap_err()).collect();
        assert_eq!(errors[0].kind(), ErrorKind::Overloaded, "{site:?}");
        assert_eq!(errors[1].reason(), "the other", "{site:?}");
        assert!(errors[2].reason().contains("given it up"), "{site:?}: {}", errors[2]);
        drop((client, calls));
        pair.finish();
    }
}

#[test]
fn a_call_that_is_cancelled_while_it_is_delayed_lets_the_others_go_on() {
    let _watchdog = Watchdog::start();
    for site in Site::DELAYING {
        let (gate, releases) = gate("foo");
        let (pair, client) = site.pair::<test_interface::Client, _>(gate, Interface);
        let first = foo_request(&client).send();
        let second = foo_request(&client).send();
        let third = foo_request(&client).send();
        let release = releases.recv().unwrap();
        // One in the middle, and the one that all wait for.
        drop((second, first));
        releases.recv().unwrap().pass();
        third.wait().unwrap();
        // It is for nothing any more.
        release.pass();
        drop((client, third));
        pair.finish();
    }
}

#[test]
fn calls_on_the_results_of_a_delayed_call_follow_it() {
    let _watchdog = Watchdog::start();
    for site in Site::DELAYING {
        let (gate, releases) = gate("getHeld");
        let (pair, client) = site.pair::<test_more_stuff::Client, _>(gate, Keeper::new());
        let mut request = client.hold_request();
        request.get().set_cap(pair.client_vat.export(Interface));
        request.call().unwrap();
        let held = client.get_held_request().send();
        let pipelined = held.pipeline().get_cap();
        let foo = foo_request(&pipelined).send();
        releases.recv().unwrap().pass();
        foo.wait().unwrap();
        client.hold_request().call().unwrap();
        drop((client, held, pipelined, foo));
        pair.finish();
    }
}

#[test]
fn a_connection_may_end_while_a_call_is_delayed() {
    let _watchdog = Watchdog::start();
    for site in Site::DELAYING {
        let (gate, releases) = gate("foo");
        let (pair, client) = site.pair::<test_interface::Client, _>(gate, Interface);
        let calls: Vec<_> = (0..3).map(|_| foo_request(&client).send()).collect();
        let release = releases.recv().unwrap();
        pair.client.close();
        until("the end", || pair.client.failure().is_some() && pair.server.failure().is_some());
        release.pass();
        for call in &calls {
            // The reference's interceptor is asked about the later ones, too.
            while call.try_response().is_none()
                && let Ok(release) = releases.try_recv()
            {
                release.pass();
            }
            let error = call.wait().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{site:?}: {error}");
        }
        drop((client, calls));
        pair.end();
    }
}

/// A thread that makes a call waits with it, as it waits for room: so nothing that it does
/// later can overtake.
#[test]
fn a_call_that_is_delayed_where_it_leaves_blocks_its_thread() {
    let _watchdog = Watchdog::start();
    let (gate, releases) = gate("foo");
    let (pair, client) = Site::Outgoing.pair::<test_interface::Client, _>(gate, Interface);
    let sent = Event::new();
    let (own, sending) = (sent.clone(), client.clone());
    let caller = std::thread::spawn(move || {
        let call = foo_request(&sending).send();
        own.set();
        call.wait().map(drop)
    });
    let release = releases.recv().unwrap();
    // Others go on.
    client.bar_request().call().map(drop).unwrap_err();
    assert!(!sent.is_set());
    release.pass();
    caller.join().unwrap().unwrap();
    drop(client);
    pair.finish();
}

#[test]
fn a_call_that_is_passed_on_is_not_delayed_where_it_leaves() {
    let _watchdog = Watchdog::start();
    let (gate, releases) = gate("foo");
    let (pair, client) = Site::Outgoing.pair::<test_interface::Client, _>(gate, Interface);
    // The call comes over one connection and leaves over the other.
    let proxy = Pair::new(|_| client.into_client());
    let error = call_foo(&proxy.bootstrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    proxy.finish();
    drop(releases);
    pair.finish();
}

/// The interceptor holds a call back that has to arrive before a promise is settled, and
/// ends the delay only when a method has ended that waits for that promise.
#[test]
fn a_delay_is_cut_short_by_what_must_be_delivered() {
    let _watchdog = Watchdog::start();
    /// Calls its parameter before and after that has turned out to be an object of its own
    /// vat, and waits for the second call.
    struct Caller {
        own: test_interface::Client,
    }
    impl test_more_stuff::Server for Caller {
        fn get_held(
            &self,
            _: test_more_stuff::GetHeldParams,
            mut results: test_more_stuff::GetHeldResults,
        ) -> Result<()> {
            results.get().set_cap(self.own.clone());
            Ok(())
        }

        fn call_foo(
            &self,
            params: test_more_stuff::CallFooParams,
            _: test_more_stuff::CallFooResults,
        ) -> Result<()> {
            let promise = params.get()?.get_cap()?;
            let first = foo_request(&promise).send();
            promise.as_client().resolve()?;
            foo_request(&promise).call()?;
            first.wait().map(drop)
        }
    }
    impl test_call_order::Server for Caller {}

    let (give, waiting) = channel();
    let under_way = Arc::new(Mutex::new(false));
    // One call of `callFoo` at a time, and none of anything else meanwhile.
    let interceptor = move |call: &InterceptedCall<'_>| {
        let mut busy = under_way.lock().unwrap();
        if *busy {
            let (delay, release) = delay();
            give.send(release).unwrap();
            return Ok(Verdict::Delay(delay));
        }
        if call.method().name() == Some("callFoo") {
            *busy = true;
            let under_way = Arc::clone(&under_way);
            call.on_answer(move |_| *under_way.lock().unwrap() = false);
        }
        Ok(Verdict::Pass)
    };
    let own: test_interface::Client = Vat::new().export(Interface);
    // The promise becomes known when the first call has come to it, so that this comes back.
    let waits = Arc::new(Mutex::new(None::<(TypedFulfiller<_>, test_interface::Client)>));
    let promised = Arc::clone(&waits);
    let arrives = move |call: &InterceptedCall<'_>| {
        if call.method().name() == Some("foo")
            && let Some((fulfiller, theirs)) = promised.lock().unwrap().take()
        {
            fulfiller.fulfill(theirs);
        }
        Ok(Verdict::Pass)
    };
    let pair = Pair::configured(
        |vat| vat.export::<test_more_stuff::Client, _>(Caller { own }).into_client(),
        Wire::Memory,
        |config| config.interceptors(Interceptors::new().incoming(arrives)),
        |config| config.interceptors(Interceptors::new().incoming(interceptor)),
    );
    let client: test_more_stuff::Client = pair.bootstrap();
    let theirs = client.get_held_request().call().unwrap().get().unwrap().get_cap().unwrap();
    let (promise, fulfiller) = promise_client::<test_interface::Client>();
    *waits.lock().unwrap() = Some((fulfiller, theirs));
    let mut request = client.call_foo_request();
    request.get().set_cap(promise);
    let call = request.send();
    call.wait().unwrap();
    drop(waiting.try_recv().expect("the first call was delayed"));
    drop((client, call, waiting));
    pair.finish();
}

/// A call that is over is told to whoever looks on before it leaves the queue in which it
/// waits; what they let go on finds it there.
#[test]
fn a_call_whose_time_is_over_is_not_put_to_interceptors_by_what_its_end_lets_go_on() {
    let _watchdog = Watchdog::start();
    let mut time = Duration::from_millis(1);
    while !waited_until_its_time_was_over(time) {
        time *= 2;
    }
}

/// Lets a call wait behind a delayed one, which goes on when the other's time is over. Returns
/// whether it waited by then.
fn waited_until_its_time_was_over(time: Duration) -> bool {
    let (gate, releases) = gate("foo");
    let delaying = intercept(&Vat::new().export::<test_interface::Client, _>(Interface), gate);
    let first = foo_request(&delaying).send();
    let release = Mutex::new(Some(releases.recv().unwrap()));
    let (sent, (tell, told)) = (Event::new(), channel());
    let waits = sent.clone();
    let looking_on = intercept(&delaying, move |call: &InterceptedCall<'_>| {
        let release = release.lock().unwrap().take().unwrap();
        let (waits, tell) = (waits.clone(), tell.clone());
        call.on_answer(move |_| {
            let waits = waits.is_set();
            release.pass();
            tell.send(waits).unwrap();
        });
        Ok(Verdict::Pass)
    });
    let second = foo_request(&looking_on).send_timeout(time);
    sent.set();
    let waited = told.recv().unwrap();
    first.wait().unwrap();
    assert!(second.wait().map(drop).unwrap_err().is_timeout());
    if waited {
        releases.try_recv().expect_err("nobody wants the second call any more");
    }
    waited
}
