//! Workers that go on with the call that their answer lets go on.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use capnp_threads_core::untyped::{Dispatch, IncomingCall};
use capnp_threads_core::{Concurrency, ConnConfig, FromClient, Result, Vat};
use rpc_schema::echo_capnp::echo;

use rpc_tests::support::raw::{self, Cap, Outcome, RawPeer, Target};

use rpc_tests::support::{Event, LONG, Pair, Watchdog, Wire, vat};

/// Does something for each method, and answers.
#[derive(Default)]
struct Scripted {
    ping: Option<Box<dyn Fn() + Send + Sync>>,
    next: Option<Box<dyn Fn() -> echo::Client + Send + Sync>>,
    total: Option<Box<dyn Fn() + Send + Sync>>,
}

impl echo::Server for Scripted {
    fn ping(&self, _: echo::PingParams, _: echo::PingResults) -> Result<()> {
        self.ping.as_ref().unwrap()();
        Ok(())
    }

    fn next(&self, _: echo::NextParams, mut results: echo::NextResults) -> Result<()> {
        results.get().set_echo(self.next.as_ref().unwrap()());
        Ok(())
    }

    fn total(&self, _: echo::TotalParams, _: echo::TotalResults) -> Result<()> {
        self.total.as_ref().unwrap()();
        Ok(())
    }
}

/// An object that calls this when it is pinged.
fn pinged(vat: &Vat, ping: impl Fn() + Send + Sync + 'static) -> echo::Client {
    vat.export(Scripted { ping: Some(Box::new(ping)), ..Scripted::default() })
}

/// One after the other, each object of a chain is called on the worker that answered the
/// call before.
#[test]
fn a_chain_of_calls_stays_on_one_worker() {
    let _watchdog = Watchdog::start();
    let (vat, go, ran) = (vat("kj1"), Event::new(), Arc::new(Mutex::new(Vec::new())));
    let own = Arc::clone(&ran);
    // No object goes meanwhile: a worker has nothing to do but the next call.
    let mut objects = vec![pinged(&vat, move || own.lock().unwrap().push(thread::current().id()))];
    for behind in 0..9 {
        let (own, hold, behind) = (Arc::clone(&ran), go.clone(), objects[behind].clone());
        objects.push(vat.export(Scripted {
            next: Some(Box::new(move || {
                hold.wait();
                own.lock().unwrap().push(thread::current().id());
                behind.clone()
            })),
            ..Scripted::default()
        }));
    }
    let mut last = objects[9].clone();
    for _ in 0..9 {
        last = last.next_request().send().pipeline().get_echo();
    }
    let ping = last.ping_request().send();
    // Everything is queued before the first method returns.
    go.set();
    ping.wait().unwrap();
    let ran: Vec<ThreadId> = std::mem::take(&mut *ran.lock().unwrap());
    assert_eq!(ran.len(), 10);
    assert!(ran.iter().all(|thread| *thread == ran[0]), "{ran:?}");
    drop((last, objects));
    assert!(vat.shutdown(LONG).unwrap());
}

/// The object that answered has another call, which cannot end before the one that the
/// answer let go on.
#[test]
fn a_worker_that_has_more_to_do_lets_another_one_go_on() {
    let _watchdog = Watchdog::start();
    let vat = vat("kj2");
    let (go, was_pinged) = (Event::new(), Event::new());
    let (ping, waits) = (was_pinged.clone(), was_pinged);
    let behind = pinged(&vat, move || ping.set());
    let (hold, result) = (go.clone(), behind);
    let object: echo::Client = vat.export(Scripted {
        next: Some(Box::new(move || {
            hold.wait();
            result.clone()
        })),
        total: Some(Box::new(move || waits.wait())),
        ..Scripted::default()
    });
    let next = object.next_request().send();
    let ping = next.pipeline().get_echo().ping_request().send();
    let total = object.total_request().send();
    go.set();
    ping.wait().unwrap();
    total.wait().unwrap();
    assert!(vat.shutdown(LONG).unwrap());
}

/// Stands in front of another object, and waits behind its answer.
struct Proxy {
    inner: Arc<dyn Dispatch>,
    waits: Event,
}

impl Dispatch for Proxy {
    fn dispatch(&self, call: IncomingCall) {
        self.inner.dispatch(call);
        self.waits.wait();
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[test]
fn a_proxy_that_goes_on_after_the_answer_holds_nothing_up() {
    let _watchdog = Watchdog::start();
    let vat = vat("kj3");
    let (go, was_pinged) = (Event::new(), Event::new());
    let (ping, waits, hold) = (was_pinged.clone(), was_pinged, go.clone());
    let behind = pinged(&vat, move || ping.set());
    let inner: echo::Client = vat.export(Scripted {
        next: Some(Box::new(move || {
            hold.wait();
            behind.clone()
        })),
        ..Scripted::default()
    });
    let inner = inner.into_client().local_dispatch().unwrap();
    let proxy = vat.export_dispatch(Arc::new(Proxy { inner, waits }));
    let proxy = echo::Client::from_client(proxy);
    let next = proxy.next_request().send();
    let ping = next.pipeline().get_echo().ping_request().send();
    go.set();
    ping.wait().unwrap();
    next.wait().unwrap();
    drop(proxy);
    assert!(vat.shutdown(LONG).unwrap());
}

/// Calls an object when it is dropped, and blocks until the call has come.
struct CallsAtDrop {
    object: echo::Client,
    came: Event,
}

impl Drop for CallsAtDrop {
    fn drop(&mut self) {
        let ping = self.object.ping_request().send();
        self.came.wait();
        ping.wait().unwrap();
    }
}

/// The answer of its method drops one of these.
struct DropsBehindAnswer(echo::Client, Event);

impl echo::Server for DropsBehindAnswer {
    fn ping(&self, params: echo::PingParams, _: echo::PingResults) -> Result<()> {
        let held = CallsAtDrop { object: self.0.clone(), came: self.1.clone() };
        params.on_cancel(move || drop(held));
        Ok(())
    }
}

#[test]
fn a_destructor_behind_the_answer_may_depend_on_a_call() {
    let _watchdog = Watchdog::start();
    let (vat, came) = (vat("kj4"), Event::new());
    let tell = came.clone();
    let object = pinged(&vat, move || tell.set());
    let object: echo::Client = vat.export(DropsBehindAnswer(object, came));
    object.ping_request().send().wait().unwrap();
    drop(object);
    assert!(vat.shutdown(LONG).unwrap());
}

/// Waits when it is dropped, of which this library knows nothing.
struct WaitsAtDrop(Event);

impl Drop for WaitsAtDrop {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// With the answer of its only call, the object in the middle of a chain is gone. Its destructor
/// waits for the next call of the chain, which the worker has kept.
#[test]
fn a_destructor_that_waits_for_a_kept_call_holds_it_up_for_a_moment_only() {
    let _watchdog = Watchdog::start();
    for wire in Wire::ALL {
        let go: Arc<Mutex<Event>> = Arc::default();
        let hold = Arc::clone(&go);
        let pair = Pair::configured(
            |vat| {
                let own = vat.clone();
                let next = move || {
                    let hold = hold.lock().unwrap().clone();
                    hold.wait();
                    let came = Event::new();
                    let (tell, waits) = (came.clone(), WaitsAtDrop(came));
                    let last = pinged(&own, move || tell.set());
                    let next = Box::new(move || {
                        let _ = &waits;
                        last.clone()
                    });
                    own.export(Scripted { next: Some(next), ..Scripted::default() })
                };
                let first: echo::Client =
                    vat.export(Scripted { next: Some(Box::new(next)), ..Scripted::default() });
                first.into_client()
            },
            wire,
            |config| config,
            |config| config,
        );
        let first: echo::Client = pair.bootstrap();
        for _ in 0..20 {
            *go.lock().unwrap() = Event::new();
            let middle = first.next_request().send().pipeline().get_echo();
            let last = middle.next_request().send().pipeline().get_echo();
            drop(middle);
            let ping = last.ping_request().send();
            // When this has been answered, the vat knows that nobody else needs the object in the
            // middle.
            pair.bootstrap::<echo::Client>().into_client().resolve().unwrap();
            go.lock().unwrap().set();
            ping.wait().unwrap();
        }
        drop(first);
        pair.finish();
    }
}

/// Calls itself while it is called. It does not wait, so this is possible.
#[derive(Default)]
struct CallsItself(Mutex<Vec<Box<dyn Any + Send>>>);

impl echo::Server for CallsItself {
    fn ping(&self, params: echo::PingParams, _: echo::PingResults) -> Result<()> {
        let this: echo::Client = params.this();
        self.0.lock().unwrap().push(Box::new(this.total_request().send()));
        Ok(())
    }

    fn total(&self, _: echo::TotalParams, _: echo::TotalResults) -> Result<()> {
        self.0.lock().unwrap().clear();
        Ok(())
    }
}

/// A worker that reads keeps the first call. Among what comes behind it is a call to an
/// inline object, which runs on the same thread and finds a second one in its mailbox.
#[test]
fn a_call_that_is_kept_outlasts_what_is_read_behind_it() {
    /// The type id of `Echo`, and the ordinals of two methods.
    const ECHO: u64 = 0xfe75_8b36_a0d3_1641;
    const PING: u16 = 0;
    const NEXT: u16 = 2;
    let _watchdog = Watchdog::start();
    let vat = vat("kj5");
    let inline: echo::Client = vat.export_with(CallsItself::default(), Concurrency::Inline);
    let serial: echo::Client = vat.export(Scripted {
        ping: Some(Box::new(|| ())),
        next: Some(Box::new(move || inline.clone())),
        ..Scripted::default()
    });
    let (mut peer, connection) = RawPeer::connect(&vat, ConnConfig::new().bootstrap(serial));
    let serial = Target::Import(peer.bootstrapped(0));
    peer.bytes(&raw::call(1, &serial, ECHO, NEXT, &[]));
    let Outcome::Results(caps) = peer.outcome(1) else { panic!("no results") };
    let [Cap::SenderHosted(inline)] = caps[..] else { panic!("{caps:?}") };
    let inline = Target::Import(inline);
    for question in (2..200).step_by(3) {
        peer.bytes(&raw::call(question, &serial, ECHO, PING, &[]));
        peer.outcome(question);
        // The worker that has answered reads these, both at once.
        let mut both = raw::call(question + 1, &serial, ECHO, PING, &[]);
        both.extend(raw::call(question + 2, &inline, ECHO, PING, &[]));
        peer.bytes(&both);
        let mut answered = Vec::new();
        while answered.len() < 2 {
            answered.push(peer.receive_until("an answer", |said| match said {
                raw::Said::Return { answer, .. } => Some(*answer),
                _ => None,
            }));
        }
        answered.sort_unstable();
        assert_eq!(answered, [question + 1, question + 2]);
    }
    drop(peer);
    connection.join().unwrap();
    assert!(vat.shutdown(LONG).unwrap());
}
