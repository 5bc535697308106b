//! Calls through membranes arrive in the order in which they were made.

use capnp_threads_core::membrane::{Membrane, Passage, Transparent};
use capnp_threads_core::{Client, Error, FromClient, Vat, promise_client};
use rpc_schema::test_capnp::{test_call_order, test_interface, test_more_stuff};

use rpc_tests::support::objects::{
    Keeper, Order, OrderedReference, Sequence, call_foo, foo_request, plain,
};
use rpc_tests::support::{Census, Pair, Random, Watchdog, settle};

fn sequence(vat: &Vat, order: &Order, census: &Census) -> test_call_order::Client {
    vat.export(Sequence::new(order, census))
}

/// A promise through which calls were made resolves, again and again, to others
/// that are behind membranes, or come out of them.
#[test]
fn calls_through_promises_behind_membranes_keep_their_order() {
    let _watchdog = Watchdog::start();
    let (vat, census) = (Vat::new(), Census::new());
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let order = Order::new();
        let membranes = [Membrane::new(Transparent), Membrane::new(Transparent)];
        let mut target = sequence(&vat, &order, &census);
        let mut fulfillers = Vec::new();
        let mut clients = vec![target.clone()];
        for _ in 0..random.below(8) {
            let (promise, fulfiller) = promise_client::<test_call_order::Client>();
            fulfillers.push((fulfiller, target));
            let membrane = &membranes[random.below(2)];
            target = match random.below(3) {
                0 => membrane.wrap(&promise),
                1 => membrane.wrap_reverse(&promise),
                _ => promise,
            };
            clients.push(target.clone());
        }
        let mut reference = OrderedReference::new(target, 1);
        let mut calls: Vec<_> = (0..3).map(|_| reference.send()).collect();
        while !fulfillers.is_empty() {
            let (fulfiller, next) = fulfillers.swap_remove(random.below(fulfillers.len()));
            let resolving = std::thread::spawn(move || fulfiller.fulfill(next));
            calls.extend((0..3).map(|_| reference.send()));
            resolving.join().unwrap();
            calls.extend((0..3).map(|_| reference.send()));
        }
        for (n, call) in calls.iter().enumerate() {
            assert_eq!(call.wait().unwrap().get().unwrap().get_n() as usize, n, "seed {seed}");
        }
        order.assert_right(&format!("seed {seed}"));
    }
}

/// The behaviour `call-order`, with a membrane at the peer: what comes back out
/// is ours, calls that were pipelined on it are still under way through the
/// membrane and back, and those that come after them must not overtake them.
#[test]
fn embargo_keeps_the_order_of_calls_that_go_through_a_remote_membrane_and_back() {
    let _watchdog = Watchdog::start();
    for _ in 0..20 {
        let membrane = Membrane::new(Transparent);
        let pair = Pair::new(|vat| membrane.wrap(&Keeper::client(vat)));
        let (order, census) = (Order::new(), Census::new());
        let ours = sequence(&pair.client_vat, &order, &census);
        let theirs: test_more_stuff::Client = pair.bootstrap();
        let mut request = theirs.echo_request();
        request.get().set_cap(ours.clone());
        let echo = request.send();
        let pipelined = echo.pipeline().get_cap();
        let mut reference = OrderedReference::new(pipelined, 0);
        let mut calls: Vec<_> = (0..3).map(|_| reference.send()).collect();
        let response = echo.wait().unwrap();
        let read = response.get().unwrap().get_cap().unwrap();
        calls.extend((0..3).map(|_| reference.send()));
        calls.extend((0..3).map(|_| reference.send_through(&read)));
        let resolved = read.as_client().resolve().unwrap();
        assert_eq!(&resolved, ours.as_client(), "in and out it is the same");
        calls.extend((0..3).map(|_| reference.send()));
        for call in calls {
            call.wait().unwrap();
        }
        order.assert_right("through a membrane");
        drop((read, response, echo, ours, reference, resolved, theirs));
        pair.finish();
    }
}

/// Promises of ours go through their membrane and back, once or more often, and
/// resolve at any time to one thing or another.
#[test]
fn promises_that_go_in_and_out_keep_the_order_of_calls_whenever_they_resolve() {
    let _watchdog = Watchdog::start();
    let membrane = Membrane::new(Transparent);
    let pair = Pair::new(|vat| membrane.wrap(&Keeper::client(vat)));
    let theirs: test_more_stuff::Client = pair.bootstrap();
    let echo = |cap: &test_call_order::Client| {
        let mut request = theirs.echo_request();
        request.get().set_cap(cap.clone());
        request.send()
    };
    let (census, own) = (Census::new(), Membrane::new(Transparent));
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let order = Order::new();
        let ours = sequence(&pair.client_vat, &order, &census);
        let (promise, fulfiller) = promise_client::<test_call_order::Client>();
        let mut last = promise;
        let mut echoes = Vec::new();
        for _ in 0..=random.below(3) {
            let call = echo(&last);
            last = call.pipeline().get_cap();
            if random.one_in(3) {
                // Known to be a promise, but of whom is not known.
                last = call.wait().unwrap().get().unwrap().get_cap().unwrap();
            }
            if random.one_in(4) {
                last = own.wrap(&last);
            }
            echoes.push(call);
        }
        let mut reference = OrderedReference::new(last, 0);
        let mut calls: Vec<_> = (0..random.below(4)).map(|_| reference.send()).collect();
        let target = match random.below(3) {
            0 => ours.clone(),
            1 => own.wrap(&ours),
            _ => echo(&ours).pipeline().get_cap(),
        };
        let resolving = std::thread::spawn(move || fulfiller.fulfill(target));
        calls.extend((0..random.below(6)).map(|_| reference.send()));
        resolving.join().unwrap();
        calls.extend((0..random.below(4)).map(|_| reference.send()));
        for call in calls {
            call.wait().unwrap();
        }
        order.assert_right(&format!("seed {seed}"));
    }
    drop(theirs);
    pair.finish();
}

/// The same over two connections, with the membrane in the vat in the middle.
#[test]
fn embargo_in_two_hops_with_a_membrane_in_the_middle() {
    let _watchdog = Watchdog::start();
    for _ in 0..20 {
        let far = Pair::new(Keeper::client);
        let membrane = Membrane::new(Transparent);
        let near = Pair::new(|_| membrane.wrap(&far.bootstrap::<Client>()));
        let (order, census) = (Order::new(), Census::new());
        let ours = sequence(&near.client_vat, &order, &census);
        let theirs: test_more_stuff::Client = near.bootstrap();
        let mut request = theirs.echo_request();
        request.get().set_cap(ours.clone());
        let echo = request.send();
        let mut reference = OrderedReference::new(echo.pipeline().get_cap(), 0);
        let mut calls: Vec<_> = (0..5).map(|_| reference.send()).collect();
        let response = echo.wait().unwrap();
        let read = response.get().unwrap().get_cap().unwrap();
        calls.extend((0..5).map(|_| reference.send_through(&read)));
        calls.extend((0..5).map(|_| reference.send()));
        assert_eq!(&read.as_client().resolve().unwrap(), ours.as_client());
        calls.extend((0..5).map(|_| reference.send_through(&read)));
        for call in calls {
            call.wait().unwrap();
        }
        order.assert_right("in two hops");
        drop((read, response, echo, ours, reference, theirs));
        settle(&near.client, &near.server);
        near.finish();
        far.finish();
    }
}

/// What ends a stream through a membrane is told at its end, and does not end the
/// stream of whoever has the object itself.
#[test]
fn a_stream_goes_on_behind_a_membrane_when_its_promise_resolves() {
    use rpc_tests::support::objects::Echo;
    struct NoPush;
    impl capnp_threads_core::membrane::MembranePolicy for NoPush {
        fn inbound_call(
            &self,
            _: u64,
            method: u16,
            _: &Client,
        ) -> capnp_threads_core::Result<Passage> {
            if method == 3 { Err(Error::failed("no push")) } else { Ok(Passage::Through) }
        }
    }
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let inside = Echo::client(&vat, capnp_threads_core::Concurrency::Serial);
    let outside = Membrane::new(NoPush).wrap(&inside);
    let transparent = Membrane::new(Transparent).wrap(&inside);
    for _ in 0..300 {
        let next = outside.next_request().send().pipeline().get_echo();
        let sent = next.push_request().send();
        let end = sent.and_then(|()| next.as_client().finish_stream());
        assert_eq!(end.unwrap_err().reason(), "no push");
        let next = transparent.next_request().send().pipeline().get_echo();
        next.push_request().send().unwrap();
        next.as_client().finish_stream().unwrap();
    }
    assert!(outside.push_request().send().is_err() || outside.as_client().finish_stream().is_err());
    inside.push_request().send().unwrap();
    inside.as_client().finish_stream().unwrap();
}

/// A call that is pipelined on one that never returns.
#[test]
fn a_pipeline_that_is_given_out_early_crosses() {
    use rpc_schema::test_capnp::test_pipeline;
    struct Early(Vat);
    impl test_pipeline::Server for Early {
        fn get_cap_pipeline_only(
            &self,
            params: test_pipeline::GetCapPipelineOnlyParams,
            mut results: test_pipeline::GetCapPipelineOnlyResults,
        ) -> capnp_threads_core::Result<()> {
            let cap = plain(&self.0, &Census::new());
            results.get().init_out_box().set_cap(cap.cast_to());
            results.set_pipeline()?;
            let results = results.defer();
            params.on_cancel(move || drop(results));
            Ok(())
        }
    }
    let _watchdog = Watchdog::start();
    let membrane = Membrane::new(Transparent);
    let pair = Pair::new(|vat| {
        let inside: test_pipeline::Client = vat.export(Early(vat.clone()));
        membrane.wrap(&inside).into_client()
    });
    let theirs: test_pipeline::Client = pair.bootstrap();
    let call = theirs.get_cap_pipeline_only_request().send();
    let cap: test_interface::Client = call.pipeline().get_out_box().get_cap().cast_to();
    let first = foo_request(&cap).send();
    first.wait().unwrap();
    call_foo(&cap).unwrap();
    assert!(call.try_response().is_none());
    drop((call, cap, first, theirs));
    pair.finish();
}

/// What waits in a promise that becomes something wrapped, a call pipelined on a
/// call on a call and so on, is let through without using up the stack.
#[test]
fn long_chains_of_pipelined_calls_cross() {
    let _watchdog = Watchdog::start();
    let vat = Vat::new();
    let membrane = Membrane::new(Transparent);
    let (promise, fulfiller) = promise_client::<test_more_stuff::Client>();
    let mut calls = Vec::new();
    let mut client = membrane.wrap(&promise);
    let (first, start) = promise_client::<test_more_stuff::Client>();
    let mut last = first;
    for _ in 0..20_000 {
        let call = last.get_held_request().send();
        last = call.pipeline().get_cap().cast_to();
        calls.push(call);
    }
    std::mem::swap(&mut client, &mut last);
    start.fulfill(last);
    fulfiller.fulfill(test_more_stuff::Client::from_client(Keeper::client(&vat)));
    // The first one fails, because nothing is held, and so do all others.
    assert_eq!(call_foo(&client.cast_to()).unwrap_err().reason(), "nothing is held");
}
