//! Calls keep their order, whatever is delayed and whenever promises resolve.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use capnp_threads_core::interceptors::{
    InterceptedCall, Interceptor, Interceptors, Release, Verdict, delay, intercept,
};
use capnp_threads_core::promise_client;
use rpc_schema::test_capnp::{test_call_order, test_more_stuff};

use rpc_tests::support::objects::{Keeper, Order, OrderedReference, Sequence};
use rpc_tests::support::{Census, Pair, Random, Watchdog, Wire};

/// Delays every third call or so, and lets a thread release the calls that wait, in any
/// order.
struct Delaying {
    give: Arc<Mutex<Option<Sender<Release>>>>,
    random: Arc<Mutex<Random>>,
    thread: Option<JoinHandle<()>>,
}

impl Delaying {
    fn begin(seed: u64) -> Self {
        let (give, take): (_, Receiver<Release>) = channel();
        let mut random = Random::new(seed);
        let thread = std::thread::spawn(move || {
            let mut waiting = Vec::new();
            while let Ok(release) = take.recv() {
                waiting.push(release);
                waiting.extend(take.try_iter());
                std::thread::yield_now();
                while !waiting.is_empty() {
                    waiting.swap_remove(random.below(waiting.len())).pass();
                }
            }
        });
        let random = Arc::new(Mutex::new(Random::new(seed + 1_000)));
        Delaying { give: Arc::new(Mutex::new(Some(give))), random, thread: Some(thread) }
    }

    fn interceptor(&self) -> impl Interceptor {
        let (give, random) = (Arc::clone(&self.give), Arc::clone(&self.random));
        move |_: &InterceptedCall<'_>| {
            let give = give.lock().unwrap();
            let Some(give) = give.as_ref().filter(|_| random.lock().unwrap().one_in(3)) else {
                return Ok(Verdict::Pass);
            };
            let (delay, release) = delay();
            give.send(release).unwrap();
            Ok(Verdict::Delay(delay))
        }
    }

    fn end(mut self) {
        *self.give.lock().unwrap() = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A capability of ours goes to the peer and comes back, and is called before and after it
/// has. Promises resolve at any time. Interceptors delay calls at each end of the
/// connection, in front of the peer's object and in front of ours.
#[test]
fn calls_keep_their_order_whatever_interceptors_delay() {
    let _watchdog = Watchdog::start();
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let delaying = Delaying::begin(seed);
        let (incoming, outgoing) = (delaying.interceptor(), delaying.interceptor());
        let caller = std::thread::current().id();
        // Calls that others pass on would not be delayed where they leave, but refused.
        let outgoing = move |call: &InterceptedCall<'_>| {
            if std::thread::current().id() == caller {
                return outgoing.intercept(call);
            }
            Ok(Verdict::Pass)
        };
        let both = move || Interceptors::new().incoming(incoming).outgoing(outgoing);
        let pair = Pair::configured(
            Keeper::client,
            Wire::Memory,
            |config| config.interceptors(both()),
            |config| config.interceptors(Interceptors::new().incoming(delaying.interceptor())),
        );
        let (order, census) = (Order::new(), Census::new());
        let ours: test_call_order::Client = pair.client_vat.export(Sequence::new(&order, &census));
        let ours = if random.one_in(2) { intercept(&ours, delaying.interceptor()) } else { ours };
        let theirs: test_more_stuff::Client = pair.bootstrap();
        let echo = |cap: &test_call_order::Client| {
            let mut request = theirs.echo_request();
            request.get().set_cap(cap.clone());
            request.send()
        };
        let (promise, fulfiller) = promise_client::<test_call_order::Client>();
        let mut last = promise;
        let mut echoes = Vec::new();
        for _ in 0..=random.below(3) {
            let call = echo(&last);
            last = call.pipeline().get_cap();
            if random.one_in(3) {
                last = call.wait().unwrap().get().unwrap().get_cap().unwrap();
            }
            echoes.push(call);
        }
        let mut reference = OrderedReference::new(last, 0);
        let mut calls: Vec<_> = (0..random.below(6)).map(|_| reference.send()).collect();
        let target = if random.one_in(2) { ours } else { echo(&ours).pipeline().get_cap() };
        let resolving = std::thread::spawn(move || fulfiller.fulfill(target));
        calls.extend((0..random.below(8)).map(|_| reference.send()));
        resolving.join().unwrap();
        calls.extend((0..random.below(8)).map(|_| reference.send()));
        for call in &calls {
            call.wait().unwrap();
        }
        order.assert_right(&format!("seed {seed}"));
        drop((theirs, reference, calls, echoes));
        pair.settle();
        pair.end();
        delaying.end();
    }
}
