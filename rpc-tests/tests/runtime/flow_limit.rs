//! How many words of calls a peer may have under way.

use std::sync::mpsc;
use std::thread;

use capnp_threads_core::{Concurrency, FromClient, RpcSystem};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat};
use parking_lot::Mutex;
use rpc_schema::test_capnp::{test_interface, test_more_stuff};

use rpc_tests::support::objects::{Keeper, answer_foo, foo, foo_request, foo_with};
use rpc_tests::support::{Census, LONG, Pair, Watchdog, Wire, until, vat};

/// An object whose `foo` tells that it runs, and waits until it may answer.
fn gated(vat: &capnp_threads_core::Vat) -> (test_interface::Client, Census, mpsc::Sender<()>) {
    let (give, take) = mpsc::channel::<()>();
    let (take, running) = (Mutex::new(take), Census::new());
    let count = running.clone();
    let client = foo_with(vat, Concurrency::Concurrent, (), move |params, results| {
        let _running = count.count();
        take.lock().recv().unwrap();
        answer_foo(params, results)
    });
    (client, running, give)
}

/// With the smallest limit on both sides: answers, and what promises turn out to be,
/// are not held back.
#[test]
fn call_backs_do_not_wait_for_the_flow_limit() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let limited = |config: capnp_threads_core::ConnConfig| config.flow_limit(0);
        let pair = Pair::configured(Keeper::client, wire, limited, limited);
        let keeper: test_more_stuff::Client = pair.bootstrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let mut request = keeper.call_foo_request();
                        request.get().set_cap(foo(&pair.client_vat, answer_foo));
                        assert_eq!(request.call().unwrap().get().unwrap().get_s().unwrap(), "bar");
                        let (promise, fulfiller) = capnp_threads_core::promise_client();
                        let mut request = keeper.call_foo_when_resolved_request();
                        request.get().set_cap(promise);
                        let call = request.send();
                        fulfiller.fulfill(foo(&pair.client_vat, answer_foo));
                        call.wait().unwrap();
                    }
                });
            }
        });
        drop(keeper);
        pair.settle();
        // A call is over right after its answer was sent, perhaps not before.
        until("the last call to be over", || pair.server.snapshot().words_in_flight == 0);
        assert_eq!(pair.server.snapshot().held_back, 0);
        pair.finish();
    }
}

#[test]
fn changing_the_flow_limit_while_running_releases_calls() {
    let _watchdog = Watchdog::start();
    let mut made = None;
    let pair = Pair::configured(
        |vat| {
            let (client, running, answer) = gated(vat);
            made = Some((running, answer));
            client.into_client()
        },
        Wire::Unix,
        |config| config,
        |config| config.flow_limit(0),
    );
    let (running, answer) = made.unwrap();
    let client: test_interface::Client = pair.bootstrap();
    // Calls to the answer of a question that is open take more words than later ones.
    client.as_client().resolve().unwrap();
    let calls: Vec<_> = (0..10).map(|_| foo_request(&client).send()).collect();
    until("all but one to be held back", || pair.server.snapshot().held_back == 9);
    until("one to run", || running.alive() == 1);
    let words = pair.server.snapshot().words_in_flight;
    assert!(words > 0);
    // Room for three.
    pair.server.set_flow_limit(2 * words);
    until("three to run", || running.alive() == 3);
    assert_eq!(pair.server.snapshot().held_back, 7);
    assert_eq!(pair.server.snapshot().words_in_flight, 3 * words);
    pair.server.set_flow_limit(u64::MAX);
    until("all to run", || running.alive() == 10);
    for _ in 0..10 {
        answer.send(()).unwrap();
    }
    calls.iter().for_each(|call| drop(call.wait().unwrap()));
    assert_eq!(running.made(), 10);
    drop((client, calls));
    pair.finish();
}

/// Whoever answers releases what was held back, whichever thread that is, and the
/// order of each reference stays.
#[test]
fn the_flow_limit_keeps_the_order_of_calls() {
    use rpc_schema::test_capnp::test_call_order;
    use rpc_tests::support::objects::{Order, OrderedReference, Sequence};

    let _watchdog = Watchdog::start();
    let (order, census) = (Order::new(), Census::new());
    let pair = Pair::configured(
        |vat| {
            let sequence = Sequence::new(&order, &census);
            vat.export::<test_call_order::Client, _>(sequence).into_client()
        },
        Wire::Memory,
        |config| config,
        |config| config.flow_limit(100),
    );
    let client: test_call_order::Client = pair.bootstrap();
    thread::scope(|scope| {
        for reference in 0..8 {
            let client = client.clone();
            scope.spawn(move || {
                let mut reference = OrderedReference::new(client, reference);
                let calls: Vec<_> = (0..200).map(|_| reference.send()).collect();
                calls.iter().for_each(|call| drop(call.wait().unwrap()));
            });
        }
        // While the limit changes all the time.
        scope.spawn(|| {
            for words in (0..2000).cycle().take(20_000) {
                pair.server.set_flow_limit(words);
            }
        });
    });
    order.assert_right("with a flow limit");
    assert_eq!(order.arrived(), 1600);
    drop(client);
    pair.finish();
}

#[test]
fn the_limit_of_a_system_is_for_its_connections_now_and_later() {
    let _watchdog = Watchdog::start();
    let served = vat("fl4");
    let (offered, running, answer) = gated(&served);
    let address: Address = "127.0.0.1:0".parse().unwrap();
    let network = SocketNetwork::listening(address.listen().unwrap()).unwrap();
    let server =
        RpcSystem::builder(&served, network).bootstrap(offered).flow_limit(0).start().unwrap();
    let name = SocketVat::At(server.network().local_address().unwrap().clone());
    let clients: Vec<_> = (0..3).map(|_| vat("fl5")).collect();
    let connect = |vat| RpcSystem::builder(vat, SocketNetwork::client()).start().unwrap();
    let call = |system: &RpcSystem<_>| {
        let client: test_interface::Client = system.bootstrap(&name);
        [foo_request(&client).send(), foo_request(&client).send()]
    };
    // As it was made.
    let first = connect(&clients[0]);
    let mut calls = Vec::from(call(&first));
    until("one call to run", || running.made() == 1);
    // For those that are there, and for those that come.
    server.set_flow_limit(u64::MAX);
    until("both calls to run", || running.made() == 2);
    let second = connect(&clients[1]);
    calls.extend(call(&second));
    until("the second one's to run", || running.made() == 4);
    server.set_flow_limit(0);
    let third = connect(&clients[2]);
    calls.extend(call(&third));
    until("one more call to run", || running.made() == 5);
    // The last one waits until the fifth is answered.
    for _ in 0..5 {
        answer.send(()).unwrap();
    }
    until("the last call to run", || running.made() == 6);
    answer.send(()).unwrap();
    calls.iter().for_each(|call| drop(call.wait().unwrap()));
    drop(calls);
    assert!(server.drain(LONG).unwrap());
    drop((first, second, third, server));
    for vat in clients.iter().chain([&served]) {
        assert!(vat.shutdown(LONG).unwrap());
    }
}
