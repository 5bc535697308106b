//! Our own objects that come back from a peer, and the order of calls on the way.

use std::sync::Arc;

use capnp_threads_core::typed::{ServerSet, TypedFulfiller};
use capnp_threads_core::{ConnConfig, FromClient, Promise, promise_client};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};

use super::peers::{Session, at_each_server};
use rpc_tests::support::objects::{Order, OrderedReference, Sequence, call_foo, plain};
use rpc_tests::support::{Census, LONG, Wire, until, vat};

const TCP: &str = "127.0.0.1:0";

type Echo = Promise<test_more_stuff::echo_results::Owned>;

fn echo(theirs: &test_more_stuff::Client, cap: &test_call_order::Client) -> Echo {
    let mut request = theirs.echo_request();
    request.get().set_cap(cap.clone());
    request.send()
}

/// Retain and release: what we get back is our own object, and calling it sends no
/// message.
#[test]
fn our_own_object_comes_back_and_is_called_without_a_message_w() {
    at_each_server(
        TCP,
        &[],
        |c| c,
        |session| {
            let census = Census::new();
            let ours = plain(&session.vat, &census);
            let theirs: test_more_stuff::Client = session.connection.bootstrap();
            let mut hold = theirs.hold_request();
            hold.get().set_cap(ours.clone());
            hold.call().unwrap();
            let response = theirs.get_held_request().call().unwrap();
            let held = response.get().unwrap().get_cap().unwrap();
            assert_eq!(held.as_client(), ours.as_client(), "{}", session.server);
            let before = session.calls();
            for _ in 0..10 {
                call_foo(&held).unwrap();
            }
            assert_eq!(session.calls(), before, "{}: {:?}", session.server, session.lines());
            // They go on holding it until they hold something else.
            let mut hold = theirs.hold_request();
            hold.get().set_cap(theirs.clone().cast_to::<test_interface::Client>());
            hold.call().unwrap();
            drop((ours, held, response));
            until("our object to go", || census.alive() == 0);
        },
    );
}

/// Building a request decides nothing: it goes where its target is when it is sent.
#[test]
fn a_request_built_before_and_sent_after_its_target_resolved_w() {
    at_each_server(
        TCP,
        &[],
        |c| c,
        |session| {
            let (order, census) = (Order::new(), Census::new());
            let object = Sequence::new(&order, &census);
            let ours: test_call_order::Client = session.vat.export(object);
            let theirs: test_more_stuff::Client = session.connection.bootstrap();
            let echoed = echo(&theirs, &ours);
            let promise = echoed.pipeline().get_cap();
            let request = promise.get_call_sequence_request();
            echoed.wait().unwrap();
            let before = session.calls();
            request.call().unwrap();
            assert_eq!(order.arrived(), 1, "{}", session.server);
            assert_eq!(session.calls(), before, "{}: it was sent to the peer", session.server);
        },
    );
}

#[test]
fn an_embargo_blocks_identity_look_ups_until_it_is_lifted_w() {
    at_each_server(
        TCP,
        &[],
        |c| c,
        |session| {
            let set = ServerSet::new(&session.vat);
            let (order, census) = (Order::new(), Census::new());
            let ours: test_call_order::Client = set.add(Sequence::new(&order, &census));
            let theirs: test_more_stuff::Client = session.connection.bootstrap();
            let mut reference = OrderedReference::new(ours.clone(), 0);
            for round in 0..10 {
                let promise = echo(&theirs, &ours).pipeline().get_cap();
                let calls: Vec<_> = (0..4).map(|_| reference.send_through(&promise)).collect();
                let found = set.wait_for_local_server(&promise).unwrap().unwrap();
                assert!(Arc::ptr_eq(&found, &set.local_server(&ours).unwrap()));
                // Those four have come back: this one is behind them.
                reference.send_through(&ours).wait().unwrap();
                assert_eq!(order.arrived(), 5 * (round + 1), "{}", session.server);
                for call in calls {
                    call.wait().unwrap();
                }
            }
            order.assert_right(&session.server);
        },
    );
}

/// What is echoed in two hops: an object, or a promise for it.
enum Second {
    Object,
    Promise(TypedFulfiller<test_call_order::Client>),
}

/// Calls go to the server by way of a vat in the middle, and come back the same way.
fn embargo_in_two_hops(session: &Session, promised: bool) {
    let theirs: test_more_stuff::Client = session.connection.bootstrap();
    let (here, there) = Wire::Tcp.pair();
    let middle = session.vat.connect(there, ConnConfig::new().bootstrap(theirs)).unwrap();
    let end = vat("behend");
    let connection = end.connect(here, ConnConfig::new()).unwrap();
    let far: test_more_stuff::Client = connection.bootstrap();

    let (order, census) = (Order::new(), Census::new());
    let ours: test_call_order::Client = end.export(Sequence::new(&order, &census));
    let (target, second) = if promised {
        let (promise, fulfiller) = promise_client();
        (promise, Second::Promise(fulfiller))
    } else {
        (ours.clone(), Second::Object)
    };
    let mut reference = OrderedReference::new(ours.clone(), 0);
    let early = far.get_null_request().send();
    let echoed = echo(&far, &target);
    let pipeline = echoed.pipeline().get_cap();
    let mut calls: Vec<_> = (0..2).map(|_| reference.send_through(&pipeline)).collect();
    early.wait().unwrap();
    calls.push(reference.send_through(&pipeline));
    let resolved = echoed.wait().unwrap().get().unwrap().get_cap().unwrap();
    calls.push(reference.send_through(&pipeline));
    if let Second::Promise(fulfiller) = second {
        fulfiller.fulfill(ours.clone());
    }
    calls.push(reference.send_through(&resolved));
    calls.push(reference.send_through(&pipeline));
    for (expected, call) in (0..).zip(&calls) {
        let n = call.wait().unwrap().get().unwrap().get_n();
        assert_eq!(n, expected, "{}", session.server);
    }
    order.assert_right(&session.server);
    assert_eq!(order.arrived(), 6);

    drop((far, early, echoed, target, pipeline, resolved, reference, calls, ours));
    until("our object to go", || census.alive() == 0);
    connection.close();
    assert!(connection.join_timeout(LONG).unwrap());
    assert!(middle.join_timeout(LONG).unwrap());
    assert!(end.shutdown(LONG).unwrap());
}

#[test]
fn a_two_hop_embargo_through_a_proxy_keeps_0_to_5_in_order_w() {
    at_each_server(TCP, &[], |c| c, |session| embargo_in_two_hops(session, false));
}

#[test]
fn a_two_hop_embargo_with_a_promise_as_the_second_target_w() {
    at_each_server(TCP, &[], |c| c, |session| embargo_in_two_hops(session, true));
}
