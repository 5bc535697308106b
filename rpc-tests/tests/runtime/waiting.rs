//! Who may wait, for how long, and who must not.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use capnp_threads_core::{Concurrency, ErrorKind, FromClient};
use rpc_schema::test_capnp::{test_interface, test_more_stuff, test_streaming};

use rpc_tests::support::objects::{Keeper, answer_foo, call_foo, foo, foo_request, foo_with};
use rpc_tests::support::{Event, Pair, Watchdog, Wire};

/// A server whose `foo` waits, and the event that lets it go on.
fn slow() -> (Pair, test_interface::Client, Event) {
    let go = Event::new();
    let hold = go.clone();
    let pair = Pair::new(move |vat| {
        let method = move |params, results| {
            hold.wait();
            answer_foo(params, results)
        };
        foo_with(vat, Concurrency::Concurrent, (), method).into_client()
    });
    let client = pair.bootstrap();
    (pair, client, go)
}

#[test]
fn a_wait_that_is_too_short_leaves_the_call_going() {
    let _watchdog = Watchdog::start();
    let (pair, client, go) = slow();
    let call = foo_request(&client).send();
    for _ in 0..2 {
        let late = call.wait_timeout(Duration::from_millis(1)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Overloaded);
        let late = call.wait_deadline(Instant::now()).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Overloaded);
    }
    assert!(call.try_response().is_none());
    go.set();
    assert_eq!(call.wait().unwrap().get().unwrap().get_x().unwrap(), "foo");
    // It stays there, for everybody and every way of waiting.
    call.clone().wait_deadline(Instant::now()).unwrap();
    call.wait_timeout(Duration::ZERO).unwrap();
    assert!(call.try_response().is_some());
    drop((call, client));
    pair.finish();
}

#[test]
fn many_threads_wait_for_one_call() {
    let _watchdog = Watchdog::start();
    let (pair, client, go) = slow();
    let call = foo_request(&client).send();
    let waiting: Vec<_> = (0..16)
        .map(|index| {
            let call = call.clone();
            thread::spawn(move || match index % 2 {
                0 => call.wait().map(drop),
                _ => call.wait_timeout(Duration::MAX).map(drop),
            })
        })
        .collect();
    go.set();
    for thread in waiting {
        thread.join().unwrap().unwrap();
    }
    drop((call, client));
    pair.finish();
}

#[test]
fn waiting_where_a_connection_is_served_is_an_error() {
    let _watchdog = Watchdog::start();
    let (tell, told) = mpsc::channel();
    let pair = Pair::new(|vat| {
        let (promise, fulfiller) = capnp_threads_core::promise_client::<test_interface::Client>();
        let method = move |params: test_interface::FooParams, results| {
            // A call that is not answered before this method returns.
            let call = foo_request(&promise).send();
            let errors = [
                call.wait().map(drop),
                call.wait_timeout(Duration::MAX).map(drop),
                call.wait_deadline(Instant::now()).map(drop),
                promise.as_client().resolve().map(drop),
                promise.as_client().finish_stream(),
            ];
            // An empty stream has nothing to wait for, but it cannot know.
            tell.send(errors.map(|error| error.unwrap_err().reason().to_owned())).unwrap();
            answer_foo(params, results)
        };
        let held = fulfiller;
        foo_with(vat, Concurrency::Inline, std::sync::Mutex::new(held), method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    for reason in told.recv().unwrap() {
        assert!(reason.contains("must not wait"), "{reason}");
    }
    drop(client);
    pair.finish();
}

#[test]
fn an_inline_method_may_wait_for_what_needs_no_waiting() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| {
        let inner = foo_with(vat, Concurrency::Inline, (), answer_foo);
        let broken =
            capnp_threads_core::Client::broken(capnp_threads_core::Error::failed("on purpose"));
        let broken = test_interface::Client::from_client(broken);
        let method = move |params, results| {
            call_foo(&inner)?;
            assert_eq!(call_foo(&broken).unwrap_err().reason(), "on purpose");
            inner.as_client().resolve()?;
            answer_foo(params, results)
        };
        foo_with(vat, Concurrency::Inline, (), method).into_client()
    });
    let client: test_interface::Client = pair.bootstrap();
    call_foo(&client).unwrap();
    drop(client);
    pair.finish();
}

#[test]
fn closures_run_on_workers() {
    let _watchdog = Watchdog::start();
    let (pair, client, go) = slow();
    let (tell, told) = mpsc::channel();
    let note = |tell: &mpsc::Sender<String>| {
        let tell = tell.clone();
        move || tell.send(thread::current().name().unwrap_or_default().to_owned()).unwrap()
    };
    let call = foo_request(&client).send();
    let early = note(&tell);
    call.on_resolve(move |_| early());
    go.set();
    call.wait().unwrap();
    let late = note(&tell);
    call.on_resolve(move |_| late());
    let (promise, fulfiller) = capnp_threads_core::promise_client::<test_interface::Client>();
    let early = note(&tell);
    promise.as_client().on_resolved(move |_| early());
    fulfiller.fulfill(client.clone());
    let late = note(&tell);
    client.as_client().on_resolved(move |_| late());
    for _ in 0..4 {
        // What a thread of nobody's starts runs in the process-wide vat.
        let name = told.recv().unwrap();
        assert!(name.starts_with("rpc-worker-"), "{name}");
    }
    drop((call, client, promise));
    pair.finish();
}

/// Closures of a promise get the first thing that is known for good, over any
/// number of promises.
#[test]
fn on_resolved_looks_through_promises() {
    let _watchdog = Watchdog::start();
    let (first, fulfil_first) = capnp_threads_core::promise_client::<test_interface::Client>();
    let (second, fulfil_second) = capnp_threads_core::promise_client::<test_interface::Client>();
    let (tell, told) = mpsc::channel();
    first.as_client().on_resolved(move |resolved| tell.send(resolved).unwrap());
    fulfil_first.fulfill(second);
    let vat = rpc_tests::support::vat("wa6");
    let object = foo(&vat, answer_foo);
    assert!(told.try_recv().is_err());
    fulfil_second.fulfill(object.clone());
    assert_eq!(told.recv().unwrap().unwrap(), *object.as_client());
}

#[test]
fn resolving_has_a_deadline() {
    let _watchdog = Watchdog::start();
    let (promise, fulfiller) = capnp_threads_core::promise_client::<test_interface::Client>();
    let late = promise.as_client().resolve_deadline(Instant::now()).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Overloaded);
    fulfiller.reject(capnp_threads_core::Error::failed("on purpose"));
    let error = promise.as_client().resolve_deadline(Instant::now()).unwrap_err();
    assert_eq!(error.reason(), "on purpose");
}

// ---- Futures

/// Wakes a thread, and counts how often.
struct Parked {
    thread: Thread,
    woken: AtomicUsize,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// An executor for one future.
fn block_on<F: Future>(future: F) -> F::Output {
    let parked = Arc::new(Parked { thread: thread::current(), woken: AtomicUsize::new(0) });
    let waker = Waker::from(Arc::clone(&parked));
    let mut future = pin!(future);
    loop {
        let seen = parked.woken.load(Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while parked.woken.load(Ordering::SeqCst) == seen {
            thread::park();
        }
    }
}

#[test]
fn promises_are_futures_for_any_executor() {
    let _watchdog = Watchdog::start();
    let (pair, client, go) = slow();
    let text = block_on(async {
        let (first, second) = (foo_request(&client).send(), foo_request(&client).send());
        go.set();
        let second = second.await?;
        first.as_pending().clone().await?;
        let text = first.await?.get()?.get_x()?.to_str()?.to_owned();
        assert_eq!(second.get()?.get_x()?, text.as_str());
        Ok::<_, capnp_threads_core::Error>(text)
    });
    assert_eq!(text.unwrap(), "foo");
    drop(client);
    pair.finish();
}

#[test]
fn the_waker_of_the_last_poll_is_woken() {
    let _watchdog = Watchdog::start();
    let (pair, client, go) = slow();
    let mut call = Box::pin(foo_request(&client).send());
    let mut pending = Box::pin(call.as_pending().clone());
    let wakers: Vec<_> = (0..3)
        .map(|_| Arc::new(Parked { thread: thread::current(), woken: AtomicUsize::new(0) }))
        .collect();
    for parked in &wakers {
        for _ in 0..2 {
            let waker = Waker::from(Arc::clone(parked));
            let mut context = Context::from_waker(&waker);
            assert!(call.as_mut().poll(&mut context).is_pending());
            assert!(pending.as_mut().poll(&mut context).is_pending());
        }
    }
    go.set();
    let last = wakers.last().unwrap();
    while last.woken.load(Ordering::SeqCst) < 2 {
        thread::park();
    }
    call.wait().unwrap();
    drop((client, call, pending));
    pair.finish();
}

/// Whatever the order in which the outcome and the poll come.
#[test]
fn no_wake_up_is_lost() {
    let _watchdog = Watchdog::start();
    let pair = Pair::new(|vat| foo(vat, answer_foo).into_client());
    let client: test_interface::Client = pair.bootstrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let end = Instant::now() + rpc_tests::support::stress_time();
                while Instant::now() < end {
                    block_on(foo_request(&client).send()).unwrap();
                    block_on(foo_request(&client).send().as_pending().clone()).unwrap();
                    let (tell, told) = mpsc::channel();
                    foo_request(&client).send().on_resolve(move |response| {
                        tell.send(response.map(drop)).unwrap();
                    });
                    told.recv().unwrap().unwrap();
                }
            });
        }
    });
    drop(client);
    pair.finish();
}

// ---- Streams

struct Sink {
    go: Event,
}

impl test_streaming::Server for Sink {
    fn do_stream_i(&self, _: test_streaming::DoStreamIParams) -> capnp_threads_core::Result<()> {
        self.go.wait();
        Ok(())
    }

    fn finish_stream(
        &self,
        _: test_streaming::FinishStreamParams,
        _: test_streaming::FinishStreamResults,
    ) -> capnp_threads_core::Result<()> {
        Ok(())
    }
}

/// Whoever waits for a window is let go by the end of the connection.
#[test]
fn a_stream_that_waits_for_its_window_hears_of_the_end() {
    let _watchdog = Watchdog::start();
    let go = Event::new();
    let hold = go.clone();
    let pair = Pair::configured(
        move |vat| vat.export::<test_streaming::Client, _>(Sink { go: hold }).into_client(),
        rpc_tests::support::Wire::Memory,
        |config| {
            config.flow_control(capnp_threads_core::flow::FlowControl::Fixed(
                capnp_threads_core::flow::FixedWindow::new(1),
            ))
        },
        |config| config,
    );
    let stream: test_streaming::Client = pair.bootstrap();
    let waiting = {
        let stream = stream.clone();
        rpc_tests::support::Blocked::spawn(move || {
            stream.do_stream_i_request().send().unwrap_err().kind()
        })
    };
    pair.client.close();
    assert_eq!(waiting.join(), ErrorKind::Disconnected);
    go.set();
    drop(stream);
    pair.end();
}

/// The caller waits for the window of a promise; whatever resolves the promise
/// must not have to wait for the caller.
#[test]
fn a_stream_waits_for_its_window_without_holding_up_returns() {
    let _watchdog = Watchdog::start();
    let go = Event::new();
    go.set();
    let pair =
        Pair::new(move |vat| vat.export::<test_streaming::Client, _>(Sink { go }).into_client());
    let keeper = Pair::new(Keeper::client);
    let stream: test_streaming::Client = pair.bootstrap();
    let (promise, fulfiller) = capnp_threads_core::promise_client::<test_streaming::Client>();
    let waiting = {
        let promise = promise.clone();
        rpc_tests::support::Blocked::spawn(move || {
            // More than the window of a promise of this process.
            (0..5_000).try_for_each(|_| promise.do_stream_i_request().send())
        })
    };
    let other: test_more_stuff::Client = keeper.bootstrap();
    other.get_handle_request().call().unwrap();
    fulfiller.fulfill(stream.clone());
    waiting.join().unwrap();
    promise.finish_stream_request().call().unwrap();
    drop((promise, stream, other));
    pair.finish();
    keeper.finish();
}

/// Of what this library keeps of the thread, some has gone by then, or all.
#[test]
fn a_destructor_of_a_thread_that_ends_may_wait_for_a_peer() {
    struct CallsAtDrop(test_interface::Client, mpsc::Sender<()>);
    impl Drop for CallsAtDrop {
        fn drop(&mut self) {
            call_foo(&self.0).unwrap();
            self.1.send(()).unwrap();
        }
    }
    thread_local! {
        static LAST: RefCell<Option<CallsAtDrop>> = const { RefCell::new(None) };
    }
    let _watchdog = Watchdog::start();
    let pair = Pair::configured(
        |vat| foo(vat, answer_foo).into_client(),
        Wire::Unix,
        |config| config,
        |config| config,
    );
    let client: test_interface::Client = pair.bootstrap();
    let local = foo(&pair.client_vat, answer_foo);
    call_foo(&client).unwrap();
    let (tell, told) = mpsc::channel();
    // A worker of this vat is there, and rests.
    foo_request(&local).send().wait().unwrap();
    thread::sleep(Duration::from_millis(50));
    for before in [vec![], vec![&local], vec![&client], vec![&local, &client]] {
        let (held, tell) = (client.clone(), tell.clone());
        let before: Vec<_> = before.into_iter().cloned().collect();
        let ends = thread::spawn(move || {
            let calls: Vec<_> = before.iter().map(|object| foo_request(object).send()).collect();
            before.iter().for_each(|object| object.as_client().on_resolved(|_| ()));
            // What comes later goes first.
            LAST.set(Some(CallsAtDrop(held.clone(), tell)));
            call_foo(&held).unwrap();
            calls
        });
        told.recv().unwrap();
        for call in ends.join().unwrap() {
            call.wait().unwrap();
        }
    }
    drop((client, local));
    pair.finish();
}
